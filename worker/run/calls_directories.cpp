// SPDX-License-Identifier: MIT
// The working directory and the listing of brokered directories. The kernel keeps track of both on stand-ins (view.hpp);
// what is told of them comes from the broker.
#include <dirent.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "proto/payload.hpp"
#include "worker/run/handlers.hpp"

namespace fdbroker::worker {
namespace {

using proto::UniqueFd;

// A position in a brokered directory as lseek(2) and d_off have it: the number of a page and the index of an entry in it.
// Below 2^31, which every tmpfs takes.
constexpr unsigned index_bits = 12;
constexpr std::uint64_t position_of(std::uint64_t page, std::uint64_t index) {
    return page << index_bits | index;
}

std::string parent_path(const std::string& path) {
    return path.substr(0, std::max<std::size_t>(path.rfind('/'), 1));
}

// struct linux_dirent64 and linux_dirent of getdents(2), one after the other, in a buffer of limited size.
class EntryWriter {
  public:
    enum class Format : std::uint8_t { getdents, getdents64 };
    EntryWriter(Format format, std::size_t room) : format_(format), room_(room) {}

    // False: there is no room for it.
    bool add(const proto::DirectoryEntry& entry, std::uint64_t next) {
        const bool is_new = format_ == Format::getdents64;
        const std::size_t head = is_new ? 19 : 18;
        const std::size_t plain = head + entry.name.size() + (is_new ? 1 : 2);
        const std::size_t size = (plain + 7) & ~std::size_t{7};
        if (bytes_.size() + size > room_) return false;
        const std::size_t at = bytes_.size();
        bytes_.resize(at + size);
        const auto put = [&](std::size_t offset, const auto& value) {
            std::memcpy(bytes_.data() + at + offset, &value, sizeof value);
        };
        put(0, entry.inode);
        put(8, next);
        put(16, static_cast<std::uint16_t>(size));
        if (is_new) put(18, entry.type);
        std::memcpy(bytes_.data() + at + head, entry.name.data(), entry.name.size());
        if (!is_new) bytes_[at + size - 1] = static_cast<char>(entry.type);
        return true;
    }
    const std::string& bytes() const { return bytes_; }

