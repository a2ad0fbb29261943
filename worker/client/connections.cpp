// SPDX-License-Identifier: MIT
#include "worker/client/connections.hpp"

#include <pthread.h>

#include <algorithm>

namespace fdbroker::worker {

Connections::Connections() {
    ::pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

Connections& Connections::all() {
    // Never destroyed: a connection may be closed after the last destructor has run.
    static auto* const connections = new Connections;
    return *connections;
}

void Connections::add(fdbroker_handle& broker) {
    const std::scoped_lock lock(mutex_);
    list_.push_back(&broker);
}

void Connections::remove(fdbroker_handle& broker) noexcept {
    const std::scoped_lock lock(mutex_);
    std::erase(list_, &broker);
}

void Connections::add(AfterFork& pool) {
    const std::scoped_lock lock(mutex_);
    pools_.push_back(&pool);
}

void Connections::remove(AfterFork& pool) noexcept {
    const std::scoped_lock lock(mutex_);
    std::erase(pools_, &pool);
}

bool Connections::has_socket(int number) {
    const std::scoped_lock lock(mutex_);
    return std::ranges::any_of(list_, [number](const fdbroker_handle* broker) {
        return broker->connection.socket().number() == number;
    });
}

std::vector<proto::BorrowedFd> Connections::descriptors() {
    const std::scoped_lock lock(mutex_);
    std::vector<proto::BorrowedFd> all;
    const auto take = [&all](const std::vector<proto::BorrowedFd>& more) {
        all.insert(all.end(), more.begin(), more.end());
    };
    for (const fdbroker_handle* broker : list_) take(broker->connection.descriptors());
    for (const AfterFork* pool : pools_) take(pool->descriptors());
    return all;
}

void Connections::before_fork() {
    all().mutex_.lock();
}

void Connections::after_fork_in_parent() {
    all().mutex_.unlock();
}

void Connections::after_fork_in_child() {
    for (AfterFork* pool : all().pools_) pool->forked();
    for (fdbroker_handle* broker : all().list_) {
        broker->connection.abandon();
        // A thread that was in a call is not in the child; that of the fork is, and may have forked inside one.
        if (broker->user.load(std::memory_order_relaxed) != ::pthread_self())
            broker->user.store(0, std::memory_order_relaxed);
    }
    all().mutex_.unlock();
}

}  // namespace fdbroker::worker
