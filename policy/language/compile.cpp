// SPDX-License-Identifier: MIT
#include "policy/language/compile.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>

namespace fdbroker::policy {
namespace {

constexpr std::uint8_t device_types = 1U << static_cast<unsigned>(FileType::character_device) |
                                      1U << static_cast<unsigned>(FileType::block_device);

class Directories {
  public:
    void add(const Rule& rule, const Pattern& pattern) {
        if (!rule.allows) return;
        Needs& needs = needs_[pattern.directory()];
        needs.operations = needs.operations | rule.operations;
        needs.makes_parents =
            needs.makes_parents || (rule.create.parents && rule.operations.intersects(creating_operations));
        needs.snapshots = needs.snapshots || rule.delivery == Delivery::snapshot;
        needs.streams = needs.streams || rule.delivery == Delivery::stream;
        needs.devices = needs.devices || (rule.files.types & device_types) != 0;
    }

    std::vector<Directory> sorted() const {
        std::vector<Directory> directories;
        directories.reserve(needs_.size());
        for (const auto& [path, needs] : needs_)
            directories.push_back({path, needs.operations, needs.devices,
                                   needs.operations.intersects(creating_operations), needs.snapshots,
                                   needs.streams, needs.makes_parents});
        return directories;
    }

  private:
    struct Needs {
        OperationSet operations{};
        bool devices = false;
        bool snapshots = false;
        bool streams = false;
        bool makes_parents = false;
    };
    std::map<std::string, Needs> needs_{};
};

// Notes the rule at the directory and at all that lead to it.
void add_ancestors(Policy::Compiled& compiled, std::string directory, std::uint32_t rule) {
    for (;;) {
        auto& rules = compiled.ancestors[directory];
        if (!rules.empty() && rules.back() == rule) return;
        rules.push_back(rule);
        if (directory == "/") return;
        directory.resize(std::max<std::size_t>(directory.rfind('/'), 1));
    }
}

// A deny rule must not stop holding because an account lost the name. So the number holds a deny
// rule's role, with or without a name. So does the name of an account that did not exist at load time. Made where it matters.
class DenyRoles {
  public:
    explicit DenyRoles(const std::deque<Role>& roles) : roles_(roles) {}

    std::vector<std::uint32_t> of(const std::vector<std::uint32_t>& roles) {
        std::vector<std::uint32_t> of_deny;
        for (const std::uint32_t role : roles) of_deny.push_back(of(role));
        return of_deny;
    }
    std::vector<Role> take() && { return std::move(made_); }

  private:
    std::uint32_t of(std::uint32_t role) {
        if (!std::ranges::any_of(roles_[role].users, &RoleUser::by_name)) return role;
        const auto [known, is_new] =
            index_.try_emplace(role, static_cast<std::uint32_t>(roles_.size() + made_.size()));
        if (is_new) {
            Role& made = made_.emplace_back(roles_[role]);
            for (RoleUser& user : made.users) user.by_name = false;
        }
        return known->second;
    }

    const std::deque<Role>& roles_;
    std::map<std::uint32_t, std::uint32_t> index_{};
    std::vector<Role> made_{};
};

}  // namespace

Policy compile(PolicyDraft draft) {
    auto compiled = std::make_unique<Policy::Compiled>();
    compiled->file_names = std::move(draft.file_names);
    MatcherBuilder builder;
    Directories directories;
    std::set<std::string> denied;
    DenyRoles deny_roles(draft.roles);
    compiled->rules.reserve(draft.rules.size());
    draft.rule_marks = {};
    for (RuleDraft& one : draft.rules) {
        const auto effect = one.rule.allows ? MatcherBuilder::Effect::allow : MatcherBuilder::Effect::deny;
        Entry entry{
            .rule = static_cast<std::uint32_t>(compiled->rules.size()),
            .roles = compiled->role_sets.selector(one.rule.allows ? one.roles : deny_roles.of(one.roles)),
            .operations = one.rule.operations.bits(),
            .hides = one.rule.reveal == Reveal::enoent};
        for (const PathDraft& path : one.paths) {
            entry.pattern = static_cast<std::uint32_t>(compiled->pattern_ends.size());
            for (const Pattern& pattern : path.patterns) {
                builder.add(pattern, effect, entry);
                directories.add(one.rule, pattern);
                if (one.rule.ancestors) add_ancestors(*compiled, pattern.directory(), entry.rule);
                if (!one.rule.allows) denied.insert(pattern.head());
            }
            compiled->pattern_texts += path.text;
            compiled->pattern_ends.push_back(static_cast<std::uint32_t>(compiled->pattern_texts.size()));
            compiled->pattern_rules.push_back(entry.rule);
        }
        if (!one.lint_allowed.empty())
            compiled->lint_allowed.emplace(entry.rule, std::move(one.lint_allowed));
        compiled->rule_roles.push_back(entry.roles);
        compiled->rules.push_back(std::move(one.rule));
        one.paths = {};
    }
    compiled->pattern_texts.shrink_to_fit();
    compiled->pattern_ends.shrink_to_fit();
    compiled->pattern_rules.shrink_to_fit();
    compiled->rule_roles.shrink_to_fit();
    compiled->matcher = std::move(builder).build();
    compiled->directories = directories.sorted();
    compiled->denied_heads.assign(denied.begin(), denied.end());
    compiled->named_roles = draft.roles.size();
    std::vector<Role> made = std::move(deny_roles).take();
    for (Role& role : draft.roles) {
        for (RoleUser& user : role.users) user.name.clear();
        compiled->role_names.push_back(role.name);
        compiled->roles.push_back(std::move(role));
    }
    for (Role& role : made) {
        compiled->role_names.push_back(role.name);
        compiled->roles.push_back(std::move(role));
    }
    compiled->limits = draft.limits;
    compiled->audit = draft.audit;
    compiled->tests = std::move(draft.tests);
    return Policy(std::move(compiled));
}

}  // namespace fdbroker::policy
