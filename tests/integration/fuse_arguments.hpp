// SPDX-License-Identifier: MIT
// The arguments of a FUSE filesystem that all users may use, for fuse_new(3) and fuse_session_new(3).
#pragma once

#include <fuse3/fuse_opt.h>

#include <array>
#include <stdexcept>
#include <string>
#include <utility>

namespace fdbroker::test {

class FuseArguments {
  public:
    explicit FuseArguments(std::string program) : program_(std::move(program)) {}
    FuseArguments(const FuseArguments&) = delete;
    FuseArguments& operator=(const FuseArguments&) = delete;
    ~FuseArguments() { fuse_opt_free_args(&args_); }
    fuse_args* get() noexcept { return &args_; }

  private:
    std::string program_;
    std::string option_ = "-oallow_other";
    std::array<char*, 3> arguments_{program_.data(), option_.data(), nullptr};
    fuse_args args_ = FUSE_ARGS_INIT(2, arguments_.data());
};

[[noreturn]] inline void fail_to_mount(const std::string& mount_point) {
    throw std::runtime_error("FUSE cannot be mounted at " + mount_point);
}

}  // namespace fdbroker::test
