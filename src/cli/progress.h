// SPDX-License-Identifier: Apache-2.0
//
// Shows a transfer: on a terminal a line for each blob, drawn again as it goes on; elsewhere a line for each thing that
// is done. Threads: progress_update is called by the client's; the others by the main one while no transfer runs.
#pragma once

#include <skiff/image.h>

struct progress;
struct progress *progress_new(bool quiet);
void progress_update(void *progress, const struct skiff_progress *line);
// Draws the end state, and what it took if ok. Frees.
void progress_free(struct progress *progress, bool ok);
