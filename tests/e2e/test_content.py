# SPDX-License-Identifier: Apache-2.0
"""The content store: blobs written in pieces, checked, listed, labelled, read in ranges, removed."""

import os
import threading

import grpc
import pytest

from conftest import IMAGE

from harness import images
from harness.api import fails

STAT, WRITE, COMMIT = 0, 1, 2
Code = grpc.StatusCode


def test_content_commands(fresh_ctr, transcript, registry, tmp_path):
    t, ctr = transcript(), fresh_ctr
    data = b"some content\n"
    digest = images.digest(data)
    t.add("content ls", ctr("content", "ls"))
    t.add("content ingest", ctr("content", "ingest", "ref1", stdin=data))
    t.add("content ingest again", ctr("content", "ingest", "ref1", stdin=data))
    t.add("content ingest --expected-digest", ctr("content", "ingest", "--expected-digest", digest, "ref2", stdin=data))
    t.add("content ingest with the wrong digest", ctr("content", "ingest", "--expected-digest", images.digest(b"x"), "ref3", stdin=data))
    t.add("content ingest with the wrong size", ctr("content", "ingest", "--expected-size", "5", "ref4", stdin=data + b"x"))
    t.add("content ls", ctr("content", "ls"), change=_without_age)
    t.add("content ls -q", ctr("content", "ls", "-q"))
    t.add("content get", ctr("content", "get", digest))
    t.add("content get of what is not there", ctr("content", "get", images.digest(b"none")))
    t.add("content get of no digest", ctr("content", "get", "none"))
    t.add("content label", ctr("content", "label", digest, "a=b"))
    t.add("content ls with labels", ctr("content", "ls"), change=_without_age)
    t.add("content label removes", ctr("content", "label", digest, "a="))
    t.add("content active", ctr("content", "active"), change=_without_age)
    t.add("content rm", ctr("content", "rm", digest))
    t.add("content rm again", ctr("content", "rm", digest))
    image = images.simple()
    ref = images.push(image, registry.address, "content")
    got = ctr("content", "fetch", "--plain-http", ref)
    got.ok()
    assert {row[0] for row in ctr("content", "ls").ok().rows} == {b.digest for b in (*image.blobs, *image.manifests)}
    t.add("images ls after content fetch", ctr("images", "ls"))
    t.add("images check after content fetch", ctr("images", "check"))
    t.add("content get of a manifest", ctr("content", "get", image.top.digest))
    t.add("content fetch of what is not there", ctr("content", "fetch", "--plain-http", f"{registry.address}/nothing:1"), change=_last)


def _without_age(text):
    return "\n".join(line for line in text.splitlines())


def _last(text):
    return "\n".join(line for line in text.splitlines()[-1:] if "ctr:" in line)


def writes(api, *actions, metadata=()):
    """Send these over one Write stream and return the answers."""
    request = api.content.Write.request
    return list(api.content.Write(iter([request(**a) for a in actions]), metadata=metadata))


def write_blob(api, data, ref="r", labels=None, metadata=()):
    d = images.digest(data)
    return writes(
        api,
        dict(action=WRITE, ref=ref, total=len(data), expected=d, data=data),
        dict(action=COMMIT, offset=len(data), total=len(data), expected=d, labels=labels or {}),
        metadata=metadata,
    )


def lease(api, name):
    api.leases.Create(id=name)
    return (("containerd-lease", name),)


def read(api, digest, offset=0, size=0):
    return b"".join(p.data for p in api.content.Read(digest=digest, offset=offset, size=size))


def test_write_commit_read(api):
    hold = lease(api, "write")
    data = os.urandom(3 << 20)
    d = images.digest(data)
    pieces = [dict(action=WRITE, ref="big", offset=i, data=data[i : i + 500000]) for i in range(0, len(data), 500000)]
    answers = writes(api, dict(action=STAT, ref="big"), *pieces, dict(action=COMMIT, offset=len(data), total=len(data), expected=d), metadata=hold)
    assert answers[-1].digest == d and answers[-1].offset == len(data)
    info = api.content.Info(digest=d).info
    assert (info.digest, info.size) == (d, len(data))
    assert read(api, d) == data
    assert read(api, d, 5) == data[5:]
    assert read(api, d, 1000000, 7) == data[1000000:1000007]
    fails(Code.OUT_OF_RANGE, api.content.Read, digest=d, offset=len(data) + 1)
    api.leases.Delete(id="write", sync=True)
    fails(Code.NOT_FOUND, api.content.Info, digest=d)


def test_a_write_of_what_is_there_is_refused_at_once(api):
    hold = lease(api, "there")
    data = b"known content"
    write_blob(api, data, "one", metadata=hold)
    fails(Code.ALREADY_EXISTS, writes, api, dict(action=STAT, ref="two", total=len(data), expected=images.digest(data)), metadata=hold)
    api.leases.Delete(id="there", sync=True)


def test_wrong_digests_and_sizes_are_refused(api):
    data = b"some data"
    wrong = images.digest(b"other")
    text = fails(Code.FAILED_PRECONDITION, writes, api, dict(action=WRITE, ref="w1", data=data), dict(action=COMMIT, offset=len(data), total=len(data), expected=wrong))
    assert "unexpected commit digest" in text
    text = fails(Code.FAILED_PRECONDITION, writes, api, dict(action=WRITE, ref="w2", data=data), dict(action=COMMIT, offset=len(data), total=4))
    assert "unexpected commit size" in text or "failed size validation" in text
    fails(Code.INVALID_ARGUMENT, api.content.Info, digest="nonsense")
    fails(Code.INVALID_ARGUMENT, api.content.Info, digest="sha256:../../../etc/passwd")
    for ref in ("w1", "w2"):
        try:
            api.content.Abort(ref=ref)
        except grpc.RpcError as error:
            assert error.code() == Code.NOT_FOUND


