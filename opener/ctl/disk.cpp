// SPDX-License-Identifier: MIT
#include "opener/ctl/disk.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <filesystem>
#include <utility>

#include "opener/confinement/confinement.hpp"
#include "opener/confinement/kernel_calls.hpp"

namespace fdbroker::ctl {

using opener::Obstacle;
using policy::FileType;
using policy::Operation;
using policy::OperationSet;
using proto::UniqueFd;

namespace {

// The object is opened, so `files:` is asked.
constexpr OperationSet opening{Operation::read,     Operation::write,  Operation::append,
                               Operation::truncate, Operation::create, Operation::execute};
constexpr OperationSet making{Operation::create, Operation::mkdir, Operation::symlink};
constexpr OperationSet making_anew{Operation::mkdir, Operation::symlink};
// These are about the link itself where the last name is one.
constexpr OperationSet about_the_link{Operation::readlink, Operation::remove, Operation::rename};

std::string link_target(const UniqueFd& link) {
    std::array<char, PATH_MAX> target{};
    const ssize_t size = ::readlinkat(link.number(), "", target.data(), target.size());
    return size < 0 ? std::string() : std::string(target.data(), static_cast<std::size_t>(size));
}

class Walk {
  public:
    Walk(const policy::Grant& grant, DiskReport& report) : grant_(grant), report_(report) {}

    // False: something ended it, and the report says what.
    bool run() {
        at_ = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!at_ || !note("/")) return stop("/", errno);
        const std::string_view path = grant_.path().text();
        for (std::size_t begin = 1; begin < path.size();) {
            const std::size_t end = std::min(path.find('/', begin), path.size());
            const std::string reached(path.substr(0, end));
            if (!step(std::string(path.substr(begin, end - begin)), reached, end == path.size()))
                return false;
            begin = end + 1;
        }
        return true;
    }
    const UniqueFd& object() const noexcept { return at_; }

  private:
    bool step(const std::string& name, const std::string& path, bool last) {
        // With these two flags a link that is the last component is opened itself (openat2(2), RESOLVE_NO_SYMLINKS).
        UniqueFd next(opener::kernel::openat2(at_.number(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC,
                                              RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS));
        if (!next) return stop(path, errno);
        at_ = std::move(next);
        if (!note(path)) return stop(path, errno);
        const bool link = report_.steps.back().type == FileType::symlink;
        const bool meant = last && (grant_.operations() - about_the_link).empty();
        return !link || meant || stop(path, ELOOP);
    }

    // False: errno says why.
    bool note(const std::string& path) {
        struct statx status{};
        if (::statx(at_.number(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_MNT_ID, &status) != 0)
            return false;
        DiskStep step{.path = path,
                      .type = opener::type_of(status.stx_mode),
                      .owner = status.stx_uid,
                      .mode = status.stx_mode & 07777U,
                      .links = status.stx_nlink,
                      .size = status.stx_size,
                      .mount = status.stx_mnt_id,
                      .device = ::makedev(status.stx_dev_major, status.stx_dev_minor)};
        if (step.type == FileType::symlink) {
            step.target = link_target(at_);
            // Nothing above is a link, so that .. may be taken from the text.
            const auto directory = std::filesystem::path(path).parent_path();
            step.leads_to = (directory / step.target).lexically_normal();
        }
        report_.steps.push_back(std::move(step));
        return true;
    }

    bool stop(const std::string& path, int errno_value) {
        report_.obstacle = Obstacle{errno_value, opener::explain_open_failure(errno_value)};
        report_.ended_at = path;
        return false;
    }

    const policy::Grant& grant_;
    DiskReport& report_;
    UniqueFd at_{};
};

// A missing object is no obstacle for who makes it.
bool may_be_missing(const policy::Grant& grant, const DiskReport& report) {
    if (report.obstacle->errno_value != ENOENT || !grant.operations().intersects(making)) return false;
    return report.ended_at == grant.path().text() || grant.rule().create.parents;
}

// The directory that the broker would walk from: the deepest that is bound and on the way.
const DiskStep& bound_directory(const policy::Policy& policy, const DiskReport& report) {
    const auto plan = opener::plan_confinement(policy.directories(), opener::BrokerAccount{});
    const DiskStep* deepest = &report.steps.front();
    for (const DiskStep& step : report.steps)
        for (const opener::PlannedDirectory& directory : plan.directories)
            if (directory.path == step.path) deepest = &step;
    return *deepest;
}

std::optional<Obstacle> judge_kind(const policy::Grant& grant, const DiskStep& object) {
    const OperationSet operations = grant.operations();
    if (operations.intersects(making_anew)) return Obstacle{EEXIST, "it is there already"};
    if (operations.contains(Operation::list) && object.type != FileType::directory)
        return Obstacle{ENOTDIR, "it is not a directory"};
    if (operations.intersects(opening) && object.type == FileType::directory)
        return opener::directory_undelivered;
    // open(2) of a socket, whatever the rule's types say.
    if (operations.intersects(opening) && object.type == FileType::socket)
        return Obstacle{ENXIO, opener::explain_open_failure(ENXIO)};
    return std::nullopt;
}

void judge(const policy::Policy& policy, const policy::Grant& grant, uid_t peer, const UniqueFd& fd,
           DiskReport& report) {
    const DiskStep& object = report.steps.back();
    report.ended_at = object.path;
    // What is made anew is not there to be looked at.
    if (!grant.operations().intersects(making_anew)) {
        const DiskStep& start = bound_directory(policy, report);
        const opener::ObjectStatus status{.type = object.type,
                                          .links = object.links,
                                          .size = object.size,
                                          .owner = object.owner,
                                          .directory_owner = start.owner,
                                          .crossed_mount = object.mount != start.mount};
        const opener::Demand demand = opener::demand_of(grant.operations());
        const opener::LinkProtection protection = opener::read_link_protection();
        for (const policy::Rule* rule : grant.rules()) {
            report.verdicts.push_back({rule, opener::hold_against(status, *rule, demand, protection, peer)});
            if (!report.obstacle) report.obstacle = report.verdicts.back().obstacle;
        }
        if (!report.obstacle && status.crossed_mount && object.device != start.device)
            report.obstacle = opener::refuse_kernel_filesystem(fd.borrow());
    }
    if (!report.obstacle) report.obstacle = judge_kind(grant, object);
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

DiskReport look_on_disk(const policy::Policy& policy, const policy::Grant& grant, uid_t peer) {
    DiskReport report;
    Walk walk(grant, report);
    if (walk.run()) {
        judge(policy, grant, peer, walk.object(), report);
    } else if (may_be_missing(grant, report)) {
        report.obstacle.reset();
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
    for (const DiskStep& step : report.steps) text += line(step);
    for (const RuleVerdict& verdict : report.verdicts)
        text += fmt::format("  files of rule \"{}\": {}\n", verdict.rule->name,
                            verdict.obstacle ? verdict.obstacle->text : "fulfilled");
    if (!report.obstacle && report.steps.back().path != report.ended_at)
        text += fmt::format("  {}: is not there yet\n", report.ended_at);
    return text;
}

}  // namespace fdbroker::ctl
