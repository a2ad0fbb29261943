// SPDX-License-Identifier: MIT
// The broker's end of its helpers: hands them requests, hears what came of those, and sees to it that none takes longer
// than its deadline, whatever its helper does.
//
// A helper that does not come back is left behind: its requests are answered, nothing waits for it, and it counts as
// stuck until it reports or dies. No function here blocks.
//
// A helper that keeps serving a stream, put or watch after its reply is *background*: no deadline applies, and it counts
// against the background limit until its channel is closed. After the end of the session or of the work that must come
// soon; else the helper counts as stuck.
// A task gets a place for background work before it is given away, or none. A helper without a place must refuse before it
// changes anything; a helper that goes on all the same is let go.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/helpers/held_up.hpp"
#include "opener/helpers/helper_counters.hpp"
#include "opener/helpers/helper_task.hpp"
#include "opener/helpers/helper_users.hpp"
#include "opener/helpers/messages.hpp"
#include "opener/helpers/pooled_helper.hpp"
#include "opener/helpers/zygotes.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class HelperPool final : Zygotes::Owner {
  public:
    using Clock = std::chrono::steady_clock;

    // Hears the outcomes of tasks. May not call the pool from within, but for forget().
    class Owner {
      public:
        virtual proto::BorrowedFd connection_of(const HelperTask& task) = 0;
        // The task has an outcome for each request. Puts them on record; the verdict says which may leave.
        virtual Verdict reported(HelperTask& task, const Report& report) = 0;
        // The end of a task that was reported. Where something goes on, it has the task's number.
        virtual void delivered(HelperTask& task, const Sent& sent) = 0;
        // The end of a task whose helper does not answer or has died, or that was given to none. `reason` is a literal.
        virtual void failed(HelperTask& task, int errno_value, const char* reason) = 0;
        // The background work of a request has ended. errno_value 0: done; ECANCELED: it gave way to another user; ETIME:
        // nothing went through it for as long as the policy allows; EIO: the helper died, possibly before it told whether
        // the reply had left.
        virtual void ended(const HeldUp& request, int errno_value) = 0;
        // A helper was left behind, or one that was has come back or ended. `stuck`: how many there are now.
        virtual void left_behind(const HeldUp& request, std::size_t stuck) = 0;
        virtual void came_back(std::uint32_t uid, std::size_t stuck) = 0;
        // A zygote has gone. With the last one no helper can be made any more.
        virtual void zygote_lost() = 0;

      protected:
        ~Owner() = default;
    };

    // `zygotes`: channels to them (zygote.hpp); the last one is used, the others are in reserve.
    // Works by `loop`, which outlives the pool, as the policy's `rules` do.
    static proto::Result<std::unique_ptr<HelperPool>> create(std::vector<proto::UniqueFd> zygotes,
                                                             EventLoop& loop,
                                                             std::span<const policy::Rule> rules);
    HelperPool(const HelperPool&) = delete;
    HelperPool& operator=(const HelperPool&) = delete;

    void set_owner(Owner& owner) noexcept { owner_ = &owner; }

    // Whether a task with so many requests may be submitted; if not, it counts as refused. For a user who has none, room is
    // made afterwards.
    bool has_room(std::uint32_t uid, std::size_t requests);
    // Takes a task for which there is room; the loop's timers give it to a helper as soon as one is free.
    // One that continues another must be able to.
    void submit(std::unique_ptr<HelperTask> task);
    // Whether the background work of this session's task with this number takes another task, now or once the helper is done
    // with the one before.
    bool can_continue(std::uint64_t number, ConnectionId session) const noexcept;
    // For make_task(). A peer may keep one beyond the life of a pool, so that no other pool begins at the same.
    std::uint64_t next_number() noexcept { return ++last_number_; }

    // The session has ended: what was not begun is not, and what goes on must end soon.
    void forget(ConnectionId session);
    // Ends what goes on and has no meaning for the next generation: puts, whose commits would come there, and watches, which
    // tell what this policy allows.
    void end_with_generation();
    // Ends all tasks: nobody waits for helpers any longer.
    void abandon(int errno_value, const char* reason);

    // Helpers that stay with what a task has left going on.
    std::size_t background() const noexcept { return users_.background(); }
    // Tells those that have not been told yet to bring it to an end now. False: there are none.
    bool end_background();
    // Whether a helper does something for this session, or stays with what it has left going on.
    bool works_for(ConnectionId session) const noexcept;
    // Whether a task has not ended, or has left something going on.
    bool has_work() const noexcept { return users_.tasks() != 0 || background() != 0; }
    // The greatest number of records that begun work can lead to. Each request has an end. For each task and each helper
    // there are: left behind, come back, background work ended. A zygote may end.
    std::size_t max_records() const noexcept {
        return users_.requests() + 3 * (helpers_.size() + users_.tasks()) + zygotes_.count();
    }

    const HelperCounters& counters() const noexcept { return counters_; }
    std::size_t helpers() const noexcept { return helpers_.size() - background(); }
    std::size_t stuck() const noexcept { return stuck_; }
    // The requests that stuck helpers are held up by.
    std::vector<HeldUp> held_up() const;
    std::size_t waiting() const noexcept { return users_.waiting(); }

  private:
    HelperPool(EventLoop& loop, std::span<const policy::Rule> rules)
        : loop_(loop),
          rules_(rules),
          zygotes_(loop, *this),
          due_(loop.timer([this](Clock::time_point now) { act_on_time(now); })) {}

    void helper_made(proto::UniqueFd channel) override;
    void helper_not_made() override;
    void zygote_ended() override;

    // Ends those whose deadline has passed, gives tasks to helpers.
    void act_on_time(Clock::time_point now);
    void act_soon() { due_.set(Clock::time_point::min()); }
    void look_ahead();
    void time_out(PooledHelper& helper);
    void leave_behind(PooledHelper& helper);

    void hear(PooledHelper& helper);
    bool take(PooledHelper& helper, const FromHelper& message);
    bool take_report(PooledHelper& helper, const Report& report);
    bool take_late_report(PooledHelper& helper, const Report& report);
    bool take_sent(PooledHelper& helper, const Sent& sent);
    bool take_end(PooledHelper& helper, int errno_value);
    void begin_background(PooledHelper& helper, const HelperTask& task);
    void end_resting();
    void become_idle(PooledHelper& helper);
    void come_back(PooledHelper& helper);
    void lose(PooledHelper& helper);
    void retire_surplus();
    PooledHelper* helper_with(std::uint64_t number) const noexcept;

    void dispatch();
    void assign(PooledHelper& helper, HelperTask& task);
    void assign_to_background();
    proto::Result<void> send(const PooledHelper& helper, HelperTask& task);
    void order_helpers();
    void refuse_waiting();
    void end_further(
        PooledHelper& helper, int errno_value, const char* reason,
        const std::function<bool(const HelperTask&)>& which = [](const HelperTask&) { return true; });
    void end_task(std::unique_ptr<HelperTask> task, int errno_value, const char* reason);
    void settle(const HelperTask& task);

    Owner* owner_ = nullptr;
    EventLoop& loop_;
    std::span<const policy::Rule> rules_;
    Zygotes zygotes_;
    HelperUsers users_{};
    std::vector<std::unique_ptr<PooledHelper>> helpers_{};
    std::size_t stuck_ = 0;
    bool generation_ends_ = false;
    std::uint64_t last_number_ = 0;
    Timer due_;
    HelperCounters counters_{};
    std::vector<std::byte> buffer_ = std::vector<std::byte>(max_helper_message);
};

}  // namespace fdbroker::opener
