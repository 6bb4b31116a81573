# SPDX-License-Identifier: Apache-2.0
"""What a power cut takes: unpacked layers that were acknowledged before they were on the disk. The machine is not
switched off here; the database is told that the layers were written in another boot, and the files are spoilt."""

import pathlib
import sqlite3
import subprocess

import pytest
from conftest import ANY_RUNTIME, IMAGE

from harness import images, proc
from harness.clients import PrivateSkiff

pytestmark = pytest.mark.skiff_only


@pytest.fixture
def imported(own_daemon, tmp_path):
    daemon = own_daemon()
    skiff = PrivateSkiff(daemon)
    archive = images.oci_archive(images.simple(), tmp_path / "image.tar", IMAGE)
    skiff("import", "-q", str(archive)).ok()
    return daemon, skiff


def database(daemon):
    return sqlite3.connect(daemon.database)


def rows(daemon):
    """Of the committed snapshots: number, directory, blob, synced."""
    with database(daemon) as db:
        return db.execute("SELECT number, directory, blob, synced FROM snapshots WHERE kind = 3 ORDER BY number").fetchall()


def tree(directory):
    """Everything below, as `find` shows it."""
    line = "%P %y %m %U %G %s %l %T@\n"
    return sorted(subprocess.run(["find", directory, "-mindepth", "1", "-printf", line], check=True, capture_output=True, text=True).stdout.splitlines())


def lose(daemon):
    """Stop the daemon once all is synced, and return what the layers look like before they are spoilt."""
    proc.wait_until(lambda: all(row[3] for row in rows(daemon)), 30, "the background sync")
    daemon.stop()
    layers = rows(daemon)
    assert len(layers) == 2 and all(row[2] for row in layers)
    before = [tree(f"{row[1]}/fs") for row in layers]
    with database(daemon) as db:
        db.execute("UPDATE snapshots SET synced = 0, boot_id = 'another' WHERE kind = 3")
    for row in layers:
        for path in pathlib.Path(row[1], "fs").rglob("*"):
            if path.is_file() and not path.is_symlink():
                path.write_bytes(b"\0" * 10)
        pathlib.Path(row[1], "fs", "left-by-the-crash").touch()
    return before


def test_layers_that_were_not_on_disk_are_unpacked_again(imported, tmp_path):
    daemon, skiff = imported
    before = lose(daemon)
    daemon.start()
    assert [tree(f"{row[1]}/fs") for row in rows(daemon)] == before
    assert all(row[3] for row in rows(daemon))
    assert "unpacked again what was not on disk" in daemon.log()
    if ANY_RUNTIME != "none":
        assert skiff("run", "--rm", IMAGE, "echo", "whole").ok().out == "whole\n"


@pytest.mark.skipif(ANY_RUNTIME == "none", reason="no OCI runtime in PATH")
def test_layers_whose_blobs_are_gone_too_are_refused(imported, tmp_path):
    daemon, skiff = imported
    lose(daemon)
    daemon.blob(rows(daemon)[0][2]).unlink()
    daemon.start()
    got = skiff("run", "--rm", IMAGE, "true")
    assert got.code != 0 and "was lost when the machine went down" in got.err
    # As the message says: without its image it goes, and a new one works.
    skiff("rmi", "--sync", IMAGE).ok()
    skiff("import", "-q", str(tmp_path / "image.tar")).ok()
    assert skiff("run", "--rm", IMAGE, "echo", "whole").ok().out == "whole\n"
