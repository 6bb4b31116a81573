// SPDX-License-Identifier: Apache-2.0
//
// Lines are kept in the order in which their names came. On a terminal all of them are drawn again at most ten times a
// second: the cursor goes up by as many lines as were drawn before. A line is cut at the terminal's width, for one that
// wraps would shift the count.
#include "cli/progress.h"

#include "cli/cli.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { REDRAW_US = 100000, BAR_WIDTH = 20, NAME_DIGITS = 12 };

struct line {
        char *name, *event;
        int64_t done, total;
        bool settled; // its end was printed
};

struct progress {
        bool quiet, terminal;
        GPtrArray *lines; // struct line
        unsigned drawn;
        int64_t drawn_at_us, began_us;
};

static void line_free(void *data)
{
        struct line *line = data;
        g_free(line->name);
        g_free(line->event);
        g_free(line);
}

struct progress *progress_new(bool quiet)
{
        struct progress *progress = g_new0(struct progress, 1);
        progress->quiet = quiet;
        progress->terminal = isatty(STDOUT_FILENO);
        progress->lines = g_ptr_array_new_with_free_func(line_free);
        progress->began_us = g_get_monotonic_time();
        return progress;
}

static bool is_end(const char *event)
{
        static const char *const ends[] = {"complete", "extracted", "already exists", "saved", "pushed content", NULL};
        return g_strv_contains(ends, event);
}

// "layer-sha256:0123…" is "layer 0123…".
static char *short_name(const char *name)
{
        const char *hex = strstr(name, "sha256:");
        if (hex == NULL)
                return g_strdup(name);
        int kind = (int)(hex - name);
        if (kind > 0 && name[kind - 1] == '-')
                kind--;
        return g_strdup_printf("%.*s%s%.*s", kind, name, kind > 0 ? " " : "", NAME_DIGITS, hex + strlen("sha256:"));
}

static struct line *find(struct progress *progress, const char *name)
{
        for (guint i = 0; i < progress->lines->len; i++) {
                struct line *line = progress->lines->pdata[i];
                if (strcmp(line->name, name) == 0)
                        return line;
        }
        struct line *line = g_new0(struct line, 1);
        line->name = g_strdup(name);
        g_ptr_array_add(progress->lines, line);
        return line;
}

static char *line_text(const struct line *line)
{
        g_autofree char *name = short_name(line->name);
        if (is_end(line->event) || line->total <= 0)
                return g_strdup_printf("%-24s  %s", name, line->event);
        g_autofree char *done = format_size(line->done), *total = format_size(line->total);
        int filled = (int)(CLAMP(line->done, 0, line->total) * BAR_WIDTH / line->total);
        char bar[BAR_WIDTH + 1];
        memset(bar, ' ', BAR_WIDTH);
        memset(bar, '=', (size_t)filled);
        bar[BAR_WIDTH] = '\0';
        return g_strdup_printf("%-24s  %-12s [%s] %s/%s", name, line->event, bar, done, total);
}

static void draw(struct progress *progress)
{
        struct winsize size = {0};
        int columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
        unsigned fitting = size.ws_row > 2 ? size.ws_row - 1u : 20;
        guint n = MIN(progress->lines->len, fitting), first = progress->lines->len - n;
        if (progress->drawn > 0)
                printf("\x1b[%uA", progress->drawn);
        for (guint i = first; i < progress->lines->len; i++) {
                g_autofree char *text = line_text(progress->lines->pdata[i]);
                printf("\r\x1b[K%.*s\n", columns, text);
        }
        fflush(stdout);
        progress->drawn = n;
        progress->drawn_at_us = g_get_monotonic_time();
}

void progress_update(void *data, const struct skiff_progress *update)
{
        struct progress *progress = data;
        // Lines about the whole transfer have no name; the result says as much.
        if (progress->quiet || *update->name == '\0')
                return;
        struct line *line = find(progress, update->name);
        g_free(line->event);
        line->event = g_strdup(update->event);
        line->done = update->done_bytes;
        line->total = update->total_bytes;
        if (progress->terminal) {
                if (g_get_monotonic_time() - progress->drawn_at_us >= REDRAW_US)
                        draw(progress);
        } else if (is_end(update->event) && !line->settled) {
                line->settled = true;
                g_autofree char *text = line_text(line);
                puts(text);
                fflush(stdout);
        }
}

void progress_free(struct progress *progress, bool ok)
{
        if (progress->terminal && !progress->quiet && progress->lines->len > 0)
                draw(progress);
        if (ok && !progress->quiet)
                printf("done in %.1f s\n", (double)(g_get_monotonic_time() - progress->began_us) / 1e6);
        g_ptr_array_free(progress->lines, TRUE);
        g_free(progress);
}
