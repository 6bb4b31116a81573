// SPDX-License-Identifier: Apache-2.0
//
// Which OCI runtime to call where the client names none, and how new a spec it takes. Threads: any; asking a runtime
// for its version blocks for the time that it takes to say so.
#pragma once

#include <glib.h>
#include <stdbool.h>

// The reason is for the log. Caller frees both.
char *oci_choose(char **ret_reason);

// Rewrites ociVersion in bundle/config.json to 1.0.2 where the runtime knows only older versions than the spec's. What
// a runtime knows is asked once per binary and kept in a file in cache_dir (NULL: asked anew).
bool oci_adapt_spec(const char *binary, const char *bundle, const char *cache_dir, GError **error);
