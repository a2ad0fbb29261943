// SPDX-License-Identifier: MIT
#include "opener/ctl/dry_run.hpp"

#include <fcntl.h>

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "opener/confinement/probe_processes.hpp"
#include "opener/confinement/source_directory.hpp"
#include "opener/operations/links.hpp"
#include "opener/operations/names.hpp"
#include "opener/operations/stream.hpp"
#include "opener/operations/temporary.hpp"
#include "opener/request/call_table.hpp"
#include "policy/matching/request_path.hpp"

namespace fdbroker::ctl {

using opener::Attempt;
using opener::ExecutionContext;
using opener::obstacle_at;
using opener::OperationContext;
using opener::Outcome;
using opener::ResolvedParent;
using opener::Subject;
using policy::FileType;
using policy::Grant;
using policy::Operation;
using policy::OperationSet;
using proto::Call;
using proto::Step;

namespace {

constexpr OperationSet opening{Operation::read,     Operation::write,  Operation::append,
                               Operation::truncate, Operation::create, Operation::execute};

Call call_for(OperationSet operations) {
    const auto* const row = std::ranges::find(opener::call_table, operations, &opener::CallRow::operations);
    return opening.intersects(operations) || row == opener::call_table.end() ? Call::open : row->call;
}

std::uint32_t flags_for(OperationSet operations) {
    constexpr OperationSet writing{Operation::write, Operation::append, Operation::truncate};
    const bool writes = operations.intersects(writing);
    const bool reads = operations.intersects({Operation::read, Operation::execute}) || !writes;
    std::uint32_t flags = O_RDONLY;
    if (writes) flags = reads ? O_RDWR : O_WRONLY;
    if (operations.contains(Operation::append)) flags |= O_APPEND;
    if (operations.contains(Operation::create)) flags |= O_CREAT;
    if (operations.contains(Operation::truncate)) flags |= O_TRUNC;
    return flags;
}

// A request on its way: meets what the function of the same name in opener/operations would meet.
class Rehearsal {
  public:
    Rehearsal(const OperationContext& context, const Grant& grant, const Onlooker& onlooker)
        : context_(context), grant_(grant), onlooker_(onlooker) {}

    Attempt<Outcome> run() const {
        switch (opener::row_of(context_.request().call).subject) {
            case Subject::file:
                return open();
            case Subject::status:
                return stat();
            case Subject::directory:
                return answered(object(O_PATH | O_DIRECTORY));
            case Subject::link:
                return readlink();
            case Subject::new_directory:
                return make(FileType::directory);
            case Subject::new_link:
                return make(FileType::symlink);
            case Subject::name:
                return take_away();
            case Subject::opened:
                break;
        }
        return answered(existing());
    }

  private:
    using Inspected = Attempt<opener::InspectedFile>;

    static Attempt<Outcome> answered(const Inspected& object) {
        if (!object) return std::unexpected(object.error());
        return Outcome{};
    }

    Inspected inspected(Attempt<opener::ResolvedFile> file) const {
        if (!file) return std::unexpected(file.error());
        if (const auto status = opener::Inspector::status_of(*file)) onlooker_.object(grant_, *status);
        return context_.services.inspector.inspect(std::move(*file), grant_, context_.uid());
    }
    Inspected object(std::uint64_t flags) const {
        return inspected(context_.services.resolver.resolve(grant_, flags, context_.execution));
    }

    // openat2(2) for more than a look at it.
    Inspected existing() const {
        auto file = context_.services.resolver.resolve(grant_, O_PATH, context_.execution);
        if (!file) return std::unexpected(file.error());
        const auto status = opener::Inspector::status_of(*file);
        if (!status) return std::unexpected(status.error());
        if (const int refused = refused_by_kernel(status->type))
            return obstacle_at(Step::resolve, {refused, opener::explain_open_failure(refused)});
        return inspected(std::move(file));
    }

