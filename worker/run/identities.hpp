// SPDX-License-Identifier: MIT
// Owners of files, as they are outside the user namespace of a program under `worker run`: inside, the kernel shows all
// but the user's own as the overflow ids. A process outside looks at the file's descriptor and tells.
#pragma once

#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "proto/unique_fd.hpp"
#include "worker/run/target.hpp"

namespace fdbroker::worker {

// DEFAULT_OVERFLOWUID of the kernel. /proc/sys/kernel/overflowuid may say otherwise; nobody's does.
inline constexpr unsigned overflow_id = 65534;

struct Owner {
    uid_t uid = 0;
    gid_t gid = 0;
};

// Inside.
class Identities {
  public:
    // `outside`: a connection to the process that runs serve_identity(); -1: owners stay as they are shown. That process
    // sends signals as well, of one byte each: `pass_on` is given those that come before an answer.
    Identities(proto::BorrowedFd outside, std::function<void(int signal)> pass_on)
        : outside_(outside), pass_on_(std::move(pass_on)) {}
    // Whether an id of the status may stand for another one.
    bool is_hidden(const struct stat& status) const {
        return status.st_uid == overflow_id || status.st_gid == overflow_id;
    }
    // The true owner of the file, whose status is at hand; nullopt: not known yet.
    std::optional<Owner> known_owner_of(const struct stat& status) const;
    // The same, asked for. An owner is known until the file changes.
    Owner ask_for_owner(const struct stat& status, proto::BorrowedFd file);

  private:
    using Key = std::tuple<dev_t, ino_t, time_t, long>;
    static Key key_of(const struct stat& status) {
        return {status.st_dev, status.st_ino, status.st_ctim.tv_sec, status.st_ctim.tv_nsec};
    }

    proto::BorrowedFd outside_;
    std::function<void(int signal)> pass_on_;
    std::map<Key, Owner> known_{};
};

// Outside: takes one message.
enum class Served : std::uint8_t {
    question,  // answered, or nothing came
    other,     // a message without a file
    over,      // the connection is
};
// `size`: of another message, which is in `message`.
Served serve_identity(proto::BorrowedFd inside, std::span<std::byte> message, std::size_t& size);

}  // namespace fdbroker::worker
