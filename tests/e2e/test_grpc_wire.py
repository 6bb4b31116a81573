# SPDX-License-Identifier: Apache-2.0
"""gRPC over HTTP/2 as broken and hostile clients speak it: the right status or a connection error, and the daemon goes
on as if nothing had been: no crash, no hang, no growth."""

import os
import random
import struct
import threading
import time

import grpc
import pytest

from harness import env, proc
from harness.api import Api, fails, message as message_class
from harness.h2 import (
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY, PUSH, RST,
    SETTINGS, WINDOW, Connection, block, frame, message, request,
)
from harness.images import digest

VERSION = "/containerd.services.version.v1.Version/Version"
LIST = "/containerd.services.containers.v1.Containers/List"
OK, CANCELLED, UNKNOWN, INVALID, DEADLINE, NOT_FOUND = 0, 1, 2, 3, 4, 5
EXHAUSTED, FAILED, UNIMPLEMENTED, INTERNAL = 8, 9, 12, 13


@pytest.fixture(autouse=True)
def still_well(daemon):
    """After whatever a test did, the next client is served at once, and no descriptor is left open."""
    before = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    yield
    with Connection(daemon) as c:
        c.call(1, VERSION)
        assert c.ended(1, 10) == ("status", OK)
    if env.DAEMON == "skiffd":
        proc.wait_until(lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= before + 2, 10, "closed descriptors")


def call(daemon, path=VERSION, data=b"", **more):
    with Connection(daemon) as c:
        c.call(1, path, data, **more)
        return c.ended(1)


def test_an_ordinary_call(daemon):
    assert call(daemon) == ("status", OK)


@pytest.mark.parametrize("preface", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 24, os.urandom(500), PREFACE[:-1] + b"X", b"\x16\x03\x01" + b"\0" * 200])
def test_bad_preface(daemon, preface):
    with Connection(daemon, preface=False) as c:
        c.send(preface + b"\0" * 100)
        c.end_of_connection(15)
        c.closed or c.read(lambda f: False, 15)
        assert c.closed


def test_a_client_that_says_nothing(daemon):
    """Silent connections do not keep others from being served, and end with their client."""
    silent = [Connection(daemon, preface=False) for _ in range(100)]
    assert call(daemon) == ("status", OK)
    for c in silent:
        c.close()


BROKEN = {
    "data-on-stream-zero": frame(DATA, 0, 0, b"x"),
    "headers-on-stream-zero": frame(HEADERS, END_HEADERS, 0, block(request(VERSION))),
    "even-stream": frame(HEADERS, END_HEADERS, 2, block(request(VERSION))),
    "data-on-an-idle-stream": frame(DATA, 0, 5, b"x"),
    "window-update-of-zero": frame(WINDOW, 0, 0, struct.pack(">I", 0)),
    "window-overflow": frame(WINDOW, 0, 0, struct.pack(">I", 0x7FFFFFFF)) * 2,
    "short-ping": frame(PING, 0, 0, b"1234"),
    "long-settings": frame(SETTINGS, 0, 0, b"1234567"),
    "settings-ack-with-payload": frame(SETTINGS, ACK, 0, b"123456"),
    "settings-on-a-stream": frame(SETTINGS, 0, 1),
    "bad-window-setting": frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0xFFFFFFFF)),
    "bad-frame-size-setting": frame(SETTINGS, 0, 0, struct.pack(">HI", 5, 1)),
    "push": frame(PUSH, END_HEADERS, 1, struct.pack(">I", 2)),
    "continuation-of-nothing": frame(CONTINUATION, END_HEADERS, 1, b""),
    "oversized-frame": frame(DATA, 0, 1, b"", length=0xFFFFFF) + b"x" * 100000,
    "bad-padding": frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff\x00"),
    "bad-hpack": frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff"),
    "hpack-index-beyond-the-table": frame(HEADERS, END_HEADERS, 1, b"\xfe"),
    "interrupted-headers": frame(HEADERS, 0, 1, block(request(VERSION))) + frame(PING, 0, 0, b"12345678"),
    "reset-of-an-idle-stream": frame(RST, 0, 7, struct.pack(">I", 8)),
    "priority-on-itself": frame(PRIORITY, 0, 1, struct.pack(">IB", 1, 1)) + frame(DATA, 0, 3, b"x"),
    "short-goaway": frame(GOAWAY, 0, 0, b"123"),
}


