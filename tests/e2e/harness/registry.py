# SPDX-License-Identifier: Apache-2.0
"""Registries on loopback: Debian's docker-registry, and a small one of our own that can misbehave and ask for a login."""

import base64
import http.server
import json
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading

from . import env, proc


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class DockerRegistry:
    """docker-registry as it comes, with its blobs in a directory of its own."""

    @staticmethod
    def program():
        path = env.DEB_BIN / "docker-registry"
        return path if path.exists() else shutil.which("docker-registry")

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="skiff-registry-"))
        self.address = f"127.0.0.1:{free_port()}"
        (self.dir / "config.yml").write_text(
            "version: 0.1\nlog: {level: error}\nstorage:\n"
            f"  filesystem: {{rootdirectory: {self.dir}/data}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{self.address}'}}\n"
        )
        log = open(self.dir / "log", "wb")
        with log:
            self.child = proc.spawn(
                [self.program(), "serve", self.dir / "config.yml"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        host, port = self.address.split(":")

        def up():
            assert self.child.poll() is None, (self.dir / "log").read_text()
            with socket.socket() as s:
                return s.connect_ex((host, int(port))) == 0

        proc.wait_until(up, 20, "docker-registry")

    @property
    def pid(self):
        return self.child.pid

    def stop(self):
        self.child.kill()
        self.child.wait()
        proc.forget(self.child)
        shutil.rmtree(self.dir, ignore_errors=True)


class PlainRegistry:
    """A registry of blobs in memory. Each knob is a way in which real ones are difficult.

    login: (user, password) asked by HTTP basic authentication. cut_after: the first answer for each blob ends after so
    many bytes, so that a client has to resume. alter: bytes of a blob by its digest, sent in place of the true ones.
    """

    def __init__(self, login=None, cut_after=None, delay=None):
        self.login, self.cut_after, self.delay = login, cut_after, delay
        self.blobs, self.tags, self.types = {}, {}, {}
        self.alter, self.requests = {}, []
        self.cut = set()
        self.lock = threading.Lock()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *unused):
                pass

            def do_HEAD(self):
                registry.answer(self, False)

            def do_GET(self):
                registry.answer(self, True)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def put(self, image, name, tag="latest"):
        for blob in (*image.blobs, *image.manifests):
            self.blobs[blob.digest] = blob.data
            self.types[blob.digest] = blob.media_type
        self.tags[f"{name}:{tag}"] = image.top.digest
        return f"{self.address}/{name}:{tag}"

    def count(self, method, word):
        with self.lock:
            return sum(1 for m, path, _ in self.requests if m == method and word in path)

    def answer(self, request, body):
        with self.lock:
            self.requests.append((request.command, request.path, request.headers.get("Range")))
        if self.login:
            wanted = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
            if request.headers.get("Authorization") != wanted:
                return self.refuse(request, 401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="test"'})
        if request.path == "/v2/":
            return self.send(request, b"{}", "application/json", body)
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/(.+)", request.path.split("?")[0])
        if not found:
            return self.refuse(request, 404, "NAME_UNKNOWN")
        name, kind, what = found.groups()
        digest = self.tags.get(f"{name}:{what}", what)
        if digest not in self.blobs:
            return self.refuse(request, 404, "MANIFEST_UNKNOWN" if kind == "manifests" else "BLOB_UNKNOWN")
        data = self.alter.get(digest, self.blobs[digest])
        kind = self.types[digest] if kind == "manifests" else "application/octet-stream"
        return self.send(request, data, kind, body, digest)

    def refuse(self, request, status, code, headers=None):
        data = json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()
        request.send_response(status)
        for key, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(data)

    def send(self, request, data, kind, body, digest=None):
        begin, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
        total = len(data)
        if asked and int(asked[1]) < total:
            begin, status = int(asked[1]), 206
            data = data[begin : int(asked[2]) + 1 if asked[2] else total]
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        if digest:
            request.send_header("Docker-Content-Digest", digest)
        if status == 206:
            request.send_header("Content-Range", f"bytes {begin}-{begin + len(data) - 1}/{total}")
        request.end_headers()
        if not body:
            return
        if self.delay:
            self.delay(request.path)
        with self.lock:
            cut = self.cut_after is not None and len(data) > self.cut_after and request.path not in self.cut
            self.cut.add(request.path)
        try:
            request.wfile.write(data[: self.cut_after] if cut else data)
            if cut:
                request.close_connection = True
                request.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
