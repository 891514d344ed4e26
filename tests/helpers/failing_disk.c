/* Preloaded into a process, this makes a disk fail: while the file that CYCLESR_TEST_FAULT names holds "errno count part",
   the next `count` accesses to files whose path has `part` in it fail with that errno. <file>.hits grows by a byte each. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *path) {
    const char *control = getenv("CYCLESR_TEST_FAULT");
    char text[512], part[256], hits[512];
    int error;
    long count;
    if (!control || !path) return 0;
    int fd = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY, 0);
    if (fd < 0) return 0;
    ssize_t size = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (size <= 0) return 0;
    text[size] = 0;
    if (sscanf(text, "%d %ld %255s", &error, &count, part) != 3 || !strstr(path, part)) return 0;
    snprintf(hits, sizeof hits, "%s.hits", control);
    fd = syscall(SYS_openat, AT_FDCWD, hits, O_RDWR | O_CREAT | O_APPEND, 0644);
    if (fd < 0) return 0;
    off_t done = syscall(SYS_lseek, fd, 0, SEEK_END);
    int failing = done < count;
    if (failing) syscall(SYS_write, fd, "x", 1);
    syscall(SYS_close, fd);
    return failing ? error : 0;
}

static int fails_open_file(int fd) {
    char link[64], path[512];
    if (!getenv("CYCLESR_TEST_FAULT")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return fails(path);
}

#define FAIL_IF(expression) do { int error_ = (expression); if (error_) { errno = error_; return -1; } } while (0)
#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...) {                                       \
        va_list rest; va_start(rest, flags); mode_t mode = va_arg(rest, mode_t); va_end(rest); \
        FAIL_IF(fails(path));                                                          \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);                 \
        return real(path, flags, mode);                                                \
    }
OPEN(open)
OPEN(open64)
#define READ(name, offset_t)                                                           \
    ssize_t name(int fd, void *to, size_t size, offset_t offset) {                     \
        FAIL_IF(fails_open_file(fd));                                                  \
        ssize_t (*real)(int, void *, size_t, offset_t) = dlsym(RTLD_NEXT, #name);      \
        return real(fd, to, size, offset);                                             \
    }
READ(pread, off_t)
READ(pread64, off64_t)
ssize_t read(int fd, void *to, size_t size) {
    FAIL_IF(fails_open_file(fd));
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    return real(fd, to, size);
}
#define STAT(name, type)                                                               \
    int name(const char *path, struct type *status) {                                  \
        FAIL_IF(fails(path));                                                          \
        int (*real)(const char *, struct type *) = dlsym(RTLD_NEXT, #name);            \
        return real(path, status);                                                     \
    }
STAT(stat, stat)
STAT(stat64, stat64)
