// SPDX-License-Identifier: MIT
// The scene of tests about a filesystem that hangs: the filesystem, an opener that grants to read below it, and a peer.
#pragma once

#include <csignal>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "proto/unique_fd.hpp"
#include "tests/integration/hanging_filesystem.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/support/child.hpp"
#include "tests/support/wait.hpp"

namespace fdbroker::test {

struct HangingScene {
    HangingFixture fixture{};
    HangingFilesystem filesystem{fixture.hanging};
    RunningOpener opener;
    TestPeer peer{opener.socket()};

    // The policy's rule has this deadline and allows these operations.
    explicit HangingScene(const std::string& deadline, const std::string& operations = "read")
        : opener(fixture.directory, fixture.policy(deadline, operations)) {}

    // The peer asks so many times, in one message, for the file of this name on the filesystem.
    void ask_for(const std::string& name, std::size_t count = 1) {
        peer.ask(std::vector<std::string>(count, fixture.hanging + "/" + name));
    }
    // Returns when the next generation serves, which is the opener's generation number `number`.
    void reload(std::size_t number = 2) {
        opener.process().signal(SIGHUP);
        opener.wait_for_event("start", number);
    }
};

// Plays the scene in a mount namespace of a child.
inline void run_in_hanging_scene(const std::string& deadline,
                                 const std::function<void(HangingScene&)>& play) {
    run_in_mount_namespace([&] {
        HangingScene scene(deadline);
        play(scene);
    });
}

// The first generation has a request in the filesystem's look-up, which hangs.
struct DrainingScene : HangingScene {
    TestPeer other{opener.socket()};
    pid_t broker = opener.broker();
    proto::UniqueFd first = end_of(broker);

    DrainingScene() : HangingScene("60s") {
        ask_for("lookup");
        filesystem.wait_for_hanging(1);
    }
    // Whether a generation serves the peer, and nothing else has come to it.
    bool serves_peer() {
        return peer.open(fixture.data + "/local").status == 0 && !is_readable_now(peer.socket());
    }
};

// Plays the scene in a mount namespace of a child; the opener ends well, now or as soon as it is told to.
inline void run_in_draining_scene(const std::function<void(DrainingScene&)>& play) {
    run_in_mount_namespace([&] {
        DrainingScene scene;
        play(scene);
        if (std::filesystem::exists(scene.opener.socket()))
            CHECK(scene.opener.stop() == 0);
        else
            CHECK(scene.opener.process().wait().status == 0);
    });
}

}  // namespace fdbroker::test
