// SPDX-License-Identifier: MIT
// A put by the C++ client library, whose headers have a struct of the name that is a namespace of the tests' own.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace put_client {

// Fills `path` with `content` and commits as long as `goes_on`, which gets the put's descriptor (-1 once that is closed),
// says so and none has been done. The errno of each commit, 0 for done; of a put that is refused its own.
std::vector<int> put(const std::string& socket, const std::string& path, const std::string& content,
                     const std::function<bool(int)>& goes_on, unsigned flags = 0);

}  // namespace put_client
