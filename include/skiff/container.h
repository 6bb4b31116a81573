// SPDX-License-Identifier: Apache-2.0
//
// Containers: what a task is made of (image, snapshot, specification, runtime, labels). What runs is a task, see
// task.h. Ownership and threads: see client.h.
#pragma once

#include <skiff/client.h>
#include <skiff/spec.h>

#ifdef __cplusplus
extern "C" {
#endif

struct skiff_container_options {
        const char *id;             // containerd's identifiers: at most 76 bytes of [A-Za-z0-9] joined by one of "-_."
        const char *image;          // full name of an image that is unpacked in that snapshotter
        const char *snapshotter;    // default "overlayfs"
        const char *runtime;        // "io.containerd.runc.v2" (default), or a path of a shim
        const char *runtime_binary; // OCI runtime for it, a path or name, such as "crun"; default: the daemon's choice
        const struct skiff_pair *labels; // over the image's
        size_t n_labels;
        const struct skiff_spec_options *spec; // NULL: the image's config alone
};

// Makes a snapshot of the image's file system, the specification, and the record. If it fails, nothing is left behind;
// what a client that dies leaves goes with the daemon's first collection after an hour. NOT_FOUND: no such image, or
// not unpacked there (the text says which); ALREADY_EXISTS: the id is taken; INVALID_ARGUMENT: bad id or options,
// unknown user.
bool skiff_container_create(
        struct skiff_client *client, const struct skiff_container_options *options, struct skiff_error **error);
// Removes record and snapshot. FAILED_PRECONDITION: it has a task; NOT_FOUND.
bool skiff_container_remove(struct skiff_client *client, const char *id, struct skiff_error **error);
// Sets one label. NOT_FOUND.
bool skiff_container_label(
        struct skiff_client *client, const char *id, const char *key, const char *value, struct skiff_error **error);

enum skiff_status {
        SKIFF_STATUS_NONE, // no task
        SKIFF_STATUS_CREATED,
        SKIFF_STATUS_RUNNING,
        SKIFF_STATUS_STOPPED,
        SKIFF_STATUS_PAUSED,
        SKIFF_STATUS_UNKNOWN, // its shim does not answer
};

struct skiff_container {
        const char *id, *image, *runtime, *snapshotter, *snapshot_key;
        const char *spec; // JSON
        int64_t created_at_ns;
        const struct skiff_pair *labels;
        size_t n_labels;
        enum skiff_status status;
        uint32_t pid;         // of a task
        uint32_t exit_status; // of a stopped task: 0–255, 128 + N for signal N
        int64_t exited_at_ns;
};

struct skiff_containers;
// All, with their tasks, the newest first.
struct skiff_containers *skiff_containers_list(struct skiff_client *client, struct skiff_error **error);
// The one of that id, as a list of one. NOT_FOUND.
struct skiff_containers *skiff_container_get(struct skiff_client *client, const char *id, struct skiff_error **error);
size_t skiff_containers_count(const struct skiff_containers *list);
const struct skiff_container *skiff_containers_at(const struct skiff_containers *list, size_t index);
// NULL: no such label.
const char *skiff_container_label_value(const struct skiff_container *container, const char *key);
void skiff_containers_free(struct skiff_containers *list);

#ifdef __cplusplus
}
#endif
