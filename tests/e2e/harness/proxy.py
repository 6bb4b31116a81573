# SPDX-License-Identifier: Apache-2.0
"""A gRPC proxy that stands between a client and the daemon and notes the method of each call."""

import contextlib
from concurrent import futures

import grpc


class _Pass(grpc.GenericRpcHandler):
    def __init__(self, channel, calls):
        self.channel, self.calls = channel, calls

    def service(self, handler_call_details):
        method = handler_call_details.method
        metadata = [pair for pair in handler_call_details.invocation_metadata if pair[0].startswith("containerd-")]

        def call(requests, context):
            self.calls.append(method.rsplit(".", 1)[1])
            answers = self.channel.stream_stream(method)(requests, metadata=metadata)
            context.add_callback(answers.cancel)
            try:
                yield from answers
            except grpc.RpcError as error:
                context.abort(error.code(), error.details())

        return grpc.stream_stream_rpc_method_handler(call)


@contextlib.contextmanager
def proxy(daemon_socket, own_socket):
    """A list that grows by "Service/Method" of each call that comes to own_socket."""
    calls = []
    with grpc.insecure_channel(f"unix:{daemon_socket}") as channel:
        server = grpc.server(futures.ThreadPoolExecutor(32), handlers=[_Pass(channel, calls)])
        server.add_insecure_port(f"unix:{own_socket}")
        server.start()
        try:
            yield calls
        finally:
            server.stop(None).wait()
