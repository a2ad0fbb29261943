// SPDX-License-Identifier: MIT
// Whether anybody can write to a file.
#pragma once

#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// A read lease (fcntl(2), F_SETLEASE). The kernel grants it only when nobody has the file open for writing, by a descriptor
// or a mapping. While it is held, opening the file for writing is noticed. `file` must be open for reading alone. A lease on
// another user's file takes CAP_LEASE.
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
