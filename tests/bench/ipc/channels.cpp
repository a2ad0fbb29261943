// SPDX-License-Identifier: MIT
#include "tests/bench/ipc/channels.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>

#include "proto/unique_fd.hpp"
#include "tests/bench/peers/forked_server.hpp"

namespace fdbroker::bench {

namespace {

using Place = std::function<void()>;

// False: the other end is closed.
bool read_whole(int descriptor, std::span<char> into) {
    while (!into.empty()) {
        const ssize_t size = ::read(descriptor, into.data(), into.size());
        if (size <= 0) return false;
        into = into.subspan(static_cast<std::size_t>(size));
    }
    return true;
}

void write_whole(int descriptor, std::span<const char> bytes) {
    while (!bytes.empty()) {
        const ssize_t size = ::write(descriptor, bytes.data(), bytes.size());
        if (size < 0) fail("write");
        bytes = bytes.subspan(static_cast<std::size_t>(size));
    }
}

enum class Answer { byte, descriptor };

// Answers on `out` every message of `size` bytes on `in`.
void answer_all(int in, int out, std::size_t size, Answer answer) {
    std::vector<char> buffer(size);
    const proto::UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const char byte = 0;
    while (read_whole(in, buffer)) {
        if (answer == Answer::descriptor) {
            send_byte(out, file.number());
        } else {
            write_whole(out, {&byte, 1});
        }
    }
}

// A message of `message` bytes, answered through the same or another descriptor.
class Stream final : public Channel {
  public:
    Stream(std::size_t size, int out, int in, Answer answer)
        : message_(size), out_(out), in_(in), answer_(answer) {}

    void round_trip() override {
        write_whole(out_, message_);
        if (answer_ == Answer::descriptor) {
            (void)received_descriptor(in_);
            return;
        }
        char byte = 0;
        if (!read_whole(in_, {&byte, 1})) fail("read");
    }

  private:
    std::vector<char> message_;
    int out_;
    int in_;
    Answer answer_;
};

// The descriptors of a Stream, and the child that answers.
class Served final : public Channel {
  public:
    Served(std::vector<proto::UniqueFd> kept, std::unique_ptr<ForkedServer> server,
           std::unique_ptr<Channel> channel)
        : kept_(std::move(kept)), server_(std::move(server)), channel_(std::move(channel)) {}

    void round_trip() override { channel_->round_trip(); }

