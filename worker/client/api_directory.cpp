// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h that tell what a directory holds.
#include <fcntl.h>
#include <sys/stat.h>

#include <memory>
#include <string>

#include "proto/payload.hpp"
#include "worker/client/asking.hpp"
#include "worker/client/handle.hpp"
#include "worker/client/status.hpp"

namespace fdbroker::worker {

using proto::Call;

// The pages of a directory, one after the other. struct fdbroker_dir holds them, so the class has linkage.
class Pages {
  public:
    Pages(fdbroker_handle& broker, const char* path, unsigned flags)
        : broker_(&broker), path_(path), flags_(flags) {}

    fdbroker_handle* broker() { return broker_; }

    // Asks for the first page. A negative errno on failure.
    int begin(const Deadline& deadline) {
        kind_ = (flags_ & FDBROKER_DIR_STATUS) != 0 ? proto::PageKind::with_status : proto::PageKind::names;
        const int error = ask(0, deadline);
        // Older brokers do not know the flag: each entry is asked for then.
        if (error != -EINVAL || kind_ == proto::PageKind::names) return error;
        kind_ = proto::PageKind::names;
        return ask(0, deadline);
    }

    // 1: `told` is the next entry, good until the next call; 0: there is no further one; or a negative errno.
    int next(fdbroker_entry& told, const Deadline& deadline) {
        for (;;) {
            if (const auto entry = reader_->entry()) return tell(*entry, told);
            if (!reader_->ok()) return fail();
            const std::uint64_t cursor = reader_->next_cursor();
            if (cursor == 0) return 0;
            if (const int error = ask(cursor, deadline); error < 0) return error;
        }
    }

  private:
    Connection& connection() { return broker_->connection; }
    int fail() { return connection().fail(EPROTO, "the page of a directory is none"); }

    int ask(std::uint64_t cursor, const Deadline& deadline) {
        const auto payload = proto::number_payload(cursor);
        const Ask ask{.call = Call::list,
                      .path = path_.c_str(),
                      .flags = kind_ == proto::PageKind::with_status ? proto::list_with_status : 0,
                      .payload = {payload.data(), payload.size()}};
        if (const int error = connection().ask(ask, &page_, deadline); error < 0) return error;
        reader_.emplace(page_, kind_);
        // A page that leads to itself would have no end.
        return reader_->ok() && (cursor == 0 || reader_->next_cursor() != cursor) ? 0 : fail();
    }

    int tell(const proto::DirectoryEntry& entry, fdbroker_entry& told) {
        told = {.size = sizeof told,
                .name = entry.name.data(),  // followed by a NUL
                .inode = entry.inode,
                .type = entry.type,
                .status_error = 0,
                .status = nullptr};
        if ((flags_ & FDBROKER_DIR_STATUS) == 0) return 1;
        if (kind_ == proto::PageKind::with_status) {
            told.status_error = entry.status_error;
            if (entry.status_error == 0) {
                to_statx(entry.status, status_);
                told.status = &status_;
            }
            return 1;
        }
        const std::string path = (path_ == "/" ? "" : path_) + "/" + std::string(entry.name);
        told.status_error = -ask_status(connection(), path.c_str(), AT_SYMLINK_NOFOLLOW, status_);
        if (told.status_error == ECONNRESET || told.status_error == EPROTO) return -told.status_error;
        if (told.status_error == 0) told.status = &status_;
        return 1;
    }

    fdbroker_handle* broker_;
    std::string path_;
    unsigned flags_;
    proto::PageKind kind_ = proto::PageKind::names;
    std::string page_{};
    std::optional<proto::DirectoryPageReader> reader_{};
    struct statx status_{};
};

namespace {

using EachEntry = int (*)(void* context, const fdbroker_entry* entry);

int list(fdbroker_handle& broker, const char* path, EachEntry each, void* context) {
    const Deadline deadline = broker.connection.deadline();
    if (path == nullptr) return broker.connection.refuse(EFAULT, "the path is NULL");
    Pages pages(broker, path, 0);
    if (const int error = pages.begin(deadline); error < 0) return error;
    fdbroker_entry entry{};
    for (;;) {
        if (const int got = pages.next(entry, deadline); got <= 0) return got;
        if (const int result = each(context, &entry); result != 0) return result;
    }
}

}  // namespace
}  // namespace fdbroker::worker

using namespace fdbroker::worker;

struct fdbroker_dir {
    Pages pages;
    fdbroker_entry entry{};
};

int fdbroker_list(fdbroker_handle* broker, const char* path,
                  int (*each)(void* context, const fdbroker_entry* entry), void* context) {
    if (broker == nullptr || each == nullptr) return fault(broker);
    return guarded(broker, [&](Connection&) { return list(*broker, path, each, context); });
}

int fdbroker_opendir(fdbroker_handle* broker, const char* path, unsigned flags, fdbroker_dir** directory) {
    if (directory != nullptr) *directory = nullptr;
    if (broker == nullptr || path == nullptr || directory == nullptr) return fault(broker);
    return guarded(broker, [&](Connection& connection) {
        if ((flags & ~FDBROKER_DIR_STATUS) != 0) return connection.refuse(EINVAL, "a flag that is none");
        std::string canonical;
        if (const int error = write_canonical(connection, path, canonical); error < 0) return error;
        auto opened = std::make_unique<fdbroker_dir>(Pages(*broker, canonical.c_str(), flags));
        if (const int error = opened->pages.begin(connection.deadline()); error < 0) return error;
        *directory = opened.release();
        return 0;
    });
}

int fdbroker_readdir(fdbroker_dir* directory, const fdbroker_entry** entry) {
    if (directory == nullptr || entry == nullptr) return -EFAULT;
    *entry = nullptr;
    return guarded(directory->pages.broker(), [&](Connection& connection) {
        const int got = directory->pages.next(directory->entry, connection.deadline());
        if (got > 0) *entry = &directory->entry;
        return got;
    });
}

int fdbroker_closedir(fdbroker_dir* directory) {
    if (directory == nullptr) return -EFAULT;
    delete directory;
    return 0;
}
