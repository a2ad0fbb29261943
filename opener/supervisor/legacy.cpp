// SPDX-License-Identifier: MIT
#include "opener/supervisor/legacy.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "opener/base/environment_number.hpp"
#include "opener/base/log_stderr.hpp"
#include "opener/base/memory_file.hpp"

using nlohmann::json;

// The monotonic clock goes on over execve(2) and from one process to another.
template <>
struct nlohmann::adl_serializer<std::chrono::steady_clock::time_point> {
    using Time = std::chrono::steady_clock::time_point;
    static void to_json(json& to, const Time& time) { to = time.time_since_epoch().count(); }
    static void from_json(const json& from, Time& time) {
        time = Time(Time::duration(from.get<Time::rep>()));
    }
};

template <>
struct nlohmann::adl_serializer<fdbroker::opener::AuditLog::Position> {
    using Position = fdbroker::opener::AuditLog::Position;

    static void to_json(json& to, const Position& from) {
        to = {{"next", from.next},
              {"generation", from.generation},
              {"unwritten", from.unwritten},
              {"head", fdbroker::opener::to_hex(from.head)}};
    }
    static void from_json(const json& from, Position& to) {
        from.at("next").get_to(to.next);
        from.at("generation").get_to(to.generation);
        from.at("unwritten").get_to(to.unwritten);
        const auto head = fdbroker::opener::hash_from_hex(from.at("head").get<std::string>());
        to.head = head.value_or(fdbroker::opener::no_record);
    }
};

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LeftListener, socket, name, address, kind, path, device, inode)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LeftConnection, socket, connection_id, listener, controls, since, requests,
                                   refused, control_note)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LeftInflightLog, generation, bytes)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LeftAnswer, asker, result)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LeftWorker, pid, channel, connection_id, starts, started)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LeftDescriptor, name, number)

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Legacy, last_generation, records, next_connection, listeners, connections,
                                   inflight_logs, answers, worker_count, workers, descriptors)

namespace {

// The form of a legacy. A form with other members has another number.
constexpr std::string_view form = "fdbroker legacy 4";

// Takes the legacy of the opener that this process was before it executed another program.
Result<void> take_over_exec(std::vector<PassedSocket>& passed) {
    const auto number = environment_number(legacy_variable);
    ::unsetenv(legacy_variable);
    if (!number) return {};
    UniqueFd file(static_cast<int>(*number));
    const auto bytes = read_sealed(file.borrow());
    if (!bytes) return std::unexpected(bytes.error());
    const auto legacy = Legacy::unpack(*bytes);
    if (!legacy) return std::unexpected(legacy.error());
    for (const LeftDescriptor& one : legacy->descriptors) {
        UniqueFd descriptor(one.number);
        if (::fcntl(descriptor.number(), F_SETFD, FD_CLOEXEC) != 0) {
            static_cast<void>(descriptor.release());
            return proto::system_error(legacy_variable, "descriptor " + std::to_string(one.number));
        }
        passed.push_back({one.name, std::move(descriptor)});
    }
    ::fcntl(file.number(), F_SETFD, FD_CLOEXEC);
    passed.push_back({std::string(legacy_name), std::move(file)});
    return {};
}

void take_legacy(Inheritance& inheritance, const UniqueFd& file) {
    const auto bytes = read_sealed(file.borrow());
    auto legacy = bytes ? Legacy::unpack(*bytes) : std::unexpected(bytes.error());
    if (!legacy) {
        log_stderr("what the opener before this one has left cannot be read, and its connections end: " +
                   legacy.error().message());
        return;
    }
    // The store may still hold what one before that has left.
    if (inheritance.legacy && inheritance.legacy->last_generation > legacy->last_generation) return;
    inheritance.legacy = std::move(*legacy);
}

}  // namespace

SocketInode inode_of(proto::BorrowedFd socket) noexcept {
    struct stat status{};
    return ::fstat(socket.number(), &status) == 0 ? status.st_ino : 0;
}

// CBOR, since names, in-flight logs and records may hold any bytes.
std::string Legacy::packed() const {
    std::string bytes;
    json::to_cbor({{"form", form}, {"legacy", *this}}, bytes);
    return bytes;
}

Result<UniqueFd> Legacy::in_sealed_file() const {
    auto file = make_memory_file("legacy");
    if (!file) return file;
    const std::string bytes = packed();
    if (auto written = write_all(file->borrow(), std::as_bytes(std::span(bytes))); !written)
        return std::unexpected(written.error());
    if (auto sealed = seal(file->borrow()); !sealed) return std::unexpected(sealed.error());
    return file;
}

Result<Legacy> Legacy::unpack(std::string_view bytes) {
    try {
        const json content = json::from_cbor(bytes);
        if (content.at("form") != form)
            return proto::system_error("the legacy", "of another version", EINVAL);
        return content.at("legacy").get<Legacy>();
    } catch (const json::exception& error) {
        return proto::system_error("the legacy", error.what(), EINVAL);
    }
}

std::optional<UniqueFd> Inheritance::take(SocketInode socket) {
    auto found = kept.extract(socket);
    if (!found) return std::nullopt;
    return std::move(found.mapped());
}

Result<Inheritance> take_inheritance() {
    auto passed = take_passed_sockets();
    if (!passed) return std::unexpected(passed.error());
    if (auto taken = take_over_exec(*passed); !taken) return std::unexpected(taken.error());
    Inheritance inheritance;
    for (PassedSocket& one : *passed) {
        if (one.name == legacy_name) {
            take_legacy(inheritance, one.socket);
        } else if (one.name == policy_name) {
            inheritance.policy = std::move(one.socket);
        } else if (one.name == worker_output_name) {
            inheritance.worker_output = std::move(one.socket);
        } else if (one.name == listener_name || one.name == connection_name) {
            inheritance.kept.try_emplace(inode_of(one.socket.borrow()), std::move(one.socket));
        } else {
            inheritance.sockets.push_back(std::move(one));
        }
    }
    if (inheritance.legacy) return inheritance;
    for (const auto& [inode, socket] : inheritance.kept) ::shutdown(socket.number(), SHUT_RDWR);
    inheritance.kept.clear();
    inheritance.policy.reset();
    return inheritance;
}

}  // namespace fdbroker::opener
