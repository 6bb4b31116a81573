// SPDX-License-Identifier: Apache-2.0
//
// The one C++ file: toml++ without exceptions, behind two C functions. Depth and size are bounded by the caller, who
// reads the administrator's files only.
#define TOML_EXCEPTIONS 0
#include "codec/toml.h"

#include <algorithm>
#include <sstream>
#include <toml++/toml.h>
#include <utility>
#include <vector>

extern "C" {
#include "base/error.h"
}

namespace
{

json_t *to_json(const toml::node &node)
{
        if (const toml::table *table = node.as_table()) {
                // In the order of the file, which means something in hosts.toml.
                std::vector<std::pair<const toml::key *, const toml::node *>> members;
                for (const auto &[key, value] : *table)
                        members.emplace_back(&key, &value);
                std::stable_sort(members.begin(), members.end(),
                        [](const auto &a, const auto &b) { return a.first->source().begin < b.first->source().begin; });
                json_t *object = json_object();
                for (const auto &[key, value] : members)
                        json_object_set_new_nocheck(object, std::string(key->str()).c_str(), to_json(*value));
                return object;
        }
        if (const toml::array *array = node.as_array()) {
                json_t *list = json_array();
                for (const toml::node &value : *array)
                        json_array_append_new(list, to_json(value));
                return list;
        }
        if (auto text = node.value_exact<std::string>())
                return json_stringn_nocheck(text->data(), text->size());
        if (auto number = node.value_exact<int64_t>())
                return json_integer(*number);
        if (auto number = node.value_exact<double>())
                return json_real(*number);
        if (auto truth = node.value_exact<bool>())
                return json_boolean(*truth);
        std::ostringstream text;
        node.visit([&](const auto &value) {
                if constexpr (toml::is_date<decltype(value)> || toml::is_time<decltype(value)> ||
                              toml::is_date_time<decltype(value)>)
                        text << *value;
        });
        return json_string(text.str().c_str());
}

toml::table to_table(const json_t *object);
toml::array to_array(const json_t *list);

struct append {
        toml::array &list;
        template <typename T> void operator()(T &&item) const
        {
                list.push_back(std::forward<T>(item));
        }
};

struct assign {
        toml::table &table;
        const char *key;
        template <typename T> void operator()(T &&item) const
        {
                table.insert_or_assign(key, std::forward<T>(item));
        }
};

template <typename Put> void put_json(const json_t *value, Put put)
{
        switch (json_typeof(value)) {
        case JSON_OBJECT:
                put(to_table(value));
                break;
        case JSON_ARRAY:
                put(to_array(value));
                break;
        case JSON_STRING:
                put(std::string(json_string_value(value), json_string_length(value)));
                break;
        case JSON_INTEGER:
                put(int64_t{json_integer_value(value)});
                break;
        case JSON_REAL:
                put(json_real_value(value));
                break;
        case JSON_TRUE:
        case JSON_FALSE:
                put(bool{json_typeof(value) == JSON_TRUE});
                break;
        case JSON_NULL:
                break;
        }
}

toml::array to_array(const json_t *list)
{
        toml::array array;
        for (size_t i = 0; i < json_array_size(list); i++)
                put_json(json_array_get(list, i), append{array});
        return array;
}

toml::table to_table(const json_t *object)
{
        toml::table table;
        json_t *source = const_cast<json_t *>(object);
        for (void *item = json_object_iter(source); item != nullptr; item = json_object_iter_next(source, item))
                put_json(json_object_iter_value(item), assign{table, json_object_iter_key(item)});
        return table;
}

} // namespace

json_t *toml_parse(const char *text, size_t length, const char *name, GError **error)
{
        toml::parse_result result = toml::parse(std::string_view(text, length));
        if (result)
                return to_json(result.table());
        const toml::source_position at = result.error().source().begin;
        std::string what(result.error().description());
        error_fail(error, ERROR_INVALID_ARGUMENT, "%s:%u:%u: %s", name, at.line, at.column, what.c_str());
        return nullptr;
}

char *toml_format(const json_t *object)
{
        std::ostringstream text;
        text << toml::toml_formatter(to_table(object)) << "\n";
        return g_strdup(text.str().c_str());
}
