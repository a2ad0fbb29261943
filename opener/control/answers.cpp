// SPDX-License-Identifier: MIT
#include "opener/control/answers.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>

#include "opener/audit/audit_chain.hpp"
#include "opener/base/build_config.hpp"
#include "opener/base/byte_text.hpp"
#include "opener/base/wait_status.hpp"
#include "opener/control/time_of_day.hpp"
#include "opener/policy_source/policy_json.hpp"
#include "policy/explain/explain.hpp"
#include "policy/matching/peer.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

using nlohmann::json;

namespace {

std::chrono::system_clock::time_point opener_started(const GenerationFacts& facts) {
    return time_of_day(
        SessionUse::Clock::time_point(std::chrono::nanoseconds(facts.start.facts.facts().started_at.load())));
}

json nullable(const std::string& text) {
    return text.empty() ? json() : json(text);
}

std::optional<std::uint64_t> number(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// Null: there is no chain.
json audit_head(const SupervisorFacts& facts) {
    const RecordHash head = facts.audit_head.load();
    return head == no_record ? json() : json(to_hex(head));
}

std::string audit_destination(const Options& options) {
    switch (options.audit) {
        case AuditDestination::file:
            return options.audit_file;
        case AuditDestination::standard_output:
            return "standard output";
        case AuditDestination::journal:
            return "journal";
        case AuditDestination::none:
            break;
    }
    return "none";
}

constexpr const char* states[] = {"missing", "enforced"};  // LayerReport's

json confinement_to_json(const GenerationFacts& facts) {
    json layers = json::array();
    for (std::size_t i = 0; i < layer_count; ++i) {
        const LayerReport& layer = facts.confinement.layers[i];
        layers.push_back({{"layer", to_string(static_cast<Layer>(i))},
                          {"state", states[static_cast<std::size_t>(layer.state)]},
                          {"detail", layer.detail}});
    }
    return {{"complete", facts.confinement.complete()},
            {"uid", facts.account.uid},
            {"user", nullable(facts.account.name)},
            {"capabilities", facts.capabilities},
            {"layers", std::move(layers)}};
}

json policy_to_json(const GenerationFacts& facts) {
    return {{"file", facts.start.options.policy},
            {"rules", facts.policy.rules().size()},
            {"roles", facts.policy.role_names().size()},
            {"loaded", time_text(facts.started)},
            {"sha256", facts.policy_digest}};
}

json generation_to_json(const GenerationFacts& facts) {
    return {{"number", facts.start.number},
            {"cause", facts.start.cause},
            {"started", time_text(facts.started)},
            {"uptime_s", seconds_since(facts.started)}};
}

}  // namespace

json failure(std::string_view error, ExitStatus status) {
    return {{"error", error}, {"status", static_cast<int>(status)}};
}

json answer_uptime(const GenerationFacts& facts) {
    return {{"started", time_text(opener_started(facts))},
            {"uptime_s", seconds_since(opener_started(facts))},
            {"generation", generation_to_json(facts)}};
}

json answer_status(const GenerationFacts& facts, const ControlHost& host) {
    json answer = answer_uptime(facts);
    answer["version"] = FDBROKER_VERSION;
    answer["policy"] = policy_to_json(facts);
    const SupervisorFacts& supervisor = facts.start.facts.facts();
    answer["supervisor"] = {
        {"generations", supervisor.generations.load()}, {"crashes", supervisor.crashes.load()},
        {"reloads", supervisor.reloads.load()},         {"failed_reloads", supervisor.failed_reloads.load()},
        {"followed", supervisor.followed.load()},       {"finishing", supervisor.draining.load()}};
    answer["listeners"] = json::array();
    for (const ListenerFacts& listener : facts.start.listeners) {
        answer["listeners"].push_back({{"name", listener.name},
                                       {"address", listener.address},
                                       {"control", listener.kind == ListenerKind::control}});
    }
    answer["sessions"] = host.session_count();
    answer["connections_refused"] = supervisor.rejected_connections.load();
    answer["unanswered_names"] = supervisor.unanswered_names.load();
    answer["descriptors_in_flight"] = host.descriptors_in_flight();
    answer["confinement"] = confinement_to_json(facts);
    answer["helpers"] = {
        {"helpers", host.helpers().helpers()},      {"stuck", host.helpers().stuck()},
        {"lasting", host.helpers().background()},   {"waiting", host.helpers().waiting()},
        {"tasks", host.helpers().counters().tasks}, {"timed_out", host.helpers().counters().timed_out}};
    answer["stuck"] = json::array();
    for (const HeldUp& request : host.helpers().held_up()) {
        answer["stuck"].push_back({{"uid", request.uid},
                                   {"rule", request.rule != nullptr ? json(request.rule->name) : json()},
                                   {"path", characters_of(request.path)},
                                   {"since", time_text(time_of_day(request.since))}});
    }
    answer["slowed"] = json::array();
    for (const SlowedUser& slowed : host.slowed_users())
        answer["slowed"].push_back({{"uid", slowed.uid},
                                    {"user", nullable(slowed.user)},
                                    {"since", time_text(time_of_day(slowed.since))}});
    answer["dormant"] = json::array();
    for (const DormantDirectory& directory : facts.dormant)
        answer["dormant"].push_back(
            {{"path", characters_of(directory.path)}, {"why", characters_of(directory.why)}});
    answer["wider_than_rules"] = json::array();
    for (const GenerationFacts::Wide& wide : facts.wide) {
        answer["wider_than_rules"].push_back({{"path", characters_of(wide.path)},
                                              {"directories", wide.width.directories},
                                              {"levels", wide.width.levels},
                                              {"why", wide.width.text()}});
    }
    answer["unknown_accounts"] = facts.tolerated;
    answer["audit"] = {{"destination", audit_destination(facts.start.options)},
                       {"records", host.audit_counts().written},
                       {"counted", host.audit_counts().counted},
                       {"failed", host.audit_counts().failed},
                       {"next_record", facts.start.ring != nullptr ? facts.start.ring->next_sequence() : 0},
                       {"head", audit_head(facts.start.facts.facts())}};
    answer["shadow"] = facts.shadow == nullptr ? json() : json(characters_of(facts.shadow->file()));
    return answer;
}

json answer_connections(const ControlHost& host, bool grants) {
    json sessions = json::array();
    for (const SessionFacts& session : host.sessions()) {
        const policy::PeerIdentity& peer = *session.identity;
        json one{{"session", session.connection_id},
                 {"listener", peer.listener},
                 {"pid", session.pid},
                 {"uid", peer.uid},
                 {"gid", peer.gid},
                 {"user", nullable(peer.user)},
                 {"roles", session.roles},
                 {"since", time_text(time_of_day(session.use->since()))},
                 {"last_request",
                  session.use->last() ? json(time_text(time_of_day(*session.use->last()))) : json()},
                 {"requests", session.use->requests()},
                 {"refused", session.use->refused()},
                 {"unread_descriptors", session.unread_descriptors}};
        if (grants) {
            one["grants"] = json::array();
            for (const SessionUse::Grants& grant : session.use->grants()) {
                one["grants"].push_back({{"rule", grant.rule != nullptr ? json(grant.rule->name) : json()},
                                         {"delivered", grant.delivered},
                                         {"last_path", characters_of(grant.last_path)},
                                         {"last", time_text(time_of_day(grant.last))}});
            }
        }
        sessions.push_back(std::move(one));
    }
    return {{"connections", std::move(sessions)}};
}

// ---- why -----------------------------------------------------------------------------------------------

std::string_view find_record(std::string_view records, std::uint64_t sequence) {
    // The number follows the time, which has one length; a path can hold no quote, so nothing else looks like it.
    const std::string wanted = fmt::format("\"seq\":{},", sequence);
    const std::size_t found = records.find(wanted);
    if (found == std::string_view::npos) return {};
    const std::size_t before = records.rfind('\n', found);
    const std::size_t start = before == std::string_view::npos ? 0 : before + 1;
    const std::size_t end = records.find('\n', found);
    // The first line may have lost its beginning.
    if (end == std::string_view::npos || records[start] != '{') return {};
    return records.substr(start, end - start);
}

json answer_why(const GenerationFacts& facts, std::string_view text) {
    const auto sequence = number(text);
    if (!sequence) return failure(fmt::format("why: {} is no record number", text), exit_usage);
    if (facts.start.ring == nullptr) return failure("why: nothing is recorded (--audit none)");
    if (*sequence == 0 || *sequence >= facts.start.ring->next_sequence())
        return failure(fmt::format("why: there is no record {} yet", *sequence));
    const std::string records = facts.start.ring->recent();
    const std::string_view line = find_record(records, *sequence);
    json record = json::parse(line, nullptr, false);
    if (record.is_object()) return record;
    json answer =
        failure(fmt::format("why: record {} is no longer in the opener's memory; it is in the audit log ({})",
                            *sequence, audit_destination(facts.start.options)));
    if (facts.start.options.audit == AuditDestination::file)
        answer["audit_file"] = facts.start.options.audit_file;
    return answer;
}

// ---- explain -------------------------------------------------------------------------------------------

namespace {

std::optional<policy::PeerIdentity> peer_from(const json& question) {
    policy::PeerIdentity peer;
    const auto text = [&](const char* key, std::string& value) {
        const auto found = question.find(key);
        if (found != question.end() && found->is_string()) value = *found;
    };
    const auto uid = question.find("uid"), gid = question.find("gid"), groups = question.find("groups");
    if (uid == question.end() || !uid->is_number_unsigned()) return std::nullopt;
    peer.uid = *uid;
    peer.gid =
        gid != question.end() && gid->is_number_unsigned() ? gid->get<std::uint32_t>() : policy::no_group;
    if (groups != question.end() && groups->is_array()) {
        for (const json& group : *groups) {
            if (!group.is_number_unsigned()) return std::nullopt;
            peer.groups.push_back(group);
        }
    }
    text("user", peer.user);
    text("group", peer.group);
    text("socket", peer.listener);
    return peer;
}

}  // namespace

json answer_explain(const GenerationFacts& facts, std::string_view text) {
    const policy::Policy& policy = facts.policy;
    const json question = json::parse(text, nullptr, false);
    const auto wrong = [](std::string_view what) {
        return failure(fmt::format("explain: {}", what), exit_usage);
    };
    if (!question.is_object()) return wrong("its argument is a JSON object");
    auto identity = peer_from(question);
    if (!identity) return wrong("\"uid\" and \"groups\" are numbers");
    policy::OperationSet operations;
    const auto words = question.find("operations"), path_text = question.find("path");
    if (words == question.end() || !words->is_array() || path_text == question.end() ||
        !path_text->is_string())
        return wrong("\"operations\" is a list, \"path\" a string");
    for (const json& word : *words) {
        const auto meant = policy::operations_from_word(word.is_string() ? word.get<std::string>() : "");
        if (meant.empty()) return wrong("there is no such operation");
        operations = operations | meant;
    }
    if (operations.empty()) return wrong("no operation is given");
    const auto bytes = bytes_of(path_text->get_ref<const std::string&>());
    if (!bytes) return wrong("in \"path\" each byte is one character");
    const auto path = policy::RequestPath::parse(*bytes);
    if (!path) return wrong(policy::to_string(path.error()));
    const policy::Peer peer = policy.identify(std::move(*identity));
    const policy::Explanation explanation = policy::explain(policy, peer, operations, *path);
    json answer = to_json(explanation);
    answer["allowed"] = explanation.decision.has_value();
    answer["operations"] = to_json(operations);
    answer["path"] = *path_text;
    answer["peer"] = to_json(peer.identity());
    answer["policy"] = policy_to_json(facts);
    // The path may be no UTF-8.
    answer["text"] = proto::printable(policy::to_text(explanation, peer, operations, *path));
    return answer;
}

// ---- policy --------------------------------------------------------------------------------------------

namespace {

json source_to_json(const policy::Source& source) {
    return {{"name", source.name}, {"text", source.text}};
}

}  // namespace

json answer_policy(const GenerationFacts& facts) {
    const auto size = facts.start.snapshot.size();
    if (!size) return failure("policy: " + size.error().message());
    // Meanwhile nobody is served.
    if (*size > max_policy_text)
        return failure(fmt::format("policy: its text has {} bytes, more than the {} that are told", *size,
                                   max_policy_text));
    const auto text = facts.start.snapshot.read();
    if (!text) return failure("policy: " + text.error().message());
    json fragments = json::array();
    for (const PolicyText::Fragments& one : text->fragments) {
        json sources = json::array();
        for (const policy::Source& source : one.sources) sources.push_back(source_to_json(source));
        fragments.push_back({{"pattern", one.pattern}, {"sources", std::move(sources)}});
    }
    return {{"policy", policy_to_json(facts)},
            {"main", source_to_json(text->main)},
            {"fragments", std::move(fragments)},
            {"text", text->main.text}};
}

// ---- workers -------------------------------------------------------------------------------------------

json answer_workers(const GenerationFacts& facts) {
    const auto& options = facts.start.options.workers;
    if (!options) return failure("workers: this opener looks after none (--workers)");
    json workers = json::array();
    for (const WorkerFacts& worker : facts.start.facts.facts().workers) {
        if (worker.starts == 0) continue;
        const auto started = SessionUse::Clock::time_point(std::chrono::nanoseconds(worker.started.load()));
        const int last_end = worker.last_end;
        workers.push_back(
            {{"pid", worker.pid != 0 ? json(worker.pid.load()) : json()},
             {"started", time_text(time_of_day(started))},
             {"starts", worker.starts.load()},
             {"last_end", worker.starts > 1 || worker.pid == 0 ? json(describe_end(last_end)) : json()}});
    }
    return {{"pool", options->name},
            {"wanted", facts.start.facts.facts().workers_wanted.load()},
            {"workers", std::move(workers)}};
}

std::expected<unsigned, json> worker_count(const GenerationFacts& facts, const std::string& pool,
                                           const std::string& text) {
    const auto& options = facts.start.options.workers;
    if (!options) return std::unexpected(answer_workers(facts));
    if (pool != options->name)
        return std::unexpected(
            failure(fmt::format("workers: no pool is called {}; there is {}", pool, options->name)));
    const auto count = number(text);
    if (!count || *count > max_workers)
        return std::unexpected(
            failure(fmt::format("workers: {} is no number from 0 to {}", text, max_workers), exit_usage));
    return static_cast<unsigned>(*count);
}

// ---- reload --------------------------------------------------------------------------------------------

json answer_reloaded(const GenerationFacts& facts) {
    return {{"reloaded", true}, {"generation", generation_to_json(facts)}, {"policy", policy_to_json(facts)}};
}

namespace {

// "file:line:column: what is wrong", as a policy's diagnostics are told; a line of another kind is a message alone.
json diagnostic_from(std::string_view line) {
    const std::size_t end = line.find(": ");
    const std::size_t second = line.rfind(':', end == 0 ? 0 : end - 1);
    const std::size_t first = line.rfind(':', second == 0 ? 0 : second - 1);
    if (end == std::string_view::npos || first >= second || second >= end) return {{"message", line}};
    const auto line_number = number(line.substr(first + 1, second - first - 1));
    const auto column = number(line.substr(second + 1, end - second - 1));
    if (!line_number || !column) return {{"message", line}};
    return {{"file", line.substr(0, first)},
            {"line", *line_number},
            {"column", *column},
            {"message", line.substr(end + 2)}};
}

// A diagnostic for each line that was said.
json with_diagnostics(json answer, std::string_view said) {
    answer["diagnostics"] = json::array();
    while (!said.empty()) {
        const std::string_view line = said.substr(0, said.find('\n'));
        answer["diagnostics"].push_back(diagnostic_from(line));
        said.remove_prefix(std::min(line.size() + 1, said.size()));
    }
    return answer;
}

}  // namespace

json answer_not_reloaded(CommandResult result, std::string_view said) {
    if (result == CommandResult::refused) return failure("reload: the opener stops");
    return with_diagnostics(
        result == CommandResult::invalid
            ? failure("the policy is invalid; the one before stays in force", exit_policy)
            : failure("the new generation could not start; the policy before stays in force"),
        said);
}

json answer_no_shadow(CommandResult result, std::string_view said) {
    if (result == CommandResult::refused)
        return failure("shadow: the opener stops, or another candidate is being loaded");
    return with_diagnostics(result == CommandResult::invalid
                                ? failure("the candidate is invalid; everything stays as it is", exit_policy)
                                : failure("the candidate could not be loaded; everything stays as it is"),
                            said);
}

json answer_not_taken_over(CommandResult result, std::string_view said) {
    if (result == CommandResult::refused) return failure("take-over: the opener stops");
    return with_diagnostics(result == CommandResult::invalid
                                ? failure("the policy is invalid; the opener goes on as it is", exit_policy)
                                : failure("the program could not take over; the opener goes on as it is"),
                            said);
}

namespace {

// The use of resources, as the supervisor has last seen it.
void add_supervisor_facts(Gauges& gauges, const SupervisorFacts& facts) {
    if (const std::int64_t at = facts.last_reload.load(); at != 0)
        gauges.last_reload = time_of_day(SessionUse::Clock::time_point(std::chrono::nanoseconds(at)));
    gauges.last_reload_failed = facts.last_reload_failed;
    const auto add = [&](std::string_view process, const UsageFacts& usage) {
        gauges.usage.push_back({process, usage.processes, usage.resident, usage.descriptors});
    };
    add("supervisor", facts.supervisor_usage);
    add("broker", facts.broker_usage);
    add("helpers", facts.helpers_usage);
}

}  // namespace

Gauges gauges_of(const GenerationFacts& facts, const ControlHost& host) {
    Gauges gauges{.generation = facts.start.number,
                  .opener_started = opener_started(facts),
                  .generation_started = facts.started,
                  .sessions = host.session_count(),
                  .descriptors_in_flight = host.descriptors_in_flight(),
                  .slowed_users = host.slowed_users().size(),
                  .generations_started = facts.start.facts.facts().generations.load(),
                  .crashes = facts.start.facts.facts().crashes.load(),
                  .reloads = facts.start.facts.facts().reloads.load(),
                  .failed_reloads = facts.start.facts.facts().failed_reloads.load(),
                  .connections_refused = facts.start.facts.facts().rejected_connections.load(),
                  .connection_waits = facts.start.facts.facts().waits.load(),
                  .helpers = host.helpers().helpers(),
                  .stuck_helpers = host.helpers().stuck(),
                  .background_helpers = host.helpers().background(),
                  .waiting_tasks = host.helpers().waiting(),
                  .helper_counts = host.helpers().counters(),
                  .audit_counts = host.audit_counts(),
                  .next_record = facts.start.ring != nullptr ? facts.start.ring->next_sequence() : 0};
    gauges.policy_digest = facts.policy_digest;
    gauges.has_shadow = facts.shadow != nullptr;
    if (facts.shadow != nullptr) gauges.shadow = facts.shadow->counts();
    for (std::size_t i = 0; i < layer_count; ++i)
        gauges.layers.push_back({to_string(static_cast<Layer>(i)),
                                 states[static_cast<std::size_t>(facts.confinement.layers[i].state)]});
    add_supervisor_facts(gauges, facts.start.facts.facts());
    return gauges;
}

}  // namespace fdbroker::opener
