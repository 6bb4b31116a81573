// SPDX-License-Identifier: Apache-2.0
//
// Documents, import archives and new layers through jailed workers.
#include "base/fd.h"
#include "core/worker.h"
#include "io/loop.h"
#include "support.h"
#include "unpack/tar_fixture.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

// ---- a layer from two directories

struct packing {
        struct support *support;
        GByteArray *layer;
};

static bool on_packed_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct packing *packing = data;
        g_byte_array_append(packing->layer, bytes, (guint)n_bytes);
        return true;
}

static void on_pack_end(void *data, const char *diff_id, const GError *error)
{
        struct packing *packing = data;
        g_assert_no_error(error);
        packing->support->diff_id = g_strdup(diff_id);
        loop_stop(packing->support->loop);
}

static char *make_tree(const struct support *support, const char *name)
{
        char *root = g_build_filename(support->path, name, NULL);
        g_autofree char *directory = g_build_filename(root, "same", NULL);
        g_assert_cmpint(g_mkdir_with_parents(directory, 0755), ==, 0);
        return root;
}

static void put(const char *root, const char *name, const char *text)
{
        g_autofree char *path = g_build_filename(root, name, NULL);
        g_autofree char *directory = g_path_get_dirname(path);
        g_assert_cmpint(g_mkdir_with_parents(directory, 0755), ==, 0);
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
        const struct timespec times[2] = {{1000, 0}, {1000, 0}};
        g_assert_cmpint(utimensat(AT_FDCWD, path, times, 0), ==, 0);
}

// What is packed and applied to a copy of the lower tree gives the upper tree.
static void packs_what_differs(const char *compression)
{
        struct support support;
        support_set_up(&support, false);
        g_autofree char *lower = make_tree(&support, "lower"), *upper = make_tree(&support, "upper");
        put(lower, "same/file", "same");
        put(upper, "same/file", "same");
        put(lower, "changed", "1");
        put(upper, "changed", "2");
        put(lower, "gone/deep/file", "x");
        put(lower, "becomes", "file");
        put(upper, "becomes/directory", "x");
        put(upper, "new/a", "new");
        g_autofree char *a = g_build_filename(upper, "new/a", NULL), *b = g_build_filename(upper, "new/b", NULL);
        g_assert_cmpint(link(a, b), ==, 0);
        struct packing packing = {&support, g_byte_array_new()};
        static const struct pack_handler handler = {on_packed_bytes, on_pack_end};
        struct pack_request request = {.lower = lower, .upper = upper, .compression = compression};
        pack_unref(pack_start(support.unpacker, &request, &handler, &packing));
        loop_run(support.loop);
        g_autofree char *packed_id = g_steal_pointer(&support.diff_id);

        g_autofree char *content = g_strconcat(lower, "/.", NULL);
        support_run((const char *const[]){"cp", "-a", content, support.directory, NULL});
        struct unpack_request back = {.compressed = *compression != '\0'};
        support_unpack(&support, &back, packing.layer->data, packing.layer->len);
        g_assert_no_error(support.error);
        g_assert_cmpstr(support.diff_id, ==, packed_id);
        support_run((const char *const[]){"diff", "-r", upper, support.directory, NULL});
        g_assert_cmpuint(support_stat(&support, "new/a").st_ino, ==, support_stat(&support, "new/b").st_ino);
        if (*compression == '\0') {
                // What did not change is not in it; "same" is in no entry's name.
                for (guint i = 0; i + 512 <= packing.layer->len; i += 512)
                        g_assert_false(g_str_has_prefix((const char *)packing.layer->data + i, "same"));
        }
        g_byte_array_unref(packing.layer);
        support_tear_down(&support);
}

static void packs_plain(void)
{
        packs_what_differs("");
}

static void packs_gzip(void)
{
        packs_what_differs("gzip");
}

static void packs_zstd(void)
{
        packs_what_differs("zstd");
}

// ---- documents

struct inspection {
        struct support *support;
        unsigned left;
};

