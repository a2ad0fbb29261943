// SPDX-License-Identifier: MIT
/* jhead with its files from the broker. jhead's own sources are compiled with
 *
 *     -DFDBROKER_POSIX_NAMES -include fdbroker_posix.h -Dmain=jhead_main
 */
#include <err.h>
#include <fdbroker_posix.h>

int jhead_main(int argc, char** argv);

static struct fdbroker* broker;

struct fdbroker* fdbroker_posix_broker(void) {
    return broker;
}

int main(int argc, char** argv) {
    char directory[PATH_MAX];
    char reason[300];
    int error;

    if (getcwd(directory, sizeof directory) == NULL) err(1, "getcwd");
    if (fdbroker_connect_reason(&broker, NULL, 0, reason, sizeof reason) < 0) errx(4, "%s", reason);
    fdbroker_set_directory(broker, directory);
    fdbroker_prepare();
    error = fdbroker_confine(FDBROKER_CONFINE_NAMESPACES | FDBROKER_CONFINE_BEST_EFFORT);
    if (error < 0) errx(1, "the sandbox: %s", strerror(-error));
    return jhead_main(argc, argv);
}
