# SPDX-License-Identifier: Apache-2.0
"""Transfer and Streaming as clients use them together, message by message."""

import gzip
import io
import json
import os
import queue
import tarfile
import threading

import grpc
import pytest
from conftest import IMAGE, empty_namespace

from harness import env, images, proc
from harness.api import Api, fails, message, to_any
from harness.clients import Ctr

Code = grpc.StatusCode


class Stream:
    """One named stream: what it receives is kept; send() and finish() are the client's side."""

    def __init__(self, api, name, wait=True):
        self.outgoing, self.got, self.error = queue.Queue(), queue.Queue(), None
        self.outgoing.put(to_any(message("containerd.services.streaming.v1.StreamInit")(id=name)))
        self.name, self.closed = name, threading.Event()
        self.call = api.streaming.Stream(iter(self.outgoing.get, None), timeout=None)
        threading.Thread(target=self._read, daemon=True).start()
        if wait:
            # It is answered by an empty message once it is registered.
            first = self.receive()
            assert first.type_url == "" and first.value == b"" or first.value == b"", first

    def _read(self):
        try:
            for m in self.call:
                self.got.put(m)
        except grpc.RpcError as error:
            self.error = error
        self.closed.set()
        self.got.put(None)

    def receive(self, seconds=20):
        return self.got.get(timeout=seconds)

    def everything(self):
        """All that came until now, without waiting."""
        found = []
        while not self.got.empty():
            found.append(self.got.get())
        return [m for m in found if m is not None]

    def send(self, value):
        self.outgoing.put(to_any(value))

    def finish(self):
        self.outgoing.put(None)

    def cancel(self):
        self.call.cancel()


@pytest.fixture
def place(daemon):
    """The API in a namespace of the test alone, at the end of which nothing may be left."""
    from conftest import GENERATIONS, _namespace_count

    name = daemon.namespace_of_its_own(f"x{next(_namespace_count)}")
    with Api(daemon, name) as api:
        api.namespaces.Create(namespace={"name": name})  # containerd drops streams in namespaces that are not there
        api.client = Ctr(GENERATIONS[-1], daemon, name) if GENERATIONS != ["none"] else None
        yield api
        if api.client:
            empty_namespace(api.client)


def types(name):
    return message("containerd.types.transfer." + name)


def store(name, unpack=True, **more):
    value = types("ImageStore")(name=name, **more)
    if unpack:
        platform = {"os": "linux", "architecture": images.ARCH}
        value.unpacks.add(platform=platform, snapshotter="overlayfs")
        value.platforms.add(**platform)
    return value


def transfer(api, source, destination, progress=None, **more):
    request = api.transfer.Transfer.request(source=to_any(source), destination=to_any(destination))
    if progress:
        request.options.progress_stream = progress
    return api.transfer.Transfer(request, **more)


def send_archive(stream, data, chunk=32 * 1024):
    """The sending side of a byte stream: never more than the window that the other side has opened."""
    window, at = 0, 0
    while at < len(data):
        while window <= 0:
            m = stream.receive()
            assert m is not None, f"the stream ended after {at} of {len(data)} bytes: {stream.error}"
            window += types("WindowUpdate").FromString(m.value).update
        n = min(window, chunk, len(data) - at)
        stream.send(types("Data")(data=data[at : at + n]))
        at, window = at + n, window - n
    stream.finish()


def receive_archive(stream, window=64 * 1024):
    """The receiving side: opens the window again for what came, and stops where the sender does."""
    data, given = b"", window
    stream.send(types("WindowUpdate")(update=window))
    while True:
        m = stream.receive()
        if m is None:
            return data
        part = types("Data").FromString(m.value).data
        data, given = data + part, given - len(part)
        assert given >= 0, "more than the window allows"
        if given < window // 2:
            stream.send(types("WindowUpdate")(update=window))
            given += window


def test_a_stream_is_answered_once_it_is_registered(place):
    stream = Stream(place, "s1")
    again = Stream(place, "s1", wait=False)
    assert again.closed.wait(20) and "already exists" in again.error.details()
    stream.cancel()
    stream.closed.wait(20)
    if env.DAEMON == "containerd":
        return  # it keeps the name

    def free():
        again = Stream(place, "s1", wait=False)
        try:
            return again.receive(5) is not None
        finally:
            again.cancel()

    proc.wait_until(free, 10, "the name of the stream")


def test_a_stream_begins_with_its_name(place):
    wrong = place.streaming.Stream(iter([to_any(types("Data")(data=b"x"))]), timeout=20)
    with pytest.raises(grpc.RpcError):
        list(wrong)


