// SPDX-License-Identifier: MIT
/* libfdbroker: files opened by a privileged broker on behalf of a process that may not open them itself.
 *
 * A program connects, confines itself, and from then on asks the broker for every file:
 *
 *     struct fdbroker *broker;
 *     int error = fdbroker_connect(&broker, NULL);
 *     if (error < 0) …
 *     error = fdbroker_confine(0);
 *     if (error < 0) …
 *     int fd = fdbroker_open(broker, "/srv/www/index.html", O_RDONLY, 0);
 *     if (fd < 0) fprintf(stderr, "%s: %s\n", strerror(-fd), fdbroker_reason(broker));
 *
 * Every function that returns int returns a negative errno when it failed; errno itself means nothing afterwards.
 * A signal ends none of them early. A connection belongs to one thread at a time: a call while another thread is in one
 * is -EBUSY, and changes nothing; different connections are independent. After fork(3) the child finds its copies of all
 * connections closed (EBADF); it disconnects them, which only frees memory, and connects anew. Threads and children that
 * are to share connections take them from a pool (fdbroker_pool_new()). Both need the C library's fork(): not _Fork(), nor
 * a bare clone(2). */
#ifndef FDBROKER_H
#define FDBROKER_H

#include <sched.h> /* struct timespec: <time.h> hides its own under a strict -std */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <time.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fdbroker;

/* Connects to the broker and asks what it speaks. `address` is a path, @NAME (abstract) or fd:N (an inherited,
 * connected SOCK_SEQPACKET socket, which then belongs to the connection). NULL: the environment's FDBROKER_SOCKET,
 * which is such an address, else its FDBROKER_FD, the N of fd:N, else /run/fdbroker/opener.sock. A program that
 * runs set-user-ID or the like ignores the environment.
 *
 * The listener must be root's, so that nobody else poses as the broker. fd:N is trusted as it is; late answers to an earlier
 * user of that socket are thrown away. `*broker` is NULL after a failure, else to be freed with
 * fdbroker_disconnect().
 *
 * Blocks while the broker's backlog is full, and until it answers.
 *
 * -EINVAL, -ENAMETOOLONG: the address is none; -ENOENT, -ECONNREFUSED: nobody listens there; -EACCES: the socket's
 * mode forbids it; -EPERM: the listener is not root's; -EBADF, -ENOTSOCK, -ENOTCONN, -EPROTOTYPE: fd:N is no such socket;
 * -EBUSY: fd:N is a connection's already (after these five fd:N stays open, after the following it is closed);
 * -EPROTONOSUPPORT: it speaks another version; -EPROTO: it is no broker;
 * -ECONNRESET: it hung up; -ENOMEM, -EMFILE; or what the broker says, as when it has too many connections. */
int fdbroker_connect(struct fdbroker** broker, const char* address);

/* fdbroker_connect() with flags: 0, or FDBROKER_ANY_OWNER, which takes a listener of any owner, for a broker that a
 * user runs for himself. -EINVAL: a flag that is none. */
#define FDBROKER_ANY_OWNER 1u
int fdbroker_connect_flags(struct fdbroker** broker, const char* address, unsigned flags);

/* The same, and says why it failed, in words, in the `size` bytes at `reason`: "client: /run/fdbroker/opener.sock: nobody
 * listens there: does the opener run?". Empty when it succeeded. NULL: nobody asks. */
int fdbroker_connect_reason(struct fdbroker** broker, const char* address, unsigned flags, char* reason,
                            size_t size);

/* Connects to the same address anew, whether the connection is over (-ECONNRESET), the parent's (-EBADF) or neither. What
 * is outstanding is completed with -ECONNRESET, puts are over, and the descriptor of fdbroker_descriptor() is another. Only
 * before confinement. -EOPNOTSUPP: fd:N has no address; else as fdbroker_connect(). */
int fdbroker_reconnect(struct fdbroker* broker);

