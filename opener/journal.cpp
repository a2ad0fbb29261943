#include "opener/journal.hpp"

#include <sys/mman.h>

#include <new>

namespace fdbroker::opener {

proto::Result<Journal> Journal::create() {
    void* memory = ::mmap(nullptr, entry_count * sizeof(JournalEntry), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return proto::system_error("mmap", "the journal");
    return Journal(new (memory) JournalEntry[entry_count]);
}

Journal::~Journal() {
    if (entries_ != nullptr) ::munmap(entries_, entry_count * sizeof(JournalEntry));
}

JournalEntry* Journal::acquire(Token token) noexcept {
    for (JournalEntry& entry : entries()) {
        if (entry.token.load(std::memory_order_relaxed) != 0) continue;
        entry.token.store(token, std::memory_order_relaxed);
        return &entry;
    }
    return nullptr;
}

}  // namespace fdbroker::opener
