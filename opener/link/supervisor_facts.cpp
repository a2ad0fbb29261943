// SPDX-License-Identifier: MIT
#include "opener/link/supervisor_facts.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "opener/base/memory_file.hpp"

namespace fdbroker::opener {

using proto::Result;

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
