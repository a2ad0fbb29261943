// SPDX-License-Identifier: MIT
// The reason that a failed request is told is the true one.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include "tests/integration/operations_fixture.hpp"

using namespace fdbroker;
using namespace fdbroker::test;
using proto::Call;

namespace {

// A directory in which nobody may make, remove or rename anything (chattr +i), for as long as this lives.
class Immutable {
  public:
    explicit Immutable(const std::string& path)
        : directory_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
          is_set_(set(FS_IMMUTABLE_FL)) {}
    Immutable(const Immutable&) = delete;
    Immutable& operator=(const Immutable&) = delete;
    ~Immutable() {
        if (is_set_) set(0);
    }
    bool is_set() const { return is_set_; }

  private:
    bool set(int flags) const { return ::ioctl(directory_.number(), FS_IOC_SETFLAGS, &flags) == 0; }

    proto::UniqueFd directory_;
    bool is_set_;
};

}  // namespace

TEST_CASE("open: a FIFO that nobody reads and a file that is no directory are called so") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    REQUIRE(::mkfifo(fixture.at("all/fifo").c_str(), 0600) == 0);
    fixture.file("all/file");
    with_peer(fixture, [&](TestPeer& peer) {
        const auto fifo = peer.open(fixture.at("all/fifo"), O_WRONLY | O_NONBLOCK);
        CHECK(fifo.status == ENXIO);
        CHECK(fifo.reason == "it is a FIFO that nobody has open for reading");
        const auto file = peer.open(fixture.at("all/file"), O_RDONLY | O_DIRECTORY);
        CHECK(file.status == ENOTDIR);
        CHECK(file.reason == "it is not a directory");
        const auto below = peer.open(fixture.at("all/file/below"), O_RDONLY);
        CHECK(below.status == ENOTDIR);
        CHECK(below.reason == "a component on the way is not a directory");
    });
}

TEST_CASE("mkdir, remove, rename: a kernel's refusal is not blamed on the opener's rights") {
    FDBROKER_SKIP_UNLESS(is_root(), "needs root");
    const Fixture fixture;
    make_directory(fixture.at("all/frozen"));
    fixture.file("all/frozen/file");
    const Immutable frozen(fixture.at("all/frozen"));
    FDBROKER_SKIP_UNLESS(frozen.is_set(), "needs CAP_LINUX_IMMUTABLE and a filesystem with chattr +i");
    with_peer(fixture, [&](TestPeer& peer) {
        const std::string file = fixture.at("all/frozen/file"), fresh = fixture.at("all/frozen/new");
        const std::string to = with_nul(fresh);
        for (const proto::Request& request :
             {proto::Request{.call = Call::mkdir, .mode = 0700, .path = fresh},
              proto::Request{.call = Call::remove, .path = file},
              proto::Request{.call = Call::rename, .path = file, .payload = to}}) {
            const auto answer = peer.call(request);
            CHECK(answer.status == EPERM);
            CHECK(answer.reason.find("immutable or append-only") != std::string::npos);
        }
    });
}
