#include "opener/supervisor.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "opener/audit_log.hpp"
#include "opener/broker.hpp"
#include "opener/connection_table.hpp"
#include "opener/event_loop.hpp"
#include "opener/generation.hpp"
#include "opener/journal.hpp"
#include "opener/say.hpp"
#include "opener/service_manager.hpp"
#include "proto/channel.hpp"
#include "proto/message.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// A broker that dies is replaced at once; one that dies again and again, more and more slowly.
constexpr milliseconds first_delay{50};
constexpr milliseconds longest_delay{10'000};
// A generation that has served this long starts the count anew.
constexpr std::chrono::seconds proven_after{30};
// A generation ends by itself well within this (broker.cpp, end_timeout); else it is killed.
constexpr std::chrono::seconds kill_after{5};
// How long the listeners rest when the process is out of descriptors or memory.
constexpr milliseconds accept_pause{100};
// What is taken at once from a generation's link, or from a listener: neither a broker that was taken over nor peers
// that connect without end keep the loop from signals and from the audit.
constexpr std::size_t messages_per_turn = 64;
constexpr std::size_t accepts_per_turn = 64;
// Descriptors kept for everything but connections.
constexpr rlim_t reserved_descriptors = 64;

class Supervisor {
  public:
    Supervisor(const Options& options, std::vector<Listener> listeners, AuditLog log, EventLoop loop,
               UniqueFd signals)
        : options_(options),
          listeners_(std::move(listeners)),
          log_(std::move(log)),
          loop_(std::move(loop)),
          signals_(std::move(signals)) {}

    ExitStatus run();

  private:
    using Slot = std::unique_ptr<Generation> Supervisor::*;

    Result<void> watch();
    void start_generation(const std::string& cause);
    void serve(Slot slot, std::size_t most);
    void forget_lost();
    void generation_ready();
    void activate();
    void accept(std::size_t index);
    std::size_t most_connections() const;
    bool admit(const UniqueFd& socket, Connection& connection);
    void pause_listeners(bool paused);
    void handle_signals();
    void reap();
    void generation_ended(Slot slot, int status);
    void reload();
    void stop();
    void drain_audit();
    void act_on_time();
    int patience() const;
    bool stopped() const { return stopping_ && !active_ && !starting_; }

    const Options& options_;
    std::vector<Listener> listeners_;
    AuditLog log_;
    EventLoop loop_;
    UniqueFd signals_;
    ConnectionTable connections_{};

    std::unique_ptr<Generation> active_{};    // serves
    std::unique_ptr<Generation> starting_{};  // loads, or waits for the active one to hand over
    // Of generations that ended with requests unanswered, until another has answered them.
    std::vector<std::unique_ptr<Journal>> lost_{};
    std::uint32_t last_number_ = 0;
    bool ever_served_ = false;
    bool handing_over_ = false;
    bool reload_again_ = false;  // as soon as no generation starts any more
    bool stopping_ = false;
    bool listeners_paused_ = false;
    ExitStatus exit_status_ = exit_done;

    milliseconds delay_ = first_delay;
    std::string restart_cause_{};
    std::optional<Clock::time_point> restart_at_{};
    std::optional<Clock::time_point> kill_at_{};
    std::optional<Clock::time_point> accept_again_at_{};
    // The service manager hears that all is well when the broker's own loop has said so.
    const std::optional<std::chrono::microseconds> watchdog_ = watchdog_interval();
    std::optional<Clock::time_point> ping_at_{};
};

// ---- the loop ------------------------------------------------------------------------------------------

// Tags of events: the address of the member, or of the listener, that they are about.
Result<void> Supervisor::watch() {
    if (auto added = loop_.add(signals_.borrow(), EPOLLIN, &signals_); !added) return added;
    if (log_.ring() != nullptr) {
        if (auto added = loop_.add(log_.ring()->wakeup(), EPOLLIN, &log_); !added) return added;
    }
    for (Listener& listener : listeners_) {
        if (auto added = loop_.add(listener.descriptor(), EPOLLIN, &listener); !added) return added;
    }
    return {};
}

ExitStatus Supervisor::run() {
    if (auto watching = watch(); !watching) {
        say(watching.error().message());
        return exit_failed;
    }
    start_generation("the opener starts");
    while (!stopped()) {
        for (const epoll_event& event : loop_.wait(patience())) {
            if (event.data.ptr == &signals_) {
                handle_signals();
            } else if (event.data.ptr == &active_ || event.data.ptr == &starting_) {
                if ((event.events & EPOLLOUT) != 0 && active_) active_->send_queued();
                serve(event.data.ptr == &active_ ? &Supervisor::active_ : &Supervisor::starting_,
                      messages_per_turn);
            } else if (event.data.ptr != &log_) {
                accept(static_cast<std::size_t>(static_cast<Listener*>(event.data.ptr) - listeners_.data()));
            }
        }
        act_on_time();
        drain_audit();
    }
    if (log_.ring() != nullptr && ever_served_) {
        log_.record("stop", "the opener was told to stop");
        drain_audit();
    }
    return exit_status_;
}

int Supervisor::patience() const {
    auto soonest = Clock::time_point::max();
    for (const auto& when : {restart_at_, kill_at_, accept_again_at_, ping_at_})
        soonest = std::min(soonest, when.value_or(soonest));
    const int audit = log_.patience();
    if (soonest == Clock::time_point::max()) return audit;
    const auto left =
        std::max<std::int64_t>(0, std::chrono::ceil<milliseconds>(soonest - Clock::now()).count());
    return audit < 0 ? static_cast<int>(left) : std::min(audit, static_cast<int>(left));
}

void Supervisor::act_on_time() {
    const auto now = Clock::now();
    if (reload_again_ && !starting_) reload();
    if (restart_at_ && now >= *restart_at_) start_generation(restart_cause_);
    if (kill_at_ && now >= *kill_at_ && active_) {
        kill_at_.reset();
        active_->kill();
    }
    if (ping_at_ && now >= *ping_at_) {
        ping_at_ = now + *watchdog_;
        // One that does not even read is not asked again and again.
        if (active_ && !active_->has_queued()) active_->post({.type = LinkType::ping});
    }
    if (accept_again_at_ && now >= *accept_again_at_) {
        accept_again_at_.reset();
        pause_listeners(false);
    }
}

void Supervisor::drain_audit() {
    if (auto drained = log_.drain(); !drained) {
        say(drained.error().message() + "; requests are refused until it can be written (audit: on_failure)");
    }
    if (log_.is_foul() && active_) active_->kill();
}

// ---- generations ---------------------------------------------------------------------------------------

void Supervisor::start_generation(const std::string& cause) {
    restart_at_.reset();
    GenerationOrders orders{.options = options_,
                            .listeners = {},
                            .number = ++last_number_,
                            .cause = cause,
                            .ring = log_.ring(),
                            .previous = {}};
    for (const Listener& listener : listeners_) orders.listeners.push_back(listener.name());
    for (const auto& lost : lost_) orders.previous.push_back(lost.get());
    if (active_) orders.previous.push_back(&active_->journal());
    auto started = Generation::start(std::move(orders), connections_, loop_, &starting_);
    if (!started) {
        say("cannot start a broker: " + started.error().message());
        restart_cause_ = cause;
        restart_at_ = Clock::now() + delay_;
        return;
    }
    starting_ = std::move(*started);
}

// Takes at most `most` messages; epoll tells of those that are left.
void Supervisor::serve(Slot slot, std::size_t most) {
    for (; most > 0; --most) {
        std::unique_ptr<Generation>& generation = this->*slot;
        if (!generation) return;
        const auto received = generation->receive();
        if (!received) return;
        const LinkMessage& message = received->message;
        if (message.type == LinkType::release) {
            connections_.release(message.token);
            if (accept_again_at_) accept_again_at_ = Clock::now();
        } else if (message.type == LinkType::pong) {
            if (watchdog_) service_manager_alive();
            if (slot == &Supervisor::active_) forget_lost();
        } else if (message.type == LinkType::ready && slot == &Supervisor::starting_) {
            generation->ready({.connections_per_uid = message.value,
                               .connections_total = message.total,
                               .rotation = {.max_size = message.token, .keep = std::max(1U, message.keep)}});
            generation_ready();
            return;
        }
    }
}

// A generation that starts at this moment has them as well, and must not answer a second time.
void Supervisor::forget_lost() {
    for (const auto& lost : lost_) lost->clear();
    lost_.clear();
}

void Supervisor::generation_ready() {
    if (!active_) return activate();
    handing_over_ = true;
    kill_at_ = Clock::now() + kill_after;
    active_->post({.type = LinkType::hand_over});
}

void Supervisor::activate() {
    active_ = std::move(starting_);
    active_->activated(&active_);
    log_.begin(active_->number());
    log_.rotate_by(active_->limits()->rotation);
    active_->queue({.type = LinkType::activate});
    for (const auto& [token, connection] : connections_.all()) {
        active_->queue({.type = LinkType::adopt, .value = connection.listener, .token = token});
    }
    // Until this is answered the generation may die with the lost requests of the one before.
    active_->queue({.type = LinkType::ping});
    active_->send_queued();
    if (!ever_served_) {
        ever_served_ = true;
        for (const Listener& listener : listeners_)
            say(fmt::format("serving {} ({})", listener.address(), listener.name()));
    }
    service_manager_ready();
    if (watchdog_) ping_at_ = Clock::now();
    if (accept_again_at_) accept_again_at_ = Clock::now();
    if (stopping_) {
        kill_at_ = Clock::now() + kill_after;
        active_->post({.type = LinkType::retire});
    }
}

void Supervisor::reload() {
    if (stopping_) return;
    // The one that starts may have read the policy before it became what this signal is about.
    reload_again_ = starting_ != nullptr;
    if (reload_again_) return;
    service_manager_reloading();
    start_generation("reload");
}

void Supervisor::reap() {
    for (;;) {
        int status = 0;
        const pid_t pid = ::waitpid(-1, &status, WNOHANG);
        if (pid <= 0) return;
        if (active_ && active_->is(pid))
            generation_ended(&Supervisor::active_, status);
        else if (starting_ && starting_->is(pid))
            generation_ended(&Supervisor::starting_, status);
    }
}

void Supervisor::generation_ended(Slot slot, int status) {
    (this->*slot)->reaped();
    // What it said before it ended is still in the link.
    if (slot == &Supervisor::active_) serve(slot, std::numeric_limits<std::size_t>::max());
    const std::unique_ptr<Generation> ended = std::move(this->*slot);
    if (slot == &Supervisor::starting_) {
        if (stopping_) return;
        if (!ever_served_) {
            exit_status_ =
                WIFEXITED(status) && WEXITSTATUS(status) == exit_policy ? exit_policy : exit_failed;
            if (WIFSIGNALED(status)) say("the broker was " + describe_end(status) + " while it started");
            return stop();
        }
        if (active_) {
            say("the policy was not reloaded; the one before stays in force");
            active_->post({.type = LinkType::not_reloaded, .value = static_cast<std::uint32_t>(status)});
            service_manager_ready();
            return;
        }
    } else {
        kill_at_.reset();
        if (status != 0) log_.record("crash", "the broker " + describe_end(status));
        lost_.push_back(ended->take_journal());
        const bool handed_over = std::exchange(handing_over_, false);
        if (handed_over && starting_ && starting_->limits()) return activate();
        if (stopping_ || starting_) return;
    }
    restart_cause_ = fmt::format("generation {} {}", ended->number(), describe_end(status));
    if (slot == &Supervisor::starting_) log_.record("start-failed", restart_cause_);
    say(fmt::format("the broker of {}; starting another", restart_cause_));
    if (slot == &Supervisor::active_ && ended->age() > proven_after) delay_ = first_delay;
    restart_at_ = Clock::now() + delay_;
    delay_ = std::min(2 * delay_, longest_delay);
}

// ---- connections ---------------------------------------------------------------------------------------

void Supervisor::accept(std::size_t index) {
    // What comes before a generation serves waits in the backlog.
    for (std::size_t accepted = 0; active_ && !handing_over_; ++accepted) {
        if (accepted == accepts_per_turn) return;
        if (connections_.all().size() >= most_connections()) return pause_listeners(true);
        auto socket = listeners_[index].accept();
        if (!socket) {
            // Polling goes on telling of a connection that there is no descriptor for.
            if (socket.error().errno_value != EAGAIN) pause_listeners(true);
            return;
        }
        Connection connection{.listener = static_cast<std::uint32_t>(index)};
        if (!admit(*socket, connection)) continue;
        connection.socket = std::move(*socket);
        const Token token = connections_.add(std::move(connection));
        active_->post({.type = LinkType::adopt,
                       .value = static_cast<std::uint32_t>(index),
                       .total = 1,
                       .token = token});
    }
    if (!active_ || handing_over_) pause_listeners(true);
}

std::size_t Supervisor::most_connections() const {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= reserved_descriptors) return 1;
    return std::min<std::size_t>(active_->limits()->connections_total, limit.rlim_cur - reserved_descriptors);
}

