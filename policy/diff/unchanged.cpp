// SPDX-License-Identifier: MIT
#include "policy/diff/unchanged.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <unordered_map>

#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {
namespace {

struct Item {
    std::string rule{};     // all that the rule says but its name, place and patterns
    std::string pattern{};  // the text
    std::uint32_t index = 0;
};

template <typename Value>
std::string option_text(const std::optional<Value>& value) {
    return value ? std::to_string(*value) : "-";
}

std::string role_text(const Role& role) {
    std::vector<std::string> users;
    for (const RoleUser& user : role.users)
        users.push_back(fmt::format("{}{}:{}", user.uid, user.by_name ? "n" : "", user.name));
    std::ranges::sort(users);
    auto groups = role.groups;
    auto sockets = role.sockets;
    std::ranges::sort(groups);
    std::ranges::sort(sockets);
    return fmt::format("u{}g{}s{};", fmt::join(users, ","), fmt::join(groups, ","), fmt::join(sockets, ","));
}

std::string roles_text(const Policy::Compiled& compiled, std::uint32_t rule) {
    std::vector<std::string> roles;
    for (const std::uint32_t role : compiled.role_sets.roles(compiled.rule_roles[rule]))
        roles.push_back(role_text(compiled.roles[role]));
    std::ranges::sort(roles);
    return fmt::format("{}", fmt::join(roles, ""));
}

std::string rule_text(const Policy::Compiled& compiled, std::uint32_t index) {
    const Rule& rule = compiled.rules[index];
    auto owners = rule.files.owners;
    std::ranges::sort(owners);
    return fmt::format("{} {} {} {} {} | {} {} {} {} {} {} | {} {} {} {} | {} {} | {}", rule.allows,
                       rule.operations.bits(), static_cast<int>(rule.symlinks),
                       static_cast<int>(rule.delivery), static_cast<int>(rule.reveal), rule.files.types,
                       option_text(rule.files.max_links), option_text(rule.files.max_size),
                       rule.files.same_mount, rule.files.peer_owns, fmt::join(owners, ","), rule.create.mode,
                       option_text(rule.create.owner), option_text(rule.create.group), rule.create.parents,
                       rule.rename_directories, rule.deadline.count(), roles_text(compiled, index));
}

// Patterns in file order. Neighbouring rules that say the same have their patterns sorted together: divided rules then look
// like joined ones.
std::vector<Item> items_of(const Policy& policy) {
    const Policy::Compiled& compiled = policy.compiled();
    std::vector<Item> items;
    std::size_t run = 0;
    std::uint32_t last = UINT32_MAX;
    std::string rule;
    const auto close = [&] {
        std::sort(items.begin() + static_cast<std::ptrdiff_t>(run), items.end(),
                  [](const Item& one, const Item& other) {
                      return std::tie(one.pattern, one.index) < std::tie(other.pattern, other.index);
                  });
    };
    for (std::uint32_t index = 0; index < compiled.pattern_ends.size(); ++index) {
        if (compiled.pattern_rules[index] != last) {
            last = compiled.pattern_rules[index];
            std::string next = rule_text(compiled, last);
            if (next != rule) {
                close();
                run = items.size();
            }
            rule = std::move(next);
        }
        items.push_back({rule, std::string(compiled.pattern(index)), index});
    }
    close();
    return items;
}

bool same(const Item& one, const Item& other) {
    return one.rule == other.rule && one.pattern == other.pattern;
}

struct Pair {
    std::size_t before = 0;
    std::size_t after = 0;
};

// The longest list of pairs that ascends on both sides; they ascend in `before` as they come.
std::vector<Pair> longest_ascent(const std::vector<Pair>& pairs) {
    std::vector<std::size_t> ends;  // by length - 1: where the list ends that ends lowest
    std::vector<std::size_t> previous(pairs.size(), SIZE_MAX);
    for (std::size_t at = 0; at < pairs.size(); ++at) {
        const auto place = std::ranges::lower_bound(ends, pairs[at].after, {},
                                                    [&](std::size_t index) { return pairs[index].after; });
        if (place != ends.begin()) previous[at] = *std::prev(place);
        if (place == ends.end()) {
            ends.push_back(at);
        } else {
            *place = at;
        }
    }
    std::vector<Pair> list;
    for (std::size_t at = ends.empty() ? SIZE_MAX : ends.back(); at != SIZE_MAX; at = previous[at])
        list.push_back(pairs[at]);
    return list;
}

}  // namespace

// Patience: what both have at their beginnings and ends, and between these the longest common order of items that each has
// once. An item that stands there twice counts as changed, which costs time and nothing else.
std::array<std::vector<bool>, 2> changed_patterns(const PolicyPair& policies) {
    const std::vector<Item> before = items_of(*policies.before);
    const std::vector<Item> after = items_of(*policies.after);
    std::array changed{std::vector<bool>(before.size(), true), std::vector<bool>(after.size(), true)};
    const auto match = [&](std::size_t one, std::size_t other) {
        changed[0][before[one].index] = false;
        changed[1][after[other].index] = false;
    };
    std::size_t head = 0;
    std::size_t tail = 0;
    const std::size_t shorter = std::min(before.size(), after.size());
    for (; head < shorter && same(before[head], after[head]); ++head) match(head, head);
    for (; head + tail < shorter; ++tail) {
        const std::size_t one = before.size() - 1 - tail;
        const std::size_t other = after.size() - 1 - tail;
        if (!same(before[one], after[other])) break;
        match(one, other);
    }

    struct Places {
        std::size_t before = 0, after = 0, in_before = 0, in_after = 0;
    };
    std::unordered_map<std::string, Places> places;
    const auto key = [](const Item& item) { return item.rule + '\n' + item.pattern; };
    for (std::size_t at = head; at + tail < before.size(); ++at) {
        Places& found = places[key(before[at])];
        found.before = at;
        ++found.in_before;
    }
    for (std::size_t at = head; at + tail < after.size(); ++at) {
        Places& found = places[key(after[at])];
        found.after = at;
        ++found.in_after;
    }
    std::vector<Pair> pairs;
    for (const auto& [text, found] : places)
        if (found.in_before == 1 && found.in_after == 1) pairs.push_back({found.before, found.after});
    std::ranges::sort(pairs, {}, &Pair::before);
    for (const Pair& pair : longest_ascent(pairs)) match(pair.before, pair.after);
    return changed;
}

std::set<std::string> changed_ancestors(const PolicyPair& policies) {
    std::map<std::string, std::array<std::set<std::string>, 2>> peers;
    for (const Side side : both_sides) {
        const Policy::Compiled& compiled = policies[side].compiled();
        for (const auto& [directory, rules] : compiled.ancestors)
            for (const std::uint32_t rule : rules)
                peers[directory][static_cast<std::size_t>(side)].insert(roles_text(compiled, rule));
    }
    std::set<std::string> changed;
    for (const auto& [directory, of] : peers)
        if (of[0] != of[1]) changed.insert(directory);
    return changed;
}

}  // namespace fdbroker::policy
