# SPDX-License-Identifier: Apache-2.0
"""What Snapshots answers by gRPC where no everyday client looks: masks, filters, targets, new parents, clean-up."""

import os

import grpc
import pytest

from harness import env
from harness.api import fails

Code = grpc.StatusCode
REF = "containerd.io/snapshot.ref"


@pytest.fixture(params=["overlayfs", "native"])
def s(request, held):
    class Bound:
        name = request.param

        def __getattr__(self, method):
            return lambda **fields: getattr(held.snapshots, method)(snapshotter=request.param, **fields)

        def committed(self, name, parent="", **more):
            self.Prepare(key=f"{name}-active", parent=parent)
            self.Commit(key=f"{name}-active", name=name, **more)

        def names(self, *filters):
            return sorted(i.name for page in self.List(filters=filters) for i in page.info)

    return Bound()


def test_stat_tells_all(s):
    s.committed("base", labels={"a": "b"})
    s.Prepare(key="k", parent="base", labels={"c": "d"})
    s.View(key="v", parent="base")
    base, active, view = (s.Stat(key=k).info for k in ("base", "k", "v"))
    assert (base.name, base.parent, base.kind, dict(base.labels)) == ("base", "", 3, {"a": "b"})
    assert (active.name, active.parent, active.kind, dict(active.labels)) == ("k", "base", 2, {"c": "d"})
    assert (view.parent, view.kind) == ("base", 1)
    assert base.created_at.ToNanoseconds() <= active.created_at.ToNanoseconds() <= view.created_at.ToNanoseconds()
    assert active.updated_at == active.created_at
    assert {i.name: i for page in s.List() for i in page.info} == {"base": base, "k": active, "v": view}


def test_lists_come_in_pages_of_a_hundred(s):
    s.committed("base")
    for i in range(230):
        s.View(key=f"v{i:03}", parent="base")
    pages = [len(page.info) for page in s.List()]
    assert pages == [100, 100, 31]
    assert s.names('name~="^v01"') == [f"v{i:03}" for i in range(10, 20)]


def test_filters(s):
    s.committed("base", labels={"color": "red", "dotted.key": "x"})
    s.Prepare(key="k", parent="base", labels={"color": "blue"})
    s.View(key="v", parent="base")
    assert s.names("kind==view") == ["v"] and s.names("kind!=view") == ["base", "k"]
    assert s.names("parent==base") == ["k", "v"]
    assert s.names('parent==""') == ["base"]
    assert s.names("labels.color") == ["base", "k"]
    assert s.names('labels."dotted.key"==x') == ["base"]
    assert s.names("labels.color~=^(red|green)$") == ["base"]
    assert s.names("labels.color!=red") == ["k", "v"]
    assert s.names("parent==base,kind==active", "name==base") == ["base", "k"]
    assert s.names("no.such.field==x") == []
    assert s.names("") == ["base", "k", "v"]


@pytest.mark.parametrize("bad", ["name==", "==x", "name=x", "name==x,,name==y", 'name=="x', "labels."])
def test_bad_filters(s, bad):
    # containerd forgets the class here, and here alone.
    text = fails(Code.INVALID_ARGUMENT if env.DAEMON == "skiffd" else Code.UNKNOWN, s.List, filters=[bad])
    assert "parse error" in text


def test_a_bad_expression_matches_nothing(s):
    s.Prepare(key="k")
    assert s.names("name~=(") == []


def test_labels_are_changed_by_mask(s):
    s.Prepare(key="k", labels={"a": "1", "b": "2"})
    first = s.Stat(key="k").info

    def update(labels, *paths):
        answer = s.Update(info={"name": "k", "labels": labels}, update_mask={"paths": paths}).info
        found = s.Stat(key="k").info
        assert found == answer and found.created_at == first.created_at
        assert found.updated_at.ToNanoseconds() > first.updated_at.ToNanoseconds()
        return dict(found.labels)

    assert update({"a": "9", "c": "3"}, "labels.c") == {"a": "1", "b": "2", "c": "3"}
    assert update({"a": "9"}, "labels.a", "labels.b") == {"a": "9", "c": "3"}
    assert update({"dotted.key": "x"}, "labels.dotted.key") == {"a": "9", "c": "3", "dotted.key": "x"}
    assert update({"only": "this"}, "labels") == {"only": "this"}
    assert s.Update(info={"name": "k", "labels": {"z": "1"}}).info.labels == {"z": "1"}
    assert update({}, "labels") == {}


