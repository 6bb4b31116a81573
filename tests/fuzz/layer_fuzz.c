// SPDX-License-Identifier: Apache-2.0
// Layers, written to a directory of their own without a jail: nothing may appear beside it. The first byte chooses how
// whiteouts are taken.
#include "fuzz.h"
#include "sys/tree.h"
#include "unpack/layer.h"
#include "unpack/tar_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct input {
        const uint8_t *data;
        size_t size, offset;
};

static ssize_t read_input(void *data, void *bytes, size_t n_bytes)
{
        struct input *input = data;
        size_t n = MIN(n_bytes, input->size - input->offset);
        if (n > 0)
                memcpy(bytes, input->data + input->offset, n);
        input->offset += n;
        return (ssize_t)n;
}

static unsigned count_entries(const char *path)
{
        DIR *directory = opendir(path);
        g_assert_nonnull(directory);
        unsigned n = 0;
        while (readdir(directory) != NULL)
                n++;
        closedir(directory);
        return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0)
                return 0;
        // Sparse files can be of any size; holes cost nothing, but the limit does no harm.
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){64 * 1024 * 1024, 64 * 1024 * 1024});
        char cage[] = "/tmp/skiff-layer-fuzz-XXXXXX";
        g_assert_nonnull(mkdtemp(cage));
        g_autofree char *root = g_build_filename(cage, "root", NULL);
        g_assert_cmpint(mkdir(root, 0755), ==, 0);
        int root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct input input = {data + 1, size - 1, 0};
        const struct layer_options options = {
                .root_fd = root_fd,
                .read = read_input,
                .data = &input,
                .overlay = data[0] & 1,
                .max_entries = 1000,
        };
        struct report *report = report_new();
        struct layer_result result;
        layer_apply(&options, report, &result, NULL);
        report_free(report);
        close(root_fd);
        g_assert_cmpint(chdir("/"), ==, 0);
        g_assert_cmpuint(count_entries(cage), ==, 3);
        g_assert_true(tree_remove(cage, NULL));
        return 0;
}
