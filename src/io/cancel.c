// SPDX-License-Identifier: Apache-2.0
//
// Watchers are called outside of the lock, by the thread that triggers: a watcher may take any lock, and may drop the
// last reference but the trigger's own.
#include "io/cancel.h"

#include "base/clock.h"

#include <stdatomic.h>
#include <uv.h>

struct watcher {
        struct watcher *next;
        unsigned long id;
        cancel_fn fn;
        void *data;
};

struct cancel {
        atomic_int references;
        atomic_bool set;
        struct cancel *of; // where notes go instead; NULL: here
        uv_mutex_t mutex;
        struct watcher *watchers; // this and the rest under mutex
        unsigned long last_id;
        struct cancel_note *notes; // the oldest first
        GError *reason;            // constant once set
};

struct cancel *cancel_new(void)
{
        struct cancel *cancel = g_new0(struct cancel, 1);
        atomic_init(&cancel->references, 1);
        g_assert(uv_mutex_init(&cancel->mutex) == 0);
        return cancel;
}

struct cancel *cancel_new_part(struct cancel *of)
{
        struct cancel *part = cancel_new();
        part->of = of != NULL ? cancel_ref(of) : NULL;
        return part;
}

struct cancel *cancel_ref(struct cancel *cancel)
{
        atomic_fetch_add_explicit(&cancel->references, 1, memory_order_relaxed);
        return cancel;
}

void cancel_unref(struct cancel *cancel)
{
        if (cancel == NULL || atomic_fetch_sub_explicit(&cancel->references, 1, memory_order_acq_rel) != 1)
                return;
        for (struct watcher *watcher = cancel->watchers, *next; watcher != NULL; watcher = next) {
                next = watcher->next;
                g_free(watcher);
        }
        g_assert(cancel->notes == NULL);
        cancel_unref(cancel->of);
        g_clear_error(&cancel->reason);
        uv_mutex_destroy(&cancel->mutex);
        g_free(cancel);
}

void cancel_trigger(struct cancel *cancel, enum error_code code, const char *reason)
{
        AUTO(cancel) keep = cancel_ref(cancel);
        uv_mutex_lock(&cancel->mutex);
        struct watcher *watcher = NULL;
        if (cancel->reason == NULL) {
                cancel->reason = g_error_new_literal(SKIFF_ERROR, (int)code, reason);
                atomic_store_explicit(&cancel->set, true, memory_order_release);
                watcher = g_steal_pointer(&cancel->watchers);
        }
        uv_mutex_unlock(&cancel->mutex);
        while (watcher != NULL) {
                struct watcher *next = watcher->next;
                watcher->fn(watcher->data);
                g_free(watcher);
                watcher = next;
        }
}

bool cancel_is_set(const struct cancel *cancel)
{
        return cancel != NULL && atomic_load_explicit(&cancel->set, memory_order_acquire);
}

bool cancel_check(const struct cancel *cancel, GError **error)
{
        if (!cancel_is_set(cancel))
                return true;
        if (error != NULL)
                *error = g_error_copy(cancel->reason);
        return false;
}

unsigned long cancel_watch(struct cancel *cancel, cancel_fn fn, void *data)
{
        uv_mutex_lock(&cancel->mutex);
        unsigned long id = ++cancel->last_id;
        bool set = cancel->reason != NULL;
        if (!set) {
                struct watcher *watcher = g_new(struct watcher, 1);
                *watcher = (struct watcher){.next = cancel->watchers, .id = id, .fn = fn, .data = data};
                cancel->watchers = watcher;
        }
        uv_mutex_unlock(&cancel->mutex);
        if (set)
                fn(data);
        return id;
}

bool cancel_unwatch(struct cancel *cancel, unsigned long id)
{
        struct watcher *found = NULL;
        uv_mutex_lock(&cancel->mutex);
        for (struct watcher **link = &cancel->watchers; *link != NULL; link = &(*link)->next) {
                if ((*link)->id == id) {
                        found = *link;
                        *link = found->next;
                        break;
                }
        }
        uv_mutex_unlock(&cancel->mutex);
        g_free(found);
        return found != NULL;
}

// ---- notes

// Under the token's lock.
static char *note_remove(struct cancel_note *note)
{
        *note->link = note->next;
        if (note->next != NULL)
                note->next->link = note->link;
        return g_steal_pointer(&note->text);
}

static void note_append(struct cancel *cancel, struct cancel_note *note)
{
        note->link = &cancel->notes;
        while (*note->link != NULL)
                note->link = &(*note->link)->next;
        note->next = NULL;
        *note->link = note;
}

void cancel_note_set(struct cancel_note *note, struct cancel *cancel, const char *format, ...)
{
        cancel_note_clear(note);
        if (cancel == NULL)
                return;
        while (cancel->of != NULL)
                cancel = cancel->of;
        va_list arguments;
        va_start(arguments, format);
        note->text = g_strdup_vprintf(format, arguments);
        va_end(arguments);
        note->since_ns = clock_monotonic_ns();
        note->cancel = cancel;
        uv_mutex_lock(&cancel->mutex);
        note_append(cancel, note);
        uv_mutex_unlock(&cancel->mutex);
}

void cancel_note_clear(struct cancel_note *note)
{
        struct cancel *cancel = g_steal_pointer(&note->cancel);
        if (cancel == NULL)
                return;
        uv_mutex_lock(&cancel->mutex);
        char *text = note_remove(note);
        uv_mutex_unlock(&cancel->mutex);
        g_free(text);
}

char *cancel_waits_for(struct cancel *cancel, int64_t *ret_since_ns)
{
        char *text = NULL;
        uv_mutex_lock(&cancel->mutex);
        const struct cancel_note *oldest = cancel->notes;
        unsigned n_others = 0;
        for (const struct cancel_note *note = oldest; note != NULL && note->next != NULL; note = note->next)
                n_others++;
        if (oldest != NULL) {
                text = n_others == 0 ? g_strdup(oldest->text)
                                     : g_strdup_printf("%s, and %u more", oldest->text, n_others);
                *ret_since_ns = oldest->since_ns;
        }
        uv_mutex_unlock(&cancel->mutex);
        return text;
}
