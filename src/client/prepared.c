// SPDX-License-Identifier: Apache-2.0
//
// The mounts that Prepare answered, kept from skiff_container_create to skiff_task_create: who makes a container
// usually runs it next, and is spared two calls.
#include "client/internal.h"

void prepared_free(struct prepared *prepared)
{
        if (prepared == NULL)
                return;
        if (prepared->arena != NULL)
                arena_free(prepared->arena);
        g_free(prepared->id);
        g_free(prepared);
}

static Types__Mount *copy_mount(const Types__Mount *mount, struct arena *arena)
{
        uint8_t *bytes = arena_alloc(arena, types__mount__get_packed_size(mount) + 1);
        size_t n = types__mount__pack(mount, bytes);
        return types__mount__unpack(arena_allocator(arena), n, bytes);
}

void client_keep_mounts(struct skiff_client *client, const char *id, Types__Mount *const *mounts, size_t n)
{
        struct prepared *prepared = g_new0(struct prepared, 1);
        prepared->arena = arena_new();
        prepared->id = g_strdup(id);
        prepared->n = n;
        prepared->mounts = arena_array(prepared->arena, Types__Mount *, n + 1);
        for (size_t i = 0; i < n; i++)
                prepared->mounts[i] = copy_mount(mounts[i], prepared->arena);
        uv_mutex_lock(&client->mutex);
        struct prepared *old = client->prepared;
        client->prepared = prepared;
        uv_mutex_unlock(&client->mutex);
        prepared_free(old);
}

struct prepared *client_take_mounts(struct skiff_client *client, const char *id)
{
        uv_mutex_lock(&client->mutex);
        bool same = client->prepared != NULL && g_strcmp0(client->prepared->id, id) == 0;
        struct prepared *taken = same ? g_steal_pointer(&client->prepared) : NULL;
        uv_mutex_unlock(&client->mutex);
        return taken;
}
