// SPDX-License-Identifier: MIT
#include "opener/link/supervisor_facts.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <new>

#include "opener/base/memory_file.hpp"

namespace fdbroker::opener {

using proto::Result;

// Into the slot that nobody is told to read yet.
void HashFact::store(const Hash& hash) noexcept {
    const std::uint64_t next = stored_.load() + 1;
    Slot& slot = slots_[next % 2];
    for (std::size_t i = 0; i < slot.words.size(); ++i) {
        std::uint64_t word = 0;
        std::memcpy(&word, hash.data() + i * sizeof word, sizeof word);
        slot.words[i].store(word);
    }
    stored_.store(next);
}

// Once more where the slot was written meanwhile: two stores lie a drain of the audit log apart.
HashFact::Hash HashFact::load() const noexcept {
    Hash hash{};
    for (unsigned tries = 0; tries < 100; ++tries) {
        const std::uint64_t stored = stored_.load();
        const Slot& slot = slots_[stored % 2];
        for (std::size_t i = 0; i < slot.words.size(); ++i) {
            const std::uint64_t word = slot.words[i].load();
            std::memcpy(hash.data() + i * sizeof word, &word, sizeof word);
        }
        if (stored_.load() == stored) break;
    }
    return hash;
}

Result<FactsPage> FactsPage::create() {
    auto file = make_memory_file("supervisor-facts");
    if (!file) return std::unexpected(file.error());
    if (::ftruncate(file->number(), sizeof(SupervisorFacts)) != 0) return proto::system_error("ftruncate");
    void* const memory =
        ::mmap(nullptr, sizeof(SupervisorFacts), PROT_READ | PROT_WRITE, MAP_SHARED, file->number(), 0);
    if (memory == MAP_FAILED) return proto::system_error("mmap", "the supervisor's facts");
    FactsPage page(std::move(*file), new (memory) SupervisorFacts);
    // Mappings that are made after this one, and writes, are refused.
    if (::fcntl(page.file_.number(), F_ADD_SEALS,
                F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        return proto::system_error("F_ADD_SEALS", "the supervisor's facts");
    }
    return page;
}

FactsPage::~FactsPage() {
    if (facts_ != nullptr) ::munmap(facts_, sizeof(SupervisorFacts));
}

Result<void> FactsPage::become_reader() {
    // In the place of the one that fork(2) copied, which mprotect(2) could make writable again.
    void* const memory =
        ::mmap(facts_, sizeof(SupervisorFacts), PROT_READ, MAP_SHARED | MAP_FIXED, file_.number(), 0);
    if (memory == MAP_FAILED) return proto::system_error("mmap", "the supervisor's facts");
    return {};
}

}  // namespace fdbroker::opener
