// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "opener/confinement/source_directory.hpp"
#include "opener/confinement/widen.hpp"
#include "opener/ctl/json.hpp"
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
        return Facts{.uid = status.st_uid, .mode = status.st_mode & 07777U};
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

nlohmann::json finding_to_json(const policy::Finding& finding) {
    return {{"finding", finding.name},
            {"rule", finding.rule->name},
            {"location", to_json(finding.rule->location)},
            {"message", printable(finding.text)}};
}

}  // namespace

ExitStatus policy_check(const CheckOptions& options) {
    const PolicyFiles files = read_policy(options.file, policy::OwnTests::must_pass);
    if (!files.policy) {
        report_diagnostics(files, options.json);
        return opener::exit_policy;
    }
    const std::size_t rules = files.policy->rules().size();
    const std::size_t tests = policy::tests(*files.policy).size();
    std::vector<policy::Finding> findings;
    if (options.lint) {
        const SystemDisk disk;
        findings =
            policy::lint(*files.policy, opener::SystemAccounts{}, &disk, wide_directories(*files.policy));
    }
    if (options.json) {
        nlohmann::json answer{{"valid", true}, {"rules", rules}, {"tests", tests}};
        if (options.lint) answer["findings"] = nlohmann::json::array();
        for (const policy::Finding& finding : findings)
            answer["findings"].push_back(finding_to_json(finding));
        print_json(answer);
    } else {
        for (const policy::Finding& finding : findings) fmt::print(stderr, "{}\n", printable(finding.what()));
        print(fmt::format("{}: valid, {} rule{}, {} test{} passed\n", options.file, rules,
                          rules == 1 ? "" : "s", tests, tests == 1 ? "" : "s"));
    }
    return findings.empty() ? opener::exit_done : opener::exit_failed;
}

}  // namespace fdbroker::ctl
