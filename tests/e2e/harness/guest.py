# SPDX-License-Identifier: Apache-2.0
"""What test_machine.py runs inside a virtual machine whose disk outlives its power: python3 -m harness.guest STEP."""

import hashlib
import os
import pathlib
import random
import sys
import threading

from harness import images, proc
from harness.clients import Ctr
from harness.daemon import Daemon
from harness.env import ctr_programs

NAME = "example.com/power:latest"
DIRECTORY = pathlib.Path("/disk/daemon")


def image():
    """Some thousand files of random bytes, the same at each call."""
    random_bytes = random.Random(7).randbytes
    files = [(f"data/{i:04}", random_bytes(500 + i * 7)) for i in range(2000)]
    digest = hashlib.sha256(b"".join(data for _, data in files)).hexdigest()
    layer = images.tar([images.entry("data", "dir"), *(images.entry(name, data=data) for name, data in files)])
    return images.Image([images.base_layer(), layer]), digest


def start():
    """A daemon whose root is on the disk, and whose state is as short-lived as the machine."""
    DIRECTORY.mkdir(exist_ok=True)
    (DIRECTORY / "state").unlink(missing_ok=True)
    (DIRECTORY / "state").symlink_to("/run/state")
    os.mkdir("/run/state")
    daemon = Daemon(directory=DIRECTORY)
    daemon.namespace = "default"
    return daemon.start(), Ctr(max(ctr_programs()), daemon)


def fill():
    """Import an image, make a container of it, say so, and wait for the end of the power."""
    _, ctr = start()
    archive = images.oci_archive(image()[0], "/tmp/power.tar", NAME)
    ctr("images", "import", archive).ok()
    ctr("containers", "create", NAME, "kept", "cat", "/etc/passwd").ok()
    print("filled", flush=True)
    threading.Event().wait()


def check():
    """All that was acknowledged is there, and complete."""
    daemon, ctr = start()
    assert NAME in ctr("images", "ls", "-q").ok().lines
    assert ctr("containers", "ls", "-q").ok().lines == ["kept"]
    digest = image()[1]
    got = ctr("run", "--rm", NAME, "c1", "sh", "-c", "cat /data/* | sha256sum").ok().out.split()[0]
    assert got == digest, f"the files of the image differ after the power cut: {got}, not {digest}"
    ctr("tasks", "start", "kept").ok()
    # And the daemon, which has seen how the last one ended, finds it so by itself.
    proc.wait_until(lambda: "checked what is kept" in daemon.log(), 120, "the end of the check")
    assert "the machine went down" in daemon.log() and "damaged=0" in daemon.log()
    print("repaired" if "unpacked again" in daemon.log() else "complete", flush=True)
    daemon.stop()


if __name__ == "__main__":
    os.environ.setdefault("HOME", "/root")
    {"fill": fill, "check": check}[sys.argv[1]]()
