// SPDX-License-Identifier: MIT
#include "worker/run/identities.hpp"

#include <array>
#include <cstddef>
#include <cstring>
#include <span>

#include "proto/channel.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::UniqueFd;
using proto::Wait;

constexpr std::size_t most_known = 65536;

}  // namespace

std::optional<Owner> Identities::known_owner_of(const struct stat& status) const {
    const auto found = known_.find(key_of(status));
    return found == known_.end() ? std::nullopt : std::optional(found->second);
}

Owner Identities::ask_for_owner(const struct stat& status, BorrowedFd file) {
    const Owner shown{status.st_uid, status.st_gid};
    // A descriptor of the program may lead to another file by now.
    struct stat found;
    if (::fstat(file.number(), &found) != 0 || key_of(found) != key_of(status)) return shown;
    constexpr std::array question{std::byte{'?'}};
    if (!proto::send(outside_, question, std::span(&file, 1), Wait::block)) return shown;
    std::array<std::byte, sizeof(Owner)> bytes;
    auto answer = proto::receive(outside_, bytes, Wait::block);
    for (; answer && answer->size() == 1; answer = proto::receive(outside_, bytes, Wait::block))
        pass_on_(std::to_integer<int>(bytes[0]));
    if (!answer || answer->size() != sizeof(Owner)) return shown;
    Owner owner;
    std::memcpy(&owner, answer->data(), sizeof owner);
    if (known_.size() >= most_known) known_.clear();
    known_.insert_or_assign(key_of(status), owner);
    return owner;
}

Served serve_identity(BorrowedFd inside, std::span<std::byte> message, std::size_t& size) {
    proto::ReceivedDescriptors files;
    const auto received = proto::receive(inside, message, files, Wait::never, proto::FullTable::fail);
    if (!received) return proto::would_block(received.error()) ? Served::question : Served::over;
    size = received->size();
    if (files.count() != 1) return Served::other;
    const UniqueFd file = files.take(0);
    Owner owner{.uid = overflow_id, .gid = overflow_id};
    struct stat status;
    if (::fstat(file.number(), &status) == 0) owner = {status.st_uid, status.st_gid};
    const auto bytes = std::as_bytes(std::span(&owner, 1));
    return proto::send(inside, bytes, {}, Wait::block) ? Served::question : Served::over;
}

}  // namespace fdbroker::worker
