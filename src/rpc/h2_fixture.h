// SPDX-License-Identifier: Apache-2.0
//
// For tests that write HTTP/2 byte by byte. A fixture is a server on one thread and a raw connection to it, so that a
// test can say "until nothing moves any more"; what the server wrote becomes a line: "1 :status=200 grpc-status=0 …; 1
// reset 8; goaway 11 too_many_pings; closed;".
#pragma once

#include "rpc/test_service.h"

#include <nghttp2/nghttp2.h>

enum { DATA = 0, HEADERS = 1, PRIORITY = 2, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW = 8, MORE = 9 };
enum { END_STREAM = 1, END_HEADERS = 4 };

struct h2_fixture {
        struct loop *loop;
        struct lanes *lanes;
        struct rpc_server *server;
        struct test_service service;
        int fd;
        nghttp2_hd_inflater *inflater;
        GByteArray *received;
        GString *log;
        bool closed;
};

#define GOOD ":method: POST|:scheme: http|:path: /skiff.test.Service/"
#define GRPC "|content-type: application/grpc|te: trailers"
#define ECHO_CALL GOOD "Echo|:authority: localhost" GRPC
#define HOLD_CALL GOOD "Hold|:authority: localhost" GRPC

// options: struct rpc_server_options
void h2_set_up(struct h2_fixture *f, gconstpointer options);
void h2_tear_down(struct h2_fixture *f, gconstpointer options);
// A new connection instead of the old.
void h2_again(struct h2_fixture *f);
// A call on that stream gets its answer.
void h2_assert_alive(struct h2_fixture *f, uint32_t stream);
// True: something came, which is in the log now.
bool h2_receive(struct h2_fixture *f);
// Until nothing moves any more.
void h2_settle(struct h2_fixture *f);
// Takes the bytes.
void h2_write_all(struct h2_fixture *f, GByteArray *bytes);

// Preface and settings.
GByteArray *h2_start(void);
void h2_add_frame(GByteArray *bytes, unsigned type, unsigned flags, uint32_t stream, GByteArray *payload);
void h2_add_raw_frame(
        GByteArray *bytes, unsigned type, unsigned flags, uint32_t stream, const void *payload, size_t length);
void h2_add_request(GByteArray *bytes, uint32_t stream, const char *headers, bool end);
void h2_add_message(GByteArray *bytes, uint32_t stream, const char *message, size_t length, bool end);
// "name: value|name: value", as literals without indexing.
GByteArray *h2_block_of(const char *headers);
