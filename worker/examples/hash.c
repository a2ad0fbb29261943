// SPDX-License-Identifier: MIT
/* hash PATH...: prints the FNV-1a hash of files that this process could not open itself.
 *
 * Connect, confine, ask: whatever is done to the content later can reach nothing but the broker's socket.
 *
 *     cc -o hash hash.c $(pkg-config --cflags --libs fdbroker) */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fdbroker.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* 0 when the file could be read to its end. */
static int hash(int file, uint64_t* value) {
    unsigned char block[65536];
    ssize_t size;

    *value = 0xcbf29ce484222325;
    while ((size = read(file, block, sizeof block)) > 0)
        for (ssize_t at = 0; at < size; ++at) *value = (*value ^ block[at]) * 0x100000001b3;
    return size == 0 ? 0 : -1;
}

int main(int argc, char** argv) {
    struct fdbroker* broker;
    int failed = 0;

    int error = fdbroker_connect(&broker, NULL);
    if (error < 0) errx(4, "the broker: %s", strerror(-error));
    error = fdbroker_confine(FDBROKER_CONFINE_DESCRIPTORS | FDBROKER_CONFINE_NAMESPACES |
                             FDBROKER_CONFINE_LIMITS | FDBROKER_CONFINE_BEST_EFFORT);
    if (error < 0) errx(1, "the sandbox: %s", strerror(-error));

    for (int index = 1; index < argc; ++index) {
        uint64_t value;
        const int file = fdbroker_open(broker, argv[index], O_RDONLY, 0);
        if (file < 0) {
            warnx("%s: %s: %s", argv[index], strerror(-file), fdbroker_reason(broker));
            failed = 1;
            continue;
        }
        if (hash(file, &value) == 0) {
            printf("%016" PRIx64 "  %s\n", value, argv[index]);
        } else {
            warn("%s", argv[index]);
            failed = 1;
        }
        close(file);
    }
    fdbroker_disconnect(broker);
    return failed;
}
