// SPDX-License-Identifier: MIT
#include "opener/control/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "opener/base/byte_text.hpp"
#include "opener/control/shadow_answer.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

using nlohmann::json;

namespace {

std::string word(const json& value) {
    if (value.is_null()) return "-";
    return value.is_string() ? proto::printable(value.get<std::string>(), proto::LineFeeds::escaped)
                             : value.dump();
}

// A path, or another name of which each byte is one character.
std::string name_word(const json& value) {
    if (!value.is_string()) return word(value);
    const auto& text = value.get_ref<const std::string&>();
    return proto::printable(bytes_of(text).value_or(text), proto::LineFeeds::escaped);
}

std::string joined(const json& words) {
    std::string text;
    for (const json& one : words) text += (text.empty() ? "" : ",") + word(one);
    return text.empty() ? "-" : text;
}

std::string duration_text(std::int64_t seconds) {
    if (seconds < 60) return fmt::format("{} s", seconds);
    if (seconds < 3600) return fmt::format("{} min {} s", seconds / 60, seconds % 60);
    if (seconds < 86400) return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
    return fmt::format("{} d {} h", seconds / 86400, seconds / 3600 % 24);
}

std::string plural(const json& count, std::string_view thing) {
    const std::string_view ending = thing.ends_with('h') ? "es" : "s";
    return fmt::format("{} {}{}", word(count), thing, count == 1 ? "" : ending);
}

// Columns as wide as their widest word; the first row is the heading. The last column is not filled up.
class Table {
  public:
    explicit Table(std::vector<std::string> heading) { add(std::move(heading)); }
    void add(std::vector<std::string> row) {
        widths_.resize(std::max(widths_.size(), row.size()));
        for (std::size_t i = 0; i < row.size(); ++i) widths_[i] = std::max(widths_[i], row[i].size());
        rows_.push_back(std::move(row));
    }
    std::string text(const TextStyle& style) const {
        std::string out;
        for (std::size_t row = 0; row < rows_.size(); ++row) {
            if (row == 0) out += style.strong;
            for (std::size_t i = 0; i < rows_[row].size(); ++i) {
                const bool last = i + 1 == rows_[row].size();
                out += last ? rows_[row][i] : fmt::format("{:<{}}  ", rows_[row][i], widths_[i]);
            }
            if (row == 0) out += style.end;
            out += '\n';
        }
        return out;
    }

  private:
    std::vector<std::size_t> widths_{};
    std::vector<std::vector<std::string>> rows_{};
};

// "key            value", the key only on the first of several lines.
class Lines {
  public:
    explicit Lines(const TextStyle& style) : style_(style) {}
    void add(std::string_view key, const std::string& value) {
        out_ += fmt::format("{}{:<14}{} {}\n", style_.strong, key == last_ ? "" : key, style_.end, value);
        last_ = key;
    }
    std::string take() { return std::move(out_); }

