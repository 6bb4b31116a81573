// SPDX-License-Identifier: Apache-2.0
//
// Where a process's cgroups are, v1 and v2, and reading the kernel's files in them. Threads: any.
#pragma once

#include "base/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum cgroup_mode { CGROUP_LEGACY, CGROUP_UNIFIED }; // a hybrid host is legacy: its controllers are v1
enum cgroup_mode cgroup_host_mode(void);

// The cgroups of a process as directories, taken once: they stay the same after it ended.
struct cgroup;
// NOT_FOUND if there is no such process.
struct cgroup *cgroup_of_process(pid_t pid, GError **error);
// The cgroup v2 of that directory, on whatever file system: so its readers can be tested on any host.
struct cgroup *cgroup_at(const char *directory);
void cgroup_free(struct cgroup *cgroup);
DEFINE_AUTO(cgroup, cgroup_free)
enum cgroup_mode cgroup_mode(const struct cgroup *cgroup);
// The directory of a v1 controller ("memory", "name=systemd"); for v2 the one directory, whatever the name. NULL: none.
const char *cgroup_directory(const struct cgroup *cgroup, const char *controller);
// False where a process shares the cgroup of the host's root: then it has none of its own.
bool cgroup_is_own(const struct cgroup *cgroup);

// A file's text, caller frees; NULL: not there or not readable.
char *cgroup_read(const struct cgroup *cgroup, const char *controller, const char *file);
// A file that holds one number; "max" is UINT64_MAX. False: not there.
bool cgroup_read_number(const struct cgroup *cgroup, const char *controller, const char *file, uint64_t *ret_value);
// The value behind "KEY " at the start of a line. False: no such line.
bool cgroup_find_number(const char *text, const char *key, uint64_t *ret_value);
// All processes in it and below it, as pid_t.
GArray *cgroup_processes(const struct cgroup *cgroup);
// Removes its directories where nothing is in them any more: what a runtime forgot (crun 1.8 on cgroup v1). Never the
// root's.
void cgroup_remove(const struct cgroup *cgroup);
// Puts a process into the cgroup of that path below each hierarchy's root. NOT_FOUND: no such cgroup.
bool cgroup_join(const char *path, pid_t pid, GError **error);
