// A generation as its supervisor sees it: the process, the link to it with what that has no room for yet, its journal.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "opener/audit_sink.hpp"
#include "opener/broker.hpp"
#include "opener/connection_table.hpp"
#include "opener/event_loop.hpp"
#include "opener/journal.hpp"
#include "opener/link.hpp"
#include "proto/error.hpp"

namespace fdbroker::opener {

class Generation {
  public:
    // Forks it. Its link is watched by `loop`, whose events about it bear `tag`; `connections` has what the messages
    // that adopt them refer to. Both must outlive it.
    static proto::Result<std::unique_ptr<Generation>> start(GenerationOrders orders,
                                                            ConnectionTable& connections, EventLoop& loop,
                                                            void* tag);

    Generation(const Generation&) = delete;
    Generation& operator=(const Generation&) = delete;
    ~Generation() { loop_.remove(link_.descriptor()); }

    std::uint32_t number() const noexcept { return number_; }
    bool is(pid_t pid) const noexcept { return pid == pid_; }
    void kill() const noexcept;
    // It has been reaped: its pid may be another's.
    void reaped() noexcept { pid_ = 0; }
    std::chrono::steady_clock::duration age() const noexcept {
        return std::chrono::steady_clock::now() - since_;
    }
    // From now on events about it bear `tag`, and its age counts.
    void activated(void* tag);

    // Queues a message, and sends what the link has room for. Never waits: what is left goes when epoll tells of room.
    void post(const LinkMessage& message);
    void queue(const LinkMessage& message) { outbox_.push_back(message); }
    void send_queued();
    bool has_queued() const noexcept { return !outbox_.empty(); }

    // As Link::receive(). After an error there is nothing more to hear: it has ended, or behaves as only one that was
    // taken over does, and is killed; SIGCHLD tells the rest.
    std::optional<Link::Received> receive();

    // What it may be asked to hold, as it said when it was ready.
    struct Limits {
        unsigned connections_per_uid = 0;
        unsigned connections_total = 0;
        AuditRotation rotation{};
    };
    const std::optional<Limits>& limits() const noexcept { return limits_; }  // nullopt: not ready yet
    void ready(const Limits& limits) noexcept { limits_ = limits; }

    Journal& journal() noexcept { return *journal_; }
    // For the time after it.
    std::unique_ptr<Journal> take_journal() noexcept { return std::move(journal_); }

  private:
    Generation(std::uint32_t number, Link link, std::unique_ptr<Journal> journal,
               ConnectionTable& connections, EventLoop& loop, void* tag)
        : number_(number),
          link_(std::move(link)),
          journal_(std::move(journal)),
          connections_(connections),
          loop_(loop),
          tag_(tag) {}

    std::uint32_t number_;
    pid_t pid_ = 0;  // 0: not running
    Link link_;
    std::unique_ptr<Journal> journal_;
    ConnectionTable& connections_;
    EventLoop& loop_;
    void* tag_;
    std::optional<Limits> limits_{};
    std::chrono::steady_clock::time_point since_{};
    std::deque<LinkMessage> outbox_{};  // what its link had no room for yet, oldest first
    bool link_is_full_ = false;
};

}  // namespace fdbroker::opener
