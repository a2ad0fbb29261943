// SPDX-License-Identifier: MIT
// Patterns of one path component: `?`, `*`, classes, and the variables that stand for the peer.
//
// A Glob is built from its parts (pattern.hpp parses the text) and kept as a short program of bytes: 100,000 globs lie
// close together. Matching takes at most |program| × |component| steps.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fdbroker::policy {

// The variables of the policy language; the numbers index PeerValues.
enum class Variable : std::uint8_t { user, uid, group, gid };
inline constexpr unsigned variable_count = 4;

// The values of the variables for a peer. An empty value matches nothing.
using PeerValues = std::array<std::string, variable_count>;

using ByteSet = std::bitset<256>;

class Glob {
  public:
    void append_literal(char byte);
    void append_any_byte();   // ?
    void append_any_bytes();  // *; must not follow another
    void append_class(const ByteSet& bytes);
    void append_variable(Variable variable);

    bool is_literal() const noexcept { return literal_; }
    bool has_variable() const noexcept { return variable_; }
    bool ends_with_any_bytes() const noexcept;
    bool is_any_name() const noexcept;  // `*` alone
    // The text that a literal one matches.
    std::string literal() const;
    // The program: two equal ones match the same components.
    const std::string& program() const noexcept { return program_; }

  private:
    std::string program_{};
    std::size_t last_ = std::string::npos;  // where the last instruction begins
    bool literal_ = true;
    bool variable_ = false;
};

// A step of a program, for automata that are made from globs.
struct GlobStep {
    enum class Kind : std::uint8_t {
        byte,       // a byte of `bytes`
        any_bytes,  // any number of any bytes
        variable,
    };
    Kind kind{};
    ByteSet bytes{};
    Variable variable{};
};
// The steps of a Glob's program; literal text has a step for each byte.
std::vector<GlobStep> glob_steps(std::string_view program);

// Whether a variable is in the program of a Glob.
bool glob_has_variable(std::string_view program) noexcept;

// The bytes that every component which matches begins with: the literal text at the head of the program.
std::string_view glob_prefix(std::string_view program) noexcept;

// Does `component` match the program of a Glob?
bool glob_matches(std::string_view program, std::string_view component, const PeerValues& values) noexcept;

}  // namespace fdbroker::policy
