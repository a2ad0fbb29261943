// SPDX-License-Identifier: MIT
// What the C functions of fdbroker.h have in common.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "worker/client/c_api.hpp"
#include "worker/client/connection.hpp"

struct fdbroker_handle {
    fdbroker_handle(fdbroker::proto::UniqueFd socket, std::uint32_t first_id)
        : connection(std::move(socket), first_id) {}
    fdbroker::worker::Connection connection;
    // The address it was connected to, for fdbroker_reconnect(); empty: an inherited socket, or no broker.
    std::string address{};
    unsigned flags = 0;
    // The thread that is in a call; 0: none is.
    std::atomic<pthread_t> user{0};
};

namespace fdbroker::worker {

// Nothing but a lack of memory throws here.
template <typename Body>
auto guarded(Body body) noexcept -> decltype(body()) {
    try {
        return body();
    } catch (...) {
        return -ENOMEM;
    }
}

// A call of this thread on a connection, which no other thread may be in. A call inside a call of the same thread is fine.
class Use {
  public:
    explicit Use(fdbroker_handle& broker) noexcept : user_(broker.user) {
        const pthread_t self = ::pthread_self();
        pthread_t none = 0;
        is_first_ = user_.compare_exchange_strong(none, self, std::memory_order_acquire);
        is_ours_ = is_first_ || none == self;
        refused_by = is_ours_ ? nullptr : &broker;
    }
    ~Use() {
        if (is_first_) user_.store(0, std::memory_order_release);
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    explicit operator bool() const noexcept { return is_ours_; }

    // The connection that this thread was last refused, as long as it has been in no other.
    static thread_local const fdbroker_handle* refused_by;

  private:
    std::atomic<pthread_t>& user_;
    bool is_first_ = false;
    bool is_ours_ = false;
};

// The same for what a program asks of a connection, so that the reason is that of this call.
template <typename Body>
auto guarded(fdbroker_handle* broker, Body body) noexcept -> decltype(body(broker->connection)) {
    const Use use(*broker);
    if (!use) return -EBUSY;
    try {
        return body(broker->connection);
    } catch (...) {
        return broker->connection.refuse(ENOMEM, "no memory is left");
    }
}

// An argument that must not be NULL is.
inline int fault(fdbroker_handle* broker) {
    if (broker == nullptr) return -EFAULT;
    return guarded(broker,
                   [](Connection& connection) { return connection.refuse(EFAULT, "an argument is NULL"); });
}

// The connection on that socket greets the broker and becomes a handle; 0 or a negative errno, and why.
int make_handle(fdbroker_handle** out, proto::UniqueFd socket, std::function<void()> serve_peer,
                std::string& why);
// fdbroker_connect_flags() with the reason in words.
int connect(fdbroker_handle** out, const char* address, unsigned flags, std::string& why);
// A handle on a socket that has greeted the broker as that of `other` has.
std::unique_ptr<fdbroker_handle> handle_like(const fdbroker_handle& other, int socket);

// Structs that programs hand in, each of which begins with its size.
//
// 0 when a struct of `given` bytes can be read as one of T, whose first version had `least` bytes: -EINVAL: it is none;
// -E2BIG: something is set in it that this version does not know.
template <typename T>
int check_size(const T* from, std::size_t given, std::size_t least) {
    // A size that was never set must not lead past the struct.
    constexpr std::size_t most = 4096;
    if (given < least || given > most || given % alignof(T) != 0) return -EINVAL;
    const auto* bytes = reinterpret_cast<const char*>(from);
    for (std::size_t at = sizeof(T); at < given; ++at)
        if (bytes[at] != 0) return -E2BIG;
    return 0;
}

// That struct as this version has it. check_size() has been 0.
template <typename T>
T read_sized(const T* from, std::size_t given) {
    T value{};
    std::memcpy(&value, from, std::min(given, sizeof value));
    return value;
}

// Struct number `index` of an array whose structs have `size` bytes each.
template <typename T>
T* element(T* first, std::size_t size, std::size_t index) {
    using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
    return reinterpret_cast<T*>(reinterpret_cast<Byte*>(first) + size * index);
}

// Reports the fault that check_size() found, with the reason.
int refuse_size(Connection& connection, int error);

// Checks an array of requests; the size of each of them to `size`.
int check_requests(Connection& connection, const fdbroker_request* requests, std::size_t count,
                   std::size_t& size);

}  // namespace fdbroker::worker
