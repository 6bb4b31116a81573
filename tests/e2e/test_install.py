# SPDX-License-Identifier: Apache-2.0
"""`meson install` makes a tree that works where it was put."""

import os
import shutil

import pytest
from conftest import ANY_RUNTIME, IMAGE, best_ctr

from harness import env, proc

pytestmark = pytest.mark.skiff_only

CLIENT = """#include <skiff/skiff.h>
#include <stdio.h>
int main(void) { puts(skiff_version()); return 0; }
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The prefix of an installation below a directory of the test."""
    top = tmp_path_factory.mktemp("installed")
    proc.run(["meson", "install", "-C", env.BUILD, "--no-rebuild", "--destdir", top], timeout=300).ok()
    return top / env.build_option("prefix").lstrip("/")


def files(prefix, pattern):
    return sorted(str(p.relative_to(prefix)) for p in prefix.rglob(pattern))


def test_each_file_is_where_one_looks_for_it(installed):
    programs = [f for f in files(installed, "*") if os.access(installed / f, os.X_OK) and (installed / f).is_file()]
    assert [f for f in programs if ".so" not in f] == [
        "bin/containerd-shim-skiff-v2",
        "bin/skiff",
        "libexec/skiff/skiff-fetch",
        "libexec/skiff/skiff-unpack",
        "sbin/skiffd",
    ]
    assert "include/skiff/skiff.h" in files(installed, "*.h")
    assert all(f.startswith("include/skiff/") for f in files(installed, "*.h"))
    assert [f.rsplit("/", 2)[1:] for f in files(installed, "*.pc")] == [["pkgconfig", "skiff.pc"]]
    assert [f.rsplit("/", 1)[1] for f in files(installed, "libskiff*")] == ["libskiff.so", "libskiff.so.0", "libskiff.so.0.1.0"]
    assert not files(installed, "*.a")
    assert files(installed, "*.service") == ["lib/systemd/system/skiff.service"]
    unit = (installed / "lib/systemd/system/skiff.service").read_text()
    assert f"ExecStart={env.build_option('prefix')}/sbin/skiffd\n" in unit


def test_programs_say_their_version(installed):
    for program in ("sbin/skiffd", "bin/skiff"):
        assert "0.1.0" in proc.run([installed / program, "--version"]).ok().out


def program(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return None


def test_a_container_runs_from_the_installed_tree(installed, own_daemon, archive, monkeypatch):
    monkeypatch.setenv("SKIFF_BIN", f"{installed}/sbin")
    daemon = own_daemon(environment={"SKIFF_LIBEXEC": ""})
    client = best_ctr(daemon)
    client("images", "import", archive).ok()
    client("run", "-d", "--runc-binary", ANY_RUNTIME, IMAGE, "c1", "sleep", "1000").ok()
    assert str(installed / "bin" / "containerd-shim-skiff-v2") in {program(pid) for pid in proc.all_pids()}
    client("tasks", "delete", "-f", "c1").ok()
    client("containers", "rm", "c1").ok()


@pytest.mark.skipif(env.sanitized(), reason="the sanitizer wants to be linked first")
@pytest.mark.skipif(not shutil.which("pkg-config") or not shutil.which("cc"), reason="no pkg-config or no C compiler")
def test_a_program_is_built_with_the_installed_library(installed, tmp_path):
    lib = next(installed.rglob("libskiff.so")).parent
    where = dict(os.environ, PKG_CONFIG_PATH=str(lib / "pkgconfig"))
    prefix = f"--define-variable=prefix={installed}"
    flags = proc.run(["pkg-config", prefix, "--cflags", "--libs", "skiff"], env=where).ok().out.split()
    (tmp_path / "client.c").write_text(CLIENT)
    proc.run(["cc", "-o", tmp_path / "client", tmp_path / "client.c", *flags]).ok()
    assert proc.run([tmp_path / "client"], env=dict(where, LD_LIBRARY_PATH=str(lib))).ok().out == "0.1.0\n"
