// SPDX-License-Identifier: Apache-2.0
//
// What a container's process sees: choices on top of the image's config, turned into an OCI runtime specification 1.1
// (config.md, config-linux.md). The defaults are containerd's: its mounts, capabilities, namespaces, masked and
// read-only paths, devices. Threads: any.
#pragma once

#include <skiff/client.h>

#ifdef __cplusplus
extern "C" {
#endif

// runtime-spec config.md, "Mounts".
struct skiff_mount {
        const char *type;           // "bind", "tmpfs", …
        const char *source;         // on the daemon's machine
        const char *destination;    // absolute, in the container
        const char *const *options; // NULL-terminated: "rbind", "ro", "size=64m", …; NULL: none
};

// Zeros are the defaults. Lists are NULL-terminated, or NULL.
struct skiff_spec_options {
        const char *const *args; // after the image's entrypoint, in place of its command
        const char *entrypoint;  // in place of the image's; "": none
        const char *const *env;  // "NAME=VALUE", over the image's; "NAME" alone: taken out
        const char *cwd;
        const char *user; // NAME or UID, and :NAME or :GID, as the image's /etc/passwd and /etc/group know them
        const char *hostname;
        bool terminal;
        uint32_t columns, rows; // of the terminal at the start; 0: not said
        bool read_only;         // root file system
        const struct skiff_mount *mounts;
        size_t n_mounts;
        bool host_network;           // the daemon's network namespace, with its hosts and resolv.conf
        bool privileged;             // every capability, no masked paths, all devices
        const char *const *cap_add;  // "NET_ADMIN" or "CAP_NET_ADMIN"
        const char *const *cap_drop; // the same; "ALL"
        const char *seccomp;         // a profile: JSON of config-linux.md, "Seccomp"; default: none, as ctr's
        int64_t memory_bytes;        // limit; 0: none
        double cpus;                 // 1.5: one and a half processors; 0: no limit
        int64_t pids;                // limit; 0: none
        const struct skiff_pair *annotations;
        size_t n_annotations;
};

// The default specification for a process without an image, as ctr's run has it with `--rootfs`: for programs that want
// to change it themselves. The cgroup path is /NAMESPACE/ID. The caller frees the JSON text with free(3).
// INVALID_ARGUMENT: bad options, names that only an image could resolve.
char *skiff_spec_generate(
        const char *name_space, const char *id, const struct skiff_spec_options *options, struct skiff_error **error);

#ifdef __cplusplus
}
#endif
