// SPDX-License-Identifier: Apache-2.0
#include "base/error.h"
#include "base/fd.h"
#include "sys/records.h"

#include <string.h>
#include <sys/socket.h>

static void make_pair(struct records **ret_a, struct records **ret_b, size_t limit)
{
        int fds[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
        *ret_a = records_new(fds[0], limit);
        *ret_b = records_new(fds[1], limit);
}

static enum records_result receive(struct records *records, const uint8_t **bytes, size_t *n, int *fd)
{
        return records_receive(records, bytes, n, fd, NULL);
}

static void each_record_keeps_its_bytes_and_its_descriptor(void)
{
        AUTO(records) a = NULL;
        AUTO(records) b = NULL;
        make_pair(&a, &b, 1000);
        int pipe_fds[2];
        g_assert_cmpint(pipe(pipe_fds), ==, 0);
        records_send(a, "one", 3, -1);
        records_send(a, "", 0, pipe_fds[1]);
        records_send(a, "three", 5, -1);
        g_assert_true(records_flush(a, NULL));
        g_assert_false(records_has_unsent(a));

        const uint8_t *bytes;
        size_t n;
        int fd;
        g_assert_cmpint(receive(b, &bytes, &n, &fd), ==, RECORDS_GOT);
        g_assert_cmpmem(bytes, n, "one", 3);
        g_assert_cmpint(fd, ==, -1);
        g_assert_cmpint(receive(b, &bytes, &n, &fd), ==, RECORDS_GOT);
        g_assert_cmpint(n, ==, 0);
        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(write(fd, "x", 1), ==, 1);
        close(fd);
        g_assert_cmpint(receive(b, &bytes, &n, &fd), ==, RECORDS_GOT);
        g_assert_cmpmem(bytes, n, "three", 5);
        g_assert_cmpint(fd, ==, -1);
        g_assert_cmpint(receive(b, &bytes, &n, &fd), ==, RECORDS_AGAIN);

        char byte;
        g_assert_cmpint(read(pipe_fds[0], &byte, 1), ==, 1);
        g_assert_cmpint(read(pipe_fds[0], &byte, 1), ==, 0); // no copy was left behind
        close(pipe_fds[0]);
        records_free(g_steal_pointer(&a));
        g_assert_cmpint(receive(b, &bytes, &n, &fd), ==, RECORDS_END);
}

static void long_records_arrive_in_pieces(void)
{
        AUTO(records) a = NULL;
        AUTO(records) b = NULL;
        size_t n_sent = 3000000;
        make_pair(&a, &b, n_sent);
        g_autofree char *sent = g_malloc(n_sent);
        memset(sent, 'q', n_sent);
        records_send(a, sent, n_sent, -1);
        const uint8_t *bytes;
        size_t n;
        int fd;
        enum records_result result;
        do {
                g_assert_true(records_flush(a, NULL));
                result = receive(b, &bytes, &n, &fd);
        } while (result == RECORDS_AGAIN);
        g_assert_cmpint(result, ==, RECORDS_GOT);
        g_assert_cmpmem(bytes, n, sent, n_sent);
}

static void too_long_a_record_fails_before_it_is_read(void)
{
        AUTO(records) a = NULL;
        AUTO(records) b = NULL;
        make_pair(&a, &b, 10);
        records_send(a, "12345678901", 11, -1);
        records_flush(a, NULL);
        const uint8_t *bytes;
        size_t n;
        int fd;
        g_autoptr(GError) error = NULL;
        g_assert_cmpint(records_receive(b, &bytes, &n, &fd, &error), ==, RECORDS_FAILED);
        g_assert_true(error_is(error, ERROR_RESOURCE_EXHAUSTED));
}

static void an_end_within_a_record_is_an_error(void)
{
        int fds[2];
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
        AUTO(records) b = records_new(fds[1], 100);
        g_assert_cmpint(write(fds[0], "\5\0\0\0ab", 6), ==, 6);
        close(fds[0]);
        const uint8_t *bytes;
        size_t n;
        int fd;
        g_autoptr(GError) error = NULL;
        g_assert_cmpint(records_receive(b, &bytes, &n, &fd, &error), ==, RECORDS_FAILED);
        g_assert_true(error_is(error, ERROR_UNAVAILABLE));
}

static void what_came_counts_though_the_other_end_left_ours_unread(void)
{
        AUTO(records) a = NULL;
        AUTO(records) b = NULL;
        make_pair(&a, &b, 100);
        records_send(b, "unread", 6, -1);
        g_assert_true(records_flush(b, NULL));
        records_send(a, "last", 4, -1);
        g_assert_true(records_flush(a, NULL));
        records_free(g_steal_pointer(&a)); // resets the connection
        const uint8_t *bytes;
        size_t n;
        int fd;
        g_assert_cmpint(receive(b, &bytes, &n, &fd), ==, RECORDS_GOT);
        g_assert_cmpmem(bytes, n, "last", 4);
        g_assert_cmpint(receive(b, &bytes, &n, &fd), ==, RECORDS_END);
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/records/each_record_keeps_its_bytes_and_its_descriptor",
                each_record_keeps_its_bytes_and_its_descriptor);
        g_test_add_func("/records/long_records_arrive_in_pieces", long_records_arrive_in_pieces);
        g_test_add_func(
                "/records/too_long_a_record_fails_before_it_is_read", too_long_a_record_fails_before_it_is_read);
        g_test_add_func("/records/an_end_within_a_record_is_an_error", an_end_within_a_record_is_an_error);
        g_test_add_func("/records/what_came_counts_though_the_other_end_left_ours_unread",
                what_came_counts_though_the_other_end_left_ours_unread);
        return g_test_run();
}
