// SPDX-License-Identifier: MIT
#include "opener/operations/read_lease.hpp"

#include <fcntl.h>

#include <cerrno>
#include <csignal>

namespace fdbroker::opener {

ReadLease::ReadLease(proto::BorrowedFd file) : file_(file) {
    // Breaking a lease sends the holder SIGIO, which would end it.
    ::signal(SIGIO, SIG_IGN);
    if (::fcntl(file.number(), F_SETLEASE, F_RDLCK) != 0) errno_value_ = errno;
}

ReadLease::~ReadLease() {
    if (errno_value_ == 0) ::fcntl(file_.number(), F_SETLEASE, F_UNLCK);
}

bool ReadLease::unbroken() const noexcept {
    // F_GETLEASE tells what a lease that is being broken has to become.
    return ::fcntl(file_.number(), F_GETLEASE) == F_RDLCK;
}

}  // namespace fdbroker::opener
