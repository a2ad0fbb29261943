// SPDX-License-Identifier: MIT
/* mini_httpd, a fork for each request, with its files from the broker: included by mini_httpd.c after the system's headers. */
#define FDBROKER_POSIX_NAMES
#include <err.h>
#include <fdbroker_posix.h>

enum { requests_at_a_time = 16 };

static struct fdbroker_pool* pool;
static char served_directory[PATH_MAX];

/* Each process has a connection of the pool, from its first question to its end. */
struct fdbroker* fdbroker_posix_broker(void) {
    static struct fdbroker* taken;
    static pid_t taken_by;
    if (pool == NULL) return NULL;
    if (taken_by != getpid()) {
        if (fdbroker_pool_get(pool, &taken, -1) < 0 || fdbroker_set_directory(taken, served_directory) < 0)
            errx(1, "no connection to the broker is left");
        taken_by = getpid();
    }
    return taken;
}

/* After the sockets are made and the user is changed. */
static void confine(void) {
    struct fdbroker_confine_options options = {.size = sizeof options};
    int error;

    if (getcwd(served_directory, sizeof served_directory) == NULL) err(1, "getcwd");
    pool = fdbroker_pool_new(NULL, requests_at_a_time);
    if (pool == NULL) err(4, "the broker");
    fdbroker_prepare();
    options.flags = FDBROKER_CONFINE_NAMESPACES | FDBROKER_CONFINE_BEST_EFFORT;
    options.allow = FDBROKER_ALLOW_TCP_OPTIONS;
    error = fdbroker_confine_with(&options);
    if (error < 0) errx(1, "the sandbox: %s", strerror(-error));
}
