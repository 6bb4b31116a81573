// SPDX-License-Identifier: Apache-2.0
//
// Which start of the machine this is. Threads: any.
#pragma once

// The id of this boot; "" where the kernel does not tell. Caller frees.
char *boot_id(void);
