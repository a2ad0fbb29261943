// SPDX-License-Identifier: MIT
#include "worker/run/report.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "proto/printable.hpp"
#include "worker/ending.hpp"

namespace fdbroker::worker {
namespace {

constexpr std::size_t most_refused = 4096;

std::set<std::string> operations_of_open(unsigned flags) {
    std::set<std::string> operations;
    const unsigned access = flags & O_ACCMODE;
    if ((flags & O_DIRECTORY) != 0)
        operations.insert("list");
    else if (access != O_WRONLY)
        operations.insert("read");
    if (access != O_RDONLY) operations.insert((flags & O_APPEND) != 0 ? "append" : "write");
    if ((flags & O_CREAT) != 0) operations.insert("create");
    if ((flags & O_TRUNC) != 0) operations.insert("truncate");
    return operations;
}

// A path of a policy means itself: metacharacters are escaped.
std::string as_pattern(const std::string& path) {
    std::string pattern;
    for (const char character : path) {
        if (std::strchr("*?[]{}\\$", character) != nullptr) pattern += '\\';
        pattern += character;
    }
    return nlohmann::json(pattern).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// As audit records have it: each byte is one character.
std::string characters_of(const std::string& bytes) {
    std::string text;
    for (const char byte : bytes) {
        const auto value = static_cast<unsigned char>(byte);
        if (value < 0x80) {
            text += byte;
        } else {
            text += static_cast<char>(0xc0U | value >> 6);
            text += static_cast<char>(0x80U | (value & 0x3fU));
        }
    }
    return text;
}

}  // namespace

std::set<std::string> operations_of(const Ask& ask) {
    switch (ask.call) {
        case proto::Call::open:
            return operations_of_open(ask.flags);
        case proto::Call::stat:
            return {"stat"};
        case proto::Call::list:
            return {"list"};
        case proto::Call::readlink:
            return {"readlink"};
        case proto::Call::mkdir:
            return {"mkdir"};
        case proto::Call::remove:
            return {"remove"};
        case proto::Call::rename:
            return {"rename"};
        case proto::Call::symlink:
            return {"symlink"};
        case proto::Call::setattr:
            return {"setattr"};
        case proto::Call::xattr_read:
        case proto::Call::xattr_list:
        case proto::Call::xattr_write:
        case proto::Call::xattr_remove:
            return {"xattr"};
        case proto::Call::put:
        case proto::Call::commit:
        case proto::Call::discard:
        case proto::Call::watch:
            break;
    }
    return {};
}

void Report::note(const Ask& ask, const Completion& reply) {
    if (options_.trace) {
        const std::string result =
            reply.result < 0 ? fmt::format("{} ({})", ::strerrorname_np(-reply.result), reply.reason) : "ok";
        complain(fmt::format("trace: {} {} {} = {}", proto::to_string(ask.call),
                             fmt::join(operations_of(ask), ","), ask.path, result));
    }
    // Files that are not there, and failures on the way, are no rule's business.
    if (reply.result >= 0 || !reply.reason.starts_with("decide")) return;
    const auto operations = operations_of(ask);
    if (options_.learn) learn(operations, ask);
    if (!options_.explain || (refused_.size() >= most_refused && !refused_.contains(ask.path))) return;
    refused_[ask.path].insert(operations.begin(), operations.end());
}

void Report::learn(const std::set<std::string>& operations, const Ask& ask) const {
    const nlohmann::json record{
        {"time", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))},
        {"event", "request"},
        {"peer", {{"uid", ::getuid()}}},
        {"operation", operations},
        {"path", characters_of(ask.path)},
        {"decision", "refused"},
        {"step", "decide"}};
    const std::string line = record.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    // The program goes on whether it is written or not.
    if (::write(options_.learn.number(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
        complain(std::string("run: --learn: ") + std::strerror(errno));
}

std::string Report::explanation() const {
    // Paths that need the same operations share a rule.
    std::map<std::set<std::string>, std::vector<std::string>> rules;
    for (const auto& [path, operations] : refused_) rules[operations].push_back(as_pattern(path));
    std::string text;
    unsigned number = 0;
    for (const auto& [operations, paths] : rules)
        text += fmt::format("  - name: refused-{}\n    allow: [{}]\n    paths: [{}]\n", ++number,
                            fmt::join(operations, ", "), fmt::join(paths, ", "));
    return text;
}

}  // namespace fdbroker::worker
