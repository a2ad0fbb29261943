// SPDX-License-Identifier: MIT
#include "tests/support/policy_reference.hpp"

#include <fmt/format.h>

#include "policy/language/compile.hpp"

namespace fdbroker::test {
namespace {

using policy::Operation;
using policy::operation_count;
using policy::OperationSet;
using policy::PeerValues;

using Names = std::vector<std::string_view>;

Names split(std::string_view path) {
    Names names;
    path.remove_prefix(1);
    while (!path.empty()) {
        const std::size_t slash = std::min(path.find('/'), path.size());
        names.push_back(path.substr(0, slash));
        path.remove_prefix(std::min(slash + 1, path.size()));
    }
    return names;
}

// The byte that the escape at the head of the text stands for.
char escaped(std::string_view escape) {
    if (escape[1] != 'x') return escape[1];
    return static_cast<char>(std::stoi(std::string(escape.substr(2, 2)), nullptr, 16));
}

// The length of the escape, class, variable or byte at the head of the pattern.
std::size_t token(std::string_view pattern) {
    if (pattern[0] == '\\') return pattern[1] == 'x' ? 4 : 2;
    if (pattern.starts_with("${")) return pattern.find('}') + 1;
    if (pattern[0] != '[') return 1;
    std::size_t at = 1;
    while (pattern[at] != ']') at += pattern[at] == '\\' ? 2U : 1U;
    return at + 1;
}

bool in_class(std::string_view inside, char byte) {
    const bool negated = inside[0] == '!';
    if (negated) inside.remove_prefix(1);
    const auto take = [&] {
        const bool escape = inside[0] == '\\';
        const char taken = escape ? escaped(inside) : inside[0];
        inside.remove_prefix(escape ? token(inside) : 1);
        return static_cast<unsigned char>(taken);
    };
    bool found = false;
    while (!inside.empty()) {
        const unsigned char first = take();
        unsigned char last = first;
        if (inside.size() > 1 && inside[0] == '-') {
            inside.remove_prefix(1);
            last = take();
        }
        const auto value = static_cast<unsigned char>(byte);
        found = found || (first <= value && value <= last);
    }
    return found != negated;
}

std::string_view value_of(std::string_view variable, const PeerValues& values) {
    if (variable == "${user}") return values[0];
    if (variable == "${uid}") return values[1];
    if (variable == "${group}") return values[2];
    return values[3];
}

bool name_matches(const std::string& pattern, std::string_view name, const PeerValues& values) {
    if (pattern.empty()) return name.empty();
    const std::size_t length = token(pattern);
    const std::string rest = pattern.substr(length);
    switch (pattern[0]) {
        case '*':
            return name_matches(rest, name, values) ||
                   (!name.empty() && name_matches(pattern, name.substr(1), values));
        case '?':
            return !name.empty() && name_matches(rest, name.substr(1), values);
        case '[':
            return !name.empty() && in_class(std::string_view(pattern).substr(1, length - 2), name[0]) &&
                   name_matches(rest, name.substr(1), values);
        case '{': {
            std::vector<std::string> alternatives(1);
            std::size_t at = 1;
            for (; pattern[at] != '}'; at += token(std::string_view(pattern).substr(at))) {
                if (pattern[at] == ',') {
                    alternatives.emplace_back();
                } else {
                    alternatives.back() += pattern.substr(at, token(std::string_view(pattern).substr(at)));
                }
            }
            for (const std::string& alternative : alternatives)
                if (name_matches(alternative + pattern.substr(at + 1), name, values)) return true;
            return false;
        }
        default:
            break;
    }
    const bool escape = pattern[0] == '\\';
    if (length > 1 && !escape) {
        const std::string_view value = value_of(std::string_view(pattern).substr(0, length), values);
        return !value.empty() && name.starts_with(value) &&
               name_matches(rest, name.substr(value.size()), values);
    }
    return !name.empty() && name[0] == (escape ? escaped(pattern) : pattern[0]) &&
           name_matches(rest, name.substr(1), values);
}

struct Question {
    const PeerValues& values;
    Operation operation;
};

bool names_match(const Names& pattern, std::size_t at, const Names& path, std::size_t place,
                 const Question& question) {
    if (at == pattern.size()) return place == path.size();
    if (pattern[at] == "**") {
        std::size_t next = at;
        while (next < pattern.size() && pattern[next] == "**") ++next;
        if (next == pattern.size()) {
            const bool itself =
                question.operation == Operation::stat || question.operation == Operation::list;
            return place < path.size() || itself;
        }
        if (names_match(pattern, next, path, place, question)) return true;
        return place < path.size() && names_match(pattern, at, path, place + 1, question);
    }
    return place < path.size() && name_matches(std::string(pattern[at]), path[place], question.values) &&
           names_match(pattern, at + 1, path, place + 1, question);
}

bool rule_matches(const ReferenceRule& rule, const Names& path, const Question& question) {
    if (!rule.held || !rule.operations.contains(question.operation)) return false;
    const Names pattern = split(rule.pattern);
    if (rule.allows) return names_match(pattern, 0, path, 0, question);
    for (Names above = path;; above.pop_back()) {
        if (names_match(pattern, 0, above, 0, question)) return true;
        if (above.empty()) return false;
    }
}

std::vector<Operation> members(OperationSet operations) {
    std::vector<Operation> found;
    for (unsigned index = 0; index < operation_count; ++index)
        if (operations.contains(static_cast<Operation>(index)))
            found.push_back(static_cast<Operation>(index));
    return found;
}

std::string name_of(const std::optional<std::size_t>& rule) {
    return rule ? std::to_string(*rule) : "none";
}

}  // namespace

ReferenceDecision reference_decision(const std::vector<ReferenceRule>& rules, OperationSet operations,
                                     std::string_view text, const PeerValues& values) {
    const Names path = split(text);
    ReferenceDecision decision;
    for (std::size_t index = 0; index < rules.size(); ++index) {
        for (const Operation operation : members(operations)) {
            if (!rule_matches(rules[index], path, {values, operation})) continue;
            auto& allowed_by = decision.allowed_by[static_cast<std::size_t>(operation)];
            if (rules[index].allows) {
                if (!allowed_by) allowed_by = index;
            } else if (!decision.denied_by || decision.denied_by == index) {
                decision.denied_by = index;
                decision.refused.insert(operation);
            }
        }
    }
    if (decision.denied_by) return decision;
    for (const Operation operation : members(operations))
        if (!decision.allowed_by[static_cast<std::size_t>(operation)]) decision.refused.insert(operation);
    return decision;
}

policy::Policy policy_of(const std::vector<ReferenceRule>& rules) {
    policy::PolicyDraft draft;
    draft.roles.push_back({.name = "held", .users = {{.uid = 1000, .by_name = false}}});
    draft.roles.push_back({.name = "not-held", .users = {{.uid = 1001, .by_name = false}}});
    for (const ReferenceRule& rule : rules) {
        policy::RuleDraft one;
        one.rule.name = std::to_string(draft.rules.size());
        one.rule.allows = rule.allows;
        one.rule.operations = rule.operations;
        one.roles = {rule.held ? 0U : 1U};
        one.paths.push_back({rule.pattern, policy::parse_pattern(rule.pattern).value()});
        draft.rules.push_back(std::move(one));
    }
    return policy::compile(std::move(draft));
}

std::string difference(const std::vector<ReferenceRule>& rules, OperationSet operations,
                       policy::RequestPath path, const policy::PeerIdentity& identity) {
    const policy::Policy policy = policy_of(rules);
    const policy::Peer peer = policy.identify(identity);
    const policy::Decision got = policy.decide(peer, operations, path);
    const ReferenceDecision expected = reference_decision(rules, operations, path.text(), peer.values());

    if (!got) {
        const std::string denied = got.error().denied_by != nullptr ? got.error().denied_by->name : "none";
        if (denied != name_of(expected.denied_by))
            return fmt::format("denied by {}, expected {}", denied, name_of(expected.denied_by));
        if (got.error().operations == expected.refused) return {};
        return fmt::format("refused {:#x}, expected {:#x}", got.error().operations.bits(),
                           expected.refused.bits());
    }
    if (!expected.refused.empty()) return "allowed, expected a refusal";
    std::vector<const policy::Rule*> used;
    for (const Operation operation : members(operations)) {
        const policy::Rule* const rule =
            &policy.rules()[*expected.allowed_by[static_cast<std::size_t>(operation)]];
        if (std::find(used.begin(), used.end(), rule) == used.end()) used.push_back(rule);
    }
    const auto granted = got->rules();
    return std::vector<const policy::Rule*>(granted.begin(), granted.end()) == used
               ? ""
               : "granted by other rules";
}

}  // namespace fdbroker::test
