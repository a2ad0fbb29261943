// SPDX-License-Identifier: MIT
#include "opener/operations/open.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "opener/operations/names.hpp"
#include "opener/operations/snapshot.hpp"
#include "opener/operations/stream.hpp"

namespace fdbroker::opener {

using policy::FileType;
using proto::Step;
using proto::UniqueFd;

namespace {

// How often a name may come and go between the look at it and the making of it.
constexpr unsigned max_tries = 16;

Attempt<Outcome> open_existing(const OperationContext& context, const policy::Grant& grant) {
    const OpenFlags flags = context.granted.flags;
    const bool copied = grant.rule().delivery == policy::Delivery::snapshot;
    if (copied && !context.execution.may_block()) return not_here();
    // Truncating a file waits for the disk.
    if (flags.wants(O_TRUNC) && !context.execution.may_block()) return not_here();
    auto file = open_inspected(context, grant, flags.for_openat2());
    if (!file) return std::unexpected(file.error());
    // A walk from a directory's descriptor, up or down, asks no rule.
    if (file->status().type == FileType::directory) return std::unexpected(directory_undelivered);
    // open(2): of what is not regular, O_TRUNC has no effect.
    if (flags.wants(O_TRUNC) && file->status().type == FileType::regular &&
        ::ftruncate(file->descriptor().number(), 0) != 0)
        return call_failed(Step::deliver);
    if (copied) return deliver_snapshot(*file, grant.rule());
    auto deliverable = Inspector::deliver(std::move(*file), flags);
    if (!deliverable) return std::unexpected(deliverable.error());
    return Outcome{.file = std::move(*deliverable)};
}

// A descriptor of an unnamed file stays one when the file has its name: F_GETFL and /proc/self/fd say so. Where the name is
// another's by now, the file that was made is delivered by it nevertheless.
Attempt<Outcome> deliver_new(const OperationContext& context, const policy::Grant& grant, UniqueFd made) {
    constexpr int unnamed = O_TMPFILE & ~O_DIRECTORY;
    const OpenFlags flags = context.granted.flags;
    if ((::fcntl(made.number(), F_GETFL) & unnamed) != 0) {
        auto named = open_inspected(context, grant, flags.for_openat2());
        struct stat own;
        if (named && ::syscall(SYS_fstat, made.number(), &own) == 0 && named->status().device == own.st_dev &&
            named->status().inode == own.st_ino)
            if (auto deliverable = Inspector::deliver(std::move(*named), flags))
                return Outcome{.file = std::move(*deliverable)};
    }
    return Outcome{.file = DeliverableFile::made_here(std::move(made))};
}

Attempt<Outcome> create(const OperationContext& context, const policy::Grant& grant) {
    const OpenFlags flags = context.granted.flags;
    const auto parent = parent_of_new(context, grant);
    if (!parent) return std::unexpected(parent.error());
    // An unnamed file cannot be opened for reading alone; that is done by its name, once it has one.
    const std::uint64_t how = flags.writes() ? flags.for_new_file() : O_WRONLY;
    auto file = create_file(context, grant, *parent, how);
    if (!file) return std::unexpected(file.error());
    if (!flags.writes()) return open_existing(context, grant);
    return deliver_new(context, grant, std::move(*file));
}

Attempt<Outcome> open_as_asked(const OperationContext& context, const policy::Grant& grant) {
    const OpenFlags flags = context.granted.flags;
    if (!flags.wants(O_CREAT)) return open_existing(context, grant);
    const bool exclusive = flags.wants(O_EXCL);
    for (unsigned tries = 1;; ++tries) {
        if (!exclusive) {
            auto there = open_existing(context, grant);
            if (there || there.error().errno_value != ENOENT || there.error().step != Step::resolve)
                return there;
        }
        if (!context.execution.may_block()) return not_here();
        auto made = create(context, grant);
        if (made || exclusive || made.error().errno_value != EEXIST) return made;
        if (tries == max_tries) return obstacle_at(Step::resolve, {EAGAIN, "its name comes and goes"});
    }
}

Attempt<Outcome> open_stream(const OperationContext& context, const policy::Grant& grant) {
    const OpenFlags flags = context.granted.flags;
    if (const auto obstacle = refuse_stream(flags)) return std::unexpected(*obstacle);
    if (!context.execution.may_block()) return not_here();
    if (!context.execution.allows_background())
        return obstacle_at(Step::deliver, {EAGAIN, "too many files are being put or streamed"});
    auto pipe = make_pipe(flags);
    if (!pipe) return std::unexpected(pipe.error());
    auto opened = open_as_asked(context, grant);
    if (!opened) return opened;
    return deliver_stream(std::move(*opened->file), std::move(*pipe), flags);
}

}  // namespace

Attempt<Outcome> open_file(const OperationContext& context, const policy::Grant& grant) {
    return grant.rule().delivery == policy::Delivery::stream ? open_stream(context, grant)
                                                             : open_as_asked(context, grant);
}

}  // namespace fdbroker::opener
