// SPDX-License-Identifier: MIT
// Faults of requests besides their flags and modes, as PROTOCOL.md, "Calls", has them. Each function is pure and returns a
// literal for the peer, or null: the request has none.
#pragma once

#include <string_view>

#include "proto/message.hpp"

namespace fdbroker::opener {

// Where extended attributes may be asked for: the one namespace that has no meaning to the kernel (xattr(7)). The others
// are modes, capabilities and labels.
inline constexpr std::string_view attribute_namespace = "user.";

const char* fault_of_link_target(const proto::Request& request);
const char* fault_of_attributes(const proto::Request& request);  // in a request of setattr
const char* fault_of_attribute_name(
    const proto::Request& request);  // in requests about an extended attribute
const char* fault_of_watch(const proto::Request& request);

}  // namespace fdbroker::opener
