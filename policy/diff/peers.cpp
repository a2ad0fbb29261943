// SPDX-License-Identifier: MIT
#include "policy/diff/peers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {
namespace {

// Every set of so many groups is tried, else none, each, each two and all.
constexpr std::size_t max_free_groups = 8;
constexpr std::size_t max_bindings = 4096;

// nobody's: most have an account with it, and few a rule. Where one has, numbers that no account has.
constexpr std::uint32_t likely_free = 65534;
constexpr std::uint32_t free_from = 3'000'000'000;

constexpr const char* outside_groups = "in none of the groups that roles name";

std::uint32_t free_number(const std::set<std::uint32_t>& taken) {
    if (!taken.contains(likely_free)) return likely_free;
    std::uint32_t number = free_from;
    while (taken.contains(number)) ++number;
    return number;
}

std::vector<std::vector<std::uint32_t>> sets_of(const std::set<std::uint32_t>& gids) {
    const std::vector<std::uint32_t> all(gids.begin(), gids.end());
    std::vector<std::vector<std::uint32_t>> sets{{}};
    if (all.size() <= max_free_groups) {
        for (std::uint32_t bits = 1; bits < 1U << all.size(); ++bits) {
            auto& set = sets.emplace_back();
            for (std::size_t index = 0; index < all.size(); ++index)
                if ((bits >> index & 1U) != 0) set.push_back(all[index]);
        }
        std::ranges::stable_sort(sets, {}, [](const auto& set) { return set.size(); });
        return sets;
    }
    for (const std::uint32_t one : all) sets.push_back({one});
    for (std::size_t one = 0; one < all.size(); ++one)
        for (std::size_t other = one + 1; other < all.size(); ++other) sets.push_back({all[one], all[other]});
    sets.push_back(all);
    return sets;
}

std::optional<std::uint32_t> number_of(const std::string& text) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    const bool canonical = text == "0" || !text.starts_with('0');
    if (error != std::errc{} || end != text.data() + text.size() || !canonical || number == no_account)
        return std::nullopt;
    return number;
}

std::string label_of(const std::string& who, const std::string& groups, const std::string& socket) {
    std::vector<std::string> parts;
    for (const std::string& part : {who, groups, socket.empty() ? std::string() : "on socket " + socket})
        if (!part.empty()) parts.push_back(part);
    return parts.empty() ? "any other peer" : fmt::format("{}", fmt::join(parts, ", "));
}

PeerValues values_of(const Policy& policy, const PeerIdentity& identity) {
    return policy.identify(identity).values();
}

}  // namespace

void Peers::Keys::add(const Role& role) {
    for (const RoleUser& user : role.users) {
        if (user.uid == no_account) {
            if (!user.name.empty()) names.insert(user.name);
            continue;
        }
        uids.insert(user.uid);
        if (user.by_name) nameless.insert(user.uid);
    }
    for (const std::uint32_t gid : role.groups)
        if (gid != no_account) gids.insert(gid);
    sockets.insert(role.sockets.begin(), role.sockets.end());
}

Peers::Peers(const PolicyPair& policies, const Accounts& accounts)
    : policies_(policies), accounts_(accounts) {
    for (const Side side : both_sides) {
        for (const Rule& rule : policies[side].rules()) {
            special_uids_.insert(rule.files.owners.begin(), rule.files.owners.end());
            if (rule.create.owner) special_uids_.insert(*rule.create.owner);
            if (rule.create.group) special_gids_.insert(*rule.create.group);
        }
    }
    const Keys all = all_keys();
    std::set<std::uint32_t> uids = all.uids;
    std::set<std::uint32_t> gids = all.gids;
    uids.insert(special_uids_.begin(), special_uids_.end());
    gids.insert(special_gids_.begin(), special_gids_.end());
    free_uid_ = free_number(uids);
    free_gid_ = free_number(gids);
}

const Policy::Compiled& Peers::compiled(Side side) const {
    return policies_[side].compiled();
}

Peers::Keys Peers::all_keys() const {
    Keys keys;
    for (const Side side : both_sides)
        for (const Role& role : compiled(side).roles) keys.add(role);
    return keys;
}

