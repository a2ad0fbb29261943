// SPDX-License-Identifier: MIT
#include "worker/client/asking.hpp"

#include <cerrno>
#include <cstring>

#include "proto/message.hpp"
#include "worker/client/status.hpp"

namespace fdbroker::worker {

using proto::Call;

int ask_status(Connection& connection, const char* path, int flags, struct statx& status) {
    std::string answer;
    const Ask ask{.call = Call::stat, .path = path, .flags = static_cast<std::uint32_t>(flags)};
    if (const int error = connection.ask(ask, &answer); error < 0) return error;
    if (!read_statx(answer, status)) return connection.fail(EPROTO, "the answer is not as it should be");
    if (names_directory(path) && !S_ISDIR(status.stx_mode))
        return connection.refuse(ENOTDIR, "it is no directory");
    return 0;
}

int ask_target(Connection& connection, const char* path, std::string& target) {
    return connection.ask({.call = Call::readlink, .path = path}, &target);
}

int write_canonical(Connection& connection, const char* path, std::string& canonical) {
    const WrittenPath written = read_path(path);
    if (written.error != 0)
        return connection.refuse(written.error, written.error == ENOENT
                                                    ? "the path is empty"
                                                    : "the path or a name in it is too long");
    if (written.is_relative && connection.directory().empty())
        return connection.refuse(ENOENT, "the path is relative, and the connection has no directory");
    canonical = canonical_path(connection.directory(), written.text);
    return canonical.size() > proto::max_path_length ? connection.refuse(ENAMETOOLONG, "the path is too long")
                                                     : 0;
}

ssize_t write_text(Connection& connection, const std::string& text, char* out, std::size_t size) {
    if (text.size() >= size) return connection.refuse(ERANGE, "the buffer is too small");
    std::memcpy(out, text.c_str(), text.size() + 1);
    return static_cast<ssize_t>(text.size());
}

}  // namespace fdbroker::worker
