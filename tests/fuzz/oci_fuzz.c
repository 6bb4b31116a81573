// SPDX-License-Identifier: Apache-2.0
// Indexes, manifests, configurations and the tables of archives. The first byte chooses what it is taken for.
#include "codec/oci.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const media_types[] = {
                "", OCI_MEDIA_TYPE_INDEX, OCI_MEDIA_TYPE_MANIFEST, OCI_MEDIA_TYPE_CONFIG};
        if (size == 0)
                return 0;
        AUTO(arena) arena = arena_new();
        g_autoptr(GError) error = NULL;
        const Worker__Document *document = oci_parse(media_types[data[0] % 4], data + 1, size - 1, arena, &error);
        g_assert_true((document == NULL) == (error != NULL));
        if (document != NULL) {
                // What is answered can be packed and read again.
                size_t n_bytes = worker__document__get_packed_size(document);
                g_autofree uint8_t *packed = g_malloc(n_bytes + 1);
                g_assert_cmpuint(worker__document__pack(document, packed), ==, n_bytes);
                g_assert_nonnull(worker__document__unpack(arena_allocator(arena), n_bytes, packed));
        }
        Worker__DockerImage **images;
        size_t n_images;
        oci_parse_docker_images(data + 1, size - 1, arena, &images, &n_images, NULL);
        oci_parse_layout(data + 1, size - 1, arena, NULL);
        return 0;
}
