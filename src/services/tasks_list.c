// SPDX-License-Identifier: Apache-2.0
//
// Tasks.List and Tasks.Metrics ask all shims at the same time; the last answer, or the deadline of the slowest, ends
// the call. A task that cannot be asked is left out, as in containerd. After the first step everything runs on the
// loop's thread, so the gathering needs no lock.
#include "base/clock.h"
#include "base/filter.h"
#include "base/log.h"
#include "services/service.h"
#include "services/tasks.h"

#include <string.h>

#define ASK_TIMEOUT_NS (2 * INT64_C(1000000000))

struct gathering {
        struct tasks_service *service;
        struct rpc_call *call;
        const char *namespace_;
        struct filter *filter; // metrics only
        size_t n_open;         // answers to come, and one for the asking itself
        TaskTypes__Process **processes;
        size_t n_processes;
        Types__Metric **metrics;
        size_t n_metrics;
};

struct question {
        struct gathering *gathering;
        const char *id;
};

static void close_one(struct gathering *gathering, void (*reply)(struct gathering *gathering))
{
        if (--gathering->n_open == 0) {
                filter_free(gathering->filter);
                reply(gathering);
        }
}

static void ask(struct gathering *gathering, const char *id, enum task_method method, const ProtobufCMessage *request,
        task_done_fn done)
{
        struct question *question = arena_new0(rpc_call_arena(gathering->call), struct question);
        *question = (struct question){gathering, id};
        struct task_call call = {
                gathering->namespace_, id, method, request, ASK_TIMEOUT_NS, rpc_call_cancel(gathering->call)};
        gathering->n_open++;
        gathering->service->runtime->ops->call(gathering->service->runtime, &call, done, question);
}

static struct gathering *gathering_new(struct tasks_service *service, struct rpc_call *call)
{
        GError *error = NULL;
        const char *namespace_ = service_namespace(call, &error);
        if (namespace_ == NULL) {
                rpc_call_fail(call, error);
                return NULL;
        }
        struct gathering *gathering = arena_new0(rpc_call_arena(call), struct gathering);
        *gathering = (struct gathering){.service = service, .call = call, .namespace_ = namespace_, .n_open = 1};
        return gathering;
}

static void log_failure(const char *what, const char *id, const GError *error)
{
        if (!error_is(error, ERROR_NOT_FOUND)) // it was deleted meanwhile
                log_warn(what, "id", id, "error", error->message);
}

// ---- List

static void reply_list(struct gathering *gathering)
{
        Tasks__ListTasksResponse response = TASKS__LIST_TASKS_RESPONSE__INIT;
        response.tasks = gathering->processes;
        response.n_tasks = gathering->n_processes;
        rpc_call_reply(gathering->call, &response.base);
}

// The answer lives in this call alone, so its texts are copied.
static void on_state(void *data, const ProtobufCMessage *message, const GError *error)
{
        struct question *question = data;
        struct gathering *gathering = question->gathering;
        struct arena *arena = rpc_call_arena(gathering->call);
        if (error != NULL) {
                log_failure("cannot get the state of a task", question->id, error);
        } else {
                TaskTypes__Process *process =
                        tasks_process(arena, (const ShimV3__StateResponse *)message, question->id);
                process->stdin = arena_strdup(arena, process->stdin);
                process->stdout = arena_strdup(arena, process->stdout);
                process->stderr = arena_strdup(arena, process->stderr);
                if (process->exited_at != NULL) {
                        Google__Protobuf__Timestamp *exited_at = arena_new0(arena, Google__Protobuf__Timestamp);
                        google__protobuf__timestamp__init(exited_at);
                        exited_at->seconds = process->exited_at->seconds;
                        exited_at->nanos = process->exited_at->nanos;
                        process->exited_at = exited_at;
                }
                gathering->processes[gathering->n_processes++] = process;
        }
        close_one(gathering, reply_list);
}

static void ask_states(void *data, char *const *ids, size_t n)
{
        struct gathering *gathering = data;
        struct arena *arena = rpc_call_arena(gathering->call);
        gathering->processes = arena_array(arena, TaskTypes__Process *, n);
        for (size_t i = 0; i < n; i++) {
                ShimV3__StateRequest *request = arena_new0(arena, ShimV3__StateRequest);
                shim_v3__state_request__init(request);
                request->id = arena_strdup(arena, ids[i]);
                ask(gathering, request->id, TASK_STATE, &request->base, on_state);
        }
        close_one(gathering, reply_list);
}

