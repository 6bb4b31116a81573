# SPDX-License-Identifier: Apache-2.0
"""Namespaces: made, labelled, listed, removed; and that they keep things apart."""

import grpc

from harness.api import fails


def test_namespaces(ctr, daemon, transcript):
    t = transcript()
    one, two = daemon.namespace_of_its_own("one"), daemon.namespace_of_its_own("two")
    t.add("namespaces create one", ctr("namespaces", "create", one))
    t.add("namespaces create one again", ctr("namespaces", "create", one))
    t.add("namespaces create two with labels", ctr("namespaces", "create", two, "a=b", "c=d"))
    t.add("namespaces create with a bad name", ctr("namespaces", "create", "not/a/name"))
    t.add("namespaces create without a name", ctr("namespaces", "create", ""))
    mine = lambda text: "\n".join(line for line in text.splitlines() if line.startswith(("NAME", "NS-", "!")))
    t.add("namespaces ls", ctr("namespaces", "ls"), change=mine)
    t.add("namespaces label", ctr("namespaces", "label", one, "x=y"))
    t.add("namespaces label removes", ctr("namespaces", "label", two, "a=", "e=f"))
    t.add("namespaces ls", ctr("namespaces", "ls"), change=mine)
    t.add("namespaces ls -q", ctr("namespaces", "ls", "-q"), change=lambda s: "\n".join(x for x in s.splitlines() if "NS-" in x))
    t.add("namespaces rm", ctr("namespaces", "rm", one, two))
    t.add("namespaces rm again", ctr("namespaces", "rm", one))


def test_a_namespace_in_use_is_not_removed(ctr, daemon, transcript, archive):
    t = transcript()
    name = daemon.namespace_of_its_own("used")
    other = type(ctr)(ctr.generation, daemon, name)
    other("images", "import", archive).ok()
    t.add("namespaces rm", ctr("namespaces", "rm", name), change=lambda s: s)
    other("images", "rm", "--sync", "example.com/simple:1").ok()
    ctr("namespaces", "rm", name).ok()


def test_images_of_another_namespace_are_not_seen(any_ctr, daemon, image):
    name = daemon.namespace_of_its_own("other")
    other = type(any_ctr)(any_ctr.generation, daemon, name)
    assert other("images", "ls", "-q").ok().out == ""
    other("images", "tag", image, "x").fails("not found")


def test_calls_without_a_namespace_are_refused(api):
    bare = api.without_namespace()
    text = fails(grpc.StatusCode.FAILED_PRECONDITION, bare.containers.List)
    assert "namespace is required" in text
    assert "namespace is required" in fails(grpc.StatusCode.FAILED_PRECONDITION, bare.images.Get, name="x")
    bare.version.Version()
    bare.namespaces.List()


def test_namespace_update_with_a_mask(api, daemon):
    name = daemon.namespace_of_its_own("mask")
    api.namespaces.Create(namespace={"name": name, "labels": {"a": "1", "b": "2"}})
    request = api.namespaces.Update.request()
    request.namespace.name = name
    request.namespace.labels["a"] = "9"
    request.update_mask.paths.append("labels.a")
    api.namespaces.Update(request)
    found = api.namespaces.Get(name=name).namespace
    assert dict(found.labels) == {"a": "9", "b": "2"}
    api.namespaces.Delete(name=name)
    assert name not in [n.name for n in api.namespaces.List().namespaces]
