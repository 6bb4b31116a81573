# SPDX-License-Identifier: Apache-2.0
"""`skiff debug calls`: which calls are under way, and what each waits for."""

import os
import socket
import threading

import pytest
from conftest import ANY_RUNTIME

from harness import env, proc
from harness.h2 import Connection
from harness.runtimes import gated_runtime

pytestmark = pytest.mark.skiff_only
OK, PERMISSION_DENIED = 0, 7


def rows(daemon):
    """Of the table, without its header: call, namespace, client, age, what is left of it, how long it waits, for what."""
    table = proc.run([env.skiff_program("skiff"), "--address", str(daemon.socket), "debug", "calls"]).ok().out
    lines = [line.split(maxsplit=6) for line in table.splitlines()]
    assert lines[0] == ["CALL", "NAMESPACE", "CLIENT", "AGE", "LEFT", "WAITED", "FOR"]
    return lines[1:]


def wait_for_call(daemon, name, waits_for):
    proc.wait_until(lambda: [name, waits_for] in [[r[0], r[6]] for r in rows(daemon)], 20, f"{name}, which waits for {waits_for}")


def open_gate(gate):
    with open(gate, "w") as writer:
        writer.write("\n")


def test_a_create_that_hangs_says_so_and_who_called(any_ctr, image, daemon, tmp_path):
    gate, runtime = gated_runtime(tmp_path, "create", ANY_RUNTIME)
    client = any_ctr.start("run", "--rm", "--runc-binary", runtime, image, "c1", "true")
    wait_for_call(daemon, "Tasks.Create", "task c1: the shim's answer to Create")
    row = next(r for r in rows(daemon) if r[0] == "Tasks.Create")
    assert row[1:3] == [daemon.namespace, str(client.pid)]
    assert row[3].endswith("s") and row[5].endswith("s")
    assert row[4].startswith("59m")  # ctr sets no deadline: the daemon's own
    open_gate(gate)
    assert client.wait(60) == 0
    proc.wait_until(lambda: not [r for r in rows(daemon) if r[0].startswith("Tasks.")], 20, "the end of all calls on tasks")


def test_a_call_behind_another_one_says_so(any_ctr, runtime, image, daemon, tmp_path):
    gate, gated = gated_runtime(tmp_path, "pause", runtime)
    any_ctr("run", "-d", "--runc-binary", gated, image, "c1", "sleep", "1000").ok()
    first = any_ctr.start("tasks", "pause", "c1")
    wait_for_call(daemon, "Tasks.Pause", "task c1: the shim's answer to Pause")
    second = any_ctr.start("tasks", "resume", "c1")
    wait_for_call(daemon, "Tasks.Resume", "task c1: its turn after other calls")
    open_gate(gate)
    assert first.wait(60) == 0 and second.wait(60) == 0
    any_ctr("tasks", "delete", "-f", "c1")
    any_ctr("containers", "rm", "c1").ok()


def test_what_a_client_left_behind_is_listed_until_it_is_undone(any_ctr, image, daemon, tmp_path):
    _, runtime = gated_runtime(tmp_path, "create", ANY_RUNTIME)
    client = any_ctr.start("run", "--rm", "--runc-binary", runtime, image, "c1", "true")
    wait_for_call(daemon, "Tasks.Create", "task c1: the shim's answer to Create")
    client.kill()
    client.wait()
    proc.forget(client)
    wait_for_call(daemon, "Tasks.Create", "task c1: the shim's answer to Delete (cancelled)")
    proc.wait_until(lambda: "Tasks.Create" not in [r[0] for r in rows(daemon)], 30, "the end of the clean-up")
    any_ctr("containers", "rm", "c1")


def test_waits_and_streams_are_listed(any_ctr, api, runtime, image, daemon):
    any_ctr("run", "-d", "--runc-binary", runtime, image, "c1", "sleep", "1000").ok()
    waiting = threading.Thread(target=api.tasks.Wait, kwargs={"container_id": "c1", "timeout": None})
    waiting.start()
    events = any_ctr.start("events")
    wait_for_call(daemon, "Tasks.Wait", "task c1: the shim's answer to Wait")
    wait_for_call(daemon, "Events.Subscribe", "something to send")
    assert [r[4] for r in rows(daemon)] == ["-", "-"]  # they may take any time
    events.kill()
    events.wait()
    proc.forget(events)
    any_ctr("tasks", "kill", "-s", "KILL", "c1").ok()
    waiting.join(60)
    proc.wait_until(lambda: rows(daemon) == [], 20, "the end of all calls")
    any_ctr("tasks", "delete", "c1").ok()
    any_ctr("containers", "rm", "c1").ok()


def test_a_pull_from_a_silent_registry_names_it(daemon):
    with socket.create_server(("127.0.0.1", 0)) as registry:
        name = f"127.0.0.1:{registry.getsockname()[1]}/silent:1"
        pull = proc.spawn([env.skiff_program("skiff"), "--address", str(daemon.socket), "pull", "--plain-http", name])
        wait_for_call(daemon, "Transfer.Transfer", f"skiff-fetch for {name}")
        pull.kill()
        pull.wait()
        proc.forget(pull)
        proc.wait_until(lambda: rows(daemon) == [], 20, "the end of the transfer")


def test_others_than_root_and_the_owner_may_not_ask(daemon):
    def status(uid):
        with proc.effective_user(uid):  # the kernel notes who connects
            connection = Connection(daemon)
        with connection:
            connection.call(1, "/skiff.v1.Debug/ListCalls")
            return connection.ended(1)[1]

    os.chmod(daemon.dir, 0o711)
    os.chmod(daemon.socket, 0o666)
    try:
        assert (status(0), status(65534)) == (OK, PERMISSION_DENIED)
    finally:
        os.chmod(daemon.socket, 0o660)
        os.chmod(daemon.dir, 0o700)
