# SPDX-License-Identifier: Apache-2.0
"""The Diff service by gRPC: layers applied to mounts, and made of what changed between two trees."""

import gzip
import hashlib
import io
import os
import subprocess
import tarfile

import grpc
import pytest

from harness import env
from harness.api import fails
from test_content import write_blob

Code = grpc.StatusCode
TAR = "application/vnd.oci.image.layer.v1.tar"
UNCOMPRESSED = "containerd.io/uncompressed"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def bind(path, *options):
    return {"type": "bind", "source": str(path), "options": ["rbind", *options]}


@pytest.fixture
def trees(tmp_path):
    """Two directories and the mounts for them: `lower` and, in the beginning the same, `upper`."""
    for name in ("lower", "upper"):
        (tmp_path / name / "dir").mkdir(parents=True)
        (tmp_path / name / "same").write_text("same")
        (tmp_path / name / "dir" / "gone").write_text("gone")
        (tmp_path / name / "changed").write_text("before")
        for path in (tmp_path / name).rglob("*"):
            os.utime(path, (1000000000, 1000000000))
    return tmp_path / "lower", tmp_path / "upper"


def change(upper):
    (upper / "dir" / "gone").unlink()
    (upper / "changed").write_text("and after")
    (upper / "new").symlink_to("same")


def compare(held, trees, **more):
    left, right = ([bind(t, "ro")] for t in trees)
    return held.diff.Diff(left=left, right=right, **more).diff


def blob(held, d):
    return b"".join(p.data for p in held.content.Read(digest=d))


