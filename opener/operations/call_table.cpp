// SPDX-License-Identifier: MIT
#include "opener/request/call_table.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/xattr.h>

#include <algorithm>

#include "opener/operations/change.hpp"
#include "opener/operations/list.hpp"
#include "opener/operations/look.hpp"
#include "opener/operations/open.hpp"
#include "opener/operations/put.hpp"
#include "opener/operations/rename.hpp"
#include "opener/operations/request_faults.hpp"
#include "opener/operations/watch.hpp"
#include "proto/payload.hpp"
#include "proto/watch.hpp"

namespace fdbroker::opener {

using policy::Operation;
using policy::OperationSet;
using proto::Call;

namespace {

constexpr OperationSet changing_attributes{Operation::xattr, Operation::setattr};
// As to open a file for writing that is created where it is missing and truncated where it is there.
constexpr OperationSet putting{Operation::write, Operation::create, Operation::truncate};

}  // namespace

constexpr std::array<CallRow, proto::call_count> call_table{{
    {.call = Call::open,
     .handler = open_file,
     .asks = Asks::open_flags,
     .mode = Mode::taken,
     .keep_link_flag = O_NOFOLLOW,
     .in_batch = InBatch::allowed,
     .changing_flags = O_CREAT | O_TRUNC,
     .tried_in = TriedIn::loop,
     .subject = Subject::file},
    {.call = Call::stat,
     .handler = stat_object,
     .operations = {Operation::stat},
     .flags = AT_SYMLINK_NOFOLLOW,
     .keep_link_flag = AT_SYMLINK_NOFOLLOW,
     .in_batch = InBatch::allowed,
     .tried_in = TriedIn::loop,
     .subject = Subject::status},
    {.call = Call::list,
     .handler = list_directory,
     .operations = {Operation::list},
     .flags = proto::list_with_status,
     .subject = Subject::directory},
    {.call = Call::readlink,
     .handler = read_link,
     .operations = {Operation::readlink},
     .last_link = LastLink::keep,
     .in_batch = InBatch::allowed,
     .tried_in = TriedIn::loop,
     .subject = Subject::link},
    {.call = Call::mkdir,
     .handler = make_directory,
     .operations = {Operation::mkdir},
     .mode = Mode::taken,
     .last_link = LastLink::keep,
     .subject = Subject::new_directory},
    {.call = Call::remove,
     .handler = remove_name,
     .operations = {Operation::remove},
     .flags = AT_REMOVEDIR,
     .last_link = LastLink::keep,
     .subject = Subject::name},
    {.call = Call::rename,
     .handler = rename_object,
     .asks = Asks::two_names,
     .operations = {Operation::rename},
     .flags = RENAME_NOREPLACE,
     .last_link = LastLink::keep,
     .subject = Subject::name},
    {.call = Call::symlink,
     .handler = make_link,
     .operations = {Operation::symlink},
     .find_fault = fault_of_link_target,
     .last_link = LastLink::keep,
     .subject = Subject::new_link},
    {.call = Call::setattr,
     .handler = set_attributes,
     .operations = {Operation::setattr},
     .flags = proto::setattr_mode | proto::setattr_times | proto::setattr_link,
     .mode = Mode::taken,
     .find_fault = fault_of_attributes,
     .keep_link_flag = proto::setattr_link},
    {.call = Call::xattr_read,
     .handler = read_attribute_value,
     .operations = {Operation::xattr},
     .find_fault = fault_of_attribute_name},
    {.call = Call::xattr_list, .handler = list_attributes, .operations = {Operation::xattr}},
    {.call = Call::xattr_write,
     .handler = write_attribute,
     .operations = changing_attributes,
     .flags = XATTR_CREATE | XATTR_REPLACE,
     .find_fault = fault_of_attribute_name},
    {.call = Call::xattr_remove,
     .handler = remove_attribute,
     .operations = changing_attributes,
     .find_fault = fault_of_attribute_name},
    {.call = Call::put,
     .handler = begin_put,
     .operations = putting,
     .mode = Mode::taken,
     .background = Background::begins,
     .subject = Subject::file},
    {.call = Call::commit,
     .handler = no_such_put,
     .operations = putting,
     .flags = RENAME_NOREPLACE,
     .tried_in = TriedIn::loop,
     .background = Background::continues,
     .subject = Subject::file},
    {.call = Call::discard,
     .handler = no_such_put,
     .operations = putting,
     .tried_in = TriedIn::loop,
     .background = Background::continues,
     .subject = Subject::file},
    {.call = Call::watch,
     .handler = begin_watch,
     .operations = {Operation::stat},
     .otherwise = {Operation::read},
     .flags = proto::watch_all,
     .find_fault = fault_of_watch,
     .background = Background::begins,
     .subject = Subject::status},
}};

namespace {

consteval bool each(bool (*holds)(const CallRow&)) {
    return std::ranges::all_of(call_table, holds);
}
consteval bool in_order() {
    for (std::size_t index = 0; index < call_table.size(); ++index)
        if (static_cast<std::size_t>(call_table[index].call) != index) return false;
    return true;
}
static_assert(in_order(), "a call without a row, or a row out of order");
static_assert(each([](const CallRow& row) {
                  const bool by_flags = row.asks == Asks::open_flags;
                  return row.operations.empty() == by_flags && (!by_flags || row.flags == 0);
              }),
              "operations and flags are the row's, or those of OpenFlags");
static_assert(each([](const CallRow& row) {
                  const std::uint32_t named = row.keep_link_flag | row.changing_flags;
                  return row.asks == Asks::open_flags || (named & ~row.flags) == 0;
              }),
              "a flag that the call does not take means nothing");
static_assert(each([](const CallRow& row) {
                  return row.in_batch == InBatch::allowed || row.changing_flags == 0;
              }),
              "no flag matters to a batch that refuses the call");
static_assert(each([](const CallRow& row) {
                  return row.background != Background::continues || row.tried_in == TriedIn::loop;
              }),
              "only the loop knows which helper has the work that a call continues");

}  // namespace

}  // namespace fdbroker::opener
