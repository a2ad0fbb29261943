// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h for pools of connections.
#include <memory>

#include "worker/client/handle.hpp"
#include "worker/client/pool.hpp"

struct fdbroker_pool {
    std::unique_ptr<fdbroker::worker::Pool> pool;
};

using namespace fdbroker::worker;

fdbroker_pool* fdbroker_pool_new(const char* address, unsigned count) {
    return fdbroker_pool_new_flags(address, count, 0);
}

fdbroker_pool* fdbroker_pool_new_flags(const char* address, unsigned count, unsigned flags) {
    fdbroker_pool* made = nullptr;
    const int error = guarded([&] {
        int failed = 0;
        auto pool = Pool::make(address, count, flags, failed);
        if (pool) made = new fdbroker_pool{.pool = std::move(pool)};
        return failed;
    });
    if (error < 0) errno = -error;
    return made;
}

int fdbroker_pool_get(fdbroker_pool* pool, fdbroker_handle** broker, int timeout) {
    if (broker != nullptr) *broker = nullptr;
    if (pool == nullptr || broker == nullptr) return -EFAULT;
    return guarded([&] { return pool->pool->get(broker, timeout); });
}

int fdbroker_pool_put(fdbroker_pool* pool, fdbroker_handle* broker) {
    if (pool == nullptr || broker == nullptr) return -EFAULT;
    return guarded([&] { return pool->pool->put(broker); });
}

void fdbroker_pool_free(fdbroker_pool* pool) {
    delete pool;
}
