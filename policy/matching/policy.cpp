// SPDX-License-Identifier: MIT
#include "policy/matching/policy.hpp"

#include <algorithm>
#include <cerrno>

#include "policy/matching/compiled.hpp"
#include "policy/matching/matcher_walk.hpp"

namespace fdbroker::policy {
namespace {

// The operations that decide on create: and deliver:, first to last.
constexpr std::array leading_operations{Operation::create, Operation::write, Operation::append,
                                        Operation::read};

// Notes the first rule in file order that denies, and for each operation the first that allows it.
class Judge {
  public:
    Judge(const RoleSets& roles, const Peer& peer, OperationSet wanted) noexcept
        : roles_(roles), peer_(peer), wanted_(wanted) {
        allowed_by_.fill(Matcher::none);
    }

    void deny(std::span<const Entry> entries, OperationSet operations) noexcept {
        const OperationSet asked = wanted_ & operations;
        for (const Entry& entry : entries) {
            const OperationSet denied = asked & OperationSet::from_bits(entry.operations);
            if (entry.rule > denied_by_ || denied.empty() || !roles_.holds(peer_, entry.roles)) continue;
            denied_ = entry.rule == denied_by_ ? denied_ | denied : denied;
            denied_by_ = entry.rule;
            hidden_ = entry.hides;
        }
    }

    void allow(std::span<const Entry> entries, OperationSet operations) noexcept {
        const OperationSet asked = wanted_ & operations;
        for (const Entry& entry : entries) {
            const OperationSet given = asked & OperationSet::from_bits(entry.operations);
            if (!given.empty() && roles_.holds(peer_, entry.roles)) note(entry.rule, given);
        }
    }

    std::uint32_t denied_by() const noexcept { return denied_by_; }
    OperationSet denied() const noexcept { return denied_; }
    bool hidden() const noexcept { return hidden_; }
    std::uint32_t allowed_by(Operation operation) const noexcept {
        return allowed_by_[static_cast<std::size_t>(operation)];
    }

  private:
    void note(std::uint32_t rule, OperationSet given) noexcept {
        for (unsigned bits = given.bits(); bits != 0; bits &= bits - 1) {
            std::uint32_t& first = allowed_by_[static_cast<std::size_t>(std::countr_zero(bits))];
            first = std::min(first, rule);
        }
    }

    const RoleSets& roles_;
    const Peer& peer_;
    OperationSet wanted_;
    std::uint32_t denied_by_ = Matcher::none;
    OperationSet denied_{};
    bool hidden_ = false;
    std::array<std::uint32_t, operation_count> allowed_by_;
};

std::string usable_value(std::string value) {
    const bool usable = value != "." && value != ".." && value.find('/') == std::string::npos;
    return usable ? std::move(value) : std::string();
}

}  // namespace

std::vector<std::string_view> Peer::role_names(const Policy& policy) const {
    std::vector<std::string_view> names;
    const auto all = policy.role_names();
    for (std::size_t role = 0; role < all.size(); ++role)
        if (holds(role)) names.emplace_back(all[role]);
    return names;
}

Policy::Policy(std::unique_ptr<const Compiled> compiled) noexcept : compiled_(std::move(compiled)) {}
Policy::Policy(Policy&&) noexcept = default;
Policy& Policy::operator=(Policy&&) noexcept = default;
Policy::~Policy() = default;

Peer Policy::identify(PeerIdentity identity) const {
    Peer peer;
    peer.roles_.resize((compiled_->roles.size() + 63) / 64);
    for (std::size_t role = 0; role < compiled_->roles.size(); ++role)
        if (compiled_->roles[role].held_by(identity))
            peer.roles_[role / 64] |= std::uint64_t{1} << (role % 64);
    peer.values_ = {usable_value(identity.user), std::to_string(identity.uid), usable_value(identity.group),
                    std::to_string(identity.gid)};
    peer.identity_ = std::move(identity);
    return peer;
}

Decision Policy::decide(const Peer& peer, OperationSet operations, RequestPath path) const noexcept {
    Judge judge(compiled_->role_sets, peer, operations);
    walk(compiled_->matcher, path, peer.values(), judge);

    if (judge.denied_by() != Matcher::none) {
        return std::unexpected(Refusal{.denied_by = &compiled_->rules[judge.denied_by()],
                                       .operations = judge.denied(),
                                       .errno_value = judge.hidden() ? ENOENT : EACCES});
    }
    Grant grant(path);
    grant.operations_ = operations;
    OperationSet missing;
    for (unsigned bits = operations.bits(); bits != 0; bits &= bits - 1) {
        const auto operation = static_cast<Operation>(std::countr_zero(bits));
        const std::uint32_t index = judge.allowed_by(operation);
        if (index == Matcher::none) {
            missing.insert(operation);
            continue;
        }
        const Rule* const rule = &compiled_->rules[index];
        const Rule** const end = grant.rules_.data() + grant.rule_count_;
        if (std::find(grant.rules_.data(), end, rule) == end) grant.rules_[grant.rule_count_++] = rule;
    }
    if (!missing.empty())
        if (const auto leads = ancestor(peer, operations, path)) return *leads;
    if (!missing.empty() || operations.empty())
        return std::unexpected(Refusal{.denied_by = nullptr, .operations = missing, .errno_value = EACCES});

    grant.leading_ = grant.rules_.front();
    for (const Operation operation : leading_operations) {
        if (!operations.contains(operation)) continue;
        grant.leading_ = &compiled_->rules[judge.allowed_by(operation)];
        break;
    }
    return grant;
}

std::optional<Grant> Policy::ancestor(const Peer& peer, OperationSet operations,
                                      RequestPath path) const noexcept {
    if (operations != OperationSet{Operation::stat}) return std::nullopt;
    const auto found = compiled_->ancestors.find(path.text());
    if (found == compiled_->ancestors.end()) return std::nullopt;
    for (const std::uint32_t index : found->second) {
        if (!compiled_->role_sets.holds(peer, compiled_->rule_roles[index])) continue;
        Grant grant(path);
        grant.operations_ = operations;
        grant.leading_ = grant.rules_.front() = &compiled_->rules[index];
        grant.rule_count_ = 1;
        grant.is_ancestor_ = true;
        return grant;
    }
    return std::nullopt;
}

std::span<const Rule> Policy::rules() const noexcept {
    return compiled_->rules;
}
std::span<const std::string> Policy::role_names() const noexcept {
    return std::span(compiled_->role_names).first(compiled_->named_roles);
}
const std::vector<Directory>& Policy::directories() const noexcept {
    return compiled_->directories;
}
const Limits& Policy::limits() const noexcept {
    return compiled_->limits;
}
const AuditSettings& Policy::audit() const noexcept {
    return compiled_->audit;
}

std::span<const Test> tests(const Policy& policy) noexcept {
    return policy.compiled().tests;
}

}  // namespace fdbroker::policy
