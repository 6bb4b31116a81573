// SPDX-License-Identifier: Apache-2.0
//
// What every content store must do (core/content.h), and the steps that tests of it are made of, which fail the test if
// they do not succeed.
#pragma once

#include "core/content.h"

struct content_implementer {
        const char *name;
        // root: where bytes may be kept; it is not there at first. metadata: a real one, in the same directory.
        struct content_store *(*open)(const char *root, struct metadata *metadata, GError **error);
        void (*close)(struct content_store *store);
};

struct content_fixture {
        const struct content_implementer *implementer;
        char *directory;
        struct metadata *metadata;
        struct content_store *content;
        struct arena *arena;
};

extern const struct scope content_suite_one, content_suite_two;

void content_suite_set_up(struct content_fixture *fixture, const void *data);
void content_suite_tear_down(struct content_fixture *fixture, const void *data);
void content_suite_open(struct content_fixture *fixture);
void content_suite_close(struct content_fixture *fixture);

struct content_writer *content_suite_open_writer(struct content_fixture *fixture, const struct scope *scope,
        const char *ref, int64_t total, const char *expected);
void content_suite_append(struct content_writer *writer, const char *text);
void content_suite_add(struct content_fixture *fixture, const struct scope *scope, const char *ref, const char *text);
char *content_suite_digest_of(const char *text);
void content_suite_assert_content(struct content_fixture *fixture, const struct scope *scope, const char *text);
bool content_suite_has(struct content_fixture *fixture, const struct scope *scope, const char *digest);

#define CONTENT_SUITE_ADD(function)                                                                                    \
        do {                                                                                                           \
                g_autofree char *path = g_strdup_printf("/content/%s/%s", implementer->name, #function);               \
                g_test_add(path, struct content_fixture, implementer, content_suite_set_up, function,                  \
                        content_suite_tear_down);                                                                      \
        } while (0)
// All tests of the suite.
void content_suite_add_tests(const struct content_implementer *implementer);
