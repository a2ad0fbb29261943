// SPDX-License-Identifier: MIT
/* sqlite_port original|ported DATABASE ROWS: SQLite as Debian builds it, and the same library with its system calls led to
 * libfdbroker, confined. Makes a table in WAL mode with ROWS rows, one transaction each hundred. Prints what is read then
 * and the integrity check's verdict, and on standard error the nanoseconds of the inserts. */
#define _GNU_SOURCE
#include <err.h>
#include <fdbroker_posix.h>
#include <sqlite3.h>
#include <time.h>

/* ---- the port: SQLite's own table of system calls (xSetSystemCall of its VFS) ---- */

static struct fdbroker* broker;

struct fdbroker* fdbroker_posix_broker(void) {
    return broker;
}

static int port_open(const char* path, int flags, int mode) {
    return fdbroker_posix_open(path, flags, mode);
}
static char* port_getcwd(char* buffer, size_t size) {
    snprintf(buffer, size, "/");
    return buffer;
}
static int port_lstat(const char* path, struct stat* status) {
    const int result = fdbroker_posix_lstat(path, status);
    /* SQLite looks at each directory on the way for links. The broker follows none, and need not tell of them. */
    if (result < 0 && errno == EACCES) errno = ENOENT;
    return result;
}
/* For fsync(2) of a directory, which the broker has done for what it makes. */
static int port_open_directory(const char* path, int* descriptor) {
    (void)path;
    *descriptor = -1;
    return SQLITE_CANTOPEN;
}

static const struct {
    const char* name;
    sqlite3_syscall_ptr call;
} port[] = {
    {"open", (sqlite3_syscall_ptr)port_open},
    {"access", (sqlite3_syscall_ptr)fdbroker_posix_access},
    {"getcwd", (sqlite3_syscall_ptr)port_getcwd},
    {"stat", (sqlite3_syscall_ptr)fdbroker_posix_stat},
    {"lstat", (sqlite3_syscall_ptr)port_lstat},
    {"readlink", (sqlite3_syscall_ptr)fdbroker_posix_readlink},
    {"unlink", (sqlite3_syscall_ptr)fdbroker_posix_unlink},
    {"mkdir", (sqlite3_syscall_ptr)fdbroker_posix_mkdir},
    {"rmdir", (sqlite3_syscall_ptr)fdbroker_posix_rmdir},
    {"openDirectory", (sqlite3_syscall_ptr)port_open_directory},
};

static void lead_to_the_broker(void) {
    sqlite3_vfs* vfs = sqlite3_vfs_find(NULL);
    char reason[300];
    int error = fdbroker_connect_reason(&broker, NULL, 0, reason, sizeof reason);

    if (error < 0) errx(4, "%s", reason);
    for (size_t index = 0; index < sizeof port / sizeof *port; ++index)
        if (vfs->xSetSystemCall(vfs, port[index].name, port[index].call) != SQLITE_OK)
            errx(1, "%s: SQLite has no such call", port[index].name);
    fdbroker_prepare();
    error = fdbroker_confine(FDBROKER_CONFINE_BEST_EFFORT);
    if (error < 0) errx(1, "the sandbox: %s", strerror(-error));
}

/* ---- what both do ---- */

static sqlite3* database;

static void must(int result, const char* what) {
    if (result == SQLITE_OK || result == SQLITE_DONE || result == SQLITE_ROW) return;
    errx(1, "%s: %s", what, sqlite3_errmsg(database));
}
static void run(const char* sql) {
    must(sqlite3_exec(database, sql, NULL, NULL, NULL), sql);
}
static int print_row(void* unused, int count, char** values, char** names) {
    (void)unused;
    (void)names;
    for (int column = 0; column < count; ++column) printf("%s%s", column == 0 ? "" : "|", values[column]);
    putchar('\n');
    return 0;
}
static void print(const char* sql) {
    must(sqlite3_exec(database, sql, print_row, NULL, NULL), sql);
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void insert(int rows) {
    sqlite3_stmt* statement;
    must(sqlite3_prepare_v2(database, "INSERT INTO t VALUES (?, 'row ' || ?)", -1, &statement, NULL),
         "insert");
    for (int row = 0; row < rows; ++row) {
        if (row % 100 == 0) run("BEGIN");
        sqlite3_bind_int(statement, 1, row);
        sqlite3_bind_int(statement, 2, row);
        must(sqlite3_step(statement), "insert");
        sqlite3_reset(statement);
        if (row % 100 == 99 || row == rows - 1) run("COMMIT");
    }
    sqlite3_finalize(statement);
}

int main(int argc, char** argv) {
    long long begin;
    if (argc != 4) errx(2, "usage: sqlite_port original|ported DATABASE ROWS");
    if (strcmp(argv[1], "ported") == 0) lead_to_the_broker();
    must(sqlite3_open(argv[2], &database), argv[2]);
    print("PRAGMA journal_mode = WAL");
    run("CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT)");
    begin = now();
    insert(atoi(argv[3]));
    fprintf(stderr, "%lld\n", now() - begin);
    run("UPDATE t SET text = text || '!' WHERE number % 3 = 0; DELETE FROM t WHERE number % 7 = 0");
    print("SELECT count(*), sum(number), max(text) FROM t");
    print("PRAGMA wal_checkpoint(TRUNCATE)");
    print("PRAGMA integrity_check");
    run("VACUUM");
    print("PRAGMA journal_mode = DELETE");
    print("SELECT count(*) FROM t WHERE text LIKE '%!'");
    must(sqlite3_close(database), "close");
    return 0;
}
