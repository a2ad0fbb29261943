// SPDX-License-Identifier: MIT
// The control socket while no generation serves, or the one that should stands still: whoever asks is told why not, and
// does not wait.
#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <vector>

#include "opener/control/client.hpp"
#include "opener/control/line.hpp"
#include "opener/supervisor/supervisor.hpp"

namespace fdbroker::opener {

namespace {

// A generation that follows at once answers for the one before.
constexpr std::chrono::milliseconds answered_after{500};
constexpr std::chrono::milliseconds answered_every{100};

// Whether its client waits for an answer, and not for decisions to watch. What was asked is not looked at.
bool awaits_answer(const Connection& connection) noexcept {
    const auto waits_for = ControlNote::from(connection.note).waits;
    // What this process executes next, or has executed, answers.
    if (waits_for == ControlNote::Waits::take_over) return false;
    if (waits_for != ControlNote::Waits::commands) return waits_for != ControlNote::Waits::watching;
    pollfd asked{connection.socket.number(), POLLIN, 0};
    return ::poll(&asked, 1, 0) > 0;
}

}  // namespace

void Supervisor::answer_unserved(Clock::time_point now) {
    if (serves() && !control_ping_) {
        unserved_since_.reset();
        answer_at_.reset();
        return;
    }
    if (!unserved_since_) {
        unserved_since_ = serves() ? control_ping_->sent : now;
        answer_at_ = *unserved_since_ + answered_after;
    }
    if (now < *answer_at_) return;
    answer_at_ = now + answered_every;
    std::vector<ConnectionId> waiting;
    for (const auto& [token, connection] : connections_.all())
        if (connection.purpose == Connection::Purpose::control && awaits_answer(connection))
            waiting.push_back(token);
    for (const ConnectionId token : waiting) {
        hang_up_with(connections_.all().at(token).socket.borrow(),
                     std::string(no_generation_serves) + why_unserved() + "\n");
        connections_.release(token);
    }
}

bool Supervisor::answers_control() const noexcept {
    return unserved_since_ && Clock::now() >= *unserved_since_ + answered_after;
}

std::string Supervisor::why_unserved() const {
    if (serves()) return fmt::format("generation {} does not answer", active_->number());
    if (stopping_) return "the opener stops";
    if (handing_over_)
        return fmt::format("generation {} hands over to generation {}", active_->number(), last_number_);
    if (starting_ && policy_ == nullptr) return "the first one loads the policy";
    if (starting_)
        return fmt::format("generation {} starts{}{}", starting_->number(),
                           restart_cause_.empty() ? "" : ", since ", restart_cause_);
    if (!restart_at_) return "none starts";
    const auto left = std::chrono::ceil<std::chrono::seconds>(*restart_at_ - Clock::now());
    return fmt::format("{}; another one starts within {} s", restart_cause_,
                       std::max<std::int64_t>(left.count(), 1));
}

}  // namespace fdbroker::opener
