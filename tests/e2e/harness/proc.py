# SPDX-License-Identifier: Apache-2.0
"""Processes: the test process is the subreaper of everything that it starts, so nothing can escape the count."""

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
import time

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 2, 36
_lock = threading.RLock()
_ours = set()


def become_subreaper():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


@contextlib.contextmanager
def effective_user(uid):
    """As another user for a while. It makes the kernel forget that we end with our parent (scripts/lib.sh, exec_private)."""
    libc, number = ctypes.CDLL(None), ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        libc.prctl(_PR_SET_PDEATHSIG, number.value, 0, 0, 0)


def spawn(argv, **options):
    """subprocess.Popen, remembered so that reap() leaves its exit status to whoever waits for it."""
    with _lock:
        child = subprocess.Popen([str(a) for a in argv], **options)
        _ours.add(child.pid)
    return child


def forget(child):
    with _lock:
        _ours.discard(child.pid)


class Result:
    """What a finished program said: text with surrogates for bytes that are not UTF-8."""

    def __init__(self, argv, code, out, err, seconds):
        self.argv, self.code, self.raw, self.seconds = argv, code, out, seconds
        self.out = out.decode("utf-8", "surrogateescape")
        self.err = err.decode("utf-8", "surrogateescape")

    def ok(self):
        assert self.code == 0, f"{' '.join(map(str, self.argv))}: exit {self.code}\n{self.out[-2000:]}\n{self.err[-4000:]}"
        return self

    def fails(self, *words):
        assert self.code != 0, f"{' '.join(map(str, self.argv))}: succeeded, and should not\n{self.out[-2000:]}"
        for word in words:
            assert word in self.err, f"{word!r} is not in: {self.err}"
        return self

    @property
    def lines(self):
        return self.out.splitlines()

    @property
    def rows(self):
        """The lines of a table, without its header, split at blanks."""
        return [line.split() for line in self.lines[1:]]


def run(argv, stdin=None, timeout=120, env=None, cwd=None):
    begin = time.monotonic()
    child = spawn(
        argv,
        stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
    )
    try:
        out, err = child.communicate(stdin.encode() if isinstance(stdin, str) else stdin, timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        out, err = child.communicate()
        raise AssertionError(
            f"{' '.join(map(str, argv))}: no end after {timeout} s\n{out.decode(errors='replace')[-2000:]}\n"
            f"{err.decode(errors='replace')[-4000:]}"
        ) from None
    finally:
        forget(child)
    return Result(argv, child.returncode, out, err, time.monotonic() - begin)


def stat(pid):
    """(comm, state, parent) of a process, or None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            text = f.read()
    except OSError:
        return None
    head, tail = text.rsplit(")", 1)
    fields = tail.split()
    return head.split("(", 1)[1], fields[0], int(fields[1])


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def all_pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def descendants(root):
    """Every process below root, with its chain of ancestors up to root."""
    parents = {}
    for pid in all_pids():
        s = stat(pid)
        if s:
            parents[pid] = s[2]
    below = {}
    for pid in parents:
        chain, at = [], pid
        while at in parents and at != root and len(chain) < 1000:
            chain.append(at)
            at = parents[at]
        if at == root and pid != root:
            below[pid] = chain
    return below


def reap():
    """Take the exit status of orphans that came to us."""
    with _lock:
        for pid in all_pids():
            s = stat(pid)
            if s and s[1] == "Z" and s[2] == os.getpid() and pid not in _ours:
                try:
                    os.waitpid(pid, os.WNOHANG)
                except ChildProcessError:
                    pass


def alive(pid):
    s = stat(pid)
    return s is not None and s[1] not in "ZX"


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def wait_until(check, seconds=20, what="the condition", step=0.02):
    """Poll until check() is true and return what it returned."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(step)


def memory_kb(pid, key="Pss"):
    """Memory of a process in kB: Rss, Pss, Private_Dirty … as smaps_rollup names them; 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            for line in f:
                if line.startswith(key + ":"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0
