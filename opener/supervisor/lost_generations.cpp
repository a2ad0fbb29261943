// SPDX-License-Identifier: MIT
#include "opener/supervisor/lost_generations.hpp"

namespace fdbroker::opener {

void LostGenerations::tell(Lost& lost, Generation& generation, std::uint64_t ping) {
    generation.queue(to_generation::GenerationLost{lost.number});
    lost.told_with = ping;
}

void LostGenerations::tell_all(Generation& activated, std::uint64_t ping) {
    for (Lost& lost : all_) tell(lost, activated, ping);
}

void LostGenerations::tell_new(Generation& serving, std::uint64_t ping) {
    for (Lost& lost : all_)
        if (lost.told_with == 0) tell(lost, serving, ping);
}

void LostGenerations::answered(std::uint64_t ping) {
    std::erase_if(all_, [ping](const Lost& lost) {
        if (lost.told_with == 0 || lost.told_with > ping) return false;
        lost.inflight->clear();
        return true;
    });
}

std::vector<EarlierGeneration> LostGenerations::inflight_logs() const {
    std::vector<EarlierGeneration> logs;
    for (const Lost& lost : all_) logs.push_back({lost.number, lost.inflight.get()});
    return logs;
}

std::vector<LeftInflightLog> LostGenerations::left() const {
    std::vector<LeftInflightLog> left;
    for (const Lost& lost : all_) left.push_back({lost.number, lost.inflight->bytes()});
    return left;
}

}  // namespace fdbroker::opener
