// SPDX-License-Identifier: Apache-2.0
//
// oci-layout and manifest.json are kept and read at the end; every other file is passed on, whatever it is, as the
// names alone do not say what will be needed. Docker's older archives name layers by symbolic links, which are resolved
// here.
#include "unpack/archive_split.h"

#include "codec/oci.h"
#include "unpack/rootfs.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

enum { INPUT_BYTES = 256 * 1024, MAX_TABLE_BYTES = 20 * 1024 * 1024, MAX_NAME_BYTES = 4096 };

struct splitter {
        const struct split_options *options;
        struct archive *archive;
        struct inflater *inflater;
        GError *input_error;
        uint8_t *compressed, *plain;
        size_t n_compressed, offset;
        bool input_ended;
        GHashTable *files; // set of names that were passed on
        GHashTable *links; // name → target
        GByteArray *layout, *manifest;
};

// ---- input

static bool refill(struct splitter *splitter)
{
        ssize_t n = splitter->options->read(splitter->options->data, splitter->compressed, INPUT_BYTES);
        if (n < 0)
                return error_fail_errno(&splitter->input_error, errno, "read archive");
        splitter->n_compressed = (size_t)n;
        splitter->offset = 0;
        splitter->input_ended = n == 0;
        return true;
}

static la_ssize_t on_read(struct archive *archive, void *data, const void **ret_bytes)
{
        struct splitter *splitter = data;
        *ret_bytes = splitter->plain;
        for (;;) {
                if (splitter->offset == splitter->n_compressed && !splitter->input_ended && !refill(splitter))
                        break;
                struct inflater_step step = {
                        .in = splitter->compressed + splitter->offset,
                        .n_in = splitter->n_compressed - splitter->offset,
                        .in_ended = splitter->input_ended,
                        .out = splitter->plain,
                        .n_out = INPUT_BYTES,
                };
                if (!inflater_step(splitter->inflater, &step, &splitter->input_error))
                        break;
                splitter->offset += step.taken;
                if (step.written > 0 || (splitter->input_ended && step.taken == 0))
                        return (la_ssize_t)step.written;
        }
        archive_set_error(archive, EIO, "%s", splitter->input_error->message);
        return -1;
}

static bool failed(struct splitter *splitter, GError **error)
{
        if (splitter->input_error != NULL) {
                g_propagate_error(error, g_steal_pointer(&splitter->input_error));
                return false;
        }
        const char *text = archive_error_string(splitter->archive);
        return error_fail(error, ERROR_INVALID_ARGUMENT, "read archive: %s", text != NULL ? text : "damaged");
}

// ---- files

static bool read_block(
        struct splitter *splitter, const void **ret_bytes, size_t *ret_n_bytes, la_int64_t *ret_offset, GError **error)
{
        for (;;) {
                int status = archive_read_data_block(splitter->archive, ret_bytes, ret_n_bytes, ret_offset);
                if (status == ARCHIVE_RETRY)
                        continue;
                if (status == ARCHIVE_EOF)
                        *ret_n_bytes = 0;
                return status >= ARCHIVE_WARN || failed(splitter, error);
        }
}

static bool keep_table(struct splitter *splitter, GByteArray **table, GError **error)
{
        if (*table == NULL)
                *table = g_byte_array_new();
        g_byte_array_set_size(*table, 0);
        const void *bytes;
        size_t n_bytes;
        la_int64_t offset;
        for (;;) {
                if (!read_block(splitter, &bytes, &n_bytes, &offset, error))
                        return false;
                if (n_bytes == 0)
                        return true;
                if ((*table)->len + n_bytes > MAX_TABLE_BYTES)
                        return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "archive: table of contents is too large");
                g_byte_array_append(*table, bytes, (guint)n_bytes);
        }
}

static bool pad(struct splitter *splitter, uint64_t n_bytes, GError **error)
{
        static const uint8_t zeros[4096];
        while (n_bytes > 0) {
                size_t n = MIN(n_bytes, sizeof(zeros));
                if (!splitter->options->on_bytes(splitter->options->data, zeros, n, error))
                        return false;
                n_bytes -= n;
        }
        return true;
}