static void on_document(void *data, const Worker__Document *document, const GError *error)
{
        struct inspection *inspection = data;
        struct support *support = inspection->support;
        if (error != NULL)
                g_string_append_printf(support->text, "error %d: %s\n", error->code, error->message);
        else
                g_string_append_printf(support->text, "%d: %zu manifests, %zu layers, %zu diff ids, %s\n",
                        document->kind, document->n_manifests, document->n_layers, document->n_diff_ids,
                        document->platform != NULL  ? document->platform->architecture
                        : document->n_manifests > 0 ? document->manifests[0]->platform->os
                                                    : document->config->digest);
        if (--inspection->left == 0)
                loop_stop(support->loop);
}

#define SHA "sha256:0000000000000000000000000000000000000000000000000000000000000000"

static void inspects_documents_in_order(void)
{
        static const char *const documents[][2] = {
                {"application/vnd.oci.image.index.v1+json",
                        "{\"manifests\":[{\"digest\":\"" SHA "\",\"size\":5,\"platform\":{\"os\":\"linux\"}}]}"},
                {"application/vnd.docker.distribution.manifest.v2+json",
                        "{\"config\":{\"digest\":\"" SHA "\"},\"layers\":[{\"digest\":\"" SHA "\"}]}"},
                {"application/vnd.oci.image.config.v1+json",
                        "{\"architecture\":\"arm64\",\"rootfs\":{\"diff_ids\":[\"" SHA "\"]}}"},
                {"application/vnd.oci.image.manifest.v1+json", "{\"manifests\":[]}"},
                {"application/vnd.oci.image.manifest.v1+json", "{\"config\":{\"digest\":\"sha256:12\"}}"},
                {"application/vnd.oci.image.index.v1+json", "{"},
        };
        struct support support;
        support_set_up(&support, false);
        struct inspector *inspector = inspector_new(support.unpacker, NULL, NULL);
        struct inspection inspection = {&support, G_N_ELEMENTS(documents)};
        for (size_t i = 0; i < G_N_ELEMENTS(documents); i++)
                inspector_inspect(
                        inspector, documents[i][0], documents[i][1], strlen(documents[i][1]), on_document, &inspection);
        loop_run(support.loop);
        inspector_free(inspector);
        g_auto(GStrv) lines = g_strsplit(support.text->str, "\n", -1);
        g_assert_cmpstr(lines[0], ==, "1: 1 manifests, 0 layers, 0 diff ids, linux");
        g_assert_cmpstr(lines[1], ==, "2: 0 manifests, 1 layers, 0 diff ids, " SHA);
        g_assert_cmpstr(lines[2], ==, "3: 0 manifests, 0 layers, 1 diff ids, arm64");
        g_assert_true(g_str_has_prefix(
                lines[3], "error 3: inspect: media-type: expected manifest but found index (application/vnd.oci"));
        g_assert_true(g_str_has_prefix(lines[4], "error 3: invalid digest \"sha256:12\""));
        g_assert_true(g_str_has_prefix(lines[5], "error 3: inspect: json"));
        // The worker ends with its socket; its end is part of what the loop still has to see.
        loop_timer_start(support.loop, 50, (loop_fn)loop_stop, support.loop);
        loop_run(support.loop);
        support_tear_down(&support);
}

// An unpacker whose workers were taken over: whatever they are asked, they write these bytes to descriptor fd.
static struct unpacker *possessed(const struct support *support, int fd, const void *bytes, size_t n_bytes)
{
        g_autofree char *stream = g_build_filename(support->path, "stream", NULL);
        g_autofree char *program = g_build_filename(support->path, "program", NULL);
        g_autofree char *script = g_strdup_printf("#!/bin/sh\nexec /bin/cat '%s' >&%d\n", stream, fd);
        g_assert_true(g_file_set_contents(stream, bytes, (gssize)n_bytes, NULL));
        g_assert_true(g_file_set_contents_full(program, script, -1, 0, 0755, NULL));
        struct unpacker_options options = {.loop = support->loop, .lanes = support->lanes, .program = program};
        return unpacker_new(&options);
}

static void on_refused(void *data, const Worker__Document *document, const GError *error)
{
        struct support *support = data;
        g_assert_null(document);
        support->error = g_error_copy(error);
        loop_stop(support->loop);
}

