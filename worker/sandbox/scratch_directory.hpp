// SPDX-License-Identifier: MIT
// A directory of one's own for a while.
#pragma once

#include <memory>
#include <string>

#include "proto/error.hpp"

namespace fdbroker::worker {

// Removed with all it holds when the object goes.
class ScratchDirectory {
  public:
    // Below TMPDIR, else /tmp; mode 0700.
    static proto::Result<std::unique_ptr<ScratchDirectory>> make();
    explicit ScratchDirectory(std::string path) : path_(std::move(path)) {}
    ScratchDirectory(const ScratchDirectory&) = delete;
    ScratchDirectory& operator=(const ScratchDirectory&) = delete;
    ~ScratchDirectory();
    const std::string& path() const { return path_; }

  private:
    std::string path_;
};

}  // namespace fdbroker::worker
