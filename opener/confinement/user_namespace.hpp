// SPDX-License-Identifier: MIT
#pragma once

#include "proto/error.hpp"

namespace fdbroker::opener {

// Puts the calling process, which must have one thread, into a user namespace that maps its own uid and gid to
// themselves. The process has every capability in there, and none outside, and stays dumpable. Every other uid shows as
// the overflow uid.
proto::Result<void> enter_user_namespace();

}  // namespace fdbroker::opener
