// SPDX-License-Identifier: MIT
#include "opener/operations/put.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <utility>

#include "opener/confinement/kernel_calls.hpp"
#include "opener/operations/links.hpp"
#include "opener/operations/names.hpp"
#include "opener/operations/read_lease.hpp"
#include "opener/operations/temporary.hpp"
#include "proto/payload.hpp"

namespace fdbroker::opener {

using policy::FileType;
using proto::BorrowedFd;
using proto::Step;
using proto::UniqueFd;

namespace {

// How often something may take the name, or let it go, between the look at it and the rename.
constexpr unsigned max_looks = 16;

enum class Target : std::uint8_t { missing, replaceable };

// Inspects the object that has the name now. Only a regular file that the rules let the peer write to is replaced.
Attempt<Target> look_at_target(const OperationContext& context, const policy::Grant& grant,
                               const ResolvedParent& parent) {
    if (keeps_names(parent))
        return obstacle_at(Step::resolve,
                           {EPERM,
                            "its directory is append-only (lsattr): there, what is complete cannot "
                            "get its name"});
    const auto there = open_inspected_in(context, grant, parent, O_PATH);
    if (there) {
        const FileType type = there->status().type;
        if (type == FileType::regular) return Target::replaceable;
        return obstacle_at(Step::inspect, {type == FileType::directory ? EISDIR : EINVAL,
                                           "it is not a regular file, and only one is replaced"});
    }
    if (there.error().step == Step::resolve && there.error().errno_value == ENOENT) return Target::missing;
    // A link is opened itself and refused for its type; it is to be followed, or named.
    if (context.services.resolver.find_link(grant, context.execution))
        return obstacle_at(Step::resolve, {ELOOP, explain_open_failure(ELOOP)});
    return std::unexpected(there.error());
}

// The same before a commit, which may have been told not to replace anything.
Attempt<Target> look_before_commit(const OperationContext& context, const policy::Grant& grant,
                                   const ResolvedParent& parent) {
    auto target = look_at_target(context, grant, parent);
    if (target && *target == Target::replaceable && (context.request().flags & RENAME_NOREPLACE) != 0)
        return obstacle_at(Step::resolve, {EEXIST, "it is there already"});
    return target;
}

// Gives the name to the complete file.
Attempt<void> finish(const OperationContext& context, const policy::Grant& grant,
                     const ResolvedParent& parent, Unfinished& complete) {
    for (unsigned looks = 1;; ++looks) {
        const auto there = look_before_commit(context, grant, parent);
        if (!there) return std::unexpected(there.error());
        // An object that takes the name from now on has not been inspected. Whoever may write to the directory can
        // exchange it, and could have replaced the file themselves.
        const auto done = *there == Target::missing ? complete.finish() : complete.finish_over();
        if (done || *there != Target::missing || done.error().errno_value != EEXIST || looks == max_looks)
            return done;
    }
}

Attempt<std::string> give_passing_name(BorrowedFd file, const ResolvedParent& parent) {
    auto name = temporary_name(Purpose::making);
    if (!name) return name;
    auto linked = link_unnamed(file, parent, name->c_str());
    if (linked) return name;
    // linkat(2): ENOENT without CAP_DAC_READ_SEARCH, whatever there is.
    if (linked.error().errno_value != ENOENT) return std::unexpected(linked.error());
    return obstacle_at(Step::deliver, {EOPNOTSUPP, "the opener may not give an unnamed file its name"});
}

Attempt<ObjectStatus> status_of(BorrowedFd file) {
    struct stat status;
    if (::syscall(SYS_fstat, file.number(), &status) != 0) return call_failed(Step::deliver);
    return ObjectStatus{
        .size = static_cast<std::uint64_t>(status.st_size), .device = status.st_dev, .inode = status.st_ino};
}

Attempt<void> sync(BorrowedFd file) {
    if (::fsync(file.number()) != 0) return call_failed(Step::deliver);
    return {};
}

Attempt<void> sync_directory(const ResolvedParent& parent) {
    const UniqueFd directory(kernel::openat2(parent.descriptor().number(), ".",
                                             O_RDONLY | O_DIRECTORY | O_CLOEXEC, RESOLVE_NO_XDEV));
    if (!directory) return call_failed(Step::deliver);
    return sync(directory.borrow());
}

// Copies `file` into an unnamed file that no one else has.
Attempt<UniqueFd> copy_unnamed(BorrowedFd file, const ResolvedParent& parent) {
    auto copy = open_unnamed(parent, O_WRONLY, private_mode);
    if (!copy) return copy;
    constexpr std::size_t at_once = std::size_t{1} << 30;
    loff_t from = 0;
    for (ssize_t size = 1; size > 0;) {
        size = ::copy_file_range(file.number(), &from, copy->number(), nullptr, at_once, 0);
        if (size < 0) return call_failed(Step::deliver);
    }
    return copy;
}

class Put final : public BackgroundWork {
  public:
    Put(std::string path, UniqueFd file) : path_(std::move(path)), file_(std::move(file)) {}

    Awaited awaited() const noexcept override { return {nothing, nothing}; }
    void go_on() override {}
    bool done() const noexcept override { return done_; }
    int errno_value() const noexcept override { return 0; }
    void end() override {}
    Outcome carry_out(const RequestServices& services, const policy::Peer& peer,
                      const GrantedRequest& granted, const ExecutionContext& execution) override {
        const OperationContext context{services, peer, granted, execution};
        Outcome outcome = carry_out(context);
        complete(outcome, granted);
        return outcome;
    }

