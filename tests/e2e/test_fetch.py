# SPDX-License-Identifier: Apache-2.0
"""skiff-fetch alone, against registries that ask for logins, break connections, lie and refuse."""

import base64
import http.server
import json
import os
import pathlib
import socket
import ssl
import subprocess
import threading

import pytest

from harness import env, images
from harness.fetcher import Failed, Fetcher
from harness.registry import PlainRegistry

pytestmark = pytest.mark.skipif(
    env.DAEMON != "skiffd" or not env.skiff_program("skiff-fetch"), reason="skiff-fetch is not what is tested"
)
UNAUTHENTICATED, NOT_FOUND, FAILED_PRECONDITION, UNAVAILABLE, CANCELED = 16, 5, 9, 14, 1
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def blob():
    return os.urandom(1 << 16) * 40


@pytest.fixture
def fetchers():
    running = []

    def start(*args, **kwargs):
        running.append(Fetcher(*args, **kwargs))
        return running[-1]

    yield start
    for fetcher in running:
        assert fetcher.stop() == 0


class Served:
    """A registry whose answers the test writes: a function of the request, gives (status, headers, body)."""

    def __init__(self, answer, context=None):
        served = self
        self.requests = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *unused):
                pass

            def reply(self):
                length = int(self.headers.get("Content-Length") or 0)
                self.sent = self.rfile.read(length)
                served.requests.append((self.command, self.path, dict(self.headers)))
                status, headers, body = answer(self)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = reply

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.server.shutdown()
        self.server.server_close()


def manifest_answer(data=b'{"schemaVersion":2}', **headers):
    return 200, {"Content-Type": OCI_MANIFEST, "Docker-Content-Digest": images.digest(data), **headers}, data


def test_resolves_a_tag_by_the_registrys_digest(fetchers):
    with Served(lambda request: manifest_answer()) as registry:
        found = fetchers(f"{registry.address}/a/b:x", [{"host": registry.address}]).resolve()
    assert found.digest == images.digest(b'{"schemaVersion":2}')
    assert (found.media_type, found.size) == (OCI_MANIFEST, 19)
    method, path, headers = registry.requests[0]
    assert (method, path) == ("HEAD", "/v2/a/b/manifests/x")
    assert "application/vnd.docker.distribution.manifest.list.v2+json" in headers["Accept"]


def test_hashes_the_manifest_where_no_digest_is_sent(fetchers):
    def answer(request):
        status, headers, data = manifest_answer()
        del headers["Docker-Content-Digest"]
        return status, headers, data

    with Served(answer) as registry:
        found = fetchers(f"{registry.address}/a:x", [{"host": registry.address}]).resolve()
    assert found.digest == images.digest(b'{"schemaVersion":2}')
    assert [method for method, *_ in registry.requests] == ["HEAD", "GET"]


def test_a_missing_tag_is_not_found(fetchers):
    with Served(lambda request: (404, {}, b"")) as registry:
        reference = f"{registry.address}/a:x"
        with pytest.raises(Failed, match=f"^{reference}: not found$") as failed:
            fetchers(reference, [{"host": registry.address}]).resolve()
    assert failed.value.code == NOT_FOUND


def test_a_digest_is_looked_for_among_the_blobs_too(fetchers):
    data = b"no manifest"
    digest = images.digest(data)

    def answer(request):
        return (404, {}, b"") if "manifests" in request.path else (200, {"Content-Type": "text/x"}, data)

    with Served(answer) as registry:
        found = fetchers(f"{registry.address}/a@{digest}", [{"host": registry.address}]).resolve()
    assert (found.digest, found.size) == (digest, len(data))


def test_the_registrys_reason_is_told(fetchers):
    body = json.dumps({"errors": [{"code": "DENIED", "message": "no\x07 access"}]}).encode()
    with Served(lambda request: (405 if request.command == "HEAD" else 403, {}, body)) as registry:
        with pytest.raises(Failed) as failed:
            fetchers(f"{registry.address}/a:x", [{"host": registry.address}]).resolve()
    assert "403 Forbidden\ndenied: no  access" in str(failed.value)


