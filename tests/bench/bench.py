# SPDX-License-Identifier: Apache-2.0
"""The figures of the design's budget, for skiffd and containerd in turns, as medians and ratios."""

import json
import os
import pathlib
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
CLI = str(env.skiff_program("skiff"))


def note(what, old, new, unit, more_is_better=False):
    ratio = old / new if not more_is_better else new / old
    print(f"{what:<58} {old:>9.1f} {new:>9.1f} {unit:<5} {ratio:>6.2f} times better", flush=True)


def note_alone(what, took_ms):
    """What neither daemon has a part in, to compare with."""
    print(f"{what:<58} {'':>9} {took_ms:>9.1f} ms", flush=True)


def start(kind):
    daemon = Daemon(kind=kind)
    # As on a node, where /run is a tmpfs; tests/bench/bench sees to that of the OCI runtimes.
    daemon.state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=711", "tmpfs", daemon.state], check=True)
    return daemon.start()


def in_turns(daemons, count, work):
    """Medians of count runs each, one after the other, so that the machine's moods meet both."""
    found = {d.kind: [] for d in daemons}
    for turn in range(count):
        for d in daemons:
            found[d.kind].append(work(d, turn))
    return statistics.median(found["containerd"]), statistics.median(found["skiffd"])


def timed(work):
    begin = time.monotonic()
    work()
    return (time.monotonic() - begin) * 1000


def run(argv, **options):
    """Without the pipes of proc.run, which take some milliseconds themselves."""
    argv = [str(a) for a in argv]
    done = subprocess.run(argv, stdout=subprocess.DEVNULL, check=False, **options)
    assert done.returncode == 0, f"{' '.join(argv)}: exit {done.returncode}"


def ctr(daemon):
    return Ctr("2.3", daemon)


def skiff(daemon, *words):
    return [CLI, "--address", str(daemon.socket), "--namespace", daemon.namespace, *words]


# ---- the figures


def idle_memory(daemons):
    time.sleep(2)  # what a start took is given back
    note("daemon, idle, resident", *(proc.memory_kb(d.pid, "Rss") / 1024 for d in daemons), "MB")
    note("daemon, idle, anonymous", *(proc.memory_kb(d.pid, "Anonymous") / 1024 for d in daemons), "MB")


def import_images(daemons, base):
    for name in (IMAGE, SHORT):
        archive = images.oci_archive(images.simple(), os.path.join(base, "image.tar"), name)
        for d in daemons:
            run(skiff(d, "import", "-q", archive))


def runtime_alone(daemon, base, runtime, count):
    """create, start, the end and delete by the OCI runtime alone, with the spec of a container of ctr's."""
    bundle = pathlib.Path(base, f"alone-{runtime}")
    (bundle / "rootfs" / "bin").mkdir(parents=True)
    busybox = bundle / "rootfs" / "bin" / "busybox"
    busybox.write_bytes(images.busybox())
    busybox.chmod(0o755)
    for name in ("proc", "dev", "sys", "run", "tmp"):
        (bundle / "rootfs" / name).mkdir()
    ctr(daemon)("containers", "create", *ctr(daemon).create_options(runtime), IMAGE, "alone", "busybox", "true").ok()
    spec = json.loads(ctr(daemon)("containers", "info", "--spec", "alone").ok().out)
    ctr(daemon)("containers", "rm", "alone").ok()
    spec["root"] = {"path": "rootfs"}
    if runtime == "crun" and env.old_crun():
        spec["ociVersion"] = "1.0.2"
    (bundle / "config.json").write_text(json.dumps(spec))

    def once():
        run([runtime, "create", "--bundle", bundle, "--pid-file", bundle / "pid", "alone"], stdin=subprocess.DEVNULL)
        run([runtime, "start", "alone"])
        os.waitpid(int((bundle / "pid").read_text()), 0)  # we are the subreaper
        run([runtime, "delete", "alone"])

    note_alone(f"{runtime} alone: create, start, delete", statistics.median(timed(once) for _ in range(count)))


def runs_by_ctr(daemons, runtime, count):
    def once(d, turn):
        return timed(lambda: ctr(d)("run", "--rm", "--runc-binary", runtime, IMAGE, f"r{turn}", "true").ok())

    note(f"ctr run --rm true, {runtime}", *in_turns(daemons, count, once), "ms")


def run_options(runtime):
    return ["run", "--rm", "--oci-runtime", runtime, SHORT, "true"]


