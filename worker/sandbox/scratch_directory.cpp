// SPDX-License-Identifier: MIT
#include "worker/sandbox/scratch_directory.hpp"

#include <cstdlib>
#include <filesystem>
#include <system_error>

namespace fdbroker::worker {

proto::Result<std::unique_ptr<ScratchDirectory>> ScratchDirectory::make() {
    const char* base = ::secure_getenv("TMPDIR");
    std::string path = std::string(base == nullptr ? "/tmp" : base) + "/fdbroker.XXXXXX";
    if (::mkdtemp(path.data()) == nullptr) return proto::system_error("mkdtemp", path);
    return std::make_unique<ScratchDirectory>(std::move(path));
}

ScratchDirectory::~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

}  // namespace fdbroker::worker
