# SPDX-License-Identifier: Apache-2.0
"""The figures of the design's budget, for skiffd and containerd in turns, as medians and ratios."""

import concurrent.futures
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from harness import env, images, leftovers, proc, registry
from harness.clients import Ctr
from harness.daemon import Daemon

QUICK = "quick" in sys.argv[1:]
IMAGE, SHORT = "example.com/simple:1", "docker.io/library/short:1"
ROWS = []


def note_rates(what, containerd, skiff):
    if containerd and skiff:
        note(what, containerd, skiff, "", True)
    else:
        print(f"{what:<58} not measured: the stress client does not run here (it wants 100,000 open files)", flush=True)


def note(what, containerd, skiff, unit, more_is_better=False):
    ratio = containerd / skiff if not more_is_better else skiff / containerd
    ROWS.append(what)
    print(f"{what:<58} {containerd:>9.1f} {skiff:>9.1f} {unit:<5} {ratio:>6.2f} times better", flush=True)


def start(kind):
    return Daemon(kind=kind).start()


def in_turns(daemons, count, work):
    """Medians of count runs each, one after the other, so that the machine's moods meet both."""
    found = {d.kind: [] for d in daemons}
    for turn in range(count):
        for d in daemons:
            found[d.kind].append(work(d, turn))
    return {kind: statistics.median(values) for kind, values in found.items()}


def ctr(daemon):
    return Ctr("2.3", daemon)


def timed(work):
    begin = time.monotonic()
    work()
    return (time.monotonic() - begin) * 1000


def big_image():
    """Four gzip layers, 420 MB together when unpacked, with some 45,000 files; small for a quick run."""
    rng = random.Random(4)
    words = [rng.randbytes(12).hex().encode() for _ in range(4000)]
    layers = [images.base_layer()]
    scale = 20 if QUICK else 1
    for n in range(4):
        entries = []
        for i in range(11250 // scale):
            if i % 100 == 0:
                entries.append(images.entry(f"layer{n}/d{i // 100}", "dir"))
            size = 9300
            data = b" ".join(rng.choices(words, k=size // 25))
            entries.append(images.entry(f"layer{n}/d{i // 100}/f{i}", data=data))
        layers.append(images.tar(entries))
    return images.Image(layers)


def main():
    base = tempfile.mkdtemp(prefix="skiff-bench-")
    archive = images.oci_archive(images.simple(), os.path.join(base, "simple.tar"), IMAGE)
    images.oci_archive(images.simple(), os.path.join(base, "short.tar"), SHORT)
    daemons = []
    server = None
    print(f"{'':<58} {'containerd':>9} {'skiff':>9}")
    try:
        daemons = [start("containerd"), start("skiffd")]
        old, new = daemons
        time.sleep(2)
        note("daemon, idle, resident", *(proc.memory_kb(d.pid, "Rss") / 1024 for d in daemons), "MB")
        note("daemon, idle, anonymous", *(proc.memory_kb(d.pid, "Anonymous") / 1024 for d in daemons), "MB")
        for d in daemons:
            ctr(d)("images", "import", archive).ok()

        runtimes = [r for r in env.oci_runtimes() if not (r == "crun" and env.old_crun())] or ["runc"]
        count = 5 if QUICK else 25
        for runtime in runtimes:
            run = lambda d, i: timed(lambda: ctr(d)("run", "--rm", "--runc-binary", runtime, IMAGE, f"r{i}", "true").ok())
            got = in_turns(daemons, count, run)
            note(f"ctr run --rm true, {runtime}", got["containerd"], got["skiffd"], "ms")
        cli = env.skiff_program("skiff")
        for d in daemons:
            with open(os.path.join(base, "short.tar"), "rb") as f:
                proc.run([cli, "--address", d.socket, "--namespace", d.namespace, "import", "-q", "-"], stdin=f.read()).ok()

        def skiff_run(d, runtime):
            options = ["--address", d.socket, "--namespace", d.namespace, "run", "--rm", "--oci-runtime", runtime, SHORT, "true"]
            return lambda: proc.run([cli, *options]).ok()

        for runtime in env.oci_runtimes():
            # containerd gives an old crun the spec as it is; libskiff writes one that both take.
            got = in_turns(daemons, count, lambda d, i: timed(skiff_run(d, runtime)))
            note(f"skiff run --rm true, {runtime}", got["containerd"], got["skiffd"], "ms")

        def side_by_side(d, turn):
            """Containers a second, by four threads that run one after the other."""
            each = 5 if QUICK else 25
            one = skiff_run(d, runtimes[0])
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                took = timed(lambda: list(pool.map(lambda i: one(), range(4 * each))))
            return 4 * each / took * 1000

        got = in_turns(daemons, 3, side_by_side)
        note(f"containers a second by skiff run, four at once, {runtimes[0]}", got["containerd"], got["skiffd"], "", True)

        shims = {}
        for d in daemons:
            names = [f"s{i}" for i in range(30)]
            for name in names:
                ctr(d)("run", "-d", "--runc-binary", runtimes[0], IMAGE, name, "sleep", "1000").ok()
            found = [p for p, line in leftovers.processes(d).items() if "-shim-" in line]
            shims[d.kind] = statistics.mean(proc.memory_kb(p) for p in found)
            for name in names:
                ctr(d)("tasks", "delete", "-f", name)
                ctr(d)("containers", "rm", name)
        note("shim, proportional, average of 30", shims["containerd"], shims["skiffd"], "kB")

        server = registry.DockerRegistry()
        small = images.push(images.simple(), server.address, "small")
        stress = env.GO_BIN / "containerd-stress"
        if stress.exists():
            def per_second(d, turn):
                environment = dict(os.environ, CONTAINERD_NAMESPACE=d.namespace)
                d.namespaces.add("stress")
                seconds = "3s" if QUICK else "10s"
                argv = [stress, "--address", d.socket, "-j", "-d", seconds, "-c", "4", "--image", small]
                got = subprocess.run([str(a) for a in argv], capture_output=True, text=True, env=environment, timeout=120, check=False)
                rate = re.search(r"([0-9.]+) containers? per second|containersPerSecond\W+([0-9.]+)", got.stdout + got.stderr)
                return float(rate[1] or rate[2]) if rate else 0

            got = in_turns(daemons, 1 if QUICK else 3, per_second)
            note_rates("containers a second by containerd-stress, four at once", got["containerd"], got["skiffd"])

        image = big_image()
        ref = images.push(image, server.address, "big")

        def pull(d, turn):
            took = timed(lambda: ctr(d)("images", "pull", "--plain-http", ref, timeout=300).ok())
            ctr(d)("images", "rm", "--sync", ref).ok()
            return took

        got = in_turns(daemons, 1 if QUICK else 5, pull)
        note("pull and unpack, 4 gzip layers, 45,000 files", got["containerd"], got["skiffd"], "ms")
        target = os.path.join(base, "plain")

        def plain():
            os.mkdir(target)
            for i, layer in enumerate(image.layers):
                path = os.path.join(base, f"{i}.tgz")
                with open(path, "wb") as f:
                    f.write(layer.data)
                subprocess.run(f"gzip -dc {path} | tar -x -C {target}", shell=True, check=True)

        took = timed(plain)
        print(f"{'gzip -dc | tar x of the same layers':<58} {'':>9} {took:>9.1f} ms", flush=True)
    finally:
        for d in daemons:
            d.destroy()
        if server:
            server.stop()
        shutil.rmtree(base, ignore_errors=True)


main()
