# SPDX-License-Identifier: Apache-2.0
"""What needs a machine of its own: a kernel with cgroup v2 alone, and a power cut. See scripts/vm."""

import os
import shutil
import signal
import subprocess

import pytest

from harness import env

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("qemu-system-x86_64") or not (env.PEERS / "vm" / "kernel").exists(),
        reason="there is no virtual machine: scripts/deps vm",
    ),
    pytest.mark.skipif(env.sanitized(), reason="emulated, a sanitizer's build is too slow"),
]

VM = env.REPO / "scripts" / "vm"
TESTS = "memory or metrics or paused or ps or terminal"


@pytest.fixture
def machine(tmp_path):
    """Starts one that runs a command; what is left of it ends with the test."""
    made = []

    def start(*command):
        made.append(
            subprocess.Popen(
                [VM, *command],
                cwd=env.REPO / "tests" / "e2e",
                env=dict(os.environ, TMPDIR=str(tmp_path), SKIFF_PEERS=str(env.PEERS), SKIFF_BUILD=str(env.BUILD)),
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return made[-1]

    yield start
    for child in made:
        cut_power(child)


def cut_power(child):
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


def test_cgroup_v2(machine):
    newest = max(env.ctr_programs(), default="none")
    child = machine(env.REPO / "scripts" / "e2e", "test_tasks.py", "test_run.py", "-k", f"({TESTS}) and ctr{newest} and not runc")
    out, _ = child.communicate()
    assert child.returncode == 0 and " passed" in out, out


def test_power_cut(machine, tmp_path):
    """What the daemon acknowledged is there after the power was cut, although files were not on the disk yet."""
    guest = ["--disk", tmp_path / "disk", "/usr/bin/python3", "-m", "harness.guest"]
    child = machine(*guest, "fill")
    seen = []
    for line in child.stdout:
        seen.append(line)
        if line.strip() == "filled":
            break
    else:
        raise AssertionError("".join(seen))
    cut_power(child)
    child = machine(*guest, "check")
    out, _ = child.communicate()
    assert child.returncode == 0 and out.split()[-1] in ("repaired", "complete"), out