def test_nothing_else_can_be_changed(s):
    s.Prepare(key="k", labels={"a": "1"})
    for path in ("name", "parent", "kind", "created_at", "label", "Labels", ""):
        text = fails(Code.INVALID_ARGUMENT, s.Update, info={"name": "k", "labels": {"a": "2"}}, update_mask={"paths": ["labels", path]})
        assert text == f'cannot update "{path}" field on snapshot "k": invalid argument'
    assert dict(s.Stat(key="k").info.labels) == {"a": "1"}
    assert fails(Code.NOT_FOUND, s.Update, info={"name": "none"}) == "snapshot none does not exist: not found"
    fails(Code.INVALID_ARGUMENT, s.Update, info={"labels": {"a": "2"}})
    fails(Code.INVALID_ARGUMENT, s.Update, info={"name": "k", "labels": {"a": "x" * 4096}}, update_mask={"paths": ["labels"]})


def test_a_target_that_is_there_answers_for_the_snapshot(s):
    """How a client asks whether a layer is there already, before it fetches it."""
    s.committed("target")
    text = fails(Code.ALREADY_EXISTS, s.Prepare, key="k", labels={REF: "target"})
    assert text == 'target snapshot "target": already exists'
    fails(Code.NOT_FOUND, s.Stat, key="k")
    s.Prepare(key="k", labels={REF: "another"})
    assert s.Stat(key="k").info.labels[REF] == "another"


def test_a_parent_that_is_named_at_the_commit(s, held):
    """Layers that were unpacked side by side get their places when all are there."""
    s.committed("base")
    s.Prepare(key="k")
    if s.name == "native":
        # A copy without its parent's files cannot get them later. containerd says that it did.
        if env.DAEMON == "skiffd":
            fails(Code.UNIMPLEMENTED, s.Commit, key="k", name="c", parent="base")
        return
    fails(Code.NOT_FOUND, s.Commit, key="k", name="c", parent="none")
    s.Commit(key="k", name="c", parent="base")
    assert s.Stat(key="c").info.parent == "base"
    assert "lowerdir=" in " ".join(s.View(key="v", parent="c").mounts[0].options)
    fails(Code.FAILED_PRECONDITION, s.Remove, key="base")


def test_names_belong_to_a_namespace_and_a_snapshotter(s, api, daemon):
    s.Prepare(key="k")
    other = "native" if s.name == "overlayfs" else "overlayfs"
    fails(Code.NOT_FOUND, api.snapshots.Stat, snapshotter=other, key="k")
    nobody = api.without_namespace()
    for call in (nobody.snapshots.Stat, nobody.snapshots.Remove, nobody.snapshots.Prepare, nobody.snapshots.Usage):
        fails(Code.FAILED_PRECONDITION, call, snapshotter=s.name, key="k")
    nobody.close()
    text = fails(Code.INVALID_ARGUMENT, api.snapshots.Stat, key="k")
    assert text.startswith("snapshotter argument missing")
    text = fails(Code.INVALID_ARGUMENT, api.snapshots.Cleanup, snapshotter="none")
    assert text.startswith("snapshotter not loaded: none")


def test_what_is_not_there(s):
    for call in (s.Stat, s.Mounts, s.Usage, s.Remove):
        assert fails(Code.NOT_FOUND, call, key="none") == "snapshot none does not exist: not found"
    fails(Code.NOT_FOUND, s.Commit, key="none", name="c")
    assert fails(Code.NOT_FOUND, s.View, key="v", parent="none") == "parent snapshot none does not exist: not found"
    s.committed("base")
    assert "not active or view" in fails(Code.FAILED_PRECONDITION, s.Mounts, key="base")


def test_usage_of_every_kind(s):
    mounts = s.Prepare(key="k").mounts
    with open(os.path.join(mounts[0].source if mounts[0].type == "bind" else "", "file"), "wb") as f:
        f.write(b"x" * 100000)
    used = s.Usage(key="k")
    assert 100000 <= used.size < 120000 and used.inodes == 2
    s.Commit(key="k", name="c")
    assert s.Usage(key="c") == used
    s.View(key="v", parent="c")
    assert s.Usage(key="v").size <= (4096 if s.name == "overlayfs" else used.size)


@pytest.mark.containerd_differs("not implemented, though its snapshotter can")
def test_cleanup_takes_what_was_removed(s, daemon):
    where = daemon.root / f"io.containerd.snapshotter.v1.{s.name}" / "snapshots"
    before = set(os.listdir(where))
    s.Prepare(key="k")
    s.Prepare(key="kept")
    new = set(os.listdir(where)) - before
    assert len(new) == 2
    s.Remove(key="k")
    s.Cleanup()
    assert len(set(os.listdir(where)) - before) == 1
    s.Mounts(key="kept")
