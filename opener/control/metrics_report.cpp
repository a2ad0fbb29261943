// SPDX-License-Identifier: MIT
#include "opener/control/metrics_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "opener/base/build_config.hpp"
#include "opener/control/time_of_day.hpp"
#include "policy/explain/explain.hpp"

namespace fdbroker::opener {

using nlohmann::json;
using proto::Step;

namespace {

constexpr std::array measured_steps{Step::parse,   Step::decide, Step::resolve,
                                    Step::inspect, Step::record, Step::deliver};

constexpr std::array helper_steps{HelperStep::wait, HelperStep::carry_out, HelperStep::deliver};

double seconds(std::chrono::nanoseconds duration) {
    return std::chrono::duration<double>(duration).count();
}

double seconds(std::chrono::system_clock::time_point time) {
    return seconds(time.time_since_epoch());
}

std::string operations_label(policy::OperationSet operations) {
    std::string words;
    for (unsigned bit = 0; bit < policy::operation_count; ++bit) {
        const auto operation = static_cast<policy::Operation>(bit);
        if (!operations.contains(operation)) continue;
        words += (words.empty() ? "" : "+") + std::string(policy::to_string(operation));
    }
    return words.empty() ? "other" : words;
}

// The most used rules, and the sum of all others that were used.
struct RuleUses {
    std::vector<std::size_t> named{};
    std::size_t others = 0;
    std::uint64_t requests_of_others = 0;
};

RuleUses uses_of(const Metrics& metrics) {
    RuleUses uses;
    for (std::size_t rule = 0; rule < metrics.rules().size(); ++rule) {
        if (metrics.use_of(rule).requests != 0) uses.named.push_back(rule);
    }
    if (uses.named.size() <= max_rules_reported) return uses;
    std::ranges::nth_element(uses.named, uses.named.begin() + max_rules_reported, std::greater{},
                             [&](std::size_t rule) { return metrics.use_of(rule).requests; });
    uses.others = uses.named.size() - max_rules_reported;
    for (std::size_t i = max_rules_reported; i < uses.named.size(); ++i)
        uses.requests_of_others += metrics.use_of(uses.named[i]).requests;
    uses.named.resize(max_rules_reported);
    std::ranges::sort(uses.named);
    return uses;
}

// ---- Prometheus ----------------------------------------------------------------------------------------

// In a label's value: backslash, quote and line feed are escaped.
std::string escaped(std::string_view text) {
    std::string out;
    for (const char byte : text) {
        if (byte == '\\' || byte == '"') out += '\\';
        if (byte == '\n') {
            out += "\\n";
        } else {
            out += byte;
        }
    }
    return out;
}

class Exposition {
  public:
    void family(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        fmt::format_to(std::back_inserter(text_), "# HELP fdbroker_{0} {2}\n# TYPE fdbroker_{0} {1}\n", name,
                       type, help);
    }
    template <typename Value>
    void sample(const Value& value, std::string_view labels = "", std::string_view suffix = "") {
        const char* const open = labels.empty() ? "" : "{";
        const char* const close = labels.empty() ? "" : "}";
        fmt::format_to(std::back_inserter(text_), "fdbroker_{}{}{}{}{} {}\n", name_, suffix, open, labels,
                       close, value);
    }
    template <typename Value>
    void one(std::string_view name, std::string_view type, std::string_view help, const Value& value) {
        family(name, type, help);
        sample(value);
    }
    // `labels`: those besides `le`, with a comma behind each.
    void histogram(const Latencies& latencies, const std::string& labels = "") {
        std::uint64_t so_far = 0;
        for (std::size_t bucket = 0; bucket < Latencies::bucket_count; ++bucket) {
            so_far += latencies.buckets()[bucket];
            const std::chrono::nanoseconds bound{std::int64_t{1} << (bucket + Latencies::first_bit)};
            sample(so_far, fmt::format("{}le=\"{}\"", labels, seconds(bound)), "_bucket");
        }
        sample(latencies.count(), labels + "le=\"+Inf\"", "_bucket");
        const std::string_view others = std::string_view(labels).substr(0, labels.rfind(','));
        sample(seconds(latencies.sum()), others, "_sum");
        sample(latencies.count(), others, "_count");
    }
    std::string take() { return std::move(text_); }

