// SPDX-License-Identifier: MIT
#include "proto/environment.hpp"

#include <algorithm>
#include <utility>

namespace fdbroker::proto {

void set_variable(std::vector<std::string>& environment, std::string variable) {
    const auto start = variable.substr(0, variable.find('=') + 1);
    const auto same =
        std::ranges::find_if(environment, [&](const std::string& other) { return other.starts_with(start); });
    if (same == environment.end())
        environment.push_back(std::move(variable));
    else
        *same = std::move(variable);
}

}  // namespace fdbroker::proto
