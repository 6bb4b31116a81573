# SPDX-License-Identifier: Apache-2.0
"""Images, leases, namespaces and events by gRPC: field masks, filters, conditions and refusals."""

import datetime
import queue
import threading

import grpc
import pytest

from harness import api as harness_api
from harness import images, proc
from harness.api import Api, fails

Code = grpc.StatusCode
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def target(data=b"{}", **more):
    return {"media_type": MANIFEST, "digest": images.digest(data), "size": len(data), **more}


@pytest.fixture
def names(api):
    """Image names of this test, removed at its end."""
    made = []

    def create(name, **more):
        made.append(name)
        return api.images.Create(image={"name": name, "target": target(), **more}).image

    yield create
    for name in made:
        try:
            api.images.Delete(name=name)
        except grpc.RpcError:
            pass


# ---- images


def test_images_are_records(api, names):
    made = names("i1", labels={"a": "b"}, target=target(annotations={"note": "x"}))
    assert (made.name, dict(made.labels), dict(made.target.annotations)) == ("i1", {"a": "b"}, {"note": "x"})
    assert made.created_at == made.updated_at and made.created_at.seconds > 0
    assert api.images.Get(name="i1").image == made
    assert fails(Code.ALREADY_EXISTS, names, "i1") == 'image "i1": already exists'
    assert fails(Code.NOT_FOUND, api.images.Get, name="none") == 'image "none": not found'
    assert fails(Code.NOT_FOUND, api.images.Delete, name="none") == 'image "none": not found'


@pytest.mark.parametrize(
    "wrong",
    [{"media_type": ""}, {"size": 0}, {"size": -1}, {"digest": ""}, {"digest": "sha256:00"}, {"digest": "md5:" + "0" * 32}],
    ids=str,
)
def test_images_with_a_bad_target(api, names, wrong):
    fails(Code.INVALID_ARGUMENT, names, "bad", target={**target(), **wrong})
    fails(Code.NOT_FOUND, api.images.Get, name="bad")


def test_images_without_a_name(api):
    fails(Code.INVALID_ARGUMENT, api.images.Create, image={"target": target()})
    fails(Code.INVALID_ARGUMENT, api.images.Update, image={"target": target()})


def test_images_are_changed_by_mask(api, names):
    first = names("i1", labels={"a": "1", "b": "2"}, target=target(annotations={"x": "1", "y": "2"}))

    def update(*paths, **fields):
        image = {"name": "i1", "target": target(), **fields}
        found = api.images.Update(image=image, update_mask={"paths": paths} if paths else None).image
        assert api.images.Get(name="i1").image == found
        assert found.created_at == first.created_at and found.updated_at.ToNanoseconds() > first.updated_at.ToNanoseconds()
        return found

    assert update("labels.c", labels={"a": "9", "c": "3"}).labels == {"a": "1", "b": "2", "c": "3"}
    assert update("labels.b").labels == {"a": "1", "c": "3"}
    other = update("target", target=target(b"other", annotations={"z": "3"}))
    assert other.target.digest == images.digest(b"other") and dict(other.target.annotations) == {"z": "3"}
    assert other.labels == {"a": "1", "c": "3"}
    got = update("annotations.w", target=target(annotations={"w": "4", "v": "5"})).target
    assert got.digest == images.digest(b"other") and dict(got.annotations) == {"z": "3", "w": "4"}
    assert update("annotations", target=target(annotations={"only": "this"})).target.annotations == {"only": "this"}
    assert update("labels", labels={"n": "1"}).labels == {"n": "1"}
    whole = update(labels={"all": "new"})
    assert (dict(whole.labels), whole.target.digest, dict(whole.target.annotations)) == ({"all": "new"}, images.digest(b"{}"), {})


