// SPDX-License-Identifier: Apache-2.0
//
// Parameters go in by a string of type letters, rows come out into arenas. Maps (labels, extensions) are one column:
// they are read and written as a whole, and nothing is searched by their keys in SQL. A packed column is a sequence of
// fields, each four bytes of length (little-endian) and the bytes.
#include "store/internal.h"

#include <stdarg.h>
#include <string.h>

static sqlite3_stmt *prepare(struct tx *tx, const char *sql, bool *ret_owned, GError **error)
{
        struct connection *connection = tx->connection;
        sqlite3_stmt *statement = g_hash_table_lookup(connection->statements, sql);
        *ret_owned = false;
        if (statement != NULL && !sqlite3_stmt_busy(statement))
                return statement;
        *ret_owned = statement != NULL;
        int code = sqlite3_prepare_v3(
                connection->db, sql, -1, *ret_owned ? 0 : SQLITE_PREPARE_PERSISTENT, &statement, NULL);
        if (code != SQLITE_OK) {
                connection_fail(connection, code, error);
                return NULL;
        }
        if (!*ret_owned)
                g_hash_table_insert(connection->statements, (void *)sql, statement);
        return statement;
}

static int bind_packed(sqlite3_stmt *statement, int i, const GByteArray *packed)
{
        if (packed == NULL || packed->len == 0)
                return sqlite3_bind_null(statement, i);
        return sqlite3_bind_blob64(statement, i, packed->data, packed->len, SQLITE_STATIC);
}

static int bind_all(sqlite3_stmt *statement, const char *types, va_list *args)
{
        int code = SQLITE_OK;
        g_assert((size_t)sqlite3_bind_parameter_count(statement) == strlen(types));
        for (int i = 1; *types != '\0' && code == SQLITE_OK; i++, types++) {
                switch (*types) {
                case 't':
                        code = sqlite3_bind_text(statement, i, va_arg(*args, const char *), -1, SQLITE_STATIC);
                        break;
                case 'i':
                        code = sqlite3_bind_int64(statement, i, va_arg(*args, int64_t));
                        break;
                case 'b': {
                        const void *bytes = va_arg(*args, const void *);
                        code = sqlite3_bind_blob64(statement, i, bytes, va_arg(*args, size_t), SQLITE_STATIC);
                        break;
                }
                case 'p':
                        code = bind_packed(statement, i, va_arg(*args, const GByteArray *));
                        break;
                default:
                        g_assert_not_reached();
                }
        }
        return code;
}

static bool start(struct query *query, struct tx *tx, GError **error, const char *sql, const char *types, va_list *args)
{
        bool owned;
        sqlite3_stmt *statement = prepare(tx, sql, &owned, error);
        if (statement == NULL)
                return false;
        *query = (struct query){.tx = tx, .statement = statement, .owned = owned};
        query->code = bind_all(statement, types, args);
        return query->code == SQLITE_OK || query_end(query, error);
}

bool query_start(struct query *query, struct tx *tx, GError **error, const char *sql, const char *types, ...)
{
        va_list args;
        va_start(args, types);
        bool ok = start(query, tx, error, sql, types, &args);
        va_end(args);
        return ok;
}

bool query_row(struct query *query)
{
        query->code = sqlite3_step(query->statement);
        return query->code == SQLITE_ROW;
}

bool query_end(struct query *query, GError **error)
{
        bool ok = query->code == SQLITE_OK || query->code == SQLITE_ROW || query->code == SQLITE_DONE;
        if (!ok)
                connection_fail(query->tx->connection, query->code, error);
        if (query->owned)
                sqlite3_finalize(query->statement);
        else
                sqlite3_reset(query->statement);
        return ok;
}

bool tx_execute(struct tx *tx, GError **error, int *ret_changes, const char *sql, const char *types, ...)
{
        g_assert(tx->writable);
        struct query query;
        va_list args;
        va_start(args, types);
        bool ok = start(&query, tx, error, sql, types, &args);
        va_end(args);
        if (!ok)
                return false;
        query_row(&query);
        int changes = sqlite3_changes(tx->connection->db);
        if (!query_end(&query, error))
                return false;
        tx->changed = tx->changed || changes > 0;
        if (ret_changes != NULL)
                *ret_changes = changes;
        return true;
}

bool tx_exists(struct tx *tx, GError **error, bool *ret_exists, const char *sql, const char *types, ...)
{
        struct query query;
        va_list args;
        va_start(args, types);
        bool ok = start(&query, tx, error, sql, types, &args);
        va_end(args);
        if (!ok)
                return false;
        bool exists = query_row(&query);
        if (!query_end(&query, error))
                return false;
        *ret_exists = exists;
        return true;
}

bool query_one(struct query *query, struct arena *arena, record_fn read, void *ret, bool *ret_found, GError **error)
{
        bool found = query_row(query);
        if (found)
                read(query, arena, ret); // a query that gave a row ends well
        if (!query_end(query, error))
                return false;
        *ret_found = found;
        return true;
}

bool query_walk(struct query *query, struct arena *arena, row_fn read_row, void *data, GError **error)
{
        bool more = true;
        while (more && query_row(query)) {
                AUTO(arena) row_arena = arena == NULL ? arena_new() : NULL;
                more = read_row(data, query, arena == NULL ? row_arena : arena);
        }
        return query_end(query, error);
}

// ---- columns

const char *column_text(const struct query *query, int column, struct arena *arena)
{
        const unsigned char *text = sqlite3_column_text(query->statement, column);
        return text == NULL ? "" : arena_strdup(arena, (const char *)text);
}

