// SPDX-License-Identifier: MIT
#include "worker/client/status.hpp"

#include "proto/payload.hpp"

namespace fdbroker::worker {
namespace {

statx_timestamp time_of(const proto::Timestamp& time) {
    statx_timestamp told{};
    told.tv_sec = time.seconds;
    told.tv_nsec = time.nanoseconds;
    return told;
}

}  // namespace

bool read_statx(std::string_view payload, struct statx& status) {
    const auto told = proto::read_status(payload);
    if (told) to_statx(*told, status);
    return told.has_value();
}

void to_statx(const proto::Status& told, struct statx& status) {
    status = {};
    status.stx_mask = told.mask;
    status.stx_blksize = told.block_size;
    status.stx_attributes = told.attributes;
    status.stx_nlink = told.links;
    status.stx_uid = told.uid;
    status.stx_gid = told.gid;
    status.stx_mode = told.mode;
    status.stx_ino = told.inode;
    status.stx_size = told.size;
    status.stx_blocks = told.blocks;
    status.stx_attributes_mask = told.attributes_mask;
    status.stx_atime = time_of(told.access);
    status.stx_btime = time_of(told.birth);
    status.stx_ctime = time_of(told.change);
    status.stx_mtime = time_of(told.modification);
    status.stx_rdev_major = told.rdev_major;
    status.stx_rdev_minor = told.rdev_minor;
    status.stx_dev_major = told.dev_major;
    status.stx_dev_minor = told.dev_minor;
}

}  // namespace fdbroker::worker
