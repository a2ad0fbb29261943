// SPDX-License-Identifier: MIT
#include "opener/operations/snapshot.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "opener/operations/read_lease.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Step;
using proto::UniqueFd;

namespace {

constexpr unsigned max_copies = 3;

struct Copy {
    UniqueFd memory;
    std::uint64_t size = 0;
};

Attempt<Copy> copy(BorrowedFd file, std::uint64_t most) {
    UniqueFd memory(::memfd_create("snapshot", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!memory) return call_failed(Step::deliver);
    std::vector<char> buffer(std::size_t{1} << 16);
    for (std::uint64_t done = 0;;) {
        const ssize_t size = ::pread(file.number(), buffer.data(), buffer.size(), static_cast<off_t>(done));
        if (size < 0) return call_failed(Step::deliver);
        if (size == 0) return Copy{std::move(memory), done};
        done += static_cast<std::uint64_t>(size);
        if (done > most) return obstacle_at(Step::inspect, {EFBIG, "it is larger than a snapshot may be"});
        for (ssize_t written = 0; written < size;) {
            const ssize_t now =
                ::write(memory.number(), buffer.data() + written, static_cast<std::size_t>(size - written));
            if (now < 0) return call_failed(Step::deliver);
            written += now;
        }
    }
}

}  // namespace

Attempt<Outcome> deliver_snapshot(const InspectedFile& file, const policy::Rule& rule) {
    const std::uint64_t most = rule.files.max_size.value_or(max_snapshot_size);
    for (unsigned tries = 0; tries < max_copies; ++tries) {
        const ReadLease lease(file.descriptor());
        if (lease.errno_value() == EAGAIN) continue;
        if (lease.errno_value() != 0)
            return obstacle_at(Step::deliver, {lease.errno_value(), "a lease on it cannot be had"});
        auto copied = copy(file.descriptor(), most);
        if (!copied) return std::unexpected(copied.error());
        if (!lease.unbroken()) continue;
        constexpr int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
        const int number = copied->memory.number();
        if (::fcntl(number, F_ADD_SEALS, seals) != 0 || ::lseek(number, 0, SEEK_SET) != 0)
            return call_failed(Step::deliver);
        return Outcome{.file = DeliverableFile::made_here(std::move(copied->memory)), .copied = copied->size};
    }
    return obstacle_at(Step::deliver, {EAGAIN, "somebody has it open for writing"});
}

}  // namespace fdbroker::opener
