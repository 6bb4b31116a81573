// SPDX-License-Identifier: Apache-2.0
//
// An archive's bytes from a client's stream into a pipe, as fast as its reader takes them. Threads: the operation's
// strand.
#pragma once

struct inflow;
struct operation;
struct stream;

// Takes pipe_fd, the write end; it is closed after the last byte, or when nobody reads any more.
struct inflow *inflow_start(struct operation *operation, struct stream *stream, int pipe_fd);
// After the operation failed.
void inflow_stop(struct inflow *inflow);
// After it has ended.
void inflow_free(struct inflow *inflow);
