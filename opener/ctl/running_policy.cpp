// SPDX-License-Identifier: MIT
#include "opener/ctl/running_policy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "opener/ctl/control_commands.hpp"
#include "opener/identity/accounts.hpp"
#include "policy/language/loader.hpp"

namespace fdbroker::ctl {

using nlohmann::json;

namespace {

policy::Source source_of(const json& source) {
    return {.name = source.value("name", ""), .text = source.value("text", "")};
}

}  // namespace

std::expected<policy::Policy, Failure> running_policy(const std::string& control) {
    auto answer = answer_of_opener({.control = control, .command = opener::ControlCommand::policy});
    if (!answer) return std::unexpected(std::move(answer.error()));
    if (answer->contains("error")) return failed(opener::exit_failed, answer->value("error", ""));
    const auto fragments =
        [&](const std::string& pattern) -> std::expected<std::vector<policy::Source>, std::string> {
        for (const json& one : (*answer)["fragments"]) {
            if (one.value("pattern", "") != pattern) continue;
            std::vector<policy::Source> sources;
            for (const json& source : one["sources"]) sources.push_back(source_of(source));
            return sources;
        }
        return std::unexpected("the opener does not tell what was there");
    };
    // The tests have passed already, and accounts may have gone since.
    auto loaded = policy::load(source_of((*answer)["main"]), fragments, opener::SystemAccounts{},
                               {.own_tests = policy::OwnTests::left_to_caller,
                                .unknown_accounts = policy::UnknownAccounts::match_nobody});
    if (!loaded)
        return failed(opener::exit_failed, fmt::format("the policy that runs cannot be loaded here: {}",
                                                       loaded.error().front().what()));
    return std::move(*loaded);
}

}  // namespace fdbroker::ctl
