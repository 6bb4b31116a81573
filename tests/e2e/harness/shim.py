# SPDX-License-Identifier: Apache-2.0
"""A shim without a daemon: the test starts it as a daemon does, calls it over ttrpc, and takes its events."""

import contextlib
import fcntl
import json
import os
import pathlib
import select
import shutil
import socket
import struct
import subprocess
import threading
import time

from . import env, images
from .api import message, to_any

HEADER = struct.Struct(">IIBB")
REQUEST, RESPONSE = 1, 2


class Error(Exception):
    def __init__(self, status):
        super().__init__(f"{status.code} {status.message}")
        self.code, self.text = status.code, status.message


NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION, UNKNOWN, UNIMPLEMENTED = 5, 6, 9, 2, 12


def receive(connection, n):
    data = b""
    while len(data) < n:
        part = connection.recv(n - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def receive_frame(connection):
    length, stream, kind, _ = HEADER.unpack(receive(connection, HEADER.size))
    return stream, kind, receive(connection, length)


class Connection:
    """A ttrpc client: calls from several threads at once."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.next_id, self.answers, self.closed = 1, {}, False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with contextlib.suppress(EOFError, OSError):
            while True:
                stream, _, data = receive_frame(self.socket)
                with self.lock:
                    self.answers[stream] = data
                    self.changed.notify_all()
        with self.lock:
            self.closed = True
            self.changed.notify_all()

    def send(self, service, method, payload):
        request = message("ttrpc.Request")(service=service, method=method, payload=payload)
        data = request.SerializeToString()
        with self.lock:
            stream, self.next_id = self.next_id, self.next_id + 2
            self.socket.sendall(HEADER.pack(len(data), stream, REQUEST, 0) + data)
        return stream

    def result(self, stream, answer, timeout=30):
        with self.lock:
            assert self.changed.wait_for(lambda: stream in self.answers or self.closed, timeout), "no answer"
            if stream not in self.answers:
                raise EOFError("the shim closed the connection")
            response = message("ttrpc.Response").FromString(self.answers.pop(stream))
        if response.status.code:
            raise Error(response.status)
        return answer.FromString(response.payload)

    def close(self):
        self.socket.close()


class Events:
    """Takes what shims forward, as a daemon does."""

    def __init__(self, path):
        self.path, self.events, self.lock = path, [], threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.connections = []
        self.listen()

    def listen(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(EOFError, OSError):
            while True:
                stream, _, data = receive_frame(connection)
                request = message("ttrpc.Request").FromString(data)
                forwarded = message("containerd.services.events.ttrpc.v1.ForwardRequest").FromString(request.payload)
                envelope = forwarded.envelope
                event = message(envelope.event.type_url).FromString(envelope.event.value)
                with self.lock:
                    self.events.append((envelope.topic, event))
                    self.changed.notify_all()
                connection.sendall(HEADER.pack(0, stream, RESPONSE, 0))

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        os.unlink(self.path)
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self.connections = []

    def topics(self):
        with self.lock:
            return [topic for topic, _ in self.events]

    def wait(self, topic, count=1, timeout=20):
        """The count-th event of a topic."""

        def found():
            return [e for t, e in self.events if t == topic]

        with self.lock:
            assert self.changed.wait_for(lambda: len(found()) >= count, timeout), f"no {topic} in {self.events}"
            return found()[count - 1]


class Reader:
    """The client's end of an output FIFO."""

    def __init__(self, path):
        os.mkfifo(path)
        self.path, self.data, self.ended = path, b"", threading.Event()
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, 0)
        self.changed = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        # Before the shim opens its end, a read says end of file.
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.poll()
        while True:
            part = os.read(self.fd, 65536)
            with self.changed:
                self.data += part
                self.changed.notify_all()
            if not part:
                break
        os.close(self.fd)
        self.ended.set()

    def wait_for(self, text, timeout=20):
        with self.changed:
            assert self.changed.wait_for(lambda: text in self.data, timeout), f"{text!r} is not in {self.data[-500:]!r}"

    def all(self, timeout=20):
        assert self.ended.wait(timeout), f"no end of output after {self.data[-200:]!r}"
        return self.data


