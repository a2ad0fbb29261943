// SPDX-License-Identifier: MIT
#include "opener/base/log_stderr.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "opener/base/build_config.hpp"
#include "opener/base/journal.hpp"
#include "opener/base/nonblocking_write.hpp"
#include "proto/printable.hpp"

namespace fdbroker::opener {

namespace {

// sd-daemon(3): the journal takes it off each line.
std::string with_priority(Priority priority, std::string_view lines) {
    const char number[] = {'<', static_cast<char>('0' + static_cast<int>(priority)), '>', '\0'};
    std::string marked;
    while (!lines.empty()) {
        const std::size_t length = lines.find('\n') + 1;
        marked.append(number).append(lines.substr(0, length));
        lines.remove_prefix(length);
    }
    return marked;
}

std::chrono::milliseconds patience_for_room{0};

bool has_room(proto::BorrowedFd stream) noexcept {
    pollfd event{stream.number(), POLLOUT, 0};
    return patience_for_room.count() > 0 &&
           ::poll(&event, 1, static_cast<int>(patience_for_room.count())) > 0;
}

// In one call, so that lines of several processes do not mingle. Not by stdio or fmt, whose failures are exceptions or stay
// in a buffer.
void write_whole(std::string_view lines) {
    const proto::BorrowedFd standard_error(STDERR_FILENO);
    const auto own = open_without_waiting(standard_error);
    const proto::BorrowedFd stream = own ? own->borrow() : standard_error;
    while (!lines.empty()) {
        const ssize_t written = write_without_waiting(stream, lines);
        if (written >= 0)
            lines.remove_prefix(static_cast<std::size_t>(written));
        else if (errno != EAGAIN || !has_room(stream))
            return;
    }
}

void write_line(Priority priority, std::string_view prefix, std::string_view text) {
    std::string line(prefix);
    line.append(proto::printable(text)).push_back('\n');
    if (standard_error_is_journal()) line = with_priority(priority, line);
    write_whole(line);
}

bool has_priority(std::string_view line) noexcept {
    return line.size() > 2 && line[0] == '<' && line[1] >= '3' && line[1] <= '6' && line[2] == '>';
}

}  // namespace

void log_stderr_plainly(std::string_view text) noexcept {
    write_line(Priority::error, "", text);
}

void log_stderr(std::string_view text) noexcept {
    write_line(Priority::warning, FDBROKER_OPENER ": ", text);
}

void log_note(std::string_view text) noexcept {
    write_line(Priority::informational, FDBROKER_OPENER ": ", text);
}

void log_error(std::string_view text) noexcept {
    write_line(Priority::error, FDBROKER_OPENER ": ", text);
}

void log_event(std::string_view event, std::string_view text) noexcept {
    const JournalEvent* const known = find_journal_event(event);
    if (known == nullptr) return log_stderr(text);
    if (standard_error_is_journal()) {
        const proto::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        JournalEntry entry(known->priority, known->message_id);
        entry.add("FDBROKER_EVENT", event).add("MESSAGE", proto::printable(text));
        if (socket && entry.send(socket.borrow())) return;
    }
    write_line(known->priority, FDBROKER_OPENER ": ", text);
}

void copy_to_stderr(std::string_view line) noexcept {
    std::string copy = proto::printable(line, proto::LineFeeds::escaped) + '\n';
    if (standard_error_is_journal() && !has_priority(copy)) copy = with_priority(Priority::warning, copy);
    write_whole(copy);
}

void wait_for_room_on_stderr(std::chrono::milliseconds patience) noexcept {
    patience_for_room = patience;
}

}  // namespace fdbroker::opener
