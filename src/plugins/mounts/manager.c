// SPDX-License-Identifier: Apache-2.0
//
// An activation is a directory TARGETS/N with a mount point I for each mount, and a record. The record is written
// first, incomplete, so that the number is taken, and completed once everything is mounted; what is left of an
// interrupted one goes away with the next Activate of its name, or with cleanup. Directories are taken away by rmdir
// alone: whatever is still mounted in them is not deleted.
#include "plugins/mounts/manager.h"

#include "base/clock.h"
#include "base/log.h"
#include "core/activation.h"
#include "core/convert.h"
#include "core/metadata.h"
#include "plugins/mounts/plan.h"
#include "sys/mounts.h"
#include "sys/numbered.h"

#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

struct manager {
        struct mount_manager base;
        struct metadata *metadata;
        char *targets, *root;
        uv_mutex_t mutex;
        uv_cond_t changed;
        GHashTable *busy; // "NAMESPACE/NAME" that is being activated or deactivated; under mutex
};

// ---- one at a time for each name

static char *enter(struct manager *manager, const char *namespace_, const char *name)
{
        char *key = g_strconcat(namespace_, "/", name, NULL);
        uv_mutex_lock(&manager->mutex);
        while (g_hash_table_contains(manager->busy, key))
                uv_cond_wait(&manager->changed, &manager->mutex);
        g_hash_table_add(manager->busy, key);
        uv_mutex_unlock(&manager->mutex);
        return key;
}

static void leave(struct manager *manager, char *key)
{
        uv_mutex_lock(&manager->mutex);
        g_hash_table_remove(manager->busy, key);
        uv_cond_broadcast(&manager->changed);
        uv_mutex_unlock(&manager->mutex);
        g_free(key);
}

// ---- directories

static char *directory_of(const struct manager *manager, int64_t number)
{
        return g_strdup_printf("%s/%" G_GINT64_FORMAT, manager->targets, number);
}

// Unmounts and removes what is below directory, and itself.
static bool take_down(const char *directory, GError **error)
{
        if (!mount_unmount_recursive(directory, 0, error))
                return false;
        g_autoptr(GDir) dir = g_dir_open(directory, 0, NULL);
        for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
                g_autofree char *path = g_build_filename(directory, name, NULL);
                if (rmdir(path) != 0 && errno != ENOENT)
                        return error_fail_errno(error, errno, "remove %s", path);
        }
        return rmdir(directory) == 0 || errno == ENOENT || error_fail_errno(error, errno, "remove %s", directory);
}

static void take_down_or_log(const char *directory)
{
        g_autoptr(GError) error = NULL;
        if (!take_down(directory, &error))
                log_warn("failed to unmount", "path", directory, "error", error->message);
}

// ---- activate

struct activate {
        struct manager *manager;
        const struct scope *scope;
        const struct mount_activation *request;
        struct arena *arena;
        struct activation record;
        int64_t stale_number; // of an interrupted activation of that name; 0: none
};

static bool begin_record(struct tx *tx, void *data, GError **error)
{
        struct activate *activate = data;
        const struct mount_activation *request = activate->request;
        const struct activation_ops *activations = activate->manager->metadata->activations;
        const char *namespace_ = activate->scope->namespace_;
        struct activation old;
        g_autoptr(GError) failure = NULL;
        if (activations->get(tx, namespace_, request->name, activate->arena, &old, &failure)) {
                if (old.complete)
                        return error_fail(error, ERROR_ALREADY_EXISTS, "mount \"%s\": already exists", request->name);
                activate->stale_number = old.number;
        } else if (!error_is(failure, ERROR_NOT_FOUND)) {
                g_propagate_error(error, g_steal_pointer(&failure));
                return false;
        }
        int64_t now_ns = clock_now_ns();
        activate->record = (struct activation){
                .name = request->name,
                .labels = labels_copy_filled(&request->labels, activate->arena),
                .lease = activate->scope->lease != NULL ? activate->scope->lease : "",
                .created_ns = now_ns,
                .updated_ns = now_ns,
        };
        return activations->next_number(tx, &activate->record.number, error) &&
               activations->put(tx, namespace_, &activate->record, error);
}

static bool complete_record(struct tx *tx, void *data, GError **error)
{
        struct activate *activate = data;
        activate->record.complete = true;
        activate->record.updated_ns = clock_now_ns();
        return activate->manager->metadata->activations->put(tx, activate->scope->namespace_, &activate->record, error);
}

