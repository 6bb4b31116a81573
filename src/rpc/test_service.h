// SPDX-License-Identifier: Apache-2.0
//
// The service that tests call, "skiff.test.Service": every kind of method, on google.protobuf.Any, since that has a
// string and bytes. Used by the unit tests, the fuzz target and the program that tests/rpc drives from Python.
#pragma once

#include "rpc/server.h"

#include <stdatomic.h>

enum { TEST_SERVICE_BRIEF_MS = 30 };

struct test_service {
        atomic_uint n_held, n_cancelled, n_opened, n_closed;
        atomic_uint n_sent; // messages by Count
        atomic_bool refuse; // Chat's open refuses
        _Atomic(struct rpc_call *) kept;
};

//   Echo      unary   the request
//   Fail      unary   an error: type_url the text, value the code as digits
//   Detail    unary   ABORTED, with the request as its detail
//   Hold      unary   answers CANCELED when it is cancelled; says that it waits for what type_url names
//   Brief     unary   the same, with a limit of its own
//   Keep      unary   is left to the test, in `kept`
//   Large     unary   value of as many bytes as type_url says
//   Metadata  unary   value is the metadata of the key type_url
//   Count     server  as many messages as type_url says, each with the request's value
//   Sum       client  type_url is "MESSAGES BYTES"
//   Chat      both    each message back, reading no faster than the client does; "bad" ends it with ABORTED
//   Stuck     client  handles nothing that comes
extern const struct rpc_service test_service;
