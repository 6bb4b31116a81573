// SPDX-License-Identifier: Apache-2.0
//
// Container records with the state of their tasks: two lists that are asked for at once and joined by id.
#include "client/internal.h"

#include <skiff/container.h>

#include "containerd/containers.pb-c.h"
#include "containerd/tasks.pb-c.h"
#include "google/protobuf/empty.pb-c.h"

#include <stdlib.h>
#include <string.h>

#define SERVICE "containerd.services.containers.v1.Containers"

struct skiff_containers {
        struct arena *arena;
        struct skiff_container *containers;
        size_t n;
};

static enum skiff_status status_of(TaskTypes__Status status)
{
        switch (status) {
        case TASK_TYPES__STATUS__CREATED:
                return SKIFF_STATUS_CREATED;
        case TASK_TYPES__STATUS__RUNNING:
                return SKIFF_STATUS_RUNNING;
        case TASK_TYPES__STATUS__STOPPED:
                return SKIFF_STATUS_STOPPED;
        case TASK_TYPES__STATUS__PAUSED:
        case TASK_TYPES__STATUS__PAUSING:
                return SKIFF_STATUS_PAUSED;
        default:
                return SKIFF_STATUS_UNKNOWN;
        }
}

static void fill(struct skiff_container *container, const Containers__Container *record, struct arena *arena)
{
        *container = (struct skiff_container){
                .id = record->id,
                .image = record->image,
                .runtime = record->runtime != NULL ? record->runtime->name : "",
                .snapshotter = record->snapshotter,
                .snapshot_key = record->snapshot_key,
                .spec = "",
                .created_at_ns = client_time_ns(record->created_at),
                .labels = client_pairs_from_map((void *const *)record->labels, record->n_labels, arena),
                .n_labels = record->n_labels,
        };
        if (record->spec != NULL) {
                char *text = arena_alloc(arena, record->spec->value.len + 1);
                if (record->spec->value.len > 0)
                        memcpy(text, record->spec->value.data, record->spec->value.len);
                container->spec = text;
        }
}

static void join_task(struct skiff_containers *list, const TaskTypes__Process *task)
{
        const char *id = *task->container_id != '\0' ? task->container_id : task->id;
        for (size_t i = 0; i < list->n; i++) {
                struct skiff_container *container = &list->containers[i];
                if (strcmp(container->id, id) != 0)
                        continue;
                container->status = status_of(task->status);
                container->pid = task->pid;
                container->exit_status = task->exit_status;
                container->exited_at_ns = client_time_ns(task->exited_at);
        }
}

static int newest_first(const void *a, const void *b)
{
        int64_t left = ((const struct skiff_container *)a)->created_at_ns;
        int64_t right = ((const struct skiff_container *)b)->created_at_ns;
        return left < right ? 1 : left > right ? -1 : 0;
}

static struct skiff_containers *list_new(struct arena *arena, const Containers__Container *const *records, size_t n)
{
        struct skiff_containers *list = g_new0(struct skiff_containers, 1);
        list->arena = arena;
        list->n = n;
        list->containers = arena_array(arena, struct skiff_container, n + 1);
        for (size_t i = 0; i < n; i++)
                fill(&list->containers[i], records[i], arena);
        qsort(list->containers, n, sizeof(*list->containers), newest_first);
        return list;
}

const Containers__Container *container_read(
        struct skiff_client *client, const char *id, struct arena *arena, GError **error)
{
        Containers__GetContainerRequest request = CONTAINERS__GET_CONTAINER_REQUEST__INIT;
        request.id = (char *)id;
        const Containers__GetContainerResponse *response = client_call(
                client, CLIENT_METHOD(SERVICE, "Get", containers__get_container_response), &request, arena, error);
        if (response != NULL && response->container == NULL)
                error_fail(error, ERROR_INTERNAL, "container \"%s\": empty answer", id);
        return response == NULL ? NULL : response->container;
}

struct skiff_containers *skiff_containers_list(struct skiff_client *client, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        struct client_call *tasks_call = client_send(client,
                CLIENT_METHOD("containerd.services.tasks.v1.Tasks", "List", tasks__list_tasks_response),
                &(Tasks__ListTasksRequest)TASKS__LIST_TASKS_REQUEST__INIT, NULL);
        const Containers__ListContainersResponse *response = client_call(client,
                CLIENT_METHOD(SERVICE, "List", containers__list_containers_response),
                &(Containers__ListContainersRequest)CONTAINERS__LIST_CONTAINERS_REQUEST__INIT, arena, inner(error));
        const Tasks__ListTasksResponse *tasks =
                client_receive(tasks_call, arena, response != NULL ? inner(error) : NULL);
        if (response == NULL || tasks == NULL)
                return NULL;
        struct skiff_containers *list = list_new(g_steal_pointer(&arena),
                (const Containers__Container *const *)response->containers, response->n_containers);
        for (size_t i = 0; i < tasks->n_tasks; i++)
                join_task(list, tasks->tasks[i]);
        return list;
}

