// SPDX-License-Identifier: Apache-2.0
//
// libskiff: containers by skiffd, from C. Everything at once; each header compiles alone as well. Link by
// `pkg-config --cflags --libs skiff`. Until version 1.0 the interface may change with the minor version; the soname
// says so.
#pragma once

#include <skiff/client.h>
#include <skiff/container.h>
#include <skiff/debug.h>
#include <skiff/error.h>
#include <skiff/event.h>
#include <skiff/image.h>
#include <skiff/snapshot.h>
#include <skiff/spec.h>
#include <skiff/stdio.h>
#include <skiff/task.h>
