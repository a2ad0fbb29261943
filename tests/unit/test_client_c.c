// SPDX-License-Identifier: MIT
/* libfdbroker from C11: the header compiles as C, and a file travels through the library into a C program.
 * The broker is a child that sends prepared answers byte for byte. */
#define _GNU_SOURCE /* struct statx, AT_REMOVEDIR */
#include <errno.h>
#include <fcntl.h>
#include <fdbroker.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define REQUIRE(condition)                                                  \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            return 1;                                                       \
        }                                                                   \
    } while (0)

/* From the vectors: what this version says; one file; a refusal. The bytes 8 to 11 are the id of the request. */
static const unsigned char hello_reply[] = {1, 2, 0, 0, 0, 0, 255, 255, 1, 1, 253, 0,
                                            0, 0, 1, 0, 1, 0, 0,   0,   0, 0, 0,   0};
static const unsigned char granted[] = {1, 4, 1, 0, 0, 0, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0,
                                        1, 0, 0, 0, 0, 0, 0,   0,   9, 0, 0, 0, 0, 0, 0, 0};
static const unsigned char refused[] = {1, 4, 1, 0, 0, 0, 255, 255, 2, 0, 0, 0, 13, 0, 0,   0,   0, 2,
                                        2, 0, 0, 0, 0, 0, 8,   0,   0, 0, 0, 0, 0,  0, 'n', 'o', 0, 0};

enum { id_at = 8, id_size = 4 };

static int send_with_descriptor(int socket, const void* bytes, size_t size, int descriptor) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {.iov_base = (void*)bytes, .iov_len = size};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr* rights = &control.header;
    memset(&control, 0, sizeof control);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
    return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Says what it speaks, delivers `file` for the first request, and refuses the second. */
static int be_the_broker(int socket, int file) {
    unsigned char request[4096];
    unsigned char answer[sizeof refused];
    REQUIRE(recv(socket, request, sizeof request, 0) > 0);
    REQUIRE(send(socket, hello_reply, sizeof hello_reply, 0) == sizeof hello_reply);
    REQUIRE(recv(socket, request, sizeof request, 0) > id_at + id_size);
    memcpy(answer, granted, sizeof granted);
    memcpy(answer + id_at, request + id_at, id_size);
    REQUIRE(send_with_descriptor(socket, answer, sizeof granted, file));
    REQUIRE(recv(socket, request, sizeof request, 0) > id_at + id_size);
    memcpy(answer, refused, sizeof refused);
    memcpy(answer + id_at, request + id_at, id_size);
    REQUIRE(send(socket, answer, sizeof refused, 0) == sizeof refused);
    return 0;
}

static int count_entries(void* count, const struct fdbroker_entry* entry) {
    if (entry->size >= sizeof *entry && entry->name[0] != '\0') ++*(int*)count;
    return 0;
}

/* Everything that changes files, and requests that are not waited for, against the library's own fake. */
static int with_fake(void) {
    struct fdbroker_fake* fake = NULL;
    struct fdbroker* broker = NULL;
    struct statx status;
    struct fdbroker_completion completion;
    struct fdbroker_request request;
    struct fdbroker_attributes attributes;
    uint64_t put = 0;
    int entries = 0;
    int fd = -1;
    unsigned char changes = 0;

    REQUIRE(fdbroker_fake_new(&fake, NULL) == 0);
    REQUIRE(fdbroker_fake_connect(fake, &broker) == 0);
    REQUIRE(fdbroker_fake_file(fake, "/d/a", "hello", 5) == 0);
    REQUIRE(fdbroker_stat(broker, "/d/a", 0, &status) == 0 && status.stx_size == 5);
    REQUIRE(fdbroker_mkdir(broker, "/d/e", 0700) == 0);
    REQUIRE(fdbroker_list(broker, "/d", count_entries, &entries) == 0 && entries == 2);
    REQUIRE(fdbroker_remove(broker, "/d/e", AT_REMOVEDIR) == 0);
    memset(&attributes, 0, sizeof attributes);
    attributes.size = sizeof attributes;
    attributes.set = FDBROKER_SET_MODE;
    attributes.mode = 0600;
    REQUIRE(fdbroker_setattr(broker, "/d/a", &attributes) == 0);
    fd = fdbroker_put(broker, "/d/a", 0600, &put);
    REQUIRE(fd >= 0 && write(fd, "new", 3) == 3 && close(fd) == 0);
    REQUIRE(fdbroker_commit(broker, "/d/a", put, 0) == 0);
    fd = fdbroker_watch(broker, "/d/a", FDBROKER_WATCH_CONTENT);
    REQUIRE(fd >= 0 && fdbroker_fake_file(fake, "/d/a", "newer", 5) == 0);
    REQUIRE(read(fd, &changes, 1) == 1 && changes == FDBROKER_WATCH_CONTENT && close(fd) == 0);

    memset(&request, 0, sizeof request);
    request.size = sizeof request;
    request.path = "/d/a";
    request.tag = 4711;
    REQUIRE(fdbroker_descriptor(broker) >= 0);
    REQUIRE(fdbroker_submit(broker, &request, 1) == 1);
    completion.size = sizeof completion;
    REQUIRE(fdbroker_complete(broker, &completion, 1, -1) == 1);
    REQUIRE(completion.tag == 4711 && completion.result >= 0 && completion.call == FDBROKER_CALL_OPEN);
    close(completion.result);
    REQUIRE(fdbroker_fake_fail(fake, "/d/a", EIO, NULL, 1) == 0);
    REQUIRE(fdbroker_open(broker, "/d/a", O_RDONLY, 0) == -EIO);
    fdbroker_disconnect(broker);
    fdbroker_fake_free(fake);
    return 0;
}

int main(void) {
    struct fdbroker* broker = NULL;
    int ends[2];
    int file[2];
    char address[32];
    char text[8] = "";
    int fd = -1;
    int status = -1;
    pid_t child = -1;
    struct fdbroker_request request = {.size = sizeof request, .path = "/b", .flags = O_RDONLY, .mode = 0};

    REQUIRE(with_fake() == 0);
    REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
    REQUIRE(pipe(file) == 0);
    REQUIRE(write(file[1], "hello", 5) == 5);
    child = fork();
    REQUIRE(child >= 0);
    if (child == 0) _exit(be_the_broker(ends[1], file[0]));

    snprintf(address, sizeof address, "fd:%d", ends[0]);
    REQUIRE(fdbroker_connect_flags(&broker, address, FDBROKER_ANY_OWNER) == 0);
    REQUIRE(fdbroker_set_timeout(broker, 60000) == 0);
    fd = fdbroker_open(broker, "/a", O_RDONLY, 0);
    REQUIRE(fd >= 0);
    REQUIRE(read(fd, text, sizeof text) == 5 && memcmp(text, "hello", 5) == 0);
    close(fd);
    REQUIRE(fdbroker_open_many(broker, &request, 1, &fd) == 0);
    REQUIRE(fd == -EACCES);
    REQUIRE(strcmp(fdbroker_reason(broker), "decide: no (record 8)") == 0);
    REQUIRE(waitpid(child, &status, 0) == child && status == 0);

    REQUIRE(fdbroker_confine(FDBROKER_CONFINE_BEST_EFFORT | FDBROKER_CONFINE_DESCRIPTORS) == 0);
    REQUIRE(fcntl(file[1], F_GETFD) == -1 && errno == EBADF);
    REQUIRE(fcntl(ends[0], F_GETFD) != -1);
    REQUIRE(open("/dev/null", O_RDONLY) == -1);
    fdbroker_disconnect(broker);
    return 0;
}
