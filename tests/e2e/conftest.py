# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the end-to-end tests. What a test needs and the machine has not is a skip that says so."""

import itertools
import os
import pathlib
import re
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness import env, images, leftovers, proc, sanitizers  # noqa: E402
from harness.api import Api  # noqa: E402
from harness.clients import Ctr  # noqa: E402
from harness.daemon import Daemon  # noqa: E402
from harness.registry import DockerRegistry, PlainRegistry  # noqa: E402
from harness.transcript import Transcript  # noqa: E402

GENERATIONS = sorted(env.ctr_programs()) or ["none"]
RUNTIMES = env.oci_runtimes() or ["none"]
NEWEST = "2.3"
# For tests whose subject is not the runtime: the one that every daemon can use with every client.
ANY_RUNTIME = "runc" if "runc" in RUNTIMES else RUNTIMES[0]


def pytest_configure(config):
    for line in (
        "slow: takes more than some seconds; the quick part leaves it out",
        "skiff_only: proves what skiff does better than containerd, so containerd is not asked",
        "containerd_differs(reason): containerd 2.3.4 answers otherwise, and skiff means to",
    ):
        config.addinivalue_line("markers", line)
    proc.become_subreaper()
    sanitizers.start()


def pytest_sessionfinish(session):
    rest = sanitizers.end()
    if rest:
        sys.__stderr__.write(f"a sanitizer's report after the last test:\n{rest}\n")
        session.exitstatus = session.exitstatus or 1


@pytest.fixture(autouse=True)
def sanitizers_are_silent():
    """Whatever program a sanitizer complains of, the test that ran it has failed."""
    yield
    report = sanitizers.take()
    assert not report, report


