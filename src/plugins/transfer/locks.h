// SPDX-License-Identifier: Apache-2.0
//
// Locks by key that are waited for without a thread: two pulls of one blob or one snapshot do the work once. Threads:
// any.
#pragma once

struct locks;
struct lock_wait;
typedef void (*lock_fn)(void *data);

struct locks *locks_new(void);
void locks_free(struct locks *locks);
// Calls locked(data) once the key is this caller's: at once, or from locks_release of the holder before it.
void locks_acquire(struct locks *locks, const char *key, lock_fn locked, void *data);
void locks_release(struct locks *locks, const char *key);
