// SPDX-License-Identifier: MIT
#include "opener/ctl/metrics_server.hpp"

#include <fmt/format.h>
#include <httplib.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <expected>

#include "opener/ctl/opener_connection.hpp"
#include "opener/ctl/terminal.hpp"
#include "proto/address.hpp"

namespace fdbroker::ctl {

namespace {

// For the opener, and for a scraper in each direction; Prometheus gives up after 10 s.
constexpr std::chrono::seconds patience{5};
constexpr std::size_t threads = 2;
constexpr std::size_t requests_per_connection = 100;

class MetricsServer final : public httplib::Server {
  public:
    explicit MetricsServer(std::string control) : control_(std::move(control)) {
        new_task_queue = [] { return new httplib::ThreadPool(threads); };
        set_read_timeout(patience);
        set_write_timeout(patience);
        set_keep_alive_max_count(requests_per_connection);
        set_payload_max_length(0);
        Get("/metrics", [this](const httplib::Request&, httplib::Response& response) { answer(response); });
    }
    // A socket that listens already.
    void take(int listener) { svr_sock_ = listener; }

  private:
    void answer(httplib::Response& response) const {
        auto text = metrics();
        response.status = text ? 200 : 503;
        response.set_content(text ? *text : text.error() + "\n", "text/plain; version=0.0.4; charset=utf-8");
    }
    std::expected<std::string, std::string> metrics() const {
        auto opener = OpenerConnection::connect(control_);
        if (!opener) return std::unexpected(opener.error().message());
        opener->wait_at_most(patience);
        if (auto asked = opener->ask("metrics"); !asked) return std::unexpected(asked.error().message());
        auto text = opener->rest();
        if (!text) return std::unexpected(text.error().message());
        if (text->empty() || text->starts_with("error: ")) return std::unexpected("the opener: " + *text);
        return std::move(*text);
    }

    std::string control_;
};

bool listens(int socket) {
    int value = 0;
    socklen_t size = sizeof value;
    return ::getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value == 1;
}

std::unexpected<Failure> no_address(const std::string& text) {
    return failed(opener::exit_usage,
                  fmt::format("--listen: \"{}\" is none of ADDRESS:PORT, [ADDRESS]:PORT and fd:N", text));
}

Ending listen_at(MetricsServer& server, const std::string& text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon == 0) return no_address(text);
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.data() + colon + 1, text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size()) return no_address(text);
    std::string host = text.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    errno = 0;
    if (server.bind_to_port(host, port)) return opener::exit_done;
    return failed(
        opener::exit_failed,
        fmt::format("--listen: {}: {}", text, errno != 0 ? std::strerror(errno) : "cannot be listened at"));
}

}  // namespace

Ending serve_metrics(const std::string& control, const std::string& listen) {
    MetricsServer server(control);
    if (listen.starts_with("fd:")) {
        const auto address = proto::Address::parse(listen);
        if (!address) return no_address(listen);
        const int inherited = std::get<proto::DescriptorAddress>(address->value()).number;
        if (!listens(inherited))
            return failed(opener::exit_failed,
                          fmt::format("--listen: {}: that is no listening socket", listen));
        server.take(inherited);
    } else if (const Ending bound = listen_at(server, listen); !bound) {
        return bound;
    }
    if (server.listen_after_bind()) return opener::exit_done;
    return failed(opener::exit_failed, fmt::format("--listen: {}: {}", listen, std::strerror(errno)));
}

}  // namespace fdbroker::ctl
