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

// 0: the message is about no connection.
ConnectionId connection_of(const ToGeneration& message) noexcept {
    return std::visit(
        [](const auto& each) -> ConnectionId {
            if constexpr (requires { each.connection_id; }) return each.connection_id;
            return 0;
        },
        message);
}

bool hands_connection(const ToGeneration& message) noexcept {
    return std::holds_alternative<to_generation::Adopt>(message) ||
           std::holds_alternative<to_generation::AdoptControl>(message);
}

}  // namespace

Generation::Generation(std::uint32_t number, Parts parts, ConnectionTable& connections, EventLoop& loop,
                       Hooks hooks)
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
      hooks_(std::move(hooks)) {}

Result<Generation::Parts> Generation::make_parts(const GenerationOrders& orders, SupervisorLink link,
                                                 UniqueFd changes, ChildOutput output) {
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
                                                      EventLoop& loop, Hooks hooks) {
    auto pair = make_link();
    if (!pair) return std::unexpected(pair.error());
    int changes[2];
    if (::pipe2(changes, O_CLOEXEC | O_NONBLOCK) != 0) return proto::system_error("pipe2");
    UniqueFd changes_read(changes[0]);
    const UniqueFd changes_write(changes[1]);
    auto output = ChildOutput::make();
    if (!output) return std::unexpected(output.error());
    auto parts =
        make_parts(orders, std::move(pair->supervisor), std::move(changes_read), std::move(output->output));
    if (!parts) return std::unexpected(parts.error());
    std::unique_ptr<Generation> generation(
        new Generation(orders.number, std::move(*parts), connections, loop, std::move(hooks)));
    if (auto watching = generation->watch(); !watching) return std::unexpected(watching.error());
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
}

Result<void> Generation::watch() {
    const auto hear = [this, spoke = hooks_.spoke](Events events) {
        if (has(events, Events::writable)) send_queued();
        spoke(*this);
    };
    auto link = loop_.watch(link_.descriptor(), Events::readable, hear);
    if (!link) return std::unexpected(link.error());
    auto output = loop_.watch(output_.descriptor(), Events::readable, hear);
    if (!output) return std::unexpected(output.error());
    link_source_ = std::move(*link);
    output_source_ = std::move(*output);
    return {};
}

void Generation::activated() {
    // The supervisor takes records after each turn of the loop, which this ends.
    if (ring_)
        ring_source_ = loop_.watch(ring_->wakeup(), Events::readable, [](Events) {}).value_or(Source());
    since_ = std::chrono::steady_clock::now();
    // Bytes that peers send may take it over from now on.
    output_.bound();
    changes_source_ = loop_
                          .watch(changes_.borrow(), Events::readable,
                                 [changed = hooks_.directories_changed](Events) { changed(); })
                          .value_or(Source());
}

void Generation::handed_over() {
    changes_source_.end();
    changes_.reset();
}

Generation::Directories Generation::directories() {
    if (!changes_) return Directories::unknown;
    // More than one change is told of as one.
    std::array<char, 256> changes;
    const ssize_t size = ::read(changes_.number(), changes.data(), changes.size());
    if (size > 0) return Directories::changed;
    if (size < 0) return Directories::same;
    changes_source_.end();
    changes_.reset();
    return Directories::unknown;
}

void Generation::copy_output() {
    if (output_.descriptor() && !output_.copy(max_output_per_turn)) finish_output();
}

void Generation::finish_output() {
    if (!output_.descriptor()) return;
    output_source_.end();
    output_.finish();
}

void Generation::post(const ToGeneration& message, SharedFile file) {
    queue(message, std::move(file));
    send_queued();
}

void Generation::send_queued() {
    for (; !outbox_.empty(); outbox_.pop_front()) {
        const auto& [message, file] = outbox_.front();
        BorrowedFd attached = file ? file->borrow() : BorrowedFd();
        if (hands_connection(message)) {
            const Connection* const connection = connections_.find(connection_of(message));
            if (connection == nullptr) continue;
            attached = connection->socket.borrow();
        }
        const auto sent = link_.try_send(message, attached);
        if (sent) continue;
        if (would_block(sent.error())) break;
        // A generation that is gone is about to be reaped, and the next one gets all connections.
        if (sent.error().kind == proto::ErrorKind::disconnected) {
            outbox_.clear();
            break;
        }
        // No descriptor may be on its way any more (ETOOMANYREFS): better an end than a silence.
        connections_.release(connection_of(message));
    }
    static_cast<void>(
        link_source_.set(outbox_.empty() ? Events::readable : Events::readable | Events::writable));
}

std::optional<SupervisorLink::Received> Generation::receive() {
    auto received = link_.receive();
    if (received) return std::move(*received);
    link_source_.end();
    kill();
    return std::nullopt;
}

}  // namespace fdbroker::opener
