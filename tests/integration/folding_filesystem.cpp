// SPDX-License-Identifier: MIT
#define FUSE_USE_VERSION 34
#include "tests/integration/folding_filesystem.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <strings.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "proto/unique_fd.hpp"
#include "tests/integration/fuse_arguments.hpp"

namespace fdbroker::test {

class FoldingFilesystem::Server {
  public:
    Server(std::filesystem::path source, std::string mount_point, Listing listing)
        : source_(std::move(source)), mount_point_(std::move(mount_point)), listing_(listing) {
        FuseArguments arguments("folding");
        fuse_ = fuse_new(arguments.get(), &operations(), sizeof(fuse_operations), this);
        if (fuse_ == nullptr) throw std::runtime_error("fuse_new failed");
        if (fuse_mount(fuse_, mount_point_.c_str()) != 0) {
            fuse_destroy(fuse_);
            fail_to_mount(mount_point_);
        }
        thread_ = std::thread([this] { fuse_loop(fuse_); });
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    // The loop ends with the filesystem, and that with its last mount: who has a copy of it has ended.
    ~Server() {
        ::umount2(mount_point_.c_str(), MNT_DETACH);
        thread_.join();
        fuse_destroy(fuse_);
    }

  private:
    static const Server& self() { return *static_cast<Server*>(fuse_get_context()->private_data); }

    // Each name of the path as it is on disk, however it is spelt; as it is where nothing has such a name.
    std::string real(std::string_view path) const {
        std::filesystem::path found = source_;
        for (const auto& name : std::filesystem::path(path).relative_path()) {
            std::string best = name;
            std::error_code error;
            for (const auto& entry : std::filesystem::directory_iterator(found, error)) {
                const std::string there = entry.path().filename();
                if (::strcasecmp(there.c_str(), name.c_str()) == 0) best = there;
            }
            found /= best;
        }
        return found;
    }
    static int result(int value) { return value < 0 ? -errno : 0; }

    static int get_status(const char* path, struct stat* status, fuse_file_info*) {
        return result(::lstat(self().real(path).c_str(), status));
    }
    static int read_link(const char* path, char* target, std::size_t room) {
        const ssize_t size = ::readlink(self().real(path).c_str(), target, room - 1);
        if (size < 0) return -errno;
        target[size] = '\0';
        return 0;
    }
    static int list(const char* path, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info*,
                    fuse_readdir_flags) {
        if (self().listing_ == Listing::none) return -ENOSYS;
        for (const auto& entry : std::filesystem::directory_iterator(self().real(path)))
            fill(buffer, entry.path().filename().c_str(), nullptr, 0, fuse_fill_dir_flags{});
        return 0;
    }
    static int open(const char* path, fuse_file_info* info) {
        const proto::UniqueFd file(::open(self().real(path).c_str(), info->flags | O_CLOEXEC));
        return result(file.number());
    }
    static int read(const char* path, char* buffer, std::size_t size, off_t offset, fuse_file_info*) {
        const proto::UniqueFd file(::open(self().real(path).c_str(), O_RDONLY | O_CLOEXEC));
        const ssize_t done = ::pread(file.number(), buffer, size, offset);
        return done < 0 ? -errno : static_cast<int>(done);
    }
    static int create(const char* path, mode_t mode, fuse_file_info* info) {
        const proto::UniqueFd file(
            ::open(self().real(path).c_str(), info->flags | O_CREAT | O_CLOEXEC, mode));
        return result(file.number());
    }
    static int remove(const char* path) { return result(::unlink(self().real(path).c_str())); }
    static int change_mode(const char* path, mode_t mode, fuse_file_info*) {
        return result(::chmod(self().real(path).c_str(), mode));
    }
    static int change_owner(const char* path, uid_t uid, gid_t gid, fuse_file_info*) {
        return result(::lchown(self().real(path).c_str(), uid, gid));
    }
    static int rename(const char* from, const char* to, unsigned flags) {
        return flags != 0 ? -EINVAL : result(::rename(self().real(from).c_str(), self().real(to).c_str()));
    }

    static const fuse_operations& operations() {
        static const fuse_operations table = [] {
            fuse_operations all{};
            all.getattr = get_status;
            all.readlink = read_link;
            all.readdir = list;
            all.open = open;
            all.read = read;
            all.create = create;
            all.unlink = remove;
            all.chmod = change_mode;
            all.chown = change_owner;
            all.rename = rename;
            return all;
        }();
        return table;
    }

    std::filesystem::path source_;
    std::string mount_point_;
    Listing listing_;
    fuse* fuse_ = nullptr;
    std::thread thread_{};
};

FoldingFilesystem::FoldingFilesystem(std::filesystem::path source, const std::filesystem::path& mount_point,
                                     Listing listing)
    : server_(std::make_unique<Server>(std::move(source), mount_point.string(), listing)) {}

FoldingFilesystem::~FoldingFilesystem() = default;

}  // namespace fdbroker::test
