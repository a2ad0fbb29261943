// SPDX-License-Identifier: MIT
#include "opener/confinement/directory_watch.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <utility>

#include "opener/confinement/capability_names.hpp"
#include "opener/confinement/close_descriptors.hpp"
#include "opener/confinement/known_mounts.hpp"
#include "opener/confinement/landlock.hpp"
#include "opener/confinement/privileges.hpp"
#include "opener/confinement/seccomp_filter.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;
using Answers = ProbeProcesses::Answers;

// Closes the list of directories that do not answer, which would else be taken for a whole one when who writes it dies.
constexpr std::uint32_t end_of_list = ~std::uint32_t{0};

void sleep_for(std::chrono::nanoseconds time) {
    const timespec interval{.tv_sec = time.count() / 1'000'000'000, .tv_nsec = time.count() % 1'000'000'000};
    ::clock_nanosleep(CLOCK_MONOTONIC, 0, &interval, nullptr);
}

class Watch {
  public:
    Watch(std::vector<std::string> paths, UniqueFd root, UniqueFd mounts,
          const std::function<void(std::string_view)>& log)
        : mounts_(std::move(mounts)), probes_(std::move(root), std::move(paths)), log_(log) {}

    // The first look: which directories do not answer.
    Result<std::vector<std::uint32_t>> begin() {
        auto seen = look(first_patience);
        if (!seen) return std::unexpected(seen.error());
        last_ = std::move(seen->answers);
        mounts_about_ = std::move(seen->mounts_about);
        std::vector<std::uint32_t> silent;
        for (std::uint32_t i = 0; i < last_.size(); ++i)
            if (!last_[i]) silent.push_back(i);
        is_silent_.resize(last_.size());
        for (const std::uint32_t index : silent) is_silent_[index] = true;
        return silent;
    }

    [[noreturn]] void run(BorrowedFd tell, pid_t parent) {
        std::chrono::nanoseconds rest = watch_interval;
        std::chrono::nanoseconds pause{};
        for (;;) {
            wait_for_mounts(pause, rest);
            // The signal of the parent's death has moments in which it is lost.
            if (::getppid() != parent) ::_exit(0);
            const auto began = std::chrono::steady_clock::now();
            auto seen = look(watch_patience);
            pause = 4 * (std::chrono::steady_clock::now() - began);
            // So many directories that a look takes long are looked at less often, not all the time.
            rest = watch_interval;
            if (!seen) continue;
            if (!tell_of_silence(seen->answers))
                rest = std::max(rest, 9 * (std::chrono::steady_clock::now() - began));
            if (!take(*seen)) continue;
            const char changed = 1;
            // EAGAIN: it has been told often enough.
            if (::write(tell.number(), &changed, 1) < 0 && errno != EAGAIN) ::_exit(0);
        }
    }

  private:
    // For `rest`, or until a mount changes (proc(5), mountinfo), but for no less than `pause`: where mounts come and go all
    // the time, most of it is spent with other things than this.
    void wait_for_mounts(std::chrono::nanoseconds pause, std::chrono::nanoseconds rest) const {
        sleep_for(std::min(pause, rest));
        pollfd changed{mounts_ ? mounts_.number() : -1, POLLPRI, 0};
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(rest - std::min(pause, rest));
        ::poll(&changed, 1, static_cast<int>(left.count()));
    }

    struct Seen {
        Answers answers;
        std::vector<std::string> mounts_about;
    };
    Result<Seen> look(std::chrono::milliseconds patience) {
        const std::string table = mounts_ ? read_from_start(mounts_.borrow()) : std::string();
        const auto mounts = listed_mounts(table);
        auto answers = probes_.look(patience, mounts);
        if (!answers) return std::unexpected(answers.error());
        return Seen{std::move(*answers), mounts_about(mounts, probes_.paths())};
    }

    // Whether something is another than when it was last seen. One that does not answer is taken for what it was.
    bool take(Seen& seen) {
        bool changed = std::exchange(mounts_about_, std::move(seen.mounts_about)) != mounts_about_;
        for (std::size_t i = 0; i < last_.size(); ++i) {
            if (!seen.answers[i] || seen.answers[i] == last_[i]) continue;
            last_[i] = seen.answers[i];
            changed = true;
        }
        return changed;
    }

    // Once of each that does not answer, until it does. Whether there is a new one.
    bool tell_of_silence(const Answers& answers) {
        std::string first;
        std::size_t more = 0;
        for (std::size_t i = 0; i < answers.size(); ++i) {
            const bool was_silent = is_silent_[i];
            is_silent_[i] = !answers[i];
            if (answers[i] || was_silent) continue;
            if (first.empty())
                first = proto::printable(probes_.paths()[i], proto::LineFeeds::escaped);
            else
                ++more;
        }
        if (first.empty()) return false;
        log_(fmt::format(
            "{}{} does not answer: its filesystem hangs; requests for it end at their deadlines, and "
            "that it is replaced is not noticed until it answers or is unmounted",
            first, more == 0 ? "" : fmt::format(" (and {} more directories)", more)));
        return true;
    }

