// SPDX-License-Identifier: Apache-2.0
//
// Documents that the daemon writes itself, byte for byte as containerd writes them: their digests are compared.
// Threads: any.
#pragma once

#include "plugins/transfer/descriptors.h"

#include <jansson.h>

// A descriptor, with annotations and platform where it has them.
json_t *oci_json_descriptor(const struct node *node);
// {"schemaVersion":2,…}; takes nothing. media_type NULL: left out.
json_t *oci_json_index(const char *media_type, const struct nodes *manifests);
json_t *oci_json_docker_manifest(const struct node *config, const struct nodes *layers);
// Compact, in the order of insertion; takes root. Caller frees.
char *oci_json_print(json_t *root, size_t *ret_n);
