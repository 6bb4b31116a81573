# SPDX-License-Identifier: Apache-2.0
"""`ctr run` in all its forms, by both generations of ctr and both OCI runtimes."""

import hashlib
import os
import subprocess

import pytest

from harness import cgroups, proc
from harness.clients import finish


@pytest.fixture
def run(ctr, runtime, image, request):
    """run(options…, id=…, cmd=[…]) is `ctr run` with the runtime of this turn."""

    def line(options, cid, cmd, rm):
        return ["run", "--runc-binary", runtime, *(["--rm"] if rm else []), *options, image, cid, *cmd]

    def call(*options, cid="c1", cmd=("true",), rm=True, **more):
        return ctr(*line(options, cid, cmd, rm), **more)

    def start(*options, cid="c1", cmd=("true",), rm=True, **more):
        return ctr.start(*line(options, cid, cmd, rm), **more)

    call.start = start
    return call


def test_output_and_exit_code(run):
    got = run(cmd=["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (got.code, got.out, got.err.splitlines()[-1:]) == (7, "out\n", ["err"])


@pytest.mark.parametrize("code", [0, 1, 125, 126, 127, 255])
def test_exit_codes_pass_through(run, code):
    assert run(cmd=["sh", "-c", f"exit {code}"]).code == code


def test_a_signal_becomes_128_and_its_number(run):
    assert run(cmd=["sh", "-c", "sh -c 'kill -9 $$'; exit $?"]).code == 137


def test_ten_megabytes_through_stdout(run):
    size = 10 << 20
    got = run(cmd=["sh", "-c", f"yes 0123456789abcde | head -c {size}"])
    assert got.code == 0 and len(got.raw) == size
    assert hashlib.sha256(got.raw).hexdigest() == hashlib.sha256(b"0123456789abcde\n" * (size // 16)).hexdigest()


def test_stdin_is_passed_and_closed(run):
    # ctr forgets an end of file that comes before it has the task, so stdin stays open until the container has answered.
    child = run.start(cmd=["cat"], stdin=subprocess.PIPE)
    child.stdin.write(b"a line\nanother\n")
    child.stdin.flush()
    assert child.stdout.readline() == b"a line\n"
    code, out, _ = finish(child)
    assert (code, out) == (0, "another\n")


def test_environment(run):
    got = run("--env", "ONE=1", "--env", "FROM=user", cmd=["env"]).ok()
    assert {"ONE=1", "FROM=user", "PATH=/bin"} <= set(got.lines)


def test_mounts(run, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    got = run(
        "--mount", f"type=bind,src={tmp_path},dst=/mnt/in,options=rbind:ro",
        "--mount", "type=tmpfs,src=tmpfs,dst=/mnt/tmp,options=nosuid:size=1048576",
        cmd=["sh", "-c", "cat /mnt/in/file; touch /mnt/in/x 2>/dev/null && echo written; stat -f -c %T /mnt/tmp; touch /mnt/tmp/x && echo ok"],
    ).ok()
    assert got.lines == ["from the host", "tmpfs", "ok"]


def test_working_directory(run):
    assert run("--cwd", "/etc", cmd=["pwd"]).ok().out == "/etc\n"


@pytest.mark.parametrize(
    "user,shown",
    [
        ("1000", "uid=1000(user) gid=1000(user)"),
        ("user", "uid=1000(user) gid=1000(user)"),
        ("1000:2000", "uid=1000(user) gid=2000(extra)"),
    ],
)
def test_user(run, ctr, user, shown):
    if ctr.generation == "1.6":
        pytest.skip("this ctr has no --user")
    assert run("--user", user, cmd=["id"]).ok().out.startswith(shown)


def test_read_only_root(run):
    got = run("--read-only", cmd=["sh", "-c", "echo x > /etc/new"])
    assert got.code == 1 and "Read-only file system" in got.err


def test_memory_limit_is_in_the_group(run, ctr, daemon, runtime):
    limit = 32 << 20
    run("-d", "--memory-limit", str(limit), rm=False, cmd=["sleep", "1000"]).ok()
    shown = cgroups.file_of(f"{daemon.namespace}/c1", "memory", "memory.limit_in_bytes", "memory.max")
    remove(ctr, "c1")
    assert shown == str(limit)


def test_memory_limit_kills(run):
    got = run("--memory-limit", str(16 << 20), cmd=["sh", "-c", "dd if=/dev/zero of=/dev/null bs=256M count=1; echo survived $?"])
    assert "survived 0" not in got.out


def test_hostname_and_pid_namespace(run, ctr):
    hostname = [] if ctr.generation == "1.6" else ["--hostname", "boat"]
    got = run(*hostname, cmd=["sh", "-c", "echo $$; hostname"]).ok()
    assert got.lines[0] == "1" and (not hostname or got.lines[1] == "boat")


def test_native_snapshotter(run, ctr, image):
    got = run("--snapshotter", "native", cmd=["cat", "/etc/motd"])
    if got.code != 0 and "does not exist" in got.err or "not found" in got.err:
        pytest.skip("this ctr does not unpack for another snapshotter by itself")
    assert got.ok().out == "hello from the second layer\n"


def remove(ctr, *ids):
    for cid in ids:
        ctr("tasks", "kill", "-s", "SIGKILL", cid)
        ctr("tasks", "delete", "-f", cid)
        ctr("containers", "rm", cid).ok()


def test_detached(run, ctr):
    run("-d", rm=False, cmd=["sleep", "1000"]).ok()
    rows = ctr("tasks", "ls").ok().rows
    assert [(r[0], r[2]) for r in rows] == [("c1", "RUNNING")] and proc.alive(int(rows[0][1]))
    ctr("tasks", "kill", "-s", "SIGKILL", "c1").ok()
    proc.wait_until(lambda: ctr("tasks", "ls").ok().rows[0][2] == "STOPPED")
    ctr("tasks", "delete", "c1")
    ctr("containers", "rm", "c1").ok()


def test_terminal(ctr, runtime, image):
    t = ctr.terminal("run", "--rm", "-t", "--runc-binary", runtime, image, "c1", "sh", rows=30, columns=100)
    try:
        t.write("test -t 0 && echo is-a-$((1))-tty\n")
        t.read_until("is-a-1-tty")
        t.write("until stty size 2>/dev/null | grep '30 100'; do sleep 0.01; done\n")
        t.read_until("\n30 100")
        t.resize(41, 123)
        t.write("until stty size | grep '41 123'; do sleep 0.01; done\n")
        # ctr starts to watch its terminal only after the first size was set: it may have to be told twice.
        t.read_until("\n41 123", nudge=lambda: t.resize(41, 123))
        t.write("exit 5\n")
        assert t.wait() == 5
    finally:
        t.close()


def test_terminal_interrupt_reaches_the_process(ctr, runtime, image):
    t = ctr.terminal("run", "--rm", "-t", "--runc-binary", runtime, image, "c1", "sh")
    try:
        # In a program, not at the prompt: there the shell reads ^C itself.
        t.write("sh -c 'trap \"echo got-$((1))-int; exit\" INT; echo ready-$((1)); while :; do sleep 0.05; done'\n")
        t.read_until("ready-1")
        t.write("\x03")
        t.read_until("got-1-int")
        t.write("exit 0\n")
        assert t.wait() == 0
    finally:
        t.close()


def test_config_of_the_image_gives_the_command(ctr, runtime, image):
    child = ctr.start("run", "--rm", "--runc-binary", runtime, image, "c1", stdin=subprocess.PIPE)
    child.stdin.write(b"echo from the default command\nexit 3\n")
    child.stdin.flush()
    assert finish(child)[:2] == (3, "from the default command\n")


def test_pid_file(run, ctr, tmp_path):
    run("-d", "--pid-file", tmp_path / "pid", rm=False, cmd=["sleep", "1000"]).ok()
    pid = int((tmp_path / "pid").read_text())
    shown = ctr("tasks", "ls").ok().rows[0][1]
    remove(ctr, "c1")
    assert str(pid) == shown


def test_log_uri_file(run, ctr, tmp_path):
    if ctr.generation.startswith("1."):
        pytest.skip("file:// is asked of one generation")
    run("-d", "--log-uri", f"file://{tmp_path}/log", rm=False, cmd=["sh", "-c", "echo to the file"]).ok()
    proc.wait_until(lambda: os.path.exists(tmp_path / "log") and (tmp_path / "log").read_text() == "to the file\n")
    remove(ctr, "c1")


def test_several_containers_in_one_shell(run):
    for i in range(5):
        assert run(cid=f"c{i}", cmd=["echo", str(i)]).ok().out == f"{i}\n"
