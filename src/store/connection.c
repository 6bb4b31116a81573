// SPDX-License-Identifier: Apache-2.0
//
// A connection is SQLite in its no-mutex mode with small caches: the daemon is idle most of the time, and its memory
// counts then. Statements are prepared once and found by the address of their text.
#include "store/internal.h"

enum { WRITER_CACHE_KB = 384, READER_CACHE_KB = 128, LOOKASIDE_BYTES = 256, LOOKASIDE_SLOTS = 64 };

bool connection_fail(struct connection *connection, int code, GError **error)
{
        enum error_code class = ERROR_UNKNOWN;
        switch (code & 0xff) {
        case SQLITE_FULL:
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "metadata: %s", errno_text(ENOSPC));
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                class = ERROR_DATA_LOSS;
                break;
        default:
                break;
        }
        return error_fail(error, class, "metadata: %s",
                connection->db != NULL ? sqlite3_errmsg(connection->db) : sqlite3_errstr(code));
}

bool connection_run(struct connection *connection, const char *sql, GError **error)
{
        int code = sqlite3_exec(connection->db, sql, NULL, NULL, NULL);
        return code == SQLITE_OK || connection_fail(connection, code, error);
}

static bool configure(struct connection *connection, bool writable, GError **error)
{
        sqlite3_extended_result_codes(connection->db, 1);
        sqlite3_busy_timeout(connection->db, 5000);
        sqlite3_db_config(connection->db, SQLITE_DBCONFIG_LOOKASIDE, NULL, LOOKASIDE_BYTES, LOOKASIDE_SLOTS);
        g_autofree char *sql = g_strdup_printf("PRAGMA cache_size = -%d; PRAGMA temp_store = MEMORY; %s",
                writable ? WRITER_CACHE_KB : READER_CACHE_KB,
                writable ? "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF;"
                         : "PRAGMA query_only = ON;");
        connection->synchronous = 2;
        return connection_run(connection, sql, error);
}

static void finalize(void *statement)
{
        sqlite3_finalize(statement);
}

bool connection_open(struct connection *connection, const char *path, bool writable, GError **error)
{
        // Both kinds open for writing: a reader must be able to make the shared index of the log.
        int code = sqlite3_open_v2(path, &connection->db,
                SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | (writable ? SQLITE_OPEN_CREATE : 0), NULL);
        connection->statements = g_hash_table_new_full(g_direct_hash, g_direct_equal, NULL, finalize);
        if (code == SQLITE_OK ? configure(connection, writable, error) : connection_fail(connection, code, error))
                return true;
        g_prefix_error(error, "%s: ", path);
        connection_close(connection);
        return false;
}

void connection_close(struct connection *connection)
{
        if (connection->statements != NULL)
                g_hash_table_destroy(connection->statements);
        if (connection->db != NULL)
                sqlite3_close(connection->db);
        *connection = (struct connection){0};
}
