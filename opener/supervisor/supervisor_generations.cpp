// SPDX-License-Identifier: MIT
// Events of generations, and the table of the messages that the supervisor obeys.
#include <fmt/format.h>

#include <cstring>

#include "opener/base/log_stderr.hpp"
#include "opener/base/sd_notify.hpp"
#include "opener/base/wait_status.hpp"
#include "opener/link/message_table.hpp"
#include "opener/supervisor/supervisor.hpp"

namespace fdbroker::opener {

// A generation that serves may have been taken over; one that loads has read nothing from a peer.
void Supervisor::heard(const ToSupervisor& message, GenerationManager::Phase phase) {
    using namespace to_supervisor;
    using enum GenerationManager::Phase;
    static constexpr auto take_limits = [](Supervisor& self, const Ready& ready) {
        self.generations_.take_limits(ready);
    };
    static constexpr auto hand_over = [](Supervisor& self, const HandedOver& handed_over) {
        self.generations_.handed_over(handed_over);
    };
    static constexpr auto note = [](Supervisor& self, const auto& noted) { self.connections_.note(noted); };
    static constexpr MessageTable table{
        on<Ready>({loading}, take_limits),
        on<Release>({serving, handing_over}, &Supervisor::release),
        on<Pong>({serving, handing_over}, &Supervisor::take_pong),
        on<NoteUse>({serving, handing_over}, note),
        on<NoteControl>({serving, handing_over}, note),
        on<Measure>({serving, handing_over}, &Supervisor::measure),
        on<UidTaken>({serving, handing_over}, &Supervisor::avoid_uid),
        on<Renew>({serving, handing_over}, &Supervisor::renew),
        on<HandedOver>({handing_over}, hand_over),
        on<Reload>({serving, handing_over}, &Supervisor::reload),
        on<TakeOver>({serving, handing_over}, &Supervisor::take_over),
        on<SetWorkers>({serving, handing_over}, &Supervisor::set_workers),
        on<to_supervisor::Shadow>({serving, handing_over}, &Supervisor::shadow),
        on<Shutdown>({serving, handing_over}, &Supervisor::shut_down),
    };
    table.dispatch(message, {}, phase, *this);
}

// ---- events --------------------------------------------------------------------------------------------

void Supervisor::activated(GenerationManager::Start cause) {
    unserved_control_.activated();
    reload_.activated(cause);
    answers_.send();
    if (!generations_.has_served()) first_activated();
    service_manager_ready();
    if (!stopping_) return acceptor_.resume();
    if (retiring_) retire();
}

void Supervisor::first_activated() {
    for (const Listener& listener : acceptor_.listeners())
        log_note(fmt::format("{} {} ({})",
                             listener.kind() == Listener::Kind::control ? "controlled at" : "serving",
                             listener.address(), listener.name()));
    if (workers_) workers_->start();
    look_for_stopped_.set_after(StoppedProcesses::interval);
    forget_stored();
}

void Supervisor::start_failed(Generation& failed, GenerationManager::Start cause, int status) {
    reload_.start_failed(failed, cause, status);
}

void Supervisor::crashed(const Generation& ended, int status) {
    if (stopping_) return;
    ++facts_.facts().crashes;
    reload_.replace(fmt::format("generation {} {}", ended.number(), describe_end(status)), ended.age());
}

void Supervisor::handed_over_to_none(std::uint32_t number) {
    // The successor has died at this moment.
    if (!stopping_)
        reload_.replace(fmt::format("generation {} has handed over to none", number),
                        ReloadController::Clock::duration::zero());
    else if (retiring_)
        retire();
}

// ---- messages ------------------------------------------------------------------------------------------

void Supervisor::release(const to_supervisor::Release& message) {
    connections_.release(message.connection_id);
    acceptor_.has_room();
    if (workers_) workers_->connection_ended(message.connection_id);
}

void Supervisor::take_pong(const to_supervisor::Pong& message) {
    unserved_control_.answered(message.number);
    generations_.answered(message);
}

void Supervisor::measure() {
    usage_.measure(facts_.facts(), generations_.active()->pid());
}

void Supervisor::avoid_uid(const to_supervisor::UidTaken& message) {
    generations_.avoid(message.uid);
    log_stderr(
        fmt::format("a peer was refused: it runs as uid {}, which is the broker's, and could end it; give it "
                    "another user. Another generation follows, as another uid unless that is an account's",
                    message.uid));
    reload_.renew(fmt::format("a peer runs as uid {}, as generation {} does", message.uid,
                              generations_.active()->number()));
}

void Supervisor::renew() {
    reload_.renew(
        fmt::format("generation {} lost a process that makes helpers", generations_.active()->number()));
}

// ---- commands of the control socket --------------------------------------------------------------------

void Supervisor::reload(const to_supervisor::Reload& message) {
    if (connections_.is_control(message.connection_id)) reload_.reload_for(message.connection_id);
}

void Supervisor::take_over(const to_supervisor::TakeOver& message) {
    if (connections_.is_control(message.connection_id)) trial_.try_out(message.connection_id);
}

void Supervisor::set_workers(const to_supervisor::SetWorkers& message) {
    if (!connections_.is_control(message.connection_id)) return;
    const bool done = workers_ && workers_->set_count(message.count);
    answers_.give(message.connection_id, done ? CommandResult::done : CommandResult::refused);
}

void Supervisor::shadow(const to_supervisor::Shadow& message) {
    if (!connections_.is_control(message.connection_id)) return;
    const std::size_t size = ::strnlen(message.file.data(), message.file.size());
    reload_.shadow_for(message.connection_id, std::string(message.file.data(), size));
}

void Supervisor::shut_down(const to_supervisor::Shutdown& message) {
    if (connections_.is_control(message.connection_id)) stop(Heir::none);
}

}  // namespace fdbroker::opener
