# SPDX-License-Identifier: Apache-2.0
"""What the sanitizers say of every program that the tests start, whoever started it: daemon, shims, skiff. Each process
writes a file of its own, as nobody reads what a shim prints. The jailed workers can write none: they use the daemon's log."""

import contextlib
import os
import pathlib
import re
import tempfile

from . import env, proc

_directory = None
_WORDS = re.compile(r"(ERROR|WARNING): (Address|Leak|Thread|Undefined)\w*Sanitizer|runtime error:")


def start():
    """Send the reports of all that is started from now on to a directory of ours."""
    global _directory
    if not env.sanitized():
        return
    _directory = pathlib.Path(tempfile.mkdtemp(prefix="skiff-reports-"))
    _directory.chmod(0o1777)
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
        before = os.environ.get(name)
        os.environ[name] = (before + ":" if before else "") + f"log_path={_directory}/report"
    os.environ["TSAN_OPTIONS"] += f":suppressions={env.REPO}/tools/native/tsan.supp"


def _wait_for_end(path):
    """The process that writes it ends with it; its number is the end of the name."""
    with contextlib.suppress(AssertionError):
        proc.wait_until(lambda: not proc.alive(int(path.suffix[1:])), 10)


def take():
    """What was reported since the last time, or None."""
    text = ""
    for path in _directory.glob("report*") if _directory else ():
        _wait_for_end(path)
    for path in sorted(_directory.glob("report*")) if _directory else ():
        text += path.read_text(errors="replace")[:6000]
        path.unlink()
    return text or None


def in_log(text):
    """The first report in a log, or None."""
    at = _WORDS.search(text)
    return text[at.start() : at.start() + 6000] if at else None


def end():
    """Remove the directory; returns what nobody took."""
    rest = take()
    if _directory:
        _directory.rmdir()
    return rest