LENIENT = {
    "bad-frame-size-setting", "bad-padding", "data-on-an-idle-stream", "priority-on-itself", "push",
    "reset-of-an-idle-stream", "window-overflow",
}


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_broken_frames_end_the_connection(daemon, name):
    if env.DAEMON == "containerd" and name in LENIENT:
        pytest.skip("Go's gRPC passes over it")
    with Connection(daemon) as c:
        c.send(BROKEN[name])
        code = c.end_of_connection(15)
        assert code is None or code != 0


def test_unknown_frames_are_passed_over(daemon):
    with Connection(daemon) as c:
        c.send(frame(0xEE, 0xFF, 0, b"whatever") + frame(0x77, 0, 1, b""))
        c.call(1, VERSION)
        assert c.ended(1) == ("status", OK)


def test_random_bytes(daemon):
    rng = random.Random(7)
    for _ in range(50):
        with Connection(daemon, preface=rng.random() < 0.8) as c:
            c.send(rng.randbytes(rng.randrange(1, 3000)))


def test_random_frames(daemon):
    rng = random.Random(11)
    for _ in range(100):
        with Connection(daemon) as c:
            for _ in range(rng.randrange(1, 20)):
                c.send(frame(rng.randrange(12), rng.randrange(256), rng.randrange(6), rng.randbytes(rng.randrange(60))))


@pytest.mark.parametrize("path", ["/containerd.services.version.v1.Version/Nothing", "/no.such.Service/Method", "/", "", "/x", "//", "/a/b/c", "no-slash"])
def test_unknown_methods(daemon, path):
    got = call(daemon, path)
    assert got in (("status", UNIMPLEMENTED), ("http", 400), ("http", 404)) or got[0] == "reset", got


def test_wrong_content_type_and_method(daemon):
    for headers in (request(VERSION, content_type="text/plain"), request(VERSION, method="GET"), request(VERSION)[1:]):
        with Connection(daemon) as c:
            c.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(headers)))
            got = c.ended(1)
            assert got != ("status", OK), got


def test_bad_protobuf(daemon):
    # A length-delimited field that says more than there is.
    for data in (b"\x0a\xff\x01abc", b"\xff" * 20, b"\x0b", b"\x0a\xff\xff\xff\xff\x7f"):
        kind, status = call(daemon, LIST, data, more=[("containerd-namespace", "x")])
        assert kind == "status" and status in (INVALID, INTERNAL), status


def test_invalid_utf8(daemon):
    kind, status = call(daemon, "/containerd.services.containers.v1.Containers/Get", b"\x0a\x04\xff\xfe\xfd\xfc", more=[("containerd-namespace", "x")])
    assert kind == "status" and status in (INVALID, INTERNAL)


@pytest.mark.parametrize("namespace", ["../x", "a/b", "x" * 1000, "\xff", "-"])
def test_bad_namespaces(daemon, namespace):
    value = namespace.encode("latin-1")
    kind, status = call(daemon, LIST, more=[("containerd-namespace", value)])
    assert (kind, status) in (("status", INVALID), ("status", FAILED), ("status", OK)) or kind in ("reset", "http", "goaway")


