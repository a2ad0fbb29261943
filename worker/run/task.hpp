// SPDX-License-Identifier: MIT
// A coroutine that answers one call of the program, or a part of it: it suspends where it waits for the broker.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

namespace fdbroker::worker {

// Runs when it is awaited, or started; owns its frame. Coroutines of this house do not throw.
template <typename T>
class [[nodiscard]] Task {
  public:
    struct promise_type {
        struct ResumeWaiting {
            bool await_ready() const noexcept { return false; }
            std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> done) const noexcept {
                const auto waiting = done.promise().waiting;
                return waiting ? waiting : std::noop_coroutine();
            }
            void await_resume() const noexcept {}
        };

        Task get_return_object() { return Task(std::coroutine_handle<promise_type>::from_promise(*this)); }
        std::suspend_always initial_suspend() const noexcept { return {}; }
        ResumeWaiting final_suspend() const noexcept { return {}; }
        void return_value(T result) { value = std::move(result); }
        void unhandled_exception() const noexcept { std::terminate(); }

        std::optional<T> value{};
        std::coroutine_handle<> waiting{};
    };

    Task(Task&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    Task& operator=(Task&& other) noexcept {
        std::swap(frame_, other.frame_);
        return *this;
    }
    ~Task() {
        if (frame_) frame_.destroy();
    }

    bool await_ready() const noexcept { return false; }
    std::coroutine_handle<> await_suspend(std::coroutine_handle<> waiting) noexcept {
        frame_.promise().waiting = waiting;
        return frame_;
    }
    T await_resume() { return std::move(*frame_.promise().value); }

    // Without anybody who awaits it: runs up to the first wait.
    void start() { frame_.resume(); }

  private:
    explicit Task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    std::coroutine_handle<promise_type> frame_;
};

}  // namespace fdbroker::worker
