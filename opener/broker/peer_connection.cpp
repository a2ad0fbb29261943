// SPDX-License-Identifier: MIT
#include "opener/broker/peer_connection.hpp"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::Result;

namespace {

// Later it may go: the peer must read, or others must, whose unread descriptors the kernel counts together with these.
bool must_wait(const proto::Error& error) noexcept {
    return error.kind == proto::ErrorKind::system &&
           (error.errno_value == EAGAIN || error.errno_value == ETOOMANYREFS);
}

}  // namespace

PeerConnection::PeerConnection(Service& service, ConnectionId id, proto::UniqueFd socket, UserQuota& quota)
    : service_(service), id_(id), socket_(std::move(socket)), quota_(quota) {
    service_.quotas.session_began(quota_);
}

PeerConnection::~PeerConnection() {
    service_.quotas.taken(quota_, unread_);
    service_.quotas.session_ended(quota_);
}

Result<std::span<const std::byte>> PeerConnection::receive() {
    return proto::receive(socket_.borrow(), service_.inflight.begin_intake(id_), proto::Wait::never);
}

void PeerConnection::receive_no_more() noexcept {
    ::shutdown(socket_.number(), SHUT_RD);
}

bool PeerConnection::has_hung_up() const noexcept {
    pollfd event{socket_.number(), 0, 0};
    return ::poll(&event, 1, 0) == 1 && (event.revents & POLLHUP) != 0;
}

// ---- replies -------------------------------------------------------------------------------------------

bool PeerConnection::fits(std::size_t requests) const noexcept {
    // A message of replies holds as many as a message of requests, each with the longest reason; and so does an entry.
    const std::size_t noted = entry_ == nullptr ? 0 : entry_->count.load(std::memory_order_relaxed);
    return noted + requests <= proto::max_requests && service_.delivery.has_room_for(requests);
}

void PeerConnection::acquire_entry() {
    entry_ = service_.inflight.acquire(id_);
    if (entry_ == nullptr) std::abort();  // the broker keeps fewer replies parked than there are entries
}

Result<void> PeerConnection::send() {
    Delivery& delivery = service_.delivery;
    auto sent = delivery.send(socket_.borrow());
    service_.request_services.metrics.done(proto::Step::deliver);
    service_.request_services.metrics.end();
    if (!sent && must_wait(sent.error())) {
        parked_.push_back(delivery.park(std::exchange(entry_, nullptr)));
        sent = {};
        return sent;
    }
    if (sent) count_unread(delivery.descriptor_count());
    delivery.clear();
    if (sent) release_entry();
    return sent;
}

void PeerConnection::park() {
    parked_.push_back(service_.delivery.park(nullptr));
}

Result<void> PeerConnection::flush() {
    for (; !parked_.empty(); parked_.pop_front()) {
        const ParkedReplies& replies = parked_.front();
        if (auto sent = opener::send(socket_.borrow(), replies); !sent)
            return must_wait(sent.error()) ? Result<void>() : sent;
        count_unread(replies.files.size());
        if (replies.entry != nullptr) InflightLog::release(*replies.entry);
    }
    return {};
}

// ---- what the peer has not read ------------------------------------------------------------------------

bool PeerConnection::has_unread() const noexcept {
    int bytes = 0;
    // unix(7): what the other end has not received yet, as the kernel accounts for it. While a message is being taken off
    // the queue a byte or two may linger; a message is hundreds.
    return ::ioctl(socket_.number(), SIOCOUTQ, &bytes) != 0 || bytes > 64;
}

bool PeerConnection::has_read_all() {
    if (has_unread()) return false;
    service_.quotas.taken(quota_, std::exchange(unread_, 0));
    return true;
}

std::size_t PeerConnection::unread_descriptors() {
    if (unread_ != 0) has_read_all();
    return unread_;
}

bool PeerConnection::may_be_sent_more() {
    if (unread_ <= max_unread_descriptors && service_.quotas.may_send_more(quota_)) return true;
    return has_read_all() && service_.quotas.may_send_more(quota_);
}

void PeerConnection::count_unread(std::size_t descriptors) noexcept {
    unread_ += descriptors;
    service_.quotas.sent(quota_, descriptors);
}

// ---- the end -------------------------------------------------------------------------------------------

void PeerConnection::close() noexcept {
    // The supervisor holds a duplicate, so closing alone would not tell the peer.
    ::shutdown(socket_.number(), SHUT_RDWR);
    for (const ParkedReplies& replies : parked_) {
        if (replies.entry != nullptr) InflightLog::release(*replies.entry);
    }
    parked_.clear();
    release_entry();
}

void PeerConnection::hand_over() noexcept {
    parked_.clear();
    entry_ = nullptr;
}

}  // namespace fdbroker::opener
