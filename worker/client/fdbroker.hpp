// SPDX-License-Identifier: MIT
// libfdbroker for C++23: fdbroker.h with owners instead of numbers, and std::expected instead of negative errnos.
//
//     auto broker = fdb::Broker::connect();
//     if (!broker) …
//     if (const auto confined = fdb::confine(); !confined) …
//     auto file = broker->open("/srv/www/index.html", O_RDONLY);
//     if (!file) std::cerr << file.error().message() << '\n';
//
// Header-only. The namespace is `fdb`, because C++ allows no namespace of the name of `struct fdbroker`. Functions
// and their errors are described in fdbroker.h and fdbroker(3). A path or another text with a NUL inside is EINVAL, since C
// would see only the part before it. Nothing here throws but std::bad_alloc.
#ifndef FDBROKER_HPP
#define FDBROKER_HPP

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>
#include <expected>
#include <fdbroker_types.hpp>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fdb {

// A connection. Belongs to one thread at a time; a Put of it must not outlive it.
class Broker {
  public:
    // Empty: the default. `flags`: 0 or FDBROKER_ANY_OWNER.
    static Result<Broker> connect(const std::string& address = {}, unsigned flags = 0) {
        if (has_nul(address)) return std::unexpected(nul_inside());
        ::fdbroker* broker = nullptr;
        std::array<char, 400> reason;
        const int error = fdbroker_connect_reason(&broker, address.empty() ? nullptr : address.c_str(), flags,
                                                  reason.data(), reason.size());
        if (error < 0) return std::unexpected(Error{-error, reason.data()});
        return Broker(broker);
    }
    // Before confinement: to the same address anew.
    Result<void> reconnect() {
        return done(call({}, [&] { return fdbroker_reconnect(get()); }));
    }
    // Takes over a connection of the C functions.
    explicit Broker(::fdbroker* broker) noexcept : Broker(broker, nullptr) {}

