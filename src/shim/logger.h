// SPDX-License-Identifier: Apache-2.0
//
// A program that takes a container's output, named by a URI binary:///PATH?KEY=VALUE: it gets stdout, stderr and a
// ready pipe as descriptors 3, 4 and 5, and CONTAINER_ID and CONTAINER_NAMESPACE as its environment. Threads: the
// loop's.
#pragma once

#include "base/auto.h"
#include "io/loop.h"
#include "shim/reaper.h"

#include <stdbool.h>

struct logger;

struct logger_options {
        struct loop *loop;
        struct reaper *reaper;
        const char *uri;
        const char *id, *namespace_;
        // Once, later: the logger said that it is ready, or error says why it is not (its text is valid in the call).
        void (*ready)(void *data, const GError *error);
        void *data;
};

bool logger_is_uri(const char *uri);
// NULL and *error set if it cannot be started; ready is not called then.
struct logger *logger_start(const struct logger_options *options, GError **error);
// The writing ends of stdout (0) and stderr (1), for the container; the logger keeps them until logger_release.
int logger_input(const struct logger *logger, unsigned which);
// The container has them: closes ours, so that the logger sees the end of file when the container is done.
void logger_release(struct logger *logger);
// Ends it if it does not end by itself: after a while SIGTERM, then SIGKILL, in the background. No ready after this.
void logger_free(struct logger *logger);
DEFINE_AUTO(logger, logger_free)
