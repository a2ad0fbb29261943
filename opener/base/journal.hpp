// SPDX-License-Identifier: MIT
// Entries of systemd's journal: their priorities, the ids of events, and its native protocol (a datagram of fields,
// systemd.io/JOURNAL_NATIVE_PROTOCOL).
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

inline constexpr sockaddr_un journal_address{AF_UNIX, "/run/systemd/journal/socket"};

// syslog(3).
enum class Priority : std::uint8_t { error = 3, warning = 4, notice = 5, informational = 6 };

// An event of fdbroker-audit(5), as `journalctl MESSAGE_ID=…` finds it. The ids never change.
struct JournalEvent {
    std::string_view event{};
    std::string_view message_id{};
    Priority priority = Priority::informational;
};
// nullptr: no event is called so.
const JournalEvent* find_journal_event(std::string_view event) noexcept;

// Whether standard error leads to the journal, which then takes "<3>" before a line for its priority: JOURNAL_STREAM of
// systemd.exec(5) names what standard error is. As it was when the process started.
bool standard_error_is_journal() noexcept;

class JournalEntry {
  public:
    JournalEntry(Priority priority, std::string_view message_id);
    // Any bytes.
    JournalEntry& add(std::string_view field, std::string_view value);
    // Without waiting, on a socket that is not connected; false: errno says why.
    bool send(proto::BorrowedFd socket) const noexcept;

  private:
    std::string bytes_{};
};

}  // namespace fdbroker::opener
