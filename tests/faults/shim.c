/* A disk that fails, a process that dies at a chosen moment, a clock that is wrong: by LD_PRELOAD,
 * because no kernel does these on demand and for one process alone.
 *
 * The file FAULTS_FILE holds five numbers of 64 bits, read at every call, so a test can turn them
 * while the process runs:
 *
 *   0  errno that writing and syncing below a staging folder fail with; 0: they work
 *   1  seconds that the clock of the day is off
 *   2  number of the changing call (in the order below) at which the process kills itself; 0: none
 *   3  how many of them there were; also written here
 *   4  errno that hard links fail with, as on a file system that has none; 0: they work
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t quiet[5];
static volatile int64_t *faults = quiet;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_FILE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof quiet, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED) faults = shared;
    close(file);
}

static void count(void) {
    int64_t number = __atomic_add_fetch(&faults[3], 1, __ATOMIC_SEQ_CST);
    if (number == faults[2]) kill(getpid(), SIGKILL);
}

static int fails(int file) {
    char link[64], path[4096];
    if (!faults[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    if (!strstr(path, "/.handover-")) return 0;
    errno = (int)faults[0];
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OF_A_FILE(type, name, declared, ...)         \
    type name declared {                             \
        static __typeof__(&name) real;               \
        if (!real) real = REAL(name);                \
        count();                                     \
        return fails(file) ? -1 : real(__VA_ARGS__); \
    }
OF_A_FILE(ssize_t, pwrite, (int file, const void *from, size_t length, off_t at), file, from, length, at)
OF_A_FILE(ssize_t, pwrite64, (int file, const void *from, size_t length, off64_t at), file, from, length, at)
OF_A_FILE(int, ftruncate, (int file, off_t length), file, length)
OF_A_FILE(int, ftruncate64, (int file, off64_t length), file, length)
OF_A_FILE(int, fsync, (int file), file)
OF_A_FILE(int, fdatasync, (int file), file)

#define OF_A_NAME(name, declared, ...) UNLESS(0, name, declared, __VA_ARGS__)
#define OF_A_LINK(name, declared, ...) UNLESS(faults[4], name, declared, __VA_ARGS__)
#define UNLESS(fault, name, declared, ...)                                       \
    int name declared {                                                          \
        static __typeof__(&name) real;                                           \
        if (!real) real = REAL(name);                                            \
        count();                                                                 \
        return fault ? (errno = (int)(fault), -1) : real(__VA_ARGS__);           \
    }
OF_A_NAME(rename, (const char *from, const char *to), from, to)
OF_A_NAME(renameat, (int a, const char *from, int b, const char *to), a, from, b, to)
OF_A_LINK(link, (const char *from, const char *to), from, to)
OF_A_LINK(linkat, (int a, const char *from, int b, const char *to, int how), a, from, b, to, how)
OF_A_NAME(unlink, (const char *path), path)
OF_A_NAME(unlinkat, (int folder, const char *path, int how), folder, path, how)
OF_A_NAME(rmdir, (const char *path), path)
OF_A_NAME(mkdir, (const char *path, mode_t mode), path, mode)
OF_A_NAME(mkdirat, (int folder, const char *path, mode_t mode), folder, path, mode)

int clock_gettime(clockid_t clock, struct timespec *at) {
    static __typeof__(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int code = real(clock, at);
    if (!code && clock == CLOCK_REALTIME) at->tv_sec += faults[1];
    return code;
}

time_t time(time_t *kept) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (kept) *kept = at.tv_sec;
    return at.tv_sec;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    *at = (struct timeval){exact.tv_sec, exact.tv_nsec / 1000};
    return 0;
}
