// SPDX-License-Identifier: Apache-2.0
//
// A google.protobuf.Any as the store keeps it: bytes with a type, not looked into (runtime options, the OCI spec,
// clients' extensions). Threads: any.
#pragma once

#include <stddef.h>

struct any {
        const char *type_url; // NULL: there is none
        const void *value;
        size_t n_value;
};

struct extension {
        const char *name;
        struct any value;
};

struct extensions {
        struct extension *items;
        size_t n;
};
