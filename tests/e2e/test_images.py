# SPDX-License-Identifier: Apache-2.0
"""Images: in and out by archives and registries, listed, tagged, checked, mounted, removed."""

import hashlib
import json
import os
import subprocess
import tarfile

import pytest
from conftest import ANY_RUNTIME, IMAGE

from harness import env, images

# The sizes and digests of images differ with the distribution's busybox; tables of images differ in nothing else.
NAMED = "example.com/two:2"


def _skip_unknown_layer(client, compression, media):
    """Debian 13's ctr looks into the media types of layers itself."""
    if client.generation == "1.7" and compression == "zstd" and media is images.DOCKER:
        pytest.skip("ctr 1.7 does not take this media type for a layer's")


def listed(client):
    return {row[0]: row for row in client("images", "ls").ok().rows}


def test_image_commands(fresh_ctr, archive, transcript):
    t, ctr = transcript(), fresh_ctr
    t.add("images ls", ctr("images", "ls"))
    t.add("images import", ctr("images", "import", archive), change=_progress)
    t.add("images ls", ctr("images", "ls"))
    t.add("images ls -q", ctr("images", "ls", "-q"))
    t.add("images ls with a filter", ctr("images", "ls", "name==example.com/simple:1"))
    t.add("images ls with a filter that matches nothing", ctr("images", "ls", "name==example.com/none:1"))
    t.add("images ls with a filter that is none", ctr("images", "ls", "name=="))
    t.add("images check", ctr("images", "check"))
    t.add("images check -q", ctr("images", "check", "-q"))
    t.add("images tag", ctr("images", "tag", IMAGE, NAMED))
    t.add("images tag again", ctr("images", "tag", IMAGE, NAMED))
    t.add("images tag --force", ctr("images", "tag", "--force", IMAGE, NAMED))
    t.add("images tag of what is not there", ctr("images", "tag", "example.com/none:1", "example.com/other:1"))
    t.add("images label", ctr("images", "label", NAMED, "a=b", "c=d"))
    t.add("images label removes", ctr("images", "label", NAMED, "a="))
    t.add("images label --replace-all", ctr("images", "label", "--replace-all", NAMED, "e=f"))
    t.add("images label of what is not there", ctr("images", "label", "example.com/none:1", "a=b"))
    t.add("images ls", ctr("images", "ls"))
    t.add("images rm", ctr("images", "rm", NAMED))
    t.add("images rm of what is not there", ctr("images", "rm", NAMED))
    t.add("images rm --sync", ctr("images", "rm", "--sync", IMAGE))
    t.add("images ls", ctr("images", "ls"))
    t.add("content ls", ctr("content", "ls"))
    t.add("snapshots ls", ctr("snapshots", "ls"))


def _progress(text):
    """What stays the same of a progress display: the names, each once."""
    seen = []
    for line in text.splitlines():
        for word in line.split():
            if word.startswith(("example.com/", "REGISTRY/")) and word not in seen:
                seen.append(word)
    return "\n".join(seen)


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"], ids=["plain", "gzip", "zstd"])
@pytest.mark.parametrize("media", [images.OCI, images.DOCKER], ids=["oci", "docker"])
def test_import_of_every_kind_of_layer_runs(fresh_ctr, tmp_path, compression, media):
    _skip_unknown_layer(fresh_ctr, compression, media)
    path = images.oci_archive(images.simple(compression, media), tmp_path / "a.tar", IMAGE)
    fresh_ctr("images", "import", path).ok()
    assert "unpacked" not in fresh_ctr("images", "check").ok().err
    out = fresh_ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, IMAGE, "i1", "cat", "/etc/motd").ok().out
    assert out == "hello from the second layer\n"


def test_import_of_a_docker_archive(fresh_ctr, tmp_path):
    path = images.docker_archive(images.simple(compression=""), tmp_path / "docker.tar", "example.com/docker:1")
    fresh_ctr("images", "import", path).ok()
    assert list(listed(fresh_ctr)) == ["example.com/docker:1"]
    out = fresh_ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, "example.com/docker:1", "i1", "cat", "/etc/motd").ok().out
    assert out == "hello from the second layer\n"


def test_import_takes_its_own_platform_out_of_an_index(fresh_ctr, tmp_path):
    other = images.simple(arch="s390x")
    index = images.Index([other, images.simple()])
    fresh_ctr("images", "import", images.oci_archive(index, tmp_path / "i.tar", IMAGE)).ok()
    assert fresh_ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, IMAGE, "i1", "true").ok()


