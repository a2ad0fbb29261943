// SPDX-License-Identifier: MIT
// The root directory of a program under `worker run`: a private mount namespace in which
//
//     /usr, the loader's cache, ...   are the runtime: the system's own files, read-only, with the user's own rights
//     /dev/null and the like          are the system's devices
//     /scratch                        is a tmpfs of the program's own, when it has one
//     everything else                 is a tmpfs with nothing but *stand-ins*: an empty directory for each brokered one that
//                                     the program has entered or opened, an empty file or a link for each opened by O_PATH,
//                                     so that the kernel itself keeps track of working directories and of descriptors over
//                                     fork, exec and rename
//
// No path that the kernel walks there leads to a brokered file, whatever a program exchanges under a call.
#pragma once

#include <sys/stat.h>

#include <string>
#include <string_view>
#include <vector>

#include "proto/error.hpp"
#include "proto/unique_fd.hpp"
#include "worker/run/target.hpp"
#include "worker/sandbox/landlock.hpp"

namespace fdbroker::worker {

// The one that answers for a path.
enum class Region : std::uint8_t {
    brokered,  // the opener
    native,    // the kernel: runtime, devices, scratch
    process,   // this worker: /proc and the links in /dev that lead there
};

inline constexpr std::string_view scratch_path = "/scratch";
enum class Scratch : std::uint8_t { none, own };

class View {
  public:
    // Makes the view the root directory of this process, in its own mount namespace (CLONE_NEWNS) and with CAP_SYS_ADMIN in
    // its user namespace. `runtime`: absolute paths of files and directories; a symbolic link is copied, what is missing
    // is missing here. The working directory is then `/`.
    static proto::Result<View> enter(const std::vector<std::string>& runtime, Scratch scratch);

    Region region_of(std::string_view path) const;
    // Landlock's rules for a program: the rights that its own files need. Borrows from this object.
    std::vector<LandlockRule> program_rules() const;
    // Landlock's rules for this worker: those, and what makes stand-ins and reads `proc`.
    std::vector<LandlockRule> worker_rules(proto::BorrowedFd proc) const;

    // Whether an open file is a stand-in.
    bool is_stand_in(const struct stat& status) const { return status.st_dev == device_; }
    // Makes the stand-in of a directory, and of those above it.
    OrErrno<void> make_directory(const std::string& path) const;
    bool has_directory(const std::string& path) const;
    OrErrno<proto::UniqueFd> open_directory(const std::string& path) const;
    // The stand-in of anything that is neither directory nor link.
    OrErrno<void> make_file(const std::string& path) const;
    // The stand-in of a symbolic link, in place of what is there.
    OrErrno<void> make_link(const std::string& target, const std::string& path) const;
    // Follow what the program has done to brokered names, where there are stand-ins.
    void forget(const std::string& path) const;
    void follow_rename(const std::string& path, const std::string& new_path) const;
    // A copy of a brokered program, for execve(2) alone, in place of an older one.
    OrErrno<void> put_program(const std::string& path, proto::BorrowedFd content) const;

  private:
    struct Native {
        std::string path;
        proto::UniqueFd place;
        std::uint64_t rights;
    };

    View() = default;
    proto::Result<void> attach(Native native);

    std::vector<Native> natives_{};
    std::vector<std::string> others_{};  // the runtime's links (/bin), and what is missing outside as well
    proto::UniqueFd root_{};
    dev_t device_ = 0;
};

// `path` is `top` or below it.
bool is_within(std::string_view path, std::string_view top);

}  // namespace fdbroker::worker
