// SPDX-License-Identifier: Apache-2.0
//
// A process whose input and output are this program's: signals and the terminal's size go to it, its exit code comes
// back. Threads: the main one.
#pragma once

#include "cli/cli.h"

struct attach;

struct attach_options {
        bool terminal, interactive;
};
// Blocks the signals that will be forwarded (what comes until then waits), makes the fifos. NULL: it failed, and was
// printed. FAILED also where terminal is set and standard input is none.
struct attach *attach_new(struct cli *cli, const struct attach_options *options);
const struct skiff_stdio *attach_stdio(const struct attach *attach);
// Of the terminal that this program has; 0 without one.
void attach_size(uint32_t *ret_columns, uint32_t *ret_rows);
// Starts the process, created with that stdio, and stays until it has ended and is deleted and its output is written.
// True: *ret_code is its exit code. False: *ret_error says why.
bool attach_run(struct attach *attach, struct skiff_process *process, int *ret_code, struct skiff_error **ret_error);
// Gives the terminal and the signals back.
void attach_free(struct attach *attach);