def test_import_of_what_is_no_archive_fails(fresh_ctr, tmp_path):
    (tmp_path / "bad").write_bytes(os.urandom(100000))
    fresh_ctr("images", "import", tmp_path / "bad").fails()
    (tmp_path / "cut").write_bytes(images.oci_archive(images.simple(), tmp_path / "a.tar", IMAGE).read_bytes()[:50000])
    fresh_ctr("images", "import", tmp_path / "cut").fails()
    assert listed(fresh_ctr) == {}


def test_import_refuses_a_layer_that_is_not_what_its_digest_says(fresh_ctr, tmp_path):
    image = images.simple()
    image.layers[1] = _Lying(image.layers[1])
    image.make_manifest()
    fresh_ctr("images", "import", images.oci_archive(image, tmp_path / "a.tar", IMAGE)).fails()
    if fresh_ctr.transfers():
        assert IMAGE not in listed(fresh_ctr)


class _Lying(images.Blob):
    def __init__(self, honest):
        super().__init__(honest.data + b"more", honest.media_type)
        self._digest = honest.digest

    @property
    def digest(self):
        return self._digest


def export(client, path):
    """Export the ordinary image. containerd 2.3.4 now and then ends before the last bytes are through: it may try again."""
    for _ in range(5 if env.DAEMON == "containerd" else 1):
        client("images", "export", path, IMAGE).ok()
        with tarfile.open(path) as tar:
            if "index.json" in tar.getnames():
                return


def test_export_and_import_again(fresh_ctr, archive, tmp_path):
    fresh_ctr("images", "import", archive).ok()
    before = listed(fresh_ctr)[IMAGE][2]
    export(fresh_ctr, tmp_path / "out.tar")
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = tar.getnames()
        assert {"oci-layout", "index.json", "manifest.json"} <= set(names)
        index = json.load(tar.extractfile("index.json"))
        assert index["manifests"][0]["annotations"]["io.containerd.image.name"] == IMAGE
        for name in names:
            if name.startswith("blobs/sha256/") and tar.getmember(name).isfile():
                assert hashlib.sha256(tar.extractfile(name).read()).hexdigest() == name.split("/")[-1]
    fresh_ctr("images", "rm", "--sync", IMAGE).ok()
    fresh_ctr("images", "import", tmp_path / "out.tar").ok()
    assert listed(fresh_ctr)[IMAGE][2] == before
    out = fresh_ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, IMAGE, "i1", "echo", "again").ok().out
    assert out == "again\n"


def test_export_to_stdout(fresh_ctr, archive):
    fresh_ctr("images", "import", archive).ok()
    assert fresh_ctr("images", "export", "-", IMAGE).ok().raw[257:262] == b"ustar"


def test_export_of_what_is_not_there_fails(fresh_ctr, tmp_path):
    fresh_ctr("images", "export", tmp_path / "x.tar", "example.com/none:1").fails("not found")


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
@pytest.mark.parametrize("media", [images.OCI, images.DOCKER], ids=["oci", "docker"])
def test_pull(fresh_ctr, registry, runtime, compression, media):
    _skip_unknown_layer(fresh_ctr, compression, media)
    image = images.simple(compression, media)
    ref = images.push(image, registry.address, f"pull-{compression}-{'oci' if media is images.OCI else 'docker'}")
    fresh_ctr("images", "pull", "--plain-http", ref).ok()
    assert listed(fresh_ctr)[ref][1:3] == [media["manifest"], image.top.digest]
    out = fresh_ctr("run", "--rm", "--runc-binary", runtime, ref, "p1", "cat", "/etc/motd").ok().out
    assert out == "hello from the second layer\n"


def two_platforms():
    """An index of two images, each with a layer that the other has not."""
    layer = lambda name: images.tar([images.entry("etc/arch", data=name)])
    return images.Index([images.simple(arch=a, more=[layer(a)]) for a in ("s390x", images.ARCH)])


def test_pull_of_an_index_takes_this_platform(fresh_ctr, registry):
    index = two_platforms()
    ref = images.push(index, registry.address, "index")
    fresh_ctr("images", "pull", "--plain-http", ref).ok()
    assert listed(fresh_ctr)[ref][1:3] == [images.OCI["index"], index.top.digest]
    have = {row[0] for row in fresh_ctr("content", "ls").ok().rows}
    assert index.images[1].config.digest in have and index.images[0].layers[2].digest not in have


def test_pull_of_another_platform(fresh_ctr, registry):
    index = two_platforms()
    ref = images.push(index, registry.address, "index")
    fresh_ctr("images", "pull", "--plain-http", "--platform", "linux/s390x", ref).ok()
    have = {row[0] for row in fresh_ctr("content", "ls").ok().rows}
    assert index.images[0].layers[2].digest in have and index.images[1].layers[2].digest not in have


