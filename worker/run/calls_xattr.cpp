// SPDX-License-Identifier: MIT
// Extended attributes.
#include <linux/limits.h>
#include <sys/xattr.h>

#include <cerrno>

#include "proto/payload.hpp"
#include "worker/run/handlers.hpp"

namespace fdbroker::worker {
namespace {

LastLink last_link_of(const Call& call) {
    return std::string_view(call.name()).starts_with('l') ? LastLink::keep : LastLink::follow;
}

// Hands out the bytes of an xattr(7) call. A size of 0 asks for the length alone.
Answer hand_out(const Call& call, const std::string& bytes, std::uint64_t buffer, std::uint64_t size) {
    if (size != 0) {
        if (bytes.size() > size) return Answer::failure(ERANGE);
        const auto written = call.target.write(buffer, std::as_bytes(std::span(bytes)));
        if (!written) return Answer::failure(written.error());
    }
    return Answer::of(static_cast<std::int64_t>(bytes.size()));
}

bool is_of_user(std::string_view name) {
    return name.starts_with("user.");
}

// Attributes that the program may not read are ones that the filesystem does not have: ls(1) looks for access control
// lists everywhere.
Answer failure_to_read(int result) {
    return Answer::failure(result == -EACCES ? EOPNOTSUPP : -result);
}

Task<Answer> change(const Call& call, std::string path, Ask ask, std::string payload) {
    if (!is_of_user(payload)) co_return Answer::failure(EOPNOTSUPP);
    ask.path = path.c_str();
    ask.payload = payload;
    const Reply reply = co_await call.ask(ask);
    co_return Answer::of(reply.result);
}

Task<Answer> change_at(const Call& call, Ask ask, std::string payload) {
    OrErrno<Location> location = co_await call.locate(AT_FDCWD, call.argument(0), last_link_of(call));
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process) co_return Answer::failure(EPERM);
    Answer answer = co_await change(call, std::move(location->path), ask, std::move(payload));
    co_return answer;
}

Task<Answer> change_by_descriptor(const Call& call, Ask ask, std::string payload) {
    auto held = hold_file(call, call.number(0));
    if (!held) co_return Answer::failure(held.error());
    // A descriptor can be exchanged: nothing is continued. Files of the scratch directory do without by descriptor.
    if (held->path.empty()) co_return Answer::failure(EOPNOTSUPP);
    Answer answer = co_await change(call, std::move(held->path), ask, std::move(payload));
    co_return answer;
}

// 1 to 255 bytes, as the kernel has it. Of a brokered file only `user.` attributes are told; other names are EOPNOTSUPP, as
// on a filesystem that does not have them.
OrErrno<std::string> read_name(const Call& call) {
    auto name = call.target.read_string(call.argument(1), XATTR_NAME_MAX + 1);
    if (!name) return std::unexpected(name.error() == ENAMETOOLONG ? ERANGE : name.error());
    if (name->empty()) return std::unexpected(ERANGE);
    return name;
}

// The payload of xattr_write.
OrErrno<std::string> read_attribute(const Call& call) {
    const auto name = read_name(call);
    if (!name) return std::unexpected(name.error());
    if (call.argument(3) > XATTR_SIZE_MAX) return std::unexpected(E2BIG);
    std::string value(call.argument(3), '\0');
    const auto got = call.target.read(call.argument(2), std::as_writable_bytes(std::span(value)));
    if (!got) return std::unexpected(got.error());
    return proto::attribute_payload(*name, value);
}

}  // namespace

Task<Answer> handle_getxattr(const Call& call) {
    const auto name = read_name(call);
    if (!name) co_return Answer::failure(name.error());
    OrErrno<Location> location = co_await call.locate(AT_FDCWD, call.argument(0), last_link_of(call));
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process || !is_of_user(*name)) co_return Answer::failure(EOPNOTSUPP);
    const auto payload = proto::text_payload(name->c_str());
    const Ask ask{.call = proto::Call::xattr_read, .path = location->path.c_str(), .payload = payload};
    const Reply reply = co_await call.ask(ask);
    if (reply.result < 0) co_return failure_to_read(reply.result);
    co_return hand_out(call, reply.payload, call.argument(2), call.argument(3));
}

Task<Answer> handle_listxattr(const Call& call) {
    OrErrno<Location> location = co_await call.locate(AT_FDCWD, call.argument(0), last_link_of(call));
    if (!location) co_return Answer::failure(location.error());
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process) co_return Answer::of(0);
    const Ask ask{.call = proto::Call::xattr_list, .path = location->path.c_str()};
    const Reply reply = co_await call.ask(ask);
    if (reply.result < 0) co_return failure_to_read(reply.result);
    co_return hand_out(call, reply.payload, call.argument(1), call.argument(2));
}

Task<Answer> handle_setxattr(const Call& call) {
    auto payload = read_attribute(call);
    if (!payload) co_return Answer::failure(payload.error());
    const Ask ask{.call = proto::Call::xattr_write, .flags = call.bits(4)};
    Answer answer = co_await change_at(call, ask, std::move(*payload));
    co_return answer;
}

Task<Answer> handle_fsetxattr(const Call& call) {
    auto payload = read_attribute(call);
    if (!payload) co_return Answer::failure(payload.error());
    const Ask ask{.call = proto::Call::xattr_write, .flags = call.bits(4)};
    Answer answer = co_await change_by_descriptor(call, ask, std::move(*payload));
    co_return answer;
}

Task<Answer> handle_removexattr(const Call& call) {
    const auto name = read_name(call);
    if (!name) co_return Answer::failure(name.error());
    const Ask ask{.call = proto::Call::xattr_remove};
    std::string payload(proto::text_payload(name->c_str()));
    Answer answer = co_await change_at(call, ask, std::move(payload));
    co_return answer;
}

Task<Answer> handle_fremovexattr(const Call& call) {
    const auto name = read_name(call);
    if (!name) co_return Answer::failure(name.error());
    const Ask ask{.call = proto::Call::xattr_remove};
    std::string payload(proto::text_payload(name->c_str()));
    Answer answer = co_await change_by_descriptor(call, ask, std::move(payload));
    co_return answer;
}

}  // namespace fdbroker::worker