static bool drop_record(struct tx *tx, void *data, GError **error)
{
        struct activate *activate = data;
        return activate->manager->metadata->activations->remove(
                tx, activate->scope->namespace_, activate->record.name, error);
}

static Types__ActiveMount *describe_active(const struct mount *mount, char *mount_point, struct arena *arena)
{
        Types__ActiveMount *active = arena_new0(arena, Types__ActiveMount);
        types__active_mount__init(active);
        g_autoptr(GPtrArray) one = g_ptr_array_new();
        g_ptr_array_add(one, (gpointer)mount);
        size_t n;
        active->mount = mounts_to_proto(one, arena, &n)[0];
        active->mounted_at = timestamp_to_proto(clock_now_ns(), arena);
        active->mount_point = mount_point;
        return active;
}

// The texts of info point into the plan's mounts.
static bool mount_plan(struct activate *activate, struct plan *plan, Types__ActivationInfo *info, GError **error)
{
        struct manager *manager = activate->manager;
        g_autofree char *directory = directory_of(manager, activate->record.number);
        if (mkdir(directory, 0700) != 0)
                return error_fail_errno(error, errno, "create %s", directory);
        info->active = arena_array(activate->arena, Types__ActiveMount *, plan->n_made);
        const char *const roots[] = {manager->targets, manager->root, NULL};
        struct transform_context context = {.roots = roots, .active = (const Types__ActiveMount *const *)info->active};
        for (guint i = 0; i < plan->n_made; i++) {
                const struct mount *mount = plan->mounts->pdata[i];
                char *point = arena_printf(activate->arena, "%s/%u", directory, i + 1);
                if (!plan_transform(plan, i, &context, error))
                        return false;
                if (mkdir(point, 0700) != 0)
                        return error_fail_errno(error, errno, "create %s", point);
                if (!mount_apply(mount, point, error)) {
                        g_prefix_error(error, "mount failed: ");
                        return false;
                }
                info->active[i] = describe_active(mount, point, activate->arena);
                context.n_active = info->n_active = i + 1;
        }
        return plan->n_made >= plan->mounts->len || plan_transform(plan, plan->n_made, &context, error);
}

static void fill_system(struct activate *activate, struct plan *plan, Types__ActivationInfo *info)
{
        if (activate->request->temporary && info->n_active > 0)
                g_ptr_array_add(plan->mounts, mount_new("bind", info->active[info->n_active - 1]->mount_point, NULL,
                                                      (const char *const[]){"rbind", NULL}));
        g_autoptr(GPtrArray) rest = g_ptr_array_new();
        for (guint i = plan->n_made; i < plan->mounts->len; i++)
                g_ptr_array_add(rest, plan->mounts->pdata[i]);
        info->system = mounts_to_proto(rest, activate->arena, &info->n_system);
        info->name = (char *)activate->request->name;
        info->labels = labels_to_proto(&activate->record.labels, activate->arena,
                &types__activation_info__labels_entry__descriptor, &info->n_labels);
}

// A copy that lives in the arena alone, and its bytes for the record.
static const Types__ActivationInfo *settle(struct activate *activate, const Types__ActivationInfo *info)
{
        size_t n = types__activation_info__get_packed_size(info);
        uint8_t *bytes = arena_alloc(activate->arena, n);
        types__activation_info__pack(info, bytes);
        activate->record.info = bytes;
        activate->record.n_info = n;
        return types__activation_info__unpack(arena_allocator(activate->arena), n, bytes);
}

static const Types__ActivationInfo *activate_plan(struct activate *activate, struct plan *plan, GError **error)
{
        struct metadata *metadata = activate->manager->metadata;
        if (!metadata_write(metadata, TX_RELAXED, begin_record, activate, error))
                return NULL;
        if (activate->stale_number != 0) {
                g_autofree char *stale = directory_of(activate->manager, activate->stale_number);
                take_down_or_log(stale);
        }
        Types__ActivationInfo info = TYPES__ACTIVATION_INFO__INIT;
        if (mount_plan(activate, plan, &info, error)) {
                fill_system(activate, plan, &info);
                const Types__ActivationInfo *settled = settle(activate, &info);
                if (metadata_write(metadata, TX_RELAXED, complete_record, activate, error))
                        return settled;
        }
        g_autofree char *directory = directory_of(activate->manager, activate->record.number);
        take_down_or_log(directory);
        g_autoptr(GError) failure = NULL;
        if (!metadata_write(metadata, TX_RELAXED, drop_record, activate, &failure))
                log_warn("failed to drop the record of a mount", "name", activate->record.name, "error",
                        failure->message);
        return NULL;
}

