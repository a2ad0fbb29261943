// SPDX-License-Identifier: MIT
// `opener --check`: what a start would do, without starting.
#pragma once

#include "opener/config/options.hpp"

namespace fdbroker::opener {

// Loads the policy. Prints on standard output what the broker would be confined to, and how much of that this kernel and
// this process's rights permit. exit_policy: the policy is invalid, said on standard error. exit_failed: with
// --require-confinement, a layer is missing. Confines only a child.
ExitStatus check(const Options& options);

}  // namespace fdbroker::opener