def test_mirrors_come_first_and_are_left_for_the_registry(fetchers):
    with Served(lambda request: (503, {}, b"")) as mirror, Served(lambda request: manifest_answer()) as registry:
        hosts = [{"host": mirror.address}, {"host": registry.address}]
        fetchers("example.org/a:x", hosts).resolve()
    assert [path for _, path, _ in mirror.requests] == ["/v2/a/manifests/x?ns=example.org"]
    assert len(registry.requests) == 1


def test_a_busy_registry_is_asked_again(fetchers):
    answers = [(429, {"Retry-After": "0"}, b""), (503, {}, b"")]
    with Served(lambda request: answers.pop(0) if answers else manifest_answer()) as registry:
        fetchers(f"{registry.address}/a:x", [{"host": registry.address}]).resolve()
    assert len(registry.requests) == 3


def test_a_body_is_streamed_whole(fetchers, blob):
    digest = images.digest(blob)
    with Served(lambda request: (200, {}, blob)) as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        assert fetcher.get(digest, len(blob)) == blob
        assert registry.requests[0][1] == f"/v2/a/blobs/{digest}"
        assert "Range" not in registry.requests[0][2]
        fetcher.get(digest, len(blob), media_type=OCI_MANIFEST)
        assert registry.requests[1][1] == f"/v2/a/manifests/{digest}"


def test_an_offset_asks_for_a_range(fetchers, blob):
    registry = PlainRegistry()
    registry.blobs[images.digest(blob)], registry.types[images.digest(blob)] = blob, ""
    fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
    assert fetcher.get(images.digest(blob), len(blob), offset=1000) == blob[1000:]
    assert registry.requests[-1][2] == "bytes=1000-"
    registry.stop()


def test_an_ignored_range_is_skipped_over(fetchers, blob):
    with Served(lambda request: (200, {}, blob)) as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        assert fetcher.get(images.digest(blob), len(blob), offset=777) == blob[777:]


def test_a_broken_connection_is_resumed(fetchers, blob):
    registry = PlainRegistry(cut_after=100_001)
    registry.blobs[images.digest(blob)], registry.types[images.digest(blob)] = blob, ""
    fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
    assert fetcher.get(images.digest(blob), len(blob)) == blob
    assert registry.requests[-1][2] == "bytes=100001-"
    registry.stop()


@pytest.mark.slow
def test_a_connection_that_always_breaks_is_given_up(fetchers):
    def answer(request):
        request.close_connection = True
        return 200, {"Content-Length": "1000"}, b""

    with Served(answer) as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        with pytest.raises(Failed) as failed:
            fetcher.get(images.digest(b""), 1000)
    assert failed.value.code == UNAVAILABLE


def test_more_than_the_size_is_never_written(fetchers, blob):
    with Served(lambda request: (200, {}, blob)) as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        with pytest.raises(Failed, match="longer than") as failed:
            fetcher.get(images.digest(blob), len(blob) - 1)
    assert failed.value.code == FAILED_PRECONDITION


def test_a_missing_blob_is_not_found(fetchers):
    digest = images.digest(b"x")
    with Served(lambda request: (404, {}, b"")) as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        with pytest.raises(Failed, match=f"could not fetch content descriptor {digest}"):
            fetcher.get(digest, 1)


def test_a_get_can_be_cancelled_and_its_reader_may_go(fetchers, blob):
    with Served(lambda request: (200, {}, blob)) as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        number, body = fetcher.start_get(images.digest(blob), len(blob))
        assert os.read(body, 10) == blob[:10]
        fetcher.send(cancel=fetcher.pb.Cancel(id=number))
        with pytest.raises(Failed) as failed:
            fetcher.wait(number)
        assert failed.value.code == CANCELED
        os.close(body)
        number, body = fetcher.start_get(images.digest(blob), len(blob))
        assert os.read(body, 10) == blob[:10]
        os.close(body)
        with pytest.raises(Failed):
            fetcher.wait(number)
        assert fetcher.get(images.digest(blob), len(blob)) == blob


