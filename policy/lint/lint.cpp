// SPDX-License-Identifier: MIT
#include "policy/lint/lint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "policy/explain/explain.hpp"
#include "policy/lint/sensitive.hpp"
#include "policy/matching/compiled.hpp"
#include "policy/matching/cover.hpp"
#include "policy/matching/denied.hpp"

namespace fdbroker::policy {
namespace {

class Linter {
  public:
    Linter(const Policy& policy, const Accounts& accounts, const Disk* disk,
           std::span<const WideDirectory> wide)
        : policy_(policy),
          compiled_(policy.compiled()),
          accounts_(accounts),
          disk_(disk),
          wide_(wide.begin(), wide.end()) {}

    std::vector<Finding> run() && {
        read_patterns();
        for (std::uint32_t rule = 0; rule < compiled_.rules.size(); ++rule) check_rule(rule);
        return std::move(findings_);
    }

  private:
    struct Path {
        std::uint32_t rule = 0;
        Pattern pattern{};
    };

    using PathIndex = std::unordered_map<std::string, std::vector<std::uint32_t>>;  // into paths_
    // The first allow rule that changes files in a directory, and the first that does not.
    struct Users {
        std::uint32_t writer = Matcher::none;
        std::uint32_t reader = Matcher::none;
    };

    const Rule& rule_at(std::uint32_t index) const { return compiled_.rules[index]; }

    void read_patterns() {
        by_rule_.resize(compiled_.rules.size());
        for (std::uint32_t index = 0; index < compiled_.pattern_rules.size(); ++index) {
            auto patterns = parse_pattern(compiled_.pattern(index));
            if (!patterns) continue;
            for (Pattern& pattern : *patterns) {
                const std::uint32_t rule = compiled_.pattern_rules[index];
                (pattern.is_literal() ? literals_ : others_)[pattern.head()].push_back(
                    index_of(paths_.size()));
                by_rule_[rule].push_back(index_of(paths_.size()));
                if (rule_at(rule).allows) note_access(rule, pattern.directory());
                paths_.push_back({rule, std::move(pattern)});
            }
        }
    }
    static std::uint32_t index_of(std::size_t size) { return static_cast<std::uint32_t>(size); }

    void report(std::uint32_t rule, std::string_view name, std::string text) {
        const auto silenced = compiled_.lint_allowed.find(rule);
        if (silenced != compiled_.lint_allowed.end() &&
            std::ranges::find(silenced->second, name) != silenced->second.end())
            return;
        findings_.push_back({name, &rule_at(rule), std::move(text)});
    }

    void check_rule(std::uint32_t rule) {
        check_roles(rule);
        if (!rule_at(rule).allows) return;
        if (!check_denied(rule)) check_shadowed(rule);
        check_delivery(rule);
        check_append(rule);
        check_rename(rule);
        check_sensitive(rule);
        check_access(rule);
        if (disk_ != nullptr) check_disk(rule);
        if (!wide_.empty()) check_width(rule);
    }

    // Told of once, by the first rule that names something below it.
    void check_width(std::uint32_t rule) {
        for (const std::uint32_t index : by_rule_[rule]) {
            const std::string directory = paths_[index].pattern.directory();
            std::erase_if(wide_, [&](const WideDirectory& wide) {
                const bool below = wide.path == "/" || (directory.starts_with(wide.path) &&
                                                        directory.substr(wide.path.size()).starts_with('/'));
                if (below)
                    report(rule, "wide-directory",
                           fmt::format("{} is bound, wider than the rules: {}", wide.path, wide.text));
                return below;
            });
        }
    }

    void note_access(std::uint32_t rule, const std::string& directory) {
        Users& users = users_[directory];
        std::uint32_t& first =
            rule_at(rule).operations.intersects(changing_operations) ? users.writer : users.reader;
        first = std::min(first, rule);
    }

    // Calls look(path) for each path that can cover the pattern: those that begin with its head or with less of it.
    template <class Look>
    void each_candidate(const Pattern& pattern, Look look) const {
        std::string head = pattern.head();
        while (true) {
            for (const PathIndex* const paths : {&literals_, &others_}) {
                const auto found = paths->find(head);
                if (found == paths->end()) continue;
                for (const std::uint32_t index : found->second) look(paths_[index]);
            }
            if (head == "/") return;
            head.resize(std::max<std::size_t>(head.rfind('/'), 1));
        }
    }

