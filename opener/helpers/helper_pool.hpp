// SPDX-License-Identifier: MIT
// The broker's end of its helpers: hands them requests, hears what came of those, and sees to it that none takes longer
// than its deadline, whatever its helper does.
//
// A helper that does not come back is left behind: its requests are answered, nothing waits for it, and it counts as
// stuck until it reports or dies. No function here blocks.
//
// A helper with which a task has left something going on, as it says when it has delivered the reply, is no longer of
// those that wait for work: nothing limits its time, and it counts among the lasting ones until its channel is closed. When
// its session has ended, or it says that it is done, that must come soon, or it counts as stuck.
// Whether there is room for one more is settled before the task is given away: a helper that may not must refuse before
// it changes anything, and one that does so all the same is let go.
#pragma once

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/helpers/helper_task.hpp"
#include "opener/helpers/messages.hpp"
#include "opener/quota/helper_limits.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Numbers for whoever watches.
struct HelperCounters {
    std::uint64_t made = 0;       // helpers, ever
    std::uint64_t tasks = 0;      // that were given to one
    std::uint64_t timed_out = 0;  // tasks whose deadline passed
    std::uint64_t lost = 0;       // tasks whose helper died
    std::uint64_t refused = 0;    // tasks for which there was no room
    std::uint64_t stuck = 0;      // times that a helper was left behind
    std::uint64_t lasting = 0;    // tasks that have left something going on
};

// A request that a helper has, and is held up by or stays with what it has left going on.
struct HeldUp {
    std::uint32_t uid = 0;
    const policy::Rule* rule = nullptr;  // that granted it
    std::string path{};
    std::chrono::steady_clock::time_point since{};  // when the helper was given it
};

class HelperPool {
  public:
    using Clock = std::chrono::steady_clock;

    // Who hears what becomes of tasks. May not call the pool from within, but for forget().
    class Owner {
      public:
        virtual proto::BorrowedFd connection_of(const HelperTask& task) = 0;
        // What came of it, an outcome for each request. Puts it on record; the rulings say what may leave.
        virtual std::vector<Ruling> reported(HelperTask& task, const Report& report) = 0;
        // The end of a task that was reported. Where something goes on, it has the task's number.
        virtual void delivered(HelperTask& task, const Sent& sent) = 0;
        // The end of a task whose helper does not answer or has died, or that was given to none. `reason` is a literal.
        virtual void failed(HelperTask& task, int errno_value, const char* reason) = 0;
        // What a request has left going on. errno_value 0: it is done; else why not, ECANCELED when it gave way to another
        // user, ETIME when nothing went through it for as long as the policy allows, EIO when the helper died, also when it
        // did before it told whether the reply of what was granted had left.
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
    static proto::Result<std::unique_ptr<HelperPool>> create(std::vector<proto::UniqueFd> zygotes);
    HelperPool(const HelperPool&) = delete;
    HelperPool& operator=(const HelperPool&) = delete;

    void set_owner(Owner& owner) noexcept { owner_ = &owner; }
    // Readable when serve() has something to do.
    proto::BorrowedFd descriptor() const noexcept { return loop_.descriptor(); }

    // Whether a task with so many requests may be submitted; if not, it counts as refused. For a user who has none,
    // act_on_time() makes room.
    bool has_room(std::uint32_t uid, std::size_t requests);
    // Takes a task for which there is room; act_on_time() gives it to a helper as soon as one is free.
    // One that continues another must be able to.
    void submit(std::unique_ptr<HelperTask> task);
    // Whether what the task of this session with this number has left going on takes another one, now or once the helper
    // has done with the one before.
    bool can_continue(std::uint64_t number, ConnectionId session) const noexcept;
    // For make_task(). A peer may keep one beyond the life of a pool, so that no other pool begins at the same.
    std::uint64_t next_number() noexcept { return ++last_number_; }

    // Hears what helpers have to say.
    void serve();
    // Gives tasks to helpers, ends those whose deadline has passed.
    void act_on_time(Clock::time_point now);
    // When act_on_time() has something to do; nullopt: not before something else happens.
    std::optional<Clock::time_point> due() const noexcept { return due_; }

    // The session has ended: what was not begun is not, and what goes on must end soon.
    void forget(ConnectionId session);
    // Ends what goes on and can only be ended by a further request, of which none will come: files that are being put.
    void end_puts();
    // Ends all tasks: nobody waits for helpers any longer.
    void abandon(int errno_value, const char* reason);

    // Helpers that stay with what a task has left going on.
    std::size_t lasting() const noexcept { return lasting_; }
    // Tells those that have not been told yet to bring it to an end now. False: there are none.
    bool end_lasting();
    // Tasks of which no end has been told.
    std::size_t unfinished() const noexcept { return unfinished_; }
    // Whether a helper does something for this session, or stays with what it has left going on.
    bool works_for(ConnectionId session) const noexcept;
    // Whether a task has not ended, or has left something going on.
    bool has_work() const noexcept { return unfinished_ != 0 || lasting_ != 0; }
    // How many records can come of what is begun, if nothing more is: an end for each request; for each task, and for each
    // helper that is there, that the helper is left behind, comes back and ends what goes on with it; that a zygote ends.
    std::size_t max_records() const noexcept {
        return requests_ + 3 * (helpers_.size() + unfinished_) + zygotes_.size();
    }

