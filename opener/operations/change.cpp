#include "opener/operations/change.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>

#include "opener/operations/names.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using policy::FileType;
using proto::Step;

namespace {

constexpr std::uint64_t for_its_attributes = O_RDONLY | O_NONBLOCK | O_NOCTTY;

timespec timespec_of(const proto::Timestamp& time) {
    return {.tv_sec = time.seconds, .tv_nsec = static_cast<long>(time.nanoseconds)};
}

}  // namespace

Done<Answer> make_directory(const Work& work, const policy::Grant& grant) {
    if (!work.place.may_block()) return not_here();
    const auto parent = parent_of_new(work, grant);
    if (!parent)
        // The rule's own directory has no parent here, but it is there.
        return parent.error().errno_value == EBUSY ? stop_at(Step::resolve, {EEXIST, "it is there already"})
                                                   : std::unexpected(parent.error());
    const NewObject object = new_object(grant.rule(), work.peer, FileType::directory);
    const ObjectStatus status{.type = FileType::directory,
                              .owner = object.owner,
                              .directory_owner = parent->directory().owner,
                              .crossed_mount = parent->crossed_mount()};
    if (const auto obstacle = work.tools.inspector.refuse(status, grant, work.uid()))
        return stop_at(Step::inspect, *obstacle);
    if (const auto made = create_directory(work, grant.rule(), parent->descriptor(), parent->name()); !made)
        return std::unexpected(made.error());
    return Answer{};
}

Done<Answer> remove_name(const Work& work, const policy::Grant& grant) {
    if (!work.place.may_block()) return not_here();
    const auto parent = work.tools.resolver.resolve_parent(grant);
    if (!parent) return stop_at(Step::resolve, parent.error());
    const auto object = open_inspected_in(work, grant, *parent, O_PATH);
    if (!object) return std::unexpected(object.error());
    // By its name, there is no other way: who exchanges it meanwhile may write to the directory and so could have removed
    // what he puts there himself.
    const int flags = static_cast<int>(work.request().flags);
    if (::unlinkat(parent->descriptor().number(), parent->name(), flags) != 0)
        return call_failed(Step::deliver);
    return Answer{};
}

Done<Answer> make_link(const Work& work, const policy::Grant& grant) {
    if (!work.place.may_block()) return not_here();
    const auto parent = parent_of_new(work, grant);
    if (!parent) return std::unexpected(parent.error());
    const ObjectStatus status{.type = FileType::symlink,
                              .owner = work.uid(),
                              .directory_owner = parent->directory().owner,
                              .crossed_mount = parent->crossed_mount()};
    if (const auto obstacle = work.tools.inspector.refuse(status, grant, work.uid()))
        return stop_at(Step::inspect, *obstacle);
    // It belongs to the opener: there is no call that gives a link away by a descriptor alone.
    if (::symlinkat(work.request().payload.data(), parent->descriptor().number(), parent->name()) != 0)
        return call_failed(Step::deliver);
    return Answer{};
}

Done<Answer> set_attributes(const Work& work, const policy::Grant& grant) {
    if (!work.place.may_block()) return not_here();
    const auto file = open_inspected(work, grant, for_its_attributes);
    if (!file) return std::unexpected(file.error());
    const proto::Request& request = work.request();
    const int number = file->descriptor().number();
    if ((request.flags & proto::setattr_mode) != 0 && ::fchmod(number, request.mode) != 0)
        return call_failed(Step::deliver);
    if ((request.flags & proto::setattr_times) != 0) {
        const auto times = proto::read_times(request.payload).value();
        const std::array<timespec, 2> both{timespec_of(times.access), timespec_of(times.modification)};
        if (::futimens(number, both.data()) != 0) return call_failed(Step::deliver);
    }
    return Answer{};
}

Done<Answer> write_attribute(const Work& work, const policy::Grant& grant) {
    if (!work.place.may_block()) return not_here();
    const auto file = open_inspected(work, grant, for_its_attributes);
    if (!file) return std::unexpected(file.error());
    const auto attribute = proto::read_attribute(work.request().payload).value();
    if (::fsetxattr(file->descriptor().number(), attribute.name.data(), attribute.value.data(),
                    attribute.value.size(), static_cast<int>(work.request().flags)) != 0)
        return call_failed(Step::deliver);
    return Answer{};
}

Done<Answer> remove_attribute(const Work& work, const policy::Grant& grant) {
    if (!work.place.may_block()) return not_here();
    const auto file = open_inspected(work, grant, for_its_attributes);
    if (!file) return std::unexpected(file.error());
    if (::fremovexattr(file->descriptor().number(), work.request().payload.data()) != 0)
        return call_failed(Step::deliver);
    return Answer{};
}

}  // namespace fdbroker::opener