def test_what_of_an_image_cannot_be_changed(api, names):
    names("i1", labels={"a": "1"})
    for path in ("name", "created_at", "target.digest", "Labels", ""):
        image = {"name": "i1", "labels": {"a": "2"}, "target": target()}
        text = fails(Code.INVALID_ARGUMENT, api.images.Update, image=image, update_mask={"paths": ["labels", path]})
        assert text == f'cannot update "{path}" field on image "i1": invalid argument'
    assert api.images.Get(name="i1").image.labels == {"a": "1"}
    assert fails(Code.NOT_FOUND, api.images.Update, image={"name": "none", "target": target()}) == 'image "none": not found'
    fails(Code.INVALID_ARGUMENT, api.images.Update, image={"name": "i1", "labels": {"k": "x" * 4096}, "target": target()}, update_mask={"paths": ["labels"]})


def test_image_filters(api, names):
    names("docker.io/library/a:1", labels={"kind": "one"}, target=target(annotations={"note": "x"}))
    names("docker.io/library/b:1", labels={"kind": "two"}, target=target(b"b"))
    names("c", target=target(b"c", media_type="application/x"))
    find = lambda *f: sorted(i.name.split("/")[-1] for i in api.images.List(filters=f).images)
    assert find() == ["a:1", "b:1", "c"]
    assert find("name==docker.io/library/a:1") == ["a:1"]
    assert find("name~=^docker") == ["a:1", "b:1"]
    assert find(f"target.digest=={images.digest(b'b')}") == ["b:1"]
    assert find("target.mediatype==application/x") == ["c"]
    assert find("labels.kind!=one") == ["b:1", "c"]
    assert find("annotations.note==x") == ["a:1"]
    assert find("labels.kind==one", "name==c") == ["a:1", "c"]
    assert find("target.size==2") == []
    fails(Code.INVALID_ARGUMENT, api.images.List, filters=["name="])


def test_an_image_goes_only_while_it_is_what_one_thinks(api, names):
    names("i1")
    text = fails(Code.NOT_FOUND, api.images.Delete, name="i1", target=target(b"other"))
    assert text == f'image "i1" has target {images.digest(b"{}")}, not {images.digest(b"other")}: not found'
    api.images.Delete(name="i1", target=target(), sync=True)
    fails(Code.NOT_FOUND, api.images.Get, name="i1")


def test_a_date_for_reproducible_images(api):
    made = api.images.Create(image={"name": "old", "target": target()}, source_date_epoch={"seconds": 1234567890}).image
    assert made.created_at.seconds == 1234567890
    api.images.Delete(name="old")


# ---- leases


def test_lease_resources(api):
    api.leases.Create(id="l1", labels={"a": "b"})
    some = [
        ("content", images.digest(b"x")),
        ("snapshots/overlayfs", "some"),
        ("snapshots/unknown", "other"),
        ("ingests", "ref"),
        ("images", "an/image:1"),
    ]
    for kind, name in some:
        api.leases.AddResource(id="l1", resource={"type": kind, "id": name})
        api.leases.AddResource(id="l1", resource={"type": kind, "id": name})
    held = lambda: sorted((r.type, r.id) for r in api.leases.ListResources(id="l1").resources)
    assert held() == sorted(some)
    api.leases.DeleteResource(id="l1", resource={"type": "images", "id": "an/image:1"})
    api.leases.DeleteResource(id="l1", resource={"type": "images", "id": "never there"})
    assert held() == sorted(some[:-1])
    api.leases.Delete(id="l1", sync=True)


@pytest.mark.parametrize("kind", ["", "unknown", "content/x", "snapshots", "snapshots/a/b", "ingests/x"])
def test_lease_resources_of_no_kind(api, kind):
    api.leases.Create(id="l2")
    for call in (api.leases.AddResource, api.leases.DeleteResource):
        with pytest.raises(grpc.RpcError) as error:
            call(id="l2", resource={"type": kind, "id": "x"})
        assert error.value.code() in (Code.INVALID_ARGUMENT, Code.UNIMPLEMENTED)
        assert kind in error.value.details()
    api.leases.Delete(id="l2")


