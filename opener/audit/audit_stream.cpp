// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "opener/audit/audit_sink.hpp"
#include "opener/base/nonblocking_write.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

class AuditStream final : public AuditSink {
  public:
    explicit AuditStream(UniqueFd stream) : stream_(std::move(stream)) {}

    Result<std::size_t> write(std::string_view lines) override {
        const ssize_t count = write_without_waiting(stream_.borrow(), lines);
        if (count >= 0) return static_cast<std::size_t>(count);
        if (errno == EINTR || errno == EAGAIN) return 0;
        return proto::system_error("write", "standard output (--audit -)");
    }

  private:
    UniqueFd stream_;
};

}  // namespace

Result<std::unique_ptr<AuditSink>> open_audit_stream(proto::BorrowedFd fd) {
    auto stream = open_without_waiting(fd);
    if (!stream) return std::unexpected(stream.error());
    return std::make_unique<AuditStream>(std::move(*stream));
}

}  // namespace fdbroker::opener
