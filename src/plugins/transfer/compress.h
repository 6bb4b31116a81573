// SPDX-License-Identifier: Apache-2.0
//
// A plain layer in the content store into its gzip form, beside it. Threads: the operation's strand.
#pragma once

struct operation;

// done runs once the compressed blob is there, labelled with the digest of the plain one (containerd.io/uncompressed),
// by which it is found. Not called after a failure: the operation has failed then. Holds the operation meanwhile.
// digest is copied.
void compress_layer(struct operation *operation, const char *digest, void (*done)(void *data), void *data);
