// SPDX-License-Identifier: Apache-2.0
//
// The gRPC services, each a plugin of type io.containerd.grpc.v1 (or ttrpc) in a file of its name.
#pragma once

#include "core/plugin.h"

extern const struct plugin containers_service_plugin;
extern const struct plugin content_service_plugin;
extern const struct plugin diff_service_plugin;
extern const struct plugin events_service_plugin;
extern const struct plugin healthcheck_service_plugin;
extern const struct plugin images_service_plugin;
extern const struct plugin introspection_service_plugin;
extern const struct plugin leases_service_plugin;
extern const struct plugin mounts_service_plugin;
extern const struct plugin namespaces_service_plugin;
extern const struct plugin streaming_service_plugin;
extern const struct plugin tasks_service_plugin;
extern const struct plugin snapshots_service_plugin;
extern const struct plugin transfer_service_plugin;
extern const struct plugin version_service_plugin;
