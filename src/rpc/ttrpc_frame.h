// SPDX-License-Identifier: Apache-2.0
//
// ttrpc's framing (tools/wire/TTRPC.md): bytes to frames and back, no I/O. Threads: one at a time per reader.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TTRPC_HEADER_BYTES = 10, TTRPC_MAX_DATA_BYTES = 4 * 1024 * 1024 };

enum ttrpc_type { TTRPC_REQUEST = 1, TTRPC_RESPONSE = 2, TTRPC_DATA = 3 };
enum ttrpc_flags { TTRPC_REMOTE_CLOSED = 1, TTRPC_REMOTE_OPEN = 2, TTRPC_NO_DATA = 4 };

struct ttrpc_frame {
        uint32_t stream;
        uint8_t type, flags;
        const uint8_t *data; // valid during the callback alone
        size_t n_data;
        bool oversize; // the data was longer than the limit and has been dropped; n_data is what was announced
};

// False: stop, the reader is not to be touched any more (it may be gone).
typedef bool (*ttrpc_frame_fn)(void *data, const struct ttrpc_frame *frame);

struct ttrpc_reader {
        size_t max_data_bytes;
        uint8_t header[TTRPC_HEADER_BYTES];
        size_t n_header;
        GByteArray *body; // NULL: none under way
        size_t n_missing; // of the body that is collected or skipped
};

void ttrpc_reader_init(struct ttrpc_reader *reader, size_t max_data_bytes);
void ttrpc_reader_done(struct ttrpc_reader *reader);
// Takes the next bytes of a connection, cut anywhere, and calls fn for each frame that is complete with them. Memory
// grows with what has arrived, not with what a header announces. False: fn did.
bool ttrpc_reader_feed(
        struct ttrpc_reader *reader, const uint8_t *bytes, size_t n_bytes, ttrpc_frame_fn fn, void *data);

// The header of a frame with n_data bytes after it.
void ttrpc_pack_header(uint8_t header[TTRPC_HEADER_BYTES], const struct ttrpc_frame *frame);