def entries(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {m.name.rstrip("/"): m for m in archive.getmembers()}


def test_what_changed_becomes_a_layer(held, trees):
    change(trees[1])
    made = compare(held, trees)
    data = blob(held, made.digest)
    assert (made.media_type, made.size, made.digest) == (TAR + "+gzip", len(data), digest(data))
    plain = gzip.decompress(data)
    found = entries(plain)
    assert {"dir/.wh.gone", "changed", "new"} <= set(found) <= {"dir", "dir/.wh.gone", "changed", "new"}
    assert found["new"].linkname == "same" and found["changed"].size == len("and after")
    info = held.content.Info(digest=made.digest).info
    assert info.labels[UNCOMPRESSED] == digest(plain)


@pytest.mark.parametrize("kind", ["", "+gzip", "+zstd"])
def test_media_types(held, trees, kind):
    change(trees[1])
    made = compare(held, trees, media_type=TAR + kind, labels={"mine": "1"})
    assert made.media_type == TAR + kind
    data = blob(held, made.digest)
    labels = held.content.Info(digest=made.digest).info.labels
    assert labels["mine"] == "1"
    if kind == "":
        assert "changed" in entries(data)
    elif kind == "+gzip":
        assert labels[UNCOMPRESSED] == digest(gzip.decompress(data))
    else:
        plain = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
        assert labels[UNCOMPRESSED] == digest(plain)


def test_media_types_that_nobody_knows(held, trees):
    text = fails(Code.UNIMPLEMENTED, compare, held, trees, media_type="text/plain")
    assert text == "unsupported diff media type: text/plain: not implemented"


def test_two_equal_trees_make_an_empty_layer(held, trees):
    made = compare(held, trees, media_type=TAR)
    assert set(entries(blob(held, made.digest))) <= {".", ""}


def test_a_reference_names_the_ingest_and_is_used_up(held, trees):
    change(trees[1])
    first = compare(held, trees, ref="my-diff", media_type=TAR)
    assert compare(held, trees, ref="my-diff", media_type=TAR).digest == first.digest
    assert [s.ref for s in held.content.ListStatuses().statuses] == []


def test_a_date_makes_the_same_layer_of_the_same_files(held, trees):
    change(trees[1])
    epoch = {"seconds": 1234567890}
    first = compare(held, trees, media_type=TAR, source_date_epoch=epoch)
    os.utime(trees[1] / "changed")
    assert compare(held, trees, media_type=TAR, source_date_epoch=epoch).digest == first.digest
    assert max(m.mtime for m in entries(blob(held, first.digest)).values()) <= 1234567890


def test_a_diff_applied_gives_the_tree_again(held, trees, tmp_path):
    change(trees[1])
    made = compare(held, trees)
    applied = held.diff.Apply(diff=made, mounts=[bind(trees[0], "rw")], sync_fs=True).applied
    plain = gzip.decompress(blob(held, made.digest))
    assert (applied.media_type, applied.digest, applied.size) == (TAR, digest(plain), len(plain))
    assert (trees[0] / "changed").read_text() == "and after" and os.readlink(trees[0] / "new") == "same"
    assert sorted(os.listdir(trees[0] / "dir")) == [] and (trees[0] / "same").read_text() == "same"
    assert not (trees[0] / "dir" / ".wh.gone").exists()


def test_apply_to_an_overlay(held, tmp_path):
    layer = tar(**{"a": "from the layer"})
    write_blob(held, layer, "layer")
    mounts = held.snapshots.Prepare(snapshotter="overlayfs", key="k").mounts
    applied = held.diff.Apply(diff={"media_type": TAR, "digest": digest(layer), "size": len(layer)}, mounts=mounts).applied
    assert applied.digest == digest(layer)
    held.snapshots.Commit(snapshotter="overlayfs", key="k", name="c")
    top = tar(**{".wh.a": "", "b": "on top"})
    write_blob(held, top, "top")
    mounts = held.snapshots.Prepare(snapshotter="overlayfs", key="k2", parent="c").mounts
    held.diff.Apply(diff={"media_type": TAR, "digest": digest(top), "size": len(top)}, mounts=mounts)
    lower = held.snapshots.View(snapshotter="overlayfs", key="v", parent="c").mounts
    changed = held.diff.Diff(left=lower, right=mounts, media_type=TAR).diff
    assert {".wh.a", "b"} <= set(entries(blob(held, changed.digest)))


def test_apply_of_what_is_wrong(held, tmp_path):
    target = tmp_path / "t"
    target.mkdir()
    mounts = [bind(target, "rw")]
    none = {"media_type": TAR, "digest": digest(b"none"), "size": 1}
    text = fails(Code.NOT_FOUND, held.diff.Apply, diff=none, mounts=mounts)
    assert text.startswith("failed to get reader from content store: ") and "not found" in text
    junk = b"this is no archive" * 100
    write_blob(held, junk, "junk")
    for kind in (TAR, TAR + "+gzip"):
        with pytest.raises(grpc.RpcError):
            held.diff.Apply(diff={"media_type": kind, "digest": digest(junk), "size": len(junk)}, mounts=mounts)
    layer = tar(a="x")
    write_blob(held, layer, "layer")
    unknown = {"media_type": "application/x-nothing", "digest": digest(layer), "size": len(layer)}
    text = fails(Code.UNIMPLEMENTED if env.DAEMON == "skiffd" else Code.UNKNOWN, held.diff.Apply, diff=unknown, mounts=mounts)
    assert "application/x-nothing" in text
    gone = [bind(tmp_path / "not-there", "rw")]
    with pytest.raises(grpc.RpcError):
        held.diff.Apply(diff={"media_type": TAR, "digest": digest(layer), "size": len(layer)}, mounts=gone)
    with pytest.raises(grpc.RpcError):
        held.diff.Diff(left=gone, right=mounts)
    assert os.listdir(target) == []


def test_compressed_layers_are_known_by_their_bytes(held, tmp_path):
    """A media type says less than it should now and then: docker's names gzip for what is plain."""
    for name, data, kind in (
        ("a", tar(a="x"), "application/vnd.docker.image.rootfs.diff.tar.gzip"),
        ("b", gzip.compress(tar(b="x")), "application/vnd.docker.image.rootfs.diff.tar"),
    ):
        target = tmp_path / name
        target.mkdir()
        write_blob(held, data, name)
        held.diff.Apply(diff={"media_type": kind, "digest": digest(data), "size": len(data)}, mounts=[bind(target, "rw")])
        assert os.listdir(target) == [name]
