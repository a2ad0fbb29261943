// SPDX-License-Identifier: MIT
// A seccomp filter carried out here instead of in the kernel, to tell what it would do with a call.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdint>
#include <span>

namespace fdbroker::worker {

// The filter's verdict, SECCOMP_RET_* with its data. What no filter of seccomp(2) may hold ends it as SECCOMP_RET_KILL_PROCESS.
std::uint32_t run_filter(std::span<const sock_filter> program, const seccomp_data& call) noexcept;

}  // namespace fdbroker::worker
