/* Faults of a machine, for the process that this library is preloaded into: LD_PRELOAD=shim.so.

   `disturb`, or the environment variable DISTURB at the start, begins one:
     full:<bytes>:<folder>    after that many bytes, writing below the folder fails as on a full disk
     read-only:<folder>       the folder is as on a file system that is mounted read-only
     clock:<seconds>:<seed>   every 50 ms the time of day is another one, within so many seconds
   Permissions do not bind root, and a file system of one's own needs rights: this works for everyone. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name)                                          \
    ({                                                      \
        static __typeof__(&name) real;                      \
        if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name); \
        real;                                               \
    })

static char full_folder[PATH_MAX], read_only_folder[PATH_MAX];
static _Atomic long free_bytes;
static long clock_span_s;
static uint64_t clock_seed;

void disturb(const char *what) {
    char folder[PATH_MAX];
    long number;
    unsigned long seed;
    if (sscanf(what, "full:%ld:%4095s", &number, folder) == 2) {
        free_bytes = number;
        strcpy(full_folder, folder);
    } else if (sscanf(what, "read-only:%4095s", folder) == 1) {
        strcpy(read_only_folder, folder);
    } else if (sscanf(what, "clock:%ld:%lu", &number, &seed) == 2) {
        clock_seed = seed;
        clock_span_s = number;
    } else {
        fprintf(stderr, "shim: cannot read `%s`\n", what);
        abort();
    }
}

__attribute__((constructor)) static void begin(void) {
    const char *what = getenv("DISTURB");
    if (what) disturb(what);
}

static int is_below(const char *path, const char *folder) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

/* --- full disk --- */

/* Returns how many of `wanted` bytes may be written to a file, -1 with errno if none. */
static ssize_t allowed(int descriptor, size_t wanted) {
    char link[64], path[PATH_MAX];
    if (!*full_folder || !wanted) return (ssize_t)wanted;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return (ssize_t)wanted;
    path[length] = 0;
    if (!is_below(path, full_folder)) return (ssize_t)wanted;
    long had = free_bytes, taken;
    do taken = had < (long)wanted ? had : (long)wanted;
    while (!__atomic_compare_exchange_n((long *)&free_bytes, &had, had - taken, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (!taken) errno = ENOSPC;
    return taken ? taken : -1;
}

ssize_t write(int descriptor, const void *bytes, size_t count) {
    ssize_t some = allowed(descriptor, count);
    return some < 0 ? -1 : REAL(write)(descriptor, bytes, (size_t)some);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t count, off_t place) {
    ssize_t some = allowed(descriptor, count);
    return some < 0 ? -1 : REAL(pwrite)(descriptor, bytes, (size_t)some, place);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t count, off64_t place) {
    return pwrite(descriptor, bytes, count, place);
}

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    size_t wanted = 0;
    for (int i = 0; i < count; i++) wanted += parts[i].iov_len;
    ssize_t some = allowed(descriptor, wanted);
    if (some >= 0 && (size_t)some < wanted) errno = ENOSPC, some = -1;
    return some < 0 ? -1 : REAL(writev)(descriptor, parts, count);
}

size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file) {
    ssize_t some = allowed(fileno(file), size * count);
    if (some >= 0 && (size_t)some < size * count) errno = ENOSPC, some = -1;
    return some < 0 ? 0 : REAL(fwrite)(bytes, size, count, file);
}

ssize_t sendfile(int to, int from, off_t *place, size_t count) {
    ssize_t some = allowed(to, count);
    return some < 0 ? -1 : REAL(sendfile)(to, from, place, (size_t)some);
}

ssize_t sendfile64(int to, int from, off64_t *place, size_t count) { return sendfile(to, from, place, count); }

ssize_t copy_file_range(int from, off64_t *start, int to, off64_t *place, size_t count, unsigned flags) {
    ssize_t some = allowed(to, count);
    return some < 0 ? -1 : REAL(copy_file_range)(from, start, to, place, (size_t)some, flags);
}

