/* SPDX-License-Identifier: MIT */
/* A directory service as nss(5) has it: it finds accounts by name and by number, and enumerates none.
 *
 * The file that FDBROKER_TEST_DIRECTORY names has a line for each account, "name id". A name of "?" stands for an account
 * that the service never answers for, "!" for one for which it fails. Users and groups are the same. */
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum nss_status _nss_fdbtest_getpwnam_r(const char* name, struct passwd* entry, char* buffer, size_t size,
                                        int* error);
enum nss_status _nss_fdbtest_getpwuid_r(uid_t uid, struct passwd* entry, char* buffer, size_t size,
                                        int* error);
enum nss_status _nss_fdbtest_getgrnam_r(const char* name, struct group* entry, char* buffer, size_t size,
                                        int* error);
enum nss_status _nss_fdbtest_getgrgid_r(gid_t gid, struct group* entry, char* buffer, size_t size,
                                        int* error);

struct account {
    char name[64];
    unsigned id;
};

/* By name, or where that is NULL by id. */
static enum nss_status find(const char* name, unsigned id, struct account* found, int* error) {
    const char* path = getenv("FDBROKER_TEST_DIRECTORY");
    FILE* file = path != NULL ? fopen(path, "re") : NULL;
    *error = ENOENT;
    if (file == NULL) return NSS_STATUS_UNAVAIL;
    enum nss_status status = NSS_STATUS_NOTFOUND;
    while (status == NSS_STATUS_NOTFOUND && fscanf(file, "%63s %u", found->name, &found->id) == 2)
        if (name != NULL ? strcmp(name, found->name) == 0 : id == found->id) status = NSS_STATUS_SUCCESS;
    fclose(file);
    if (status != NSS_STATUS_SUCCESS) return status;
    while (strcmp(found->name, "?") == 0) pause();
    if (strcmp(found->name, "!") != 0) return status;
    *error = ECONNREFUSED;
    return NSS_STATUS_UNAVAIL;
}

static enum nss_status user(const struct account* account, struct passwd* entry, char* buffer, size_t size,
                            int* error) {
    if (size < 2 * sizeof account->name) {
        *error = ERANGE;
        return NSS_STATUS_TRYAGAIN;
    }
    strcpy(buffer, account->name);
    char* rest = buffer + sizeof account->name;
    strcpy(rest, "/");
    *entry = (struct passwd){.pw_name = buffer,
                             .pw_passwd = rest,
                             .pw_uid = account->id,
                             .pw_gid = account->id,
                             .pw_gecos = rest,
                             .pw_dir = rest,
                             .pw_shell = rest};
    return NSS_STATUS_SUCCESS;
}

static enum nss_status group(const struct account* account, struct group* entry, char* buffer, size_t size,
                             int* error) {
    static char* no_members[] = {NULL};
    static char nothing[] = "";
    if (size < sizeof account->name) {
        *error = ERANGE;
        return NSS_STATUS_TRYAGAIN;
    }
    strcpy(buffer, account->name);
    *entry =
        (struct group){.gr_name = buffer, .gr_passwd = nothing, .gr_gid = account->id, .gr_mem = no_members};
    return NSS_STATUS_SUCCESS;
}

enum nss_status _nss_fdbtest_getpwnam_r(const char* name, struct passwd* entry, char* buffer, size_t size,
                                        int* error) {
    struct account account;
    const enum nss_status status = find(name, 0, &account, error);
    return status == NSS_STATUS_SUCCESS ? user(&account, entry, buffer, size, error) : status;
}

enum nss_status _nss_fdbtest_getpwuid_r(uid_t uid, struct passwd* entry, char* buffer, size_t size,
                                        int* error) {
    struct account account;
    const enum nss_status status = find(NULL, uid, &account, error);
    return status == NSS_STATUS_SUCCESS ? user(&account, entry, buffer, size, error) : status;
}

enum nss_status _nss_fdbtest_getgrnam_r(const char* name, struct group* entry, char* buffer, size_t size,
                                        int* error) {
    struct account account;
    const enum nss_status status = find(name, 0, &account, error);
    return status == NSS_STATUS_SUCCESS ? group(&account, entry, buffer, size, error) : status;
}

enum nss_status _nss_fdbtest_getgrgid_r(gid_t gid, struct group* entry, char* buffer, size_t size,
                                        int* error) {
    struct account account;
    const enum nss_status status = find(NULL, gid, &account, error);
    return status == NSS_STATUS_SUCCESS ? group(&account, entry, buffer, size, error) : status;
}