def test_pull_by_digest(fresh_ctr, registry):
    image = images.simple()
    ref = images.push(image, registry.address, "bydigest").replace(":latest", "@" + image.top.digest)
    fresh_ctr("images", "pull", "--plain-http", ref).ok()
    assert list(listed(fresh_ctr)) == [ref]


def test_pull_twice_is_cheap(fresh_ctr, plain_registry):
    registry = plain_registry()
    ref = registry.put(images.simple(), "twice")
    fresh_ctr("images", "pull", "--plain-http", ref).ok()
    blobs = registry.count("GET", "/blobs/")
    fresh_ctr("images", "pull", "--plain-http", ref).ok()
    assert registry.count("GET", "/blobs/") == blobs


def test_pull_of_what_is_not_there(fresh_ctr, registry):
    fresh_ctr("images", "pull", "--plain-http", f"{registry.address}/none:1").fails("not found")


def test_pull_from_nobody(fresh_ctr):
    fresh_ctr("images", "pull", "--plain-http", "127.0.0.1:1/none:1").fails("refused")


def test_pull_with_a_login(fresh_ctr, plain_registry):
    registry = plain_registry(login=("user", "secret"))
    ref = registry.put(images.simple(), "private")
    fresh_ctr("images", "pull", "--plain-http", ref).fails()
    fresh_ctr("images", "pull", "--plain-http", "--user", "user:wrong", ref).fails()
    fresh_ctr("images", "pull", "--plain-http", "--user", "user:secret", ref).ok()


def test_pull_refuses_a_blob_that_is_not_what_its_digest_says(fresh_ctr, plain_registry):
    registry = plain_registry()
    image = images.simple()
    ref = registry.put(image, "false")
    layer = image.layers[1]
    registry.alter[layer.digest] = layer.data[:-1] + bytes([layer.data[-1] ^ 1])
    fresh_ctr("images", "pull", "--plain-http", ref).fails()
    assert layer.digest not in {row[0] for row in fresh_ctr("content", "ls").ok().rows}


def test_pull_goes_on_where_the_connection_broke(fresh_ctr, plain_registry):
    registry = plain_registry(cut_after=300000)
    image = images.simple()
    ref = registry.put(image, "cut")
    got = fresh_ctr("images", "pull", "--plain-http", ref)
    if got.code != 0:
        # Clients that fetch by themselves give up at once; the second try goes on from what is there.
        got = fresh_ctr("images", "pull", "--plain-http", ref)
    got.ok()
    with registry.lock:
        ranges = [r for _, path, r in registry.requests if image.layers[0].digest in path and r]
    assert any(r.startswith("bytes=") and r != "bytes=0-" for r in ranges), registry.requests


def test_push_by_skopeo_and_pull(fresh_ctr, registry, tmp_path):
    if subprocess.run(["which", "skopeo"], capture_output=True, check=False).returncode:
        pytest.skip("skopeo is not installed")
    layout = images.write_layout(images.simple(), tmp_path / "layout")
    ref = images.skopeo_push(layout, registry.address, "by-skopeo")
    fresh_ctr("images", "pull", "--plain-http", ref).ok()
    assert ref in listed(fresh_ctr)


def test_mount_and_unmount(fresh_ctr, archive, tmp_path):
    fresh_ctr("images", "import", archive).ok()
    target = tmp_path / "mnt"
    target.mkdir()
    fresh_ctr("images", "mount", IMAGE, target).ok()
    assert (target / "etc/motd").read_text() == "hello from the second layer\n"
    with pytest.raises(OSError):
        (target / "new").write_text("x")
    fresh_ctr("images", "unmount", "--rm", target).ok()
    assert os.listdir(target) == []
    target = tmp_path / "rw"
    target.mkdir()
    fresh_ctr("images", "mount", "--rw", IMAGE, target).ok()
    (target / "new").write_text("x")
    fresh_ctr("images", "unmount", "--rm", target).ok()
    assert os.listdir(target) == []


def test_mount_of_what_is_not_there(fresh_ctr, tmp_path):
    fresh_ctr("images", "mount", "example.com/none:1", tmp_path).fails("not found")


def test_images_survive_a_restart(daemon, fresh_ctr, archive):
    fresh_ctr("images", "import", archive).ok()
    before = fresh_ctr("images", "ls").ok().out, fresh_ctr("snapshots", "ls").ok().out
    daemon.kill()
    daemon.start()
    assert (fresh_ctr("images", "ls").ok().out, fresh_ctr("snapshots", "ls").ok().out) == before
