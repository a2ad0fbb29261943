// SPDX-License-Identifier: MIT
// The loop of the answerer: calls of the program, answers of the broker, ends of processes, signals of the launcher.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "proto/unique_fd.hpp"
#include "worker/run/answerer.hpp"
#include "worker/run/broker_link.hpp"
#include "worker/run/call.hpp"
#include "worker/run/report.hpp"

namespace fdbroker::worker {

class AnswerLoop {
  public:
    struct Descriptors {
        proto::BorrowedFd signals;  // a signalfd of SIGCHLD
        proto::BorrowedFd notify;   // the socket of notify_path; -1: none
    };
    // `launch`, `view`, `proc` and the descriptors must outlive it. `program` is a child of this process.
    AnswerLoop(const Launch& launch, const View& view, Listener listener, proto::BorrowedFd proc,
               pid_t program, Descriptors descriptors);

    // Until the program has ended; its exit status, 128 + n when signal n ended it.
    int serve();

  private:
    enum class Source : std::uint8_t { calls, broker, ends, launcher, notify };
    struct Pending {
        Pending(const Notification& received, RunServices& services)
            : notification(received), call(received, services) {}
        Notification notification;
        Call call;
        std::optional<Task<bool>> task{};
    };

    void watch(proto::BorrowedFd descriptor, Source source) const;
    void forget(proto::BorrowedFd descriptor) const;
    void handle(Source source, std::uint32_t events);
    void take_call(std::uint32_t events);
    Task<bool> answer(Pending& pending, Handler handler);
    void take_answers();
    void wait_for_room();
    void drop_finished();
    void reap();
    void pass_signal_on();
    bool pass_notification_on();  // false: there was none
    void explain() const;

    const Launch& launch_;
    Report report_;
    BrokerLink broker_;
    Listener listener_;
    Identities identities_;
    RunServices services_;
    pid_t program_;
    Descriptors descriptors_;
    proto::UniqueFd epoll_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Pending>> pending_{};
    std::vector<std::uint64_t> finished_{};
    std::optional<int> status_{};
    bool has_answers_ = false;
    bool waits_for_room_ = false;
    bool told_over_ = false;
};

}  // namespace fdbroker::worker
