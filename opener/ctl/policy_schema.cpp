// SPDX-License-Identifier: MIT
#include "opener/policy_source/policy_schema.hpp"

#include <nlohmann/json.hpp>

#include "opener/ctl/json.hpp"
#include "opener/ctl/policy_commands.hpp"

namespace fdbroker::ctl {

ExitStatus policy_schema(policy::Document document) {
    print_json(opener::policy_schema(document));
    return opener::exit_done;
}

}  // namespace fdbroker::ctl
