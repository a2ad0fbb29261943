// libfdbroker for C++23: fdbroker.h with owners instead of numbers, and std::expected instead of negative errnos.
//
//     auto broker = fdb::Broker::connect();
//     if (!broker) …
//     if (const auto confined = fdb::confine(); !confined) …
//     auto file = broker->open("/srv/www/index.html", O_RDONLY);
//     if (!file) std::cerr << file.error().message() << '\n';
//
// Header-only. The namespace is `fdb`, because C++ allows no namespace of the name of `struct fdbroker`. What a
// function does, and which errors there are, is written in fdbroker.h and fdbroker(3). Nothing here throws but
// std::bad_alloc.
#ifndef FDBROKER_HPP
#define FDBROKER_HPP

#include <fdbroker.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <expected>
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
    std::chrono::milliseconds timeout{0};  // 0: none
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
    void set_timeout(std::chrono::milliseconds timeout) {
        fdbroker_set_timeout(get(), static_cast<int>(timeout.count()));
    }

    Result<File> open(const std::string& path, int flags, mode_t mode = 0) {
        const int result = fdbroker_open(get(), path.c_str(), flags, mode);
        if (result < 0) return std::unexpected(error_of(result));
        return File(result);
    }
    // The error: the connection failed. Of the single results only the code is told.
    Result<std::vector<Result<File>>> open_many(std::span<const Request> requests, unsigned flags = 0) {
        std::vector<fdbroker_request> raw;
        for (const Request& request : requests) raw.push_back(to_c(request));
        std::vector<int> results(requests.size());
        const int error = fdbroker_open_many_flags(get(), raw.data(), raw.size(), results.data(), flags);
        if (error < 0) return std::unexpected(error_of(error));
        std::vector<Result<File>> files;
        for (const int result : results)
            if (result < 0)
                files.emplace_back(std::unexpected(Error{-result, {}}));
            else
                files.emplace_back(File(result));
        return files;
    }
    Result<struct statx> stat(const std::string& path, int flags = 0) {
        struct statx status{};
        if (const auto done = check(fdbroker_stat(get(), path.c_str(), flags, &status)); !done)
            return std::unexpected(done.error());
        return status;
    }
    Result<std::vector<Entry>> list(const std::string& path) {
        std::vector<Entry> entries;
        const auto note = [](void* to, const fdbroker_entry* entry) {
            static_cast<std::vector<Entry>*>(to)->push_back({entry->name, entry->inode, entry->type});
            return 0;
        };
        if (const auto done = check(fdbroker_list(get(), path.c_str(), note, &entries)); !done)
            return std::unexpected(done.error());
        return entries;
    }
    Result<std::string> readlink(const std::string& path) {
        std::array<char, 4096> target;
        const ssize_t size = fdbroker_readlink(get(), path.c_str(), target.data(), target.size());
        if (size < 0) return std::unexpected(error_of(static_cast<int>(size)));
        return std::string(target.data(), static_cast<std::size_t>(size));
    }
    Result<void> mkdir(const std::string& path, mode_t mode = 0750) {
        return check(fdbroker_mkdir(get(), path.c_str(), mode));
    }
    Result<void> remove(const std::string& path, int flags = 0) {
        return check(fdbroker_remove(get(), path.c_str(), flags));
    }
    Result<void> rename(const std::string& path, const std::string& new_path, unsigned flags = 0) {
        return check(fdbroker_rename(get(), path.c_str(), new_path.c_str(), flags));
    }
    Result<void> symlink(const std::string& target, const std::string& path) {
        return check(fdbroker_symlink(get(), target.c_str(), path.c_str()));
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
        return bytes([&](char* to, std::size_t size) {
            return fdbroker_getxattr(get(), path.c_str(), name.c_str(), to, size);
        });
    }
    // Each name followed by a NUL.
    Result<std::string> listxattr(const std::string& path) {
        return bytes(
            [&](char* to, std::size_t size) { return fdbroker_listxattr(get(), path.c_str(), to, size); });
    }
    Result<void> setxattr(const std::string& path, const std::string& name, std::string_view value,
                          int flags = 0) {
        return check(fdbroker_setxattr(get(), path.c_str(), name.c_str(), value.data(), value.size(), flags));
    }
    Result<void> removexattr(const std::string& path, const std::string& name) {
        return check(fdbroker_removexattr(get(), path.c_str(), name.c_str()));
    }
    Result<Put> put(const std::string& path, mode_t mode = 0666) {
        std::uint64_t number = 0;
        const int result = fdbroker_put(get(), path.c_str(), mode, &number);
        if (result < 0) return std::unexpected(error_of(result));
        return Put(get(), path, number, File(result));
    }

    // How many were taken.
    Result<std::size_t> submit(std::span<const Request> requests) {
        std::vector<fdbroker_request> raw;
        for (const Request& request : requests) raw.push_back(to_c(request));
        const int taken = fdbroker_submit(get(), raw.data(), raw.size());
        if (taken < 0) return std::unexpected(error_of(taken));
        return static_cast<std::size_t>(taken);
    }
    // Up to 64 of what has come; a negative `timeout` waits without end.
    Result<std::vector<Completion>> complete(std::chrono::milliseconds timeout) {
        std::array<fdbroker_completion, 64> raw{};
        raw.front().size = sizeof raw.front();
        const int count = fdbroker_complete(get(), raw.data(), raw.size(), static_cast<int>(timeout.count()));
        if (count < 0) return std::unexpected(error_of(count));
        std::vector<Completion> completions;
        for (const fdbroker_completion& one : std::span(raw).first(static_cast<std::size_t>(count)))
            completions.push_back(from_c(one));
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

    Error error_of(int result) const { return {-result, fdbroker_reason(get())}; }
    Result<void> check(int result) const {
        if (result < 0) return std::unexpected(error_of(result));
        return {};
    }
    Result<void> set(fdbroker_attributes& attributes, const std::string& path) {
        attributes.size = sizeof attributes;
        return check(fdbroker_setattr(get(), path.c_str(), &attributes));
    }
    template <typename Fill>
    Result<std::string> bytes(Fill fill) {
        std::string value(65536, '\0');  // the kernel's own limit (XATTR_SIZE_MAX)
        const ssize_t size = fill(value.data(), value.size());
        if (size < 0) return std::unexpected(error_of(static_cast<int>(size)));
        value.resize(static_cast<std::size_t>(size));
        return value;
    }
    static fdbroker_request to_c(const Request& request) {
        return {.size = sizeof(fdbroker_request),
                .path = request.path.c_str(),
                .flags = request.flags,
                .mode = request.mode,
                .call = request.call,
                .second = request.second.empty() ? nullptr : request.second.c_str(),
                .tag = request.tag,
                .timeout = static_cast<int>(request.timeout.count())};
    }
    static Completion from_c(const fdbroker_completion& one) {
        Completion completion{.tag = one.tag};
        if (one.result < 0)
            completion.result = std::unexpected(Error{-one.result, one.reason});
        else
            completion.result = File(one.call == FDBROKER_CALL_OPEN ? one.result : -1);
        if (one.data_size != 0) {
            const auto* bytes = static_cast<const char*>(one.data);
            completion.data.assign(bytes, bytes + one.data_size);
        }
        return completion;
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
