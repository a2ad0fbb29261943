// SPDX-License-Identifier: MIT
// The policy file and its fragments, read from disk; what they say is policy::load()'s.
#pragma once

#include <cstddef>
#include <expected>
#include <string>

#include "policy/language/loader.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// A file, or all fragments of one pattern together; fdbroker-policy(5).
inline constexpr std::size_t max_policy_size = std::size_t{32} << 20;
inline constexpr std::size_t max_fragments = 4096;  // a pattern's

// Reads a regular file that only trusted hands could have changed (trusted_file.hpp). The Source is named as
// `path` is written. The error is about the file as a whole, and says what to do where that is known.
std::expected<policy::Source, policy::Diagnostic> read_policy_file(const std::string& path);

// Reads what comes through a pipe or a terminal to its end. Whoever hands in the descriptor vouches for what it holds.
std::expected<policy::Source, policy::Diagnostic> read_policy_stream(proto::BorrowedFd stream,
                                                                     const std::string& name);

// Reads the fragments of a policy file. Only the last component of a pattern may hold wildcards (fnmatch(3):
// * ? [ ]; names that begin with a dot are matched by a dot alone). Wildcards may match nothing. The directory must be
// there, and so must a name without wildcards: a lost fragment may be one that denies. A link to /dev/null masks
// a fragment: it holds no rules.
policy::FragmentReader fragment_reader(const std::string& policy_path);

}  // namespace fdbroker::opener
