# SPDX-License-Identifier: Apache-2.0
"""The daemon's API by real gRPC. Messages come from proto/ through protoc's descriptor set, so that no generated code
and no gRPC plug-in of protoc is needed; services become objects whose methods are the RPCs."""

import functools
import os
import pathlib
import subprocess
import tempfile
import threading

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

from . import env

OPTIONS = [
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.use_local_subchannel_pool", 1),
]


_lock = threading.Lock()


def pool():
    with _lock:
        return _load()


@functools.lru_cache(maxsize=1)
def _load():
    where = pathlib.Path(os.environ.get("E2E_PROTO", env.REPO / "proto"))
    files = sorted(str(p.relative_to(where)) for p in where.rglob("*.proto"))
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["protoc", f"-I{where}", "--include_imports", f"-o{out.name}", *files], check=True)
        data = pathlib.Path(out.name).read_bytes()
    found = descriptor_pool.DescriptorPool()
    for f in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        found.Add(f)
    return found


def _class_of(descriptor):
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return _factory().GetPrototype(descriptor)


@functools.lru_cache(maxsize=1)
def _factory():
    return message_factory.MessageFactory(pool())


def message(name):
    """The class of a message by its full name; containerd.services. may be left out."""
    for full in (name, "containerd.services." + name, "containerd." + name):
        try:
            return _class_of(pool().FindMessageTypeByName(full))
        except KeyError:
            continue
    raise KeyError(name)


def to_any(value):
    """Pack as containerd's clients do: the type URL is the message's name alone."""
    packed = message("google.protobuf.Any")()
    packed.type_url = value.DESCRIPTOR.full_name
    packed.value = value.SerializeToString()
    return packed


class Service:
    def __init__(self, channel, name, metadata):
        self.__dict__.update(_channel=channel, _name=name, _metadata=metadata)
        self._descriptor = pool().FindServiceByName(name)

    def __getattr__(self, method):
        m = self._descriptor.FindMethodByName(method) if hasattr(self._descriptor, "FindMethodByName") else None
        m = m or self._descriptor.methods_by_name[method]
        proto = descriptor_pb2.MethodDescriptorProto()
        m.CopyToProto(proto)
        kinds = {
            (False, False): self._channel.unary_unary,
            (False, True): self._channel.unary_stream,
            (True, False): self._channel.stream_unary,
            (True, True): self._channel.stream_stream,
        }
        make = kinds[(proto.client_streaming, proto.server_streaming)]
        call = make(
            f"/{self._name}/{method}",
            request_serializer=lambda value: value.SerializeToString(),
            response_deserializer=_class_of(m.output_type).FromString,
        )
        request_class = _class_of(m.input_type)

        def invoke(request=None, metadata=(), timeout=60, **fields):
            if proto.client_streaming:
                value = request
            else:
                value = request if request is not None else request_class(**fields)
            return call(value, metadata=[*self._metadata, *metadata], timeout=timeout)

        invoke.request = request_class
        invoke.path = f"/{self._name}/{method}"
        return invoke


class Api:
    """All services over one connection, in one namespace."""

    _NAMES = {
        "version": "containerd.services.version.v1.Version",
        "introspection": "containerd.services.introspection.v1.Introspection",
        "namespaces": "containerd.services.namespaces.v1.Namespaces",
        "containers": "containerd.services.containers.v1.Containers",
        "content": "containerd.services.content.v1.Content",
        "images": "containerd.services.images.v1.Images",
        "leases": "containerd.services.leases.v1.Leases",
        "snapshots": "containerd.services.snapshots.v1.Snapshots",
        "diff": "containerd.services.diff.v1.Diff",
        "events": "containerd.services.events.v1.Events",
        "tasks": "containerd.services.tasks.v1.Tasks",
        "transfer": "containerd.services.transfer.v1.Transfer",
        "streaming": "containerd.services.streaming.v1.Streaming",
        "mounts": "containerd.services.mounts.v1.Mounts",
        "health": "grpc.health.v1.Health",
    }

    def __init__(self, daemon, namespace=None, channel_options=()):
        self.daemon = daemon
        self.namespace = namespace or daemon.namespace
        self.channel = grpc.insecure_channel(f"unix:{daemon.socket}", options=[*OPTIONS, *channel_options])
        metadata = [("containerd-namespace", self.namespace)] if self.namespace else []
        self._metadata = metadata

    def __getattr__(self, name):
        if name not in self._NAMES:
            raise AttributeError(name)
        service = Service(self.channel, self._NAMES[name], self._metadata)
        setattr(self, name, service)
        return service

    def hold(self, lease):
        """From now on, this lease holds what calls make."""
        self._metadata.append(("containerd-lease", lease))

    def without_namespace(self):
        other = Api(self.daemon, "")
        other._metadata = []
        return other

    def close(self):
        self.channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def fails(code, call, *args, **fields):
    """The call ends with this status; its details are returned."""
    try:
        answer = call(*args, **fields)
        if hasattr(answer, "__next__"):
            list(answer)
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()}: {error.details()} and not {code}"
        return error.details()
    raise AssertionError(f"succeeded, and should have ended with {code}")


Any = any_pb2.Any