    bool serves_all_of(std::uint32_t wide, std::uint32_t narrow) const {
        const std::uint32_t wide_roles = compiled_.rule_roles[wide];
        const std::uint32_t narrow_roles = compiled_.rule_roles[narrow];
        if (wide_roles == RoleSets::every_peer || wide_roles == narrow_roles) return true;
        if (narrow_roles == RoleSets::every_peer) return false;
        const auto wide_list = compiled_.role_sets.roles(wide_roles);
        return std::ranges::all_of(compiled_.role_sets.roles(narrow_roles), [&](std::uint32_t role) {
            return std::ranges::find(wide_list, role) != wide_list.end();
        });
    }

    // The operations of `rule` that rules chosen by `chosen` cover for the pattern; names one of those rules.
    template <class Chosen>
    OperationSet covered(std::uint32_t rule, const Pattern& pattern, Reach reach, Chosen chosen,
                         std::uint32_t& by) const {
        OperationSet operations;
        each_candidate(pattern, [&](const Path& path) {
            if (!chosen(path.rule) || !serves_all_of(path.rule, rule) ||
                !covers(path.pattern, reach, pattern))
                return;
            operations = operations | rule_at(path.rule).operations;
            by = path.rule;
        });
        return operations & rule_at(rule).operations;
    }

    template <class Chosen>
    std::optional<std::uint32_t> covered_wholly(std::uint32_t rule, Reach reach, Chosen chosen) const {
        std::uint32_t by = rule;
        for (const std::uint32_t path : by_rule_[rule])
            if (covered(rule, paths_[path].pattern, reach, chosen, by) != rule_at(rule).operations)
                return std::nullopt;
        return by;
    }

    bool check_denied(std::uint32_t rule) {
        const auto by = covered_wholly(rule, Reach::and_below,
                                       [&](std::uint32_t other) { return !rule_at(other).allows; });
        if (by)
            report(rule, "denied-everywhere",
                   fmt::format("allows nothing: rule \"{}\" denies all of it", rule_at(*by).name));
        return by.has_value();
    }

    void check_shadowed(std::uint32_t rule) {
        const auto earlier = [&](std::uint32_t other) { return other < rule && rule_at(other).allows; };
        if (const auto by = covered_wholly(rule, Reach::itself, earlier))
            report(rule, "shadowed",
                   fmt::format("never decides: the earlier rule \"{}\" allows the same", rule_at(*by).name));
    }

    void check_delivery(std::uint32_t rule) {
        for (const std::uint32_t index : by_rule_[rule]) {
            const Rule* other = nullptr;
            each_candidate(paths_[index].pattern, [&](const Path& path) {
                const Rule& candidate = rule_at(path.rule);
                const bool both = candidate.operations.intersects(rule_at(rule).operations) &&
                                  candidate.allows &&
                                  (serves_all_of(path.rule, rule) || serves_all_of(rule, path.rule));
                if (both && path.rule < rule && candidate.delivery != rule_at(rule).delivery &&
                    covers(path.pattern, Reach::itself, paths_[index].pattern))
                    other = &candidate;
            });
            if (other == nullptr) continue;
            report(rule, "mixed-delivery",
                   fmt::format("delivers otherwise than the earlier rule \"{}\" for the same paths",
                               other->name));
            return;
        }
    }

    void check_append(std::uint32_t rule) {
        if (rule_at(rule).operations.contains(Operation::append) &&
            rule_at(rule).delivery == Delivery::descriptor)
            report(rule, "append-by-descriptor",
                   "append with a descriptor lets its holder truncate; deliver: stream is append-only");
    }

    void check_rename(std::uint32_t rule) {
        if (rule_at(rule).operations.contains(Operation::rename) &&
            rule_at(rule).symlinks == Symlinks::follow)
            report(rule, "rename-follows-nothing",
                   "symlinks: follow is for its other operations; a rename follows no link on the way of "
                   "either name");
    }

    void check_sensitive(std::uint32_t rule) {
        if (!rule_at(rule).operations.contains(Operation::read)) return;
        std::string_view told;
        for (const Sensitive& sensitive : sensitive_) {
            if (sensitive.what == told) continue;
            const Pattern* const readable = readable_of(rule, sensitive);
            if (readable == nullptr) continue;
            told = sensitive.what;
            report(rule, "sensitive-read", fmt::format("lets {} be read ({})", told, readable->head()));
        }
    }

    const Pattern* readable_of(std::uint32_t rule, const Sensitive& sensitive) const {
        const auto denies = [&](std::uint32_t other) { return !rule_at(other).allows; };
        std::uint32_t by = rule;
        for (const std::uint32_t path : by_rule_[rule]) {
            const Pattern* const matched = reached(paths_[path].pattern, sensitive);
            if (matched != nullptr &&
                !covered(rule, *matched, Reach::and_below, denies, by).contains(Operation::read))
                return matched;
        }
        return nullptr;
    }

