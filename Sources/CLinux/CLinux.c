#define _GNU_SOURCE
#include "CLinux.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

int clinux_o_direct(void) { return O_DIRECT; }

int clinux_block_size_bytes(int fd, uint64_t *bytes) { return ioctl(fd, BLKGETSIZE64, bytes); }

int clinux_logical_block_size(int fd, int *bytes) { return ioctl(fd, BLKSSZGET, bytes); }

int clinux_block_discard(int fd, uint64_t offset, uint64_t length) {
    uint64_t range[2] = {offset, length};
    return ioctl(fd, BLKDISCARD, range);
}

#include <errno.h>
#include <linux/falloc.h>
#include <linux/stat.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif
#ifndef AT_EMPTY_PATH
#define AT_EMPTY_PATH 0x1000
#endif

int clinux_physical_block_size(int fd, unsigned int *bytes) { return ioctl(fd, BLKPBSZGET, bytes); }

int clinux_direct_alignment(int fd, uint32_t *memory, uint32_t *offset) {
#ifdef STATX_DIOALIGN
    struct statx information;
    memset(&information, 0, sizeof information);
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &information) != 0) return -1;
    if (information.stx_mask & STATX_DIOALIGN) {
        *memory = information.stx_dio_mem_align;
        *offset = information.stx_dio_offset_align;
        return 0;
    }
#endif
    errno = ENOTSUP;
    return -1;
}

int clinux_lock_range(int fd, int64_t start, int64_t length) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

int clinux_set_io_flusher(void) { return prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0); }

int clinux_signal_descriptor(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, 0) != 0) return -1;
    return signalfd(-1, &set, SFD_CLOEXEC);
}

int clinux_termination_descriptor(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &set, 0) != 0) return -1;
    return signalfd(-1, &set, SFD_CLOEXEC);
}

uint32_t clinux_signal_number(const void *record) {
    struct signalfd_siginfo information;
    memcpy(&information, record, sizeof information);
    return information.ssi_signo;
}

uint32_t clinux_signal_record_size(void) { return sizeof(struct signalfd_siginfo); }