// Exactly size bytes, holes of sparse files included.
static bool pass_body(
        struct splitter *splitter, uint64_t size, const void *bytes, size_t n_bytes, la_int64_t offset, GError **error)
{
        uint64_t done = 0;
        while (n_bytes > 0) {
                if ((uint64_t)offset < done || (uint64_t)offset + n_bytes > size)
                        return error_fail(
                                error, ERROR_INVALID_ARGUMENT, "read archive: file is not as long as it says");
                if (!pad(splitter, (uint64_t)offset - done, error) ||
                        !splitter->options->on_bytes(splitter->options->data, bytes, n_bytes, error))
                        return false;
                done = (uint64_t)offset + n_bytes;
                if (!read_block(splitter, &bytes, &n_bytes, &offset, error))
                        return false;
        }
        return pad(splitter, size - done, error);
}

static bool pass_file(struct splitter *splitter, const char *name, uint64_t size, GError **error)
{
        const struct split_options *options = splitter->options;
        if (options->max_files > 0 && g_hash_table_size(splitter->files) >= options->max_files)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "archive: too many files");
        const void *bytes = NULL;
        size_t n_bytes = 0;
        la_int64_t offset = 0;
        if (!read_block(splitter, &bytes, &n_bytes, &offset, error))
                return false;
        Worker__ArchiveFile file = WORKER__ARCHIVE_FILE__INIT;
        file.name = (ProtobufCBinaryData){strlen(name), (uint8_t *)name};
        file.size = size;
        file.compression = (char *)(offset == 0 ? inflate_sniff(bytes, n_bytes) : "");
        if (!options->on_file(options->data, &file, error))
                return false;
        g_hash_table_add(splitter->files, g_strdup(name));
        return pass_body(splitter, size, bytes, n_bytes, offset, error);
}

static void note_link(struct splitter *splitter, const char *name, const char *target)
{
        g_autofree char *directory = g_path_get_dirname(name);
        g_autofree char *joined = g_strdup_printf("%s/%s", target[0] == '/' ? "" : directory, target);
        g_hash_table_insert(splitter->links, g_strdup(name), rootfs_clean(joined));
}

static bool take_entry(struct splitter *splitter, struct archive_entry *entry, GError **error)
{
        const char *raw = archive_entry_pathname(entry);
        if (raw == NULL || strlen(raw) > MAX_NAME_BYTES)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "read archive: entry without a usable name");
        g_autofree char *name = rootfs_clean(raw);
        const char *link = archive_entry_symlink(entry);
        if (archive_entry_filetype(entry) == S_IFLNK && link != NULL) {
                if (g_hash_table_size(splitter->links) < G_MAXINT16)
                        note_link(splitter, name, link);
                return true;
        }
        if (archive_entry_filetype(entry) != S_IFREG || archive_entry_hardlink(entry) != NULL)
                return true;
        if (strcmp(name, "oci-layout") == 0)
                return keep_table(splitter, &splitter->layout, error);
        if (strcmp(name, "manifest.json") == 0)
                return keep_table(splitter, &splitter->manifest, error);
        return pass_file(splitter, name, (uint64_t)archive_entry_size(entry), error);
}

static bool take_entries(struct splitter *splitter, GError **error)
{
        for (;;) {
                struct archive_entry *entry;
                int status = archive_read_next_header(splitter->archive, &entry);
                if (status == ARCHIVE_EOF)
                        return true;
                if (status == ARCHIVE_RETRY)
                        continue;
                if (status < ARCHIVE_WARN)
                        return failed(splitter, error);
                if (!take_entry(splitter, entry, error))
                        return false;
        }
}

// ---- table of contents

// The name of a file that was passed on, behind links; NULL: none.
static char *resolve(const struct splitter *splitter, const ProtobufCBinaryData *name, struct arena *arena)
{
        g_autofree char *raw = g_strndup((const char *)name->data, name->len);
        g_autofree char *clean = rootfs_clean(raw);
        const char *found = clean;
        for (int i = 0; i < 10 && !g_hash_table_contains(splitter->files, found); i++) {
                found = g_hash_table_lookup(splitter->links, found);
                if (found == NULL)
                        return NULL;
        }
        return arena_strdup(arena, found);
}

