// SPDX-License-Identifier: MIT
// File descriptors with their ownership in the type.
//
// UniqueFd owns: it closes what it holds. BorrowedFd only points: it is valid while its owner lives, and
// is passed by value. A bare int appears nowhere but in the wrappers right around a system call.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace fdbroker::proto {

class BorrowedFd {
  public:
    constexpr BorrowedFd() noexcept = default;
    explicit constexpr BorrowedFd(int number) noexcept : number_(number) {}

    constexpr int number() const noexcept { return number_; }
    explicit constexpr operator bool() const noexcept { return number_ >= 0; }

  private:
    int number_ = -1;
};

class UniqueFd {
  public:
    constexpr UniqueFd() noexcept = default;
    // Takes ownership; a negative number holds nothing.
    explicit constexpr UniqueFd(int number) noexcept : number_(number) {}
    UniqueFd(const UniqueFd&) = delete;
    UniqueFd& operator=(const UniqueFd&) = delete;
    UniqueFd(UniqueFd&& other) noexcept : number_(other.release()) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept {
        if (this != &other) {
            reset();
            number_ = other.release();
        }
        return *this;
    }
    ~UniqueFd() { reset(); }

    int number() const noexcept { return number_; }
    explicit operator bool() const noexcept { return number_ >= 0; }
    BorrowedFd borrow() const noexcept { return BorrowedFd(number_); }

    // Gives up ownership: whoever calls it closes the descriptor.
    [[nodiscard]] int release() noexcept { return std::exchange(number_, -1); }

    // Closes now. errno is kept: a destructor that runs between a failure and its report must not change it.
    void reset() noexcept {
        if (number_ < 0) return;
        const int saved = errno;
        ::close(std::exchange(number_, -1));
        errno = saved;
    }

  private:
    int number_ = -1;
};

}  // namespace fdbroker::proto
