// SPDX-License-Identifier: MIT
// One connection to the control socket.
//
// The socket is read without being emptied: a line is taken off the socket when it is there as a whole. So the next generation
// finds in the socket whatever this one has not answered, and nothing else has to be handed on but a note.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "opener/base/event_loop.hpp"
#include "opener/link/messages.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// The state of a connection, for the next generation; in NoteControl and AdoptControl.
struct ControlNote {
    enum class Waits : std::uint8_t {
        commands,   // for the client's next line
        watching,   // decisions are streamed
        reload,     // the policy is loaded again
        workers,    // the number of workers is changed
        take_over,  // the opener executes its program anew
        shadow,     // a candidate is loaded, or let go of
    };
    Waits waits = Waits::commands;
    bool json = false;
    std::uint64_t lost = 0;  // watching: records that the client has not been told the loss of

    std::uint64_t packed() const noexcept {
        return lost << 8 | (json ? 128U : 0U) | static_cast<std::uint64_t>(waits);
    }
    static ControlNote from(std::uint64_t packed) noexcept {
        return {static_cast<Waits>((packed & 127U) <= 5 ? packed & 127U : 0), (packed & 128U) != 0,
                packed >> 8};
    }
};

class ControlClient {
  public:
    // Kept for a client that does not read: the answer to one line, and of a watch this much.
    static constexpr std::size_t max_backlog = std::size_t{256} << 10;  // bytes

    // Commands that the peer may give.
    enum class Rights : std::uint8_t { none, metrics, all };

    ControlClient(ConnectionId connection_id, proto::UniqueFd socket, ControlNote note, Rights rights)
        : connection_id_(connection_id), socket_(std::move(socket)), note_(note), rights_(rights) {}

    Rights rights() const noexcept { return rights_; }

    ConnectionId connection_id() const noexcept { return connection_id_; }
    proto::BorrowedFd descriptor() const noexcept { return socket_.borrow(); }
    void watched_by(Source source) noexcept { source_ = std::move(source); }
    ControlNote& note() noexcept { return note_; }
    bool watches() const noexcept { return note_.waits == ControlNote::Waits::watching; }

    // The next line, without its line feed. nullopt: there is none now, or none is wanted before what was answered is
    // read. What the client sent last needs no line feed when it has ended its side.
    // `room` has max_control_line + 1 bytes or more, and the line lies in it.
    std::optional<std::string_view> next_line(std::span<char> room);

    void answer(std::string_view text) { out_ += text; }
    // A line of the stream; lost when the client has too much to read already.
    void stream(std::string_view line);
    // Sends what the socket has room for, in whole lines where these are not longer than what a socket takes at once.
    void flush();

    std::size_t backlog() const noexcept { return out_.size(); }
    // Everything that it will ever get has been sent, or it is no more.
    bool finished() const noexcept { return gone_ || (over_ && out_.empty()); }
    // After what is left to send.
    void end() noexcept { over_ = true; }
    // Makes the connection ready for the next generation: of a watch, what was not sent counts as lost; half an answer
    // ends the connection.
    void hand_over();
    std::uint64_t lost() const noexcept { return lost_in_all_; }

  private:
    void tell_losses();
    void send_backlog();

    ConnectionId connection_id_;
    proto::UniqueFd socket_;
    ControlNote note_;
    Rights rights_;
    std::string out_{};
    bool over_ = false;  // ends when `out_` has left
    bool gone_ = false;
    std::uint64_t lost_in_all_ = 0;
    Source source_{};  // the socket's
};

}  // namespace fdbroker::opener
