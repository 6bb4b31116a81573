# SPDX-License-Identifier: Apache-2.0
"""A private daemon: root, state, socket and log in a directory of its own; skiffd, or containerd for the comparison."""

import glob
import os
import secrets
import pathlib
import shutil
import signal
import subprocess
import tempfile

from . import cgroups, env, leftovers, proc

# The first collection comes before a first test can write what no lease holds, not in the midst of it.
_CONFIG = """version = 3
disabled_plugins = [{disabled}]
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "1ms"
{more}
"""
_CRI = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", "io.containerd.nri.v1.nri"]


def overlay_works_on(directory):
    """Overlay cannot have an overlay as its upper layer: a directory in a container needs a tmpfs first."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True).stdout
    return kind.strip() not in ("overlayfs", "overlay")


class Daemon:
    count = 0

    def __init__(self, more_config="", environment=None, base=None, directory=None, kind=env.DAEMON):
        Daemon.count += 1
        self.kind = kind
        self.dir = pathlib.Path(directory or tempfile.mkdtemp(prefix="skiff-e2e-", dir=base))
        self.tmpfs = False
        if not overlay_works_on(self.dir):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", self.dir], check=True)
            self.tmpfs = True
        self.root = self.dir / "root"
        self.state = self.dir / "state"
        self.socket = self.dir / "d.sock"
        self.log_path = self.dir / "log"
        # Namespaces are unique to a daemon, because they name control groups, which belong to the whole machine.
        self.namespace = f"e2e-{secrets.token_hex(4)}-{Daemon.count}"
        self.namespaces = {self.namespace}
        self.environment = dict(os.environ)
        self.environment.pop("NOTIFY_SOCKET", None)
        self.environment.update(environment or {})
        self.child = None
        self.extra = set()
        disabled = ", ".join(f'"{p}"' for p in _CRI)
        (self.dir / "config.toml").write_text(_CONFIG.format(disabled=disabled, more=more_config))

    @property
    def pid(self):
        return self.child.pid if self.child else -1

    def known_pids(self):
        return self.extra | ({self.pid} if self.child else set())

    def namespace_of_its_own(self, suffix):
        name = f"{self.namespace}-{suffix}"
        self.namespaces.add(name)
        return name

    def start(self, wait=True, timeout=60):
        environment = dict(self.environment)
        environment.setdefault("SKIFF_LIBEXEC", env.libexec_path())
        environment["PATH"] = f"{env.GO_BIN}:{environment['PATH']}"
        options = "--config {0}/config.toml --root {0}/root --state {0}/state --address {0}/d.sock --log-level debug"
        with open(self.log_path, "ab") as log:
            self.child = proc.spawn(
                [env.daemon_program(self.kind), *options.format(self.dir).split()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        if wait:
            proc.wait_until(lambda: self.answers() or self.child.poll() is not None, timeout, "the daemon's first answer")
            assert self.child.poll() is None, f"the daemon ended with {self.child.returncode}:\n{self.log()[-4000:]}"
        return self

    def answers(self):
        import socket

        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            try:
                s.connect(str(self.socket))
            except OSError:
                return False
        return True

    # Paths are composed, never searched for: what a daemon works on comes and goes under a search.
    @property
    def database(self):
        return self.root / "io.containerd.metadata.v1.bolt" / "metadata.sqlite"

    def blob(self, digest):
        return self.root / "io.containerd.content.v1.content" / "blobs" / digest.replace(":", "/")

    def snapshots(self, pattern):
        """What matches it below the overlay snapshots' directories."""
        return glob.glob(str(self.root / "io.containerd.snapshotter.v1.overlayfs" / "snapshots" / "*" / pattern))

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def kill(self, number=signal.SIGKILL, timeout=30):
        """End the daemon by a signal and return how it ended; its containers go on."""
        if self.child is None:
            return None
        proc.kill(self.child.pid, number)
        try:
            code = self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise AssertionError(f"the daemon did not end within {timeout} s of signal {number}") from None
        finally:
            proc.forget(self.child)
            self.child = None
        return code

    def stop(self):
        code = self.kill(signal.SIGTERM)
        assert code in (0, None, -signal.SIGTERM), f"the daemon ended with {code}:\n{self.log()[-4000:]}"

    def destroy(self):
        """Remove everything, the failed test's rests too. Never fails because of what a test left."""
        if self.child:
            try:
                self.kill(signal.SIGTERM, 20)
            except AssertionError:
                pass
        for _ in range(3):
            for pid in leftovers.processes(self):
                proc.kill(pid)
            proc.reap()
        for mount in reversed(leftovers.mounts_below(str(self.dir))):
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
        for name in self.namespaces:
            cgroups.remove(name)
        shutil.rmtree(self.dir, ignore_errors=True)
