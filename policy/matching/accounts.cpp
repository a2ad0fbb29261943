// SPDX-License-Identifier: MIT
#include "policy/matching/accounts.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace fdbroker::policy {
namespace {

using Found = std::expected<AccountId, AccountError>;
using Lookup = std::optional<std::uint32_t> (Accounts::*)(const std::string&) const;

bool is_number(const std::string& text) noexcept {
    const bool digits = std::ranges::all_of(text, [](char byte) { return byte >= '0' && byte <= '9'; });
    return digits && !text.empty() && (text == "0" || text.front() != '0');
}

Found unfound(AccountError::Kind kind, std::string text) {
    return std::unexpected(AccountError{kind, std::move(text)});
}

Found find(const Accounts& accounts, const std::string& text, Lookup lookup, const char* kind) {
    const std::uint32_t named = text.empty() ? no_account : (accounts.*lookup)(text).value_or(no_account);
    if (is_number(text)) {
        std::uint32_t id = no_account;
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), id);
        if (parsed.ec != std::errc{} || id == no_account)
            return unfound(AccountError::Kind::no_id,
                           fmt::format("{} is no id, expected at most {}", text, no_account - 1));
        if (named != no_account && named != id)
            return unfound(
                AccountError::Kind::two_senses,
                fmt::format("\"{}\" is a number and also the name of the {} with the id {}, expected {} for "
                            "that {}, or another name for it",
                            text, kind, named, named, kind));
        return AccountId{.id = id, .by_name = false};
    }
    if (named != no_account) return AccountId{.id = named, .by_name = true};
    return unfound(AccountError::Kind::missing,
                   fmt::format("\"{}\" does not exist on this machine, expected a name or a number", text));
}

}  // namespace

Found find_user(const Accounts& accounts, const std::string& text) {
    return find(accounts, text, &Accounts::uid_of, "user");
}

Found find_group(const Accounts& accounts, const std::string& text) {
    return find(accounts, text, &Accounts::gid_of, "group");
}

}  // namespace fdbroker::policy
