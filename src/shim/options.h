// SPDX-License-Identifier: Apache-2.0
//
// The runc options of a container: from the request, and kept in its bundle (options.json) as containerd's shim keeps
// them, for the shim's delete command. Threads: any.
#pragma once

#include "containerd/runc.pb-c.h"
#include "google/protobuf/any.pb-c.h"

#include <glib.h>
#include <stdbool.h>

// any may be NULL or of another type: then all options have their default. INVALID_ARGUMENT if it does not parse. Free
// with runc__options__free_unpacked.
Runc__Options *options_from_any(const Google__Protobuf__Any *any, GError **error);
bool any_is(const Google__Protobuf__Any *any, const ProtobufCMessageDescriptor *descriptor);

char *options_to_json(const Runc__Options *options);
// What the delete command needs of it. NULL text: defaults.
struct options_kept {
        char *root;
        bool systemd_cgroup;
};
void options_from_json(const char *text, struct options_kept *ret_kept);

// The OCI runtime's state directory for a namespace; caller frees.
char *options_runtime_root(const char *root, const char *namespace_);
