// SPDX-License-Identifier: MIT
// The audit log on disk: the file that is written to, and those that it was rotated to.
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "proto/error.hpp"

namespace fdbroker::ctl {

struct AuditFile {
    std::string path{};
    std::time_t written{};  // last
};

// FILE, FILE.1 and so on (the opener's own rotation) and FILE-DATE (logrotate's), also those that end in .gz; the oldest
// first. Those that vanish meanwhile are left out. The error: the directory cannot be read, or there is no such file.
proto::Result<std::vector<AuditFile>> audit_files(const std::string& file);

// Calls `use` with each line, without its line feed, until it returns false. Lines that are longer than any record are left
// out. Files that end in .gz are read through gzip(1).
enum class Reading { go_on, stop };
proto::Result<void> read_lines(const AuditFile& file,
                               const std::function<Reading(std::string_view line)>& use);

}  // namespace fdbroker::ctl