int64_t column_int(const struct query *query, int column)
{
        return sqlite3_column_int64(query->statement, column);
}

struct reader {
        const uint8_t *at, *end;
};

static struct reader open_column(const struct query *query, int column, struct arena *arena)
{
        const void *bytes = sqlite3_column_blob(query->statement, column);
        size_t n = (size_t)sqlite3_column_bytes(query->statement, column);
        if (bytes == NULL || n == 0)
                return (struct reader){NULL, NULL};
        uint8_t *copy = arena_alloc(arena, n);
        memcpy(copy, bytes, n);
        return (struct reader){copy, copy + n};
}

// The next field; its bytes are followed by whatever comes next, so text needs a copy. False at the end, and where the
// column is not what we wrote.
static bool next_field(struct reader *reader, const uint8_t **ret_bytes, size_t *ret_n)
{
        if (reader->end - reader->at < 4)
                return false;
        uint32_t n;
        memcpy(&n, reader->at, sizeof n);
        n = GUINT32_FROM_LE(n);
        if ((size_t)(reader->end - reader->at - 4) < n)
                return false;
        *ret_bytes = reader->at + 4;
        *ret_n = n;
        reader->at += 4 + (size_t)n;
        return true;
}

static bool next_text(struct reader *reader, struct arena *arena, const char **ret_text)
{
        const uint8_t *bytes;
        size_t n;
        if (!next_field(reader, &bytes, &n))
                return false;
        char *text = arena_alloc(arena, n + 1);
        memcpy(text, bytes, n);
        *ret_text = text;
        return true;
}

static size_t count_fields(struct reader reader)
{
        const uint8_t *bytes;
        size_t n, count = 0;
        while (next_field(&reader, &bytes, &n))
                count++;
        return count;
}

struct labels column_labels(const struct query *query, int column, struct arena *arena)
{
        struct reader reader = open_column(query, column, arena);
        struct labels labels = {arena_array(arena, struct label, count_fields(reader) / 2), 0};
        struct label label;
        while (next_text(&reader, arena, &label.key) && next_text(&reader, arena, &label.value))
                labels.items[labels.n++] = label;
        return labels;
}

static bool next_any(struct reader *reader, struct arena *arena, struct any *ret_any)
{
        const char *type_url;
        const uint8_t *value;
        size_t n_value;
        if (!next_text(reader, arena, &type_url) || !next_field(reader, &value, &n_value))
                return false;
        *ret_any = (struct any){type_url, value, n_value};
        return true;
}

struct any column_any(const struct query *query, int column, struct arena *arena)
{
        struct reader reader = open_column(query, column, arena);
        struct any any = {0};
        next_any(&reader, arena, &any);
        return any;
}

struct extensions column_extensions(const struct query *query, int column, struct arena *arena)
{
        struct reader reader = open_column(query, column, arena);
        struct extensions extensions = {arena_array(arena, struct extension, count_fields(reader) / 3), 0};
        struct extension extension;
        while (next_text(&reader, arena, &extension.name) && next_any(&reader, arena, &extension.value))
                extensions.items[extensions.n++] = extension;
        return extensions;
}

// ---- packing

static void pack(GByteArray *packed, const void *bytes, size_t n)
{
        g_assert(n <= UINT32_MAX);
        uint32_t length = GUINT32_TO_LE((uint32_t)n);
        g_byte_array_append(packed, (const guint8 *)&length, sizeof length);
        if (n > 0)
                g_byte_array_append(packed, bytes, (guint)n);
}

static void pack_text(GByteArray *packed, const char *text)
{
        pack(packed, text, strlen(text));
}

GByteArray *pack_labels(const struct labels *labels)
{
        if (labels->n == 0)
                return NULL;
        GByteArray *packed = g_byte_array_new();
        for (size_t i = 0; i < labels->n; i++) {
                pack_text(packed, labels->items[i].key);
                pack_text(packed, labels->items[i].value);
        }
        return packed;
}

GByteArray *pack_any(const struct any *any)
{
        if (any->type_url == NULL)
                return NULL;
        GByteArray *packed = g_byte_array_sized_new((guint)(any->n_value + 64));
        pack_text(packed, any->type_url);
        pack(packed, any->value, any->n_value);
        return packed;
}

GByteArray *pack_extensions(const struct extensions *extensions)
{
        if (extensions->n == 0)
                return NULL;
        GByteArray *packed = g_byte_array_new();
        for (size_t i = 0; i < extensions->n; i++) {
                const struct any *any = &extensions->items[i].value;
                pack_text(packed, extensions->items[i].name);
                pack_text(packed, any->type_url != NULL ? any->type_url : "");
                pack(packed, any->value, any->n_value);
        }
        return packed;
}

bool sequence_advance(struct tx *tx, const char *name, int64_t n, int64_t *ret_last, GError **error)
{
        g_assert(tx->writable);
        struct query query;
        if (!query_start(&query, tx, error,
                    "INSERT INTO sequences (name, value) VALUES (?1, ?2) "
                    "ON CONFLICT DO UPDATE SET value = value + ?2 RETURNING value",
                    "ti", name, n))
                return false;
        int64_t value = query_row(&query) ? column_int(&query, 0) : 0;
        // RETURNING gives its row before the statement has ended.
        if (value > 0)
                query_row(&query);
        if (!query_end(&query, error))
                return false;
        tx->changed = true;
        *ret_last = value;
        return true;
}