def test_a_reader_that_is_gone_before_the_first_byte(fetchers, blob):
    gone = threading.Event()

    def answer(request):
        gone.wait(30)
        return 200, {}, blob

    with Served(answer) as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        number, body = fetcher.start_get(images.digest(blob), len(blob))
        os.close(body)
        gone.set()
        with pytest.raises(Failed) as failed:
            fetcher.wait(number)
        assert failed.value.code == CANCELED
        assert fetcher.get(images.digest(blob), len(blob)) == blob


def test_basic_authentication_asks_once(fetchers):
    registry = PlainRegistry(login=("user", "pass:word"))
    registry.blobs["sha256:" + "0" * 64], registry.types["sha256:" + "0" * 64] = b"abc", ""
    asked = []

    def credentials(host):
        asked.append(host)
        return {"username": "user", "secret": "pass:word"}

    fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}], credentials=credentials)
    for _ in range(2):
        assert fetcher.get("sha256:" + "0" * 64, 3) == b"abc"
    assert asked == [registry.address]
    registry.stop()


@pytest.mark.parametrize("answer", [{}, {"username": "user", "secret": "wrong"}, {"error": "nobody there"}])
def test_bad_credentials_are_refused(fetchers, answer):
    registry = PlainRegistry(login=("user", "right"))
    fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}], credentials=lambda host: answer)
    with pytest.raises(Failed) as failed:
        fetcher.resolve()
    assert failed.value.code == UNAUTHENTICATED
    if not answer:
        assert str(failed.value).endswith("authorization failed: no basic auth credentials")
    registry.stop()


class TokenRegistry(Served):
    """A registry and its token server on one address. post: what it answers to the OAuth2 flow; None: tokens."""

    def __init__(self, login=None, post=None):
        self.login, self.post, self.tokens, self.valid = login, post, 0, set()
        super().__init__(self.answer)

    def grant(self):
        self.tokens += 1
        self.valid = {f"Bearer token-{self.tokens}"}
        return 200, {}, json.dumps({"token": f"token-{self.tokens}", "expires_in": 300}).encode()

    def answer(self, request):
        if request.path.startswith("/token"):
            if request.command == "POST":
                if self.post:
                    return self.post, {}, b""
                user, password = self.login
                good = f"username={user}&password={password}".encode() in request.sent
                return self.grant() if good else (401, {}, b"")
            if self.login:
                wanted = "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
                if request.headers.get("Authorization") != wanted:
                    return 401, {}, b""
            return self.grant()
        if request.headers.get("Authorization") in self.valid:
            return manifest_answer()
        realm = f'Bearer realm="http://{self.address}/token",service="s p",scope="repository:a:pull"'
        return 401, {"WWW-Authenticate": realm}, b""


def test_anonymous_bearer_tokens_are_kept_and_refreshed(fetchers):
    with TokenRegistry() as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        fetcher.resolve()
        fetcher.resolve()
        assert registry.tokens == 1
        tokens = [path for _, path, _ in registry.requests if path.startswith("/token")]
        assert tokens == ["/token?service=s%20p&scope=repository%3Aa%3Apull"]
        registry.valid = set()
        fetcher.resolve()
        assert registry.tokens == 2


@pytest.mark.parametrize("post", [None, 404])
def test_tokens_for_credentials(fetchers, post):
    with TokenRegistry(login=("u", "p"), post=post) as registry:
        fetchers(
            f"{registry.address}/a:x",
            [{"host": registry.address}],
            credentials=lambda host: {"username": "u", "secret": "p"},
        ).resolve()
        assert registry.requests[1][0] == "POST"


