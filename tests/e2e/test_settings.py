# SPDX-License-Identifier: Apache-2.0
"""Settings that are containerd's, each set to something else than its default, and what it does then."""

import json
import pathlib
import socket
import stat
import threading
import time

import grpc
import pytest

from harness import env, images, proc
from harness.api import Api, fails
from harness.clients import PrivateSkiff, finish
from harness.images import entry

pytestmark = pytest.mark.skiff_only

Code = grpc.StatusCode
STAT, WRITE, COMMIT = 0, 1, 2
OVERLAY = '[plugins."io.containerd.snapshotter.v1.overlayfs"]\n'
TRANSFER = '[plugins."io.containerd.transfer.v1.local"]\n'


def write(api, ref, data, **more):
    request = api.content.Write.request
    wanted = dict(total=len(data), expected=images.digest(data))
    actions = [dict(action=WRITE, data=data, **wanted), dict(action=COMMIT, offset=len(data), **wanted)]
    return list(api.content.Write(iter([request(ref=ref, **a) for a in actions]), **more))


@pytest.mark.parametrize("policy, offset", [("shared", 5), ("isolated", 0)])
def test_content_sharing_policy(own_daemon, policy, offset):
    daemon = own_daemon(more_config=f'[plugins."io.containerd.metadata.v1.bolt"]\ncontent_sharing_policy = "{policy}"\n')
    with Api(daemon) as one, Api(daemon, daemon.namespace_of_its_own("two")) as two:
        write(one, "r", b"bytes")
        request = two.content.Write.request
        asked = request(action=STAT, ref="r", total=5, expected=images.digest(b"bytes"))
        assert [a.offset for a in two.content.Write(iter([asked]))] == [offset]


def test_a_policy_that_there_is_not(own_daemon):
    daemon = own_daemon(more_config='[plugins."io.containerd.metadata.v1.bolt"]\ncontent_sharing_policy = "some"\n')
    assert 'must be \\"shared\\" or \\"isolated\\"' in daemon.log()


def test_messages_have_the_configured_size(own_daemon):
    daemon = own_daemon(more_config="[grpc]\nmax_recv_message_size = 100000\n")
    with Api(daemon) as api:
        write(api, "small", b"x" * 90000)
        text = fails(Code.RESOURCE_EXHAUSTED, write, api, "large", b"x" * 110000)
        assert "100000" in text


def test_owners_and_places_of_the_sockets(own_daemon, tmp_path):
    other = tmp_path / "shims.sock"
    daemon = own_daemon(more_config=f'[grpc]\nuid = 54320\n[ttrpc]\naddress = "{other}"\nuid = 54321\ngid = 54322\n')
    found = daemon.socket.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, 54320, 0)
    found = other.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, 54321, 54322)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(other))
    assert not pathlib.Path(f"{daemon.socket}.ttrpc").exists()


def test_oom_score(own_daemon):
    # A key of the file's top comes before any table.
    daemon = own_daemon()
    daemon.stop()
    config = daemon.dir / "config.toml"
    config.write_text("oom_score = 321\n" + config.read_text())
    daemon.start()
    assert pathlib.Path(f"/proc/{daemon.pid}/oom_score_adj").read_text() == "321\n"


def test_the_log_as_json(own_daemon):
    daemon = own_daemon(more_config='[debug]\nformat = "json"\n')
    daemon.stop()
    records = [json.loads(line) for line in daemon.log().splitlines()]
    assert {"level", "msg", "time"} <= set(records[0])
    assert any(r["msg"] == "skiffd successfully booted" for r in records)


def run_skiffd(*args):
    return proc.run([env.daemon_program(), *args]).ok().out


