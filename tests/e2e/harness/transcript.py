# SPDX-License-Identifier: Apache-2.0
"""What commands printed, with everything that differs from run to run replaced, beside what containerd 2.3.4 printed.

A test runs commands through a Transcript; at its end the text is compared with the file in tests/e2e/recorded. With
E2E_RECORD=1 (tests/e2e/record) the file is written instead."""

import difflib
import re

from . import env

_RULES = [
    # Go's wrapping says some classes twice.
    (re.compile(r"(: invalid argument)+"), ": invalid argument"),
    (re.compile(r"\x1b\[[0-9;]*[A-Za-z]"), ""),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|[+-]\d\d:?\d\d))?( UTC)?"), "TIME"),
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "UUID"),
    (re.compile(r"127\.0\.0\.1:\d+|localhost:\d+"), "REGISTRY"),
    (re.compile(r"\b\d+(\.\d+)? ?([KMGT]i?B|[kMGT]B|B)(/s)?\b"), "SIZE"),
    (re.compile(r"\b(About a|an?|\d+|Less than a) (second|minute|hour|day)s?\b( ago)?"), "AGE"),
    (re.compile(r"\b\d+(\.\d+)?(ms|µs|ns|s)\b"), "DURATION"),
    (re.compile(r'"size": ?\d+'), '"size": SIZE'),
    (re.compile(r"(elapsed|done): ?[0-9.]+ ?s?"), r"\1: DURATION"),
]
_DIGEST = re.compile(r"\b(sha256[:-])([0-9a-f]{64})")
_SHORT = re.compile(r"\b[0-9a-f]{64}\b")


_LABELS = re.compile(r"(?<=\s)\S+=[^\s,]*(,\S+?=[^\s,]*)+|^\S+=[^\s,]*(,\S+?=[^\s,]*)+")


def _sorted_labels(found):
    """ctr prints labels as they come out of a Go map, in no order."""
    return ",".join(sorted(found[0].split(",")))


class Transcript:
    def __init__(self, name, daemon, extra=()):
        self.name, self.daemon, self.extra = name, daemon, list(extra)
        self.digests = {}
        self.parts = []

    def replace(self, value, word):
        """Say a word instead of a value that this run alone knows."""
        self.extra.append((str(value), word))

    def normal(self, text):
        for value, word in [(str(self.daemon.dir), "DIR"), *self.extra]:
            text = text.replace(value, word)
        for name in sorted(self.daemon.namespaces, key=len, reverse=True):
            text = text.replace(name, "NS" + name[len(self.daemon.namespace) :])
        text = _DIGEST.sub(lambda m: m[1] + self._number(m[2]), text)
        text = _SHORT.sub(lambda m: self._number(m[0]), text)
        for pattern, word in _RULES:
            text = pattern.sub(word, text)
        lines = [re.sub(r"[ \t]+", " ", line).rstrip() for line in text.replace("\r", "\n").split("\n")]
        lines = [line if line.startswith("mount ") else _LABELS.sub(_sorted_labels, line) for line in lines]
        return "\n".join(lines).strip("\n")

    def _number(self, digest):
        return f"<{self.digests.setdefault(digest, len(self.digests) + 1)}>"

    def add(self, command, result, sort=False, change=None, columns=None):
        """Note a command and what it said. sort: the order is not promised. change: one more replacement.
        columns: keep only these of a table, where the others differ from run to run."""
        out = result.out
        if columns is not None:
            out = "\n".join(" ".join(f for i, f in enumerate(line.split()) if i in columns) for line in out.splitlines())
        out, err = self.normal(out), self.normal(_without_log(result.err))
        if sort:
            lines = out.splitlines()
            out = "\n".join(lines[:1] + sorted(lines[1:]) if sort == "table" else sorted(lines))
        if change:
            out, err = change(out), change(err)
        text = f"$ {self.normal(command)}\n"
        text += out + "\n" if out else ""
        text += "".join(f"! {line}\n" for line in err.split("\n") if line)
        text += f"exit {result.code}\n" if result.code else ""
        self.parts.append(text)
        return result

    def path(self):
        return env.RECORDED / f"{self.name}.txt"

    def finish(self):
        text = "\n".join(self.parts)
        if env.RECORDING:
            self.path().parent.mkdir(parents=True, exist_ok=True)
            self.path().write_text(text)
            return
        if not self.path().exists():
            return
        expected = self.path().read_text()
        if text != expected:
            diff = difflib.unified_diff(expected.splitlines(), text.splitlines(), "containerd 2.3.4", "here", lineterm="")
            raise AssertionError(f"{self.path().name} differs:\n" + "\n".join(diff))


def _without_log(text):
    """ctr's own log lines of level warning and below: they say what it thinks of the host, not what the daemon said."""
    keep = [line for line in text.splitlines() if not re.match(r'time="[^"]*" level=(warning|info|debug)|WARN\[|INFO\[', line)]
    return "\n".join(keep)