/* Closes the connection and frees it. Files that were opened stay open. NULL is fine. */
void fdbroker_disconnect(struct fdbroker* broker);

/* How long a single call of the functions below waits for the broker, in milliseconds; negative, the default: without
 * end. What was asked may be done nevertheless after it gave up (-ETIMEDOUT); such an answer is thrown away. Returns 0. */
int fdbroker_set_timeout(struct fdbroker* broker, int milliseconds);

/* How long a call may look for its answer before it sleeps, in microseconds, 0 to 1000; 0: every call sleeps at once. Calls
 * look only while the program asks in quick succession, and yield the CPU to whatever else wants it. The default is 20, or 0
 * where the policy says `limits: {busy_poll: 0}`. Returns 0; -EINVAL: out of range. */
int fdbroker_set_busy_poll(struct fdbroker* broker, int microseconds);

/* open(2) by the broker. Returns a descriptor, which is close-on-exec whether O_CLOEXEC is given or not.
 *
 * Paths, here and below, are read as open(2) reads them: doubled slashes and "." are left out, a path that ends in a slash
 * names a directory alone, a relative one begins in the directory of fdbroker_set_directory(). ".." takes away the name
 * before it by the text alone: where that name is a symbolic link, open(2) leads elsewhere.
 *
 * A refusal is -EACCES, or -ENOENT where the policy says so. A failure is the errno of the broker's open(2) or that of a
 * rule's condition. fdbroker_reason() tells them apart. Besides:
 * -EFAULT: the path is NULL; -ENOENT: it is empty, or relative and there is no directory; -ENAMETOOLONG: it has more than
 * 4095 bytes, or a name in it more than 255; -EMFILE: this process may have no further
 * descriptor; -ETIMEDOUT: see fdbroker_set_timeout(); -ECONNRESET: the connection is over, and what was asked may
 * have been done or not; -EPROTO: the broker broke the protocol, and the connection is over. The connection outlives
 * reloads and crashes of the broker; once it is over, every further call is -ECONNRESET.
 * -EBADF: the connection was made by the parent process. */
int fdbroker_open(struct fdbroker* broker, const char* path, int flags, mode_t mode);

/* A request. Every struct of this header begins with its size, `sizeof` of it in the program, so that it can grow:
 * what a younger program sets and this library does not know is -E2BIG, what an older program does not have is 0. All
 * structs of an array have the size of the first. A size that no version had is -EINVAL. */
struct fdbroker_request {
    size_t size;
    const char* path;
    int flags;
    mode_t mode;
    /* Only for fdbroker_submit(): */
    unsigned call;      /* FDBROKER_CALL_*; 0 is open */
    const char* second; /* rename: the new path; symlink: the target; getxattr: the name */
    uint64_t tag;       /* comes back with the completion */
    int timeout;        /* milliseconds after which it is given up; 0: none; negative: -EINVAL */
};

/* Many open(2) at once, in as few messages as the limits allow: up to 253 requests a round trip, fewer when the paths
 * are long. 0: every request was answered, fds[i] is a descriptor or the negative errno that fdbroker_open() would have
 * returned. A negative errno: the connection failed, or the arguments are wrong (-EINVAL, -E2BIG, see struct
 * fdbroker_request); every fds[i] is that errno, and no descriptor is open.
 * The order in which the broker works on the requests is not defined. */
int fdbroker_open_many(struct fdbroker* broker, const struct fdbroker_request* requests, size_t count,
                       int* fds);

/* fdbroker_open_many() with flags: 0, or FDBROKER_ALL_OR_NOTHING: 0 is returned as well when requests fail, but then none
 * succeeds: those that would have are -ECANCELED. The requests go in one message; -E2BIG: they do not fit one (more than
 * 253, or long paths), and nothing was asked. Only for requests that change nothing: O_CREAT and O_TRUNC are -EINVAL. */
