// SPDX-License-Identifier: MIT
#include "opener/supervisor/draining_generations.hpp"

#include <algorithm>
#include <utility>

namespace fdbroker::opener {

namespace {

// A generation ends by itself in less (broker_end.cpp, finish_timeout).
constexpr std::chrono::seconds max_draining_time{65};
// The same after it was told to.
constexpr std::chrono::milliseconds retire_slack{3'000};

}  // namespace

void DrainingGenerations::add(std::unique_ptr<Generation> generation, std::uint64_t records) {
    generation->handed_over();
    generation->post(to_generation::Finish{static_cast<std::uint32_t>(records)});
    Timer kill_at = loop_.timer([this, of = generation.get()](Clock::time_point) { time_is_up(*of); });
    kill_at.set_after(max_draining_time);
    all_.push_back({.generation = std::move(generation), .kill_at = std::move(kill_at)});
    const auto staying = std::ranges::count(all_, false, &Draining::gives_up);
    if (static_cast<std::size_t>(staying) <= max_staying) return;
    give_up_by(*std::ranges::find(all_, false, &Draining::gives_up), std::chrono::milliseconds(0));
}

void DrainingGenerations::give_up_by(Draining& one, std::chrono::milliseconds timeout) {
    one.gives_up = true;
    one.kill_at.set_by(Clock::now() + timeout + retire_slack);
    one.generation->post(to_generation::Retire{static_cast<std::uint32_t>(timeout.count())});
}

void DrainingGenerations::retire(std::chrono::milliseconds timeout) {
    for (Draining& one : all_) give_up_by(one, timeout);
}

void DrainingGenerations::serve(Generation& generation, std::size_t max_messages) {
    generation.copy_output();
    while (max_messages > 0 && generation.receive()) --max_messages;
}

std::unique_ptr<Generation> DrainingGenerations::reaped(pid_t pid) {
    const auto found =
        std::ranges::find_if(all_, [pid](const Draining& one) { return one.generation->is(pid); });
    if (found == all_.end()) return nullptr;
    auto generation = std::move(found->generation);
    all_.erase(found);
    generation->reaped();
    return generation;
}

void DrainingGenerations::kill(Draining& one) {
    one.killed = true;
    one.kill_at.set_after(generation_abandoned_after);
    one.generation->kill();
}

void DrainingGenerations::time_is_up(Generation& generation) {
    const auto one =
        std::ranges::find(all_, &generation, [](const Draining& each) { return each.generation.get(); });
    if (!one->killed) return kill(*one);
    const auto abandoned = std::move(one->generation);
    all_.erase(one);
    abandoned_(*abandoned);
}

void DrainingGenerations::kill_corrupt(const AuditLog& log) {
    for (Draining& one : all_) {
        if (!one.killed && log.is_corrupt(one.generation->number())) kill(one);
    }
}

std::vector<EarlierGeneration> DrainingGenerations::inflight_logs() const {
    std::vector<EarlierGeneration> logs;
    for (const Draining& one : all_) logs.push_back({one.generation->number(), &one.generation->inflight()});
    return logs;
}

void DrainingGenerations::told_with(std::uint64_t ping) {
    for (Draining& one : all_) one.told_with = ping;
}

void DrainingGenerations::answered(std::uint64_t ping) {
    for (Draining& one : all_) {
        if (one.told_with == 0 || one.told_with > ping) continue;
        one.told_with = 0;
        // A generation that is activated after this must not answer a second time.
        one.generation->inflight().clear_gathered();
    }
}

}  // namespace fdbroker::opener
