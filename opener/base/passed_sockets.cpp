// SPDX-License-Identifier: MIT
#include "opener/base/passed_sockets.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>

#include "opener/base/environment_number.hpp"

namespace fdbroker::opener {

using proto::Result;

namespace {

// SD_LISTEN_FDS_START, and more than any process has (fs.nr_open).
constexpr int first_passed = 3;
constexpr int max_passed = 1 << 20;

// The contents of the environment, read once and removed.
struct Passed {
    std::optional<std::int64_t> count;
    std::optional<std::string> names;
};

std::optional<Passed> take_environment() {
    std::optional<Passed> passed;
    if (::getenv("LISTEN_FDS") != nullptr && environment_number("LISTEN_PID") == ::getpid()) {
        const char* const names = ::getenv("LISTEN_FDNAMES");
        passed = Passed{environment_number("LISTEN_FDS"),
                        names != nullptr ? std::optional<std::string>(names) : std::nullopt};
    }
    for (const char* variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(variable);
    return passed;
}

// A name holds no colon (systemd.socket(5), FileDescriptorName=).
std::vector<std::string> split_names(std::string_view text) {
    std::vector<std::string> names;
    for (;;) {
        const std::size_t colon = text.find(':');
        names.emplace_back(text.substr(0, colon));
        if (colon == std::string_view::npos) return names;
        text.remove_prefix(colon + 1);
    }
}

}  // namespace

Result<std::vector<PassedSocket>> take_passed_sockets() {
    std::vector<PassedSocket> sockets;
    const auto passed = take_environment();
    if (!passed) return sockets;
    if (!passed->count || *passed->count < 0 || *passed->count > max_passed)
        return proto::system_error("LISTEN_FDS", "not a number of descriptors", EINVAL);
    const auto count = static_cast<std::size_t>(*passed->count);
    if (count == 0) return sockets;
    const auto names =
        passed->names ? split_names(*passed->names) : std::vector<std::string>(count, "unknown");
    if (names.size() != count)
        return proto::system_error("LISTEN_FDNAMES", "not one name for each descriptor", EINVAL);
    for (std::size_t i = 0; i < count; ++i) {
        proto::UniqueFd socket(first_passed + static_cast<int>(i));
        if (::fcntl(socket.number(), F_SETFD, FD_CLOEXEC) != 0)
            return proto::system_error("LISTEN_FDS", "descriptor " + std::to_string(socket.number()));
        sockets.push_back({names[i], std::move(socket)});
    }
    return sockets;
}

}  // namespace fdbroker::opener
