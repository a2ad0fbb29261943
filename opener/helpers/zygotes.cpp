// SPDX-License-Identifier: MIT
#include "opener/helpers/zygotes.hpp"

#include <span>
#include <utility>

#include "opener/quota/helper_limits.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// Any byte asks a zygote for a helper.
constexpr std::byte order_of_helper{1};

}  // namespace

Result<void> Zygotes::add(UniqueFd channel) {
    auto source = loop_.watch(channel.borrow(), Events::readable, [this](Events) { hear(); });
    if (!source) return std::unexpected(source.error());
    zygotes_.push_back({std::move(channel), std::move(*source)});
    return {};
}

void Zygotes::hear() {
    for (std::size_t i = zygotes_.size(); i-- > 0;) hear(i);
}

void Zygotes::hear(std::size_t index) {
    for (;;) {
        int status = 0;
        proto::ReceivedDescriptors descriptors;
        const auto buffer = std::as_writable_bytes(std::span(&status, 1));
        auto received =
            proto::receive(zygotes_[index].channel.borrow(), buffer, descriptors, proto::Wait::never);
        if (!received && would_block(received.error())) return;
        if (!received || received->size() != sizeof status) return end(index);
        if (ordered_ > 0) --ordered_;
        if (status == 0 && descriptors.count() == 1) {
            owner_.helper_made(descriptors.take(0));
        } else {
            owner_.helper_not_made();
        }
    }
}

// Orders that this one has not answered are given again, to the next.
void Zygotes::end(std::size_t index) {
    if (index + 1 == zygotes_.size()) ordered_ = 0;
    zygotes_[index].source.end();
    zygotes_.erase(zygotes_.begin() + static_cast<std::ptrdiff_t>(index));
    owner_.zygote_ended();
}

void Zygotes::order(std::size_t wanted) {
    if (paused_until_ && Clock::now() < *paused_until_) return;
    paused_until_.reset();
    while (ordered_ < wanted && !zygotes_.empty()) {
        // The end of a zygote is told by its source.
        if (!proto::send(zygotes_.back().channel.borrow(), std::span(&order_of_helper, 1), {},
                         proto::Wait::never))
            return;
        ++ordered_;
    }
}

void Zygotes::pause() noexcept {
    paused_until_ = Clock::now() + helper_order_interval;
}

}  // namespace fdbroker::opener
