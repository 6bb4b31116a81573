// SPDX-License-Identifier: Apache-2.0
//
// What a task or exec request says about input and output.
#pragma once

#include <skiff/stdio.h>

struct stdio_targets {
        const char *in, *out, *err; // paths of fifos, or log URIs; "": none
        bool terminal;
};

// NULL: nothing at all.
struct stdio_targets stdio_targets(const struct skiff_stdio *stdio);

// Removes the directories of fifos in parent that a killed program left behind.
void stdio_sweep(const char *parent);
