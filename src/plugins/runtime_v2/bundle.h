// SPDX-License-Identifier: Apache-2.0
//
// A bundle: the directory that a shim works in, laid out as containerd 2.3.4 does (STATE/NS/ID with config.json,
// rootfs/, work → ROOT/NS/ID, log, bootstrap.json, shim-binary-path). Threads: workers (all calls touch the disk).
#pragma once

#include "base/auto.h"
#include "core/any.h"

#include <glib.h>
#include <stdbool.h>

struct bundle {
        char *namespace_, *id;
        char *path, *work; // absolute
};

struct bundle_address { // bootstrap.json: how its shim is reached
        int version;    // of the task API: 2 or 3
        char *protocol; // "ttrpc" or "grpc"
        char *address;  // "unix:///…"
};
void bundle_address_done(struct bundle_address *address);

struct bundle *bundle_new(const char *root, const char *state, const char *namespace_, const char *id);
void bundle_free(struct bundle *bundle);
DEFINE_AUTO(bundle, bundle_free)

// ALREADY_EXISTS if the directory is there. A failure leaves nothing.
bool bundle_create(const struct bundle *bundle, const struct any *spec, GError **error);
// Unmounts what is left below rootfs, then removes both directories, renamed first, so that no half of one is ever
// found.
bool bundle_delete(const struct bundle *bundle, GError **error);

// The log FIFO, opened for reading so that it never ends. -1 and *error.
int bundle_open_log(const struct bundle *bundle, GError **error);

bool bundle_save_shim(
        const struct bundle *bundle, const char *binary, const struct bundle_address *address, GError **error);
// NOT_FOUND where no shim was ever started.
bool bundle_load_shim(
        const struct bundle *bundle, char **ret_binary, struct bundle_address *ret_address, GError **error);

// Ends the processes whose working directory this is: a shim that cannot be reached, what a dead one was doing. Takes
// seconds where one does not end.
void bundle_end_strays(const char *path);

// What a shim's start printed: protobuf (BootstrapResult), JSON, or a bare address; also the form of bootstrap.json.
// UNIMPLEMENTED for a newer version than 3.
bool bundle_parse_address(const void *bytes, size_t n_bytes, struct bundle_address *ret_address, GError **error);
