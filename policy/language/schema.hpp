// SPDX-License-Identifier: MIT
// The keys of the policy language: what each may hold, and where it goes. One function per top-level key.
#pragma once

#include "policy/language/draft.hpp"
#include "policy/language/reader.hpp"
#include "policy/language/shape_reader.hpp"

namespace fdbroker::policy {

struct LoadContext {
    Reader& reader;
    PolicyDraft& draft;
};

void read_roles(LoadContext& context, const Node& node);
void read_defaults(LoadContext& context, const Node& node);
// After all roles of all files, and the defaults. Gives each rule's nodes back once it is read: there may be a million.
void read_rules(LoadContext& context, Node& node);
void read_limits(LoadContext& context, const Node& node);
void read_audit(LoadContext& context, const Node& node);
// After all rules of all files.
void read_tests(LoadContext& context, const Node& node);

// For the keys whose values are more than a table: the form of one, noted in `shapes`, which is the context's reader.
void describe_roles(LoadContext& context, ShapeReader& shapes);
void describe_rules(LoadContext& context, ShapeReader& shapes);
void describe_tests(LoadContext& context, ShapeReader& shapes);

}  // namespace fdbroker::policy