Peers::Keys Peers::keys_of(const std::vector<Selector>& selectors) const {
    Keys keys;
    for (const Selector& one : selectors)
        for (const std::uint32_t role : compiled(one.side).role_sets.roles(one.selector))
            keys.add(compiled(one.side).roles[role]);
    return keys;
}

bool Peers::holds(const Selector& selector, const PeerIdentity& identity) const {
    if (selector.selector == RoleSets::every_peer) return true;
    const auto roles = compiled(selector.side).role_sets.roles(selector.selector);
    return std::ranges::any_of(
        roles, [&](std::uint32_t role) { return compiled(selector.side).roles[role].held_by(identity); });
}

std::vector<bool> Peers::possible_roles(Side side, const Binding& binding) const {
    std::vector<bool> possible;
    for (const Role& role : compiled(side).roles) possible.push_back(role.takes_user_of(binding.identity));
    return possible;
}

Peers::Person Peers::person(std::uint32_t uid) const {
    Person person{.identity = {.uid = uid, .gid = free_gid_}};
    if (auto record = accounts_.record_of(uid)) {
        person.identity.user = record->name;
        person.identity.gid = record->gid;
        person.identity.group = record->group;
        person.identity.groups = record->groups;
        person.label = fmt::format("user {} (uid {})", record->name, uid);
    } else {
        person.label = fmt::format("uid {}", uid);
    }
    return person;
}

Peers::Person Peers::anybody() const {
    Person anybody = person(free_uid_);
    if (anybody.identity.user.empty()) anybody.identity.user = "anybody";
    anybody.identity.gid = free_gid_;
    anybody.identity.group = accounts_.group_name_of(free_gid_).value_or("");
    anybody.identity.groups.clear();
    anybody.label = "any other user";
    return anybody;
}

Binding Peers::unnamed() const {
    const Person person = anybody();
    return {person.identity, false, person.label, {}};
}

std::string Peers::groups_label(const std::vector<std::uint32_t>& gids) const {
    if (gids.empty()) return outside_groups;
    std::vector<std::string> names;
    for (const std::uint32_t gid : gids)
        names.push_back(accounts_.group_name_of(gid).value_or(std::to_string(gid)));
    return fmt::format("in group {}", fmt::join(names, " and "));
}

// The simplest first.
std::vector<Peers::Person> Peers::people(const Keys& keys) const {
    std::vector<Person> people{anybody()};
    for (const std::uint32_t uid : keys.uids) people.push_back(person(uid));
    for (const std::string& name : keys.names) {
        Person missing = anybody();
        missing.identity.user = name;
        missing.label = fmt::format("user {} (no account)", name);
        people.push_back(std::move(missing));
    }
    for (const std::uint32_t uid : keys.nameless)
        people.push_back(
            {.identity = {.uid = uid, .gid = free_gid_}, .label = fmt::format("uid {} without a name", uid)});
    return people;
}

// Collects the classes; peers of one class hold the same selectors, and settings mean the same for them.
struct Peers::Finder {
    const Peers& peers;
    const std::vector<Selector>& selectors;
    PeerClasses found{};
    std::map<std::tuple<std::vector<bool>, std::uint32_t, std::uint32_t>, std::size_t> known{};
    std::vector<std::set<std::size_t>> persons{};  // persons that labels name, by class

    void add(const PeerIdentity& identity, std::size_t person, std::string label) {
        std::vector<bool> holds;
        for (const Selector& one : selectors) holds.push_back(peers.holds(one, identity));
        const std::uint32_t uid = peers.special_uids_.contains(identity.uid) ? identity.uid : no_account;
        const std::uint32_t gid = peers.special_gids_.contains(identity.gid) ? identity.gid : no_account;
        const auto [place, is_new] = known.try_emplace({holds, uid, gid}, found.classes.size());
        if (is_new) {
            found.classes.push_back({identity, {std::move(label)}, std::move(holds)});
            persons.push_back({person});
        } else if (!persons[place->second].contains(anyone) && persons[place->second].insert(person).second) {
            found.classes[place->second].labels.push_back(std::move(label));
        }
    }
    // The first person is anybody, beside whom nobody need be named.
    static constexpr std::size_t anyone = 0;
};

