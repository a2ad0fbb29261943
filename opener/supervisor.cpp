#include "opener/supervisor.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "opener/audit_log.hpp"
#include "opener/connection_table.hpp"
#include "opener/event_loop.hpp"
#include "opener/generation.hpp"
#include "opener/journal.hpp"
#include "opener/process_end.hpp"
#include "opener/reception.hpp"
#include "opener/say.hpp"
#include "opener/service_manager.hpp"
#include "opener/supervisor_facts.hpp"
#include "opener/worker_pool.hpp"

namespace fdbroker::opener {

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
// One that a filesystem holds uninterruptibly does not end when it is killed. It never runs again, either, so
// after this long nobody waits for it any more.
constexpr std::chrono::seconds abandon_after{1};
// Between two reloads that brokers ask for: one that was taken over cannot keep everybody loading policies.
constexpr std::chrono::seconds reload_interval{1};
// Between two generations that follow directories which have become others, doubled each time: whoever may rename one
// cannot keep everybody loading policies. It starts anew when that has been left alone for so long.
constexpr milliseconds first_follow_delay{1'000};
constexpr milliseconds longest_follow_delay{30'000};
constexpr std::chrono::seconds follow_calm{60};
// What is taken at once from a generation's link: a broker that was taken over does not keep the loop from signals and
// from the audit.
constexpr std::size_t messages_per_turn = 64;

// Besides one for each connection, what a generation may leave unread and ask for more.
constexpr std::size_t most_unread_messages = 1024;

class Supervisor {
  public:
    Supervisor(const Options& options, std::vector<Listener> listeners, AuditLog log, EventLoop loop,
               UniqueFd signals, FactsPage facts, const rlimit& files)
        : options_(options),
          worker_files_(files),
          log_(std::move(log)),
          loop_(std::move(loop)),
          signals_(std::move(signals)),
          facts_(std::move(facts)),
          reception_(std::move(listeners), connections_, loop_) {}

    ExitStatus run();

  private:
    using Slot = std::unique_ptr<Generation> Supervisor::*;

    // Why a generation is started, which decides what it loads: at first and for a reload the files, else what was kept
    // of them.
    enum class Start : std::uint8_t { first, reload, restart, follow };

    Result<void> watch();
    void handle(const epoll_event& event);
    void start_generation(Start why, const std::string& cause);
    void serve(Slot slot, std::size_t most);
    void serve_message(const LinkMessage& message);
    void forget_lost();
    void generation_ready();
    void activate();
    void handle_signals();
    void reap();
    void generation_ended(Slot slot, int status);
    void start_failed(Generation& failed, int status);
    void replace(const std::string& cause);
    void restart_later(const std::string& cause);
    void serve_worker(const void* tag);
    void set_workers(const LinkMessage& message);
    void retire();
    void directories_changed();
    void ask_for_reload(Clock::time_point when);
    void answer(Token asker, CommandResult result, SharedFile text = {});
    void answer_reload(CommandResult result, const SharedFile& text = {});
    void stop();
    void drain_audit();
    void act_on_time();
    void end_what_takes_too_long(Clock::time_point now);
    int patience() const;
    bool workers_ended() const { return !workers_ || workers_->stopped(); }
    bool stopped() const { return stopping_ && !active_ && !starting_ && workers_ended(); }

    const Options& options_;
    rlimit worker_files_;
    AuditLog log_;
    EventLoop loop_;
    UniqueFd signals_;
    FactsPage facts_;
    ConnectionTable connections_{};
    Reception reception_;
    std::unique_ptr<WorkerPool> workers_{};  // null: --workers is not given

    std::unique_ptr<Generation> active_{};    // serves
    std::unique_ptr<Generation> starting_{};  // loads, or waits for the active one to hand over
    Start starting_for_ = Start::first;
    // Of generations that ended with requests unanswered, until another has answered them.
    std::vector<std::unique_ptr<Journal>> lost_{};
    std::shared_ptr<KeptPolicy> policy_{};  // in force; null: nothing ever served
    std::uint32_t last_number_ = 0;
    bool handing_over_ = false;
    bool stopping_ = false;
    bool retiring_ = false;  // the generations have been told to stop; workers end before that
    ExitStatus exit_status_ = exit_done;

    // As soon as no generation starts any more: one that does may have read the policy before it became what the
    // reload is about.
    std::optional<Clock::time_point> reload_at_{};
    Clock::time_point last_reload_{};
    std::vector<Token> reload_askers_{};        // of the next one
    std::vector<Token> starting_for_askers_{};  // of the one that starts
    struct Answer {
        LinkMessage message;
        SharedFile text;
    };
    std::vector<Answer> answers_{};  // for when a generation serves

    // When the next generation starts because of directories; null: they are as the active one has bound them.
    std::optional<Clock::time_point> follow_at_{};
    Clock::time_point last_follow_{};
    milliseconds follow_delay_{0};

    milliseconds delay_ = first_delay;
    std::string restart_cause_{};
    std::optional<Clock::time_point> restart_at_{};
    std::optional<Clock::time_point> ready_by_{};    // the one that starts
    std::optional<Clock::time_point> kill_at_{};     // the active one
    std::optional<Clock::time_point> abandon_at_{};  // the active one, which was killed
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
    if (options_.workers) {
        const auto index = static_cast<std::uint32_t>(reception_.listeners().size());
        auto pool =
            WorkerPool::create(*options_.workers, index, worker_files_, connections_, loop_, facts_.facts());
        if (!pool) return std::unexpected(pool.error());
        workers_ = std::move(*pool);
    }
    return reception_.watch();
}

ExitStatus Supervisor::run() {
    if (auto watching = watch(); !watching) {
        say(watching.error().message());
        return exit_failed;
    }
    facts_.facts().started_at = Clock::now().time_since_epoch().count();
    start_generation(Start::first, "the opener starts");
    while (!stopped()) {
        for (const epoll_event& event : loop_.wait(patience())) handle(event);
        act_on_time();
        drain_audit();
        facts_.facts().connections = static_cast<std::uint32_t>(connections_.all().size());
    }
    if (log_.ring() != nullptr && policy_) {
        log_.record("stop", "the opener was told to stop");
        if (auto finished = log_.finish(); !finished) say(finished.error().message() + "; records are lost");
    }
    return exit_status_;
}

void Supervisor::handle(const epoll_event& event) {
    const void* const tag = event.data.ptr;
    if (tag == &signals_) {
        handle_signals();
    } else if (tag == &active_ || tag == &starting_) {
        if ((event.events & EPOLLOUT) != 0 && active_) active_->send_queued();
        serve(tag == &active_ ? &Supervisor::active_ : &Supervisor::starting_, messages_per_turn);
    } else if (workers_ && workers_->owns(tag)) {
        serve_worker(tag);
    } else if (tag == &follow_at_) {
        directories_changed();
    } else if (reception_.owns(tag)) {
        // What comes before a generation serves waits in the backlog.
        if (active_ && !handing_over_)
            reception_.accept(tag, *active_);
        else
            reception_.pause();
    }
}

int Supervisor::patience() const {
    auto soonest = Clock::time_point::max();
    for (const auto& when : {restart_at_, ready_by_, kill_at_, abandon_at_, ping_at_, reception_.again_at(),
                             starting_ ? std::nullopt : reload_at_, starting_ ? std::nullopt : follow_at_,
                             workers_ ? workers_->again_at() : std::nullopt})
        soonest = std::min(soonest, when.value_or(soonest));
    const int audit = log_.patience();
    if (soonest == Clock::time_point::max()) return audit;
    const auto left =
        std::max<std::int64_t>(0, std::chrono::ceil<milliseconds>(soonest - Clock::now()).count());
    return audit < 0 ? static_cast<int>(left) : std::min(audit, static_cast<int>(left));
}

void Supervisor::act_on_time() {
    const auto now = Clock::now();
    end_what_takes_too_long(now);
    if (!starting_ && !stopping_) {
        if (reload_at_ && now >= *reload_at_) {
            service_manager_reloading();
            start_generation(Start::reload, "reload");
        } else if (restart_at_ && now >= *restart_at_) {
            start_generation(policy_ ? Start::restart : Start::first, restart_cause_);
        } else if (follow_at_ && now >= *follow_at_ && active_) {
            last_follow_ = now;
            follow_delay_ = std::clamp(2 * follow_delay_, first_follow_delay, longest_follow_delay);
            follow_at_ = now + follow_delay_;  // should this one fail
            start_generation(Start::follow, "a directory that rules name is another now");
        }
    }
    if (ping_at_ && now >= *ping_at_) {
        ping_at_ = now + *watchdog_;
        // One that does not even read is not asked again and again.
        if (active_ && active_->queued() == 0) active_->post({.type = LinkType::ping});
    }
    reception_.act_on_time(now);
    if (workers_) workers_->act_on_time(now);
    if (stopping_ && !retiring_ && workers_ended()) retire();
}

void Supervisor::end_what_takes_too_long(Clock::time_point now) {
    if (ready_by_ && now >= *ready_by_ && starting_) {
        starting_->report().say(
            fmt::format("the policy could not be loaded within {} seconds: a filesystem hangs, or "
                        "--start-timeout is too short",
                        options_.start_timeout.count()));
        starting_->kill();
        generation_ended(&Supervisor::starting_, SIGKILL);
    }
    if (kill_at_ && now >= *kill_at_ && active_) {
        kill_at_.reset();
        abandon_at_ = now + abandon_after;
        active_->kill();
    }
    if (abandon_at_ && now >= *abandon_at_ && active_) generation_ended(&Supervisor::active_, SIGKILL);
}

void Supervisor::drain_audit() {
    if (auto drained = log_.drain(); !drained) {
        say(drained.error().message() + "; requests are refused until it can be written (audit: on_failure)");
    }
    if (log_.is_foul() && active_) active_->kill();
}

// ---- generations ---------------------------------------------------------------------------------------

void Supervisor::start_generation(Start why, const std::string& cause) {
    restart_at_.reset();
    if (why == Start::reload) {
        reload_at_.reset();
        last_reload_ = Clock::now();
        starting_for_askers_ = std::exchange(reload_askers_, {});
    }
    GenerationOrders orders{.options = options_,
                            .listeners = {},
                            .number = ++last_number_,
                            .cause = cause,
                            .ring = log_.ring(),
                            .previous = {},
                            .facts = facts_,
                            .policy = why == Start::restart || why == Start::follow ? policy_ : nullptr};
    for (const Listener& listener : reception_.listeners())
        orders.listeners.push_back({listener.name(), listener.address(), listener.kind()});
    if (workers_)
        orders.listeners.push_back({workers_->name(), "workers of the opener", Listener::Kind::workers});
    for (const auto& lost : lost_) orders.previous.push_back(lost.get());
    if (active_) orders.previous.push_back(&active_->journal());
    ++facts_.facts().generations;
    auto started = Generation::start(std::move(orders), connections_, loop_, &starting_);
    starting_for_ = why;
    if (!started) {
        say("cannot start a broker: " + started.error().message());
        if (why == Start::reload) answer_reload(CommandResult::failed);
        if (!active_) restart_later(cause);
        return;
    }
    starting_ = std::move(*started);
    ready_by_ = Clock::now() + options_.start_timeout;
}

// Takes at most `most` messages; epoll tells of those that are left.
void Supervisor::serve(Slot slot, std::size_t most) {
    for (; most > 0; --most) {
        std::unique_ptr<Generation>& generation = this->*slot;
        if (!generation) return;
        const auto received = generation->receive();
        if (!received) return;
        const LinkMessage& message = received->message;
        if (slot == &Supervisor::active_) {
            serve_message(message);
        } else if (message.type == LinkType::ready && !generation->is_ready()) {
            generation->ready({.connections_per_uid = message.value,
                               .connections_total = message.total,
                               .rotation = {.max_size = message.token, .keep = std::max(1U, message.keep)}});
            generation_ready();
            return;
        }
    }
}

// Of the active generation, which may have been taken over.
void Supervisor::serve_message(const LinkMessage& message) {
    if (active_->queued() > connections_.all().size() + most_unread_messages) return active_->kill();
    switch (message.type) {
        case LinkType::release:
            connections_.release(message.token);
            reception_.has_room();
            if (workers_) workers_->connection_ended(message.token);
            break;
        case LinkType::pong:
            if (watchdog_) service_manager_alive();
            forget_lost();
            break;
        case LinkType::reload:
            if (!connections_.is_control(message.token)) break;
            if (stopping_) return answer(message.token, CommandResult::refused);
            if (std::ranges::find(reload_askers_, message.token) == reload_askers_.end())
                reload_askers_.push_back(message.token);
            ask_for_reload(std::max(Clock::now(), last_reload_ + reload_interval));
            break;
        case LinkType::note:
            connections_.note(message.token, message.note);
            break;
        case LinkType::set_workers:
            if (connections_.is_control(message.token)) set_workers(message);
            break;
        case LinkType::shutdown:
            if (connections_.is_control(message.token)) stop();
            break;
        case LinkType::renew:
            // More and more slowly, as after crashes: one that was taken over may ask without end.
            if (!stopping_ && !starting_ && !restart_at_)
                restart_later(
                    fmt::format("generation {} lost a process that makes helpers", active_->number()));
            break;
        default:
            break;
    }
}

// A generation that starts at this moment has them as well, and must not answer a second time.
void Supervisor::forget_lost() {
    for (const auto& lost : lost_) lost->clear();
    lost_.clear();
}

void Supervisor::generation_ready() {
    ready_by_.reset();
    if (!active_) return activate();
    handing_over_ = true;
    kill_at_ = Clock::now() + kill_after;
    active_->post({.type = LinkType::hand_over});
}

void Supervisor::activate() {
    const bool first = policy_ == nullptr;
    active_ = std::move(starting_);
    active_->activated(&active_, &follow_at_);
    follow_at_.reset();
    if (starting_for_ == Start::follow) ++facts_.facts().followed;
    log_.begin(active_->number());
    log_.rotate_by(active_->limits().rotation);
    active_->report().give_up();
    policy_ = active_->policy();
    active_->queue({.type = LinkType::activate});
    for (const auto& [token, connection] : connections_.all()) active_->queue(connections_.adoption(token));
    // Until this is answered the generation may die with the lost requests of the one before.
    active_->queue({.type = LinkType::ping});
    if (starting_for_ == Start::reload) {
        ++facts_.facts().reloads;
        answer_reload(CommandResult::done);
    }
    for (Answer& answer : std::exchange(answers_, {})) active_->queue(answer.message, std::move(answer.text));
    active_->send_queued();
    if (first) {
        for (const Listener& listener : reception_.listeners())
            say(fmt::format("{} {} ({})",
                            listener.kind() == Listener::Kind::control ? "controlled at" : "serving",
                            listener.address(), listener.name()));
    }
    if (first && workers_) workers_->start();
    service_manager_ready();
    if (watchdog_) ping_at_ = Clock::now();
    if (stopping_) {
        if (retiring_) retire();
        return;
    }
    reception_.resume();
}

void Supervisor::reap() {
    for (;;) {
        int status = 0;
        const pid_t pid = ::waitpid(-1, &status, WNOHANG);
        if (pid <= 0) return;
        if (workers_ && workers_->reaped(pid, status)) continue;
        for (const Slot slot : {&Supervisor::active_, &Supervisor::starting_}) {
            if (!(this->*slot) || !(this->*slot)->is(pid)) continue;
            (this->*slot)->reaped();
            generation_ended(slot, status);
            break;
        }
    }
}

// `status` as waitpid(2) tells it; SIGKILL for one that is not waited for any more.
void Supervisor::generation_ended(Slot slot, int status) {
    // What it said before it ended is still in the link.
    if (slot == &Supervisor::active_) serve(slot, std::numeric_limits<std::size_t>::max());
    const std::unique_ptr<Generation> ended = std::move(this->*slot);
    if (slot == &Supervisor::starting_) return start_failed(*ended, status);
    kill_at_.reset();
    abandon_at_.reset();
    if (status != 0) log_.record("crash", "the broker " + describe_end(status));
    lost_.push_back(ended->take_journal());
    const bool handed_over = std::exchange(handing_over_, false);
    if (handed_over && starting_ && starting_->is_ready()) return activate();
    if (stopping_) return;
    ++facts_.facts().crashes;
    if (ended->age() > proven_after) delay_ = first_delay;
    replace(fmt::format("generation {} {}", ended->number(), describe_end(status)));
}

void Supervisor::start_failed(Generation& failed, int status) {
    ready_by_.reset();
    if (stopping_) return;
    if (!policy_) {
        exit_status_ = WIFEXITED(status) && WEXITSTATUS(status) == exit_policy ? exit_policy : exit_failed;
        if (WIFSIGNALED(status)) say("the broker was " + describe_end(status) + " while it started");
        return stop();
    }
    if (starting_for_ == Start::reload) {
        ++facts_.facts().failed_reloads;
        say("the policy was not reloaded; the one before stays in force");
        const bool invalid = WIFEXITED(status) && WEXITSTATUS(status) == exit_policy;
        answer_reload(invalid ? CommandResult::invalid : CommandResult::failed,
                      std::make_shared<const UniqueFd>(failed.report().take()));
        if (active_)
            active_->post({.type = LinkType::not_reloaded, .value = static_cast<std::uint32_t>(status)});
        service_manager_ready();
    }
    if (starting_for_ == Start::follow)
        say("directories that rules name are others now, and no generation could follow; it is tried again");
    if (active_) return;
    const std::string cause = fmt::format("generation {} {}", failed.number(), describe_end(status));
    log_.record("start-failed", cause);
    replace(cause);
}

void Supervisor::replace(const std::string& cause) {
    say(fmt::format("the broker of {}; starting another", cause));
    if (!starting_) restart_later(cause);
}

void Supervisor::restart_later(const std::string& cause) {
    restart_cause_ = cause;
    restart_at_ = Clock::now() + delay_;
    delay_ = std::min(2 * delay_, longest_delay);
}

// A worker's connection goes the way of all others; a generation that takes over at this moment gets it with those.
void Supervisor::serve_worker(const void* tag) {
    const auto token = workers_->serve(tag);
    if (!token || !active_ || handing_over_) return;
    LinkMessage message = connections_.adoption(*token);
    message.total = 1;  // a new one
    active_->post(message);
}

void Supervisor::set_workers(const LinkMessage& message) {
    const bool done = workers_ && workers_->set_count(message.total);
    answer(message.token, done ? CommandResult::done : CommandResult::refused);
}

void Supervisor::directories_changed() {
    if (!active_ || stopping_) return;
    const auto now = Clock::now();
    const Generation::Directories directories = active_->directories();
    if (directories == Generation::Directories::same || follow_at_) return;
    if (now - last_follow_ > follow_calm) follow_delay_ = milliseconds(0);
    follow_at_ = std::max(now, last_follow_ + follow_delay_);
    // Who looks ends with its generation: that may be what has happened, and is another matter.
    if (directories == Generation::Directories::unknown)
        follow_at_ = std::max(*follow_at_, now + first_follow_delay);
}

// ---- what is asked for ---------------------------------------------------------------------------------

void Supervisor::ask_for_reload(Clock::time_point when) {
    if (stopping_) return;
    reload_at_ = std::min(reload_at_.value_or(when), when);
}

void Supervisor::answer(Token asker, CommandResult result, SharedFile text) {
    answers_.push_back(
        {{.type = LinkType::result, .value = static_cast<std::uint32_t>(result), .token = asker},
         std::move(text)});
    // One that hands over has told its peers all that it will.
    if (!active_ || handing_over_) return;
    for (Answer& answer : std::exchange(answers_, {})) active_->post(answer.message, std::move(answer.text));
}

void Supervisor::answer_reload(CommandResult result, const SharedFile& text) {
    for (const Token asker : std::exchange(starting_for_askers_, {})) answer(asker, result, text);
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
                ask_for_reload(Clock::now());
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
    reception_.close();
    restart_at_.reset();
    reload_at_.reset();
    // Those who are asked for files last are the last to end.
    if (workers_) workers_->stop();
    if (workers_ended()) retire();
}

void Supervisor::retire() {
    retiring_ = true;
    // The one that takes over connections at this moment is told when it has them.
    if (handing_over_) return;
    if (starting_) {
        starting_->kill();
        ready_by_ = Clock::now() + abandon_after;
    }
    if (active_) {
        kill_at_ = Clock::now() + kill_after;
        active_->post({.type = LinkType::retire});
    }
}

// Returns what it was.
rlimit raise_descriptor_limit() {
    rlimit before{};
    if (::getrlimit(RLIMIT_NOFILE, &before) != 0) return {.rlim_cur = 1024, .rlim_max = 1024};
    const rlimit raised{.rlim_cur = before.rlim_max, .rlim_max = before.rlim_max};
    ::setrlimit(RLIMIT_NOFILE, &raised);
    return before;
}

}  // namespace

ExitStatus supervise(const Options& options, std::vector<Listener> listeners) {
    const rlimit files = raise_descriptor_limit();
    sigset_t handled;
    ::sigemptyset(&handled);
    for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD, SIGPIPE})
        ::sigaddset(&handled, signal);
    ::sigprocmask(SIG_BLOCK, &handled, nullptr);
    ::sigdelset(&handled, SIGPIPE);
    const auto fail = [](const proto::Error& error) {
        say(error.message());
        return exit_failed;
    };
    UniqueFd signals(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signals) return fail(proto::system_error("signalfd").error());
    auto loop = EventLoop::create();
    if (!loop) return fail(loop.error());
    auto log = AuditLog::open(options);
    if (!log) return fail(log.error());
    auto facts = FactsPage::create();
    if (!facts) return fail(facts.error());
    return Supervisor(options, std::move(listeners), std::move(*log), std::move(*loop), std::move(signals),
                      std::move(*facts), files)
        .run();
}

}  // namespace fdbroker::opener