#define FDBROKER_ALL_OR_NOTHING 1u
int fdbroker_open_many_flags(struct fdbroker* broker, const struct fdbroker_request* requests, size_t count,
                             int* fds, unsigned flags);

/* ---- other operations ----
 *
 * Each does the work of the system call of that name, in the broker, at an absolute path, and fails as fdbroker_open() does.
 * Besides: -EOPNOTSUPP: the broker does not serve the call; -EFAULT: an argument is NULL that must not be; -ENAMETOOLONG: a
 * second path has more than 4095 bytes. 0 where nothing else is said. */

struct statx;
/* statx(2) without the mount. `flags`: 0 or AT_SYMLINK_NOFOLLOW. */
int fdbroker_stat(struct fdbroker* broker, const char* path, int flags, struct statx* status);

/* The names in a directory, in no order, without "." and "..", and without those that the policy hides. `each` is
 * called for each of them and may use the connection. A result of `each` other than 0 ends the listing and is returned.
 * The entry and its name are valid during that call. Names that come and go meanwhile may be told or not. A timeout holds
 * for the whole listing. */
struct fdbroker_entry {
    size_t size; /* as the library fills it */
    const char* name;
    uint64_t inode;
    unsigned char type; /* DT_* of readdir(3) */
    int status_error; /* fdbroker_readdir(): the errno of why there is no status; 0: there is, or none was asked for */
    const struct statx* status; /* with FDBROKER_DIR_STATUS, where the policy tells it; else NULL */
};
int fdbroker_list(struct fdbroker* broker, const char* path,
                  int (*each)(void* context, const struct fdbroker_entry* entry), void* context);

/* The same one by one, as opendir(3) has it. opendir: `flags` is 0 or FDBROKER_DIR_STATUS: entries come with what lstat(2)
 * tells of them. readdir: 1: `*entry` is the next one, valid until the next call; 0: there is no further one.
 * closedir: to be called before fdbroker_disconnect(). A timeout holds for each call. */
#define FDBROKER_DIR_STATUS 1u
struct fdbroker_dir;
int fdbroker_opendir(struct fdbroker* broker, const char* path, unsigned flags,
                     struct fdbroker_dir** directory);
int fdbroker_readdir(struct fdbroker_dir* directory, const struct fdbroker_entry** entry);
int fdbroker_closedir(struct fdbroker_dir* directory);

/* The target of a symbolic link, with a NUL. Returns its length without the NUL; -ERANGE: the buffer is too small. */
ssize_t fdbroker_readlink(struct fdbroker* broker, const char* path, char* target, size_t size);

/* The directory gets the mode and owner of the policy's rule. */
int fdbroker_mkdir(struct fdbroker* broker, const char* path, mode_t mode);
/* `flags`: 0 for anything but a directory, AT_REMOVEDIR for an empty directory. */
int fdbroker_remove(struct fdbroker* broker, const char* path, int flags);
/* `flags`: 0 or RENAME_NOREPLACE. */
int fdbroker_rename(struct fdbroker* broker, const char* path, const char* new_path, unsigned flags);
/* The link `path`, to `target`. */
int fdbroker_symlink(struct fdbroker* broker, const char* target, const char* path);

/* Mode and times. A time may be UTIME_NOW or UTIME_OMIT in tv_nsec (utimensat(2)). With FDBROKER_SET_LINK a link in the
 * last place is not followed: its own times are set; -EOPNOTSUPP: it has no mode. */
#define FDBROKER_SET_MODE 1u
#define FDBROKER_SET_TIMES 2u
#define FDBROKER_SET_LINK 4u
struct fdbroker_attributes {
    size_t size;
    unsigned set; /* FDBROKER_SET_*: which of the following are set */
    mode_t mode;  /* 0 to 01777 */
    struct timespec access;
    struct timespec modification;
};
int fdbroker_setattr(struct fdbroker* broker, const char* path, const struct fdbroker_attributes* attributes);

