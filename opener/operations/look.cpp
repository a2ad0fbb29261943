// SPDX-License-Identifier: MIT
#include "opener/operations/look.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstring>

#include "opener/operations/request_faults.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using policy::FileType;
using proto::Step;

namespace {

template <std::size_t Size>
Outcome answer(const std::array<char, Size>& bytes) {
    return {.payload = std::string(bytes.data(), bytes.size())};
}

}  // namespace

proto::Status ancestor_status() noexcept {
    return {.mask = STATX_TYPE, .mode = S_IFDIR};
}

Attempt<proto::Status> look_at(const OperationContext& context, const policy::Grant& grant, LastLink last) {
    const auto object = open_inspected(context, grant, O_PATH);
    if (!object) return std::unexpected(object.error());
    // With O_PATH a link in the last place is opened itself.
    if (object->status().type == FileType::symlink && last == LastLink::follow)
        return obstacle_at(Step::resolve, {ELOOP, explain_open_failure(ELOOP)});
    struct statx status{};
    if (::statx(object->descriptor().number(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &status) !=
        0)
        return call_failed(Step::inspect);
    return proto::status_of(status);
}

Attempt<Outcome> stat_object(const OperationContext& context, const policy::Grant& grant) {
    if (grant.is_ancestor()) return answer(proto::status_payload(ancestor_status()));
    const auto status = look_at(context, grant, last_link_of(context.request()));
    if (!status) return std::unexpected(status.error());
    return answer(proto::status_payload(*status));
}

Attempt<Outcome> read_link(const OperationContext& context, const policy::Grant& grant) {
    const auto object = open_inspected(context, grant, O_PATH);
    if (!object) return std::unexpected(object.error());
    if (object->status().type != FileType::symlink)
        return obstacle_at(Step::inspect, {EINVAL, "it is not a symbolic link"});
    std::array<char, PATH_MAX> target;
    const ssize_t size = ::readlinkat(object->descriptor().number(), "", target.data(), target.size());
    if (size < 0) return call_failed(Step::inspect);
    return Outcome{.payload = std::string(target.data(), static_cast<std::size_t>(size))};
}

Attempt<Outcome> read_attribute_value(const OperationContext& context, const policy::Grant& grant) {
    const auto file = open_inspected(context, grant, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!file) return std::unexpected(file.error());
    const char* name = context.request().payload.data();
    std::string value(XATTR_SIZE_MAX, '\0');
    const ssize_t size = ::fgetxattr(file->descriptor().number(), name, value.data(), value.size());
    if (size < 0) return call_failed(Step::inspect);
    value.resize(static_cast<std::size_t>(size));
    return Outcome{.payload = std::move(value)};
}

Attempt<Outcome> list_attributes(const OperationContext& context, const policy::Grant& grant) {
    const auto file = open_inspected(context, grant, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (!file) return std::unexpected(file.error());
    std::string all(XATTR_LIST_MAX, '\0');
    const ssize_t size = ::flistxattr(file->descriptor().number(), all.data(), all.size());
    if (size < 0) return call_failed(Step::inspect);
    std::string names;
    for (const char* name = all.data(); name < all.data() + size; name += std::strlen(name) + 1)
        if (std::string_view(name).starts_with(attribute_namespace)) names.append(name).push_back('\0');
    return Outcome{.payload = std::move(names)};
}

}  // namespace fdbroker::opener
