// SPDX-License-Identifier: MIT
#include "opener/supervisor/command_answers.hpp"

#include <utility>

namespace fdbroker::opener {

void CommandAnswers::give(ConnectionId asker, CommandResult result, SharedFile text) {
    waiting_.push_back({.message = {.connection_id = asker, .result = result}, .text = std::move(text)});
    send();
}

void CommandAnswers::send() {
    Generation* const serving = generations_.serving();
    if (serving == nullptr) return;
    for (Answer& answer : std::exchange(waiting_, {})) serving->post(answer.message, std::move(answer.text));
}

std::vector<LeftAnswer> CommandAnswers::left() const {
    std::vector<LeftAnswer> left;
    for (const Answer& answer : waiting_)
        left.push_back({.asker = answer.message.connection_id, .result = answer.message.result});
    return left;
}

}  // namespace fdbroker::opener
