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
CANCELED, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS = 1, 3, 5, 6


class ClientOptions(ctypes.Structure):
    _fields_ = [("address", ctypes.c_char_p), ("name_space", ctypes.c_char_p), ("connect_timeout_ms", ctypes.c_uint)]


@pytest.fixture(scope="module")
def library():
    path = env.BUILD / "src" / "client" / "libskiff.so"
    if not path.exists():
        pytest.skip("libskiff is not built")
    library = ctypes.CDLL(str(path))
    for name in ("skiff_client_connect", "skiff_process_attach"):
        getattr(library, name).restype = ctypes.c_void_p
    for name in ("skiff_error_text", "skiff_client_namespace"):
        getattr(library, name).restype = ctypes.c_char_p
    for name in ("skiff_namespace_create", "skiff_namespace_remove", "skiff_process_wait", "skiff_process_kill", "skiff_image_remove"):
        getattr(library, name).restype = ctypes.c_bool
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