  private:
    std::vector<proto::UniqueFd> kept_;
    std::unique_ptr<ForkedServer> server_;
    std::unique_ptr<Channel> channel_;
};

std::unique_ptr<Channel> over_socket(int type, Answer answer, std::size_t size, const Place& place) {
    auto server = std::make_unique<ForkedServer>(type, [&](int socket) {
        place();
        answer_all(socket, socket, size, answer);
    });
    const int room = 1 << 18;  // bytes; the largest message must fit
    if (::setsockopt(server->socket(), SOL_SOCKET, SO_SNDBUF, &room, sizeof room) < 0) fail("SO_SNDBUF");
    auto channel = std::make_unique<Stream>(size, server->socket(), server->socket(), answer);
    return std::make_unique<Served>(std::vector<proto::UniqueFd>{}, std::move(server), std::move(channel));
}

// `to` and `from` are pipes or FIFOs, the reading end first; the child gets what it needs by being forked.
std::unique_ptr<Channel> over_pipes(std::array<proto::UniqueFd, 2> to, std::array<proto::UniqueFd, 2> from,
                                    std::size_t size, const Place& place) {
    auto server = std::make_unique<ForkedServer>(SOCK_STREAM, [&](int) {
        place();
        to[1].reset();
        answer_all(to[0].number(), from[1].number(), size, Answer::byte);
    });
    auto channel = std::make_unique<Stream>(size, to[1].number(), from[0].number(), Answer::byte);
    std::vector<proto::UniqueFd> kept;
    kept.push_back(std::move(to[1]));
    kept.push_back(std::move(from[0]));
    return std::make_unique<Served>(std::move(kept), std::move(server), std::move(channel));
}

std::array<proto::UniqueFd, 2> pipe_ends() {
    std::array<int, 2> ends;
    if (::pipe2(ends.data(), O_CLOEXEC) < 0) fail("pipe2");
    return {proto::UniqueFd(ends[0]), proto::UniqueFd(ends[1])};
}

std::array<proto::UniqueFd, 2> fifo_ends(const std::string& path) {
    if (::mkfifo(path.c_str(), 0600) < 0 && errno != EEXIST) fail("mkfifo");
    proto::UniqueFd reader(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    proto::UniqueFd writer(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!reader || !writer) fail("open");
    if (::fcntl(reader.number(), F_SETFL, 0) < 0) fail("F_SETFL");
    return {std::move(reader), std::move(writer)};
}

void send_at_once(int socket) {
    const int on = 1;
    if (::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) fail("TCP_NODELAY");
}

std::unique_ptr<Channel> over_tcp(std::size_t size, const Place& place) {
    const proto::UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{
        .sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (!listener || ::bind(listener.number(), generic, length) < 0 || ::listen(listener.number(), 1) < 0 ||
        ::getsockname(listener.number(), generic, &length) < 0) {
        fail("TCP listener");
    }
    auto server = std::make_unique<ForkedServer>(SOCK_STREAM, [&](int) {
        place();
        const proto::UniqueFd peer(::accept4(listener.number(), nullptr, nullptr, SOCK_CLOEXEC));
        send_at_once(peer.number());
        answer_all(peer.number(), peer.number(), size, Answer::byte);
    });
    std::vector<proto::UniqueFd> kept;
    kept.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(kept[0].number(), generic, length) < 0) fail("connect");
    send_at_once(kept[0].number());
    auto channel = std::make_unique<Stream>(size, kept[0].number(), kept[0].number(), Answer::byte);
    return std::make_unique<Served>(std::move(kept), std::move(server), std::move(channel));
}

// Two words that count messages and answers, and a message behind them.
struct Shared {
    std::atomic<std::uint32_t> messages{};
    std::atomic<std::uint32_t> answers{};
    std::array<char, 65536> bytes;
};

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value) {
    return ::syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

// Returns once `word` is no longer `value`.
void wait_for_change(std::atomic<std::uint32_t>& word, std::uint32_t value) {
    while (word.load(std::memory_order_acquire) == value) futex(word, FUTEX_WAIT, value);
}

void count_up(std::atomic<std::uint32_t>& word) {
    word.fetch_add(1, std::memory_order_release);
    futex(word, FUTEX_WAKE, 1);
}

class SharedMemory final : public Channel {
  public:
    SharedMemory(std::size_t size, const Place& place) : message_(size) {
        void* const memory =
            ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) fail("mmap");
        shared_ = new (memory) Shared;
        server_ = std::make_unique<ForkedServer>(SOCK_STREAM, [&](int) {
            place();
            std::vector<char> copy(size);
            for (std::uint32_t seen = 0;; ++seen) {
                wait_for_change(shared_->messages, seen);
                std::memcpy(copy.data(), shared_->bytes.data(), size);
                count_up(shared_->answers);
            }
        });
    }
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;
    ~SharedMemory() override {
        server_.reset();
        ::munmap(shared_, sizeof(Shared));
    }

    void round_trip() override {
        const std::uint32_t seen = shared_->answers.load(std::memory_order_relaxed);
        std::memcpy(shared_->bytes.data(), message_.data(), message_.size());
        count_up(shared_->messages);
        wait_for_change(shared_->answers, seen);
    }

  private:
    std::vector<char> message_;
    Shared* shared_ = nullptr;
    std::unique_ptr<ForkedServer> server_{};
};

ChannelKind socket_kind(std::string name, int type, Answer answer) {
    return {std::move(name),
            [=](std::size_t size, const Place& place) { return over_socket(type, answer, size, place); }};
}

}  // namespace

std::vector<ChannelKind> channel_kinds(const std::string& directory) {
    return {
        socket_kind("SEQPACKET", SOCK_SEQPACKET, Answer::byte),
        socket_kind("SEQPACKET with a descriptor", SOCK_SEQPACKET, Answer::descriptor),
        socket_kind("datagram", SOCK_DGRAM, Answer::byte),
        socket_kind("datagram with a descriptor", SOCK_DGRAM, Answer::descriptor),
        socket_kind("stream", SOCK_STREAM, Answer::byte),
        socket_kind("stream with a descriptor", SOCK_STREAM, Answer::descriptor),
        {"pipe", [](std::size_t size,
                    const Place& place) { return over_pipes(pipe_ends(), pipe_ends(), size, place); }},
        {"FIFO",
         [directory](std::size_t size, const Place& place) {
             return over_pipes(fifo_ends(directory + "/to"), fifo_ends(directory + "/from"), size, place);
         }},
        {"TCP over loopback", over_tcp},
        {"shared memory and futex",
         [](std::size_t size, const Place& place) { return std::make_unique<SharedMemory>(size, place); }},
    };
}

}  // namespace fdbroker::bench
