// SPDX-License-Identifier: MIT
#include "opener/audit/audit_ring.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
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

void AuditRing::keep_from_children() noexcept {
    ::madvise(shared_, sizeof(Shared), MADV_DONTFORK);
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

bool AuditRing::append(std::string_view records, std::uint64_t count) noexcept {
    if (records.size() > capacity || shared_->failed.load(std::memory_order_relaxed)) {
        wake();
        return false;
    }
    const std::uint64_t head = shared_->head.load(std::memory_order_relaxed);
    std::uint64_t used = head - shared_->tail.load(std::memory_order_acquire);
    if (used > capacity - records.size()) {
        if (!wait_for_room(records.size())) return false;
        used = head - shared_->tail.load(std::memory_order_acquire);
    }
    const std::size_t start = head % capacity;
    const std::size_t first = std::min(records.size(), capacity - start);
    std::memcpy(shared_->data + start, records.data(), first);
    std::memcpy(shared_->data, records.data() + first, records.size() - first);
    // Sequentially consistent with consumer_sleeps below: either the consumer sees these before it
    // sleeps, or this sees it asleep.
    shared_->head.store(head + records.size());
    shared_->sequence.fetch_add(count, std::memory_order_relaxed);
    if (used <= capacity / 2 && used + records.size() > capacity / 2) {
        signal_event(wakeup_.borrow());
    } else if (shared_->consumer_sleeps.load()) {
        wake();
    }
    return true;
}

std::string AuditRing::recent() const {
    const std::uint64_t head = shared_->head.load(std::memory_order_relaxed);
    const auto* const text = reinterpret_cast<const char*>(shared_->data);
    std::string records;
    if (head > capacity) records.append(text + head % capacity, capacity - head % capacity);
    return records.append(text, head % capacity);
}

std::size_t AuditRing::take(std::string& out) {
    clear_event(wakeup_.borrow());
    // A producer that was taken over may have written any head, and any tail.
    const std::uint64_t tail = shared_->tail.load(std::memory_order_relaxed);
    const std::size_t used = std::min<std::uint64_t>(shared_->head.load() - tail, capacity);
    if (used == 0) return 0;
    const std::size_t start = tail % capacity;
    const std::size_t first = std::min(used, capacity - start);
    const auto* data = reinterpret_cast<const char*>(shared_->data);
    out.append(data + start, first);
    out.append(data, used - first);
    shared_->tail.store(tail + used, std::memory_order_release);
    signal_event(room_.borrow());
    return used;
}

void AuditRing::announce_failing(bool failing) noexcept {
    // Either way whoever waits for room looks again.
    if (shared_->failed.exchange(failing) != failing) signal_event(room_.borrow());
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
