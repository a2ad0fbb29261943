// SPDX-License-Identifier: MIT
#include "opener/operations/stream.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <memory>
#include <span>
#include <utility>

namespace fdbroker::opener {

using proto::Step;
using proto::UniqueFd;

namespace {

// pipe(7), /proc/sys/fs/pipe-max-size: what whoever is not privileged can make a pipe hold. All of it is moved at once: what
// a peer has written in one piece of up to PIPE_BUF bytes, and the pipe has whole, is then one piece of one write(2).
constexpr std::size_t max_moved_at_once = std::size_t{1} << 20;

class Stream : public BackgroundWork {
  public:
    using Clock = std::chrono::steady_clock;

    Stream(DeliverableFile file, UniqueFd pipe) : file_(std::move(file)), pipe_(std::move(pipe)) {}

    bool done() const noexcept override { return done_; }
    int errno_value() const noexcept override { return errno_value_; }
    std::optional<Clock::time_point> moved_at() const noexcept override { return moved_at_; }
    Outcome carry_out(const RequestServices&, const policy::Peer&, const GrantedRequest&,
                      const ExecutionContext&) override {
        return refused(Step::parse, EINVAL, "no request is about a stream");
    }

  protected:
    int file() const noexcept { return file_.descriptor().number(); }
    int pipe() const noexcept { return pipe_.number(); }
    std::byte* buffer() noexcept { return buffer_.get(); }
    // The peer has read or written something.
    void moved() noexcept { moved_at_ = Clock::now(); }
    void finish(int errno_value) noexcept {
        done_ = true;
        errno_value_ = errno_value;
    }

  private:
    DeliverableFile file_;
    UniqueFd pipe_;
    // Not cleared: what is never used takes no memory.
    std::unique_ptr<std::byte[]> buffer_ = std::make_unique_for_overwrite<std::byte[]>(max_moved_at_once);
    Clock::time_point moved_at_ = Clock::now();
    bool done_ = false;
    int errno_value_ = 0;
};

class FromFile final : public Stream {
  public:
    using Stream::Stream;

    Awaited awaited() const noexcept override { return {pollfd{pipe(), POLLOUT, 0}, nothing}; }
    void go_on() override {
        if (left_.empty()) {
            const ssize_t size = ::read(file(), buffer(), piece);
            if (size <= 0) return finish(size == 0 ? 0 : errno);
            left_ = std::span(buffer(), static_cast<std::size_t>(size));
        }
        const ssize_t written = ::write(pipe(), left_.data(), left_.size());
        if (written >= 0) {
            moved();
            left_ = left_.subspan(static_cast<std::size_t>(written));
        } else if (errno != EAGAIN) {
            finish(errno == EPIPE ? 0 : errno);
        }
    }
    void end() override { finish(0); }

  private:
    static constexpr std::size_t piece = std::size_t{64} << 10;
    std::span<const std::byte> left_{};  // read, and not in the pipe yet
};

class ToFile final : public Stream {
  public:
    using Stream::Stream;

    Awaited awaited() const noexcept override { return {pollfd{pipe(), POLLIN, 0}, nothing}; }
    void go_on() override { move(); }
    void end() override {
        // Somebody who still writes does not make it go on for ever.
        for (std::size_t moved = 0; !done() && moved < max_moved_at_once;) {
            const std::size_t now = move();
            if (now == 0) break;
            moved += now;
        }
        if (!done()) finish(0);
    }

  private:
    // Returns how many bytes were there.
    std::size_t move() {
        const ssize_t size = ::read(pipe(), buffer(), max_moved_at_once);
        if (size < 0 && errno == EAGAIN) return 0;
        if (size <= 0) {
            finish(size == 0 ? 0 : errno);
            return 0;
        }
        moved();
        const auto all = std::span(buffer(), static_cast<std::size_t>(size));
        for (auto left = all; !left.empty();) {
            const ssize_t written = ::write(file(), left.data(), left.size());
            if (written < 0) {
                finish(errno);
                break;
            }
            left = left.subspan(static_cast<std::size_t>(written));
        }
        return all.size();
    }
};

}  // namespace

std::optional<Obstacle> refuse_stream(OpenFlags flags) noexcept {
    const auto refuse = [](const char* why) { return Obstacle{EINVAL, why, Step::deliver}; };
    if (flags.wants(O_RDWR)) return refuse("a stream is read or written, not both");
    if (flags.writes() && !flags.wants(O_APPEND)) return refuse("a stream is written with O_APPEND");
    if (!flags.writes() && flags.wants(O_CREAT)) return refuse("no stream is read from a new file");
    if (flags.wants(O_TRUNC)) return refuse("a stream truncates nothing");
    if (flags.wants(O_DIRECTORY)) return refuse("a stream is of a file");
    if (flags.wants(O_DIRECT)) return refuse("a stream has no O_DIRECT");
    return std::nullopt;
}

Attempt<Pipe> make_pipe(OpenFlags flags) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return call_failed(Step::deliver);
    UniqueFd reading(ends[0]), writing(ends[1]);
    // A peer that is gone is told by EPIPE.
    ::signal(SIGPIPE, SIG_IGN);
    Pipe pipe = flags.writes() ? Pipe{std::move(reading), std::move(writing)}
                               : Pipe{std::move(writing), std::move(reading)};
    // Flags belong to one end: the peer cannot change those of the helper's.
    if (::fcntl(pipe.helpers.number(), F_SETFL, O_NONBLOCK) != 0 ||
        (flags.wants_nonblock() && ::fcntl(pipe.peers.number(), F_SETFL, O_NONBLOCK) != 0))
        return call_failed(Step::deliver);
    return pipe;
}

Outcome deliver_stream(DeliverableFile file, Pipe pipe, OpenFlags flags) {
    Outcome outcome{.file = DeliverableFile::made_here(std::move(pipe.peers))};
    if (flags.writes()) {
        outcome.background = std::make_unique<ToFile>(std::move(file), std::move(pipe.helpers));
    } else {
        outcome.background = std::make_unique<FromFile>(std::move(file), std::move(pipe.helpers));
    }
    return outcome;
}

}  // namespace fdbroker::opener
