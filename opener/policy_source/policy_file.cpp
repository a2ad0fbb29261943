// SPDX-License-Identifier: MIT
#include "opener/policy_source/policy_file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "opener/base/trusted_file.hpp"

namespace fdbroker::opener {

namespace {

using Text = std::expected<std::string, std::string>;
using Failure = std::unexpected<std::string>;

// The size of a file may change while it is read, so that is not relied upon.
Text read_all(proto::BorrowedFd file, std::size_t limit) {
    std::string text;
    std::vector<char> block(std::size_t{64} << 10);
    for (;;) {
        const ssize_t size = ::read(file.number(), block.data(), block.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return Failure(fmt::format("cannot be read: {}", std::strerror(errno)));
        if (size == 0) return text;
        text.append(block.data(), static_cast<std::size_t>(size));
        if (text.size() > limit) {
            return Failure(fmt::format("holds too much: a policy has at most {} MiB", max_policy_size >> 20));
        }
    }
}

enum class NullDevice : std::uint8_t { refused, empty };

// /dev/null, to which a link masks a fragment.
bool is_null_device(const struct stat& status) noexcept {
    return S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3);
}

Text read_trusted(const std::string& path, std::size_t limit, NullDevice null_device) {
    const auto object = walk_trusted(path);
    if (!object) return Failure(object.error());
    if (null_device == NullDevice::empty && is_null_device(object->status)) return std::string();
    if (!S_ISREG(object->status.st_mode)) {
        return Failure(
            fmt::format("is {}, a policy is a regular file", kind_of_file(object->status.st_mode)));
    }
    const auto file = open_for_reading(*object, 0);
    if (!file) return Failure(file.error());
    return read_all(file->borrow(), limit);
}

// A file that could be read but is not taken is one that somebody else could change.
policy::DiagnosticCode code_of_unread(const std::string& path) {
    struct stat status{};
    const bool readable = ::faccessat(AT_FDCWD, path.c_str(), R_OK, AT_EACCESS) == 0 &&
                          ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
    return readable ? policy::DiagnosticCode::untrusted_file : policy::DiagnosticCode::unreadable_file;
}

bool has_wildcards(std::string_view text) noexcept {
    return text.find_first_of("*?[\\") != std::string_view::npos;
}

// The names in `directory` that match, sorted by their bytes.
std::expected<std::vector<std::string>, std::string> matching_names(const std::string& directory,
                                                                    const std::string& pattern) {
    const auto object = walk_trusted(directory);
    if (!object) return Failure(object.error());
    auto fd = open_for_reading(*object, O_DIRECTORY);
    if (!fd) return Failure(fd.error());
    const std::unique_ptr<DIR, decltype([](DIR* stream) { ::closedir(stream); })> stream(
        ::fdopendir(fd->number()));
    if (!stream) return Failure(fmt::format("{}: {}", directory, std::strerror(errno)));
    std::ignore = fd->release();
    std::vector<std::string> names;
    errno = 0;
    for (const dirent* entry = nullptr; (entry = ::readdir(stream.get())) != nullptr; errno = 0) {
        if (::fnmatch(pattern.c_str(), entry->d_name, FNM_PERIOD) != 0) continue;
        names.emplace_back(entry->d_name);
        if (names.size() > max_fragments) {
            return Failure(fmt::format("more than {} files match", max_fragments));
        }
    }
    if (errno != 0) return Failure(fmt::format("{}: {}", directory, std::strerror(errno)));
    std::ranges::sort(names);
    return names;
}

std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

std::string joined(const std::string& directory, const std::string& name) {
    return directory == "/" ? "/" + name : directory + "/" + name;
}

std::expected<std::vector<policy::Source>, std::string> read_fragments(const std::string& pattern) {
    const std::string directory = directory_of(pattern);
    const std::string last = pattern.substr(pattern.rfind('/') + 1);
    if (has_wildcards(directory)) return Failure("wildcards may stand in the last component only");
    std::vector<std::string> names{last};
    if (has_wildcards(last)) {
        auto matching = matching_names(directory, last);
        if (!matching) return Failure(matching.error());
        names = std::move(*matching);
    }
    std::vector<policy::Source> sources;
    std::size_t room = max_policy_size;
    for (const std::string& name : names) {
        const std::string path = joined(directory, name);
        auto text = read_trusted(path, room, NullDevice::empty);
        if (!text) return Failure(fmt::format("{}: {}", path, text.error()));
        room -= text->size();
        sources.push_back({.name = path, .text = std::move(*text)});
    }
    return sources;
}

std::expected<policy::Source, policy::Diagnostic> source_of(const std::string& name, Text text) {
    if (!text)
        return std::unexpected(
            policy::Diagnostic{.file = name, .text = std::move(text.error()), .code = code_of_unread(name)});
    return policy::Source{.name = name, .text = std::move(*text)};
}

}  // namespace

std::expected<policy::Source, policy::Diagnostic> read_policy_file(const std::string& path) {
    return source_of(path, read_trusted(path, max_policy_size, NullDevice::refused));
}

std::expected<policy::Source, policy::Diagnostic> read_policy_stream(proto::BorrowedFd stream,
                                                                     const std::string& name) {
    return source_of(name, read_all(stream, max_policy_size));
}

policy::FragmentReader fragment_reader(const std::string& policy_path) {
    return [directory = directory_of(policy_path)](const std::string& pattern) {
        return read_fragments(pattern.starts_with('/') ? pattern : joined(directory, pattern));
    };
}

}  // namespace fdbroker::opener
