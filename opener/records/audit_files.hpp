// SPDX-License-Identifier: MIT
// The audit log on disk: the file that is written to, and those that it was rotated to.
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "opener/records/record_files.hpp"
#include "proto/error.hpp"

namespace fdbroker::records {

struct AuditFile {
    std::string path{};
    std::time_t written{};  // last
};

// FILE, FILE.1 and so on (the opener's own rotation) and FILE-DATE (logrotate's), also compressed ones (.gz, .zst); the oldest
// first. Those that vanish meanwhile are left out. The error: the directory cannot be read, or there is no such file.
proto::Result<std::vector<AuditFile>> audit_files(const std::string& file);

// Calls `use` with each whole line, without its line feed, until that says stop. Lines that are longer than any record are
// left out, and one that the file ends in the middle of. Decompresses as byte_source.hpp says.
proto::Result<void> read_lines(const AuditFile& file,
                               const std::function<Reading(std::string_view line)>& use);

}  // namespace fdbroker::records
