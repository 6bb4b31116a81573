// SPDX-License-Identifier: Apache-2.0
//
// The first bytes are held back until they tell the format: at most the four that a zstd frame begins with. gzip is
// ISA-L's, which checks header and checksum of one member; the next one, if any, begins where it stopped. Padding with
// zeros behind the last member is no error (tape blocks), anything else is.
#include "codec/inflate.h"

#include <isa-l/igzip_lib.h>
#include <string.h>
#include <zstd.h>

enum format { FORMAT_UNKNOWN, FORMAT_PLAIN, FORMAT_GZIP, FORMAT_ZSTD };
enum { SNIFF_BYTES = 4 };

struct inflater {
        enum format format;
        struct inflater_limits limits;
        uint64_t taken, written;
        uint8_t held[SNIFF_BYTES]; // taken from the caller, not yet given to the decoder
        size_t n_held, held_offset;
        bool in_member; // gzip: between a header's first byte and the trailer; zstd: within a frame
        bool padding;   // gzip: zeros behind the last member
        struct inflate_state *gzip;
        ZSTD_DStream *zstd;
};

struct inflater *inflater_new(bool plain, const struct inflater_limits *limits)
{
        struct inflater *inflater = g_new0(struct inflater, 1);
        inflater->format = plain ? FORMAT_PLAIN : FORMAT_UNKNOWN;
        if (limits != NULL)
                inflater->limits = *limits;
        return inflater;
}

void inflater_free(struct inflater *inflater)
{
        if (inflater == NULL)
                return;
        g_free(inflater->gzip);
        ZSTD_freeDStream(inflater->zstd);
        g_free(inflater);
}

static enum format sniff(const uint8_t *bytes, size_t n_bytes)
{
        static const uint8_t zstd_magic[] = {0x28, 0xb5, 0x2f, 0xfd};
        if (n_bytes >= 3 && bytes[0] == 0x1f && bytes[1] == 0x8b && bytes[2] == 0x08)
                return FORMAT_GZIP;
        if (n_bytes >= 4 && memcmp(bytes, zstd_magic, sizeof(zstd_magic)) == 0)
                return FORMAT_ZSTD;
        // Skippable frames: 0x184D2A50 to 0x184D2A5F, little-endian.
        if (n_bytes >= 4 && (bytes[0] & 0xf0) == 0x50 && bytes[1] == 0x2a && bytes[2] == 0x4d && bytes[3] == 0x18)
                return FORMAT_ZSTD;
        return FORMAT_PLAIN;
}

static const char *format_name(enum format format)
{
        return format == FORMAT_GZIP ? "gzip" : format == FORMAT_ZSTD ? "zstd" : "";
}

const char *inflate_sniff(const uint8_t *bytes, size_t n_bytes)
{
        return format_name(sniff(bytes, n_bytes));
}

const char *inflater_format(const struct inflater *inflater)
{
        return format_name(inflater->format);
}

uint64_t inflater_taken_bytes(const struct inflater *inflater)
{
        return inflater->taken;
}

uint64_t inflater_written_bytes(const struct inflater *inflater)
{
        return inflater->written;
}

static void settle_format(struct inflater *inflater)
{
        inflater->format = sniff(inflater->held, inflater->n_held);
        if (inflater->format == FORMAT_GZIP) {
                inflater->gzip = g_new0(struct inflate_state, 1);
                isal_inflate_init(inflater->gzip);
                inflater->gzip->crc_flag = ISAL_GZIP;
        } else if (inflater->format == FORMAT_ZSTD) {
                inflater->zstd = ZSTD_createDStream();
                if (inflater->zstd == NULL)
                        g_error("out of memory");
        }
}

// True once the format is known: what was held back is then at the front of the stream.
static bool find_format(struct inflater *inflater, struct inflater_step *step)
{
        while (inflater->n_held < SNIFF_BYTES && step->taken < step->n_in)
                inflater->held[inflater->n_held++] = step->in[step->taken++];
        if (inflater->n_held < SNIFF_BYTES && !step->in_ended)
                return false;
        settle_format(inflater);
        return true;
}

static void decode_plain(struct inflater_step *part)
{
        size_t n = MIN(part->n_in, part->n_out);
        if (n > 0)
                memcpy(part->out, part->in, n);
        part->taken = part->written = n;
}

static bool skip_padding(struct inflater_step *part, GError **error)
{
        while (part->taken < part->n_in && part->in[part->taken] == 0)
                part->taken++;
        if (part->taken < part->n_in)
                return error_fail(error, ERROR_DATA_LOSS, "gzip: invalid header");
        return true;
}

