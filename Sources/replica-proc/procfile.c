// Programs that read /proc/drbd read our status file instead, while this library is preloaded (LD_PRELOAD): monitors, handlers and
// resource agents that know no other place. Only opening for reading and asking for attributes is redirected, and only of that name.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define KERNELS_FILE "/proc/drbd"

static char our_file[PATH_MAX] = "/run/replica/proc/drbd";

__attribute__((constructor)) static void find_our_file(void) {
    const char *directory = secure_getenv("REPLICA_RUN_DIR");
    if (directory != NULL && directory[0] == '/' && strlen(directory) < sizeof our_file - sizeof KERNELS_FILE)
        snprintf(our_file, sizeof our_file, "%s" KERNELS_FILE, directory);
}

static const char *place(const char *path) {
    return path != NULL && strcmp(path, KERNELS_FILE) == 0 ? our_file : path;
}
static const char *place_to_open(const char *path, int flags) {
    return (flags & O_ACCMODE) == O_RDONLY && (flags & O_CREAT) == 0 ? place(path) : path;
}
static const char *place_to_fopen(const char *path, const char *mode) {
    return mode != NULL && mode[0] == 'r' && strchr(mode, '+') == NULL ? place(path) : path;
}

// The function that would have been called without us.
#define NEXT(type, name)                                                                                                           \
    static __typeof__(type) *next;                                                                                                 \
    if (next == NULL) next = (__typeof__(type) *)dlsym(RTLD_NEXT, name)
#define MODE(flags, mode)                                                                                                          \
    mode_t mode = 0;                                                                                                               \
    if (((flags) & O_CREAT) != 0 || ((flags) & O_TMPFILE) == O_TMPFILE) {                                                          \
        va_list rest;                                                                                                              \
        va_start(rest, flags);                                                                                                     \
        mode = va_arg(rest, mode_t);                                                                                               \
        va_end(rest);                                                                                                              \
    }

typedef int open_function(const char *, int, ...);
typedef int openat_function(int, const char *, int, ...);
typedef int checked_open_function(const char *, int);
typedef int checked_openat_function(int, const char *, int);
typedef FILE *fopen_function(const char *, const char *);
typedef FILE *freopen_function(const char *, const char *, FILE *);
typedef int stat_function(const char *, void *);
typedef int fstatat_function(int, const char *, void *, int);
typedef int old_stat_function(int, const char *, void *);
typedef int old_fstatat_function(int, int, const char *, void *, int);
typedef int statx_function(int, const char *, int, unsigned, void *);
typedef int access_function(const char *, int);
typedef int faccessat_function(int, const char *, int, int);

// Names of our own, and the real ones for the linker: the headers declare those with other types and attributes.
#define OPEN(our, real)                                                                                                            \
    int our(const char *, int, ...) __asm__(real);                                                                                 \
    int our(const char *path, int flags, ...) {                                                                                    \
        NEXT(open_function, real);                                                                                                 \
        MODE(flags, mode)                                                                                                          \
        return next(place_to_open(path, flags), flags, mode);                                                                      \
    }
#define OPENAT(our, real)                                                                                                          \
    int our(int, const char *, int, ...) __asm__(real);                                                                            \
    int our(int directory, const char *path, int flags, ...) {                                                                     \
        NEXT(openat_function, real);                                                                                               \
        MODE(flags, mode)                                                                                                          \
        return next(directory, place_to_open(path, flags), flags, mode);                                                           \
    }
#define CHECKED_OPEN(our, real)                                                                                                    \
    int our(const char *, int) __asm__(real);                                                                                      \
    int our(const char *path, int flags) {                                                                                         \
        NEXT(checked_open_function, real);                                                                                         \
        return next(place_to_open(path, flags), flags);                                                                            \
    }
#define CHECKED_OPENAT(our, real)                                                                                                  \
    int our(int, const char *, int) __asm__(real);                                                                                 \
    int our(int directory, const char *path, int flags) {                                                                          \
        NEXT(checked_openat_function, real);                                                                                       \
        return next(directory, place_to_open(path, flags), flags);                                                                 \
    }
