# SPDX-License-Identifier: Apache-2.0
"""OCI runtimes that do not do as they should."""

import os


def gated_runtime(directory, command, real):
    """A FIFO, and an OCI runtime whose command waits until something is written to it."""
    gate, runtime = directory / "gate", directory / "runtime"
    os.mkfifo(gate)
    runtime.write_text(f'#!/bin/sh\ncase " $* " in *" {command} "*) read x <{gate};; esac\nexec {real} "$@"\n')
    runtime.chmod(0o755)
    return gate, runtime
