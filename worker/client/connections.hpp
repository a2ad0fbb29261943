// SPDX-License-Identifier: MIT
// All connections of this process, for fork(3) and for closing all other descriptors.
#pragma once

#include <mutex>
#include <vector>

#include "proto/unique_fd.hpp"
#include "worker/client/handle.hpp"

namespace fdbroker::worker {

// A pool, whose connections children go on with after fork(3).
class AfterFork {
  public:
    virtual ~AfterFork() = default;
    // In the child, whose only thread is this one: before connections are abandoned. Safe in a signal handler.
    virtual void forked() noexcept = 0;
    // The descriptors that stay open when all others are closed.
    virtual std::vector<proto::BorrowedFd> descriptors() const = 0;
};

class Connections {
  public:
    static Connections& all();

    void add(fdbroker_handle& broker);
    void remove(fdbroker_handle& broker) noexcept;
    void add(AfterFork& pool);
    void remove(AfterFork& pool) noexcept;
    bool has_socket(int number);
    std::vector<proto::BorrowedFd> descriptors();

  private:
    Connections();

    static void before_fork();
    static void after_fork_in_parent();
    static void after_fork_in_child();

    std::mutex mutex_;
    std::vector<fdbroker_handle*> list_;
    std::vector<AfterFork*> pools_;
};

}  // namespace fdbroker::worker
