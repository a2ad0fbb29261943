// SPDX-License-Identifier: MIT
#include "opener/ctl/check_report.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "opener/base/build_config.hpp"
#include "opener/ctl/json.hpp"
#include "opener/ctl/terminal.hpp"

namespace fdbroker::ctl {

using nlohmann::json;

namespace {

std::string_view word(Severity severity) {
    return severity == Severity::error ? "error" : "warning";
}

// ---- JSON --------------------------------------------------------------------------------------------------

json diagnostic_to_json(const CheckFinding& finding) {
    json one = to_json(policy::Location{finding.file, finding.line, finding.column});
    one["code"] = finding.code;
    one["severity"] = word(finding.severity);
    one["message"] = finding.message;
    return one;
}

json lint_to_json(const CheckFinding& finding) {
    return {{"finding", finding.code},
            {"code", finding.code},
            {"severity", word(finding.severity)},
            {"rule", finding.rule},
            {"location", to_json(policy::Location{finding.file, finding.line, finding.column})},
            {"message", finding.message}};
}

json file_to_json(const CheckedFile& file, bool with_lint) {
    json findings = json::array();
    for (const CheckFinding& finding : file.findings)
        findings.push_back(file.valid ? lint_to_json(finding) : diagnostic_to_json(finding));
    if (!file.valid) return {{"valid", false}, {"diagnostics", std::move(findings)}};
    json answer{{"valid", true}, {"rules", file.valid->rules}, {"tests", file.valid->tests}};
    if (with_lint) answer["findings"] = std::move(findings);
    return answer;
}

// A single file is an object, several are a list.
void print_as_json(const std::vector<CheckedFile>& files, bool with_lint) {
    if (files.size() == 1) return print_json(file_to_json(files.front(), with_lint));
    json all{{"valid", true}, {"files", json::array()}};
    for (const CheckedFile& file : files) {
        json one = file_to_json(file, with_lint);
        one["file"] = file.file;
        if (!file.valid) all["valid"] = false;
        all["files"].push_back(std::move(one));
    }
    print_json(all);
}

// ---- SARIF 2.1.0, docs.oasis-open.org/sarif ----------------------------------------------------------------

// RFC 3986: what a path may hold in a URI as it is.
std::string uri_of(std::string_view path) {
    std::string uri = path.starts_with('/') ? "file://" : "";
    for (const char byte : path) {
        const auto value = static_cast<unsigned char>(byte);
        const bool plain = (value | 0x20) >= 'a' && (value | 0x20) <= 'z';
        if (plain || std::string_view("0123456789-._~/").contains(byte)) {
            uri += byte;
        } else {
            uri += fmt::format("%{:02X}", value);
        }
    }
    return uri;
}

json sarif_result(const CheckFinding& finding) {
    json place{{"artifactLocation", {{"uri", uri_of(finding.file)}}}};
    if (finding.line != 0)
        place["region"] = {{"startLine", finding.line}, {"startColumn", finding.character}};
    return {{"ruleId", finding.code},
            {"level", word(finding.severity)},
            {"message", {{"text", finding.message}}},
            {"locations", json::array({{{"physicalLocation", std::move(place)}}})}};
}

void print_as_sarif(const std::vector<CheckedFile>& files) {
    json results = json::array(), rules = json::array();
    std::set<std::string_view> codes;
    for (const CheckedFile& file : files) {
        for (const CheckFinding& finding : file.findings) {
            if (codes.insert(finding.code).second) rules.push_back({{"id", finding.code}});
            results.push_back(sarif_result(finding));
        }
    }
    const json driver{{"name", "openerctl"}, {"version", FDBROKER_VERSION}, {"rules", std::move(rules)}};
    json run{{"tool", {{"driver", driver}}}, {"columnKind", "unicodeCodePoints"}};
    run["results"] = std::move(results);
    print_json({{"$schema", "https://json.schemastore.org/sarif-2.1.0.json"},
                {"version", "2.1.0"},
                {"runs", json::array({std::move(run)})}});
}

// ---- GitHub's workflow commands ----------------------------------------------------------------------------

enum class Part { message, property };

std::string escaped(std::string_view text, Part part) {
    std::string all;
    for (const char byte : text) {
        const bool special = byte == '%' || byte == '\n' || byte == '\r' ||
                             (part == Part::property && (byte == ':' || byte == ','));
        all += special ? fmt::format("%{:02X}", static_cast<unsigned char>(byte)) : std::string(1, byte);
    }
    return all;
}

void print_for_github(const std::vector<CheckedFile>& files) {
    for (const CheckedFile& file : files) {
        for (const CheckFinding& finding : file.findings) {
            std::string place = fmt::format("file={}", escaped(finding.file, Part::property));
            if (finding.line != 0) place += fmt::format(",line={},col={}", finding.line, finding.character);
            print(fmt::format("::{} {},title={}::{}\n", word(finding.severity), place, finding.code,
                              escaped(finding.message, Part::message)));
        }
    }
}

}  // namespace

void print_report(const std::vector<CheckedFile>& files, CheckFormat format, bool with_lint) {
    switch (format) {
        case CheckFormat::json:
            return print_as_json(files, with_lint);
        case CheckFormat::sarif:
            return print_as_sarif(files);
        case CheckFormat::github:
            return print_for_github(files);
        case CheckFormat::text:
            break;
    }
}

}  // namespace fdbroker::ctl