def test_compressed_messages_are_refused(daemon):
    assert call(daemon, data=b"\x0a\x01x", compressed=1)[1] in (INTERNAL, UNIMPLEMENTED)
    got = call(daemon, data=b"\x0a\x01x", compressed=1, more=[("grpc-encoding", "gzip")])
    assert got[0] == "status" and (got[1] in (INTERNAL, UNIMPLEMENTED) or env.DAEMON == "containerd")
    assert call(daemon, data=b"", compressed=0, more=[("grpc-encoding", "snappy")]) in (("status", UNIMPLEMENTED), ("status", OK))


def test_messages_beyond_the_limit(daemon):
    with Connection(daemon) as c:
        c.send(frame(HEADERS, END_HEADERS, 1, block(request(VERSION))))
        c.send(frame(DATA, 0, 1, b"\0" + struct.pack(">I", 17 << 20)))
        assert c.ended(1)[1] == EXHAUSTED
    with Connection(daemon) as c:
        c.send(frame(HEADERS, END_HEADERS, 1, block(request(VERSION))))
        c.send(frame(DATA, 0, 1, b"\0\xff\xff\xff\xff"))
        assert c.ended(1)[1] == EXHAUSTED


def test_cut_messages(daemon):
    for data in (b"\0\0", b"\0\0\0\0\x09abc", b""):
        with Connection(daemon) as c:
            c.send(frame(HEADERS, END_HEADERS, 1, block(request(VERSION))))
            c.send(frame(DATA, END_STREAM, 1, data))
            kind, status = c.ended(1)
            assert kind in ("status", "reset") and (kind, status) != ("status", OK), data


def test_two_messages_where_one_is_due(daemon):
    with Connection(daemon) as c:
        c.send(frame(HEADERS, END_HEADERS, 1, block(request(VERSION))))
        c.send(frame(DATA, 0, 1, message(b"")) + frame(DATA, END_STREAM, 1, message(b"")))
        kind, status = c.ended(1)
        assert kind in ("status", "reset") and (env.DAEMON == "containerd" or (kind, status) != ("status", 99))


def test_a_message_in_single_bytes(daemon):
    data = message(b"\x0a\x02ab")
    with Connection(daemon) as c:
        c.send(frame(HEADERS, END_HEADERS, 1, block(request(LIST, [("containerd-namespace", "x")]))))
        for i in range(len(data)):
            c.send(frame(DATA, END_STREAM if i == len(data) - 1 else 0, 1, data[i : i + 1]))
        assert c.ended(1)[0] == "status"


def test_large_headers(daemon):
    got = call(daemon, more=[("x-large", "v" * 4000)])
    assert got == ("status", OK)
    with Connection(daemon) as c:
        c.send(frame(HEADERS, 0, 1, block(request(VERSION))))
        try:
            for _ in range(3000):
                c.send(frame(CONTINUATION, 0, 1, block([("x-more", "v" * 4000)])))
                if c.closed:
                    break
        except TimeoutError:
            pass
    assert env.sanitized() or proc.memory_kb(daemon.pid, "Rss") < 200 * 1024


def test_deadlines(daemon):
    """A call that waits ends with its deadline; one whose deadline is nonsense is refused or goes without."""
    stream = "/containerd.services.events.v1.Events/Subscribe"
    begin = time.monotonic()
    with Connection(daemon) as c:
        c.call(1, stream, more=[("grpc-timeout", "200m")])
        kind, code = c.ended(1, 10)
        assert (kind, code) == ("status", DEADLINE) or kind == "reset" or (kind, code) == ("status", CANCELLED)
    assert 0.15 < time.monotonic() - begin < 5
    for nonsense in ("abc", "-1S", "999999999999H", "1", "S", "1.5S"):
        assert call(daemon, more=[("grpc-timeout", nonsense)])[0] in ("status", "reset", "http")
    assert call(daemon, more=[("grpc-timeout", "99999999H")]) == ("status", OK)


def test_cancelled_calls_end(daemon):
    for _ in range(50):
        with Connection(daemon) as c:
            c.call(1, "/containerd.services.events.v1.Events/Subscribe")
            c.send(frame(RST, 0, 1, struct.pack(">I", 8)))
            c.call(3, VERSION)
            assert c.ended(3) == ("status", OK)


