// SPDX-License-Identifier: MIT
// The classes of peers that two policies tell apart: finitely many, since a decision depends on a peer by the roles that it
// holds and the values of its variables alone.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "policy/diff/pattern_trie.hpp"
#include "policy/matching/accounts.hpp"
#include "policy/matching/policy.hpp"
#include "policy/matching/role.hpp"

namespace fdbroker::policy {

// A peer that stands for a whole class.
struct PeerClass {
    PeerIdentity identity{};
    // "user alice (uid 1000), in group adm": the first user of the class, and each other one that roles name.
    std::vector<std::string> labels{};
    std::vector<bool> holds{};  // for each selector that was asked about
};

struct PeerClasses {
    std::vector<PeerClass> classes{};
    bool complete = true;  // false: too many combinations of groups; some were tried
};

// A selector (RoleSets) of one of the policies.
struct Selector {
    Side side{};
    std::uint32_t selector = 0;
    auto operator<=>(const Selector&) const = default;
};

// A peer whose variables are fixed while paths are compared.
struct Binding {
    PeerIdentity identity{};
    bool group = false;  // gid and its name, too
    std::string label{};
    PeerValues values{};
};

struct Bindings {
    std::vector<Binding> list{};
    bool complete = true;  // false: there are too many; the first are there
};

class Peers {
  public:
    // Both must outlive it.
    Peers(const PolicyPair& policies, const Accounts& accounts);

    // The classes of peers (null: all) that these selectors tell apart. The reference holds until the next call with
    // another binding.
    const PeerClasses& classes(const std::vector<Selector>& selectors, const Binding* binding,
                               std::size_t key);

    // Peers to try where variables count: all whom roles name, those with one of these values for a variable, and others.
    Bindings bindings(const std::array<std::set<std::string>, variable_count>& values,
                      bool groups_count) const;

    // A peer whom no role names, whatever its user's name.
    Binding unnamed() const;

    bool holds(const Selector& selector, const PeerIdentity& identity) const;
    // For each role of a policy whether peers of the binding may hold it: whether it takes their user.
    std::vector<bool> possible_roles(Side side, const Binding& binding) const;

  private:
    struct Person {
        PeerIdentity identity{};  // with the account's groups
        std::string label{};
    };
    struct Keys {
        std::set<std::uint32_t> uids{};
        std::set<std::uint32_t> nameless{};  // uids that a role means by a name
        std::set<std::string> names{};       // users without an account
        std::set<std::uint32_t> gids{};
        std::set<std::string> sockets{};
        void add(const Role& role);
    };

    const Policy::Compiled& compiled(Side side) const;
    Keys keys_of(const std::vector<Selector>& selectors) const;
    Keys all_keys() const;
    std::vector<Person> people(const Keys& keys) const;
    Person person(std::uint32_t uid) const;
    Person anybody() const;
    std::string groups_label(const std::vector<std::uint32_t>& gids) const;
    struct Finder;
    PeerClasses find(const std::vector<Selector>& selectors, const Binding* binding) const;

    const PolicyPair& policies_;
    const Accounts& accounts_;
    std::set<std::uint32_t> special_uids_{};  // that settings name: those count as a peer's own or not
    std::set<std::uint32_t> special_gids_{};
    std::uint32_t free_uid_ = 0;  // that no policy names
    std::uint32_t free_gid_ = 0;
    std::map<std::pair<std::size_t, std::vector<Selector>>, PeerClasses> known_{};
};

}  // namespace fdbroker::policy