int clinux_child_descriptor(int pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

int clinux_fallocate_punch_hole(void) { return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; }

int clinux_fallocate_zero_range(void) { return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE; }

int clinux_exit_code(int wait_status) { return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : -1; }

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static void redirect(int from, int flags) {
    int null = open("/dev/null", flags);
    if (null >= 0 && null != from) {
        dup2(null, from);
        close(null);
    }
}

int clinux_daemonise(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    pid_t child = fork();
    if (child < 0) return -1;
    if (child > 0) {
        unsigned char status = 1;
        close(ends[1]);
        while (read(ends[0], &status, 1) < 0 && errno == EINTR) {}
        _exit(status);
    }
    close(ends[0]);
    setsid();
    child = fork();
    if (child != 0) _exit(child < 0 ? 1 : 0);
    redirect(STDIN_FILENO, O_RDONLY);
    if (chdir("/") != 0) _exit(1);
    return ends[1];
}

void clinux_report_start(int descriptor, unsigned char status) {
    ssize_t written = write(descriptor, &status, 1);
    (void)written;
    close(descriptor);
}

#include <linux/capability.h>
#include <sys/resource.h>

/// Whether the limit of locked memory does not count for this process (CAP_IPC_LOCK).
static int may_lock_all(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    memset(data, 0, sizeof data);
    if (syscall(SYS_capget, &header, data) != 0) return 0;
    return data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective & CAP_TO_MASK(CAP_IPC_LOCK) ? 1 : 0;
}

uint64_t clinux_locked_memory_limit(void) {
    struct rlimit limit;
    if (may_lock_all() || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
    return limit.rlim_cur;
}

int clinux_lock_memory(void) {
    // Locking what will be allocated later makes every allocation above the limit fail.
    if (clinux_locked_memory_limit() != UINT64_MAX) {
        errno = EPERM;
        return -1;
    }
#ifdef MCL_ONFAULT
    return mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT);
#else
    return mlockall(MCL_CURRENT | MCL_FUTURE);
#endif
}

#include <poll.h>
#include <spawn.h>
#include <sys/eventfd.h>

int clinux_event_descriptor(void) { return eventfd(0, EFD_CLOEXEC); }

uint32_t clinux_poll_peer_closed(void) { return POLLRDHUP; }

int clinux_spawn_shell(const char *command, char *const environment[], int *process) {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    sigset_t none;
    pid_t child = 0;
    char *arguments[] = {"/bin/sh", "-c", (char *)command, 0};
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, "/");
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    int result = posix_spawn(&child, "/bin/sh", &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    *process = child;
    return result;
}

#include <linux/io_uring.h>

int clinux_enable_ring(int ring) {
    return (int)syscall(SYS_io_uring_register, ring, IORING_REGISTER_ENABLE_RINGS, (void *)0, 0);
}

void clinux_build_date(char text[32]) {
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // "Nov  1 2026"; clang takes it from SOURCE_DATE_EPOCH where that is set.
    const char *date = __DATE__;
    int month = 1;
    for (int k = 0; k < 12; k++) {
        if (strncmp(months + 3 * k, date, 3) == 0) month = k + 1;
    }
    int day = (date[4] == ' ' ? 0 : (date[4] - '0') * 10) + date[5] - '0';
    snprintf(text, 32, "%.4s-%02d-%02d %s", date + 7, month, day, __TIME__);
}

int clinux_fork_watcher(int *end, int *log) {
    int ends[2];
    *end = -1;
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    pid_t child = fork();
    if (child != 0) {
        close(ends[0]);
        if (child < 0) {
            close(ends[1]);
            return -1;
        }
        *end = ends[1];
        return 1;
    }
    // Whoever ends the daemon by a signal to a whole group wants the watcher to see it end.
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    if (chdir("/") != 0) _exit(0);
    // The lock, the starter's pipe and the terminal are not ours to hold. Both ends move out of the way first.
    int pipe_end = fcntl(ends[0], F_DUPFD_CLOEXEC, 64);
    int log_end = fcntl(*log, F_DUPFD_CLOEXEC, 64);
    redirect(STDIN_FILENO, O_RDONLY);
    redirect(STDOUT_FILENO, O_WRONLY);
    redirect(STDERR_FILENO, O_WRONLY);
    if (pipe_end < 0 || dup2(pipe_end, 3) < 0 || dup2(log_end < 0 ? STDERR_FILENO : log_end, 4) < 0) _exit(0);
    syscall(SYS_close_range, 5, ~0u, 0);
    prctl(PR_SET_NAME, "replicad-watch", 0, 0, 0);
    *end = 3;
    *log = 4;
    return 0;
}

#include <sys/stat.h>

int clinux_block_device_number(const char *path, uint32_t *major, uint32_t *minor) {
    struct statx information;
    memset(&information, 0, sizeof information);
    // What lies on a network is not asked: its server might be gone.
    if (syscall(SYS_statx, AT_FDCWD, path, AT_STATX_DONT_SYNC, STATX_TYPE | STATX_MODE, &information) != 0) return -1;
    if (!S_ISBLK((mode_t)information.stx_mode)) {
        errno = ENOTBLK;
        return -1;
    }
    *major = information.stx_rdev_major;
    *minor = information.stx_rdev_minor;
    return 0;
}

#include <sys/socket.h>
#include <sys/sysmacros.h>

int clinux_make_block_node(const char *path, unsigned int mode, uint32_t major, uint32_t minor) {
    return mknod(path, S_IFBLK | (mode & 07777), makedev(major, minor));
}

int clinux_socket_pair(int ends[2]) { return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends); }

int clinux_peer_process(int fd) {
    struct ucred credentials;
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
    return credentials.pid;
}

int clinux_memory_file(const char *name, const void *bytes, size_t count) {
    int fd = memfd_create(name, 0);
    if (fd < 0) return -1;
    size_t written = 0;
    while (written < count) {
        ssize_t result = write(fd, (const char *)bytes + written, count - written);
        if (result <= 0) {
            int error = result < 0 ? errno : EIO;
            close(fd);
            errno = error;
            return -1;
        }
        written += (size_t)result;
    }
    return fd;
}

