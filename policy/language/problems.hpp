// SPDX-License-Identifier: MIT
// The errors found while a policy loads.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "policy/language/loader.hpp"

namespace fdbroker::policy {

// A place in one of the files that are being loaded. Lines and columns (in bytes) count from 1; line 0: the file.
struct Mark {
    std::uint32_t file = 0;
    std::uint32_t line = 0;
    std::uint32_t column = 0;
    auto operator<=>(const Mark&) const = default;
};

// So that a file of errors alone takes no more memory than any other; what is beyond is counted.
inline constexpr std::size_t max_problems = 10'000;

// Names stay where they are while more come.
using FileNames = std::deque<std::string>;

class Problems {
  public:
    // The files in the order in which their errors are told.
    std::uint32_t add_file(std::string name);
    // Bytes of the text that do not print are shown as \xHH.
    void add(Mark mark, DiagnosticCode code, const std::string& text);
    // Notes a fault that does not keep the policy from loading; printed and counted like an error.
    void tolerate(Mark mark, DiagnosticCode code, const std::string& text);

    bool empty() const noexcept { return problems_.empty(); }
    std::size_t count() const noexcept { return problems_.size() + further_; }
    // Storage that the names in locations point into; a policy keeps it.
    std::shared_ptr<const FileNames> file_names() const noexcept { return files_; }
    Location location(Mark mark) const;
    Mark mark(const Location& location) const;  // for a location that this made
    std::vector<Diagnostic> in_order() &&;
    std::size_t tolerated() const noexcept { return tolerated_.size(); }
    std::vector<Diagnostic> tolerated_in_order() &&;

  private:
    struct Problem {
        Mark mark{};
        std::size_t number = 0;  // in the order found, for those of one place
        std::string text{};
        DiagnosticCode code{};
    };
    std::shared_ptr<FileNames> files_ = std::make_shared<FileNames>();
    std::vector<Diagnostic> in_order(std::vector<Problem> problems) const;
    std::vector<Problem> problems_{};
    std::vector<Problem> tolerated_{};
    std::size_t further_ = 0;
};

}  // namespace fdbroker::policy
