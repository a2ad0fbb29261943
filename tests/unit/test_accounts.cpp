// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "opener/identity/accounts.hpp"
#include "opener/identity/peer_names.hpp"
#include "tests/support/descriptors.hpp"

namespace fdbroker::test {

using opener::SystemAccounts;

TEST_CASE("accounts: names of users and groups become numbers, unknown ones nothing") {
    const SystemAccounts accounts;
    const DescriptorTable before = DescriptorTable::now();
    CHECK(accounts.uid_of("root") == 0);
    CHECK(accounts.gid_of("root") == 0);
    CHECK(accounts.uid_of("nobody") == 65534);
    CHECK_FALSE(accounts.uid_of("no such user").has_value());
    CHECK_FALSE(accounts.gid_of("no such group").has_value());
    CHECK_FALSE(accounts.uid_of("").has_value());
    CHECK_FALSE(accounts.uid_of("0").has_value());
    CHECK(DescriptorTable::now().changes_since(before) == "");
}

TEST_CASE("accounts: whether a number has a name") {
    const SystemAccounts accounts;
    CHECK(accounts.has_user(0));
    CHECK(accounts.has_group(0));
    CHECK_FALSE(accounts.has_user(4000000000));
    CHECK_FALSE(accounts.has_group(4000000000));
}

TEST_CASE("accounts: a user's record has its name and its groups") {
    const SystemAccounts accounts;
    const auto root = accounts.record_of(0);
    REQUIRE(root.has_value());
    CHECK(root->name == "root");
    CHECK(root->gid == 0);
    CHECK(root->group == "root");
    CHECK(std::ranges::find(root->groups, 0U) != root->groups.end());
    CHECK_FALSE(accounts.record_of(4000000000).has_value());
}

TEST_CASE("accounts: a number without a name has the empty one, and a name is kept whole or not at all") {
    const SystemAccounts accounts;
    const DescriptorTable before = DescriptorTable::now();
    CHECK(accounts.name_of_user(0) == "root");
    CHECK(accounts.name_of_group(0) == "root");
    CHECK(accounts.name_of_user(65534) == "nobody");
    CHECK(accounts.name_of_user(4000000000) == "");
    CHECK(accounts.name_of_group(4000000000) == "");
    CHECK(DescriptorTable::now().changes_since(before) == "");

    opener::Name name;
    CHECK(name.text().empty());
    const std::string longest(opener::Name::max_length, 'x');
    name.set(longest);
    CHECK(name.text() == longest);
    name.set(longest + 'x');
    CHECK(name.text().empty());
}

}  // namespace fdbroker::test
