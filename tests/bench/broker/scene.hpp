// SPDX-License-Identifier: MIT
// The files and the policies that the benchmark runs on.
#pragma once

#include <string>
#include <vector>

#include "tests/support/files.hpp"

namespace fdbroker::bench {

// How many different files a variant asks for, in turn.
inline constexpr unsigned files_in_turn = 64;

// A tree of a few directories whose files are covered by any number of rules, one each: exact paths, whole
// subtrees behind a wildcard, and names with one; two rules deny by suffix, as real policies do.
class Scene {
  public:
    Scene();

    // A policy of `rules` rules for the user nobody, and the files that paths() names. Returns its path.
    std::string write_policy(unsigned rules) const;
    // Files that exist and that a policy of so many rules allows, spread evenly over its rules.
    std::vector<std::string> paths(unsigned rules) const;
    // Paths as long that no rule allows.
    std::vector<std::string> refused_paths() const;

    const test::TempDir& directory() const { return directory_; }

  private:
    std::string pattern(unsigned rule) const;
    std::string path(unsigned rule) const;

    test::TempDir directory_;
};

}  // namespace fdbroker::bench
