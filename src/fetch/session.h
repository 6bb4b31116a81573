// SPDX-License-Identifier: Apache-2.0
//
// The daemon's commands (skiff/fetch.proto) carried out: one session per process, ended by the end of file of the
// control socket. Threads: one.
#pragma once

#include "base/auto.h"
#include "remote/reactor.h"

struct session;

// Takes the control socket. scratch_dir: where certificates may be written as files, for curl wants files.
struct session *session_new(struct reactor *reactor, int control_fd, const char *scratch_dir);
void session_free(struct session *session);
DEFINE_AUTO(session, session_free)
