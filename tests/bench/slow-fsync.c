/* SPDX-License-Identifier: MIT */

/*
 * A slow disk: a library to be preloaded, in which every fsync, fdatasync and
 * sync_file_range takes SLOW_FSYNC_MS (default 200) longer.  It changes
 * nothing else.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void be_slow(void)
{
        const char *given = getenv("SLOW_FSYNC_MS");
        long ms = given ? atol(given) : 200;
        struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

        /* A signal must not make the disk fast. */
        while (ms > 0 && nanosleep(&left, &left) < 0)
                ;
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
