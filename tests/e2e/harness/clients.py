# SPDX-License-Identifier: Apache-2.0
"""Other people's clients, as a user calls them."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

from . import env, proc


class Ctr:
    """One generation of ctr against one daemon, in the namespace of the test."""

    def __init__(self, generation, daemon, namespace=None):
        self.generation = generation
        self.path = env.ctr_programs()[generation]
        self.daemon = daemon
        self.namespace = namespace or daemon.namespace

    def transfers(self):
        """Current generations pull, import and export by the Transfer service; 1.x unpack by themselves."""
        return not self.generation.startswith("1.")

    def create_options(self, runtime):
        """What `containers create` takes to name the OCI runtime; 1.x leaves it to the daemon."""
        return [] if self.generation.startswith("1.") else ["--runc-binary", runtime]

    def delete_task(self, cid):
        """Delete a stopped task and return its exit code, which ctr only mentions."""
        found = re.search(r"exit with non-zero exit code (\d+)", self("tasks", "delete", cid).ok().err)
        return int(found[1]) if found else 0

    def environment(self):
        e = dict(os.environ, CONTAINERD_ADDRESS=str(self.daemon.socket), CONTAINERD_NAMESPACE=self.namespace)
        e.pop("CONTAINERD_SNAPSHOTTER", None)
        return e

    def __call__(self, *args, stdin=None, timeout=120, cwd=None):
        return proc.run([self.path, *args], stdin=stdin, timeout=timeout, env=self.environment(), cwd=cwd)

    def start(self, *args, **options):
        """Run in the background; the caller waits for it."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        return proc.spawn([self.path, *args], bufsize=0, env=self.environment(), **options)

    def terminal(self, *args, rows=24, columns=80):
        return Terminal([self.path, *args], self.environment(), rows, columns)


def finish(child, timeout=60):
    """Wait for what start() started: (exit code, stdout, stderr)."""
    try:
        out, err = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        raise AssertionError(f"no end after {timeout} s: {child.args}\n{out!r}\n{err!r}") from None
    finally:
        proc.forget(child)
    return child.returncode, (out or b"").decode(errors="replace"), (err or b"").decode(errors="replace")


class Terminal:
    """A program under a pseudo terminal."""

    def __init__(self, argv, environment, rows=24, columns=80):
        self.master, slave = pty.openpty()
        self.resize(rows, columns, notify=False)
        self.child = proc.spawn(
            argv, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.text = ""

    def resize(self, rows, columns, notify=True):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if notify:
            os.kill(self.child.pid, 28)

    def write(self, text):
        os.write(self.master, text.encode())

    def read_until(self, word, seconds=20, nudge=None):
        """Read until word has come since the last call, and return all that came; nudge() is called again and again."""
        end = time.monotonic() + seconds
        while word not in self.text:
            left = end - time.monotonic()
            assert left > 0, f"{word!r} did not come: {self.text!r}"
            if nudge:
                nudge()
            if select.select([self.master], [], [], min(left, 0.3) if nudge else left)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:
                    data = b""
                assert data or word in self.text, f"the terminal closed before {word!r} came: {self.text!r}"
                self.text += data.decode(errors="replace")
        head, self.text = self.text.split(word, 1)
        return head + word

    def wait(self, timeout=30):
        end = time.monotonic() + timeout
        while self.child.poll() is None:
            assert time.monotonic() < end, f"no end after {timeout} s: {self.text!r}"
            if select.select([self.master], [], [], 0.05)[0]:
                try:
                    self.text += os.read(self.master, 65536).decode(errors="replace")
                except OSError:
                    self.child.wait(timeout)
        while select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:
                break
            if not data:
                break
            self.text += data.decode(errors="replace")
        return self.child.returncode

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        proc.forget(self.child)
        os.close(self.master)


class PrivateSkiff:
    """skiff against a daemon of a test's own."""

    def __init__(self, daemon):
        self.command = [env.skiff_program("skiff"), "--address", str(daemon.socket), "--namespace", daemon.namespace]

    def __call__(self, *args, timeout=60):
        return proc.run([*self.command, *args], timeout=timeout)

    def start(self, *args):
        return proc.spawn([*self.command, *args], bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
