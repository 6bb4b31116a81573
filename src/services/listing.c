// SPDX-License-Identifier: Apache-2.0
//
// Sending stops where the stream's queue is full, and goes on when it is writable again.
#include "services/listing.h"

#include "services/service.h"

void *listing_open(const struct listing_kind *kind, void *service)
{
        struct listing *listing = g_new(struct listing, 1);
        *listing = (struct listing){
                .kind = kind,
                .service = service,
                .arena = arena_new(),
                .items = g_ptr_array_new(),
        };
        return listing;
}

void listing_on_writable(void *state, struct rpc_stream *stream)
{
        struct listing *listing = state;
        bool more = true;
        while (more && listing->next < listing->items->len) {
                guint n = MIN(listing->kind->items_per_message, listing->items->len - listing->next);
                more = listing->kind->send(stream, &listing->items->pdata[listing->next], n);
                listing->next += n;
        }
        if (listing->next == listing->items->len)
                rpc_stream_finish(stream, NULL);
}

void listing_on_message(void *state, struct rpc_stream *stream, const ProtobufCMessage *message)
{
        struct listing *listing = state;
        struct scope scope;
        GError *error = NULL;
        if (service_stream_scope(stream, &scope, &error) && listing->kind->read(listing, &scope, message, &error))
                listing_on_writable(listing, stream);
        else
                rpc_stream_finish(stream, error);
}

void listing_close(void *state)
{
        struct listing *listing = state;
        g_ptr_array_unref(listing->items);
        arena_free(listing->arena);
        g_free(listing);
}
