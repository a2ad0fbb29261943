// SPDX-License-Identifier: MIT
#include "opener/base/journal.hpp"

#include <endian.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "opener/base/build_config.hpp"

namespace fdbroker::opener {

namespace {

// Documented in fdbroker-audit(5).
constexpr std::array<JournalEvent, 19> events{{
    {"request", "59476fa7d95940db91cd5c3105f13142"},
    {"start", "ccadb719ca9644569f5061953e4eeb61", Priority::notice},
    {"stop", "69d64052da5d424b98d55a4d302cb1ab", Priority::notice},
    {"finished", "cf3110c8f47e4c8888e5b4d08978a420"},
    {"reload-failed", "34d4df05fff244b0b8f15aeb8838bba9", Priority::error},
    {"crash", "44dccd93c9d140b18337d8fb7203cd2c", Priority::error},
    {"start-failed", "8f349b8685c547eb9e775f9cd139cfb4", Priority::error},
    {"foul", "dc06d1bff4564c7cb465f1f4c6e69ae3", Priority::error},
    {"zygote-lost", "211dba058fc647ccb09c26a137707174", Priority::error},
    {"helper-stuck", "de6f002b9fcf4eba82bd50073ec0628a", Priority::warning},
    {"helper-back", "6928c0dc8c4840c79eb982045dec8828", Priority::notice},
    {"transfer-failed", "08d2b488bf21481f85dda026617d9abc", Priority::warning},
    {"connections-wait", "a2fda6d65135489bb553a463fa266b4d", Priority::warning},
    {"session-refused", "97053ddbb21747f896ac492ce4aa0151", Priority::warning},
    {"session-start", "be5b53a20d6d4d6498f95bb9fbf143b5"},
    {"session-end", "6c4381e5682f4497854c4f51ff5421cd"},
    {"audit-failed", "e370ccb17c5e41af97bdb6e5eaec98df", Priority::error},
    {"shadow", "9addde2c265441598ec8d3d184461886"},
    {"audit-head", "29503e9be18449a2b5d432f591f05c91"},
}};

bool names_standard_error(const char* journal_stream) noexcept {
    struct stat status{};
    if (journal_stream == nullptr || ::fstat(STDERR_FILENO, &status) != 0) return false;
    char* end = nullptr;
    const auto device = std::strtoull(journal_stream, &end, 10);
    if (*end != ':') return false;
    const auto inode = std::strtoull(end + 1, &end, 10);
    return *end == '\0' && device == status.st_dev && inode == status.st_ino;
}

// Before a broker is confined, and before descriptors are replaced.
const bool leads_to_journal = names_standard_error(std::getenv("JOURNAL_STREAM"));

}  // namespace

const JournalEvent* find_journal_event(std::string_view event) noexcept {
    const auto* const found = std::ranges::find(events, event, &JournalEvent::event);
    return found == events.end() ? nullptr : found;
}

bool standard_error_is_journal() noexcept {
    return leads_to_journal;
}

JournalEntry::JournalEntry(Priority priority, std::string_view message_id) {
    add("SYSLOG_IDENTIFIER", FDBROKER_OPENER)
        .add("PRIORITY", fmt::format("{}", static_cast<unsigned>(priority)));
    if (!message_id.empty()) add("MESSAGE_ID", message_id);
}

JournalEntry& JournalEntry::add(std::string_view field, std::string_view value) {
    bytes_ += field;
    if (value.find('\n') == std::string_view::npos) {
        bytes_ += '=';
    } else {
        const std::uint64_t size = htole64(value.size());
        char raw[sizeof size];
        std::memcpy(raw, &size, sizeof size);
        bytes_.append("\n").append(raw, sizeof raw);
    }
    bytes_.append(value) += '\n';
    return *this;
}

bool JournalEntry::send(proto::BorrowedFd socket) const noexcept {
    // Addressed each time, so that a journal that was started again gets the next one.
    return ::sendto(socket.number(), bytes_.data(), bytes_.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&journal_address), sizeof journal_address) >= 0;
}

}  // namespace fdbroker::opener