    ::fdbroker* get() const noexcept { return broker_.get(); }
    // Negative: no bound.
    // NOLINTNEXTLINE(readability-make-member-function-const): it changes the connection
    void set_timeout(std::chrono::milliseconds timeout) { fdbroker_set_timeout(get(), to_int(timeout)); }
    // How long a call may look for its answer before it sleeps: from 0 (never) to 1000 microseconds, else EINVAL.
    Result<void> set_busy_poll(std::chrono::microseconds limit) {
        return done(call({}, [&] { return fdbroker_set_busy_poll(get(), static_cast<int>(limit.count())); }));
    }

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
    // stat(2), and with AT_SYMLINK_NOFOLLOW lstat(2).
    Result<struct stat> stat_posix(const std::string& path, int flags = 0) {
        struct stat status{};
        const auto asked =
            call({path}, [&] { return fdbroker_stat_posix(get(), path.c_str(), flags, &status); });
        if (!asked) return std::unexpected(asked.error());
        return status;
    }
    // `flags`: 0 or FDBROKER_DIR_STATUS.
    Result<std::vector<Entry>> list(const std::string& path, unsigned flags = 0) {
        ::fdbroker_dir* opened = nullptr;
        const auto asked =
            call({path}, [&] { return fdbroker_opendir(get(), path.c_str(), flags, &opened); });
        if (!asked) return std::unexpected(asked.error());
        const std::unique_ptr<::fdbroker_dir, CloseDirectory> directory(opened);
        std::vector<Entry> entries;
        const fdbroker_entry* entry = nullptr;
        int got = 0;
        while ((got = fdbroker_readdir(directory.get(), &entry)) > 0) {
            entries.push_back({entry->name, entry->inode, entry->type});
            if (entry->status != nullptr) entries.back().status = *entry->status;
        }
        if (got < 0) return std::unexpected(error_of(got));
        return entries;
    }
    // access(2): F_OK, or R_OK, W_OK and X_OK together.
    Result<void> access(const std::string& path, int mode) {
        return done(call({path}, [&] { return fdbroker_access(get(), path.c_str(), mode); }));
    }
    Result<std::string> realpath(const std::string& path) {
        return bytes(PATH_MAX, {path}, [&](char* to, std::size_t size) {
            return fdbroker_realpath(get(), path.c_str(), to, size);
        });
    }
    // Where relative paths begin.
    Result<void> set_directory(const std::string& base) {
        return done(call({base}, [&] { return fdbroker_set_directory(get(), base.c_str()); }));
    }
    Result<Stream> fopen(const std::string& path, const std::string& mode) {
        if (has_nul(path) || has_nul(mode)) return std::unexpected(nul_inside());
        Stream stream(fdbroker_fopen(get(), path.c_str(), mode.c_str()));
        if (!stream) return std::unexpected(error_of(-errno));
        return stream;
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
    // `flags`: 0, or AT_SYMLINK_NOFOLLOW for a link's own times.
    Result<void> set_times(const std::string& path, timespec access, timespec modification, int flags = 0) {
        fdbroker_attributes attributes{};
        attributes.set = FDBROKER_SET_TIMES;
        if ((flags & AT_SYMLINK_NOFOLLOW) != 0) attributes.set |= FDBROKER_SET_LINK;
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
    // `mask`: FDBROKER_WATCH_*. The watch ends with the file.
    Result<File> watch(const std::string& path, unsigned mask) {
        const auto file = call({path}, [&] { return fdbroker_watch(get(), path.c_str(), mask); });
        if (!file) return std::unexpected(file.error());
        return File(*file);
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
            if (brings_file(raw[index])) completions[index].result = File(raw[index].result);
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
    friend class Pool;
    Broker(::fdbroker* broker, ::fdbroker_pool* pool) noexcept : broker_(broker, {pool}) {}

    // Or back into the pool that it is of.
    struct Disconnect {
        ::fdbroker_pool* pool = nullptr;
        void operator()(::fdbroker* broker) const {
            if (pool == nullptr)
                fdbroker_disconnect(broker);
            else
                fdbroker_pool_put(pool, broker);
        }
    };

    struct CloseDirectory {
        void operator()(::fdbroker_dir* directory) const { fdbroker_closedir(directory); }
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
    // Returns the result of a C function that is given the texts.
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
    static bool brings_file(const fdbroker_completion& raw) {
        return (raw.call == FDBROKER_CALL_OPEN || raw.call == FDBROKER_CALL_WATCH) && raw.result >= 0;
    }
    static void fill(Completion& completion, const fdbroker_completion& raw) {
        completion.tag = raw.tag;
        if (raw.result < 0) completion.result = std::unexpected(Error{-raw.result, raw.reason});
        const auto* bytes = static_cast<const char*>(raw.data);
        if (raw.data_size != 0) completion.data.assign(bytes, bytes + raw.data_size);
    }
    std::unique_ptr<::fdbroker, Disconnect> broker_;
};

// Connections for threads and children, see fdbroker_pool_new(). Must outlive what get() returns.
class Pool {
  public:
    static Result<Pool> make(const std::string& address, unsigned count, unsigned flags = 0) {
        if (address.contains('\0')) return std::unexpected(Error{EINVAL, "client: a NUL inside a text"});
        auto* pool = fdbroker_pool_new_flags(address.empty() ? nullptr : address.c_str(), count, flags);
        if (pool == nullptr) return std::unexpected(Error{errno, {}});
        return Pool(pool);
    }
    // A connection that this thread has until the object goes; a negative `timeout` waits without end.
    Result<Broker> get(std::chrono::milliseconds timeout = std::chrono::milliseconds(-1)) {
        ::fdbroker* broker = nullptr;
        const int error = fdbroker_pool_get(pool_.get(), &broker, Broker::to_int(timeout));
        if (error < 0) return std::unexpected(Error{-error, {}});
        return Broker(broker, pool_.get());
    }

  private:
    struct Free {
        void operator()(::fdbroker_pool* pool) const { fdbroker_pool_free(pool); }
    };
    explicit Pool(::fdbroker_pool* pool) noexcept : pool_(pool) {}
    std::unique_ptr<::fdbroker_pool, Free> pool_;
};

// fdbroker_normalize(): the path as the broker is asked for it; relative ones begin in `base`, which may be empty.
inline Result<std::string> normalize(const std::string& base, const std::string& path) {
    if (base.contains('\0') || path.contains('\0'))
        return std::unexpected(Error{EINVAL, "client: a NUL inside a text"});
    std::string out(PATH_MAX, '\0');
    const char* from = base.empty() ? nullptr : base.c_str();
    const ssize_t size = fdbroker_normalize(from, path.c_str(), out.data(), out.size());
    if (size < 0) return std::unexpected(Error{static_cast<int>(-size), {}});
    out.resize(static_cast<std::size_t>(size));
    return out;
}

// fdbroker_confine(): FDBROKER_CONFINE_*.
inline Result<void> confine(unsigned flags = 0) {
    const int error = fdbroker_confine(flags);
    if (error < 0) return std::unexpected(Error{-error, {}});
    return {};
}

// fdbroker_confine_with(): FDBROKER_CONFINE_*, FDBROKER_ALLOW_*, and descriptors that stay.
inline Result<void> confine_with(unsigned flags, unsigned allow, std::span<const int> keep = {}) {
    const fdbroker_confine_options options{.size = sizeof options,
                                           .flags = flags,
                                           .allow = allow,
                                           .keep = keep.data(),
                                           .keep_count = keep.size()};
    const int error = fdbroker_confine_with(&options);
    if (error < 0) return std::unexpected(Error{-error, {}});
    return {};
}

// fdbroker_prepare(): before confinement.
inline void prepare() {
    fdbroker_prepare();
}

// A broker inside the process, for tests. Must outlive the connections to it.
class Fake {
  public:
    // Empty: a private directory.
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
