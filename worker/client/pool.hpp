// SPDX-License-Identifier: MIT
// Connections that threads and forked children take turns with.
//
// Robust mutexes (pthread_mutexattr_setrobust(3)) in memory that all children share tell who has which connection. So a
// process or thread that ends with one gives it back. Children inherit the sockets. Everything else of a connection each
// process has for itself. An answer that another process did not wait for has an unknown id, and is thrown away.
#pragma once

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/client/connections.hpp"

namespace fdbroker::worker {

class Pool final : public AfterFork {
  public:
    // More would be no pool. Each takes a descriptor, and 200 KB of address space in each process that uses it.
    static constexpr unsigned most = 1024;

    // Null: a negative errno in `error`.
    static std::unique_ptr<Pool> make(const char* address, unsigned count, unsigned flags, int& error);
    ~Pool() override;
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // Waits until one is free, at most that many milliseconds (negative: without end). ETIMEDOUT: none was.
    int get(fdbroker_handle** broker, int timeout);
    // EINVAL: it is none of this pool's, or not taken; EPERM: another thread has taken it.
    int put(fdbroker_handle* broker);

    void forked() noexcept override;
    std::vector<proto::BorrowedFd> descriptors() const override;

  private:
    struct Slot {
        pthread_mutex_t mutex;
    };
    // At the beginning of the shared memory; the slots follow.
    struct Shared {
        std::atomic<std::uint32_t> returned;  // a futex: counts what was put back
        std::atomic<std::uint32_t> waiting;
    };
    // The part of a connection that each process has for itself. Whoever has the slot's mutex has it.
    struct Own {
        int socket = -1;
        std::unique_ptr<fdbroker_handle> handle{};
        bool is_inherited = false;  // the handle is the parent's
    };

    Pool() = default;
    static std::size_t size_for(unsigned count) { return sizeof(Shared) + count * sizeof(Slot); }
    Slot& slot(std::size_t index) const {
        return reinterpret_cast<Slot*>(static_cast<char*>(memory_) + sizeof(Shared))[index];
    }
    Shared& shared() const { return *static_cast<Shared*>(memory_); }
    int share_memory(unsigned count);
    // The index of one that this thread has now; negative: all are taken.
    int take_one();
    int prepare(Own& own);
    void wait(std::uint32_t seen, int milliseconds);

    void* memory_ = MAP_FAILED;
    std::vector<Own> own_{};
    std::vector<std::unique_ptr<fdbroker_handle>>
        left_{};  // handles of the parent's that callers may still have
    pthread_mutex_t left_mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

}  // namespace fdbroker::worker
