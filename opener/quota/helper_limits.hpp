// SPDX-License-Identifier: MIT
// How much of everything helpers may take. Users share each number by one rule (fair_share.hpp).
#pragma once

#include <chrono>
#include <cstddef>

#include "opener/quota/fair_share.hpp"

namespace fdbroker::opener {

// Processes. What is above these waits for one to come back. A helper that hangs cannot be made to give way, since the
// kernel holds it: there are as many as 256 users can hang.
inline constexpr std::size_t max_helpers = 1024;
inline constexpr std::size_t max_helpers_of_user = 4;
// That have nothing to do and are kept for whoever comes next.
inline constexpr std::size_t max_idle_helpers = 4;

// Processes that stay with what a request has left going on: a stream, a put, a watch. They count with the others until its
// reply has left, and then only here. What is above these is answered EAGAIN. For a user who has none, one of them gives way:
// of the user who has most, the one that has rested for longest.
// inotify(7): the kernel lets a uid, here the broker's, have 128 instances by default, and each watch takes one.
inline constexpr std::size_t max_background_helpers_of_user = 14;
inline constexpr std::size_t max_background_helpers = total_for(max_background_helpers_of_user);

// Requests that wait for a helper or are with one. What is above these is answered EAGAIN at once. For a user who has
// none, some that were not begun give way, of the user who has most.
inline constexpr std::size_t max_helper_requests_of_user = 1024;
inline constexpr std::size_t max_helper_requests = total_for(max_helper_requests_of_user);
// Requests of such users, until others have given way.
inline constexpr std::size_t max_requests_of_newcomers = 1024;

// How long a helper tries to get a reply into a connection whose peer does not read. After that the session ends.
inline constexpr std::chrono::milliseconds helper_delivery_timeout{1000};
// How long until the helper must have told how that went: on a busy machine it also waits for a CPU. After that the peer is
// told that the outcome is unknown, and may hear of it all the same.
inline constexpr std::chrono::milliseconds helper_delivery_report_timeout{10'000};
// How long until a zygote that could make no helper is asked for one again.
inline constexpr std::chrono::milliseconds helper_order_interval{100};
// How long closing what was delivered may take before the helper counts as stuck.
inline constexpr std::chrono::milliseconds helper_close_timeout{1000};
// How often a helper tells that something goes through its stream.
inline constexpr std::chrono::milliseconds helper_moved_interval{1000};

}  // namespace fdbroker::opener