// The error that a document gets whose worker answers with this one.
static void inspect_possessed(const Worker__Document *document, enum error_code expected)
{
        struct support support;
        support_set_up(&support, false);
        Worker__Answer answer = WORKER__ANSWER__INIT;
        answer.answer_case = WORKER__ANSWER__ANSWER_DOCUMENT;
        answer.document = (Worker__Document *)document;
        uint32_t n_bytes = (uint32_t)worker__answer__get_packed_size(&answer);
        g_autofree uint8_t *record = g_malloc(sizeof(n_bytes) + n_bytes);
        memcpy(record, &(uint32_t){GUINT32_TO_LE(n_bytes)}, sizeof(n_bytes));
        worker__answer__pack(&answer, record + sizeof(n_bytes));
        struct unpacker *unpacker = possessed(&support, WORKER_CONTROL_FD, record, sizeof(n_bytes) + n_bytes);
        struct inspector *inspector = inspector_new(unpacker, NULL, NULL);
        inspector_inspect(inspector, "", "{}", 2, on_refused, &support);
        loop_run(support.loop);
        g_assert_error(support.error, SKIFF_ERROR, (int)expected);
        inspector_free(inspector);
        unpacker_unref(unpacker);
        support_tear_down(&support);
}

// Two bytes each in the record, a hundred times as much in memory.
static void lets_no_worker_fill_the_memory(void)
{
        static Worker__Descriptor empty = WORKER__DESCRIPTOR__INIT;
        const size_t n = 5 * 1000 * 1000;
        g_autofree Worker__Descriptor **manifests = g_new(Worker__Descriptor *, n);
        for (size_t i = 0; i < n; i++)
                manifests[i] = &empty;
        Worker__Document document = WORKER__DOCUMENT__INIT;
        document.manifests = manifests;
        document.n_manifests = n;
        inspect_possessed(&document, ERROR_RESOURCE_EXHAUSTED);
}

// One that is stored would make every client fail that reads it.
static void takes_no_text_of_a_worker_that_is_not_utf8(void)
{
        Worker__Document document = WORKER__DOCUMENT__INIT;
        document.media_type = (char *)"\xff";
        inspect_possessed(&document, ERROR_INTERNAL);
}

// ---- archives

static bool on_file(void *data, const char *name, uint64_t size, const char *compression, GError **error)
{
        struct support *support = data;
        g_string_append_printf(support->text, "%s %" G_GUINT64_FORMAT " %s:", name, size, compression);
        return true;
}

static bool on_bytes(void *data, const void *bytes, size_t n_bytes, GError **error)
{
        struct support *support = data;
        if (n_bytes < 20)
                g_string_append_len(support->text, bytes, (gssize)n_bytes);
        return true;
}

static bool on_file_end(void *data, GError **error)
{
        struct support *support = data;
        g_string_append_c(support->text, '\n');
        return true;
}

static void on_split_end(void *data, const Worker__ArchiveEnd *end, const GError *error)
{
        struct support *support = data;
        if (error != NULL)
                support->error = g_error_copy(error);
        else if (*end->oci_layout_version != '\0')
                g_string_append_printf(support->text, "layout %s\n", end->oci_layout_version);
        for (size_t i = 0; end != NULL && i < end->n_images; i++) {
                const Worker__DockerImage *image = end->images[i];
                g_string_append_printf(support->text, "image %.*s %s", (int)image->config.len,
                        (const char *)image->config.data, image->n_repo_tags > 0 ? image->repo_tags[0] : "-");
                for (size_t j = 0; j < image->n_layers; j++)
                        g_string_append_printf(
                                support->text, " %.*s", (int)image->layers[j].len, (const char *)image->layers[j].data);
                g_string_append_c(support->text, '\n');
        }
        loop_stop(support->loop);
}

static void split(struct support *support, const struct tar_entry *entries, size_t n_entries, bool compressed)
{
        static const struct split_handler handler = {on_file, on_bytes, on_file_end, on_split_end};
        g_autoptr(GByteArray) plain = tar_fixture(entries, n_entries);
        g_autoptr(GByteArray) archive = compressed ? support_gzip(plain->data, plain->len) : g_byte_array_ref(plain);
        fd_auto int fd = support_file(archive->data, archive->len);
        lseek(fd, 0, SEEK_SET);
        split_unref(split_start(support->unpacker, fd, NULL, &handler, support));
        loop_run(support->loop);
}

