// SPDX-License-Identifier: MIT
#include "opener/confinement/probe_processes.hpp"

#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "opener/confinement/close_descriptors.hpp"
#include "opener/confinement/seccomp_filter.hpp"
#include "opener/confinement/source_directory.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// Directories that a probe process is asked for at once: what it is ahead fits into its channel.
constexpr std::size_t max_asked = 128;

// A probe process's answer for each directory, in their order.
struct ProbeAnswer {
    SeenDirectory seen;
    int fault = 0;  // an errno that concerns all directories
};

// The `count`-th field of a line, from 0.
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

ProbeAnswer look_at(proto::BorrowedFd root, const std::string& path) {
    auto source = open_source_directory(root, path);
    if (!source) return {.seen = {}, .fault = source.error().errno_value};
    ProbeAnswer answer{.seen = {.errno_value = source->errno_value}};
    if (!source->fd) return answer;
    BoundDirectory found;
    found.path = path;
    found.fd = std::move(source->fd);
    // A directory whose filesystem fails counts as not there.
    if (!inspect_directory(found)) {
        answer.seen.errno_value = EIO;
        return answer;
    }
    answer.seen = {.device = found.device, .inode = found.inode, .mount_id = found.mount_id};
    return answer;
}

// The process has nothing but the channel to say so.
[[noreturn]] void fail_probe(const UniqueFd& channel, const proto::Error& why) {
    const ProbeAnswer answer{.seen = {}, .fault = why.errno_value};
    static_cast<void>(
        proto::send(channel.borrow(), std::as_bytes(std::span(&answer, 1)), {}, proto::Wait::block));
    ::_exit(1);
}

}  // namespace

std::vector<ListedMount> listed_mounts(std::string_view mountinfo) {
    std::vector<ListedMount> mounts;
    while (!mountinfo.empty()) {
        const std::string_view line = mountinfo.substr(0, mountinfo.find('\n'));
        mountinfo.remove_prefix(std::min(mountinfo.size(), line.size() + 1));
        std::string point = unescaped(field(line, 4));
        if (point.starts_with('/')) mounts.push_back({field(line, 0), std::move(point), field(line, 5)});
    }
    return mounts;
}

bool is_below(std::string_view path, std::string_view directory) noexcept {
    if (directory == "/") return path.size() > 1 && path.front() == '/';
    return path.size() > directory.size() && path.starts_with(directory) && path[directory.size()] == '/';
}

std::string_view mount_point_of(std::string_view path, std::span<const ListedMount> mounts) noexcept {
    std::string_view found;
    for (const ListedMount& mount : mounts) {
        const bool covers = path == mount.point || is_below(path, mount.point);
        if (covers && mount.point.size() > found.size()) found = mount.point;
    }
    return found.empty() ? path : found;
}

bool ProbeProcesses::is_silent(std::string_view mount) const noexcept {
    return std::ranges::any_of(silent_, [mount](const Silent& each) { return each.mount == mount; });
}

Result<ProbeProcesses::Answers> ProbeProcesses::look(std::chrono::milliseconds patience,
                                                     std::span<const ListedMount> mounts) {
    // Answers that came meanwhile may be old, so the question is asked anew. The process ends with the channel.
    std::erase_if(silent_, [](const Silent& each) {
        pollfd answered{each.channel.number(), POLLIN, 0};
        return ::poll(&answered, 1, 0) > 0;
    });
    std::vector<std::uint32_t> due;
    for (std::uint32_t i = 0; i < paths_.size(); ++i)
        if (silent_.empty() || !is_silent(mount_point_of(paths_[i], mounts))) due.push_back(i);
    Answers answers(paths_.size());
    std::size_t next = 0;
    while (next < due.size() && silent_.size() < max_silent) {
        const auto chunk = std::span(due).subspan(next, std::min(max_asked, due.size() - next));
        const auto answered = ask(chunk, patience, answers);
        if (!answered) return std::unexpected(answered.error());
        next += *answered;
        if (*answered == chunk.size()) continue;
        const std::string mount(mount_point_of(paths_[due[next]], mounts));
        silent_.push_back({std::move(probe_), mount});
        std::erase_if(due, [&](std::uint32_t index) {
            return !answers[index] && mount_point_of(paths_[index], mounts) == mount;
        });
    }
    return answers;
}

// How many of them have been answered; the probe process hangs with the next one.
Result<std::size_t> ProbeProcesses::ask(std::span<const std::uint32_t> chunk,
                                        std::chrono::milliseconds patience, Answers& answers) {
    if (!probe_) {
        if (auto made = make_probe(); !made) return std::unexpected(made.error());
    }
    const auto fail = [this](const proto::Error& error) {
        probe_.reset();
        return std::unexpected(error);
    };
    if (auto sent = proto::send(probe_.borrow(), std::as_bytes(chunk), {}, proto::Wait::block); !sent)
        return fail(sent.error());
    for (std::size_t i = 0; i < chunk.size(); ++i) {
        pollfd answered{probe_.number(), POLLIN, 0};
        if (::poll(&answered, 1, static_cast<int>(patience.count())) == 0) return i;
        ProbeAnswer answer;
        const auto buffer = std::as_writable_bytes(std::span(&answer, 1));
        auto received = proto::receive(probe_.borrow(), buffer, proto::Wait::block);
        if (!received) return fail(received.error());
        if (answer.fault != 0)
            return fail(proto::system_error("openat2", paths_[chunk[i]], answer.fault).error());
        answers[chunk[i]] = answer.seen;
    }
    return chunk.size();
}

Result<void> ProbeProcesses::make_probe() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return proto::system_error("socketpair");
    UniqueFd asking(ends[0]), looking(ends[1]);
    for (const UniqueFd* const end : {&asking, &looking}) proto::refuse_descriptors(end->borrow());
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return proto::system_error("fork");
    if (pid == 0) {
        asking.reset();
        run_probe(std::move(looking), self);
    }
    probe_ = std::move(asking);
    return {};
}

void ProbeProcesses::run_probe(UniqueFd channel, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(1);
    // A process that hangs shall keep nobody waiting for the end of a stream they read.
    const auto closed = close_all_but(std::array{root_.borrow(), channel.borrow()});
    if (!closed) fail_probe(channel, closed.error());
    const auto filtered = install_seccomp_filter(FilterFor::helper, {});
    if (!filtered && !is_missing_seccomp(filtered.error())) fail_probe(channel, filtered.error());
    std::array<std::uint32_t, max_asked> asked;
    for (;;) {
        const auto received =
            proto::receive(channel.borrow(), std::as_writable_bytes(std::span(asked)), proto::Wait::block);
        if (!received) ::_exit(0);
        for (std::size_t i = 0; i < received->size() / sizeof(std::uint32_t); ++i) {
            const ProbeAnswer answer = look_at(root_.borrow(), paths_[asked[i]]);
            const auto bytes = std::as_bytes(std::span(&answer, 1));
            if (!proto::send(channel.borrow(), bytes, {}, proto::Wait::block)) ::_exit(0);
        }
    }
}

}  // namespace fdbroker::opener
