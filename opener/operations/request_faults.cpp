// SPDX-License-Identifier: MIT
#include "opener/operations/request_faults.hpp"

#include <sys/stat.h>

#include "proto/payload.hpp"

namespace fdbroker::opener {

namespace {

constexpr std::uint32_t mode_bits = 07777;
constexpr std::uint32_t set_id_bits = 06000;

bool is_time(const proto::Timestamp& time) {
    return time.nanoseconds < 1'000'000'000 || time.nanoseconds == UTIME_NOW ||
           time.nanoseconds == UTIME_OMIT;
}

}  // namespace

const char* fault_of_link_target(const proto::Request& request) {
    // By its last NUL: what comes behind an earlier one the kernel would not see.
    return proto::read_text(request.payload).find('\0') != std::string_view::npos
               ? "a NUL in the link's target"
               : nullptr;
}

const char* fault_of_attributes(const proto::Request& request) {
    const bool mode = (request.flags & proto::setattr_mode) != 0;
    const bool times = (request.flags & proto::setattr_times) != 0;
    if (!mode && !times) return "neither mode nor times";
    if (!mode && request.mode != 0) return "a mode that is not to be set";
    if ((request.mode & set_id_bits) != 0) return "a mode with set-id bits";
    if ((request.mode & ~mode_bits) != 0) return "a mode of more than four octal digits";
    const auto given = proto::read_times(request.payload);
    if (times != given.has_value()) return "times that do not go with the flags";
    if (given && (!is_time(given->access) || !is_time(given->modification)))
        return "a time outside its range";
    return nullptr;
}

const char* fault_of_attribute_name(const proto::Request& request) {
    return request.payload.starts_with(attribute_namespace)
               ? nullptr
               : "an attribute that is not of the namespace user";
}

const char* fault_of_watch(const proto::Request& request) {
    return request.flags == 0 ? "no change to watch for" : nullptr;
}

}  // namespace fdbroker::opener
