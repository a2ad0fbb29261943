// SPDX-License-Identifier: MIT
// Requests that several of the C functions make.
#pragma once

#include <sys/stat.h>

#include <string>

#include "worker/client/connection.hpp"

namespace fdbroker::worker {

// fdbroker_stat(). ENOTDIR: the path ends as only that of a directory may, and it is none.
int ask_status(Connection& connection, const char* path, int flags, struct statx& status);
// The target of a symbolic link; 0 or a negative errno.
int ask_target(Connection& connection, const char* path, std::string& target);

// The path as the broker takes it, from the connection's directory; 0 or a negative errno.
int write_canonical(Connection& connection, const char* path, std::string& canonical);
// The text with its NUL into a buffer: its length, or ERANGE where it does not fit.
ssize_t write_text(Connection& connection, const std::string& text, char* out, std::size_t size);

}  // namespace fdbroker::worker
