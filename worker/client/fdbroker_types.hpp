// SPDX-License-Identifier: MIT
// What the functions of fdbroker.hpp take and return. Included by it.
#ifndef FDBROKER_TYPES_HPP
#define FDBROKER_TYPES_HPP

#if __cplusplus < 202100L
#error "fdbroker.hpp needs C++23 (-std=c++23), for std::expected; fdbroker.h does with any C++ and with C99"
#endif

#include <fdbroker.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <expected>
#include <memory>
#include <optional>
#include <string>
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
    Result<File> result{};     // calls other than open and watch: an empty File
    std::vector<char> data{};  // stat: a struct statx; else bytes
};

struct Entry {
    std::string name{};
    std::uint64_t inode = 0;
    unsigned char type = 0;                // DT_* of readdir(3)
    std::optional<struct statx> status{};  // where it was asked for and is told
};

// A stream of the C library; closes it.
struct CloseStream {
    void operator()(std::FILE* stream) const { std::fclose(stream); }
};
using Stream = std::unique_ptr<std::FILE, CloseStream>;

class Broker;
class Pool;

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
    class Pool;
    Put(::fdbroker* broker, std::string path, std::uint64_t number, File file)
        : broker_(broker), path_(std::move(path)), number_(number), file_(std::move(file)) {}

    ::fdbroker* broker_;
    std::string path_;
    std::uint64_t number_;
    File file_;
};

}  // namespace fdb

#endif
