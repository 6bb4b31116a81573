# SPDX-License-Identifier: Apache-2.0
"""After kill -9: what is kept is checked while the daemon serves already, told of in the log, and repaired where that can
be done. After a clean stop nothing is checked."""

import pathlib
import sqlite3

import pytest
from conftest import IMAGE

from harness import images, proc
from harness.clients import PrivateSkiff

pytestmark = pytest.mark.skiff_only

CHECKING, CHECKED = "checking what is kept", 'msg="checked what is kept"'


@pytest.fixture
def imported(own_daemon, tmp_path):
    daemon = own_daemon()
    skiff = PrivateSkiff(daemon)
    skiff("import", "-q", images.oci_archive(images.simple(), tmp_path / "image.tar", IMAGE)).ok()
    return daemon, skiff


def select(daemon, sql):
    with sqlite3.connect(daemon.database) as db:
        return db.execute(sql).fetchall()


def layers(daemon):
    """Directories of the committed snapshots, once all are on the disk, and the digests that they came from."""
    sql = "SELECT directory, blob, synced FROM snapshots WHERE kind = 3 ORDER BY number"
    proc.wait_until(lambda: all(row[2] for row in select(daemon, sql)), 30, "the background sync")
    return [(pathlib.Path(row[0]), row[1]) for row in select(daemon, sql)]


def end(daemon, how):
    daemon.stop() if how == "clean" else daemon.kill()


def start(daemon):
    """Start it again, and return what it logs from now on as a function."""
    mark = len(daemon.log())
    daemon.start()
    return lambda: daemon.log()[mark:]


def wait_for(log, word):
    proc.wait_until(lambda: word in log(), 60, f"the log's {word!r}")
    return next(line for line in log().splitlines() if word in line)


def lock_file(daemon):
    return daemon.root / "skiffd.lock"


def machine_went_down(daemon):
    """What the record says is of another boot."""
    text = lock_file(daemon).read_text()
    assert text.startswith("running ")
    lock_file(daemon).write_text("running " + "0" * 36 + text[44:])


def test_checked_after_a_kill_and_not_after_a_clean_stop(own_daemon):
    daemon = own_daemon()
    assert CHECKING not in daemon.log()
    daemon.stop()
    log = start(daemon)
    proc.wait_until(daemon.answers)
    assert CHECKING not in log()
    daemon.kill()
    log = start(daemon)
    wait_for(log, CHECKED)
    assert "skiffd was killed" in log() and "booted" in log().split(CHECKING)[0]
    # Checked once, and this end is a clean one.
    daemon.stop()
    log = start(daemon)
    assert CHECKING not in log()
    # A start that comes to nothing leaves the record to the next one.
    daemon.kill()
    config = daemon.dir / "config.toml"
    good = config.read_text()
    config.write_text(good.replace("version = 3", 'version = 3\nrequired_plugins = ["no.such.plugin"]'))
    daemon.start(wait=False)
    assert daemon.child.wait(30) != 0
    config.write_text(good)
    log = start(daemon)
    wait_for(log, CHECKED)


@pytest.mark.parametrize("how", ["clean", "kill"])
def test_both_sides_are_compared_at_each_start(imported, how):
    """Directories without a record go; a record without a directory is unpacked again, or told of."""
    daemon, skiff = imported
    (base, _), (top, top_blob) = layers(daemon)
    names = sorted(p.name for p in (base / "fs").iterdir())
    end(daemon, how)
    (base.parent / "4711" / "fs").mkdir(parents=True)
    (daemon.root / "io.containerd.content.v1.content/ingest/stray").mkdir()
    stray = daemon.blob("sha256:" + "0" * 64)
    stray.write_bytes(b"nobody's")
    base.rename(daemon.dir / "taken")
    daemon.blob(top_blob).unlink()
    log = start(daemon)
    wait_for(log, "unpacked again what was not on disk")
    assert sorted(p.name for p in (base / "fs").iterdir()) == names
    wait_for(log, "removed directories that no snapshot names")
    assert "blobs=1 ingests=1" in wait_for(log, "removed content that no record names")
    proc.wait_until(lambda: not (base.parent / "4711").exists() and not stray.exists())
    assert top_blob in wait_for(log, "content has a record and no bytes")
    assert top.exists()


def test_lost_bytes_come_back_with_the_next_import(imported, tmp_path):
    daemon, skiff = imported
    digests = {digest for _, digest in layers(daemon)}
    for digest in digests:
        daemon.blob(digest).unlink()
    skiff("import", "-q", tmp_path / "image.tar").ok()
    for digest in digests:
        assert images.digest(daemon.blob(digest).read_bytes()) == digest


def test_lost_bytes_come_back_with_the_next_pull(own_daemon, plain_registry):
    daemon = own_daemon()
    skiff = PrivateSkiff(daemon)
    image = images.simple()
    ref = plain_registry().put(image, "lost")
    skiff("pull", "-q", "--plain-http", ref).ok()
    parts = [*image.blobs, *image.manifests]
    for part in parts:
        daemon.blob(part.digest).unlink()
    # A layer that is unpacked is not asked for.
    skiff("pull", "-q", "--plain-http", ref).ok()
    assert {p.digest for p in parts if not daemon.blob(p.digest).exists()} == {p.digest for p in image.layers}
    skiff("rmi", "--sync", ref).ok()
    skiff("pull", "-q", "--plain-http", ref).ok()
    for part in parts:
        assert daemon.blob(part.digest).read_bytes() == part.data


def test_damaged_content_is_taken_away_and_comes_back(imported, tmp_path):
    """A kill cannot spoil bytes, so only sizes are compared; where the machine went down, digests are."""
    daemon, skiff = imported
    short, altered = (digest for _, digest in layers(daemon))
    daemon.kill()
    data = daemon.blob(altered).read_bytes()
    daemon.blob(altered).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    daemon.blob(short).write_bytes(daemon.blob(short).read_bytes()[:-1])
    log = start(daemon)
    assert short in wait_for(log, "content is damaged and was taken away")
    assert "damaged=1" in wait_for(log, CHECKED)
    assert not daemon.blob(short).exists() and daemon.blob(altered).exists()

    daemon.kill()
    machine_went_down(daemon)
    log = start(daemon)
    assert altered in wait_for(log, "content is damaged and was taken away")
    assert "damaged=1" in wait_for(log, CHECKED) and "the machine went down" in log()
    skiff("import", "-q", tmp_path / "image.tar").ok()
    for digest in (short, altered):
        assert images.digest(daemon.blob(digest).read_bytes()) == digest


def test_damaged_metadata_is_told_of_at_each_start(imported):
    """What cannot be repaired stays a finding until it is mended, clean stops or not."""
    daemon, _ = imported
    daemon.kill()
    with sqlite3.connect(daemon.database) as db:
        db.execute("INSERT INTO lease_resources VALUES ('default', 'gone', 'content', 'sha256:aa')")
    for _ in range(2):
        log = start(daemon)
        assert "lease gone of default holds things and has no record" in wait_for(log, "the metadata is not sound")
        daemon.stop()
    with sqlite3.connect(daemon.database) as db:
        db.execute("DELETE FROM lease_resources WHERE lease = 'gone'")
    log = start(daemon)
    wait_for(log, CHECKED)