  private:
    std::string text_{};
    std::string_view name_{};
};

void add_requests(Exposition& out, const Metrics& metrics) {
    out.family("requests_total", "counter",
               "Requests answered, by what they asked for and why they ended so.");
    for (const Metrics::ByOperations& entry : metrics.requests()) {
        for (std::size_t reason = 0; reason < reason_count; ++reason) {
            if (entry.requests[reason] == 0) continue;
            const auto why = static_cast<Reason>(reason);
            out.sample(entry.requests[reason],
                       fmt::format("operation=\"{}\",decision=\"{}\",reason=\"{}\"",
                                   operations_label(entry.operations),
                                   why == Reason::granted ? "allowed" : "refused", to_string(why)));
        }
    }
    out.family("request_duration_seconds", "histogram", "From a request's message to its audit record.");
    out.histogram(metrics.whole_requests());
    out.family("step_duration_seconds", "histogram",
               "How long the steps of a request take; measured of one request in 64.");
    for (const Step step : measured_steps)
        out.histogram(metrics.step(step), fmt::format("step=\"{}\",", proto::to_string(step)));
    out.family("helper_request_duration_seconds", "histogram",
               "Of what helpers carried out: from a request's message to its delivery.");
    out.histogram(metrics.helper_requests());
    out.family("helper_step_duration_seconds", "histogram",
               "Where that time went: waiting for a helper, carrying out, recording and delivering.");
    for (const HelperStep step : helper_steps)
        out.histogram(metrics.helper_step(step), fmt::format("step=\"{}\",", to_string(step)));
}

void add_rules(Exposition& out, const Metrics& metrics) {
    const RuleUses uses = uses_of(metrics);
    const auto labels = [&](std::size_t rule) {
        return fmt::format("rule=\"{}\",decision=\"{}\"", escaped(metrics.rules()[rule].name),
                           metrics.rules()[rule].allows ? "allow" : "deny");
    };
    out.family(
        "rule_requests_total", "counter",
        "Requests that a rule granted or denied; those of the most used rules, and all others added up.");
    for (const std::size_t rule : uses.named) out.sample(metrics.use_of(rule).requests, labels(rule));
    if (uses.others != 0) out.sample(uses.requests_of_others, "rule=\"\",decision=\"\"");
    out.family("rule_last_used_timestamp_seconds", "gauge", "When a rule last granted or denied a request.");
    for (const std::size_t rule : uses.named)
        out.sample(fmt::format("{:.3f}", seconds(time_of_day(metrics.use_of(rule).last_use))), labels(rule));
}

// When a policy was last asked for, and whether it came into force; the first is that of the start.
void add_reloads(Exposition& out, const Gauges& gauges) {
    out.family("reloads_total", "counter", "Reloads of the policy since the opener started.");
    out.sample(gauges.reloads, "result=\"served\"");
    out.sample(gauges.failed_reloads, "result=\"refused\"");
    out.one("last_reload_timestamp_seconds", "gauge",
            "When a policy was last loaded, or could not be; at first, when the opener started.",
            fmt::format("{:.3f}", seconds(gauges.last_reload.value_or(gauges.opener_started))));
    out.one("last_reload_successful", "gauge", "Whether the last reload came into force: 1, or 0.",
            gauges.last_reload_failed ? 0 : 1);
}

void add_confinement(Exposition& out, const Gauges& gauges) {
    out.family("policy_info", "gauge", "The SHA-256 of the policy that is served, with its fragments.");
    out.sample(1, fmt::format("sha256=\"{}\"", gauges.policy_digest));
    out.family("confinement_layer", "gauge",
               "What holds the broker, layer by layer: state is enforced, missing or not needed.");
    for (const Gauges::ConfinementLayer& layer : gauges.layers)
        out.sample(1, fmt::format("layer=\"{}\",state=\"{}\"", escaped(layer.layer), layer.state));
}

void add_usage(Exposition& out, const Gauges& gauges) {
    const auto add = [&](std::string_view name, std::string_view help, auto value) {
        out.family(name, "gauge", help);
        for (const Gauges::Usage& usage : gauges.usage) {
            if (usage.processes != 0 && value(usage) != 0)
                out.sample(value(usage), fmt::format("process=\"{}\"", usage.process));
        }
    };
    add("processes", "Processes, when they were last looked at: at the scrape before.",
        [](const Gauges::Usage& usage) { return usage.processes; });
    add("process_resident_memory_bytes", "Resident memory of processes; of several, added up.",
        [](const Gauges::Usage& usage) { return usage.resident; });
    add("process_open_fds",
        "Open descriptors of processes, where the kernel tells (6.2); of several, added up.",
        [](const Gauges::Usage& usage) { return usage.descriptors; });
}

}  // namespace

std::string to_prometheus(const Metrics& metrics, const Gauges& gauges) {
    Exposition out;
    const auto timestamp = [](std::chrono::system_clock::time_point time) {
        return fmt::format("{:.3f}", seconds(time));
    };
    out.family("build_info", "gauge", "The version of the opener.");
    out.sample(1, "version=\"" FDBROKER_VERSION "\"");
    out.one("start_time_seconds", "gauge", "When the opener started.", timestamp(gauges.opener_started));
    out.one("generation", "gauge", "The generation that serves; its counters began at 0 with it.",
            gauges.generation);
    out.one("generation_start_time_seconds", "gauge", "When this generation began to serve.",
            timestamp(gauges.generation_started));
    out.one("generations_total", "counter", "Generations started since the opener did.",
            gauges.generations_started);
    out.one("crashes_total", "counter", "Of these, those that served and died.", gauges.crashes);
    add_reloads(out, gauges);
    add_confinement(out, gauges);
    add_usage(out, gauges);
    out.one("policy_rules", "gauge", "Rules of the policy that is served.", metrics.rules().size());
    out.one("sessions", "gauge", "Connections of workers.", gauges.sessions);
    out.one("sessions_begun_total", "counter",
            "Connections of workers since this generation began, those that it took over included.",
            metrics.sessions_begun());
    out.one("connections_refused_total", "counter",
            "Connections that were turned away since the opener started: their users had as many as they may "
            "have.",
            gauges.connections_refused);
    out.one(
        "connection_waits_total", "counter",
        "Times that connections had to wait, since the opener started: there were as many as may be in all.",
        gauges.connection_waits);
    out.one("descriptors_in_flight", "gauge", "Descriptors sent that their peers have not received, at most.",
            gauges.descriptors_in_flight);
    add_requests(out, metrics);
    add_rules(out, metrics);
    out.family("audit_records_total", "counter",
               "Audit records of decisions: written, counted with others alike, or impossible to write.");
    out.sample(gauges.audit_counts.written, "result=\"written\"");
    out.sample(gauges.audit_counts.counted, "result=\"counted\"");
    out.sample(gauges.audit_counts.failed, "result=\"failed\"");
    out.one("shadow", "gauge", "1: a candidate decides beside the policy, without effect.",
            gauges.has_shadow ? 1 : 0);
    out.family("shadow_decisions_total", "counter",
               "Decisions that a candidate made beside the policy, by what they would come to.");
    out.sample(gauges.shadow.decisions - gauges.shadow.would_be_allowed - gauges.shadow.would_be_refused,
               "result=\"same\"");
    out.sample(gauges.shadow.would_be_allowed, "result=\"would_be_allowed\"");
    out.sample(gauges.shadow.would_be_refused, "result=\"would_be_refused\"");
    out.one("slowed_users", "gauge",
            "Users who are slowed: their audit records exceed limits: record_bytes_per_second.",
            gauges.slowed_users);
    out.one("users_slowed_total", "counter", "Times that a user began to be slowed.",
            gauges.audit_counts.slowed);
    out.one("audit_next_record", "gauge",
            "The number that the next audit record bears; 0: nothing is recorded.", gauges.next_record);
    out.one("helpers", "gauge", "Processes for what may block.", gauges.helpers);
    out.one("helpers_stuck", "gauge", "Of these, those that a filesystem holds.", gauges.stuck_helpers);
    out.one("helpers_lasting", "gauge", "Processes that stay with a stream, a put or a watch, besides these.",
            gauges.background_helpers);
    out.one("helpers_made_total", "counter", "Helpers made.", gauges.helper_counts.made);
    out.one("helper_tasks_waiting", "gauge", "Tasks that no helper has begun.", gauges.waiting_tasks);
    out.one("helper_tasks_total", "counter", "Tasks that were given to a helper.",
            gauges.helper_counts.tasks);
    out.one("helper_tasks_lasting_total", "counter", "Tasks that began a stream, a put or a watch.",
            gauges.helper_counts.background);
    out.family("helper_tasks_failed_total", "counter", "Tasks that came to nothing.");
    out.sample(gauges.helper_counts.timed_out, "reason=\"deadline\"");
    out.sample(gauges.helper_counts.lost, "reason=\"helper_died\"");
    out.sample(gauges.helper_counts.refused, "reason=\"no_room\"");
    out.one("control_clients", "gauge", "Connections to the control socket.", gauges.control_clients);
    out.one("watchers", "gauge", "Of these, those that watch.", gauges.watchers);
    out.one("watch_records_lost_total", "counter", "Decisions that a watcher was too slow for.",
            gauges.lost_watch_records);
    return out.take();
}

// ---- JSON ----------------------------------------------------------------------------------------------

namespace {

json requests_to_json(const Metrics& metrics) {
    json all = json::array();
    for (const Metrics::ByOperations& entry : metrics.requests()) {
        for (std::size_t reason = 0; reason < reason_count; ++reason) {
            if (entry.requests[reason] == 0) continue;
            const auto why = static_cast<Reason>(reason);
            all.push_back({{"operation", operations_label(entry.operations)},
                           {"decision", why == Reason::granted ? "allowed" : "refused"},
                           {"reason", to_string(why)},
                           {"requests", entry.requests[reason]}});
        }
    }
    return all;
}

json rules_to_json(const Metrics& metrics, const RuleUses& uses) {
    json all = json::array();
    for (const std::size_t rule : uses.named) {
        const Metrics::RuleUse& use = metrics.use_of(rule);
        all.push_back({{"rule", metrics.rules()[rule].name},
                       {"decision", metrics.rules()[rule].allows ? "allow" : "deny"},
                       {"requests", use.requests},
                       {"last_used", seconds(time_of_day(use.last_use))}});
    }
    return all;
}

json latencies_to_json(const Latencies& latencies) {
    json buckets = json::array();
    for (std::size_t bucket = 0; bucket < Latencies::bucket_count; ++bucket) {
        if (latencies.buckets()[bucket] == 0) continue;
        buckets.push_back({{"at_most_ns", std::uint64_t{1} << (bucket + Latencies::first_bit)},
                           {"count", latencies.buckets()[bucket]}});
    }
    return {{"count", latencies.count()},
            {"mean_ns", latencies.mean().count()},
            {"recent_ns", latencies.recent().count()},
            {"buckets", std::move(buckets)}};
}

}  // namespace

json to_json(const Metrics& metrics, const Gauges& gauges) {
    json layers = json::array(), usage = json::array();
    for (const Gauges::ConfinementLayer& layer : gauges.layers)
        layers.push_back({{"layer", layer.layer}, {"state", layer.state}});
    for (const Gauges::Usage& one : gauges.usage)
        usage.push_back({{"process", one.process},
                         {"processes", one.processes},
                         {"resident_bytes", one.resident},
                         {"descriptors", one.descriptors}});
    json steps = json::object();
    for (const Step step : measured_steps)
        steps[std::string(proto::to_string(step))] = latencies_to_json(metrics.step(step));
    json of_helpers = json::object();
    for (const HelperStep step : helper_steps)
        of_helpers[std::string(to_string(step))] = latencies_to_json(metrics.helper_step(step));
    const RuleUses uses = uses_of(metrics);
    return {{"version", FDBROKER_VERSION},
            {"started", seconds(gauges.opener_started)},
            {"generation", gauges.generation},
            {"generation_started", seconds(gauges.generation_started)},
            {"generations", gauges.generations_started},
            {"crashes", gauges.crashes},
            {"reloads", gauges.reloads},
            {"failed_reloads", gauges.failed_reloads},
            {"last_reload", seconds(gauges.last_reload.value_or(gauges.opener_started))},
            {"last_reload_successful", !gauges.last_reload_failed},
            {"policy_sha256", gauges.policy_digest},
            {"confinement", std::move(layers)},
            {"processes", std::move(usage)},
            {"policy_rules", metrics.rules().size()},
            {"sessions", gauges.sessions},
            {"sessions_begun", metrics.sessions_begun()},
            {"connections_refused", gauges.connections_refused},
            {"connection_waits", gauges.connection_waits},
            {"descriptors_in_flight", gauges.descriptors_in_flight},
            {"requests", requests_to_json(metrics)},
            {"request_duration", latencies_to_json(metrics.whole_requests())},
            {"step_duration", std::move(steps)},
            {"helper_request_duration", latencies_to_json(metrics.helper_requests())},
            {"helper_step_duration", std::move(of_helpers)},
            {"step_sampling", Metrics::sample_every},
            {"rules", rules_to_json(metrics, uses)},
            {"other_rules", {{"rules", uses.others}, {"requests", uses.requests_of_others}}},
            {"audit_records",
             {{"written", gauges.audit_counts.written},
              {"counted", gauges.audit_counts.counted},
              {"failed", gauges.audit_counts.failed}}},
            {"shadow",
             {{"runs", gauges.has_shadow},
              {"decisions", gauges.shadow.decisions},
              {"would_be_allowed", gauges.shadow.would_be_allowed},
              {"would_be_refused", gauges.shadow.would_be_refused}}},
            {"users_slowed", {{"now", gauges.slowed_users}, {"times", gauges.audit_counts.slowed}}},
            {"helpers",
             {{"helpers", gauges.helpers},
              {"stuck", gauges.stuck_helpers},
              {"lasting", gauges.background_helpers},
              {"made", gauges.helper_counts.made},
              {"waiting", gauges.waiting_tasks},
              {"tasks", gauges.helper_counts.tasks},
              {"began_to_last", gauges.helper_counts.background},
              {"timed_out", gauges.helper_counts.timed_out},
              {"lost", gauges.helper_counts.lost},
              {"refused", gauges.helper_counts.refused}}},
            {"next_record", gauges.next_record},
            {"control_clients", gauges.control_clients},
            {"watchers", gauges.watchers},
            {"lost_watch_records", gauges.lost_watch_records}};
}

}  // namespace fdbroker::opener
