// SPDX-License-Identifier: MIT
// Waiting for events. Everything here blocks until the event or the deadline; what has not come by then is an
// exception (std::runtime_error) that names it.
#pragma once

#include <filesystem>
#include <functional>

#include "proto/unique_fd.hpp"
#include "tests/support/deadline.hpp"

namespace fdbroker::test {

// Until one of `events` (poll(2)), an error or a hang-up is there; returns what is.
short wait_for_events(proto::BorrowedFd descriptor, short events, Deadline deadline = in_good_time());
// As above for POLLIN: data, a connection, the end of a process (pidfd), the end of a stream.
void wait_readable(proto::BorrowedFd descriptor, Deadline deadline = in_good_time());
bool is_readable_now(proto::BorrowedFd descriptor);

// Until something of that name exists (or has been moved there). Its directory must exist.
void wait_for_path(const std::filesystem::path& path, Deadline deadline = in_good_time());
// Until a socket listens at that path. Looks without connecting: the listener does not notice.
void wait_for_listener(const std::filesystem::path& path, Deadline deadline = in_good_time());
// Until nothing of that name exists. Its directory must exist.
void wait_for_removal(const std::filesystem::path& path, Deadline deadline = in_good_time());
// Waits until the file exists and `holds` is true of the content; returns that content. `what` names the event.
std::string wait_for_content(const std::filesystem::path& path, std::string_view what,
                             const std::function<bool(const std::string&)>& holds,
                             Deadline deadline = in_good_time());
// Until the file exists and holds `text`; returns the file's content then.
std::string wait_for_text(const std::filesystem::path& path, std::string_view text,
                          Deadline deadline = in_good_time());

}  // namespace fdbroker::test
