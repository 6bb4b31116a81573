// SPDX-License-Identifier: Apache-2.0
//
// skiff-fetch: talks to registries for skiffd, without rights. Started with the control socket as descriptor 3; ends
// with it. Everything that needs the host's files (curl's and the TLS library's start) comes before the jail,
// everything that touches the network after it.
#include "base/error.h"
#include "fetch/confine.h"
#include "fetch/session.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define CONTROL_FD 3

int main(int argc, char **argv)
{
        signal(SIGPIPE, SIG_IGN);
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
                fprintf(stderr, "skiff-fetch: curl cannot be initialised\n");
                return EXIT_FAILURE;
        }
        g_autoptr(GError) error = NULL;
        const char *scratch_dir = confine(argc > 1 ? argv[1] : NULL, &error);
        AUTO(reactor) reactor = scratch_dir != NULL ? reactor_new(&error) : NULL;
        if (reactor == NULL) {
                fprintf(stderr, "skiff-fetch: %s\n", error->message);
                return EXIT_FAILURE;
        }
        AUTO(session) session = session_new(reactor, CONTROL_FD, scratch_dir);
        reactor_run(reactor);
        return EXIT_SUCCESS;
}
