// SPDX-License-Identifier: MIT
// What a generation's processes write to their standard error: a pipe of their own, which the supervisor reads and copies
// to its standard error. So none of them holds a description that anybody else writes to: one that was taken over could
// seek in the file that it leads to, and truncate it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "opener/base/token_bucket.hpp"
#include "proto/error.hpp"
#include "proto/unique_fd.hpp"

namespace fdbroker::opener {

class GenerationOutput {
  public:
    // Bytes that are copied once it is bounded: at once, and a second in the long run. What is above is dropped.
    static constexpr std::size_t burst = std::size_t{1} << 20;
    static constexpr std::size_t bytes_per_second = std::size_t{16} << 10;
    // Of a line; what is longer becomes several.
    static constexpr std::size_t max_line = std::size_t{8} << 10;

    struct Pair;
    static proto::Result<Pair> make();
    GenerationOutput(GenerationOutput&&) = default;
    ~GenerationOutput() { finish(); }

    // Both ends never wait. Empty: everyone who could write has ended.
    proto::BorrowedFd descriptor() const noexcept { return pipe_.borrow(); }

    // It may be taken over from now on.
    void bound() noexcept { bounded_ = true; }
    // Copies the whole lines that have been written by now, and at most `max_bytes`. False: no more can come.
    bool copy(std::size_t max_bytes);
    // Lines that nobody has been told of yet.
    std::uint64_t dropped() const noexcept { return dropped_; }
    // Copies all, the line without its end included.
    void finish();

  private:
    explicit GenerationOutput(proto::UniqueFd pipe) noexcept : pipe_(std::move(pipe)) {}
    void take(std::string_view text);
    void say(std::string_view line);
    void tell_dropped();

    proto::UniqueFd pipe_;
    std::string line_{};  // its end has not come yet
    bool bounded_ = false;
    TokenBucket budget_{bytes_per_second, burst};
    std::uint64_t dropped_ = 0;
};

struct GenerationOutput::Pair {
    GenerationOutput output;
    proto::UniqueFd writing;
};

}  // namespace fdbroker::opener
