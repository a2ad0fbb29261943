// SPDX-License-Identifier: MIT
// A broker inside the client's process, for the tests of programs that use the library: no policy, no privilege.
//
// The fake is the other end of a socket pair and speaks the wire protocol. A program's test runs through all of the
// client but the decision. Instead of a thread, the connection calls serve() whenever it is about to look for answers.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "proto/channel.hpp"
#include "proto/message.hpp"
#include "proto/payload.hpp"
#include "proto/unique_fd.hpp"
#include "worker/client/fake_watch.hpp"
#include "worker/sandbox/scratch_directory.hpp"

namespace fdbroker::worker {

// The broker's end of one connection.
struct FakePeer {
    struct Parked {
        std::vector<std::byte> message{};
        std::vector<proto::UniqueFd> files{};
    };
    proto::UniqueFd socket{};
    std::deque<Parked> parked{};  // replies that the socket did not take yet
    std::vector<std::shared_ptr<FakeWatch>> watches{};
};

class FakeBroker {
  public:
    // Paths are looked up below this directory; an own one when empty.
    static proto::Result<std::unique_ptr<FakeBroker>> make(const std::string& root);

    // Makes missing directories and the file. A negative errno on failure.
    int write(std::string_view path, std::string_view content) const;
    // An empty path: any. error 0: no longer. times 0: always.
    void fail(const std::string& path, int error, std::string reason, unsigned times);

    // Reads, does and answers what has come.
    void serve(FakePeer& peer);
    // Tells the watches of all peers what has changed.
    void look();

  private:
    struct Failure {
        int error = 0;
        std::string reason{};
        unsigned times = 0;
    };
    // The outcome of a request.
    struct Outcome {
        int error = 0;
        proto::Step step = proto::Step::none;
        std::string reason{};
        proto::UniqueFd file{};
        std::string payload{};
    };

    FakeBroker(std::unique_ptr<ScratchDirectory> scratch, proto::UniqueFd root)
        : scratch_(std::move(scratch)), root_(std::move(root)) {}

    void answer(FakePeer& peer, std::span<const std::byte> message);
    Outcome perform(FakePeer& peer, const proto::Request& request);
    static void send_parked(FakePeer& peer);
    static void reply(FakePeer& peer, std::span<const proto::Request> requests,
                      std::vector<Outcome> outcomes);
    bool is_to_fail(std::string_view path, Outcome& outcome);
    // Returns 0, or -1 with errno.
    int perform_here(FakePeer& peer, const proto::Request& request, Outcome& outcome);
    int list(const proto::Request& request, Outcome& outcome);
    void add_status(std::string_view path, int directory, proto::DirectoryEntry& entry);
    int put(const proto::Request& request, Outcome& outcome);
    int commit(const proto::Request& request);
    int watch(FakePeer& peer, const proto::Request& request, Outcome& outcome);

    std::unique_ptr<ScratchDirectory> scratch_;
    proto::UniqueFd root_;
    std::map<std::string, Failure, std::less<>> failures_{};
    std::map<std::uint64_t, proto::UniqueFd> puts_{};  // open for reading
    std::uint64_t last_put_ = 0;
    std::vector<std::weak_ptr<FakeWatch>> watches_{};  // the peers'
};

}  // namespace fdbroker::worker