PeerClasses Peers::find(const std::vector<Selector>& selectors, const Binding* binding) const {
    const Keys keys = keys_of(selectors);
    Finder finder{
        .peers = *this, .selectors = selectors, .found = {.complete = keys.gids.size() <= max_free_groups}};
    std::vector<Person> people;
    if (binding != nullptr) {
        people.push_back({binding->identity, binding->label});
    } else {
        people = this->people(keys);
    }
    std::vector<std::string> sockets{""};
    sockets.insert(sockets.end(), keys.sockets.begin(), keys.sockets.end());
    const auto sets = sets_of(keys.gids);
    const bool users_matter = !keys.uids.empty() || !keys.names.empty() || binding != nullptr;
    for (std::size_t number = 0; number < people.size(); ++number) {
        const std::string who = users_matter ? people[number].label : "";
        for (const std::string& socket : sockets) {
            PeerIdentity identity = people[number].identity;
            identity.listener = socket;
            const bool outside = identity.uid == free_uid_ && !keys.gids.empty();
            finder.add(identity, number, label_of(who, outside ? outside_groups : "", socket));
            if (binding == nullptr || !binding->group) {
                identity.gid = free_gid_;
                identity.group = accounts_.group_name_of(free_gid_).value_or("");
            }
            for (const auto& set : sets) {
                identity.groups = set;
                finder.add(identity, number,
                           label_of(who, keys.gids.empty() ? "" : groups_label(set), socket));
            }
        }
    }
    return std::move(finder.found);
}

const PeerClasses& Peers::classes(const std::vector<Selector>& selectors, const Binding* binding,
                                  std::size_t key) {
    const auto place = known_.find({key, selectors});
    if (place != known_.end()) return place->second;
    return known_.emplace(std::pair(key, selectors), find(selectors, binding)).first->second;
}

Bindings Peers::bindings(const std::array<std::set<std::string>, variable_count>& values,
                         bool groups_count) const {
    const auto of = [&](Variable variable) -> const std::set<std::string>& {
        return values[static_cast<std::size_t>(variable)];
    };
    Keys keys = all_keys();
    for (const std::string& text : of(Variable::uid))
        if (const auto uid = number_of(text)) keys.uids.insert(*uid);
    for (const std::string& name : of(Variable::user)) {
        const auto uid = accounts_.uid_of(name);
        if (uid && accounts_.record_of(*uid)) {
            keys.uids.insert(*uid);
        } else {
            keys.names.insert(name);
        }
    }
    std::vector<Person> people = this->people(keys);
    Person nameless = anybody();
    nameless.identity.user.clear();
    nameless.label = "a uid without a name";
    people.push_back(std::move(nameless));

    std::set<std::pair<std::uint32_t, std::string>> groups;
    if (groups_count) {
        for (const std::uint32_t gid : keys.gids)
            groups.emplace(gid, accounts_.group_name_of(gid).value_or(""));
        for (const std::string& text : of(Variable::gid))
            if (const auto gid = number_of(text))
                groups.emplace(*gid, accounts_.group_name_of(*gid).value_or(""));
        for (const std::string& name : of(Variable::group))
            groups.emplace(accounts_.gid_of(name).value_or(free_gid_), name);
        groups.emplace(free_gid_, accounts_.group_name_of(free_gid_).value_or(""));
        groups.emplace(free_gid_, "");
    }
    Bindings found;
    const auto add = [&](const PeerIdentity& identity, std::string label) {
        found.list.push_back(
            {identity, groups_count, std::move(label), values_of(*policies_.before, identity)});
    };
    for (const Person& person : people) {
        add(person.identity, person.label);
        for (const auto& [gid, name] : groups) {
            PeerIdentity identity = person.identity;
            identity.gid = gid;
            identity.group = name;
            identity.groups.clear();
            add(identity,
                fmt::format("{}, primary group {}", person.label, name.empty() ? std::to_string(gid) : name));
        }
    }
    found.complete = found.list.size() <= max_bindings;
    if (!found.complete) found.list.resize(max_bindings);
    return found;
}

}  // namespace fdbroker::policy
