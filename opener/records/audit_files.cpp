// SPDX-License-Identifier: MIT
#include "opener/records/audit_files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "opener/records/line_reader.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::records {

using proto::Result;
using proto::UniqueFd;

namespace {

bool is_rotated(std::string_view name, std::string_view file) {
    if (!name.starts_with(file) || name.size() < file.size() + 2) return false;
    const char joint = name[file.size()];
    const char next = name[file.size() + 1];
    return (joint == '.' || joint == '-') && next >= '0' && next <= '9';
}

}  // namespace

Result<std::vector<AuditFile>> audit_files(const std::string& file) {
    const std::size_t slash = file.rfind('/');
    const std::string directory = slash == std::string::npos ? "." : file.substr(0, slash + 1);
    const std::string name = slash == std::string::npos ? file : file.substr(slash + 1);
    const std::unique_ptr<DIR, decltype([](DIR* stream) { ::closedir(stream); })> stream(
        ::opendir(directory.c_str()));
    if (!stream) return proto::system_error("open", directory);
    std::vector<AuditFile> files;
    const auto add = [&](const std::string& path) {
        struct stat status{};
        if (::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode))
            files.push_back({path, status.st_mtime});
    };
    while (const dirent* entry = ::readdir(stream.get()))
        if (is_rotated(entry->d_name, name))
            add(slash == std::string::npos ? entry->d_name : directory + entry->d_name);
    // Among files that were written in the same second the lower number is the later one.
    std::ranges::sort(files, [](const AuditFile& left, const AuditFile& right) {
        if (left.written != right.written) return left.written < right.written;
        if (left.path.size() != right.path.size()) return left.path.size() > right.path.size();
        return left.path > right.path;
    });
    add(file);
    if (files.empty() || files.back().path != file) return proto::system_error("open", file, ENOENT);
    return files;
}

Result<void> read_lines(const AuditFile& audit, const std::function<Reading(std::string_view)>& use) {
    UniqueFd file(::open(audit.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    // A file that was rotated away meanwhile has another name now, under which it is read next time.
    if (!file && errno == ENOENT) return {};
    if (!file) return proto::system_error("open", audit.path);
    auto source = open_byte_source(std::move(file), audit.path);
    if (!source) return std::unexpected(source.error());
    LineReader lines(std::move(*source));
    for (;;) {
        const auto line = lines.next();
        if (!line) return std::unexpected(line.error());
        if (!*line) return {};
        if ((*line)->ended && !(*line)->too_long && use((*line)->text) == Reading::stop) return {};
    }
}

}  // namespace fdbroker::records