    const HelperCounters& counters() const noexcept { return counters_; }
    std::size_t helpers() const noexcept { return helpers_.size() - lasting_; }
    std::size_t stuck() const noexcept { return stuck_; }
    // The same in detail.
    std::vector<HeldUp> held_up() const;
    std::size_t waiting() const noexcept { return waiting_.size(); }

  private:
    struct Helper {
        enum class State {
            idle,
            working,
            delivering,
            closing,
            lasting,  // between two tasks about what goes on with it
        };
        proto::UniqueFd channel{};
        State state = State::idle;
        bool stuck = false;
        std::uint64_t lasting = 0;  // the number of the task that has left something going on; 0: none
        bool puts = false;          // what goes on is a file that is being put
        int errno_value = EIO;      // how that ended
        bool told_to_end = false;
        bool gives_way = false;              // what goes on with it has been ended for another user
        Clock::time_point moved_at{};        // when something last went through what lasts
        bool ends = false;                   // its session has ended
        ConnectionId session = 0;            // it works for, or worked for when it began to last
        std::uint32_t uid = 0;               // whom it works for
        std::unique_ptr<HelperTask> task{};  // until its end has been told
        std::deque<std::unique_ptr<HelperTask>> further{};  // about what lasts; one after the other
        Clock::time_point due{};                            // by then the next message must have come
        HeldUp last{};  // what it was given last, the first request of that
    };
    struct User {
        std::deque<std::unique_ptr<HelperTask>> waiting{};
        std::size_t requests = 0;  // waiting or with a helper, not ended
        std::size_t helpers = 0;   // at work for it, or stuck
        std::size_t lasting = 0;   // that are, or may come to be, without those that give way

        bool is_idle() const noexcept { return requests == 0 && helpers == 0 && lasting == 0; }
    };
    using Users = std::map<std::uint32_t, User>;

    HelperPool(std::vector<proto::UniqueFd> zygotes, EventLoop loop)
        : zygotes_(std::move(zygotes)), loop_(std::move(loop)) {}

    void hear_zygotes();
    void zygote_ended(std::size_t index);
    void refuse_waiting();
    void add_helper(proto::UniqueFd channel);
    void hear(Helper& helper);
    bool take(Helper& helper, const FromHelper& message);
    bool take_report(Helper& helper, const Report& report);
    bool take_sent(Helper& helper, const Sent& sent);
    void begin_to_last(Helper& helper, std::uint64_t number);
    void become_idle(Helper& helper);
    void come_back(Helper& helper);
    static bool is_awaited(const Helper& helper) noexcept;
    Helper* helper_with(std::uint64_t number) const noexcept;
    void end_further(
        Helper& helper, int errno_value, const char* reason,
        const std::function<bool(const HelperTask&)>& which = [](const HelperTask&) { return true; });
    void retire_surplus();
    void lose(Helper& helper);
    void leave_behind(Helper& helper);
    void free_user_of(Helper& helper);

    bool may_have_helper(const User& user) const noexcept;
    bool has_room_to_last(const User& user) const noexcept;
    void end_resting();
    bool give_way();
    Users::iterator next_user();
    void dispatch();
    void assign(Helper& helper, User& user);
    void assign_to_lasting();
    proto::Result<void> send(Helper& helper, HelperTask& task);
    void order_helpers();
    void end_task(std::unique_ptr<HelperTask> task, int errno_value, const char* reason);
    void settle(const HelperTask& task);
    void time_out_waiting(HelperTask& task);
    void time_out(Helper& helper);
    void look_ahead();

    Owner* owner_ = nullptr;
    std::vector<proto::UniqueFd> zygotes_;
    EventLoop loop_;
    std::vector<std::unique_ptr<Helper>> helpers_{};
    std::size_t ordered_ = 0;                            // helpers that the zygote is about to make
    std::optional<Clock::time_point> order_again_at_{};  // it could make none
    Users users_{};
    std::uint32_t last_served_ = 0;                                  // the user who got a helper last
    std::set<std::pair<Clock::time_point, HelperTask*>> waiting_{};  // by their deadlines
    std::size_t requests_ = 0;
    std::size_t unfinished_ = 0;
    std::size_t stuck_ = 0;
    std::size_t lasting_ = 0;
    std::size_t giving_way_ = 0;  // of these
    std::size_t at_work_ = 0;     // of all users
    std::size_t may_last_ = 0;    // tasks for which a place is kept
    bool puts_end_ = false;
    std::uint64_t last_number_ = 0;
    std::optional<Clock::time_point> due_{};
    HelperCounters counters_{};
    std::vector<std::byte> buffer_ = std::vector<std::byte>(max_helper_message);
};

}  // namespace fdbroker::opener
