// SPDX-License-Identifier: Apache-2.0
//
// On whose behalf something is done: the namespace, checked, and the lease that new objects are added to. Both texts
// belong to the caller and outlive the call. Threads: any.
#pragma once

struct scope {
        const char *namespace_;
        const char *lease; // NULL: none
};
