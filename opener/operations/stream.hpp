// SPDX-License-Identifier: MIT
// deliver: stream. The peer gets one end of a pipe, and a helper moves what goes through it: it has no descriptor of the
// file, so that it can read only what comes next, and write only behind what is there.
#pragma once

#include <optional>

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// A pipe that nothing goes through yet.
struct Pipe {
    proto::UniqueFd helpers;  // does not block
    proto::UniqueFd peers;    // blocks unless the peer asked for O_NONBLOCK
};

// EINVAL for impossible flags: a stream is read, or written with O_APPEND, in the order of the bytes.
std::optional<Obstacle> refuse_stream(OpenFlags flags) noexcept;

// Before anything is opened or made, so that nothing is where this fails.
Attempt<Pipe> make_pipe(OpenFlags flags);

// `file` is regular, opened for what `flags` ask. A read stream ends at the end of the file, a written one when nobody can
// write to it any more. Both end with the session. Bytes in a written stream's pipe by then still get into the file, as far
// as they are less than a pipe can hold.
Outcome deliver_stream(DeliverableFile file, Pipe pipe, OpenFlags flags);

}  // namespace fdbroker::opener
