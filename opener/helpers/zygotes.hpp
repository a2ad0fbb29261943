// SPDX-License-Identifier: MIT
// The broker's channels to zygotes (zygote.hpp), and the helpers that it has ordered. The last zygote is used, the others are
// in reserve; all are watched, so that the next one is known to be there.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class Zygotes {
  public:
    using Clock = std::chrono::steady_clock;

    // May not call from within, but for pause().
    class Owner {
      public:
        // A helper was made; the channel is the broker's end.
        virtual void helper_made(proto::UniqueFd channel) = 0;
        // An order has failed.
        virtual void helper_not_made() = 0;
        // Orders to this zygote are forgotten. With the last one no helper can be made any more.
        virtual void zygote_ended() = 0;

      protected:
        ~Owner() = default;
    };

    // Both outlive the object.
    Zygotes(EventLoop& loop, Owner& owner) noexcept : loop_(loop), owner_(owner) {}
    Zygotes(const Zygotes&) = delete;
    Zygotes& operator=(const Zygotes&) = delete;

    proto::Result<void> add(proto::UniqueFd channel);
    bool empty() const noexcept { return zygotes_.empty(); }
    std::size_t count() const noexcept { return zygotes_.size(); }

    // Orders helpers until so many are on their way.
    void order(std::size_t wanted);
    // Helpers on their way.
    std::size_t ordered() const noexcept { return ordered_; }
    // Nothing is ordered for helper_order_interval.
    void pause() noexcept;
    // The end of the pause, until the next order.
    const std::optional<Clock::time_point>& paused_until() const noexcept { return paused_until_; }

  private:
    struct Zygote {
        proto::UniqueFd channel{};
        Source source{};  // watches the channel; ends before that is closed or replaced
    };

    void hear();
    void hear(std::size_t index);
    void end(std::size_t index);

    EventLoop& loop_;
    Owner& owner_;
    std::vector<Zygote> zygotes_{};
    std::size_t ordered_ = 0;
    std::optional<Clock::time_point> paused_until_{};
};

}  // namespace fdbroker::opener