def test_a_redirect_does_not_carry_the_login_elsewhere(fetchers):
    with Served(lambda request: (200, {}, b"abc")) as store:

        def answer(request):
            if "Authorization" not in request.headers:
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            return 307, {"Location": f"http://{store.address}/elsewhere"}, b""

        with Served(answer) as registry:
            fetcher = fetchers(
                f"{registry.address}/a:x",
                [{"host": registry.address}],
                credentials=lambda host: {"username": "u", "secret": "p"},
            )
            assert fetcher.get(images.digest(b"abc"), 3) == b"abc"
        assert [path for _, path, _ in store.requests] == ["/elsewhere"]
        assert "Authorization" not in store.requests[0][2]


def test_redirects_have_an_end(fetchers):
    with Served(lambda request: (302, {"Location": request.path}, b"")) as registry:
        with pytest.raises(Failed, match="stopped after 10 redirects"):
            fetchers(f"{registry.address}/a:x", [{"host": registry.address}]).resolve()


@pytest.fixture
def tls(tmp_path):
    def run(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=tmp_path)

    (tmp_path / "ext").write_text("subjectAltName=IP:127.0.0.1\n")
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA")
    run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=127.0.0.1")
    run("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "cert.pem",
        "-extfile", "ext")  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context, pathlib.Path(tmp_path / "ca.pem").read_bytes()


def test_https_with_a_ca_of_ones_own(fetchers, tls):
    context, ca = tls
    with Served(lambda request: manifest_answer(), context) as registry:
        host = {"host": registry.address, "scheme": "https"}
        fetchers(f"{registry.address}/a:x", [{**host, "ca": ca}]).resolve()
        fetchers(f"{registry.address}/a:x", [{**host, "skip_verify": True}]).resolve()
        with pytest.raises(Failed, match="certificate"):
            fetchers(f"{registry.address}/a:x", [host]).resolve()


def test_https_falls_back_to_http_where_that_is_allowed(fetchers):
    with Served(lambda request: manifest_answer()) as registry:
        host = {"host": registry.address, "scheme": "https", "skip_verify": True}
        fetchers(f"{registry.address}/a:x", [{**host, "http_fallback": True}]).resolve()
        with pytest.raises(Failed):
            fetchers(f"{registry.address}/a:x", [host]).resolve()


def test_all_requests_under_way_fall_back_to_http(fetchers):
    with Served(lambda request: (200, {}, b"abc")) as registry:
        all_there = threading.Barrier(4)
        finish = registry.server.finish_request

        def finish_together(connection, address):
            if connection.recv(1, socket.MSG_PEEK) == b"\x16":  # a TLS handshake
                all_there.wait(20)
            finish(connection, address)

        registry.server.finish_request = finish_together
        host = {"host": registry.address, "scheme": "https", "skip_verify": True, "http_fallback": True}
        fetcher = fetchers(f"{registry.address}/a:x", [host])
        started = [fetcher.start_get(images.digest(bytes([i])), 3) for i in range(4)]
        for number, read_end in started:
            with open(read_end, "rb") as body:
                assert fetcher.wait(number).done.n_bytes == 3
                assert body.read() == b"abc"


def test_the_process_is_confined(fetchers):
    with Served(lambda request: manifest_answer()) as registry:
        fetcher = fetchers(f"{registry.address}/a:x", [{"host": registry.address}])
        fetcher.resolve()
        pid = fetcher.child.pid
        status = dict(
            line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert status["Uid"].split()[0] != "0"
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
        assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
        assert sorted(os.listdir(f"/proc/{pid}/root")) == sorted(
            {"etc", "scratch", "usr"} | {d for d in ("lib", "lib64") if os.path.exists("/" + d)}
        )
        assert set(os.listdir(f"/proc/{pid}/root/etc")) <= {
            "ssl", "pki", "ca-certificates", "resolv.conf", "hosts", "host.conf", "nsswitch.conf", "gai.conf",
        }  # fmt: skip
