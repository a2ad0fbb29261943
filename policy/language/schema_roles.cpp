// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include "policy/language/schema.hpp"

namespace fdbroker::policy {
namespace {

constexpr Key<LoadContext, Role> role_keys[] = {
    {"users",
     [](LoadContext& context, const Node& node, Role& role) {
         for (const Node& entry : context.reader.list(node, "users"))
             if (const auto user = context.reader.user(entry, "users"))
                 role.users.push_back({user->id, user->by_name, user->id == no_account ? entry.text : ""});
     }},
    {"groups",
     [](LoadContext& context, const Node& node, Role& role) {
         for (const Node& entry : context.reader.list(node, "groups"))
             if (const auto group = context.reader.group(entry, "groups")) role.groups.push_back(group->id);
     }},
    {"sockets",
     [](LoadContext& context, const Node& node, Role& role) {
         for (const Node& entry : context.reader.list(node, "sockets"))
             if (auto name = context.reader.name(entry, "sockets")) role.sockets.push_back(std::move(*name));
     }},
};

}  // namespace

void describe_roles(LoadContext& context, ShapeReader& shapes) {
    Role role;
    shapes.begin_named();
    read_mapping(context, {}, "", role_keys, role);
    shapes.end_named();
}

void read_roles(LoadContext& context, const Node& node) {
    Reader& reader = context.reader;
    if (!reader.is_mapping(node, "roles")) return;
    for (std::size_t index = 0; index < node.children.size(); index += 2) {
        const Node& key = node.children[index];
        if (key.kind != Node::Kind::scalar) continue;
        Role role{.location = reader.location(key.mark)};
        if (auto name = reader.name(key, "role")) role.name = std::move(*name);
        {
            const Reader::Scope scope(reader, fmt::format("role \"{}\"", key.text));
            read_mapping(context, node.children[index + 1], "", role_keys, role);
        }
        PolicyDraft& draft = context.draft;
        if (const auto known = draft.role_index.find(role.name); known != draft.role_index.end()) {
            const Location& first = draft.roles[known->second].location;
            // Twice in one file is a duplicate key and has been told.
            if (first.file != role.location.file)
                reader.wrong(
                    key.mark,
                    fmt::format("role \"{}\" is already defined at {}:{}", role.name, first.file, first.line),
                    DiagnosticCode::name_taken);
            continue;
        }
        draft.roles.push_back(std::move(role));
        draft.role_names.emplace_back(draft.roles.back().name);
        draft.role_index.emplace(draft.role_names.back(), static_cast<std::uint32_t>(draft.roles.size() - 1));
    }
}

}  // namespace fdbroker::policy
