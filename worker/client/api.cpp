// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h that open files.
#include <pthread.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <string>
#include <vector>

#include "worker/client/c_api.hpp"
#include "worker/client/handle.hpp"

namespace fdbroker::worker {
namespace {

using proto::UniqueFd;

Ask open_ask(const fdbroker_request& request) {
    return {.call = proto::Call::open,
            .path = request.path,
            .flags = static_cast<std::uint32_t>(request.flags),
            .mode = static_cast<std::uint32_t>(request.mode)};
}

int open_many(Connection& connection, const fdbroker_request* requests, std::span<int> results,
              unsigned flags) {
    if ((flags & ~FDBROKER_ALL_OR_NOTHING) != 0) return connection.refuse(EINVAL, "a flag that is none");
    const std::size_t count = results.size();
    std::size_t size = 0;
    if (const int error = check_requests(connection, requests, count, size); error < 0) return error;
    const auto ask_of = [&](std::size_t index) {
        return open_ask(read_sized(element(requests, size, index), size));
    };
    if ((flags & FDBROKER_ALL_OR_NOTHING) == 0) return connection.ask_many(results, ask_of);
    if (count > proto::max_requests) return connection.refuse(E2BIG, "the requests do not fit one message");
    std::array<Ask, proto::max_requests> asks;
    for (std::size_t index = 0; index < count; ++index) asks[index] = ask_of(index);
    return connection.ask_whole(std::span(asks).first(count), results);
}

}  // namespace

int refuse_size(Connection& connection, int error) {
    return connection.refuse(-error, error == -E2BIG ? "a struct sets what this library does not know"
                                                     : "the size of a struct is that of no version");
}

int check_requests(Connection& connection, const fdbroker_request* requests, std::size_t count,
                   std::size_t& size) {
    // Up to `mode`.
    constexpr std::size_t least = offsetof(fdbroker_request, mode) + sizeof(mode_t);
    size = count == 0 ? sizeof(fdbroker_request) : requests->size;
    for (std::size_t index = 0; index < count; ++index) {
        const fdbroker_request* request = element(requests, size, index);
        const int error = request->size == size ? check_size(request, size, least) : -EINVAL;
        if (error < 0) return refuse_size(connection, error);
    }
    return 0;
}

}  // namespace fdbroker::worker

using namespace fdbroker::worker;
using fdbroker::proto::UniqueFd;

thread_local const fdbroker_handle* fdbroker::worker::Use::refused_by = nullptr;

int fdbroker_set_busy_poll(fdbroker_handle* broker, int microseconds) {
    if (broker == nullptr) return -EFAULT;
    const Use use(*broker);
    if (!use) return -EBUSY;
    if (microseconds < 0 || microseconds > fdbroker::proto::max_busy_poll.count())
        return broker->connection.refuse(EINVAL, "a time that is not from 0 to 1000 microseconds");
    broker->connection.set_busy_poll(std::chrono::microseconds(microseconds));
    return 0;
}

int fdbroker_open(fdbroker_handle* broker, const char* path, int flags, mode_t mode) {
    if (broker == nullptr) return -EFAULT;
    return guarded(broker, [&](Connection& connection) {
        return connection.ask({.call = fdbroker::proto::Call::open,
                               .path = path,
                               .flags = static_cast<std::uint32_t>(flags),
                               .mode = static_cast<std::uint32_t>(mode)});
    });
}

int fdbroker_open_many(fdbroker_handle* broker, const fdbroker_request* requests, size_t count, int* fds) {
    return fdbroker_open_many_flags(broker, requests, count, fds, 0);
}

int fdbroker_open_many_flags(fdbroker_handle* broker, const fdbroker_request* requests, size_t count,
                             int* fds, unsigned flags) {
    if (broker == nullptr || (count != 0 && (requests == nullptr || fds == nullptr))) return fault(broker);
    const std::span<int> results(fds, count);
    std::ranges::fill(results, -1);
    const int error = guarded(
        broker, [&](Connection& connection) { return open_many(connection, requests, results, flags); });
    if (error == 0) return 0;
    for (int& result : results) {
        const UniqueFd closed(result);
        result = error;
    }
    return error;
}

const char* fdbroker_reason(const fdbroker_handle* broker) {
    if (broker == nullptr) return "";
    const pthread_t user = broker->user.load(std::memory_order_relaxed);
    if (Use::refused_by == broker || (user != 0 && user != ::pthread_self()))
        return "client: another thread is using the connection";
    return broker->connection.reason();
}
