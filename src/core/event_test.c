// SPDX-License-Identifier: Apache-2.0
#include "base/filter.h"
#include "core/event.h"

#include "containerd/events.pb-c.h"
#include "containerd/images.pb-c.h"

static struct event *pack(const char *topic, const ProtobufCMessage *message)
{
        size_t n = protobuf_c_message_get_packed_size(message);
        g_autofree uint8_t *value = g_malloc(n);
        protobuf_c_message_pack(message, value);
        g_autofree char *type_url = g_strconcat("type.googleapis.com/", message->descriptor->name, NULL);
        return event_new("default", topic, 1, type_url, value, n);
}

static bool matches(const struct event *event, const char *text)
{
        AUTO(filter) filter = filter_parse(&(char *){(char *)text}, 1, NULL);
        g_assert_nonnull(filter);
        struct event_fields fields;
        event_fields_init(&fields, event);
        bool result = filter_match(filter, event_fields_get, &fields);
        event_fields_done(&fields);
        return result;
}

static void assert_filters(const struct event *event, const char *const *match, const char *const *no_match)
{
        for (; *match != NULL; match++) {
                g_test_message("%s", *match);
                g_assert_true(matches(event, *match));
        }
        for (; *no_match != NULL; no_match++) {
                g_test_message("%s", *no_match);
                g_assert_false(matches(event, *no_match));
        }
}

static void filters_see_envelope_and_strings(void)
{
        Events__TaskExit exit = EVENTS__TASK_EXIT__INIT;
        exit.container_id = (char *)"c1";
        exit.id = (char *)"e1";
        exit.exit_status = 7;
        AUTO(event) event = pack("/tasks/exit", &exit.base);
        assert_filters(event,
                (const char *const[]){"topic==\"/tasks/exit\"", "topic~=|^/tasks/|,namespace==default",
                        "event.container_id==c1", "event.id", "event.id~=^e", NULL},
                (const char *const[]){"namespace==other", "event.container_id==c2", "event.exit_status==7",
                        "event.exited_at", "event.nothing", "event", "timestamp", NULL});
}

static void filters_see_labels_and_nested_messages(void)
{
        Images__ImageCreate image = IMAGES__IMAGE_CREATE__INIT;
        Images__ImageCreate__LabelsEntry label = IMAGES__IMAGE_CREATE__LABELS_ENTRY__INIT;
        Images__ImageCreate__LabelsEntry *labels[] = {&label};
        label.key = (char *)"a.b";
        label.value = (char *)"yes";
        image.name = (char *)"docker.io/library/x:latest";
        image.labels = labels;
        image.n_labels = 1;
        AUTO(event) image_event = pack("/images/create", &image.base);
        assert_filters(image_event,
                (const char *const[]){"event.name==docker.io/library/x:latest", "event.labels.\"a.b\"==yes",
                        "event.labels.a.b", NULL},
                (const char *const[]){"event.labels.a.b==no", "event.labels.a", "event.labels", NULL});

        Events__TaskCreate create = EVENTS__TASK_CREATE__INIT;
        Events__TaskIO io = EVENTS__TASK_IO__INIT;
        io.stdin = (char *)"/in";
        create.io = &io;
        create.pid = 3;
        AUTO(event) task_event = pack("/tasks/create", &create.base);
        assert_filters(task_event, (const char *const[]){"event.io.stdin==\"/in\"", "event.io.terminal==false", NULL},
                (const char *const[]){"event.io.stdout", "event.io", "event.pid", "event.rootfs", "event.rootfs.type",
                        "event.io.stdin.x.y==z", NULL});
}

static void unknown_and_broken_events_have_no_fields(void)
{
        AUTO(event) unknown = event_new("default", "/x", 1, "example.Unknown", "x", 1);
        g_assert_false(matches(unknown, "event.id"));
        g_assert_true(matches(unknown, "topic==\"/x\""));
        AUTO(event) broken = event_new("default", "/x", 1, "containerd.events.TaskExit", "\xff\xff", 2);
        g_assert_false(matches(broken, "event.id"));
        AUTO(event) empty = event_new("default", "/x", 1, "", NULL, 0);
        g_assert_false(matches(empty, "event.id"));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/event/filters_see_envelope_and_strings", filters_see_envelope_and_strings);
        g_test_add_func("/event/filters_see_labels_and_nested_messages", filters_see_labels_and_nested_messages);
        g_test_add_func("/event/unknown_and_broken_events_have_no_fields", unknown_and_broken_events_have_no_fields);
        return g_test_run();
}
