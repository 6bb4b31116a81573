// SPDX-License-Identifier: Apache-2.0
//
// One table keyed by NAMESPACE/ID (namespaces hold no slash) under one lock, which is held for the lookup alone.
#include "plugins/streaming/manager.h"

#include <uv.h>

struct manager {
        struct stream_manager base;
        uv_mutex_t lock;
        GHashTable *streams; // key → struct stream *, a reference
};

static char *key_of(const char *namespace_, const char *id)
{
        return g_strconcat(namespace_, "/", id, NULL);
}

static bool add(struct stream_manager *base, const char *namespace_, struct stream *stream, GError **error)
{
        struct manager *manager = (struct manager *)base;
        g_autofree char *key = key_of(namespace_, stream_id(stream));
        uv_mutex_lock(&manager->lock);
        bool taken = g_hash_table_contains(manager->streams, key);
        if (!taken)
                g_hash_table_insert(manager->streams, g_steal_pointer(&key), stream_ref(stream));
        uv_mutex_unlock(&manager->lock);
        return !taken || error_fail(error, ERROR_ALREADY_EXISTS, "already exists");
}

static struct stream *get(struct stream_manager *base, const char *namespace_, const char *id, GError **error)
{
        struct manager *manager = (struct manager *)base;
        g_autofree char *key = key_of(namespace_, id);
        uv_mutex_lock(&manager->lock);
        struct stream *stream = g_hash_table_lookup(manager->streams, key);
        if (stream != NULL)
                stream_ref(stream);
        uv_mutex_unlock(&manager->lock);
        if (stream == NULL)
                error_fail(error, ERROR_NOT_FOUND, "stream \"%s\": not found", id);
        return stream;
}

static void remove_stream(struct stream_manager *base, const char *namespace_, struct stream *stream)
{
        struct manager *manager = (struct manager *)base;
        g_autofree char *key = key_of(namespace_, stream_id(stream));
        uv_mutex_lock(&manager->lock);
        bool found = g_hash_table_lookup(manager->streams, key) == stream;
        if (found)
                g_hash_table_remove(manager->streams, key);
        uv_mutex_unlock(&manager->lock);
        if (found)
                stream_unref(stream);
}

struct stream_manager *streaming_manager_new(void)
{
        static const struct stream_manager_ops ops = {add, get, remove_stream};
        struct manager *manager = g_new0(struct manager, 1);
        manager->base.ops = &ops;
        uv_mutex_init(&manager->lock);
        manager->streams = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        return &manager->base;
}

void streaming_manager_free(struct stream_manager *base)
{
        struct manager *manager = (struct manager *)base;
        GHashTableIter iter;
        gpointer stream;
        g_hash_table_iter_init(&iter, manager->streams);
        while (g_hash_table_iter_next(&iter, NULL, &stream))
                stream_unref(stream);
        g_hash_table_unref(manager->streams);
        uv_mutex_destroy(&manager->lock);
        g_free(manager);
}

static void *init(struct plugin_host *host, GError **error)
{
        return streaming_manager_new();
}

static void stop(void *instance)
{
        streaming_manager_free(instance);
}

const struct plugin streaming_manager_plugin = {.type = PLUGIN_STREAMING, .id = "manager", .init = init, .stop = stop};
