// SPDX-License-Identifier: MIT
#include "opener/link/inflight_log.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

namespace fdbroker::opener {

proto::Result<InflightLog> InflightLog::create() {
    void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return proto::system_error("mmap", "the in-flight log");
    return InflightLog(new (memory) Shared);
}

InflightLog::~InflightLog() {
    if (shared_ != nullptr) ::munmap(shared_, sizeof(Shared));
}

std::string InflightLog::bytes() const {
    return {reinterpret_cast<const char*>(shared_), sizeof(Shared)};
}

proto::Result<InflightLog> InflightLog::restore(std::string_view bytes) {
    if (bytes.size() != sizeof(Shared))
        return proto::system_error("the in-flight log", "of another form", EINVAL);
    auto log = create();
    if (log) std::memcpy(static_cast<void*>(log->shared_), bytes.data(), bytes.size());
    return log;
}

void InflightLog::keep_from_children() noexcept {
    ::madvise(shared_, sizeof(Shared), MADV_DONTFORK);
}

InflightEntry* InflightLog::acquire(ConnectionId connection_id) noexcept {
    for (InflightEntry& entry : entries()) {
        if (entry.connection_id.load(std::memory_order_relaxed) != 0) continue;
        entry.connection_id.store(connection_id, std::memory_order_relaxed);
        return &entry;
    }
    return nullptr;
}

std::span<std::byte> InflightLog::begin_intake(ConnectionId connection_id) noexcept {
    InflightIntake& intake = shared_->intake;
    std::memset(intake.message.data(), 0, std::exchange(intake_used_, intake.message.size()));
    intake.connection_id.store(connection_id, std::memory_order_release);
    return intake.message;
}

InflightSlot& InflightLog::note_apart(ConnectionId connection_id, std::uint32_t id) noexcept {
    const auto all = slots();
    for (std::size_t looked_at = 0; looked_at < slot_count; ++looked_at) {
        InflightSlot& slot = all[next_slot_];
        next_slot_ = (next_slot_ + 1) % slot_count;
        if (slot.connection_id.load(std::memory_order_relaxed) != 0) continue;
        slot.id = id;
        slot.connection_id.store(connection_id, std::memory_order_release);
        return slot;
    }
    std::abort();
}

}  // namespace fdbroker::opener
