// SPDX-License-Identifier: Apache-2.0
//
// The transfers, each the first step of an operation.
#pragma once

#include "plugins/transfer/operation.h"

void pull_begin(struct operation *operation);   // registry → image store
void import_begin(struct operation *operation); // stream → image store
void export_begin(struct operation *operation); // image store → stream
void tag_begin(struct operation *operation);    // image store → image store

// Stores the names that store asks for, all for target; imported: target is one of an imported index's children, whose
// annotations name it. Tells of each ("saved"). NOT_FOUND "no image name found: not found".
struct node;
bool names_store(struct operation *operation, const TransferTypes__ImageStore *store, const struct node *target,
        bool imported, GError **error);
