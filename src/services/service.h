// SPDX-License-Identifier: Apache-2.0
//
// What the services share: who calls, and short answers. Threads: any.
#pragma once

#include "base/filter.h"
#include "core/scope.h"
#include "rpc/rpc.h"

#include "google/protobuf/field_mask.pb-c.h"

struct event_exchange;
struct gc;
struct metadata;
struct plugin_host;

// How long calls may take whose client sets no deadline: far longer than any that gets on with its work.
enum {
        SERVICE_LIMIT_RECORD_MS = 10 * 60 * 1000,     // records, nothing else
        SERVICE_LIMIT_RUNTIME_MS = 60 * 60 * 1000,    // programs of others: shims, runtimes, hooks, mkfs
        SERVICE_LIMIT_FILES_MS = 24 * 60 * 60 * 1000, // as many files and bytes as there are
};

// The namespace of the call (metadata containerd-namespace, over ttrpc containerd-namespace-ttrpc), checked.
// FAILED_PRECONDITION "namespace is required: failed precondition", INVALID_ARGUMENT. It lives as long as the call.
const char *service_namespace(const struct rpc_call *call, GError **error);

// The same with the lease (containerd-lease).
bool service_scope(const struct rpc_call *call, struct scope *ret_scope, GError **error);
bool service_stream_scope(const struct rpc_stream *stream, struct scope *ret_scope, GError **error);

// What services of records need; FAILED_PRECONDITION where one of them did not start.
bool service_find_records(
        struct plugin_host *host, struct metadata **ret_metadata, struct event_exchange **ret_events, GError **error);

// A plugin's stop where nothing but the service's object is to be freed, by g_free.
void service_free_object(void *instance);

// Answers with an Empty, or with the error if it is set (taken).
void service_reply_empty(struct rpc_call *call, GError *error);
// Answers with an Empty once a garbage collection has run; gc NULL: at once.
void service_reply_after_gc(struct rpc_call *call, struct gc *gc);

// NULL in ret where there is no filter. INVALID_ARGUMENT with containerd's text, which for records (not for content)
// says so twice.
bool service_filter(char *const *texts, size_t n, struct filter **ret, GError **error);

static inline size_t service_n_paths(const Google__Protobuf__FieldMask *mask)
{
        return mask != NULL ? mask->n_paths : 0;
}

static inline char *const *service_paths(const Google__Protobuf__FieldMask *mask)
{
        return mask != NULL ? mask->paths : NULL;
}
