// SPDX-License-Identifier: MIT
#include "opener/confinement/confinement.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "opener/confinement/ask_child.hpp"
#include "opener/confinement/capability_names.hpp"
#include "opener/confinement/close_descriptors.hpp"
#include "opener/confinement/kernel_calls.hpp"
#include "opener/confinement/landlock.hpp"
#include "opener/confinement/private_root.hpp"
#include "opener/confinement/privileges.hpp"
#include "opener/confinement/seccomp_filter.hpp"
#include "opener/confinement/source_directory.hpp"
#include "proto/channel.hpp"

namespace fdbroker::opener {

namespace {

using proto::BorrowedFd;
using proto::Result;
using proto::UniqueFd;
using Json = nlohmann::json;

constexpr std::string_view no_obstacle = "none";

Result<void> check_preconditions() {
    // Without effect on a process with one thread, EINVAL with more: unshare(2).
    if (::unshare(CLONE_THREAD) != 0 && errno == EINVAL) {
        return proto::system_error("confinement", "the process has more than one thread");
    }
    const UniqueFd root(kernel::openat2(AT_FDCWD, "/", O_PATH | O_CLOEXEC, RESOLVE_NO_SYMLINKS));
    if (!root) return proto::system_error("openat2", "needed to resolve any path; Linux 5.6 has it");
    return {};
}

// Why this process cannot have a private root; empty: it can. Tried out in a child, because a process that failed
// on the way there is nowhere to go on from.
Result<std::string> why_no_private_root(const BrokerAccount& account) {
    ConfinementPlan empty;
    empty.account = account;
    auto answer = ask_child([&](BorrowedFd) {
        const auto entered = enter_private_root(empty);
        if (!entered) return entered.error().message();
        // An empty plan does without this.
        const UniqueFd copy(kernel::open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
        return copy ? std::string(no_obstacle) : proto::system_error("open_tree").error().message();
    });
    if (answer && *answer == no_obstacle) answer->clear();
    return answer;
}

Result<std::vector<BoundDirectory>> open_in_place(const ConfinementPlan& plan, BorrowedFd root) {
    std::vector<BoundDirectory> directories;
    for (const PlannedDirectory& planned : plan.directories) {
        BoundDirectory directory;
        directory.path = planned.path;
        directory.stands_for = planned.stands_for;
        if (planned.silent) {
            directory.errno_value = ETIMEDOUT;
            directories.push_back(std::move(directory));
            continue;
        }
        auto source = open_source_directory(root, planned.path);
        if (!source) return std::unexpected(source.error());
        take(directory, std::move(*source));
        directory.opens_devices = true;
        if (directory.fd) {
            if (const auto inspected = inspect_directory(directory); !inspected) {
                return std::unexpected(inspected.error());
            }
        }
        directories.push_back(std::move(directory));
    }
    return directories;
}

// Capabilities of the plan that this process does not have to begin with, in a container for instance.
std::string lacking(std::uint64_t wanted, std::uint64_t permitted) {
    const std::string names = capability_names(wanted & ~permitted);
    return names.empty() ? "" : "without " + names + ", which this process does not have";
}

void append(std::string& text, std::string_view more) {
    if (!text.empty() && !more.empty()) text += "; ";
    text += more;
}

// The steps of confine(), in their order.
class Confining {
  public:
    Confining(const ConfinementPlan& plan, const BeforeFilter& before_filter)
        : plan_(plan), before_filter_(before_filter) {}

    Result<void> limit() {
        // First, because Landlock asks for it of who is not root.
        if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
            return proto::system_error("prctl", "PR_SET_NO_NEW_PRIVS");
        }
        auto shortcoming = set_limits();
        if (!shortcoming) return std::unexpected(shortcoming.error());
        rlimit descriptors{};
        if (::getrlimit(RLIMIT_NOFILE, &descriptors) != 0) {
            return proto::system_error("getrlimit", "RLIMIT_NOFILE");
        }
        confined_.max_descriptors = descriptors.rlim_cur;
        enforced(Layer::limits, std::move(*shortcoming));
        return {};
    }

    Result<void> hide_the_filesystem() {
        auto obstacle = why_no_private_root(plan_.account);
        if (!obstacle) return std::unexpected(obstacle.error());
        if (!obstacle->empty()) {
            confined_.report[Layer::private_root].detail = std::move(*obstacle);
            return stay_in_place();
        }
        auto root = enter_private_root(plan_);
        if (!root) return std::unexpected(root.error());
        confined_.directories = std::move(*root);
        enforced(Layer::private_root,
                 plan_.account.changes
                     ? ""
                     : "in a user namespace: peers of other users show as the overflow uid");
        return {};
    }

    Result<void> drop() {
        const auto permitted = permitted_capabilities();
        if (!permitted) return std::unexpected(permitted.error());
        auto shortcoming = drop_privileges(plan_.account, plan_.capabilities & *permitted);
        if (!shortcoming) return std::unexpected(shortcoming.error());
        append(*shortcoming, lacking(plan_.capabilities, *permitted));
        enforced(Layer::capabilities, std::move(*shortcoming));
        enforced(Layer::no_new_privs);
        if (plan_.account.changes) {
            enforced(Layer::own_account);
        } else {
            confined_.report[Layer::own_account].detail = fmt::format(
                "not started by root: every process of uid {} may signal the broker", plan_.account.uid);
        }
        return {};
    }

    Result<void> restrict_by_landlock() {
        const auto version = landlock_version();
        const auto permitted = version ? may_restrict_by_landlock() : Result<void>();
        if (!version || !permitted) {
            confined_.report[Layer::landlock].detail =
                (version ? permitted.error() : version.error()).message() +
                (root_ ? std::string() : why_it_matters());
            return {};
        }
        return root_ ? restrict_in_place(*version) : restrict_on_top(*version);
    }

    Result<void> let_fork() { return before_filter_ ? before_filter_(confined_) : Result<void>(); }

    Result<void> filter() {
        const auto installed = install_seccomp_filter(FilterFor::broker, plan_.calls);
        if (installed) {
            enforced(Layer::seccomp);
            return {};
        }
        if (!is_missing_seccomp(installed.error())) return installed;
        confined_.report[Layer::seccomp].detail = installed.error().message();
        return {};
    }

    Confined result() && { return std::move(confined_); }

  private:
    void enforced(Layer layer, std::string detail = {}) {
        confined_.report[layer] = {.state = LayerState::enforced, .detail = std::move(detail)};
    }

    Result<void> restrict_in_place(int version) {
        const auto restricted = opener::restrict_by_landlock(plan_, root_.borrow(), version);
        if (!restricted) return restricted;
        root_.reset();
        enforced(
            Layer::landlock,
            fmt::format("version {}, in place of the private root: stat, owners, modes and times are not "
                        "restricted by it",
                        version));
        return {};
    }

    // The private root does not hold what is sent in. It costs the broker time with each open, so that one that cannot be
    // sent anything goes without.
    Result<void> restrict_on_top(int version) {
        auto ruleset = make_ruleset(plan_.directories, confined_.directories, version);
        if (!ruleset) return std::unexpected(ruleset.error());
        if (refuses_descriptors_) {
            confined_.landlock_of_children = std::move(*ruleset);
            enforced(Layer::landlock,
                     fmt::format("version {}, on top of the private root, for helpers; the broker's own "
                                 "sockets refuse descriptors",
                                 version));
            return {};
        }
        if (const auto restricted = restrict_by_ruleset(ruleset->borrow()); !restricted) return restricted;
        enforced(Layer::landlock,
                 fmt::format("version {}, on top of the private root, for helpers and the broker, which "
                             "peers can send descriptors (no SO_PASSRIGHTS)",
                             version));
        return {};
    }

    std::string why_it_matters() const {
        return refuses_descriptors_
                   ? "; a helper taken over together with the broker opens what lies below any directory "
                     "that a peer sends it"
                   : "; a broker that is taken over opens what lies below any directory that a peer sends it "
                     "(no SO_PASSRIGHTS)";
    }

    Result<void> stay_in_place() {
        root_ = UniqueFd(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!root_ || ::chdir("/") != 0) return proto::system_error("open", "/");
        auto opened = open_in_place(plan_, root_.borrow());
        if (!opened) return std::unexpected(opened.error());
        confined_.directories = std::move(*opened);
        return {};
    }

    const ConfinementPlan& plan_;
    const BeforeFilter& before_filter_;
    Confined confined_{};
    UniqueFd root_{};  // stands for / where there is no private root
    const bool refuses_descriptors_ = proto::can_refuse_descriptors();
};

// Encodes a child's findings for the parent.
std::string encode(const Result<Confined>& confined) {
    Json answer;
    if (confined) {
        for (const LayerReport& layer : confined->report.layers) {
            answer["layers"].push_back({static_cast<int>(layer.state), layer.detail});
        }
        answer["dormant"] = Json::array();
        for (const BoundDirectory& directory : confined->directories) {
            if (directory.errno_value == 0) continue;
            const DormantDirectory dormant = dormant_directory(directory);
            answer["dormant"].push_back({dormant.errno_value, dormant.path, dormant.why});
        }
    } else {
        proto::Error error = confined.error();
        answer["errno"] = std::exchange(error.errno_value, 0);
        answer["what"] = error.message();
    }
    // Paths are bytes, JSON is UTF-8.
    return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<ConfinementReport> decode(const std::string& text, std::vector<DormantDirectory>* dormant) {
    const Json answer = Json::parse(text, nullptr, false);
    if (answer.is_discarded())
        return proto::system_error("confinement", "the trial in a child broke off", ECHILD);
    if (answer.contains("errno")) {
        return proto::system_error("confinement", answer["what"].get<std::string>(),
                                   answer["errno"].get<int>());
    }
    ConfinementReport report;
    for (std::size_t layer = 0; layer < layer_count; ++layer) {
        report.layers[layer] = {.state = static_cast<LayerState>(answer["layers"][layer][0].get<int>()),
                                .detail = answer["layers"][layer][1].get<std::string>()};
    }
    if (dormant == nullptr) return report;
    dormant->clear();
    for (const Json& entry : answer["dormant"]) {
        dormant->push_back({.path = entry[1].get<std::string>(),
                            .errno_value = entry[0].get<int>(),
                            .why = entry[2].get<std::string>()});
    }
    return report;
}

}  // namespace

Result<Confined> confine(const ConfinementPlan& plan, std::span<const BorrowedFd> keep,
                         const BeforeFilter& before_filter) {
    if (const auto possible = check_preconditions(); !possible) return std::unexpected(possible.error());
    if (const auto closed = close_all_but(keep); !closed) return std::unexpected(closed.error());
    Confining confining(plan, before_filter);
    using Step = Result<void> (Confining::*)();
    for (const Step step :
         {&Confining::limit, &Confining::hide_the_filesystem, &Confining::restrict_by_landlock,
          &Confining::drop, &Confining::let_fork, &Confining::filter}) {
        if (const auto done = (confining.*step)(); !done) return std::unexpected(done.error());
    }
    return std::move(confining).result();
}

Result<ConfinementReport> probe_confinement(const ConfinementPlan& plan,
                                            std::vector<DormantDirectory>* dormant) {
    const auto answer = ask_child([&](BorrowedFd pipe) { return encode(confine(plan, std::array{pipe})); });
    if (!answer) return std::unexpected(answer.error());
    return decode(*answer, dormant);
}

}  // namespace fdbroker::opener
