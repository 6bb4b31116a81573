# SPDX-License-Identifier: Apache-2.0
"""What a skiff-fetch that a registry has taken over can do to the daemon: nothing that lasts."""

import pathlib

import pytest

from harness import env, fetcher, images
from harness.clients import PrivateSkiff

pytestmark = pytest.mark.skipif(env.DAEMON != "skiffd", reason="containerd has no such program")

# Answers every command as the protocol wants it; misbehave(...) is what the test adds.
_PROGRAM = """#!/usr/bin/python3
import array, os, signal, socket, struct, sys
sys.path.insert(0, {messages!r})
import skiff_fetch_pb2 as pb
signal.signal(signal.SIGPIPE, signal.SIG_IGN)
control = socket.socket(fileno=3)
fds = []

def exactly(n):
    data = b""
    while len(data) < n:
        piece, extra, _, _ = control.recvmsg(n - len(data), 1024)
        if not piece:
            sys.exit(0)
        for level, kind, value in extra:
            fds.extend(array.array("i", value))
        data += piece
    return data

def pack(**reply):
    data = pb.Reply(**reply).SerializeToString()
    return struct.pack("<I", len(data)) + data

{misbehave}

while True:
    command = pb.Command.FromString(exactly(*struct.unpack("<I", exactly(4))))
    if command.HasField("resolve"):
        resolve(command)
    elif command.HasField("get"):
        get(command)
    elif command.HasField("setup"):
        control.sendall(pack(id=command.id, done=pb.Done()))
"""
_RESOLVE = f"""
def resolve(command):
    control.sendall(pack(id=command.id, resolved=pb.Resolved(
        media_type={images.OCI["manifest"]!r}, digest={images.digest(b"x")!r}, size=1000)))
"""


@pytest.fixture
def hostile(own_daemon, tmp_path):
    """A skiff on a daemon whose skiff-fetch behaves as told."""

    def start(misbehave):
        messages = str(pathlib.Path(fetcher.messages().__file__).parent)
        program = tmp_path / "skiff-fetch"
        program.write_text(_PROGRAM.format(messages=messages, misbehave=misbehave))
        program.chmod(0o755)
        daemon = own_daemon(environment={"SKIFF_LIBEXEC": f"{tmp_path}:{env.libexec_path()}"})
        return PrivateSkiff(daemon)

    return start


def test_it_cannot_fill_the_disk(hostile):
    skiff = hostile(f"""{_RESOLVE}
def get(command):
    os.set_blocking(fds[-1], True)
    for i in range(1000):
        os.write(fds[-1], bytes(65536))
    os.close(fds.pop())
    control.sendall(pack(id=command.id, done=pb.Done(n_bytes=65536000)))
""")
    skiff("pull", "--plain-http", "127.0.0.1:1/a:x").fails("is longer than 1000 bytes")


def test_it_cannot_ask_for_logins_without_end(hostile):
    skiff = hostile("""
def resolve(command):
    control.sendall(b"".join(pack(credentials=pb.CredentialsRequest(host=f"h{i}")) for i in range(2000)))
    control.sendall(pack(id=command.id, error=pb.Error(code=2, message="asked enough")))
""")
    skiff("pull", "--plain-http", "127.0.0.1:1/a:x").fails("skiff-fetch sent a malformed reply")
