// SPDX-License-Identifier: MIT
#include "opener/request/delivery.hpp"

#include <memory>
#include <utility>

#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;

namespace {

union Descriptors {
    Descriptors() noexcept {}
    BorrowedFd all[proto::max_requests];
};

Result<void> send_with(BorrowedFd socket, std::span<const std::byte> message,
                       std::span<const DeliverableFile> files) {
    // Most messages have one file: memory for the most is neither cleared nor filled with descriptors that are none.
    __attribute__((uninitialized)) Descriptors descriptors;
    for (std::size_t i = 0; i < files.size(); ++i)
        std::construct_at(&descriptors.all[i], files[i].descriptor());
    return proto::send(socket, message, std::span(descriptors.all).first(files.size()), proto::Wait::never);
}

}  // namespace

Delivery::Delivery() : buffer_(proto::max_message_size), writer_(buffer_) {
    files_.reserve(proto::max_requests);
}

bool Delivery::has_room_for(std::size_t replies) const noexcept {
    return count() + replies <= proto::max_requests && writer_.room() >= replies * proto::max_plain_reply;
}

std::size_t Delivery::payload_room(std::size_t others) const noexcept {
    // A reply with a payload has no reason, and is padded to 4 bytes.
    const std::size_t fixed =
        proto::max_plain_reply - proto::max_reason_length + others * proto::max_plain_reply;
    return (writer_.room() - fixed) / 4 * 4;
}

void Delivery::add(std::uint32_t id, Outcome&& outcome, const Recorded& recorded) {
    if (!recorded.may_leave)
        return add_refusal(id, 0, EIO, proto::Step::record, "the decision could not be put on record");
    if (!outcome.is_done())
        return add_refusal(id, recorded.sequence, outcome.errno_value, outcome.step, outcome.reason);
    const bool added = writer_.add(proto::Reply{.id = id,
                                                .has_descriptor = outcome.file.has_value(),
                                                .record = recorded.sequence,
                                                .payload = outcome.payload});
    if (!added)
        std::abort();  // max_requests replies with the longest reasons fit; more is a bug of the caller's
    if (outcome.file) files_.push_back(std::move(*outcome.file));
}

void Delivery::add_refusal(std::uint32_t id, std::uint64_t record, int errno_value, proto::Step step,
                           std::string_view reason) {
    const bool added = writer_.add(
        proto::Reply{.id = id, .status = errno_value, .step = step, .record = record, .reason = reason});
    if (!added) std::abort();
}

Result<void> Delivery::send(BorrowedFd socket) const {
    return send_with(socket, writer_.message(), files_);
}

ParkedReplies Delivery::park(InflightEntry* entry) {
    ParkedReplies parked;
    const auto message = writer_.message();
    parked.message.assign(message.begin(), message.end());
    parked.files = std::exchange(files_, {});
    parked.entry = entry;
    files_.reserve(proto::max_requests);
    writer_.clear();
    return parked;
}

void Delivery::clear() noexcept {
    files_.clear();
    writer_.clear();
}

Result<void> send(BorrowedFd socket, const ParkedReplies& replies) {
    return send_with(socket, replies.message, replies.files);
}

}  // namespace fdbroker::opener
