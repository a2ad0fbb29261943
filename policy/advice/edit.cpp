// SPDX-License-Identifier: MIT
#include "policy/advice/edit.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {
namespace {

// Deny rules have roles of their own in place of some (compile.cpp), which bear the same names.
std::uint32_t named_role(const Policy::Compiled& compiled, std::uint32_t role) {
    if (role < compiled.named_roles) return role;
    const auto named = compiled.role_names.begin() + static_cast<std::ptrdiff_t>(compiled.named_roles);
    return static_cast<std::uint32_t>(
        std::find(compiled.role_names.begin(), named, compiled.role_names[role]) -
        compiled.role_names.begin());
}

// Whether the bytes are UTF-8 without control characters, as a policy's text may be.
bool is_text(std::string_view bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
        const auto byte = static_cast<std::uint8_t>(bytes[at]);
        if (byte < 0x20 || byte == 0x7f) return false;
        if (byte >= 0xf5 || (byte >= 0x80 && byte < 0xc2)) return false;
        // Bytes that follow the first one.
        const std::size_t more = byte >= 0xf0 ? 3U : (byte >= 0xc2 ? 1U : 0U) + (byte >= 0xe0 ? 1U : 0U);
        if (at + more >= bytes.size()) return false;
        for (std::size_t index = 1; index <= more; ++index)
            if ((static_cast<std::uint8_t>(bytes[at + index]) & 0xc0U) != 0x80) return false;
        if (more > 0) {
            const auto next = static_cast<std::uint8_t>(bytes[at + 1]);
            // Overlong forms, surrogates, beyond U+10FFFF, and U+0080 to U+009F, which control terminals.
            if ((byte == 0xe0 && next < 0xa0) || (byte == 0xed && next >= 0xa0) ||
                (byte == 0xf0 && next < 0x90) || (byte == 0xf4 && next >= 0x90) ||
                (byte == 0xc2 && next < 0xa0))
                return false;
        }
        at += more + 1;
    }
    return true;
}

}  // namespace

PolicyDraft draft_of(const Policy& policy) {
    const Policy::Compiled& compiled = policy.compiled();
    PolicyDraft draft;
    draft.file_names = compiled.file_names;
    for (const Role& role : std::span(compiled.roles).first(compiled.named_roles))
        draft.roles.push_back(role);
    for (std::uint32_t index = 0; index < compiled.rules.size(); ++index) {
        RuleDraft& rule = draft.rules.emplace_back();
        rule.rule = compiled.rules[index];
        for (const std::uint32_t role : compiled.role_sets.roles(compiled.rule_roles[index]))
            rule.roles.push_back(named_role(compiled, role));
    }
    for (std::uint32_t index = 0; index < compiled.pattern_ends.size(); ++index)
        draft.rules[compiled.pattern_rules[index]].paths.push_back(
            path_draft(std::string(compiled.pattern(index))));
    draft.limits = compiled.limits;
    draft.audit = compiled.audit;
    return draft;
}

std::uint32_t role_of_user(PolicyDraft& draft, std::uint32_t uid, Meant meant, const std::string& socket) {
    const bool by_name = meant == Meant::by_name;
    std::vector<std::string> sockets;
    if (!socket.empty()) sockets.push_back(socket);
    const auto is_it = [&](const Role& role) {
        return role.users.size() == 1 && role.users.front().uid == uid &&
               role.users.front().by_name == by_name && role.groups.empty() && role.sockets == sockets;
    };
    const auto known = std::ranges::find_if(draft.roles, is_it);
    if (known == draft.roles.end())
        draft.roles.push_back({.name = fmt::format("user-{}-{}", uid, socket),
                               .users = {{.uid = uid, .by_name = by_name}},
                               .sockets = sockets});
    return static_cast<std::uint32_t>(std::ranges::find_if(draft.roles, is_it) - draft.roles.begin());
}

std::string pattern_of(std::string_view path) {
    constexpr std::string_view special = "*?[]{}\\$";
    const bool text = is_text(path);
    std::string pattern;
    for (const char byte : path) {
        const auto value = static_cast<std::uint8_t>(byte);
        if (value < 0x20 || value == 0x7f || (value >= 0x80 && !text)) {
            pattern += fmt::format("\\x{:02x}", value);
            continue;
        }
        if (special.find(byte) != std::string_view::npos) pattern += '\\';
        pattern += byte;
    }
    return pattern;
}

PathDraft path_draft(std::string pattern) {
    auto patterns = parse_pattern(pattern);
    return {std::move(pattern), std::move(patterns.value())};
}

}  // namespace fdbroker::policy
