// SPDX-License-Identifier: MIT
// Ways for two processes to exchange messages, each as a round trip: a message there, one byte back.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace fdbroker::bench {

// Where the answering process runs.
enum class Answerer { same_cpu, other_cpu };

class Channel {
  public:
    virtual ~Channel() = default;
    // Sends a message and waits for the answer. Throws std::system_error.
    virtual void round_trip() = 0;
};

struct ChannelKind {
    std::string name;
    // A child answers messages of `size` bytes until the channel goes; it calls `place` first. Throws std::system_error.
    std::function<std::unique_ptr<Channel>(std::size_t size, const std::function<void()>& place)> open;
};

// Every kind: pipe, FIFO, the types of Unix sockets (with and without a descriptor in the answer), TCP over loopback, and
// shared memory with a futex. `directory` is for the FIFOs.
std::vector<ChannelKind> channel_kinds(const std::string& directory);

}  // namespace fdbroker::bench
