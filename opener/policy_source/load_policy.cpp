// SPDX-License-Identifier: MIT
#include "opener/policy_source/load_policy.hpp"

#include <sha2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/identity/accounts.hpp"
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

Loaded load_from(const policy::Source& main, const policy::FragmentReader& read_fragments) {
    Digest digest;
    digest.add(main);
    const auto read = [&](const std::string& pattern) {
        auto sources = read_fragments(pattern);
        if (sources) std::ranges::for_each(*sources, [&](const auto& fragment) { digest.add(fragment); });
        return sources;
    };
    auto policy = policy::load(main, read, SystemAccounts{});
    if (!policy) return std::unexpected(std::move(policy.error()));
    return LoadedPolicy{std::move(*policy), digest.text()};
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

Loaded load_policy(const std::string& path, PolicyText* text) {
    auto source = read_policy_file(path);
    if (!source) return std::unexpected(std::vector{std::move(source.error())});
    if (text == nullptr) return load_from(*source, fragment_reader(path));
    text->main = *source;
    return load_from(*source, recording(fragment_reader(path), *text));
}

Loaded load_policy(const PolicyText& text) {
    return load_from(
        text.main,
        [&text](const std::string& pattern) -> std::expected<std::vector<policy::Source>, std::string> {
            const auto found = std::ranges::find(text.fragments, pattern, &PolicyText::Fragments::pattern);
            if (found == text.fragments.end()) return std::unexpected(pattern + ": was not kept");
            return found->sources;
        });
}

void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics) {
    for (const policy::Diagnostic& diagnostic : diagnostics) log_stderr_plainly(diagnostic.what());
}

}  // namespace fdbroker::opener
