// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h that ask for something else than a file.
#include <sys/stat.h>

#include <cstring>
#include <string>

#include "proto/payload.hpp"
#include "worker/client/handle.hpp"
#include "worker/client/status.hpp"

namespace fdbroker::worker {
namespace {

using proto::Call;

// Asks with a payload, and hands the answer's to `take`, which says whether it is one.
template <typename Take>
int ask_and_take(Connection& connection, const Ask& ask, Take take) {
    std::string answer;
    const int result = connection.ask(ask, &answer);
    if (result < 0) return result;
    if (take(answer)) return result;
    return connection.fail(EPROTO, "the answer is not as it should be");
}

// A request whose payload is a second path, or what a link is to hold.
int ask_with_text(Connection& connection, Ask ask, const char* text) {
    if (::strnlen(text, proto::max_path_length + 1) > proto::max_path_length)
        return connection.refuse(ENAMETOOLONG, "the second path is longer than 4095 bytes");
    ask.payload = proto::text_payload(text);
    return connection.ask(ask);
}

// As the xattr functions hand out bytes. `size` 0 asks for the length alone.
ssize_t copy_out(Connection& connection, const std::string& bytes, void* to, std::size_t size) {
    if (size == 0) return static_cast<ssize_t>(bytes.size());
    if (bytes.size() > size) return connection.refuse(ERANGE, "the buffer is too small");
    std::memcpy(to, bytes.data(), bytes.size());
    return static_cast<ssize_t>(bytes.size());
}

ssize_t read_link(Connection& connection, const char* path, char* target, std::size_t size) {
    std::string answer;
    if (const int error = connection.ask({.call = Call::readlink, .path = path}, &answer); error < 0)
        return error;
    if (answer.size() >= size) return connection.refuse(ERANGE, "the buffer is too small");
    std::memcpy(target, answer.c_str(), answer.size() + 1);
    return static_cast<ssize_t>(answer.size());
}

using EachEntry = int (*)(void* context, const fdbroker_entry* entry);

int list(Connection& connection, const char* path, EachEntry each, void* context) {
    const Deadline deadline = connection.deadline();
    std::uint64_t cursor = 0;
    do {
        std::string page;
        const auto payload = proto::number_payload(cursor);
        const Ask ask{.call = Call::list, .path = path, .payload = {payload.data(), payload.size()}};
        if (const int error = connection.ask(ask, &page, deadline); error < 0) return error;
        proto::DirectoryPageReader reader(page);
        while (const auto entry = reader.entry()) {
            const fdbroker_entry told{.size = sizeof told,
                                      .name = entry->name.data(),  // followed by a NUL
                                      .inode = entry->inode,
                                      .type = entry->type};
            if (const int result = each(context, &told); result != 0) return result;
        }
        // A page that leads to itself would have no end.
        if (!reader.ok() || (reader.next_cursor() == cursor && cursor != 0))
            return connection.fail(EPROTO, "the page of a directory is none");
        cursor = reader.next_cursor();
    } while (cursor != 0);
    return 0;
}

proto::Timestamp time_of(const timespec& time) {
    return {.seconds = time.tv_sec, .nanoseconds = static_cast<std::uint32_t>(time.tv_nsec)};
}

bool is_time(const timespec& time) {
    return (time.tv_nsec >= 0 && time.tv_nsec < 1'000'000'000) || time.tv_nsec == UTIME_NOW ||
           time.tv_nsec == UTIME_OMIT;
}

int set_attributes(Connection& connection, const char* path, const fdbroker_attributes* given) {
    if (const int error = check_size(given, given->size, sizeof(fdbroker_attributes)); error < 0)
        return refuse_size(connection, error);
    const fdbroker_attributes attributes = read_sized(given, given->size);
    if (attributes.set == 0 || (attributes.set & ~(FDBROKER_SET_MODE | FDBROKER_SET_TIMES)) != 0)
        return connection.refuse(EINVAL, "nothing is set, or what is none");
    const bool times = (attributes.set & FDBROKER_SET_TIMES) != 0;
    if (times && (!is_time(attributes.access) || !is_time(attributes.modification)))
        return connection.refuse(EINVAL, "a time that is none");
    const auto payload = proto::times_payload(
        {.access = time_of(attributes.access), .modification = time_of(attributes.modification)});
    const std::string_view bytes(payload.data(), payload.size());
    const bool mode = (attributes.set & FDBROKER_SET_MODE) != 0;
    return connection.ask({.call = Call::setattr,
                           .path = path,
                           .flags = attributes.set,
                           .mode = mode ? static_cast<std::uint32_t>(attributes.mode) : 0,
                           .payload = times ? bytes : std::string_view()});
}

int set_extended(Connection& connection, const char* path, const char* name, const void* value,
                 std::size_t size, int flags) {
    // What is longer than a message is told by the errno of setxattr(2).
    if (size > proto::max_message_size) return -E2BIG;
    const std::string payload =
        proto::attribute_payload(name, {static_cast<const char*>(value), value == nullptr ? 0 : size});
    return connection.ask({.call = Call::xattr_write,
                           .path = path,
                           .flags = static_cast<std::uint32_t>(flags),
                           .payload = payload});
}

// 0, or the negative errno of xattr(7).
int check_attribute_name(Connection& connection, const char* name) {
    const std::size_t length = ::strnlen(name, proto::max_xattr_name + 1);
    if (length > 0 && length <= proto::max_xattr_name) return 0;
    return connection.refuse(ERANGE, "the name of an attribute has 1 to 255 bytes");
}

ssize_t list_attributes(Connection& connection, const char* path, char* names, std::size_t size) {
    std::string answer;
    if (const int error = connection.ask({.call = Call::xattr_list, .path = path}, &answer); error < 0)
        return error;
    // Whoever goes from name to name relies on the last NUL.
    if (!answer.empty() && answer.back() != '\0')
        return connection.fail(EPROTO, "the names of attributes are none");
    return copy_out(connection, answer, names, size);
}

int put(Connection& connection, const char* path, mode_t mode, std::uint64_t& number) {
    std::string answer;
    const Ask ask{.call = Call::put, .path = path, .mode = static_cast<std::uint32_t>(mode)};
    const int result = connection.ask(ask, &answer);
    const auto told = proto::read_number(answer);
    if (result < 0) {
        // The broker has made it, and this process has no room for its descriptor.
        if (result != -EMFILE || !told) return result;
        static_cast<void>(connection.ask({.call = Call::discard, .path = path, .payload = answer}));
        return connection.refuse(EMFILE, "the descriptor table of this process is full");
    }
    proto::UniqueFd file(result);
    if (!told || answer.size() != 8) return connection.fail(EPROTO, "the answer is not as it should be");
    number = *told;
    return file.release();
}

}  // namespace
}  // namespace fdbroker::worker

using namespace fdbroker::worker;
using fdbroker::proto::Call;

int fdbroker_stat(fdbroker_handle* broker, const char* path, int flags, struct statx* status) {
    if (broker == nullptr || status == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        const Ask ask{.call = Call::stat, .path = path, .flags = static_cast<std::uint32_t>(flags)};
        return ask_and_take(connection, ask,
                            [status](const std::string& answer) { return read_statx(answer, *status); });
    });
}

