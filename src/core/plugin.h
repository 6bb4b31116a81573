// SPDX-License-Identifier: Apache-2.0
//
// A plugin is a const descriptor: containerd's type and id, what it needs, how it starts and stops. daemon/plugins.c
// holds the one table of them; they start in topological order of `requires`, on the main thread, before the sockets
// are served, and stop in the opposite order. Threads: main.
#pragma once

#include "base/error.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct any;
struct lanes;
struct loop;

#define PLUGIN_CONTENT "io.containerd.content.v1"
#define PLUGIN_METADATA "io.containerd.metadata.v1"
#define PLUGIN_SNAPSHOTTER "io.containerd.snapshotter.v1"
#define PLUGIN_DIFFER "io.containerd.differ.v1"
#define PLUGIN_GC "io.containerd.gc.v1"
#define PLUGIN_EVENT "io.containerd.event.v1"
#define PLUGIN_LEASE "io.containerd.lease.v1"
#define PLUGIN_MOUNT_MANAGER "io.containerd.mount-manager.v1"
#define PLUGIN_RUNTIME_V2 "io.containerd.runtime.v2"
#define PLUGIN_SERVICE "io.containerd.service.v1"
#define PLUGIN_STREAMING "io.containerd.streaming.v1"
#define PLUGIN_TRANSFER "io.containerd.transfer.v1"
#define PLUGIN_IMAGE_VERIFIER "io.containerd.image-verifier.v1"
#define PLUGIN_GRPC "io.containerd.grpc.v1"
#define PLUGIN_TTRPC "io.containerd.ttrpc.v1"
#define PLUGIN_SERVER "io.containerd.server.v1"

// What a plugin offers to the others is an interface of core/ (a struct whose first member is its ops table), named by
// the type: PLUGIN_SNAPSHOTTER gives a struct snapshot_driver, PLUGIN_GRPC and PLUGIN_TTRPC a struct plugin_service, …
struct plugin_host;

struct plugin_requirement {
        const char *type;
        const char *id; // NULL: every plugin of that type, and none is fine
};

// One key of the plugin's table in the configuration file. The default is written as in TOML ("3", "false",
// "'walking'", "['a', 'b']") and says the type.
struct plugin_setting {
        const char *key, *fallback;
};

// info is NULL exactly if error is set; both live during the call alone, which is on the loop's thread.
typedef void (*plugin_info_fn)(void *data, const ProtobufCMessage *info, const GError *error);

struct plugin {
        const char *type, *id;
        const struct plugin_setting *settings;      // ends with a NULL key; NULL: none
        const struct plugin_requirement *requires_; // ends with a NULL type; NULL: nothing
        // Returns the instance, or NULL with *error. UNIMPLEMENTED: it cannot work on this host and is skipped with
        // that reason; any other error: failed.
        void *(*init)(struct plugin_host *host, GError **error);
        // Called once all calls have ended. May be NULL.
        void (*stop)(void *instance);
        // What Introspection.PluginInfo asks beyond the status, with a request of the plugin's own type; returns at
        // once, any thread. done comes once. NULL: the plugin tells nothing.
        void (*info)(void *instance, const struct any *request, plugin_info_fn done, void *data);
        bool platforms;                  // Introspection shows the host's platform for it
        const char *const *capabilities; // as Introspection shows them; NULL: none
};

// For PLUGIN_GRPC and PLUGIN_TTRPC: what the daemon serves.
struct rpc_service;
struct plugin_service {
        const struct rpc_service *service;
        void *object;
        unsigned protocols;                // rpc_protocol, or-ed
        const struct plugin_service *next; // another one of the same plugin; NULL: none
};

// ---- what init may ask. All results live until the plugin was stopped.

struct loop *plugin_host_loop(struct plugin_host *host);
struct lanes *plugin_host_lanes(struct plugin_host *host);
// The plugin's own directories (ROOT/TYPE.ID, STATE/TYPE.ID), made on demand with mode 0711 or 0700.
const char *plugin_host_root_dir(struct plugin_host *host);
const char *plugin_host_state_dir(struct plugin_host *host);
// The daemon's: --root, --state, --address.
const char *plugin_host_daemon_root(struct plugin_host *host);
const char *plugin_host_daemon_state(struct plugin_host *host);
const char *plugin_host_address(struct plugin_host *host);
// The full path of one of skiff's programs ("skiff-unpack"): SKIFF_LIBEXEC (directories with colons), the directory of
// skiffd, libexec and bin beside it and as configured, PATH. NOT_FOUND.
const char *plugin_host_program(struct plugin_host *host, const char *name, GError **error);
// The instance of a required plugin; NULL if it failed or was skipped (init decides whether it can do without).
void *plugin_host_get(struct plugin_host *host, const char *type, const char *id);
// Calls fn for each started plugin of a type.
void plugin_host_each(
        struct plugin_host *host, const char *type, void (*fn)(void *data, const char *id, void *instance), void *data);

// The plugin's table in the configuration file, as its settings declare it: the types have been checked and the
// defaults filled in before init. Asking for a key that the settings do not have is a bug.
const char *plugin_host_config_string(struct plugin_host *host, const char *key);
int64_t plugin_host_config_int(struct plugin_host *host, const char *key);
double plugin_host_config_double(struct plugin_host *host, const char *key);
bool plugin_host_config_bool(struct plugin_host *host, const char *key);
// NULL-terminated.
const char *const *plugin_host_config_strings(struct plugin_host *host, const char *key);
// A list of tables ([[plugins.….key]]): how many there are, and the fields of one; "" and false where it lacks them.
size_t plugin_host_config_n_tables(struct plugin_host *host, const char *key);
const char *plugin_host_config_table_string(struct plugin_host *host, const char *key, size_t index, const char *field);
bool plugin_host_config_table_bool(struct plugin_host *host, const char *key, size_t index, const char *field);
// Seconds and so on as Go writes them ("1m30s", "500ms", "0s").
int64_t plugin_host_config_duration_ns(struct plugin_host *host, const char *key);

// What Introspection shows of the plugin beside its descriptor, set in init: key and value ("root", a directory), and
// capabilities that depend on the host.
void plugin_host_export(struct plugin_host *host, const char *key, const char *value);
void plugin_host_add_capability(struct plugin_host *host, const char *capability);

// ---- for the Introspection service: all plugins in the order of their start. After the start constant.

struct plugin_status {
        const struct plugin *plugin;
        void *instance;                  // NULL: it does not run
        const GError *error;             // NULL: it runs; UNIMPLEMENTED: skipped
        const char *const *exports;      // key, value, …, NULL
        const char *const *capabilities; // the descriptor's and those added
};
size_t plugin_host_count(struct plugin_host *host);
struct plugin_status plugin_host_status(struct plugin_host *host, size_t index);
