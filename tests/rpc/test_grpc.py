# SPDX-License-Identifier: Apache-2.0
"""Our gRPC server and grpc-core's client, which is another implementation of HTTP/2, over a unix socket."""

import concurrent.futures
import os
import signal
import socket
import subprocess
import threading
import time

import grpc
import pytest
from google.protobuf.any_pb2 import Any

SERVICE = "/skiff.test.Service/"
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Server:
    def __init__(self, path):
        self.path = path
        self.process = subprocess.Popen([os.environ["GRPC_SERVER"], path], stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b"ready\n"

    def rss_kib(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))

    def memory_limit_kib(self, limit):
        """A sanitizer needs memory of its own: there only growth without bound shows."""
        return limit * (1 if os.environ.get("SANITIZER", "none") == "none" else 10)

    def channel(self, **options):
        return grpc.insecure_channel("unix://" + self.path, options=LARGE + list(options.items()))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@pytest.fixture
def server(tmp_path):
    server = Server(str(tmp_path / "s"))
    yield server
    if server.process.poll() is None:
        assert server.stop() == 0


@pytest.fixture
def channel(server):
    with server.channel() as channel:
        yield channel


def unary(channel, method):
    return channel.unary_unary(SERVICE + method, Any.SerializeToString, Any.FromString)


def failure(call, *args, **kwargs):
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    return caught.value.code(), caught.value.details()


def test_unary(channel):
    for text, value in (("", b""), ("ä", b"\0\xff"), ("x", b"y" * 100000)):
        assert unary(channel, "Echo")(Any(type_url=text, value=value)) == Any(type_url=text, value=value)


def test_headers_and_trailers(channel):
    _, call = unary(channel, "Echo").with_call(Any())
    assert call.code() is grpc.StatusCode.OK
    key = Any(type_url="containerd-namespace")
    got = unary(channel, "Metadata")(key, metadata=[("containerd-namespace", "k8s.io"), ("x-bin", b"\0\1")])
    assert got.value == b"k8s.io"


def test_errors(channel):
    for code in grpc.StatusCode:
        number = code.value[0]
        if number == 0:
            continue
        text = f"snapshot \"ä%\": {code.value[1]}\n"
        assert failure(unary(channel, "Fail"), Any(type_url=text, value=b"%d" % number)) == (code, text)


def test_details_of_an_error(channel):
    detail = Any(type_url="x/y", value=b"12345")
    with pytest.raises(grpc.RpcError) as caught:
        unary(channel, "Detail")(detail)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "see details")
    status = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    packed = detail.SerializeToString()
    assert status == b"\x08\x0a\x12\x0bsee details\x1a" + bytes([len(packed)]) + packed


def test_a_long_error_arrives(channel):
    code, details = failure(unary(channel, "Fail"), Any(type_url="ä" * 5000, value=b"2"))
    assert code is grpc.StatusCode.UNKNOWN and details.startswith("ää") and len(details) > 500


def test_unknown_names(channel):
    call = channel.unary_unary("/no.Such/Method")
    assert failure(call, b"") == (grpc.StatusCode.UNIMPLEMENTED, "unknown service no.Such")
    call = channel.unary_unary(SERVICE + "Nothing")
    assert failure(call, b"") == (
        grpc.StatusCode.UNIMPLEMENTED,
        "unknown method Nothing for service skiff.test.Service",
    )


def test_wrong_messages(channel):
    call = channel.unary_unary(SERVICE + "Echo")
    assert failure(call, b"\x0a\x05abc") == (
        grpc.StatusCode.INTERNAL,
        "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data",
    )
    assert failure(call, b"\x0a\x01\xff") == (
        grpc.StatusCode.INTERNAL,
        "grpc: error unmarshalling request: string field contains invalid UTF-8",
    )


def test_compressed_messages_are_refused(channel):
    code, details = failure(unary(channel, "Echo"), Any(value=b"x" * 1000), compression=grpc.Compression.Gzip)
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert 'Decompressor is not installed for grpc-encoding "gzip"' in details or "compression" in details


def test_deadline_and_cancel(channel):
    assert failure(unary(channel, "Hold"), Any(), timeout=0.1)[0] is grpc.StatusCode.DEADLINE_EXCEEDED
    call = unary(channel, "Hold").future(Any())
    time.sleep(0.05)
    call.cancel()
    assert unary(channel, "Echo")(Any(value=b"1")).value == b"1"


def test_limits_of_messages(channel):
    limit = 16 * 1024 * 1024
    value = b"x" * (limit - 64)
    assert len(unary(channel, "Echo")(Any(value=value)).value) == limit - 64
    code, details = failure(unary(channel, "Echo"), Any(value=b"x" * limit))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details == f"grpc: received message larger than max ({limit + 5} vs. {limit})"


