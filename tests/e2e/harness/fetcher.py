# SPDX-License-Identifier: Apache-2.0
"""skiff-fetch driven by hand: records over its control socket, bodies out of pipes."""

import array
import importlib
import os
import pathlib
import socket
import struct
import subprocess
import sys
import tempfile
import threading

from . import env


def messages():
    """The module of proto/skiff/fetch.proto, made by protoc on first use."""
    if "skiff_fetch_messages" not in sys.modules:
        out = pathlib.Path(tempfile.mkdtemp(prefix="skiff-proto-"))
        text = (env.REPO / "proto" / "skiff" / "fetch.proto").read_text()
        text = "".join(line for line in text.splitlines(True) if "protobuf-c" not in line and "pb_c_file" not in line)
        (out / "skiff_fetch.proto").write_text(text)
        subprocess.run(["protoc", f"-I{out}", f"--python_out={out}", "skiff_fetch.proto"], check=True)
        sys.path.insert(0, str(out))
        sys.modules["skiff_fetch_messages"] = importlib.import_module("skiff_fetch_pb2")
        sys.path.pop(0)
    return sys.modules["skiff_fetch_messages"]


class Failed(Exception):
    def __init__(self, error):
        super().__init__(error.message)
        self.code = error.code


class Fetcher:
    """One process of skiff-fetch. credentials: called with a host, gives keyword arguments of a Credentials record."""

    def __init__(self, reference, hosts, credentials=None, headers=(), program=None):
        pb = self.pb = messages()
        ours, theirs = socket.socketpair()
        self.socket, self.credentials, self.next_id, self.replies = ours, credentials, 0, {}
        self.child = subprocess.Popen(
            [str(program or env.skiff_program("skiff-fetch"))],
            preexec_fn=lambda: os.dup2(theirs.fileno(), 3),
            pass_fds=[3],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()
        setup = pb.Setup(reference=reference, user_agent="skiff-test/1", ask_credentials=credentials is not None)
        for host in hosts:
            given = {"scheme": "http", "path": "/v2", "pull": True, "resolve": True, **host}
            setup.hosts.add(**given)
        for name, value in headers:
            setup.headers.add(name=name, value=value)
        self.call(setup=setup)

    def send(self, fd=None, **command):
        self.next_id += 1
        data = self.pb.Command(id=self.next_id, **command).SerializeToString()
        data = struct.pack("<I", len(data)) + data
        if fd is None:
            self.socket.sendall(data)
        else:
            sent = self.socket.sendmsg(
                [data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]).tobytes())]
            )
            self.socket.sendall(data[sent:])
        return self.next_id

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.socket.recv(n - len(data))
            if not piece:
                raise EOFError(f"skiff-fetch ended with {self.child.wait()}")
            data += piece
        return data

    def wait(self, number):
        while number not in self.replies:
            reply = self.pb.Reply.FromString(self.exactly(*struct.unpack("<I", self.exactly(4))))
            if reply.HasField("credentials"):
                answer = self.credentials(reply.credentials.host)
                self.send(credentials=self.pb.Credentials(host=reply.credentials.host, **answer))
            else:
                self.replies[reply.id] = reply
        reply = self.replies.pop(number)
        if reply.HasField("error"):
            raise Failed(reply.error)
        return reply

    def call(self, **command):
        return self.wait(self.send(**command))

    def resolve(self):
        return self.call(resolve=self.pb.Resolve()).resolved

    def start_get(self, digest, size, media_type="application/octet-stream", offset=0):
        read_end, write_end = os.pipe()
        get = self.pb.Get(media_type=media_type, digest=digest, size=size, offset=offset)
        number = self.send(fd=write_end, get=get)
        os.close(write_end)
        return number, read_end

    def get(self, *args, **kwargs):
        number, read_end = self.start_get(*args, **kwargs)
        pieces = []

        def drain():
            with open(read_end, "rb") as body:
                pieces.append(body.read())

        reader = threading.Thread(target=drain)
        reader.start()
        try:
            done = self.wait(number).done
        finally:
            reader.join()
        assert done.n_bytes == len(pieces[0])
        return pieces[0]

    def stop(self):
        self.socket.close()
        return self.child.wait(timeout=20)
