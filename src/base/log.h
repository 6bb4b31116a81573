// SPDX-License-Identifier: Apache-2.0
//
// Logging to stderr, one line a record, logfmt as containerd prints it (time="…" level=info msg="…" key=value) or JSON.
// Libraries below core do not log, they return errors. Threads: any; configure before the first thread starts.
#pragma once

#include <glib.h>
#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_TRACE };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

void log_configure(enum log_level level, enum log_format format);
// "panic", "fatal" and "error" all mean ERROR, as in containerd's configuration. False: no such level.
bool log_level_parse(const char *text, enum log_level *ret_level);
bool log_enabled(enum log_level level);

// Fields follow the message as pairs of strings, ended by NULL; a NULL value leaves its pair out:
//   log_record(LOG_LEVEL_INFO, "shim started", "id", id, "namespace", ns, NULL);
void log_record(enum log_level level, const char *message, ...) G_GNUC_NULL_TERMINATED;

#define log_error(...) log_record(LOG_LEVEL_ERROR, __VA_ARGS__, NULL)
#define log_warn(...) log_record(LOG_LEVEL_WARN, __VA_ARGS__, NULL)
#define log_info(...) log_record(LOG_LEVEL_INFO, __VA_ARGS__, NULL)
#define log_debug(...) log_record(LOG_LEVEL_DEBUG, __VA_ARGS__, NULL)
