// SPDX-License-Identifier: MIT
#include "opener/operations/watch.hpp"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "opener/operations/file_events.hpp"
#include "opener/operations/look.hpp"
#include "opener/operations/stream.hpp"
#include "opener/request/outcome.hpp"
#include "policy/matching/request_path.hpp"
#include "proto/watch.hpp"

namespace fdbroker::opener {

using proto::Looked;
using proto::Step;
using proto::UniqueFd;

namespace {

constexpr std::chrono::milliseconds look_interval{10};

// The object as the peer may see it. A missing name is no error.
Attempt<Looked> look(const OperationContext& context, const policy::Grant& grant) {
    const auto status = look_at(context, grant, LastLink::follow);
    if (status) return Looked(*status);
    const Obstacle& obstacle = status.error();
    if (obstacle.step == Step::resolve && obstacle.errno_value == ENOENT) return Looked();
    return std::unexpected(obstacle);
}

Attempt<void> arm(FileEvents& events, const OperationContext& context, const policy::Grant& grant) {
    const auto parent = context.services.resolver.resolve_parent(grant);
    if (parent) return events.arm(parent->descriptor(), parent->name());
    if (parent.error().errno_value != EBUSY) return std::unexpected(parent.error());
    const auto directory = open_inspected(context, grant, O_PATH | O_DIRECTORY);
    if (!directory) return std::unexpected(directory.error());
    return events.arm(directory->descriptor(), ".");
}

class Watch final : public BackgroundWork {
  public:
    using Clock = std::chrono::steady_clock;

    Watch(const OperationContext& context, const policy::Grant& grant, FileEvents events, UniqueFd pipe,
          const Looked& first)
        : services_(context.services),
          peer_(context.peer),
          path_(grant.path().text()),
          operations_(grant.operations()),
          mask_(static_cast<std::uint8_t>(context.request().flags)),
          events_(std::move(events)),
          pipe_(std::move(pipe)),
          last_(first) {}

    Awaited awaited() const noexcept override {
        // A peer that closes its end is told of in any case.
        return {pollfd{events_.descriptor().number(), POLLIN, 0},
                pollfd{pipe_.number(), static_cast<short>(is_stale_ ? POLLOUT : 0), 0}};
    }
    void go_on() override {
        const short pipe = wait_for_turn();
        if ((pipe & POLLERR) != 0) return end();
        is_stale_ = events_.take() || is_stale_;
        if (!is_stale_ || (pipe & POLLOUT) == 0) return;
        is_stale_ = false;
        look_again();
    }
    bool done() const noexcept override { return done_; }
    int errno_value() const noexcept override { return 0; }
    void end() override { done_ = true; }
    Outcome carry_out(const RequestServices&, const policy::Peer&, const GrantedRequest&,
                      const ExecutionContext&) override {
        return refused(Step::parse, EINVAL, "no request is about a watch");
    }

  private:
    // However much happens in a directory, no more is done about it. Returns the events of the pipe: it has room when the
    // peer has read all.
    short wait_for_turn() {
        pollfd pipe{pipe_.number(), 0, 0};
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_ - Clock::now()).count();
        ::poll(&pipe, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
        next_ = Clock::now() + look_interval;
        pipe.events = POLLOUT;
        ::poll(&pipe, 1, 0);
        return pipe.revents;
    }

    void look_again() {
        const auto path = policy::RequestPath::parse(path_);
        const auto decision = services_.policy.decide(peer_, operations_, *path);
        if (!decision) return end();
        const proto::Request request{.call = proto::Call::watch, .path = path_};
        const GrantedRequest granted{request, OpenFlags::parse(0).value(), *decision};
        const auto execution = ExecutionContext::helper(Clock::now(), false);
        const OperationContext context{services_, peer_, granted, execution};
        // Changes after that bring an event, and earlier ones are seen.
        const bool armed = arm(events_, context, *decision).has_value();
        // An object that the rules no longer show is gone for the peer.
        const auto now = look(context, *decision).value_or(Looked());
        tell(proto::changes_between(last_, now) & mask_);
        last_ = now;
        if (!armed) end();
    }

    void tell(std::uint8_t changes) {
        if (changes != 0 && ::write(pipe_.number(), &changes, sizeof changes) < 0) end();
    }

    RequestServices services_;
    policy::Peer peer_;
    std::string path_;
    policy::OperationSet operations_;
    std::uint8_t mask_;
    FileEvents events_;
    UniqueFd pipe_;
    Looked last_;
    bool is_stale_ = false;  // something has happened since the last look
    bool done_ = false;
    Clock::time_point next_{};  // look
};

}  // namespace

Attempt<Outcome> begin_watch(const OperationContext& context, const policy::Grant& grant) {
    if (!context.execution.allows_background())
        return obstacle_at(Step::resolve, {EAGAIN, "too many files are being put, streamed or watched"});
    if (grant.is_ancestor())
        return obstacle_at(Step::decide, {EACCES, "the rule tells only that it is a directory"});
    auto events = FileEvents::make();
    if (!events) return std::unexpected(events.error());
    if (const auto armed = arm(*events, context, grant); !armed) return std::unexpected(armed.error());
    const auto first = look(context, grant);
    if (!first) return std::unexpected(first.error());
    auto pipe = make_pipe(OpenFlags::parse(0).value());
    if (!pipe) return std::unexpected(pipe.error());
    // A pipe of one page has room only when it is empty: nothing is told while a byte is unread.
    if (::fcntl(pipe->helpers.number(), F_SETPIPE_SZ, 1) < 0) return call_failed(Step::deliver);
    return Outcome{.file = DeliverableFile::made_here(std::move(pipe->peers)),
                   .background = std::make_unique<Watch>(context, grant, std::move(*events),
                                                         std::move(pipe->helpers), *first)};
}

}  // namespace fdbroker::opener