static void splits_oci_layouts(void)
{
        static const struct tar_entry entries[] = {
                {.name = "blobs/", .type = '5', .mode = 0755},
                {.name = "./blobs/sha256/aa", .type = '0', .body = "body"},
                {.name = "blobs/sha256/bb", .type = '0', .body = "\x1f\x8b\x08z"},
                {.name = "empty", .type = '0'},
                {.name = "index.json", .type = '0', .body = "{}"},
                {.name = "oci-layout", .type = '0', .body = "{\"imageLayoutVersion\":\"1.0.0\"}"},
        };
        for (int compressed = 0; compressed < 2; compressed++) {
                struct support support;
                support_set_up(&support, false);
                split(&support, entries, G_N_ELEMENTS(entries), compressed);
                g_assert_no_error(support.error);
                g_assert_cmpstr(support.text->str, ==,
                        "blobs/sha256/aa 4 :body\nblobs/sha256/bb 4 gzip:\x1f\x8b\x08z\nempty 0 :\n"
                        "index.json 2 :{}\nlayout 1.0.0\n");
                support_tear_down(&support);
        }
}

static void splits_docker_archives(void)
{
        static const struct tar_entry entries[] = {
                {.name = "c.json", .type = '0', .body = "{}"},
                {.name = "l1/layer.tar", .type = '0', .body = "one"},
                {.name = "l2/layer.tar", .type = '2', .link = "../l1/layer.tar"},
                {.name = "manifest.json",
                        .type = '0',
                        .body = "[{\"Config\":\"c.json\",\"RepoTags\":[\"a:b\"],"
                                "\"Layers\":[\"l1/layer.tar\",\"l2/layer.tar\"]}]"},
        };
        struct support support;
        support_set_up(&support, false);
        split(&support, entries, G_N_ELEMENTS(entries), false);
        g_assert_no_error(support.error);
        g_assert_cmpstr(support.text->str, ==,
                "c.json 2 :{}\nl1/layer.tar 3 :one\nimage c.json a:b l1/layer.tar l1/layer.tar\n");
        support_tear_down(&support);
}

static void refuses_what_is_no_image_archive(void)
{
        static const struct tar_entry entries[] = {{.name = "x", .type = '0', .body = "x"}};
        struct support support;
        support_set_up(&support, false);
        split(&support, entries, 1, false);
        g_assert_error(support.error, SKIFF_ERROR, ERROR_INVALID_ARGUMENT);
        g_assert_nonnull(strstr(support.error->message, "unrecognized image format"));
        support_tear_down(&support);
}

// A worker that a hostile archive has taken over names one empty file after the other.
static void counts_the_files_of_a_worker_too(void)
{
        static const struct split_handler handler = {on_file, on_bytes, on_file_end, on_split_end};
        static const char record[] = "\3\0\0\0\012\1a"; // its length, and a name of one letter
        struct support support;
        support_set_up(&support, false);
        g_autoptr(GString) records = g_string_new(NULL);
        for (int i = 0; i < 100 * 1000 + 1; i++)
                g_string_append_len(records, record, sizeof(record) - 1);
        struct unpacker *unpacker = possessed(&support, WORKER_FIRST_FD + 1, records->str, records->len);
        fd_auto int fd = support_file("", 0);
        split_unref(split_start(unpacker, fd, NULL, &handler, &support));
        loop_run(support.loop);
        g_assert_error(support.error, SKIFF_ERROR, ERROR_RESOURCE_EXHAUSTED);
        unpacker_unref(unpacker);
        support_tear_down(&support);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        if (!support_can_run())
                return 77;
        g_test_add_func("/pack/packs_plain", packs_plain);
        g_test_add_func("/pack/packs_gzip", packs_gzip);
        g_test_add_func("/pack/packs_zstd", packs_zstd);
        g_test_add_func("/inspector/inspects_documents_in_order", inspects_documents_in_order);
        g_test_add_func("/inspector/lets_no_worker_fill_the_memory", lets_no_worker_fill_the_memory);
        g_test_add_func(
                "/inspector/takes_no_text_of_a_worker_that_is_not_utf8", takes_no_text_of_a_worker_that_is_not_utf8);
        g_test_add_func("/split/splits_oci_layouts", splits_oci_layouts);
        g_test_add_func("/split/splits_docker_archives", splits_docker_archives);
        g_test_add_func("/split/refuses_what_is_no_image_archive", refuses_what_is_no_image_archive);
        g_test_add_func("/split/counts_the_files_of_a_worker_too", counts_the_files_of_a_worker_too);
        return g_test_run();
}
