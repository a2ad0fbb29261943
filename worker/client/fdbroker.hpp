// SPDX-License-Identifier: MIT
// libfdbroker for C++23: fdbroker.h with owners instead of numbers, and std::expected instead of negative errnos.
//
//     auto broker = fdb::Broker::connect();
//     if (!broker) …
//     if (const auto confined = fdb::confine(); !confined) …
//     auto file = broker->open("/srv/www/index.html", O_RDONLY);
//     if (!file) std::cerr << file.error().message() << '\n';
//
// Header-only. The namespace is `fdb`, because C++ allows no namespace of the name of `struct fdbroker`. What a
// function does, and which errors there are, is written in fdbroker.h and fdbroker(3); a path or another text with a NUL
// inside is EINVAL, since C would see what is before it alone. Nothing here throws but std::bad_alloc.
#ifndef FDBROKER_HPP
#define FDBROKER_HPP

#if __cplusplus < 202100L
#error "fdbroker.hpp needs C++23 (-std=c++23), for std::expected; fdbroker.h does with any C++ and with C99"
#endif

#include <fdbroker.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <cstring>
#include <expected>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fdb {

// Why something failed.
struct Error {
    int code = 0;          // a positive errno
    std::string reason{};  // as fdbroker_reason(), often empty

    std::string message() const {
        const std::string words = std::strerror(code);
        return reason.empty() ? words : words + ": " + reason;
    }
};

template <typename T>
using Result = std::expected<T, Error>;

// Owns a descriptor; closes it.
class File {
  public:
    File() noexcept = default;
    explicit File(int descriptor) noexcept : descriptor_(descriptor) {}
    File(File&& other) noexcept : descriptor_(other.release()) {}
    File& operator=(File&& other) noexcept {
        if (this != &other) {
            close();
            descriptor_ = other.release();
        }
        return *this;
    }
    ~File() { close(); }

    int get() const noexcept { return descriptor_; }
    explicit operator bool() const noexcept { return descriptor_ >= 0; }
    // From now on the caller closes it.
    [[nodiscard]] int release() noexcept { return std::exchange(descriptor_, -1); }
    void close() noexcept {
        if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
    }

  private:
    int descriptor_ = -1;
};

struct Request {
    std::string path{};
    int flags = 0;
    mode_t mode = 0;
    unsigned call = FDBROKER_CALL_OPEN;  // and what follows: only for submit()
    std::string second{};
    std::uint64_t tag = 0;
    std::chrono::milliseconds timeout{0};  // 0 or less: none
};

struct Completion {
    std::uint64_t tag = 0;
    Result<File> result{};     // of other calls than open: an empty File
    std::vector<char> data{};  // of stat a struct statx; else bytes
};

struct Entry {
    std::string name{};
    std::uint64_t inode = 0;
    unsigned char type = 0;  // DT_* of readdir(3)
};

class Broker;

// A file that is being replaced, see fdbroker_put(). Discarded unless it is committed.
class Put {
  public:
    Put(Put&& other) noexcept
        : broker_(std::exchange(other.broker_, nullptr)),
          path_(std::move(other.path_)),
          number_(other.number_),
          file_(std::move(other.file_)) {}
    Put& operator=(Put&&) = delete;
    ~Put() {
        file_.close();
        if (broker_ != nullptr) fdbroker_discard(broker_, path_.c_str(), number_);
    }

    // Open for writing.
    int get() const noexcept { return file_.get(); }
    // Closes the file and gives it its name. EBUSY: another descriptor can write to it; commit again once it is gone.
    Result<void> commit(unsigned flags = 0) {
        file_.close();
        const int error = fdbroker_commit(broker_, path_.c_str(), number_, flags);
        if (error < 0) return std::unexpected(Error{-error, fdbroker_reason(broker_)});
        broker_ = nullptr;
        return {};
    }

  private:
    friend class Broker;
    Put(::fdbroker* broker, std::string path, std::uint64_t number, File file)
        : broker_(broker), path_(std::move(path)), number_(number), file_(std::move(file)) {}

