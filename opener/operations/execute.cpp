// SPDX-License-Identifier: MIT
#include "opener/operations/execute.hpp"

#include <utility>

#include "opener/operations/change.hpp"
#include "opener/operations/links.hpp"
#include "opener/operations/list.hpp"
#include "opener/operations/look.hpp"
#include "opener/operations/open.hpp"
#include "opener/operations/operation.hpp"
#include "opener/operations/put.hpp"
#include "opener/operations/rename.hpp"

namespace fdbroker::opener {

using proto::Call;
using proto::Step;

namespace {

using OperationFunction = Done<Answer> (*)(const OperationContext&, const policy::Grant&);

// By proto::Call; null: not served, or done in its own way.
constexpr OperationFunction operations[proto::call_count] = {
    open_file,       stat_object,     list_directory,   read_link,      make_directory,
    remove_name,     nullptr,         make_link,        set_attributes, read_attribute_value,
    list_attributes, write_attribute, remove_attribute, begin_put,      no_such_put,
    no_such_put,
};

Done<Answer> carry_out(const OperationContext& work) {
    if (work.granted.rename) return rename_object(work);
    const auto operation = operations[static_cast<std::size_t>(work.request().call)];
    return with_links(work, last_link_of(work.granted),
                      [&](const policy::Grant& grant) { return operation(work, grant); });
}

}  // namespace

std::optional<Outcome> execute(const RequestServices& tools, const policy::Peer& peer,
                               const GrantedRequest& granted, const ExecutionContext& place) {
    auto done = carry_out({tools, peer, granted, place});
    if (!done && done.error().needs_helper()) return std::nullopt;
    return outcome_of(granted, std::move(done));
}

}  // namespace fdbroker::opener
