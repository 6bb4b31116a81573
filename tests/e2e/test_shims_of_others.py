# SPDX-License-Identifier: Apache-2.0
"""Shims and daemons are each other's strangers: containerd's shim under skiffd, and skiff's under containerd 2.3.4."""

import os

import pytest
from conftest import IMAGE, best_ctr

from harness import env, proc
from harness.clients import Ctr

pytestmark = pytest.mark.skiff_only


def shim_of(ctr, name):
    """The program that the shim of a running task is."""
    pid = next(int(row[1]) for row in ctr("tasks", "ls").ok().rows if row[0] == name)
    return proc.cmdline(proc.stat(pid)[2]).split()[0]


def remove(ctr, name):
    ctr("tasks", "delete", "-f", name)
    ctr("containers", "rm", name)


@pytest.mark.skipif(not (env.GO_BIN / "containerd-shim-runc-v2").exists(), reason="no containerd-shim-runc-v2 (scripts/peers all)")
def test_the_shim_of_containerd(own_daemon, archive):
    """Where the configuration says so, containerd's own shim runs what asks for it, as it would under containerd."""
    daemon = own_daemon(more_config='[plugins."io.containerd.runtime.v2.task"]\nreplace_runc_shim = false\n')
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    ctr("run", "-d", IMAGE, "c1", "sleep", "1000").ok()
    try:
        assert shim_of(ctr, "c1").endswith("/containerd-shim-runc-v2")
        assert ctr("tasks", "exec", "--exec-id", "x", "c1", "echo", "here").ok().out == "here\n"
        daemon.kill()
        daemon.start()
        assert ctr("tasks", "exec", "--exec-id", "x", "c1", "echo", "still here").ok().out == "still here\n"
    finally:
        remove(ctr, "c1")
    assert ctr("run", "--rm", IMAGE, "c2", "sh", "-c", "echo out; exit 3").code == 3


@pytest.mark.skipif(not env.daemon_program("containerd") or "2.3" not in env.ctr_programs(), reason="no containerd 2.3.4 (scripts/peers all)")
def test_the_shim_of_skiff_under_containerd(own_daemon, archive):
    """By its own name, and as it does for skiffd: exits, execs, signals, limits, and the daemon's end."""
    path = f"{env.skiff_program('containerd-shim-skiff-v2').parent}:{os.environ['PATH']}"
    daemon = own_daemon(kind="containerd", environment={"PATH": path})
    ctr = Ctr("2.3", daemon)
    ctr("images", "import", archive).ok()
    options = ["--runtime", "io.containerd.skiff.v2"]

    got = ctr("run", "--rm", *options, IMAGE, "short", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (got.code, got.out) == (3, "out\n") and "err\n" in got.err, got.err

    ctr("run", "-d", *options, "--memory-limit", "67108864", IMAGE, "long", "sleep", "1000").ok()
    try:
        assert shim_of(ctr, "long").endswith("/containerd-shim-skiff-v2")
        assert ctr("tasks", "exec", "--exec-id", "x", "long", "sh", "-c", "echo here; exit 4").code == 4
        ctr("tasks", "pause", "long").ok()
        ctr("tasks", "resume", "long").ok()
        assert "67108864" in ctr("tasks", "metrics", "long").ok().out
        daemon.kill()
        daemon.start()
        assert ctr("tasks", "exec", "--exec-id", "y", "long", "echo", "still here").ok().out == "still here\n"
        ctr("tasks", "kill", "-s", "KILL", "long").ok()
        stopped = lambda: [row[2] for row in ctr("tasks", "ls").ok().rows] == ["STOPPED"]
        proc.wait_until(stopped, 20, "the end of the task")
        assert ctr.delete_task("long") == 137
    finally:
        remove(ctr, "long")
    # Deleting is what ends a shim, and containerd hears of it from the shim alone.
    proc.wait_until(lambda: not any("containerd-shim-skiff-v2" in proc.cmdline(pid) and str(daemon.dir) in proc.cmdline(pid) for pid in proc.all_pids()), 20, "the end of its shims")