// False: the uid has as many connections as it may have, and the peer has been told.
bool Supervisor::admit(const UniqueFd& socket, Connection& connection) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket.number(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return false;
    connection.uid = credentials.uid;
    if (connections_.of_uid(credentials.uid) < active_->limits()->connections_per_uid) return true;
    std::array<std::byte, 256> message;
    const std::size_t length =
        proto::write_end(message, EMFILE, "this user has as many connections as the policy allows");
    static_cast<void>(proto::send(socket.borrow(), std::span(message).first(length), {}, proto::Wait::never));
    return false;
}

void Supervisor::pause_listeners(bool paused) {
    if (paused) accept_again_at_ = Clock::now() + accept_pause;
    if (std::exchange(listeners_paused_, paused) == paused) return;
    for (Listener& listener : listeners_) {
        static_cast<void>(
            loop_.change(listener.descriptor(), paused ? 0U : std::uint32_t{EPOLLIN}, &listener));
    }
}

// ---- signals -------------------------------------------------------------------------------------------

void Supervisor::handle_signals() {
    signalfd_siginfo info;
    while (::read(signals_.number(), &info, sizeof info) == sizeof info) {
        switch (info.ssi_signo) {
            case SIGCHLD:
                reap();
                break;
            case SIGHUP:
                reload();
                break;
            case SIGUSR1:
                if (auto reopened = log_.reopen(); !reopened)
                    say(reopened.error().message() + "; the old file stays in use");
                break;
            default:
                stop();
                break;  // SIGTERM, SIGINT
        }
    }
}