def test_a_stream_that_nobody_reads_bounds_memory(place, daemon):
    """What comes for a stream before a transfer takes it stays in the client, once the daemon holds enough."""
    before = proc.memory_kb(daemon.pid, "Rss")
    sent, part = 0, to_any(types("Data")(data=bytes(1 << 20)))

    def pieces():
        nonlocal sent
        yield to_any(message("containerd.services.streaming.v1.StreamInit")(id="unread"))
        for _ in range(200):
            yield part
            sent += 1

    stream = place.streaming.Stream(pieces(), timeout=None)
    next(stream)
    stands_still = False
    while not stands_still:
        seen = sent
        try:
            proc.wait_until(lambda: sent != seen, 1)
        except AssertionError:
            stands_still = True
    assert sent < 200
    if env.DAEMON == "skiffd" and not env.sanitized():
        assert proc.memory_kb(daemon.pid, "Rss") - before < 32 * 1024
    place.version.Version(timeout=10)
    stream.cancel()


@pytest.mark.containerd_differs("containerd takes any namespace for a stream")
def test_streams_of_a_namespace_that_is_none(place):
    for bad in ("a/b", "-", "x" * 200):
        stream = place.without_namespace().streaming.Stream(
            iter([to_any(message("containerd.services.streaming.v1.StreamInit")(id="s"))]),
            timeout=20,
            metadata=[("containerd-namespace", bad)],
        )
        with pytest.raises(grpc.RpcError) as error:
            list(stream)
        assert error.value.code() == Code.INVALID_ARGUMENT


def test_import_with_progress(place, archive):
    data = archive.read_bytes()
    stream, progress = Stream(place, "in"), Stream(place, "progress")
    sender = threading.Thread(target=send_archive, args=(stream, data), daemon=True)
    sender.start()
    destination = store("", extra_references=[{"name": IMAGE}])
    transfer(place, types("ImageImportStream")(stream="in"), destination, "progress")
    # All progress has been sent before Transfer answers: it is here, or on its way.
    assert progress.closed.wait(10) or env.DAEMON == "containerd"
    found = [types("Progress").FromString(m.value) for m in progress.everything()]
    assert found and {p.event for p in found}
    names = [p.name for p in found]
    assert any(IMAGE in n for n in names) or any(n.startswith(("manifest-sha256:", "layer-sha256:", "config-sha256:", "index-sha256:")) for n in names), names
    sender.join(20)
    assert [i.name for i in place.images.List().images] == [IMAGE]
    snapshots = [i for a in place.snapshots.List(snapshotter="overlayfs") for i in a.info]
    assert len(snapshots) == 2


def test_plain_layers_can_be_compressed_on_their_way_in(place, tmp_path):
    image = images.Image([images.base_layer(), images.second_layer(), images.second_layer()])
    data = images.docker_archive(image, tmp_path / "docker.tar", IMAGE).read_bytes()
    stream = Stream(place, "in")
    sender = threading.Thread(target=send_archive, args=(stream, data), daemon=True)
    sender.start()
    transfer(place, types("ImageImportStream")(stream="in", force_compress=True), store("", extra_references=[{"name": IMAGE}]))
    sender.join(20)

    def read(digest):
        return b"".join(part.data for part in place.content.Read(digest=digest))

    top = json.loads(read(place.images.Get(name=IMAGE).image.target.digest))
    manifest = top if "layers" in top else json.loads(read(top["manifests"][0]["digest"]))
    assert [x["mediaType"] for x in manifest["layers"]] == ["application/vnd.docker.image.rootfs.diff.tar.gzip"] * 3
    for layer, plain in zip(manifest["layers"], image.tars):
        assert gzip.decompress(read(layer["digest"])) == plain and layer["size"] < len(plain)
        info = place.content.Info(digest=layer["digest"]).info
        assert info.labels["containerd.io/uncompressed"] == images.digest(plain)
    assert len([i for a in place.snapshots.List(snapshotter="overlayfs") for i in a.info]) == 3


@pytest.mark.containerd_differs("containerd 2.3.4 may end before the last bytes are through")
def test_export_through_a_small_window(place, archive, tmp_path):
    place.client("images", "import", archive).ok()
    stream = Stream(place, "out")
    data = []
    receiver = threading.Thread(target=lambda: data.append(receive_archive(stream, 4096)), daemon=True)
    receiver.start()
    source = types("ImageStore")(name=IMAGE)
    transfer(place, source, types("ImageExportStream")(stream="out", all_platforms=True))
    receiver.join(20)

    names = tarfile.open(fileobj=io.BytesIO(data[0])).getnames()
    assert {"oci-layout", "index.json", "manifest.json"} <= set(names)
    assert {f"blobs/sha256/{b.digest[7:]}" for b in images.simple().blobs} <= set(names)


@pytest.mark.skiff_only
def test_export_to_a_reader_that_does_not_read(place, archive, daemon):
    """Nothing is buffered for it, and when it goes the call ends and holds nothing."""
    big = images.Image([images.base_layer(), images.tar([images.entry("big", data=os.urandom(40 << 20))])], compression="")
    path = images.oci_archive(big, archive.parent / "big.tar", "example.com/big:1")
    place.client("images", "import", path).ok()
    before = proc.memory_kb(daemon.pid, "Rss")
    stream = Stream(place, "stuck")
    stream.send(types("WindowUpdate")(update=65536))
    ended = threading.Event()

    def export():
        try:
            transfer(place, types("ImageStore")(name="example.com/big:1"), types("ImageExportStream")(stream="stuck"), timeout=60)
        except grpc.RpcError:
            pass
        ended.set()

    threading.Thread(target=export, daemon=True).start()
    assert stream.receive() is not None
    assert not ended.wait(1)
    assert env.sanitized() or proc.memory_kb(daemon.pid, "Rss") - before < 16 * 1024
    stream.cancel()
    assert ended.wait(20)
    path.unlink()


