# SPDX-License-Identifier: Apache-2.0
"""A full disk: each call that needs room says so in the words that clients know, the others work on, and room that is
freed is used again."""

import os
import subprocess
import tempfile

import pytest
from conftest import best_ctr

from harness import images
from harness.api import Api

FULL = "no space left on device"


@pytest.fixture
def small_disk():
    where = tempfile.mkdtemp(prefix="skiff-disk-")  # a short name: shims' sockets lie below
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=755", "tmpfs", where], check=True)
    yield where
    subprocess.run(["umount", where], check=True)
    os.rmdir(where)


def test_ingest_into_a_full_disk(small_disk, own_daemon):
    daemon = own_daemon(base=small_disk)
    ctr = best_ctr(daemon)
    got = ctr("content", "ingest", "big", stdin=os.urandom(32 << 20))
    assert got.code != 0 and FULL in got.err, got.err
    assert ctr("content", "active").ok().lines[1].startswith("big")

    with Api(daemon) as api:
        api.content.Abort(ref="big")
    small = os.urandom(1 << 20)
    ctr("content", "ingest", "small", stdin=small).ok()
    assert images.digest(small) in ctr("content", "ls", "-q").ok().lines


def test_a_layer_that_does_not_fit(small_disk, own_daemon, tmp_path):
    """Compressed it fits, unpacked it does not: the import fails, and leaves neither image nor snapshot nor directory."""
    daemon = own_daemon(base=small_disk)
    ctr = best_ctr(daemon)
    layers = [images.base_layer(), images.tar([images.entry("zeros", data=bytes(32 << 20))])]
    images.oci_archive(images.Image(layers), tmp_path / "big.tar", "example.com/big:latest")
    got = ctr("images", "import", tmp_path / "big.tar")
    assert got.code != 0 and FULL in got.err, got.err
    with Api(daemon) as api:
        assert not [s for page in api.snapshots.List(snapshotter="overlayfs") for s in page.info if s.kind == 2]

        images.oci_archive(images.simple(), tmp_path / "small.tar", "example.com/small:latest")
        ctr("images", "import", tmp_path / "small.tar").ok()
        assert ctr("run", "--rm", "example.com/small:latest", "c1", "echo", "works").ok().out == "works\n"
