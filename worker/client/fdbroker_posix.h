// SPDX-License-Identifier: MIT
/* Calls of POSIX by the broker, for programs that are ported: each takes, returns and sets errno as the call of
 * that name.
 *
 *     #define FDBROKER_POSIX_NAMES
 *     #include <fdbroker_posix.h>       after all other headers, or as -include fdbroker_posix.h
 *
 *     struct fdbroker *fdbroker_posix_broker(void) { return broker; }    once in the program
 *
 * With FDBROKER_POSIX_NAMES, open(), stat() and so on are these functions in the rest of that file. Without it, they have
 * the prefix fdbroker_posix_. While fdbroker_posix_broker() is NULL, as before the program connects, the kernel is asked.
 *
 * Header-only, for GNU C and C99 with _DEFAULT_SOURCE, and for C++ (where a member of one of the names stands in the way of
 * FDBROKER_POSIX_NAMES). On machines of 32 bits, see fdbroker_stat_posix(). */
#ifndef FDBROKER_POSIX_H
#define FDBROKER_POSIX_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fdbroker.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The connection of the calling thread, or NULL: the kernel is asked. Defined by the program. */
struct fdbroker* fdbroker_posix_broker(void);

/* A result of fdbroker.h as POSIX has it. */
static inline ssize_t fdbroker_posix_result(ssize_t result) {
    if (result >= 0) return result;
    errno = (int)-result;
    return -1;
}

/* Whether open(2) has a third argument. */
static inline int fdbroker_posix_takes_mode(int flags) {
#ifdef O_TMPFILE
    if ((flags & O_TMPFILE) == O_TMPFILE) return 1;
#endif
    return (flags & O_CREAT) != 0;
}
static inline int fdbroker_posix_open(const char* path, int flags, ...) {
    struct fdbroker* broker = fdbroker_posix_broker();
    mode_t mode = 0;
    if (fdbroker_posix_takes_mode(flags)) {
        va_list rest;
        va_start(rest, flags);
        mode = (mode_t)va_arg(rest, unsigned);
        va_end(rest);
    }
    if (broker == NULL) return open(path, flags, mode);
    return (int)fdbroker_posix_result(fdbroker_open(broker, path, flags, mode));
}
static inline FILE* fdbroker_posix_fopen(const char* path, const char* mode) {
    struct fdbroker* broker = fdbroker_posix_broker();
    return broker == NULL ? fopen(path, mode) : fdbroker_fopen(broker, path, mode);
}

static inline int fdbroker_posix_stat(const char* path, struct stat* status) {
    struct fdbroker* broker = fdbroker_posix_broker();
    if (broker == NULL) return stat(path, status);
    return (int)fdbroker_posix_result(fdbroker_stat_posix(broker, path, 0, status));
}
static inline int fdbroker_posix_lstat(const char* path, struct stat* status) {
    struct fdbroker* broker = fdbroker_posix_broker();
    if (broker == NULL) return lstat(path, status);
    return (int)fdbroker_posix_result(fdbroker_stat_posix(broker, path, AT_SYMLINK_NOFOLLOW, status));
}
static inline int fdbroker_posix_access(const char* path, int mode) {
    struct fdbroker* broker = fdbroker_posix_broker();
    if (broker == NULL) return access(path, mode);
    return (int)fdbroker_posix_result(fdbroker_access(broker, path, mode));
}
static inline ssize_t fdbroker_posix_readlink(const char* path, char* target, size_t size) {
    struct fdbroker* broker = fdbroker_posix_broker();
    char whole[PATH_MAX];
    ssize_t length;
    if (broker == NULL) return readlink(path, target, size);
    length = fdbroker_readlink(broker, path, whole, sizeof whole);
    if (length < 0) return fdbroker_posix_result(length);
    if ((size_t)length > size) length = (ssize_t)size;
    memcpy(target, whole, (size_t)length);
    return length;
}
static inline char* fdbroker_posix_realpath(const char* path, char* resolved) {
    struct fdbroker* broker = fdbroker_posix_broker();
    char whole[PATH_MAX];
    if (broker == NULL) return realpath(path, resolved);
    if (fdbroker_posix_result(fdbroker_realpath(broker, path, whole, sizeof whole)) < 0) return NULL;
    return resolved == NULL ? strdup(whole) : strcpy(resolved, whole);
}

