// SPDX-License-Identifier: MIT
// A loaded policy and the one decision function that every part of fdbroker asks.
//
// decide() is pure: policy × peer × operations × path → decision. It does no I/O and allocates nothing. Its time grows
// with the path, not with the number of rules (except for patterns that begin with `**`).
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/matching/glob.hpp"
#include "policy/matching/operation.hpp"
#include "policy/matching/request_path.hpp"

namespace fdbroker::policy {

// Where something stands in a policy file; line and column count from 1. The name of the file lives as long as the
// policy.
struct Location {
    std::string_view file;
    unsigned line = 0;
    unsigned column = 0;
};

enum class Symlinks : std::uint8_t { refuse, follow };
enum class Delivery : std::uint8_t { descriptor, snapshot, stream };
enum class Reveal : std::uint8_t { eacces, enoent };

enum class FileType : std::uint8_t {
    regular,
    directory,
    fifo,
    socket,
    character_device,
    block_device,
    symlink
};

inline constexpr std::uint64_t any_links = UINT64_MAX;

// `files:` of a rule: what the object itself must be like. Checked on its descriptor, after the decision.
struct FileConditions {
    std::uint8_t types = 1U << static_cast<unsigned>(FileType::regular);  // bit per FileType
    // none: the rule does not say, and the opener's default holds. That is 1 for rules that let write, and for all rules
    // where users may link to files that are not theirs. `any` is any_links.
    std::optional<std::uint64_t> max_links;
    std::optional<std::uint64_t> max_size;  // bytes
    bool same_mount = false;
    bool peer_owns = false;               // "${user}" among owners
    std::vector<std::uint32_t> owners{};  // empty and not peer_owns: any owner

    bool allows(FileType type) const noexcept { return (types >> static_cast<unsigned>(type) & 1U) != 0; }
};

// `create:` of a rule: what files and directories that are created look like.
struct Creation {
    std::uint32_t mode = 0640;           // the mode of files; no set-id bits
    std::optional<std::uint32_t> owner;  // none: the peer
    std::optional<std::uint32_t> group;  // none: the peer's primary group
    bool parents = false;                // missing directories that the rule covers are made as well

    // Directories may also be searched by whoever may read them: 0750 for 0640.
    std::uint32_t directory_mode() const noexcept { return mode | (mode & 0444U) >> 2; }
};

// A chosen rule as the broker sees it. Lives as long as the Policy.
struct Rule {
    std::string name;
    Location location;
    bool allows = false;  // else it denies
    OperationSet operations;
    Symlinks symlinks = Symlinks::refuse;
    Delivery delivery = Delivery::descriptor;
    Reveal reveal = Reveal::eacces;
    FileConditions files{};
    Creation create{};
    bool rename_directories = false;
    bool ancestors = false;  // stat: the directories that lead to its paths say that they are directories
    std::chrono::milliseconds deadline{5000};
};

// The process that connected, as the kernel vouches for it.
struct PeerIdentity {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups{};  // supplementary, in any order
    std::string user{};                   // empty: the uid has no name
    std::string group{};                  // the name of gid; empty: none
    std::string listener{};               // name of the listening socket, or of the pool of workers
};

class Policy;

// A peer as one policy sees it: the roles it holds, the values of ${user} and its like. Made once per connection
// and policy by Policy::identify(); must not be used with another Policy.
class Peer {
  public:
    const PeerIdentity& identity() const noexcept { return identity_; }
    // The values of ${user}, ${uid}, ${group} and ${gid}; empty where nothing matches.
    const PeerValues& values() const noexcept { return values_; }
    bool holds(std::size_t role) const noexcept { return (roles_[role / 64] >> (role % 64) & 1U) != 0; }
    std::vector<std::string_view> role_names(const Policy& policy) const;

  private:
    friend class Policy;
    PeerIdentity identity_{};
    std::vector<std::uint64_t> roles_{};  // bit per role of the policy
    PeerValues values_{};
};

// The right to carry out a request all of whose operations are granted. Only decide() makes a Grant, and only a Grant can be
// resolved. Borrows the policy and the path.
class Grant {
  public:
    RequestPath path() const noexcept { return path_; }
    OperationSet operations() const noexcept { return operations_; }
    // The rules that granted the operations, without repetition, 1 to operation_count; all of their
    // `files`, `symlinks` and `deadline` must hold.
    std::span<const Rule* const> rules() const noexcept { return {rules_.data(), rule_count_}; }
    // The one whose `create` and `deliver` count: that which granted create, else write, append, read,
    // else the first.
    const Rule& rule() const noexcept { return *leading_; }
    // Only stat is granted, and the answer is that the path is a directory: nothing is looked at on disk.
    bool is_ancestor() const noexcept { return is_ancestor_; }

