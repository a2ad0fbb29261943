// SPDX-License-Identifier: MIT
#include "opener/ctl/audit_files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "proto/unique_fd.hpp"

namespace fdbroker::ctl {

using proto::Result;
using proto::UniqueFd;

namespace {

constexpr std::size_t longest_line = std::size_t{1} << 20;

bool is_rotated(std::string_view name, std::string_view file) {
    if (!name.starts_with(file) || name.size() < file.size() + 2) return false;
    const char joint = name[file.size()];
    const char next = name[file.size() + 1];
    return (joint == '.' || joint == '-') && next >= '0' && next <= '9';
}

// Decompresses for as long as it lives.
class Gzip {
  public:
    static Result<Gzip> read(const UniqueFd& file) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return proto::system_error("pipe");
        Gzip gzip;
        gzip.output_ = UniqueFd(ends[0]);
        const UniqueFd input(ends[1]);
        posix_spawn_file_actions_t actions;
        ::posix_spawn_file_actions_init(&actions);
        ::posix_spawn_file_actions_adddup2(&actions, file.number(), STDIN_FILENO);
        ::posix_spawn_file_actions_adddup2(&actions, input.number(), STDOUT_FILENO);
        char name[] = "gzip", option[] = "-dc";
        char* const arguments[] = {name, option, nullptr};
        const int error = ::posix_spawnp(&gzip.pid_, name, &actions, nullptr, arguments, environ);
        ::posix_spawn_file_actions_destroy(&actions);
        if (error != 0) return proto::system_error("gzip", "", error);
        return gzip;
    }
    Gzip(Gzip&& other) noexcept : output_(std::move(other.output_)), pid_(std::exchange(other.pid_, 0)) {}
    Gzip& operator=(Gzip&&) = delete;
    ~Gzip() {
        output_.reset();
        if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    }
    const UniqueFd& output() const noexcept { return output_; }

  private:
    Gzip() = default;
    UniqueFd output_{};
    pid_t pid_ = 0;
};

Result<void> read_lines_of(const UniqueFd& file, const std::function<Reading(std::string_view)>& use) {
    std::string pending;
    std::vector<char> block(std::size_t{256} << 10);
    bool skipping = false;
    for (;;) {
        const ssize_t size = ::read(file.number(), block.data(), block.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0) return proto::system_error("read");
        if (size == 0) return {};
        pending.append(block.data(), static_cast<std::size_t>(size));
        std::size_t begin = 0;
        for (std::size_t end = 0; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1) {
            if (!std::exchange(skipping, false) &&
                use(std::string_view(pending).substr(begin, end - begin)) == Reading::stop)
                return {};
        }
        pending.erase(0, begin);
        if (pending.size() <= longest_line) continue;
        pending.clear();
        skipping = true;
    }
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
    // Of two that were written in the same second the one with the lower number is the later one.
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
    const UniqueFd file(::open(audit.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    // One that was rotated away meanwhile has another name now, under which it is read next time.
    if (!file && errno == ENOENT) return {};
    if (!file) return proto::system_error("open", audit.path);
    if (!audit.path.ends_with(".gz")) return read_lines_of(file, use);
    const auto gzip = Gzip::read(file);
    if (!gzip) return std::unexpected(gzip.error());
    return read_lines_of(gzip->output(), use);
}

}  // namespace fdbroker::ctl
