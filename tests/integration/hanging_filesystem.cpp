// SPDX-License-Identifier: MIT
#define FUSE_USE_VERSION 34
#include "tests/integration/hanging_filesystem.hpp"

#include <fuse3/fuse_lowlevel.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "proto/unique_fd.hpp"
#include "tests/integration/fuse_arguments.hpp"
#include "tests/support/child.hpp"
#include "tests/support/deadline.hpp"
#include "tests/support/verdict.hpp"

namespace fdbroker::test {

namespace {

constexpr std::string_view content = "fine";
// Inode numbers are FUSE_ROOT_ID and those after it, in this order.
constexpr std::array<std::string_view, 5> names{"fine", "lookup", "open", "flush", "directory"};
constexpr fuse_ino_t ino_of(std::size_t index) {
    return FUSE_ROOT_ID + 1 + index;
}
constexpr fuse_ino_t hangs_in_lookup = ino_of(1), hangs_in_open = ino_of(2), hangs_in_flush = ino_of(3);
constexpr fuse_ino_t directory = ino_of(4);

struct stat status_of(fuse_ino_t ino) {
    struct stat status{};
    status.st_ino = ino;
    status.st_mode = ino == FUSE_ROOT_ID || ino == directory ? S_IFDIR | 0755 : S_IFREG | 0644;
    status.st_nlink = 1;
    status.st_size = static_cast<off_t>(content.size());
    return status;
}

}  // namespace

class HangingFilesystem::Server {
  public:
    explicit Server(const std::string& mount_point) : stop_(::eventfd(0, EFD_CLOEXEC)) {
        FuseArguments arguments("hanging");
        session_ = fuse_session_new(arguments.get(), &operations(), sizeof(fuse_lowlevel_ops), this);
        if (session_ == nullptr) throw std::runtime_error("fuse_session_new failed");
        if (fuse_session_mount(session_, mount_point.c_str()) != 0) {
            fuse_session_destroy(session_);
            fail_to_mount(mount_point);
        }
        thread_ = std::thread([this] { serve(); });
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        const std::uint64_t one = 1;
        if (::write(stop_.number(), &one, sizeof one) != sizeof one) std::abort();
        thread_.join();
        for (const auto& hanging : hanging_) hanging();
        fuse_session_unmount(session_);
        fuse_session_destroy(session_);
    }

    void wait_for_hanging(unsigned count) {
        std::unique_lock lock(mutex_);
        if (!changed_.wait_until(lock, in_good_time(), [&] { return hanging_.size() >= count; }))
            throw std::runtime_error("the filesystem was not asked in time");
    }

    void release() {
        std::vector<std::function<void()>> released;
        {
            const std::scoped_lock lock(mutex_);
            released.swap(hanging_);
        }
        for (const auto& reply : released) reply();
    }

    void hang_everywhere(bool hangs) { hangs_everywhere_ = hangs; }

  private:
    void answer(bool hangs, std::function<void()> reply) {
        if (hangs || hangs_everywhere_)
            hang(std::move(reply));
        else
            reply();
    }
    void hang(std::function<void()> reply) {
        const std::scoped_lock lock(mutex_);
        hanging_.push_back(std::move(reply));
        changed_.notify_all();
    }
    static Server& server_of(fuse_req_t request) { return *static_cast<Server*>(fuse_req_userdata(request)); }

    static void look_up(fuse_req_t request, fuse_ino_t, const char* name) {
        const auto found = std::ranges::find(names, std::string_view(name));
        if (found == names.end()) {
            fuse_reply_err(request, ENOENT);
            return;
        }
        // Nothing is cached: every look-up comes here.
        fuse_entry_param entry{};
        entry.ino = ino_of(static_cast<std::size_t>(found - names.begin()));
        entry.attr = status_of(entry.ino);
        const auto reply = [request, entry] { fuse_reply_entry(request, &entry); };
        server_of(request).answer(entry.ino == hangs_in_lookup, reply);
    }
    static void get_status(fuse_req_t request, fuse_ino_t ino, fuse_file_info*) {
        const auto reply = [request, ino] {
            const struct stat status = status_of(ino);
            fuse_reply_attr(request, &status, 0);
        };
        server_of(request).answer(false, reply);
    }
    static void get_filesystem_status(fuse_req_t request, fuse_ino_t) {
        const auto reply = [request] {
            const struct statvfs status{};
            fuse_reply_statfs(request, &status);
        };
        server_of(request).answer(false, reply);
    }
    static void open(fuse_req_t request, fuse_ino_t ino, fuse_file_info* info) {
        const auto reply = [request, copy = *info] { fuse_reply_open(request, &copy); };
        server_of(request).answer(ino == hangs_in_open, reply);
    }
    static void flush(fuse_req_t request, fuse_ino_t ino, fuse_file_info*) {
        const auto reply = [request] { fuse_reply_err(request, 0); };
        server_of(request).answer(ino == hangs_in_flush, reply);
    }
    static void read(fuse_req_t request, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
        const auto rest = content.substr(std::min(static_cast<std::size_t>(offset), content.size()));
        fuse_reply_buf(request, rest.data(), std::min(size, rest.size()));
    }
    static const fuse_lowlevel_ops& operations() {
        static const fuse_lowlevel_ops table = [] {
            fuse_lowlevel_ops all{};
            all.lookup = look_up;
            all.getattr = get_status;
            all.statfs = get_filesystem_status;
            all.open = open;
            all.flush = flush;
            all.read = read;
            return all;
        }();
        return table;
    }

    void serve() {
        fuse_buf buffer{};
        for (;;) {
            std::array<pollfd, 2> events{pollfd{fuse_session_fd(session_), POLLIN, 0},
                                         pollfd{stop_.number(), POLLIN, 0}};
            if (::poll(events.data(), events.size(), -1) < 0) continue;
            if (events[1].revents != 0) break;
            const int size = fuse_session_receive_buf(session_, &buffer);
            if (size == -EINTR) continue;
            if (size <= 0) break;
            fuse_session_process_buf(session_, &buffer);
        }
        std::free(buffer.mem);
    }

    proto::UniqueFd stop_;
    fuse_session* session_ = nullptr;
    std::mutex mutex_{};
    std::condition_variable changed_{};
    std::vector<std::function<void()>> hanging_{};
    std::atomic<bool> hangs_everywhere_ = false;
    std::thread thread_{};
};

HangingFilesystem::HangingFilesystem(const std::filesystem::path& mount_point)
    : server_(std::make_unique<Server>(mount_point.string())) {}

HangingFilesystem::~HangingFilesystem() = default;

void HangingFilesystem::wait_for_hanging(unsigned count) {
    server_->wait_for_hanging(count);
}

void HangingFilesystem::release() {
    server_->release();
}

void HangingFilesystem::stop_answering() {
    server_->hang_everywhere(true);
}

void HangingFilesystem::answer_again() {
    server_->hang_everywhere(false);
    server_->release();
}

bool has_fuse() {
    return is_root() && can_make_mount_namespace() && ::access("/dev/fuse", R_OK | W_OK) == 0;
}

HangingFixture::HangingFixture() {
    make_directory(data);
    make_directory(hanging);
    write_file(data + "/local", "local");
}

std::string HangingFixture::policy(const std::string& deadline, const std::string& operations) const {
    return "version: 1\nrules:\n  - {name: data, allow: [" + operations + "], paths: [\"" + data +
           "/**\"], deadline: " + deadline + "}\n";
}

}  // namespace fdbroker::test