def pytest_collection_modifyitems(items):
    missing = None
    if os.geteuid() != 0:
        missing = "needs root"
    elif not env.daemon_program():
        missing = f"{env.DAEMON} is not built"
    for item in items:
        if missing and (os.geteuid() != 0 or item.path.name != "test_shim.py"):
            item.add_marker(pytest.mark.skip(reason=missing))
        if env.DAEMON == "containerd":
            params = getattr(getattr(item, "callspec", None), "params", {})
            if params.get("runtime") == "crun" and not params.get("ctr", "").startswith("1.") and env.old_crun():
                item.add_marker(pytest.mark.skip(reason="this crun refuses the spec version of current clients"))
            for name in ("skiff_only", "containerd_differs"):
                if item.get_closest_marker(name):
                    item.add_marker(pytest.mark.skip(reason="containerd does not do this"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """Whatever a test waits for, it fails in the end, and its fixtures clean up."""
    limit = (600 if item.get_closest_marker("slow") else 120) * (3 if env.sanitized() else 1)

    def stop(*unused):
        raise TimeoutError(f"no end after {limit} s")

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(limit)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, old)


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    setattr(item, "report_" + report.when, report)


def _show_log(request, daemon, mark):
    if getattr(getattr(request.node, "report_call", None), "failed", False):
        text = daemon.log()[mark:]
        request.node.add_report_section("call", "daemon log", text[-6000:])


def _stop(daemon):
    try:
        if daemon.child:
            daemon.stop()
    finally:  # a report says more than the exit status that goes with it
        report = sanitizers.take() or sanitizers.in_log(daemon.log())
        assert not report, report


@pytest.fixture(scope="module")
def shared_daemon():
    """One daemon for the tests of a file; at the end, nothing that it made may be left."""
    daemon = Daemon().start()
    try:
        yield daemon
        _stop(daemon)
        left = leftovers.processes(daemon)
        assert not left, f"left over after the daemon's end: {left}"
    finally:
        daemon.destroy()


@pytest.fixture
def daemon(shared_daemon, request):
    """The file's daemon; the test fails if it leaves processes, mounts, control groups or files behind."""
    assert shared_daemon.child.poll() is None, f"the daemon is gone:\n{shared_daemon.log()[-4000:]}"
    mark = len(shared_daemon.log())
    before = leftovers.take(shared_daemon)
    yield shared_daemon
    _show_log(request, shared_daemon, mark)
    assert shared_daemon.child is None or shared_daemon.child.poll() is None, (
        f"the daemon ended with {shared_daemon.child.returncode}:\n{shared_daemon.log()[-4000:]}"
    )
    if getattr(getattr(request.node, "report_call", None), "passed", False):
        leftovers.check(shared_daemon, before)
    else:
        _clear(shared_daemon)


def _clear(daemon):
    """After a failed test: remove its containers, so that the next test is judged for itself."""
    if GENERATIONS == ["none"] or daemon.child is None:
        return
    for name in daemon.namespaces:
        client = Ctr(GENERATIONS[-1], daemon, name)
        try:
            for cid in client("containers", "ls", "-q", timeout=20).lines:
                client("tasks", "delete", "-f", cid, timeout=20)
                client("containers", "rm", cid, timeout=20)
        except AssertionError:
            continue


@pytest.fixture
def own_daemon(request):
    """Makes daemons for this test alone: own_daemon(more_config=…, environment=…)."""
    made = []

    def make(**options):
        made.append(Daemon(**options).start())
        return made[-1]

    yield make
    for daemon in made:
        _show_log(request, daemon, 0)
    try:
        if getattr(getattr(request.node, "report_call", None), "passed", False):
            for daemon in made:
                _stop(daemon)
    finally:
        for daemon in made:
            daemon.destroy()


@pytest.fixture(params=GENERATIONS, ids=lambda g: "ctr" + g)
def ctr(request, daemon):
    """Both generations of ctr, one after the other."""
    if request.param == "none":
        pytest.skip("no ctr: Debian's was not downloaded and there is no Go to build v2.3.4 with")
    return Ctr(request.param, daemon)


@pytest.fixture
def ctr_new(daemon):
    """ctr of the generation of containerd 2.3.4, for what older ones cannot do."""
    if NEWEST not in GENERATIONS:
        pytest.skip("ctr v2.3.4 is not here: there is no Go to build it with")
    return Ctr(NEWEST, daemon)


def best_ctr(daemon, namespace=None):
    """Any ctr, the newest first; for tests whose subject is the daemon and not the client."""
    if GENERATIONS == ["none"]:
        pytest.skip("no ctr: Debian's was not downloaded and there is no Go to build v2.3.4 with")
    return Ctr(GENERATIONS[-1], daemon, namespace)


_namespace_count = itertools.count(1)


@pytest.fixture
def fresh_ctr(ctr, daemon):
    """ctr in a namespace of this test alone. At its end the test's images go, and then nothing may be left there."""
    client = Ctr(ctr.generation, daemon, daemon.namespace_of_its_own(f"n{next(_namespace_count)}"))
    yield client
    empty_namespace(client)


def collect(api):
    """Returns once the garbage collector has run."""
    api.leases.Create(id="last")
    api.leases.Delete(id="last", sync=True)


def empty_namespace(client):
    """Remove images and leases, and see that the garbage collector takes everything else."""
    with Api(client.daemon, client.namespace) as found:
        for image in found.images.List().images:
            found.images.Delete(name=image.name)
        for lease in found.leases.List().leases:
            found.leases.Delete(id=lease.id, sync=True)
        collect(found)

        def rest():
            blobs = [i.digest for answer in found.content.List() for i in answer.info]
            names = ("overlayfs", "native")
            snapshots = [i.name for n in names for answer in found.snapshots.List(snapshotter=n) for i in answer.info]
            return blobs + snapshots

        try:
            proc.wait_until(lambda: not rest(), 10)
        except AssertionError:
            raise AssertionError(f"not collected: {rest()}") from None
        found.namespaces.Delete(name=client.namespace)


@pytest.fixture
def any_ctr(daemon):
    return best_ctr(daemon)


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    """Both OCI runtimes."""
    if request.param == "none":
        pytest.skip("no OCI runtime in PATH: neither crun nor runc")
    return request.param


@pytest.fixture
def api(daemon):
    with Api(daemon) as found:
        yield found


@pytest.fixture
def held(daemon):
    """The API, with a lease that holds all that is made: what nobody holds may be collected at any moment."""
    with Api(daemon) as found:
        found.leases.Create(id="test")
        found.hold("test")
        yield found
        found.leases.Delete(id="test", sync=True)


@pytest.fixture(scope="session")
def registry():
    if not DockerRegistry.program():
        pytest.skip("docker-registry was not downloaded (scripts/deps test)")
    found = DockerRegistry()
    yield found
    found.stop()


@pytest.fixture
def plain_registry():
    """Makes registries of our own: plain_registry(login=…, cut_after=…)."""
    made = []

    def make(**options):
        made.append(PlainRegistry(**options))
        return made[-1]

    yield make
    for r in made:
        r.stop()


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """The ordinary image as an OCI archive."""
    path = tmp_path_factory.mktemp("images") / "simple.tar"
    return images.oci_archive(images.simple(), path, "example.com/simple:1")


IMAGE = "example.com/simple:1"


@pytest.fixture
def image(shared_daemon, archive):
    """The ordinary image, imported into the file's daemon before the test begins."""
    client = best_ctr(shared_daemon)
    if IMAGE not in client("images", "ls", "-q").ok().lines:
        if client("images", "import", archive).code != 0:
            # The tests of import say what is wrong with it; all others need the image.
            Ctr(GENERATIONS[0], shared_daemon)("images", "import", archive).ok()
    return IMAGE


@pytest.fixture
def transcript(request, daemon):
    """What the test's commands printed, compared with what containerd 2.3.4 printed for the same."""
    made = []

    def make(name=None, extra=()):
        found = re.sub(r"[^A-Za-z0-9.]+", "-", name or request.node.name.replace("test_", "", 1)).strip("-")
        made.append(Transcript(found, daemon, extra))
        return made[-1]

    yield make
    if getattr(getattr(request.node, "report_call", None), "passed", False):
        for t in made:
            t.finish()
