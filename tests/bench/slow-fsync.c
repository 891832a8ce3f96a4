/* SPDX-License-Identifier: MIT */

/*
 * A slow disk: a library to be preloaded, in which every fsync, fdatasync and
 * sync_file_range takes SLOW_FSYNC_MS (default 200) longer; and, while
 * there is a FIFO of the name SLOW_FSYNC_GATE, until somebody has written to it
 * and closed it.  It changes nothing else.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void await_gate(const char *path)
{
        char byte;
        int fd;

        if (!path)
                return;
        do
                fd = open(path, O_RDONLY | O_CLOEXEC);
        while (fd < 0 && errno == EINTR);
        while (fd >= 0 && (read(fd, &byte, 1) > 0 || errno == EINTR))
                errno = 0;
        if (fd >= 0)
                (void)close(fd);
}

static void be_slow(void)
{
        const char *given = getenv("SLOW_FSYNC_MS");
        long ms = given ? atol(given) : 200;
        struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

        /* A signal must not make the disk fast. */
        while (ms > 0 && nanosleep(&left, &left) < 0)
                ;
        await_gate(getenv("SLOW_FSYNC_GATE"));
}

int fsync(int fd)
{
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");

        be_slow();
        return real(fd);
}

int fdatasync(int fd)
{
        int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");

        be_slow();
        return real(fd);
}

int sync_file_range(int fd, off64_t offset, off64_t n, unsigned flags)
{
        int (*real)(int, off64_t, off64_t, unsigned) = (int (*)(int, off64_t, off64_t, unsigned))dlsym(RTLD_NEXT, "sync_file_range");

        be_slow();
        return real(fd, offset, n, flags);
}
