// SPDX-License-Identifier: MIT
// A request that holds up its helper, or that its helper serves in the background.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "policy/matching/policy.hpp"

namespace fdbroker::opener {

struct HeldUp {
    std::uint32_t uid = 0;
    const policy::Rule* rule = nullptr;  // that granted it
    std::string path{};
    std::chrono::steady_clock::time_point since{};  // when the helper was given it
};

}  // namespace fdbroker::opener
