// SPDX-License-Identifier: MIT
#include "opener/helpers/helper.hpp"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "opener/config/options.hpp"
#include "opener/helpers/messages.hpp"
#include "opener/operations/batch.hpp"
#include "opener/operations/execute.hpp"
#include "opener/operations/snapshot.hpp"
#include "opener/quota/helper_limits.hpp"
#include "opener/request/decide.hpp"
#include "opener/request/delivery.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::Step;
using proto::UniqueFd;

namespace {

// A reply that the connection has no room for is tried again this often: nothing tells when descriptors on their way to
// others have been taken (ETOOMANYREFS).
constexpr int try_again_after_ms = 10;

class Helper {
  public:
    using Clock = std::chrono::steady_clock;

    Helper(const HelperServices& services, UniqueFd channel)
        : services_(services), channel_(std::move(channel)), metrics_(services.policy.rules()) {}

    // Serves jobs until the broker has gone or the background work of a job is done.
    [[noreturn]] void run() {
        for (serve(); work_ == nullptr; serve()) {
            connection_.reset();
            say_to_broker(write_idle());
        }
        const int cause = stay_with_work();
        say_to_broker(write_ended(work_->errno_value() != 0 ? work_->errno_value() : cause));
        end(exit_done);
    }

  private:
    // Serves a job, from the message to the reply.
    void serve() {
        const Job job = receive_job();
        carry_out(job);
        say_to_broker(write_report(job.number, outcomes_, services_.policy.rules()));
        const Verdict verdict = receive_verdict();
        if (!verdict.records.empty()) deliver(job, verdict);
        outcomes_.clear();
    }

    // The connection tells when the session has ended, in whichever generation that happens, and the channel when the
    // broker has. ETIME: nothing went through the stream for as long as the policy allows; else 0.
    int stay_with_work() {
        while (!work_->done()) {
            const auto [first, second] = work_->awaited();
            std::array events{pollfd{channel_.number(), POLLIN | POLLRDHUP, 0},
                              pollfd{connection_.number(), 0, 0}, first, second};
            const int count = ::poll(events.data(), events.size(), patience());
            if (count < 0) continue;
            const int ends = POLLHUP | POLLERR | POLLRDHUP;
            const bool has_ended = ((events[0].revents | events[1].revents) & ends) != 0;
            if (has_ended || (count == 0 && patience() == 0)) {
                work_->end();
                return has_ended ? 0 : ETIME;
            }
            if (events[2].revents != 0 || events[3].revents != 0) work_->go_on();
            tell_moved();
            if (events[0].revents != 0) serve();
        }
        return 0;
    }

    // Milliseconds until the work has rested for too long; -1: it may rest.
    int patience() const {
        const auto moved_at = work_->moved_at();
        if (!moved_at) return -1;
        const auto left = *moved_at + services_.policy.limits().stream_idle - Clock::now();
        return static_cast<int>(
            std::max<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(left).count(), 0));
    }

    void tell_moved() {
        const auto moved_at = work_->moved_at();
        if (!moved_at || *moved_at < told_moved_at_ + helper_moved_interval) return;
        told_moved_at_ = *moved_at;
        say_to_broker(write_moved());
    }

    [[noreturn]] static void end(ExitStatus status) { ::_exit(status); }

    void say_to_broker(const std::vector<std::byte>& message) {
        if (!proto::send(channel_.borrow(), message, {}, proto::Wait::block)) end(exit_done);
    }

    std::span<const std::byte> receive(proto::ReceivedDescriptors& descriptors) {
        auto message = proto::receive(channel_.borrow(), buffer_, descriptors, proto::Wait::block);
        if (!message) end(exit_done);
        return *message;
    }

    Job receive_job() {
        proto::ReceivedDescriptors descriptors;
        const auto job = read_job(receive(descriptors));
        if (!job || descriptors.count() != 1) end(exit_failed);
        connection_ = descriptors.take(0);
        return *job;
    }

    Verdict receive_verdict() {
        // Reads into separate memory: the reply is made from the job's.
        std::array<std::byte, 8192> buffer;
        auto message = proto::receive(channel_.borrow(), buffer, proto::Wait::block);
        if (!message) end(exit_done);
        auto verdict = read_verdict(*message);
        if (!verdict || (!verdict->records.empty() && verdict->records.size() != outcomes_.size()))
            end(exit_failed);
        return std::move(*verdict);
    }