def test_content_resources_are_digests(api):
    api.leases.Create(id="l3")
    fails(Code.INVALID_ARGUMENT, api.leases.AddResource, id="l3", resource={"type": "content", "id": "no digest"})
    api.leases.Delete(id="l3")


def test_leases_are_found_by_filters(api):
    later = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    made = [
        api.leases.Create(id="f1", labels={"a": "1", "containerd.io/gc.expire": later}).lease,
        api.leases.Create(id="f2", labels={"a": "2"}).lease,
        api.leases.Create(id="with/slash").lease,
    ]
    find = lambda *f: sorted(l.id for l in api.leases.List(filters=f).leases)
    assert find() == ["f1", "f2", "with/slash"]
    assert find("id==f1") == ["f1"] and find("labels.a") == ["f1", "f2"]
    assert find("labels.a==2", "id~=slash") == ["f2", "with/slash"]
    fails(Code.INVALID_ARGUMENT, api.leases.List, filters=["id=="])
    assert {l.id: l for l in api.leases.List().leases} == {l.id: l for l in made}
    assert fails(Code.ALREADY_EXISTS, api.leases.Create, id="f1") == 'lease "f1": already exists'
    for lease in made:
        api.leases.Delete(id=lease.id)
    assert fails(Code.NOT_FOUND, api.leases.Delete, id="f1") == 'lease "f1": not found'


# ---- namespaces


def test_namespace_labels_are_changed_by_mask(api, daemon):
    name = daemon.namespace_of_its_own("labels")
    made = api.namespaces.Create(namespace={"name": name, "labels": {"a": "1", "b": "2"}}).namespace
    assert dict(made.labels) == {"a": "1", "b": "2"}
    fails(Code.ALREADY_EXISTS, api.namespaces.Create, namespace={"name": name})

    def update(labels, *paths):
        mask = {"paths": paths} if paths else None
        api.namespaces.Update(namespace={"name": name, "labels": labels}, update_mask=mask)
        return dict(api.namespaces.Get(name=name).namespace.labels)

    assert update({"c": "3", "a": "9"}, "labels.c") == {"a": "1", "b": "2", "c": "3"}
    assert update({}, "labels.a") == {"b": "2", "c": "3"}
    assert update({"d": "4"}) == {"d": "4"}
    for path in ("name", "", "label", "labels"):
        fails(Code.INVALID_ARGUMENT, api.namespaces.Update, namespace={"name": name}, update_mask={"paths": [path]})
    assert name in [n.name for n in api.namespaces.List().namespaces]
    for bad in ("", "a/b", "-", "x" * 77):
        fails(Code.INVALID_ARGUMENT, api.namespaces.Create, namespace={"name": bad})
    api.namespaces.Delete(name=name)
    fails(Code.NOT_FOUND, api.namespaces.Delete, name=name)


def test_a_namespace_in_use_stays(api, daemon):
    name = daemon.namespace_of_its_own("used")
    with Api(daemon, name) as inside:
        inside.images.Create(image={"name": "i", "target": target()})
        text = fails(Code.FAILED_PRECONDITION, api.namespaces.Delete, name=name)
        assert "must be empty" in text and "images" in text
        inside.images.Delete(name="i")
    api.namespaces.Delete(name=name)


# ---- events


class Seen:
    """A subscription that stands: the filter lets the markers of its maker through."""

    def __init__(self, api, *filters):
        self.api, self.queue = api, queue.Queue()
        self.stream = api.events.Subscribe(filters=filters, timeout=None)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for envelope in self.stream:
                self.queue.put(envelope)
        except grpc.RpcError as error:
            self.queue.put(error)

    def until(self, topic):
        """What came before the first event of this topic."""
        seen = []
        while True:
            envelope = self.queue.get(timeout=20)
            if isinstance(envelope, grpc.RpcError):
                raise envelope
            if envelope.topic == topic:
                return seen
            seen.append(envelope)

    def stand(self, publish):
        """Publish until something comes through; then until all of it has come."""

        def came():
            publish("/stand/here")
            return not self.queue.empty()

        proc.wait_until(came, 20, "a subscription")
        publish("/stand/done")
        self.until("/stand/done")
        return self

    def close(self):
        self.stream.cancel()


