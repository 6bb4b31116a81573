# SPDX-License-Identifier: Apache-2.0
"""Wrong orders and wrong names: the errors are containerd's, and nothing is left over."""

import contextlib
import os
import subprocess

import grpc
import pytest
from conftest import ANY_RUNTIME, collect

from harness import proc
from harness.api import fails, message, to_any
from harness.clients import finish
from harness.runtimes import gated_runtime

Code = grpc.StatusCode


def test_wrong_names(ctr, api, image, transcript):
    collect(api)  # the snapshots that the other generation of ctr left behind
    t = transcript()
    run = ["run", "--rm", "--runc-binary", ANY_RUNTIME]
    t.add("run of an image that is not there", ctr(*run, "example.com/none:1", "c1", "true"))
    t.add("run with a bad id", ctr(*run, image, "a/b", "true"))
    t.add("run with a long id", ctr(*run, image, "x" * 100, "true"))
    t.add("run with a runtime that is not there", ctr("run", "--rm", "--runtime", "io.containerd.nothing.v9", image, "c1", "true"))
    t.add("run with a snapshotter that is not there", ctr(*run, "--snapshotter", "nothing", image, "c1", "true"))
    for verb in ("start", "kill", "pause", "resume", "delete", "ps", "metrics", "attach"):
        t.add(f"tasks {verb} of what is not there", ctr("tasks", verb, "none"))
    t.add("tasks exec in what is not there", ctr("tasks", "exec", "--exec-id", "x", "none", "true"))
    t.add("containers rm of what is not there", ctr("containers", "rm", "none"))
    t.add("images rm of what is not there", ctr("images", "rm", "none"))
    t.add("tasks ls", ctr("tasks", "ls"))
    t.add("containers ls", ctr("containers", "ls"))


def test_a_failed_run_leaves_nothing(ctr, runtime, image):
    """The error is the OCI runtime's, and the id can be used again."""
    got = ctr("run", "--rm", "--runc-binary", runtime, image, "c1", "/no/such/program")
    assert got.code != 0
    assert "/no/such/program" in got.err and ("not found" in got.err or "no such file" in got.err.lower()), got.err
    got = ctr("run", "--rm", "--runc-binary", runtime, "--cwd", "/etc/passwd", image, "c1", "true")
    assert got.code != 0
    for cid in ctr("containers", "ls", "-q").ok().lines:
        ctr("containers", "rm", cid).ok()
    assert ctr("run", "--rm", "--runc-binary", runtime, image, "c1", "echo", "again").ok().out == "again\n"


def test_a_mount_that_is_not_there(ctr, runtime, image):
    got = ctr("run", "--rm", "--runc-binary", runtime, "--mount", "type=bind,src=/no/such,dst=/mnt,options=rbind", image, "c1", "true")
    assert got.code != 0 and "/no/such" in got.err
    for cid in ctr("containers", "ls", "-q").ok().lines:
        ctr("containers", "rm", cid).ok()


def test_a_runtime_binary_that_is_not_there(ctr, image):
    got = ctr("run", "--rm", "--runc-binary", "/no/such/runtime", image, "c1", "true")
    assert got.code != 0 and "/no/such/runtime" in got.err
    for cid in ctr("containers", "ls", "-q").ok().lines:
        ctr("containers", "rm", cid).ok()


def test_the_same_id_twice(ctr, runtime, image):
    ctr("run", "-d", "--runc-binary", runtime, image, "c1", "sleep", "1000").ok()
    ctr("run", "-d", "--runc-binary", runtime, image, "c1", "true").fails("already exists")
    assert [r[:1] + r[2:] for r in ctr("tasks", "ls").ok().rows] == [["c1", "RUNNING"]]
    ctr("tasks", "delete", "-f", "c1")
    ctr("containers", "rm", "c1").ok()


def test_a_client_that_is_killed_leaves_a_container_that_can_be_removed(ctr, runtime, image):
    child = ctr.start("run", "--runc-binary", runtime, image, "c1", "sleep", "1000")
    proc.wait_until(lambda: [r[2] for r in ctr("tasks", "ls").ok().rows] == ["RUNNING"])
    child.kill()
    child.wait()
    proc.forget(child)
    assert [r[2] for r in ctr("tasks", "ls").ok().rows] == ["RUNNING"]
    ctr("tasks", "delete", "-f", "c1")
    ctr("containers", "rm", "c1").ok()