    UniqueFd mounts_;
    ProbeProcesses probes_;
    const std::function<void(std::string_view)>& log_;
    Answers last_{};
    std::vector<bool> is_silent_{};
    std::vector<std::string> mounts_about_{};
};

[[noreturn]] void fail(const std::function<void(std::string_view)>& log, const std::string& why) {
    log("directory watch: " + why);
    ::_exit(1);
}

[[noreturn]] void run_watch(Watch& watch, const ConfinementPlan& plan, BorrowedFd tell, UniqueFd first,
                            pid_t parent, const std::function<void(std::string_view)>& log) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::signal(SIGCHLD, SIG_IGN);
    std::signal(SIGPIPE, SIG_IGN);
    // The watch reads names: the right to walk to them is all it needs.
    const std::uint64_t capabilities = plan.account.changes ? capability_bit(CAP_DAC_READ_SEARCH) : 0;
    if (const auto dropped = drop_privileges(plan.account, capabilities); !dropped)
        fail(log, dropped.error().message());
    // The change of uid takes the signal away for a moment, in which the parent may have ended.
    if (::getppid() != parent) ::_exit(1);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        fail(log, proto::system_error("prctl", "PR_SET_NO_NEW_PRIVS").error().message());
    // The watch looks at names and opens no object for any use. A kernel without Landlock is reported by the broker.
    if (const auto version = landlock_version(); version && may_restrict_by_landlock()) {
        const auto ruleset = make_ruleset({}, {}, *version);
        const auto restricted =
            ruleset ? restrict_by_ruleset(ruleset->borrow()) : Result<void>(std::unexpected(ruleset.error()));
        if (!restricted) fail(log, restricted.error().message());
    }
    const auto filtered = install_seccomp_filter(FilterFor::zygote, {});
    if (!filtered && !is_missing_seccomp(filtered.error())) fail(log, filtered.error().message());
    auto silent = watch.begin();
    if (!silent) fail(log, silent.error().message());
    silent->push_back(end_of_list);
    std::span<const std::byte> rest = std::as_bytes(std::span(*silent));
    while (!rest.empty()) {
        const ssize_t written = ::write(first.number(), rest.data(), rest.size());
        if (written < 0) fail(log, proto::system_error("write", "what was seen first").error().message());
        rest = rest.subspan(static_cast<std::size_t>(written));
    }
    first.reset();
    watch.run(tell, parent);
}

Result<std::vector<std::uint32_t>> read_silent(const UniqueFd& first) {
    std::vector<std::uint32_t> silent;
    std::size_t size = 0;
    for (;;) {
        silent.resize((size / sizeof(std::uint32_t)) + 1024);
        const auto room = std::as_writable_bytes(std::span(silent)).subspan(size);
        const ssize_t more = ::read(first.number(), room.data(), room.size());
        if (more < 0 && errno == EINTR) continue;
        if (more <= 0) break;
        size += static_cast<std::size_t>(more);
    }
    silent.resize(size / sizeof(std::uint32_t));
    if (silent.empty() || silent.back() != end_of_list)
        return proto::system_error(
            "directory watch",
            "the process that looks after directories has ended; the message before this one says why", 0);
    silent.pop_back();
    return silent;
}

}  // namespace

Result<void> start_directory_watch(ConfinementPlan& plan, BorrowedFd tell,
                                   const std::function<void(std::string_view)>& log) {
    std::vector<std::string> paths;
    for (const NamedDirectory& directory : plan.named) paths.push_back(directory.path);
    UniqueFd root(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!root) return proto::system_error("open", "/");
    UniqueFd mounts(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return proto::system_error("pipe2");
    const UniqueFd first(ends[0]);
    UniqueFd first_written(ends[1]);
    const std::array kept{BorrowedFd(STDERR_FILENO), root.borrow(), mounts.borrow(), tell,
                          first_written.borrow()};
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return proto::system_error("fork");
    if (pid == 0) {
        if (const auto closed = close_all_but(kept); !closed) fail(log, closed.error().message());
        Watch watch(std::move(paths), std::move(root), std::move(mounts), log);
        run_watch(watch, plan, tell, std::move(first_written), self, log);
    }
    first_written.reset();
    const auto silent = read_silent(first);
    if (!silent) return std::unexpected(silent.error());
    for (const std::uint32_t index : *silent) {
        plan.named[index].silent = true;
        for (PlannedDirectory& planned : plan.directories)
            if (planned.path == paths[index]) planned.silent = true;
    }
    return {};
}

std::vector<std::string> describe_silent(const ConfinementPlan& plan) {
    std::vector<std::string> lines;
    for (const NamedDirectory& directory : plan.named) {
        if (!directory.silent) continue;
        lines.push_back(
            proto::printable(directory.path, proto::LineFeeds::escaped) +
            " does not answer: its filesystem hangs; its rules grant nothing until it answers, or is "
            "unmounted and there");
    }
    return lines;
}

}  // namespace fdbroker::opener