static inline int fdbroker_posix_mkdir(const char* path, mode_t mode) {
    struct fdbroker* broker = fdbroker_posix_broker();
    if (broker == NULL) return mkdir(path, mode);
    return (int)fdbroker_posix_result(fdbroker_mkdir(broker, path, mode));
}
static inline int fdbroker_posix_unlink(const char* path) {
    struct fdbroker* broker = fdbroker_posix_broker();
    if (broker == NULL) return unlink(path);
    return (int)fdbroker_posix_result(fdbroker_remove(broker, path, 0));
}
static inline int fdbroker_posix_rmdir(const char* path) {
    struct fdbroker* broker = fdbroker_posix_broker();
    if (broker == NULL) return rmdir(path);
    return (int)fdbroker_posix_result(fdbroker_remove(broker, path, AT_REMOVEDIR));
}
static inline int fdbroker_posix_remove(const char* path) {
    const int result = fdbroker_posix_unlink(path);
    return result < 0 && errno == EISDIR ? fdbroker_posix_rmdir(path) : result;
}
static inline int fdbroker_posix_rename(const char* path, const char* new_path) {
    struct fdbroker* broker = fdbroker_posix_broker();
    if (broker == NULL) return rename(path, new_path);
    return (int)fdbroker_posix_result(fdbroker_rename(broker, path, new_path, 0));
}
static inline int fdbroker_posix_symlink(const char* target, const char* path) {
    struct fdbroker* broker = fdbroker_posix_broker();
    if (broker == NULL) return symlink(target, path);
    return (int)fdbroker_posix_result(fdbroker_symlink(broker, target, path));
}

static inline int fdbroker_posix_chmod(const char* path, mode_t mode) {
    struct fdbroker* broker = fdbroker_posix_broker();
    struct fdbroker_attributes attributes;
    if (broker == NULL) return chmod(path, mode);
    memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    attributes.set = FDBROKER_SET_MODE;
    attributes.mode = mode & 07777;
    return (int)fdbroker_posix_result(fdbroker_setattr(broker, path, &attributes));
}
static inline int fdbroker_posix_utimes(const char* path, const struct timeval times[2]) {
    struct fdbroker* broker = fdbroker_posix_broker();
    struct fdbroker_attributes attributes;
    if (broker == NULL) return utimes(path, times);
    memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    attributes.set = FDBROKER_SET_TIMES;
    if (times == NULL) {
        attributes.access.tv_nsec = UTIME_NOW;
        attributes.modification.tv_nsec = UTIME_NOW;
    } else {
        attributes.access.tv_sec = times[0].tv_sec;
        attributes.access.tv_nsec = times[0].tv_usec * 1000;
        attributes.modification.tv_sec = times[1].tv_sec;
        attributes.modification.tv_nsec = times[1].tv_usec * 1000;
    }
    return (int)fdbroker_posix_result(fdbroker_setattr(broker, path, &attributes));
}
static inline int fdbroker_posix_utime(const char* path, const struct utimbuf* times) {
    struct timeval both[2] = {{0, 0}, {0, 0}};
    if (times == NULL) return fdbroker_posix_utimes(path, NULL);
    both[0].tv_sec = times->actime;
    both[1].tv_sec = times->modtime;
    return fdbroker_posix_utimes(path, both);
}

/* Only of the connection, which a getcwd() of the program does not learn. */
static inline int fdbroker_posix_chdir(const char* path) {
    struct fdbroker* broker = fdbroker_posix_broker();
    struct stat status;
    if (broker == NULL) return chdir(path);
    if (fdbroker_posix_stat(path, &status) < 0) return -1;
    return (int)fdbroker_posix_result(S_ISDIR(status.st_mode) ? fdbroker_set_directory(broker, path)
                                                              : -ENOTDIR);
}

/* DIR of dirent.h. "." and ".." come first, without an inode. */
typedef struct fdbroker_posix_dir {
    DIR* kernel; /* NULL: the broker is asked */
    struct fdbroker_dir* broker;
    unsigned dots; /* how many of "." and ".." were told */
    struct dirent entry;
} fdbroker_posix_DIR;