    ::fdbroker* broker_;
    std::string path_;
    std::uint64_t number_;
    File file_;
};

// A connection. Belongs to one thread at a time; a Put of it must not outlive it.
class Broker {
  public:
    // Empty: the default. `flags`: 0 or FDBROKER_ANY_OWNER.
    static Result<Broker> connect(const std::string& address = {}, unsigned flags = 0) {
        if (has_nul(address)) return std::unexpected(nul_inside());
        ::fdbroker* broker = nullptr;
        const int error = fdbroker_connect_flags(&broker, address.empty() ? nullptr : address.c_str(), flags);
        if (error < 0) return std::unexpected(Error{-error, {}});
        return Broker(broker);
    }
    // Takes over a connection of the C functions.
    explicit Broker(::fdbroker* broker) noexcept : broker_(broker) {}

    ::fdbroker* get() const noexcept { return broker_.get(); }
    // Negative: no bound.
    // NOLINTNEXTLINE(readability-make-member-function-const): it changes the connection
    void set_timeout(std::chrono::milliseconds timeout) { fdbroker_set_timeout(get(), to_int(timeout)); }

    Result<File> open(const std::string& path, int flags, mode_t mode = 0) {
        const auto file = call({path}, [&] { return fdbroker_open(get(), path.c_str(), flags, mode); });
        if (!file) return std::unexpected(file.error());
        return File(*file);
    }
    // The error: the connection failed. Of the single results only the code is told.
    Result<std::vector<Result<File>>> open_many(std::span<const Request> requests, unsigned flags = 0) {
        const auto raw = to_c(requests);
        if (!raw) return std::unexpected(raw.error());
        std::vector<int> results(requests.size());
        std::vector<Result<File>> files;
        files.reserve(results.size());
        const int error = fdbroker_open_many_flags(get(), raw->data(), raw->size(), results.data(), flags);
        if (error < 0) return std::unexpected(error_of(error));
        for (const int result : results)
            if (result < 0)
                files.emplace_back(std::unexpected(Error{-result, {}}));
            else
                files.emplace_back(File(result));
        return files;
    }
    Result<struct statx> stat(const std::string& path, int flags = 0) {
        struct statx status{};
        const auto done = call({path}, [&] { return fdbroker_stat(get(), path.c_str(), flags, &status); });
        if (!done) return std::unexpected(done.error());
        return status;
    }
    Result<std::vector<Entry>> list(const std::string& path) {
        std::vector<Entry> entries;
        const auto note = [](void* to, const fdbroker_entry* entry) {
            static_cast<std::vector<Entry>*>(to)->push_back({entry->name, entry->inode, entry->type});
            return 0;
        };
        const auto done = call({path}, [&] { return fdbroker_list(get(), path.c_str(), note, &entries); });
        if (!done) return std::unexpected(done.error());
        return entries;
    }
    Result<std::string> readlink(const std::string& path) {
        return bytes(4096, {path}, [&](char* to, std::size_t size) {
            return fdbroker_readlink(get(), path.c_str(), to, size);
        });
    }
    Result<void> mkdir(const std::string& path, mode_t mode = 0750) {
        return done(call({path}, [&] { return fdbroker_mkdir(get(), path.c_str(), mode); }));
    }
    Result<void> remove(const std::string& path, int flags = 0) {
        return done(call({path}, [&] { return fdbroker_remove(get(), path.c_str(), flags); }));
    }
    Result<void> rename(const std::string& path, const std::string& new_path, unsigned flags = 0) {
        return done(call({path, new_path},
                         [&] { return fdbroker_rename(get(), path.c_str(), new_path.c_str(), flags); }));
    }
    Result<void> symlink(const std::string& target, const std::string& path) {
        return done(
            call({target, path}, [&] { return fdbroker_symlink(get(), target.c_str(), path.c_str()); }));
    }
    Result<void> set_mode(const std::string& path, mode_t mode) {
        fdbroker_attributes attributes{};
        attributes.set = FDBROKER_SET_MODE;
        attributes.mode = mode;
        return set(attributes, path);
    }
    Result<void> set_times(const std::string& path, timespec access, timespec modification) {
        fdbroker_attributes attributes{};
        attributes.set = FDBROKER_SET_TIMES;
        attributes.access = access;
        attributes.modification = modification;
        return set(attributes, path);
    }
    Result<std::string> getxattr(const std::string& path, const std::string& name) {
        return bytes(most_xattr, {path, name}, [&](char* to, std::size_t size) {
            return fdbroker_getxattr(get(), path.c_str(), name.c_str(), to, size);
        });
    }
    // Each name followed by a NUL.
    Result<std::string> listxattr(const std::string& path) {
        return bytes(most_xattr, {path}, [&](char* to, std::size_t size) {
            return fdbroker_listxattr(get(), path.c_str(), to, size);
        });
    }
    Result<void> setxattr(const std::string& path, const std::string& name, std::string_view value,
                          int flags = 0) {
        return done(call({path, name}, [&] {
            return fdbroker_setxattr(get(), path.c_str(), name.c_str(), value.data(), value.size(), flags);
        }));
    }
    Result<void> removexattr(const std::string& path, const std::string& name) {
        return done(
            call({path, name}, [&] { return fdbroker_removexattr(get(), path.c_str(), name.c_str()); }));
    }
    Result<Put> put(const std::string& path, mode_t mode = 0666) {
        std::uint64_t number = 0;
        std::string copy = path;
        const auto file = call({path}, [&] { return fdbroker_put(get(), path.c_str(), mode, &number); });
        if (!file) return std::unexpected(file.error());
        return Put(get(), std::move(copy), number, File(*file));
    }

