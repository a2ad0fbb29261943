// SPDX-License-Identifier: MIT
// A FUSE filesystem that hangs on demand: in the look-up of the file `lookup`, when `open` is opened, when a descriptor of
// `flush` is closed. `fine` never hangs. All four hold the text "fine". Besides them there is the directory `directory`,
// which is empty.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "tests/support/files.hpp"

namespace fdbroker::test {

// Whether FUSE can be mounted in a new mount namespace.
bool has_fuse();

class HangingFilesystem {
  public:
    // Mounted in the calling process's mount namespace, for all users; a separate thread serves it. The process must be
    // root, and /dev/fuse must be there. Errors are exceptions (std::runtime_error).
    explicit HangingFilesystem(const std::filesystem::path& mount_point);
    HangingFilesystem(const HangingFilesystem&) = delete;
    HangingFilesystem& operator=(const HangingFilesystem&) = delete;
    // Whatever still hangs ends with an error.
    ~HangingFilesystem();

    // Until so many requests hang, counted since the last release().
    void wait_for_hanging(unsigned count);
    // Answers those that hang. What comes later hangs again.
    void release();
    // From now on all that a name or a directory is asked for hangs.
    void stop_answering();
    // Answers the hanging requests and serves as before stop_answering().
    void answer_again();

  private:
    class Server;
    std::unique_ptr<Server> server_;
};

// A file that is at hand beside a directory to mount one on, and a policy that grants to read below both.
struct HangingFixture {
    TempDir directory{TempDir::Place::var_tmp, 0755};
    std::string data = directory / "data";
    std::string hanging = data + "/hanging";

    HangingFixture();
    std::string policy(const std::string& deadline, const std::string& operations = "read") const;
};

}  // namespace fdbroker::test
