// SPDX-License-Identifier: MIT
// The product as the benchmark uses it: the opener's own program, and a client through libfdbroker.
#pragma once

#include <string>
#include <vector>

#include "tests/support/process.hpp"
#include "worker/client/c_api.hpp"

namespace fdbroker::bench {

enum class Audit { none, file };
// Whether a candidate, the policy itself, decides each request beside the policy.
enum class Shadow { none, same };

// An opener that serves a policy, on the cores that its starter may run on. Ends with the object.
class RunningOpener {
  public:
    // `directory` holds its sockets and its audit file; `name` keeps it apart from others there.
    RunningOpener(const std::string& program, const std::string& directory, const std::string& name,
                  const std::string& policy, Audit audit, Shadow shadow = Shadow::none);
    RunningOpener(const RunningOpener&) = delete;
    RunningOpener& operator=(const RunningOpener&) = delete;
    ~RunningOpener();

    const std::string& address() const { return address_; }
    // The process that serves: the supervisor's child.
    pid_t broker_pid() const;

  private:
    std::string address_;
    test::Process process_;
};

// Throws std::runtime_error when it cannot connect; aborts the benchmark when a request does not go as expected.
class Connection {
  public:
    explicit Connection(const std::string& address);
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;
    ~Connection() { fdbroker_disconnect(broker_); }

    void open_and_close(const char* path) const;
    void be_refused(const char* path) const;
    // Calls fdbroker_open_many() once and closes every descriptor.
    void open_and_close_all(const std::vector<fdbroker_request>& requests) const;
    // Each submitted by itself, before the first of them is completed; every descriptor is closed.
    void open_and_close_outstanding(const std::vector<fdbroker_request>& requests) const;

  private:
    fdbroker_handle* broker_ = nullptr;
};

}  // namespace fdbroker::bench
