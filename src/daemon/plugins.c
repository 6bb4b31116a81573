// SPDX-License-Identifier: Apache-2.0
//
// The only place that names implementers. Where two plugins need nothing of each other, this is the order of their
// start.
#include "daemon/plugins.h"

#include "daemon/listener.h"
#include "plugins/content_local/plugin.h"
#include "plugins/differ_tar/plugin.h"
#include "plugins/events/exchange.h"
#include "plugins/gc/plugin.h"
#include "plugins/metadata/plugin.h"
#include "plugins/mounts/manager.h"
#include "plugins/runtime_v2/manager.h"
#include "plugins/snapshot_native/native.h"
#include "plugins/snapshot_overlay/overlay.h"
#include "plugins/snapshots/plugin.h"
#include "plugins/streaming/manager.h"
#include "plugins/transfer/plugin.h"
#include "services/services.h"

const struct plugin *const builtin_plugins[] = {
        &events_exchange_plugin,
        &metadata_plugin,
        &content_local_plugin,
        &differ_tar_plugin,
        &snapshot_native_plugin,
        &snapshot_overlay_plugin,
        &snapshots_plugin,
        &diff_service_plugin,
        &gc_plugin,
        &events_service_plugin,
        &healthcheck_service_plugin,
        &introspection_service_plugin,
        &streaming_manager_plugin,
        &streaming_service_plugin,
        &transfer_local_plugin,
        &transfer_service_plugin,
        &runtime_v2_plugin,
        &tasks_service_plugin,
        &mount_manager_plugin,
        &mounts_service_plugin,
        &snapshots_service_plugin,
        &containers_service_plugin,
        &content_service_plugin,
        &images_service_plugin,
        &leases_service_plugin,
        &namespaces_service_plugin,
        &version_service_plugin,
        &grpc_listener_plugin,
        &ttrpc_listener_plugin,
        NULL,
};
