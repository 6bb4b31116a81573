// SPDX-License-Identifier: Apache-2.0
//
// Between our records and the messages of the API: what all services need. Results live in the arena, or point into
// what they were made from where said. Threads: any.
#pragma once

#include "base/mount.h"
#include "core/any.h"
#include "core/labels.h"

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

struct Google__Protobuf__Any;
struct Google__Protobuf__Timestamp;

// Labels as the entries of a map<string, string> field, whose entry type is given:
//   message.labels = (Images__Image__LabelsEntry **)labels_to_proto(
//           labels, arena, &images__image__labels_entry__descriptor, &message.n_labels);
// The texts are not copied.
void *labels_to_proto(
        const struct labels *labels, struct arena *arena, const ProtobufCMessageDescriptor *entry, size_t *ret_n);
// The inverse, sorted; the texts are not copied. An entry without a value has the empty one.
struct labels labels_from_proto(const void *entries, size_t n, struct arena *arena);

struct Google__Protobuf__Timestamp *timestamp_to_proto(int64_t ns, struct arena *arena);
// NULL is 0. Saturates.
int64_t timestamp_from_proto(const struct Google__Protobuf__Timestamp *timestamp);

// NULL for none; the bytes are not copied.
struct Google__Protobuf__Any *any_to_proto(const struct any *any, struct arena *arena);
struct any any_from_proto(const struct Google__Protobuf__Any *any);
// The entries of a map<string, google.protobuf.Any> field.
void *extensions_to_proto(const struct extensions *extensions, struct arena *arena,
        const ProtobufCMessageDescriptor *entry, size_t *ret_n);
struct extensions extensions_from_proto(const void *entries, size_t n, struct arena *arena);

// A list of struct mount (base/mount.h) as the repeated field of containerd.types.Mount; the texts are not copied.
struct Types__Mount;
struct Types__Mount **mounts_to_proto(const GPtrArray *mounts, struct arena *arena, size_t *ret_n);
// Copies everything.
GPtrArray *mounts_from_proto(struct Types__Mount *const *mounts, size_t n);
