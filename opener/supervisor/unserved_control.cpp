// SPDX-License-Identifier: MIT
#include "opener/supervisor/unserved_control.hpp"

#include <poll.h>

#include <utility>
#include <vector>

#include "opener/control/client.hpp"
#include "opener/control/line.hpp"
#include "opener/supervisor/acceptor.hpp"

namespace fdbroker::opener {

namespace {

// A generation that follows at once answers for the one before.
constexpr std::chrono::milliseconds answered_after{500};
constexpr std::chrono::milliseconds answered_every{100};

// Whether the client waits for an answer, and not for decisions to watch. Its question is not looked at.
bool awaits_answer(const Connection& connection) noexcept {
    const auto waits_for = ControlNote::from(connection.control_note).waits;
    // The program that this process executes next, or has executed, answers.
    if (waits_for == ControlNote::Waits::take_over) return false;
    if (waits_for != ControlNote::Waits::commands) return waits_for != ControlNote::Waits::watching;
    pollfd asked{connection.socket.number(), POLLIN, 0};
    return ::poll(&asked, 1, 0) > 0;
}

}  // namespace

UnservedControl::UnservedControl(ConnectionTable& connections, GenerationManager& generations,
                                 EventLoop& loop, std::function<std::string()> why)
    : connections_(connections),
      generations_(generations),
      why_(std::move(why)),
      timer_(loop.timer([this](Clock::time_point now) { answer_all(now); })) {}

void UnservedControl::update() {
    const bool is_served = generations_.serving() != nullptr;
    if (is_served && !ping_) {
        since_.reset();
        return timer_.stop();
    }
    if (since_) return;
    since_ = is_served ? ping_->sent : Clock::now();
    timer_.set(*since_ + answered_after);
}

void UnservedControl::handed_on() {
    if (!ping_) ping_ = {.number = generations_.ping(), .sent = Clock::now()};
}

void UnservedControl::answer_all(Clock::time_point now) {
    timer_.set(now + answered_every);
    std::vector<ConnectionId> waiting;
    for (const auto& [connection_id, connection] : connections_.all())
        if (connection.purpose == Connection::Purpose::control && awaits_answer(connection))
            waiting.push_back(connection_id);
    for (const ConnectionId connection_id : waiting) {
        hang_up_with(connections_.all().at(connection_id).socket.borrow(), answer());
        connections_.release(connection_id);
    }
}

bool UnservedControl::answers() const noexcept {
    return since_ && Clock::now() >= *since_ + answered_after;
}

std::string UnservedControl::answer() const {
    return std::string(no_generation_serves) + why_() + "\n";
}

}  // namespace fdbroker::opener
