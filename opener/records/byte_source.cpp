// SPDX-License-Identifier: MIT
#include "opener/records/byte_source.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "opener/records/read_ahead.hpp"

namespace fdbroker::records {

using proto::Result;
using proto::UniqueFd;

namespace {

constexpr std::size_t input_size = std::size_t{256} << 10;

// The file itself, of which the first bytes may be looked at before they are read.
class FileBytes {
  public:
    FileBytes(UniqueFd file, std::string name) : file_(std::move(file)), name_(std::move(name)) {
        // Told or not, the result is the same.
        static_cast<void>(::posix_fadvise(file_.number(), 0, 0, POSIX_FADV_SEQUENTIAL));
    }

    Result<std::string_view> begin() {
        while (!ended_ && ahead_.size() < longest_magic) {
            char bytes[longest_magic];
            auto count = read_file(std::span(bytes).first(longest_magic - ahead_.size()));
            if (!count) return std::unexpected(count.error());
            ahead_.append(bytes, *count);
        }
        return ahead_;
    }

    Result<std::size_t> read(std::span<char> room) {
        if (ahead_.empty()) return read_file(room);
        const std::size_t size = std::min(room.size(), ahead_.size());
        std::memcpy(room.data(), ahead_.data(), size);
        ahead_.erase(0, size);
        return size;
    }

    std::uint64_t consumed() const noexcept { return consumed_; }
    std::unexpected<proto::Error> broken(std::string_view why) const {
        return proto::system_error("read", name_ + ": " + std::string(why), 0);
    }

  private:
    static constexpr std::size_t longest_magic = 6;

    Result<std::size_t> read_file(std::span<char> room) {
        ssize_t count = -1;
        do count = ::read(file_.number(), room.data(), room.size());
        while (count < 0 && errno == EINTR);
        if (count < 0) return proto::system_error("read", name_);
        ended_ = count == 0;
        consumed_ += static_cast<std::uint64_t>(count);
        return static_cast<std::size_t>(count);
    }

    UniqueFd file_;
    std::string name_;
    std::string ahead_{};
    bool ended_ = false;
    std::uint64_t consumed_ = 0;
};

class PlainSource final : public ByteSource {
  public:
    explicit PlainSource(FileBytes file) : file_(std::move(file)) {}
    Result<std::size_t> read(std::span<char> room) override { return file_.read(room); }
    std::uint64_t consumed() const noexcept override { return file_.consumed(); }

  private:
    FileBytes file_;
};

class GzipSource final : public ByteSource {
  public:
    explicit GzipSource(FileBytes file) : file_(std::move(file)), input_(input_size) {
        // 16: the header and trailer of gzip. It fails only where memory does.
        if (::inflateInit2(&stream_, MAX_WBITS + 16) != Z_OK) throw std::bad_alloc();
    }
    ~GzipSource() override { ::inflateEnd(&stream_); }

    Result<std::size_t> read(std::span<char> room) override {
        stream_.next_out = reinterpret_cast<Bytef*>(room.data());
        stream_.avail_out = static_cast<uInt>(room.size());
        while (stream_.avail_out == room.size()) {
            if (stream_.avail_in == 0) {
                auto count = fill();
                if (!count) return count;
                if (*count == 0)
                    return ended_ ? Result<std::size_t>(0) : file_.broken("gzip: it is cut short");
            }
            if (ended_ && !begin_member()) return 0;
            const int result = ::inflate(&stream_, Z_NO_FLUSH);
            ended_ = result == Z_STREAM_END;
            if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
                return file_.broken(stream_.msg != nullptr ? std::string("gzip: ") + stream_.msg
                                                           : std::string("gzip: not what gzip writes"));
        }
        return room.size() - stream_.avail_out;
    }
    std::uint64_t consumed() const noexcept override { return file_.consumed(); }

  private:
    Result<std::size_t> fill() {
        auto count = file_.read(input_);
        if (count) {
            stream_.next_in = reinterpret_cast<Bytef*>(input_.data());
            stream_.avail_in = static_cast<uInt>(*count);
        }
        return count;
    }

    // False: what follows the last member are the zeros that fill a block of a tape (gzip(1)).
    bool begin_member() {
        while (stream_.avail_in > 0 && *stream_.next_in == 0) {
            ++stream_.next_in;
            --stream_.avail_in;
        }
        if (stream_.avail_in == 0) return false;
        ::inflateReset(&stream_);
        ended_ = false;
        return true;
    }

    FileBytes file_;
    std::vector<char> input_;
    z_stream stream_{};
    bool ended_ = false;  // a member has, and no other has begun
};

class ZstdSource final : public ByteSource {
  public:
    explicit ZstdSource(FileBytes file) : file_(std::move(file)), input_(input_size) {
        if (!stream_) throw std::bad_alloc();
    }

    Result<std::size_t> read(std::span<char> room) override {
        ZSTD_outBuffer output{room.data(), room.size(), 0};
        while (output.pos == 0) {
            // The decompressor may still hold bytes that did not fit into the room before.
            if (buffer_.pos == buffer_.size && !std::exchange(was_full_, false)) {
                auto count = file_.read(input_);
                if (!count) return count;
                if (*count == 0)
                    return in_frame_ ? file_.broken("zstd: it is cut short") : Result<std::size_t>(0);
                buffer_ = {input_.data(), *count, 0};
            }
            const std::size_t left = ::ZSTD_decompressStream(stream_.get(), &output, &buffer_);
            if (::ZSTD_isError(left) != 0)
                return file_.broken(std::string("zstd: ") + ::ZSTD_getErrorName(left));
            in_frame_ = left != 0;
        }
        was_full_ = output.pos == output.size;
        return output.pos;
    }
    std::uint64_t consumed() const noexcept override { return file_.consumed(); }

  private:
    FileBytes file_;
    std::vector<char> input_;
    std::unique_ptr<ZSTD_DStream, decltype([](ZSTD_DStream* stream) { ::ZSTD_freeDStream(stream); })> stream_{
        ::ZSTD_createDStream()};
    ZSTD_inBuffer buffer_{nullptr, 0, 0};
    bool in_frame_ = false;
    bool was_full_ = false;
};

bool begins(std::string_view bytes, std::string_view magic) {
    return bytes.starts_with(magic);
}

}  // namespace

Result<std::unique_ptr<ByteSource>> open_byte_source(UniqueFd file, const std::string& name) {
    FileBytes bytes(std::move(file), name);
    const auto start = bytes.begin();
    if (!start) return std::unexpected(start.error());
    // How each format's own specification says that it begins.
    if (begins(*start, "\x1f\x8b")) return read_ahead(std::make_unique<GzipSource>(std::move(bytes)));
    if (begins(*start, "\x28\xb5\x2f\xfd")) return read_ahead(std::make_unique<ZstdSource>(std::move(bytes)));
    if (begins(*start,
               "\xfd"
               "7zXZ") ||
        begins(*start, "BZh"))
        return proto::system_error(
            "read", name + ": compressed by neither gzip nor zstd; - reads what another program decompresses",
            0);
    return std::make_unique<PlainSource>(std::move(bytes));
}

}  // namespace fdbroker::records
