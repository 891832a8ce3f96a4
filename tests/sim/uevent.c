/* SPDX-License-Identifier: MIT */

/*
 * See uevent.h.  A message is a 40-byte header and the properties.  The hashes
 * of subsystem and devtype in it are not decoration: monitors run a BPF
 * filter on them and never see what does not match.
 */

#include "sim/uevent.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

#define GROUP_UDEV 2U

struct uevents {
        int fd;
        uint64_t seqnum;
};

struct monitor_header {
        char prefix[8];
        uint32_t magic, header_size, properties_offset, properties_size;
        uint32_t subsystem_hash, devtype_hash, tag_bloom_high, tag_bloom_low;
};
_Static_assert(sizeof(struct monitor_header) == 40, "libudev's message header");

DEFINE_FREEP(uevents)

int uevents_new(struct uevents **ret)
{
        _cleanup_(uevents_freep) struct uevents *uevents = NULL;

        uevents = malloc(sizeof(*uevents));
        if (!uevents)
                return -ENOMEM;
        *uevents = (struct uevents){ .fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT) };
        if (uevents->fd < 0)
                return -errno;
        *ret = take_ptr(uevents);
        return 0;
}

struct uevents *uevents_free(struct uevents *uevents)
{
        if (!uevents)
                return NULL;
        if (uevents->fd >= 0)
                (void)close(uevents->fd);
        free(uevents);
        return NULL;
}

/* Murmur hash 2 with seed 0, as libudev's filters use it. */
static uint32_t murmur2(const char *string)
{
        const uint32_t m = 0x5bd1e995;
        const uint8_t *p = (const uint8_t *)string;
        size_t left = strlen(string);
        uint32_t h = (uint32_t)left;

        for (; left >= 4; p += 4, left -= 4) {
                uint32_t k;

                memcpy(&k, p, sizeof(k));
                k *= m;
                k ^= k >> 24;
                k *= m;
                h = h * m ^ k;
        }
        if (left > 0) {
                for (size_t i = 0; i < left; i++)
                        h ^= (uint32_t)p[i] << 8 * i;
                h *= m;
        }
        h ^= h >> 13;
        h *= m;
        return h ^ h >> 15;
}

int uevents_send(struct uevents *uevents, const char *subsystem, const char *devtype, const char *properties, size_t size)
{
        struct sockaddr_nl to = { .nl_family = AF_NETLINK, .nl_groups = GROUP_UDEV };
        struct monitor_header header = { .prefix = "libudev" };
        char seqnum[32];
        struct iovec parts[3];
        struct msghdr message = { .msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = parts, .msg_iovlen = 3 };
        int n;

        n = snprintf(seqnum, sizeof(seqnum), "SEQNUM=%" PRIu64, ++uevents->seqnum) + 1;
        header.magic = htonl(0xfeedcafe);
        header.header_size = sizeof(header);
        header.properties_offset = sizeof(header);
        header.properties_size = (uint32_t)(size + (size_t)n);
        header.subsystem_hash = htonl(murmur2(subsystem));
        header.devtype_hash = devtype ? htonl(murmur2(devtype)) : 0;
        parts[0] = (struct iovec){ &header, sizeof(header) };
        parts[1] = (struct iovec){ (void *)properties, size };
        parts[2] = (struct iovec){ seqnum, (size_t)n };

        if (sendmsg(uevents->fd, &message, 0) < 0 && errno != ECONNREFUSED && errno != ENOBUFS)
                return -errno;
        return 0;
}

/* --- overflow --- */

/* The inodes of the sockets that listen to udev's group in our network namespace; /proc/net/netlink's columns are
 * sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode. */
static size_t listener_inodes(unsigned long *inodes, size_t max)
{
        _cleanup_fclose_ FILE *f = fopen("/proc/self/net/netlink", "re");
        char line[256];
        size_t n = 0;

        while (f && n < max && fgets(line, sizeof(line), f)) {
                unsigned protocol, groups;
                unsigned long inode;

                if (sscanf(line, "%*s %u %*s %x %*s %*s %*s %*s %*s %lu", &protocol, &groups, &inode) == 3 &&
                    protocol == NETLINK_KOBJECT_UEVENT && (groups & GROUP_UDEV))
                        inodes[n++] = inode;
        }
        return n;
}

static bool is_listener(pid_t pid, const char *fd_name, const unsigned long *inodes, size_t n)
{
        char path[320], target[64];
        unsigned long inode;
        ssize_t size;

        (void)snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid, fd_name);
        size = readlink(path, target, sizeof(target) - 1);
        if (size < 0)
                return false;
        target[size] = 0;
        if (sscanf(target, "socket:[%lu]", &inode) != 1)
                return false;
        for (size_t i = 0; i < n; i++)
                if (inodes[i] == inode)
                        return true;
        return false;
}

/* Or gone. */
static bool is_stopped(pid_t pid)
{
        _cleanup_fclose_ FILE *f = NULL;
        char path[64], state;

        (void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        f = fopen(path, "re");
        return !f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1 || strchr("TtZX", state);
}

/* Of a stop the kernel tells the parent, which is somebody else; a pidfd tells of the end only. */
static void wait_stopped(pid_t pid)
{
        for (int i = 0; i < 1000 && !is_stopped(pid); i++)
                (void)usleep(1000);
}

/* A copy of the listener's socket is the same socket: its buffer can be made small from here. */
static int overflow_listener(struct uevents *uevents, pid_t pid, int fd_number, const char *properties, size_t size)
{
        _cleanup_close_ int pidfd = -1, fd = -1;
        bool was_stopped = is_stopped(pid);
        int before, tiny = 0, half;
        socklen_t length = sizeof(before);
        int r = 0;

        pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
        if (pidfd < 0)
                return -errno;
        fd = (int)syscall(SYS_pidfd_getfd, pidfd, fd_number, 0);
        if (fd < 0)
                return -errno;
        if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &before, &length) < 0)
                return -errno;

        if (kill(pid, SIGSTOP) < 0)
                return -errno;
        wait_stopped(pid);
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &tiny, sizeof(tiny));
        for (int i = 0; i < 16 && r >= 0; i++)
                r = uevents_send(uevents, "usb", "usb_device", properties, size);
        half = before / 2;              /* the kernel doubles what it is told */
        if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof(half)) < 0)
                (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof(half));
        /* Who had been stopped by somebody else is not ours to continue. */
        if (!was_stopped)
                (void)kill(pid, SIGCONT);
        return r;
}

int uevents_overflow(struct uevents *uevents, const char *properties, size_t size)
{
        unsigned long inodes[64];
        size_t n = listener_inodes(inodes, ELEMENTSOF(inodes));
        struct dirent *process, *entry;
        int hit = 0, r = 0;
        DIR *proc;

        proc = opendir("/proc");
        if (!proc)
                return -errno;
        while (r >= 0 && (process = readdir(proc))) {
                pid_t pid = (pid_t)atoi(process->d_name);
                char path[64];
                DIR *fds;

                if (pid <= 0 || pid == getpid())
                        continue;
                (void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
                fds = opendir(path);
                while (fds && r >= 0 && (entry = readdir(fds)))
                        if (is_listener(pid, entry->d_name, inodes, n)) {
                                r = overflow_listener(uevents, pid, atoi(entry->d_name), properties, size);
                                hit += r >= 0;
                        }
                if (fds)
                        (void)closedir(fds);
        }
        (void)closedir(proc);
        return r < 0 ? r : hit;
}
