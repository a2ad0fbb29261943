// SPDX-License-Identifier: MIT
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "opener/audit/audit_record.hpp"
#include "opener/audit/audit_sink.hpp"
#include "opener/base/trusted_file.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

Result<UniqueFd> open_log(const std::string& path, AppendTo what) {
    const auto slash = path.rfind('/');
    const std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const auto directory = walk_trusted(parent, TrustedFor::records);
    if (!directory) return proto::system_error("--audit", fmt::format("{}: {}", path, directory.error()), 0);
    auto file = open_for_appending(*directory, name, what);
    if (!file) return proto::system_error("--audit", std::move(file.error()), 0);
    return std::move(*file);
}

// The length of as many whole lines, from the front, as `most` bytes hold.
std::size_t whole_lines(std::string_view lines, std::size_t most) {
    const std::size_t end = most == 0 ? std::string_view::npos : lines.rfind('\n', most - 1);
    return end == std::string_view::npos ? 0 : end + 1;
}

class AuditFile final : public AuditSink {
  public:
    AuditFile(std::string path, UniqueFd file) : path_(std::move(path)), file_(std::move(file)) {}

    // Before the first write to a file.
    Result<void> begin();
    // When the opener starts, after begin().
    void continue_rotated();
    Result<std::size_t> write(std::string_view lines) override;
    Result<void> reopen() override;
    void rotate_by(const AuditRotation& rotation) override { rotation_ = rotation; }
    RecordHash head() const override { return head_; }
    std::vector<RecordHash> take_closed() override { return std::exchange(closed_, {}); }

  private:
    Result<std::size_t> append(std::string_view lines);
    void end_line();
    void note_closed(std::string_view next);
    void rotate(std::string_view next);

    std::string path_;
    UniqueFd file_;
    AuditRotation rotation_{};
    bool regular_ = false;
    bool in_line_ = false;  // the last write ended in a line that could not be taken back
    bool unended_ = false;  // an earlier opener has left a line without its end
    std::uint64_t size_ = 0;
    RecordHash head_ = no_record;  // when the file was opened
    std::vector<RecordHash> closed_{};
};

// So much of a log is read back: several records, and half lines that crashes may have left between them.
constexpr std::size_t read_back = 4 * (max_line + chain_length);

