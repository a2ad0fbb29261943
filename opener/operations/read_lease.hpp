// SPDX-License-Identifier: MIT
// Whether anybody can write to a file.
#pragma once

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// A read lease (fcntl(2), F_SETLEASE), which the kernel grants only when nobody has the file open for writing, by a
// descriptor or a mapping; while it is held nobody opens it for writing without its being noticed. `file` must be open for
// reading alone. On a file of another user's it takes CAP_LEASE.
class ReadLease {
  public:
    explicit ReadLease(proto::BorrowedFd file);
    ReadLease(const ReadLease&) = delete;
    ReadLease& operator=(const ReadLease&) = delete;
    ~ReadLease();

    // 0: it is held. EAGAIN: somebody has the file open for writing.
    int errno_value() const noexcept { return errno_value_; }
    bool unbroken() const noexcept;

  private:
    proto::BorrowedFd file_;
    int errno_value_ = 0;
};

}  // namespace fdbroker::opener
