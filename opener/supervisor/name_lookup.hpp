// SPDX-License-Identifier: MIT
// The names of those who connect, by their numbers, as the account database has them at that moment.
//
// A process without privileges, the name service, makes others that ask the database (getpwuid(3), getgrgid(3)), each for
// one peer at a time. One that the database keeps waiting is left behind. The supervisor asks the service by messages of
// one size and never waits: what has not come within max_wait is unanswered.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "opener/base/event_loop.hpp"
#include "opener/config/options.hpp"
#include "opener/identity/peer_names.hpp"
#include "opener/link/link.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

struct NameQuestion {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    auto operator<=>(const NameQuestion&) const = default;
};

struct NameAnswer {
    NameQuestion question{};
    bool answered = false;  // by the database; else there are no names
    PeerNames names{};
};

class NameLookup {
  public:
    using Clock = std::chrono::steady_clock;
    // As long as a connection waits for its names, and an answer is good for further connections.
    static constexpr std::chrono::milliseconds max_wait{2'000};
    static constexpr std::chrono::milliseconds max_age{2'000};

    // Forks the service. `settled` is called when take() has something to do. `options` and `loop` outlive this.
    static proto::Result<std::unique_ptr<NameLookup>> start(const Options& options, EventLoop& loop,
                                                            std::function<void()> settled);
    NameLookup(const NameLookup&) = delete;
    NameLookup& operator=(const NameLookup&) = delete;

    // The answer where it is at hand; else the connection waits for it.
    std::optional<NameAnswer> find(ConnectionId asker, const NameQuestion& question, Clock::time_point now);

    struct Settled {
        NameAnswer answer{};
        std::vector<ConnectionId> askers{};
    };
    // Answers that have come meanwhile, and questions that are unanswered by now.
    std::vector<Settled> take(Clock::time_point now);
    // Whether no connection waits.
    bool idle() const noexcept { return asked_.empty(); }

  private:
    struct Asked {
        Clock::time_point until;
        std::vector<ConnectionId> askers{};
    };
    struct Kept {
        Clock::time_point until;
        NameAnswer answer{};
    };

    NameLookup(const Options& options, EventLoop& loop, std::function<void()> settled)
        : options_(options),
          loop_(loop),
          settled_(std::move(settled)),
          due_(loop.timer([this](Clock::time_point) { settled_(); })) {}
    proto::Result<void> start_service(Clock::time_point now);
    void replace_service(Clock::time_point now);
    void ask(const NameQuestion& question) const;
    void schedule();
    void keep(const NameAnswer& answer, Clock::time_point now);

    const Options& options_;
    EventLoop& loop_;
    std::function<void()> settled_;
    Timer due_;                           // when take() has work although nothing is heard
    proto::UniqueFd service_{};           // empty: it has ended
    Source source_{};                     // the service's
    Clock::time_point start_again_at_{};  // not before
    std::map<NameQuestion, Asked> asked_{};
    std::map<NameQuestion, Kept> kept_{};
};

}  // namespace fdbroker::opener
