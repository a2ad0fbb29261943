// SPDX-License-Identifier: MIT
// Landlock (landlock(7)) by its system calls: the C library has no wrappers.
#pragma once

#include <cstdint>
#include <span>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::worker {

// The ABI version of this kernel, 1 and above. ENOSYS: built without; EOPNOTSUPP: not enabled at boot; EPERM: a
// seccomp filter forbids it.
proto::Result<int> landlock_abi();

// Rights at a file or at everything below a directory, by the bits of include/uapi/linux/landlock.h.
namespace landlock {
inline constexpr std::uint64_t execute = 1 << 0;
inline constexpr std::uint64_t write_file = 1 << 1;
inline constexpr std::uint64_t read_file = 1 << 2;
inline constexpr std::uint64_t read_directory = 1 << 3;
inline constexpr std::uint64_t remove_directory = 1 << 4;
inline constexpr std::uint64_t remove_file = 1 << 5;
inline constexpr std::uint64_t make_directory = 1 << 7;
inline constexpr std::uint64_t make_regular = 1 << 8;
inline constexpr std::uint64_t make_symlink = 1 << 12;
inline constexpr std::uint64_t refer = 1 << 13;         // ABI 2
inline constexpr std::uint64_t truncate = 1 << 14;      // ABI 3
inline constexpr std::uint64_t ioctl_device = 1 << 15;  // ABI 5
inline constexpr std::uint64_t everything = (1 << 16) - 1;
}  // namespace landlock

struct LandlockRule {
    proto::BorrowedFd place{};  // a file or a directory; O_PATH will do
    std::uint64_t rights = 0;   // those that the ABI does not know are left out
};
enum class Network { none, unrestricted };  // TCP (ABI 4)
enum class Scopes {
    none,
    sockets_and_signals
};  // abstract sockets of, and signals to, processes outside (ABI 6)

// Takes every right that `abi` knows, but those of `rules`, from the calling thread and what it starts. Needs no_new_privs.
proto::Result<void> restrict_by_landlock(int abi, std::span<const LandlockRule> rules, Network network,
                                         Scopes scopes = Scopes::sockets_and_signals);

}  // namespace fdbroker::worker
