// SPDX-License-Identifier: MIT
#include "opener/policy_source/policy_snapshot.hpp"

#include <cstdint>
#include <string_view>
#include <utility>

#include "opener/base/memory_file.hpp"
#include "opener/base/packed_text.hpp"

namespace fdbroker::opener {

using proto::Result;

namespace {

// One behind the other (packed_text.hpp):
//
//   name, text of the policy; how many patterns; for each: pattern, how many files; for each: name, text;
//   how many users; for each: name, id or no_id; the same of groups;
//   how many accounts of the broker; for each: uid, gid, name, whether it changes

// Above every id: the account does not exist.
constexpr std::uint64_t no_id = std::uint64_t{1} << 32;

class PolicyWriter : public PackedWriter {
  public:
    void source(const policy::Source& source) {
        text(source.name);
        text(source.text);
    }
    void answers(const std::map<std::string, std::optional<std::uint32_t>>& answers) {
        number(answers.size());
        for (const auto& [name, id] : answers) {
            text(name);
            number(id ? *id : no_id);
        }
    }
};

class PolicyReader : public PackedReader {
  public:
    using PackedReader::PackedReader;

    policy::Source source() {
        std::string name = text();
        return {.name = std::move(name), .text = text()};
    }
    void answers(std::map<std::string, std::optional<std::uint32_t>>& answers) {
        for (std::uint64_t left = count(); left > 0; --left) {
            std::string name = text();
            const std::uint64_t id = number();
            answers[std::move(name)] =
                id < no_id ? std::optional(static_cast<std::uint32_t>(id)) : std::nullopt;
        }
    }
    BrokerAccount account() {
        BrokerAccount account;
        account.uid = static_cast<uid_t>(number());
        account.gid = static_cast<gid_t>(number());
        account.name = text();
        account.changes = number() != 0;
        return account;
    }
};

}  // namespace

Result<PolicySnapshot> PolicySnapshot::create() {
    auto file = make_memory_file("policy");
    if (!file) return std::unexpected(file.error());
    return PolicySnapshot(std::move(*file));
}

Result<void> PolicySnapshot::keep(const PolicyText& text) {
    PolicyWriter writer;
    writer.source(text.main);
    writer.number(text.fragments.size());
    for (const PolicyText::Fragments& fragments : text.fragments) {
        writer.text(fragments.pattern);
        writer.number(fragments.sources.size());
        for (const policy::Source& source : fragments.sources) writer.source(source);
    }
    writer.answers(text.accounts.users);
    writer.answers(text.accounts.groups);
    writer.number(text.broker_accounts.size());
    for (const BrokerAccount& account : text.broker_accounts) {
        writer.number(account.uid);
        writer.number(account.gid);
        writer.text(account.name);
        writer.number(account.changes ? 1 : 0);
    }
    if (auto written = write_all(file_.borrow(), std::as_bytes(std::span(writer.bytes()))); !written)
        return written;
    return seal(file_.borrow());
}

Result<PolicyText> PolicySnapshot::read() const {
    auto bytes = read_sealed(file_.borrow());
    if (!bytes) return std::unexpected(bytes.error());
    PolicyReader reader(*bytes);
    PolicyText text;
    text.main = reader.source();
    for (std::uint64_t patterns = reader.count(); patterns > 0; --patterns) {
        PolicyText::Fragments& fragments = text.fragments.emplace_back();
        fragments.pattern = reader.text();
        for (std::uint64_t files = reader.count(); files > 0; --files)
            fragments.sources.push_back(reader.source());
    }
    reader.answers(text.accounts.users);
    reader.answers(text.accounts.groups);
    for (std::uint64_t left = reader.count(); left > 0; --left)
        text.broker_accounts.push_back(reader.account());
    if (!reader.read_all()) return proto::system_error("the kept policy", {}, EINVAL);
    return text;
}

}  // namespace fdbroker::opener
