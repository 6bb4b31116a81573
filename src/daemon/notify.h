// SPDX-License-Identifier: Apache-2.0
//
// The sd_notify protocol (systemd's sd_notify(3)): one datagram to $NOTIFY_SOCKET. Threads: any.
#pragma once

// state: "READY=1", "STOPPING=1", … Does nothing where there is no service manager.
void notify_service_manager(const char *state);
