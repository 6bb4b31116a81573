// SPDX-License-Identifier: Apache-2.0
//
// Migrations only go forward: each takes the database from the version of its index to the next, in a transaction of
// its own with the version number. A migration that was released is never edited.
#include "store/internal.h"

// Names the file as ours ("skif"), for file(1) and for us.
enum { APPLICATION_ID = 0x736b6966 };

static const char *const migrations[] = {
        // 0 → 1
        "CREATE TABLE namespaces ("
        "  name TEXT PRIMARY KEY, labels BLOB"
        ") WITHOUT ROWID;"
        "CREATE TABLE containers ("
        "  namespace TEXT NOT NULL, id TEXT NOT NULL, labels BLOB, image TEXT NOT NULL, runtime_name TEXT NOT NULL,"
        "  runtime_options BLOB, spec BLOB, snapshotter TEXT NOT NULL, snapshot_key TEXT NOT NULL, extensions BLOB,"
        "  sandbox TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
        "  PRIMARY KEY (namespace, id)"
        ");"
        "CREATE TABLE images ("
        "  namespace TEXT NOT NULL, name TEXT NOT NULL, labels BLOB, media_type TEXT NOT NULL, digest TEXT NOT NULL,"
        "  size INTEGER NOT NULL, annotations BLOB, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
        "  PRIMARY KEY (namespace, name)"
        ") WITHOUT ROWID;"
        "CREATE TABLE blobs ("
        "  namespace TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL, labels BLOB,"
        "  created INTEGER NOT NULL, updated INTEGER NOT NULL,"
        "  PRIMARY KEY (namespace, digest)"
        ") WITHOUT ROWID;"
        "CREATE INDEX blobs_by_digest ON blobs (digest);"
        "CREATE TABLE ingests ("
        "  namespace TEXT NOT NULL, ref TEXT NOT NULL, backend TEXT NOT NULL, expected TEXT NOT NULL,"
        "  expires INTEGER NOT NULL,"
        "  PRIMARY KEY (namespace, ref)"
        ") WITHOUT ROWID;"
        "CREATE INDEX ingests_by_backend ON ingests (backend);"
        "CREATE INDEX ingests_by_expected ON ingests (expected) WHERE expected != '';"
        "CREATE TABLE leases ("
        "  namespace TEXT NOT NULL, id TEXT NOT NULL, labels BLOB, created INTEGER NOT NULL,"
        "  PRIMARY KEY (namespace, id)"
        ") WITHOUT ROWID;"
        "CREATE TABLE lease_resources ("
        "  namespace TEXT NOT NULL, lease TEXT NOT NULL, type TEXT NOT NULL, id TEXT NOT NULL,"
        "  PRIMARY KEY (namespace, lease, type, id)"
        ") WITHOUT ROWID;"
        "CREATE TABLE snapshots ("
        "  namespace TEXT NOT NULL, snapshotter TEXT NOT NULL, key TEXT NOT NULL, backend TEXT NOT NULL,"
        "  parent TEXT NOT NULL, kind INTEGER NOT NULL, labels BLOB, created INTEGER NOT NULL,"
        "  updated INTEGER NOT NULL, number INTEGER NOT NULL, directory TEXT NOT NULL, inodes INTEGER NOT NULL,"
        "  size INTEGER NOT NULL, blob TEXT NOT NULL, diff_id TEXT NOT NULL, boot_id TEXT NOT NULL,"
        "  synced INTEGER NOT NULL,"
        "  PRIMARY KEY (namespace, snapshotter, key)"
        ") WITHOUT ROWID;"
        "CREATE INDEX snapshots_by_parent ON snapshots (namespace, snapshotter, parent);"
        "CREATE TABLE sandboxes ("
        "  namespace TEXT NOT NULL, id TEXT NOT NULL, labels BLOB, sandboxer TEXT NOT NULL,"
        "  runtime_name TEXT NOT NULL, runtime_options BLOB, spec BLOB, extensions BLOB, created INTEGER NOT NULL,"
        "  updated INTEGER NOT NULL,"
        "  PRIMARY KEY (namespace, id)"
        ");"
        "CREATE TABLE activations ("
        "  namespace TEXT NOT NULL, name TEXT NOT NULL, labels BLOB, lease TEXT NOT NULL, number INTEGER NOT NULL,"
        "  complete INTEGER NOT NULL, info BLOB, created INTEGER NOT NULL, updated INTEGER NOT NULL,"
        "  PRIMARY KEY (namespace, name)"
        ") WITHOUT ROWID;"
        "CREATE TABLE events ("
        "  cursor INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, topic TEXT NOT NULL,"
        "  timestamp INTEGER NOT NULL, type_url TEXT NOT NULL, value BLOB"
        ");"
        "CREATE TABLE sequences ("
        "  name TEXT PRIMARY KEY, value INTEGER NOT NULL"
        ") WITHOUT ROWID;",
};

enum { CURRENT_VERSION = G_N_ELEMENTS(migrations) };

static bool read_pragma(struct connection *connection, const char *sql, int *ret_value, GError **error)
{
        sqlite3_stmt *statement;
        int code = sqlite3_prepare_v2(connection->db, sql, -1, &statement, NULL);
        if (code != SQLITE_OK)
                return connection_fail(connection, code, error);
        code = sqlite3_step(statement);
        int value = sqlite3_column_int(statement, 0);
        sqlite3_finalize(statement);
        if (code != SQLITE_ROW)
                return connection_fail(connection, code, error);
        *ret_value = value;
        return true;
}

static bool migrate_one(struct connection *connection, int from, GError **error)
{
        g_autofree char *sql =
                g_strdup_printf("BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
                        migrations[from], APPLICATION_ID, from + 1);
        if (connection_run(connection, sql, error))
                return true;
        g_prefix_error(error, "change of the schema from version %d to %d: ", from, from + 1);
        sqlite3_exec(connection->db, "ROLLBACK", NULL, NULL, NULL);
        return false;
}

bool schema_migrate(struct connection *connection, const char *path, GError **error)
{
        int version, application;
        if (!read_pragma(connection, "PRAGMA user_version", &version, error) ||
                !read_pragma(connection, "PRAGMA application_id", &application, error))
                return false;
        if (version != 0 && application != APPLICATION_ID)
                return error_fail(error, ERROR_FAILED_PRECONDITION, "%s: this is not skiff's metadata", path);
        if (version > CURRENT_VERSION)
                return error_fail(error, ERROR_FAILED_PRECONDITION,
                        "%s: a newer skiffd wrote this (schema version %d, this skiffd knows versions up to %d): run "
                        "that one, or give this one another root",
                        path, version, CURRENT_VERSION);
        for (; version < CURRENT_VERSION; version++) {
                if (!migrate_one(connection, version, error))
                        return false;
        }
        return true;
}
