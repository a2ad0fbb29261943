// SPDX-License-Identifier: MIT
#include "worker/sandbox/escapes.hpp"

#include "worker/sandbox/escape_groups.hpp"
#include "worker/sandbox/pid_namespace.hpp"

namespace fdbroker::worker {

const char* to_string(EscapeGroup group) noexcept {
    switch (group) {
        case EscapeGroup::paths:
            return "by a path";
        case EscapeGroup::descriptors:
            return "by a descriptor";
        case EscapeGroup::sockets:
            return "by a socket";
        case EscapeGroup::programs:
            return "by another program";
        case EscapeGroup::processes:
            return "by another process";
        case EscapeGroup::kernel:
            return "around the filter";
    }
    return "unknown";
}

std::span<const Escape> escapes(EscapeGroup group) {
    switch (group) {
        case EscapeGroup::paths:
            return path_escapes();
        case EscapeGroup::descriptors:
            return descriptor_escapes();
        case EscapeGroup::sockets:
            return socket_escapes();
        case EscapeGroup::programs:
            return program_escapes();
        case EscapeGroup::processes:
            return process_escapes();
        case EscapeGroup::kernel:
            return kernel_escapes();
    }
    return {};
}

proto::Result<WorkerSandbox> enter_as_worker(std::vector<proto::BorrowedFd> kept) {
    WorkerSandbox entered;
    if (const auto own = go_on_in_pid_namespace(); !own) entered.no_pid_namespace = own.error().message();
    auto layers = confine({.missing_layer = MissingLayer::go_on,
                           .keep_only = std::move(kept),
                           .namespaces = Wish::yes,
                           .limits = Wish::yes});
    if (!layers) return std::unexpected(layers.error());
    entered.layers = std::move(*layers);
    return entered;
}

}  // namespace fdbroker::worker
