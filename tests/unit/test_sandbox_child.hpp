// SPDX-License-Identifier: MIT
// A forked child of a test that tries something and tells by its exit status how that went.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <iostream>

#include "worker/sandbox/child.hpp"

namespace fdbroker::test {

using worker::errno_of;

inline constexpr int by_signal = 1000;

// 0: it worked; else the errno it failed with, or by_signal + the signal that ended it.
inline int in_child(const std::function<int()>& body) {
    std::cout.flush();
    const auto ending = worker::try_in_child(body);
    REQUIRE(ending.has_value());
    return ending->signal != 0 ? by_signal + ending->signal : ending->error;
}

}  // namespace fdbroker::test
