// SPDX-License-Identifier: MIT
#include "tests/integration/put_client.hpp"

#include <unistd.h>

#include <fdbroker.hpp>
#include <stdexcept>

namespace put_client {

std::vector<int> put(const std::string& socket, const std::string& path, const std::string& content,
                     const std::function<bool(int)>& goes_on, unsigned flags) {
    auto broker = fdb::Broker::connect(socket);
    if (!broker) throw std::runtime_error(broker.error().message());
    auto begun = broker->put(path);
    if (!begun) return {begun.error().code};
    if (::write(begun->get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()))
        throw std::runtime_error("the file was not filled");
    std::vector<int> ends;
    while (goes_on(begun->get())) {
        const auto committed = begun->commit(flags);
        ends.push_back(committed ? 0 : committed.error().code);
        if (committed) break;
    }
    return ends;
}

}  // namespace put_client
