// SPDX-License-Identifier: MIT
#include "opener/helpers/helper_task.hpp"

#include <array>
#include <cstdlib>

#include "opener/helpers/messages.hpp"

namespace fdbroker::opener {

namespace {

// More than what the codec adds to a request's path and payload.
constexpr std::size_t room_for_fields = 64;

}  // namespace

std::unique_ptr<HelperTask> make_task(std::uint64_t number, const policy::PeerIdentity& peer,
                                      HelperTask::Clock::time_point deadline,
                                      std::span<const proto::Request> requests, proto::Batch batch) {
    std::size_t size = room_for_fields;
    for (const proto::Request& request : requests)
        size += room_for_fields + request.path.size() + request.payload.size();
    std::vector<std::byte> buffer(size);
    proto::RequestWriter writer(buffer, proto::unknown_cpu, batch);
    for (const proto::Request& request : requests) {
        // They came in one message, so they fit one.
        if (!writer.add(request)) std::abort();
    }
    auto task = std::make_unique<HelperTask>();
    task->number = number;
    task->deadline = deadline;
    task->batch = batch;
    task->message = write_job({.number = number,
                               .deadline = deadline,
                               .listener = peer.listener,
                               .user = peer.user,
                               .group = peer.group,
                               .requests = writer.message()});
    std::array<proto::Request, proto::max_requests> read;
    const auto copied = proto::read_requests(read_job(task->message)->requests, read);
    if (!copied) std::abort();
    for (const proto::Request& request : *copied) task->parts.push_back({.request = request});
    return task;
}

}  // namespace fdbroker::opener
