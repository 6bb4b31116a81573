// SPDX-License-Identifier: Apache-2.0
//
// What untar cannot do itself and skiffd is to do afterwards: devices, opaque markers, the looks of directories that
// the layer takes for granted. Kept by path until the end, so that what a later entry removes or replaces is forgotten.
// Threads: one at a time.
#pragma once

#include "base/auto.h"
#include "base/error.h"

#include "skiff/worker.pb-c.h"

#include <stdbool.h>

struct report;

struct report *report_new(void);
void report_free(struct report *report);
DEFINE_AUTO(report, report_free)

void report_invented(struct report *report, const char *path);
// An entry of the layer stands at path now, perhaps a directory.
void report_made(struct report *report, const char *path);
void report_opaque(struct report *report, const char *path);
// Copied.
void report_device(struct report *report, const Worker__Device *device, const char *path);
bool report_has_device(const struct report *report, const char *path);
// path and all below it are gone.
void report_removed(struct report *report, const char *path);

// Hands it over in parts of a bounded size. False as soon as send says so.
typedef bool (*report_send_fn)(void *data, const Worker__Reported *part, GError **error);
bool report_send(const struct report *report, report_send_fn send, void *data, GError **error);
