// SPDX-License-Identifier: MIT
// file_server original|ported DIRECTORY: an HTTP server of one directory on 127.0.0.1, by threads. Prints its port.
//
// original: its files by open(2); ported: by fdbroker.hpp, confined. Both run the same server on a class `Files`.
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <expected>
#include <fdbroker.hpp>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr unsigned thread_count = 4;

[[noreturn]] void give_up(const char* what, const std::string& why) {
    std::fprintf(stderr, "file_server: %s: %s\n", what, why.c_str());
    std::exit(1);
}

// An errno.
template <typename T>
using OrErrno = std::expected<T, int>;

struct OpenFile {
    fdb::File file{};
    off_t size = 0;
};

// ---- the port: what the server asks of its files ----

class KernelFiles {
  public:
    // A directory is EISDIR.
    static OrErrno<OpenFile> open(const std::string& path) {
        fdb::File file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
        struct stat status{};
        if (!file || ::fstat(file.get(), &status) != 0) return std::unexpected(errno);
        if (S_ISDIR(status.st_mode)) return std::unexpected(EISDIR);
        return OpenFile{std::move(file), status.st_size};
    }
    static OrErrno<std::vector<std::string>> list(const std::string& path) {
        DIR* directory = ::opendir(path.c_str());
        if (directory == nullptr) return std::unexpected(errno);
        std::vector<std::string> names;
        // NOLINTNEXTLINE(concurrency-mt-unsafe): each thread has a DIR of its own
        while (const dirent* entry = ::readdir(directory))
            if (std::string_view(entry->d_name) != "." && std::string_view(entry->d_name) != "..")
                names.emplace_back(entry->d_name);
        ::closedir(directory);
        return names;
    }
};

class BrokeredFiles {
  public:
    explicit BrokeredFiles(fdb::Broker broker) : broker_(std::move(broker)) {}
    OrErrno<OpenFile> open(const std::string& path) {
        auto file = broker_.open(path, O_RDONLY | O_NONBLOCK);
        if (!file) return std::unexpected(file.error().code);
        const off_t size = ::lseek(file->get(), 0, SEEK_END);
        ::lseek(file->get(), 0, SEEK_SET);
        return OpenFile{std::move(*file), size};
    }
    OrErrno<std::vector<std::string>> list(const std::string& path) {
        const auto entries = broker_.list(path);
        if (!entries) return std::unexpected(entries.error().code);
        std::vector<std::string> names;
        for (const fdb::Entry& entry : *entries) names.push_back(entry.name);
        return names;
    }

  private:
    fdb::Broker broker_;
};

// ---- the server ----

int send_all(int client, std::string_view text, int flags = 0) {
    while (!text.empty()) {
        const ssize_t sent = ::send(client, text.data(), text.size(), MSG_NOSIGNAL | flags);
        if (sent < 0) return -1;
        text.remove_prefix(static_cast<std::size_t>(sent));
    }
    return 0;
}

std::string head(const char* status, off_t length) {
    return std::string("HTTP/1.1 ") + status + "\r\nContent-Length: " + std::to_string(length) + "\r\n\r\n";
}

// Empty: not decoded.
std::string decode(std::string_view text) {
    std::string decoded;
    for (std::size_t at = 0; at < text.size(); ++at) {
        unsigned value = 0;
        if (text[at] != '%') {
            decoded += text[at];
            continue;
        }
        if (at + 2 >= text.size() ||
            std::from_chars(text.data() + at + 1, text.data() + at + 3, value, 16).ptr !=
                text.data() + at + 3 ||
            value == 0)
            return {};
        decoded += static_cast<char>(value);
        at += 2;
    }
    return decoded;
}

template <typename Files>
class Connection {
  public:
    Connection(Files& files, const std::string& directory, int client)
        : files_(files), directory_(directory), client_(client) {}

    // Until the client closes, or asks for nothing that can be understood.
    void serve() {
        std::array<char, 8192> more;
        for (;;) {
            const std::size_t end = received_.find("\r\n\r\n");
            if (end != std::string::npos) {
                if (!answer(std::string_view(received_).substr(0, received_.find("\r\n")))) return;
                received_.erase(0, end + 4);
                continue;
            }
            const ssize_t size = ::recv(client_, more.data(), more.size(), 0);
            if (size <= 0 || received_.size() > 65536) return;
            received_.append(more.data(), static_cast<std::size_t>(size));
        }
    }

