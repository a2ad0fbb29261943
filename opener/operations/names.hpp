// SPDX-License-Identifier: MIT
// Names that are made: files, directories and links that appear whole, with their owner and mode, and the directories
// above them.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// The directory of the grant's last name; makes the missing ones above where the rule says so (`create: parents`) and
// covers them.
Attempt<ResolvedParent> parent_of_new(const OperationContext& context, const policy::Grant& grant);

// A grant for a directory above the grant's path, when the rule that leads governs that as well and nothing forbids to make
// it. Borrows `directory`.
std::optional<policy::Grant> grant_of_parent(const OperationContext& context, const policy::Grant& grant,
                                             policy::RequestPath directory);

// The looks of a file, directory or link that the grant's rule creates. A default ACL of the directory may take bits
// of the mode away (acl(5), "OBJECT CREATION AND DEFAULT ACLS").
struct NewObject {
    mode_t mode = 0;  // with S_ISGID: a directory in a set-group-ID directory whose group it gets
    uid_t owner = 0;
    gid_t group = 0;
};
Attempt<NewObject> new_object(const OperationContext& context, const policy::Grant& grant,
                              const ResolvedParent& parent, policy::FileType type);
// The rules' objection to a new regular file of so many bytes there.
std::optional<Obstacle> refuse_new_file(const OperationContext& context, const policy::Grant& grant,
                                        const ResolvedParent& parent, std::uint64_t size);
// The rules' objection to a new directory or link there. They ask no more of a directory above a file.
std::optional<Obstacle> refuse_new_name(const OperationContext& context, const policy::Grant& grant,
                                        const ResolvedParent& parent, policy::FileType type);
// Gives a file or directory its owner and group, and takes bits that its mode should not have. It must be of this process's
// own making and belong to it, and nobody else may have it open for writing who should not.
Attempt<void> apply_ownership(proto::BorrowedFd file, const NewObject& object);
// Gives a file that was made for this process alone the mode that it would have, were it made there now.
Attempt<void> apply_mode(proto::BorrowedFd file, const ResolvedParent& parent, const NewObject& object);

// A file without a name, which belongs to this process. ENOTSUP: the filesystem has none. The mode of files that only this
// process may open is `private_mode`.
inline constexpr mode_t private_mode = 0600;
Attempt<proto::UniqueFd> open_unnamed(const ResolvedParent& parent, std::uint64_t flags, mode_t mode);
// Gives it the parent's name; EEXIST when that is taken.
Attempt<void> link_unnamed(proto::BorrowedFd file, const ResolvedParent& parent, const char* name);

// Makes a new file of that name, open with `flags`, inspected as far as it can be. The descriptor may be that of an unnamed
// file (O_TMPFILE). EEXIST when the name is taken.
Attempt<proto::UniqueFd> create_file(const OperationContext& context, const policy::Grant& grant,
                                     const ResolvedParent& parent, std::uint64_t flags);
// EEXIST when the name is taken. The rule's conditions must hold of it, as far as they hold of names (Demand::name).
Attempt<void> create_directory(const OperationContext& context, const policy::Grant& grant,
                               const ResolvedParent& parent);
Attempt<void> create_link(const OperationContext& context, const policy::Grant& grant,
                          const ResolvedParent& parent, const char* target);

}  // namespace fdbroker::opener
