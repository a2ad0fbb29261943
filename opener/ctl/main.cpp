// SPDX-License-Identifier: MIT
// openerctl(1).
#include <clocale>
#include <exception>

#include "opener/ctl/cli.hpp"
#include "opener/ctl/terminal.hpp"

int main(int argc, char** argv) {
    // How wide a character is on the terminal; numbers and messages stay as they are.
    std::setlocale(LC_CTYPE, "");
    try {
        return fdbroker::ctl::run(argc, argv);
    } catch (const std::exception& exception) {
        fdbroker::ctl::complain(exception.what());
        return fdbroker::opener::exit_failed;
    }
}
