// SPDX-License-Identifier: MIT
#include "opener/supervisor/connection_intake.hpp"

#include <fmt/format.h>

#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/supervisor/acceptor.hpp"

namespace fdbroker::opener {

proto::Result<std::unique_ptr<ConnectionIntake>> ConnectionIntake::start(
    const Options& options, EventLoop& loop, SupervisorFacts& facts, ConnectionTable& connections,
    GenerationManager& generations, std::function<void()> control_handed_on) {
    std::unique_ptr<ConnectionIntake> intake(
        new ConnectionIntake(facts, connections, generations, std::move(control_handed_on)));
    auto names = NameLookup::start(options, loop, [&intake = *intake] { intake.settle(); });
    if (!names) return std::unexpected(names.error());
    intake->names_ = std::move(*names);
    return intake;
}

void ConnectionIntake::take_in(ConnectionId connection_id) {
    Connection* const connection = connections_.find(connection_id);
    if (connection == nullptr) return;
    if (!connection->is_identified()) {
        const NameQuestion question{.uid = connection->uid, .gid = connection->gid};
        const auto answer = names_->find(connection_id, question, Clock::now());
        if (!answer) return;
        connection->names = answer->names;
    }
    if (Generation* const serving = generations_.serving()) hand_on(*serving, connection_id, *connection);
}

// The generation adopts the connection, and another gives way where it came to a full table.
void ConnectionIntake::hand_on(Generation& serving, ConnectionId connection_id, Connection& connection) {
    queue_adoption(serving, connections_, connection_id);
    serving.send_queued();
    if (connection.purpose == Connection::Purpose::control) control_handed_on_();
}

void ConnectionIntake::settle() {
    for (const NameLookup::Settled& settled : names_->take(Clock::now())) {
        if (!settled.answer.answered) tell_unanswered(settled.answer.question);
        for (const ConnectionId connection_id : settled.askers) {
            Connection* const connection = connections_.find(connection_id);
            if (connection == nullptr) continue;
            connection->names = settled.answer.names;
            if (Generation* const serving = generations_.serving())
                hand_on(*serving, connection_id, *connection);
        }
    }
}

void ConnectionIntake::tell_unanswered(const NameQuestion& question) {
    ++facts_.unanswered_names;
    const auto ignore = [](const Unanswered&, std::uint64_t) {};
    if (!unanswered_told_.stands_alone(question, Clock::now(), ignore)) return;
    log_stderr(fmt::format(
        "the account database does not answer: peers such as uid {} are served without a name, and "
        "hold roles by number only; look at what nsswitch.conf(5) names",
        question.uid));
}

}  // namespace fdbroker::opener
