# SPDX-License-Identifier: Apache-2.0
"""The shim by itself, with both OCI runtimes: the test is its daemon."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import tempfile
import threading

import pytest
from harness import env, proc
from harness.api import message, to_any
from harness.runtimes import gated_runtime
from harness.shim import (
    ALREADY_EXISTS,
    FAILED_PRECONDITION,
    NOT_FOUND,
    UNIMPLEMENTED,
    UNKNOWN,
    Error,
    Shims,
    Task,
)

pytestmark = [
    pytest.mark.skiff_only,
    pytest.mark.skipif(not env.skiff_program("containerd-shim-skiff-v2"), reason="the shim is not built"),
]

SH = ["busybox", "sh", "-c"]
SLEEP = ["busybox", "sleep", "1000"]


@pytest.fixture
def shims(runtime, request):
    with tempfile.TemporaryDirectory(prefix="sh-") as directory:  # short, as socket addresses are
        found = Shims(directory, runtime)
        try:
            yield found
            if getattr(getattr(request.node, "report_call", None), "passed", False):
                found.wait_until_nothing_is_left()
        finally:
            found.close()


def fails(code, *words):
    @contextlib.contextmanager
    def check():
        with pytest.raises(Error) as raised:
            yield
        assert raised.value.code == code, raised.value
        for word in words:
            assert word in raised.value.text

    return check()


def test_runs_a_process_and_reports_its_way(shims):
    task = shims.task([*SH, "echo out; echo err >&2; exit 3"])
    assert task.state() == "CREATED"
    assert task.start() == task.pid
    assert task.wait() == 3
    assert task.out[""].all() == b"out\n"
    assert task.err[""].all() == b"err\n"
    assert task.state() == "STOPPED"
    answer = task.call("Delete")
    assert (answer.pid, answer.exit_status) == (task.pid, 3)
    assert answer.exited_at.seconds > 0
    with fails(NOT_FOUND, "container not created"):
        task.call("State")
    task.call("Shutdown")
    names = ["create", "start", "exit", "delete"]
    shims.events.wait("/tasks/delete")
    assert shims.events.topics() == ["/tasks/" + n for n in names]
    exit_ = shims.events.wait("/tasks/exit")
    assert (exit_.container_id, exit_.id, exit_.pid, exit_.exit_status) == (task.cid, task.cid, task.pid, 3)


def test_both_versions_of_the_service(shims):
    task = shims.task(SLEEP)
    old = Task(shims, task.cid, task.connection, version=2)
    assert old.state() == "CREATED"
    old.start()
    assert old.call("Connect").task_pid == task.pid
    with fails(UNIMPLEMENTED):
        task.connection.result(task.connection.send("containerd.task.v1.Task", "State", b""), message("ttrpc.Response"))
    task.end()


def test_exit_before_start_returns_is_not_lost(shims):
    for _ in range(5):
        task = shims.task(["busybox", "true"])
        waiting = task.send("Wait")
        task.start()
        assert task.connection.result(*waiting).exit_status == 0
        task.end()
    topics = shims.events.topics()
    for i in range(5):
        assert topics[i * 4 : i * 4 + 4] == ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]


def test_ten_megabytes_through_stdout(shims):
    task = shims.task([*SH, "busybox dd if=/dev/zero bs=1M count=10 2>/dev/null"])
    task.start()
    assert task.wait() == 0
    assert len(task.out[""].all(60)) == 10 << 20
    task.end()


def test_output_outlives_its_reader(shims):
    """A client goes and another comes: the process does not notice, and nothing that was not read is lost."""
    task = shims.task([*SH, "echo one; read x; echo two"], stdin=True)
    writer = os.open(task.fifo[""], os.O_RDWR)
    task.start()
    task.out[""].wait_for(b"one\n")
    second = os.open(task.out[""].path, os.O_RDONLY | os.O_NONBLOCK)
    os.write(writer, b"\n")
    assert task.wait() == 0
    assert task.out[""].all() == b"one\ntwo\n"
    os.close(second)
    os.close(writer)
    task.end()


def test_a_client_that_does_not_read_does_not_hold_the_exit_back(shims):
    os.mkfifo(shims.directory / "unread")
    unread = os.open(shims.directory / "unread", os.O_RDONLY | os.O_NONBLOCK)
    cid = shims.new_id()
    shims.bundle(cid, [*SH, "echo left; exit 4"])
    task = shims.start(cid).create(stdout=str(shims.directory / "unread"))
    task.start()
    assert task.wait() == 4
    assert os.read(unread, 100) == b"left\n"
    os.close(unread)
    task.end()


@pytest.mark.parametrize("own", [None, "glibc.malloc.perturb=1"])
def test_the_runtime_does_not_get_what_is_for_the_shim_alone(shims, monkeypatch, own):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/the-daemons")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if own is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    seen, runtime = shims.directory / "environment", shims.directory / "runtime"
    runtime.write_text(f'#!/bin/sh\nenv >{seen}\nexec {shims.runtime} "$@"\n')
    runtime.chmod(0o755)
    shims.runtime = str(runtime)
    shims.task(SLEEP).end()
    environment = dict(line.split("=", 1) for line in seen.read_text().splitlines() if "=" in line)
    assert environment["PATH"] and "NOTIFY_SOCKET" not in environment
    assert environment.get("GLIBC_TUNABLES") == own


def test_create_is_undone_when_its_client_is_gone(shims):
    """A daemon that is killed in the middle of a create knows nothing of it: its successor finds no container."""
    gate, runtime = shims.directory / "gate", shims.directory / "runtime"
    os.mkfifo(gate)
    runtime.write_text(f'#!/bin/sh\ncase "$*" in *" create "*) read x <{gate};; esac\nexec {shims.runtime} "$@"\n')
    runtime.chmod(0o755)
    shims.runtime = str(runtime)
    cid = shims.new_id()
    shims.bundle(cid, SLEEP)
    task = shims.start(cid)

    def create():
        with contextlib.suppress(EOFError):
            task.create()

    creating = threading.Thread(target=create)
    creating.start()
    opened = os.open(gate, os.O_WRONLY)  # the runtime is at work
    address = "unix://" + task.connection.socket.getpeername()
    task.connection.socket.shutdown(socket.SHUT_RDWR)
    creating.join()
    successor = shims.connect(cid, address)
    with fails(NOT_FOUND, "container not created"):
        successor.state()
    deleting = successor.send("Delete")
    os.write(opened, b"\n")
    os.close(opened)
    with fails(NOT_FOUND, "container not created"):
        successor.connection.result(*deleting)
    successor.call("Shutdown")
    shims.wait_until_nothing_is_left()
    assert shims.events.topics() == []


def test_stdin_and_its_close(shims):
    task = shims.task(["busybox", "cat"], stdin=True)
    writer = os.open(task.fifo[""], os.O_WRONLY)
    task.start()
    os.write(writer, b"hello")
    task.out[""].wait_for(b"hello")
    os.close(writer)
    writer = os.open(task.fifo[""], os.O_WRONLY)  # a client that comes back
    os.write(writer, b" again")
    task.out[""].wait_for(b"again")
    task.call("CloseIO", stdin=True)
    assert task.state() == "RUNNING"
    os.close(writer)
    assert task.wait() == 0
    assert task.out[""].all() == b"hello again"
    task.end()


def test_stdin_closed_before_the_start(shims):
    task = shims.task(["busybox", "cat"], stdin=True)
    writer = os.open(task.fifo[""], os.O_WRONLY)
    os.write(writer, b"early")
    os.close(writer)
    task.call("CloseIO", stdin=True)
    task.start()
    assert task.wait() == 0
    assert task.out[""].all() == b"early"
    task.exec_id = "x"
    task.end()


def test_stdin_of_a_client_that_forgets_to_close(shims):
    task = shims.task(["busybox", "cat"], stdin=True)
    writer = os.open(task.fifo[""], os.O_WRONLY)
    os.write(writer, b"early")
    os.close(writer)
    task.start()
    assert task.wait() == 0
    assert task.out[""].all() == b"early"
    task.end()


def test_exec(shims):
    task = shims.task(SLEEP)
    task.start()
    task.exec("one", [*SH, "echo in; exit 7"])
    with fails(ALREADY_EXISTS):
        task.call("Exec", exec_id="one", spec=message("google.protobuf.Any")(value=b"{}"))
    assert task.state("one") == "CREATED"
    with fails(FAILED_PRECONDITION, "process not created"):
        task.call("Kill", exec_id="one", signal=9)
    pid = task.start("one")
    assert task.wait("one") == 7
    assert task.out["one"].all() == b"in\n"
    with fails(NOT_FOUND, "process already finished"):
        task.call("Kill", exec_id="one", signal=9)
    answer = task.call("Delete", exec_id="one")
    assert (answer.pid, answer.exit_status) == (pid, 7)
    with fails(NOT_FOUND, "process does not exist one"):
        task.state("one")
    exit_ = shims.events.wait("/tasks/exit")
    assert (exit_.container_id, exit_.id, exit_.exit_status) == (task.cid, "one", 7)
    assert shims.events.topics() == ["/tasks/" + n for n in ("create", "start", "exec-added", "exec-started", "exit")]
    task.end()


def test_exec_with_stdin_closed_before_its_start(shims):
    task = shims.task(SLEEP)
    task.start()
    task.exec("cat", ["busybox", "cat"], stdin=True)
    task.call("CloseIO", exec_id="cat", stdin=True)
    writer = {}
    opener = threading.Thread(target=lambda: writer.update(fd=os.open(task.fifo["cat"], os.O_WRONLY)))
    opener.start()
    task.start("cat")
    opener.join()
    os.write(writer["fd"], b"x")
    os.close(writer["fd"])
    assert task.wait("cat") == 0
    assert task.out["cat"].all() == b"x"
    task.end()


def test_exec_of_what_is_not_there(shims):
    task = shims.task(SLEEP)
    task.start()
    task.exec("bad", ["/no/such/program"])
    with fails(UNKNOWN, "OCI runtime exec failed: ", "no such file"[1:]):
        task.start("bad")
    task.call("Delete", exec_id="bad")
    task.end()


def test_init_exit_comes_after_its_execs(shims):
    task = shims.task(SLEEP)
    task.start()
    for name in ("a", "b"):
        task.exec(name, SLEEP).start(name)
    task.call("Kill", signal=9)
    assert task.wait() == 137
    order = [e.id for t, e in shims.events.events if t == "/tasks/exit"]
    proc.wait_until(lambda: len([t for t in shims.events.topics() if t == "/tasks/exit"]) == 3, 10)
    order = [e.id for t, e in shims.events.events if t == "/tasks/exit"]
    assert sorted(order[:2]) == ["a", "b"] and order[2] == task.cid
    task.end()


def test_processes_of_a_shared_pid_namespace_end_with_the_first(shims):
    task = shims.task([*SH, "busybox sleep 1000 & echo started; busybox sleep 1000"], pid_namespace=False)
    task.start()
    task.out[""].wait_for(b"started")
    pids = [p.pid for p in task.call("Pids").processes]
    task.call("Kill", signal=9)
    assert task.wait() == 137
    proc.wait_until(lambda: not [pid for pid in pids if os.path.exists(f"/proc/{pid}")], 10)
    task.end()


def test_kill_and_delete_do_not_meet_in_the_runtime(shims):
    """On cgroup v1 runc freezes what it kills, and then does not delete it: "not stopped: paused"."""
    done = shims.directory / "done"
    gate, runtime = gated_runtime(shims.directory, "kill", shims.runtime)
    runtime.write_text(runtime.read_text().replace("exec ", f'case " $* " in *" kill "*|*" delete "*) echo "$*" >>{done};; esac\nexec '))
    shims.runtime = str(runtime)
    task = shims.task(SLEEP)
    task.start()
    killing = task.send("Kill", signal=9, all=True)
    with open(gate, "w", encoding="ascii") as opened:  # the runtime is at work
        os.kill(task.pid, 9)
        assert task.wait() == 137
        deleting = task.send("Delete")
        for _ in range(200):  # round trips, in which an early delete would show
            assert task.state() == "STOPPED" and not done.exists()
        with fails(NOT_FOUND, "process already finished"):
            task.call("Kill", signal=9, all=True)
        opened.write("\n")
    with contextlib.suppress(Error):  # crun says that there is nothing to kill
        task.connection.result(*killing)
    assert task.connection.result(*deleting).exit_status == 137
    assert [("kill" if "kill" in line.split() else "delete") for line in done.read_text().splitlines()] == ["kill", "delete"]
    task.call("Shutdown")


@pytest.mark.slow
def test_a_kill_that_hangs_does_not_keep_the_container(shims):
    gate, runtime = gated_runtime(shims.directory, "kill", shims.runtime)
    shims.runtime = str(runtime)
    task = shims.task(SLEEP)
    task.start()
    killing = task.send("Kill", signal=9, all=True)
    with open(gate, "w", encoding="ascii"):  # the runtime is at work, and stays so
        os.kill(task.pid, 9)
        assert task.wait() == 137
        assert task.delete().exit_status == 137
        with fails(UNKNOWN, "did not terminate successfully: signal: Killed"):
            task.connection.result(*killing)
    task.call("Shutdown")


def test_kill_and_wrong_orders(shims):
    task = shims.task(SLEEP)
    with fails(UNKNOWN, "cannot pause task in created state"):
        task.call("Pause")
    task.start()
    with fails(UNKNOWN, "cannot start a running process"):
        task.start()
    with fails(UNKNOWN, "cannot delete a running process"):
        task.call("Delete")
    with fails(UNKNOWN, "cannot resume a running process"):
        task.call("Resume")
    task.call("Shutdown")  # has a container: stays
    assert task.state() == "RUNNING"
    task.call("Kill", signal=9)
    assert task.wait() == 137
    for all_ in (False,):
        with fails(NOT_FOUND, "process already finished"):
            task.call("Kill", signal=9, all=all_)
    with fails(UNKNOWN, "cannot start a stopped process"):
        task.start()
    with fails(UNKNOWN, "cannot exec in a stopped state"):
        task.exec("late", SLEEP)
    task.end()


def test_delete_of_what_was_never_started(shims):
    task = shims.task(SLEEP)
    answer = task.delete()
    assert answer.exit_status == 137
    shims.events.wait("/tasks/delete")
    assert shims.events.topics() == ["/tasks/create", "/tasks/exit", "/tasks/delete"]
    task.call("Shutdown")


def test_errors_of_the_runtime_come_through(shims):
    cid = shims.new_id()
    shims.bundle(cid, ["/no/such/program"])
    task = shims.start(cid)
    with pytest.raises(Error) as raised:
        task.create()
        task.start()
    assert raised.value.code == UNKNOWN
    assert "OCI runtime " in raised.value.text and "failed: " in raised.value.text
    assert "no such file or directory" in raised.value.text.lower()
    if task.connection and (pathlib.Path("/proc/mounts").read_text().count(f"{shims.bundles / cid}/")):
        task.end()
    else:
        task.call("Shutdown")


def test_terminal(shims):
    task = shims.task([*SH, "read x; busybox stty size; echo got $x; busybox tty"], stdin=True, terminal=True)
    writer = os.open(task.fifo[""], os.O_WRONLY)
    task.call("ResizePty", width=100, height=40)
    task.start()
    task.call("ResizePty", width=132, height=50)
    os.write(writer, b"line\n")
    assert task.wait() == 0
    text = task.out[""].all().replace(b"\r\n", b"\n")
    assert b"50 132\ngot line\n/dev/" in text
    os.close(writer)
    task.end()


def test_terminal_of_an_exec(shims):
    task = shims.task(SLEEP)
    task.start()
    task.exec("t", [*SH, "busybox tty; exit 4"], terminal=True)
    task.start("t")
    assert task.wait("t") == 4
    assert b"/dev/" in task.out["t"].all()
    task.call("Delete", exec_id="t")
    task.end()


def test_pause_and_resume(shims):
    task = shims.task(SLEEP)
    task.start()
    task.call("Pause")
    assert task.state() == "PAUSED"
    with fails(UNKNOWN, "cannot exec in a paused state"):
        task.exec("x", SLEEP)
    task.call("Resume")
    assert task.state() == "RUNNING"
    shims.events.wait("/tasks/resumed")
    assert shims.events.topics() == ["/tasks/" + n for n in ("create", "start", "paused", "resumed")]
    task.end()


def test_pids_name_their_execs(shims):
    task = shims.task(SLEEP)
    task.start()
    pid = task.exec("e", SLEEP).start("e")
    found = {p.pid: p.info for p in task.call("Pids").processes}
    assert set(found) == {task.pid, pid}
    assert not found[task.pid].type_url
    assert found[pid].type_url == "containerd.runc.v1.ProcessDetails"
    assert message("containerd.runc.v1.ProcessDetails").FromString(found[pid].value).exec_id == "e"
    task.end()


def test_metrics(shims):
    task = shims.task([*SH, "x=$(busybox seq 20000); echo ready; busybox sleep 1000"])
    task.start()
    task.out[""].wait_for(b"ready")
    stats = task.call("Stats").stats
    metrics = message(stats.type_url).FromString(stats.value)
    assert metrics.pids.current == 1
    if stats.type_url.endswith("v1.Metrics"):
        assert metrics.memory.usage.usage > 0 and metrics.cpu.usage.total > 0
    else:
        assert metrics.memory.usage > 0 and metrics.cpu.usage_usec > 0
    task.end()


def test_update_of_limits(shims):
    task = shims.task(SLEEP)
    task.start()
    limit = 64 << 20
    value = json.dumps({"memory": {"limit": limit}}).encode()
    task.call("Update", resources=message("google.protobuf.Any")(type_url="resources", value=value))
    stats = task.call("Stats").stats
    metrics = message(stats.type_url).FromString(stats.value)
    v1 = stats.type_url.endswith("v1.Metrics")
    assert (metrics.memory.usage.limit if v1 else metrics.memory.usage_limit) == limit
    task.end()


def test_out_of_memory_is_told_before_the_exit(shims):
    fill = "x=a; while :; do x=$x$x; done"
    task = shims.task([*SH, fill], cgroup={"memory": {"limit": 20 << 20, "swap": 20 << 20}})
    task.start()
    assert task.wait() == 137
    shims.events.wait("/tasks/exit")
    assert shims.events.topics() == ["/tasks/create", "/tasks/start", "/tasks/oom", "/tasks/exit"]
    assert shims.events.wait("/tasks/oom").container_id == task.cid
    task.end()


def test_containers_of_a_group_share_a_shim(shims):
    label = {"io.kubernetes.cri.sandbox-id": "pod"}
    first = shims.task(SLEEP, annotations=label)
    second = shims.task(SLEEP, annotations=label)
    assert len(shims.pids) == 1
    first.start()
    second.start()
    assert first.pid != second.pid
    first.call("Kill", signal=9)
    assert first.wait() == 137
    first.delete()
    first.call("Shutdown")
    assert second.state() == "RUNNING"
    second.exec("e", [*SH, "echo alive"]).start("e")
    assert second.out["e"].all() == b"alive\n"
    second.end()


def test_events_wait_for_a_daemon_that_is_away(shims):
    task = shims.task(["busybox", "sleep", "1000"])
    task.start()
    shims.events.wait("/tasks/start")
    shims.events.stop()
    task.call("Kill", signal=9)
    assert task.wait() == 137
    shims.events.listen()
    assert shims.events.wait("/tasks/exit").exit_status == 137
    task.end()


def test_older_forms_of_bootstrap(shims):
    cid = shims.new_id()
    bundle = shims.bundle(cid, SLEEP)
    options = to_any(message("containerd.runc.v1.Options")(binary_name=shims.runtime)).SerializeToString()
    environment = {"MAX_SHIM_VERSION": "2"}
    done = shims.command(cid, "start", options, environment=environment)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["version"], answer["protocol"]) == (2, "ttrpc")
    done = shims.command(cid, "start", b"")  # the same group again: the shim that is there
    assert done.stdout.decode() == answer["address"] == (bundle / "address").read_text()
    task = shims.connect(cid, answer["address"])
    task.create()
    task.start()
    task.end()
    assert not pathlib.Path(answer["address"].removeprefix("unix://")).exists()


def test_delete_command_cleans_up_after_a_dead_shim(shims):
    task = shims.task(SLEEP)
    task.start()
    os.kill(task.call("Connect").shim_pid, signal.SIGKILL)
    proc.wait_until(lambda: task.connection.closed, 10)
    assert os.path.exists(f"/proc/{task.pid}")
    bundle = shims.bundles / task.cid
    done = shims.command(task.cid, "delete", flags=["-bundle", bundle])
    assert done.returncode == 0, done.stderr
    answer = message("containerd.task.v3.DeleteResponse").FromString(done.stdout)
    assert (answer.pid, answer.exit_status) == (task.pid, 137)
    proc.wait_until(lambda: not os.path.exists(f"/proc/{task.pid}/exe"), 10)


def test_output_to_a_file(shims):
    cid = shims.new_id()
    shims.bundle(cid, [*SH, "echo out; echo err >&2"])
    path = shims.directory / "logs" / "a file"
    task = shims.start(cid).create(stdout=f"file://{path}".replace(" ", "%20"), stderr="", stdin="")
    task.start()
    assert task.wait() == 0
    task.end()
    assert sorted(path.read_text().splitlines()) == ["err", "out"]


def test_output_to_a_logger(shims):
    log = shims.directory / "log"
    script = shims.directory / "logger"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$CONTAINER_ID $CONTAINER_NAMESPACE $*" > {log}\n'
        "exec 5>&-\n"
        f"cat <&4 >> {log}.err &\n"
        f"cat <&3 >> {log}\n"
        "wait\n"
    )
    script.chmod(0o755)
    cid = shims.new_id()
    shims.bundle(cid, [*SH, "echo out; echo err >&2"])
    uri = f"binary://{script}?key=a%20value&flag"
    task = shims.start(cid).create(stdout=uri, stderr=uri)
    task.start()
    assert task.wait() == 0
    task.end()
    assert log.read_text() == f"{cid} test key a value flag \nout\n"
    assert pathlib.Path(f"{log}.err").read_text() == "err\n"


def test_spec_stays_as_it_was_but_for_its_version(shims):
    task = shims.task(SLEEP)
    config = json.loads((shims.bundles / task.cid / "config.json").read_text())
    expected = shims.spec(shims.bundles / task.cid, SLEEP)
    assert config.pop("ociVersion") in ("1.0.2", expected.pop("ociVersion"))
    assert config == {k: v for k, v in expected.items() if k != "ociVersion"}
    task.start()
    task.end()


def test_many_at_once_in_one_shim(shims):
    label = {"io.containerd.runc.v2.group": "many"}
    tasks = [shims.task([*SH, f"exit {i}"], annotations=label) for i in range(8)]
    waits = [t.send("Wait") for t in tasks]
    starts = [t.send("Start") for t in tasks]
    for i, task in enumerate(tasks):
        task.connection.result(*starts[i])
        assert task.connection.result(*waits[i]).exit_status == i
    for task in tasks[:-1]:
        task.delete()
    tasks[-1].end()


def test_memory_of_thirty_shims(shims):
    tasks = [shims.task(SLEEP) for _ in range(30)]
    for task in tasks:
        task.start()
    sizes = shims.memory_kb()
    average = sum(sizes) / len(sizes)
    print(f"proportional set of {len(sizes)} shims: {average:.0f} KB each")
    for task in tasks:
        task.end()
    if not env.sanitized():
        assert average <= 400  # the design's 0.4 MB