#define FOPEN(our, real)                                                                                                           \
    FILE *our(const char *, const char *) __asm__(real);                                                                           \
    FILE *our(const char *path, const char *mode) {                                                                                \
        NEXT(fopen_function, real);                                                                                                \
        return next(place_to_fopen(path, mode), mode);                                                                             \
    }
#define FREOPEN(our, real)                                                                                                         \
    FILE *our(const char *, const char *, FILE *) __asm__(real);                                                                   \
    FILE *our(const char *path, const char *mode, FILE *file) {                                                                    \
        NEXT(freopen_function, real);                                                                                              \
        return next(place_to_fopen(path, mode), mode, file);                                                                       \
    }
#define STAT(our, real)                                                                                                            \
    int our(const char *, void *) __asm__(real);                                                                                   \
    int our(const char *path, void *attributes) {                                                                                  \
        NEXT(stat_function, real);                                                                                                 \
        return next(place(path), attributes);                                                                                      \
    }
#define FSTATAT(our, real)                                                                                                         \
    int our(int, const char *, void *, int) __asm__(real);                                                                         \
    int our(int directory, const char *path, void *attributes, int flags) {                                                        \
        NEXT(fstatat_function, real);                                                                                              \
        return next(directory, place(path), attributes, flags);                                                                    \
    }
#define OLD_STAT(our, real)                                                                                                        \
    int our(int, const char *, void *) __asm__(real);                                                                              \
    int our(int version, const char *path, void *attributes) {                                                                     \
        NEXT(old_stat_function, real);                                                                                             \
        return next(version, place(path), attributes);                                                                             \
    }
#define OLD_FSTATAT(our, real)                                                                                                     \
    int our(int, int, const char *, void *, int) __asm__(real);                                                                    \
    int our(int version, int directory, const char *path, void *attributes, int flags) {                                           \
        NEXT(old_fstatat_function, real);                                                                                          \
        return next(version, directory, place(path), attributes, flags);                                                           \
    }
#define ACCESS(our, real)                                                                                                          \
    int our(const char *, int) __asm__(real);                                                                                      \
    int our(const char *path, int mode) {                                                                                          \
        NEXT(access_function, real);                                                                                               \
        return next(place(path), mode);                                                                                            \
    }

OPEN(our_open, "open")
OPEN(our_open64, "open64")
OPENAT(our_openat, "openat")
OPENAT(our_openat64, "openat64")
CHECKED_OPEN(our_open_2, "__open_2")
CHECKED_OPEN(our_open64_2, "__open64_2")
CHECKED_OPENAT(our_openat_2, "__openat_2")
CHECKED_OPENAT(our_openat64_2, "__openat64_2")
FOPEN(our_fopen, "fopen")
FOPEN(our_fopen64, "fopen64")
FREOPEN(our_freopen, "freopen")
FREOPEN(our_freopen64, "freopen64")
STAT(our_stat, "stat")
STAT(our_stat64, "stat64")
STAT(our_lstat, "lstat")
STAT(our_lstat64, "lstat64")
FSTATAT(our_fstatat, "fstatat")
FSTATAT(our_fstatat64, "fstatat64")
OLD_STAT(our_xstat, "__xstat")
OLD_STAT(our_xstat64, "__xstat64")
OLD_STAT(our_lxstat, "__lxstat")
OLD_STAT(our_lxstat64, "__lxstat64")
OLD_FSTATAT(our_fxstatat, "__fxstatat")
OLD_FSTATAT(our_fxstatat64, "__fxstatat64")
ACCESS(our_access, "access")
ACCESS(our_euidaccess, "euidaccess")
ACCESS(our_eaccess, "eaccess")

int our_faccessat(int, const char *, int, int) __asm__("faccessat");
int our_faccessat(int directory, const char *path, int mode, int flags) {
    NEXT(faccessat_function, "faccessat");
    return next(directory, place(path), mode, flags);
}
int our_statx(int, const char *, int, unsigned, void *) __asm__("statx");
int our_statx(int directory, const char *path, int flags, unsigned mask, void *attributes) {
    NEXT(statx_function, "statx");
    return next(directory, place(path), flags, mask, attributes);
}