def test_tag(place, archive):
    place.client("images", "import", archive).ok()
    transfer(place, types("ImageStore")(name=IMAGE), types("ImageStore")(name="example.com/tag:1"))
    one, two = (place.images.Get(name=n).image.target.digest for n in (IMAGE, "example.com/tag:1"))
    assert one == two
    fails(Code.NOT_FOUND, transfer, place, types("ImageStore")(name="example.com/none:1"), types("ImageStore")(name="x"))


def test_pull(place, registry):
    ref = images.push(images.simple(), registry.address, "transfer")
    source = types("OCIRegistry")(reference=ref, resolver={"default_scheme": "http"})
    place.leases.Create(id="pull")
    progress = Stream(place, "p")
    transfer(place, source, store(ref, labels={"mine": "yes"}), "p", metadata=(("containerd-lease", "pull"),))
    place.leases.Delete(id="pull", sync=True)
    image = place.images.Get(name=ref).image
    assert dict(image.labels)["mine"] == "yes"
    found = [types("Progress").FromString(m.value) for m in progress.everything()]
    layer = images.simple().layers[0]
    done = [p for p in found if layer.digest in p.name or p.desc.digest == layer.digest]
    assert done and done[-1].event in ("complete", "done", "extracted", "already exists", "saved", "unpacked"), done[-1]
    # Nothing is collected that the image needs.
    for blob in images.simple().blobs:
        place.content.Info(digest=blob.digest)


def test_a_login_over_the_auth_stream(place, plain_registry):
    registry = plain_registry(login=("user", "secret"))
    ref = registry.put(images.simple(), "asked")
    auth = Stream(place, "auth")
    asked = []

    def answer():
        while (m := auth.receive(60)) is not None:
            asked.append(types("AuthRequest").FromString(m.value))
            auth.send(types("AuthResponse")(authType=1, username="user", secret="secret"))

    threading.Thread(target=answer, daemon=True).start()
    source = types("OCIRegistry")(reference=ref, resolver={"default_scheme": "http", "auth_stream": "auth"})
    transfer(place, source, store(ref))
    assert asked and asked[0].host == registry.address
    place.images.Get(name=ref)
    auth.cancel()


def test_pairs_that_nobody_can_transfer(place):
    registry = types("OCIRegistry")(reference="127.0.0.1:1/x:1")
    fails(Code.UNIMPLEMENTED, transfer, place, registry, registry)
    unknown = place.transfer.Transfer.request()
    unknown.source.type_url, unknown.destination.type_url = "example.com/nothing", "example.com/nothing"
    with pytest.raises(grpc.RpcError):
        place.transfer.Transfer(unknown)


def test_streams_that_are_not_there(place):
    fails(Code.NOT_FOUND, transfer, place, types("ImageImportStream")(stream="none"), store("", extra_references=[{"name": "x"}]))


def test_an_import_that_stops_half_way(place, archive):
    """The client goes in the middle: the call ends, and nothing of it stays."""
    stream = Stream(place, "half")
    ended, errors = threading.Event(), []

    def run():
        try:
            transfer(place, types("ImageImportStream")(stream="half"), store("", extra_references=[{"name": IMAGE}]), timeout=60)
        except grpc.RpcError as error:
            errors.append(error.code())
        ended.set()

    threading.Thread(target=run, daemon=True).start()
    send_archive(stream, archive.read_bytes()[:200000])
    assert ended.wait(30) and errors
    assert list(place.images.List().images) == []


def test_a_cancelled_pull_ends(place, plain_registry, daemon):
    release, reached = threading.Event(), threading.Event()

    def delay(path):
        if "/blobs/" in path:
            reached.set()
            release.wait(30)

    registry = plain_registry(delay=delay)
    ref = registry.put(images.simple(), "slow")
    source = types("OCIRegistry")(reference=ref, resolver={"default_scheme": "http"})
    request = place.transfer.Transfer.request(source=to_any(source), destination=to_any(store(ref)))
    call = place.channel.unary_unary(
        "/containerd.services.transfer.v1.Transfer/Transfer",
        request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=message("google.protobuf.Empty").FromString,
    ).future(request, metadata=[("containerd-namespace", place.namespace)])
    assert reached.wait(20)
    call.cancel()
    release.set()

    def workers():
        return [p for p, chain in proc.descendants(daemon.pid).items() if "skiff-unpack" in proc.cmdline(p)]

    proc.wait_until(lambda: not workers(), 20, "the end of the workers")
    assert list(place.images.List().images) == []
