// SPDX-License-Identifier: MIT
#include "opener/policy_source/load_policy.hpp"

#include <fmt/format.h>
#include <sha2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/policy_source/policy_file.hpp"

namespace fdbroker::opener {

namespace {

class Digest {
  public:
    Digest() { ::SHA256Init(&state_); }
    void add(const policy::Source& source) {
        ::SHA256Update(&state_, reinterpret_cast<const std::uint8_t*>(source.text.data()),
                       source.text.size());
    }
    std::string text() {
        std::array<char, SHA256_DIGEST_STRING_LENGTH> digits;
        return ::SHA256End(&state_, digits.data());
    }

  private:
    SHA2_CTX state_{};
};

using Loaded = std::expected<LoadedPolicy, std::vector<policy::Diagnostic>>;

constexpr std::size_t max_tolerated_lines = 20;

Loaded load_from(const policy::Source& main, const policy::FragmentReader& read_fragments,
                 const AccountMemory& accounts, policy::LoadOptions options) {
    Digest digest;
    digest.add(main);
    const auto read = [&](const std::string& pattern) {
        auto sources = read_fragments(pattern);
        if (sources) std::ranges::for_each(*sources, [&](const auto& fragment) { digest.add(fragment); });
        return sources;
    };
    std::vector<policy::Diagnostic> tolerated;
    options.tolerated = &tolerated;
    auto policy = policy::load(main, read, accounts, options);
    if (!policy) return std::unexpected(std::move(policy.error()));
    return LoadedPolicy{std::move(*policy), digest.text(), std::move(tolerated)};
}

policy::FragmentReader recording(policy::FragmentReader reader, PolicyText& text) {
    return [reader = std::move(reader), &text](const std::string& pattern) {
        auto sources = reader(pattern);
        if (sources && std::ranges::find(text.fragments, pattern, &PolicyText::Fragments::pattern) ==
                           text.fragments.end()) {
            text.fragments.push_back({pattern, *sources});
        }
        return sources;
    };
}

}  // namespace

Loaded load_policy(const std::string& path, policy::UnknownAccounts unknown, PolicyText* text) {
    auto source = read_policy_file(path);
    if (!source) return std::unexpected(std::vector{std::move(source.error())});
    PolicyText unused;
    PolicyText& kept = text != nullptr ? *text : unused;
    kept.main = *source;
    const SystemAccounts database;
    return load_from(*source, recording(fragment_reader(path), kept), AccountMemory(kept.accounts, &database),
                     {.unknown_accounts = unknown});
}

Loaded load_policy(const PolicyText& text) {
    AccountAnswers answers = text.accounts;
    return load_from(
        text.main,
        [&text](const std::string& pattern) -> std::expected<std::vector<policy::Source>, std::string> {
            const auto found = std::ranges::find(text.fragments, pattern, &PolicyText::Fragments::pattern);
            if (found == text.fragments.end()) return std::unexpected(pattern + ": was not kept");
            return found->sources;
        },
        AccountMemory(answers),
        {.own_tests = policy::OwnTests::left_to_caller,
         .unknown_accounts = policy::UnknownAccounts::match_nobody});
}

void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics) {
    for (const policy::Diagnostic& diagnostic : diagnostics) log_stderr_plainly(diagnostic.what());
}

std::vector<std::string> tolerated_lines(const LoadedPolicy& loaded) {
    std::vector<std::string> lines;
    for (const policy::Diagnostic& diagnostic : loaded.tolerated) {
        if (lines.size() == max_tolerated_lines) {
            lines.push_back(fmt::format("{} more of this kind", loaded.tolerated.size() - lines.size()));
            break;
        }
        lines.push_back(diagnostic.what());
    }
    return lines;
}

}  // namespace fdbroker::opener
