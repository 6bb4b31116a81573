# SPDX-License-Identifier: Apache-2.0
"""Where things are: the build tree, the programs of other projects (peers), and which daemon is tested."""

import functools
import json
import os
import pathlib
import shutil
import subprocess

REPO = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("SKIFF_BUILD", REPO / "build")).resolve()
PEERS = pathlib.Path(os.environ.get("SKIFF_PEERS", BUILD / "peers")).resolve()
RECORDED = REPO / "tests" / "e2e" / "recorded"
RECORDING = os.environ.get("E2E_RECORD") == "1"

# Which daemon the tests drive: "skiffd", or "containerd" to prove that a test asks for what containerd does.
DAEMON = os.environ.get("DAEMON", "skiffd")

GO_BIN = PEERS / "bin"
DEB_BIN = PEERS / "deb" / "usr" / "bin"


def skiff_program(name):
    """A program of this project, from the build tree or, when SKIFF_BIN names one, from an installation."""
    if "SKIFF_BIN" in os.environ:
        for d in os.environ["SKIFF_BIN"].split(":"):
            if (pathlib.Path(d) / name).exists():
                return pathlib.Path(d) / name
        return None
    places = {
        "skiffd": "daemon",
        "containerd-shim-skiff-v2": "shim",
        "skiff-fetch": "fetch",
        "skiff-unpack": "unpack",
        "skiff": "cli",
    }
    path = BUILD / "src" / places[name] / name
    return path if path.exists() else None


def libexec_path():
    if "SKIFF_BIN" in os.environ:
        return os.environ["SKIFF_BIN"]
    return ":".join(str(BUILD / "src" / d) for d in ("shim", "fetch", "unpack"))


def daemon_program(kind=DAEMON):
    if kind == "containerd":
        path = GO_BIN / "containerd"
        return path if path.exists() else None
    return skiff_program("skiffd")


def ctr_version(path):
    """("2.3", "2.3.4") of a ctr binary."""
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    number = text.lstrip("v").split("~")[0].split("+")[0].split("-")[0]
    return ".".join(number.split(".")[:2]), number


def ctr_programs():
    """Every ctr that is here, by its generation: the distribution's and the one built from v2.3.4."""
    found = {}
    for path in (DEB_BIN / "ctr", GO_BIN / "ctr"):
        if path.exists():
            found[ctr_version(path)[0]] = path
    return found


def oci_runtimes():
    return [name for name in ("crun", "runc") if shutil.which(name)]


@functools.lru_cache(maxsize=1)
def old_crun():
    """True for a crun that refuses an ociVersion above 1.0.x, as Debian 12's does."""
    text = subprocess.run(["crun", "--version"], capture_output=True, text=True, check=False).stdout
    return "spec: 1.0." in text


def build_option(name):
    """What the build directory was configured with, or None where nothing was built."""
    options = BUILD / "meson-info" / "intro-buildoptions.json"
    if not options.exists():
        return None
    return next((o["value"] for o in json.loads(options.read_text()) if o["name"] == name), None)


def sanitized():
    """True where the programs are built with a sanitizer: they are slower, and their sizes say nothing."""
    return DAEMON == "skiffd" and build_option("b_sanitize") not in (None, "none", [], ["none"])
