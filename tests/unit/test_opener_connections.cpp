// SPDX-License-Identifier: MIT
// The table of connections: how many a generation has adopted, and when another must give way.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <vector>

#include "opener/supervisor/connection_table.hpp"

using namespace fdbroker;
using namespace fdbroker::opener;

namespace {

constexpr std::size_t max = 2;

ConnectionId add(ConnectionTable& table, std::uint32_t uid,
                 Connection::Purpose purpose = Connection::Purpose::requests) {
    return table.add({.socket = proto::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
                      .uid = uid,
                      .purpose = purpose});
}

// Whether another connection had to give way.
bool adopt(ConnectionTable& table, ConnectionId id) {
    const bool needs_room = table.needs_room(id, max);
    static_cast<void>(table.adoption(id));
    return needs_room;
}

}  // namespace

TEST_CASE("connections: in whatever order names come, as many need room as a full table is exceeded by") {
    // The last one came to a full table; its names may be known before those of others.
    for (const std::vector<std::size_t>& order : {std::vector<std::size_t>{0, 1, 2}, {2, 0, 1}, {0, 2, 1}}) {
        ConnectionTable table;
        const std::vector ids{add(table, 1), add(table, 2), add(table, 3)};
        CHECK_FALSE(adopt(table, ids[order[0]]));
        CHECK_FALSE(adopt(table, ids[order[1]]));
        CHECK(adopt(table, ids[order[2]]));
        // Once adopted, a connection needs room no more.
        for (const ConnectionId id : ids) CHECK_FALSE(table.needs_room(id, max));
    }
}

TEST_CASE("connections: a released connection leaves its place, a control connection takes none") {
    ConnectionTable table;
    const ConnectionId first = add(table, 1), second = add(table, 2);
    CHECK_FALSE(adopt(table, first));
    CHECK_FALSE(adopt(table, second));
    CHECK_FALSE(adopt(table, add(table, 0, Connection::Purpose::control)));
    table.release(first);
    CHECK_FALSE(adopt(table, add(table, 3)));
    CHECK(adopt(table, add(table, 4)));
    // A connection that nobody adopted leaves no place.
    table.release(add(table, 5));
    CHECK(adopt(table, add(table, 6)));
}

TEST_CASE("connections: the next generation begins with an empty table") {
    ConnectionTable table;
    const ConnectionId first = add(table, 1), second = add(table, 2), third = add(table, 3);
    CHECK_FALSE(adopt(table, first));
    CHECK_FALSE(adopt(table, second));
    CHECK(adopt(table, third));
    table.release(second);
    table.begin_generation();
    CHECK_FALSE(adopt(table, first));
    CHECK_FALSE(adopt(table, third));
    CHECK(adopt(table, add(table, 4)));
}
