// SPDX-License-Identifier: MIT
#include "opener/supervisor/name_service.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <deque>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "opener/confinement/close_descriptors.hpp"
#include "opener/confinement/privileges.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/identity/broker_account.hpp"
#include "opener/supervisor/name_lookup.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;
using Clock = std::chrono::steady_clock;

// Processes that ask the database at once, those that were left behind included.
constexpr std::size_t max_askers = 32;
// Kept of these for peers that the database has answered for before: accounts of this machine do not wait
// for a directory that hangs over strangers.
constexpr std::size_t kept_askers = 8;
constexpr std::size_t max_idle = 2;
constexpr std::size_t max_known = 65536;

struct AskerChannel {
    UniqueFd ours;
    UniqueFd theirs;
};

Result<AskerChannel> make_asker_channel() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return proto::system_error("socketpair");
    AskerChannel channel{UniqueFd(ends[0]), UniqueFd(ends[1])};
    for (const UniqueFd* end : {&channel.ours, &channel.theirs}) proto::refuse_descriptors(end->borrow());
    return channel;
}

void end_with(pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(exit_failed);
}

template <typename Message>
bool send_whole(BorrowedFd channel, const Message& message, proto::Wait wait) {
    return proto::send(channel, std::as_bytes(std::span(&message, 1)), {}, wait).has_value();
}

template <typename Message>
std::optional<Message> receive_whole(BorrowedFd channel) {
    Message message;
    const auto received =
        proto::receive(channel, std::as_writable_bytes(std::span(&message, 1)), proto::Wait::block);
    if (!received || received->size() != sizeof message) return std::nullopt;
    return message;
}

// ---- asker ---------------------------------------------------------------------------------------------

[[noreturn]] void run_asker(BorrowedFd channel) {
    const SystemAccounts accounts;
    while (const auto question = receive_whole<NameQuestion>(channel)) {
        NameAnswer answer{.question = *question};
        const auto user = accounts.name_of_user(question->uid);
        const auto group = accounts.name_of_group(question->gid);
        answer.answered = user && group;
        if (answer.answered) {
            answer.names.user.set(*user);
            answer.names.group.set(*group);
        }
        if (!send_whole(channel, answer, proto::Wait::block)) break;
    }
    ::_exit(exit_done);
}

// ---- service -------------------------------------------------------------------------------------------

class NameService {
  public:
    explicit NameService(UniqueFd channel) : channel_(std::move(channel)) {}

    [[noreturn]] void run() {
        for (;;) {
            std::vector<pollfd> events{{channel_.number(), POLLIN, 0}};
            for (const Asker& asker : askers_)
                events.push_back(
                    {asker.is_left_behind() ? asker.process.number() : asker.channel.number(), POLLIN, 0});
            if (::poll(events.data(), events.size(), patience()) < 0) continue;
            // From the last: what has gone is taken out.
            for (std::size_t i = askers_.size(); i > 0; --i)
                if (events[i].revents != 0) hear(i - 1);
            if (events[0].revents != 0) take_question();
            act_on_time(Clock::now());
            hand_out();
        }
    }

  private:
    struct Asker {
        UniqueFd process;  // a pidfd
        UniqueFd channel;  // empty: left behind
        std::optional<NameQuestion> question{};
        Clock::time_point until{};

        bool is_left_behind() const noexcept { return !channel; }
    };
    struct Waiting {
        NameQuestion question;
        Clock::time_point until;
    };

    void take_question() {
        const auto question = receive_whole<NameQuestion>(channel_.borrow());
        if (!question) ::_exit(exit_done);
        waiting_.push_back({*question, Clock::now() + NameLookup::max_wait});
    }

    void hear(std::size_t index) {
        Asker& asker = askers_[index];
        const auto answer =
            asker.is_left_behind() ? std::nullopt : receive_whole<NameAnswer>(asker.channel.borrow());
        // An asker may have been taken over by what a directory sent it: it answers what it was asked.
        if (!answer || answer->question != asker.question) {
            if (!asker.is_left_behind()) kill(asker);
            askers_.erase(askers_.begin() + static_cast<std::ptrdiff_t>(index));
            return;
        }
        asker.question.reset();
        if (answer->answered && known_.size() < max_known) known_.insert(answer->question.uid);
        // An answer that the supervisor has no room for is asked for again with the next connection.
        static_cast<void>(send_whole(channel_.borrow(), *answer, proto::Wait::never));
    }

    static void kill(const Asker& asker) noexcept {
        ::syscall(SYS_pidfd_send_signal, asker.process.number(), SIGKILL, nullptr, 0);
    }

