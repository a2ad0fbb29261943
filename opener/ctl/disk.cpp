// SPDX-License-Identifier: MIT
#include "opener/ctl/disk.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <filesystem>
#include <set>
#include <utility>

#include "opener/confinement/kernel_calls.hpp"
#include "opener/ctl/dry_run.hpp"

namespace fdbroker::ctl {

using policy::FileType;
using proto::UniqueFd;

namespace {

std::string link_target(const UniqueFd& link) {
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlinkat(link.number(), "", target.data(), target.size());
    return size < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(size));
}

// Tells what stands on the way of one name after the other. What becomes of them is not decided here.
class Steps {
  public:
    explicit Steps(DiskReport& report) : report_(report) {}

    void walk(std::string_view path) {
        at_ = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
        bool goes_on = at_ && note("/");
        for (std::size_t begin = 1; goes_on && begin < path.size();) {
            const std::size_t end = std::min(path.find('/', begin), path.size());
            goes_on = step(std::string(path.substr(begin, end - begin)), std::string(path.substr(0, end)));
            begin = end + 1;
        }
    }

  private:
    // False: nothing is behind it.
    bool step(const std::string& name, const std::string& path) {
        // With these two flags a link that is the last component is opened itself (openat2(2), RESOLVE_NO_SYMLINKS).
        UniqueFd next(opener::kernel::openat2(at_.number(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC,
                                              RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS));
        report_.ended_at = path;
        if (!next) return false;
        at_ = std::move(next);
        return note(path);
    }

    bool note(const std::string& path) {
        report_.ended_at = path;
        struct statx status{};
        if (::statx(at_.number(), "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status) != 0) return false;
        DiskStep step{.path = path,
                      .type = opener::type_of(status.stx_mode),
                      .owner = status.stx_uid,
                      .mode = status.stx_mode & 07777U,
                      .links = status.stx_nlink,
                      .size = status.stx_size};
        const bool link = step.type == FileType::symlink;
        if (link) {
            step.target = link_target(at_);
            // Nothing above is a link, so that .. may be taken from the text.
            const auto directory = std::filesystem::path(path).parent_path();
            step.leads_to = (directory / step.target).lexically_normal();
        }
        if (told_.insert(path).second) report_.steps.push_back(std::move(step));
        return !link;
    }

    DiskReport& report_;
    UniqueFd at_{};
    std::set<std::string> told_{};
};

DiskReport look(const policy::Policy& policy, const policy::Peer& peer, const policy::Grant& grant) {
    DiskReport report;
    Steps steps(report);
    const opener::LinkProtection protection = opener::read_link_protection();
    const Onlooker onlooker{
        .name = [&](const policy::Grant& one) { steps.walk(one.path().text()); },
        .object =
            [&](const policy::Grant& one, const opener::ObjectStatus& object) {
                report.verdicts.clear();
                for (const policy::Rule* rule : one.rules())
                    report.verdicts.push_back(
                        {rule->name, opener::hold_against(object, *rule, opener::demand_of(one.operations()),
                                                          protection, peer.identity().uid)});
            }};
    const opener::Outcome outcome = DryRun(policy, peer, onlooker).run(grant);
    if (!outcome.is_done())
        report.obstacle = {outcome.errno_value, std::string(outcome.recorded_reason()), report.ended_at};
    return report;
}

std::string line(const DiskStep& step) {
    std::string text = fmt::format("  {}: {}, owner {}, mode {}", step.path, describe(step.type), step.owner,
                                   octal(step.mode));
    if (step.type == FileType::regular)
        text += fmt::format(", {} link{}, {} bytes", step.links, step.links == 1 ? "" : "s", step.size);
    if (step.type == FileType::symlink) text += fmt::format(", holds {}", step.target);
    if (step.leads_to != step.target) text += fmt::format(", leads to {}", step.leads_to);
    return text + '\n';
}

}  // namespace

DiskReport look_on_disk(const policy::Policy& policy, const policy::Peer& peer,
                        policy::OperationSet operations, policy::RequestPath path) {
    DiskReport report;
    for (const policy::OperationSet request : requests_of(operations)) {
        const policy::Decision decision = policy.decide(peer, request, path);
        if (!decision) continue;
        report = look(policy, peer, *decision);
        if (report.obstacle) break;
    }
    return report;
}

const char* describe(FileType type) noexcept {
    switch (type) {
        case FileType::regular:
            return "regular file";
        case FileType::directory:
            return "directory";
        case FileType::fifo:
            return "FIFO";
        case FileType::socket:
            return "socket";
        case FileType::character_device:
            return "character device";
        case FileType::block_device:
            return "block device";
        case FileType::symlink:
            return "symbolic link";
    }
    return "";
}

std::string octal(mode_t mode) {
    return fmt::format("{:04o}", mode);
}

std::string to_text(const DiskReport& report) {
    std::string text = "on disk:\n";
    if (report.obstacle)
        text = fmt::format("on disk, it would be refused: {}: {} ({})\n", report.obstacle->path,
                           report.obstacle->reason, ::strerrorname_np(report.obstacle->errno_value));
    for (const DiskStep& step : report.steps) text += line(step);
    for (const RuleVerdict& verdict : report.verdicts)
        text += fmt::format("  files of rule \"{}\": {}\n", verdict.rule,
                            verdict.obstacle ? verdict.obstacle->text : "fulfilled");
    if (!report.obstacle && !report.steps.empty() && report.steps.back().path != report.ended_at)
        text += fmt::format("  {}: is not there yet\n", report.ended_at);
    return text;
}

}  // namespace fdbroker::ctl
