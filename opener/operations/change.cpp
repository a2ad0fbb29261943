// SPDX-License-Identifier: MIT
#include "opener/operations/change.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "opener/confinement/kernel_calls.hpp"
#include "opener/operations/names.hpp"
#include "opener/operations/temporary.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using policy::FileType;
using proto::Step;

namespace {

constexpr std::uint64_t for_its_attributes = O_RDONLY | O_NONBLOCK | O_NOCTTY;

timespec timespec_of(const proto::Timestamp& time) {
    return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

// Access and modification, as utimensat(2) takes them; the request has them.
std::array<timespec, 2> times_of(const proto::Request& request) {
    const auto times = proto::read_times(request.payload).value();
    return {timespec_of(times.access), timespec_of(times.modification)};
}

// The object itself when it is a link; nullopt: it is none.
Attempt<std::optional<InspectedFile>> open_link(const OperationContext& context, const policy::Grant& grant) {
    auto object = context.services.resolver.resolve(grant, O_PATH, context.execution);
    if (!object) return std::unexpected(object.error());
    const auto status = Inspector::status_of(*object);
    if (!status) return obstacle_at(Step::inspect, status.error());
    if (status->type != FileType::symlink) return std::nullopt;
    auto link = context.services.inspector.inspect(std::move(*object), grant, context.uid(), Demand::link);
    if (!link) return obstacle_at(Step::inspect, link.error());
    return std::move(*link);
}

Attempt<Outcome> set_of_link(const proto::Request& request, const InspectedFile& link) {
    // As fchmodat(2) has it.
    if ((request.flags & proto::setattr_mode) != 0) return call_failed(Step::deliver, EOPNOTSUPP);
    // By the descriptor: futimens(3) takes none of O_PATH, and a link can be opened by no other.
    if (::utimensat(link.descriptor().number(), kernel::no_path, times_of(request).data(), AT_EMPTY_PATH) !=
        0)
        return call_failed(Step::deliver);
    return Outcome{};
}

// No rule has a condition that an object that takes the name meanwhile could fail.
bool asks_nothing(const policy::Grant& grant) {
    return std::ranges::none_of(grant.rules(), [](const policy::Rule* rule) {
        return rule->files.same_mount || rule->files.peer_owns || !rule->files.owners.empty();
    });
}

int unlink(proto::BorrowedFd parent, const char* name, const ObjectStatus& object) {
    return object.type == FileType::directory ? remove_directory(parent, name, object)
                                              : ::unlinkat(parent.number(), name, 0);
}

}  // namespace

Attempt<Outcome> make_directory(const OperationContext& context, const policy::Grant& grant) {
    const auto parent = parent_of_new(context, grant);
    if (!parent)
        // The rule's own directory has no parent here, but it is there.
        return parent.error().errno_value == EBUSY
                   ? obstacle_at(Step::resolve, {EEXIST, "it is there already"})
                   : std::unexpected(parent.error());
    if (const auto made = create_directory(context, grant, *parent); !made)
        return std::unexpected(made.error());
    return Outcome{};
}

Attempt<Outcome> remove_name(const OperationContext& context, const policy::Grant& grant) {
    const auto parent = context.services.resolver.resolve_parent(grant);
    if (!parent) return std::unexpected(parent.error());
    const auto object = open_inspected_in(context, grant, *parent, O_PATH);
    if (!object) return std::unexpected(object.error());
    const bool directory = object->status().type == FileType::directory;
    if (directory != ((context.request().flags & AT_REMOVEDIR) != 0))
        return call_failed(Step::deliver, directory ? EISDIR : ENOTDIR);
    if (asks_nothing(grant)) {
        if (unlink(parent->descriptor(), parent->name(), object->status()) != 0)
            return call_failed(Step::deliver);
        return Outcome{};
    }
    auto aside = SetAside::take(*parent, object->status());
    if (!aside) return std::unexpected(aside.error());
    if (unlink(parent->descriptor(), aside->name(), object->status()) != 0) return call_failed(Step::deliver);
    aside->release();
    return Outcome{};
}

Attempt<Outcome> make_link(const OperationContext& context, const policy::Grant& grant) {
    const auto parent = parent_of_new(context, grant);
    if (!parent) return std::unexpected(parent.error());
    if (const auto made = create_link(context, grant, *parent, context.request().payload.data()); !made)
        return std::unexpected(made.error());
    return Outcome{};
}

Attempt<Outcome> set_attributes(const OperationContext& context, const policy::Grant& grant) {
    const proto::Request& request = context.request();
    if ((request.flags & proto::setattr_link) != 0) {
        const auto link = open_link(context, grant);
        if (!link) return std::unexpected(link.error());
        if (*link) return set_of_link(request, **link);
    }
    const auto file = open_inspected(context, grant, for_its_attributes);
    if (!file) return std::unexpected(file.error());
    const int number = file->descriptor().number();
    if ((request.flags & proto::setattr_mode) != 0 && ::fchmod(number, request.mode) != 0)
        return call_failed(Step::deliver);
    if ((request.flags & proto::setattr_times) != 0 && ::futimens(number, times_of(request).data()) != 0)
        return call_failed(Step::deliver);
    return Outcome{};
}

Attempt<Outcome> write_attribute(const OperationContext& context, const policy::Grant& grant) {
    const auto file = open_inspected(context, grant, for_its_attributes);
    if (!file) return std::unexpected(file.error());
    const auto attribute = proto::read_attribute(context.request().payload).value();
    if (::fsetxattr(file->descriptor().number(), attribute.name.data(), attribute.value.data(),
                    attribute.value.size(), static_cast<int>(context.request().flags)) != 0)
        return call_failed(Step::deliver);
    return Outcome{};
}

Attempt<Outcome> remove_attribute(const OperationContext& context, const policy::Grant& grant) {
    const auto file = open_inspected(context, grant, for_its_attributes);
    if (!file) return std::unexpected(file.error());
    if (::fremovexattr(file->descriptor().number(), context.request().payload.data()) != 0)
        return call_failed(Step::deliver);
    return Outcome{};
}

}  // namespace fdbroker::opener
