# SPDX-License-Identifier: Apache-2.0
"""Tasks by `ctr tasks`: listed, entered, signalled, paused, measured, attached to, deleted."""

import os
import re
import subprocess
import threading

import grpc
import pytest

from harness import cgroups, env, proc
from harness.api import fails
from harness.clients import finish

Code = grpc.StatusCode


@pytest.fixture
def start(ctr, runtime, image):
    """start(id, command…) runs a container in the background; the test removes it by remove()."""

    def call(cid="c1", *cmd, options=()):
        ctr("run", "-d", "--runc-binary", runtime, *options, image, cid, *(cmd or ("sleep", "1000"))).ok()
        return int({r[0]: r[1] for r in ctr("tasks", "ls").ok().rows}[cid])

    return call


def remove(ctr, *ids):
    for cid in ids:
        ctr("tasks", "delete", "-f", cid)
        ctr("containers", "rm", cid).ok()


def wait_stopped(ctr, cid="c1"):
    proc.wait_until(lambda: {r[0]: r[2] for r in ctr("tasks", "ls").ok().rows}.get(cid) == "STOPPED", 20, "the end of " + cid)


def test_task_commands(start, ctr, image, runtime, transcript):
    t = transcript()
    pid = start("c1", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.05; done")
    t.replace(pid, "PID")
    t.add("tasks ls", ctr("tasks", "ls"))
    t.add("tasks ls -q", ctr("tasks", "ls", "-q"))
    t.add("tasks exec", ctr("tasks", "exec", "--exec-id", "e1", "c1", "sh", "-c", "echo out; echo err >&2; exit 4"))
    t.add("tasks exec with cwd", ctr("tasks", "exec", "--exec-id", "e2", "--cwd", "/etc", "c1", "pwd"))
    t.add("tasks exec with user", ctr("tasks", "exec", "--exec-id", "e3", "--user", "1000", "c1", "id", "-u"))
    t.add("tasks pause", ctr("tasks", "pause", "c1"))
    t.add("tasks ls", ctr("tasks", "ls"))
    t.add("tasks resume", ctr("tasks", "resume", "c1"))
    t.add("tasks ls", ctr("tasks", "ls"))
    t.add("containers rm of a running one", ctr("containers", "rm", "c1"))
    t.add("tasks delete of a running one", ctr("tasks", "delete", "c1"))
    t.add("tasks kill", ctr("tasks", "kill", "-s", "SIGTERM", "c1"))
    wait_stopped(ctr)
    t.replace("PID", "PID")
    t.add("tasks ls", ctr("tasks", "ls"), change=lambda s: re.sub(r"c1 \d+", "c1 PID", s))
    t.add("tasks kill of a stopped one", ctr("tasks", "kill", "c1"))
    t.add("tasks exec in a stopped one", ctr("tasks", "exec", "--exec-id", "e4", "c1", "true"))
    t.add("tasks delete", ctr("tasks", "delete", "c1"))
    t.add("tasks ls", ctr("tasks", "ls"))
    t.add("tasks delete again", ctr("tasks", "delete", "c1"))
    t.add("tasks kill of what is not there", ctr("tasks", "kill", "c1"))
    t.add("tasks pause of what is not there", ctr("tasks", "pause", "c1"))
    t.add("containers rm", ctr("containers", "rm", "c1"))
    t.add("containers rm again", ctr("containers", "rm", "c1"))


def test_create_start_and_wait(ctr, runtime, image):
    """A container that is made first and started later, its task's exit code passed on by delete."""
    ctr("containers", "create", *ctr.create_options(runtime), image, "c1", "sh", "/made").ok()
    assert ctr("tasks", "ls").ok().rows == []
    got = ctr("tasks", "start", "c1")
    assert got.code == 2 and "/made" in got.err, got.err
    ctr("containers", "rm", "c1").ok()


def test_start_detached_and_start_again(ctr, runtime, image):
    ctr("containers", "create", *ctr.create_options(runtime), image, "c1", "sleep", "1000").ok()
    ctr("tasks", "start", "-d", "c1").ok()
    ctr("tasks", "start", "-d", "c1").fails("already exists")
    ctr("tasks", "delete", "-f", "c1")
    ctr("tasks", "start", "-d", "c1").ok()
    remove(ctr, "c1")


def test_ps_lists_the_processes(start, ctr):
    pid = start("c1", "sh", "-c", "sleep 1000 & sleep 1001 & wait")
    proc.wait_until(lambda: len(ctr("tasks", "ps", "c1").ok().rows) == 3)
    rows = ctr("tasks", "ps", "c1").ok().rows
    assert str(pid) in [r[0] for r in rows]
    assert all(proc.alive(int(r[0])) for r in rows)
    remove(ctr, "c1")


def test_ps_names_execs(start, ctr, runtime):
    start("c1")
    child = ctr.start("tasks", "exec", "--exec-id", "shown", "c1", "sleep", "1000")
    proc.wait_until(lambda: "shown" in ctr("tasks", "ps", "c1").ok().out)
    ctr("tasks", "kill", "-s", "SIGKILL", "--exec-id", "shown", "c1").ok()
    assert finish(child)[0] == 137
    remove(ctr, "c1")


def test_exec_with_input(start, ctr):
    start()
    child = ctr.start("tasks", "exec", "--exec-id", "in", "c1", "cat", stdin=subprocess.PIPE)
    child.stdin.write(b"typed\nmore\n")
    assert child.stdout.readline() == b"typed\n"
    assert finish(child)[:2] == (0, "more\n")
    remove(ctr, "c1")


def test_exec_with_a_terminal(start, ctr):
    start()
    t = ctr.terminal("tasks", "exec", "-t", "--exec-id", "tty", "c1", "sh", rows=33, columns=99)
    try:
        t.write("until stty size | grep '33 99'; do sleep 0.01; done\n")
        t.read_until("\n33 99")
        t.write("exit 6\n")
        assert t.wait() == 6
    finally:
        t.close()
    remove(ctr, "c1")


def test_exec_that_cannot_start(start, ctr, runtime):
    start()
    got = ctr("tasks", "exec", "--exec-id", "bad", "c1", "/no/such/program")
    assert got.code != 0 and ("not found" in got.err or "no such file" in got.err.lower()), got.err
    # The id is free again, and the container goes on.
    assert ctr("tasks", "exec", "--exec-id", "bad", "c1", "echo", "fine").ok().out == "fine\n"
    remove(ctr, "c1")


def test_exec_id_twice(start, ctr):
    start()
    child = ctr.start("tasks", "exec", "--exec-id", "same", "c1", "sleep", "1000")
    proc.wait_until(lambda: "same" in ctr("tasks", "ps", "c1").ok().out)
    ctr("tasks", "exec", "--exec-id", "same", "c1", "true").fails("already exists")
    ctr("tasks", "kill", "-s", "SIGKILL", "--exec-id", "same", "c1").ok()
    assert finish(child)[0] == 137
    remove(ctr, "c1")


def test_ten_megabytes_through_exec(start, ctr):
    start()
    got = ctr("tasks", "exec", "--exec-id", "big", "c1", "sh", "-c", "yes 0123456789abcde | head -c 10485760").ok()
    assert len(got.raw) == 10 << 20 and got.raw[:32] == b"0123456789abcde\n" * 2
    remove(ctr, "c1")


def test_kill_all(start, ctr):
    start("c1", "sh", "-c", "sleep 1000 & sleep 1000 & wait")
    proc.wait_until(lambda: len(ctr("tasks", "ps", "c1").ok().rows) == 3)
    ctr("tasks", "kill", "-a", "-s", "SIGKILL", "c1").ok()
    wait_stopped(ctr)
    remove(ctr, "c1")


@pytest.mark.parametrize("number,code", [("SIGKILL", 137), ("9", 137), ("SIGUSR1", 138)])
def test_signals_by_name_and_number(start, ctr, number, code):
    start("c1", "sh", "-c", "sh -c 'kill -%s $$'; c=$?; trap \"exit $c\" TERM; while :; do sleep 0.05; done" % (number.replace("SIG", "")))
    # The trap may not be set yet.
    proc.wait_until(lambda: ctr("tasks", "kill", "c1").code != 0, 20, "the end", step=0.1)
    wait_stopped(ctr)
    assert ctr.delete_task("c1") == code
    ctr("containers", "rm", "c1").ok()


def test_paused_processes_stand_still(start, ctr):
    start("c1", "sh", "-c", "while :; do date +%N > /tmp/t; sleep 0.01; done")
    read = lambda: ctr("tasks", "exec", "--exec-id", "r", "c1", "cat", "/tmp/t").out  # "" until the file is there
    proc.wait_until(read)
    ctr("tasks", "pause", "c1").ok()
    assert ctr("tasks", "ls").ok().rows[0][2] == "PAUSED"
    pids = cgroups.pids(f"{ctr.namespace}/c1") or set()
    before = [proc.all_pids() and open(f"/proc/{p}/stat", encoding="utf-8").read().split()[13:15] for p in sorted(pids)]
    threading.Event().wait(0.2)
    after = [open(f"/proc/{p}/stat", encoding="utf-8").read().split()[13:15] for p in sorted(pids)]
    assert pids and before == after
    ctr("tasks", "resume", "c1").ok()
    assert ctr("tasks", "ls").ok().rows[0][2] == "RUNNING"
    old = read()
    proc.wait_until(lambda: read() != old)
    remove(ctr, "c1")


def test_metrics(start, ctr):
    start("c1", options=["--memory-limit", str(64 << 20)])
    out = ctr("tasks", "metrics", "c1").ok().out
    assert re.search(r"^ID\s+TIMESTAMP", out) and re.search(r"^c1\s+\S*\d{4}", out, re.M)
    values = dict(re.findall(r"^([a-z_.]+)\s+(\d+)\s*$", out, re.M))
    name = next(n for n in ("memory.usage_in_bytes", "memory.usage") if n in values)
    assert 0 < int(values[name]) < 64 << 20
    as_json = ctr("tasks", "metrics", "--format", "json", "c1").ok().out
    assert "memory" in as_json
    remove(ctr, "c1")


def test_attach(start, ctr):
    start("c1", "sh", "-c", "while read line; do echo got $line; done")
    child = ctr.start("tasks", "attach", "c1", stdin=subprocess.PIPE)
    ctr("tasks", "kill", "-s", "SIGKILL", "c1").ok()
    code, _, err = finish(child)
    assert code == 137, err
    remove(ctr, "c1")


def test_two_wait_for_the_same_task(start, api, ctr):
    start("c1", "sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done")
    answers = []
    waiters = [threading.Thread(target=lambda: answers.append(api.tasks.Wait(container_id="c1", timeout=60))) for _ in range(4)]
    for w in waiters:
        w.start()
    ctr("tasks", "kill", "c1").ok()
    for w in waiters:
        w.join(30)
    assert [a.exit_status for a in answers] == [5] * 4
    assert len({a.exited_at.ToNanoseconds() for a in answers}) == 1
    # After the end Wait answers at once, and after Delete nobody is there any more.
    assert api.tasks.Wait(container_id="c1").exit_status == 5
    deleted = api.tasks.Delete(container_id="c1")
    assert deleted.exit_status == 5 and deleted.exited_at == answers[0].exited_at
    fails(Code.NOT_FOUND, api.tasks.Wait, container_id="c1")
    fails(Code.NOT_FOUND, api.tasks.Get, container_id="c1")
    fails(Code.NOT_FOUND, api.tasks.Kill, container_id="c1", signal=9)
    ctr("containers", "rm", "c1").ok()


def test_task_states_through_the_api(api, any_ctr, image):
    any_ctr("containers", "create", image, "c1", "sleep", "1000").ok()
    mounts = api.snapshots.Mounts(snapshotter="overlayfs", key="c1").mounts
    rootfs = [m for m in mounts]
    fails(Code.NOT_FOUND, api.tasks.Get, container_id="c1")
    fails(Code.NOT_FOUND, api.tasks.Create, container_id="none")
    created = api.tasks.Create(container_id="c1", rootfs=rootfs)
    assert proc.alive(created.pid)
    assert api.tasks.Get(container_id="c1").process.status == 1
    fails(Code.ALREADY_EXISTS, api.tasks.Create, container_id="c1", rootfs=rootfs)
    assert api.tasks.Start(container_id="c1").pid == created.pid
    assert api.tasks.Get(container_id="c1").process.status == 2
    with pytest.raises(grpc.RpcError):
        api.tasks.Start(container_id="c1")
    with pytest.raises(grpc.RpcError):
        api.tasks.Delete(container_id="c1")
    assert [p.pid for p in api.tasks.ListPids(container_id="c1").processes] == [created.pid]
    api.tasks.Kill(container_id="c1", signal=9)
    assert api.tasks.Wait(container_id="c1").exit_status == 137
    assert api.tasks.Get(container_id="c1").process.status == 3
    api.tasks.Delete(container_id="c1")
    any_ctr("containers", "rm", "c1").ok()


def test_a_created_task_is_deleted_without_being_started(api, any_ctr, image):
    any_ctr("containers", "create", image, "c1", "sleep", "1000").ok()
    rootfs = api.snapshots.Mounts(snapshotter="overlayfs", key="c1").mounts
    pid = api.tasks.Create(container_id="c1", rootfs=rootfs).pid
    api.tasks.Delete(container_id="c1")
    proc.wait_until(lambda: not proc.alive(pid))
    any_ctr("containers", "rm", "c1").ok()


def test_a_root_file_system_that_only_the_daemon_can_mount(api, any_ctr, image):
    """Mounts that name earlier ones go through the mount manager, and are gone with the task."""
    any_ctr("containers", "create", image, "c1", "sleep", "1000").ok()
    rootfs = list(api.snapshots.Mounts(snapshotter="overlayfs", key="c1").mounts)
    whole = type(rootfs[0])(type="format/bind", source="{{ mount 0 }}", options=["rbind"])
    api.tasks.Create(container_id="c1", rootfs=[*rootfs, whole])
    api.tasks.Start(container_id="c1")
    info = api.mounts.Info(name="c1").info
    assert [m.type for m in info.system] == ["bind"] and len(info.active) == 1
    assert "bin" in os.listdir(info.active[0].mount_point)
    assert any_ctr("tasks", "exec", "--exec-id", "e", "c1", "echo", "in").ok().out == "in\n"
    any_ctr("tasks", "delete", "-f", "c1")
    fails(Code.NOT_FOUND, api.mounts.Info, name="c1")
    broken = type(rootfs[0])(type="format/bind", source="{{ mount 7 }}")
    fails(Code.INVALID_ARGUMENT if env.DAEMON == "skiffd" else Code.UNKNOWN, api.tasks.Create, container_id="c1", rootfs=[*rootfs, broken])
    any_ctr("containers", "rm", "c1").ok()


def test_stdin_closed_before_the_start(api, any_ctr, image, tmp_path):
    """CloseIO may come between Create and Start: the process then reads what was sent and the end of file."""
    any_ctr("containers", "create", image, "c1", "cat").ok()
    for name in ("in", "out", "err"):
        os.mkfifo(tmp_path / name)
    out, err = (os.open(tmp_path / name, os.O_RDONLY | os.O_NONBLOCK) for name in ("out", "err"))
    rootfs = api.snapshots.Mounts(snapshotter="overlayfs", key="c1").mounts
    writer = threading.Thread(target=lambda: (tmp_path / "in").write_bytes(b"all of it"))
    writer.start()
    paths = {name: str(tmp_path / name[3:]) for name in ("stdin", "stdout", "stderr")}
    api.tasks.Create(container_id="c1", rootfs=rootfs, **paths)
    writer.join(20)
    api.tasks.CloseIO(container_id="c1", stdin=True)
    api.tasks.Start(container_id="c1")
    assert api.tasks.Wait(container_id="c1", timeout=20).exit_status == 0
    api.tasks.Delete(container_id="c1")
    assert os.read(out, 100) == b"all of it"
    os.close(out)
    os.close(err)
    any_ctr("containers", "rm", "c1").ok()