    int refused_by_kernel(FileType type) const {
        const bool device = type == FileType::character_device || type == FileType::block_device;
        const auto& bound = context_.services.resolver.directories();
        if (type == FileType::symlink) return ELOOP;
        if (type == FileType::directory && context_.granted.flags.writes()) return EISDIR;
        if (type == FileType::socket) return ENXIO;
        return device && !bound.empty() && !bound.back().opens_devices ? EACCES : 0;
    }

    Attempt<Outcome> open() const {
        const opener::OpenFlags flags = context_.granted.flags;
        if (grant_.rule().delivery == policy::Delivery::stream)
            if (const auto obstacle = opener::refuse_stream(flags)) return std::unexpected(*obstacle);
        const Inspected there = existing();
        const bool missing =
            !there && there.error().step == Step::resolve && there.error().errno_value == ENOENT;
        if (missing && flags.wants(O_CREAT)) return create();
        if (there && there->status().type == FileType::directory)
            return std::unexpected(opener::directory_undelivered);
        return answered(there);
    }

    Attempt<Outcome> stat() const {
        const Inspected there = object(O_PATH);
        if (there && there->status().type == FileType::symlink)
            return obstacle_at(Step::resolve, {ELOOP, opener::explain_open_failure(ELOOP)});
        return answered(there);
    }

    Attempt<Outcome> readlink() const {
        const Inspected there = object(O_PATH);
        if (there && there->status().type != FileType::symlink)
            return obstacle_at(Step::inspect, {EINVAL, "it is not a symbolic link"});
        return answered(there);
    }

    Attempt<Outcome> create() const {
        const auto parent = parent_of_new();
        if (!parent) return std::unexpected(parent.error());
        if (*parent)
            if (const auto obstacle = opener::refuse_new_file(context_, grant_, **parent, 0))
                return std::unexpected(*obstacle);
        return Outcome{};
    }

    Attempt<Outcome> make(FileType type) const {
        const auto parent = parent_of_new();
        if (!parent && type == FileType::directory && parent.error().errno_value == EBUSY)
            return obstacle_at(Step::resolve, {EEXIST, "it is there already"});
        if (!parent) return std::unexpected(parent.error());
        if (!*parent) return Outcome{};
        if (const auto obstacle = opener::refuse_new_name(context_, grant_, **parent, type))
            return std::unexpected(*obstacle);
        if (opener::exists((*parent)->descriptor(), (*parent)->name()))
            return opener::call_failed(Step::resolve, EEXIST);
        return Outcome{};
    }

    Attempt<Outcome> take_away() const {
        const auto parent = context_.services.resolver.resolve_parent(grant_);
        if (!parent) return std::unexpected(parent.error());
        return answered(inspected(context_.services.resolver.resolve_in(*parent, O_PATH)));
    }

    // nullopt: it is missing, and the rule makes it.
    Attempt<std::optional<ResolvedParent>> parent_of_new() const {
        auto parent = context_.services.resolver.resolve_parent(grant_);
        if (parent) return std::optional(std::move(*parent));
        if (parent.error().errno_value != ENOENT || !grant_.rule().create.parents)
            return std::unexpected(parent.error());
        if (const auto made = make_parents(); !made) return std::unexpected(made.error());
        return std::nullopt;
    }

    // As make_parents() of opener/operations/names.cpp; what is below the first that is missing is missing, too.
    Attempt<void> make_parents() const {
        const std::string path(grant_.path().text());
        bool making = false;
        for (std::size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
            const std::string above = path.substr(0, end);
            const auto parsed = policy::RequestPath::parse(above);
            const auto granted =
                parsed ? opener::grant_of_parent(context_, grant_, *parsed) : std::optional<Grant>();
            if (making) {
                if (!granted)
                    return obstacle_at(Step::resolve, {ENOENT, opener::explain_open_failure(ENOENT)});
                continue;
            }
            if (!granted) continue;
            const auto there =
                context_.services.resolver.resolve(*granted, O_PATH | O_DIRECTORY, context_.execution);
            if (there) continue;
            if (there.error().errno_value != ENOENT) return std::unexpected(there.error());
            const auto parent = context_.services.resolver.resolve_parent(*granted);
            if (!parent) return std::unexpected(parent.error());
            if (const auto obstacle =
                    opener::refuse_new_name(context_, *granted, *parent, FileType::directory))
                return std::unexpected(*obstacle);
            making = true;
        }
        if (!making) return obstacle_at(Step::resolve, {ENOENT, opener::explain_open_failure(ENOENT)});
        return {};
    }