static bool resolve_image(
        const struct splitter *splitter, Worker__DockerImage *image, struct arena *arena, GError **error)
{
        char *config = resolve(splitter, &image->config, arena);
        if (config == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "image config \"%s\" not found", image->config.data);
        image->config = (ProtobufCBinaryData){strlen(config), (uint8_t *)config};
        for (size_t i = 0; i < image->n_layers; i++) {
                char *layer = resolve(splitter, &image->layers[i], arena);
                if (layer == NULL)
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "failed to resolve layers: layer \"%s\" not found", image->layers[i].data);
                image->layers[i] = (ProtobufCBinaryData){strlen(layer), (uint8_t *)layer};
        }
        return true;
}

static bool check_links(const struct splitter *splitter, GError **error)
{
        GHashTableIter iterator;
        gpointer name, target;
        g_hash_table_iter_init(&iterator, splitter->links);
        while (g_hash_table_iter_next(&iterator, &name, &target)) {
                if (!g_hash_table_contains(splitter->files, target))
                        return error_fail(error, ERROR_INVALID_ARGUMENT,
                                "no target for symlink layer from \"%s\" to \"%s\"", (char *)name, (char *)target);
        }
        return true;
}

static bool conclude_layout(const struct splitter *splitter, const char *version, GError **error)
{
        if (strcmp(version, "1.0.0") != 0)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "unsupported OCI version %s", version);
        if (!g_hash_table_contains(splitter->files, "index.json"))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "missing index.json in OCI layout 1.0.0");
        return true;
}

static bool conclude(struct splitter *splitter, Worker__ArchiveEnd *end, struct arena *arena, GError **error)
{
        if (splitter->layout != NULL) {
                const char *version = oci_parse_layout(splitter->layout->data, splitter->layout->len, arena, error);
                if (version == NULL)
                        return g_prefix_error(error, "untar oci layout \"oci-layout\": "), false;
                end->oci_layout_version = (char *)version;
                if (*version != '\0')
                        return conclude_layout(splitter, version, error);
        }
        if (splitter->manifest == NULL)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "unrecognized image format");
        if (!oci_parse_docker_images(
                    splitter->manifest->data, splitter->manifest->len, arena, &end->images, &end->n_images, error))
                return g_prefix_error(error, "untar manifest \"manifest.json\": "), false;
        if (!check_links(splitter, error))
                return false;
        for (size_t i = 0; i < end->n_images; i++) {
                if (!resolve_image(splitter, end->images[i], arena, error))
                        return false;
        }
        return true;
}

static void splitter_done(struct splitter *splitter)
{
        archive_read_free(splitter->archive);
        inflater_free(splitter->inflater);
        g_clear_error(&splitter->input_error);
        g_free(splitter->compressed);
        g_free(splitter->plain);
        g_hash_table_unref(splitter->files);
        g_hash_table_unref(splitter->links);
        g_clear_pointer(&splitter->layout, g_byte_array_unref);
        g_clear_pointer(&splitter->manifest, g_byte_array_unref);
}

const Worker__ArchiveEnd *archive_split(const struct split_options *options, struct arena *arena, GError **error)
{
        struct splitter splitter = {
                .options = options,
                .archive = archive_read_new(),
                .inflater = inflater_new(false, &options->limits),
                .compressed = g_malloc(INPUT_BYTES),
                .plain = g_malloc(INPUT_BYTES),
                .files = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL),
                .links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free),
        };
        archive_read_support_format_tar(splitter.archive);
        archive_read_support_format_empty(splitter.archive);
        Worker__ArchiveEnd *end = arena_new0(arena, Worker__ArchiveEnd);
        worker__archive_end__init(end);
        bool good = archive_read_open(splitter.archive, &splitter, NULL, on_read, NULL) == ARCHIVE_OK ||
                    failed(&splitter, error);
        good = good && take_entries(&splitter, error) && conclude(&splitter, end, arena, error);
        splitter_done(&splitter);
        return good ? end : NULL;
}
