// SPDX-License-Identifier: MIT
#include "opener/operations/list.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "opener/base/directory_reader.hpp"
#include "opener/operations/look.hpp"
#include "policy/matching/request_path.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using policy::Operation;
using proto::Step;

namespace {

// A name that the peer is told not to exist is not among what exists.
bool hidden(const OperationContext& context, const std::string& path) {
    const auto parsed = policy::RequestPath::parse(path);
    if (!parsed) return false;  // longer than any path that could be asked for
    constexpr std::array looks{Operation::stat, Operation::read, Operation::list};
    return std::ranges::any_of(looks, [&](Operation operation) {
        const auto decision = context.services.policy.decide(context.peer, {operation}, *parsed);
        return !decision && decision.error().errno_value == ENOENT;
    });
}

// The entry's own status, as a stat of it with AT_SYMLINK_NOFOLLOW would tell: decided, resolved and inspected alike.
void add_status(const OperationContext& context, const std::string& path, proto::DirectoryEntry& entry) {
    const auto parsed = policy::RequestPath::parse(path);
    if (!parsed) {
        entry.status_error = ENAMETOOLONG;
        return;
    }
    const auto decision = context.services.policy.decide(context.peer, {Operation::stat}, *parsed);
    if (!decision) {
        entry.status_error = decision.error().errno_value;
        return;
    }
    if (decision->is_ancestor()) {
        entry.status = ancestor_status();
        return;
    }
    const auto object = open_inspected(context, *decision, O_PATH);
    struct statx status{};
    if (!object)
        entry.status_error = object.error().errno_value;
    else if (::statx(object->descriptor().number(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME,
                     &status) != 0)
        entry.status_error = errno;
    else
        entry.status = proto::status_of(status);
}

}  // namespace

Attempt<Outcome> list_directory(const OperationContext& context, const policy::Grant& grant) {
    const auto directory = open_inspected(context, grant, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (!directory) return std::unexpected(directory.error());
    const std::uint64_t cursor = proto::read_number(context.request().payload).value_or(0);
    const int number = directory->descriptor().number();
    if (cursor != 0 && ::lseek(number, static_cast<off_t>(cursor), SEEK_SET) < 0)
        return obstacle_at(Step::parse, {EINVAL, "the cursor is not of this directory"});

    std::string path(grant.path().text());
    if (path != "/") path += '/';
    const std::size_t stem = path.size();
    const bool with_status = (context.request().flags & proto::list_with_status) != 0;
    proto::DirectoryPageWriter page(context.granted.payload_room,
                                    with_status ? proto::PageKind::with_status : proto::PageKind::names);
    std::uint64_t next = cursor;
    DirectoryReader reader(directory->descriptor());
    while (const auto entry = reader.next()) {
        path.resize(stem);
        path += entry->name;
        const bool is_hidden = hidden(context, path);
        proto::DirectoryEntry told{.inode = entry->inode, .type = entry->type, .name = entry->name};
        if (with_status && !is_hidden) add_status(context, path, told);
        if (!is_hidden && !page.add(told)) {
            if (next == cursor)
                return obstacle_at(Step::deliver, {EMSGSIZE, "the batch leaves no room for an entry"});
            page.set_next(next);
            return Outcome{.payload = page.payload()};
        }
        next = static_cast<std::uint64_t>(entry->next);
    }
    if (reader.errno_value() != 0) return call_failed(Step::inspect, reader.errno_value());
    page.set_next(0);
    return Outcome{.payload = page.payload()};
}

}  // namespace fdbroker::opener