    const OperationContext& context_;
    const Grant& grant_;
    const Onlooker& onlooker_;
};

}  // namespace

std::vector<OperationSet> requests_of(OperationSet operations) {
    std::vector<OperationSet> requests;
    if (operations.intersects(opening)) requests.push_back(operations & opening);
    for (unsigned bit = 0; bit < policy::operation_count; ++bit) {
        const OperationSet one{static_cast<Operation>(bit)};
        if (operations.intersects(one) && !opening.intersects(one)) requests.push_back(one);
    }
    return requests;
}

DryRun::DryRun(const policy::Policy& policy, const policy::Peer& peer, const Onlooker& onlooker)
    : policy_(policy),
      peer_(peer),
      onlooker_(onlooker),
      plan_(opener::plan_confinement(policy.directories(), opener::BrokerAccount{})),
      inspector_(opener::read_link_protection()),
      metrics_(policy.rules()),
      root_(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)) {}

// As the opener has them bound, the deepest last.
std::vector<opener::BoundDirectory> DryRun::directories_above(std::string_view path) const {
    std::vector<opener::BoundDirectory> directories;
    for (const opener::PlannedDirectory& planned : plan_.directories) {
        const std::string& above = planned.path;
        if (above != path && !opener::is_below(path, above)) continue;
        opener::BoundDirectory bound;
        bound.path = above;
        bound.opens_devices = planned.devices;
        auto source = opener::open_source_directory(root_.borrow(), above);
        bound.stands_for = planned.stands_for;
        if (source) take(bound, std::move(*source));
        if (!source) bound.errno_value = source.error().errno_value;
        if (bound.fd)
            if (const auto facts = opener::inspect_directory(bound); !facts)
                bound.errno_value = facts.error().errno_value;
        directories.push_back(std::move(bound));
    }
    return directories;
}

Outcome DryRun::run(const Grant& grant) {
    const Call call = call_for(grant.operations());
    const auto flags = opener::OpenFlags::parse(call == Call::open ? flags_for(grant.operations()) : 0);
    const proto::Request request{.call = call, .path = grant.path().text()};
    const opener::GrantedRequest granted{request, flags.value(), grant};
    const auto execution = ExecutionContext::helper(std::chrono::steady_clock::now(), true);

    // Each name on the way has one; the texts of obstacles live in them.
    std::deque<opener::Resolver> resolvers;
    const auto with_resolver = [&](const Grant& one, const auto& use) {
        const opener::Resolver& resolver =
            resolvers.emplace_back(directories_above(one.path().text()), policy_);
        const opener::RequestServices services{policy_, resolver, inspector_, metrics_};
        return use(OperationContext{services, peer_, granted, execution});
    };
    const opener::FindLink find = [&](const Grant& one) {
        return with_resolver(one, [&](const OperationContext& context) {
            return context.services.resolver.find_link(one, execution);
        });
    };
    const opener::Attempted attempt = [&](const Grant& one) {
        onlooker_.name(one);
        return with_resolver(
            one, [&](const OperationContext& context) { return Rehearsal(context, one, onlooker_).run(); });
    };
    if (opener::row_of(call).asks != opener::Asks::two_names)
        return opener::with_links({policy_, peer_, execution, opener::last_link_of(request)}, grant, find,
                                  attempt);
    auto renamed = attempt(grant);
    return renamed ? std::move(*renamed) : opener::name_link(find, grant, renamed.error());
}

}  // namespace fdbroker::ctl
