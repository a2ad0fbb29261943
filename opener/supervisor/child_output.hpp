// SPDX-License-Identifier: MIT
// Output of a generation's processes or of workers: a pipe of their own, which the supervisor reads and copies to its
// standard error. So no child holds a description that leads to a log or a terminal: a child that was taken over could
// seek in a file and truncate it, or type into a terminal.
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

// Bytes of output that are copied at a time: the supervisor's loop has other things to do.
inline constexpr std::size_t max_output_per_turn = std::size_t{64} << 10;

class ChildOutput {
  public:
    // Bytes that are copied once it is bounded: at once, and a second in the long run. What is above is dropped.
    static constexpr std::size_t burst = std::size_t{1} << 20;
    static constexpr std::size_t bytes_per_second = std::size_t{16} << 10;
    // Bytes of a line; a longer one becomes several.
    static constexpr std::size_t max_line = std::size_t{8} << 10;

    struct Pair;
    // Lines are copied as they are when `label` is empty, else with "opener: LABEL: " before each.
    static proto::Result<Pair> make(std::string label = {});
    // `reading` is the reading end of a pipe that children may be writing to already.
    static proto::Result<Pair> adopt(proto::UniqueFd reading, std::string label);
    ChildOutput(ChildOutput&&) = default;
    ChildOutput& operator=(ChildOutput&&) = default;
    ~ChildOutput() { finish(); }

    // Both ends never wait. Empty: everyone who could write has ended.
    proto::BorrowedFd descriptor() const noexcept { return pipe_.borrow(); }

    // The generation may be taken over from now on.
    void bound() noexcept { bounded_ = true; }
    // Copies the whole lines that have been written by now, and at most `max_bytes`. False: no more can come.
    bool copy(std::size_t max_bytes);
    // Lines that nobody has been told of yet.
    std::uint64_t dropped() const noexcept { return dropped_; }
    // Copies all, the line without its end included.
    void finish();

  private:
    ChildOutput(proto::UniqueFd pipe, std::string label) noexcept
        : pipe_(std::move(pipe)), label_(std::move(label)) {}
    void take(std::string_view text);
    void write_line(std::string_view line);
    void tell_dropped();

    proto::UniqueFd pipe_;
    std::string label_;
    std::string line_{};  // the end of the line has not come yet
    bool bounded_ = false;
    TokenBucket budget_{bytes_per_second, burst};
    std::uint64_t dropped_ = 0;
};

struct ChildOutput::Pair {
    ChildOutput output;
    proto::UniqueFd writing;
};

}  // namespace fdbroker::opener