struct skiff_containers *skiff_container_get(struct skiff_client *client, const char *id, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        Tasks__GetRequest task_request = TASKS__GET_REQUEST__INIT;
        task_request.container_id = (char *)id;
        struct client_call *task_call = client_send(client,
                CLIENT_METHOD("containerd.services.tasks.v1.Tasks", "Get", tasks__get_response), &task_request, NULL);
        const Containers__Container *record = container_read(client, id, arena, inner(error));
        g_autoptr(GError) failure = NULL;
        const Tasks__GetResponse *task = client_receive(task_call, arena, &failure);
        if (record == NULL)
                return NULL;
        if (task == NULL && !error_is(failure, ERROR_NOT_FOUND)) {
                g_propagate_error(inner(error), g_steal_pointer(&failure));
                return NULL;
        }
        struct skiff_containers *list = list_new(g_steal_pointer(&arena), &record, 1);
        if (task != NULL && task->process != NULL)
                join_task(list, task->process);
        return list;
}

size_t skiff_containers_count(const struct skiff_containers *list)
{
        return list->n;
}

const struct skiff_container *skiff_containers_at(const struct skiff_containers *list, size_t index)
{
        return &list->containers[index];
}

const char *skiff_container_label_value(const struct skiff_container *container, const char *key)
{
        for (size_t i = 0; i < container->n_labels; i++) {
                if (strcmp(container->labels[i].key, key) == 0)
                        return container->labels[i].value;
        }
        return NULL;
}

void skiff_containers_free(struct skiff_containers *list)
{
        if (list == NULL)
                return;
        arena_free(list->arena);
        g_free(list);
}

// ---- changes

static struct client_call *delete_send(struct skiff_client *client, const char *id)
{
        Containers__DeleteContainerRequest request = CONTAINERS__DELETE_CONTAINER_REQUEST__INIT;
        request.id = (char *)id;
        return client_send(client, CLIENT_METHOD(SERVICE, "Delete", google__protobuf__empty), &request, NULL);
}

bool skiff_container_remove(struct skiff_client *client, const char *id, struct skiff_error **error)
{
        AUTO(arena) arena = arena_new();
        const Containers__Container *record = container_read(client, id, arena, inner(error));
        if (record == NULL)
                return false;
        // The daemon refuses to delete a container that has a task, so its answer comes before its snapshot goes.
        if (client_receive(delete_send(client, id), NULL, inner(error)) == NULL)
                return false;
        if (*record->snapshot_key == '\0')
                return true;
        g_autoptr(GError) failure = NULL;
        if (client_receive(snapshot_remove_send(client, record->snapshotter, record->snapshot_key), NULL, &failure) ==
                        NULL &&
                !error_is(failure, ERROR_NOT_FOUND)) {
                g_propagate_error(inner(error), g_steal_pointer(&failure));
                return false;
        }
        return true;
}

bool skiff_container_label(
        struct skiff_client *client, const char *id, const char *key, const char *value, struct skiff_error **error)
{
        g_autofree char *path = g_strconcat("labels.", key, NULL);
        char *paths[] = {path};
        Google__Protobuf__FieldMask mask = GOOGLE__PROTOBUF__FIELD_MASK__INIT;
        mask.paths = paths;
        mask.n_paths = 1;
        Containers__Container__LabelsEntry label = CONTAINERS__CONTAINER__LABELS_ENTRY__INIT;
        Containers__Container__LabelsEntry *labels[] = {&label};
        label.key = (char *)key;
        label.value = (char *)value;
        Containers__Container record = CONTAINERS__CONTAINER__INIT;
        record.id = (char *)id;
        record.labels = labels;
        record.n_labels = 1;
        Containers__UpdateContainerRequest request = CONTAINERS__UPDATE_CONTAINER_REQUEST__INIT;
        request.container = &record;
        request.update_mask = &mask;
        return client_call(client, CLIENT_METHOD(SERVICE, "Update", containers__update_container_response), &request,
                       NULL, inner(error)) != NULL;
}