class Shims:
    """A private place for shims: bundles, sockets, FIFOs, events."""

    def __init__(self, directory, runtime):
        self.directory, self.runtime = pathlib.Path(directory), runtime
        self.bundles, self.sockets = self.directory / "task" / "test", self.directory / "s"
        self.bundles.mkdir(parents=True)
        self.fifos = self.directory / "f"
        self.fifos.mkdir()
        self.events = Events(str(self.directory / "e"))
        self.layer = self.directory / "layer"
        (self.layer / "bin").mkdir(parents=True)
        busybox = self.layer / "bin" / "busybox"
        busybox.write_bytes(images.busybox())
        busybox.chmod(0o755)
        for name in ("proc", "dev", "sys", "tmp"):
            (self.layer / name).mkdir()
        self.connections, self.pids, self.number = {}, set(), 0

    def spec(self, bundle, args, terminal=False, cgroup=None, pid_namespace=True, annotations=None, version="1.3.0"):
        namespaces = ["mount", "ipc", "uts"] + (["pid"] if pid_namespace else [])
        return {
            "ociVersion": version,
            "annotations": annotations or {},
            "process": {
                "terminal": terminal,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/bin"],
                "cwd": "/",
                "capabilities": {k: ["CAP_KILL"] for k in ("bounding", "effective", "permitted")},
                "noNewPrivileges": True,
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
            ],
            "linux": {
                "cgroupsPath": f"/skiff-shim-test/{self.directory.name}-{bundle.name}",
                "namespaces": [{"type": n} for n in namespaces],
                "resources": cgroup or {},
            },
        }

    def new_id(self):
        self.number += 1
        return f"c{self.number}"

    def bundle(self, cid, args, **options):
        path = self.bundles / cid
        path.mkdir()
        (path / "config.json").write_text(json.dumps(self.spec(path, args, **options)))
        os.mkfifo(path / "log")
        return path

    def command(self, cid, action, data=b"", cwd=None, flags=(), environment=None):
        own = {"TTRPC_ADDRESS": self.events.path, "GRPC_ADDRESS": "/no/daemon", "NAMESPACE": "test"}
        argv = [env.skiff_program("containerd-shim-skiff-v2"), "-namespace", "test", "-address", "/no/daemon"]
        argv += ["-id", cid, *flags, action]
        return subprocess.run(
            [str(a) for a in argv],
            input=data,
            cwd=cwd or self.bundles / cid,
            env={**os.environ, **own, **(environment or {})},
            capture_output=True,
            timeout=60,
        )

    def start(self, cid):
        """The way of containerd 2.3: parameters and answer are protobuf."""
        name = "containerd.runtime.bootstrap.v1.Bootstrap"
        params = message(name + "Params")(
            instance_id=cid, namespace="test", containerd_ttrpc_address=self.events.path, socket_dir=str(self.sockets)
        )
        done = self.command(cid, "start", params.SerializeToString())
        assert done.returncode == 0, done.stderr
        result = message(name + "Result").FromString(done.stdout)
        assert (result.version, result.protocol) == (3, "ttrpc")
        return self.connect(cid, result.address)

    def connect(self, cid, address):
        connection = Connection(address.removeprefix("unix://"))
        self.connections[cid] = connection
        task = Task(self, cid, connection)
        self.pids.add(task.call("Connect").shim_pid)
        return task

    def task(self, args, stdin=False, terminal=False, **options):
        """A shim with a task that is created."""
        cid = self.new_id()
        self.bundle(cid, args, terminal=terminal, **options)
        return self.start(cid).create(stdin=stdin, terminal=terminal)

    def memory_kb(self):
        """Proportional set of each shim."""
        sizes = []
        for pid in self.pids:
            with contextlib.suppress(OSError):
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                sizes += [int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")]
        return sizes

    def left(self):
        """What should not be there once all tasks are deleted."""
        mounts = [line for line in pathlib.Path("/proc/mounts").read_text().splitlines() if str(self.directory) in line]
        running = [pid for pid in self.pids if pathlib.Path(f"/proc/{pid}/exe").exists()]
        sockets = [p.name for p in self.sockets.glob("*") if not p.name.startswith("oci-")]
        root = pathlib.Path("/sys/fs/cgroup")
        name = f"skiff-shim-test/{self.directory.name}-*"
        groups = [*root.glob(name), *root.glob("*/" + name)]
        # After a create that failed, crun 1.8 leaves plain directories for controllers that are not mounted.
        plain = root.stat().st_dev if not (root / "cgroup.procs").exists() else None
        groups = [str(p) for p in groups if p.stat().st_dev != plain]
        return [x for x in (mounts, running, sockets, groups) if x]

    def wait_until_nothing_is_left(self, seconds=10):
        end = time.monotonic() + seconds
        while self.left():
            assert time.monotonic() < end, f"left over: {self.left()}"
            time.sleep(0.02)

    def close(self):
        for pid in self.pids:
            with contextlib.suppress(OSError):
                if "containerd-shim" in os.readlink(f"/proc/{pid}/exe"):
                    os.kill(pid, 9)
        for cid in self.connections:
            if (self.bundles / cid).exists():
                self.command(cid, "delete", flags=["-bundle", self.bundles / cid])
        self.events.stop()


class Task:
    def __init__(self, shims, cid, connection, version=3):
        self.shims, self.cid, self.connection, self.version = shims, cid, connection, version
        self.out, self.err, self.fifo = {}, {}, {}

    def send(self, method, **fields):
        package = f"containerd.task.v{self.version}"
        special = {"Create": "CreateTask", "Exec": "ExecProcess", "Update": "UpdateTask", "Checkpoint": "CheckpointTask"}
        request = message(f"{package}.{special.get(method, method)}Request")(id=self.cid, **fields)
        empty = method in "Pause Resume Checkpoint Kill Exec ResizePty CloseIO Update Shutdown".split()
        answer = "google.protobuf.Empty" if empty else f"{package}.{special.get(method, method)}Response"
        return self.connection.send(f"{package}.Task", method, request.SerializeToString()), message(answer)

    def call(self, method, **fields):
        return self.connection.result(*self.send(method, **fields))

    def _streams(self, exec_id, stdin, terminal):
        base = str(self.shims.fifos / f"{self.cid}-{exec_id or 'init'}")
        self.out[exec_id] = Reader(base + "-out")
        fields = {"stdout": base + "-out", "terminal": terminal}
        if not terminal:
            self.err[exec_id] = Reader(base + "-err")
            fields["stderr"] = base + "-err"
        if stdin:
            os.mkfifo(base + "-in")
            self.fifo[exec_id] = fields["stdin"] = base + "-in"
        return fields

    def create(self, stdin=False, terminal=False, **fields):
        bundle = self.shims.bundles / self.cid
        options = message("containerd.runc.v1.Options")(binary_name=self.shims.runtime)
        upper, work = bundle / "upper", bundle / "work-dir"
        upper.mkdir()
        work.mkdir()
        mount = message("containerd.types.Mount")(
            type="overlay",
            source="overlay",
            options=[f"lowerdir={self.shims.layer}", f"upperdir={upper}", f"workdir={work}"],
        )
        given = {**self._streams("", stdin, terminal), **fields}
        self.pid = self.call("Create", bundle=str(bundle), rootfs=[mount], options=to_any(options), **given).pid
        return self

    def start(self, exec_id=""):
        return self.call("Start", exec_id=exec_id).pid

    def exec(self, exec_id, args, stdin=False, terminal=False):
        process = {"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}}
        spec = message("google.protobuf.Any")(type_url="process", value=json.dumps(process).encode())
        self.call("Exec", exec_id=exec_id, spec=spec, **self._streams(exec_id, stdin, terminal))
        return self

    def wait(self, exec_id=""):
        return self.call("Wait", exec_id=exec_id).exit_status

    def state(self, exec_id=""):
        answer = self.call("State", exec_id=exec_id)
        return answer.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[answer.status].name

    def delete(self):
        answer = self.call("Delete")
        shutil.rmtree(self.shims.bundles / self.cid)
        return answer

    def end(self):
        """Kill, delete, shut down."""
        if self.state() != "STOPPED":
            self.call("Kill", signal=9, all=True)
            self.wait()
        self.delete()
        self.call("Shutdown")
        deadline = time.monotonic() + 20
        while not self.connection.closed:
            assert time.monotonic() < deadline, "the shim does not end"
            with self.connection.lock:
                self.connection.changed.wait(0.1)
