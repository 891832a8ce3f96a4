/* SPDX-License-Identifier: MIT */
/*
 * Another program that is at a USB device: opens its node ("open", as those do that
 * look at every device) or claims its interface 0 too ("claim"), or has a serial port for itself alone ("alone"), says "there", and
 * stays until it is ended.
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* As it is asked for by who has no privilege that lets him in all the same. */
static int open_alone(const char *path)
{
        int fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC), exclusive = 0;

        if (fd >= 0 && ioctl(fd, TIOCGEXCL, &exclusive) == 0 && !exclusive && ioctl(fd, TIOCEXCL) == 0)
                return fd;
        if (exclusive)
                errno = EBUSY;
        return -1;
}

int main(int argc, char *argv[])
{
        unsigned interface = 0;
        int fd;

        if (argc != 3 || (strcmp(argv[1], "open") != 0 && strcmp(argv[1], "claim") != 0 && strcmp(argv[1], "alone") != 0)) {
                (void)fprintf(stderr, "Usage: hold-device open|claim|alone NODE\n");
                return 2;
        }
        fd = strcmp(argv[1], "alone") == 0 ? open_alone(argv[2]) : open(argv[2], O_RDWR | O_CLOEXEC);
        if (fd < 0 || (strcmp(argv[1], "claim") == 0 && ioctl(fd, USBDEVFS_CLAIMINTERFACE, &interface) < 0)) {
                (void)fprintf(stderr, "hold-device: %s: %s\n", argv[2], strerror(errno));
                return 1;
        }
        (void)printf("there\n");
        (void)fflush(stdout);
        for (;;)
                (void)pause();
}
