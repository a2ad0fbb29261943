#include "opener/generation.hpp"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <utility>

namespace fdbroker::opener {

using proto::BorrowedFd;
using proto::Result;

Result<std::unique_ptr<Generation>> Generation::start(GenerationOrders orders, ConnectionTable& connections,
                                                      EventLoop& loop, void* tag) {
    auto pair = Link::make();
    if (!pair) return std::unexpected(pair.error());
    auto journal = Journal::create();
    if (!journal) return std::unexpected(journal.error());
    std::unique_ptr<Generation> generation(new Generation(orders.number, std::move(pair->supervisor),
                                                          std::make_unique<Journal>(std::move(*journal)),
                                                          connections, loop, tag));
    if (auto added = loop.add(generation->link_.descriptor(), EPOLLIN, tag); !added)
        return std::unexpected(added.error());
    std::fflush(nullptr);
    generation->pid_ = ::fork();
    if (generation->pid_ < 0) return proto::system_error("fork");
    if (generation->pid_ == 0) run_generation({std::move(orders), pair->generation, *generation->journal_});
    return generation;
}

void Generation::kill() const noexcept {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
}

void Generation::activated(void* tag) {
    tag_ = tag;
    since_ = std::chrono::steady_clock::now();
    static_cast<void>(loop_.change(link_.descriptor(), EPOLLIN, tag_));
}

void Generation::post(const LinkMessage& message) {
    queue(message);
    send_queued();
}

void Generation::send_queued() {
    for (; !outbox_.empty(); outbox_.pop_front()) {
        BorrowedFd attached;
        const LinkMessage& message = outbox_.front();
        if (message.type == LinkType::adopt) {
            const auto found = connections_.all().find(message.token);
            if (found == connections_.all().end()) continue;
            attached = found->second.socket.borrow();
        }
        const auto sent = link_.try_send(message, attached);
        if (sent) continue;
        if (sent.error().errno_value == EAGAIN) break;
        // One that is gone is about to be reaped, and the next one gets all connections.
        if (sent.error().kind == proto::ErrorKind::disconnected) {
            outbox_.clear();
            break;
        }
        // No descriptor may be on its way any more (ETOOMANYREFS): better an end than a silence.
        if (attached) connections_.release(message.token);
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
