# SPDX-License-Identifier: Apache-2.0
"""Our gRPC client and grpc-core's server."""

import concurrent.futures
import os
import subprocess
import time

import grpc
import pytest
from google.protobuf.any_pb2 import Any


def echo(request, context):
    return Any(type_url=request.type_url, value=b"x" * len(request.type_url))


def namespace(request, context):
    return Any(type_url=dict(context.invocation_metadata())["containerd-namespace"])


def fail(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, request.type_url)


def slow(request, context):
    assert context.time_remaining() < 5
    time.sleep(1)
    return Any()


def large(request, context):
    return Any(value=b"x" * int(request.type_url))


def count(request, context):
    for number in range(int(request.type_url)):
        yield Any(type_url=str(number), value=b"x" * 1000)


def broken(request, context):
    yield Any(type_url="one")
    context.abort(grpc.StatusCode.DATA_LOSS, "half way: 50%\n")


def add_up(requests, context):
    return Any(type_url=str(sum(int(request.type_url) for request in requests)))


def chat(requests, context):
    yield from requests


class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
        codec = {"request_deserializer": Any.FromString, "response_serializer": Any.SerializeToString}
        unary = {"Echo": echo, "Namespace": namespace, "Fail": fail, "Slow": slow, "Large": large}
        streams = {
            "Count": (grpc.unary_stream_rpc_method_handler, count),
            "Broken": (grpc.unary_stream_rpc_method_handler, broken),
            "AddUp": (grpc.stream_unary_rpc_method_handler, add_up),
            "Chat": (grpc.stream_stream_rpc_method_handler, chat),
        }
        service, method = details.method.rsplit("/", 1)
        if service != "/skiff.test.Service":
            return None
        if method in unary:
            return grpc.unary_unary_rpc_method_handler(unary[method], **codec)
        if method in streams:
            make, function = streams[method]
            return make(function, **codec)
        return None


@pytest.fixture
def run(tmp_path):
    path = str(tmp_path / "s")
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(4),
        handlers=(Handlers(),),
        options=[("grpc.max_send_message_length", -1)],
    )
    server.add_insecure_port("unix://" + path)
    server.start()

    def call(*args):
        done = subprocess.run(
            [os.environ["GRPC_CLIENT"], path, *args], stdout=subprocess.PIPE, timeout=60, check=True
        )
        return done.stdout.decode().splitlines()

    yield call
    server.stop(None)


def test_unary(run):
    assert run("unary", "Echo", "abc") == ["abc/3", "ok"]
    assert run("unary", "Echo", "") == ["/0", "ok"]
    assert run("unary", "Namespace", "") == ["testing/0", "ok"]


def test_errors(run):
    assert run("unary", "Fail", "ä: not found") == ["error 5 ä: not found"]
    assert run("unary", "None", "")[0].startswith("error 12 ")


def test_deadline(run):
    # Ours, or grpc-core's where the server's clock ran out first.
    assert run("unary", "Slow", "", "100") in (["error 4 context deadline exceeded"], ["error 4 Deadline Exceeded"])


def test_limit_of_messages(run):
    limit = 16 * 1024 * 1024
    assert run("unary", "Large", str(limit - 64)) == [f"/{limit - 64}", "ok"]
    assert run("unary", "Large", str(limit)) == [f"error 8 grpc: received message larger than max ({limit + 5} vs. {limit})"]


def test_server_stream(run):
    assert run("server", "Count", "2000") == [f"{number}/1000" for number in range(2000)] + ["ok"]
    assert run("server", "Count", "0") == ["ok"]
    assert run("server", "Broken", "") == ["one/0", "error 15 half way: 50%", ""]


def test_client_stream(run):
    assert run("client", "AddUp", "8") == ["40/0", "ok"]


def test_bidi_stream(run):
    assert run("bidi", "Chat", "hello") == ["hello/0"] * 5 + ["ok"]
