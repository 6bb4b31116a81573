// SPDX-License-Identifier: Apache-2.0
//
// The jobs. Each runs once in a process of its own, inside its jail, and has sent its last answer when it returns true;
// on false main sends *error.
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct control;

bool job_inflate(struct control *control, GError **error);
bool job_deflate(struct control *control, GError **error);
bool job_inspect(struct control *control, GError **error);
bool job_split(struct control *control, GError **error);
bool job_untar(struct control *control, GError **error);
bool job_tar(struct control *control, GError **error);
