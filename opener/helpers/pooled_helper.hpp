// SPDX-License-Identifier: MIT
// A helper as the broker sees it: its channel, how far it is with a task, and the work it keeps in the background.
//
//   Idle ── task ──► Running ── report ──► Delivering ── sent ──► Closing ── idle ──► Idle
//
// A helper whose reply leaves something going on is in Background after `sent`. It takes further tasks about that work,
// each through Running and Delivering. After the last one it is in Closing until its channel is closed.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "opener/base/event_loop.hpp"
#include "opener/helpers/held_up.hpp"
#include "opener/helpers/helper_task.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct PooledHelper {
    using Clock = std::chrono::steady_clock;

    struct Idle {};
    // The helper reports by the task's deadline. A null task has ended before the helper came back.
    struct Running {
        std::unique_ptr<HelperTask> task;
    };
    // The helper tells by then how sending the reply ended. A null task, as above.
    struct Delivering {
        std::unique_ptr<HelperTask> task;
        Clock::time_point due;
    };
    // By then the helper is idle, or its channel is closed.
    struct Closing {
        Clock::time_point due;
        int result = EIO;  // errno of the background work; 0: done
    };
    struct Background {
        std::optional<Clock::time_point> due;  // by then the work must have ended; nullopt: it may go on
    };

    // Background work: a stream, put or watch that an earlier task has begun.
    struct Work {
        enum class Ending { none, told, gives_way };

        std::uint64_t number = 0;           // the task's
        bool ends_with_generation = false;  // a put or watch, of which the next one knows nothing
        Ending ending = Ending::none;       // whether it was told to end, and for another user
        Clock::time_point moved_at{};       // when something last went through it
    };

    explicit PooledHelper(proto::UniqueFd its_channel) : channel(std::move(its_channel)) {}

    template <typename State>
    bool is() const noexcept {
        return std::holds_alternative<State>(state);
    }
    // The task that it runs or delivers; null: none, or that has ended.
    HelperTask* task() const noexcept;
    std::unique_ptr<HelperTask> take_task() noexcept;
    // By then a message must come from it; nullopt: none must.
    std::optional<Clock::time_point> awaited_by() const noexcept;
    // Whether a further task may be about this one: it is in the background, or may be in a moment.
    bool has_left(std::uint64_t number) const noexcept;
    // errno of the background work, as far as is known.
    int result() const noexcept;
    bool gives_way() const noexcept { return work && work->ending == Work::Ending::gives_way; }
    // Background work that nobody is at, and that was not told to end.
    bool rests() const noexcept;

    // The helper was sent this task.
    void run(std::unique_ptr<HelperTask> given);
    // The helper was told to send the reply to its task.
    void deliver();
    void close(int result = EIO);
    // The work goes on without a task.
    void rest();
    // The work is to end now, for another user or not. Messages still come: the last one tells how the work ended.
    void tell_to_end() noexcept;
    void give_way();
    void session_ended();

    proto::UniqueFd channel;
    Source source{};  // watches the channel
    std::variant<Idle, Running, Delivering, Closing, Background> state{};
    std::optional<Work> work{};  // never with Idle
    bool stuck = false;          // left behind; never with Idle

    // The session of the last task and of the work that goes on, and the task's first request.
    std::optional<ConnectionId> session{};  // nullopt: ended
    HeldUp request{};
    // Tasks about the work that goes on, for one after the other.
    std::deque<std::unique_ptr<HelperTask>> further{};
};

}  // namespace fdbroker::opener