/* Extended attributes, as getxattr(2), listxattr(2), setxattr(2) and removexattr(2) have them: with a size of 0 the first
 * two return the length alone; -ERANGE: the buffer is too small. */
ssize_t fdbroker_getxattr(struct fdbroker* broker, const char* path, const char* name, void* value,
                          size_t size);
ssize_t fdbroker_listxattr(struct fdbroker* broker, const char* path, char* names, size_t size);
int fdbroker_setxattr(struct fdbroker* broker, const char* path, const char* name, const void* value,
                      size_t size, int flags);
int fdbroker_removexattr(struct fdbroker* broker, const char* path, const char* name);

/* Replaces a file whole. The returned descriptor is an unnamed temporary, open for writing alone. The program fills and
 * closes it, and then commits, with the same path and the number in `*put`. Until then the file that has the name stays as
 * it is, and for ever when the program discards or goes. When put fails with -ETIMEDOUT, the broker may keep
 * a temporary until the connection ends.
 *
 * commit: `flags` 0 or RENAME_NOREPLACE. -EBUSY: a descriptor or a mapping is left that can write to it; commit again
 * once it is gone. -ESTALE: the broker has loaded another policy meanwhile or died, or the put is over; put again. */
int fdbroker_put(struct fdbroker* broker, const char* path, mode_t mode, uint64_t* put);
int fdbroker_commit(struct fdbroker* broker, const char* path, uint64_t put, unsigned flags);
int fdbroker_discard(struct fdbroker* broker, const char* path, uint64_t put);

/* Changes that a watch tells of. */
#define FDBROKER_WATCH_CONTENT 1u    /* size or modification time; in a directory, names came or went */
#define FDBROKER_WATCH_ATTRIBUTES 2u /* mode, owner, group, links, and what only the change time tells */
#define FDBROKER_WATCH_REPLACED 4u   /* another object has the name, or none; with it come the others */
/* A descriptor that becomes readable when what fdbroker_stat() would tell of the path has changed in a way of `mask`, any of
 * FDBROKER_WATCH_* together. Each byte read holds the changes since the one before, as such bits. The file may be missing,
 * its directory may not. The end of file says that the watch is over: the connection or the broker has ended, the policy was
 * loaded anew, the path's directory is gone, or others need the place. Watch again, and look what has changed meanwhile.
 * Closing the descriptor ends the watch. -EINVAL: the mask; -EAGAIN: this user watches, puts and streams as much as may be. */
int fdbroker_watch(struct fdbroker* broker, const char* path, unsigned mask);

/* ---- for programs that are ported ---- */

/* Relative paths begin at `base` from now on, as after chdir(2); a relative `base` at the one before. It is not looked for.
 * NULL: there is none, as at first. */
int fdbroker_set_directory(struct fdbroker* broker, const char* base);
/* The path as the broker is asked for it, with a NUL: absolute, without ".", "..", empty names and a trailing slash. `base`
 * is an absolute path in which relative ones begin, or NULL. By the text alone. Returns the length without the NUL;
 * -ERANGE: the buffer is too small; -ENOENT, -ENAMETOOLONG: as fdbroker_open(). */
ssize_t fdbroker_normalize(const char* base, const char* path, char* out, size_t size);

struct stat;
/* stat(2), and with AT_SYMLINK_NOFOLLOW lstat(2). On machines of 32 bits for programs with 64-bit off_t and time_t. */
int fdbroker_stat_posix(struct fdbroker* broker, const char* path, int flags, struct stat* status);
/* The same of a status that came with an entry or a completion. */
void fdbroker_status_posix(const struct statx* status, struct stat* posix);
/* access(2): whether the broker would open the path. `mode`: F_OK, or R_OK, W_OK and X_OK together; X_OK of a file is its
 * mode's. What may be made in a directory is decided name by name: W_OK is -EACCES there. */
