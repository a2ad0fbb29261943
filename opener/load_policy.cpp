#include "opener/load_policy.hpp"

#include <sha2.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "opener/accounts.hpp"
#include "opener/policy_file.hpp"
#include "opener/say.hpp"

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

}  // namespace

std::expected<LoadedPolicy, std::vector<policy::Diagnostic>> load_policy(const std::string& path) {
    auto source = read_policy_file(path);
    if (!source) return std::unexpected(std::vector{std::move(source.error())});
    Digest digest;
    digest.add(*source);
    const auto read = [&digest, fragments = fragment_reader(path)](const std::string& pattern) {
        auto sources = fragments(pattern);
        if (sources) std::ranges::for_each(*sources, [&](const auto& fragment) { digest.add(fragment); });
        return sources;
    };
    auto policy = policy::load(*source, read, SystemAccounts{});
    if (!policy) return std::unexpected(std::move(policy.error()));
    return LoadedPolicy{std::move(*policy), digest.text()};
}

void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics) {
    for (const policy::Diagnostic& diagnostic : diagnostics) say_plainly(diagnostic.what());
}

}  // namespace fdbroker::opener
