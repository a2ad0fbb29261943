// SPDX-License-Identifier: MIT
#include "opener/supervisor/worker_environment.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "proto/environment.hpp"

namespace fdbroker::opener {

namespace {

std::string_view name_of(std::string_view variable) noexcept {
    return variable.substr(0, variable.find('='));
}

std::string_view or_else(std::string_view value, std::string_view fallback) noexcept {
    return value.empty() ? fallback : value;
}

}  // namespace

proto::Result<std::vector<std::string>> worker_environment(const LoginFacts& login,
                                                           const std::vector<std::string>& wanted) {
    std::vector<std::string> environment{
        fmt::format("HOME={}", or_else(login.home, "/")),
        fmt::format("SHELL={}", or_else(login.shell, "/bin/sh")),
        // ENV_PATH of login.defs(5).
        "PATH=/usr/local/bin:/usr/bin:/bin",
    };
    if (!login.name.empty()) {
        environment.push_back("USER=" + login.name);
        environment.push_back("LOGNAME=" + login.name);
    }
    for (const std::string& variable : wanted) {
        if (name_of(variable).empty()) {
            return proto::system_error("--worker-env",
                                       fmt::format("\"{}\" has no name: write NAME or NAME=VALUE", variable),
                                       EINVAL);
        }
        if (variable.contains('=')) {
            proto::set_variable(environment, variable);
            continue;
        }
        const char* const value = std::getenv(variable.c_str());
        if (value == nullptr) {
            return proto::system_error(
                "--worker-env",
                fmt::format("the opener has no variable {} to pass on: write {}=VALUE", variable, variable),
                ENOENT);
        }
        proto::set_variable(environment, fmt::format("{}={}", variable, value));
    }
    return environment;
}

}  // namespace fdbroker::opener
