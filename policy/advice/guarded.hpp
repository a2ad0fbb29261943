// SPDX-License-Identifier: MIT
// What is never suggested unless somebody asks for it by name: secrets, and what is no file.
#pragma once

#include <string>
#include <vector>

#include "policy/matching/policy.hpp"

namespace fdbroker::policy {

// /etc/shadow and its like, keys, /root, /proc, /sys, /dev.
std::vector<std::string> guarded_patterns();

// `include`: patterns of what is suggested all the same; each must be one that parse_pattern() accepts.
class Guard {
  public:
    explicit Guard(const std::vector<std::string>& include);
    bool holds_back(RequestPath path) const;
    // Which of what is held back a pattern reaches; ${user} stands for a plain name.
    enum class Reached : std::uint8_t {
        nothing,
        names,   // names that keys have, in whatever directory
        places,  // /etc/shadow, /root and the like
    };
    Reached reached_by(const std::string& pattern) const;
    // Patterns of the names that keys have, below a directory whose pattern this is.
    static std::vector<std::string> names_below(const std::string& directory);

  private:
    bool reaches(const std::string& pattern, const std::vector<std::string>& held_back) const;
    static Policy policy_of(const std::vector<std::string>& allowed, const std::vector<std::string>& denied);
    std::vector<std::string> include_{};
    Policy guarded_;
    Policy included_;
};

}  // namespace fdbroker::policy
