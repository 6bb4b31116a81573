// SPDX-License-Identifier: Apache-2.0
//
// The JSON documents of images (OCI image-spec 1.1; Docker's manifest list, manifest schema 2 and configuration): what
// a daemon needs of them, as the messages that a worker answers with. Does no I/O. Threads: any.
#pragma once

#include "base/arena.h"
#include "base/error.h"

#include "skiff/worker.pb-c.h"

#include <stdbool.h>
#include <stddef.h>

#define OCI_MEDIA_TYPE_INDEX "application/vnd.oci.image.index.v1+json"
#define OCI_MEDIA_TYPE_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define OCI_MEDIA_TYPE_CONFIG "application/vnd.oci.image.config.v1+json"
#define DOCKER_MEDIA_TYPE_LIST "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MEDIA_TYPE_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_MEDIA_TYPE_CONFIG "application/vnd.docker.container.image.v1+json"

enum { OCI_MAX_DESCRIPTORS = 10000, OCI_MAX_ANNOTATIONS = 1000 };

// Worker__Document kind of a media type; OTHER for layers and unknown ones.
Worker__Document__Kind oci_kind(const char *media_type);

// The document lives in arena. media_type "": by what it says of itself, or looks like. INVALID_ARGUMENT for what is no
// such document, with containerd's texts where one kind pretends to be the other; RESOURCE_EXHAUSTED past the limits.
// Digests and sizes are as they stand there, unchecked.
const Worker__Document *oci_parse(
        const char *media_type, const void *bytes, size_t n_bytes, struct arena *arena, GError **error);

// manifest.json of a Docker archive: a list of {Config, RepoTags, Layers}. In arena.
bool oci_parse_docker_images(const void *bytes, size_t n_bytes, struct arena *arena, Worker__DockerImage ***ret_images,
        size_t *ret_n_images, GError **error);
// oci-layout: the value of imageLayoutVersion, "" if there is none. In arena; NULL: failed.
const char *oci_parse_layout(const void *bytes, size_t n_bytes, struct arena *arena, GError **error);