def test_an_interrupted_write_is_resumed(api):
    hold = lease(api, "resume")
    data = os.urandom(1 << 20)
    d = images.digest(data)
    writes(api, dict(action=WRITE, ref="half", total=len(data), expected=d, data=data[:400000]), metadata=hold)
    status = api.content.Status(ref="half").status
    assert (status.ref, status.offset, status.total) == ("half", 400000, len(data))
    assert [s.ref for s in api.content.ListStatuses().statuses] == ["half"]
    answers = writes(
        api,
        dict(action=STAT, ref="half", total=len(data), expected=d),
        dict(action=WRITE, ref="half", offset=400000, data=data[400000:]),
        dict(action=COMMIT, offset=len(data), total=len(data), expected=d),
        metadata=hold,
    )
    assert answers[0].offset == 400000
    assert read(api, d) == data
    assert list(api.content.ListStatuses().statuses) == []
    api.leases.Delete(id="resume", sync=True)


def test_an_aborted_write_is_gone(api):
    writes(api, dict(action=WRITE, ref="gone", data=b"x" * 1000))
    api.content.Abort(ref="gone")
    fails(Code.NOT_FOUND, api.content.Status, ref="gone")
    fails(Code.NOT_FOUND, api.content.Abort, ref="gone")


def test_two_writers_of_one_ref_are_kept_apart(api):
    started, done = threading.Event(), threading.Event()
    request = api.content.Write.request

    def slow():
        yield request(action=WRITE, ref="locked", data=b"x")
        started.set()
        done.wait(20)

    stream = api.content.Write(slow())
    next(stream)
    started.wait(20)
    text = fails(Code.UNAVAILABLE, writes, api, dict(action=STAT, ref="locked"))
    assert "locked" in text
    done.set()
    list(stream)
    api.content.Abort(ref="locked")


def test_labels_and_field_masks(api):
    hold = lease(api, "labels")
    data = b"labelled"
    d = images.digest(data)
    write_blob(api, data, "l", {"a": "1", "b": "2"}, metadata=hold)
    request = api.content.Update.request()
    request.info.digest = d
    request.info.labels["a"] = "9"
    request.update_mask.paths.append("labels.a")
    assert dict(api.content.Update(request).info.labels) == {"a": "9", "b": "2"}
    request = api.content.Update.request()
    request.info.digest = d
    request.info.labels["c"] = "3"
    request.update_mask.paths.append("labels")
    assert dict(api.content.Update(request).info.labels) == {"c": "3"}
    request.update_mask.paths[:] = ["size"]
    fails(Code.INVALID_ARGUMENT, api.content.Update, request)
    found = [i.digest for p in api.content.List(filters=["labels.c==3"]) for i in p.info]
    assert found == [d]
    assert [i.digest for p in api.content.List(filters=["labels.c==4"]) for i in p.info] == []
    fails(Code.INVALID_ARGUMENT, api.content.List, filters=["labels.c=="])
    api.leases.Delete(id="labels", sync=True)


def test_delete(api):
    hold = lease(api, "delete")
    data = b"to delete"
    write_blob(api, data, "d", metadata=hold)
    api.content.Delete(digest=images.digest(data))
    fails(Code.NOT_FOUND, api.content.Info, digest=images.digest(data))
    fails(Code.NOT_FOUND, api.content.Delete, digest=images.digest(data))
    fails(Code.NOT_FOUND, api.content.Read, digest=images.digest(data))
    api.leases.Delete(id="delete", sync=True)


def test_content_is_shared_between_namespaces_only_by_whoever_has_it(api, daemon):
    """Another namespace does not see a blob until it writes the same digest; then no byte is sent again."""
    from harness.api import Api

    hold = lease(api, "share")
    data = b"shared between two"
    d = images.digest(data)
    write_blob(api, data, "s", metadata=hold)
    name = daemon.namespace_of_its_own("share")
    with Api(daemon, name) as other:
        fails(Code.NOT_FOUND, other.content.Info, digest=d)
        held = lease(other, "share")
        write_blob(other, data, "s", metadata=held)
        assert other.content.Info(digest=d).info.size == len(data)
        api.leases.Delete(id="share", sync=True)
        assert read(other, d) == data
        other.leases.Delete(id="share", sync=True)
        other.namespaces.Delete(name=name)


@pytest.mark.skiff_only
def test_a_removed_namespace_takes_its_half_written_content(api, daemon):
    from harness.api import Api

    ingests = daemon.root / "io.containerd.content.v1.content" / "ingest"
    before = set(ingests.iterdir())
    writes(api, dict(action=WRITE, ref="kept", data=b"x" * 1000))
    kept = set(ingests.iterdir())
    name = daemon.namespace_of_its_own("ingests")
    with Api(daemon, name) as other:
        for ref in ("one", "two"):
            writes(other, dict(action=WRITE, ref=ref, data=b"x" * 1000))
        assert len(set(ingests.iterdir()) - kept) == 2
        other.namespaces.Delete(name=name)
    assert set(ingests.iterdir()) == kept
    api.content.Abort(ref="kept")
    assert set(ingests.iterdir()) == before


def test_an_image_that_is_removed_takes_its_content(fresh_ctr, archive):
    fresh_ctr("images", "import", archive).ok()
    image = images.simple()
    assert {b.digest for b in (*image.blobs, *image.manifests)} <= set(fresh_ctr("content", "ls", "-q").ok().lines)
    fresh_ctr("images", "rm", "--sync", IMAGE).ok()
    assert fresh_ctr("content", "ls", "-q").ok().lines == []
