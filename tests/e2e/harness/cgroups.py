# SPDX-License-Identifier: Apache-2.0
"""Control groups, whatever version the host uses: where the hierarchies are, and what is in one namespace's groups."""

import os


def hierarchies():
    """Mount points of all cgroup hierarchies; several mounts of one are counted once."""
    seen, found = set(), []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            left, right = line.split(" - ")
            fields, fstype = left.split(), right.split()[0]
            if fstype in ("cgroup", "cgroup2") and fields[2] not in seen:
                seen.add(fields[2])
                found.append((fstype, fields[4]))
    return found


def unified():
    return all(kind == "cgroup2" for kind, _ in hierarchies())


def groups(name):
    """Every group below /NAME, in every hierarchy; /NAME itself is left out."""
    found = []
    for _, mount in hierarchies():
        top = os.path.join(mount, name)
        for path, dirs, _ in os.walk(top):
            found += [os.path.join(path, d) for d in dirs]
    return sorted(found)


def pids(name):
    found = set()
    for _, mount in hierarchies():
        for path, _, files in os.walk(os.path.join(mount, name)):
            if "cgroup.procs" in files:
                try:
                    with open(os.path.join(path, "cgroup.procs"), encoding="ascii") as f:
                        found.update(int(line) for line in f)
                except OSError:
                    pass
    return found


def remove(name):
    """Remove the group /NAME and what is below it; only empty groups can be removed."""
    for _, mount in hierarchies():
        for path, _, _ in os.walk(os.path.join(mount, name), topdown=False):
            try:
                os.rmdir(path)
            except OSError:
                pass


def file_of(group, controller, name_v1, name_v2):
    """The text of a controller's file of group /GROUP, by the name that it has in this host's version."""
    for kind, mount in hierarchies():
        if kind == "cgroup" and controller in os.path.basename(mount).split(","):
            path = os.path.join(mount, group, name_v1)
        elif kind == "cgroup2":
            path = os.path.join(mount, group, name_v2)
        else:
            continue
        if os.path.exists(path):
            with open(path, encoding="ascii") as f:
                return f.read().strip()
    return None