    // How many were taken.
    Result<std::size_t> submit(std::span<const Request> requests) {
        const auto raw = to_c(requests);
        if (!raw) return std::unexpected(raw.error());
        const int taken = fdbroker_submit(get(), raw->data(), raw->size());
        if (taken < 0) return std::unexpected(error_of(taken));
        return static_cast<std::size_t>(taken);
    }
    // Up to 64 of what has come; a negative `timeout` waits without end.
    Result<std::vector<Completion>> complete(std::chrono::milliseconds timeout) {
        std::array<fdbroker_completion, 64> raw{};
        raw.front().size = sizeof raw.front();
        std::vector<Completion> completions(raw.size());
        const int count = fdbroker_complete(get(), raw.data(), raw.size(), to_int(timeout));
        if (count < 0) return std::unexpected(error_of(count));
        completions.resize(static_cast<std::size_t>(count));
        // Files have their owner before anything can run out of memory.
        for (std::size_t index = 0; index < completions.size(); ++index)
            if (raw[index].call == FDBROKER_CALL_OPEN && raw[index].result >= 0)
                completions[index].result = File(raw[index].result);
        for (std::size_t index = 0; index < completions.size(); ++index) fill(completions[index], raw[index]);
        return completions;
    }
    // For an event loop; stays the connection's.
    Result<int> descriptor() {
        const int result = fdbroker_descriptor(get());
        if (result < 0) return std::unexpected(error_of(result));
        return result;
    }

  private:
    struct Disconnect {
        void operator()(::fdbroker* broker) const { fdbroker_disconnect(broker); }
    };

    static constexpr std::size_t most_xattr = 65536;  // XATTR_SIZE_MAX and XATTR_LIST_MAX of linux/limits.h

    using Texts = std::initializer_list<std::string_view>;

