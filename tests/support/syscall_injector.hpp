// SPDX-License-Identifier: MIT
// Makes another process execute system calls of the test's choice, as a debugger would: what code that has taken
// it over could do, without a test-only build.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

namespace fdbroker::test {

// An argument of a system call: a number, or bytes that are written to the process's stack and passed by address.
class InjectedArgument {
  public:
    template <typename Integer>
        requires(std::is_integral_v<Integer> || std::is_enum_v<Integer>)
    InjectedArgument(Integer number) : value_(static_cast<long>(number)) {}
    InjectedArgument(const char* text) : value_(std::string(text) + '\0') {}
    InjectedArgument(const std::string& text) : value_(text + '\0') {}
    // The bytes of a structure.
    static InjectedArgument bytes_of(const auto& object) {
        InjectedArgument argument(0);
        argument.value_ = std::string(reinterpret_cast<const char*>(&object), sizeof object);
        return argument;
    }

  private:
    friend class SyscallInjector;
    std::variant<long, std::string> value_;
};

// Attached to one thread while it lives. Calls are executed at the process's own `syscall` instruction,
// instead of the call that the thread waits in or makes next. The thread makes that call again when the injector goes.
// Needs the right to trace the process. Everything blocks until the process makes a system call. Errors are exceptions
// (std::runtime_error).
class SyscallInjector {
  public:
    // x86-64 only.
    static bool is_supported() noexcept;

    explicit SyscallInjector(pid_t pid);
    SyscallInjector(const SyscallInjector&) = delete;
    SyscallInjector& operator=(const SyscallInjector&) = delete;
    ~SyscallInjector();

    // Returns the kernel's result: a negative errno on failure. Throws when the call ends the process.
    long call(long number, std::initializer_list<InjectedArgument> arguments = {});

  private:
    enum class Place { before_call, after_call };

    void go_to_next_stop();
    unsigned long put_on_stack(std::string_view bytes, unsigned long& top) const;

    pid_t pid_;
    Place place_ = Place::before_call;
    std::string registers_{};  // user_regs_struct at the process's own call
};

}  // namespace fdbroker::test