def test_create_waits_until_a_dead_shims_container_is_removed(any_ctr, image, daemon, tmp_path):
    gate, runtime = gated_runtime(tmp_path, "delete", ANY_RUNTIME)
    any_ctr("run", "-d", "--runc-binary", runtime, image, "c1", "sleep", "1000").ok()
    init = int(any_ctr("tasks", "ls").ok().rows[0][1])
    proc.kill(proc.stat(init)[2])
    cleaning = os.open(gate, os.O_WRONLY)
    any_ctr("containers", "rm", "c1").ok()
    second = any_ctr.start("run", "--rm", "--runc-binary", ANY_RUNTIME, image, "c1", "echo", "again")
    with contextlib.suppress(subprocess.TimeoutExpired):
        second.wait(1)
    os.write(cleaning, b"\n")
    os.close(cleaning)
    assert finish(second) == (0, "again\n", "")


@pytest.mark.skiff_only
def test_a_runtime_that_hangs_in_create_is_undone_after_the_deadline(any_ctr, api, image, daemon, tmp_path):
    _, runtime = gated_runtime(tmp_path, "create", ANY_RUNTIME)
    any_ctr("containers", "create", image, "c1", "true").ok()
    rootfs = api.snapshots.Mounts(snapshotter="overlayfs", key="c1").mounts
    options = to_any(message("containerd.runc.v1.Options")(binary_name=str(runtime)))
    fails(Code.DEADLINE_EXCEEDED, api.tasks.Create, container_id="c1", rootfs=rootfs, options=options, timeout=1)
    any_ctr("containers", "rm", "c1").ok()
    # The id is free once the shim that hangs was ended.
    assert any_ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, image, "c1", "echo", "again").ok().out == "again\n"


@pytest.mark.skiff_only
def test_a_runtime_that_hangs_in_exec_does_not_keep_the_container(any_ctr, api, image, daemon, tmp_path):
    _, runtime = gated_runtime(tmp_path, "exec", ANY_RUNTIME)
    any_ctr("run", "-d", "--runc-binary", runtime, image, "c1", "sleep", "1000").ok()
    spec = message("google.protobuf.Any")(type_url="process", value=b'{"args":["true"],"cwd":"/"}')
    api.tasks.Exec(container_id="c1", exec_id="e", spec=spec)
    fails(Code.DEADLINE_EXCEEDED, api.tasks.Start, container_id="c1", exec_id="e", timeout=1)
    assert [p.pid for p in api.tasks.ListPids(container_id="c1").processes] != []
    api.tasks.Kill(container_id="c1", signal=9)
    assert api.tasks.Wait(container_id="c1", timeout=30).exit_status == 137
    any_ctr("tasks", "delete", "c1").ok()
    any_ctr("containers", "rm", "c1").ok()


@pytest.mark.parametrize("victim", ["shim", "init"])
def test_a_killed_part_becomes_an_exit(any_ctr, runtime, image, daemon, victim):
    """Whoever kills the shim: the task ends with 137, and the id can be started again."""
    any_ctr("run", "-d", "--runc-binary", runtime, image, "c1", "sleep", "1000").ok()
    init = int(any_ctr("tasks", "ls").ok().rows[0][1])
    shim = proc.stat(init)[2]
    assert "shim" in proc.cmdline(shim)
    proc.kill(shim if victim == "shim" else init)
    proc.wait_until(lambda: not proc.alive(init), 20, "the end of the container's process")

    def over():
        rows = any_ctr("tasks", "ls").ok().rows
        return not rows or rows[0][2] == "STOPPED"

    proc.wait_until(over, 20, "the end of the task")
    any_ctr("tasks", "delete", "-f", "c1")
    any_ctr("containers", "rm", "c1").ok()
    any_ctr("run", "--rm", "--runc-binary", runtime, image, "c1", "true").ok()
