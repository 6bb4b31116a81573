// SPDX-License-Identifier: Apache-2.0
//
// A node is a record, or a name that something refers to and that may have no record. It has two kinds of edges: those
// of fields (parent, target), which are followed always, and those of labels, which are not followed from a node that
// only a flat lease holds; therefore a node is marked in two degrees. Back references (gc.bref) are edges of the node
// that they name.
#include "plugins/gc/graph.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

enum mark { MARK_NONE, MARK_FLAT, MARK_FULL };

struct node {
        enum resource_type type;
        const char *namespace_, *key;
        bool exists, root, flat_root;
        enum mark mark;
        GPtrArray *fields, *labels; // edges, of struct node; NULL: none
        int64_t used_at_ns;         // label gc.cond.value-usedat; INT64_MIN: none
};

// A reference from owner to snapshot that holds if the snapshot was used longer, or less long, ago.
struct condition {
        struct node *owner, *snapshot;
        bool longer;
        int64_t age_ns;
};

struct graph {
        struct arena *arena;
        GHashTable *nodes;      // as a set
        GHashTable *namespaces; // texts of the arena
        GArray *conditions;
        GPtrArray *gray; // marked, edges not followed yet
        int64_t now_ns;
};

static guint hash_node(gconstpointer data)
{
        const struct node *node = data;
        return g_str_hash(node->key) * 31 + g_str_hash(node->namespace_) + node->type;
}

static gboolean equal_nodes(gconstpointer a, gconstpointer b)
{
        const struct node *left = a, *right = b;
        return left->type == right->type && strcmp(left->key, right->key) == 0 &&
               strcmp(left->namespace_, right->namespace_) == 0;
}

static void free_edges(void *data)
{
        struct node *node = data;
        g_clear_pointer(&node->fields, g_ptr_array_unref);
        g_clear_pointer(&node->labels, g_ptr_array_unref);
}

struct graph *graph_new(int64_t now_ns)
{
        struct graph *graph = g_new0(struct graph, 1);
        graph->arena = arena_new();
        graph->nodes = g_hash_table_new_full(hash_node, equal_nodes, free_edges, NULL);
        graph->namespaces = g_hash_table_new(g_str_hash, g_str_equal);
        graph->conditions = g_array_new(FALSE, FALSE, sizeof(struct condition));
        graph->gray = g_ptr_array_new();
        graph->now_ns = now_ns;
        return graph;
}

void graph_free(struct graph *graph)
{
        if (graph == NULL)
                return;
        g_hash_table_destroy(graph->nodes);
        g_hash_table_destroy(graph->namespaces);
        g_array_unref(graph->conditions);
        g_ptr_array_unref(graph->gray);
        arena_free(graph->arena);
        g_free(graph);
}

static const char *intern(struct graph *graph, const char *namespace_)
{
        const char *known = g_hash_table_lookup(graph->namespaces, namespace_);
        if (known == NULL) {
                known = arena_strdup(graph->arena, namespace_);
                g_hash_table_add(graph->namespaces, (void *)known);
        }
        return known;
}

static struct node *find(struct graph *graph, enum resource_type type, const char *namespace_, const char *key)
{
        const struct node wanted = {.type = type, .namespace_ = namespace_, .key = key};
        struct node *node = g_hash_table_lookup(graph->nodes, &wanted);
        if (node != NULL)
                return node;
        node = arena_new0(graph->arena, struct node);
        node->type = type;
        node->namespace_ = intern(graph, namespace_);
        node->key = arena_strdup(graph->arena, key);
        node->used_at_ns = INT64_MIN;
        g_hash_table_add(graph->nodes, node);
        return node;
}

static struct node *find_snapshot(struct graph *graph, const char *namespace_, const char *snapshotter, const char *key)
{
        g_autofree char *path = g_strconcat(snapshotter, "/", key, NULL);
        return find(graph, RESOURCE_SNAPSHOT, namespace_, path);
}

static void add_edge(GPtrArray **edges, struct node *to)
{
        if (*edges == NULL)
                *edges = g_ptr_array_new();
        g_ptr_array_add(*edges, to);
}

