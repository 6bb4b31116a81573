// SPDX-License-Identifier: Apache-2.0
//
// Records over a stream socket: each preceded by its length (32 bits, little endian), and with at most one descriptor
// beside it. Never blocks; knows of no event loop. The control sockets of the workers use it on both ends.
// Threads: one at a time.
#pragma once

#include "base/auto.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct records;

// Takes a connected stream socket. A record longer than max_record_bytes ends the connection.
struct records *records_new(int fd, size_t max_record_bytes);
void records_free(struct records *records);
DEFINE_AUTO(records, records_free)
int records_fd(const struct records *records);

// Queues a record. pass_fd (-1: none) is taken and closed once it was sent.
void records_send(struct records *records, const void *bytes, size_t n_bytes, int pass_fd);
// Writes what the socket takes. UNAVAILABLE: the other end is gone.
bool records_flush(struct records *records, GError **error);
bool records_has_unsent(const struct records *records);

enum records_result {
        RECORDS_AGAIN, // nothing complete: come back when the socket is readable
        RECORDS_GOT,
        RECORDS_END, // the other end closed, between two records
        RECORDS_FAILED,
};
// ret_bytes is valid until the next call; ret_fd is the caller's, -1 if none came. RESOURCE_EXHAUSTED: too long;
// UNAVAILABLE: the connection broke within a record.
enum records_result records_receive(
        struct records *records, const uint8_t **ret_bytes, size_t *ret_n_bytes, int *ret_fd, GError **error);
