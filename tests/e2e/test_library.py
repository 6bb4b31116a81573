# SPDX-License-Identifier: Apache-2.0
"""What the headers of libskiff promise and the command line does not need: threads, interruption, error codes."""

import ctypes
import threading

import pytest

from harness import env, images, proc

pytestmark = [
    pytest.mark.skiff_only,
    pytest.mark.skipif(env.sanitized(), reason="a sanitized library cannot be loaded by a plain program"),
]
NAME = "docker.io/library/library:1"
CANCELED, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, UNAVAILABLE, UNAUTHENTICATED = 1, 3, 5, 6, 14, 16


class ClientOptions(ctypes.Structure):
    _fields_ = [("address", ctypes.c_char_p), ("name_space", ctypes.c_char_p), ("connect_timeout_ms", ctypes.c_uint)]


@pytest.fixture(scope="module")
def library():
    path = env.BUILD / "src" / "client" / "libskiff.so"
    if not path.exists():
        pytest.skip("libskiff is not built")
    library = ctypes.CDLL(str(path))
    for name in ("skiff_client_connect", "skiff_process_attach", "skiff_snapshot_prepare", "skiff_snapshot_mounts"):
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("skiff_error_text", "skiff_client_namespace"):
        getattr(library, name).restype = ctypes.c_char_p
    for name in ("skiff_namespace_create", "skiff_namespace_remove", "skiff_process_wait", "skiff_process_kill", "skiff_image_remove", "skiff_image_pull",
                 "skiff_image_import", "skiff_image_export", "skiff_lease_create", "skiff_lease_remove", "skiff_snapshot_remove",
                 "skiff_task_pids"):
        getattr(library, name).restype = ctypes.c_bool
    library.skiff_mounts_count.restype = ctypes.c_size_t
    library.skiff_mounts_at.restype = ctypes.POINTER(Mount)
    return library


@pytest.fixture
def client(library, daemon):
    options = ClientOptions(str(daemon.socket).encode(), daemon.namespace.encode(), 0)
    client = ctypes.c_void_p(library.skiff_client_connect(ctypes.byref(options), None))
    assert client
    yield client
    library.skiff_client_free(client)


def code_of(library, function, *arguments):
    """The error code of a call that fails."""
    error = ctypes.c_void_p()
    assert not getattr(library, function)(*arguments, ctypes.byref(error)) and error
    code = library.skiff_error_code(error)
    library.skiff_error_free(error)
    return code


@pytest.fixture
def sleeper(daemon, tmp_path):
    cli = lambda *words: proc.run([env.skiff_program("skiff"), "--address", daemon.socket, "-n", daemon.namespace, *words]).ok()
    cli("import", "-q", images.oci_archive(images.simple(), tmp_path / "image.tar", NAME))
    cli("run", "-d", "--name", "sleeper", "--log-uri", f"file://{tmp_path}/log", NAME, "sleep", "1000")
    yield b"sleeper"
    cli("rm", "-f", "sleeper")
    cli("rmi", "--sync", NAME)


def test_error_codes(library, client, daemon):
    assert code_of(library, "skiff_namespace_create", client, b"no/name") == INVALID_ARGUMENT
    assert code_of(library, "skiff_namespace_remove", client, b"none") == NOT_FOUND
    name = daemon.namespace_of_its_own("library").encode()
    assert library.skiff_namespace_create(client, name, None)
    assert code_of(library, "skiff_namespace_create", client, name) == ALREADY_EXISTS
    assert library.skiff_namespace_remove(client, name, None)
    assert code_of(library, "skiff_image_remove", client, b"docker.io/library/none:1", False) == NOT_FOUND


