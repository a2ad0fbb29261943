// SPDX-License-Identifier: MIT
// A broker for the client's tests: a thread at the other end of a socket that does what the test tells it to, with the
// real codec or with bare bytes.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "proto/channel.hpp"
#include "proto/message.hpp"
#include "worker/client/c_api.hpp"

namespace fdbroker::test {

using Bytes = std::vector<std::byte>;

// A path of that length, made of short names.
inline std::string path_of_length(std::size_t length) {
    std::string path;
    while (path.size() + 1 < length) path += "/p";
    path.resize(length, 'p');
    return path;
}

inline proto::UniqueFd memory_file(const std::string& content) {
    proto::UniqueFd file(::memfd_create("test", MFD_CLOEXEC));
    if (!file ||
        ::write(file.number(), content.data(), content.size()) != static_cast<ssize_t>(content.size()))
        throw std::runtime_error("memfd");
    // The offset travels with the file.
    if (::lseek(file.number(), 0, SEEK_SET) != 0) throw std::runtime_error("lseek");
    return file;
}

inline std::string content_of(int number) {
    std::array<char, 256> text{};
    const ssize_t size = ::pread(number, text.data(), text.size(), 0);
    return size < 0 ? "unreadable" : std::string(text.data(), static_cast<std::size_t>(size));
}

struct Asked {
    std::uint32_t id;
    int flags;
    mode_t mode;
    std::string path;
    proto::Call call = proto::Call::open;
    std::string payload{};
};

// The broker's end of a connection. Its functions throw when the other end is gone.
class BrokerEnd {
  public:
    explicit BrokerEnd(proto::UniqueFd socket) : socket_(std::move(socket)) {}

    Bytes receive() {
        const auto message = proto::receive(socket_.borrow(), buffer_, proto::Wait::block);
        if (!message) throw std::runtime_error(message.error().message());
        return {message->begin(), message->end()};
    }
    std::vector<Asked> receive_requests() {
        const Bytes message = receive();
        const auto requests = proto::read_requests(message, requests_);
        if (!requests) throw std::runtime_error(std::string(to_string(requests.error())));
        std::vector<Asked> asked;
        for (const proto::Request& request : *requests)
            asked.push_back({request.id, static_cast<int>(request.flags), request.mode,
                             std::string(request.path), request.call, std::string(request.payload)});
        return asked;
    }
    void send(std::span<const std::byte> message, const std::vector<proto::BorrowedFd>& descriptors = {}) {
        const auto sent = proto::send(socket_.borrow(), message, descriptors, proto::Wait::block);
        if (!sent) throw std::runtime_error(sent.error().message());
    }
    void answer_hello(const proto::HelloReply& reply = {.calls = (1U << proto::call_count) - 1}) {
        const Bytes hello = receive();
        if (!proto::read_hello(hello)) throw std::runtime_error("no hello");
        send(std::span(buffer_).first(proto::write_hello_reply(buffer_, reply)));
    }
    void send_end(int error, std::string_view reason) {
        send(std::span(buffer_).first(proto::write_end(buffer_, error, reason)));
    }
    // Each reply that has a descriptor gets a file that holds `content`, or the path in `contents`.
    void reply(const std::vector<proto::Reply>& replies, const std::vector<std::string>& contents) {
        proto::ReplyWriter writer(buffer_);
        std::vector<proto::UniqueFd> files;
        std::vector<proto::BorrowedFd> borrowed;
        for (std::size_t index = 0; index < replies.size(); ++index) {
            if (!writer.add(replies[index])) throw std::runtime_error("too many replies");
            if (!replies[index].has_descriptor) continue;
            files.push_back(memory_file(contents.at(index)));
            borrowed.push_back(files.back().borrow());
        }
        send(writer.message(), borrowed);
    }
    void grant(const Asked& asked) { reply({{.id = asked.id, .has_descriptor = true}}, {asked.path}); }
    // Answers without a file.
    void answer(const Asked& asked, std::string_view payload = {}) {
        reply({{.id = asked.id, .payload = payload}}, {""});
    }
    void refuse(const Asked& asked, int error, proto::Step step = proto::Step::decide) {
        reply({{.id = asked.id, .status = error, .step = step}}, {""});
    }
    void hang_up() { socket_.reset(); }

  private:
    proto::UniqueFd socket_;
    std::array<std::byte, proto::max_message_size> buffer_;
    std::array<proto::Request, proto::max_requests> requests_;
};

// Runs `script` at the broker's end; the client's end is a descriptor address. What the script throws fails the test,
// unless the client has hung up, which ends it early.
class FakeBroker {
  public:
    using Script = std::function<void(BrokerEnd&)>;

    explicit FakeBroker(Script script) {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
            throw std::runtime_error("socketpair");
        client_end_ = proto::UniqueFd(ends[0]);
        auto end = std::make_unique<BrokerEnd>(proto::UniqueFd(ends[1]));
        thread_ = std::jthread([this, script = std::move(script), end = std::move(end)]() mutable {
            try {
                script(*end);
            } catch (const std::exception& exception) {
                trouble_ = exception.what();
            }
            end.reset();
        });
    }

    std::string address() const { return "fd:" + std::to_string(client_end_.number()); }
    // The client's end, for the connection that takes it over.
    proto::UniqueFd take_client_end() { return std::move(client_end_); }
    void client_end_is_taken() { static_cast<void>(client_end_.release()); }

    // Waits for the script's end; what it threw.
    std::string trouble() {
        if (thread_.joinable()) thread_.join();
        return trouble_;
    }

  private:
    proto::UniqueFd client_end_;
    std::string trouble_;
    std::jthread thread_;
};

inline fdbroker_request request_for(const char* path) {
    fdbroker_request request{};
    request.size = sizeof request;
    request.path = path;
    request.flags = O_RDONLY;
    return request;
}

struct Disconnect {
    void operator()(fdbroker_handle* handle) const { fdbroker_disconnect(handle); }
};
using Client = std::unique_ptr<fdbroker_handle, Disconnect>;

// Connected to a broker whose script begins after hello.
inline Client connect_to(FakeBroker& broker) {
    fdbroker_handle* handle = nullptr;
    const int error = fdbroker_connect(&handle, broker.address().c_str());
    REQUIRE(error == 0);
    broker.client_end_is_taken();
    return Client(handle);
}

// A broker that answers hello and then runs `script`.
inline FakeBroker::Script after_hello(FakeBroker::Script script) {
    return [script = std::move(script)](BrokerEnd& end) {
        end.answer_hello();
        script(end);
    };
}

}  // namespace fdbroker::test