int fdbroker_access(struct fdbroker* broker, const char* path, int mode);
/* realpath(3): without symbolic links, of something that is there. Directories on the way that may not be looked at are
 * taken for such: the broker follows links there only where a rule says so. Needs `stat`, and `readlink` for links.
 * Returns the length without the NUL; -ERANGE: the buffer is too small. */
ssize_t fdbroker_realpath(struct fdbroker* broker, const char* path, char* out, size_t size);
/* fopen(3). NULL on failure; errno is that of fdbroker_open(). */
FILE* fdbroker_fopen(struct fdbroker* broker, const char* path, const char* mode);

/* ---- without waiting, for event loops ----
 *
 *     fdbroker_submit(broker, requests, count);
 *     when fdbroker_descriptor(broker) is readable:
 *         while ((got = fdbroker_complete(broker, completions, many, 0)) > 0) …
 *
 * Completions come in the order in which the answers do, not that of the requests: `tag` tells which is which. The calls
 * above may be made meanwhile; they wait for their own answers only. */

/* Calls that may be submitted. */
#define FDBROKER_CALL_OPEN 0u
#define FDBROKER_CALL_STAT 1u
#define FDBROKER_CALL_READLINK 3u
#define FDBROKER_CALL_MKDIR 4u
#define FDBROKER_CALL_REMOVE 5u
#define FDBROKER_CALL_RENAME 6u
#define FDBROKER_CALL_SYMLINK 7u
#define FDBROKER_CALL_GETXATTR 9u
#define FDBROKER_CALL_LISTXATTR 10u
#define FDBROKER_CALL_WATCH 16u /* `flags` is the mask */

/* Puts requests on their way. Never blocks; what the socket does not take goes later. Nothing that the requests point to
 * is needed afterwards. While requests are on their way already, others wait for company, so that many travel in one
 * message: the descriptor below is readable then, and they go with the next call on the connection, fdbroker_complete() or
 * another. Returns how many were taken, fewer than `count` when 1,012 are outstanding: not completed, or completed and not
 * fetched. A request that cannot be sent as it is (a NULL path) is taken, and completed with its error.
 * -EAGAIN: none was taken, since so many are outstanding; -ECONNRESET: the connection is over; -EFAULT, -EINVAL, -E2BIG:
 * the arguments, see struct fdbroker_request; -EBADF: the connection was made by the parent process. */
int fdbroker_submit(struct fdbroker* broker, const struct fdbroker_request* requests, size_t count);

struct fdbroker_completion {
    size_t size;        /* set by the program */
    uint64_t tag;       /* the request's */
    unsigned call;      /* the request's */
    int result;         /* a descriptor, which is now the program's; or 0; or a negative errno */
    const char* reason; /* as fdbroker_reason(); "" when it succeeded */
    const void* data;   /* stat: a struct statx; readlink, getxattr, listxattr: bytes, followed by a NUL */
    size_t data_size;   /* without that NUL */
};
/* Takes what has come, and waits up to `timeout` milliseconds (0: not; negative: without end) until there is something.
 * Fills up to `count` completions and returns how many. `reason` and `data` are valid until the next call of this
 * function on the connection. 0: nothing came in time, or nothing is outstanding. A request whose timeout has passed is
 * completed with -ETIMEDOUT; its answer is thrown away when it comes.
 *
 * When the connection ends, all outstanding requests are completed with -ECONNRESET: they may have been done or not. Once
 * they are fetched, this function returns -ECONNRESET. */
int fdbroker_complete(struct fdbroker* broker, struct fdbroker_completion* completions, size_t count,
                      int timeout);

/* A descriptor for poll(2), epoll(7) and the like: readable whenever fdbroker_complete() has something to do: take
 * answers, send what did not go, end requests whose time is over. It belongs to the connection, and is good for nothing
 * else. Level-triggered; fetch completions until there is none before waiting again. */