    static bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }
    static Error nul_inside() { return {EINVAL, "client: a NUL inside a text"}; }
    // In milliseconds as the C functions take them: what is longer than an int is no bound.
    static int to_int(std::chrono::milliseconds time) {
        return time.count() < 0 || time.count() > INT_MAX ? -1 : static_cast<int>(time.count());
    }

    Error error_of(int result) const { return {-result, fdbroker_reason(get())}; }
    // What a C function returns that is given the texts.
    template <typename Call>
    auto call(Texts texts, Call call) -> Result<decltype(call())> {
        if (std::ranges::any_of(texts, has_nul)) return std::unexpected(nul_inside());
        const auto result = call();
        if (result < 0) return std::unexpected(error_of(static_cast<int>(result)));
        return result;
    }
    static Result<void> done(const Result<int>& result) {
        if (!result) return std::unexpected(result.error());
        return {};
    }
    Result<void> set(fdbroker_attributes& attributes, const std::string& path) {
        attributes.size = sizeof attributes;
        return done(call({path}, [&] { return fdbroker_setattr(get(), path.c_str(), &attributes); }));
    }
    template <typename Fill>
    Result<std::string> bytes(std::size_t most, Texts texts, Fill fill) {
        std::string value(most, '\0');
        const auto size = call(texts, [&] { return fill(value.data(), value.size()); });
        if (!size) return std::unexpected(size.error());
        value.resize(static_cast<std::size_t>(*size));
        return value;
    }
    static Result<std::vector<fdbroker_request>> to_c(std::span<const Request> requests) {
        std::vector<fdbroker_request> raw;
        raw.reserve(requests.size());
        for (const Request& request : requests) {
            if (has_nul(request.path) || has_nul(request.second)) return std::unexpected(nul_inside());
            raw.push_back({.size = sizeof(fdbroker_request),
                           .path = request.path.c_str(),
                           .flags = request.flags,
                           .mode = request.mode,
                           .call = request.call,
                           .second = request.second.empty() ? nullptr : request.second.c_str(),
                           .tag = request.tag,
                           .timeout = std::max(to_int(request.timeout), 0)});
        }
        return raw;
    }
    static void fill(Completion& completion, const fdbroker_completion& raw) {
        completion.tag = raw.tag;
        if (raw.result < 0) completion.result = std::unexpected(Error{-raw.result, raw.reason});
        const auto* bytes = static_cast<const char*>(raw.data);
        if (raw.data_size != 0) completion.data.assign(bytes, bytes + raw.data_size);
    }
    std::unique_ptr<::fdbroker, Disconnect> broker_;
};

// fdbroker_confine(): FDBROKER_CONFINE_*.
inline Result<void> confine(unsigned flags = 0) {
    const int error = fdbroker_confine(flags);
    if (error < 0) return std::unexpected(Error{-error, {}});
    return {};
}

// A broker inside the process, for tests. Must outlive the connections to it.
class Fake {
  public:
    // Empty: a directory of its own.
    static Result<Fake> make(const std::string& root = {}) {
        ::fdbroker_fake* fake = nullptr;
        const int error = fdbroker_fake_new(&fake, root.empty() ? nullptr : root.c_str());
        if (error < 0) return std::unexpected(Error{-error, {}});
        return Fake(fake);
    }
    Result<Broker> connect() {
        ::fdbroker* broker = nullptr;
        if (const int error = fdbroker_fake_connect(fake_.get(), &broker); error < 0)
            return std::unexpected(Error{-error, {}});
        return Broker(broker);
    }
    Result<void> file(const std::string& path, std::string_view content) {
        const int error = fdbroker_fake_file(fake_.get(), path.c_str(), content.data(), content.size());
        if (error < 0) return std::unexpected(Error{-error, {}});
        return {};
    }
    // fdbroker_fake_fail(); an empty path: any.
    void fail(const std::string& path, int error, const std::string& reason = {}, unsigned times = 0) {
        fdbroker_fake_fail(fake_.get(), path.empty() ? nullptr : path.c_str(), error, reason.c_str(), times);
    }

  private:
    struct Free {
        void operator()(::fdbroker_fake* fake) const { fdbroker_fake_free(fake); }
    };
    explicit Fake(::fdbroker_fake* fake) noexcept : fake_(fake) {}
    std::unique_ptr<::fdbroker_fake, Free> fake_;
};

}  // namespace fdb

#endif
