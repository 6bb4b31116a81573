// SPDX-License-Identifier: Apache-2.0
//
// A key is in the table while somebody holds it; its value is the queue of those who wait. Who waits is woken in order,
// also if it has given up meanwhile: it then releases at once.
#include "plugins/transfer/locks.h"

#include <glib.h>
#include <uv.h>

struct lock_wait {
        lock_fn locked;
        void *data;
};

struct locks {
        uv_mutex_t mutex;
        GHashTable *held; // key → GQueue * of struct lock_wait *
};

static void queue_free(void *queue)
{
        g_queue_free_full(queue, g_free);
}

struct locks *locks_new(void)
{
        struct locks *locks = g_new0(struct locks, 1);
        uv_mutex_init(&locks->mutex);
        locks->held = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, queue_free);
        return locks;
}

void locks_free(struct locks *locks)
{
        g_hash_table_unref(locks->held);
        uv_mutex_destroy(&locks->mutex);
        g_free(locks);
}

void locks_acquire(struct locks *locks, const char *key, lock_fn locked, void *data)
{
        uv_mutex_lock(&locks->mutex);
        GQueue *waiting = g_hash_table_lookup(locks->held, key);
        if (waiting == NULL) {
                g_hash_table_insert(locks->held, g_strdup(key), g_queue_new());
        } else {
                struct lock_wait *wait = g_new(struct lock_wait, 1);
                *wait = (struct lock_wait){locked, data};
                g_queue_push_tail(waiting, wait);
        }
        uv_mutex_unlock(&locks->mutex);
        if (waiting == NULL)
                locked(data);
}

void locks_release(struct locks *locks, const char *key)
{
        uv_mutex_lock(&locks->mutex);
        GQueue *waiting = g_hash_table_lookup(locks->held, key);
        g_autofree struct lock_wait *next = g_queue_pop_head(waiting);
        if (next == NULL)
                g_hash_table_remove(locks->held, key);
        uv_mutex_unlock(&locks->mutex);
        if (next != NULL)
                next->locked(next->data);
}