def test_pings_are_answered(daemon):
    with Connection(daemon) as c:
        c.send(frame(PING, 0, 0, b"abcdefgh"))
        got = c.read(lambda f: f[0] == PING and f[1] & ACK)
        assert got[3] == b"abcdefgh"


def test_many_streams_on_one_connection(daemon):
    """Two thousand calls, as many at once as the server allows."""
    with Connection(daemon) as c:
        c.read(lambda f: f[0] == SETTINGS and not f[1] & ACK)
        c.send(frame(WINDOW, 0, 0, struct.pack(">I", 1 << 30)))
        done, sent = 0, 0
        open_streams = set()
        while done < 2000:
            while sent < 2000 and len(open_streams) < 90:
                stream = 2 * sent + 1
                c.call(stream, VERSION)
                open_streams.add(stream)
                sent += 1
            f = c.read(lambda f: f[0] in (HEADERS, RST, GOAWAY) and (f[1] & END_STREAM or f[0] != HEADERS), 30)
            assert f and f[0] == HEADERS, f
            open_streams.discard(f[2])
            done += 1


def test_many_open_streams(daemon):
    """A thousand subscriptions of one client cost memory, not threads, and others are served meanwhile."""
    with Api(daemon) as api:
        threads = len(os.listdir(f"/proc/{daemon.pid}/task"))
        streams = [api.events.Subscribe(filters=["topic==none"], timeout=None) for _ in range(1000)]
        with Api(daemon) as other:
            for _ in range(20):
                other.version.Version(timeout=10)
        if env.DAEMON == "skiffd":
            assert len(os.listdir(f"/proc/{daemon.pid}/task")) <= threads + 8
        for s in streams:
            s.cancel()


def test_hundreds_of_connections(daemon):
    connections = [Connection(daemon) for _ in range(400)]
    for c in connections:
        c.call(1, VERSION)
    for c in connections:
        assert c.ended(1, 30) == ("status", OK)
    for c in connections:
        c.close()


@pytest.mark.skiff_only
def test_rapid_resets_end_the_connection(daemon):
    """Opening and resetting streams without end is no use of a connection."""
    with Connection(daemon) as c:
        for i in range(20000):
            stream = 2 * i + 1
            c.send(frame(HEADERS, END_HEADERS, stream, block(request(VERSION))) + frame(RST, 0, stream, struct.pack(">I", 8)))
            if c.closed:
                break
        code = c.end_of_connection(10)
        assert c.closed or code is not None
    assert env.sanitized() or proc.memory_kb(daemon.pid, "Rss") < 100 * 1024


def test_settings_and_ping_floods(daemon):
    for flood in (frame(PING, 0, 0, b"12345678"), frame(SETTINGS, 0, 0, struct.pack(">HI", 3, 100))):
        with Connection(daemon, timeout=5) as c:
            try:
                for _ in range(2000):
                    c.send(flood * 50)
                    if c.closed:
                        break
            except TimeoutError:
                pass
    assert env.sanitized() or proc.memory_kb(daemon.pid, "Rss") < 150 * 1024


def _lease_blob(api, size):
    api.leases.Create(id="wire")
    hold = (("containerd-lease", "wire"),)
    data = os.urandom(1 << 20) * (size >> 20)
    d = digest(data)
    make = api.content.Write.request
    pieces = [make(action=1, ref="wire", offset=i, total=len(data), expected=d, data=data[i : i + (1 << 20)]) for i in range(0, len(data), 1 << 20)]
    list(api.content.Write(iter([*pieces, make(action=2, ref="wire", offset=len(data), total=len(data), expected=d)]), metadata=hold))
    return data, d