// A node whose edges grow after it was marked is looked at again.
static void look_again(struct graph *graph, struct node *node)
{
        if (node->mark != MARK_NONE)
                g_ptr_array_add(graph->gray, node);
}

// ---- labels

#define PREFIX "containerd.io/gc."

// For "containerd.io/gc.ref.content" and the like: the label is that, or that with a name behind "." or "/".
static bool names(const char *key, const char *label)
{
        size_t length = strlen(label);
        return strncmp(key, label, length) == 0 && (key[length] == '\0' || key[length] == '.' || key[length] == '/');
}

// For "containerd.io/gc.ref.snapshot.": what follows is the snapshotter, then perhaps "/" and a name.
static struct node *snapshot_target(
        struct graph *graph, const char *namespace_, const char *snapshotter, const char *key)
{
        g_autofree char *name = g_strndup(snapshotter, strcspn(snapshotter, "/"));
        return find_snapshot(graph, namespace_, name, key);
}

// kind: PREFIX "ref." or PREFIX "bref.". NULL: the label refers to nothing that we know.
static struct node *label_target(
        struct graph *graph, const char *namespace_, const struct label *label, const char *kind)
{
        static const struct {
                const char *name;
                enum resource_type type;
                bool by_ref, by_bref;
        } types[] = {
                {"content", RESOURCE_CONTENT, true, true},
                {"image", RESOURCE_IMAGE, true, true},
                {"container", RESOURCE_CONTAINER, false, true},
                {"mount", RESOURCE_MOUNT, true, false},
        };
        bool back = strcmp(kind, PREFIX "bref.") == 0;
        const char *rest = label->key + strlen(kind);
        for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
                if (names(rest, types[i].name) && (back ? types[i].by_bref : types[i].by_ref))
                        return find(graph, types[i].type, namespace_, label->value);
        }
        if (g_str_has_prefix(rest, "snapshot."))
                return snapshot_target(graph, namespace_, rest + strlen("snapshot."), label->value);
        return NULL;
}

// "usedat<24h,usedat>1h|KEY": any of the conditions, then the key of a snapshot.
static void add_conditions(struct graph *graph, struct node *owner, const struct label *label)
{
        const char *bar = strchr(label->value, '|');
        if (bar == NULL)
                return;
        const char *snapshotter = label->key + strlen(PREFIX "cond.snapshot");
        struct node *snapshot =
                snapshot_target(graph, owner->namespace_, snapshotter + strspn(snapshotter, "./"), bar + 1);
        g_autofree char *all = g_strndup(label->value, (gsize)(bar - label->value));
        g_auto(GStrv) parts = g_strsplit(all, ",", -1);
        for (char **part = parts; *part != NULL; part++) {
                int64_t age_ns;
                if (!g_str_has_prefix(*part, "usedat"))
                        continue;
                const char *sign = *part + strlen("usedat");
                if ((*sign != '<' && *sign != '>') || !clock_parse_duration(sign + 1, &age_ns))
                        continue;
                const struct condition condition = {owner, snapshot, *sign == '>', age_ns};
                g_array_append_val(graph->conditions, condition);
        }
}

static void add_reference(struct graph *graph, struct node *node, const struct label *label)
{
        struct node *target = label_target(graph, node->namespace_, label, PREFIX "ref.");
        if (target != NULL)
                add_edge(&node->labels, target);
}

static void add_back_reference(struct graph *graph, struct node *node, const struct label *label)
{
        struct node *target = label_target(graph, node->namespace_, label, PREFIX "bref.");
        if (target != NULL) {
                add_edge(&target->labels, node);
                look_again(graph, target);
        }
}

static void add_labels(struct graph *graph, struct node *node, const struct labels *labels)
{
        bool conditional = node->type == RESOURCE_IMAGE || node->type == RESOURCE_CONTENT;
        for (size_t i = 0; i < labels->n; i++) {
                const struct label *label = &labels->items[i];
                if (g_str_has_prefix(label->key, PREFIX "ref."))
                        add_reference(graph, node, label);
                else if (g_str_has_prefix(label->key, PREFIX "bref."))
                        add_back_reference(graph, node, label);
                else if (conditional && g_str_has_prefix(label->key, PREFIX "cond.snapshot"))
                        add_conditions(graph, node, label);
                else if (node->type == RESOURCE_SNAPSHOT && g_str_has_prefix(label->key, PREFIX "cond.value-usedat"))
                        clock_parse_rfc3339(label->value, &node->used_at_ns);
        }
}

