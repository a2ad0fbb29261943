// SPDX-License-Identifier: MIT
// A child that tries out the opener's program, by --check, before this process executes it anew: an obstacle that shows
// there costs nobody a connection.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/config/invocation.hpp"
#include "opener/config/options.hpp"
#include "opener/link/start_report.hpp"
#include "opener/supervisor/command_answers.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

// Returns only where the program cannot be executed.
proto::Error execute_program(const std::string& program, const std::vector<std::string>& arguments);

class ProgramTrial {
  public:
    // The child gets `files` as its limit of descriptors. `passed` is called when the program may be executed.
    ProgramTrial(const Options& options, const Invocation& invocation, const rlimit& files,
                 CommandAnswers& answers, EventLoop& loop, std::function<void()> passed);
    ProgramTrial(const ProgramTrial&) = delete;
    ProgramTrial& operator=(const ProgramTrial&) = delete;

    // Somebody at the control socket asks for the program to be executed anew; a trial that runs is theirs as well.
    void try_out(ConnectionId asker);
    // From now on everybody is refused, and a trial that runs is killed.
    void stop();
    // After a stop() that came to nothing, since the program could not be executed.
    void go_on();
    // A child has ended; false: it was no trial.
    bool reaped(pid_t pid, int status);
    // Askers who wait for an answer.
    const std::vector<ConnectionId>& askers() const noexcept { return askers_; }

  private:
    struct Child {
        pid_t pid;
        StartReport report;
    };
    void fail(const proto::Error& error);
    void ended(int status);
    void kill();
    void answer(CommandResult result, const SharedFile& text = {});

    const Options& options_;
    const Invocation& invocation_;
    rlimit files_;
    CommandAnswers& answers_;
    std::function<void()> passed_;
    std::optional<Child> child_{};
    std::vector<ConnectionId> askers_{};
    bool stopped_ = false;
    Timer end_;
};

}  // namespace fdbroker::opener
