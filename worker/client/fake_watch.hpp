// SPDX-License-Identifier: MIT
// A watch of the broker inside the process. Nothing runs beside the program: somebody has to say when to look.
#pragma once

#include <cstdint>
#include <string>

#include "proto/unique_fd.hpp"
#include "proto/watch.hpp"

namespace fdbroker::worker {

class FakeWatch {
  public:
    FakeWatch(std::string path, std::uint8_t mask, proto::UniqueFd pipe, const proto::Looked& first)
        : path_(std::move(path)), mask_(mask), pipe_(std::move(pipe)), last_(first) {}

    const std::string& path() const noexcept { return path_; }
    // Whether the program has read what it was told; until then nothing needs to be looked at.
    bool is_read() const;
    void tell(const proto::Looked& now);
    // The program has closed its end.
    bool is_over() const noexcept { return !pipe_; }

  private:
    std::string path_;
    std::uint8_t mask_;
    proto::UniqueFd pipe_;
    proto::Looked last_;
};

// The ends of a pipe that holds what was not read yet, and nothing else.
struct WatchPipe {
    proto::UniqueFd reading{};
    proto::UniqueFd writing{};  // neither, with errno: there is none
};
WatchPipe make_watch_pipe();

}  // namespace fdbroker::worker
