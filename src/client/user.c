// SPDX-License-Identifier: Apache-2.0
//
// passwd(5) and group(5) of an image are bytes from outside: read as lines of fields, what has another form is passed
// by. A numeric user without an entry has group 0, as containerd has it. Ids are at most 2^31 - 1, which is what OCI
// runtimes take.
#include "client/user.h"

#include "base/error.h"

#include <string.h>

enum { MAX_FILE_BYTES = 4 * 1024 * 1024 };

enum number { NOT_A_NUMBER, NUMBER, OUT_OF_RANGE };

static enum number parse_id(const char *text, uint32_t *ret_id)
{
        const char *digits = *text == '-' || *text == '+' ? text + 1 : text;
        if (*digits == '\0' || strspn(digits, "0123456789") != strlen(digits))
                return NOT_A_NUMBER;
        uint64_t value = 0;
        if (*text == '-' || !g_ascii_string_to_unsigned(digits, 10, 0, INT32_MAX, &value, NULL))
                return OUT_OF_RANGE;
        *ret_id = (uint32_t)value;
        return NUMBER;
}

// ---- the files

// Calls for each line with at least n_fields fields until it returns false.
typedef bool (*line_fn)(void *data, char **fields);

static void each_line(const char *text, size_t n_fields, line_fn fn, void *data)
{
        g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
        for (size_t i = 0; lines[i] != NULL; i++) {
                g_auto(GStrv) fields = g_strsplit(lines[i], ":", -1);
                if (g_strv_length(fields) >= n_fields && *fields[0] != '\0' && *fields[0] != '#' && !fn(data, fields))
                        return;
        }
}

struct wanted {
        const char *name; // NULL: by uid
        uint32_t id;
        bool found;
        char *found_name;
        uint32_t found_id, found_gid;
};

static bool match_user(void *data, char **fields)
{
        struct wanted *wanted = data;
        uint32_t uid, gid;
        if (parse_id(fields[2], &uid) != NUMBER || parse_id(fields[3], &gid) != NUMBER)
                return true;
        if (wanted->name != NULL ? strcmp(wanted->name, fields[0]) != 0 : wanted->id != uid)
                return true;
        wanted->found = true;
        wanted->found_name = g_strdup(fields[0]);
        wanted->found_id = uid;
        wanted->found_gid = gid;
        return false;
}

static bool match_group(void *data, char **fields)
{
        struct wanted *wanted = data;
        if (strcmp(wanted->name, fields[0]) != 0 || parse_id(fields[2], &wanted->found_id) != NUMBER)
                return true;
        wanted->found = true;
        return false;
}

struct membership {
        const char *name;
        GArray *groups;
};

static void add_group(GArray *groups, uint32_t gid)
{
        for (guint i = 0; i < groups->len; i++) {
                if (g_array_index(groups, uint32_t, i) == gid)
                        return;
        }
        g_array_append_val(groups, gid);
}

static bool match_member(void *data, char **fields)
{
        struct membership *membership = data;
        uint32_t gid;
        if (strcmp(fields[0], membership->name) == 0 || parse_id(fields[2], &gid) != NUMBER)
                return true; // the group of the user's own name is no further one
        g_auto(GStrv) members = g_strsplit(fields[3], ",", -1);
        if (g_strv_contains((const char *const *)members, membership->name))
                add_group(membership->groups, gid);
        return true;
}

// NULL with no error where the file is not there.
static GString *read_table(const struct rootfs *rootfs, const char *path, GError **error)
{
        GError *failure = NULL;
        GString *text = rootfs == NULL ? NULL : rootfs_read(rootfs, path, MAX_FILE_BYTES, &failure);
        if (failure != NULL && error_is(failure, ERROR_NOT_FOUND))
                g_clear_error(&failure);
        if (failure != NULL)
                g_propagate_error(error, failure);
        return text;
}

static bool search(
        const struct rootfs *rootfs, const char *path, size_t n_fields, line_fn fn, void *data, GError **error)
{
        GError *failure = NULL;
        GString *text = read_table(rootfs, path, &failure);
        if (failure != NULL) {
                g_propagate_error(error, failure);
                return false;
        }
        if (text != NULL) {
                each_line(text->str, n_fields, fn, data);
                g_string_free(text, TRUE);
        }
        return true;
}

// ---- the parts

static bool need_rootfs(const struct rootfs *rootfs, const char *text, GError **error)
{
        return rootfs != NULL ||
               error_fail(error, ERROR_INVALID_ARGUMENT,
                       "user \"%s\": names cannot be looked up in this root file system, give numbers", text);
}

static bool find_user(const struct rootfs *rootfs, const char *text, struct wanted *user, GError **error)
{
        enum number form = parse_id(text, &user->id);
        if (form == OUT_OF_RANGE)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid USER value \"%s\": uid out of range", text);
        if (form == NOT_A_NUMBER) {
                user->name = text;
                if (!need_rootfs(rootfs, text, error))
                        return false;
        }
        if (!search(rootfs, "etc/passwd", 4, match_user, user, error))
                return false;
        if (!user->found && form == NOT_A_NUMBER)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "no user \"%s\" in the image's /etc/passwd", text);
        return true;
}

static bool find_group(const struct rootfs *rootfs, const char *text, uint32_t *ret_gid, GError **error)
{
        enum number form = parse_id(text, ret_gid);
        if (form == OUT_OF_RANGE)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid USER value \"%s\": gid out of range", text);
        if (form == NUMBER)
                return true;
        struct wanted group = {.name = text};
        if (!need_rootfs(rootfs, text, error) || !search(rootfs, "etc/group", 4, match_group, &group, error))
                return false;
        if (!group.found)
                return error_fail(error, ERROR_INVALID_ARGUMENT, "no group \"%s\" in the image's /etc/group", text);
        *ret_gid = group.found_id;
        return true;
}

bool user_resolve(const struct rootfs *rootfs, const char *text, struct user_ids *ret_ids, GError **error)
{
        bool given = text != NULL && *text != '\0';
        g_auto(GStrv) parts = g_strsplit(given ? text : "root", ":", -1);
        if (g_strv_length(parts) > 2 || *parts[0] == '\0' || (parts[1] != NULL && *parts[1] == '\0'))
                return error_fail(error, ERROR_INVALID_ARGUMENT, "invalid USER value %s", text);

        struct wanted user = {0};
        if (given && !find_user(rootfs, parts[0], &user, error))
                return false;
        g_autofree char *found_name = user.found_name;
        uint32_t uid = user.found ? user.found_id : user.id, gid = user.found ? user.found_gid : 0;
        const char *name = !given ? "root" : user.found ? found_name : user.name;
        if (parts[1] != NULL && !find_group(rootfs, parts[1], &gid, error))
                return false;

        GArray *groups = g_array_new(FALSE, FALSE, sizeof(uint32_t));
        add_group(groups, gid);
        struct membership membership = {.name = name, .groups = groups};
        if (name != NULL && !search(rootfs, "etc/group", 4, match_member, &membership, error)) {
                g_array_free(groups, TRUE);
                return false;
        }
        *ret_ids = (struct user_ids){.uid = uid, .gid = gid, .groups = groups};
        return true;
}

void user_ids_done(struct user_ids *ids)
{
        g_array_free(ids->groups, TRUE);
}
