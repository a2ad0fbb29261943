// SPDX-License-Identifier: MIT
// One call of the program, and what its handler works with.
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "worker/run/broker_link.hpp"
#include "worker/run/identities.hpp"
#include "worker/run/notification.hpp"
#include "worker/run/target.hpp"
#include "worker/run/task.hpp"
#include "worker/run/view.hpp"

namespace fdbroker::worker {

// Brokered files that the program has open for more than reading: what is set by descriptor is set by path. By device and
// inode; bounded, the oldest go.
class OpenFiles {
  public:
    void note(const struct stat& status, std::string path);
    // Empty: not known.
    std::string path_of(const struct stat& status) const;
    void renamed(const std::string& path, const std::string& new_path);

  private:
    using Key = std::pair<dev_t, ino_t>;
    void forget(const Key& key);

    std::map<Key, std::string> paths_{};
    std::set<std::pair<std::string, Key>> keys_{};  // by path
    std::vector<Key> order_{};
    std::size_t oldest_ = 0;
};

// Pages of brokered directories on their way to getdents64(2), by the number that stands in the file offset of the
// directory's descriptor.
struct DirectoryPage {
    std::string path;
    std::string payload;  // for proto::DirectoryPageReader
    bool is_first = false;
};
class DirectoryPages {
  public:
    std::uint64_t add(DirectoryPage page);
    const DirectoryPage* find(std::uint64_t number) const;
    // The first page of a directory that was just opened, for the first getdents64(2); taken once.
    void keep_first(ino_t stand_in, std::string payload);
    std::string take_first(ino_t stand_in);
    // The inode that a brokered directory had when it was looked at last, as opendir(3) does: for "." and "..". 1: not
    // known.
    void note_inode(const std::string& path, std::uint64_t inode);
    std::uint64_t inode_of(const std::string& path) const;

  private:
    static constexpr std::size_t most = 256;
    std::map<std::uint64_t, DirectoryPage> pages_{};
    std::map<ino_t, std::string> first_{};
    std::unordered_map<std::string, std::uint64_t> inodes_{};
    std::uint64_t next_ = 1;
};

struct RunServices {
    const View& view;
    BrokerLink& broker;
    const Listener& listener;
    proto::BorrowedFd proc;
    Identities& identities;
    OpenFiles files{};
    DirectoryPages pages{};
    // Something that the person who started the program should hear of.
    std::function<void(std::string_view)> complain{};
};

inline constexpr unsigned max_links = 40;  // path_resolution(7)

// The last component of a path, when it is a symbolic link.
enum class LastLink : std::uint8_t { follow, keep };

struct Location {
    Region region = Region::brokered;
    std::string path{};            // absolute; no ".", "..", double or trailing slash
    bool wants_directory = false;  // a trailing slash, or "." or ".." at the end
};

const char* name_of(int number);  // `number` of a system call

class Call {
  public:
    Call(const Notification& notification, RunServices& shared)
        : target(shared.proc, notification.thread), services(shared), notification_(notification) {}

    bool is(int number) const { return notification_.number == number; }
    const char* name() const { return name_of(notification_.number); }
    std::uint64_t argument(unsigned index) const { return notification_.arguments[index]; }
    // int arguments are the low half of a register.
    int number(unsigned index) const { return static_cast<int>(notification_.arguments[index]); }
    unsigned bits(unsigned index) const { return static_cast<unsigned>(notification_.arguments[index]); }
    // Whether what `target` told is told of the thread that made the call.
    bool is_valid() const { return services.listener.is_valid(notification_); }

    // The path at that address, as the kernel would resolve it from `directory` (a descriptor or AT_FDCWD). ENOENT for an
    // empty one.
    Task<OrErrno<Location>> locate(int directory, std::uint64_t address, LastLink last) const;
    Task<OrErrno<Location>> locate(int directory, std::string path, LastLink last) const;
    // The broker's answer.
    BrokerLink::Awaiter ask(const Ask& ask) const { return services.broker.ask(ask); }

    const Target target;
    RunServices& services;

  private:
    OrErrno<std::string> base_of(int directory, const std::string& path) const;
    Notification notification_;
};

// The part after /proc/self of a path that is the program's own (/proc/self/..., /dev/fd/..., /dev/stdin); nullopt: other
// paths.
std::optional<std::string> own_proc_part(const Target& target, std::string_view path);

// The path of the stand-in of a brokered directory, which is made where it is missing, links on the way included.
Task<OrErrno<void>> make_stand_in(const Call& call, std::string path);
// The file of a descriptor that may be exchanged meanwhile, held: what is found out about it is done to it.
struct HeldFile {
    proto::UniqueFd file{};
    std::string path{};  // empty: the file is not a brokered one
};
// Fails with EBADF.
OrErrno<HeldFile> hold_file(const Call& call, int descriptor);
// The brokered path of an open descriptor; empty: the file is not a brokered one. EBADF.
OrErrno<std::string> brokered_path_of(const Call& call, int descriptor);
// The file is opened by the broker; its errno where it is not.
Task<OrErrno<proto::UniqueFd>> open_brokered(const Call& call, std::string path, unsigned flags, mode_t mode);

// Whether a file of /proc tells of the machine, and not of a process.
bool is_public_proc_file(std::string_view name);

// Handlers of system calls: one coroutine each, by number (call_table.cpp).
using Handler = Task<Answer> (*)(const Call& call);
Handler handler_of(int number);

}  // namespace fdbroker::worker
