#include "opener/confinement/directory_watch.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <ctime>
#include <limits>
#include <utility>

#include "opener/confinement/capability_names.hpp"
#include "opener/confinement/kernel_calls.hpp"
#include "opener/confinement/privileges.hpp"
#include "opener/confinement/seccomp_filter.hpp"
#include "opener/confinement/source_directory.hpp"

namespace fdbroker::opener {

namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

// The `count`-th field of a line, from 0, and the rest of the line after it.
std::string_view field(std::string_view line, int count) {
    for (; count > 0; --count) {
        const std::size_t space = line.find(' ');
        if (space == std::string_view::npos) return {};
        line.remove_prefix(space + 1);
    }
    return line.substr(0, line.find(' '));
}

// proc(5): space, tab, newline and backslash stand as \ooo.
std::string unescaped(std::string_view text) {
    std::string plain;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\' || i + 3 >= text.size()) {
            plain += text[i];
            continue;
        }
        plain += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
        i += 3;
    }
    return plain;
}

bool is_below(std::string_view path, std::string_view directory) {
    if (directory == "/") return path.size() > 1 && path.front() == '/';
    return path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/';
}

std::string read_from_start(BorrowedFd file) {
    std::string text;
    std::array<char, 4096> block;
    for (;;) {
        const ssize_t size =
            ::pread(file.number(), block.data(), block.size(), static_cast<off_t>(text.size()));
        if (size <= 0) return text;
        text.append(block.data(), static_cast<std::size_t>(size));
    }
}

// Closes all descriptors but these and standard error.
void keep_only(std::array<int, 3> keep) {
    std::ranges::sort(keep);
    unsigned first = STDERR_FILENO + 1;
    for (const int number : keep) {
        if (number < 0) continue;
        if (static_cast<unsigned>(number) > first)
            kernel::close_range(first, static_cast<unsigned>(number) - 1, 0);
        first = static_cast<unsigned>(number) + 1;
    }
    kernel::close_range(first, std::numeric_limits<unsigned>::max(), 0);
}

struct Watch {
    std::vector<std::string> paths{};
    UniqueFd root{};
    UniqueFd mounts{};
    DirectorySnapshot last{};
};

[[noreturn]] void watch(Watch& watch, const ConfinementPlan& plan, BorrowedFd tell, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    keep_only({watch.root.number(), watch.mounts.number(), tell.number()});
    // What it reads is names: to be allowed to walk to them is all.
    const std::uint64_t capabilities = plan.account.changes ? capability_bit(CAP_DAC_READ_SEARCH) : 0;
    if (!drop_privileges(plan.account, capabilities)) ::_exit(1);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || !install_seccomp_filter(FilterFor::helper, {}))
        ::_exit(1);
    std::chrono::nanoseconds rest = watch_interval;
    for (;;) {
        const timespec interval{.tv_sec = rest.count() / 1'000'000'000,
                                .tv_nsec = rest.count() % 1'000'000'000};
        ::clock_nanosleep(CLOCK_MONOTONIC, 0, &interval, nullptr);
        const auto began = std::chrono::steady_clock::now();
        auto now = DirectorySnapshot::take(watch.root.borrow(), watch.mounts.borrow(), watch.paths);
        // So many directories that a look takes long are looked at less often, not all the time.
        rest = std::max<std::chrono::nanoseconds>(watch_interval,
                                                  9 * (std::chrono::steady_clock::now() - began));
        if (!now || *now == watch.last) continue;
        watch.last = std::move(*now);
        const char changed = 1;
        // EAGAIN: it has been told often enough.
        if (::write(tell.number(), &changed, 1) < 0 && errno != EAGAIN) ::_exit(0);
    }
}

}  // namespace

std::vector<std::string> mounts_below(std::string_view mountinfo, const std::vector<std::string>& paths) {
    std::vector<std::string> found;
    while (!mountinfo.empty()) {
        const std::string_view line = mountinfo.substr(0, mountinfo.find('\n'));
        mountinfo.remove_prefix(std::min(mountinfo.size(), line.size() + 1));
        const std::string point = unescaped(field(line, 4));
        if (std::ranges::any_of(paths, [&](const std::string& path) { return is_below(point, path); }))
            found.push_back(std::string(field(line, 0)) + " " + point);
    }
    return found;
}

Result<DirectorySnapshot> DirectorySnapshot::take(BorrowedFd root, BorrowedFd mounts,
                                                  const std::vector<std::string>& paths) {
    DirectorySnapshot snapshot;
    for (const std::string& path : paths) {
        auto source = open_source_directory(root, path);
        if (!source) return std::unexpected(source.error());
        Directory& directory = snapshot.directories_.emplace_back();
        directory.errno_value = source->errno_value;
        if (!source->fd) continue;
        BoundDirectory found;
        found.path = path;
        found.fd = std::move(source->fd);
        // One whose filesystem fails counts as not there.
        if (!inspect_directory(found)) {
            directory.errno_value = EIO;
            continue;
        }
        directory.device = found.device;
        directory.inode = found.inode;
        directory.mount_id = found.mount_id;
    }
    if (mounts) snapshot.mounts_below_ = mounts_below(read_from_start(mounts), paths);
    return snapshot;
}

Result<void> start_directory_watch(const ConfinementPlan& plan, BorrowedFd tell) {
    Watch watched;
    for (const NamedDirectory& directory : plan.named) watched.paths.push_back(directory.path);
    watched.root = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!watched.root) return proto::system_error("open", "/");
    watched.mounts = UniqueFd(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    auto first = DirectorySnapshot::take(watched.root.borrow(), watched.mounts.borrow(), watched.paths);
    if (!first) return std::unexpected(first.error());
    watched.last = std::move(*first);
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return proto::system_error("fork");
    if (pid == 0) watch(watched, plan, tell, self);
    return {};
}

}  // namespace fdbroker::opener
