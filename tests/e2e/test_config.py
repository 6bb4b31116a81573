# SPDX-License-Identifier: Apache-2.0
"""What docs/operations.md says of settings that are skiff's own, and of how the daemon is started."""

import os
import pathlib
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import threading

import pytest
from conftest import ANY_RUNTIME, IMAGE, best_ctr

from harness import env, images, proc
from harness.api import Api
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


def test_environment_and_sockets_of_shims(own_daemon, archive, tmp_path):
    settings = f'[plugins."io.containerd.runtime.v2.task"]\nenv = ["SHIM_TEST=here"]\nsocket_dir = "{tmp_path}/sockets"\n'
    daemon = own_daemon(more_config=settings)
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    ctr("run", "-d", "--runc-binary", ANY_RUNTIME, IMAGE, "c1", "sleep", "1000").ok()
    shim = proc.stat(int(ctr("tasks", "ls").ok().rows[0][1]))[2]
    assert b"SHIM_TEST=here" in pathlib.Path(f"/proc/{shim}/environ").read_bytes().split(b"\0")
    sockets = [p for p in (tmp_path / "sockets").iterdir() if stat.S_ISSOCK(p.stat().st_mode)]
    assert sockets
    ctr("tasks", "delete", "-f", "c1").ok()
    ctr("containers", "rm", "c1").ok()
    assert not any(p.exists() for p in sockets)


def test_the_socket_is_roots_or_a_groups(own_daemon):
    def owner(daemon):
        status = daemon.socket.stat()
        return stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid

    assert owner(own_daemon()) == (0o660, 0, 0)
    assert owner(own_daemon(more_config="[grpc]\ngid = 54321\n")) == (0o660, 0, 54321)


def a_commit_answers_before_the_sync(daemon, tries):
    """Whether after one of so many commits the record says that the disk has not got it yet."""
    with Api(daemon) as api, sqlite3.connect(daemon.database) as db:
        for i in range(tries):
            api.snapshots.Prepare(snapshotter="overlayfs", key=f"k{i}", labels={"containerd.io/gc.root": "1"})
            api.snapshots.Commit(snapshotter="overlayfs", key=f"k{i}", name=f"c{i}", labels={"containerd.io/gc.root": "1"})
            if db.execute("SELECT synced FROM snapshots WHERE key = ?", (f"c{i}",)).fetchone() == (0,):
                proc.wait_until(lambda: db.execute("SELECT min(synced) FROM snapshots WHERE kind = 3").fetchone() == (1,))
                return True
    return False


def test_commit_sync(own_daemon, archive):
    assert not a_commit_answers_before_the_sync(own_daemon(), 20)
    daemon = own_daemon(more_config='[plugins."io.containerd.service.v1.snapshots-service"]\ncommit_sync = "lazy"\n')
    assert a_commit_answers_before_the_sync(daemon, 1000)
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, IMAGE, "lazy", "true").ok()
    daemon = own_daemon(more_config='[plugins."io.containerd.service.v1.snapshots-service"]\ncommit_sync = "never"\n')
    assert 'commit_sync is \\"never\\", must be \\"full\\" or \\"lazy\\"' in daemon.log()


def test_the_service_manager_is_told(own_daemon, tmp_path):
    """The unit is of type notify."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        daemon = own_daemon(environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert b"READY=1" in manager.recv(4096).split(b"\n")
        daemon.stop()
        assert b"STOPPING=1" in manager.recv(4096).split(b"\n")


def test_closed_descriptors_are_not_taken_for_others(tmp_path):
    """Or the log would go into whatever file is opened first."""
    command = f'exec "{env.daemon_program()}" --root "$0/root" --state "$0/state" --address "$0/d.sock" <&- >&- 2>&-'
    child = proc.spawn(["sh", "-c", command, tmp_path], start_new_session=True)
    try:
        proc.wait_until((tmp_path / "d.sock").exists, what="the socket")
        assert [os.readlink(f"/proc/{child.pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    finally:
        child.terminate()
        assert finish(child)[0] == 0


def test_the_manual_page_has_every_option():
    text = proc.run([env.daemon_program(), "--help"]).ok().out
    manual = (env.REPO / "docs/man/skiffd.8").read_text(encoding="utf-8").replace("\\", "")
    options = re.findall(r"--[a-z-]+", text)
    assert len(options) > 5 and [o for o in options if o not in manual and o != "--help"] == []


def test_without_rights_it_says_so(tmp_path):
    program = shutil.copy(env.daemon_program(), tmp_path)  # the tree may lie below a directory of root's
    command = [program, "--root", tmp_path / "root", "--state", tmp_path / "state", "--address", tmp_path / "d.sock"]
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    got = subprocess.run(["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *command], capture_output=True, text=True, timeout=30, check=False)
    assert got.returncode == 1 and "as root" in got.stderr