int fdbroker_descriptor(struct fdbroker* broker);

/* ---- connections for threads and children ----
 *
 * `count` connections, 1 to 1024, made before the process confines itself, starts threads or forks. Each thread and each
 * child takes one, asks, and puts it back; children go on with the same sockets, and nobody connects again. For the broker
 * all are of the process that made the pool. A thread or process that ends with a connection gives it back by that. */
struct fdbroker_pool;

/* Each as fdbroker_connect() makes it. NULL on failure; errno is that of fdbroker_connect(), or EINVAL: the count. */
struct fdbroker_pool* fdbroker_pool_new(const char* address, unsigned count);
/* The same with the flags of fdbroker_connect_flags(). */
struct fdbroker_pool* fdbroker_pool_new_flags(const char* address, unsigned count, unsigned flags);
/* Takes a connection for this thread; waits for one up to `timeout` milliseconds (0: not; negative: without end).
 * -ETIMEDOUT: none is free; -ECONNRESET: it is over, and could not be made anew. What the former user has set (timeout,
 * directory) holds on in the same process. */
int fdbroker_pool_get(struct fdbroker_pool* pool, struct fdbroker** broker, int timeout);
/* Puts it back, by the thread that took it: -EPERM: another one did; -EINVAL: it is none of the pool's, or not taken, or was
 * taken before fork(3). Requests that are outstanding, and puts, are to be ended before. */
int fdbroker_pool_put(struct fdbroker_pool* pool, struct fdbroker* broker);
/* Closes this process's copies. No connection may be taken in it. NULL is fine. */
void fdbroker_pool_free(struct fdbroker_pool* pool);

/* Why the last request that failed did, in words: "decide: no rule allows read (record 4711)". The first word is the
 * step that ended it: parse, decide, resolve, inspect, deliver, record in the broker; client in this library. The
 * number is that of the audit record, for `openerctl why`. Empty when the last call succeeded. Valid until the next
 * call on this connection; never NULL. */
const char* fdbroker_reason(const struct fdbroker* broker);

/* Confines this process for good: no capability, no_new_privs, not dumpable, Landlock without any right, and a seccomp
 * filter. The filter refuses (EPERM) system calls that take a path, make a socket, start a program, list a directory or
 * reach another process. It also refuses changes of attributes through descriptors, and io_uring. A call of a foreign
 * architecture (int $0x80, x32) ends the process. Open descriptors work on, and an open socket reaches what it reached.
 * Memory, threads, timers, signals to oneself, fork and accept(2) on a listening socket work as well.
 *
 * The process must have a single thread (-EBUSY), since Landlock and capabilities are a thread's; threads may be started
 * afterwards. Once is enough: a second time is -EPERM.
 *
 * The C libraries from glibc 2.33 to 2.38 make fstat(3) a system call with a path. A handler of SIGSYS serves it. The
 * handler is installed unless the program has one, or ignores or blocks that signal; then, and with
 * FDBROKER_CONFINE_NO_SIGSYS, fstat(3) fails with EPERM there. With the handler, a thread that blocks SIGSYS and calls
 * fstat(3), or a program that replaces the handler, ends by that signal: do not block SIGSYS.
 *
 * 0, or -ENOSYS, -EOPNOTSUPP: this kernel lacks a layer, and nothing was changed; any other error: a layer failed, and
 * the process, confined in part, had better end. */
#define FDBROKER_CONFINE_BEST_EFFORT 1u /* goes on without what this kernel lacks */
#define FDBROKER_CONFINE_DESCRIPTORS 2u /* also closes all descriptors but 0, 1, 2 and the connections' */
/* Also new user, mount, network, IPC, host name and cgroup namespaces and an empty root directory. Silently none where this
 * process may not have them. All other users are shown as 65534 from then on. */
