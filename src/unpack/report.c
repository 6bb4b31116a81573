// SPDX-License-Identifier: Apache-2.0
#include "unpack/report.h"

#include <string.h>

enum { PART_ITEMS = 200 };

struct report {
        GHashTable *invented; // path → GINT_TO_POINTER(named later)
        GHashTable *opaque;   // set of paths
        GHashTable *devices;  // path → Worker__Device, with all that it points to
};

static void free_device(void *data)
{
        worker__device__free_unpacked(data, NULL);
}

struct report *report_new(void)
{
        struct report *report = g_new0(struct report, 1);
        report->invented = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        report->opaque = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        report->devices = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_device);
        return report;
}

void report_free(struct report *report)
{
        if (report == NULL)
                return;
        g_hash_table_unref(report->invented);
        g_hash_table_unref(report->opaque);
        g_hash_table_unref(report->devices);
        g_free(report);
}

void report_invented(struct report *report, const char *path)
{
        g_hash_table_insert(report->invented, g_strdup(path), GINT_TO_POINTER(false));
}

void report_made(struct report *report, const char *path)
{
        g_hash_table_remove(report->devices, path);
        if (g_hash_table_contains(report->invented, path))
                g_hash_table_insert(report->invented, g_strdup(path), GINT_TO_POINTER(true));
}

void report_opaque(struct report *report, const char *path)
{
        g_hash_table_add(report->opaque, g_strdup(path));
}

void report_device(struct report *report, const Worker__Device *device, const char *path)
{
        Worker__Device named = *device;
        named.path = (ProtobufCBinaryData){strlen(path), (uint8_t *)path};
        size_t size = worker__device__get_packed_size(&named);
        g_autofree uint8_t *packed = g_malloc(size + 1);
        worker__device__pack(&named, packed);
        g_hash_table_insert(report->devices, g_strdup(path), worker__device__unpack(NULL, size, packed));
}

bool report_has_device(const struct report *report, const char *path)
{
        return g_hash_table_contains(report->devices, path);
}

static gboolean is_below(gpointer key, gpointer value, gpointer data)
{
        const char *path = data;
        size_t length = strlen(path);
        return strncmp(key, path, length) == 0 && (((char *)key)[length] == '\0' || ((char *)key)[length] == '/');
}

void report_removed(struct report *report, const char *path)
{
        g_hash_table_foreach_remove(report->invented, is_below, (void *)path);
        g_hash_table_foreach_remove(report->opaque, is_below, (void *)path);
        g_hash_table_foreach_remove(report->devices, is_below, (void *)path);
}

// ---- sending

struct batch {
        report_send_fn send;
        void *data;
        Worker__Reported part;
        Worker__InventedDirectory directories[PART_ITEMS], *directory_pointers[PART_ITEMS];
        ProtobufCBinaryData opaque[PART_ITEMS];
        Worker__Device *devices[PART_ITEMS];
};

static bool flush(struct batch *batch, GError **error)
{
        Worker__Reported *part = &batch->part;
        if (part->n_directories + part->n_devices + part->n_opaque_paths == 0)
                return true;
        part->directories = batch->directory_pointers;
        part->opaque_paths = batch->opaque;
        part->devices = batch->devices;
        bool good = batch->send(batch->data, part, error);
        worker__reported__init(part);
        return good;
}

static ProtobufCBinaryData bytes_of(const char *path)
{
        return (ProtobufCBinaryData){strlen(path), (uint8_t *)path};
}

static bool flush_if_full(struct batch *batch, size_t n, GError **error)
{
        return n < PART_ITEMS || flush(batch, error);
}

static bool send_directories(struct batch *batch, GHashTable *invented, GError **error)
{
        GHashTableIter iterator;
        gpointer path, named;
        g_hash_table_iter_init(&iterator, invented);
        while (g_hash_table_iter_next(&iterator, &path, &named)) {
                Worker__InventedDirectory *directory = &batch->directories[batch->part.n_directories];
                worker__invented_directory__init(directory);
                directory->path = bytes_of(path);
                directory->named_later = GPOINTER_TO_INT(named);
                batch->directory_pointers[batch->part.n_directories++] = directory;
                if (!flush_if_full(batch, batch->part.n_directories, error))
                        return false;
        }
        return flush(batch, error);
}

static bool send_opaque(struct batch *batch, GHashTable *opaque, GError **error)
{
        GHashTableIter iterator;
        gpointer path;
        g_hash_table_iter_init(&iterator, opaque);
        while (g_hash_table_iter_next(&iterator, &path, NULL)) {
                batch->opaque[batch->part.n_opaque_paths++] = bytes_of(path);
                if (!flush_if_full(batch, batch->part.n_opaque_paths, error))
                        return false;
        }
        return flush(batch, error);
}

// Devices themselves first, other names for them afterwards.
static bool send_devices(struct batch *batch, GHashTable *devices, bool links, GError **error)
{
        GHashTableIter iterator;
        gpointer device;
        g_hash_table_iter_init(&iterator, devices);
        while (g_hash_table_iter_next(&iterator, NULL, &device)) {
                if ((((Worker__Device *)device)->link_target.len > 0) != links)
                        continue;
                batch->devices[batch->part.n_devices++] = device;
                // Attributes may be large: few at a time.
                if (batch->part.n_devices >= 8 && !flush(batch, error))
                        return false;
        }
        return flush(batch, error);
}

bool report_send(const struct report *report, report_send_fn send, void *data, GError **error)
{
        g_autofree struct batch *batch = g_new0(struct batch, 1);
        batch->send = send;
        batch->data = data;
        worker__reported__init(&batch->part);
        return send_directories(batch, report->invented, error) && send_opaque(batch, report->opaque, error) &&
               send_devices(batch, report->devices, false, error) && send_devices(batch, report->devices, true, error);
}
