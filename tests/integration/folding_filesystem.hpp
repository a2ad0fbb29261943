// SPDX-License-Identifier: MIT
// A FUSE filesystem that folds case: it finds by any spelling what lies in the directory that it shows, and lists the
// names that are there.
#pragma once

#include <filesystem>
#include <memory>

namespace fdbroker::test {

enum class Listing : bool { none, complete };

class FoldingFilesystem {
  public:
    // Shows `source` at `mount_point`, in the calling process's mount namespace, for all users; a separate thread serves
    // it. Errors are exceptions (std::runtime_error). With Listing::none no directory can be listed.
    FoldingFilesystem(std::filesystem::path source, const std::filesystem::path& mount_point,
                      Listing listing = Listing::complete);
    FoldingFilesystem(const FoldingFilesystem&) = delete;
    FoldingFilesystem& operator=(const FoldingFilesystem&) = delete;
    ~FoldingFilesystem();

  private:
    class Server;
    std::unique_ptr<Server> server_;
};

}  // namespace fdbroker::test