#define FDBROKER_CONFINE_NAMESPACES 4u
/* Also no core dump, no further process or thread, no locked memory, no message queue, no real-time priority. */
#define FDBROKER_CONFINE_LIMITS 8u
#define FDBROKER_CONFINE_NO_SIGSYS 16u /* installs no handler of SIGSYS, see above */
/* Also reports each refused call: the name and the backtrace, on standard error. A handler of SIGSYS calls backtrace(3) for
 * it, so this is for development. Where there can be no handler, the kernel's log has the report. */
#define FDBROKER_CONFINE_LOG 32u
int fdbroker_confine(unsigned flags);

/* The same with choices. `allow`: what the process may have besides, none of which makes or reaches what was not there
 * before; `keep`: descriptors that stay open when all others are closed, which naming one asks for. What is unset is 0. */
#define FDBROKER_ALLOW_TCP_OPTIONS 1u /* on sockets that exist: TCP's, address reuse, service class */
#define FDBROKER_ALLOW_SOCKETPAIR 2u  /* Unix family, SOCK_STREAM or SOCK_SEQPACKET */
#define FDBROKER_ALLOW_LISTEN 4u      /* listen(2), on sockets bound before */
/* On its own descriptors: fchmod(2) without set-ID bits, futimens(3), fgetxattr(2), flistxattr(2). */
#define FDBROKER_ALLOW_OWN_ATTRIBUTES 8u
#define FDBROKER_ALLOW_SCHEDULING \
    16u /* priority, policy and affinity of the calling thread, by the number 0 */
/* sendto(2) with an address: for UDP sockets made before. A Unix datagram socket that is open reaches any path by it. */
#define FDBROKER_ALLOW_UDP 32u
struct fdbroker_confine_options {
    size_t size;
    unsigned flags; /* FDBROKER_CONFINE_* */
    unsigned allow; /* FDBROKER_ALLOW_* */
    const int* keep;
    size_t keep_count;
};
/* As fdbroker_confine(); -EBADF: a descriptor of `keep` is none; -E2BIG, -EINVAL: see struct fdbroker_request. */
int fdbroker_confine_with(const struct fdbroker_confine_options* options);

/* Does once what the C library would read files for later, and could not: the time zone, the locale of the environment,
 * the modules of iconv(3) and of the name service, what a backtrace and pthread_cancel(3) need. Before confinement; changes
 * no setting of the program but TZ, which becomes ":/etc/localtime" where it is unset. fdbroker(3) lists what remains to be
 * done. Returns 0. */
int fdbroker_prepare(void);

/* ---- for the tests of programs that use this library ----
 *
 * A broker inside the process: no socket in the filesystem, no policy, no other process and no thread. A connection to it
 * is served while the program waits in its calls. Everything is done with the rights of the program, so it does not
 * work after fdbroker_confine(). Not for production. */

struct fdbroker_fake;

/* Paths are looked up below `root`, a directory; NULL: an empty one, which is removed with the fake. It has no
 * symbolic links but those that are made through it, and follows none. */
int fdbroker_fake_new(struct fdbroker_fake** fake, const char* root);
/* Once every connection to it is disconnected. NULL is fine. */
void fdbroker_fake_free(struct fdbroker_fake* fake);
/* As fdbroker_connect(). */
int fdbroker_fake_connect(struct fdbroker_fake* fake, struct fdbroker** broker);
/* A file with this content at `path`, replacing what was there; missing directories are made. Watches tell at once; of what
 * changes otherwise with the next call on any connection. */
int fdbroker_fake_file(struct fdbroker_fake* fake, const char* path, const void* content, size_t size);
/* The next `times` requests for `path` fail with `error`, a positive errno, and `reason` (NULL: none); `times` 0: all
 * of them. `error` 0: they no longer do. `path` NULL: those for any path. */
int fdbroker_fake_fail(struct fdbroker_fake* fake, const char* path, int error, const char* reason,
                       unsigned times);

#ifdef __cplusplus
}
#endif

#endif
