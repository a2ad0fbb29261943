#include "opener/load_policy.hpp"

#include <utility>

#include "opener/accounts.hpp"
#include "opener/policy_file.hpp"
#include "opener/say.hpp"

namespace fdbroker::opener {

std::expected<policy::Policy, std::vector<policy::Diagnostic>> load_policy(const std::string& path) {
    auto source = read_policy_file(path);
    if (!source) return std::unexpected(std::vector{std::move(source.error())});
    return policy::load(*source, fragment_reader(path), SystemAccounts{});
}

void print_diagnostics(const std::vector<policy::Diagnostic>& diagnostics) {
    for (const policy::Diagnostic& diagnostic : diagnostics) say_plainly(diagnostic.what());
}

}  // namespace fdbroker::opener