// Empty: it cannot be read, or is none. Nothing else is ever read of the log.
std::string end_of_file(const UniqueFd& file) {
    struct stat status{};
    if (!file || ::fstat(file.number(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
    std::string end(std::min(static_cast<std::size_t>(status.st_size), read_back), '\0');
    const auto at = status.st_size - static_cast<off_t>(end.size());
    const ssize_t count = ::pread(file.number(), end.data(), end.size(), at);
    end.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
    return end;
}

// The line feed with which a half line is ended is part of what the next record vouches for.
RecordHash head_of_end(std::string end) {
    if (!end.empty() && end.back() != '\n') end.push_back('\n');
    return head_of(end);
}

Result<void> AuditFile::begin() {
    struct stat status{};
    if (::fstat(file_.number(), &status) != 0) return proto::system_error("--audit", path_);
    regular_ = S_ISREG(status.st_mode);
    in_line_ = unended_ = false;
    size_ = regular_ ? static_cast<std::uint64_t>(status.st_size) : 0;
    if (size_ == 0) return {};
    // By way of the descriptor, so that it is the same file.
    const std::string end = end_of_file(
        UniqueFd(::open(fmt::format("/proc/self/fd/{}", file_.number()).c_str(), O_RDONLY | O_CLOEXEC)));
    unended_ = !end.empty() && end.back() != '\n';
    head_ = head_of_end(end);
    end_line();
    return {};
}

// The opener has ended between a rotation and the first record of the new file.
void AuditFile::continue_rotated() {
    if (size_ != 0 || !regular_) return;
    head_ = head_of_end(end_of_file(UniqueFd(::open(
        fmt::format("{}.1", path_).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY))));
}

// A disk that is full stays so for the first record as well, which tells.
void AuditFile::end_line() {
    if (!unended_ || ::write(file_.number(), "\n", 1) != 1) return;
    unended_ = false;
    ++size_;
}

Result<std::size_t> AuditFile::append(std::string_view lines) {
    end_line();
    if (unended_) return proto::system_error("write", "the audit file");
    std::size_t written = 0;
    ssize_t count = 0;
    // Once more after less than all: that tells why.
    do {
        count = ::write(file_.number(), lines.data() + written, lines.size() - written);
        if (count > 0) written += static_cast<std::size_t>(count);
    } while (count > 0 && written < lines.size());
    const int cause = errno;
    size_ += written;
    const std::size_t half = written - whole_lines(lines, written);
    in_line_ = half != 0;
    // The rest may never be written: a log is of whole lines.
    if (in_line_ && regular_ && ::ftruncate(file_.number(), static_cast<off_t>(size_ - half)) == 0) {
        size_ -= half;
        in_line_ = false;
        written -= half;
    }
    if (count < 0 && written == 0 && cause != EAGAIN && cause != EINTR)
        return proto::system_error("write", "the audit file", cause);
    return written;
}

Result<std::size_t> AuditFile::write(std::string_view lines) {
    if (!regular_ || rotation_.max_size == 0) return append(lines);
    std::size_t written = 0;
    while (written < lines.size()) {
        std::string_view rest = lines.substr(written);
        if (!in_line_) {
            const auto room = [&] { return rotation_.max_size - std::min(size_, rotation_.max_size); };
            if (size_ != 0 && rest.find('\n') >= room()) rotate(rest);
            // A line that is longer than a file may be has one for itself.
            const std::size_t fitting = whole_lines(rest, std::min<std::uint64_t>(room(), rest.size()));
            rest = rest.substr(0, fitting != 0 ? fitting : rest.find('\n') + 1);
        } else {
            rest = rest.substr(0, rest.find('\n') + 1);
        }
        auto count = append(rest);
        if (!count && written == 0) return count;
        if (!count || *count == 0) break;
        written += *count;
    }
    return written;
}

// Where a step fails the file goes on growing, and the next line tries again. `next` is what will be written to the new one.
void AuditFile::rotate(std::string_view next) {
    // Somebody who renamed the file meanwhile has rotated it. Were the others moved up then, line by line, the oldest
    // would be lost.
    struct stat own{}, named{};
    if (::fstat(file_.number(), &own) != 0) return;
    const bool is_named = ::stat(path_.c_str(), &named) == 0;
    if (!is_named || own.st_ino != named.st_ino || own.st_dev != named.st_dev) {
        note_closed(next);
        static_cast<void>(reopen());
        return;
    }
    const auto numbered = [this](unsigned number) { return fmt::format("{}.{}", path_, number); };
    for (unsigned number = rotation_.keep; number > 1; --number) {
        if (::rename(numbered(number - 1).c_str(), numbered(number).c_str()) != 0 && errno != ENOENT) return;
    }
    if (::rename(path_.c_str(), numbered(1).c_str()) != 0) return;
    note_closed(next);
    static_cast<void>(reopen());
}

void AuditFile::note_closed(std::string_view next) {
    if (const auto last = previous_of(next.substr(0, next.find('\n')))) closed_.push_back(*last);
}

Result<void> AuditFile::reopen() {
    // Only when the opener starts is the name one that its administrator has just chosen.
    auto file = open_log(path_, AppendTo::regular_files);
    if (!file) return std::unexpected(file.error());
    file_ = std::move(*file);
    return begin();
}

}  // namespace

Result<std::unique_ptr<AuditSink>> open_audit_file(const std::string& path) {
    auto opened = open_log(path, AppendTo::anything);
    if (!opened) return std::unexpected(opened.error());
    auto file = std::make_unique<AuditFile>(path, std::move(*opened));
    if (auto begun = file->begin(); !begun) return std::unexpected(begun.error());
    file->continue_rotated();
    return file;
}

}  // namespace fdbroker::opener
