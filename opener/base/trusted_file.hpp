// SPDX-License-Identifier: MIT
// Opening a file that nobody but root (or the user who runs this) could have changed or replaced: a policy, or the place
// of the audit records.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <expected>
#include <string>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// Which harm a message names. /var/log itself may be its group's to write for records: some distributions have it so.
enum class TrustedFor : std::uint8_t { policy, records };

// The object that a name leads to. Every step on the way was held to the rule: the root directory, each directory, each
// symbolic link and the object belong to root (or to the effective user). Neither group nor others may write them.
// A directory with the sticky bit may be writable, since only an entry's owner replaces that. The mode of a policy that is
// neither a file nor a directory is not looked at: the reader refuses it by its type.
struct TrustedObject {
    proto::UniqueFd directory{};  // O_PATH
    std::string name{};           // in `directory`; "." for the root directory
    proto::UniqueFd fd{};         // O_PATH, never a symbolic link
    struct stat status{};
    std::string path{};  // without links, as messages name it
};

// Walks `path` (a relative one from the working directory) component by component, following links itself, at
// most 40. The error is a sentence: what is wrong with which step, and what to do. Opens nothing for reading.
std::expected<TrustedObject, std::string> walk_trusted(const std::string& path,
                                                       TrustedFor use = TrustedFor::policy);

// Opens what was walked to; it is still the same object. Never blocks on a FIFO, and makes no terminal ours.
// `flags`: O_DIRECTORY or 0.
std::expected<proto::UniqueFd, std::string> open_for_reading(const TrustedObject& object, int flags);

// Opens the file of this name for appending, or makes it with mode 0600, in a directory that was walked to for records. Holds
// it to the same rule, but for the mode of devices. A symbolic link is an error, and so is any other type where only
// regular files will do; none of these is opened. Never blocks.
enum class AppendTo : std::uint8_t { anything, regular_files };
std::expected<proto::UniqueFd, std::string> open_for_appending(const TrustedObject& directory,
                                                               const std::string& name, AppendTo what);

// In words: "a FIFO", "a directory".
const char* kind_of_file(mode_t mode) noexcept;

}  // namespace fdbroker::opener
