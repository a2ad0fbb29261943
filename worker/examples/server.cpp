// SPDX-License-Identifier: MIT
// server SOCKET: serves files over a Unix socket that this process could not open itself.
//
// A client sends a path and a newline; it gets the file, or nothing when that is refused. One thread, one epoll: the
// broker is a descriptor among the others, and no client waits for another's file.
//
//     c++ -std=c++23 -o server server.cpp $(pkg-config --cflags --libs fdbroker)
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fdbroker.hpp>
#include <string>
#include <unordered_map>

namespace {

[[noreturn]] void give_up(const char* what, const std::string& why) {
    std::fprintf(stderr, "server: %s: %s\n", what, why.c_str());
    std::exit(1);
}

fdb::File listen_at(const char* path) {
    fdb::File listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener.get(), 64) != 0)
        give_up(path, std::strerror(errno));
    return listener;
}

class Server {
  public:
    Server(fdb::Broker broker, fdb::File listener)
        : broker_(std::move(broker)), listener_(std::move(listener)) {
        const auto descriptor = broker_.descriptor();
        if (!descriptor) give_up("the broker", descriptor.error().message());
        watch(*descriptor, broker_id, EPOLLIN);
        watch(listener_.get(), listener_id, EPOLLIN);
    }

    void run() {
        for (;;) {
            std::array<epoll_event, 64> events;
            const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
            for (int index = 0; index < count; ++index) {
                const std::uint64_t id = events[static_cast<std::size_t>(index)].data.u64;
                if (id == listener_id)
                    accept();
                else if (id == broker_id)
                    take_answers();
                else
                    serve(id);
            }
        }
    }

  private:
    struct Client {
        fdb::File socket{};
        std::string path{};  // as much as has come
        fdb::File file{};    // once the broker has opened it
    };
    static constexpr std::uint64_t listener_id = 0;
    static constexpr std::uint64_t broker_id = 1;

    void watch(int descriptor, std::uint64_t id, std::uint32_t events, int operation = EPOLL_CTL_ADD) {
        epoll_event event{};
        event.events = events;
        event.data.u64 = id;
        ::epoll_ctl(epoll_.get(), operation, descriptor, &event);
    }

    void accept() {
        fdb::File socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!socket) return;
        const std::uint64_t id = ++last_id_;
        watch(socket.get(), id, EPOLLIN);
        clients_[id].socket = std::move(socket);
    }

    void serve(std::uint64_t id) {
        const auto client = clients_.find(id);
        if (client == clients_.end()) return;
        const bool goes_on = client->second.file ? write(client->second) : read(client->second, id);
        if (!goes_on) clients_.erase(client);
    }

    bool read(Client& client, std::uint64_t id) {
        std::array<char, 4096> text;
        const ssize_t size = ::read(client.socket.get(), text.data(), text.size());
        if (size <= 0 || client.path.size() > 4096) return false;
        client.path.append(text.data(), static_cast<std::size_t>(size));
        if (!client.path.ends_with('\n')) return true;
        client.path.pop_back();
        watch(client.socket.get(), id, 0, EPOLL_CTL_MOD);
        const fdb::Request request{.path = client.path, .flags = O_RDONLY, .tag = id};
        return broker_.submit({&request, 1}).has_value();
    }

    void take_answers() {
        for (;;) {
            auto completions = broker_.complete(std::chrono::milliseconds(0));
            if (!completions) give_up("the broker", completions.error().message());
            if (completions->empty()) return;
            for (fdb::Completion& completion : *completions) take(completion);
        }
    }

    // The client may have gone meanwhile; then the file goes, too.
    void take(fdb::Completion& completion) {
        const auto client = clients_.find(completion.tag);
        if (client == clients_.end()) return;
        if (!completion.result) {
            clients_.erase(client);
            return;
        }
        client->second.file = std::move(*completion.result);
        watch(client->second.socket.get(), completion.tag, EPOLLOUT, EPOLL_CTL_MOD);
    }

    static bool write(Client& client) {
        const ssize_t sent = ::sendfile(client.socket.get(), client.file.get(), nullptr, 1 << 20);
        return sent > 0 || (sent < 0 && errno == EAGAIN);
    }

    fdb::File epoll_{::epoll_create1(EPOLL_CLOEXEC)};
    fdb::Broker broker_;
    fdb::File listener_;
    std::unordered_map<std::uint64_t, Client> clients_{};
    std::uint64_t last_id_ = broker_id;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) give_up("usage", "server SOCKET");
    std::signal(SIGPIPE, SIG_IGN);
    auto broker = fdb::Broker::connect();
    if (!broker) give_up("the broker", broker.error().message());
    Server server(std::move(*broker), listen_at(argv[1]));
    // After the sockets are made, before the first client is heard.
    const auto confined = fdb::confine(FDBROKER_CONFINE_LIMITS | FDBROKER_CONFINE_BEST_EFFORT);
    if (!confined) give_up("the sandbox", confined.error().message());
    std::printf("serving %s\n", argv[1]);
    std::fflush(stdout);
    server.run();
}
