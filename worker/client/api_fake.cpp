// SPDX-License-Identifier: MIT
// The C functions of fdbroker.h for a broker inside the process.
#include <sys/socket.h>

#include <array>
#include <memory>

#include "worker/client/fake_broker.hpp"
#include "worker/client/handle.hpp"

struct fdbroker_fake {
    std::unique_ptr<fdbroker::worker::FakeBroker> broker;
};

using namespace fdbroker::worker;
using fdbroker::proto::UniqueFd;

int fdbroker_fake_new(fdbroker_fake** fake, const char* root) {
    if (fake == nullptr) return -EFAULT;
    *fake = nullptr;
    return guarded([&] {
        auto made = FakeBroker::make(root == nullptr ? "" : root);
        if (!made) return -made.error().errno_value;
        *fake = new fdbroker_fake{.broker = std::move(*made)};
        return 0;
    });
}

void fdbroker_fake_free(fdbroker_fake* fake) {
    delete fake;
}

int fdbroker_fake_connect(fdbroker_fake* fake, fdbroker_handle** broker) {
    if (fake == nullptr || broker == nullptr) return -EFAULT;
    *broker = nullptr;
    return guarded([&] {
        std::array<int, 2> ends{};
        if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) return -errno;
        auto peer = std::make_shared<FakePeer>();
        peer->socket = UniqueFd(ends[1]);
        std::string why;
        return make_handle(
            broker, UniqueFd(ends[0]), [served = fake->broker.get(), peer] { served->serve(*peer); }, why);
    });
}

int fdbroker_fake_file(fdbroker_fake* fake, const char* path, const void* content, size_t size) {
    if (fake == nullptr || path == nullptr || (content == nullptr && size != 0)) return -EFAULT;
    return guarded([&] {
        const int result =
            fake->broker->write(path, {static_cast<const char*>(content), content == nullptr ? 0 : size});
        fake->broker->look();
        return result;
    });
}

int fdbroker_fake_fail(fdbroker_fake* fake, const char* path, int error, const char* reason, unsigned times) {
    if (fake == nullptr) return -EFAULT;
    if (error < 0 || error > fdbroker::proto::max_errno) return -EINVAL;
    return guarded([&] {
        fake->broker->fail(path == nullptr ? "" : path, error, reason == nullptr ? "" : reason, times);
        return 0;
    });
}
