// SPDX-License-Identifier: Apache-2.0
//
// The delete command is not told where sockets are; the start command leaves a link in the bundle, as containerd's
// does.
#include "shim/group.h"

#include "base/error.h"
#include "base/fd.h"
#include "codec/runtime_spec.h"
#include "rpc/client.h"

#define DEFAULT_DIRECTORY "/run/containerd/s"

// Half of a digest: a socket's whole path may have 107 bytes, and a state directory can be deep.
enum { SOCKET_NAME_LENGTH = 32 };

static char *read_group(const struct group_member *member, GError **error)
{
        static const char *const labels[] = {"io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"};
        g_autofree char *path = g_build_filename(member->bundle, "config.json", NULL), *spec = NULL;
        gsize n;
        g_autoptr(GError) failed = NULL;
        if (!g_file_get_contents(path, &spec, &n, &failed)) {
                error_fail(error, ERROR_UNKNOWN, "open config.json: %s", failed->message);
                return NULL;
        }
        if (!runtime_spec_check(spec, n, error))
                return NULL;
        for (size_t i = 0; i < G_N_ELEMENTS(labels); i++) {
                char *group = runtime_spec_annotation(spec, n, labels[i]);
                if (group != NULL)
                        return group;
        }
        return g_strdup(member->id);
}

char *group_socket_path(const struct group_member *member, const char *directory, GError **error)
{
        g_autofree char *group = read_group(member, error);
        if (group == NULL)
                return NULL;
        g_autofree char *link = g_build_filename(member->bundle, "s", NULL), *linked = NULL;
        if (directory == NULL)
                directory = linked = g_file_read_link(link, NULL);
        g_autofree char *name = g_build_filename(member->address, member->namespace_, group, NULL);
        g_autofree char *digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, name, -1);
        digest[SOCKET_NAME_LENGTH] = '\0';
        return g_build_filename(directory != NULL ? directory : DEFAULT_DIRECTORY, digest, NULL);
}

void group_remove_dead_socket(const char *path)
{
        fd_auto int probe = rpc_connect_unix(path, GROUP_PROBE_TIMEOUT_MS, NULL);
        if (probe < 0)
                unlink(path);
}
