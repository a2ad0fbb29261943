// SPDX-License-Identifier: MIT
// A peer's connection: receives its messages, sends the replies that Service::delivery has gathered, and parks them where
// the peer does not read.
#pragma once

#include <cstddef>
#include <deque>
#include <span>
#include <utility>

#include "opener/broker/service.hpp"
#include "opener/link/inflight_log.hpp"
#include "opener/quota/user_quota.hpp"
#include "opener/request/delivery.hpp"
#include "proto/error.hpp"
#include "proto/message.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class PeerConnection {
  public:
    // Counts among the user's from here on until it is destroyed.
    PeerConnection(Service& service, ConnectionId id, proto::UniqueFd socket, UserQuota& quota);
    PeerConnection(const PeerConnection&) = delete;
    PeerConnection& operator=(const PeerConnection&) = delete;
    ~PeerConnection();

    ConnectionId id() const noexcept { return id_; }
    proto::BorrowedFd socket() const noexcept { return socket_.borrow(); }
    UserQuota& quota() const noexcept { return quota_; }

    // The next message, where one is there. It is in the in-flight log until InflightLog::end_intake().
    proto::Result<std::span<const std::byte>> receive();
    // The peer's further sends fail with EPIPE; messages already sent stay readable.
    void receive_no_more() noexcept;
    // Whether the peer has closed its end, not only for sending.
    bool has_hung_up() const noexcept;

    // Notes a request whose reply is going to be gathered, and must fit.
    void note(std::uint32_t id) {
        if (entry_ == nullptr) acquire_entry();
        InflightLog::note(*entry_, id);
    }
    // Whether so many replies more fit the message that is being gathered.
    bool fits(std::size_t requests) const noexcept;
    // No reply was gathered: helpers have what was noted.
    void release_entry() noexcept {
        if (entry_ != nullptr) InflightLog::release(*std::exchange(entry_, nullptr));
    }
    // Sends what was gathered; parks it where that must wait, if only for others (has_parked()).
    proto::Result<void> send();
    // Gathered replies wait behind those that wait there already, without the entry of the in-flight log.
    void park();
    bool has_parked() const noexcept { return !parked_.empty(); }
    // Sends what is parked, as far as the peer has read.
    proto::Result<void> flush();

    // Whether there is anything that the peer has not read.
    bool has_unread() const noexcept;
    // Descriptors that are on their way to this peer because it has not read them; an upper bound until all are read.
    std::size_t unread_descriptors();
    std::size_t unread_at_most() const noexcept { return unread_; }
    void count_unread(std::size_t descriptors) noexcept;
    // Whether the peer has read enough to be sent more.
    bool may_be_sent_more();

    // Tells the peer that it is over. Nothing is parked or noted any more.
    void close() noexcept;
    // The next generation has it, and answers what is parked and noted.
    void hand_over() noexcept;

    // Above this the peer is not read until it has taken what is there: two full replies.
    static constexpr std::size_t max_unread_descriptors = 2 * proto::max_requests;

  private:
    bool has_read_all();
    void acquire_entry();

    Service& service_;
    ConnectionId id_;
    proto::UniqueFd socket_;
    UserQuota& quota_;
    InflightEntry* entry_ = nullptr;  // holds the requests whose replies are being gathered
    std::deque<ParkedReplies> parked_{};
    std::size_t unread_ = 0;  // descriptors sent since the peer was last seen to have read everything
};

}  // namespace fdbroker::opener
