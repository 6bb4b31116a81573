# SPDX-License-Identifier: Apache-2.0
"""Leases: what they hold is kept, what nobody holds goes."""

import datetime

import grpc
from conftest import IMAGE

from harness import images, proc
from harness.api import fails
from test_content import write_blob

Code = grpc.StatusCode


def test_lease_commands(fresh_ctr, transcript):
    t, ctr = transcript(), fresh_ctr
    t.add("leases ls", ctr("leases", "ls"))
    t.add("leases create", ctr("leases", "create", "--id", "one"))
    t.add("leases create again", ctr("leases", "create", "--id", "one"))
    t.add("leases create with labels", ctr("leases", "create", "--id", "two", "--expires", "1h", "a=b"))
    t.add("leases ls", ctr("leases", "ls"))
    t.add("leases ls -q", ctr("leases", "ls", "-q"))
    t.add("leases ls with a filter", ctr("leases", "ls", "labels.a==b"))
    t.add("leases rm", ctr("leases", "rm", "one"))
    t.add("leases rm again", ctr("leases", "rm", "one"))
    t.add("leases rm --sync", ctr("leases", "rm", "--sync", "two"))
    t.add("leases ls", ctr("leases", "ls"))


def test_a_lease_without_an_id_gets_one(fresh_ctr):
    name = fresh_ctr("leases", "create").ok().out.strip()
    assert name and name in fresh_ctr("leases", "ls", "-q").ok().lines
    fresh_ctr("leases", "rm", name).ok()


def test_resources(api):
    api.leases.Create(id="holder")
    data = b"held by hand"
    d = images.digest(data)
    api.leases.Create(id="writer")
    write_blob(api, data, "x", metadata=(("containerd-lease", "writer"),))
    api.leases.AddResource(id="holder", resource={"id": d, "type": "content"})
    assert [(r.id, r.type) for r in api.leases.ListResources(id="holder").resources] == [(d, "content")]
    api.leases.Delete(id="writer", sync=True)
    assert api.content.Info(digest=d).info.size == len(data)
    fails(Code.NOT_FOUND, api.leases.AddResource, id="none", resource={"id": d, "type": "content"})
    fails(Code.NOT_FOUND, api.leases.ListResources, id="none")
    api.leases.DeleteResource(id="holder", resource={"id": d, "type": "content"})
    api.leases.Delete(id="holder", sync=True)
    fails(Code.NOT_FOUND, api.content.Info, digest=d)


def test_an_unknown_lease_in_the_header_is_refused(api):
    fails(Code.NOT_FOUND, write_blob, api, b"with an unknown lease", "y", metadata=(("containerd-lease", "none"),))


def test_an_expired_lease_holds_nothing(api):
    past = (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    api.leases.Create(id="old", labels={"containerd.io/gc.expire": past})
    data = b"held by an expired lease"
    write_blob(api, data, "z", metadata=(("containerd-lease", "old"),))
    api.leases.Create(id="trigger")
    api.leases.Delete(id="trigger", sync=True)
    fails(Code.NOT_FOUND, api.content.Info, digest=images.digest(data))
    assert "old" not in [l.id for l in api.leases.List().leases]


def test_what_no_lease_holds_goes_with_the_next_collection(api):
    data = b"held by nobody"
    api.leases.Create(id="a")
    write_blob(api, data, "n")
    api.leases.Delete(id="a", sync=True)
    proc.wait_until(lambda: _gone(api, data), 10, "the collection of a blob without a lease")


def _gone(api, data):
    try:
        api.content.Info(digest=images.digest(data))
    except grpc.RpcError as error:
        return error.code() == Code.NOT_FOUND
    return False


def test_labels_keep_their_children(api):
    """A root's label holds a blob, whose label holds the next."""
    api.leases.Create(id="make")
    hold = (("containerd-lease", "make"),)
    child, parent, root = b"the child", b"the parent", b"the root"
    write_blob(api, child, "1", metadata=hold)
    write_blob(api, parent, "2", {"containerd.io/gc.ref.content.0": images.digest(child)}, metadata=hold)
    labels = {"containerd.io/gc.root": "yes", "containerd.io/gc.ref.content.x": images.digest(parent)}
    write_blob(api, root, "3", labels, metadata=hold)
    api.leases.Delete(id="make", sync=True)
    for data in (child, parent, root):
        api.content.Info(digest=images.digest(data))
    api.content.Delete(digest=images.digest(root))
    api.leases.Create(id="trigger")
    api.leases.Delete(id="trigger", sync=True)
    for data in (child, parent):
        fails(Code.NOT_FOUND, api.content.Info, digest=images.digest(data))


def test_a_flat_lease_does_not_follow_labels(api):
    api.leases.Create(id="make")
    hold = (("containerd-lease", "make"),)
    child, parent = b"a flat child", b"a flat parent"
    write_blob(api, child, "1", metadata=hold)
    write_blob(api, parent, "2", {"containerd.io/gc.ref.content.0": images.digest(child)}, metadata=hold)
    api.leases.Create(id="flat", labels={"containerd.io/gc.flat": "yes"})
    api.leases.AddResource(id="flat", resource={"id": images.digest(parent), "type": "content"})
    api.leases.Delete(id="make", sync=True)
    api.content.Info(digest=images.digest(parent))
    fails(Code.NOT_FOUND, api.content.Info, digest=images.digest(child))
    api.leases.Delete(id="flat", sync=True)


def test_a_container_keeps_its_snapshot_and_image(any_ctr, image):
    any_ctr("containers", "create", image, "kept", "true").ok()
    any_ctr("leases", "create", "--id", "t").ok()
    any_ctr("leases", "rm", "--sync", "t").ok()
    assert "kept" in [row[0] for row in any_ctr("snapshots", "ls").ok().rows]
    any_ctr("containers", "rm", "kept").ok()
    assert IMAGE in any_ctr("images", "ls", "-q").ok().lines
