// SPDX-License-Identifier: MIT
/* prefork SOCKET CHILDREN: serves files over a Unix socket that this process could not open itself, by several children.
 *
 * A client sends a path and a newline; it gets the file, or nothing when that is refused. The parent connects, listens and
 * confines itself; each child takes a connection of the pool, and nobody connects again.
 *
 *     cc -o prefork prefork.c $(pkg-config --cflags --libs fdbroker) */
#define _GNU_SOURCE /* accept4 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fdbroker.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int listen_at(const char* path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    /* NOLINTNEXTLINE(clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling): glibc has no snprintf_s */
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (listener < 0 || bind(listener, (const struct sockaddr*)&address, sizeof address) != 0 ||
        listen(listener, 64) != 0)
        err(1, "%s", path);
    return listener;
}

static void serve(struct fdbroker* broker, int client) {
    char path[4096];
    size_t length = 0;
    ssize_t size;
    int file;

    while (length < sizeof path - 1 && (size = read(client, path + length, sizeof path - 1 - length)) > 0) {
        length += (size_t)size;
        if (path[length - 1] == '\n') break;
    }
    if (length == 0 || path[length - 1] != '\n') return;
    path[length - 1] = '\0';
    file = fdbroker_open(broker, path, O_RDONLY, 0);
    if (file < 0) {
        warnx("%d: %s: %s", (int)getpid(), path, fdbroker_reason(broker));
        return;
    }
    while (sendfile(client, file, NULL, 1 << 20) > 0) {
    }
    close(file);
}

static _Noreturn void be_a_child(struct fdbroker_pool* pool, int listener) {
    struct fdbroker* broker;
    const int error = fdbroker_pool_get(pool, &broker, -1);
    if (error < 0) errx(1, "the pool: %s", strerror(-error));
    for (;;) {
        const int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) continue;
        serve(broker, client);
        close(client);
    }
}

int main(int argc, char** argv) {
    struct fdbroker_confine_options options = {.size = sizeof options};
    struct fdbroker_pool* pool;
    int listener;
    int error;
    int children;

    children = argc == 3 ? atoi(argv[2]) : 0;
    if (children < 1) errx(2, "usage: prefork SOCKET CHILDREN");
    pool = fdbroker_pool_new(NULL, (unsigned)children);
    if (pool == NULL) err(4, "the broker");
    listener = listen_at(argv[1]);
    fdbroker_prepare();
    options.flags = FDBROKER_CONFINE_NAMESPACES | FDBROKER_CONFINE_BEST_EFFORT;
    options.keep = &listener;
    options.keep_count = 1;
    error = fdbroker_confine_with(&options);
    if (error < 0) errx(1, "the sandbox: %s", strerror(-error));

    printf("serving %s\n", argv[1]);
    fflush(stdout);
    for (int child = 0; child < children; ++child)
        if (fork() == 0) be_a_child(pool, listener);
    /* A child that ends gives its connection back, and another takes its place. */
    while (wait(NULL) > 0)
        if (fork() == 0) be_a_child(pool, listener);
    return 0;
}
