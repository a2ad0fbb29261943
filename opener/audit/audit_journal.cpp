// SPDX-License-Identifier: MIT
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <string>
#include <utility>

#include "opener/audit/audit_record.hpp"
#include "opener/audit/audit_sink.hpp"
#include "opener/base/journal.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// The value of a key as it stands in the line, without its quotes; empty: the line has none. `"key":` cannot stand in a
// string, where a quote is escaped, so what a peer wrote is never taken for a key.
std::string_view value_of(std::string_view line, std::string_view key) {
    const std::size_t start = line.find(key);
    if (start == std::string_view::npos) return {};
    std::string_view value = line.substr(start + key.size());
    if (!value.starts_with('"')) return value.substr(0, value.find_first_of(",}"));
    value.remove_prefix(1);
    std::size_t end = 0;
    while (end < value.size() && value[end] != '"') end += value[end] == '\\' ? 2U : 1U;
    return value.substr(0, end);
}

// The text that a value of the line stands for: JSON's escapes are undone, each character of which is one byte.
std::string unescaped(std::string_view value) {
    std::string bytes;
    for (std::size_t i = 0; i < value.size(); ++i) {
        if (value[i] != '\\' || i + 1 == value.size()) {
            bytes += value[i];
            continue;
        }
        switch (const char escape = value[++i]) {
            case 'n':
                bytes += '\n';
                break;
            case 'u': {
                unsigned byte = 0;
                const std::string_view digits = value.substr(i + 1, 4);
                std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
                bytes += static_cast<char>(byte);
                i += digits.size();
                break;
            }
            default:
                bytes += escape;
        }
    }
    return bytes;
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 9> fields{{
    {"FDBROKER_SEQ", "\"seq\":"},
    {"FDBROKER_GENERATION", "\"generation\":"},
    {"FDBROKER_EVENT", "\"event\":"},
    {"FDBROKER_DECISION", "\"decision\":"},
    {"FDBROKER_SESSION", "\"session\":"},
    {"FDBROKER_UID", "\"uid\":"},
    {"FDBROKER_PATH", "\"path\":"},
    {"FDBROKER_RULE", "\"rule\":"},
    {"FDBROKER_ERRNO", "\"errno\":"},
}};

// Not by sd_journal_sendv(3), which waits while the journal's socket is full.
class AuditJournal final : public AuditSink {
  public:
    explicit AuditJournal(UniqueFd socket) : socket_(std::move(socket)) {}

    Result<std::size_t> write(std::string_view lines) override {
        std::size_t written = 0;
        while (written < lines.size()) {
            const std::size_t length = lines.find('\n', written) - written;
            if (!send(lines.substr(written, length))) {
                if (errno == EAGAIN || errno == EINTR || written != 0) break;
                return proto::system_error("sendmsg", "the journal (--audit journal)");
            }
            written += length + 1;
        }
        return written;
    }

  private:
    bool send(std::string_view line) {
        const JournalEvent* event = find_journal_event(value_of(line, "\"event\":"));
        static constexpr JournalEvent unknown{};
        if (event == nullptr) event = &unknown;
        const bool refused = value_of(line, "\"decision\":") == "refused";
        JournalEntry entry(refused ? Priority::notice : event->priority, event->message_id);
        entry.add("MESSAGE", line);
        for (const auto& [name, key] : fields) {
            const std::string_view value = value_of(line, key);
            if (!value.empty()) entry.add(name, unescaped(value));
        }
        return entry.send(socket_.borrow());
    }

    UniqueFd socket_;
};

}  // namespace

Result<std::unique_ptr<AuditSink>> open_audit_journal() {
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return proto::system_error("socket", "--audit journal");
    // An entry has its path twice. As root also above net.core.wmem_max.
    const int room = static_cast<int>(4 * max_line);
    if (::setsockopt(socket.number(), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) != 0)
        ::setsockopt(socket.number(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    if (::connect(socket.number(), reinterpret_cast<const sockaddr*>(&journal_address),
                  sizeof journal_address) != 0)
        return proto::system_error("--audit journal", journal_address.sun_path);
    // Disconnected again: see send().
    const sockaddr nowhere{AF_UNSPEC, {}};
    static_cast<void>(::connect(socket.number(), &nowhere, sizeof nowhere));
    return std::make_unique<AuditJournal>(std::move(socket));
}

}  // namespace fdbroker::opener
