#pragma once

#include <cstdint>
#include <string>

namespace fdbroker::opener {

// "dac_read_search, chown" for a bit per CAP_* number; empty: none.
std::string capability_names(std::uint64_t capabilities);

}  // namespace fdbroker::opener