void tasks_on_list(struct rpc_call *call, void *object)
{
        struct tasks_service *service = object;
        struct gathering *gathering = gathering_new(service, call);
        if (gathering != NULL)
                service->runtime->ops->list(service->runtime, gathering->namespace_, ask_states, gathering);
}

// ---- Metrics

static void reply_metrics(struct gathering *gathering)
{
        Tasks__MetricsResponse response = TASKS__METRICS_RESPONSE__INIT;
        response.metrics = gathering->metrics;
        response.n_metrics = gathering->n_metrics;
        rpc_call_reply(gathering->call, &response.base);
}

static Types__Metric *metric_of(struct arena *arena, const char *id, const Google__Protobuf__Any *stats)
{
        Types__Metric *metric = arena_new0(arena, Types__Metric);
        types__metric__init(metric);
        metric->id = (char *)id;
        metric->timestamp = arena_new0(arena, Google__Protobuf__Timestamp);
        google__protobuf__timestamp__init(metric->timestamp);
        int64_t now = clock_now_ns();
        clock_split(now, &metric->timestamp->seconds, &metric->timestamp->nanos);
        if (stats != NULL) {
                metric->data = arena_new0(arena, Google__Protobuf__Any);
                google__protobuf__any__init(metric->data);
                metric->data->type_url = arena_strdup(arena, stats->type_url);
                metric->data->value.len = stats->value.len;
                metric->data->value.data = arena_alloc(arena, stats->value.len);
                if (stats->value.len > 0)
                        memcpy(metric->data->value.data, stats->value.data, stats->value.len);
        }
        return metric;
}

static void on_stats(void *data, const ProtobufCMessage *message, const GError *error)
{
        struct question *question = data;
        struct gathering *gathering = question->gathering;
        if (error != NULL)
                log_failure("cannot collect the metrics of a task", question->id, error);
        else
                gathering->metrics[gathering->n_metrics++] = metric_of(
                        rpc_call_arena(gathering->call), question->id, ((const ShimV3__StatsResponse *)message)->stats);
        close_one(gathering, reply_metrics);
}

struct named {
        const char *id, *namespace_;
};

static const char *task_field(void *object, const char *const *path, size_t n, bool *ret_present)
{
        const struct named *named = object;
        const char *value = NULL;
        if (n > 0 && strcmp(path[0], "id") == 0)
                value = named->id;
        else if (n > 0 && strcmp(path[0], "namespace") == 0)
                value = named->namespace_;
        *ret_present = value != NULL;
        return value;
}

static void ask_stats(void *data, char *const *ids, size_t n)
{
        struct gathering *gathering = data;
        struct arena *arena = rpc_call_arena(gathering->call);
        gathering->metrics = arena_array(arena, Types__Metric *, n);
        for (size_t i = 0; i < n; i++) {
                struct named named = {ids[i], gathering->namespace_};
                if (!filter_match(gathering->filter, task_field, &named))
                        continue;
                ShimV3__StatsRequest *request = arena_new0(arena, ShimV3__StatsRequest);
                shim_v3__stats_request__init(request);
                request->id = arena_strdup(arena, ids[i]);
                ask(gathering, request->id, TASK_STATS, &request->base, on_stats);
        }
        close_one(gathering, reply_metrics);
}

void tasks_on_metrics(struct rpc_call *call, void *object)
{
        struct tasks_service *service = object;
        const Tasks__MetricsRequest *request = (const Tasks__MetricsRequest *)rpc_call_request(call);
        GError *error = NULL;
        struct filter *filter = filter_parse(request->filters, request->n_filters, &error);
        if (filter == NULL) {
                rpc_call_fail(call, error);
                return;
        }
        struct gathering *gathering = gathering_new(service, call);
        if (gathering == NULL) {
                filter_free(filter);
                return;
        }
        gathering->filter = filter;
        service->runtime->ops->list(service->runtime, gathering->namespace_, ask_stats, gathering);
}
