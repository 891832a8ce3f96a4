/* SPDX-License-Identifier: MIT */

/*
 * See namespace.h.  The order matters in four places:
 * /dev/fuse is opened before /dev is replaced; /sys itself is never covered
 * (libusb asks it for SYSFS_MAGIC); the new /dev is built beside the old one and
 * then moved over it, because a directory made in the real one, which all
 * namespaces share, would stay there; and nothing here looks at /dev/bus/usb
 * once FUSE stands on it.
 */

#include "sim/namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

static int write_file(const char *path, const char *text)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        if (write(fd, text, strlen(text)) < 0)
                return -errno;
        return 0;
}

static int map_ids(uid_t uid, gid_t gid)
{
        char map[64];
        int r;

        r = write_file("/proc/self/setgroups", "deny");
        if (r < 0 && r != -ENOENT)
                return r;
        (void)snprintf(map, sizeof(map), "0 %u 1", (unsigned)uid);
        r = write_file("/proc/self/uid_map", map);
        if (r < 0)
                return r;
        (void)snprintf(map, sizeof(map), "0 %u 1", (unsigned)gid);
        return write_file("/proc/self/gid_map", map);
}

static int unshare_all(enum namespace_user user)
{
        uid_t uid = geteuid();
        gid_t gid = getegid();

        if (user != NAMESPACE_USER_NEW) {
                if (unshare(CLONE_NEWNS | CLONE_NEWNET) == 0)
                        return 0;
                if (user == NAMESPACE_USER_KEEP || errno != EPERM)
                        return -errno;
        }
        if (unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET) < 0)
                return -errno;
        return map_ids(uid, gid);
}

static int cover(const char *path)
{
        return mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0 ? -errno : 0;
}

static int make_directories(const char *const *paths, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (mkdir(paths[i], 0755) < 0 && errno != EEXIST)
                        return -errno;
        return 0;
}

static int make_empty_file(const char *path)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

        return fd < 0 ? -errno : 0;
}

static int bind_node(const char *name)
{
        char from[64], to[64];
        int r;

        (void)snprintf(from, sizeof(from), "/dev/%s", name);
        (void)snprintf(to, sizeof(to), "/mnt/%s", name);
        if (strcmp(name, "shm") == 0)
                r = mkdir(to, 01777) < 0 ? -errno : 0;
        else
                r = make_empty_file(to);
        if (r < 0)
                return r;
        return mount(from, to, NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

static int build_dev(int fuse_fd, const char **step)
{
        static const char *const nodes[] = { "null", "zero", "full", "random", "urandom", "tty",
                                             "fuse" };      /* one may run inside another */
        static const char *const directories[] = { "/mnt/pts", "/mnt/bus", "/mnt/bus/usb" };
        static const struct { const char *target, *name; } links[] = {
                { "pts/ptmx", "/mnt/ptmx" },
                { "/proc/self/fd", "/mnt/fd" },
                { "/proc/self/fd/0", "/mnt/stdin" },
                { "/proc/self/fd/1", "/mnt/stdout" },
                { "/proc/self/fd/2", "/mnt/stderr" },
        };
        char options[128];
        int r;

        *step = "mounting a tmpfs for the new /dev";
        r = cover("/mnt");
        if (r < 0)
                return r;

        *step = "building the new /dev";
        for (size_t i = 0; i < ELEMENTSOF(nodes); i++) {
                r = bind_node(nodes[i]);
                if (r < 0)
                        return r;
        }
        /* Not every container has it. */
        if (access("/dev/shm", F_OK) == 0) {
                r = bind_node("shm");
                if (r < 0)
                        return r;
        }
        r = make_directories(directories, ELEMENTSOF(directories));
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(links); i++)
                if (symlink(links[i].target, links[i].name) < 0)
                        return -errno;

        *step = "mounting a new devpts";
        if (mount("devpts", "/mnt/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620") < 0)
                return -errno;

        *step = "mounting FUSE";
        (void)snprintf(options, sizeof(options), "fd=%d,rootmode=40755,user_id=0,group_id=0,allow_other", fuse_fd);
        if (mount("camsim", "/mnt/bus/usb", "fuse.camsim", MS_NOSUID | MS_NODEV, options) < 0)
                return -errno;

        *step = "moving the new /dev into place";
        if (mount("/mnt", "/dev", NULL, MS_MOVE, NULL) < 0 && mount("/mnt", "/dev", NULL, MS_BIND | MS_REC, NULL) < 0)
                return -errno;
        return 0;
}

/* Best effort: only who uses 127.0.0.1 needs it. */
static void loopback_up(void)
{
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

        if (fd >= 0)
                (void)ioctl(fd, SIOCSIFFLAGS, &request);
}

int namespace_enter(enum namespace_user user, int *ret_fuse_fd, const char **ret_step)
{
        static const char *const covered[] = { "/sys/bus", "/sys/devices", "/sys/class", "/sys/dev", "/run" };
        static const char *const directories[] = {
                "/sys/bus/usb", "/sys/bus/usb/devices", "/sys/class/tty", "/sys/dev/char",
                "/run/lock", "/run/udev", "/run/udev/data", "/run/udev/tags",
        };
        _cleanup_close_ int fuse_fd = -1;
        int r;

        *ret_step = "leaving the namespaces";
        r = unshare_all(user);
        if (r < 0)
                return r;
        *ret_step = "making mounts private";
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return -errno;

        *ret_step = "opening /dev/fuse";
        fuse_fd = open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        if (fuse_fd < 0)
                return -errno;

        *ret_step = "covering /sys and /run";
        for (size_t i = 0; i < ELEMENTSOF(covered); i++) {
                r = cover(covered[i]);
                if (r < 0)
                        return r;
        }
        r = make_directories(directories, ELEMENTSOF(directories));
        if (r < 0)
                return r;
        /* Where /dev is no devtmpfs, libudev takes this file as the sign of a running udevd; without it a monitor
         * subscribes to nothing and says nothing. */
        r = make_empty_file("/run/udev/control");
        if (r < 0)
                return r;

        r = build_dev(fuse_fd, ret_step);
        if (r < 0)
                return r;
        loopback_up();

        *ret_fuse_fd = take_fd(&fuse_fd);
        return 0;
}