static bool has_root_label(const struct labels *labels)
{
        for (size_t i = 0; i < labels->n; i++) {
                if (g_str_has_prefix(labels->items[i].key, PREFIX "root"))
                        return true;
        }
        return false;
}

static bool is_expired(const struct graph *graph, const struct labels *labels, const char *what, const char *name)
{
        const char *value = labels_get(labels, PREFIX "expire");
        int64_t expires_ns;
        if (value == NULL)
                return false;
        if (clock_parse_rfc3339(value, &expires_ns))
                return graph->now_ns > expires_ns;
        log_info("a time of expiry cannot be read and is ignored", what, name, "value", value);
        return false;
}

// ---- records

static struct node *add_record(struct graph *graph, enum resource_type type, const char *namespace_, const char *key,
        const struct labels *labels)
{
        struct node *node = find(graph, type, namespace_, key);
        node->exists = true;
        if (labels != NULL)
                add_labels(graph, node, labels);
        look_again(graph, node);
        return node;
}

void graph_add_image(struct graph *graph, const char *namespace_, const struct image *image, bool recent)
{
        struct node *node = add_record(graph, RESOURCE_IMAGE, namespace_, image->name, &image->labels);
        add_edge(&node->fields, find(graph, RESOURCE_CONTENT, namespace_, image->target.digest));
        if (recent || !is_expired(graph, &image->labels, "image", image->name))
                node->root = true;
}

void graph_add_blob(struct graph *graph, const char *namespace_, const struct blob *blob, bool recent)
{
        struct node *node = add_record(graph, RESOURCE_CONTENT, namespace_, blob->digest, &blob->labels);
        if (recent || has_root_label(&blob->labels))
                node->root = true;
}

void graph_add_ingest(struct graph *graph, const char *namespace_, const struct ingest *ingest, bool recent)
{
        struct node *node = add_record(graph, RESOURCE_INGEST, namespace_, ingest->ref, NULL);
        if (ingest->expected[0] != '\0')
                add_edge(&node->fields, find(graph, RESOURCE_CONTENT, namespace_, ingest->expected));
        if (recent || (ingest->expires_ns != 0 && graph->now_ns <= ingest->expires_ns))
                node->root = true;
}

void graph_add_container(struct graph *graph, const char *namespace_, const struct container *container)
{
        struct node *node = add_record(graph, RESOURCE_CONTAINER, namespace_, container->id, &container->labels);
        if (container->snapshotter[0] != '\0')
                add_edge(&node->fields,
                        find_snapshot(graph, namespace_, container->snapshotter, container->snapshot_key));
        node->root = true;
}

void graph_add_snapshot(struct graph *graph, const char *namespace_, const struct snapshot *snapshot, bool recent)
{
        g_autofree char *key = g_strconcat(snapshot->snapshotter, "/", snapshot->key, NULL);
        struct node *node = add_record(graph, RESOURCE_SNAPSHOT, namespace_, key, &snapshot->labels);
        if (snapshot->parent[0] != '\0')
                add_edge(&node->fields, find_snapshot(graph, namespace_, snapshot->snapshotter, snapshot->parent));
        // Until it is on disk, it may have to be unpacked again.
        if (!snapshot->synced && snapshot->blob[0] != '\0')
                add_edge(&node->fields, find(graph, RESOURCE_CONTENT, namespace_, snapshot->blob));
        if (recent || has_root_label(&snapshot->labels))
                node->root = true;
}

void graph_add_activation(struct graph *graph, const char *namespace_, const struct activation *activation, bool recent)
{
        struct node *node = add_record(graph, RESOURCE_MOUNT, namespace_, activation->name, &activation->labels);
        if (activation->lease[0] != '\0')
                add_edge(&find(graph, RESOURCE_LEASE, namespace_, activation->lease)->fields, node);
        if (recent || !activation->complete)
                node->root = true;
}

