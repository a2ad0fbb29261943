// SPDX-License-Identifier: MIT
// B: the barest broker there can be, what every cost is measured against. A path goes in, a descriptor comes out,
// over one SOCK_SEQPACKET socket; no policy, no check, no framing.
#pragma once

#include <sys/types.h>

#include "proto/unique_fd.hpp"

namespace fdbroker::bench {

class BarestBroker {
  public:
    // Forks the broker, which serves until the object goes.
    BarestBroker();
    BarestBroker(const BarestBroker&) = delete;
    BarestBroker& operator=(const BarestBroker&) = delete;
    ~BarestBroker();

    // Aborts the benchmark when it fails.
    proto::UniqueFd open(const char* path) const;

  private:
    proto::UniqueFd socket_{};
    pid_t pid_ = -1;
};

}  // namespace fdbroker::bench
