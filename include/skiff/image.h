// SPDX-License-Identifier: Apache-2.0
//
// Images: names for content in the daemon's store, and how content comes there. Names are full references,
// "docker.io/library/alpine:latest"; skiff_image_name makes them from what a person types. What an image is: OCI image
// specification 1.1 (image-index, manifest, config). Ownership and threads: see client.h.
#pragma once

#include <skiff/client.h>

#ifdef __cplusplus
extern "C" {
#endif

// The full name by docker's rules: "alpine" is docker.io/library/alpine:latest. The caller frees it with free(3).
// INVALID_ARGUMENT: not a reference.
char *skiff_image_name(const char *text, struct skiff_error **error);
// The short form for people: "alpine:latest". The caller frees it with free(3).
char *skiff_image_short_name(const char *name);

struct skiff_image {
        const char *name;
        const char *digest;     // of the index or manifest that the name stands for: "sha256:…"
        const char *media_type; // of the same
        int64_t size_bytes;     // of that index or manifest alone
        int64_t created_at_ns;  // since 1970, UTC: when the name was made
        int64_t updated_at_ns;
        const struct skiff_pair *labels;
        size_t n_labels;
};

struct skiff_images;
// By name.
struct skiff_images *skiff_images_list(struct skiff_client *client, struct skiff_error **error);
// The one image of that name, as a list of one. NOT_FOUND.
struct skiff_images *skiff_image_get(struct skiff_client *client, const char *name, struct skiff_error **error);
size_t skiff_images_count(const struct skiff_images *list);
const struct skiff_image *skiff_images_at(const struct skiff_images *list, size_t index);
void skiff_images_free(struct skiff_images *list);

// Compressed bytes of the image for this machine's platform, as its manifest says: config and layers. NOT_FOUND where
// that platform's manifest is not in the store.
bool skiff_image_size(
        struct skiff_client *client, const struct skiff_image *image, int64_t *ret_bytes, struct skiff_error **error);

// Removes the name; content that nothing else names goes with the next garbage collection, before the answer if
// sync is set. NOT_FOUND.
bool skiff_image_remove(struct skiff_client *client, const char *name, bool sync, struct skiff_error **error);
// A second name for the same content. ALREADY_EXISTS, unless force is set: then the name is moved. NOT_FOUND.
bool skiff_image_tag(
        struct skiff_client *client, const char *name, const char *new_name, bool force, struct skiff_error **error);

// ---- transfers

// One line of progress. event: what happens ("downloading", "complete", …); name: to what, empty for the whole;
// total_bytes 0: not known. The strings live during the call alone.
struct skiff_progress {
        const char *event, *name, *digest, *media_type;
        int64_t done_bytes, total_bytes;
};
// Called on a thread of the client's: return soon, call no function of this library.
typedef void (*skiff_progress_fn)(void *data, const struct skiff_progress *progress);

struct skiff_transfer_options {
        const char *platform;            // "linux/arm64"; default: this machine's
        bool all_platforms;              // store, not unpack, the content of every platform
        const char *snapshotter;         // unpack there; default "overlayfs"; "": do not unpack
        bool plain_http;                 // pull: no TLS
        const char *hosts_dir;           // pull: directory of hosts.toml files, as the daemon sees it
        const char *username, *password; // pull: for a registry that asks
        skiff_progress_fn on_progress;
        void *data;
};

// All three block until they are done. INVALID_ARGUMENT: bad options.

// Fetches an image from its registry, stores and unpacks it. options may be NULL. NOT_FOUND: no such repository or tag;
// UNAUTHENTICATED: it asks for a login, or refuses this one; UNAVAILABLE: nothing answers there.
bool skiff_image_pull(struct skiff_client *client, const char *name, const struct skiff_transfer_options *options,
        struct skiff_error **error);
// Reads an archive (OCI layout or docker save, plain or compressed) from a descriptor that stays the caller's, until
// its end, and stores and unpacks the images in it. prefix: base name for images that the archive names by tag alone;
// NULL: such images are named by "import-DATE". INVALID_ARGUMENT: it is no archive.
bool skiff_image_import(struct skiff_client *client, int fd, const char *prefix,
        const struct skiff_transfer_options *options, struct skiff_error **error);
// Writes images (NULL-terminated names) as an OCI archive, which docker load reads as well, to a descriptor that stays
// the caller's. NOT_FOUND: no such image; after another failure a part may have been written.
bool skiff_image_export(struct skiff_client *client, int fd, const char *const *names,
        const struct skiff_transfer_options *options, struct skiff_error **error);

#ifdef __cplusplus
}
#endif
