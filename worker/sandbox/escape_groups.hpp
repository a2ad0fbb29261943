// SPDX-License-Identifier: MIT
// The lists that escapes() chooses from.
#pragma once

#include <span>

#include "worker/sandbox/escapes.hpp"

namespace fdbroker::worker {

std::span<const Escape> path_escapes();
std::span<const Escape> descriptor_escapes();
std::span<const Escape> socket_escapes();
std::span<const Escape> program_escapes();
std::span<const Escape> process_escapes();
std::span<const Escape> kernel_escapes();

}  // namespace fdbroker::worker
