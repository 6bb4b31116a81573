// SPDX-License-Identifier: Apache-2.0
//
// The text forms of gRPC over HTTP/2 (grpc.io, PROTOCOL-HTTP2.md): timeouts, percent-encoded messages, status numbers,
// path, content type. Pure functions on strings from outside. Threads: any.
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

// "10S", "250m": at most 8 digits and a unit. Too long for the clock: INT64_MAX. Go's texts, INTERNAL.
bool grpc_parse_timeout(const char *text, int64_t *ret_timeout_ns, GError **error);
// The smallest unit that fits 8 digits; caller frees.
char *grpc_format_timeout(int64_t timeout_ns);

// Status messages: bytes outside of printable ASCII and '%' as %XX. What is not UTF-8 is replaced first, and what makes
// headers too large for common clients is cut. Caller frees.
char *grpc_encode_message(const char *message);
// Leaves malformed escapes as they are; the result is UTF-8.
char *grpc_decode_message(const char *text);

// "application/grpc", "application/grpc+proto", "application/grpc;…"
bool grpc_content_type_is_valid(const char *text);

// Go's %q, for texts that clients print.
char *grpc_quote(const char *text);

// Standard base64, padded or not, as values of "-bin" keys are.
bool grpc_is_base64(const char *text);
