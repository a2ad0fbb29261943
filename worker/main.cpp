// SPDX-License-Identifier: MIT
#include <exception>

#include "worker/cli.hpp"

int main(int argc, char** argv) {
    using namespace fdbroker::worker;
    try {
        return static_cast<int>(run(argc, argv));
    } catch (const std::exception& exception) {
        complain(exception.what());
        return static_cast<int>(ExitStatus::failed);
    }
}