    void carry_out(const Job& job) {
        const auto requests = proto::read_requests(job.requests, requests_);
        if (!requests) end(exit_failed);
        count_ = requests->size();
        PeerNames names;
        names.user.set(job.user);
        names.group.set(job.group);
        auto identified = identify(connection_.borrow(), std::string(job.listener), names, services_.refused);
        if (!identified) {
            for (std::size_t i = 0; i < count_; ++i) {
                outcomes_.push_back(refused(Step::resolve, EIO, "the peer cannot be identified any more"));
            }
            return;
        }
        const policy::Peer peer = services_.policy.identify(std::move(identified->identity));
        // Only one request can leave something going on, or it would not be clear which one a further job is about.
        const ExecutionContext execution =
            ExecutionContext::helper(job.deadline, job.allows_background && count_ == 1);
        if (batch_of(job.requests) == proto::Batch::all_or_nothing) {
            outcomes_ = carry_out_together(services(), peer, *requests, delivery_.payload_room(count_ - 1),
                                           execution);
            return;
        }
        for (std::size_t i = 0; i < count_; ++i)
            outcomes_.push_back(carry_out(peer, requests_[i], job.number, execution));
    }

    RequestServices services() {
        return {services_.policy, services_.resolver, services_.inspector, metrics_};
    }

    Outcome carry_out(const policy::Peer& peer, const proto::Request& request, std::uint64_t job,
                      const ExecutionContext& execution) {
        const RequestServices services = this->services();
        auto granted = decide(services, peer, request);
        if (!granted) return std::move(granted.error());
        granted->job = job;
        granted->payload_room = delivery_.payload_room(count_ - 1);
        if (work_ != nullptr) return work_->carry_out(services, peer, *granted, execution);
        return execute(services, peer, *granted, execution);
    }

    void deliver(const Job& job, const Verdict& verdict) {
        std::unique_ptr<BackgroundWork> begun;
        for (std::size_t i = 0; i < count_; ++i) {
            const Recorded& recorded = verdict.records[i];
            if (verdict.over_budget && outcomes_[i].is_done())
                outcomes_[i] = refused(Step::deliver, EAGAIN, too_many_copies);
            if (recorded.may_leave && outcomes_[i].background != nullptr)
                begun = std::move(outcomes_[i].background);
            delivery_.add(requests_[i].id, std::move(outcomes_[i]), recorded);
        }
        const std::size_t descriptors = delivery_.descriptor_count();
        const int failed = send_replies();
        if (failed == 0 && begun != nullptr) work_ = std::move(begun);
        say_to_broker(write_sent({.job = job.number,
                                  .descriptors = static_cast<std::uint32_t>(failed == 0 ? descriptors : 0),
                                  .errno_value = failed,
                                  .in_background = work_ != nullptr && !work_->done()}));
        // Not before the broker has heard that the reply has left: closing may block as opening may, where a FUSE server
        // is asked to flush.
        delivery_.clear();
    }

    // The errno that the reply could not be sent with, 0: it was.
    int send_replies() {
        const auto until = std::chrono::steady_clock::now() + helper_delivery_timeout;
        for (;;) {
            auto sent = delivery_.send(connection_.borrow());
            if (sent) return 0;
            const int cause = sent.error().errno_value;
            const bool later = cause == EAGAIN || cause == ETOOMANYREFS;
            if (!later || std::chrono::steady_clock::now() >= until) return cause == 0 ? EPIPE : cause;
            ::poll(nullptr, 0, try_again_after_ms);
        }
    }

    const HelperServices& services_;
    UniqueFd channel_;
    Metrics metrics_;  // unused: the broker counts the reports
    std::vector<std::byte> buffer_ = std::vector<std::byte>(max_helper_message);
    std::array<proto::Request, proto::max_requests> requests_{};
    std::size_t count_ = 0;
    UniqueFd connection_{};
    std::vector<Outcome> outcomes_{};
    Delivery delivery_{};
    std::unique_ptr<BackgroundWork> work_{};  // that an earlier job has left going on
    Clock::time_point told_moved_at_ = Clock::now();
};

}  // namespace

void run_helper(const HelperServices& services, UniqueFd channel) {
    Helper(services, std::move(channel)).run();
}

}  // namespace fdbroker::opener
