// SPDX-License-Identifier: Apache-2.0
//
// The length and the bytes of a record are sent as one piece, with the descriptor on its first byte. The receiver reads
// exactly the length, then exactly the bytes, so that no read ever spans two records and a descriptor that arrives
// belongs to the record that is being read. A second descriptor in one record is closed: nobody sends one.
#include "sys/records.h"

#include "base/error.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define LENGTH_BYTES 4

struct outgoing {
        GByteArray *bytes;
        size_t n_sent;
        int fd;
};

struct records {
        int fd;
        size_t max_record_bytes;
        GQueue outgoing;
        uint8_t length[LENGTH_BYTES];
        uint8_t *bytes;
        size_t n_bytes; // of the record, once the length is known
        size_t n_read;  // length and bytes
        int received_fd;
};

static void outgoing_free(struct outgoing *outgoing)
{
        g_byte_array_unref(outgoing->bytes);
        fd_close(&outgoing->fd);
        g_free(outgoing);
}

struct records *records_new(int fd, size_t max_record_bytes)
{
        struct records *records = g_new0(struct records, 1);
        records->fd = fd;
        records->max_record_bytes = max_record_bytes;
        records->received_fd = -1;
        g_queue_init(&records->outgoing);
        int flags = fcntl(fd, F_GETFL);
        if (flags >= 0)
                fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        return records;
}

void records_free(struct records *records)
{
        struct outgoing *outgoing;
        while ((outgoing = g_queue_pop_head(&records->outgoing)) != NULL)
                outgoing_free(outgoing);
        g_free(records->bytes);
        fd_close(&records->received_fd);
        fd_close(&records->fd);
        g_free(records);
}

int records_fd(const struct records *records)
{
        return records->fd;
}

void records_send(struct records *records, const void *bytes, size_t n_bytes, int pass_fd)
{
        g_assert(n_bytes <= UINT32_MAX);
        struct outgoing *outgoing = g_new0(struct outgoing, 1);
        uint32_t length = GUINT32_TO_LE((uint32_t)n_bytes);
        outgoing->bytes = g_byte_array_sized_new((guint)(LENGTH_BYTES + n_bytes));
        g_byte_array_append(outgoing->bytes, (const guint8 *)&length, LENGTH_BYTES);
        g_byte_array_append(outgoing->bytes, bytes, (guint)n_bytes);
        outgoing->fd = pass_fd;
        g_queue_push_tail(&records->outgoing, outgoing);
}

bool records_has_unsent(const struct records *records)
{
        return records->outgoing.length > 0;
}

static ssize_t send_some(int fd, struct outgoing *outgoing)
{
        struct iovec piece = {outgoing->bytes->data + outgoing->n_sent, outgoing->bytes->len - outgoing->n_sent};
        union {
                char bytes[CMSG_SPACE(sizeof(int))];
                struct cmsghdr align;
        } control = {0};
        struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
        if (outgoing->fd >= 0) {
                message.msg_control = control.bytes;
                message.msg_controllen = sizeof(control.bytes);
                struct cmsghdr *header = CMSG_FIRSTHDR(&message);
                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(header), &outgoing->fd, sizeof(int));
        }
        ssize_t n;
        do
                n = sendmsg(fd, &message, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n;
}

bool records_flush(struct records *records, GError **error)
{
        struct outgoing *outgoing;
        while ((outgoing = g_queue_peek_head(&records->outgoing)) != NULL) {
                ssize_t n = send_some(records->fd, outgoing);
                if (n < 0 && errno == EAGAIN)
                        return true;
                if (n < 0)
                        return error_fail(error, ERROR_UNAVAILABLE, "send record: %s", errno_text(errno));
                fd_close(&outgoing->fd);
                outgoing->n_sent += (size_t)n;
                if (outgoing->n_sent == outgoing->bytes->len)
                        outgoing_free(g_queue_pop_head(&records->outgoing));
        }
        return true;
}

// Keeps the first descriptor of the message, closes all others.
static void take_descriptors(struct records *records, struct msghdr *message)
{
        for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
                if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
                        continue;
                size_t n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        fd_auto int fd = -1;
                        memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
                        if (records->received_fd < 0)
                                records->received_fd = fd_take(&fd);
                }
        }
}

static ssize_t receive_some(struct records *records, void *to, size_t n_wanted)
{
        struct iovec piece = {to, n_wanted};
        union {
                char bytes[CMSG_SPACE(4 * sizeof(int))];
                struct cmsghdr align;
        } control;
        struct msghdr message = {.msg_iov = &piece,
                .msg_iovlen = 1,
                .msg_control = control.bytes,
                .msg_controllen = sizeof(control.bytes)};
        ssize_t n;
        do
                n = recvmsg(records->fd, &message, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n >= 0)
                take_descriptors(records, &message);
        return n;
}

static bool length_complete(struct records *records, GError **error)
{
        uint32_t length;
        memcpy(&length, records->length, LENGTH_BYTES);
        records->n_bytes = GUINT32_FROM_LE(length);
        if (records->n_bytes > records->max_record_bytes)
                return error_fail(error, ERROR_RESOURCE_EXHAUSTED, "record of %zu bytes is longer than %zu",
                        records->n_bytes, records->max_record_bytes);
        g_free(records->bytes);
        records->bytes = g_malloc(MAX(records->n_bytes, 1));
        return true;
}

enum records_result records_receive(
        struct records *records, const uint8_t **ret_bytes, size_t *ret_n_bytes, int *ret_fd, GError **error)
{
        for (;;) {
                bool in_length = records->n_read < LENGTH_BYTES;
                if (!in_length && records->n_read == LENGTH_BYTES + records->n_bytes)
                        break;
                ssize_t n = in_length ? receive_some(records, records->length + records->n_read,
                                                LENGTH_BYTES - records->n_read)
                                      : receive_some(records, records->bytes + records->n_read - LENGTH_BYTES,
                                                LENGTH_BYTES + records->n_bytes - records->n_read);
                if (n < 0 && errno == EAGAIN)
                        return RECORDS_AGAIN;
                // A peer that was reset has left unread what we sent; what it sent was complete.
                if ((n == 0 || (n < 0 && errno == ECONNRESET)) && records->n_read == 0)
                        return RECORDS_END;
                if (n <= 0) {
                        error_fail(error, ERROR_UNAVAILABLE, "receive record: %s",
                                n == 0 ? "connection ended" : errno_text(errno));
                        return RECORDS_FAILED;
                }
                records->n_read += (size_t)n;
                if (in_length && records->n_read == LENGTH_BYTES && !length_complete(records, error))
                        return RECORDS_FAILED;
        }
        records->n_read = 0;
        *ret_bytes = records->bytes;
        *ret_n_bytes = records->n_bytes;
        *ret_fd = fd_take(&records->received_fd);
        return RECORDS_GOT;
}
