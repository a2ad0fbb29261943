// SPDX-License-Identifier: MIT
#include "policy/matching/glob.hpp"

namespace fdbroker::policy {
namespace {

enum class Code : char {
    literal,  // followed by a length byte and as many bytes
    any_byte,
    any_bytes,
    byte_class,  // followed by a bitmap of 32 bytes, lowest bit first
    variable,    // followed by the number of the variable
};

constexpr std::size_t bitmap_bytes = 256 / 8;
constexpr std::size_t max_run = 255;

std::uint8_t byte_at(std::string_view text, std::size_t index) noexcept {
    return static_cast<std::uint8_t>(text[index]);
}

std::size_t instruction_size(std::string_view program, std::size_t at) noexcept {
    switch (static_cast<Code>(program[at])) {
        case Code::literal:
            return 2U + byte_at(program, at + 1);
        case Code::byte_class:
            return 1 + bitmap_bytes;
        case Code::variable:
            return 2;
        case Code::any_byte:
        case Code::any_bytes:
            return 1;
    }
    return 1;
}

constexpr std::size_t no_match = std::string_view::npos;

// How many bytes at the head of `rest` the instruction at `at` (not any_bytes) takes, or no_match.
std::size_t take(std::string_view program, std::size_t at, std::string_view rest,
                 const PeerValues& values) noexcept {
    switch (static_cast<Code>(program[at])) {
        case Code::literal: {
            const std::string_view bytes = program.substr(at + 2, byte_at(program, at + 1));
            return rest.starts_with(bytes) ? bytes.size() : no_match;
        }
        case Code::any_byte:
            return rest.empty() ? no_match : 1U;
        case Code::byte_class: {
            if (rest.empty()) return no_match;
            const unsigned byte = byte_at(rest, 0);
            const unsigned bits = byte_at(program, at + 1 + byte / 8);
            return (bits >> (byte % 8) & 1U) != 0 ? 1U : no_match;
        }
        case Code::variable: {
            const std::string& value = values[byte_at(program, at + 1)];
            return !value.empty() && rest.starts_with(value) ? value.size() : no_match;
        }
        case Code::any_bytes:
            break;
    }
    return no_match;
}

}  // namespace

void Glob::append_literal(char byte) {
    const bool run = last_ != std::string::npos && static_cast<Code>(program_[last_]) == Code::literal &&
                     byte_at(program_, last_ + 1) < max_run;
    if (!run) {
        last_ = program_.size();
        program_ += static_cast<char>(Code::literal);
        program_ += '\0';
    }
    program_[last_ + 1] = static_cast<char>(byte_at(program_, last_ + 1) + 1);
    program_ += byte;
}

void Glob::append_any_byte() {
    literal_ = false;
    last_ = program_.size();
    program_ += static_cast<char>(Code::any_byte);
}

void Glob::append_any_bytes() {
    literal_ = false;
    last_ = program_.size();
    program_ += static_cast<char>(Code::any_bytes);
}

void Glob::append_class(const ByteSet& bytes) {
    literal_ = false;
    last_ = program_.size();
    program_ += static_cast<char>(Code::byte_class);
    program_.append(bitmap_bytes, '\0');
    for (std::size_t byte = 0; byte < bytes.size(); ++byte) {
        if (!bytes[byte]) continue;
        char& cell = program_[last_ + 1 + byte / 8];
        cell = static_cast<char>(static_cast<std::uint8_t>(cell) | 1U << (byte % 8));
    }
}

void Glob::append_variable(Variable variable) {
    literal_ = false;
    variable_ = true;
    last_ = program_.size();
    program_ += static_cast<char>(Code::variable);
    program_ += static_cast<char>(variable);
}

bool Glob::ends_with_any_bytes() const noexcept {
    return last_ != std::string::npos && static_cast<Code>(program_[last_]) == Code::any_bytes;
}

bool Glob::is_any_name() const noexcept {
    return program_.size() == 1 && ends_with_any_bytes();
}

std::string Glob::literal() const {
    std::string text;
    for (std::size_t at = 0; at < program_.size(); at += instruction_size(program_, at))
        text += std::string_view(program_).substr(at + 2, byte_at(program_, at + 1));
    return text;
}

std::vector<GlobStep> glob_steps(std::string_view program) {
    std::vector<GlobStep> steps;
    for (std::size_t at = 0; at < program.size(); at += instruction_size(program, at)) {
        switch (static_cast<Code>(program[at])) {
            case Code::literal:
                for (unsigned index = 0; index < byte_at(program, at + 1); ++index)
                    steps.emplace_back().bytes.set(byte_at(program, at + 2 + index));
                break;
            case Code::any_byte:
                steps.emplace_back().bytes.set();
                break;
            case Code::any_bytes:
                steps.push_back({.kind = GlobStep::Kind::any_bytes});
                break;
            case Code::byte_class: {
                ByteSet& bytes = steps.emplace_back().bytes;
                for (std::size_t byte = 0; byte < bytes.size(); ++byte)
                    bytes[byte] = (byte_at(program, at + 1 + byte / 8) >> (byte % 8) & 1) != 0;
                break;
            }
            case Code::variable:
                steps.push_back({.kind = GlobStep::Kind::variable,
                                 .variable = static_cast<Variable>(byte_at(program, at + 1))});
                break;
        }
    }
    return steps;
}

bool glob_has_variable(std::string_view program) noexcept {
    for (std::size_t at = 0; at < program.size(); at += instruction_size(program, at))
        if (static_cast<Code>(program[at]) == Code::variable) return true;
    return false;
}

std::string_view glob_prefix(std::string_view program) noexcept {
    if (program.empty() || static_cast<Code>(program[0]) != Code::literal) return {};
    return program.substr(2, byte_at(program, 1));
}

// Going back to the last `*` only is enough: an earlier one that took more would only leave less to match.
bool glob_matches(std::string_view program, std::string_view component, const PeerValues& values) noexcept {
    std::size_t at = 0;
    std::size_t position = 0;
    std::size_t after_star = no_match;  // the instruction after the last `*`
    std::size_t star_end = 0;           // where in the component that `*` ends for now
    while (true) {
        if (at == program.size()) {
            if (position == component.size()) return true;
        } else if (static_cast<Code>(program[at]) == Code::any_bytes) {
            ++at;
            if (at == program.size()) return true;
            // `*.key`, as most are: nothing has to be tried.
            if (static_cast<Code>(program[at]) == Code::literal &&
                at + instruction_size(program, at) == program.size())
                return component.substr(position).ends_with(program.substr(at + 2));
            after_star = at;
            star_end = position;
            continue;
        } else if (const std::size_t taken = take(program, at, component.substr(position), values);
                   taken != no_match) {
            at += instruction_size(program, at);
            position += taken;
            continue;
        }
        if (after_star == no_match || star_end == component.size()) return false;
        ++star_end;
        at = after_star;
        position = star_end;
    }
}

}  // namespace fdbroker::policy