static const Types__ActivationInfo *manager_activate(struct mount_manager *base, const struct scope *scope,
        const struct mount_activation *request, struct arena *arena, GError **error)
{
        struct manager *manager = (struct manager *)base;
        struct plan plan;
        if (request->name[0] == '\0') {
                error_fail(error, ERROR_INVALID_ARGUMENT, "mount name must not be empty: invalid argument");
                return NULL;
        }
        if (!labels_validate(&request->labels, "labels", error) || !plan_init(&plan, request, error))
                return NULL;
        struct activate activate = {.manager = manager, .scope = scope, .request = request, .arena = arena};
        char *key = enter(manager, scope->namespace_, request->name);
        const Types__ActivationInfo *info = activate_plan(&activate, &plan, error);
        leave(manager, key);
        plan_done(&plan);
        return info;
}

// ---- deactivate

struct by_name {
        struct manager *manager;
        const char *namespace_, *name;
        struct arena *arena;
        struct activation record;
};

static bool remove_record(struct tx *tx, void *data, GError **error)
{
        struct by_name *lookup = data;
        const struct activation_ops *activations = lookup->manager->metadata->activations;
        lookup->manager->metadata->ops->mark_removed(tx);
        return activations->get(tx, lookup->namespace_, lookup->name, lookup->arena, &lookup->record, error) &&
               activations->remove(tx, lookup->namespace_, lookup->name, error);
}

static bool manager_deactivate(struct mount_manager *base, const char *namespace_, const char *name, GError **error)
{
        struct manager *manager = (struct manager *)base;
        AUTO(arena) arena = arena_new();
        struct by_name lookup = {.manager = manager, .namespace_ = namespace_, .name = name, .arena = arena};
        char *key = enter(manager, namespace_, name);
        bool ok = metadata_write(manager->metadata, TX_RELAXED, remove_record, &lookup, error);
        if (ok) {
                g_autofree char *directory = directory_of(manager, lookup.record.number);
                ok = take_down(directory, error);
        }
        leave(manager, key);
        return ok;
}

// ---- info, list

static bool read_record(struct tx *tx, void *data, GError **error)
{
        struct by_name *lookup = data;
        return lookup->manager->metadata->activations->get(
                tx, lookup->namespace_, lookup->name, lookup->arena, &lookup->record, error);
}

static const Types__ActivationInfo *unpack(const struct activation *record, struct arena *arena)
{
        Types__ActivationInfo *info =
                record->complete ? types__activation_info__unpack(arena_allocator(arena), record->n_info, record->info)
                                 : NULL;
        if (info == NULL) {
                info = arena_new0(arena, Types__ActivationInfo);
                types__activation_info__init(info);
                info->name = arena_strdup(arena, record->name);
        }
        return info;
}

static const Types__ActivationInfo *manager_info(
        struct mount_manager *base, const char *namespace_, const char *name, struct arena *arena, GError **error)
{
        struct manager *manager = (struct manager *)base;
        struct by_name lookup = {.manager = manager, .namespace_ = namespace_, .name = name, .arena = arena};
        if (!metadata_read(manager->metadata, read_record, &lookup, error))
                return NULL;
        return unpack(&lookup.record, arena);
}

struct list {
        struct manager *manager;
        const char *namespace_;
        struct arena *arena;
        mount_info_fn fn;
        void *data;
};

static bool visit(void *data, const char *namespace_, const struct activation *record)
{
        struct list *list = data;
        return list->fn(list->data, unpack(record, list->arena));
}

static bool walk_records(struct tx *tx, void *data, GError **error)
{
        struct list *list = data;
        return list->manager->metadata->activations->walk(tx, list->namespace_, list->arena, visit, list, error);
}

static bool manager_list(struct mount_manager *base, const char *namespace_, struct arena *arena, mount_info_fn fn,
        void *data, GError **error)
{
        struct list list = {(struct manager *)base, namespace_, arena, fn, data};
        return metadata_read(list.manager->metadata, walk_records, &list, error);
}

// ---- cleanup

struct sweep {
        struct manager *manager;
        GHashTable *directories; // number → path
        GPtrArray *lost;         // namespace, name, …: records of mounts that are not there
        bool starting;           // nobody is activating anything
};

