// SPDX-License-Identifier: MIT
/* pool_rate threads|mutex|children|fork|connect PATH COUNT: opens a second, for two seconds.
 *
 * threads: COUNT threads, each with a connection of a pool; mutex: COUNT threads and one connection with a mutex around it;
 * children: COUNT children, each with a connection of a pool; fork: a child for each open, with a connection of the pool;
 * connect: a child for each open that connects anew. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fdbroker.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { duration = 2 };

static const char* path;
static struct fdbroker_pool* pool;
static struct fdbroker* shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_long* opens;
static struct timespec begin;

static int is_over(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec - begin.tv_sec >= duration;
}

static void open_once(struct fdbroker* broker) {
    const int file = fdbroker_open(broker, path, O_RDONLY, 0);
    if (file < 0) errx(1, "%s: %s", path, fdbroker_reason(broker));
    close(file);
}

static void* with_own(void* unused) {
    struct fdbroker* broker;
    long count = 0;
    const int error = fdbroker_pool_get(pool, &broker, -1);
    if (error < 0) errx(1, "the pool: %s", strerror(-error));
    for (; count % 64 != 0 || !is_over(); ++count) open_once(broker);
    fdbroker_pool_put(pool, broker);
    atomic_fetch_add(opens, count);
    return unused;
}

static void* with_mutex(void* unused) {
    long count = 0;
    for (; count % 64 != 0 || !is_over(); ++count) {
        pthread_mutex_lock(&mutex);
        open_once(shared);
        pthread_mutex_unlock(&mutex);
    }
    atomic_fetch_add(opens, count);
    return unused;
}

static void run_threads(void* (*body)(void*), int count) {
    pthread_t* threads = calloc((size_t)count, sizeof *threads);
    for (int index = 0; index < count; ++index)
        if (pthread_create(&threads[index], NULL, body, NULL) != 0) errx(1, "no thread");
    for (int index = 0; index < count; ++index) pthread_join(threads[index], NULL);
    free(threads);
}

static void run_children(int count) {
    for (int index = 0; index < count; ++index)
        if (fork() == 0) {
            with_own(NULL);
            _exit(0);
        }
    while (wait(NULL) > 0) {
    }
}

/* A child for each open, one after the other. */
static void run_forks(int connects) {
    for (; !is_over(); atomic_fetch_add(opens, 1)) {
        if (fork() == 0) {
            struct fdbroker* broker;
            const int error =
                connects ? fdbroker_connect(&broker, NULL) : fdbroker_pool_get(pool, &broker, -1);
            if (error < 0) errx(1, "%s", strerror(-error));
            open_once(broker);
            _exit(0);
        }
        wait(NULL);
    }
}

int main(int argc, char** argv) {
    int count;
    if (argc != 4 || (count = atoi(argv[3])) < 1) errx(2, "usage: pool_rate MODE PATH COUNT");
    path = argv[2];
    opens = mmap(NULL, sizeof *opens, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pool = fdbroker_pool_new(NULL, (unsigned)count);
    if (pool == NULL || fdbroker_connect(&shared, NULL) < 0) errx(4, "the broker");
    clock_gettime(CLOCK_MONOTONIC, &begin);
    if (strcmp(argv[1], "threads") == 0)
        run_threads(with_own, count);
    else if (strcmp(argv[1], "mutex") == 0)
        run_threads(with_mutex, count);
    else if (strcmp(argv[1], "children") == 0)
        run_children(count);
    else
        run_forks(strcmp(argv[1], "connect") == 0);
    printf("%ld\n", atomic_load(opens) / duration);
    return 0;
}
