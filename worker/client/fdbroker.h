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
 * A signal ends none of them early. A connection belongs to one thread at a time; different connections are
 * independent. After fork(3) the child finds its copies of all connections closed (EBADF); it disconnects them,
 * which only frees memory, and connects anew. That needs the C library's fork(): not _Fork(), nor a bare clone(2). */
#ifndef FDBROKER_H
#define FDBROKER_H

#include <stddef.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

struct fdbroker;

/* Connects to the broker and asks what it speaks. `address` is a path, @NAME (abstract) or fd:N (an inherited,
 * connected SOCK_SEQPACKET socket, which then belongs to the connection). NULL: the environment's FDBROKER_SOCKET,
 * which is such an address, else its FDBROKER_FD, the N of fd:N, else /run/fdbroker/opener.sock. A program that
 * runs set-user-ID or the like ignores the environment.
 *
 * The listener must be root's, so that nobody else poses as the broker; fd:N is trusted as it is. `*broker` is NULL
 * after a failure, else to be freed with fdbroker_disconnect().
 *
 * Blocks while the broker's backlog is full, and until it answers.
 *
 * -EINVAL, -ENAMETOOLONG: the address is none; -ENOENT, -ECONNREFUSED: nobody listens there; -EACCES: the socket's
 * mode forbids it; -EPERM: the listener is not root's; -EBADF, -ENOTSOCK, -ENOTCONN, -EPROTOTYPE: fd:N is no such socket;
 * -EBUSY: fd:N is a connection's already; -EPROTONOSUPPORT: it speaks another version; -EPROTO: it is no broker;
 * -ECONNRESET: it hung up; -ENOMEM, -EMFILE; or what the broker says, as when it has too many connections. */
int fdbroker_connect(struct fdbroker** broker, const char* address);

/* fdbroker_connect() with flags: 0, or FDBROKER_ANY_OWNER, which takes a listener of any owner, for a broker that a
 * user runs for himself. -EINVAL: a flag that is none. */
#define FDBROKER_ANY_OWNER 1u
int fdbroker_connect_flags(struct fdbroker** broker, const char* address, unsigned flags);

/* Closes the connection and frees it. Files that were opened stay open. NULL is fine. */
void fdbroker_disconnect(struct fdbroker* broker);

/* How long a single call of the functions below waits for the broker, in milliseconds; negative, the default: without
 * end. What was asked may be done nevertheless after it gave up (-ETIMEDOUT); such an answer is thrown away. */
int fdbroker_set_timeout(struct fdbroker* broker, int milliseconds);

/* open(2) by the broker. Returns a descriptor, which is close-on-exec whether O_CLOEXEC is given or not. `path` is
 * absolute, without "." and "..", double and trailing slashes.
 *
 * A refusal is -EACCES, or -ENOENT where the policy says so; a failure is the errno of the broker's own open(2) or
 * of a rule's condition. fdbroker_reason() tells them apart. Besides:
 * -EFAULT: the path is NULL; -ENAMETOOLONG: it has more than 4095 bytes; -EMFILE: this process may have no further
 * descriptor; -ETIMEDOUT: see fdbroker_set_timeout(); -ECONNRESET: the connection is over, and what was asked may
 * have been done or not; -EPROTO: the broker broke the protocol, and the connection is over. The connection outlives
 * reloads and crashes of the broker; once it is over, every further call is -ECONNRESET.
 * -EBADF: the connection was made by the parent process. */
int fdbroker_open(struct fdbroker* broker, const char* path, int flags, mode_t mode);

/* Many open(2) at once, in as few messages as the limits allow: up to 253 requests a round trip, fewer when the paths
 * are long. 0: every request was answered, fds[i] is a descriptor or the negative errno that fdbroker_open() would have
 * returned. A negative errno: the connection failed, every fds[i] is that errno, and no descriptor is open.
 * The order in which the broker works on the requests is not defined. */
struct fdbroker_request {
    const char* path;
    int flags;
    mode_t mode;
};
int fdbroker_open_many(struct fdbroker* broker, const struct fdbroker_request* requests, size_t count,
                       int* fds);

/* Why the last request that failed did, in words: "decide: no rule allows read (record 4711)". The first word is the
 * step that ended it: parse, decide, resolve, inspect, deliver, record in the broker; client in this library. The
 * number is that of the audit record, for `openerctl why`. Empty when the last call succeeded. Valid until the next
 * call on this connection; never NULL. */
const char* fdbroker_reason(const struct fdbroker* broker);

/* Confines this process for good: no capability, no_new_privs, not dumpable, Landlock without any right, and a seccomp
 * filter that refuses (EPERM) every system call that takes a path, makes a socket, starts a program, changes attributes
 * through a descriptor, lists a directory, reaches another process, or uses io_uring. A call of a foreign architecture
 * (int $0x80, x32) ends the process. Descriptors that are open work on, so what a socket reaches that was left open, it
 * reaches; so do memory, threads, timers, signals to oneself, fork, accept(2) on a socket that listens already.
 *
 * It is for a process with a single thread (-EBUSY), since Landlock and capabilities are a thread's; threads may be
 * started afterwards. Once is enough: a second time is -EPERM.
 *
 * The C libraries from glibc 2.33 to 2.38 make fstat(3) a system call with a path. It is served by a handler of SIGSYS,
 * which is installed unless the program has one of its own, or ignores or blocks that signal; then, and with
 * FDBROKER_CONFINE_NO_SIGSYS, fstat(3) fails with EPERM there. Where it is served, a thread that blocks SIGSYS and calls
 * fstat(3), or a program that replaces the handler, ends by that signal: leave SIGSYS out of what you block.
 *
 * 0, or -ENOSYS, -EOPNOTSUPP: this kernel lacks a layer, and nothing was changed; any other error: a layer failed, and
 * the process, confined in part, had better end. */
#define FDBROKER_CONFINE_BEST_EFFORT 1u /* goes on without what this kernel lacks */
#define FDBROKER_CONFINE_DESCRIPTORS 2u /* also closes all descriptors but 0, 1, 2 and the connections' */
/* Also user, mount, network, IPC, host name and cgroup namespaces of its own and an empty root directory, where this
 * process may have them; silently none where it may not. */
#define FDBROKER_CONFINE_NAMESPACES 4u
/* Also no core dump, no further process or thread, no locked memory, no message queue, no real-time priority. */
#define FDBROKER_CONFINE_LIMITS 8u
#define FDBROKER_CONFINE_NO_SIGSYS 16u /* installs no handler of SIGSYS, see above */
int fdbroker_confine(unsigned flags);

#ifdef __cplusplus
}
#endif

#endif