def event(name):
    return harness_api.to_any(harness_api.message("containerd.events.TaskOOM")(container_id=name))


def test_events_are_filtered_by_what_they_carry(api, daemon):
    def publish(topic, name="x"):
        api.events.Publish(topic=topic, event=event(name))

    seen = Seen(api, "topic~=^/stand", "event.container_id==wanted", f"namespace=={api.namespace},topic==\"/a/b\"").stand(publish)
    for topic, name in (("/a/b", "x"), ("/a/c", "x"), ("/a/c", "wanted"), ("/tasks/oom", "wanted"), ("/a/bb", "x")):
        publish(topic, name)
    publish("/stand/end")
    got = seen.until("/stand/end")
    seen.close()
    assert [e.topic for e in got] == ["/a/b", "/a/c", "/tasks/oom"]
    assert all(e.namespace == api.namespace and e.event.type_url == "containerd.events.TaskOOM" for e in got)


def test_every_namespace_is_heard(api, daemon):
    seen = Seen(api).stand(lambda topic: api.events.Publish(topic=topic, event=event("x")))
    with Api(daemon, daemon.namespace_of_its_own("elsewhere")) as other:
        other.events.Publish(topic="/from/elsewhere", event=event("x"))
    api.events.Publish(topic="/stand/end", event=event("x"))
    assert [(e.namespace, e.topic) for e in seen.until("/stand/end")] == [(other.namespace, "/from/elsewhere")]
    seen.close()


def test_forwarded_events_keep_what_they_say(api):
    seen = Seen(api).stand(lambda topic: api.events.Publish(topic=topic, event=event("x")))
    sent = {"timestamp": {"seconds": 1234567890, "nanos": 7}, "namespace": "any-ns", "topic": "/x/y", "event": event("f")}
    api.events.Forward(envelope=sent)
    early = {**sent, "timestamp": {"seconds": -5, "nanos": 999}, "topic": "/x/early"}
    api.events.Forward(envelope=early)
    api.events.Publish(topic="/stand/end", event=event("x"))
    got = seen.until("/stand/end")
    seen.close()
    kind = harness_api.message("containerd.types.Envelope")
    assert got == [kind(**sent), kind(**early)]


@pytest.mark.parametrize(
    "wrong",
    [{"namespace": ""}, {"namespace": "a/b"}, {"topic": ""}, {"topic": "/"}, {"topic": "no-slash"}, {"topic": "/a//b"}],
    ids=str,
)
def test_bad_envelopes_are_refused(api, wrong):
    good = {"timestamp": {"seconds": 1}, "namespace": "ns", "topic": "/x/y", "event": event("f")}
    api.events.Forward(envelope=good)
    fails(Code.INVALID_ARGUMENT, api.events.Forward, envelope={**good, **wrong})


def test_publishing_needs_a_namespace(api):
    nobody = api.without_namespace()
    text = fails(Code.FAILED_PRECONDITION, nobody.events.Publish, topic="/a/b", event=event("x"))
    assert text == "failed publishing event: namespace is required: failed precondition"
    nobody.close()


def test_subscribers_see_events_in_order(api):
    subscribers = [Seen(api, "topic~=^/stand", "topic~=^/n/") for _ in range(10)]
    for s in subscribers:
        s.stand(lambda topic: api.events.Publish(topic=topic, event=event("x")))
    for i in range(500):
        api.events.Publish(topic=f"/n/{i}", event=event(str(i)))
    api.events.Publish(topic="/stand/end", event=event("x"))
    for s in subscribers:
        got = [e.topic for e in s.until("/stand/end") if e.topic.startswith("/n/")]
        assert got == [f"/n/{i}" for i in range(500)]
        s.close()
