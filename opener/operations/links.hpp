// SPDX-License-Identifier: MIT
// What becomes of an operation that meets a symbolic link. The kernel follows none: where the rules say `follow`, the link
// is read, the name rewritten, and the new name decided on before anything of it is touched.
#pragma once

#include <functional>

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

// As the kernel's own limit: MAXSYMLINKS of include/linux/namei.h.
inline constexpr unsigned max_links = 40;

// Whether a link in the last place of the path is followed as well.
enum class LastLink : std::uint8_t { follow, keep };

using Attempted = std::function<Done<Answer>(const policy::Grant&)>;

// A refusal because of a link on the way of this grant's path names it.
std::unexpected<Stop> name_link(const OperationContext& work, const policy::Grant& grant,
                                std::unexpected<Stop> stop);

// Does `attempt` with the request's grant; as often as that ends at a link and every rule of the grant follows, with the
// grant of where the link leads to. A refusal names the link.
Done<Answer> with_links(const OperationContext& work, LastLink last, const Attempted& attempt);

}  // namespace fdbroker::opener