int fdbroker_list(fdbroker_handle* broker, const char* path,
                  int (*each)(void* context, const fdbroker_entry* entry), void* context) {
    if (broker == nullptr || each == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) { return list(connection, path, each, context); });
}

ssize_t fdbroker_readlink(fdbroker_handle* broker, const char* path, char* target, size_t size) {
    if (broker == nullptr || target == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) { return read_link(connection, path, target, size); });
}

int fdbroker_mkdir(fdbroker_handle* broker, const char* path, mode_t mode) {
    if (broker == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        return connection.ask({.call = Call::mkdir, .path = path, .mode = static_cast<std::uint32_t>(mode)});
    });
}

int fdbroker_remove(fdbroker_handle* broker, const char* path, int flags) {
    if (broker == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        return connection.ask(
            {.call = Call::remove, .path = path, .flags = static_cast<std::uint32_t>(flags)});
    });
}

int fdbroker_rename(fdbroker_handle* broker, const char* path, const char* new_path, unsigned flags) {
    if (broker == nullptr || new_path == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        return ask_with_text(connection, {.call = Call::rename, .path = path, .flags = flags}, new_path);
    });
}

int fdbroker_symlink(fdbroker_handle* broker, const char* target, const char* path) {
    if (broker == nullptr || target == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        return ask_with_text(connection, {.call = Call::symlink, .path = path}, target);
    });
}

int fdbroker_setattr(fdbroker_handle* broker, const char* path, const fdbroker_attributes* attributes) {
    if (broker == nullptr || attributes == nullptr) return fault(broker);
    return guarded(broker,
                   [&](Connection& connection) { return set_attributes(connection, path, attributes); });
}

ssize_t fdbroker_getxattr(fdbroker_handle* broker, const char* path, const char* name, void* value,
                          size_t size) {
    if (broker == nullptr || name == nullptr || (value == nullptr && size != 0)) return fault(broker);
    return guarded(broker, [&](Connection& connection) -> ssize_t {
        if (const int error = check_attribute_name(connection, name); error < 0) return error;
        std::string answer;
        const Ask ask{.call = Call::xattr_read, .path = path, .payload = fdbroker::proto::text_payload(name)};
        if (const int error = connection.ask(ask, &answer); error < 0) return error;
        return copy_out(connection, answer, value, size);
    });
}

ssize_t fdbroker_listxattr(fdbroker_handle* broker, const char* path, char* names, size_t size) {
    if (broker == nullptr || (names == nullptr && size != 0)) return fault(broker);
    return guarded(broker,
                   [&](Connection& connection) { return list_attributes(connection, path, names, size); });
}

int fdbroker_setxattr(fdbroker_handle* broker, const char* path, const char* name, const void* value,
                      size_t size, int flags) {
    if (broker == nullptr || name == nullptr || (value == nullptr && size != 0)) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        if (const int error = check_attribute_name(connection, name); error < 0) return error;
        return set_extended(connection, path, name, value, size, flags);
    });
}

int fdbroker_removexattr(fdbroker_handle* broker, const char* path, const char* name) {
    if (broker == nullptr || name == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        if (const int error = check_attribute_name(connection, name); error < 0) return error;
        return connection.ask(
            {.call = Call::xattr_remove, .path = path, .payload = fdbroker::proto::text_payload(name)});
    });
}

int fdbroker_put(fdbroker_handle* broker, const char* path, mode_t mode, uint64_t* number) {
    if (broker == nullptr || number == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) { return put(connection, path, mode, *number); });
}

int fdbroker_commit(fdbroker_handle* broker, const char* path, uint64_t put, unsigned flags) {
    if (broker == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        const auto number = fdbroker::proto::number_payload(put);
        return connection.ask(
            {.call = Call::commit, .path = path, .flags = flags, .payload = {number.data(), number.size()}});
    });
}

int fdbroker_discard(fdbroker_handle* broker, const char* path, uint64_t put) {
    if (broker == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        const auto number = fdbroker::proto::number_payload(put);
        return connection.ask(
            {.call = Call::discard, .path = path, .payload = {number.data(), number.size()}});
    });
}
