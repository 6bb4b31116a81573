// SPDX-License-Identifier: Apache-2.0
//
// What skiffd is doing just now. Only root and the socket's owner may ask (PERMISSION_DENIED); containerd cannot tell
// (UNIMPLEMENTED). Threads: any.
#pragma once

#include <skiff/client.h>

#ifdef __cplusplus
extern "C" {
#endif

// A call or stream of some client that has not ended.
struct skiff_call {
        const char *service, *method; // "containerd.services.tasks.v1.Tasks", "Create"
        const char *name_space;       // "": it names none
        uint32_t client_pid;          // the process that has connected; 0: not known
        int64_t age_ns;
        const char *waits_for; // in words
        int64_t waited_ns;     // so long for just that
        int64_t left_ns;       // until its deadline; 0: it has none
        bool cancelled;        // its client is gone or has given up; what was begun is being ended
};

struct skiff_calls;
// All of them, in every namespace, the oldest first, without this one.
struct skiff_calls *skiff_calls_list(struct skiff_client *client, struct skiff_error **error);
size_t skiff_calls_count(const struct skiff_calls *list);
const struct skiff_call *skiff_calls_at(const struct skiff_calls *list, size_t index);
void skiff_calls_free(struct skiff_calls *list);

#ifdef __cplusplus
}
#endif
