// SPDX-License-Identifier: MIT
#include "opener/broker/run_generation.hpp"

#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <ctime>
#include <iterator>
#include <memory>
#include <optional>
#include <utility>

#include "opener/base/log_stderr.hpp"
#include "opener/broker/broker.hpp"
#include "opener/confinement/capability_names.hpp"
#include "opener/confinement/confinement.hpp"
#include "opener/confinement/directory_watch.hpp"
#include "opener/confinement/known_mounts.hpp"
#include "opener/confinement/widen.hpp"
#include "opener/control/server.hpp"
#include "opener/helpers/zygote.hpp"
#include "opener/identity/accounts.hpp"
#include "opener/policy_source/load_policy.hpp"
#include "opener/quota/user_quota.hpp"
#include "policy/matching/denied.hpp"

namespace fdbroker::opener {

using proto::Result;
using proto::UniqueFd;

namespace {

// How long a line waits for the supervisor while all that is wrong with a policy is said: more than a pipe may hold.
constexpr std::chrono::milliseconds supervisor_patience{5'000};

[[noreturn]] void fail(const StartReport& report, ExitStatus status, const std::string& what) {
    report.log_error(what);
    ::_exit(status);
}

// Standard error becomes the supervisor's to copy, the others become /dev/null: a broker that was taken over shall neither
// type into a terminal nor seek in a file that others write to. The numbers stay in use, so that no connection ever bears
// one.
void detach_standard_streams(const GenerationStart& start) {
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!null || ::dup2(start.output.number(), STDERR_FILENO) < 0 ||
        ::dup2(null.number(), STDIN_FILENO) < 0 || ::dup2(null.number(), STDOUT_FILENO) < 0) {
        fail(start.report, exit_failed, proto::system_error("/dev/null").error().message());
    }
    wait_for_room_on_stderr(supervisor_patience);
}

// The policy, and what else comes from outside: all of it before the confinement, behind which nothing can be asked.
struct Resolved {
    LoadedPolicy loaded;
    BrokerAccount account;
    ControlAccess access;
};

// The command line can lower what the policy says.
std::chrono::microseconds busy_poll_of(const Options& options, const policy::Limits& limits) {
    return std::min(limits.busy_poll, options.busy_poll.value_or(limits.busy_poll));
}

template <typename Value>
Value ok_or_fail(const StartReport& report, Result<Value> result) {
    if (!result) fail(report, exit_failed, result.error().message());
    return std::move(*result);
}

LoadedPolicy ok_or_fail(const StartReport& report,
                        std::expected<LoadedPolicy, std::vector<policy::Diagnostic>> loaded) {
    if (loaded) return std::move(*loaded);
    for (const policy::Diagnostic& diagnostic : loaded.error()) report.log_stderr_plainly(diagnostic.what());
    ::_exit(exit_policy);
}

// From what was kept when there is something, else from the files and the account database, and then that is kept.
Resolved resolve(const GenerationStart& start) {
    const StartReport& report = start.report;
    const std::optional<std::string>& group = start.options.control.group;
    const bool is_kept = start.policy != nullptr;
    PolicyText text;
    if (is_kept) text = ok_or_fail(report, start.snapshot.read());
    LoadedPolicy loaded =
        ok_or_fail(report, is_kept ? load_policy(text)
                                   : load_policy(start.options.policy, start.unknown_accounts, &text));
    ControlAccess access{.opener_uid = ::geteuid()};
    const SystemAccounts database;
    const AccountMemory accounts(text.accounts, is_kept ? nullptr : &database);
    if (group) access.group = accounts.gid_of(*group);
    access.metrics_group = accounts.gid_of(metrics_group);
    if (!is_kept) {
        text.broker_accounts = ok_or_fail(report, find_accounts(start.options.user));
        if (auto kept = start.snapshot.keep(text); !kept) fail(report, exit_failed, kept.error().message());
    }
    BrokerAccount account = ok_or_fail(report, choose_account(text.broker_accounts, start.avoided_uids));
    // Frees the text of the policy, which the heap would keep for as long as the generation lives.
    text = {};
    ::malloc_trim(0);
    return {std::move(loaded), std::move(account), access};
}

// The candidate that decides beside the policy. One that does not load does no harm, unless the generation is for it.
std::unique_ptr<Shadow> load_shadow(const GenerationStart& start) {
    if (start.shadow.empty()) return nullptr;
    auto loaded = load_policy(start.shadow, policy::UnknownAccounts::match_nobody);
    if (loaded)
        return std::make_unique<Shadow>(std::move(*loaded), start.shadow, std::chrono::system_clock::now());
    for (const policy::Diagnostic& diagnostic : loaded.error())
        start.report.log_stderr_plainly(diagnostic.what());
    if (start.needs_shadow) ::_exit(exit_policy);
    start.report.log_stderr("shadow: the candidate did not load, and nothing decides beside the policy");
    return nullptr;
}

// Two, so that helpers can be made until the supervisor has replaced a generation that has lost one.
Result<void> start_zygotes(const HelperServices& services, const ZygoteConfinement& held_to,
                           const KnownMounts& mounts, std::vector<UniqueFd>& zygotes) {
    std::vector<proto::BorrowedFd> kept{proto::BorrowedFd(STDIN_FILENO), proto::BorrowedFd(STDOUT_FILENO),
                                        proto::BorrowedFd(STDERR_FILENO)};
    if (mounts.descriptor()) kept.push_back(mounts.descriptor());
    while (zygotes.size() < 2) {
        auto zygote = start_zygote(services, held_to, kept);
        if (!zygote) return std::unexpected(zygote.error());
        zygotes.push_back(std::move(*zygote));
    }
    return {};
}

}  // namespace

void run_generation(const GenerationStart& start) {
    // A generation without its supervisor gets no connections and writes no records.
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    // Made files have the mode of the rule.
    ::umask(0);
    const StartReport& report = start.report;
    detach_standard_streams(start);
    if (auto reader = start.facts.become_reader(); !reader)
        fail(report, exit_failed, reader.error().message());

    const auto [loaded, account, access] = resolve(start);
    const std::unique_ptr<Shadow> shadow = load_shadow(start);
    const policy::Policy& policy = loaded.policy;
    for (const std::string& line : tolerated_lines(loaded)) report.log_stderr_plainly(line);
    ConfinementPlan plan = plan_confinement(policy.directories(), account);
    // For the names that directories list (name_check.hpp).
    plan.lists_names = policy::has_deny_rules(policy);
    plan.calls.list = plan.calls.list || plan.lists_names;
    const RefusedPeers refused{.unmapped = find_unmapped_uid(!account.changes),
                               .broker = account.changes ? std::optional(account.uid) : std::nullopt};
    const Inspector inspector(read_link_protection());
    // gmtime(3) reads the time zone file when it is first needed, and there will be none to read.
    ::tzset();

    auto loop = EventLoop::create();
    if (!loop) fail(report, exit_failed, loop.error().message());
    std::vector<proto::BorrowedFd> keep{proto::BorrowedFd(STDIN_FILENO),
                                        proto::BorrowedFd(STDOUT_FILENO),
                                        proto::BorrowedFd(STDERR_FILENO),
                                        start.link.descriptor(),
                                        start.snapshot.file(),
                                        loop->descriptor(),
                                        report.descriptor()};
    if (start.ring != nullptr) std::ranges::copy(start.ring->descriptors(), std::back_inserter(keep));
    // Before the directories are bound, so that a change after this moment is seen by one or the other.
    if (auto watching = start_directory_watch(plan, start.changes, log_stderr); !watching)
        fail(report, exit_failed, watching.error().message());
    for (const std::string& line : describe_silent(plan)) report.log_stderr(line);
    // The watch sees changes from here on.
    const KnownMounts mounts;
    if (mounts.descriptor()) keep.push_back(mounts.descriptor());
    std::optional<Resolver> resolver;
    std::vector<UniqueFd> zygotes;
    auto confined = confine(plan, keep, [&](Confined& so_far) -> Result<void> {
        const bool copies = so_far.report[Layer::private_root].state == LayerState::enforced;
        resolver.emplace(std::move(so_far.directories), policy, copies ? &mounts : nullptr);
        // A helper that was taken over shall neither forge records nor answer for the broker.
        start.inflight.keep_from_children();
        for (const EarlierGeneration& previous : start.previous) previous.inflight->keep_from_children();
        if (start.ring != nullptr) start.ring->keep_from_children();
        const UniqueFd landlock = std::move(so_far.landlock_of_children);
        return start_zygotes({policy, *resolver, inspector, refused}, {plan.calls, landlock.borrow()}, mounts,
                             zygotes);
    });
    if (!confined) fail(report, exit_failed, "cannot confine the broker: " + confined.error().message());
    if (start.options.require_confinement && !confined->report.complete()) {
        fail(report, exit_failed, "--require-confinement: " + confined->report.missing());
    }

    if (!confined->report.complete()) {
        report.log_stderr("the broker is confined less than it could be: " + confined->report.missing());
    }

    if (const std::string& lacking = confined->report[Layer::capabilities].detail; !lacking.empty())
        report.log_stderr("the broker runs " + lacking + ": what rules need that for fails");

    wait_for_room_on_stderr(std::chrono::milliseconds(0));
    // Before anything a peer sent is read.
    start.report.give_up();
    AuditTrail audit(start.ring, start.number, loaded.digest, *loop);
    audit.apply(policy.audit());
    GenerationFacts facts{.policy = policy,
                          .policy_digest = loaded.digest,
                          .start = start,
                          .confinement = std::move(confined->report),
                          .account = account,
                          .capabilities = capability_names(plan.capabilities),
                          .tolerated = tolerated_lines(loaded),
                          .started = std::chrono::system_clock::now(),
                          .shadow = shadow.get()};
    for (const BoundDirectory& directory : resolver->directories()) {
        if (directory.errno_value != 0) facts.dormant.push_back(dormant_directory(directory));
        if (const auto width = width_of(directory.path, directory.stands_for))
            facts.wide.push_back({directory.path, *width});
    }
    ControlServer control(access, *loop);
    auto helpers = HelperPool::create(std::move(zygotes), *loop, policy.rules());
    if (!helpers) fail(report, exit_failed, helpers.error().message());
    Metrics metrics(policy.rules());
    // Users share half of what the kernel lets be on its way. The other half is for those who find nothing left of that:
    // each may be sent one message, of as many descriptors as it can carry.
    UserQuotas quotas(policy.limits(), confined->max_descriptors / 2);
    OrphanedRequests orphaned_requests(start.previous);
    Service service{{policy, *resolver, inspector, metrics},
                    audit,
                    start.inflight,
                    control,
                    **helpers,
                    orphaned_requests,
                    quotas,
                    BusyWait(busy_poll_of(start.options, policy.limits()))};
    service.shadow = shadow.get();
    Broker broker(start, service, refused, *loop);
    control.begin(facts, broker);
    const auto ended = broker.run();
    if (!ended && ended.error().kind != proto::ErrorKind::disconnected) {
        log_error(ended.error().message());
        ::_exit(exit_failed);
    }
    ::_exit(exit_done);
}

}  // namespace fdbroker::opener
