// SPDX-License-Identifier: Apache-2.0
//
// Nothing but arithmetic on one 512-byte block. Names here are our own, so a split into prefix and name, or a pax
// record for a long one, is all that is needed.
#include "plugins/transfer/tar_writer.h"

#include <stdio.h>
#include <string.h>

#define MAX_OCTAL_SIZE 077777777777LL

struct header {
        char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100], magic[6],
                version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
G_STATIC_ASSERT(sizeof(struct header) == TAR_BLOCK);

size_t tar_padding(int64_t size)
{
        return (size_t)(-size & (TAR_BLOCK - 1));
}

static void set_octal(char *field, size_t n, long long value)
{
        char text[24];
        snprintf(text, sizeof(text), "%0*llo", (int)n - 1, value);
        memcpy(field, text, n);
}

static void append_block(GByteArray *to, const char *name, unsigned mode, int64_t size, char type)
{
        struct header header = {0};
        memcpy(header.name, name, MIN(strlen(name), sizeof(header.name)));
        set_octal(header.mode, sizeof(header.mode), mode);
        set_octal(header.uid, sizeof(header.uid), 0);
        set_octal(header.gid, sizeof(header.gid), 0);
        set_octal(header.size, sizeof(header.size), size);
        set_octal(header.mtime, sizeof(header.mtime), 0);
        header.type = type;
        memcpy(header.magic, "ustar", 6);
        memcpy(header.version, "00", 2);
        set_octal(header.major, sizeof(header.major), 0);
        set_octal(header.minor, sizeof(header.minor), 0);
        memset(header.checksum, ' ', sizeof(header.checksum));
        unsigned sum = 0;
        for (size_t i = 0; i < sizeof(header); i++)
                sum += ((const unsigned char *)&header)[i];
        char text[8];
        snprintf(text, sizeof(text), "%06o", sum & 0777777);
        memcpy(header.checksum, text, 7);
        g_byte_array_append(to, (const guint8 *)&header, sizeof(header));
}

// "LENGTH KEY=VALUE\n", where LENGTH counts itself.
static void append_record(GString *to, const char *key, const char *value)
{
        size_t n = strlen(key) + strlen(value) + 3, total = n;
        for (size_t digits = 1; digits < 20; digits++) {
                g_autofree char *text = g_strdup_printf("%zu", n + digits);
                total = n + digits;
                if (strlen(text) == digits)
                        break;
        }
        g_string_append_printf(to, "%zu %s=%s\n", total, key, value);
}

void tar_append_header(GByteArray *to, const char *name, unsigned mode, int64_t size, bool directory)
{
        g_autoptr(GString) records = g_string_new(NULL);
        if (strlen(name) > sizeof(((struct header *)NULL)->name))
                append_record(records, "path", name);
        if (size > MAX_OCTAL_SIZE) {
                g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, size);
                append_record(records, "size", text);
        }
        if (records->len > 0) {
                static const guint8 zeros[TAR_BLOCK];
                append_block(to, "PaxHeaders.0/entry", 0, (int64_t)records->len, 'x');
                g_byte_array_append(to, (const guint8 *)records->str, (guint)records->len);
                g_byte_array_append(to, zeros, (guint)tar_padding((int64_t)records->len));
        }
        append_block(to, name, mode, size > MAX_OCTAL_SIZE ? 0 : size, directory ? '5' : '0');
}
