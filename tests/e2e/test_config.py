# SPDX-License-Identifier: Apache-2.0
"""Settings that are skiff's own: the user that workers become, and the limits of layers."""

import pathlib
import threading

import pytest
from conftest import IMAGE, best_ctr

from harness import env, images, proc
from harness.clients import finish
from harness.images import entry

pytestmark = pytest.mark.skiff_only

DIFFER = '[plugins."io.containerd.differ.v1.walking"]\n'


@pytest.mark.parametrize(
    "setting, size, text",
    [("max_entries = 2", 1, "more than 2 entries"), ("max_inflation = 10", 300 << 20, "more than 10 bytes for each compressed one")],
    ids=["entries", "inflation"],
)
def test_limits_of_a_layer(own_daemon, tmp_path, setting, size, text):
    layer = images.tar([entry("a", data=bytes(size)), entry("b", data="b"), entry("c", data="c")])
    path = images.oci_archive(images.Image([layer]), tmp_path / "a.tar", "example.com/limits:1")
    best_ctr(own_daemon(more_config=DIFFER + setting))("images", "import", path).fails(text)


def uids_of(name, parent):
    found = set()
    for pid in proc.descendants(parent):
        if proc.stat(pid) and proc.stat(pid)[0].startswith(name):
            status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
            found |= {int(line.split()[1]) for line in status if line.startswith("Uid:")}
    return found


def test_user_of_the_workers(own_daemon, plain_registry):
    go = threading.Event()
    registry = plain_registry(delay=lambda path: go.wait(30))
    daemon = own_daemon(more_config=DIFFER + "worker_uid = 64321")
    ref = registry.put(images.simple(), "uid")
    pull = proc.spawn([env.skiff_program("skiff"), "--address", daemon.socket, "pull", "-q", "--plain-http", ref])
    try:
        proc.wait_until(lambda: uids_of("skiff-fetch", daemon.pid) == {64321})
    finally:
        go.set()
        assert finish(pull)[0] == 0


@pytest.mark.skipif(not (env.GO_BIN / "containerd-shim-runc-v2").exists(), reason="no containerd-shim-runc-v2 (scripts/peers all)")
def test_the_shim_of_containerd(own_daemon, archive):
    """Where the configuration says so, containerd's own shim runs what asks for it, as it would under containerd."""
    daemon = own_daemon(more_config='[plugins."io.containerd.runtime.v2.task"]\nreplace_runc_shim = false\n')
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    ctr("run", "-d", IMAGE, "c1", "sleep", "1000").ok()
    try:
        pid = int(ctr("tasks", "ls").ok().rows[0][1])
        assert "containerd-shim-runc-v2" in proc.cmdline(proc.stat(pid)[2])
        assert ctr("tasks", "exec", "--exec-id", "x", "c1", "echo", "here").ok().out == "here\n"
    finally:
        ctr("tasks", "delete", "-f", "c1")
        ctr("containers", "rm", "c1")
    assert ctr("run", "--rm", IMAGE, "c2", "sh", "-c", "echo out; exit 3").code == 3