int clinux_inherit(int fd, int inherits) { return fcntl(fd, F_SETFD, inherits ? 0 : FD_CLOEXEC); }

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

void clinux_bring_in(void *address, size_t count) {
    // Piece by piece: whoever maps memory meanwhile, as a new thread does for its stack, waits for one piece and not for all.
    // For the same reason this thread does not give way to others: it would do so with the lock.
    const size_t piece = 1 << 20;
    for (size_t done = 0; done < count; done += piece) {
        size_t length = count - done < piece ? count - done : piece;
        if (madvise((char *)address + done, length, MADV_POPULATE_WRITE) != 0) return;
    }
}

#include <poll.h>
#include <stdlib.h>
#include <time.h>

struct look {
    int64_t result;
    uint64_t size;
};

/// What the process that reads does: no memory is allocated and no lock is taken there.
static struct look look(const char *path, uint64_t offset, char *buffer, size_t count) {
    struct look found = {-EIO, 0};
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_DIRECT);
    if (fd < 0 && errno == EINVAL) fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &status) != 0) {
        found.result = -errno;
        return found;
    }
    if (S_ISREG(status.st_mode)) {
        found.size = status.st_size;
    } else if (!S_ISBLK(status.st_mode)) {
        found.result = -ENOTBLK;
        return found;
    } else if (ioctl(fd, BLKGETSIZE64, &found.size) != 0) {
        found.result = -errno;
        return found;
    }
    size_t done = 0;
    while (done < count) {
        ssize_t result = pread(fd, buffer + done, count - done, offset + done);
        if (result < 0 && errno == EINVAL && (fcntl(fd, F_GETFL) & O_DIRECT)) {
            // Some file systems take O_DIRECT and do not mean it.
            if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_DIRECT) == 0) continue;
        }
        if (result < 0) {
            found.result = -errno;
            return found;
        }
        if (result == 0) break;
        done += result;
    }
    found.result = done;
    return found;
}

static int milliseconds_left(const struct timespec *end) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t left = (end->tv_sec - now.tv_sec) * 1000 + (end->tv_nsec - now.tv_nsec) / 1000000;
    return left > 0 ? (int)left : 0;
}

/// Reads all of `count` bytes before the end; 0, or an error number.
static int read_until(int fd, void *bytes, size_t count, const struct timespec *end) {
    size_t done = 0;
    while (done < count) {
        struct pollfd request = {.fd = fd, .events = POLLIN};
        int ready = poll(&request, 1, milliseconds_left(end));
        if (ready == 0) return ETIMEDOUT;
        ssize_t result = ready < 0 ? -1 : read(fd, (char *)bytes + done, count - done);
        if (result < 0 && errno == EINTR) continue;
        if (result <= 0) return EIO;
        done += result;
    }
    return 0;
}

long clinux_look(const char *path, uint64_t offset, void *bytes, size_t count, int milliseconds, uint64_t *size) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += milliseconds / 1000;
    end.tv_nsec += (milliseconds % 1000) * 1000000L;
    void *buffer = NULL;
    int ends[2];
    if (posix_memalign(&buffer, 4096, count) != 0) return -ENOMEM;
    if (pipe2(ends, O_CLOEXEC) != 0) {
        free(buffer);
        return -errno;
    }
    pid_t child = fork();
    if (child == 0) {
        struct look found = look(path, offset, buffer, count);
        ssize_t written = write(ends[1], &found, sizeof found);
        for (int64_t done = 0; written > 0 && done < found.result; done += written)
            written = write(ends[1], (char *)buffer + done, found.result - done);
        _exit(0);
    }
    int error = child < 0 ? errno : 0;
    free(buffer);
    close(ends[1]);
    struct look found = {0, 0};
    if (!error) error = read_until(ends[0], &found, sizeof found, &end);
    *size = found.size;
    if (!error && found.result < 0) error = -found.result;
    if (!error) error = read_until(ends[0], bytes, found.result, &end);
    close(ends[0]);
    if (child > 0) {
        if (error) kill(child, SIGKILL);
        // One that hangs in the kernel is collected by nobody before it returns.
        waitpid(child, NULL, error == ETIMEDOUT ? WNOHANG : 0);
    }
    return error ? -error : found.result;
}