static inline fdbroker_posix_DIR* fdbroker_posix_opendir(const char* path) {
    struct fdbroker* broker = fdbroker_posix_broker();
    fdbroker_posix_DIR* directory = (fdbroker_posix_DIR*)calloc(1, sizeof *directory);
    int error = 0;
    if (directory == NULL) return NULL;
    if (broker != NULL)
        error = fdbroker_opendir(broker, path, 0, &directory->broker);
    else if ((directory->kernel = opendir(path)) == NULL)
        error = -errno;
    if (error == 0) return directory;
    free(directory);
    errno = -error;
    return NULL;
}
static inline struct dirent* fdbroker_posix_readdir(fdbroker_posix_DIR* directory) {
    struct dirent* entry = &directory->entry;
    const struct fdbroker_entry* next = NULL;
    if (directory->kernel != NULL) return readdir(directory->kernel);
    if (directory->dots < 2) {
        strcpy(entry->d_name, directory->dots++ == 0 ? "." : "..");
        entry->d_type = DT_DIR;
        return entry;
    }
    if (fdbroker_posix_result(fdbroker_readdir(directory->broker, &next)) <= 0) return NULL;
    snprintf(entry->d_name, sizeof entry->d_name, "%s", next->name);
    entry->d_ino = (ino_t)next->inode;
    entry->d_type = next->type;
    return entry;
}
static inline int fdbroker_posix_closedir(fdbroker_posix_DIR* directory) {
    const int result = directory->kernel != NULL
                           ? closedir(directory->kernel)
                           : (int)fdbroker_posix_result(fdbroker_closedir(directory->broker));
    free(directory);
    return result;
}
/* Frees what scandir() has found. */
static inline int fdbroker_posix_forget(struct dirent** found, size_t count, int error) {
    while (count > 0) free(found[--count]);
    free(found);
    errno = error;
    return -1;
}
static inline int fdbroker_posix_scandir(const char* path, struct dirent*** entries,
                                         int (*filter)(const struct dirent*),
                                         int (*compare)(const struct dirent**, const struct dirent**)) {
    fdbroker_posix_DIR* directory;
    struct dirent** found = NULL;
    struct dirent* entry;
    size_t count = 0;
    int error = 0;
    if (fdbroker_posix_broker() == NULL) return scandir(path, entries, filter, compare);
    if ((directory = fdbroker_posix_opendir(path)) == NULL) return -1;
    for (;;) {
        struct dirent** more;
        errno = 0;
        if ((entry = fdbroker_posix_readdir(directory)) == NULL) {
            error = errno;
            break;
        }
        if (filter != NULL && filter(entry) == 0) continue;
        more = (struct dirent**)realloc(found, (count + 1) * sizeof *found);
        if (more != NULL) found = more;
        if (more == NULL || (found[count] = (struct dirent*)malloc(sizeof *entry)) == NULL) {
            error = ENOMEM;
            break;
        }
        memcpy(found[count++], entry, sizeof *entry);
    }
    fdbroker_posix_closedir(directory);
    if (error != 0) return fdbroker_posix_forget(found, count, error);
    if (compare != NULL && count > 1)
        qsort(found, count, sizeof *found, (int (*)(const void*, const void*))compare);
    *entries = found;
    return (int)count;
}

#ifdef __cplusplus
}
#endif

#endif

#if defined FDBROKER_POSIX_NAMES && !defined FDBROKER_POSIX_NAMED
#define FDBROKER_POSIX_NAMED
#define open(...) fdbroker_posix_open(__VA_ARGS__)
#define fopen(path, mode) fdbroker_posix_fopen(path, mode)
#define stat(path, status) fdbroker_posix_stat(path, status)
#define lstat(path, status) fdbroker_posix_lstat(path, status)
#define access(path, mode) fdbroker_posix_access(path, mode)
#define readlink(path, target, size) fdbroker_posix_readlink(path, target, size)
#define realpath(path, resolved) fdbroker_posix_realpath(path, resolved)
#define mkdir(path, mode) fdbroker_posix_mkdir(path, mode)
#define unlink(path) fdbroker_posix_unlink(path)
#define rmdir(path) fdbroker_posix_rmdir(path)
#define remove(path) fdbroker_posix_remove(path)
#define rename(path, new_path) fdbroker_posix_rename(path, new_path)
#define symlink(target, path) fdbroker_posix_symlink(target, path)
#define chmod(path, mode) fdbroker_posix_chmod(path, mode)
#define utime(path, times) fdbroker_posix_utime(path, times)
#define utimes(path, times) fdbroker_posix_utimes(path, times)
#define chdir(path) fdbroker_posix_chdir(path)
#define DIR fdbroker_posix_DIR
#define opendir(path) fdbroker_posix_opendir(path)
#define readdir(directory) fdbroker_posix_readdir(directory)
#define closedir(directory) fdbroker_posix_closedir(directory)
#define scandir(path, entries, filter, compare) fdbroker_posix_scandir(path, entries, filter, compare)
#endif
