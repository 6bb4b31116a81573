# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed, and comes back: containers go on, exits are not lost, nothing is left over."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import threading

import grpc
import pytest
from conftest import ANY_RUNTIME, IMAGE, best_ctr

from harness import env, images, leftovers, proc
from harness.api import Api, message
from harness.clients import finish

def run(ctr, runtime, image, cid, *cmd, options=()):
    ctr("run", "-d", "--runc-binary", runtime, *options, image, cid, *cmd).ok()


def rows(ctr):
    return {r[0]: (int(r[1]), r[2]) for r in ctr("tasks", "ls").ok().rows}


def remove(ctr, *ids):
    for cid in ids:
        ctr("tasks", "delete", "-f", cid)
        ctr("containers", "rm", cid).ok()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill", "term"])
def test_containers_outlive_the_daemon(daemon, any_ctr, runtime, image, number):
    names = ["one", "two", "three"]
    for name in names:
        run(any_ctr, runtime, image, name, "sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")
    before = rows(any_ctr)
    daemon.kill(number)
    assert all(proc.alive(pid) for pid, _ in before.values())
    daemon.start()
    assert rows(any_ctr) == before
    assert any_ctr("tasks", "exec", "--exec-id", "e", "one", "echo", "still here").ok().out == "still here\n"
    any_ctr("tasks", "pause", "two").ok()
    any_ctr("tasks", "resume", "two").ok()
    any_ctr("tasks", "metrics", "three").ok()
    any_ctr("tasks", "kill", "one").ok()
    proc.wait_until(lambda: rows(any_ctr)["one"][1] == "STOPPED")
    assert any_ctr.delete_task("one") == 7
    any_ctr("containers", "rm", "one").ok()
    remove(any_ctr, "two", "three")


@pytest.mark.skiff_only
def test_an_exit_while_the_daemon_was_down_is_not_lost(daemon, any_ctr, runtime, image, api):
    """containerd drops such a task at its next start, and nobody learns the code."""
    run(any_ctr, runtime, image, "gone", "sh", "-c", "trap 'exit 42' TERM; while :; do sleep 0.05; done")
    pid = rows(any_ctr)["gone"][0]
    daemon.kill()
    proc.kill(pid, signal.SIGTERM)
    proc.wait_until(lambda: not proc.alive(pid))
    daemon.start()
    assert rows(any_ctr) == {"gone": (pid, "STOPPED")}
    proc.wait_until(lambda: api.tasks.Wait(container_id="gone", timeout=20).exit_status == 42)
    # A second restart loses it as little.
    daemon.kill()
    daemon.start()
    assert rows(any_ctr) == {"gone": (pid, "STOPPED")}
    assert any_ctr.delete_task("gone") == 42
    assert rows(any_ctr) == {}
    any_ctr("containers", "rm", "gone").ok()


def test_a_shim_that_died_meanwhile_leaves_nothing(daemon, any_ctr, runtime, image):
    run(any_ctr, runtime, image, "orphan", "sleep", "1000")
    pid = rows(any_ctr)["orphan"][0]
    shim = proc.stat(pid)[2]
    daemon.kill()
    proc.kill(shim)
    proc.wait_until(lambda: not proc.alive(shim))
    daemon.start()
    proc.wait_until(lambda: rows(any_ctr).get("orphan", (0, "STOPPED"))[1] == "STOPPED")
    any_ctr("tasks", "delete", "-f", "orphan")
    any_ctr("containers", "rm", "orphan").ok()


def test_output_goes_on_while_the_daemon_is_away(daemon, any_ctr, image, api, tmp_path):
    """The shim copies to the client's FIFO by itself: not a line is lost between two daemons."""
    script = "i=0; while :; do echo line $i; i=$((i+1)); sleep 0.01; done"
    any_ctr("containers", "create", "--", image, "talker", "sh", "-c", script).ok()  # ctr 1.6 has a -c
    os.mkfifo(tmp_path / "out")
    # Both ends, as dockerd keeps them: the read end here, the write end in the shim.
    out = open(os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    buffer = b""

    def read_until(word):
        nonlocal buffer

        def more():
            nonlocal buffer
            buffer += out.read(65536) or b""
            return word in buffer

        proc.wait_until(more, 20, word.decode())

    rootfs = api.snapshots.Mounts(snapshotter="overlayfs", key="talker").mounts
    api.tasks.Create(container_id="talker", rootfs=rootfs, stdout=str(tmp_path / "out"), stderr=str(tmp_path / "out"))
    api.tasks.Start(container_id="talker")
    read_until(b"line 5\n")
    daemon.kill()
    read_until(b"line 50\n")
    daemon.start()
    read_until(b"line 100\n")
    numbers = [int(x.split()[1]) for x in buffer.decode().splitlines()[:-1]]
    assert numbers == list(range(len(numbers)))
    out.close()
    remove(any_ctr, "talker")


def test_waiting_over_a_restart(daemon, any_ctr, runtime, image, api):
    run(any_ctr, runtime, image, "waited", "sh", "-c", "trap 'exit 11' TERM; while :; do sleep 0.05; done")
    daemon.kill()
    daemon.start()
    answers = []
    waiter = threading.Thread(target=lambda: answers.append(api.tasks.Wait(container_id="waited", timeout=30).exit_status))

    def up():
        try:
            api.tasks.Get(container_id="waited", timeout=5)
            return True
        except grpc.RpcError:
            return False

    proc.wait_until(up)
    waiter.start()
    any_ctr("tasks", "kill", "waited").ok()
    waiter.join(30)
    assert answers == [11]
    remove(any_ctr, "waited")


def test_killed_in_the_middle_of_a_pull(own_daemon, plain_registry):
    """What a killed daemon left half done is finished by the next pull, and nothing of it stays."""
    daemon = own_daemon()
    ctr = best_ctr(daemon)
    image = images.simple()
    reached, go = threading.Event(), threading.Event()

    def delay(path):
        if image.layers[0].digest in path and not go.is_set():
            reached.set()
            go.wait(30)

    registry = plain_registry(delay=delay)
    ref = registry.put(image, "killed")
    child = ctr.start("images", "pull", "--plain-http", ref)
    assert reached.wait(30)
    daemon.kill()
    go.set()
    finish(child)
    daemon.start()
    ctr("images", "pull", "--plain-http", ref).ok()
    assert ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, ref, "k1", "cat", "/etc/motd").ok().out == "hello from the second layer\n"