  private:
    Outcome carry_out(const OperationContext& context) {
        if (context.request().path != path_) return refused(Step::deliver, ESTALE, "it was put elsewhere");
        if (context.request().call == proto::Call::commit)
            return with_links(context, LastLink::follow,
                              [&](const policy::Grant& grant) { return commit(context, grant); });
        done_ = true;
        return {};
    }

    Attempt<Outcome> commit(const OperationContext& context, const policy::Grant& grant) {
        const auto parent = parent_of_new(context, grant);
        if (!parent) return std::unexpected(parent.error());
        if (const auto target = look_before_commit(context, grant, *parent); !target)
            return std::unexpected(target.error());
        std::optional<Unfinished> named;
        if (!has_had_name_) {
            // Before it has a name, which is to be there as shortly as can be.
            if (auto synced = sync(file_.borrow()); !synced) return std::unexpected(synced.error());
            auto name = give_passing_name(file_.borrow(), *parent);
            if (!name) return std::unexpected(name.error());
            named.emplace(*parent, std::move(*name), 0);
            if (auto opened = open_for_reading(*parent, *named); !opened)
                return std::unexpected(opened.error());
        }
        const ReadLease lease(file_.borrow());
        if (lease.errno_value() == EAGAIN)
            return obstacle_at(Step::deliver,
                               {EBUSY, "somebody can still write to it, by a descriptor or a mapping"});
        if (lease.errno_value() != 0)
            return obstacle_at(Step::deliver, {lease.errno_value(), "a lease on it cannot be had"});
        const auto status = status_of(file_.borrow());
        if (!status) return std::unexpected(status.error());
        if (const auto obstacle = refuse_new_file(context, grant, *parent, status->size))
            return std::unexpected(*obstacle);
        if (named) return finish_with(context, grant, *parent, file_.borrow(), *named);
        return finish_with_copy(context, grant, *parent);
    }

    // Closes the descriptors that could write to it.
    Attempt<void> open_for_reading(const ResolvedParent& parent, Unfinished& named) {
        UniqueFd reader(kernel::openat2(parent.descriptor().number(), named.name(),
                                        O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC,
                                        no_links_followed | RESOLVE_NO_XDEV));
        if (!reader) return call_failed(Step::deliver);
        const auto own = status_of(file_.borrow());
        const auto read = status_of(reader.borrow());
        if (!own || !read || own->device != read->device || own->inode != read->inode) {
            named.leave();
            return obstacle_at(Step::deliver, {EAGAIN, "another object took its name meanwhile"});
        }
        file_ = std::move(reader);
        has_had_name_ = true;
        return {};
    }

    Attempt<Outcome> finish_with_copy(const OperationContext& context, const policy::Grant& grant,
                                      const ResolvedParent& parent) {
        const auto copy = copy_unnamed(file_.borrow(), parent);
        if (!copy) return std::unexpected(copy.error());
        if (auto synced = sync(copy->borrow()); !synced) return std::unexpected(synced.error());
        auto name = give_passing_name(copy->borrow(), parent);
        if (!name) return std::unexpected(name.error());
        Unfinished named(parent, std::move(*name), 0);
        return finish_with(context, grant, parent, copy->borrow(), named);
    }

    // Nobody can write to `file` any more.
    Attempt<Outcome> finish_with(const OperationContext& context, const policy::Grant& grant,
                                 const ResolvedParent& parent, BorrowedFd file, Unfinished& named) {
        // Writes since the last sync follow.
        if (auto synced = sync(file); !synced) return std::unexpected(synced.error());
        // From here on it is the opener's no longer, and not to be had again.
        done_ = true;
        const auto object = new_object(context, grant, parent, FileType::regular);
        if (!object) return std::unexpected(object.error());
        if (auto open = apply_mode(file, parent, *object); !open) return std::unexpected(open.error());
        if (auto owned = apply_ownership(file, *object); !owned) return std::unexpected(owned.error());
        if (auto finished = finish(context, grant, parent, named); !finished)
            return std::unexpected(finished.error());
        if (auto synced = sync_directory(parent); !synced) return std::unexpected(synced.error());
        return Outcome{};
    }

    std::string path_;
    UniqueFd file_;
    // And so gets no other one; the descriptor is for reading alone.
    bool has_had_name_ = false;
    bool done_ = false;
};

}  // namespace

Attempt<Outcome> begin_put(const OperationContext& context, const policy::Grant& grant) {
    if (!context.execution.allows_background())
        return obstacle_at(Step::resolve, {EAGAIN, "too many files are being put, streamed or watched"});
    const auto parent = parent_of_new(context, grant);
    if (!parent) return std::unexpected(parent.error());
    if (const auto target = look_at_target(context, grant, *parent); !target)
        return std::unexpected(target.error());
    if (const auto obstacle = refuse_new_file(context, grant, *parent, 0)) return std::unexpected(*obstacle);
    auto file = open_unnamed(*parent, O_WRONLY, private_mode);
    if (!file && file.error().errno_value == ENOTSUP)
        return obstacle_at(Step::resolve, {EOPNOTSUPP, "its filesystem has no unnamed files"});
    if (!file) return std::unexpected(file.error());
    UniqueFd given(::fcntl(file->number(), F_DUPFD_CLOEXEC, 0));
    if (!given) return call_failed(Step::deliver);
    const auto number = proto::number_payload(context.granted.job);
    return Outcome{
        .file = DeliverableFile::made_here(std::move(given)),
        .payload = std::string(number.data(), number.size()),
        .background = std::make_unique<Put>(std::string(context.request().path), std::move(*file))};
}

Attempt<Outcome> no_such_put(const OperationContext&, const policy::Grant&) {
    return obstacle_at(Step::resolve, {ESTALE, "this session has no put of that number"});
}

}  // namespace fdbroker::opener