    // A private root binds a directory once: what one rule needs writable is so for all.
    void check_access(std::uint32_t rule) {
        const bool writes = rule_at(rule).operations.intersects(changing_operations);
        for (const std::uint32_t index : by_rule_[rule]) {
            const std::string directory = paths_[index].pattern.directory();
            const Users& users = users_.at(directory);
            const std::uint32_t other = writes ? users.reader : users.writer;
            if (other >= rule) continue;
            report(rule, "mixed-access",
                   fmt::format("needs {} {}, rule \"{}\" needs it {}: it will be writable", directory,
                               writes ? "writable" : "to be read only", rule_at(other).name,
                               writes ? "to be read only" : "writable"));
            return;
        }
    }

    void check_roles(std::uint32_t rule) {
        for (const std::uint32_t index : compiled_.role_sets.roles(compiled_.rule_roles[rule])) {
            const Role& role = compiled_.roles[index];
            if (!rule_at(rule).allows && role.users.empty() && role.sockets.empty())
                report(rule, "deny-by-groups",
                       fmt::format("role \"{}\" rests on groups alone, which a process can drop", role.name));
            if (!role.users.empty() && !role.groups.empty() &&
                std::ranges::none_of(role.users,
                                     [&](const RoleUser& user) { return may_have_group(user, role); }))
                report(rule, "role-without-peers",
                       fmt::format("nobody holds role \"{}\": none of its users is in one of its groups",
                                   role.name));
        }
    }

    bool may_have_group(const RoleUser& user, const Role& role) const {
        const auto record = accounts_.record_of(user.uid);
        if (!record) return true;
        return std::ranges::any_of(role.groups, [&](std::uint32_t gid) {
            return gid == record->gid || std::ranges::find(record->groups, gid) != record->groups.end();
        });
    }

    void check_disk(std::uint32_t rule) {
        std::vector<std::string> seen;
        for (const std::uint32_t index : by_rule_[rule]) {
            const std::string directory = paths_[index].pattern.directory();
            if (std::ranges::find(seen, directory) != seen.end()) continue;
            seen.push_back(directory);
            check_directory(rule, directory);
        }
    }

    void check_directory(std::uint32_t rule, const std::string& directory) {
        const auto facts = disk_->directory(directory);
        if (!facts) {
            const Disk::Missing& why = facts.error();
            if (!why.link.empty())
                report(rule, "linked-directory", fmt::format("grants nothing: {}", why.link));
            else if (!why.other.empty())
                report(rule, "missing-directory",
                       fmt::format("{} cannot be reached ({}): the rule sleeps until it can", directory,
                                   why.other));
            else
                report(rule, "missing-directory",
                       fmt::format("{} does not exist: the rule sleeps until it does", directory));
            return;
        }
        if (!facts->folds.empty() && denied_below(policy_, directory))
            report(rule, "folded-names",
                   fmt::format("a deny rule reaches into {}, and {}: an object there is served only by the "
                               "name that its directory lists",
                               directory, facts->folds));
        const bool others_write = facts->uid != 0 || (facts->mode & 0022U) != 0;
        if (!others_write) return;
        if (rule_at(rule).operations.intersects(changing_operations))
            report(rule, "unprivileged-directory",
                   fmt::format("changes files in {}, which someone other than root can write to", directory));
        if (rule_at(rule).symlinks == Symlinks::follow)
            report(rule, "follow-writable",
                   fmt::format("follows links in {}, which someone other than root can write to", directory));
    }

    const Policy& policy_;
    const Policy::Compiled& compiled_;
    const Accounts& accounts_;
    const Disk* disk_;
    std::vector<WideDirectory> wide_;  // those that have not been told of
    std::vector<Sensitive> sensitive_ = sensitive_paths();
    std::vector<Path> paths_{};
    std::vector<std::vector<std::uint32_t>> by_rule_{};
    PathIndex literals_{};  // by their heads, as the following
    PathIndex others_{};
    std::unordered_map<std::string, Users> users_{};  // by directory
    std::vector<Finding> findings_{};
};

}  // namespace

std::string Finding::what() const {
    return fmt::format("{}:{}:{}: rule \"{}\": {} [{}]", rule->location.file, rule->location.line,
                       rule->location.column, rule->name, text, name);
}

std::vector<Finding> lint(const Policy& policy, const Accounts& accounts, const Disk* disk,
                          std::span<const WideDirectory> wide) {
    return Linter(policy, accounts, disk, wide).run();
}

}  // namespace fdbroker::policy
