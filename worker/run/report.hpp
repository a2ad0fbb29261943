// SPDX-License-Identifier: MIT
// What the broker answered, for a person (--trace, --explain) and for `openerctl policy suggest` (--learn).
#pragma once

#include <map>
#include <set>
#include <string>

#include "proto/unique_fd.hpp"
#include "worker/client/connection.hpp"

namespace fdbroker::worker {

class Report {
  public:
    struct Options {
        bool trace = false;
        bool explain = false;
        proto::BorrowedFd learn{};
    };
    explicit Report(Options options) : options_(options) {}

    void note(const Ask& ask, const Completion& reply);
    // Rules that would allow what was refused; empty: nothing was.
    std::string explanation() const;

  private:
    void learn(const std::set<std::string>& operations, const Ask& ask) const;

    Options options_;
    std::map<std::string, std::set<std::string>> refused_{};  // operations by path
};

// The operations of the policy that a request needs.
std::set<std::string> operations_of(const Ask& ask);

}  // namespace fdbroker::worker
