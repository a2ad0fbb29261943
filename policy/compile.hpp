// From what the loader read to what decides.
#pragma once

#include "policy/compiled.hpp"
#include "policy/draft.hpp"

namespace fdbroker::policy {

Policy compile(PolicyDraft draft);

}  // namespace fdbroker::policy