def test_an_older_file_is_migrated(tmp_path):
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text(
        'version = 2\noom_score = 5\n[grpc]\naddress = "/run/x.sock"\ngid = 7\n'
        '[plugins."io.containerd.gc.v1.scheduler"]\nschedule_delay = "3s"\n'
    )
    migrated = run_skiffd("--config", old, "config", "migrate")
    tables = migrated.split("\n\n")
    grpc_table = next(t for t in tables if t.startswith("[plugins.'io.containerd.server.v1.grpc']"))
    assert "version = 4" in tables[0] and "oom_score = 5" in tables[0]
    assert "gid = 7" in grpc_table and "address = '/run/x.sock'" in grpc_table and "\n[grpc]" not in migrated
    assert "schedule_delay = '3s'" in migrated
    new.write_text(migrated)
    assert run_skiffd("--config", new, "config", "migrate") == migrated
    # What flags say is in force, whatever the file says.
    dumped = run_skiffd("--config", new, "--root", "/elsewhere", "--log-level", "warn", "--address", "/run/y.sock", "config", "dump")
    assert "root = '/elsewhere'" in dumped and "level = 'warn'" in dumped and "address = '/run/y.sock'" in dumped


@pytest.mark.parametrize("level, seen", [("error", False), ("info", True)])
def test_the_level_of_the_log(tmp_path, level, seen):
    places = ["--root", tmp_path / "root", "--state", tmp_path / "state", "--address", tmp_path / "d.sock"]
    with open(tmp_path / "log", "wb") as log:
        child = proc.spawn([env.daemon_program(), *places, "--log-level", level], stderr=log, start_new_session=True)
    try:
        proc.wait_until((tmp_path / "d.sock").exists, what="the socket")
    finally:
        child.terminate()
        assert finish(child)[0] == 0
    assert ("level=info" in (tmp_path / "log").read_text()) == seen
    assert "level=debug" not in (tmp_path / "log").read_text()


# ---- snapshots


@pytest.mark.parametrize("name", ["overlayfs", "native"])
def test_the_root_of_a_snapshotter(own_daemon, tmp_path, name):
    daemon = own_daemon()  # its own tmpfs, where there is an overlay below
    place = daemon.dir / "elsewhere"
    daemon.stop()
    with open(daemon.dir / "config.toml", "a", encoding="utf-8") as config:
        config.write(f'[plugins."io.containerd.snapshotter.v1.{name}"]\nroot_path = "{place}"\n')
    daemon.start()
    with Api(daemon) as api:
        mounts = api.snapshots.Prepare(snapshotter=name, key="k").mounts
        assert pathlib.Path(mounts[0].source).is_relative_to(place) and pathlib.Path(mounts[0].source).is_dir()


def prepare_two(api):
    """A snapshot on a committed one, whose mount is an overlay."""
    api.snapshots.Prepare(snapshotter="overlayfs", key="base")
    api.snapshots.Commit(snapshotter="overlayfs", key="base", name="layer")
    return api.snapshots.Prepare(snapshotter="overlayfs", key="top", parent="layer").mounts[0]


def test_labels_and_options_of_overlays(own_daemon):
    daemon = own_daemon(more_config=OVERLAY + 'upperdir_label = true\nmount_options = ["xino=off"]\n')
    with Api(daemon) as api:
        mount = prepare_two(api)
        assert mount.type == "overlay" and "xino=off" in mount.options
        upper = next(o.removeprefix("upperdir=") for o in mount.options if o.startswith("upperdir="))
        info = api.snapshots.Stat(snapshotter="overlayfs", key="top").info
        assert info.labels["containerd.io/snapshot/overlay.upperdir"] == upper
    with Api(own_daemon()) as api:
        assert "xino=off" not in prepare_two(api).options
        assert not api.snapshots.Stat(snapshotter="overlayfs", key="top").info.labels


def test_removal_that_is_waited_for(own_daemon):
    with Api(own_daemon(more_config=OVERLAY + "sync_remove = true\n")) as api:
        for i in range(5):
            root = {"containerd.io/gc.root": "1"}
            fs = pathlib.Path(api.snapshots.Prepare(snapshotter="overlayfs", key=f"k{i}", labels=root).mounts[0].source)
            for j in range(2000):
                (fs / str(j)).touch()
            api.snapshots.Remove(snapshotter="overlayfs", key=f"k{i}")
            assert not fs.parent.exists()


