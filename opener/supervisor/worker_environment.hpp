// SPDX-License-Identifier: MIT
// The environment of a worker that the opener starts: its user's, and nothing of the opener's own.
#pragma once

#include <string>
#include <vector>

#include "proto/error.hpp"

namespace fdbroker::opener {

// The part of passwd(5) that a login would put into the environment. An empty `name` has no account.
struct LoginFacts {
    std::string name{};
    std::string home{};
    std::string shell{};
};

// "NAME=VALUE" strings for environ(7): HOME, USER, LOGNAME and SHELL of `login`, a PATH without the directories of
// administrators, and `wanted` on top. Each of `wanted` is "NAME=VALUE", or "NAME" for the value that this process has.
// system: EINVAL for a name that is empty, ENOENT for one that this process does not have.
proto::Result<std::vector<std::string>> worker_environment(const LoginFacts& login,
                                                           const std::vector<std::string>& wanted);

}  // namespace fdbroker::opener
