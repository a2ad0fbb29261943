// SPDX-License-Identifier: MIT
// The bytes of a file, decompressed: plain, gzip (RFC 1952, also several members) or zstd (RFC 8878, also several frames),
// told apart by how the file begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::records {

class ByteSource {
  public:
    virtual ~ByteSource() = default;
    ByteSource(const ByteSource&) = delete;
    ByteSource& operator=(const ByteSource&) = delete;

    // Fills the front of `room`, which is not empty; 0: the end. Blocks as read(2) does. The error: the file cannot be read,
    // or what it holds is no whole compressed file.
    virtual proto::Result<std::size_t> read(std::span<char> room) = 0;
    // Bytes that were read of the file itself, compressed as they are.
    virtual std::uint64_t consumed() const noexcept = 0;

  protected:
    ByteSource() = default;
};

// `name` is for messages. An error also for a file that is compressed by what is not read here.
proto::Result<std::unique_ptr<ByteSource>> open_byte_source(proto::UniqueFd file, const std::string& name);

}  // namespace fdbroker::records
