// SPDX-License-Identifier: MIT
// Answers to commands of the control socket, until a generation serves that can pass them on.
#pragma once

#include <vector>

#include "opener/link/messages.hpp"
#include "opener/supervisor/generation.hpp"
#include "opener/supervisor/generation_manager.hpp"
#include "opener/supervisor/legacy.hpp"

namespace fdbroker::opener {

class CommandAnswers {
  public:
    explicit CommandAnswers(GenerationManager& generations) : generations_(generations) {}

    // `text`, which may be empty, tells why.
    void give(ConnectionId asker, CommandResult result, SharedFile text = {});
    void give_all(const std::vector<ConnectionId>& askers, CommandResult result,
                  const SharedFile& text = {}) {
        for (const ConnectionId asker : askers) give(asker, result, text);
    }
    // Sends all to the generation that serves, if one does. A generation that hands over has told its peers all that it
    // will.
    void send();
    // For an opener that takes this one's place.
    std::vector<LeftAnswer> left() const;

  private:
    struct Answer {
        to_generation::CommandAnswer message;
        SharedFile text;
    };
    GenerationManager& generations_;
    std::vector<Answer> waiting_{};
};

}  // namespace fdbroker::opener
