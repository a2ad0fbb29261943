// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "opener/confinement/name_matching.hpp"
#include "opener/confinement/source_directory.hpp"
#include "opener/confinement/widen.hpp"
#include "opener/ctl/check_report.hpp"
#include "opener/ctl/policy_commands.hpp"
#include "opener/ctl/read_policy.hpp"
#include "opener/ctl/terminal.hpp"
#include "opener/identity/accounts.hpp"
#include "policy/explain/run_test.hpp"
#include "policy/lint/lint.hpp"

namespace fdbroker::ctl {

namespace {

// The directories as the opener would find them, without following a link.
class SystemDisk final : public policy::Disk {
  public:
    std::expected<Facts, Missing> directory(const std::string& path) const override {
        const auto found = opener::open_source_directory(root_.borrow(), path);
        if (!found) return std::unexpected(Missing{.other = std::strerror(found.error().errno_value)});
        if (!found->link.empty())
            return std::unexpected(Missing{.link = opener::explain_link(path, found->link, found->target)});
        struct stat status{};
        if (found->errno_value == 0 && ::fstat(found->fd.number(), &status) != 0)
            return std::unexpected(Missing{.other = std::strerror(errno)});
        if (found->errno_value == ENOENT) return std::unexpected(Missing{});
        if (found->errno_value != 0)
            return std::unexpected(Missing{.other = std::strerror(found->errno_value)});
        const opener::NameMatching names = opener::name_matching_of(found->fd.borrow());
        return Facts{.uid = status.st_uid,
                     .mode = status.st_mode & 07777U,
                     .folds = names == opener::NameMatching::exact ? "" : opener::describe(names)};
    }

  private:
    proto::UniqueFd root_{::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)};
};

std::vector<policy::WideDirectory> wide_directories(const policy::Policy& policy) {
    std::vector<policy::WideDirectory> wide;
    for (const opener::PlannedDirectory& directory :
         opener::plan_confinement(policy.directories(), opener::BrokerAccount{}).directories)
        if (const auto width = opener::width_of(directory.path, directory.stands_for))
            wide.push_back({directory.path, width->text()});
    return wide;
}

unsigned character_of(const PolicyFiles& files, const std::string& file, unsigned line, unsigned column) {
    const auto text = files.texts.find(file);
    return text == files.texts.end() ? column : character_column(text->second, line, column);
}

CheckFinding finding_of(const policy::Diagnostic& diagnostic, const PolicyFiles& files) {
    return {.code = to_string(diagnostic.code),
            .severity = Severity::error,
            .file = diagnostic.file,
            .line = diagnostic.line,
            .column = diagnostic.column,
            .character = character_of(files, diagnostic.file, diagnostic.line, diagnostic.column),
            .message = printable(diagnostic.text)};
}

CheckFinding finding_of(const policy::Finding& finding, const PolicyFiles& files) {
    const policy::Location& place = finding.rule->location;
    const std::string file(place.file);
    return {.code = finding.name,
            .severity = Severity::warning,
            .file = file,
            .line = place.line,
            .column = place.column,
            .character = character_of(files, file, place.line, place.column),
            .rule = finding.rule->name,
            .message = printable(finding.text)};
}

void print_valid(const CheckedFile& file, const std::vector<policy::Finding>& findings) {
    for (const policy::Finding& finding : findings) fmt::print(stderr, "{}\n", printable(finding.what()));
    const auto [rules, tests] = *file.valid;
    print(fmt::format("{}: valid, {} rule{}, {} test{} passed\n", file.file, rules, rules == 1 ? "" : "s",
                      tests, tests == 1 ? "" : "s"));
}

// In the format of text also tells what it finds.
CheckedFile check_file(const std::string& name, const CheckOptions& options, ExitStatus& status) {
    CheckedFile checked{.file = name};
    const PolicyFiles files = read_policy(name, policy::OwnTests::must_pass);
    if (!files.policy) {
        if (options.format == CheckFormat::text) print_diagnostics(files);
        for (const policy::Diagnostic& diagnostic : files.policy.error())
            checked.findings.push_back(finding_of(diagnostic, files));
        status = std::max(status, status_of(files));
        return checked;
    }
    checked.valid = {files.policy->rules().size(), policy::tests(*files.policy).size()};
    std::vector<policy::Finding> findings;
    if (options.lint) {
        const SystemDisk disk;
        findings =
            policy::lint(*files.policy, opener::SystemAccounts{}, &disk, wide_directories(*files.policy));
    }
    for (const policy::Finding& finding : findings) checked.findings.push_back(finding_of(finding, files));
    if (!findings.empty()) status = std::max(status, opener::exit_failed);
    if (options.format == CheckFormat::text) print_valid(checked, findings);
    return checked;
}

}  // namespace

Ending policy_check(const CheckOptions& options) {
    if (std::ranges::count(options.files, "-") > 1)
        return failed(opener::exit_usage, "-: standard input can be read once");
    ExitStatus status = opener::exit_done;
    std::vector<CheckedFile> files;
    for (const std::string& name : options.files) files.push_back(check_file(name, options, status));
    print_report(files, options.format, options.lint);
    return status;
}

}  // namespace fdbroker::ctl
