// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h that wait for no single answer.
#include <sys/stat.h>

#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "worker/client/asking.hpp"
#include "worker/client/handle.hpp"
#include "worker/client/status.hpp"

namespace fdbroker::worker {
namespace {

using proto::Call;

bool takes_second(Call call) {
    return call == Call::rename || call == Call::symlink || call == Call::xattr_read;
}

bool may_be_submitted(unsigned call) {
    switch (call) {
        case FDBROKER_CALL_OPEN:
        case FDBROKER_CALL_STAT:
        case FDBROKER_CALL_READLINK:
        case FDBROKER_CALL_MKDIR:
        case FDBROKER_CALL_REMOVE:
        case FDBROKER_CALL_RENAME:
        case FDBROKER_CALL_SYMLINK:
        case FDBROKER_CALL_GETXATTR:
        case FDBROKER_CALL_LISTXATTR:
        case FDBROKER_CALL_WATCH:
            return true;
        default:
            return false;
    }
}

int check_call(Connection& connection, const fdbroker_request& request) {
    if (!may_be_submitted(request.call)) return connection.refuse(EINVAL, "a call that cannot be submitted");
    if (request.timeout < 0) return connection.refuse(EINVAL, "a negative timeout");
    if (takes_second(static_cast<Call>(request.call)) == (request.second != nullptr)) return 0;
    return connection.refuse(EINVAL, "a second text is missing, or is not the call's");
}

Submission submission_of(const fdbroker_request& request) {
    const bool has_second = request.second != nullptr;
    return {.ask = {.call = static_cast<Call>(request.call),
                    .path = request.path,
                    .flags = static_cast<std::uint32_t>(request.flags),
                    .mode = static_cast<std::uint32_t>(request.mode),
                    .payload = has_second ? std::string_view(request.second, std::strlen(request.second) + 1)
                                          : std::string_view()},
            .tag = request.tag,
            .timeout = request.timeout == 0 ? -1 : request.timeout};
}

int submit(Connection& connection, const fdbroker_request* requests, std::size_t count) {
    std::size_t size = 0;
    if (const int error = check_requests(connection, requests, count, size); error < 0) return error;
    std::vector<Submission> submissions;
    std::deque<std::string> new_paths;  // canonical
    submissions.reserve(count);
    for (std::size_t index = 0; index < count; ++index) {
        fdbroker_request request = read_sized(element(requests, size, index), size);
        if (const int error = check_call(connection, request); error < 0) return error;
        if (request.call == FDBROKER_CALL_RENAME) {
            const int error = write_canonical(connection, request.second, new_paths.emplace_back());
            if (error < 0) return error;
            request.second = new_paths.back().c_str();
        }
        submissions.push_back(submission_of(request));
    }
    return connection.submit(submissions);
}

bool answers_with_bytes(Call call) {
    return call == Call::readlink || call == Call::xattr_read || call == Call::xattr_list;
}

// Shows a program the completion's payload, which the completion keeps.
void set_data(Connection& connection, Completion& from, fdbroker_completion& to) {
    if (from.result < 0) return;
    if (from.call == Call::stat) {
        struct statx status{};
        if (!read_statx(from.payload, status)) {
            to.result = connection.fail(EPROTO, "the answer is not as it should be");
            from.reason = connection.reason();
            return;
        }
        if (from.of_directory && !S_ISDIR(status.stx_mode)) {
            to.result = connection.refuse(ENOTDIR, "it is no directory");
            from.reason = connection.reason();
            connection.clear_reason();
            return;
        }
        from.payload.assign(reinterpret_cast<const char*>(&status), sizeof status);
    } else if (!answers_with_bytes(from.call)) {
        return;
    }
    to.data = from.payload.data();
    to.data_size = from.payload.size();
}

int complete(Connection& connection, fdbroker_completion* completions, std::size_t count, int timeout) {
    const std::size_t size = completions->size;
    if (const int error = check_size(completions, size, sizeof(fdbroker_completion)); error == -EINVAL)
        return refuse_size(connection, error);
    const int result = connection.complete(count, timeout);
    if (result <= 0) return result;
    std::size_t index = 0;
    for (Completion& done : connection.completions()) {
        fdbroker_completion told{};
        told.size = size;
        told.tag = done.tag;
        told.call = static_cast<unsigned>(done.call);
        told.result = done.file ? done.file.release() : done.result;
        set_data(connection, done, told);
        told.reason = done.reason.c_str();
        auto* to = element(completions, size, index++);
        std::memset(static_cast<void*>(to), 0, size);
        std::memcpy(static_cast<void*>(to), &told, sizeof told);
    }
    return result;
}

}  // namespace
}  // namespace fdbroker::worker

using namespace fdbroker::worker;

int fdbroker_submit(fdbroker_handle* broker, const fdbroker_request* requests, size_t count) {
    if (broker == nullptr || (requests == nullptr && count != 0)) return fault(broker);
    return guarded(broker, [&](Connection& connection) { return submit(connection, requests, count); });
}

int fdbroker_complete(fdbroker_handle* broker, fdbroker_completion* completions, size_t count, int timeout) {
    if (broker == nullptr || completions == nullptr || count == 0) return fault(broker);
    return guarded(broker,
                   [&](Connection& connection) { return complete(connection, completions, count, timeout); });
}

int fdbroker_descriptor(fdbroker_handle* broker) {
    if (broker == nullptr) return fault(broker);
    return guarded(broker, [](Connection& connection) { return connection.descriptor(); });
}