  private:
    bool answer(std::string_view line) {
        const std::size_t blank = line.find(' ');
        const std::size_t second = line.rfind(' ');
        const std::string_view method = line.substr(0, blank);
        if (method != "GET" && method != "HEAD") return fail("501 Not Implemented", true);
        const bool has_body = method == "GET";
        if (second <= blank + 1) return fail("400 Bad Request", has_body);
        std::string path = decode(line.substr(blank + 1, second - blank - 1));
        if (!path.starts_with('/') || (path + "/").contains("/../")) return fail("400 Bad Request", has_body);
        path.insert(0, directory_);
        auto file = files_.open(path);
        if (file) return deliver(*file, has_body);
        return file.error() == EISDIR ? list(path, has_body) : fail(file.error(), has_body);
    }

    bool deliver(OpenFile& file, bool has_body) {
        const bool is_more = has_body && file.size > 0;
        if (send_all(client_, head("200 OK", file.size), is_more ? MSG_MORE : 0) != 0) return false;
        for (off_t left = is_more ? file.size : 0; left > 0;) {
            const ssize_t sent =
                ::sendfile(client_, file.file.get(), nullptr, static_cast<std::size_t>(left));
            if (sent <= 0) return false;
            left -= sent;
        }
        return true;
    }

    bool list(const std::string& path, bool has_body) {
        auto names = files_.list(path);
        if (!names) return fail(names.error(), has_body);
        std::ranges::sort(*names);
        std::string text;
        for (const std::string& name : *names) text += name + "\n";
        return say("200 OK", text, has_body);
    }

    bool fail(int error, bool has_body) {
        switch (error) {
            case ENOENT:
            case ENOTDIR:
            case ENAMETOOLONG:
                return fail("404 Not Found", has_body);
            case EACCES:
                return fail("403 Forbidden", has_body);
            default:
                return fail("500 Internal Server Error", has_body);
        }
    }
    bool fail(const char* status, bool has_body) { return say(status, std::string(status) + "\n", has_body); }
    bool say(const char* status, const std::string& text, bool has_body) {
        return send_all(client_, head(status, static_cast<off_t>(text.size())) + (has_body ? text : "")) == 0;
    }

    Files& files_;
    const std::string& directory_;
    int client_;
    std::string received_{};
};

template <typename Files>
void serve_clients(Files files, int listener, const std::string& directory) {
    for (;;) {
        const fdb::File client(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
        if (!client) continue;
        const int yes = 1;
        ::setsockopt(client.get(), IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        Connection<Files>(files, directory, client.get()).serve();
    }
}

fdb::File listen_on_loopback() {
    fdb::File listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0 ||
        ::listen(listener.get(), 128) != 0 ||
        ::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
        give_up("127.0.0.1", std::strerror(errno));
    std::printf("%d\n", ntohs(address.sin_port));
    return listener;
}

fdb::Pool confine_with_pool() {
    auto pool = fdb::Pool::make({}, thread_count);
    if (!pool) give_up("the broker", pool.error().message());
    fdb::prepare();
    const auto confined = fdb::confine_with(FDBROKER_CONFINE_NAMESPACES | FDBROKER_CONFINE_BEST_EFFORT,
                                            FDBROKER_ALLOW_TCP_OPTIONS);
    if (!confined) give_up("the sandbox", confined.error().message());
    return std::move(*pool);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 3) give_up("usage", "file_server original|ported DIRECTORY");
    const bool is_ported = argv[1] == std::string_view("ported");
    const std::string directory = argv[2];
    const fdb::File listener = listen_on_loopback();
    std::optional<fdb::Pool> pool;
    if (is_ported) pool = confine_with_pool();
    std::fflush(stdout);
    std::vector<std::jthread> threads;
    for (unsigned index = 0; index < thread_count; ++index)
        threads.emplace_back([&] {
            if (!pool) return serve_clients(KernelFiles(), listener.get(), directory);
            auto broker = pool->get();
            if (!broker) give_up("the pool", broker.error().message());
            serve_clients(BrokeredFiles(std::move(*broker)), listener.get(), directory);
        });
}
