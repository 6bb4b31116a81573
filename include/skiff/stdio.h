// SPDX-License-Identifier: Apache-2.0
//
// Where a process's input and output go: to this program's descriptors (through fifos that the shim opens, with a
// thread per stream copying), to a log file, to a logging program, or nowhere. Ownership and threads: see client.h.
#pragma once

#include <skiff/client.h>

#ifdef __cplusplus
extern "C" {
#endif

struct skiff_stdio;
struct skiff_process;

struct skiff_stdio_options {
        bool terminal; // one stream for output and errors
        bool use_stdin, use_stdout, use_stderr;
        int stdin_fd, stdout_fd, stderr_fd; // where the three are used; they stay the caller's, their flags unchanged
        bool kill_on_broken_pipe;   // when nobody reads stdout_fd or stderr_fd any more; else the output is dropped
        const char *fifo_directory; // default: /run/skiff/fifo for root, else below XDG_RUNTIME_DIR or /tmp
};
// Makes the fifos. UNKNOWN: it could not.
struct skiff_stdio *skiff_stdio_attached(const struct skiff_stdio_options *options, struct skiff_error **error);
// Output goes to a log: "file:///PATH" (appended, both streams), "binary:///PATH?ARG" (containerd's logging programs).
// NULL: nowhere.
struct skiff_stdio *skiff_stdio_log(const char *uri, bool terminal);
// Starts copying (two or three threads of the client's); call it after skiff_process_start succeeded, when the shim has
// opened the fifos. At the end of stdin_fd the process's stdin is closed.
bool skiff_stdio_start(struct skiff_stdio *stdio, struct skiff_process *process, struct skiff_error **error);
// Waits until all output was copied, at most timeout_ms (-1: none); false: it was not. Call it after
// skiff_process_delete, when the shim has written everything.
bool skiff_stdio_wait(struct skiff_stdio *stdio, int timeout_ms);
// Stops copying, removes the fifos, frees. NULL is fine. Before the process handle is freed.
void skiff_stdio_free(struct skiff_stdio *stdio);

#ifdef __cplusplus
}
#endif