def test_a_slow_reader_bounds_memory(daemon):
    """Twenty clients ask for 64 MB each and read nothing: the daemon waits, and does not buffer."""
    with Api(daemon) as api:
        data, d = _lease_blob(api, 64 << 20)
        before = proc.memory_kb(daemon.pid, "Rss")
        body = api.content.Read.request(digest=d).SerializeToString()
        path = "/containerd.services.content.v1.Content/Read"
        readers = [Connection(daemon) for _ in range(20)]
        for c in readers:
            c.call(1, path, body, more=[("containerd-namespace", daemon.namespace)])
            c.read(lambda f: f[0] == DATA)
        assert call(daemon) == ("status", OK)
        after = proc.memory_kb(daemon.pid, "Rss")
        for c in readers:
            c.close()
        if env.DAEMON == "skiffd" and not env.sanitized():
            assert after - before < 64 * 1024, f"{before} kB, then {after} kB"
        assert b"".join(p.data for p in api.content.Read(digest=d)) == data
        api.leases.Delete(id="wire", sync=True)


@pytest.mark.skiff_only
def test_a_fast_writer_bounds_memory(daemon):
    """What a client sends ahead of what is handled waits in the client: windows are not reopened past the cap."""
    with Api(daemon) as api:
        before = proc.memory_kb(daemon.pid, "Rss")
        _lease_blob(api, 256 << 20)
        assert env.sanitized() or proc.memory_kb(daemon.pid, "Rss") - before < 64 * 1024
        api.leases.Delete(id="wire", sync=True)


def test_sixteen_megabytes_in_one_message(daemon):
    """Messages up to the limit go both ways."""
    with Api(daemon) as api:
        api.leases.Create(id="big")
        hold = (("containerd-lease", "big"),)
        data = os.urandom(15 << 20)
        make = api.content.Write.request
        d = digest(data)
        actions = [make(action=1, ref="b", total=len(data), expected=d, data=data), make(action=2, ref="b", offset=len(data), total=len(data), expected=d)]
        list(api.content.Write(iter(actions), metadata=hold))
        assert b"".join(p.data for p in api.content.Read(digest=d)) == data
        too_large = message_class("containerd.services.content.v1.WriteContentRequest")(action=1, ref="c", data=bytes(17 << 20))
        with pytest.raises(grpc.RpcError) as error:
            list(api.content.Write(iter([too_large]), metadata=hold))
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        api.leases.Delete(id="big", sync=True)


def test_messages_of_errors_are_escaped(daemon):
    with Api(daemon) as api:
        text = fails(grpc.StatusCode.NOT_FOUND, api.images.Get, name="ümläut %41 \u2603")
        assert "ümläut %41 ☃" in text


def test_binary_metadata_does_not_disturb(daemon):
    got = call(daemon, LIST, more=[("containerd-namespace", "x"), ("some-bin", "AAEC")])
    assert got == ("status", OK)


def test_shutdown_drains(own_daemon):
    """At shutdown a running call may end, new ones are refused, and long ones end; the daemon goes in time."""
    daemon = own_daemon()
    c = Connection(daemon)
    c.call(1, "/containerd.services.events.v1.Events/Subscribe")
    c.call(3, VERSION)
    assert c.ended(3) == ("status", OK)
    codes = []
    stopper = threading.Thread(target=lambda: codes.append(daemon.kill(15, 20)))
    stopper.start()
    f = c.read(lambda f: f[0] == GOAWAY, 15)
    if env.DAEMON == "skiffd":
        assert f is not None and int.from_bytes(f[3][4:8], "big") == 0
    stopper.join(30)
    assert codes and codes[0] in (0, -15)
    c.close()


def test_socket_mode_and_owner(own_daemon):
    daemon = own_daemon(more_config="[grpc]\nuid = 12\ngid = 34\n" if env.DAEMON == "skiffd" else "")
    st = os.stat(daemon.socket)
    assert st.st_mode & 0o777 == 0o660
    if env.DAEMON == "skiffd":
        assert (st.st_uid, st.st_gid) == (12, 34)
