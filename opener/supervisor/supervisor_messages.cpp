// SPDX-License-Identifier: MIT
// What generations say to the supervisor, and what somebody asks for at the control socket by way of them.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/supervisor/process_usage.hpp"
#include "opener/supervisor/supervisor.hpp"

namespace fdbroker::opener {

namespace {

// Besides one for each connection, what a generation may leave unread and ask for more.
constexpr std::size_t max_unread_messages = 1024;
// Between two reloads that brokers ask for: one that was taken over cannot keep everybody loading policies.
constexpr std::chrono::seconds reload_interval{1};
// Between two looks at processes, which take hundreds of system calls.
constexpr std::chrono::seconds measure_interval{1};
constexpr std::size_t max_avoided_uids = 64;

}  // namespace

// Takes at most `most` messages; epoll tells of those that are left.
void Supervisor::serve(Slot slot, std::size_t most) {
    // What it has written comes before what is said about it.
    if (this->*slot) (this->*slot)->copy_output();
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
    if (active_->queued() > connections_.all().size() + max_unread_messages) return active_->kill();
    switch (message.type) {
        case LinkType::release:
            connections_.release(message.token);
            reception_.has_room();
            if (workers_) workers_->connection_ended(message.token);
            break;
        case LinkType::pong:
            it_lives();
            if (control_ping_ && message.token >= control_ping_->number) control_ping_.reset();
            answered(message.token);
            break;
        case LinkType::handed_over:
            // One that has ended since does not live on.
            if (handing_over_ && active_->is_there()) handed_over(message.value);
            break;
        case LinkType::reload:
            if (!connections_.is_control(message.token)) break;
            if (stopping_) return answer(message.token, CommandResult::refused);
            if (message.total != 0) return try_out(message.token);
            if (std::ranges::find(reload_askers_, message.token) == reload_askers_.end())
                reload_askers_.push_back(message.token);
            ask_for_reload(std::max(Clock::now(), last_reload_ + reload_interval));
            break;
        case LinkType::note:
            connections_.note(message);
            break;
        case LinkType::set_workers:
            if (connections_.is_control(message.token)) set_workers(message);
            break;
        case LinkType::shutdown:
            if (connections_.is_control(message.token)) stop(Heir::none);
            break;
        case LinkType::measure:
            measure_processes();
            break;
        case LinkType::uid_taken:
            avoid_uid(message.value);
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

void Supervisor::measure_processes() {
    if (Clock::now() < measured_at_ + measure_interval) return;
    measured_at_ = Clock::now();
    const auto store = [](UsageFacts& facts, const ProcessUsage& usage) {
        facts.processes = usage.processes;
        facts.resident = usage.resident;
        facts.descriptors = usage.descriptors;
    };
    SupervisorFacts& facts = facts_.facts();
    store(facts.supervisor_usage, usage_of(::getpid()));
    store(facts.broker_usage, usage_of(active_->pid()));
    store(facts.helpers_usage, usage_below(active_->pid()));
}

void Supervisor::avoid_uid(uid_t uid) {
    // One that was taken over may say so of all uids there are.
    if (std::ranges::find(avoided_uids_, uid) == avoided_uids_.end()) avoided_uids_.push_back(uid);
    if (avoided_uids_.size() > max_avoided_uids) avoided_uids_.pop_front();
    log_stderr(
        fmt::format("a peer was refused: it runs as uid {}, which is the broker's, and could end it; give it "
                    "another user. Another generation follows, as another uid unless that is an account's",
                    uid));
    if (!stopping_ && !starting_ && !restart_at_)
        restart_later(fmt::format("a peer runs as uid {}, as generation {} does", uid, active_->number()));
}

void Supervisor::set_workers(const LinkMessage& message) {
    const bool done = workers_ && workers_->set_count(message.total);
    answer(message.token, done ? CommandResult::done : CommandResult::refused);
}

void Supervisor::ask_for_reload(Clock::time_point when) {
    if (stopping_) return;
    reload_at_ = std::min(reload_at_.value_or(when), when);
}

void Supervisor::answer(ConnectionId asker, CommandResult result, SharedFile text) {
    answers_.push_back(
        {{.type = LinkType::result, .value = static_cast<std::uint32_t>(result), .token = asker},
         std::move(text)});
    // One that hands over has told its peers all that it will.
    if (!active_ || handing_over_) return;
    for (Answer& answer : std::exchange(answers_, {})) active_->post(answer.message, std::move(answer.text));
}

void Supervisor::answer_reload(CommandResult result, const SharedFile& text) {
    for (const ConnectionId asker : std::exchange(starting_for_askers_, {})) answer(asker, result, text);
}

}  // namespace fdbroker::opener
