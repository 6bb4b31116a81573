// SPDX-License-Identifier: Apache-2.0
//
// Answers of one turn of the loop are collected in one buffer and written with one call. The buffer goes when it is
// empty: an idle connection, of which a shim has two and a daemon hundreds, holds no memory for I/O. Any failure of the
// socket closes the connection from within, so callers look at ttrpc_wire_is_open afterwards or hold no pointer.
#include "rpc/ttrpc_wire.h"

#include "base/fd.h"

#include <errno.h>
#include <sys/socket.h>

enum { READ_BYTES = 4 * 1024, READS_PER_TURN = 64, OUT_MARK_BYTES = 256 * 1024 };

static void on_event(void *data, int events);

static void update_watch(struct ttrpc_wire *wire)
{
        int events = (wire->paused ? 0 : UV_READABLE) | (wire->out != NULL ? UV_WRITABLE : 0);
        // UV_DISCONNECT: a peer that is gone is noticed while nothing is read.
        loop_watch_change(wire->watch, events == 0 ? UV_DISCONNECT : events);
}

void ttrpc_wire_open(struct ttrpc_wire *wire, struct rpc_connection *connection, int fd, ttrpc_frame_fn on_frame,
        void (*on_drained)(struct rpc_connection *connection))
{
        *wire = (struct ttrpc_wire){.connection = connection, .fd = fd, .on_frame = on_frame, .on_drained = on_drained};
        ttrpc_reader_init(&wire->reader, MIN(connection->max_message_bytes, TTRPC_MAX_DATA_BYTES));
}

void ttrpc_wire_start(struct ttrpc_wire *wire)
{
        wire->watch = loop_watch_start(wire->connection->loop, wire->fd, UV_READABLE, on_event, wire);
}

void ttrpc_wire_close(struct ttrpc_wire *wire)
{
        loop_watch_stop(g_steal_pointer(&wire->watch));
        fd_close(&wire->fd);
        ttrpc_reader_done(&wire->reader);
        if (wire->out != NULL)
                g_byte_array_unref(g_steal_pointer(&wire->out));
}

bool ttrpc_wire_is_open(const struct ttrpc_wire *wire)
{
        return wire->fd >= 0;
}

bool ttrpc_wire_is_full(const struct ttrpc_wire *wire)
{
        return wire->out != NULL && wire->out->len - wire->n_written > OUT_MARK_BYTES;
}

size_t ttrpc_pack_bytes_field(uint8_t bytes[6], unsigned field, size_t length)
{
        size_t n = 0;
        bytes[n++] = (uint8_t)(field << 3 | 2);
        for (; length >= 0x80; length >>= 7)
                bytes[n++] = (uint8_t)(length | 0x80);
        bytes[n++] = (uint8_t)length;
        return n;
}

void ttrpc_wire_send(struct ttrpc_wire *wire, struct ttrpc_frame frame, const uint8_t *prefix, size_t n_prefix)
{
        if (!ttrpc_wire_is_open(wire))
                return;
        const uint8_t *data = frame.data;
        size_t n_data = frame.n_data;
        uint8_t header[TTRPC_HEADER_BYTES];
        frame.n_data += n_prefix;
        ttrpc_pack_header(header, &frame);
        if (wire->out == NULL) {
                wire->out = g_byte_array_sized_new((guint)(sizeof header + frame.n_data));
                wire->n_written = 0;
        }
        g_byte_array_append(wire->out, header, sizeof header);
        if (n_prefix > 0)
                g_byte_array_append(wire->out, prefix, (guint)n_prefix);
        if (n_data > 0)
                g_byte_array_append(wire->out, data, (guint)n_data);
}

// False: the connection is closed.
static bool write_out(struct ttrpc_wire *wire)
{
        bool was_full = ttrpc_wire_is_full(wire);
        while (wire->out != NULL) {
                ssize_t n = send(wire->fd, wire->out->data + wire->n_written, wire->out->len - wire->n_written,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && (errno == EAGAIN || errno == ENOBUFS))
                        break;
                if (n < 0) {
                        wire->connection->transport->close(wire->connection);
                        return false;
                }
                wire->n_written += (size_t)n;
                if (wire->n_written == wire->out->len)
                        g_byte_array_unref(g_steal_pointer(&wire->out));
        }
        if (wire->out == NULL && was_full)
                wire->on_drained(wire->connection);
        return true;
}

void ttrpc_wire_flush(struct ttrpc_wire *wire)
{
        if (!ttrpc_wire_is_open(wire) || !write_out(wire))
                return;
        if (wire->paused)
                wire->paused = rpc_connection_is_over_budget(wire->connection);
        update_watch(wire);
}

static void read_in(struct ttrpc_wire *wire)
{
        uint8_t buffer[READ_BYTES];
        for (int i = 0; i < READS_PER_TURN && !wire->paused; i++) {
                ssize_t n = recv(wire->fd, buffer, sizeof buffer, MSG_DONTWAIT);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n <= 0) {
                        wire->connection->transport->close(wire->connection);
                        return;
                }
                if (!ttrpc_reader_feed(&wire->reader, buffer, (size_t)n, wire->on_frame, wire->connection))
                        return;
                wire->paused = rpc_connection_is_over_budget(wire->connection);
                if ((size_t)n < sizeof buffer)
                        return;
        }
}

static void on_event(void *data, int events)
{
        struct ttrpc_wire *wire = data;
        struct rpc_connection *connection = rpc_connection_ref(wire->connection);
        if (wire->paused && events & UV_DISCONNECT)
                wire->connection->transport->close(wire->connection);
        else if (events & (UV_READABLE | UV_DISCONNECT))
                read_in(wire);
        ttrpc_wire_flush(wire);
        rpc_connection_unref(connection);
}
