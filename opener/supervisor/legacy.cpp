// SPDX-License-Identifier: MIT
#include "opener/supervisor/legacy.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "opener/base/environment_number.hpp"
#include "opener/base/log_stderr.hpp"
#include "opener/base/memory_file.hpp"
#include "opener/base/packed_text.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// The form of what follows. Another one has another number.
constexpr std::string_view form = "fdbroker legacy 2";

void write(PackedWriter& to, const LeftListener& one) {
    to.number(one.socket);
    to.text(one.name);
    to.text(one.address);
    to.number(one.kind == ListenerKind::control ? 1 : 0);
    to.text(one.path);
    to.number(one.device);
    to.number(one.inode);
}

void read(PackedReader& from, LeftListener& one) {
    one.socket = from.number();
    one.name = from.text();
    one.address = from.text();
    one.kind = from.number() != 0 ? ListenerKind::control : ListenerKind::workers;
    one.path = from.text();
    one.device = from.number();
    one.inode = from.number();
}

void write(PackedWriter& to, const LeftConnection& one) {
    to.number(one.socket);
    to.number(one.token);
    to.text(one.listener);
    to.number(one.controls ? 1 : 0);
    to.number(static_cast<std::uint64_t>(one.since.time_since_epoch().count()));
    to.number(one.note);
    to.number(one.refused);
}

void read(PackedReader& from, LeftConnection& one) {
    using Clock = std::chrono::steady_clock;
    one.socket = from.number();
    one.token = from.number();
    one.listener = from.text();
    one.controls = from.number() != 0;
    one.since = Clock::time_point(Clock::duration(static_cast<std::int64_t>(from.number())));
    one.note = from.number();
    one.refused = static_cast<std::uint32_t>(from.number());
}

void write(PackedWriter& to, const LeftJournal& one) {
    to.number(one.generation);
    to.text(one.bytes);
}

void read(PackedReader& from, LeftJournal& one) {
    one.generation = static_cast<std::uint32_t>(from.number());
    one.bytes = from.text();
}

void write(PackedWriter& to, const LeftAnswer& one) {
    to.number(one.asker);
    to.number(static_cast<std::uint64_t>(one.result));
}

void read(PackedReader& from, LeftAnswer& one) {
    one.asker = from.number();
    one.result = static_cast<CommandResult>(from.number());
}

void write(PackedWriter& to, const LeftWorker& one) {
    to.number(static_cast<std::uint64_t>(one.pid));
    to.number(one.channel);
    to.number(one.token);
    to.number(one.starts);
    to.number(static_cast<std::uint64_t>(one.started.time_since_epoch().count()));
}

void read(PackedReader& from, LeftWorker& one) {
    using Clock = std::chrono::steady_clock;
    one.pid = static_cast<pid_t>(from.number());
    one.channel = from.number();
    one.token = from.number();
    one.starts = static_cast<std::uint32_t>(from.number());
    one.started = Clock::time_point(Clock::duration(static_cast<std::int64_t>(from.number())));
}

void write(PackedWriter& to, const LeftDescriptor& one) {
    to.text(one.name);
    to.number(static_cast<std::uint64_t>(one.number));
}

void read(PackedReader& from, LeftDescriptor& one) {
    one.name = from.text();
    one.number = static_cast<int>(from.number());
}

template <typename Each>
void write_all_of(PackedWriter& to, const std::vector<Each>& all) {
    to.number(all.size());
    for (const Each& one : all) write(to, one);
}

template <typename Each>
void read_all_of(PackedReader& from, std::vector<Each>& all) {
    for (std::uint64_t left = from.count(); left > 0; --left) read(from, all.emplace_back());
}

// Of the opener that this process was before it executed another program.
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

std::string Legacy::packed() const {
    PackedWriter to;
    to.text(form);
    to.number(last_generation);
    to.number(records.next);
    to.number(records.generation);
    to.text(records.unwritten);
    to.number(next_connection);
    write_all_of(to, listeners);
    write_all_of(to, connections);
    write_all_of(to, journals);
    write_all_of(to, answers);
    to.number(worker_count);
    write_all_of(to, workers);
    write_all_of(to, descriptors);
    return to.bytes();
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
    PackedReader from(bytes);
    if (from.text() != form) return proto::system_error("the legacy", "of another version", EINVAL);
    Legacy legacy;
    legacy.last_generation = static_cast<std::uint32_t>(from.number());
    legacy.records.next = from.number();
    legacy.records.generation = static_cast<std::uint32_t>(from.number());
    legacy.records.unwritten = from.text();
    legacy.next_connection = from.number();
    read_all_of(from, legacy.listeners);
    read_all_of(from, legacy.connections);
    read_all_of(from, legacy.journals);
    read_all_of(from, legacy.answers);
    legacy.worker_count = static_cast<unsigned>(from.number());
    read_all_of(from, legacy.workers);
    read_all_of(from, legacy.descriptors);
    if (!from.read_all()) return proto::system_error("the legacy", "cut short", EINVAL);
    return legacy;
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
