// SPDX-License-Identifier: MIT
#include "opener/supervisor/name_lookup.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <span>

#include "opener/base/log_stderr.hpp"
#include "opener/supervisor/name_service.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// Answers are kept for few seconds; more peers than these at once are looked up each for itself.
constexpr std::size_t max_kept = 1024;
// A service that dies is not started in a loop.
constexpr std::chrono::seconds start_again_after{1};

}  // namespace

Result<std::unique_ptr<NameLookup>> NameLookup::start(const Options& options, EventLoop& loop,
                                                      std::function<void()> settled) {
    std::unique_ptr<NameLookup> lookup(new NameLookup(options, loop, std::move(settled)));
    if (auto started = lookup->start_service(Clock::now()); !started) return std::unexpected(started.error());
    return lookup;
}

Result<void> NameLookup::start_service(Clock::time_point now) {
    start_again_at_ = now + start_again_after;
    auto service = start_name_service(options_);
    if (!service) return std::unexpected(service.error());
    auto source = loop_.watch(service->borrow(), Events::readable, [this](Events) { settled_(); });
    if (!source) return std::unexpected(source.error());
    service_ = std::move(*service);
    source_ = std::move(*source);
    return {};
}

// Where there is none, and it is time.
void NameLookup::replace_service(Clock::time_point now) {
    if (service_ || now < start_again_at_) return;
    if (auto started = start_service(now); !started) return log_stderr(started.error().message());
    for (const auto& [question, asked] : asked_) ask(question);
}

// Where the service reads too slowly, what is not sent is unanswered in time.
void NameLookup::ask(const NameQuestion& question) const {
    static_cast<void>(
        proto::send(service_.borrow(), std::as_bytes(std::span(&question, 1)), {}, proto::Wait::never));
}

std::optional<NameAnswer> NameLookup::find(ConnectionId asker, const NameQuestion& question,
                                           Clock::time_point now) {
    if (const auto kept = kept_.find(question); kept != kept_.end()) {
        if (now < kept->second.until) return kept->second.answer;
        kept_.erase(kept);
    }
    const auto [asked, is_new] = asked_.try_emplace(question, Asked{.until = now + max_wait});
    asked->second.askers.push_back(asker);
    if (is_new && service_) ask(question);
    replace_service(now);
    schedule();
    return std::nullopt;
}

void NameLookup::keep(const NameAnswer& answer, Clock::time_point now) {
    std::erase_if(kept_, [now](const auto& entry) { return entry.second.until <= now; });
    if (kept_.size() < max_kept) kept_[answer.question] = {.until = now + max_age, .answer = answer};
}

std::vector<NameLookup::Settled> NameLookup::take(Clock::time_point now) {
    std::vector<Settled> settled;
    const auto settle = [&](const NameAnswer& answer) {
        keep(answer, now);
        auto asked = asked_.extract(answer.question);
        if (asked) settled.push_back({answer, std::move(asked.mapped().askers)});
    };
    while (service_) {
        NameAnswer answer;
        const auto received = proto::receive(service_.borrow(), std::as_writable_bytes(std::span(&answer, 1)),
                                             proto::Wait::never);
        if (!received && would_block(received.error())) break;
        if (!received || received->size() != sizeof answer) {
            log_stderr("the process that looks up the names of peers has ended; another one follows");
            source_.end();
            service_.reset();
        } else {
            settle(answer);
        }
    }
    replace_service(now);
    std::vector<NameQuestion> late;
    for (const auto& [question, asked] : asked_)
        if (asked.until <= now) late.push_back(question);
    for (const NameQuestion& question : late) settle({.question = question});
    schedule();
    return settled;
}

void NameLookup::schedule() {
    due_.stop();
    for (const auto& [question, asked] : asked_) due_.set_by(asked.until);
    if (due_.due() && !service_) due_.set_by(start_again_at_);
}

}  // namespace fdbroker::opener