def stored_exits(daemon):
    """Of a daemon that does not run: container and status of each exit in its store. One may be there twice: a shim
    sends again what it got no answer for."""
    with contextlib.closing(sqlite3.connect(daemon.database)) as store:
        rows = store.execute("SELECT value FROM events WHERE topic = '/tasks/exit' ORDER BY cursor").fetchall()
    exits = [message("containerd.events.TaskExit").FromString(value) for (value,) in rows]
    return {(e.container_id, e.id, e.exit_status) for e in exits}


@pytest.mark.skiff_only
def test_an_exit_that_was_published_is_in_the_store(own_daemon, archive):
    daemon = own_daemon()
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    expected = set()
    for turn in range(5):
        cid = f"c{turn}"
        with Api(daemon) as api:
            exits = api.events.Subscribe(filters=[f'topic=="/tasks/exit",event.container_id=={cid}'], timeout=None)
            heard = threading.Thread(target=next, args=(exits,))
            heard.start()
            ctr("run", "-d", "--runc-binary", ANY_RUNTIME, IMAGE, cid, "sleep", "1000").ok()
            api.tasks.Kill(container_id=cid, signal=9)
            heard.join(20)
            assert not heard.is_alive()
            daemon.kill()
        expected.add((cid, cid, 137))
        assert stored_exits(daemon) == expected
        daemon.start()
        remove(ctr, cid)


@pytest.mark.slow
def test_killed_twenty_times_under_load(own_daemon, archive):
    """kill -9 at any moment while containers come and go: afterwards all of them can be removed, and nothing is left."""
    daemon = own_daemon()
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    before = leftovers.take(daemon)
    rng = random.Random(1)
    for turn in range(20):
        children = [ctr.start("run", "--rm", "--runc-binary", ANY_RUNTIME, IMAGE, f"t{turn}-{i}", "true") for i in range(4)]
        proc.wait_until(lambda: rng.random() < 0.02, 5, "chance", step=0.005)
        daemon.kill()
        daemon.start()
        for child in children:
            try:
                finish(child, 20)
            except AssertionError:
                pass
    for cid in ctr("containers", "ls", "-q").ok().lines:
        ctr("tasks", "delete", "-f", cid)
        ctr("containers", "rm", cid).ok()
    assert ctr("tasks", "ls").ok().rows == []
    leftovers.check(daemon, before, 20)


@pytest.mark.skiff_only
def test_a_signal_during_the_start_ends_it_cleanly(own_daemon):
    """However early it comes: clients may be served before all has started."""
    daemon = own_daemon()
    daemon.stop()
    for _ in range(20):
        daemon.socket.unlink(missing_ok=True)
        daemon.start(wait=False)
        proc.wait_until(daemon.socket.exists, step=0.0005)
        assert daemon.kill(signal.SIGTERM) == 0
    assert "checking what is kept" not in daemon.log()
    daemon.start()


def test_start_with_a_stale_socket(own_daemon):
    daemon = own_daemon()
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start()


def test_two_daemons_do_not_share_a_root(own_daemon):
    daemon = own_daemon()
    argv = [env.daemon_program(), "--config", daemon.dir / "config.toml", "--root", daemon.root, "--state", daemon.state]
    second = proc.spawn([*argv, "--address", daemon.dir / "e.sock"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if env.DAEMON == "containerd":
        # It waits for the first one's database lock.
        second.kill()
        finish(second)
        return
    code, out, _ = finish(second, 20)
    assert code != 0 and ("in use" in out or "lock" in out), out
