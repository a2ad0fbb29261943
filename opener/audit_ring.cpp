#include "opener/audit_ring.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

void signal_event(BorrowedFd event) noexcept {
    const std::uint64_t one = 1;
    // An eventfd's counter cannot overflow here, and a reader that is gone needs no event.
    [[maybe_unused]] const ssize_t written = ::write(event.number(), &one, sizeof one);
}

void clear_event(BorrowedFd event) noexcept {
    std::uint64_t count;
    [[maybe_unused]] const ssize_t got = ::read(event.number(), &count, sizeof count);
}

}  // namespace

Result<AuditRing> AuditRing::create() {
    UniqueFd wakeup(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    UniqueFd room(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!wakeup || !room) return proto::system_error("eventfd", "the audit ring");
    void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return proto::system_error("mmap", "the audit ring");
    // The pages are zero already; writing `data` as well would only make them resident.
    auto* shared = static_cast<Shared*>(memory);
    new (&shared->sequence) std::atomic<std::uint64_t>(1);
    new (&shared->consumer_sleeps) std::atomic<bool>(true);
    return AuditRing(shared, std::move(wakeup), std::move(room));
}

AuditRing::AuditRing(AuditRing&& other) noexcept
    : shared_(std::exchange(other.shared_, nullptr)),
      wakeup_(std::move(other.wakeup_)),
      room_(std::move(other.room_)) {}

AuditRing::~AuditRing() {
    if (shared_ != nullptr) ::munmap(shared_, sizeof(Shared));
}

void AuditRing::wake() noexcept {
    if (shared_->consumer_sleeps.exchange(false)) signal_event(wakeup_.borrow());
}

bool AuditRing::wait_for_room(std::size_t needed) noexcept {
    using Clock = std::chrono::steady_clock;
    const auto until = Clock::now() + room_timeout;
    for (;;) {
        clear_event(room_.borrow());
        signal_event(wakeup_.borrow());
        const std::uint64_t used = shared_->head.load(std::memory_order_relaxed) - shared_->tail.load();
        if (used <= capacity - needed) return true;
        if (shared_->failed.load()) return false;
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now());
        if (left.count() <= 0) return false;
        pollfd event{room_.number(), POLLIN, 0};
        ::poll(&event, 1, static_cast<int>(left.count()));
    }
}

bool AuditRing::append(std::string_view record) noexcept {
    if (record.size() > capacity || shared_->failed.load(std::memory_order_relaxed)) {
        wake();
        return false;
    }
    const std::uint64_t head = shared_->head.load(std::memory_order_relaxed);
    std::uint64_t used = head - shared_->tail.load(std::memory_order_acquire);
    if (used > capacity - record.size()) {
        if (!wait_for_room(record.size())) return false;
        used = head - shared_->tail.load(std::memory_order_acquire);
    }
    const std::size_t start = head % capacity;
    const std::size_t first = std::min(record.size(), capacity - start);
    std::memcpy(shared_->data + start, record.data(), first);
    std::memcpy(shared_->data, record.data() + first, record.size() - first);
    // Sequentially consistent with consumer_sleeps below: either the consumer sees this record before it
    // sleeps, or this sees it asleep.
    shared_->head.store(head + record.size());
    shared_->sequence.fetch_add(1, std::memory_order_relaxed);
    if (used <= capacity / 2 && used + record.size() > capacity / 2) {
        signal_event(wakeup_.borrow());
    } else if (shared_->consumer_sleeps.load()) {
        wake();
    }
    return true;
}

Result<std::size_t> AuditRing::drain(BorrowedFd file) noexcept {
    clear_event(wakeup_.borrow());
    const std::uint64_t tail = shared_->tail.load(std::memory_order_relaxed);
    // A producer that was taken over may have written any head: at most the ring is copied.
    const std::size_t used = std::min<std::uint64_t>(shared_->head.load() - tail, capacity);
    if (used == 0) return 0;
    const std::size_t start = tail % capacity;
    const std::size_t first = std::min(used, capacity - start);
    const iovec parts[2] = {{shared_->data + start, first}, {shared_->data, used - first}};
    const ssize_t written = ::writev(file.number(), parts, used > first ? 2 : 1);
    if (written < 0) {
        if (errno == EINTR || errno == EAGAIN) return 0;
        const int cause = errno;
        shared_->failed.store(true);
        signal_event(room_.borrow());
        return proto::system_error("write", "the audit file", cause);
    }
    shared_->tail.store(tail + static_cast<std::uint64_t>(written), std::memory_order_release);
    shared_->failed.store(false);
    signal_event(room_.borrow());
    return static_cast<std::size_t>(written);
}

void AuditRing::announce_awake() noexcept {
    shared_->consumer_sleeps.store(false);
}

bool AuditRing::announce_sleep() noexcept {
    shared_->consumer_sleeps.store(true);
    if (shared_->head.load() == shared_->tail.load()) return true;
    shared_->consumer_sleeps.store(false);
    return false;
}

}  // namespace fdbroker::opener
