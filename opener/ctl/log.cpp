// SPDX-License-Identifier: MIT
#include "opener/ctl/log.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <charconv>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <ranges>

#include "opener/base/byte_text.hpp"
#include "opener/control/text.hpp"
#include "opener/ctl/control_commands.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/records/audit_files.hpp"
#include "policy/language/loader.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using records::AuditFile;
using records::Reading;

namespace {

std::string text_of(const json& record, const char* key) {
    const auto found = record.find(key);
    return found != record.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// A path, or another name of which each byte is one character.
std::string name_of(const json& record, const char* key) {
    const std::string text = text_of(record, key);
    return opener::bytes_of(text).value_or(text);
}

// ---- times -------------------------------------------------------------------------------------------------

using Time = std::chrono::system_clock::time_point;

// "90s", "30min", "2h" or "7d" ago.
std::optional<Time> time_ago(std::string_view text) {
    unsigned number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{}) return std::nullopt;
    const std::string_view unit(end, text.data() + text.size());
    const auto now = std::chrono::system_clock::now();
    if (unit == "s") return now - std::chrono::seconds(number);
    if (unit == "min") return now - std::chrono::minutes(number);
    if (unit == "h") return now - std::chrono::hours(number);
    if (unit == "d") return now - std::chrono::days(number);
    return std::nullopt;
}

// UTC, as records have it; what is left out at the end is 0.
std::optional<Time> time_of_day(const std::string& text) {
    for (const char* form : {"%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M",
                             "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"}) {
        std::tm time{};
        const char* const end = ::strptime(text.c_str(), form, &time);
        if (end != nullptr && *end == '\0') return std::chrono::system_clock::from_time_t(::timegm(&time));
    }
    return std::nullopt;
}

// ---- which records -----------------------------------------------------------------------------------------

// The paths that a glob of the policy language matches, as a policy of one rule decides it.
class PathFilter {
  public:
    static std::expected<PathFilter, std::string> create(const std::string& glob) {
        // JSON's strings are YAML's.
        const std::string quoted = json(glob).dump(-1, ' ', true, json::error_handler_t::replace);
        const std::string text =
            "version: 1\nrules: [{name: wanted, allow: [stat], paths: [" + quoted + "]}]\n";
        const auto no_fragments =
            [](const std::string&) -> std::expected<std::vector<policy::Source>, std::string> {
            return std::unexpected("");
        };
        auto loaded = policy::load({"--path", text}, no_fragments, opener::SystemAccounts{});
        if (loaded) return PathFilter(std::move(*loaded));
        const std::string& error = loaded.error().front().text;
        const std::size_t start = error.find("paths: ");
        return std::unexpected(start == std::string::npos ? error : error.substr(start + 7));
    }

    bool matches(const json& record) const {
        policy::PeerIdentity identity;
        const auto peer = record.find("peer");
        if (peer != record.end()) {
            identity.uid = peer->value("uid", std::uint32_t{0});
            identity.user = text_of(*peer, "user");
        }
        const policy::Peer who = policy_.identify(std::move(identity));
        for (const char* key : {"path", "final_path", "new_path"}) {
            const std::string name = name_of(record, key);
            const auto path = policy::RequestPath::parse(name);
            if (path && policy_.decide(who, {policy::Operation::stat}, *path)) return true;
        }
        return false;
    }

  private:
    explicit PathFilter(policy::Policy policy) : policy_(std::move(policy)) {}
    policy::Policy policy_;
};

struct Wanted {
    std::string since{};  // as records write it; empty: always
    std::time_t since_second = 0;
    std::string user{};
    std::optional<PathFilter> path{};
    std::string rule{};
    bool refused = false;

    bool matches(const json& record) const {
        if (!since.empty() && text_of(record, "time") < since) return false;
        if (refused && text_of(record, "decision") != "refused") return false;
        if (!user.empty() && !is_users(record)) return false;
        if (!rule.empty() && text_of(record, "rule") != rule) return false;
        return !path || path->matches(record);
    }

