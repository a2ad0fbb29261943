// SPDX-License-Identifier: MIT
#include "worker/commands.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <optional>
#include <string_view>
#include <vector>

#include "worker/copy.hpp"

namespace fdbroker::worker {
namespace {

using proto::BorrowedFd;
using proto::UniqueFd;

// Says why, and how the program ends if it is over.
std::optional<ExitStatus> fail(fdbroker_handle* broker, std::string_view path, int error) {
    complain(fmt::format("{}: {}: {}", path, std::strerror(-error), fdbroker_reason(broker)));
    if (error == -ECONNRESET || error == -EPROTO) return ExitStatus::unreachable;
    return std::nullopt;
}

// False: nobody reads it; that has been said.
bool print(std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
        if (written >= 0) {
            text.remove_prefix(static_cast<std::size_t>(written));
        } else if (errno != EINTR) {
            complain(fmt::format("standard output: {}", std::strerror(errno)));
            return false;
        }
    }
    return true;
}

// A terminal acts on control characters; a pipe gets names as they are.
std::string shown(std::string_view name) {
    static const bool to_terminal = ::isatty(STDOUT_FILENO) == 1;
    return to_terminal ? proto::printable(name, proto::LineFeeds::escaped) : std::string(name);
}

// As ls(1) has them.
std::string mode_in_letters(unsigned mode) {
    constexpr std::array<std::pair<unsigned, char>, 7> types{{{S_IFREG, '-'},
                                                              {S_IFDIR, 'd'},
                                                              {S_IFLNK, 'l'},
                                                              {S_IFIFO, 'p'},
                                                              {S_IFSOCK, 's'},
                                                              {S_IFCHR, 'c'},
                                                              {S_IFBLK, 'b'}}};
    const auto* type = std::ranges::find(types, mode & S_IFMT, &std::pair<unsigned, char>::first);
    std::string letters(1, type == types.end() ? '?' : type->second);
    for (const unsigned bits : {mode >> 6, mode >> 3, mode}) {
        letters += (bits & 4) != 0 ? 'r' : '-';
        letters += (bits & 2) != 0 ? 'w' : '-';
        letters += (bits & 1) != 0 ? 'x' : '-';
    }
    const auto special = [&](unsigned bit, std::size_t at, char with, char without) {
        if ((mode & bit) != 0) letters[at] = letters[at] == 'x' ? with : without;
    };
    special(S_ISUID, 3, 's', 'S');
    special(S_ISGID, 6, 's', 'S');
    special(S_ISVTX, 9, 't', 'T');
    return letters;
}

std::string line_of(const struct statx& status, std::string_view path) {
    const auto seconds = static_cast<std::time_t>(status.stx_mtime.tv_sec);
    std::tm time{};
    std::array<char, 40> when{};
    if (::gmtime_r(&seconds, &time) != nullptr)
        std::strftime(when.data(), when.size(), "%Y-%m-%dT%H:%M:%SZ", &time);
    return fmt::format("{} {} {} {} {} {} {}\n", mode_in_letters(status.stx_mode), status.stx_nlink,
                       status.stx_uid, status.stx_gid, status.stx_size, when.data(), shown(path));
}

int note_name(void* names, const fdbroker_entry* entry) {
    static_cast<std::vector<std::string>*>(names)->emplace_back(entry->name);
    return 0;
}

}  // namespace

ExitStatus stat(fdbroker_handle* broker, std::span<const std::string> paths, Links links) {
    const int flags = links == Links::tell ? AT_SYMLINK_NOFOLLOW : 0;
    ExitStatus status = ExitStatus::done;
    for (const std::string& path : paths) {
        struct statx told{};
        if (const int error = fdbroker_stat(broker, path.c_str(), flags, &told); error < 0) {
            if (const auto ending = fail(broker, path, error)) return *ending;
            status = ExitStatus::failed;
        } else if (!print(line_of(told, path))) {
            return ExitStatus::failed;
        }
    }
    return status;
}

ExitStatus list(fdbroker_handle* broker, std::span<const std::string> paths, LineEnd line_end) {
    ExitStatus status = ExitStatus::done;
    for (const std::string& path : paths) {
        std::vector<std::string> names;
        if (const int error = fdbroker_list(broker, path.c_str(), note_name, &names); error < 0) {
            if (const auto ending = fail(broker, path, error)) return *ending;
            status = ExitStatus::failed;
            continue;
        }
        std::ranges::sort(names);
        std::string text;
        for (const std::string& name : names) (text += shown(name)) += static_cast<char>(line_end);
        if (!print(text)) return ExitStatus::failed;
    }
    return status;
}

ExitStatus put(fdbroker_handle* broker, const std::string& path, mode_t mode, Existing existing) {
    std::uint64_t number = 0;
    UniqueFd file(fdbroker_put(broker, path.c_str(), mode, &number));
    if (!file) return fail(broker, path, file.number()).value_or(ExitStatus::failed);
    const auto copied = copy(BorrowedFd(STDIN_FILENO), file.borrow());
    file.reset();
    if (!copied) {
        const bool is_input = copied.error().side == CopySide::source;
        complain(fmt::format("{}: {}", is_input ? "standard input" : path,
                             std::strerror(copied.error().errno_value)));
        static_cast<void>(fdbroker_discard(broker, path.c_str(), number));
        return ExitStatus::failed;
    }
    const unsigned flags = existing == Existing::keep ? RENAME_NOREPLACE : 0;
    const int error = fdbroker_commit(broker, path.c_str(), number, flags);
    return error == 0 ? ExitStatus::done : fail(broker, path, error).value_or(ExitStatus::failed);
}

}  // namespace fdbroker::worker
