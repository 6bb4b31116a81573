# SPDX-License-Identifier: Apache-2.0
"""What a daemon leaves behind: processes, mounts, control groups, files under its state directory. Counted, not trusted."""

import os

from . import cgroups, proc


def mounts_below(directory):
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as f:
        for line in f:
            point = line.split()[4]
            if point == directory or point.startswith(directory + "/"):
                found.append(point)
    return sorted(found)


def processes(daemon):
    """Processes that only a container explains: shims, what runs in the daemon's groups, orphans that came to us."""
    found = {}
    own = daemon.pid
    for pid, chain in proc.descendants(os.getpid()).items():
        s = proc.stat(pid)
        if s is None or s[1] in "ZX" or pid == own or pid in daemon.known_pids():
            continue
        line = proc.cmdline(pid)
        if own in chain and "-shim-" not in line:
            continue
        if any(p in daemon.known_pids() for p in chain) and own not in chain:
            continue
        if str(daemon.dir) in line or "-shim-" in line or own in chain:
            found[pid] = line or s[0]
    for name in daemon.namespaces:
        for pid in cgroups.pids(name):
            found.setdefault(pid, proc.cmdline(pid))
    return found


def files(daemon):
    """Everything below the state directory that is not part of its fixed layout."""
    found = []
    for path, dirs, names in os.walk(daemon.state):
        depth = os.path.relpath(path, daemon.state).count("/")
        if os.path.basename(path) == "rootfs":
            dirs.clear()
        for name in dirs + names:
            full = os.path.join(path, name)
            if name in daemon.namespaces and depth == 0:
                continue
            if name.startswith("oci-"):
                continue  # what is known of an OCI runtime's binary
            found.append(os.path.relpath(full, daemon.state))
    for name in daemon.namespaces:
        top = os.path.join(daemon.root, "io.containerd.runtime.v2.task", name)
        if os.path.isdir(top):
            found += [os.path.join("ROOT/io.containerd.runtime.v2.task", d) for d in os.listdir(top)]
    return sorted(found)


def groups(daemon):
    return sorted(g for name in daemon.namespaces for g in cgroups.groups(name))


def take(daemon):
    proc.reap()
    return {
        "processes": processes(daemon),
        "mounts": mounts_below(str(daemon.dir)),
        "cgroups": groups(daemon),
        "files": files(daemon),
    }


def added(before, now):
    more = {}
    for kind in before:
        if kind == "processes":
            new = {pid: line for pid, line in now[kind].items() if pid not in before[kind]}
        else:
            new = sorted(set(now[kind]) - set(before[kind]))
        if new:
            more[kind] = new
    return more


def check(daemon, before, seconds=10):
    """Fail if anything is there that was not there before; what is still ending gets some time."""
    last = {}

    def clean():
        nonlocal last
        last = added(before, take(daemon))
        return not last

    try:
        proc.wait_until(clean, seconds, step=0.05)
    except AssertionError:
        raise AssertionError(f"left over: {last}") from None
