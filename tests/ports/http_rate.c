// SPDX-License-Identifier: MIT
/* http_rate once|kept PORT PATH COUNT: requests a second of a server on 127.0.0.1, of COUNT GET requests by four threads.
 *
 * once: a connection for each request; kept: one for each thread. Every answer says its Content-Length, is read to the end,
 * and is 200, or this program ends with 1. */
#define _GNU_SOURCE /* memmem, strcasestr */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { thread_count = 4 };

static int is_kept;
static unsigned short port;
static char request[5000];
static atomic_int left;

static int connect_to_server(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    const int one = 1;
    const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (server < 0 || connect(server, (const struct sockaddr*)&address, sizeof address) != 0)
        err(1, "connect");
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return server;
}

/* The length of headers and body when the headers are whole and tell it; else 0. */
static size_t length_of(const char* answer) {
    const char* end = strstr(answer, "\r\n\r\n");
    const char* told = strcasestr(answer, "\r\nContent-Length:");
    if (end == NULL || told == NULL || told > end) return 0;
    return (size_t)(end + 4 - answer) + strtoul(told + strlen("\r\nContent-Length:"), NULL, 10);
}

static void get(int server) {
    char head[16384] = "";
    char rest[65536];
    size_t size = 0;
    size_t wanted = 0;

    if (send(server, request, strlen(request), MSG_NOSIGNAL) != (ssize_t)strlen(request)) err(1, "send");
    while (wanted == 0 || size < wanted) {
        const int is_head = size < sizeof head - 1;
        const ssize_t got = is_head ? recv(server, head + size, sizeof head - 1 - size, 0)
                                    : recv(server, rest, sizeof rest, 0);
        if (got < 0) err(1, "recv");
        if (got == 0) break;
        size += (size_t)got;
        if (is_head) head[size] = '\0';
        if (is_head && wanted == 0) wanted = length_of(head);
    }
    if (strncmp(head, "HTTP/1.", 7) != 0 || strncmp(head + 8, " 200 ", 5) != 0 || size < wanted)
        errx(1, "the answer: %.60s", head);
}

static void* run(void* unused) {
    int server = is_kept ? connect_to_server() : -1;
    while (atomic_fetch_sub(&left, 1) > 0) {
        if (!is_kept) server = connect_to_server();
        get(server);
        if (!is_kept) close(server);
    }
    return unused;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char** argv) {
    pthread_t threads[thread_count];
    double begin;
    int count;

    if (argc != 5 || (count = atoi(argv[4])) < 1) errx(2, "usage: http_rate once|kept PORT PATH COUNT");
    is_kept = strcmp(argv[1], "kept") == 0;
    port = (unsigned short)atoi(argv[2]);
    snprintf(request, sizeof request, "GET %s HTTP/1.%d\r\nHost: localhost\r\n%s\r\n", argv[3], is_kept,
             is_kept ? "" : "Connection: close\r\n");
    atomic_init(&left, count);
    begin = now();
    for (int index = 0; index < thread_count; ++index)
        if (pthread_create(&threads[index], NULL, run, NULL) != 0) errx(1, "no thread");
    for (int index = 0; index < thread_count; ++index) pthread_join(threads[index], NULL);
    printf("%.0f\n", count / (now() - begin));
    return 0;
}
