// SPDX-License-Identifier: MIT
// An opener and those who use it, of every sort, over and over: peers that stay and such that come and go, some of which
// behave; requests of every kind, some refused, some that only a helper can carry out, some whose filesystem hangs; the
// control socket; reloads; a broker that dies now and then.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/integration/control_peer.hpp"
#include "tests/integration/hanging_filesystem.hpp"
#include "tests/integration/opener_support.hpp"
#include "tests/soak/figures.hpp"
#include "tests/support/files.hpp"

namespace fdbroker::soak {

// Where the files are; the opener serves no other.
struct Place {
    test::TempDir directory{test::TempDir::Place::var_tmp, 0755};
    std::string data = (directory / "data").string();

    Place();
    std::string policy() const;
    std::filesystem::path control() const { return directory / "control.sock"; }
};

// Counts of work done so far, to show that it was.
struct Tally {
    std::uint64_t rounds = 0;
    std::uint64_t done = 0;        // requests
    std::uint64_t refused = 0;     // by a rule, or for want of one
    std::uint64_t failed = 0;      // otherwise, as when two peers make the same directory
    std::uint64_t timed_out = 0;   // held by the filesystem
    std::uint64_t by_helpers = 0;  // requests done that the loop never does
    std::uint64_t visitors = 0;    // connections that were closed again
    std::uint64_t turned_away = 0;
    std::uint64_t reloads = 0;
    std::uint64_t crashes = 0;
    std::uint64_t commands = 0;  // at the control socket
};

class Scene {
  public:
    enum class Generations {
        one,   // serves all the time
        many,  // the policy is loaded anew in every round, and the broker is killed in one of rounds_per_crash
    };
    static constexpr std::uint64_t rounds_per_crash = 50;
    static constexpr std::uint64_t rounds_per_hang = 5;

    explicit Scene(Generations generations);

    // Runs a round: as much as can be done until then. Afterwards nothing is under way and only those who stay are connected.
    void round(std::chrono::steady_clock::time_point until);
    // Between rounds.
    Figures figures() const;
    const Tally& tally() const { return tally_; }
    // By SIGTERM; its exit status.
    int stop() { return opener_.stop(); }

  private:
    void wave();
    void ask(test::TestPeer& peer, std::uint64_t number);
    void take_answers(test::TestPeer& peer);
    void receive_visitors();
    void use_control();
    void hang();
    void crash();
    void rest();

    Generations generations_;
    Place place_{};
    test::HangingFilesystem filesystem_{place_.data + "/hanging"};
    test::RunningOpener opener_{place_.directory, place_.policy()};
    std::vector<test::TestPeer> peers_{};
    test::ControlPeer asker_{place_.control()}, reloader_{place_.control()}, watcher_{place_.control()};
    std::uint64_t next_ = 0;
    Tally tally_{};
};

}  // namespace fdbroker::soak
