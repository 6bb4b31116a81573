// SPDX-License-Identifier: Apache-2.0
#include "core/stream.h"

#include "io/lanes.h"
#include "io/waiter.h"

#include "google/protobuf/any.pb-c.h"

#include <stdatomic.h>
#include <string.h>

struct carrier {
        atomic_int n_sent, n_paused, n_resumed, n_finished, n_released;
};

static bool carrier_send(void *data, const char *type_url, const void *value, size_t n_value)
{
        struct carrier *carrier = data;
        g_assert_cmpstr(type_url, ==, "google.protobuf.Any");
        carrier->n_sent++;
        return true;
}

static void carrier_finish(void *data)
{
        ((struct carrier *)data)->n_finished++;
}

static void carrier_pause(void *data)
{
        ((struct carrier *)data)->n_paused++;
}

static void carrier_resume(void *data)
{
        ((struct carrier *)data)->n_resumed++;
}

static void carrier_release(void *data)
{
        ((struct carrier *)data)->n_released++;
}

static const struct stream_carrier_ops carrier_ops = {
        carrier_send, carrier_finish, carrier_pause, carrier_resume, carrier_release};

struct reader {
        GString *got;
        struct waiter *ended, *freed;
};

static void on_message(void *data, const char *type_url, const void *value, size_t n_value)
{
        struct reader *reader = data;
        g_string_append_len(reader->got, value, (gssize)n_value);
}

static void on_end(void *data)
{
        waiter_signal(((struct reader *)data)->ended);
}

static void on_free(void *data)
{
        waiter_signal(((struct reader *)data)->freed);
}

static const struct stream_reader reader_ops = {.on_message = on_message, .on_end = on_end, .on_free = on_free};

static void what_came_before_the_reader_is_not_lost(void)
{
        struct lanes *lanes = lanes_new(&(struct lanes_options){0});
        struct carrier carrier = {0};
        struct stream *stream = stream_new("s", lanes, &carrier_ops, &carrier);
        struct reader reader = {g_string_new(NULL), waiter_new(), waiter_new()};
        stream_receive(stream, "a", "one,", 4);
        stream_attach(stream, &reader_ops, &reader);
        stream_receive(stream, "a", "two,", 4);
        stream_ended(stream);
        g_assert_true(waiter_wait(reader.ended, 10000));
        g_assert_cmpstr(reader.got->str, ==, "one,two,");

        Google__Protobuf__Any any = GOOGLE__PROTOBUF__ANY__INIT;
        g_assert_true(stream_send(stream, &any.base));
        stream_close(stream);
        stream_close(stream);
        g_assert_true(waiter_wait(reader.freed, 10000));
        stream_unref(stream);
        lanes_free(lanes);
        g_assert_cmpint(carrier.n_sent, ==, 1);
        g_assert_cmpint(carrier.n_finished, ==, 1);
        g_assert_cmpint(carrier.n_released, ==, 1);
        g_string_free(reader.got, TRUE);
        waiter_free(reader.ended);
        waiter_free(reader.freed);
}

static void a_stream_that_nobody_reads_pauses_its_client(void)
{
        struct lanes *lanes = lanes_new(&(struct lanes_options){0});
        struct carrier carrier = {0};
        struct stream *stream = stream_new("s", lanes, &carrier_ops, &carrier);
        g_autofree char *bytes = g_malloc0(100000);
        for (int i = 0; i < 20; i++)
                stream_receive(stream, "a", bytes, 100000);
        g_assert_cmpint(carrier.n_paused, ==, 1);
        struct reader reader = {g_string_new(NULL), waiter_new(), waiter_new()};
        stream_attach(stream, &reader_ops, &reader);
        stream_ended(stream);
        g_assert_true(waiter_wait(reader.ended, 10000));
        g_assert_cmpint(reader.got->len, ==, 2000000);
        g_assert_cmpint(carrier.n_resumed, ==, 1);
        stream_close(stream);
        stream_unref(stream);
        lanes_free(lanes);
        g_assert_cmpint(carrier.n_released, ==, 1);
        g_string_free(reader.got, TRUE);
        waiter_free(reader.ended);
        waiter_free(reader.freed);
}

// A client whose reader catches up while it is being paused.
struct hasty {
        struct waiter *pausing, *resumed;
        atomic_bool paused;
};

static void hasty_pause(void *data)
{
        struct hasty *hasty = data;
        waiter_signal(hasty->pausing);
        waiter_wait(hasty->resumed, 200); // which must not come before this has returned
        atomic_store(&hasty->paused, true);
}

static void hasty_resume(void *data)
{
        struct hasty *hasty = data;
        atomic_store(&hasty->paused, false);
        waiter_signal(hasty->resumed);
}

static void hasty_release(void *data)
{
}

static void read_once_pausing(void *data, const char *type_url, const void *value, size_t n_value)
{
        waiter_wait(((struct hasty *)data)->pausing, 10000);
}

static void a_client_is_not_left_paused(void)
{
        static const struct stream_carrier_ops ops = {
                .pause = hasty_pause, .resume = hasty_resume, .release = hasty_release};
        static const struct stream_reader reader = {.on_message = read_once_pausing};
        struct lanes *lanes = lanes_new(&(struct lanes_options){0});
        struct hasty hasty = {waiter_new(), waiter_new(), false};
        struct stream *stream = stream_new("s", lanes, &ops, &hasty);
        g_autofree char *bytes = g_malloc0(700000);
        stream_attach(stream, &reader, &hasty);
        stream_receive(stream, "a", bytes, 700000);
        stream_receive(stream, "a", bytes, 500000);
        stream_unref(stream);
        lanes_free(lanes); // everything is delivered
        g_assert_false(atomic_load(&hasty.paused));
        waiter_free(hasty.pausing);
        waiter_free(hasty.resumed);
}

static void a_second_reader_finds_nothing(void)
{
        struct lanes *lanes = lanes_new(&(struct lanes_options){0});
        struct carrier carrier = {0};
        struct stream *stream = stream_new("s", lanes, &carrier_ops, &carrier);
        struct reader first = {g_string_new(NULL), waiter_new(), waiter_new()};
        struct reader second = {g_string_new(NULL), waiter_new(), waiter_new()};
        stream_attach(stream, &reader_ops, &first);
        stream_attach(stream, &reader_ops, &second);
        g_assert_true(waiter_wait(second.ended, 10000));
        g_assert_true(waiter_wait(second.freed, 10000));
        stream_unref(stream); // without close: the reader is freed all the same
        g_assert_true(waiter_wait(first.freed, 10000));
        lanes_free(lanes);
        struct reader *readers[] = {&first, &second};
        for (size_t i = 0; i < 2; i++) {
                g_string_free(readers[i]->got, TRUE);
                waiter_free(readers[i]->ended);
                waiter_free(readers[i]->freed);
        }
}

int main(int argc, char **argv)
{
        g_test_init(&argc, &argv, NULL);
        g_test_add_func("/stream/what_came_before_the_reader_is_not_lost", what_came_before_the_reader_is_not_lost);
        g_test_add_func(
                "/stream/a_stream_that_nobody_reads_pauses_its_client", a_stream_that_nobody_reads_pauses_its_client);
        g_test_add_func("/stream/a_client_is_not_left_paused", a_client_is_not_left_paused);
        g_test_add_func("/stream/a_second_reader_finds_nothing", a_second_reader_finds_nothing);
        return g_test_run();
}