static void note_directory(void *data, int64_t number, const char *path)
{
        struct sweep *sweep = data;
        if (number > 0)
                g_hash_table_insert(sweep->directories, g_memdup2(&number, sizeof number), g_strdup(path));
}

static bool note_record(void *data, const char *namespace_, const struct activation *record)
{
        struct sweep *sweep = data;
        bool interrupted = sweep->starting && !record->complete;
        if (interrupted || !g_hash_table_remove(sweep->directories, &record->number)) {
                g_ptr_array_add(sweep->lost, g_strdup(namespace_));
                g_ptr_array_add(sweep->lost, g_strdup(record->name));
        }
        return true;
}

static bool compare_records(struct tx *tx, void *data, GError **error)
{
        struct sweep *sweep = data;
        return sweep->manager->metadata->activations->walk(tx, NULL, NULL, note_record, sweep, error);
}

static bool drop_lost(struct tx *tx, void *data, GError **error)
{
        struct sweep *sweep = data;
        for (guint i = 0; i + 1 < sweep->lost->len; i += 2)
                if (!sweep->manager->metadata->activations->remove(
                            tx, sweep->lost->pdata[i], sweep->lost->pdata[i + 1], error))
                        return false;
        return true;
}

static void sweep_init(struct sweep *sweep, struct manager *manager)
{
        *sweep = (struct sweep){
                .manager = manager,
                .directories = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free),
                .lost = g_ptr_array_new_with_free_func(g_free),
        };
}

static void sweep_done(struct sweep *sweep)
{
        g_hash_table_unref(sweep->directories);
        g_ptr_array_free(sweep->lost, true);
}

// Directories first, records second: a directory is made after its record.
static bool sweep_find(struct sweep *sweep, GError **error)
{
        return numbered_list(sweep->manager->targets, note_directory, sweep, error) &&
               metadata_read(sweep->manager->metadata, compare_records, sweep, error);
}

static void sweep_take_down(struct sweep *sweep)
{
        GHashTableIter iter;
        gpointer path;
        g_hash_table_iter_init(&iter, sweep->directories);
        while (g_hash_table_iter_next(&iter, NULL, &path))
                take_down_or_log(path);
}

static bool manager_cleanup(struct mount_manager *base, GError **error)
{
        struct sweep sweep;
        sweep_init(&sweep, (struct manager *)base);
        bool ok = sweep_find(&sweep, error);
        if (ok)
                sweep_take_down(&sweep);
        sweep_done(&sweep);
        return ok;
}

// Records without a directory are of an earlier boot, incomplete ones of a daemon that died over them.
static bool recover(struct manager *manager, GError **error)
{
        struct sweep sweep;
        sweep_init(&sweep, manager);
        sweep.starting = true;
        bool ok = sweep_find(&sweep, error) &&
                  (sweep.lost->len == 0 || metadata_write(manager->metadata, TX_RELAXED, drop_lost, &sweep, error));
        if (ok)
                sweep_take_down(&sweep);
        sweep_done(&sweep);
        return ok;
}

static const struct mount_manager_ops ops = {
        .activate = manager_activate,
        .deactivate = manager_deactivate,
        .info = manager_info,
        .list = manager_list,
        .cleanup = manager_cleanup,
};

struct mount_manager *mount_manager_new(
        struct metadata *metadata, const char *targets, const char *root, GError **error)
{
        struct manager *manager = g_new0(struct manager, 1);
        manager->base.ops = &ops;
        manager->metadata = metadata;
        manager->targets = g_canonicalize_filename(targets, NULL);
        manager->root = g_canonicalize_filename(root, NULL);
        manager->busy = g_hash_table_new(g_str_hash, g_str_equal);
        g_assert(uv_mutex_init(&manager->mutex) == 0);
        g_assert(uv_cond_init(&manager->changed) == 0);
        bool ok = g_mkdir_with_parents(manager->targets, 0700) == 0 ||
                  error_fail_errno(error, errno, "create %s", manager->targets);
        if (!ok || !recover(manager, error)) {
                mount_manager_free(&manager->base);
                return NULL;
        }
        return &manager->base;
}

void mount_manager_free(struct mount_manager *base)
{
        struct manager *manager = (struct manager *)base;
        if (manager == NULL)
                return;
        uv_cond_destroy(&manager->changed);
        uv_mutex_destroy(&manager->mutex);
        g_hash_table_unref(manager->busy);
        g_free(manager->targets);
        g_free(manager->root);
        g_free(manager);
}