    void act_on_time(Clock::time_point now) {
        std::erase_if(waiting_, [now](const Waiting& one) { return one.until <= now; });
        std::size_t idle = 0;
        for (Asker& asker : askers_) {
            // The process ends when it has nobody to listen to.
            if (!asker.question && !asker.is_left_behind() && ++idle > max_idle) asker.channel.reset();
            if (!asker.question || asker.is_left_behind() || asker.until > now) continue;
            // The process may be held where no signal reaches it (a file on a server that is gone), and counts until it
            // has ended.
            kill(asker);
            asker.channel.reset();
        }
    }

    int patience() const {
        auto soonest = Clock::time_point::max();
        for (const Waiting& one : waiting_) soonest = std::min(soonest, one.until);
        for (const Asker& asker : askers_)
            if (asker.question && !asker.is_left_behind()) soonest = std::min(soonest, asker.until);
        if (soonest == Clock::time_point::max()) return -1;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(soonest - Clock::now()).count();
        return static_cast<int>(std::max<std::int64_t>(0, left));
    }

    void hand_out() {
        std::erase_if(waiting_, [this](const Waiting& one) {
            Asker* const asker = free_asker(known_.contains(one.question.uid));
            if (asker == nullptr || !send_whole(asker->channel.borrow(), one.question, proto::Wait::never))
                return false;
            asker->question = one.question;
            asker->until = one.until;
            return true;
        });
    }

    Asker* free_asker(bool known) {
        const auto busy = static_cast<std::size_t>(std::ranges::count_if(
            askers_, [](const Asker& asker) { return asker.question || asker.is_left_behind(); }));
        if (busy >= (known ? max_askers : max_askers - kept_askers)) return nullptr;
        for (Asker& asker : askers_)
            if (!asker.question && !asker.is_left_behind()) return &asker;
        return make_asker();
    }

    Asker* make_asker() {
        auto channel = make_asker_channel();
        if (!channel) return nullptr;
        const pid_t service = ::getpid();
        const pid_t pid = ::fork();
        if (pid < 0) return nullptr;
        if (pid == 0) {
            end_with(service);
            const BorrowedFd kept[] = {BorrowedFd(STDIN_FILENO), BorrowedFd(STDOUT_FILENO),
                                       BorrowedFd(STDERR_FILENO), channel->theirs.borrow()};
            if (!close_all_but(kept)) ::_exit(exit_failed);
            run_asker(channel->theirs.borrow());
        }
        UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
        if (!process) {
            ::kill(pid, SIGKILL);
            return nullptr;
        }
        return &askers_.emplace_back(
            Asker{.process = std::move(process), .channel = std::move(channel->ours)});
    }

    UniqueFd channel_;
    std::vector<Asker> askers_{};
    std::deque<Waiting> waiting_{};
    std::set<std::uint32_t> known_{};
};

// Another uid than the broker's: what a directory sends, its parser has to deal with.
bool become_nobody(const Options& options) {
    if (::geteuid() != 0)
        return drop_privileges({.uid = ::geteuid(), .gid = ::getegid(), .name = {}, .changes = false}, 0)
            .has_value();
    if (const auto unassigned = unassigned_account(); unassigned && drop_privileges(*unassigned, 0))
        return true;
    // In a user namespace that has few uids.
    const auto account = choose_account(options.user);
    return account && drop_privileges(*account, 0);
}

[[noreturn]] void run_service(const Options& options, UniqueFd channel, pid_t supervisor) {
    end_with(supervisor);
    // No terminal: whoever has one may type into it.
    ::setsid();
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
        if (::dup2(null.number(), stream) < 0) ::_exit(exit_failed);
    const BorrowedFd kept[] = {BorrowedFd(STDIN_FILENO), BorrowedFd(STDOUT_FILENO), BorrowedFd(STDERR_FILENO),
                               channel.borrow()};
    if (!close_all_but(kept) || !become_nobody(options) || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        ::_exit(exit_failed);
    end_with(supervisor);
    // Nobody waits for askers: their channels and descriptors tell of their ends.
    std::signal(SIGCHLD, SIG_IGN);
    NameService(std::move(channel)).run();
}

}  // namespace

Result<UniqueFd> start_name_service(const Options& options) {
    auto channel = make_asker_channel();
    if (!channel) return std::unexpected(channel.error());
    const pid_t supervisor = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0) return proto::system_error("fork");
    if (pid == 0) {
        channel->ours.reset();
        run_service(options, std::move(channel->theirs), supervisor);
    }
    return std::move(channel->ours);
}

}  // namespace fdbroker::opener