// A sandbox is not collected itself; what its labels refer to is used.
void graph_add_sandbox(struct graph *graph, const char *namespace_, const struct sandbox *sandbox)
{
        for (size_t i = 0; i < sandbox->labels.n; i++) {
                const struct label *label = &sandbox->labels.items[i];
                struct node *target = NULL;
                if (g_str_has_prefix(label->key, PREFIX "ref."))
                        target = label_target(graph, namespace_, label, PREFIX "ref.");
                if (target != NULL)
                        target->root = true;
        }
}

bool graph_add_lease(struct graph *graph, const char *namespace_, const struct lease *lease)
{
        struct node *node = add_record(graph, RESOURCE_LEASE, namespace_, lease->id, NULL);
        if (is_expired(graph, &lease->labels, "lease", lease->id))
                return false;
        node->root = true;
        return true;
}

void graph_add_lease_resource(
        struct graph *graph, const char *namespace_, const struct lease *lease, const struct lease_resource *resource)
{
        struct node *node;
        bool flat = labels_get(&lease->labels, PREFIX "flat") != NULL;
        if (strcmp(resource->type, "content") == 0)
                node = find(graph, RESOURCE_CONTENT, namespace_, resource->id);
        else if (strcmp(resource->type, "images") == 0)
                node = find(graph, RESOURCE_IMAGE, namespace_, resource->id);
        else if (strcmp(resource->type, "ingests") == 0)
                node = find(graph, RESOURCE_INGEST, namespace_, resource->id);
        else if (g_str_has_prefix(resource->type, "snapshots/"))
                node = find_snapshot(graph, namespace_, resource->type + strlen("snapshots/"), resource->id);
        else
                return;
        if (flat && node->type != RESOURCE_INGEST)
                node->flat_root = true;
        else
                node->root = true;
}

// ---- marking

static void mark(struct graph *graph, struct node *node, enum mark degree)
{
        if (node->mark >= degree)
                return;
        node->mark = degree;
        g_ptr_array_add(graph->gray, node);
}

static void follow(struct graph *graph, const GPtrArray *edges, enum mark degree)
{
        for (guint i = 0; edges != NULL && i < edges->len; i++)
                mark(graph, g_ptr_array_index(edges, i), degree);
}

static void resolve_conditions(struct graph *graph)
{
        for (guint i = 0; i < graph->conditions->len; i++) {
                const struct condition *condition = &g_array_index(graph->conditions, struct condition, i);
                if (condition->snapshot->used_at_ns == INT64_MIN)
                        continue;
                int64_t age_ns = graph->now_ns - condition->snapshot->used_at_ns;
                if (condition->longer ? age_ns > condition->age_ns : age_ns < condition->age_ns) {
                        add_edge(&condition->owner->labels, condition->snapshot);
                        look_again(graph, condition->owner);
                }
        }
        g_array_set_size(graph->conditions, 0);
}

void graph_mark(struct graph *graph)
{
        resolve_conditions(graph);
        GHashTableIter iter;
        void *key;
        g_hash_table_iter_init(&iter, graph->nodes);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
                struct node *node = key;
                if (node->root)
                        mark(graph, node, MARK_FULL);
                else if (node->flat_root)
                        mark(graph, node, MARK_FLAT);
        }
        while (graph->gray->len > 0) {
                const struct node *node = g_ptr_array_steal_index_fast(graph->gray, graph->gray->len - 1);
                follow(graph, node->fields, node->mark);
                if (node->mark == MARK_FULL)
                        follow(graph, node->labels, MARK_FULL);
        }
}

void graph_each_unreachable(struct graph *graph, resource_fn fn, void *data)
{
        GHashTableIter iter;
        void *key;
        g_hash_table_iter_init(&iter, graph->nodes);
        while (g_hash_table_iter_next(&iter, &key, NULL)) {
                const struct node *node = key;
                if (node->exists && node->mark == MARK_NONE)
                        fn(data, node->type, node->namespace_, node->key);
        }
}
