// SPDX-License-Identifier: MIT
#include "tests/integration/service_manager.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "proto/address.hpp"

namespace fdbroker::test {

using proto::UniqueFd;

namespace {

UniqueFd listen_at(const std::filesystem::path& path) {
    UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const auto name = proto::Address::parse(path.string())->socket_name();
    if (::bind(socket.number(), reinterpret_cast<const sockaddr*>(&name.address), name.size) != 0)
        throw std::runtime_error("cannot listen for notifications");
    return socket;
}

// The value of a line KEY=VALUE; "": there is none.
std::string value_of(const std::string& message, const std::string& key) {
    for (std::size_t at = 0; at < message.size();) {
        const std::size_t end = std::min(message.find('\n', at), message.size());
        if (message.compare(at, key.size() + 1, key + "=") == 0)
            return message.substr(at + key.size() + 1, end - at - key.size() - 1);
        at = end + 1;
    }
    return "";
}

}  // namespace

ServiceManager::ServiceManager(const TempDir& directory, std::size_t room)
    : path_(directory / "notify"), room_(room), socket_(listen_at(path_)) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe2");
    ended_ = UniqueFd(ends[0]);
    end_ = UniqueFd(ends[1]);
    thread_ = std::thread([this] { serve(); });
}

ServiceManager::~ServiceManager() {
    end_.reset();
    thread_.join();
}

void ServiceManager::serve() {
    for (;;) {
        std::array<pollfd, 2> events{{{socket_.number(), POLLIN, 0}, {ended_.number(), 0, 0}}};
        if (::poll(events.data(), events.size(), -1) < 0) continue;
        if (events[0].revents == 0) return;
        std::string message(4096, '\0');
        alignas(cmsghdr) std::array<char, CMSG_SPACE(253 * sizeof(int))> control{};
        iovec part{message.data(), message.size()};
        msghdr header{};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        header.msg_control = control.data();
        header.msg_controllen = control.size();
        const ssize_t size = ::recvmsg(socket_.number(), &header, MSG_CMSG_CLOEXEC);
        if (size < 0) continue;
        message.resize(static_cast<std::size_t>(size));
        std::vector<UniqueFd> descriptors;
        for (cmsghdr* one = CMSG_FIRSTHDR(&header); one != nullptr; one = CMSG_NXTHDR(&header, one)) {
            std::vector<int> numbers((one->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            std::memcpy(numbers.data(), CMSG_DATA(one), numbers.size() * sizeof(int));
            for (const int number : numbers) descriptors.emplace_back(number);
        }
        obey(message, std::move(descriptors));
    }
}

void ServiceManager::obey(const std::string& message, std::vector<UniqueFd> descriptors) {
    const std::lock_guard lock(mutex_);
    const std::string name = value_of(message, "FDNAME");
    if (value_of(message, "FDSTOREREMOVE") == "1") kept_.erase(name);
    if (value_of(message, "FDSTORE") == "1") {
        for (UniqueFd& descriptor : descriptors)
            if (kept_.size() < room_) kept_.emplace(name, std::move(descriptor));
    }
    if (value_of(message, "READY") == "1") ++times_ready_;
}

Process ServiceManager::start(std::vector<std::string> arguments) const {
    const std::lock_guard lock(mutex_);
    // sd_listen_fds(3) wants the opener's own pid, which only a shell in its place can tell.
    arguments.insert(arguments.begin(), {"/bin/sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"});
    Command command{.arguments = std::move(arguments),
                    .environment = {{"NOTIFY_SOCKET", path_}, {"LISTEN_FDS", std::to_string(kept_.size())}}};
    if (room_ > 0) command.environment["FDSTORE"] = std::to_string(room_);
    std::string names;
    int number = 3;
    for (const auto& [name, descriptor] : kept_) {
        command.descriptors[number++] = descriptor.borrow();
        names += (names.empty() ? "" : ":") + name;
    }
    command.environment["LISTEN_FDNAMES"] = names;
    return Process::start(command);
}

std::size_t ServiceManager::kept(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    return kept_.count(name);
}

void ServiceManager::forget_all() {
    const std::lock_guard lock(mutex_);
    kept_.clear();
}

}  // namespace fdbroker::test
