// SPDX-License-Identifier: MIT
#include "opener/supervisor/draining_generations.hpp"

#include <algorithm>
#include <utility>

namespace fdbroker::opener {

namespace {

// A generation ends by itself in less (broker_end.cpp, finish_timeout).
constexpr std::chrono::seconds finish_within{65};
// The same after it was told to.
constexpr std::chrono::milliseconds retire_slack{3'000};

}  // namespace

void DrainingGenerations::add(std::unique_ptr<Generation> generation, std::uint64_t records) {
    generation->handed_over(generation.get());
    generation->post({.type = LinkType::finish, .value = static_cast<std::uint32_t>(records)});
    all_.push_back({.generation = std::move(generation), .kill_at = Clock::now() + finish_within});
    const auto staying = std::ranges::count(all_, false, &Finishing::gives_up);
    if (static_cast<std::size_t>(staying) <= most) return;
    give_up_by(*std::ranges::find(all_, false, &Finishing::gives_up), std::chrono::milliseconds(0));
}

void DrainingGenerations::give_up_by(Finishing& one, std::chrono::milliseconds timeout) {
    one.gives_up = true;
    one.kill_at = std::min(one.kill_at, Clock::now() + timeout + retire_slack);
    one.generation->post({.type = LinkType::retire, .value = static_cast<std::uint32_t>(timeout.count())});
}

void DrainingGenerations::retire(std::chrono::milliseconds timeout) {
    for (Finishing& one : all_) give_up_by(one, timeout);
}

bool DrainingGenerations::serve(const void* tag, std::uint32_t events, std::size_t max_messages) {
    const auto found =
        std::ranges::find_if(all_, [tag](const Finishing& one) { return one.generation.get() == tag; });
    if (found == all_.end()) return false;
    found->generation->copy_output();
    if ((events & EPOLLOUT) != 0) found->generation->send_queued();
    while (max_messages > 0 && found->generation->receive()) --max_messages;
    return true;
}

std::unique_ptr<Generation> DrainingGenerations::reaped(pid_t pid) {
    const auto found =
        std::ranges::find_if(all_, [pid](const Finishing& one) { return one.generation->is(pid); });
    if (found == all_.end()) return nullptr;
    auto generation = std::move(found->generation);
    all_.erase(found);
    generation->reaped();
    return generation;
}

void DrainingGenerations::kill(Finishing& one) {
    one.killed = true;
    one.kill_at = Clock::now() + generation_abandoned_after;
    one.generation->kill();
}

std::unique_ptr<Generation> DrainingGenerations::act_on_time(Clock::time_point now) {
    for (auto one = all_.begin(); one != all_.end(); ++one) {
        if (now < one->kill_at) continue;
        if (one->killed) {
            auto generation = std::move(one->generation);
            all_.erase(one);
            return generation;
        }
        kill(*one);
    }
    return nullptr;
}

void DrainingGenerations::kill_foul(const AuditLog& log) {
    for (Finishing& one : all_) {
        if (!one.killed && log.is_foul(one.generation->number())) kill(one);
    }
}

std::optional<DrainingGenerations::Clock::time_point> DrainingGenerations::again_at() const noexcept {
    if (all_.empty()) return std::nullopt;
    return std::ranges::min_element(all_, {}, &Finishing::kill_at)->kill_at;
}

std::vector<EarlierGeneration> DrainingGenerations::predecessors() const {
    std::vector<EarlierGeneration> predecessors;
    for (const Finishing& one : all_)
        predecessors.push_back({one.generation->number(), &one.generation->inflight()});
    return predecessors;
}

void DrainingGenerations::told_with(std::uint64_t ping) {
    for (Finishing& one : all_) one.told_with = ping;
}

void DrainingGenerations::answered(std::uint64_t ping) {
    for (Finishing& one : all_) {
        if (one.told_with == 0 || one.told_with > ping) continue;
        one.told_with = 0;
        // One that is activated after this must not answer a second time.
        one.generation->inflight().clear_gathered();
    }
}

}  // namespace fdbroker::opener