  private:
    friend class Policy;
    explicit Grant(RequestPath path) noexcept : path_(path) {}
    RequestPath path_;
    OperationSet operations_{};
    const Rule* leading_ = nullptr;
    std::array<const Rule*, operation_count> rules_{};
    std::uint8_t rule_count_ = 0;
    bool is_ancestor_ = false;
};

struct Refusal {
    // The deny rule that matched; null: no rule allows `missing`.
    const Rule* denied_by = nullptr;
    // The operations that nothing grants (without a deny rule), or that the deny rule covers.
    OperationSet operations{};
    // The errno that the peer is told: EACCES or ENOENT.
    int errno_value = 0;
};

using Decision = std::expected<Grant, Refusal>;

// A directory that allow rules name literally: the part of a pattern before its first component that is
// not literal, or the directory of an exact path. What the broker is confined to is made of these.
struct Directory {
    std::string path;
    OperationSet operations;     // the union over all allow rules that name it
    bool devices = false;        // a rule's files.types has a device
    bool create_owners = false;  // a rule creates here: what is created is given to its owner (needs CHOWN)
    bool snapshots = false;      // a rule delivers copies of what is here
    bool streams = false;        // a rule delivers it through pipes
    bool makes_parents = false;  // a rule makes missing directories on the way of what it creates
};

struct Rate {
    std::uint64_t rate = 0;   // a second
    std::uint64_t burst = 0;  // at once, after a pause
};

struct Limits {
    unsigned connections = 64;  // per uid
    unsigned connections_total = 4096;
    std::optional<Rate> requests_per_second;  // per uid; none: unlimited
    // Per uid: bytes of snapshots, which are memory of the peers' that nobody can count once it is theirs.
    Rate snapshot_bytes_per_second{.rate = std::uint64_t{32} << 20, .burst = std::uint64_t{256} << 20};
    // Per uid: bytes of audit records. A uid above that is not read for a while.
    Rate record_bytes_per_second{.rate = std::uint64_t{16} << 20, .burst = std::uint64_t{256} << 20};
    std::chrono::milliseconds reply_timeout{
        60'000};  // how long replies that keep others waiting may be left unread
    // How long the broker may look for a next request without sleeping; 0: never.
    std::chrono::microseconds busy_poll{20};
    std::chrono::milliseconds stream_idle{60'000};  // how long a stream may be neither read nor written
};

struct AuditSettings {
    bool refused = true;
    bool allowed = true;
    bool refuse_unrecorded = true;  // on_failure: refuse | allow
    std::uint64_t max_size = std::uint64_t{64}
                             << 20;  // bytes after which the log's file is rotated; 0: never
    unsigned keep = 8;               // rotated files that are kept, at least 1
};

class Policy {
  public:
    Policy(Policy&&) noexcept;
    Policy& operator=(Policy&&) noexcept;
    ~Policy();

    Peer identify(PeerIdentity identity) const;
    Decision decide(const Peer& peer, OperationSet operations, RequestPath path) const noexcept;

    std::span<const Rule> rules() const noexcept;
    std::span<const std::string> role_names() const noexcept;
    const std::vector<Directory>& directories() const noexcept;  // sorted by path, each once
    const Limits& limits() const noexcept;
    const AuditSettings& audit() const noexcept;

    // The grant of a stat that no rule allows, of a directory that leads to the paths of one with `ancestors: stat`.
    std::optional<Grant> ancestor(const Peer& peer, OperationSet operations, RequestPath path) const noexcept;

    struct Compiled;  // the matcher; policy/ only
    explicit Policy(std::unique_ptr<const Compiled> compiled) noexcept;
    const Compiled& compiled() const noexcept { return *compiled_; }

  private:
    std::unique_ptr<const Compiled> compiled_;
};

}  // namespace fdbroker::policy
