// SPDX-License-Identifier: Apache-2.0
#include "unpack/tar_fixture.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK = 512 };

GByteArray *tar_fixture_new(void)
{
        return g_byte_array_new();
}

static void append(GByteArray *archive, const void *bytes, size_t n_bytes)
{
        static const guint8 zeros[BLOCK];
        g_byte_array_append(archive, bytes, (guint)n_bytes);
        g_byte_array_append(archive, zeros, (guint)((BLOCK - n_bytes % BLOCK) % BLOCK));
}

static void append_header(GByteArray *archive, const struct tar_entry *entry, char type, size_t size)
{
        char block[BLOCK] = {0};
        strncpy(block, entry->name, 100);
        snprintf(block + 100, 8, "%07o", (entry->mode != 0 ? entry->mode : 0644) & 07777777);
        snprintf(block + 108, 8, "%07o", entry->uid & 07777777);
        snprintf(block + 116, 8, "%07o", entry->gid & 07777777);
        snprintf(block + 124, 12, "%011zo", size);
        snprintf(block + 136, 12, "%011lo", entry->mtime);
        memset(block + 148, ' ', 8);
        block[156] = type;
        if (entry->link != NULL)
                strncpy(block + 157, entry->link, 100);
        memcpy(block + 257,
                "ustar\0"
                "00",
                8);
        snprintf(block + 329, 8, "%07o", entry->major & 07777777);
        snprintf(block + 337, 8, "%07o", entry->minor & 07777777);
        unsigned sum = 0;
        for (int i = 0; i < BLOCK; i++)
                sum += (unsigned char)block[i];
        snprintf(block + 148, 8, "%06o", sum);
        g_byte_array_append(archive, (guint8 *)block, BLOCK);
}

static void append_pax(GByteArray *archive, const char *records)
{
        g_auto(GStrv) lines = g_strsplit(records, "\n", -1);
        GString *body = g_string_new(NULL);
        for (char **line = lines; *line != NULL && **line != '\0'; line++) {
                // The length counts its own digits.
                size_t length = strlen(*line) + 3;
                while (snprintf(NULL, 0, "%zu %s\n", length, *line) != (int)length)
                        length++;
                g_string_append_printf(body, "%zu %s\n", length, *line);
        }
        append_header(archive, &(struct tar_entry){.name = "pax"}, 'x', body->len);
        append(archive, body->str, body->len);
        g_string_free(body, TRUE);
}

void tar_fixture_add(GByteArray *archive, const struct tar_entry *entry)
{
        if (entry->pax != NULL)
                append_pax(archive, entry->pax);
        size_t size = entry->body != NULL ? strlen(entry->body) : 0;
        append_header(archive, entry, entry->type, size);
        if (size > 0)
                append(archive, entry->body, size);
}

void tar_fixture_end(GByteArray *archive)
{
        static const guint8 zeros[2 * BLOCK];
        g_byte_array_append(archive, zeros, sizeof(zeros));
}

GByteArray *tar_fixture(const struct tar_entry *entries, size_t n_entries)
{
        GByteArray *archive = tar_fixture_new();
        for (size_t i = 0; i < n_entries; i++)
                tar_fixture_add(archive, &entries[i]);
        tar_fixture_end(archive);
        return archive;
}
