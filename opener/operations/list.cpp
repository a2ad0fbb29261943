// SPDX-License-Identifier: MIT
#include "opener/operations/list.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "opener/base/directory_reader.hpp"
#include "policy/matching/request_path.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using policy::Operation;
using proto::Step;

namespace {

// A name that the peer is told not to exist is not among what exists.
bool hidden(const OperationContext& work, const std::string& path) {
    const auto parsed = policy::RequestPath::parse(path);
    if (!parsed) return false;  // longer than any path that could be asked for
    constexpr std::array looks{Operation::stat, Operation::read, Operation::list};
    return std::ranges::any_of(looks, [&](Operation operation) {
        const auto decision = work.tools.policy.decide(work.peer, {operation}, *parsed);
        return !decision && decision.error().errno_value == ENOENT;
    });
}

}  // namespace

Done<Answer> list_directory(const OperationContext& work, const policy::Grant& grant) {
    if (!work.place.may_block()) return not_here();
    const auto directory = open_inspected(work, grant, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (!directory) return std::unexpected(directory.error());
    const std::uint64_t cursor = proto::read_number(work.request().payload).value_or(0);
    const int number = directory->descriptor().number();
    if (cursor != 0 && ::lseek(number, static_cast<off_t>(cursor), SEEK_SET) < 0)
        return stop_at(Step::parse, {EINVAL, "the cursor is not of this directory"});

    std::string path(grant.path().text());
    if (path != "/") path += '/';
    const std::size_t stem = path.size();
    proto::DirectoryPageWriter page(work.granted.payload_room);
    std::uint64_t next = cursor;
    DirectoryReader reader(directory->descriptor());
    while (const auto entry = reader.next()) {
        path.resize(stem);
        path += entry->name;
        if (!hidden(work, path) &&
            !page.add({.inode = entry->inode, .type = entry->type, .name = entry->name})) {
            if (next == cursor)
                return stop_at(Step::deliver, {EMSGSIZE, "the batch leaves no room for an entry"});
            page.set_next(next);
            return Answer{.payload = page.payload()};
        }
        next = static_cast<std::uint64_t>(entry->next);
    }
    if (reader.errno_value() != 0) return call_failed(Step::inspect, reader.errno_value());
    page.set_next(0);
    return Answer{.payload = page.payload()};
}

}  // namespace fdbroker::opener