void Supervisor::stop() {
    if (std::exchange(stopping_, true)) return;
    service_manager_stopping();
    for (Listener& listener : listeners_) {
        loop_.remove(listener.descriptor());
        listener.close();
    }
    restart_at_.reset();
    accept_again_at_.reset();
    // The one that takes over connections at this moment is told when it has them.
    if (handing_over_) return;
    if (starting_) starting_->kill();
    if (active_) {
        kill_at_ = Clock::now() + kill_after;
        active_->post({.type = LinkType::retire});
    }
}

void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

ExitStatus supervise(const Options& options, std::vector<Listener> listeners) {
    raise_descriptor_limit();
    sigset_t handled;
    ::sigemptyset(&handled);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD, SIGPIPE})
        ::sigaddset(&handled, signal);
    ::sigprocmask(SIG_BLOCK, &handled, nullptr);
    ::sigdelset(&handled, SIGPIPE);
    UniqueFd signals(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
    auto loop = EventLoop::create();
    auto log = AuditLog::open(options);
    if (!signals || !loop || !log) {
        say((!signals ? proto::system_error("signalfd").error()
             : !loop  ? loop.error()
                      : log.error())
                .message());
        return exit_failed;
    }
    return Supervisor(options, std::move(listeners), std::move(*log), std::move(*loop), std::move(signals))
        .run();
}

}  // namespace fdbroker::opener
