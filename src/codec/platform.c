// SPDX-License-Identifier: Apache-2.0
//
// Variants that are the architecture's default are left out in normal form (amd64/v1, arm64/v8), but for arm, which is
// arm/v7 where nothing is said.
#include "codec/platform.h"

#include "base/error.h"

#include <string.h>
#include <sys/utsname.h>

enum { MAX_PART_BYTES = 64 };

static const struct {
        const char *other, *architecture, *variant;
} aliases[] = {
        {"i386", "386", ""},
        {"x86_64", "amd64", ""},
        {"x86-64", "amd64", ""},
        {"i486", "386", ""},
        {"i586", "386", ""},
        {"i686", "386", ""},
        {"aarch64", "arm64", ""},
        {"armhf", "arm", "v7"},
        {"armel", "arm", "v6"},
        {"armv7l", "arm", "v7"},
        {"armv6l", "arm", "v6"},
        {"armv8l", "arm", "v8"},
        {"loongarch64", "loong64", ""},
};

struct platform platform_normalize(struct platform platform)
{
        platform.os = g_ascii_strcasecmp(platform.os, "macos") == 0 ? "darwin" : platform.os;
        for (size_t i = 0; i < G_N_ELEMENTS(aliases); i++) {
                if (g_ascii_strcasecmp(platform.architecture, aliases[i].other) == 0) {
                        platform.architecture = aliases[i].architecture;
                        if (*aliases[i].variant != 0)
                                platform.variant = aliases[i].variant;
                }
        }
        if (strcmp(platform.architecture, "amd64") == 0 && strcmp(platform.variant, "v1") == 0)
                platform.variant = "";
        if (strcmp(platform.architecture, "arm64") == 0 &&
                (strcmp(platform.variant, "8") == 0 || strcmp(platform.variant, "v8") == 0))
                platform.variant = "";
        if (strcmp(platform.architecture, "arm") == 0) {
                if (*platform.variant == 0 || strcmp(platform.variant, "7") == 0)
                        platform.variant = "v7";
                else if (strcmp(platform.variant, "5") == 0 || strcmp(platform.variant, "6") == 0 ||
                         strcmp(platform.variant, "8") == 0)
                        platform.variant = g_intern_string(platform.variant[0] == '5'   ? "v5"
                                                           : platform.variant[0] == '6' ? "v6"
                                                                                        : "v8");
        }
        return platform;
}

struct platform platform_host(void)
{
        struct utsname name;
        uname(&name);
        return platform_normalize(
                (struct platform){.os = "linux", .architecture = g_intern_string(name.machine), .variant = ""});
}

static bool is_part(const char *text)
{
        if (*text == 0 || strlen(text) > MAX_PART_BYTES)
                return false;
        for (const char *p = text; *p != 0; p++) {
                if (!g_ascii_isalnum(*p) && strchr("_.-", *p) == NULL)
                        return false;
        }
        return true;
}

static bool is_os(const char *text)
{
        static const char *const systems[] = {"aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios",
                "js", "linux", "macos", "netbsd", "openbsd", "plan9", "solaris", "wasip1", "windows", NULL};
        return g_strv_contains(systems, text);
}

static bool is_architecture(const char *text)
{
        static const char *const architectures[] = {"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64",
                "mips64le", "mipsle", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc",
                "sparc64", "wasm", NULL};
        struct platform platform = {.os = "linux", .architecture = text, .variant = ""};
        return g_strv_contains(architectures, platform_normalize(platform).architecture);
}

bool platform_parse(const char *text, struct platform *ret_platform, GError **error)
{
        g_auto(GStrv) parts = g_strsplit(text, "/", 4);
        guint n_parts = g_strv_length(parts);
        struct platform platform = platform_host();
        bool good = n_parts >= 1 && n_parts <= 3;
        for (guint i = 0; i < n_parts; i++) {
                g_autofree char *lower = g_ascii_strdown(parts[i], -1);
                good = good && is_part(lower);
                if (good) {
                        g_free(parts[i]);
                        parts[i] = g_strdup(g_intern_string(lower));
                }
        }
        if (!good)
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "\"%s\": cannot parse platform specifier: invalid argument", text);
        if (n_parts == 1 && is_os(parts[0])) {
                platform.os = g_intern_string(parts[0]);
        } else if (n_parts == 1 && is_architecture(parts[0])) {
                platform.architecture = g_intern_string(parts[0]);
                platform.variant = "";
        } else if (n_parts == 1) {
                return error_fail(error, ERROR_INVALID_ARGUMENT,
                        "\"%s\": unknown operating system or architecture: invalid argument", text);
        } else {
                platform.os = g_intern_string(parts[0]);
                platform.architecture = g_intern_string(parts[1]);
                platform.variant = n_parts == 3 ? g_intern_string(parts[2]) : "";
        }
        *ret_platform = platform_normalize(platform);
        return true;
}

static int variant_number(const char *variant)
{
        return variant[0] == 'v' && g_ascii_isdigit(variant[1]) && variant[2] == 0 ? variant[1] - '0' : 0;
}

int platform_match(struct platform wanted, struct platform image)
{
        wanted = platform_normalize(wanted);
        image = platform_normalize(image);
        if (strcmp(wanted.os, image.os) != 0)
                return 0;
        bool same_architecture = strcmp(wanted.architecture, image.architecture) == 0;
        if (same_architecture && strcmp(wanted.variant, image.variant) == 0)
                return 100;
        // A 64-bit ARM runs all of 32-bit ARM, the newest best; arm and amd64 run their older variants.
        if (strcmp(wanted.architecture, "arm64") == 0 && strcmp(image.architecture, "arm") == 0)
                return variant_number(image.variant);
        int wanted_number = variant_number(wanted.variant), image_number = variant_number(image.variant);
        if (strcmp(wanted.architecture, "amd64") == 0 || strcmp(wanted.architecture, "arm64") == 0)
                image_number = MAX(image_number, 1);
        if (same_architecture && image_number != 0 && image_number < wanted_number)
                return 50 + image_number;
        return 0;
}

char *platform_format(struct platform platform)
{
        return *platform.variant == 0
                       ? g_strdup_printf("%s/%s", platform.os, platform.architecture)
                       : g_strdup_printf("%s/%s/%s", platform.os, platform.architecture, platform.variant);
}
