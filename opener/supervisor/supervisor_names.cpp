// SPDX-License-Identifier: MIT
// Connections from their acceptance until a generation has them: meanwhile the names of their peers are looked up.
#include <fmt/format.h>

#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/supervisor/supervisor.hpp"

namespace fdbroker::opener {

namespace {

constexpr std::chrono::minutes unanswered_told_every{1};

}  // namespace

proto::Result<void> Supervisor::start_names() {
    auto names = NameLookup::start(options_, loop_, &names_);
    if (!names) return std::unexpected(names.error());
    names_.emplace(std::move(*names));
    return {};
}

// A connection that comes while no generation serves, or that waits for its names then, goes to the next one with all
// others.
void Supervisor::take_in(ConnectionId token) {
    Connection* const connection = connections_.find(token);
    if (connection == nullptr) return;
    if (!connection->is_identified()) {
        const NameQuestion question{.uid = connection->uid, .gid = connection->gid};
        const auto answer = names_->find(token, question, Clock::now());
        if (!answer) return;
        connection->names = answer->names;
    }
    if (!serves()) return;
    hand_to_active(token, *connection);
    if (connection->purpose != Connection::Purpose::control || control_ping_) return;
    active_->post({.type = LinkType::ping, .token = ++last_ping_});
    control_ping_ = {.number = last_ping_, .sent = Clock::now()};
}

void Supervisor::hand_to_active(ConnectionId token, Connection& connection) {
    if (std::exchange(connection.needs_room, false)) active_->post({.type = LinkType::make_room});
    active_->post(connections_.adoption(token));
}

void Supervisor::names_settled() {
    for (const NameLookup::Settled& settled : names_->take(Clock::now())) {
        if (!settled.answer.answered) tell_unanswered(settled.answer.question);
        for (const ConnectionId token : settled.askers) {
            Connection* const connection = connections_.find(token);
            if (connection == nullptr) continue;
            connection->names = settled.answer.names;
            if (serves()) hand_to_active(token, *connection);
        }
    }
}

void Supervisor::tell_unanswered(const NameQuestion& question) {
    ++facts_.facts().unanswered_names;
    const auto now = Clock::now();
    if (unanswered_told_at_ && now - *unanswered_told_at_ < unanswered_told_every) return;
    unanswered_told_at_ = now;
    log_stderr(fmt::format(
        "the account database does not answer: peers such as uid {} are served without a name, and "
        "hold roles by number only; look at what nsswitch.conf(5) names",
        question.uid));
}

}  // namespace fdbroker::opener
