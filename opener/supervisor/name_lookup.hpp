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
#include <map>
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

    // Forks the service. `tag` marks its events in `loop`. Both must outlive this.
    static proto::Result<NameLookup> start(const Options& options, EventLoop& loop, void* tag);
    NameLookup(NameLookup&& other) noexcept = default;
    NameLookup& operator=(NameLookup&&) = delete;
    ~NameLookup();

    // The answer where it is at hand; else the connection waits for it.
    std::optional<NameAnswer> find(ConnectionId asker, const NameQuestion& question, Clock::time_point now);

    struct Settled {
        NameAnswer answer{};
        std::vector<ConnectionId> askers{};
    };
    // What the service has said meanwhile, and what is unanswered by now.
    std::vector<Settled> take(Clock::time_point now);
    // When take() has something to do that no event tells of.
    std::optional<Clock::time_point> due() const noexcept;
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

    NameLookup(const Options& options, EventLoop& loop, void* tag) noexcept
        : options_(options), loop_(loop), tag_(tag) {}
    proto::Result<void> start_service(Clock::time_point now);
    void replace_service(Clock::time_point now);
    void ask(const NameQuestion& question) const;
    void keep(const NameAnswer& answer, Clock::time_point now);

    const Options& options_;
    EventLoop& loop_;
    void* tag_;
    proto::UniqueFd service_{};           // empty: it has ended
    Clock::time_point start_again_at_{};  // not before
    std::map<NameQuestion, Asked> asked_{};
    std::map<NameQuestion, Kept> kept_{};
};

}  // namespace fdbroker::opener
