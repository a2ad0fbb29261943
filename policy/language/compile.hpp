// SPDX-License-Identifier: MIT
// From what the loader read to what decides.
#pragma once

#include "policy/language/draft.hpp"
#include "policy/matching/compiled.hpp"

namespace fdbroker::policy {

Policy compile(PolicyDraft draft);

}  // namespace fdbroker::policy
