# SPDX-License-Identifier: Apache-2.0
"""`skiff`, the command line, and through it libskiff: what a person types, what it answers, and what is left."""

import contextlib
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from harness import env, images, proc
from harness.clients import Terminal, finish
from harness.proxy import proxy

# Names that people type for the image of these tests.
SHORT, FULL = "busy", "docker.io/library/busy:latest"


class Skiff:
    def __init__(self, daemon, logs):
        self.path = env.skiff_program("skiff")
        if not self.path:
            pytest.skip("skiff is not built")
        self.environment = dict(
            os.environ, SKIFF_ADDRESS=str(daemon.socket), SKIFF_NAMESPACE=daemon.namespace, SKIFF_LOG_DIR=str(logs)
        )

    def __call__(self, *args, stdin=None, timeout=60, **environment):
        return proc.run([self.path, *args], stdin=stdin, timeout=timeout, env=dict(self.environment, **environment))

    def start(self, *args, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        return proc.spawn(
            [self.path, *args], bufsize=0, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
        )

    def terminal(self, *args, rows=24, columns=80):
        return Terminal([self.path, *args], self.environment, rows, columns)


@pytest.fixture
def logs(tmp_path):
    return tmp_path / "logs"


@pytest.fixture
def skiff(daemon, logs, tmp_path):
    client = Skiff(daemon, logs)
    archive = images.oci_archive(images.simple(), tmp_path / "image.tar", FULL)
    client("import", "-q", str(archive)).ok()
    yield client
    for name in client("ps", "-aq").out.split():
        client("rm", "-f", name)
    for name in client("images", "-q").out.split():
        client("rmi", "--sync", name)


@pytest.fixture
def run(skiff, runtime):
    def call(*args, **more):
        return skiff("run", "--oci-runtime", runtime, *args, **more)

    return call


def test_output_streams_and_exit_code(run):
    got = run("--rm", SHORT, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (got.code, got.out, got.err) == (7, "out\n", "err\n")


def test_nothing_is_left_after_rm(skiff, run):
    run("--rm", SHORT, "true").ok()
    assert skiff("ps", "-aq").out == ""


def test_ten_megabytes_in_order_both_ways(run):
    data = os.urandom(10 << 20)
    got = run("--rm", "-i", SHORT, "cat", stdin=data)
    assert got.code == 0 and hashlib.sha256(got.raw).digest() == hashlib.sha256(data).digest()


def test_env_cwd_user(run, tmp_path):
    file = tmp_path / "env"
    file.write_text("# note\nFROM_FILE=1\nTYPED=file\n")
    got = run(
        *"--rm -e TYPED=here -e PASSED -w /tmp -u user".split(), "--env-file", str(file), SHORT,
        "sh", "-c", "id -u; id -g; id -G; pwd; echo $FROM_FILE $TYPED $PASSED $FROM", PASSED="outside",
    )
    assert got.out.split("\n")[:5] == ["1000", "1000", "1000 2000", "/tmp", "1 here outside image"]


@pytest.mark.parametrize("user, ids", [("1000", "1000 1000"), ("user:extra", "1000 2000"), ("77:88", "77 88"), ("root", "0 0")])
def test_users_by_name_and_number(run, user, ids):
    assert run("--rm", "-u", user, SHORT, "sh", "-c", "echo $(id -u) $(id -g)").out == ids + "\n"


def test_mounts_and_read_only_root(run, tmp_path):
    (tmp_path / "file").write_text("of the host\n")
    got = run(
        "--rm", "--read-only", "-v", f"{tmp_path}:/in:ro", "--mount", "type=tmpfs,destination=/scratch,tmpfs-size=1m", SHORT,
        "sh", "-c", "cat /in/file; touch /scratch/a && echo written; touch /in/b || touch /c || echo refused",
    )
    assert got.out == "of the host\nwritten\nrefused\n"


def test_privileged_has_what_there_is(run):
    """No more than skiff's own bounding set, which in a container is less than the kernel knows."""
    (mine,) = [line for line in open("/proc/self/status", encoding="ascii") if line.startswith("CapBnd")]
    for options in (["--privileged"], ["--cap-add", "ALL"]):
        assert run("--rm", *options, SHORT, "grep", "CapBnd", "/proc/self/status").out == mine


def test_environment_names_daemon_and_namespace(skiff, daemon):
    unset = dict(SKIFF_ADDRESS="", SKIFF_NAMESPACE="")
    general = dict(CONTAINERD_ADDRESS=str(daemon.socket), CONTAINERD_NAMESPACE=daemon.namespace)
    assert FULL in skiff("images", "-q", **{**unset, **general}).ok().out
    assert FULL in skiff("images", "-q", CONTAINERD_ADDRESS="/none", CONTAINERD_NAMESPACE="none").ok().out
    assert FULL in skiff("--address", str(daemon.socket), "-n", daemon.namespace, "images", "-q", SKIFF_ADDRESS="/none", SKIFF_NAMESPACE="none").out


def test_limits_reach_the_spec(skiff, run, api):
    run("-d", "--name", "limited", "--memory", "64m", "--cpus", "0.5", "--pids-limit", "50", SHORT, "sleep", "100").ok()
    record = api.containers.Get(id="limited")
    resources = json.loads(record.container.spec.value)["linux"]["resources"]
    assert resources["memory"]["limit"] == 64 << 20 and resources["cpu"]["quota"] == 50000
    assert resources["pids"]["limit"] == 50
    skiff("rm", "-f", "limited").ok()


@pytest.mark.parametrize("cmd, code", [("no-such-program", 127), ("/no/such", 127), ("/etc/passwd", 126), ("/etc", 126)])
def test_commands_that_cannot_run(skiff, run, cmd, code):
    got = run("--rm", SHORT, cmd)
    assert got.code == code and got.err.startswith("skiff: ")
    assert skiff("ps", "-aq").out == ""


def test_a_path_that_is_missing_is_no_missing_command(skiff, run):
    assert run("--rm", "-v", "/none:/x", SHORT, "true").code == 125
    assert run("--rm", "--oci-runtime", "none", SHORT, "true").code == 125
    run("-d", "--name", "box", SHORT, "sleep", "1000").ok()
    assert skiff("exec", "-w", "/none", "box", "true").code == 125
    assert skiff("exec", "box", "none").code == 127
    skiff("rm", "-f", "box").ok()


def test_detached_logs_ps_exec_kill_rm(skiff, run, logs, daemon):
    script = "echo one; echo two >&2; echo three; exec sleep 1000"
    assert run("-d", "--name", "web", SHORT, "sh", "-c", script).out == "web\n"
    proc.wait_until(lambda: "three" in skiff("logs", "web").out, 20, "the output")
    # Two pipes: what comes through one keeps its order, what comes through both need not.
    proc.wait_until(lambda: "two" in skiff("logs", "web").out, 20, "the errors")
    assert sorted(skiff("logs", "web").out.split()) == ["one", "three", "two"]
    assert len(skiff("logs", "--tail", "1", "web").out.split()) == 1

    row = skiff("ps").out.split("\n")[1].split()
    assert row[:2] == ["web", "busy:latest"] and "running" in row

    got = skiff("exec", "-u", "user", "-w", "/tmp", "-e", "X=y", "web", "sh", "-c", "id -u; pwd; echo $X $FROM; exit 5")
    assert (got.code, got.out) == (5, "1000\n/tmp\ny image\n")
    assert skiff("exec", "-i", "web", "cat", stdin=b"through").out == "through"

    got = skiff("rm", "web")
    assert got.code == 125 and "is running" in got.err and "skiff rm -f web" in got.err
    follower = skiff.start("logs", "-f", "web")
    skiff("kill", "web").ok()
    code, out, _ = finish(follower)
    assert (code, sorted(out.split())) == (0, ["one", "three", "two"])
    proc.wait_until(lambda: "exited (137)" in skiff("ps", "-a").out, 20, "the exit")
    assert skiff("ps", "-q").out == ""
    assert (logs / daemon.namespace / "web.log").exists()
    skiff("rm", "web").ok()
    assert not (logs / daemon.namespace).exists()


def test_calls_of_a_run(skiff, daemon, runtime, tmp_path):
    """Each costs a run its time; ARCHITECTURE.md says how many there are. (With an index there is one Read more.)"""
    with proxy(daemon.socket, tmp_path / "p.sock") as calls:
        got = skiff("--address", str(tmp_path / "p.sock"), "run", "--rm", "--oci-runtime", runtime, SHORT, "echo", "through")
    assert (got.code, got.out) == (0, "through\n")
    assert sorted(calls) == sorted(
        "Leases/Create Images/Get Content/Read Content/Read Snapshots/Prepare Containers/Create Leases/Delete Tasks/Create "
        "Tasks/Wait Tasks/Start Tasks/Delete Containers/Get Containers/Delete Snapshots/Remove".split()
    )


def test_a_log_begins_with_its_container(skiff, run, api, logs, daemon):
    log = logs / daemon.namespace / "again.log"
    run("-d", "--name", "again", SHORT, "echo", "first").ok()
    proc.wait_until(lambda: log.read_text() == "first\n", what="the output")
    assert run("-d", "--name", "again", SHORT, "true").code == 125
    assert log.read_text() == "first\n"
    proc.wait_until(lambda: "exited" in skiff("ps", "-a").out, what="the end")
    api.tasks.Delete(container_id="again")
    api.containers.Delete(id="again")
    api.snapshots.Remove(snapshotter="overlayfs", key="again")
    run("-d", "--name", "again", SHORT, "echo", "second").ok()
    proc.wait_until(lambda: log.read_text() == "second\n", what="the output")
    skiff("rm", "-f", "again").ok()
    assert run("-d", "--name", "again", SHORT, "no-such-program").code == 127
    assert not log.exists()


def test_a_program_takes_the_output(skiff, run, tmp_path):
    """containerd's logging programs: the output as descriptors 3 and 4; ready once 5 is closed."""
    logger = tmp_path / "logger"
    logger.write_text('#!/bin/sh\nexec 5>&-\n{ echo "$CONTAINER_ID"; cat <&3; } >"$2"\n')
    logger.chmod(0o755)
    run("-d", "--name", "logged", "--log-uri", f"binary://{logger}?to={tmp_path}/kept", SHORT, "echo", "text").ok()
    proc.wait_until(lambda: (tmp_path / "kept").read_text() == "logged\ntext\n", what="the output")
    got = skiff("logs", "logged")
    assert got.code == 125 and f"binary://{logger}" in got.err
    skiff("rm", "-f", "logged").ok()


def test_attached_runs_without_rm_keep_their_code(skiff, run):
    assert run("--name", "done", SHORT, "sh", "-c", "exit 4").code == 4
    assert "exited (4)" in skiff("ps", "-a").out
    got = skiff("logs", "done")
    assert got.code == 125 and "run -d" in got.err
    skiff("rm", "done").ok()


def test_signals_are_passed_on(skiff, runtime):
    child = skiff.start(
        *f"run --rm --oci-runtime {runtime} {SHORT} sh -c".split(), "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.05; done"
    )
    assert child.stdout.readline() == b"up\n"
    child.send_signal(signal.SIGTERM)
    code, out, _ = finish(child)
    assert (code, out) == (9, "got\n")


def test_a_process_that_ignores_interrupts_is_killed_by_the_third(skiff, runtime):
    """As pid 1 it ignores what it does not handle. Typed ones alone count: programs may send as many as they like."""
    terminal = skiff.terminal("run", "--rm", "--oci-runtime", runtime, SHORT, "sh", "-c", "trap 'echo got' INT; echo up; while :; do sleep 0.05; done")
    try:
        terminal.read_until("up\r\n")
        for _ in range(4):
            terminal.child.send_signal(signal.SIGINT)
            terminal.read_until("got\r\n")
        while terminal.child.poll() is None:
            terminal.write("\x03")
            with contextlib.suppress(subprocess.TimeoutExpired):
                terminal.child.wait(0.2)
        assert terminal.wait() == 137
    finally:
        terminal.close()
    assert skiff("ps", "-aq").out == ""


def test_fifos_of_a_killed_run_are_removed_by_a_later_one(skiff, runtime):
    fifos = pathlib.Path("/run/skiff/fifo")
    before = set(fifos.glob("*"))
    child = skiff.start("run", "--oci-runtime", runtime, "--name", "killed", SHORT, "sh", "-c", "echo ready; exec sleep 1000")
    assert child.stdout.readline() == b"ready\n"
    (left,) = set(fifos.glob("*")) - before
    child.kill()
    finish(child)

    def again():
        os.utime(left, (0, 0))
        skiff("run", "--rm", "--oci-runtime", runtime, SHORT, "true").ok()
        return left.exists()

    assert again(), "the container still writes there"
    skiff("rm", "-f", "killed").ok()
    assert not again()


def test_closed_descriptors_are_not_taken_for_others(skiff, runtime):
    """What is opened next gets the lowest free number: the connection must not become standard output."""
    command = f"exec {skiff.path} run --rm -i --oci-runtime {runtime} {SHORT} sh -c 'cat; echo out; echo err >&2; exit 3' "
    for closed, out, err in [("<&-", "out\n", "err\n"), (">&-", "", "err\n"), ("2>&-", "out\n", ""), ("<&- >&- 2>&-", "", "")]:
        got = proc.run(["sh", "-c", command + closed], stdin=b"", env=skiff.environment)
        assert (got.code, got.out, got.err) == (3, out, err), closed


def test_an_endless_writer_ends_with_its_reader(skiff, runtime):
    child = skiff.start(*f"run --rm --oci-runtime {runtime} {SHORT} yes".split())
    assert child.stdout.read(4) == b"y\ny\n"
    child.stdout.close()
    assert child.wait(30) == 137
    proc.forget(child)


def test_terminal(skiff, runtime):
    terminal = skiff.terminal(*f"run --rm -t -i --oci-runtime {runtime} {SHORT} sh".split(), rows=33, columns=111)
    try:
        terminal.write("stty size; tty; echo $TERM\n")
        assert "33 111" in terminal.read_until("xterm\r\n")
        terminal.resize(44, 122)
        terminal.read_until("44 122", nudge=lambda: terminal.write("stty size\n"))
        terminal.write("exit 6\n")
        assert terminal.wait() == 6
    finally:
        terminal.close()


def test_terminal_in_exec(skiff, run):
    run("-d", "--name", "box", SHORT, "sleep", "1000").ok()
    terminal = skiff.terminal("exec", "-ti", "box", "sh", "-c", "tty; stty size; read x; exit $x", rows=12, columns=34)
    try:
        terminal.read_until("/dev/pts/")
        terminal.write("8\n")
        assert terminal.wait() == 8
    finally:
        terminal.close()
    skiff("rm", "-f", "box").ok()


def test_a_terminal_needs_one(run):
    got = run("--rm", "-ti", SHORT, "true", stdin=b"")
    assert got.code == 125 and "needs a terminal" in got.err


def test_images(skiff):
    assert "busy:latest" in skiff("images").out
    skiff("images", "tag", SHORT, "other:1").ok()
    for words in ("images -q", "images ls -q", "images -q ls"):
        assert skiff(*words.split()).out.split() == [FULL, "docker.io/library/other:1"]
    got = skiff("tag", SHORT, "other:1")
    assert got.code == 125 and "--force" in got.err
    skiff("tag", "--force", SHORT, "other:1").ok()
    skiff("images", "tag", "--force", SHORT, "other:1").ok()
    skiff("images", "rm", "--sync", "other:1").ok()
    assert skiff("images", "ls", SHORT).code == skiff("images", "rm").code == skiff("images", "-f", "tag", SHORT).code == 125
    got = skiff("rmi", "other:1")
    assert got.code == 125 and "skiff images" in got.err
    assert skiff("images", "-q").out.split() == [FULL]


def test_export_and_import(skiff, tmp_path):
    archive = tmp_path / "out.tar"
    skiff("export", str(archive), SHORT).ok()
    skiff("rmi", "--sync", SHORT).ok()
    assert skiff("run", "--rm", SHORT, "true").code == 125
    skiff("import", "-q", "-", stdin=archive.read_bytes()).ok()
    skiff("run", "--rm", SHORT, "true").ok()
    before = archive.read_bytes()
    assert skiff("export", str(archive), SHORT, "missing").code == 125
    assert archive.read_bytes() == before and os.listdir(tmp_path).count("out.tar.part") == 0


def test_pull(skiff, registry):
    name = images.push(images.simple(config={"Cmd": ["echo", "pulled"]}), registry.address, "cli/pulled")
    got = skiff("pull", "--plain-http", name).ok()
    assert got.out.split("\n")[-2] == name and "\x1b" not in got.out
    assert skiff("run", "--rm", name).out == "pulled\n"
    got = skiff("pull", "--plain-http", "-q", f"{registry.address}/cli/none")
    assert got.code == 125 and got.err.startswith("skiff: ") and "no such repository or tag" in got.err, got.err
    got = skiff("pull", "--plain-http", "-q", "127.0.0.1:1/none")
    assert got.code == 125 and "Nothing answers there" in got.err, got.err


def test_pull_draws_on_a_terminal(skiff, registry):
    name = images.push(images.simple(), registry.address, "cli/drawn")
    terminal = skiff.terminal("pull", "--plain-http", name)
    try:
        assert terminal.wait(60) == 0
        assert "\x1b[K" in terminal.text and "done in" in terminal.text
    finally:
        terminal.close()


def test_errors_say_what_to_do(skiff, run, tmp_path):
    def refused(got, *words):
        assert got.code == 125 and got.out == "", got
        assert all(word in got.err for word in words), got.err

    refused(skiff("ps", "--address", str(tmp_path / "none.sock")), "no such socket", "systemctl start skiff")
    refused(run("missing"), 'image "docker.io/library/missing:latest": not found', "skiff pull docker.io/library/missing:latest")
    refused(run("UPPER"), "must be lowercase")
    refused(run("-u", "nobody-there", SHORT), 'no user "nobody-there"')
    refused(run("--bogus", SHORT), "--bogus", "skiff run --help")
    refused(run(), "too few arguments", "usage: skiff run")
    refused(run("-v", "name:/x", SHORT), "named volumes")
    refused(run("--memory", "much", SHORT), "no size")
    refused(run("--rm", "-d", SHORT), "--rm", "skiff rm")
    refused(run("--name", "no/slash", SHORT), "no/slash")
    refused(run("--snapshotter", "native", SHORT), "not unpacked", "skiff pull --snapshotter native")
    refused(skiff("bogus"), 'no command "bogus"', "skiff --help")
    refused(skiff("kill", "nothing"), "skiff ps -a")
    refused(skiff("import", "/etc/passwd"), "docker save")
    refused(skiff("a\x1b[2Jb\x7f"), 'no command "a?[2Jb?"')
    with open("/dev/full", "wb") as full:
        done = subprocess.run([skiff.path, "images"], env=skiff.environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 125 and "no space left" in done.stderr
    refused(skiff("kill", "-s", "NOPE", "nothing"), 'no signal "NOPE"')
    run("-d", "--name", "taken", SHORT, "sleep", "100").ok()
    refused(run("--name", "taken", SHORT), "already exists", "skiff rm taken")
    skiff("rm", "-f", "taken").ok()
    assert skiff("ps", "-aq").out == ""


def test_run_says_what_becomes_of_its_container_without_a_daemon(own_daemon, logs, tmp_path):
    daemon = own_daemon()
    skiff = Skiff(daemon, logs)
    skiff("import", "-q", str(images.oci_archive(images.simple(), tmp_path / "image.tar", FULL))).ok()
    child = skiff.start("run", "--name", "alone", SHORT, "sh", "-c", "echo ready; exec sleep 1000")
    assert child.stdout.readline() == b"ready\n"
    daemon.kill()
    code, _, err = finish(child)
    assert code == 125 and "skiff rm -f alone" in err
    daemon.start()
    assert "running" in skiff("ps").ok().out
    skiff("rm", "-f", "alone").ok()


def test_events(skiff, run):
    child = skiff.start("events", "topic~=|^/tasks/exit|")
    # The subscription has no answer of its own; so runs are made until one is seen.
    import select

    for _ in range(20):
        run("--rm", "--name", "seen", SHORT, "sh", "-c", "exit 3").code
        if select.select([child.stdout], [], [], 0.5)[0]:
            break
    line = child.stdout.readline().decode()
    child.kill()
    finish(child)
    when, _, topic, event = line.split(" ", 3)
    assert topic == "/tasks/exit" and when.endswith("Z")
    assert json.loads(event)["container_id"] == "seen" and json.loads(event)["exit_status"] == 3


def test_the_sockets_group_needs_no_other_rights(own_daemon, tmp_path):
    """But for names of users, which stand in directories of root's alone."""
    daemon = own_daemon(more_config="[grpc]\ngid = 54321\n")
    daemon.dir.chmod(0o755)
    archive = images.oci_archive(images.simple(), tmp_path / "image.tar", FULL)
    environment = dict(os.environ, SKIFF_ADDRESS=str(daemon.socket), SKIFF_NAMESPACE=daemon.namespace, SKIFF_LOG_DIR=f"{daemon.dir}/logs")
    environment["XDG_RUNTIME_DIR"] = str(daemon.dir / "own")
    (daemon.dir / "own").mkdir()
    program = shutil.copy(env.skiff_program("skiff"), daemon.dir)  # the tree may lie below a directory of root's
    os.chown(daemon.dir / "own", 54320, 54321)

    def skiff(*args, gid=54321, stdin=None):
        words = ["setpriv", "--reuid=54320", f"--regid={gid}", "--clear-groups", program, *args]
        return proc.run(words, stdin=stdin, env=environment)

    got = skiff("ps", gid=54322)
    assert got.code == 125 and "permission denied" in got.err and "gid" in got.err
    skiff("import", "-q", "-", stdin=archive.read_bytes()).ok()
    assert skiff("run", "--rm", "-i", "-u", "1000", SHORT, "sh", "-c", "cat; id -u", stdin=b"in\n").out == "in\n1000\n"
    got = skiff("run", "--rm", "-u", "user", SHORT, "true")
    assert got.code == 125 and "give numbers" in got.err
    skiff("run", "-d", "--name", "box", SHORT, "sh", "-c", "echo text; exec sleep 1000").ok()
    assert skiff("exec", "box", "id", "-u").out == "0\n"
    proc.wait_until(lambda: skiff("logs", "box").out == "text\n", what="the output")
    got = skiff("rm", "-f", "box").ok()
    assert "box.log stays: permission denied" in got.err
    assert list((daemon.dir / "own" / "skiff-fifo").iterdir()) == []


def test_several_remove_the_same(skiff, run):
    for _ in range(3):
        run("-d", "--name", "same", SHORT, "sleep", "1000").ok()
        children = [skiff.start("rm", "-f", "same") for _ in range(4)]
        assert [finish(child)[::2] for child in children] == [(0, "")] * 4
        assert skiff("ps", "-aq").out == ""


def test_version_and_help(skiff):
    got = skiff("version").ok()
    assert got.out.startswith("skiff: ") and "daemon: " in got.out
    manual = (env.REPO / "docs/man/skiff.1").read_text(encoding="utf-8").replace("\\", "")
    listed = [line.split()[0] for line in skiff("--help").ok().out.split("commands:\n")[1].split("\n\n")[0].split("\n")]
    for command in [*listed, "rmi", "tag"]:
        text = skiff(command, "--help").ok().out
        assert f"skiff {command} [OPTION" in text and "--help" in text, command
        for option in re.findall(r"^  (?:-., )?(--[a-z-]+)", text, re.MULTILINE):
            assert option in manual, f"skiff {command} {option} is not in the manual page"
        assert command in ("rmi", "tag") or f".SS {command}" in manual, command


def test_library_example_runs_a_container(skiff, daemon, tmp_path):
    """tests/client/example.c, built against the public headers and the library of the build tree."""
    if env.sanitized():
        pytest.skip("a sanitized library cannot be loaded by a plain program")
    program = tmp_path / "example"
    library = env.BUILD / "src" / "client"
    subprocess.run(
        ["cc", f"-I{env.REPO}/include", env.REPO / "tests/client/example.c", "-o", program, f"-L{library}", "-lskiff",
         f"-Wl,-rpath,{library}"], check=True,
    )
    assert proc.run([program, daemon.socket]).ok().out.startswith("library ")
    missing = proc.run([program, daemon.socket, SHORT, "true"])
    assert missing.code == 1 and missing.err.startswith("error 5: ")

    daemon.namespaces.add("example")  # the program's own
    skiff("import", "-q", str(tmp_path / "image.tar"), SKIFF_NAMESPACE="example").ok()
    got = proc.run([program, daemon.socket, SHORT, "sh", "-c", "echo hello; echo error >&2; exit 5"])
    assert (got.code, got.out, got.err) == (5, "hello\n", "error\n")
    skiff("rmi", "--sync", SHORT, SKIFF_NAMESPACE="example").ok()
    skiff("namespaces", "rm", "example").ok()
