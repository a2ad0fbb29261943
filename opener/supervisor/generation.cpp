// SPDX-License-Identifier: MIT
#include "opener/supervisor/generation.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <utility>

#include "opener/broker/run_generation.hpp"

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;

namespace {

// As much as the pipe holds: the loop has other things to do.
constexpr std::size_t max_output_per_turn = std::size_t{64} << 10;

}  // namespace

Generation::Generation(std::uint32_t number, Parts parts, ConnectionTable& connections, EventLoop& loop,
                       void* tag)
    : number_(number),
      link_(std::move(parts.link)),
      changes_(std::move(parts.changes)),
      output_(std::move(parts.output)),
      inflight_(std::make_unique<InflightLog>(std::move(parts.inflight))),
      ring_(std::move(parts.ring)),
      report_(std::move(parts.report)),
      policy_(std::move(parts.policy)),
      connections_(connections),
      loop_(loop),
      tag_(tag) {}

Result<Generation::Parts> Generation::make_parts(const GenerationOrders& orders, Link link, UniqueFd changes,
                                                 GenerationOutput output) {
    auto inflight = InflightLog::create();
    if (!inflight) return std::unexpected(inflight.error());
    std::optional<AuditRing> ring;
    if (orders.recorded) {
        auto made = AuditRing::create();
        if (!made) return std::unexpected(made.error());
        ring.emplace(std::move(*made));
    }
    auto report = StartReport::create();
    if (!report) return std::unexpected(report.error());
    std::shared_ptr<PolicySnapshot> policy = orders.policy;
    if (!policy) {
        auto empty = PolicySnapshot::create();
        if (!empty) return std::unexpected(empty.error());
        policy = std::make_shared<PolicySnapshot>(std::move(*empty));
    }
    return Parts{std::move(link), std::move(changes), std::move(output), std::move(*inflight),
                 std::move(ring), std::move(*report), std::move(policy)};
}

Result<std::unique_ptr<Generation>> Generation::start(GenerationOrders orders, ConnectionTable& connections,
                                                      EventLoop& loop, void* tag) {
    auto pair = Link::make();
    if (!pair) return std::unexpected(pair.error());
    int changes[2];
    if (::pipe2(changes, O_CLOEXEC | O_NONBLOCK) != 0) return proto::system_error("pipe2");
    UniqueFd changes_read(changes[0]);
    const UniqueFd changes_write(changes[1]);
    auto output = GenerationOutput::make();
    if (!output) return std::unexpected(output.error());
    auto parts =
        make_parts(orders, std::move(pair->supervisor), std::move(changes_read), std::move(output->output));
    if (!parts) return std::unexpected(parts.error());
    std::unique_ptr<Generation> generation(
        new Generation(orders.number, std::move(*parts), connections, loop, tag));
    if (auto added = loop.add(generation->link_.descriptor(), EPOLLIN, tag); !added)
        return std::unexpected(added.error());
    if (auto added = loop.add(generation->output_.descriptor(), EPOLLIN, tag); !added)
        return std::unexpected(added.error());
    std::fflush(nullptr);
    generation->pid_ = ::fork();
    if (generation->pid_ < 0) return proto::system_error("fork");
    if (generation->pid_ == 0) {
        run_generation({std::move(orders), pair->generation, *generation->inflight_, generation->ring(),
                        generation->report_, *generation->policy_, changes_write.borrow(),
                        output->writing.borrow()});
    }
    // No later generation can touch what this one records.
    if (generation->ring_) generation->ring_->keep_from_children();
    return generation;
}

void Generation::kill() const noexcept {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
}

Generation::~Generation() {
    finish_output();
    loop_.remove(link_.descriptor());
    if (changes_) loop_.remove(changes_.borrow());
    if (ring_) loop_.remove(ring_->wakeup());
}

void Generation::activated(void* tag, void* changes_tag, void* audit_tag) {
    tag_ = tag;
    if (ring_) static_cast<void>(loop_.add(ring_->wakeup(), EPOLLIN, audit_tag));
    since_ = std::chrono::steady_clock::now();
    // What peers send it may take it over from now on.
    output_.bound();
    watch_output();
    static_cast<void>(loop_.change(link_.descriptor(), EPOLLIN, tag_));
    static_cast<void>(loop_.add(changes_.borrow(), EPOLLIN, changes_tag));
}

void Generation::handed_over(void* tag) {
    tag_ = tag;
    const std::uint32_t events = link_is_full_ ? EPOLLIN | EPOLLOUT : std::uint32_t{EPOLLIN};
    static_cast<void>(loop_.change(link_.descriptor(), events, tag_));
    watch_output();
    if (!changes_) return;
    loop_.remove(changes_.borrow());
    changes_.reset();
}

Generation::Directories Generation::directories() {
    if (!changes_) return Directories::unknown;
    // More than one change is told of as one.
    std::array<char, 256> changes;
    const ssize_t size = ::read(changes_.number(), changes.data(), changes.size());
    if (size > 0) return Directories::changed;
    if (size < 0) return Directories::same;
    loop_.remove(changes_.borrow());
    changes_.reset();
    return Directories::unknown;
}

void Generation::watch_output() {
    if (output_.descriptor()) static_cast<void>(loop_.change(output_.descriptor(), EPOLLIN, tag_));
}

void Generation::copy_output() {
    if (output_.descriptor() && !output_.copy(max_output_per_turn)) finish_output();
}

void Generation::finish_output() {
    if (!output_.descriptor()) return;
    loop_.remove(output_.descriptor());
    output_.finish();
}

void Generation::post(const LinkMessage& message, SharedFile file) {
    queue(message, std::move(file));
    send_queued();
}

void Generation::send_queued() {
    for (; !outbox_.empty(); outbox_.pop_front()) {
        const auto& [message, file] = outbox_.front();
        BorrowedFd attached = file ? file->borrow() : BorrowedFd();
        const bool hands_over = message.type == LinkType::adopt || message.type == LinkType::adopt_control;
        if (hands_over) {
            const auto found = connections_.all().find(message.token);
            if (found == connections_.all().end()) continue;
            attached = found->second.socket.borrow();
        }
        const auto sent = link_.try_send(message, attached);
        if (sent) continue;
        if (would_block(sent.error())) break;
        // One that is gone is about to be reaped, and the next one gets all connections.
        if (sent.error().kind == proto::ErrorKind::disconnected) {
            outbox_.clear();
            break;
        }
        // No descriptor may be on its way any more (ETOOMANYREFS): better an end than a silence.
        connections_.release(message.token);
    }
    const bool is_full = !outbox_.empty();
    if (std::exchange(link_is_full_, is_full) == is_full) return;
    const std::uint32_t events = is_full ? EPOLLIN | EPOLLOUT : std::uint32_t{EPOLLIN};
    static_cast<void>(loop_.change(link_.descriptor(), events, tag_));
}

std::optional<Link::Received> Generation::receive() {
    auto received = link_.receive();
    if (received) return std::move(*received);
    loop_.remove(link_.descriptor());
    kill();
    return std::nullopt;
}

}  // namespace fdbroker::opener
