// SPDX-License-Identifier: MIT
// What the commands of the control socket answer. An answer is one JSON object; the text is made from it (text.hpp), in
// the broker for whoever types into the socket, and in openerctl.
//
// An answer that has `error` tells what went wrong, and in `status` how openerctl exits.
#pragma once

#include <expected>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "opener/config/options.hpp"
#include "opener/control/host.hpp"
#include "opener/control/line.hpp"
#include "policy/language/loader.hpp"

namespace fdbroker::opener {

nlohmann::json failure(std::string_view error, ExitStatus status = exit_failed);

nlohmann::json answer_status(const GenerationFacts& facts, const ControlHost& host);
nlohmann::json answer_uptime(const GenerationFacts& facts);
nlohmann::json answer_connections(const ControlHost& host, bool grants);
nlohmann::json answer_why(const GenerationFacts& facts, std::string_view number);
nlohmann::json answer_explain(const GenerationFacts& facts, std::string_view question);
// The text of the policy as it was loaded, in `main`, and the fragments' texts. An error: more than max_policy_text bytes.
nlohmann::json answer_policy(const GenerationFacts& facts);
inline constexpr std::size_t max_policy_text = std::size_t{4} << 20;
nlohmann::json answer_workers(const GenerationFacts& facts);
// How many workers the pool of this name shall have; else the answer.
std::expected<unsigned, nlohmann::json> worker_count(const GenerationFacts& facts, const std::string& pool,
                                                     const std::string& count);
// The new policy serves.
nlohmann::json answer_reloaded(const GenerationFacts& facts);
// The new policy does not serve; `said` is the report of the generation that should have served it (start_report.hpp).
nlohmann::json answer_not_reloaded(CommandResult result, std::string_view said);
// The candidate does not decide; `said` as before.
nlohmann::json answer_no_shadow(CommandResult result, std::string_view said);
// The opener has not become another; `said` as before.
nlohmann::json answer_not_taken_over(CommandResult result, std::string_view said);

Gauges gauges_of(const GenerationFacts& facts, const ControlHost& host);

// The record with that number among the last ones; empty: it is not there.
std::string_view find_record(std::string_view records, std::uint64_t sequence);

}  // namespace fdbroker::opener