class TransferOptions(ctypes.Structure):
    _fields_ = [
        ("platform", ctypes.c_char_p), ("all_platforms", ctypes.c_bool), ("snapshotter", ctypes.c_char_p), ("plain_http", ctypes.c_bool),
        ("hosts_dir", ctypes.c_char_p), ("username", ctypes.c_char_p), ("password", ctypes.c_char_p), ("on_progress", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
    ]


def test_error_codes_of_transfers(library, client, plain_registry, tmp_path):
    options = ctypes.byref(TransferOptions(plain_http=True))
    registry = plain_registry()
    assert code_of(library, "skiff_image_pull", client, f"{registry.address}/none:1".encode(), options) == NOT_FOUND
    closed = plain_registry(login=("user", "secret"))
    ref = closed.put(images.simple(), "closed").encode()
    assert code_of(library, "skiff_image_pull", client, ref, options) == UNAUTHENTICATED
    assert code_of(library, "skiff_image_pull", client, b"127.0.0.1:1/none:1", options) == UNAVAILABLE
    (tmp_path / "file").write_text("no archive" * 1000)
    with open(tmp_path / "file", "rb") as file:
        assert code_of(library, "skiff_image_import", client, file.fileno(), None, None) == INVALID_ARGUMENT
    names = (ctypes.c_char_p * 2)(b"docker.io/library/none:1", None)
    with open("/dev/null", "wb") as file:
        assert code_of(library, "skiff_image_export", client, file.fileno(), names, None) == NOT_FOUND
    bad = ctypes.byref(TransferOptions(platform=b"no/such/plat/form"))
    assert code_of(library, "skiff_image_pull", client, b"127.0.0.1:1/none:1", bad) == INVALID_ARGUMENT


class SnapshotOptions(ctypes.Structure):
    _fields_ = [
        ("snapshotter", ctypes.c_char_p), ("key", ctypes.c_char_p), ("parent", ctypes.c_char_p), ("lease", ctypes.c_char_p),
        ("read_only", ctypes.c_bool),
    ]


class Mount(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_char_p), ("source", ctypes.c_char_p), ("destination", ctypes.c_char_p), ("options", ctypes.POINTER(ctypes.c_char_p)),
    ]


def test_snapshots_and_leases(library, client):
    assert library.skiff_lease_create(client, b"keeper", 600, None)
    assert code_of(library, "skiff_lease_create", client, b"keeper", 0) == ALREADY_EXISTS
    options = SnapshotOptions(key=b"tree", lease=b"keeper")
    mounts = ctypes.c_void_p(library.skiff_snapshot_prepare(client, ctypes.byref(options), None))
    assert library.skiff_mounts_count(mounts) == 1
    first = library.skiff_mounts_at(mounts, 0).contents
    assert first.type == b"bind" and first.source.startswith(b"/") and first.destination == b"" and first.options[0] == b"rw"
    library.skiff_mounts_free(mounts)
    assert code_of(library, "skiff_snapshot_prepare", client, ctypes.byref(options)) == ALREADY_EXISTS
    for read_only in (False, True):
        orphan = SnapshotOptions(key=b"other", parent=b"none", read_only=read_only)
        assert code_of(library, "skiff_snapshot_prepare", client, ctypes.byref(orphan)) == NOT_FOUND
    assert code_of(library, "skiff_snapshot_mounts", client, None, b"none") == NOT_FOUND
    assert library.skiff_snapshot_remove(client, None, b"tree", None)
    assert code_of(library, "skiff_snapshot_remove", client, None, b"tree") == NOT_FOUND
    assert library.skiff_lease_remove(client, b"keeper", None)
    assert code_of(library, "skiff_lease_remove", client, b"keeper") == NOT_FOUND


def test_pids_of_a_task(library, client, sleeper):
    pids, n = ctypes.POINTER(ctypes.c_uint32)(), ctypes.c_size_t()
    assert library.skiff_task_pids(client, sleeper, ctypes.byref(pids), ctypes.byref(n), None)
    assert n.value == 1 and proc.cmdline(pids[0]).split() == ["sleep", "1000"]
    ctypes.CDLL(None).free(pids)
    assert code_of(library, "skiff_task_pids", client, b"none", ctypes.byref(pids), ctypes.byref(n)) == NOT_FOUND


def waiters(library, process, n):
    """n threads that wait for the process, and what they will have got: a status, or an error's code."""
    got, begun = [], threading.Barrier(n + 1)

    def wait():
        status, error = ctypes.c_uint32(), ctypes.c_void_p()
        begun.wait()
        ok = library.skiff_process_wait(process, ctypes.byref(status), ctypes.byref(error))
        got.append(status.value if ok else -library.skiff_error_code(error))
        if not ok:
            library.skiff_error_free(error)

    threads = [threading.Thread(target=wait) for _ in range(n)]
    for thread in threads:
        thread.start()
    begun.wait()
    return threads, got


def test_several_threads_wait_for_one_process(library, client, sleeper):
    process = ctypes.c_void_p(library.skiff_process_attach(client, sleeper, None))
    threads, got = waiters(library, process, 4)
    assert library.skiff_process_kill(process, 9, False, None)
    for thread in threads:
        thread.join(20)
    assert got == [137] * 4
    library.skiff_process_free(process)


def test_interruption_ends_every_call(library, client, sleeper):
    process = ctypes.c_void_p(library.skiff_process_attach(client, sleeper, None))
    threads, got = waiters(library, process, 2)
    library.skiff_client_interrupt(client)
    for thread in threads:
        thread.join(20)
    assert got == [-CANCELED] * 2
    assert code_of(library, "skiff_namespace_create", client, b"later") == CANCELED
    library.skiff_process_free(process)