static bool gzip_failed(int status, GError **error)
{
        if (status == ISAL_INCORRECT_CHECKSUM)
                return error_fail(error, ERROR_DATA_LOSS, "gzip: invalid checksum");
        if (status == ISAL_INVALID_WRAPPER || status == ISAL_UNSUPPORTED_METHOD)
                return error_fail(error, ERROR_DATA_LOSS, "gzip: invalid header");
        return error_fail(error, ERROR_DATA_LOSS, "gzip: corrupt input (%d)", status);
}

static bool decode_gzip(struct inflater *inflater, struct inflater_step *part, GError **error)
{
        if (inflater->padding)
                return skip_padding(part, error);
        struct inflate_state *state = inflater->gzip;
        if (!inflater->in_member && part->n_in > 0) {
                if (part->in[0] == 0) {
                        inflater->padding = true;
                        return skip_padding(part, error);
                }
                inflater->in_member = true;
        }
        if (!inflater->in_member)
                return true;
        state->next_in = (uint8_t *)part->in;
        state->avail_in = (uint32_t)MIN(part->n_in, UINT32_MAX / 2);
        size_t offered = state->avail_in;
        state->next_out = part->out;
        state->avail_out = (uint32_t)MIN(part->n_out, UINT32_MAX / 2);
        size_t room = state->avail_out;
        int status = isal_inflate(state);
        if (status < 0)
                return gzip_failed(status, error);
        part->taken = offered - state->avail_in;
        part->written = room - state->avail_out;
        if (state->block_state == ISAL_BLOCK_FINISH) {
                isal_inflate_reset(state);
                state->crc_flag = ISAL_GZIP;
                inflater->in_member = false;
        }
        return true;
}

static bool decode_zstd(struct inflater *inflater, struct inflater_step *part, GError **error)
{
        ZSTD_inBuffer in = {part->in, part->n_in, 0};
        ZSTD_outBuffer out = {part->out, part->n_out, 0};
        size_t status = ZSTD_decompressStream(inflater->zstd, &out, &in);
        if (ZSTD_isError(status))
                return error_fail(error, ERROR_DATA_LOSS, "zstd: %s", ZSTD_getErrorName(status));
        part->taken = in.pos;
        part->written = out.pos;
        // Its hint, when it has nothing to do, asks for the next frame's header; that does not open one.
        if (in.pos > 0 || out.pos > 0)
                inflater->in_member = status != 0;
        return true;
}

static bool decode(struct inflater *inflater, struct inflater_step *part, GError **error)
{
        bool good = true;
        if (inflater->format == FORMAT_GZIP)
                good = decode_gzip(inflater, part, error);
        else if (inflater->format == FORMAT_ZSTD)
                good = decode_zstd(inflater, part, error);
        else
                decode_plain(part);
        inflater->taken += part->taken;
        inflater->written += part->written;
        return good;
}

static bool check_limits(const struct inflater *inflater, GError **error)
{
        const struct inflater_limits *limits = &inflater->limits;
        if (limits->max_ratio == 0 || inflater->written <= limits->free_bytes ||
                inflater->written / limits->max_ratio <= inflater->taken)
                return true;
        return error_fail(error, ERROR_RESOURCE_EXHAUSTED,
                "%s: more than %" G_GUINT64_FORMAT " bytes for each compressed one", inflater_format(inflater),
                limits->max_ratio);
}

bool inflater_step(struct inflater *inflater, struct inflater_step *step, GError **error)
{
        step->taken = step->written = 0;
        if (inflater->format == FORMAT_UNKNOWN && !find_format(inflater, step))
                return true;
        for (;;) {
                bool held = inflater->held_offset < inflater->n_held;
                struct inflater_step part = {
                        .in = held ? inflater->held + inflater->held_offset : step->in + step->taken,
                        .n_in = held ? inflater->n_held - inflater->held_offset : step->n_in - step->taken,
                        .out = step->out + step->written,
                        .n_out = step->n_out - step->written,
                };
                if (!decode(inflater, &part, error) || !check_limits(inflater, error))
                        return false;
                if (held)
                        inflater->held_offset += part.taken;
                else
                        step->taken += part.taken;
                step->written += part.written;
                if (part.taken == 0 && part.written == 0)
                        break;
        }
        bool stuck = step->taken == 0 && step->written == 0 && step->n_out > 0;
        if (stuck && step->in_ended && inflater->in_member)
                return error_fail(error, ERROR_DATA_LOSS, "%s: unexpected EOF", inflater_format(inflater));
        return true;
}