  private:
    const TextStyle& style_;
    std::string out_{};
    std::string last_{};
};

std::string layer_text(const json& layer, const TextStyle& style) {
    const std::string state = word(layer["state"]);
    const std::string& mark = state == "missing" ? style.bad : style.good;
    const std::string detail = word(layer["detail"]);
    return fmt::format("{:<18} {}{}{}{}{}", word(layer["layer"]), mark, state, mark.empty() ? "" : style.end,
                       detail.empty() ? "" : ": ", detail);
}

std::string generation_text(const json& generation) {
    return fmt::format("{} ({}), serving for {}", word(generation["number"]), word(generation["cause"]),
                       duration_text(generation["uptime_s"]));
}

std::string policy_text(const json& policy) {
    return fmt::format("{}, {}, {}, loaded {}", word(policy["file"]), plural(policy["rules"], "rule"),
                       plural(policy["roles"], "role"), word(policy["loaded"]));
}

std::string uptime_text(const json& answer) {
    return fmt::format("{}, since {}", duration_text(answer["uptime_s"]), word(answer["started"]));
}

std::string status_text(const json& answer, const TextStyle& style) {
    Lines lines(style);
    lines.add("opener", fmt::format("{}, up {}", word(answer["version"]), uptime_text(answer)));
    const json& supervisor = answer["supervisor"];
    lines.add("generation", generation_text(answer["generation"]));
    lines.add("so far",
              fmt::format("{}, {} refused, {}", plural(supervisor["reloads"], "reload"),
                          word(supervisor["failed_reloads"]), plural(supervisor["crashes"], "crash")));
    if (supervisor["finishing"] != 0)
        lines.add("finishing", fmt::format("{} that handed over, for what helpers have begun",
                                           plural(supervisor["finishing"], "generation")));
    lines.add("policy", policy_text(answer["policy"]));
    for (const json& listener : answer["listeners"]) {
        lines.add(listener["control"] == true ? "control" : "listening",
                  listener["control"] == true
                      ? word(listener["address"])
                      : fmt::format("{} ({})", word(listener["address"]), word(listener["name"])));
    }
    lines.add("sessions", fmt::format("{}, {} in flight; {} turned away so far", word(answer["sessions"]),
                                      plural(answer["descriptors_in_flight"], "descriptor"),
                                      plural(answer["connections_refused"], "connection")));
    const json& helpers = answer["helpers"];
    lines.add(
        "helpers",
        fmt::format(
            "{}, {} stuck; {} more with streams, puts and watches; {} given to them, {} not done in time",
            word(helpers["helpers"]), word(helpers["stuck"]), word(helpers["lasting"]),
            plural(helpers["tasks"], "task"), word(helpers["timed_out"])));
    for (const json& request : answer["stuck"]) {
        lines.add("stuck", fmt::format("{}uid {}, rule {}, {}, since {}{}", style.bad, word(request["uid"]),
                                       word(request["rule"]), name_word(request["path"]),
                                       word(request["since"]), style.end));
    }
    for (const json& user : answer["slowed"]) {
        lines.add("slowed",
                  fmt::format("{}uid {}{}: its records exceed limits: record_bytes_per_second, since {}{}",
                              style.bad, word(user["uid"]),
                              user["user"].is_null() ? "" : fmt::format(" ({})", word(user["user"])),
                              word(user["since"]), style.end));
    }
    const json& audit = answer["audit"];
    lines.add("audit",
              audit["next_record"] == 0
                  ? word(audit["destination"])
                  : fmt::format("{}, next record {}; decisions: {} written, {} collapsed, {} failed",
                                word(audit["destination"]), word(audit["next_record"]),
                                word(audit["records"]), word(audit["counted"]), word(audit["failed"])));
    if (audit.contains("head") && audit["head"].is_string()) lines.add("audit head", word(audit["head"]));
    if (answer.contains("shadow") && !answer["shadow"].is_null())
        lines.add("shadow", name_word(answer["shadow"]) + " decides beside the policy, without effect");
    const json& confinement = answer["confinement"];
    lines.add("runs as", confinement["user"].is_null() ? fmt::format("uid {}", word(confinement["uid"]))
                                                       : fmt::format("uid {} ({})", word(confinement["uid"]),
                                                                     word(confinement["user"])));
    const std::string capabilities = word(confinement["capabilities"]);
    lines.add("capabilities", capabilities.empty() ? "none" : capabilities);
    for (const json& layer : confinement["layers"]) lines.add("confinement", layer_text(layer, style));
    for (const json& directory : answer["dormant"]) {
        lines.add("dormant", fmt::format("{}{}: {}{}", style.bad, name_word(directory["path"]),
                                         name_word(directory["why"]), style.end));
    }
    if (answer["unanswered_names"] != 0)
        lines.add("names", fmt::format("{}{} of peers not answered by the account database so far{}",
                                       style.bad, plural(answer["unanswered_names"], "look-up"), style.end));
    for (const json& directory : answer["wider_than_rules"]) {
        lines.add("wider", fmt::format("{}{}: {}{}", style.bad, name_word(directory["path"]),
                                       name_word(directory["why"]), style.end));
    }
    for (const json& line : answer["unknown_accounts"])
        lines.add("account", fmt::format("{}{}{}", style.bad, word(line), style.end));
    return lines.take();
}

std::string connections_text(const json& answer, const TextStyle& style) {
    Table table(
        {"session", "listener", "pid", "user", "roles", "since", "last request", "requests", "refused"});
    std::size_t grants = 0;
    for (const json& session : answer["connections"]) {
        table.add({word(session["session"]), word(session["listener"]), word(session["pid"]),
                   session["user"].is_null() ? word(session["uid"]) : word(session["user"]),
                   joined(session["roles"]), word(session["since"]), word(session["last_request"]),
                   word(session["requests"]), word(session["refused"])});
        if (session.contains("grants")) grants += session["grants"].size();
    }
    std::string text = table.text(style);
    if (grants == 0) return text;
    Table delivered({"session", "delivered", "last", "rule", "last path"});
    for (const json& session : answer["connections"]) {
        for (const json& grant : session["grants"])
            delivered.add({word(session["session"]), word(grant["delivered"]), word(grant["last"]),
                           grant["rule"].is_null() ? "(others)" : word(grant["rule"]),
                           name_word(grant["last_path"])});
    }
    return text + "\n" + delivered.text(style);
}

std::string workers_text(const json& answer, const TextStyle& style) {
    Table table({"pid", "started", "starts", "the one before"});
    for (const json& worker : answer["workers"])
        table.add(
            {word(worker["pid"]), word(worker["started"]), word(worker["starts"]), word(worker["last_end"])});
    return fmt::format("{}: {} wanted\n", word(answer["pool"]), word(answer["wanted"])) + table.text(style);
}

std::string why_text(const json& record, const TextStyle& style) {
    Lines lines(style);
    const bool refused = record.value("decision", "") == "refused";
    if (record.contains("decision")) {
        const json& operations = record["operation"];
        const std::string asked =
            asked_text(word(record["call"]), operations.empty() ? "" : joined(operations));
        lines.add("decision",
                  fmt::format("{}{}{}: {} {}", refused ? style.bad : style.good, word(record["decision"]),
                              style.end, asked, name_word(record["path"])));
    }
    if (record.contains("reason")) {
        lines.add("because", fmt::format("{} (step {}, {})", word(record["reason"]), word(record["step"]),
                                         ::strerrorname_np(record["errno"].get<int>())));
    }
    if (record.contains("rule"))
        lines.add("rule", fmt::format("{}, {}", word(record["rule"]), name_word(record["at"])));
    if (record.contains("peer")) {
        const json& peer = record["peer"];
        lines.add("peer",
                  fmt::format("{}, pid {}, uid {}, roles {}, on {}",
                              peer["user"].is_null() ? "no name" : name_word(peer["user"]), word(peer["pid"]),
                              word(peer["uid"]), joined(peer["roles"]), name_word(record["listener"])));
    }
    for (const auto& [key, value] : record.items()) {
        static constexpr std::string_view told[] = {"decision", "call",     "operation", "path",
                                                    "reason",   "step",     "errno",     "rule",
                                                    "at",       "listener", "peer"};
        const bool is_name = key.ends_with("_path");
        if (std::ranges::find(told, key) == std::end(told))
            lines.add(key, is_name ? name_word(value) : word(value));
    }
    return lines.take();
}

std::string failure_text(const json& answer, const TextStyle& style) {
    std::string text = fmt::format("{}error:{} {}\n", style.bad, style.end, word(answer["error"]));
    if (!answer.contains("diagnostics")) return text;
    for (const json& one : answer["diagnostics"]) text += diagnostic_text(one, style) + "\n";
    return text;
}

}  // namespace

