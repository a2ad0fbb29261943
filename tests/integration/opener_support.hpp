// SPDX-License-Identifier: MIT
// The real opener for the length of a test, and peers that talk to it without a client library, so that they may
// also say what no library would.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "proto/channel.hpp"
#include "proto/message.hpp"
#include "proto/unique_fd.hpp"
#include "tests/support/files.hpp"
#include "tests/support/process.hpp"

namespace fdbroker::test {

// The text with every `word` replaced.
std::string replace_all(std::string text, std::string_view word, std::string_view by);

// The serving broker of an opener, or the one about to serve.
std::vector<pid_t> brokers_of(pid_t opener);  // oldest first
pid_t newest_broker(pid_t opener);
std::vector<pid_t> children_of(pid_t pid);    // oldest first; none of a process that is no more
std::vector<pid_t> helpers_of(pid_t broker);  // without those that have ended
pid_t watcher_of(pid_t broker);               // that looks after the directories
// Readable when that process has ended; it has to be there still, so this comes before any kill.
proto::UniqueFd end_of(pid_t pid);
// Does what makes the process fork, and holds the child before its first step: it neither runs nor, when it is killed,
// ends for its parent until reap_held() is called. Returns its pid. Needs the right to trace.
pid_t hold_next_child(pid_t parent, const std::function<void()>& cause);
// Does what makes the process receive a message (recvmsg(2) that returns something), and kills it at that very moment.
void kill_after_receiving(pid_t pid, const std::function<void()>& cause);
// Reaps a held child that was killed.
void reap_held(pid_t child);
// A process that stands still, as under a debugger: the opener ends those that a signal has stopped for some seconds. Needs
// the right to trace; a thread holds and lets go.
class HeldProcess {
  public:
    explicit HeldProcess(pid_t pid);
    ~HeldProcess() { let_go(); }
    HeldProcess(HeldProcess&& other) noexcept : pid_(std::exchange(other.pid_, 0)) {}
    HeldProcess& operator=(HeldProcess&&) = delete;
    void let_go() noexcept;

  private:
    pid_t pid_;
};

// Until a process that was sent SIGSTOP has stopped.
void wait_until_stopped(pid_t pid);

// Writes garbage over the audit ring of a broker, as one that was taken over might; the memory must be the broker's alone.
void spoil_audit_ring(pid_t broker);
// The number of requests until an opener parks replies, if it refuses each ("no rule allows read") and the peer never reads.
// Messages are as long as they may be. The replies to the last one are parked, and another message waits behind it.
std::size_t refusals_until_parked();
// The first number that no record of an opener bears and none explains, or that is there twice, in words; "" if there is none.
std::string unexplained_numbers(const std::vector<nlohmann::json>& records);

// Whether openers are started by a program that takes something from them (FDBROKER_TEST_START).
bool has_starting_program();

class RunningOpener {
  public:
    // In `directory`, which must outlive it: policy.yaml with this text, opener.sock for everyone, audit.jsonl.
    // Returns when it serves. `more` are further arguments; `environment` as in Command.
    RunningOpener(const TempDir& directory, std::string_view policy, std::vector<std::string> more = {},
                  std::map<std::string, std::string> environment = {});

    Process& process() { return process_; }
    const Process& process() const { return process_; }
    std::filesystem::path socket() const { return directory_ / "opener.sock"; }
    std::filesystem::path policy() const { return directory_ / "policy.yaml"; }

    pid_t broker() const { return newest_broker(process_.pid()); }
    // Until records with this event (and, unless empty, this cause) stand for as many as `count` says; all records so
    // far.
    std::vector<nlohmann::json> wait_for_event(std::string_view event, std::size_t count = 1,
                                               std::string_view cause = "") const;
    // How many there are by now.
    std::size_t count_events(std::string_view event, std::string_view cause = "") const;
    // Ends it by SIGTERM; its exit status.
    int stop();

    static std::vector<std::string> arguments(const TempDir& directory, std::vector<std::string> more);

  private:
    const TempDir& directory_;
    Process process_;
};

class TestPeer {
  public:
    struct Answer {
        std::uint32_t id = 0;
        int status = 0;
        proto::Step step = proto::Step::none;
        std::uint64_t record = 0;
        std::string reason{};
        std::string payload{};
        proto::UniqueFd fd{};

        std::string content() const;  // the delivered file's
    };

    explicit TestPeer(const std::filesystem::path& socket);

    proto::BorrowedFd socket() const { return socket_.borrow(); }
    void send(std::span<const std::byte> message) const;
    // Sends a message of requests for reading these paths; ids count on. False: the socket has no room.
    bool ask(const std::vector<std::string>& paths, std::uint32_t flags = 0,
             proto::Wait wait = proto::Wait::block);
    // Sends any request and waits for the answer.
    Answer call(const proto::Request& request);
    // In one message of all or nothing.
    std::vector<Answer> call_together(const std::vector<proto::Request>& requests);
    // These requests, one after the other and again from the first, until there are `count` in one message.
    std::vector<Answer> call_often(const std::vector<proto::Request>& requests, std::size_t count);
    // The next message, which must be replies.
    std::vector<Answer> answers();
    // Sends a request to open and waits for the answer.
    Answer open(const std::string& path, std::uint32_t flags = 0);
    // Until the opener ends the connection; the reason it gave, or "" when it gave none.
    std::string wait_for_end();
    // So many, in one message or several.
    std::vector<Answer> answers(std::size_t count);

  private:
    Answer answer_to(std::uint32_t id);
    std::vector<Answer> call_all(const std::vector<proto::Request>& requests, proto::Batch batch);
    proto::UniqueFd socket_;
    std::uint32_t next_id_ = 1;
    std::vector<std::byte> buffer_ = std::vector<std::byte>(proto::max_message_size);
};

// So many of this user's. Needs root, of which nothing else may be done meanwhile.
std::vector<TestPeer> peers_of(uid_t uid, const RunningOpener& opener, std::size_t count);

}  // namespace fdbroker::test