def test_server_stream(channel):
    call = channel.unary_stream(SERVICE + "Count", Any.SerializeToString, Any.FromString)
    assert sum(len(message.value) for message in call(Any(type_url="3000", value=b"x" * 1000))) == 3000000
    assert list(call(Any(type_url="0"))) == []


def test_client_stream(channel):
    call = channel.stream_unary(SERVICE + "Sum", Any.SerializeToString, Any.FromString)
    assert call(Any(value=b"x" * 30000) for _ in range(500)).type_url == "500 15000000"
    assert call(iter([])).type_url == "0 0"
    assert call(Any(value=b"x" * 3000000) for _ in range(10)).type_url == "10 30000000"


def test_bidi_stream(channel):
    call = channel.stream_stream(SERVICE + "Chat", Any.SerializeToString, Any.FromString)
    texts = [str(i) for i in range(2000)]
    assert [m.type_url for m in call(Any(type_url=t, value=b"x" * 2000) for t in texts)] == texts
    responses = call(iter([Any(type_url="one"), Any(type_url="bad")]))
    assert next(responses).type_url == "one"
    assert failure(lambda: next(responses)) == (grpc.StatusCode.ABORTED, "bad message")


def test_slow_reader_costs_no_memory(server, channel):
    call = channel.unary_stream(SERVICE + "Count", Any.SerializeToString, Any.FromString)
    before = server.rss_kib()
    # grpc-core reads one message ahead; what the server could send is 400 MB.
    streams = [call(Any(type_url="10000", value=b"x" * 10000)) for _ in range(4)]
    for stream in streams:
        next(stream)
    for _ in range(200):
        unary(channel, "Echo")(Any())
    assert server.rss_kib() - before < server.memory_limit_kib(20000)
    assert sum(1 for _ in streams[0]) == 9999
    for stream in streams:
        stream.cancel()


def test_stuck_handler_costs_no_memory(server, channel):
    call = channel.stream_unary(SERVICE + "Stuck", Any.SerializeToString, Any.FromString)
    before = server.rss_kib()
    sent = [0]

    def messages():
        for _ in range(10000):
            sent[0] += 1
            yield Any(value=b"x" * 50000)

    future = call.future(messages())
    last = -1
    while sent[0] != last:
        last = sent[0]
        time.sleep(0.3)
    assert sent[0] < 200
    assert server.rss_kib() - before < server.memory_limit_kib(20000)
    future.cancel()


def test_many_streams_on_one_connection(channel):
    held = [unary(channel, "Hold").future(Any()) for _ in range(2000)]
    assert unary(channel, "Echo")(Any(value=b"1")).value == b"1"
    for call in held:
        call.cancel()
    assert unary(channel, "Echo")(Any(value=b"2")).value == b"2"


def test_many_connections(server):
    def one(number):
        option = {"grpc.use_local_subchannel_pool": 1}
        with server.channel(**option) as channel:
            return unary(channel, "Echo")(Any(value=b"%d" % number), timeout=30).value

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(200))) == [b"%d" % n for n in range(200)]


def test_idle_connections_are_small(server):
    # With raw sockets, since grpc-core's own threads are slow to make hundreds.
    unary_before = server.rss_kib()
    sockets = []
    for _ in range(300):
        client = socket.socket(socket.AF_UNIX)
        client.connect(server.path)
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
        assert client.recv(9)
        sockets.append(client)
    limit = server.memory_limit_kib(20)
    per_connection = (server.rss_kib() - unary_before) / len(sockets)
    for client in sockets:
        client.close()
    assert per_connection < limit


def test_shutdown_drains(server):
    with server.channel() as channel:
        results = []
        stream = channel.stream_stream(SERVICE + "Chat", Any.SerializeToString, Any.FromString)
        release = threading.Event()

        def messages():
            yield Any(type_url="one")
            release.wait(20)

        responses = stream(messages())
        assert next(responses).type_url == "one"
        for size in (1000, 5000000):
            results.append(unary(channel, "Large").future(Any(type_url=str(size))))
        assert [len(r.result(10).value) for r in results] == [1000, 5000000]
        server.process.send_signal(signal.SIGTERM)
        assert failure(lambda: next(responses))[0] is grpc.StatusCode.UNAVAILABLE
        release.set()
        assert server.process.wait(20) == 0
        assert failure(unary(channel, "Echo"), Any())[0] is grpc.StatusCode.UNAVAILABLE
