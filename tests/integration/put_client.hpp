// SPDX-License-Identifier: MIT
// A put by the C++ client library, whose headers have a struct of the name that is a namespace of the tests' own.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace put_client {

// Fills `path` with `content` and commits until a commit is done or `goes_on` says false. `goes_on` gets the put's
// descriptor, -1 once that is closed. Returns the errno of each commit, 0 for done; the put's errno if that is refused.
std::vector<int> put(const std::string& socket, const std::string& path, const std::string& content,
                     const std::function<bool(int)>& goes_on, unsigned flags = 0);

}  // namespace put_client
