// SPDX-License-Identifier: Apache-2.0
//
// Namespaces: a list is an arena with the response and a sorted table of names.
#include "client/internal.h"

#include "containerd/namespaces.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define SERVICE "containerd.services.namespaces.v1.Namespaces"

struct skiff_namespaces {
        struct arena *arena;
        const char **names;
        size_t n;
};

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct skiff_namespaces *skiff_namespaces_list(struct skiff_client *client, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        const Namespaces__ListNamespacesResponse *response = client_call(client,
                CLIENT_METHOD(SERVICE, "List", namespaces__list_namespaces_response),
                &(Namespaces__ListNamespacesRequest)NAMESPACES__LIST_NAMESPACES_REQUEST__INIT, arena, inner(error));
        if (response == NULL)
                return NULL;
        struct skiff_namespaces *list = g_new0(struct skiff_namespaces, 1);
        list->n = response->n_namespaces;
        list->names = arena_array(arena, const char *, list->n + 1);
        for (size_t i = 0; i < list->n; i++)
                list->names[i] = response->namespaces[i]->name;
        qsort(list->names, list->n, sizeof(*list->names), compare_names);
        list->arena = g_steal_pointer(&arena);
        return list;
}

size_t skiff_namespaces_count(const struct skiff_namespaces *list)
{
        return list->n;
}

const char *skiff_namespaces_name(const struct skiff_namespaces *list, size_t index)
{
        return list->names[index];
}

void skiff_namespaces_free(struct skiff_namespaces *list)
{
        if (list == NULL)
                return;
        arena_free(list->arena);
        g_free(list);
}

bool skiff_namespace_create(struct skiff_client *client, const char *name, struct skiff_error **error)
{
        Namespaces__Namespace record = NAMESPACES__NAMESPACE__INIT;
        record.name = (char *)name;
        Namespaces__CreateNamespaceRequest request = NAMESPACES__CREATE_NAMESPACE_REQUEST__INIT;
        request.namespace_ = &record;
        return client_call(client, CLIENT_METHOD(SERVICE, "Create", namespaces__create_namespace_response), &request,
                       NULL, inner(error)) != NULL;
}

bool skiff_namespace_remove(struct skiff_client *client, const char *name, struct skiff_error **error)
{
        Namespaces__DeleteNamespaceRequest request = NAMESPACES__DELETE_NAMESPACE_REQUEST__INIT;
        request.name = (char *)name;
        return client_call(client, CLIENT_METHOD(SERVICE, "Delete", google__protobuf__empty), &request, NULL,
                       inner(error)) != NULL;
}