/* --- read-only folder --- */

/* Returns whether a path must not be written to; then errno says so. */
static int refuses(int folder, const char *path) {
    char place[2 * PATH_MAX] = "", link[64];
    if (!*read_only_folder || !path) return 0;
    if (path[0] != '/') {
        ssize_t length;
        if (folder == AT_FDCWD) {
            if (!getcwd(place, PATH_MAX)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            if ((length = readlink(link, place, PATH_MAX - 1)) < 0) return 0;
            place[length] = 0;
        }
        strcat(place, "/");
    }
    strncat(place, path, PATH_MAX - 1);
    if (!is_below(place, read_only_folder)) return 0;
    errno = EROFS;
    return 1;
}

static int is_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC)); }

#define MODE(flags, mode)                               \
    mode_t mode = 0;                                    \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list rest;                                   \
        va_start(rest, flags);                          \
        mode = va_arg(rest, mode_t);                    \
        va_end(rest);                                   \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return is_writing(flags) && refuses(AT_FDCWD, path) ? -1 : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return is_writing(flags) && refuses(AT_FDCWD, path) ? -1 : REAL(open64)(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return is_writing(flags) && refuses(folder, path) ? -1 : REAL(openat)(folder, path, flags, mode);
}

int openat64(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return is_writing(flags) && refuses(folder, path) ? -1 : REAL(openat64)(folder, path, flags, mode);
}

FILE *fopen(const char *path, const char *mode) {
    return strpbrk(mode, "wa+") && refuses(AT_FDCWD, path) ? NULL : REAL(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode) {
    return strpbrk(mode, "wa+") && refuses(AT_FDCWD, path) ? NULL : REAL(fopen64)(path, mode);
}

int mkdir(const char *path, mode_t mode) { return refuses(AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode); }

int mkdirat(int folder, const char *path, mode_t mode) {
    return refuses(folder, path) ? -1 : REAL(mkdirat)(folder, path, mode);
}

int rename(const char *from, const char *to) {
    return refuses(AT_FDCWD, from) || refuses(AT_FDCWD, to) ? -1 : REAL(rename)(from, to);
}

int renameat(int there, const char *from, int here, const char *to) {
    return refuses(there, from) || refuses(here, to) ? -1 : REAL(renameat)(there, from, here, to);
}

int link(const char *from, const char *to) { return refuses(AT_FDCWD, to) ? -1 : REAL(link)(from, to); }

int symlink(const char *from, const char *to) { return refuses(AT_FDCWD, to) ? -1 : REAL(symlink)(from, to); }

int unlink(const char *path) { return refuses(AT_FDCWD, path) ? -1 : REAL(unlink)(path); }

int unlinkat(int folder, const char *path, int flags) {
    return refuses(folder, path) ? -1 : REAL(unlinkat)(folder, path, flags);
}

int rmdir(const char *path) { return refuses(AT_FDCWD, path) ? -1 : REAL(rmdir)(path); }

/* --- a clock that jumps --- */

static long jump_s(void) {
    if (!clock_span_s) return 0;
    struct timespec steady;
    REAL(clock_gettime)(CLOCK_MONOTONIC, &steady);
    uint64_t mixed = clock_seed ^ ((uint64_t)steady.tv_sec * 20 + (uint64_t)steady.tv_nsec / 50000000);
    mixed = (mixed ^ (mixed >> 31)) * 0x9e3779b97f4a7c15u;
    mixed = (mixed ^ (mixed >> 29)) * 0xbf58476d1ce4e5b9u;
    return (long)((mixed >> 20) % (uint64_t)(2 * clock_span_s + 1)) - clock_span_s;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = REAL(clock_gettime)(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump_s();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = REAL(gettimeofday)(now, zone);
    if (!failed) now->tv_sec += jump_s();
    return failed;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place) *place = now.tv_sec;
    return now.tv_sec;
}
