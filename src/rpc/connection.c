// SPDX-License-Identifier: Apache-2.0
//
// The protocol-independent half of a connection: its lock, its ready list, its share of the budgets. Invariant: posted
// is true exactly while one flush is in the loop's mailbox, and that flush owns a reference; once closed is set,
// nothing is posted, so a handler that answers after the loop is gone touches memory only.
#include "rpc/internal.h"

void rpc_connection_init(struct rpc_connection *connection, const struct rpc_connection_options *options)
{
        atomic_init(&connection->refs, 1);
        connection->loop = options->loop;
        connection->protocol = options->protocol;
        connection->lanes = options->lanes;
        connection->transport = options->transport;
        connection->server = options->server == NULL ? NULL : rpc_server_ref(options->server);
        connection->max_message_bytes = options->max_message_bytes;
        connection->budget.cap = options->max_queue_bytes;
        connection->total = options->total;
        connection->on_closed = options->on_closed;
        connection->on_closed_data = options->on_closed_data;
        connection->ready_last = &connection->ready_first;
        uv_mutex_init(&connection->lock);
}

void rpc_connection_done(struct rpc_connection *connection)
{
        g_assert(connection->n_exchanges == 0 && connection->ready_first == NULL);
        uv_mutex_destroy(&connection->lock);
        if (connection->server != NULL)
                rpc_server_unref(connection->server);
}

struct rpc_connection *rpc_connection_ref(struct rpc_connection *connection)
{
        atomic_fetch_add_explicit(&connection->refs, 1, memory_order_relaxed);
        return connection;
}

void rpc_connection_unref(struct rpc_connection *connection)
{
        if (atomic_fetch_sub_explicit(&connection->refs, 1, memory_order_acq_rel) == 1)
                connection->transport->free(connection);
}

static struct rpc_exchange *pop_ready(struct rpc_connection *connection)
{
        uv_mutex_lock(&connection->lock);
        struct rpc_exchange *exchange = connection->ready_first;
        if (exchange != NULL) {
                connection->ready_first = exchange->next_ready;
                if (connection->ready_first == NULL)
                        connection->ready_last = &connection->ready_first;
                exchange->is_ready = false;
        }
        uv_mutex_unlock(&connection->lock);
        return exchange;
}

static void flush(void *data)
{
        struct rpc_connection *connection = data;
        uv_mutex_lock(&connection->lock);
        connection->posted = false;
        bool closed = connection->closed;
        uv_mutex_unlock(&connection->lock);

        for (struct rpc_exchange *exchange; (exchange = pop_ready(connection)) != NULL; rpc_exchange_unref(exchange)) {
                if (closed)
                        continue;
                rpc_exchange_start_timer(exchange);
                connection->transport->ready(connection, exchange);
        }
        if (!closed)
                connection->transport->flush(connection);
        rpc_connection_unref(connection);
}

// Under the lock.
static void post_flush(struct rpc_connection *connection)
{
        if (connection->posted || connection->closed)
                return;
        connection->posted = true;
        loop_post(connection->loop, flush, rpc_connection_ref(connection));
}

void rpc_connection_wake(struct rpc_connection *connection)
{
        uv_mutex_lock(&connection->lock);
        post_flush(connection);
        uv_mutex_unlock(&connection->lock);
}

void rpc_connection_make_ready(struct rpc_connection *connection, struct rpc_exchange *exchange)
{
        if (exchange->is_ready || exchange->detached || connection->closed)
                return;
        exchange->is_ready = true;
        exchange->next_ready = NULL;
        *connection->ready_last = rpc_exchange_ref(exchange);
        connection->ready_last = &exchange->next_ready;
        post_flush(connection);
}

GError *rpc_error_closed(void)
{
        return g_error_new_literal(SKIFF_ERROR, ERROR_UNAVAILABLE, "connection closed");
}

void rpc_connection_closed(struct rpc_connection *connection)
{
        uv_mutex_lock(&connection->lock);
        bool was_closed = connection->closed;
        connection->closed = true;
        uv_mutex_unlock(&connection->lock);
        g_assert(!was_closed);
        for (struct rpc_exchange *exchange; (exchange = pop_ready(connection)) != NULL;) {
                rpc_exchange_detach(exchange, rpc_error_closed()); // a client's that was not started yet
                rpc_exchange_unref(exchange);
        }
        connection->on_closed(connection, connection->on_closed_data);
        rpc_connection_unref(connection);
}

static bool is_over(const struct rpc_budget *budget)
{
        return budget != NULL && atomic_load_explicit(&budget->held, memory_order_relaxed) > budget->cap;
}

// The flag first, then the question again: bytes given back in between would wake nobody.
static void starve(struct rpc_connection *connection)
{
        atomic_store(&connection->starved, true);
        if (connection->server != NULL)
                rpc_server_budget_full(connection->server);
}

static bool is_any_over(const struct rpc_connection *connection)
{
        return is_over(&connection->budget) || is_over(connection->total);
}

bool rpc_connection_is_over_budget(struct rpc_connection *connection)
{
        if (!is_any_over(connection))
                return false;
        starve(connection);
        return is_any_over(connection);
}

static bool has_room(const struct rpc_budget *budget, size_t bytes)
{
        size_t held = budget == NULL ? 0 : atomic_load(&budget->held);
        return held == 0 || held + bytes <= budget->cap;
}

bool rpc_connection_reserve(struct rpc_connection *connection, size_t bytes)
{
        for (int attempt = 0; attempt < 2; attempt++) {
                if (has_room(&connection->budget, bytes) && has_room(connection->total, bytes)) {
                        rpc_connection_hold(connection, bytes);
                        return true;
                }
                starve(connection);
        }
        return false;
}

void rpc_connection_hold_partial(struct rpc_connection *connection, size_t bytes)
{
        atomic_fetch_add(&connection->budget.partial, bytes);
        if (connection->total != NULL)
                atomic_fetch_add(&connection->total->partial, bytes);
}

void rpc_connection_release_partial(struct rpc_connection *connection, size_t bytes)
{
        atomic_fetch_sub(&connection->budget.partial, bytes);
        if (connection->total != NULL)
                atomic_fetch_sub(&connection->total->partial, bytes);
}

bool rpc_connection_is_partial_full(const struct rpc_connection *connection)
{
        const struct rpc_budget *total = connection->total;
        return atomic_load(&connection->budget.partial) > connection->budget.cap ||
               (total != NULL && atomic_load(&total->partial) > total->cap);
}

void rpc_connection_hold(struct rpc_connection *connection, size_t bytes)
{
        atomic_fetch_add(&connection->budget.held, bytes);
        if (connection->total != NULL)
                atomic_fetch_add(&connection->total->held, bytes);
}

void rpc_connection_release(struct rpc_connection *connection, size_t bytes)
{
        atomic_fetch_sub(&connection->budget.held, bytes);
        if (!is_over(&connection->budget) && atomic_exchange(&connection->starved, false))
                rpc_connection_wake(connection);
        if (connection->total == NULL)
                return;
        atomic_fetch_sub(&connection->total->held, bytes);
        if (!is_over(connection->total))
                rpc_server_budget_freed(connection->server);
}
