// SPDX-License-Identifier: MIT
// Confines this process for good, layer by layer, so that the broker's socket is its only way to a file.
//
// For a process with one thread: capabilities, no_new_privs and Landlock are a thread's own (Landlock has no flag for
// all threads up to Linux 6.18 at least). Threads that are started afterwards inherit all of it.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"
#include "worker/sandbox/filter.hpp"
#include "worker/sandbox/fstat_handler.hpp"

namespace fdbroker::worker {

// In the order in which they are entered.
enum class Layer {
    descriptors,   // all but the standard ones and those named are closed (only when asked for)
    namespaces,    // an empty root, no network, ... (only when asked for, where this process may have them)
    limits,        // no core dump, no further process or thread, ... (only when asked for)
    capabilities,  // none in any set; where it may still be emptied (CAP_SETPCAP) the bounding set, too
    dumpable,      // no core dump, no ptrace by others of the same user, /proc/self not its own
    no_new_privs,  // no execve gains anything
    landlock,  // no right to a file or, as far as the ABI goes, the network, abstract sockets, foreign signals
    seccomp,   // the system calls of filter.cpp and no others
};
inline constexpr std::size_t layer_count = 8;
const char* to_string(Layer layer) noexcept;

enum class LayerState { not_asked, enforced, unavailable };

struct LayerReport {
    Layer layer = Layer::descriptors;
    LayerState state = LayerState::not_asked;
    std::string detail{};  // for a person: what exactly is enforced, or why it is not
};
using SandboxReport = std::array<LayerReport, layer_count>;  // by layer

// The consequence when this kernel lacks a layer. Namespaces are never missed: who may have them is the administrator's
// decision, and many leave them out.
enum class MissingLayer { fail, go_on };

enum class Wish { no, yes };

struct ConfineOptions {
    MissingLayer missing_layer = MissingLayer::fail;
    // When given, only 0, 1, 2 and these stay open.
    std::optional<std::vector<proto::BorrowedFd>> keep_only{};
    Wish namespaces = Wish::no;
    Wish limits = Wish::no;
    Fstat fstat = Fstat::served;
    unsigned allowances = 0;  // Allowance
    // Where Denied::told cannot be had, it is Denied::noted.
    Denied denied = Denied::silent;
};

// Closes everything but the standard descriptors and these.
proto::Result<void> close_all_but(std::span<const proto::BorrowedFd> kept);

// Errors (the operation names the layer): EBUSY: there are other threads; ENOSYS, EOPNOTSUPP: this kernel lacks a layer
// and MissingLayer::fail holds; in both cases nothing has been changed. Any other: a layer could not be entered, those
// before it have been, and the process had better end.
proto::Result<SandboxReport> confine(const ConfineOptions& options);

}  // namespace fdbroker::worker
