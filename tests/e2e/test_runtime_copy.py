# SPDX-License-Identifier: Apache-2.0
"""crun runs from one sealed copy in memory instead of making one at each call. Hooks see which file that is: crun is
their parent."""

import json
import shutil

import pytest
from conftest import IMAGE, best_ctr

from harness.api import Api, message, to_any

pytestmark = [
    pytest.mark.skiff_only,
    pytest.mark.skipif(not shutil.which("crun"), reason="no crun in PATH"),
]
COPY = "/memfd:crun (deleted)\n"


def programs_of_hooks(ctr, api, directory, name):
    """Which programs were the parents of a container's hooks at create and at delete."""
    seen = {hook: directory / f"{name}-{hook}" for hook in ("createRuntime", "poststop")}
    ctr("containers", "create", IMAGE, name, "true").ok()
    container = api.containers.Get(id=name).container
    spec = json.loads(container.spec.value)
    spec["hooks"] = {
        hook: [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > /dev/null; readlink /proc/$PPID/exe > {path}"]}] for hook, path in seen.items()
    }
    container.spec.value = json.dumps(spec).encode()
    api.containers.Update(container=container, update_mask={"paths": ["spec"]})
    rootfs = api.snapshots.Mounts(snapshotter="overlayfs", key=name).mounts
    api.tasks.Create(container_id=name, rootfs=rootfs, options=to_any(message("containerd.runc.v1.Options")(binary_name="crun")))
    api.tasks.Start(container_id=name)
    assert api.tasks.Wait(container_id=name, timeout=30).exit_status == 0
    api.tasks.Delete(container_id=name)
    ctr("containers", "rm", name).ok()
    return [path.read_text() for path in seen.values()]


def test_crun_runs_from_a_sealed_copy(own_daemon, archive, tmp_path):
    daemon = own_daemon()
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    with Api(daemon, daemon.namespace) as api:
        assert programs_of_hooks(ctr, api, tmp_path, "c1") == [COPY, COPY]


def test_a_crun_that_is_replaced_is_the_one_that_runs(own_daemon, archive, tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(shutil.which("crun"), programs / "crun")
    daemon = own_daemon(environment={"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"})
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    with Api(daemon, daemon.namespace) as api:
        assert programs_of_hooks(ctr, api, tmp_path, "c1") == [COPY, COPY]
        (programs / "crun").rename(programs / "real")
        (programs / "crun").write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/called\nexec {programs}/real "$@"\n')
        (programs / "crun").chmod(0o755)
        assert COPY not in programs_of_hooks(ctr, api, tmp_path, "c2")
    calls = (tmp_path / "called").read_text()
    assert " create " in calls and " start " in calls and " delete " in calls