# ---- garbage collection


def remove_something(api):
    """A lease goes, and what it alone held is garbage."""
    api.leases.Create(id="l")
    write(api, "r", b"garbage", metadata=(("containerd-lease", "l"),))
    api.leases.Delete(id="l")


def is_gone(api):
    try:
        api.content.Info(digest=images.digest(b"garbage"))
        return False
    except grpc.RpcError as error:
        assert error.code() == Code.NOT_FOUND
        return True


def test_deletions_make_a_collection_due(own_daemon):
    """The interval alone would be at least 5 ms / 0.00001, more than eight minutes."""
    daemon = own_daemon(more_config="pause_threshold = 0.00001\ndeletion_threshold = 1\n")
    with Api(daemon) as api:
        remove_something(api)
        proc.wait_until(lambda: is_gone(api), 20, "the collection")


def test_mutations_make_a_collection_due(own_daemon):
    """A blob that nothing refers to and no lease held: nothing was deleted that would ask for a collection."""
    daemon = own_daemon(more_config="mutation_threshold = 10\n")
    with Api(daemon) as api:
        write(api, "r", b"garbage")
        for i in range(10):
            api.leases.Create(id=f"l{i}")
        proc.wait_until(lambda: is_gone(api), 20, "the collection")


def test_a_collection_can_be_put_off(own_daemon):
    """Of those that somebody asks for; the interval of the others is made as long as above."""
    with Api(own_daemon(more_config='pause_threshold = 0.00001\nschedule_delay = "1s"\n')) as api:
        api.leases.Create(id="l")
        begin = time.monotonic()
        api.leases.Delete(id="l", sync=True)
        assert time.monotonic() - begin >= 1


# ---- transfers


def test_downloads_at_once(own_daemon, plain_registry):
    image = images.Image([images.tar([entry(f"f{i}", data=str(i))]) for i in range(6)])

    def most_at_once(setting, expected):
        lock, under_way, most, full = threading.Lock(), 0, 0, threading.Event()

        def delay(path):
            nonlocal under_way, most
            if "/blobs/" not in path:
                return
            with lock:
                under_way += 1
                most = max(most, under_way)
                if most >= expected:
                    full.set()
            full.wait(20)  # as many as should come together do
            time.sleep(0.1)  # and one too many would be seen
            with lock:
                under_way -= 1

        daemon = own_daemon(more_config=TRANSFER + setting)
        ref = plain_registry(delay=delay).put(image, "many")
        PrivateSkiff(daemon)("pull", "-q", "--plain-http", ref).ok()
        return most

    assert most_at_once("max_concurrent_downloads = 1\n", 1) == 1
    assert most_at_once("max_concurrent_downloads = 5\n", 5) == 5


def test_registries_as_the_configuration_has_them(own_daemon, plain_registry, tmp_path):
    registry = plain_registry()
    registry.put(images.simple(), "mirrored")
    directory = tmp_path / "hosts" / "example.org"
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(f'server = "http://{registry.address}"\n')
    daemon = own_daemon(more_config=TRANSFER + f'config_path = "{tmp_path}/hosts"\n')
    PrivateSkiff(daemon)("pull", "-q", "example.org/mirrored:latest").ok()


@pytest.mark.parametrize("strict", [False, True])
def test_images_of_another_architecture_are_unpacked_unless_checked(own_daemon, tmp_path, strict):
    other = "arm64" if images.ARCH != "arm64" else "amd64"
    image = images.Image([images.tar([entry("f", data="x")])], arch=other)
    archive = images.oci_archive(image, tmp_path / "a.tar", "example.com/other:1")
    daemon = own_daemon(more_config=TRANSFER + f"check_platform_supported = {str(strict).lower()}\n")
    PrivateSkiff(daemon)("import", "--platform", f"linux/{other}", archive)
    with Api(daemon) as api:
        found = [i for answer in api.snapshots.List(snapshotter="overlayfs") for i in answer.info]
        assert len(found) == (0 if strict else 1)
