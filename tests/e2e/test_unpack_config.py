# SPDX-License-Identifier: Apache-2.0
"""How images are unpacked, as the configuration has it: how many layers at once, and by which snapshotters."""

import os
import subprocess
import threading

import pytest
from conftest import IMAGE

from harness import env, images, proc
from harness.api import Api
from harness.clients import PrivateSkiff, finish
from harness.images import entry

pytestmark = [
    pytest.mark.skiff_only,
    pytest.mark.skipif(not env.skiff_program("skiff"), reason="skiff is not built"),
]
TABLE = "[plugins.'io.containerd.transfer.v1.local']\n"


def layered():
    """Layers that remove what lower ones have, and put files into directories that only lower ones describe."""
    return images.Image([
        images.tar([
            entry(".", "dir", mode=0o751, uid=11, gid=12), entry("d", "dir", mode=0o710, uid=7, gid=8), entry("d/old", data="old"),
            entry("opaque", "dir"), entry("opaque/old", data="old"), entry("gone", data="x"), entry("replaced", "dir"),
        ]),
        images.tar([entry("d/one", data="1"), entry(".wh.gone"), entry("opaque", "dir"), entry("opaque/.wh..wh..opq"), entry("null", "char", device=(1, 3))]),
        images.tar([entry("d/sub/two", data=os.urandom(400_000)), entry("replaced", data="now a file"), entry("new/dir/file", data="3")]),
        images.tar([entry("d/sub/three", data="3"), entry("new/dir/.wh.file"), entry("link", "symlink", link="d/one")]),
    ])


def layers(daemon):
    """The committed snapshots' own files, from the bottom up, as `find` shows them."""
    with Api(daemon, daemon.namespace) as api:
        infos = {i.name: i for answer in api.snapshots.List(snapshotter="overlayfs") for i in answer.info}
        parents, key, found = {i.parent: name for name, i in infos.items()}, "", []
        while key in parents:
            key = parents[key]
            api.snapshots.View(snapshotter="overlayfs", key="look", parent=key)
            mount = api.snapshots.Mounts(snapshotter="overlayfs", key="look").mounts[0]
            lower = [o.removeprefix("lowerdir=").split(":")[0] for o in mount.options if o.startswith("lowerdir=")]
            top = lower[0] if lower else mount.source
            listed = subprocess.run(["find", top, "-printf", "%P %y %m %U %G %l\n"], check=True, capture_output=True, text=True)
            opaque = [p for p, _, _ in os.walk(top) if "trusted.overlay.opaque" in os.listxattr(p)]
            found.append(sorted([*listed.stdout.splitlines(), *(os.path.relpath(p, top) + " opaque" for p in opaque)]))
            api.snapshots.Remove(snapshotter="overlayfs", key="look")
    return found


def test_side_by_side_gives_what_one_after_the_other_gives(own_daemon, tmp_path):
    archive = images.oci_archive(layered(), tmp_path / "image.tar", IMAGE)
    found = []
    for at_once in (1, 4):
        daemon = own_daemon(more_config=TABLE + f"max_concurrent_unpacks = {at_once}\n")
        PrivateSkiff(daemon)("import", "-q", str(archive)).ok()
        found.append(layers(daemon))
    assert len(found[0]) == 4 and any("opaque opaque" in line for line in found[0][1])
    assert found[0] == found[1]


def test_upper_layers_are_unpacked_while_lower_ones_are_still_on_their_way(own_daemon, plain_registry):
    gate, image = threading.Event(), layered()
    registry = plain_registry(delay=lambda path: image.layers[0].digest in path and gate.wait(20))
    daemon = own_daemon()
    child = PrivateSkiff(daemon).start("pull", "-q", "--plain-http", registry.put(image, "early"))
    try:
        proc.wait_until(lambda: daemon.snapshots("fs/d/sub/two"), 20, "the third layer's file")
        with Api(daemon, daemon.namespace) as api:
            kinds = [i.kind for answer in api.snapshots.List(snapshotter="overlayfs") for i in answer.info]
        assert kinds and set(kinds) == {2}  # active: nothing is committed before what is below it
    finally:
        gate.set()
    code, _, err = finish(child)
    assert code == 0, err
    assert len(layers(daemon)) == 4


def test_an_image_is_unpacked_where_the_configuration_says(own_daemon, tmp_path):
    more = "[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\nplatform = 'linux'\nsnapshotter = 'native'\n"
    daemon = own_daemon(more_config=more)
    skiff = PrivateSkiff(daemon)
    archive = images.oci_archive(images.simple(), tmp_path / "image.tar", IMAGE)

    def count(name):
        with Api(daemon, daemon.namespace) as api:
            return sum(len(answer.info) for answer in api.snapshots.List(snapshotter=name))

    skiff("import", "-q", str(archive))
    assert (count("overlayfs"), count("native")) == (0, 0)
    skiff("import", "-q", "--snapshotter", "native", str(archive)).ok()
    assert (count("overlayfs"), count("native")) == (0, 2)


@pytest.mark.parametrize(
    "line, reason",
    [("snapshotter = 'none'", 'snapshotter "none" not found'), ("snapshotter = 'native'\ndiffer = 'other'", 'diff plugin "other"'), ("snapshotter = 'native'\nplatform = '/'", "invalid")],
    ids=["snapshotter", "differ", "platform"],
)
def test_what_cannot_be_is_told(own_daemon, line, reason):
    platform = "" if "platform" in line else "platform = 'linux'\n"
    daemon = own_daemon(more_config=f"[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\n{platform}{line}\n")
    with Api(daemon, daemon.namespace) as api:
        plugins = api.introspection.Plugins(filters=["id==local"]).plugins
    assert [reason in p.init_err.message for p in plugins if p.type.endswith("transfer.v1")] == [True]