  private:
    bool is_users(const json& record) const {
        const auto peer = record.find("peer");
        if (peer == record.end()) return false;
        return text_of(*peer, "user") == user || (peer->contains("uid") && (*peer)["uid"].dump() == user);
    }
};

std::expected<Wanted, Failure> wanted_by(const LogOptions& options) {
    Wanted wanted{.user = options.user, .rule = options.rule, .refused = options.refused};
    if (!options.since.empty()) {
        auto time = time_ago(options.since);
        if (!time) time = time_of_day(options.since);
        if (!time)
            return failed(opener::exit_usage,
                          fmt::format("--since: \"{}\" is no time; write 2026-11-22, 2026-11-22T18:00 (UTC), "
                                      "or how long ago: 90s, 30min, 2h, 7d",
                                      options.since));
        wanted.since_second = std::chrono::system_clock::to_time_t(*time);
        wanted.since = fmt::format("{:%Y-%m-%dT%H:%M:%S}", fmt::gmtime(wanted.since_second));
    }
    if (!options.path.empty()) {
        auto filter = PathFilter::create(options.path);
        if (!filter) return failed(opener::exit_usage, "--path: " + filter.error());
        wanted.path = std::move(*filter);
    }
    return wanted;
}

// ---- a record as a line ------------------------------------------------------------------------------------

std::string request_text(const json& record) {
    std::string operations;
    for (const json& operation : record.value("operation", json::array()))
        operations += (operations.empty() ? "" : ",") + operation.get<std::string>();
    std::string text =
        fmt::format("{} {} {}", text_of(record, "decision"),
                    opener::asked_text(text_of(record, "call"), operations), name_of(record, "path"));
    if (record.contains("new_path")) text += " to " + name_of(record, "new_path");
    return text;
}

std::string line_of(const json& record) {
    std::string line = text_of(record, "time") + " ";
    line += record.contains("decision") ? request_text(record) : text_of(record, "event");
    if (const auto peer = record.find("peer"); peer != record.end()) {
        line += fmt::format(" pid {} uid {}", (*peer)["pid"].dump(), (*peer)["uid"].dump());
        if (const std::string user = name_of(*peer, "user"); !user.empty()) line += " (" + user + ")";
    }
    if (text_of(record, "decision") == "allowed" && record.contains("rule"))
        line += " rule " + text_of(record, "rule");
    if (record.contains("reason"))
        line +=
            fmt::format(": {} ({})", text_of(record, "reason"), ::strerrorname_np(record.value("errno", 0)));
    if (record.contains("cause")) line += ": " + text_of(record, "cause");
    if (record.contains("count")) line += fmt::format(" ({} times)", record["count"].dump());
    return proto::printable(line, proto::LineFeeds::escaped) + fmt::format(" [{}]\n", record["seq"].dump());
}

// The log of the opener that runs.
std::expected<std::string, Failure> file_of_opener(const std::string& control) {
    auto status = answer_of_opener({.control = control, .command = opener::ControlCommand::status});
    if (!status) {
        status.error().what += "; --file names the log";
        return std::unexpected(std::move(status.error()));
    }
    if (status->contains("error")) return failed(opener::exit_failed, text_of(*status, "error"));
    std::string destination = text_of((*status)["audit"], "destination");
    if (destination.starts_with('/')) return destination;
    return failed(opener::exit_failed,
                  destination == "journal"
                      ? "log: the records are in the journal: journalctl FDBROKER_EVENT=request"
                      : fmt::format("log: the records go to {}, not to a file", destination));
}

}  // namespace

Ending print_log(const LogOptions& options) {
    const auto wanted = wanted_by(options);
    if (!wanted) return std::unexpected(wanted.error());
    const auto file = options.file.empty() ? file_of_opener(options.control)
                                           : std::expected<std::string, Failure>(options.file);
    if (!file) return std::unexpected(file.error());
    const auto files = records::audit_files(*file);
    if (!files) return failed(opener::exit_failed, "log: " + files.error().message());
    for (const AuditFile& audit : *files) {
        if (audit.written < wanted->since_second) continue;
        const auto read = records::read_lines(audit, [&](std::string_view line) {
            const json record = json::parse(line, nullptr, false);
            if (!record.is_object() || !record.contains("seq") || !wanted->matches(record))
                return Reading::go_on;
            print_raw(options.json ? std::string(line) + "\n" : line_of(record));
            return Reading::go_on;
        });
        if (!read) return failed(opener::exit_failed, "log: " + read.error().message());
    }
    return opener::exit_done;
}

std::expected<std::optional<json>, Failure> recorded(const std::string& file, std::uint64_t sequence) {
    const auto files = records::audit_files(file);
    if (!files) return failed(opener::exit_failed, "why: " + files.error().message());
    const std::string number = fmt::format("\"seq\":{},", sequence);
    for (const AuditFile& audit : std::views::reverse(*files)) {
        std::optional<json> last;
        const auto read = records::read_lines(audit, [&](std::string_view line) {
            if (line.find(number) == std::string_view::npos) return Reading::go_on;
            json record = json::parse(line, nullptr, false);
            if (record.is_object() && record.value("seq", std::uint64_t{0}) == sequence)
                last = std::move(record);
            return Reading::go_on;
        });
        if (!read) return failed(opener::exit_failed, "why: " + read.error().message());
        if (last) return last;
    }
    return std::nullopt;
}

}  // namespace fdbroker::ctl