std::string diagnostic_text(const json& diagnostic, const TextStyle& style) {
    if (!diagnostic.contains("line")) return word(diagnostic["message"]);
    return fmt::format("{}{}:{}:{}:{} {}", style.strong, word(diagnostic["file"]), word(diagnostic["line"]),
                       word(diagnostic["column"]), style.end, word(diagnostic["message"]));
}

std::string asked_text(std::string_view call, std::string_view operations) {
    return operations.empty() || operations == call ? std::string(call)
                                                    : fmt::format("{} {}", call, operations);
}

std::string to_text(ControlCommand command, const json& answer, const TextStyle& style) {
    if (answer.contains("error")) return failure_text(answer, style);
    switch (command) {
        case ControlCommand::status:
            return status_text(answer, style);
        case ControlCommand::uptime:
            return uptime_text(answer) + "\n";
        case ControlCommand::connections:
            return connections_text(answer, style);
        case ControlCommand::why:
            return why_text(answer, style);
        case ControlCommand::workers:
            return workers_text(answer, style);
        case ControlCommand::shadow:
            return shadow_text(answer, style);
        case ControlCommand::reload:
        case ControlCommand::take_over:
            return fmt::format("generation {}\n{}\n", generation_text(answer["generation"]),
                               policy_text(answer["policy"]));
        case ControlCommand::shutdown:
            return "the opener stops\n";
        default:
            return proto::printable(answer.value("text", ""));
    }
}

}  // namespace fdbroker::opener
