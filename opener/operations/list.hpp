// list: what is in a directory, page by page.
#pragma once

#include "opener/operations/operation.hpp"

namespace fdbroker::opener {

Done<Answer> list_directory(const Work& work, const policy::Grant& grant);

}  // namespace fdbroker::opener
