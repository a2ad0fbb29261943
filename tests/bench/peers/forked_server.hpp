// SPDX-License-Identifier: MIT
// A child process that serves one end of a socket pair for as long as the object lives.
#pragma once

#include <sys/types.h>

#include <functional>

#include "proto/unique_fd.hpp"

namespace fdbroker::bench {

class ForkedServer {
  public:
    // `serve` runs in the child with the server's end, and the child ends when it returns. The child is killed with the
    // object. `type`: SOCK_SEQPACKET, SOCK_STREAM or SOCK_DGRAM. Throws std::system_error.
    ForkedServer(int type, const std::function<void(int socket)>& serve);
    ForkedServer(const ForkedServer&) = delete;
    ForkedServer& operator=(const ForkedServer&) = delete;
    ~ForkedServer();

    int socket() const noexcept { return socket_.number(); }

  private:
    proto::UniqueFd socket_{};
    pid_t pid_ = -1;
};

// Throws std::system_error with errno.
[[noreturn]] void fail(const char* what);

// Asks every millisecond until `holds` is true. Throws std::runtime_error after five seconds, naming `what`.
void wait_until(const char* what, const std::function<bool()>& holds);

// Sends and receives a message of one byte with a descriptor. Both throw std::system_error, received_descriptor() also
// std::runtime_error where no descriptor came.
void send_byte(int socket, int descriptor);
proto::UniqueFd received_descriptor(int socket);

}  // namespace fdbroker::bench
