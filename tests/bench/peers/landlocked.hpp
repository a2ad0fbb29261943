// SPDX-License-Identifier: MIT
// Opens under Landlock in the process itself: the way that no broker beats.
#pragma once

#include <string>
#include <vector>

#include "tests/bench/peers/forked_server.hpp"

namespace fdbroker::bench {

// Opens of one round: so many that the wake-up of the child does not count.
inline constexpr unsigned opens_in_child = 4000;

enum class Restriction { none, landlock };

// A child that opens files itself, restricted to `data` by Landlock or not at all.
class OpeningChild {
  public:
    // Throws std::system_error; run() does where the kernel has no Landlock.
    OpeningChild(const std::vector<std::string>& paths, const std::string& data, Restriction restriction);
    // opens_in_child opens.
    void run();

  private:
    ForkedServer server_;
};

}  // namespace fdbroker::bench
