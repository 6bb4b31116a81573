// SPDX-License-Identifier: Apache-2.0
//
// The list of a server's calls. A call is in it from its start until its memory goes, which waits for the list's lock:
// what the list shows may have lost its last reference, and is never to be given one. The list's lock is taken before a
// connection's.
#include "rpc/internal.h"

void rpc_calls_add(struct rpc_calls *calls, struct rpc_call *call)
{
        uv_mutex_lock(&calls->lock);
        call->is_listed = true;
        call->prev = calls->last;
        *(calls->last != NULL ? &calls->last->next : &calls->first) = call;
        calls->last = call;
        uv_mutex_unlock(&calls->lock);
}

void rpc_calls_remove(struct rpc_calls *calls, struct rpc_call *call)
{
        if (!call->is_listed)
                return;
        uv_mutex_lock(&calls->lock);
        *(call->prev != NULL ? &call->prev->next : &calls->first) = call->next;
        *(call->next != NULL ? &call->next->prev : &calls->last) = call->prev;
        uv_mutex_unlock(&calls->lock);
}

// Answered, the answer sent: only some reference is left.
static bool is_over(const struct rpc_call *call)
{
        const struct rpc_exchange *exchange = &call->exchange;
        uv_mutex_lock(&exchange->connection->lock);
        bool is_over = exchange->detached && !exchange->was_reset;
        uv_mutex_unlock(&exchange->connection->lock);
        return is_over;
}

void rpc_server_each_call(struct rpc_server *server, void (*fn)(void *data, const struct rpc_call *call), void *data)
{
        struct rpc_calls *calls = rpc_server_calls(server);
        uv_mutex_lock(&calls->lock);
        for (const struct rpc_call *call = calls->first; call != NULL; call = call->next)
                if (!is_over(call))
                        fn(data, call);
        uv_mutex_unlock(&calls->lock);
}

// Under the connection's lock.
static const char *state_of(const struct rpc_exchange *exchange)
{
        if (exchange->delivering)
                return "its handler";
        if (exchange->scheduled)
                return exchange->lane == LANE_FAST ? "a thread of the fast lane" : "a thread of the slow lane";
        if ((exchange->finished && !exchange->detached) || exchange->out_full)
                return "the client, to read";
        if (exchange->kind == RPC_UNARY)
                return exchange->was_handled ? "its answer" : "the client's request";
        return exchange->kind == RPC_SERVER_STREAM ? "something to send" : "messages";
}

char *rpc_call_waits_for(const struct rpc_call *call, int64_t *ret_since_ns)
{
        const struct rpc_exchange *exchange = &call->exchange;
        char *noted = cancel_waits_for(exchange->cancel, ret_since_ns);
        if (noted != NULL)
                return noted;
        uv_mutex_lock(&exchange->connection->lock);
        const char *state = state_of(exchange);
        *ret_since_ns = exchange->since_ns != 0 ? exchange->since_ns : call->started_ns;
        uv_mutex_unlock(&exchange->connection->lock);
        return g_strdup(state);
}
