// SPDX-License-Identifier: Apache-2.0
//
// OCI platforms (image-spec image-index.md, `platform`): "linux/arm64/v8". The normal form and the rule of what runs on
// what are containerd's. All strings belong to whoever made the struct. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>

struct platform {
        const char *os, *architecture, *variant; // never NULL; variant may be ""
};

// The machine that this program runs on, in normal form; constant strings.
struct platform platform_host(void);

// "linux", "amd64", "linux/amd64", "linux/arm/v7": what is missing is the host's. INVALID_ARGUMENT. The strings are
// interned (g_intern_string) after a check of their form, at most 64 bytes.
bool platform_parse(const char *text, struct platform *ret_platform, GError **error);

// aarch64 → arm64, x86_64 → amd64, arm64/v8 → arm64, arm → arm/v7, amd64/v1 → amd64 and the like.
struct platform platform_normalize(struct platform platform);

// How well an image made for `image` runs on `wanted`: 0 not at all, else the more the better (the same variant before
// an older one, which the architecture still runs).
int platform_match(struct platform wanted, struct platform image);

// "linux/arm64/v8"; caller frees.
char *platform_format(struct platform platform);
