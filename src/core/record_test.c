// SPDX-License-Identifier: Apache-2.0
#include "core/container.h"
#include "core/convert.h"
#include "core/image.h"
#include "core/lease.h"

#include "base/filter.h"

#include "containerd/images.pb-c.h"
#include "google/protobuf/any.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"

#include <string.h>

static char *text_of(const struct labels *labels)
{
        GString *text = g_string_new(NULL);
        for (size_t i = 0; i < labels->n; i++)
                g_string_append_printf(text, "%s=%s ", labels->items[i].key, labels->items[i].value);
        return g_string_free(text, FALSE);
}

static void assert_labels(const struct labels *labels, const char *expected)
{
        g_autofree char *text = text_of(labels);
        g_assert_cmpstr(text, ==, expected);
}

static void labels_stay_sorted(void)
{
        AUTO(arena) arena = arena_new();
        struct labels labels = {0};
        labels_set(&labels, arena, "b", "2");
        labels_set(&labels, arena, "a", "1");
        labels_set(&labels, arena, "c", "3");
        struct labels before = labels;
        labels_set(&labels, arena, "b", "two");
        assert_labels(&labels, "a=1 b=two c=3 ");
        assert_labels(&before, "a=1 b=2 c=3 ");
        labels_set(&labels, arena, "a", "");
        labels_set(&labels, arena, "none", NULL);
        assert_labels(&labels, "b=two c=3 ");
        g_assert_cmpstr(labels_get(&labels, "c"), ==, "3");
        g_assert_null(labels_get(&labels, "a"));
}

static void the_last_of_equal_keys_counts(void)
{
        struct label items[] = {{"x", "1"}, {"a", "1"}, {"x", "2"}, {"a", "2"}, {"x", "3"}};
        struct labels labels = {items, G_N_ELEMENTS(items)};
        labels_normalize(&labels);
        assert_labels(&labels, "a=2 x=3 ");
}

static void many_labels_are_put_in_order_soon(void)
{
        enum { N = 100000 };
        AUTO(arena) arena = arena_new();
        struct labels labels = {arena_array(arena, struct label, N), N};
        for (size_t i = 0; i < N; i++)
                labels.items[i] = (struct label){arena_printf(arena, "%zu", (N - i) / 2), "v"};
        g_test_timer_start();
        labels_normalize(&labels);
        g_assert_cmpfloat(g_test_timer_elapsed(), <, 5);
        g_assert_cmpuint(labels.n, ==, N / 2 + 1);
}