  private:
    Format format_;
    std::size_t room_;
    std::string bytes_{};
};

Task<OrErrno<std::uint64_t>> fetch_page(const Call& call, std::string path, std::uint64_t cursor) {
    const auto payload = proto::number_payload(cursor);
    const Ask ask{
        .call = proto::Call::list, .path = path.c_str(), .payload = {payload.data(), payload.size()}};
    Reply reply = co_await call.ask(ask);
    if (reply.result < 0) co_return std::unexpected(-reply.result);
    DirectoryPage page{.path = std::move(path), .payload = std::move(reply.payload), .is_first = cursor == 0};
    co_return call.services.pages.add(std::move(page));
}

Task<OrErrno<std::uint64_t>> first_page(const Call& call, std::string path, ino_t stand_in) {
    std::string kept = call.services.pages.take_first(stand_in);
    if (!kept.empty()) {
        DirectoryPage page{.path = std::move(path), .payload = std::move(kept), .is_first = true};
        co_return call.services.pages.add(std::move(page));
    }
    OrErrno<std::uint64_t> fetched = co_await fetch_page(call, std::move(path), 0);
    co_return fetched;
}

// The entries of a page, "." and ".." before those of the first one.
std::vector<proto::DirectoryEntry> entries_of(const Call& call, const DirectoryPage& page,
                                              std::uint64_t& next_cursor) {
    const DirectoryPages& pages = call.services.pages;
    std::vector<proto::DirectoryEntry> entries;
    if (page.is_first) {
        entries.push_back({.inode = pages.inode_of(page.path), .type = DT_DIR, .name = "."});
        entries.push_back({.inode = pages.inode_of(parent_path(page.path)), .type = DT_DIR, .name = ".."});
    }
    proto::DirectoryPageReader reader(page.payload);
    while (const auto entry = reader.entry()) entries.push_back(*entry);
    next_cursor = reader.ok() ? reader.next_cursor() : 0;
    return entries;
}

// The entries that one getdents(2) of a brokered directory returns; `position` goes on to behind them.
Task<OrErrno<std::string>> read_entries(const Call& call, std::string path, ino_t stand_in,
                                        EntryWriter writer, std::uint64_t& position) {
    if (position == 0) {
        const OrErrno<std::uint64_t> first = co_await first_page(call, path, stand_in);
        if (!first) co_return std::unexpected(first.error());
        position = position_of(*first, 0);
    }
    for (;;) {
        const DirectoryPage* page = call.services.pages.find(position >> index_bits);
        // A page that is older than those kept, or a place where no entry ended.
        if (page == nullptr) co_return std::unexpected(EINVAL);
        std::uint64_t next_cursor = 0;
        const auto entries = entries_of(call, *page, next_cursor);
        const std::uint64_t number = position >> index_bits;
        auto index = position & ((1U << index_bits) - 1);
        for (; index < entries.size(); ++index)
            if (!writer.add(entries[index], position_of(number, index + 1))) break;
        const bool is_full = index < entries.size();
        position = position_of(number, index);
        if (is_full && writer.bytes().empty()) co_return std::unexpected(EINVAL);
        if (is_full || next_cursor == 0 || !writer.bytes().empty()) co_return writer.bytes();
        const OrErrno<std::uint64_t> next = co_await fetch_page(call, page->path, next_cursor);
        if (!next) co_return std::unexpected(next.error());
        position = position_of(*next, 0);
    }
}

Task<Answer> list(const Call& call, EntryWriter::Format format) {
    const auto status = call.target.status_of(call.number(0));
    if (!status) co_return Answer::failure(status.error());
    if (!call.services.view.is_stand_in(*status)) co_return Answer::go_on();
    auto path = call.target.path_of(call.number(0));
    if (!path) co_return Answer::failure(path.error());
    // The offset is shared by every duplicate of the descriptor, and so it is kept in the kernel's own.
    const auto directory = call.target.duplicate(call.number(0));
    if (!directory) co_return Answer::failure(directory.error());
    if (!call.is_valid()) co_return Answer::failure(EINTR);
    const off_t offset = ::lseek(directory->number(), 0, SEEK_CUR);
    if (offset < 0) co_return Answer::failure(errno);
    auto position = static_cast<std::uint64_t>(offset);
    EntryWriter writer(format, call.bits(2));
    const OrErrno<std::string> entries =
        co_await read_entries(call, std::move(*path), status->st_ino, std::move(writer), position);
    if (!entries) co_return Answer::failure(entries.error());
    const auto written = call.target.write(call.argument(1), std::as_bytes(std::span(*entries)));
    if (!written) co_return Answer::failure(written.error());
    if (::lseek(directory->number(), static_cast<off_t>(position), SEEK_SET) < 0)
        co_return Answer::failure(errno);
    co_return Answer::of(static_cast<std::int64_t>(entries->size()));
}

}  // namespace

// Components that have no stand-in yet are asked for: a link gets one, too, so that the directory that the kernel enters is
// the one that the link leads to. What the program may not know of is taken for a directory.
Task<OrErrno<void>> make_stand_in(const Call& call, std::string path) {
    const View& view = call.services.view;
    for (unsigned links = 0; links <= max_links; ++links) {
        if (view.has_directory(path)) co_return OrErrno<void>();
        std::string top = path;
        while (top.size() > 1 && !view.has_directory(parent_path(top))) top = parent_path(top);
        const Ask ask{.call = proto::Call::stat, .path = top.c_str(), .flags = AT_SYMLINK_NOFOLLOW};
        const Reply reply = co_await call.ask(ask);
        const auto status = proto::read_status(reply.payload);
        if (reply.result == 0 && status && S_ISLNK(status->mode)) {
            const Ask link_ask{.call = proto::Call::readlink, .path = top.c_str()};
            const Reply link = co_await call.ask(link_ask);
            if (link.result < 0) co_return std::unexpected(-link.result);
            if (const auto made = view.make_link(link.payload, top); !made)
                co_return std::unexpected(made.error());
            std::string leads_to =
                link.payload.starts_with('/') ? link.payload : parent_path(top) + "/" + link.payload;
            OrErrno<Location> target = co_await call.locate(AT_FDCWD, std::move(leads_to), LastLink::follow);
            if (!target) co_return std::unexpected(target.error());
            const OrErrno<void> made = co_await make_stand_in(call, std::move(target->path));
            if (!made) co_return made;
            continue;
        }
        if (const auto made = view.make_directory(top); !made) co_return std::unexpected(made.error());
    }
    co_return std::unexpected(ELOOP);
}

Task<Answer> handle_chdir(const Call& call) {
    OrErrno<Location> location = co_await call.locate(AT_FDCWD, call.argument(0), LastLink::follow);
    if (!location) co_return Answer::failure(location.error());
    // The kernel's working directory is the program's; one of this worker's procfs would be none.
    if (location->region == Region::native) co_return Answer::go_on();
    if (location->region == Region::process) co_return Answer::failure(EACCES);
    if (location->path == "/") co_return Answer::go_on();
    const Ask ask{.call = proto::Call::stat, .path = location->path.c_str()};
    const Reply reply = co_await call.ask(ask);
    const bool leads_on = reply.result == -EACCES && call.services.view.has_directory(location->path);
    if (reply.result < 0 && !leads_on) co_return Answer::failure(-reply.result);
    const auto status = proto::read_status(reply.payload);
    if (!leads_on && (!status || !S_ISDIR(status->mode))) co_return Answer::failure(ENOTDIR);
    const OrErrno<void> made = co_await make_stand_in(call, std::move(location->path));
    if (!made) co_return Answer::failure(made.error());
    // A path that is exchanged meanwhile leads to another stand-in or into the runtime.
    co_return Answer::go_on();
}

Task<Answer> handle_getdents(const Call& call) {
    return list(call, EntryWriter::Format::getdents);
}

Task<Answer> handle_getdents64(const Call& call) {
    return list(call, EntryWriter::Format::getdents64);
}

}  // namespace fdbroker::worker