def runs_by_skiff(daemons, runtime, count):
    note(f"skiff run --rm true, {runtime}", *in_turns(daemons, count, lambda d, _: timed(lambda: run(skiff(d, *run_options(runtime))))), "ms")


def containers_a_second(daemons, runtime):
    """By four processes at a time; the number that xargs adds is an argument that `true` does not read."""
    numbers = "\n".join(str(i) for i in range(20 if QUICK else 100))

    def rate(d, _):
        took_ms = timed(lambda: run(["xargs", "-P4", "-n1", *skiff(d, *run_options(runtime))], input=numbers, text=True))
        return len(numbers.split()) / took_ms * 1000

    note(f"containers a second by skiff run, four at once, {runtime}", *in_turns(daemons, 3, rate), "", True)


def shim_memory(daemons, runtime):
    sizes = []
    for d in daemons:
        names = [f"s{i}" for i in range(30)]
        for name in names:
            ctr(d)("run", "-d", "--runc-binary", runtime, IMAGE, name, "sleep", "1000").ok()
        found = [p for p, line in leftovers.processes(d).items() if "-shim-" in line]
        sizes.append(statistics.mean(proc.memory_kb(p) for p in found))
        for name in names:
            ctr(d)("tasks", "delete", "-f", name)
            ctr(d)("containers", "rm", name)
    note("shim, proportional, average of 30", *sizes, "kB")


def stress(daemons, server):
    """containerd-stress, upstream's own; it wants to raise its limit of open files, which not every machine lets it."""
    what, program = "containers a second by containerd-stress, four at once", env.GO_BIN / "containerd-stress"
    if not program.exists() or subprocess.run([program, "--help"], capture_output=True, check=False).returncode != 0:
        print(f"{what:<58} not measured: it does not start here")
        return
    small = images.push(images.simple(), server.address, "small")

    def rate(d, _):
        d.namespaces.add("stress")
        argv = [program, "--address", d.socket, "-j", "-d", "3s" if QUICK else "10s", "-c", "4", "--image", small]
        got = proc.run(argv, env=dict(os.environ, CONTAINERD_NAMESPACE=d.namespace)).ok()
        found = re.search(r"([0-9.]+) containers? per second|containersPerSecond\W+([0-9.]+)", got.out + got.err)
        return float(found[1] or found[2])

    note(what, *in_turns(daemons, 1 if QUICK else 3, rate), "", True)


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


def pulls(daemons, server, base):
    image = big_image()
    reference = images.push(image, server.address, "big")

    def once(d, _):
        took_ms = timed(lambda: ctr(d)("images", "pull", "--plain-http", reference, timeout=300).ok())
        ctr(d)("images", "rm", "--sync", reference).ok()
        return took_ms

    note("pull and unpack, 4 gzip layers, 45,000 files", *in_turns(daemons, 1 if QUICK else 5, once), "ms")
    target, paths = os.path.join(base, "plain"), []
    os.mkdir(target)
    for i, layer in enumerate(image.layers):
        paths.append(os.path.join(base, f"{i}.tgz"))
        pathlib.Path(paths[-1]).write_bytes(layer.data)
    command = "for f; do gzip -dc $f | tar -x -C $0 || exit; done"
    note_alone("gzip -dc | tar x of the same layers", timed(lambda: run(["sh", "-c", command, target, *paths])))


def measure(daemons, server, base):
    count = 5 if QUICK else 25
    runtimes = env.oci_runtimes()
    # ctr's specs are too new for an old crun where the daemon does not help; libskiff's are not.
    for_ctr = [r for r in runtimes if not (r == "crun" and env.old_crun())] or ["runc"]
    idle_memory(daemons)
    import_images(daemons, base)
    for runtime in for_ctr:
        runs_by_ctr(daemons, runtime, count)
    for runtime in runtimes:
        runtime_alone(daemons[0], base, runtime, count)
        runs_by_skiff(daemons, runtime, count)
        containers_a_second(daemons, runtime)
    shim_memory(daemons, for_ctr[0])
    stress(daemons, server)
    pulls(daemons, server, base)


def main():
    proc.become_subreaper()
    base = tempfile.mkdtemp(prefix="skiff-bench-")
    daemons, server = [], None
    print(f"{'':<58} {'containerd':>9} {'skiff':>9}")
    try:
        for kind in ("containerd", "skiffd"):
            daemons.append(start(kind))
        server = registry.DockerRegistry()
        measure(daemons, server, base)
    finally:
        for d in daemons:
            d.destroy()
        if server:
            server.stop()
        shutil.rmtree(base, ignore_errors=True)


main()
