// SPDX-License-Identifier: Apache-2.0
//
// A store in a directory of its own, for the store's tests.
#pragma once

#include "core/image.h"
#include "store/store.h"

struct store_fixture {
        char *directory, *path;
        struct metadata *metadata;
        struct arena *arena;
};

void store_set_up(struct store_fixture *fixture, const void *data);
void store_tear_down(struct store_fixture *fixture, const void *data);

// What a test's transactions are given.
struct store_step {
        struct metadata *metadata;
        struct arena *arena;
        const char *name;
        struct image image;
        size_t count;
        bool fail_after;
};

struct image store_image(const char *name);
