// SPDX-License-Identifier: MIT
#include <fmt/format.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "opener/audit/audit_chain.hpp"
#include "opener/ctl/audit_commands.hpp"
#include "opener/ctl/control_commands.hpp"
#include "opener/ctl/json.hpp"
#include "opener/ctl/progress.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/records/audit_files.hpp"
#include "opener/records/chain_files.hpp"

namespace fdbroker::ctl {

using nlohmann::json;
using opener::RecordHash;
using opener::to_hex;
using records::ChainFinding;
using records::ChainReport;
using records::FileChain;

namespace {

// ---- what is looked for --------------------------------------------------------------------------------

std::expected<RecordHash, Failure> head_of_opener(const std::string& control) {
    auto status = answer_of_opener({.control = control, .command = opener::ControlCommand::status});
    if (!status) return std::unexpected(std::move(status.error()));
    const json head = status->value("audit", json::object()).value("head", json());
    const auto hash = head.is_string() ? opener::hash_from_hex(head.get<std::string>()) : std::nullopt;
    if (!hash)
        return failed(opener::exit_failed, "audit verify: the running opener knows no head of its audit log");
    return *hash;
}

std::expected<std::vector<RecordHash>, Failure> heads_of(const VerifyOptions& options) {
    std::vector<RecordHash> heads;
    for (const std::string& text : options.heads) {
        if (text == "running") {
            const auto head = head_of_opener(options.control);
            if (!head) return std::unexpected(head.error());
            heads.push_back(*head);
        } else if (const auto head = opener::hash_from_hex(text)) {
            heads.push_back(*head);
        } else {
            return failed(opener::exit_usage,
                          fmt::format("--head: \"{}\" is no hash; write its 64 digits, or running", text));
        }
    }
    return heads;
}

// ---- what was found ------------------------------------------------------------------------------------

json chain_to_json(const FileChain& file) {
    return {
        {"file", printable(file.file)},
        {"records", file.records},
        {"without_hash", file.unchained},
        {"cut_short_by_a_crash", file.torn + (file.ends_in_line ? 1 : 0)},
        {"follows", file.begins && *file.begins != opener::no_record ? json(to_hex(*file.begins)) : json()},
        {"head", file.head != opener::no_record ? json(to_hex(file.head)) : json()},
        {"first", {{"record", file.first.sequence}, {"time", file.first_time}}},
        {"last", {{"record", file.last.sequence}, {"time", file.last_time}, {"line", file.last.line}}}};
}

json chain_to_json(const ChainFinding& finding) {
    return {{"kind", to_string(finding.kind)},
            {"file", finding.file.empty() ? json() : json(printable(finding.file))},
            {"line", finding.line == 0 ? json() : json(finding.line)},
            {"record", finding.record == 0 ? json() : json(finding.record)},
            {"text", printable(finding.text)}};
}

json chain_to_json(const ChainReport& report) {
    json files = json::array(), findings = json::array(), heads = json::array();
    for (const FileChain& file : report.files) files.push_back(chain_to_json(file));
    for (const ChainFinding& finding : report.findings) findings.push_back(chain_to_json(finding));
    for (const records::PublishedHead& head : report.heads) {
        const bool found = !head.file.empty();
        heads.push_back({{"head", to_hex(head.head)},
                         {"found", found},
                         {"file", found ? json(printable(head.file)) : json()},
                         {"line", found ? json(head.place.line) : json()},
                         {"record", found ? json(head.place.sequence) : json()}});
    }
    return {{"holds", report.holds()},         {"records", report.records()},
            {"files", std::move(files)},       {"heads", std::move(heads)},
            {"findings", std::move(findings)}, {"more_findings", report.more_findings}};
}

void print_file(const FileChain& file) {
    std::string text = fmt::format("{}: ", file.file);
    if (file.records + file.unchained == 0) {
        print(text + "no records\n");
        return;
    }
    text +=
        fmt::format("{} records, {} to {}", file.records + file.unchained, file.first_time, file.last_time);
    if (file.unchained != 0)
        text +=
            fmt::format("; the first {} have no hash, as an opener before 0.2 wrote them", file.unchained);
    if (file.torn != 0)
        text += fmt::format("; {} line{} cut short by a crash, as the next record knows", file.torn,
                            file.torn == 1 ? "" : "s");
    if (file.ends_in_line) text += "; the last line is cut short, by a crash or since it is being written";
    print(text + "\n");
}

void print_finding(const ChainFinding& finding, bool colour) {
    const std::string place =
        finding.file.empty() ? std::string() : fmt::format("{}:{}: ", finding.file, finding.line);
    print_raw(printable(place) + painted(to_string(finding.kind), Colour::red, colour) +
              printable(fmt::format(": {}\n", finding.text)));
}

void print_report(const ChainReport& report) {
    const bool colour = takes_colour(STDOUT_FILENO);
    for (const FileChain& file : report.files) print_file(file);
    for (const ChainFinding& finding : report.findings) print_finding(finding, colour);
    if (report.more_findings != 0) print(fmt::format("and {} more\n", report.more_findings));
    for (const records::PublishedHead& head : report.heads)
        if (!head.file.empty())
            print(fmt::format("the published head {} is record {}, {}:{}\n", to_hex(head.head),
                              head.place.sequence, head.file, head.place.line));
    if (!report.holds()) {
        print_raw(painted("the chain does not hold", Colour::red, colour) + "\n");
        return;
    }
    print_raw(painted("the chain holds", Colour::green, colour));
    const FileChain* last = nullptr;
    for (const FileChain& file : report.files)
        if (file.records + file.unchained != 0) last = &file;
    print(fmt::format(": {} records in {} file{}{}\n", report.records(), report.files.size(),
                      report.files.size() == 1 ? "" : "s",
                      last == nullptr ? "" : fmt::format("; its head is {}", to_hex(last->head))));
}

}  // namespace

std::expected<std::vector<std::string>, Failure> with_rotated(const std::vector<std::string>& files,
                                                              bool rotated, std::string_view command) {
    if (!rotated) return files;
    std::vector<std::string> all;
    for (const std::string& file : files) {
        if (file == "-") {
            all.push_back(file);
            continue;
        }
        const auto found = records::audit_files(file);
        if (!found)
            return failed(opener::exit_failed, fmt::format("{}: {}", command, found.error().message()));
        for (const records::AuditFile& one : *found) all.push_back(one.path);
    }
    return all;
}

Ending audit_verify(const VerifyOptions& options) {
    // Before the files: what is published is written.
    const auto heads = heads_of(options);
    if (!heads) return std::unexpected(heads.error());
    const auto names = with_rotated(options.files, options.rotated, "audit verify");
    if (!names) return std::unexpected(names.error());
    auto files = records::open_record_files(*names);
    if (!files) return failed(opener::exit_failed, "audit verify: " + files.error().message());
    std::expected<ChainReport, proto::Error> report;
    {
        ProgressLine line("audit verify",
                          options.json ? ProgressLine::Beside::json : ProgressLine::Beside::text);
        report = records::verify_chain(std::move(*files), *heads, [&](const records::Progress& progress) {
            line.tell(progress.share(), fmt::format("{} records", progress.records));
        });
    }
    if (!report) return failed(opener::exit_failed, "audit verify: " + report.error().message());
    if (options.json)
        print_json(chain_to_json(*report));
    else
        print_report(*report);
    return report->holds() ? opener::exit_done : opener::exit_failed;
}

}  // namespace fdbroker::ctl
