// SPDX-License-Identifier: Apache-2.0
#include "core/unpacker_private.h"

#include "base/message.h"
#include "sys/namespace.h"

#include <sched.h>
#include <string.h>

enum { DEFAULT_RATIO = 1100, DEFAULT_ENTRIES = 10 * 1000 * 1000, MAX_FAILURE_TEXT = 4096 };

struct unpacker *unpacker_new(const struct unpacker_options *options)
{
        struct unpacker *unpacker = g_new0(struct unpacker, 1);
        unpacker->references = 1;
        unpacker->options = *options;
        unpacker->program = g_strdup(options->program);
        if (unpacker->options.max_ratio == 0)
                unpacker->options.max_ratio = DEFAULT_RATIO;
        if (unpacker->options.max_entries == 0)
                unpacker->options.max_entries = DEFAULT_ENTRIES;
        unpacker->options.worker_uid = worker_user(options->worker_uid);
        unpacker->worker_uid = g_strdup_printf("SKIFF_WORKER_UID=%u", unpacker->options.worker_uid);
        return unpacker;
}

struct unpacker *unpacker_ref(struct unpacker *unpacker)
{
        __atomic_fetch_add(&unpacker->references, 1, __ATOMIC_RELAXED);
        return unpacker;
}

void unpacker_unref(struct unpacker *unpacker)
{
        if (unpacker == NULL || __atomic_fetch_sub(&unpacker->references, 1, __ATOMIC_ACQ_REL) != 1)
                return;
        g_free(unpacker->program);
        g_free(unpacker->worker_uid);
        g_free(unpacker);
}

uint32_t unpacker_worker_uid(const struct unpacker *unpacker)
{
        return unpacker->options.worker_uid;
}

struct worker *unpacker_launch(struct unpacker *unpacker, const struct unpacker_job *job,
        const struct worker_handler *handler, void *data, GError **error)
{
        const char *argv[] = {"skiff-unpack", job->name, NULL};
        const char *environment[] = {
                unpacker->worker_uid,
                unpacker->options.without_user_namespaces ? "SKIFF_NO_USER_NAMESPACE=1" : NULL,
                NULL,
        };
        struct worker_options options = {
                .loop = unpacker->options.loop,
                .lanes = unpacker->options.lanes,
                .lane = LANE_SLOW,
                .strand = job->strand,
                .program = unpacker->program,
                .argv = argv,
                .environ = environment,
                .fds = job->fds,
                .n_fds = job->n_fds,
                .clone_flags = job->in_namespaces ? CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC : 0,
                .max_record_bytes = job->max_record_bytes,
                .cancel = job->cancel,
        };
        return worker_start(&options, handler, data, error);
}

const Worker__Answer *unpacker_decode(const uint8_t *bytes, size_t n_bytes, struct arena *arena, GError **error)
{
        const ProtobufCMessage *answer = message_decode(&worker__answer__descriptor, bytes, n_bytes, arena, error);
        if (answer == NULL)
                g_prefix_error(error, "skiff-unpack: malformed answer: ");
        return (const Worker__Answer *)answer;
}

GError *unpacker_failure(const Worker__Failure *failure, const char *job)
{
        int code = failure->code;
        if (code < ERROR_CANCELED || code > ERROR_UNAUTHENTICATED)
                code = ERROR_UNKNOWN;
        return g_error_new(SKIFF_ERROR, code, "%s: %.*s", job, MAX_FAILURE_TEXT, failure->message);
}

bool unpacker_on_ready(struct worker *worker, const Worker__Ready *ready, GError **error)
{
        if (ready->user_namespace && !namespace_map_identity(worker_pid(worker), error))
                return false;
        Worker__Mapped mapped = WORKER__MAPPED__INIT;
        worker_send(worker, &mapped.base);
        return true;
}

// ---- media types

static bool has_extension(char **extensions, const char *name)
{
        // The last one in alphabetical order counts.
        const char *last = NULL;
        for (char **extension = extensions; *extension != NULL; extension++) {
                if (last == NULL || strcmp(*extension, last) > 0)
                        last = *extension;
        }
        return last != NULL && strcmp(last, name) == 0;
}

bool unpack_media_type(const char *media_type, bool *ret_compressed, GError **error)
{
        static const char *const docker[] = {
                "application/vnd.docker.image.rootfs.diff.tar",
                "application/vnd.docker.image.rootfs.foreign.diff.tar",
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
                "application/vnd.docker.image.rootfs.diff.tar.zstd",
                NULL,
        };
        static const char *const oci[] = {
                "application/vnd.oci.image.layer.v1.tar",
                "application/vnd.oci.image.layer.nondistributable.v1.tar",
                NULL,
        };
        g_auto(GStrv) parts = g_strsplit(media_type, "+", 50);
        const char *base = parts[0] != NULL ? parts[0] : "";
        char **extensions = parts[0] != NULL ? parts + 1 : parts;
        if (g_strv_contains(docker, base))
                *ret_compressed = *extensions == NULL; // Docker's plain type may hold anything
        else if (g_strv_contains(oci, base))
                *ret_compressed = has_extension(extensions, "gzip") || has_extension(extensions, "zstd");
        else
                return error_fail(error, ERROR_UNIMPLEMENTED,
                        "failed to get stream processor for %s: no processor for media-type", media_type);
        return true;
}
