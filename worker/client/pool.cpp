// SPDX-License-Identifier: MIT
#include "worker/client/pool.hpp"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;

// A process that ended with a connection wakes nobody: whoever waits looks again after this many milliseconds.
constexpr int look_again_after = 50;

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value, const timespec* timeout) {
    return ::syscall(SYS_futex, &word, operation, value, timeout, nullptr, 0);
}

int init_mutex(pthread_mutex_t& mutex) {
    pthread_mutexattr_t attributes;
    if (const int error = ::pthread_mutexattr_init(&attributes); error != 0) return error;
    ::pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    const int error = ::pthread_mutex_init(&mutex, &attributes);
    ::pthread_mutexattr_destroy(&attributes);
    return error;
}

}  // namespace

int Pool::share_memory(unsigned count) {
    memory_ = ::mmap(nullptr, size_for(count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) return -errno;
    new (memory_) Shared{};
    for (unsigned index = 0; index < count; ++index)
        if (const int error = init_mutex(slot(index).mutex); error != 0) return -error;
    return 0;
}

std::unique_ptr<Pool> Pool::make(const char* address, unsigned count, unsigned flags, int& error) {
    error = count == 0 || count > most ? -EINVAL : 0;
    std::unique_ptr<Pool> pool(new Pool);
    if (error == 0) error = pool->share_memory(count);
    for (unsigned index = 0; index < count && error == 0; ++index) {
        fdbroker_handle* made = nullptr;
        error = fdbroker_connect_flags(&made, address, flags);
        if (made == nullptr) break;
        // The pool looks after it from now on, in children too.
        Connections::all().remove(*made);
        pool->own_.push_back(
            {.socket = made->connection.socket().number(), .handle = std::unique_ptr<fdbroker_handle>(made)});
    }
    if (error < 0) return nullptr;
    Connections::all().add(*pool);
    return pool;
}

Pool::~Pool() {
    Connections::all().remove(*this);
    for (Own& own : own_)
        if (own.is_inherited) ::close(own.socket);
    if (memory_ != MAP_FAILED) ::munmap(memory_, size_for(static_cast<unsigned>(own_.size())));
}

void Pool::forked() noexcept {
    left_mutex_ = PTHREAD_MUTEX_INITIALIZER;
    for (Own& own : own_) {
        if (!own.is_inherited && !own.handle->connection.is_over()) own.handle->connection.leave_socket();
        own.handle->user.store(0, std::memory_order_relaxed);
        own.is_inherited = true;
    }
}

std::vector<BorrowedFd> Pool::descriptors() const {
    std::vector<BorrowedFd> all;
    for (const Own& own : own_) {
        if (own.is_inherited) {
            all.emplace_back(own.socket);
            continue;
        }
        const auto more = own.handle->connection.descriptors();
        all.insert(all.end(), more.begin(), more.end());
    }
    return all;
}

int Pool::take_one() {
    const std::size_t count = own_.size();
    // Threads begin at different places, and each where it was before.
    static std::atomic<unsigned> next_start{0};
    static thread_local const unsigned start = next_start.fetch_add(1, std::memory_order_relaxed);
    const auto first = start + static_cast<unsigned>(::getpid());
    for (std::size_t step = 0; step < count; ++step) {
        const std::size_t index = (first + step) % count;
        const int error = ::pthread_mutex_trylock(&slot(index).mutex);
        if (error == EOWNERDEAD) {
            ::pthread_mutex_consistent(&slot(index).mutex);
            own_[index].handle->user.store(0);
        }
        if (error == 0 || error == EOWNERDEAD) return static_cast<int>(index);
    }
    return -1;
}

int Pool::prepare(Own& own) {
    if (own.is_inherited) {
        auto fresh = handle_like(*own.handle, own.socket);
        ::pthread_mutex_lock(&left_mutex_);
        left_.push_back(std::move(own.handle));
        ::pthread_mutex_unlock(&left_mutex_);
        own.handle = std::move(fresh);
        own.is_inherited = false;
    }
    if (!own.handle->connection.is_over()) return 0;
    // Only where this process may still connect.
    const int error = fdbroker_reconnect(own.handle.get());
    if (error == 0) own.socket = own.handle->connection.socket().number();
    return error < 0 ? -ECONNRESET : 0;
}

void Pool::wait(std::uint32_t seen, int milliseconds) {
    const timespec timeout{.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1'000'000L};
    shared().waiting.fetch_add(1);
    futex(shared().returned, FUTEX_WAIT, seen, &timeout);
    shared().waiting.fetch_sub(1);
}

int Pool::get(fdbroker_handle** broker, int timeout) {
    const Deadline deadline = deadline_in(timeout);
    for (;;) {
        const std::uint32_t seen = shared().returned.load();
        if (const int index = take_one(); index >= 0) {
            Own& own = own_[static_cast<std::size_t>(index)];
            if (const int error = prepare(own); error < 0) {
                ::pthread_mutex_unlock(&slot(static_cast<std::size_t>(index)).mutex);
                return error;
            }
            *broker = own.handle.get();
            return 0;
        }
        if (has_passed(deadline)) return -ETIMEDOUT;
        const int left = milliseconds_until(deadline);
        wait(seen, left < 0 ? look_again_after : std::min(left, look_again_after));
    }
}

int Pool::put(fdbroker_handle* broker) {
    const auto found = std::ranges::find_if(
        own_, [broker](const Own& own) { return own.handle.get() == broker && !own.is_inherited; });
    if (found == own_.end()) return -EINVAL;
    const auto index = static_cast<std::size_t>(found - own_.begin());
    if (const int error = ::pthread_mutex_unlock(&slot(index).mutex); error != 0) return -error;
    shared().returned.fetch_add(1);
    if (shared().waiting.load() != 0) futex(shared().returned, FUTEX_WAKE, 1, nullptr);
    return 0;
}

}  // namespace fdbroker::worker
