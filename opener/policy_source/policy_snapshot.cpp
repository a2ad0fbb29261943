// SPDX-License-Identifier: MIT
#include "opener/policy_source/policy_snapshot.hpp"

#include <sys/stat.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "opener/base/memory_file.hpp"

using nlohmann::json;

// An account that does not exist is null.
template <>
struct nlohmann::adl_serializer<std::optional<std::uint32_t>> {
    static void to_json(json& to, const std::optional<std::uint32_t>& id) { to = id ? json(*id) : json(); }
    static void from_json(const json& from, std::optional<std::uint32_t>& id) {
        id = from.is_null() ? std::nullopt : std::optional(from.get<std::uint32_t>());
    }
};

namespace fdbroker::policy {
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Source, name, text)
}  // namespace fdbroker::policy

namespace fdbroker::opener {

using proto::Result;

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(AccountAnswers, users, groups)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(BrokerAccount, uid, gid, name, changes)

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PolicyText::Fragments, pattern, sources)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(PolicyText, main, fragments, accounts, broker_accounts)

Result<PolicySnapshot> PolicySnapshot::create() {
    auto file = make_memory_file("policy");
    if (!file) return std::unexpected(file.error());
    return PolicySnapshot(std::move(*file));
}

// CBOR, since a file's name may hold any bytes.
Result<void> PolicySnapshot::keep(const PolicyText& text) {
    const auto bytes = json::to_cbor(json(text));
    if (auto written = write_all(file_.borrow(), std::as_bytes(std::span(bytes))); !written) return written;
    return seal(file_.borrow());
}

Result<std::uint64_t> PolicySnapshot::size() const {
    struct stat status{};
    if (::fstat(file_.number(), &status) != 0) return proto::system_error("the policy snapshot");
    return static_cast<std::uint64_t>(status.st_size);
}

Result<PolicyText> PolicySnapshot::read() const {
    const auto bytes = read_sealed(file_.borrow());
    if (!bytes) return std::unexpected(bytes.error());
    try {
        return json::from_cbor(*bytes).get<PolicyText>();
    } catch (const json::exception& error) {
        return proto::system_error("the policy snapshot", error.what(), EINVAL);
    }
}

}  // namespace fdbroker::opener
