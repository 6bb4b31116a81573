// SPDX-License-Identifier: Apache-2.0
//
// Events as JSON, for people and scripts. Threads: any.
#pragma once

#include "google/protobuf/any.pb-c.h"

// One line; "{}" for a type that is not known here. Fields that are not set are left out; names are those of the .proto
// files, times RFC 3339. The caller frees.
char *event_to_json(const Google__Protobuf__Any *event);
