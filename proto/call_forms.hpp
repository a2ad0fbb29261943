// SPDX-License-Identifier: MIT
// The protocol's table of calls: a row has the name of a call, in messages and records, and the form of its payload.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "proto/message.hpp"

namespace fdbroker::proto {

// The payload of a request, as PROTOCOL.md, "Calls", draws it.
enum class PayloadForm : std::uint8_t {
    none,
    number,          // 8 bytes: the cursor of a list, the number of a put
    path,            // a text of at most max_path_length bytes
    times,           // two times, or nothing
    attribute_name,  // a text of at most max_xattr_name bytes
    attribute,       // such a name, and the value
};

struct CallForm {
    Call call{};
    std::string_view name{};
    PayloadForm payload = PayloadForm::none;
};

inline constexpr std::array<CallForm, call_count> call_forms{{
    {Call::open, "open", PayloadForm::none},
    {Call::stat, "stat", PayloadForm::none},
    {Call::list, "list", PayloadForm::number},
    {Call::readlink, "readlink", PayloadForm::none},
    {Call::mkdir, "mkdir", PayloadForm::none},
    {Call::remove, "remove", PayloadForm::none},
    {Call::rename, "rename", PayloadForm::path},
    {Call::symlink, "symlink", PayloadForm::path},
    {Call::setattr, "setattr", PayloadForm::times},
    {Call::xattr_read, "xattr_read", PayloadForm::attribute_name},
    {Call::xattr_list, "xattr_list", PayloadForm::none},
    {Call::xattr_write, "xattr_write", PayloadForm::attribute},
    {Call::xattr_remove, "xattr_remove", PayloadForm::attribute_name},
    {Call::put, "put", PayloadForm::none},
    {Call::commit, "commit", PayloadForm::number},
    {Call::discard, "discard", PayloadForm::number},
    {Call::watch, "watch", PayloadForm::none},
}};

consteval bool every_call_has_its_form() {
    for (std::size_t index = 0; index < call_forms.size(); ++index)
        if (static_cast<std::size_t>(call_forms[index].call) != index || call_forms[index].name.empty())
            return false;
    return true;
}
static_assert(every_call_has_its_form(), "a call without a row, or a row out of order");

}  // namespace fdbroker::proto
