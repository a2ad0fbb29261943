// SPDX-License-Identifier: MIT
// Any bytes as a policy file, included by itself as a fragment: the loader returns a policy or errors that have a
// place and print.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "policy/language/loader.hpp"

namespace {

using namespace fdbroker::policy;

class Everyone : public Accounts {
  public:
    std::optional<std::uint32_t> uid_of(const std::string& user) const override { return user.size(); }
    std::optional<std::uint32_t> gid_of(const std::string& group) const override { return group.size(); }
};

void require(bool condition) {
    if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto fragments = [&](const std::string&) { return std::vector<Source>{{"fragment", text}}; };
    const auto policy = load({"policy", text}, fragments, Everyone());
    if (policy) {
        for (const Rule& rule : policy->rules()) require(!rule.operations.empty() && !rule.name.empty());
        return 0;
    }
    require(!policy.error().empty());
    for (const Diagnostic& diagnostic : policy.error()) {
        require(!diagnostic.text.empty() && !diagnostic.file.empty());
        for (const char byte : diagnostic.what())
            require(static_cast<unsigned char>(byte) >= 0x20 && byte != 0x7f);
    }
    return 0;
}
