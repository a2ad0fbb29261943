// SPDX-License-Identifier: MIT
// Where lines of the audit log go: a file, standard output or the journal. The supervisor's side; none of them ever
// waits for whoever reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "opener/audit/audit_chain.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

// `audit: {max_size, keep}` of the policy.
struct AuditRotation {
    std::uint64_t max_size = 0;  // bytes; 0: no rotation
    unsigned keep = 1;           // files besides the one that is written, FILE.1 the youngest; at least 1
};

class AuditSink {
  public:
    virtual ~AuditSink() = default;
    AuditSink(const AuditSink&) = delete;
    AuditSink& operator=(const AuditSink&) = delete;

    // Writes what it can without waiting. Returns how many bytes of `lines`, from the front, are the log's by now; what
    // is left is for the next call to begin with. `lines` ends with a line's end.
    virtual proto::Result<std::size_t> write(std::string_view lines) = 0;
    // Opens the destination anew by its name; on an error the old one stays in use.
    virtual proto::Result<void> reopen() { return {}; }
    virtual void rotate_by(const AuditRotation& /*rotation*/) {}
    // When it was opened: the hash of the last record there, which the next one bears; no_record where none can be read.
    virtual RecordHash head() const { return no_record; }
    // The hashes of the last records of files that were rotated away since the last call.
    virtual std::vector<RecordHash> take_closed() { return {}; }

  protected:
    AuditSink() = default;
};

// A file is created 0600 and only ever appended to. Nobody but root (or the user who runs this) may be able to change or
// replace it, or a directory above it. Opened anew it must be a regular file. The half line of an interrupted write is taken
// back; the half line of an earlier opener, killed while writing, is ended.
proto::Result<std::unique_ptr<AuditSink>> open_audit_file(const std::string& path);
// `fd` stays the caller's, who may share it with others: its flags are left as they are.
proto::Result<std::unique_ptr<AuditSink>> open_audit_stream(proto::BorrowedFd fd);
// The native protocol of systemd-journald(8), one entry a record (fdbroker-audit(5) has the fields).
proto::Result<std::unique_ptr<AuditSink>> open_audit_journal();

}  // namespace fdbroker::opener
