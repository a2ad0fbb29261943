// SPDX-License-Identifier: MIT
// Names that change what they lead to while the opener works on them: the scene, those who change it, and tables of what
// may come of it. Each attack has a naive twin that looks first and acts then: it must be fooled, or the attack would
// prove nothing.
#pragma once

#include <atomic>
#include <csignal>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "proto/message.hpp"
#include "tests/integration/opener_support.hpp"

namespace fdbroker::test {

// Does something to the filesystem over and over in a separate thread.
class Disturber {
  public:
    explicit Disturber(std::function<void()> round)
        : thread_([this, round = std::move(round)](const std::stop_token& stop) {
              while (!stop.stop_requested()) {
                  round();
                  ++rounds_;
              }
          }) {
        while (rounds_ == 0) std::this_thread::yield();
    }
    std::uint64_t rounds() const { return rounds_; }

  private:
    std::atomic<std::uint64_t> rounds_{0};
    std::jthread thread_;
};

// There and back, so that a round leaves things as they were.
std::function<void()> exchanging(const std::string& one, const std::string& other);
// While the directory is away, another file has the name in it.
std::function<void()> moving_away(const std::string& here, const std::string& there, const std::string& name);
std::function<void()> mounting_over(const std::string& what, const std::string& where);

// The state that every name beyond the rules must still have after an attack.
struct Kept {
    std::string content;
    mode_t mode;
    nlink_t links;
    std::int64_t modified;
    std::string attributes;  // names of the extended ones
    bool operator==(const Kept&) const = default;
};

// secret/, which no rule names, and data/, in which links, other names and special files stand beside what may be had:
//   plain/   everything is allowed to regular files of one name, and to directories
//   follow/  links are followed
//   kept/    what belongs to the peer may be changed; `hard` and `fifo` do not, nor may they go
class Scene {
  public:
    explicit Scene(TempDir::Place place = TempDir::Place::var_tmp);
    std::string at(std::string_view name) const { return (directory_ / name).string(); }
    const TempDir& directory() const { return directory_; }
    std::string policy() const;
    // Under the name data/plain/hard.
    void link_secret();

    std::map<std::string, Kept> secrets() const;
    // How much is there in data/kept that is not the peer's.
    std::size_t others() const;
    // Exchanges data/kept/file for the other, and puts both back where the opener has left them elsewhere.
    std::function<void()> exchanging_kept(const std::string& other) const;

  private:
    TempDir directory_;
};

// As many as are wished by FDBROKER_ATTACK_TRIES, else 20,000.
std::size_t tries();
// An outcome in words, which the table of an attack must have.
std::string outcome_of(const TestPeer::Answer& answer);
// Outcome → why it may be. Whatever is not among these fails the test.
using Permissible = std::map<std::string, std::string>;

inline const std::string is_asked_for = "the file that was asked for";
inline const std::string saw_link = "a link stood there";

class Attack {
  public:
    explicit Attack(Scene& scene)
        : scene_(scene), before_(scene.secrets()), opener_(scene.directory(), scene.policy()) {}

    // `requests` are asked for one after the other, again and again.
    void run(const std::string& name, const std::function<void()>& round,
             const std::vector<proto::Request>& requests, const Permissible& permissible);
    // No other generation follows what is mounted meanwhile.
    void keep_generation() const { ::kill(watcher_of(opener_.broker()), SIGSTOP); }
    // After the last disturber has ended.
    void check_secrets() const;

  private:
    Scene& scene_;
    std::map<std::string, Kept> before_;
    RunningOpener opener_;
};

using Look = std::function<bool(const std::string& path)>;

// Looks, then opens: what is delivered when the look was content, else nothing.
std::optional<std::string> naive_open(const std::string& path, const Look& look);
// At most 16 bytes; empty where it cannot be opened.
std::string content_of(proto::BorrowedFd directory, const std::string& name);
bool leads_into(const std::string& path, const std::string& directory);
bool is_plain(const std::string& path);

// The forbidden thing that a naive opener did; nullopt: nothing.
using NaiveTry = std::function<std::optional<std::string>()>;
// Fails when that is never anything, for as long as a test may take.
void must_be_fooled(const std::string& name, const std::function<void()>& round, const NaiveTry& attempt);
// The requested file itself is no finding.
NaiveTry opening(const std::string& path, const Look& look);

}  // namespace fdbroker::test
