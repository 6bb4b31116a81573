// SPDX-License-Identifier: Apache-2.0
//
// The list of running calls is an arena with the response, whose strings the table of calls uses.
#include "client/internal.h"

#include "skiff/debug.pb-c.h"

#include <skiff/debug.h>

struct skiff_calls {
        struct arena *arena;
        struct skiff_call *calls;
        size_t n;
};

struct skiff_calls *skiff_calls_list(struct skiff_client *client, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        const Debug__ListCallsResponse *response =
                client_call(client, CLIENT_METHOD("skiff.v1.Debug", "ListCalls", debug__list_calls_response),
                        &(Debug__ListCallsRequest)DEBUG__LIST_CALLS_REQUEST__INIT, arena, inner(error));
        if (response == NULL)
                return NULL;
        struct skiff_calls *list = g_new0(struct skiff_calls, 1);
        list->n = response->n_calls;
        list->calls = arena_array(arena, struct skiff_call, list->n);
        for (size_t i = 0; i < list->n; i++) {
                const Debug__Call *call = response->calls[i];
                list->calls[i] = (struct skiff_call){
                        .service = call->service,
                        .method = call->method,
                        .name_space = call->namespace_,
                        .client_pid = call->client_pid,
                        .age_ns = (int64_t)call->age_ns,
                        .waits_for = call->waits_for,
                        .waited_ns = (int64_t)call->waited_ns,
                        .left_ns = (int64_t)call->left_ns,
                        .cancelled = call->cancelled,
                };
        }
        list->arena = g_steal_pointer(&arena);
        return list;
}

size_t skiff_calls_count(const struct skiff_calls *list)
{
        return list->n;
}

const struct skiff_call *skiff_calls_at(const struct skiff_calls *list, size_t index)
{
        return &list->calls[index];
}

void skiff_calls_free(struct skiff_calls *list)
{
        if (list == NULL)
                return;
        arena_free(list->arena);
        g_free(list);
}