static void labels_have_a_limit(void)
{
        g_autofree char *value = g_strnfill(4096, 'v');
        struct label items[] = {{"k", value}};
        const struct labels labels = {items, 1};
        g_autoptr(GError) error = NULL;
        g_assert_false(labels_validate(&labels, "image.Labels", &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
        g_assert_true(g_str_has_prefix(error->message, "image.Labels: label key and value length (4097 bytes)"));
}

static void labels_go_through_messages(void)
{
        AUTO(arena) arena = arena_new();
        Images__Image__LabelsEntry one = IMAGES__IMAGE__LABELS_ENTRY__INIT, two = IMAGES__IMAGE__LABELS_ENTRY__INIT;
        char b[] = "b", a[] = "a", v[] = "v";
        one.key = b;
        one.value = v;
        two.key = a;
        two.value = NULL; // came without a value
        Images__Image__LabelsEntry *entries[] = {&one, &two};
        struct labels labels = labels_from_proto(entries, 2, arena);
        assert_labels(&labels, "a= b=v ");
        size_t n;
        Images__Image__LabelsEntry **back =
                labels_to_proto(&labels, arena, &images__image__labels_entry__descriptor, &n);
        g_assert_cmpuint(n, ==, 2);
        g_assert_cmpstr(back[1]->key, ==, "b");
        g_assert_true(back[1]->base.descriptor == &images__image__labels_entry__descriptor);
}

static void times_go_through_messages(void)
{
        AUTO(arena) arena = arena_new();
        static const int64_t times[] = {
                0, 1, -1, INT64_C(1700000000123456789), -INT64_C(1700000000123456789), INT64_MAX};
        for (size_t i = 0; i < G_N_ELEMENTS(times); i++) {
                const Google__Protobuf__Timestamp *timestamp = timestamp_to_proto(times[i], arena);
                g_assert_cmpint(timestamp->nanos, >=, 0);
                g_assert_cmpint(timestamp_from_proto(timestamp), ==, times[i]);
        }
        Google__Protobuf__Timestamp far = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
        far.seconds = INT64_MAX;
        g_assert_cmpint(timestamp_from_proto(&far), ==, INT64_MAX);
        far.seconds = INT64_MIN;
        g_assert_cmpint(timestamp_from_proto(&far), ==, INT64_MIN);
        g_assert_cmpint(timestamp_from_proto(NULL), ==, 0);
}

static struct container a_container(void)
{
        return (struct container){
                .id = "c",
                .image = "i",
                .runtime_name = "r",
                .spec = {"spec", "1", 1},
                .snapshotter = "s",
                .snapshot_key = "k",
                .sandbox = "",
        };
}

static void masks_change_what_they_name(void)
{
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        struct container container = a_container(), change = a_container();
        struct label items[] = {{"a.b", "1"}, {"c", "2"}};
        struct extension extensions[] = {{"e", {"t", "x", 1}}};
        change.labels = (struct labels){items, 2};
        change.extensions = (struct extensions){extensions, 1};
        change.image = "other";
        char label[] = "labels.a.b", extension[] = "extensions.e", runtime[] = "runtime";
        char *paths[] = {label, extension};
        g_assert_true(container_apply(&container, &change, paths, 2, arena, &error));
        assert_labels(&container.labels, "a.b=1 ");
        g_assert_cmpuint(container.extensions.n, ==, 1);
        g_assert_cmpstr(container.image, ==, "i");
        char *bad[] = {runtime};
        g_assert_false(container_apply(&container, &change, bad, 1, arena, &error));
        g_assert_cmpstr(error->message, ==, "cannot update \"runtime\" field on \"c\": invalid argument");
        g_clear_error(&error);

        g_assert_true(container_apply(&container, &change, NULL, 0, arena, &error));
        g_assert_cmpstr(container.image, ==, "other");
        change.runtime_name = "another";
        g_assert_false(container_apply(&container, &change, NULL, 0, arena, &error));
        g_assert_error(error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
}

static void masks_take_labels_from_the_change(void)
{
        AUTO(arena) arena = arena_new();
        struct label old_items[] = {{"a", "1"}, {"b", "2"}, {"c", "3"}, {"e", ""}};
        struct label new_items[] = {{"a", "one"}, {"b", ""}, {"d", "four"}, {"f", "six"}};
        const struct labels old = {old_items, G_N_ELEMENTS(old_items)}, change = {new_items, G_N_ELEMENTS(new_items)};
        char a[] = "labels.a", b[] = "labels.b", c[] = "labels.c", d[] = "labels.d", none[] = "labels.none";
        char map[] = "labels", other[] = "spec", annotation[] = "annotations.f";
        char *const keys[] = {d, a, none, b, c, a, other, annotation};
        struct labels labels = old;
        labels_apply(&labels, &change, "labels", keys, G_N_ELEMENTS(keys), arena);
        assert_labels(&labels, "a=one d=four e= ");
        assert_labels(&old, "a=1 b=2 c=3 e= ");
        char *const all[] = {c, map};
        labels_apply(&labels, &change, "labels", all, G_N_ELEMENTS(all), arena);
        assert_labels(&labels, "a=one b= d=four f=six ");
        labels = old;
        labels_apply(&labels, &change, "labels", keys, 0, arena);
        assert_labels(&labels, "a=1 b=2 c=3 e= ");
}

// Every third is new, every third changed, every third taken out; of a mask that names them last to first.
static void long_masks_are_applied_soon(void)
{
        enum { N = 150000 };
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        struct container container = a_container(), change = a_container();
        struct labels *labels = &container.labels, *wanted = &change.labels;
        *labels = (struct labels){arena_array(arena, struct label, N), 0};
        *wanted = (struct labels){arena_array(arena, struct label, N), 0};
        struct extension *extensions = arena_array(arena, struct extension, N);
        char **paths = arena_array(arena, char *, 2 * N);
        for (size_t i = 0; i < N; i++) {
                const char *key = arena_printf(arena, "%06zu", i);
                if (i % 3 != 0)
                        labels->items[labels->n++] = (struct label){key, "old"};
                if (i % 3 != 2)
                        wanted->items[wanted->n++] = (struct label){key, "new"};
                extensions[i] = (struct extension){key, {"type", "x", 1}};
                paths[N - 1 - i] = arena_printf(arena, "labels.%s", key);
                paths[2 * N - 1 - i] = arena_printf(arena, "extensions.%s", key);
        }
        change.extensions = (struct extensions){extensions, N};
        g_test_timer_start();
        g_assert_true(container_apply(&container, &change, paths, 2 * (size_t)N, arena, &error));
        g_assert_cmpfloat(g_test_timer_elapsed(), <, 5);
        g_assert_cmpuint(labels->n, ==, wanted->n);
        for (size_t i = 0; i < labels->n; i++) {
                g_assert_cmpstr(labels->items[i].key, ==, wanted->items[i].key);
                g_assert_cmpstr(labels->items[i].value, ==, "new");
        }
        g_assert_cmpuint(container.extensions.n, ==, N);
        g_assert_cmpstr(container.extensions.items[0].name, ==, "149999");
        g_assert_cmpstr(container.extensions.items[N - 1].name, ==, "000000");
}

static void lease_resources_have_known_types(void)
{
        static const struct {
                struct lease_resource resource;
                int code; // 0: fine
        } cases[] = {
                {{"content", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}, 0},
                {{"content", "no digest"}, ERROR_INVALID_ARGUMENT},
                {{"content/x", "y"}, ERROR_INVALID_ARGUMENT},
                {{"snapshots/overlayfs", "any key/with slashes"}, 0},
                {{"snapshots", "k"}, ERROR_INVALID_ARGUMENT},
                {{"snapshots/a/b", "k"}, ERROR_INVALID_ARGUMENT},
                {{"ingests", "r"}, 0},
                {{"images", "i"}, 0},
                {{"tasks", "t"}, ERROR_UNIMPLEMENTED},
                {{"", "t"}, ERROR_UNIMPLEMENTED},
        };
        for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
                g_autoptr(GError) error = NULL;
                g_test_message("%s %s", cases[i].resource.type, cases[i].resource.id);
                g_assert_true(lease_resource_validate(&cases[i].resource, &error) == (cases[i].code == 0));
                if (error != NULL)
                        g_assert_cmpint(error->code, ==, cases[i].code);
        }
}

static bool matches(const char *text, struct image *image)
{
        g_autofree char *copy = g_strdup(text);
        char *texts[] = {copy};
        AUTO(filter) filter = filter_parse(texts, 1, NULL);
        g_assert_nonnull(filter);
        return filter_match(filter, image_field, image);
}

static void filters_know_images(void)
{
        struct label items[] = {{"a.b", "1"}};
        struct image image = {
                .name = "docker.io/library/x:1",
                .labels = {items, 1},
                .target = {.media_type = "m/t", .digest = "sha256:aa", .annotations = {items, 1}},
        };
        g_assert_true(matches("name==docker.io/library/x:1", &image));
        g_assert_true(matches("name~=library,target.mediatype==m/t", &image));
        g_assert_true(matches("target.digest==sha256:aa", &image));
        g_assert_true(matches("labels.a.b", &image));
        g_assert_true(matches("labels.\"a.b\"==1", &image));
        g_assert_true(matches("annotations.a.b==1", &image));
        g_assert_false(matches("labels.a", &image));
        g_assert_false(matches("size==1", &image));
        g_assert_false(matches("target", &image));
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add_func("/record/" #name, name)
        ADD(labels_stay_sorted);
        ADD(the_last_of_equal_keys_counts);
        ADD(many_labels_are_put_in_order_soon);
        ADD(labels_have_a_limit);
        ADD(labels_go_through_messages);
        ADD(times_go_through_messages);
        ADD(masks_change_what_they_name);
        ADD(masks_take_labels_from_the_change);
        ADD(long_masks_are_applied_soon);
        ADD(lease_resources_have_known_types);
        ADD(filters_know_images);
        return g_test_run();
}
