// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h that ask for something else than a file.
#include <sys/stat.h>

#include <cstring>
#include <string>

#include "proto/payload.hpp"
#include "worker/client/asking.hpp"
#include "worker/client/handle.hpp"

namespace fdbroker::worker {
namespace {

using proto::Call;

// 0, or why a path that ends as only that of a directory may is not one of a directory.
int check_ending(Connection& connection, const char* path) {
    struct statx status{};
    if (path == nullptr || !names_directory(path)) return 0;
    return ask_status(connection, path, 0, status);
}

int rename(Connection& connection, const char* path, const char* new_path, unsigned flags) {
    std::string target;
    if (const int error = write_canonical(connection, new_path, target); error < 0) return error;
    // The new name need not exist: what gets it must be a directory.
    const std::string ending = path != nullptr && names_directory(new_path) ? std::string(path) + "/" : "";
    if (const int error = check_ending(connection, ending.empty() ? path : ending.c_str()); error < 0)
        return error;
    return connection.ask(
        {.call = Call::rename, .path = path, .flags = flags, .payload = proto::text_payload(target.c_str())});
}

int make_link(Connection& connection, const char* target, const char* path) {
    if (*target == '\0') return connection.refuse(ENOENT, "the target is empty");
    if (::strnlen(target, proto::max_path_length + 1) > proto::max_path_length)
        return connection.refuse(ENAMETOOLONG, "the target is longer than 4095 bytes");
    return connection.ask({.call = Call::symlink, .path = path, .payload = proto::text_payload(target)});
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
    if (const int error = ask_target(connection, path, answer); error < 0) return error;
    return write_text(connection, answer, target, size);
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
    constexpr unsigned settable = FDBROKER_SET_MODE | FDBROKER_SET_TIMES;
    if ((attributes.set & settable) == 0 || (attributes.set & ~(settable | FDBROKER_SET_LINK)) != 0)
        return connection.refuse(EINVAL, "nothing is set, or what is none");
    const bool times = (attributes.set & FDBROKER_SET_TIMES) != 0;
    if (times && (!is_time(attributes.access) || !is_time(attributes.modification)))
        return connection.refuse(EINVAL, "a time that is none");
    const auto payload = proto::times_payload(
        {.access = time_of(attributes.access), .modification = time_of(attributes.modification)});
    const std::string_view bytes(payload.data(), payload.size());
    const bool mode = (attributes.set & FDBROKER_SET_MODE) != 0;
    if (const int error = check_ending(connection, path); error < 0) return error;
    return connection.ask({.call = Call::setattr,
                           .path = path,
                           .flags = attributes.set,
                           .mode = mode ? static_cast<std::uint32_t>(attributes.mode) : 0,
                           .payload = times ? bytes : std::string_view()});
}

int set_extended(Connection& connection, const char* path, const char* name, const void* value,
                 std::size_t size, int flags) {
    // A value longer than a message has the errno of setxattr(2).
    if (size > proto::max_message_size) return connection.refuse(E2BIG, "the value does not fit a message");
    if (const int error = check_ending(connection, path); error < 0) return error;
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
    if (const int error = check_ending(connection, path); error < 0) return error;
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
    return guarded(broker,
                   [&](Connection& connection) { return ask_status(connection, path, flags, *status); });
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
    return guarded(broker, [&](Connection& connection) { return rename(connection, path, new_path, flags); });
}

int fdbroker_symlink(fdbroker_handle* broker, const char* target, const char* path) {
    if (broker == nullptr || target == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) { return make_link(connection, target, path); });
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
        if (const int error = check_ending(connection, path); error < 0) return error;
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
        if (const int error = check_ending(connection, path); error < 0) return error;
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

int fdbroker_watch(fdbroker_handle* broker, const char* path, unsigned mask) {
    if (broker == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        if (const int error = check_ending(connection, path); error < 0) return error;
        return connection.ask({.call = Call::watch, .path = path, .flags = mask});
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
