# SPDX-License-Identifier: Apache-2.0
"""Events: the topics of a container's life, in order, and what subscribers are told of them."""

import json
import queue
import threading

import grpc
import pytest
from conftest import ANY_RUNTIME

from harness import api as harness_api
from harness import proc
from harness.api import fails

Code = grpc.StatusCode


class Subscription:
    """Reads a subscription in the background; it stands before the constructor returns."""

    def __init__(self, api, *filters):
        self.got, self.api = [], api
        self.stream = api.events.Subscribe(filters=list(filters), timeout=None)
        self.ready = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        marker = harness_api.message("containerd.events.NamespaceDelete")(name="marker")
        number = 0

        def stands():
            nonlocal number
            number += 1
            # A subscription has no answer of its own: an event that comes through shows that it stands.
            if not filters:
                api.events.Publish(topic="/marker", event=harness_api.to_any(marker))
                return bool(self.got)
            return number > 20

        proc.wait_until(stands, 10, "the subscription")

    def _read(self):
        try:
            for envelope in self.stream:
                self.got.append(envelope)
        except grpc.RpcError:
            pass

    def topics(self):
        return [e.topic for e in list(self.got) if e.topic != "/marker"]

    def wait(self, topic, seconds=20):
        proc.wait_until(lambda: topic in self.topics(), seconds, f"{topic} among {self.topics()}")

    def event(self, topic):
        found = [e for e in list(self.got) if e.topic == topic]
        assert found, f"no {topic} among {self.topics()}"
        kind = found[0].event.type_url.split("/")[-1]
        return harness_api.message(kind).FromString(found[0].event.value)

    def close(self):
        self.stream.cancel()


@pytest.mark.containerd_differs("containerd now and then loses /tasks/delete")
def test_events_of_a_container(api, any_ctr, image, runtime):
    s = Subscription(api)
    any_ctr("run", "-d", "--runc-binary", runtime, image, "ev1", "sleep", "1000").ok()
    any_ctr("tasks", "exec", "--exec-id", "x1", "ev1", "sh", "-c", "exit 3")
    any_ctr("tasks", "pause", "ev1").ok()
    any_ctr("tasks", "resume", "ev1").ok()
    any_ctr("tasks", "kill", "-s", "SIGKILL", "ev1").ok()
    s.wait("/tasks/exit")
    proc.wait_until(lambda: s.topics().count("/tasks/exit") == 2)
    any_ctr("tasks", "delete", "ev1")
    s.wait("/tasks/delete")
    any_ctr("containers", "rm", "ev1").ok()
    s.wait("/containers/delete")
    s.close()
    tasks = [t for t in s.topics() if t.startswith(("/tasks", "/containers"))]
    assert tasks == [
        "/containers/create",
        "/tasks/create",
        "/tasks/start",
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/exit",
        "/tasks/paused",
        "/tasks/resumed",
        "/tasks/exit",
        "/tasks/delete",
        "/containers/delete",
    ]
    assert s.event("/tasks/create").container_id == "ev1"
    pid = s.event("/tasks/start").pid
    exits = [e for e in s.got if e.topic == "/tasks/exit"]
    first, last = [harness_api.message("containerd.events.TaskExit").FromString(e.event.value) for e in exits]
    assert (first.container_id, first.id, first.exit_status) == ("ev1", "x1", 3)
    assert (last.container_id, last.id, last.exit_status, last.pid) == ("ev1", "ev1", 137, pid)
    deleted = s.event("/tasks/delete")
    assert (deleted.container_id, deleted.exit_status, deleted.pid) == ("ev1", 137, pid)
    for envelope in s.got:
        assert envelope.namespace == api.namespace and envelope.timestamp.seconds > 0


def test_events_of_images_snapshots_and_namespaces(api, daemon, fresh_ctr, archive):
    with harness_api.Api(daemon, fresh_ctr.namespace) as other:
        s = Subscription(other)
        fresh_ctr("images", "import", archive).ok()
        s.wait("/images/create")
        fresh_ctr("images", "tag", "example.com/simple:1", "example.com/t:1").ok()
        fresh_ctr("images", "rm", "example.com/t:1").ok()
        s.wait("/images/delete")
        assert {"/images/create", "/snapshot/prepare", "/snapshot/commit"} <= set(s.topics())
        assert s.event("/images/create").name == "example.com/simple:1"
        s.close()


def test_filters_and_forwarded_events(api, daemon):
    task = harness_api.message("containerd.events.TaskOOM")(container_id="f1")
    s = Subscription(api, f"namespace=={api.namespace},topic~=|^/tasks/|")
    # Until the subscription stands, what is published is not seen; so it is published until it is.
    def seen():
        api.events.Publish(topic="/containers/other", event=harness_api.to_any(task))
        api.events.Publish(topic="/tasks/oom", event=harness_api.to_any(task))
        return s.got

    proc.wait_until(seen, 10, "an event")
    s.close()
    assert set(s.topics()) == {"/tasks/oom"}
    assert s.event("/tasks/oom").container_id == "f1"


def test_wrong_events_are_refused(api):
    task = harness_api.to_any(harness_api.message("containerd.events.TaskOOM")(container_id="f1"))
    for topic in ("", "no/slash", "/", "/a//b", "/a b"):
        fails(Code.INVALID_ARGUMENT, api.events.Publish, topic=topic, event=task)
    with pytest.raises(grpc.RpcError) as error:
        list(api.events.Subscribe(filters=["topic=="], timeout=10))
    assert "parse error: [topic==]" in error.value.details()


def test_ctr_events(any_ctr, image, ctr):
    child = ctr.start("events")
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line.decode()) for line in child.stdout], daemon=True).start()
    seen = []

    def run_and_look():
        ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, image, "ce1", "true").ok()
        while not lines.empty():
            seen.append(lines.get())
        return any("/tasks/delete" in line for line in seen)

    proc.wait_until(run_and_look, 30, "events", step=0.2)
    child.kill()
    child.wait()
    proc.forget(child)
    line = next(line for line in seen if " /tasks/exit " in line)
    assert f" {ctr.namespace} /tasks/exit " in line
    body = json.loads(line[line.index("{") :])
    assert (body["container_id"], body["id"]) == ("ce1", "ce1")


def test_a_subscriber_that_goes_away_disturbs_nobody(api, any_ctr, image, daemon):
    for _ in range(20):
        with harness_api.Api(daemon) as short:
            Subscription(short).stream.cancel()
    s = Subscription(api)
    any_ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, image, "sub1", "true").ok()
    s.wait("/containers/delete")
    s.close()
