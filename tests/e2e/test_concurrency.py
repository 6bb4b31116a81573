# SPDX-License-Identifier: Apache-2.0
"""Many at once: nothing is lost, nothing is left, and memory is printed."""

import concurrent.futures
import os
import re
import sys

import pytest
from conftest import ANY_RUNTIME, IMAGE, best_ctr

from harness import env, leftovers, proc


def shims(daemon):
    return [p for p, line in leftovers.processes(daemon).items() if "-shim-" in line]


def report(text, request):
    """Said on the terminal even when the test passes: figures are why it is there."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n    {text}", file=sys.stderr)


def test_fifty_at_once_from_four_clients(own_daemon, archive, request):
    daemon = own_daemon()
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()
    idle = proc.memory_kb(daemon.pid, "Rss")
    before = leftovers.take(daemon)
    names = [f"many{i}" for i in range(50)]
    with concurrent.futures.ThreadPoolExecutor(4) as four:
        list(four.map(lambda n: ctr("run", "-d", "--runc-binary", ANY_RUNTIME, IMAGE, n, "sleep", "1000").ok(), names))
        rows = {r[0]: r for r in ctr("tasks", "ls").ok().rows}
        assert {n: rows[n][2] for n in names} == dict.fromkeys(names, "RUNNING")
        assert len({r[1] for r in rows.values()}) == 50
        found = shims(daemon)
        assert len(found) == 50
        pss = sum(proc.memory_kb(p) for p in found) / len(found)
        busy = proc.memory_kb(daemon.pid, "Rss")
        report(f"{env.DAEMON}: resident {idle} kB idle, {busy} kB with 50 containers; shim {pss:.0f} kB proportional", request)
        outs = list(four.map(lambda n: ctr("tasks", "exec", "--exec-id", "e", n, "echo", n).ok().out, names))
        assert outs == [n + "\n" for n in names]

        def remove(name):
            ctr("tasks", "delete", "-f", name)
            ctr("containers", "rm", name).ok()

        list(four.map(remove, names))
    assert ctr("tasks", "ls").ok().rows == [] and ctr("containers", "ls", "-q").ok().lines == []
    leftovers.check(daemon, before)
    if env.DAEMON == "skiffd" and not env.sanitized():
        assert idle <= 10 * 1024 and pss <= 1024


def test_short_ones_side_by_side(daemon, any_ctr, image):
    def one(number):
        return any_ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, image, f"short{number}", "sh", "-c", f"echo {number}; exit {number}")

    with concurrent.futures.ThreadPoolExecutor(4) as four:
        for number, got in enumerate(four.map(one, range(24))):
            assert (got.code, got.out) == (number, f"{number}\n")


def test_pulls_of_the_same_image_side_by_side(fresh_ctr, plain_registry):
    from harness import images

    registry = plain_registry()
    image = images.simple()
    refs = [registry.put(image, f"same{i}") for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as four:
        list(four.map(lambda r: fresh_ctr("images", "pull", "--plain-http", r).ok(), refs))
    assert sorted(fresh_ctr("images", "ls", "-q").ok().lines) == sorted(refs)
    assert len(fresh_ctr("snapshots", "ls").ok().rows) == 2


def test_many_execs_in_one_container(any_ctr, image):
    any_ctr("run", "-d", "--runc-binary", ANY_RUNTIME, image, "busy", "sleep", "1000").ok()
    with concurrent.futures.ThreadPoolExecutor(4) as four:
        for i, got in enumerate(four.map(lambda i: any_ctr("tasks", "exec", "--exec-id", f"x{i}", "busy", "sh", "-c", f"echo {i}; exit {i}"), range(20))):
            assert (got.code, got.out) == (i, f"{i}\n")
    any_ctr("tasks", "delete", "-f", "busy")
    any_ctr("containers", "rm", "busy").ok()


@pytest.mark.slow
def test_memory_does_not_grow(own_daemon, archive, request):
    """Resident memory after many containers is what it was after some."""
    if env.sanitized():
        pytest.skip("a sanitizer keeps freed memory")
    daemon = own_daemon()
    ctr = best_ctr(daemon)
    ctr("images", "import", archive).ok()

    def some(count):
        with concurrent.futures.ThreadPoolExecutor(4) as four:
            list(four.map(lambda i: ctr("run", "--rm", "--runc-binary", ANY_RUNTIME, IMAGE, f"m{i}", "true").ok(), range(count)))
        return proc.memory_kb(daemon.pid, "Rss"), len(os.listdir(f"/proc/{daemon.pid}/fd"))

    first, descriptors = some(60)
    last, more = some(150)
    report(f"{env.DAEMON}: resident {first} kB after 60 containers, {last} kB after 210", request)
    assert more <= descriptors + 5
    if env.DAEMON == "skiffd":
        assert last <= first * 1.15 + 512


@pytest.mark.slow
@pytest.mark.skiff_only
def test_memory_goes_back_after_a_burst(own_daemon, archive, request):
    """What forty imports side by side took is not kept for the next burst."""
    if env.sanitized():
        pytest.skip("a sanitizer keeps freed memory")
    daemon = own_daemon()
    ctr = best_ctr(daemon)
    with concurrent.futures.ThreadPoolExecutor(4) as four:
        list(four.map(lambda _: ctr("images", "import", archive).ok(), range(40)))
    busy = proc.memory_kb(daemon.pid, "Anonymous")
    proc.wait_until(lambda: proc.memory_kb(daemon.pid, "Anonymous") < 4 * 1024, 20, "memory that is given back")
    report(f"anonymous {busy} kB after 40 imports, {proc.memory_kb(daemon.pid, 'Anonymous')} kB soon after", request)
