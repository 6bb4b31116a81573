// SPDX-License-Identifier: Apache-2.0
//
// Transfers of images between registries, the image store and streams: the instance of PLUGIN_TRANSFER. Threads: any.
#pragma once

#include "core/scope.h"
#include "core/stream.h"

#include "containerd/transfer_types.pb-c.h"

struct cancel;
struct transferrer;

enum transfer_kind { TRANSFER_REGISTRY, TRANSFER_IMAGE_STORE, TRANSFER_IMPORT_STREAM, TRANSFER_EXPORT_STREAM };

// One end of a transfer: exactly the member of its kind is set.
struct transfer_end {
        enum transfer_kind kind;
        const TransferTypes__OCIRegistry *registry;
        const TransferTypes__ImageStore *store;
        const TransferTypes__ImageImportStream *import;
        const TransferTypes__ImageExportStream *export;
        struct stream *stream; // of import and export; a registry's for credentials, which may be NULL
};

struct transfer_request {
        struct scope scope;
        struct transfer_end source, destination;
        struct stream *progress; // NULL: none
        struct cancel *cancel;
};

typedef void (*transfer_done_fn)(void *data, const GError *error);

struct transferrer_ops {
        // Returns at once; done comes once, later, on a worker. The request with all that it points to stays valid
        // until then. Streams are closed before done, progress after its last event. UNIMPLEMENTED: it cannot do this
        // pair. Else with containerd's texts: NOT_FOUND, INVALID_ARGUMENT, …
        void (*transfer)(struct transferrer *transferrer, const struct transfer_request *request, transfer_done_fn done,
                void *data);
};

struct transferrer {
        const struct transferrer_ops *ops;
};
