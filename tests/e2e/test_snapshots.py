# SPDX-License-Identifier: Apache-2.0
"""Snapshots by ctr and by the API, for both built-in drivers."""

import os
import re
import subprocess

import grpc
import pytest

from conftest import IMAGE

from harness.api import fails

Code = grpc.StatusCode
DRIVERS = ["overlayfs", "native"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_snapshot_commands(fresh_ctr, archive, transcript, driver, daemon):
    t, ctr = transcript(), fresh_ctr
    s = ["snapshots", "--snapshotter", driver]
    t.add("snapshots ls", ctr(*s, "ls"))
    t.add("snapshots prepare", ctr(*s, "prepare", "k1"))
    t.add("snapshots prepare again", ctr(*s, "prepare", "k1"))
    t.add("snapshots prepare on a parent that is not there", ctr(*s, "prepare", "k2", "none"))
    t.add("snapshots mounts", ctr(*s, "mounts", "/target", "k1"), change=_numbers)
    t.add("snapshots mounts of what is not there", ctr(*s, "mounts", "/target", "none"))
    t.add("snapshots commit", ctr(*s, "commit", "c1", "k1"))
    t.add("snapshots commit of what is not there", ctr(*s, "commit", "c2", "k1"))
    t.add("snapshots prepare on it", ctr(*s, "prepare", "k2", "c1"))
    # A view by ctr is held by nothing: this keeps the collector from taking it in the middle of the test.
    t.add("snapshots label", ctr(*s, "label", "c1", f"containerd.io/gc.ref.snapshot.{driver}=v1"))
    t.add("snapshots view on it", ctr(*s, "view", "v1", "c1"))
    t.add("snapshots mounts of a child", ctr(*s, "mounts", "/target", "k2"), change=_numbers)
    t.add("snapshots mounts of a view", ctr(*s, "mounts", "/target", "v1"), change=_numbers)
    t.add("snapshots ls", ctr(*s, "ls"))
    t.add("snapshots tree", ctr(*s, "tree"))
    t.add("snapshots info", ctr(*s, "info", "k2"))
    t.add("snapshots info of what is not there", ctr(*s, "info", "none"))
    t.add("snapshots label", ctr(*s, "label", "c1", "a=b"))
    t.add("snapshots label removes", ctr(*s, "label", "c1", "a="))
    t.add("snapshots usage", ctr(*s, "usage", "-b", "k2"), columns=(0, 2))
    t.add("snapshots rm of what has children", ctr(*s, "rm", "c1"))
    t.add("snapshots rm", ctr(*s, "rm", "k2", "v1"))
    t.add("snapshots rm again", ctr(*s, "rm", "k2"))
    t.add("snapshots rm of the last", ctr(*s, "rm", "c1"))
    t.add("snapshots ls", ctr(*s, "ls"))


def _numbers(text):
    # index=off is there where the kernel has that option of overlay.
    return re.sub(r"(/snapshots/)\d+", r"\1N", text).replace(",index=off", "").replace("index=off,", "")


def test_snapshots_of_an_image(fresh_ctr, archive, transcript):
    t, ctr = transcript(), fresh_ctr
    ctr("images", "import", archive).ok()
    t.add("snapshots tree", ctr("snapshots", "tree"))
    t.add("snapshots ls", ctr("snapshots", "ls"), sort="table")


def test_unknown_snapshotter(fresh_ctr):
    fresh_ctr("snapshots", "--snapshotter", "none", "ls").fails("not loaded", "none")


@pytest.fixture(params=DRIVERS)
def snapshots(request, api, tmp_path):
    """The service, bound to one driver, and a way to work inside of a snapshot's mounts."""
    api.leases.Create(id="snapshots")
    yield Snapshots(api, request.param, tmp_path)
    api.leases.Delete(id="snapshots", sync=True)


class Snapshots:
    def __init__(self, api, driver, tmp_path):
        self.api, self.driver, self.target = api, driver, tmp_path / "mnt"
        self.target.mkdir()

    def __getattr__(self, name):
        call = getattr(self.api.snapshots, name)

        def with_driver(**fields):
            # Held by a lease: what nobody holds may be collected at any moment.
            return call(snapshotter=self.driver, metadata=(("containerd-lease", "snapshots"),), **fields)

        return with_driver

    def inside(self, mounts, work):
        """Mount as a client does, in its own view of the machine, and work there."""
        for m in mounts:
            options = [o for o in m.options if o not in ("rbind", "ro", "rw")]
            flags = ["--rbind"] if "rbind" in m.options else ["-t", m.type]
            both = options + [o for o in m.options if o in ("ro",)]
            subprocess.run(["mount", *flags, *(["-o", ",".join(both)] if both else []), m.source, self.target], check=True)
        try:
            return work(self.target)
        finally:
            for _ in mounts:
                subprocess.run(["umount", self.target], check=True)


def test_layers_are_stacked(snapshots):
    s = snapshots

    def first(d):
        (d / "a").write_text("from one")
        (d / "b").write_text("from one")

    def second(d):
        assert (d / "a").read_text() == "from one"
        (d / "a").write_text("from two")
        (d / "b").unlink()

    s.inside(s.Prepare(key="a1").mounts, first)
    s.Commit(key="a1", name="one")
    s.inside(s.Prepare(key="a2", parent="one").mounts, second)
    s.Commit(key="a2", name="two")
    s.inside(s.View(key="v1", parent="one").mounts, lambda d: (d / "b").read_text() == "from one" or 1 / 0)
    view = s.View(key="v2", parent="two").mounts
    assert s.inside(view, lambda d: ((d / "a").read_text(), os.path.exists(d / "b"))) == ("from two", False)
    with pytest.raises(OSError):
        s.inside(view, lambda d: (d / "new").write_text("x"))
    for key in ("v1", "v2", "two", "one"):
        s.Remove(key=key)


def test_states_and_their_errors(snapshots):
    s = snapshots
    s.Prepare(key="k")
    fails(Code.ALREADY_EXISTS, s.Prepare, key="k")
    fails(Code.NOT_FOUND, s.Prepare, key="x", parent="none")
    fails(Code.NOT_FOUND, s.Stat, key="none")
    fails(Code.NOT_FOUND, s.Mounts, key="none")
    fails(Code.NOT_FOUND, s.Remove, key="none")
    s.Commit(key="k", name="c")
    fails(Code.NOT_FOUND, s.Commit, key="k", name="d")
    s.Prepare(key="k2", parent="c")
    fails(Code.ALREADY_EXISTS, s.Commit, key="k2", name="c")
    fails(Code.INVALID_ARGUMENT, s.Prepare, key="k3", parent="k2")
    s.View(key="v", parent="c")
    if s.driver == "overlayfs":
        fails(Code.FAILED_PRECONDITION, s.Commit, key="v", name="e")
    text = fails(Code.FAILED_PRECONDITION, s.Remove, key="c")
    assert "cannot remove snapshot with child" in text
    kinds = {i.name: i.kind for p in s.List() for i in p.info if i.name in ("k2", "v", "c")}
    assert kinds == {"k2": 2, "v": 1, "c": 3}
    for key in ("k2", "v", "c"):
        s.Remove(key=key)


def test_usage_counts_what_was_written(snapshots):
    s = snapshots
    s.inside(s.Prepare(key="u").mounts, lambda d: (d / "file").write_bytes(b"x" * 1000000))
    used = s.Usage(key="u")
    assert 1000000 <= used.size < 1100000 and used.inodes == 2
    s.Commit(key="u", name="uc")
    assert s.Usage(key="uc").size == used.size
    s.Prepare(key="u2", parent="uc")
    if s.driver == "overlayfs":
        assert s.Usage(key="u2").size < 100000
    for key in ("u2", "uc"):
        s.Remove(key=key)


def test_labels_and_filters(snapshots):
    s = snapshots
    s.Prepare(key="l1", labels={"color": "red"})
    s.Prepare(key="l2", labels={"color": "blue"})
    names = lambda *f: sorted(i.name for p in s.List(filters=f) for i in p.info)
    assert names("labels.color==red") == ["l1"]
    assert names("kind==active,labels.color!=red,name~=^l") == ["l2"]
    assert names("name==l1", "name==l2") == ["l1", "l2"]
    info = s.Stat(key="l1").info
    info.labels["size"] = "big"
    changed = s.Update(info=info, update_mask={"paths": ["labels.size"]}).info
    assert dict(changed.labels) == {"color": "red", "size": "big"}
    fails(Code.INVALID_ARGUMENT, s.Update, info=info, update_mask={"paths": ["kind"]})
    for key in ("l1", "l2"):
        s.Remove(key=key)


def test_a_lease_keeps_a_snapshot_and_its_end_frees_it(snapshots, daemon):
    s, api = snapshots, snapshots.api
    api.leases.Create(id="hold")
    api.snapshots.Prepare(snapshotter=s.driver, key="held", metadata=(("containerd-lease", "hold"),))
    s.Stat(key="held")
    api.leases.Delete(id="hold", sync=True)
    fails(Code.NOT_FOUND, s.Stat, key="held")


def test_directories_go_with_their_snapshots(snapshots, daemon):
    s = snapshots
    where = daemon.root / f"io.containerd.snapshotter.v1.{s.driver}" / "snapshots"
    before = len(os.listdir(where)) if where.exists() else 0
    s.Prepare(key="dir")
    assert len(os.listdir(where)) == before + 1
    s.Remove(key="dir")
    s.api.leases.Create(id="collect")
    s.api.leases.Delete(id="collect", sync=True)
    s.Cleanup()  # a removal answers before its directory is gone
    assert len(os.listdir(where)) == before
