# SPDX-License-Identifier: Apache-2.0
"""Containers as records: made, shown, labelled, filtered, removed."""

import json

import grpc
import pytest
from conftest import ANY_RUNTIME, IMAGE, collect

from harness import api as harness_api
from harness.api import fails

Code = grpc.StatusCode


def test_container_commands(ctr, api, image, transcript):
    collect(api)  # the snapshot of a bad name that the other generation of ctr left behind
    t = transcript()
    new = ["containers", "create", *ctr.create_options(ANY_RUNTIME)]
    t.add("containers ls", ctr("containers", "ls"))
    t.add("containers create", ctr(*new, image, "c1", "true"))
    t.add("containers create again", ctr(*new, image, "c1", "true"))
    t.add("containers create with labels", ctr(*new, "--label", "a=b", "--label", "c=d", image, "c2", "true"))
    t.add("containers create with a bad name", ctr(*new, image, "not/a/name", "true"))
    t.add("containers create of an image that is not there", ctr(*new, "example.com/none:1", "c3", "true"))
    t.add("containers ls", ctr("containers", "ls"))
    t.add("containers ls -q", ctr("containers", "ls", "-q"))
    t.add("containers ls with a filter", ctr("containers", "ls", "labels.a==b"))
    t.add("containers label", ctr("containers", "label", "c1", "x=y"))
    t.add("containers label removes", ctr("containers", "label", "c2", "a="), change=_own_labels)
    t.add("containers info of what is not there", ctr("containers", "info", "none"))
    t.add("containers label of what is not there", ctr("containers", "label", "none", "a=b"))
    t.add("containers rm", ctr("containers", "rm", "c1", "c2"))
    t.add("containers rm again", ctr("containers", "rm", "c1"))
    t.add("containers ls", ctr("containers", "ls"))


def _own_labels(text):
    return text


def test_info(ctr, image, transcript):
    t = transcript()
    ctr("containers", "create", "--env", "A=b", "--label", "one=1", image, "c1", "sleep", "5").ok()
    got = ctr("containers", "info", "c1").ok()
    info = json.loads(got.out)
    assert info["ID"] == "c1" and info["Image"] == IMAGE and info["SnapshotKey"] == "c1"
    assert info["Labels"]["one"] == "1" and info["Runtime"]["Name"] == "io.containerd.runc.v2"
    assert info["Spec"]["process"]["args"] == ["sleep", "5"] and "A=b" in info["Spec"]["process"]["env"]
    record = {k: v for k, v in info.items() if k not in ("Spec", "Runtime")}
    got.out = json.dumps(record, indent=1, sort_keys=True)
    t.add("containers info", got)
    ctr("containers", "rm", "c1").ok()


def test_the_stored_spec_stays_as_it_came(api, any_ctr, image):
    """Even where the OCI runtime is given another version, the record is the client's."""
    any_ctr("containers", "create", image, "c1", "true").ok()
    container = api.containers.Get(id="c1").container
    assert container.spec.type_url.startswith("types.containerd.io/opencontainers/runtime-spec/")
    spec = json.loads(container.spec.value)
    any_ctr("tasks", "start", "c1").ok()
    assert json.loads(api.containers.Get(id="c1").container.spec.value) == spec
    any_ctr("containers", "rm", "c1").ok()


def _create(api, cid, **more):
    spec = {"type_url": "types.containerd.io/opencontainers/runtime-spec/1/Spec", "value": b"{}"}
    return api.containers.Create(container={"id": cid, "runtime": {"name": "io.containerd.runc.v2"}, "spec": spec, **more}).container


def test_records_through_the_api(api):
    made = _create(api, "r1", labels={"a": "1"}, image="some")
    assert made.created_at.seconds > 0 and made.created_at == made.updated_at
    fails(Code.ALREADY_EXISTS, _create, api, "r1")
    assert "namespace" not in made.DESCRIPTOR.fields_by_name
    fails(Code.NOT_FOUND, api.containers.Get, id="none")
    fails(Code.NOT_FOUND, api.containers.Delete, id="none")
    for bad in ("", "a/b", "..", "x" * 100, "-a"):
        fails(Code.INVALID_ARGUMENT, _create, api, bad)
    fails(Code.INVALID_ARGUMENT, api.containers.Create, container={"id": "r2", "runtime": {"name": ""}})
    changed = api.containers.Update(container={"id": "r1", "labels": {"b": "2"}}, update_mask={"paths": ["labels.b"]}).container
    assert dict(changed.labels) == {"a": "1", "b": "2"}
    assert changed.updated_at.ToNanoseconds() > made.updated_at.ToNanoseconds()
    fails(Code.INVALID_ARGUMENT, api.containers.Update, container={"id": "r1"}, update_mask={"paths": ["runtime"]})
    fails(Code.NOT_FOUND, api.containers.Update, container={"id": "none"}, update_mask={"paths": ["labels"]})
    api.containers.Delete(id="r1")


def test_extensions_are_kept_as_they_are(api):
    value = harness_api.message("google.protobuf.Any")(type_url="example.com/thing", value=b"\x00\xff\x01")
    _create(api, "e1", extensions={"x": value})
    found = api.containers.Get(id="e1").container.extensions["x"]
    assert (found.type_url, found.value) == ("example.com/thing", b"\x00\xff\x01")
    api.containers.Delete(id="e1")


def test_list_stream_and_filters(api):
    for i in range(30):
        _create(api, f"s{i:02}", labels={"even": "yes" if i % 2 == 0 else "no"}, image=f"image{i % 3}")
    everything = [m.container.id for m in api.containers.ListStream()]
    assert sorted(everything) == [f"s{i:02}" for i in range(30)]
    assert sorted(c.id for c in api.containers.List().containers) == sorted(everything)
    some = [m.container.id for m in api.containers.ListStream(filters=["labels.even==yes,image==image0"])]
    assert sorted(some) == [f"s{i:02}" for i in range(0, 30, 6)]
    either = [c.id for c in api.containers.List(filters=["id==s03", "id~=^s0[12]$"]).containers]
    assert sorted(either) == ["s01", "s02", "s03"]
    assert [c.id for c in api.containers.List(filters=["runtime.name==none"]).containers] == []
    fails(Code.INVALID_ARGUMENT, api.containers.List, filters=["id=="])
    for cid in everything:
        api.containers.Delete(id=cid)


def test_labels_have_a_limit(api):
    long = "x" * 4096
    with pytest.raises(grpc.RpcError) as error:
        _create(api, "l1", labels={"key": long})
    assert error.value.code() == Code.INVALID_ARGUMENT
