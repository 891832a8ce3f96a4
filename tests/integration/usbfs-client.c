/* SPDX-License-Identifier: MIT */

/*
 * One program's talk with a device node, in ioctls and errno names, so that what
 * usbfs says can be compared: of the kernel that is played, and of a real one.
 *
 *     usbfs-client NODE VERB [ARGUMENT...] [VERB ...]     one open of the node; each verb prints one line
 *
 *     control TYPE REQUEST VALUE INDEX LENGTH TIMEOUT     USBDEVFS_CONTROL; TIMEOUT in ms
 *     submit TYPE REQUEST VALUE INDEX LENGTH              a URB; not printed until it is reaped
 *     discard                                             the URB
 *     reap TIMEOUT                                        its status and length, or "timeout"
 *     claim N, release N, setinterface N ALTERNATE, reset
 *     disconnect N, connect N                             the kernel's driver of the interface
 *     run COMMAND                                         a line for the shell
 *     hangup TIMEOUT                                      waits until poll(2) says that the device is gone
 *     rate N                                              N times GETSTATUS of DFU: transfers in a second
 */

#include <errno.h>
#include <fcntl.h>
#include <linux/usbdevice_fs.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"

static int fd;
static char **words;
static struct usbdevfs_urb urb;
static uint8_t buffer[8 + 65536];

static const char *next_word(void)
{
        if (!*words) {
                (void)fprintf(stderr, "usbfs-client: a word is missing\n");
                exit(2);
        }
        return *words++;
}

static unsigned next_number(void)
{
        return (unsigned)strtoul(next_word(), NULL, 0);
}

static const char *name_of(int error)
{
        return error == 0 ? "0" : strerrorname_np(error) ?: "?";
}

static double now(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void say(const char *verb, int r)
{
        (void)printf("%s %s\n", verb, r < 0 ? name_of(errno) : "0");
}

static void do_control(void)
{
        struct usbdevfs_ctrltransfer transfer = { .data = buffer };
        int r;

        transfer.bRequestType = (uint8_t)next_number();
        transfer.bRequest = (uint8_t)next_number();
        transfer.wValue = (uint16_t)next_number();
        transfer.wIndex = (uint16_t)next_number();
        transfer.wLength = (uint16_t)next_number();
        transfer.timeout = next_number();
        r = ioctl(fd, USBDEVFS_CONTROL, &transfer);
        if (r < 0)
                (void)printf("control %s\n", name_of(errno));
        else
                (void)printf("control %d\n", r);
}

static void do_submit(void)
{
        uint16_t value, index, length;

        urb = (struct usbdevfs_urb){ .type = USBDEVFS_URB_TYPE_CONTROL, .buffer = buffer };
        buffer[0] = (uint8_t)next_number();
        buffer[1] = (uint8_t)next_number();
        value = (uint16_t)next_number();
        index = (uint16_t)next_number();
        length = (uint16_t)next_number();
        put_le16(buffer + 2, value);
        put_le16(buffer + 4, index);
        put_le16(buffer + 6, length);
        urb.buffer_length = 8 + length;
        say("submit", ioctl(fd, USBDEVFS_SUBMITURB, &urb));
}

static void do_reap(void)
{
        struct pollfd pollfd = { .fd = fd, .events = POLLOUT };
        int timeout = (int)next_number();
        struct usbdevfs_urb *done;

        /* A node that is gone is always ready, whatever is still pending. */
        if (poll(&pollfd, 1, timeout) == 0) {
                (void)printf("reap timeout\n");
                return;
        }
        if (ioctl(fd, USBDEVFS_REAPURBNDELAY, &done) < 0)
                (void)printf("reap: %s\n", name_of(errno));
        else
                (void)printf("reap %s%s %d\n", done->status < 0 ? "-" : "", name_of(-done->status), done->actual_length);
}

static void do_hangup(void)
{
        struct pollfd pollfd = { .fd = fd };
        int r = poll(&pollfd, 1, (int)next_number());

        /* POLLHUP comes first; POLLERR when nothing is left of it, a moment later. */
        (void)printf("hangup%s%s\n", r == 0 ? " timeout" : "", r > 0 && !(pollfd.revents & (POLLERR | POLLHUP)) ? " without" : "");
}

static void do_rate(void)
{
        struct usbdevfs_ctrltransfer transfer = { .bRequestType = 0xa1, .bRequest = 3, .wLength = 6, .timeout = 1000, .data = buffer };
        unsigned n = next_number();
        double began = now();

        for (unsigned i = 0; i < n; i++)
                if (ioctl(fd, USBDEVFS_CONTROL, &transfer) < 0) {
                        say("rate", -1);
                        return;
                }
        (void)printf("rate %.0f\n", n / (now() - began));
}

static void do_setinterface(void)
{
        struct usbdevfs_setinterface setting = { 0 };

        setting.interface = next_number();
        setting.altsetting = next_number();
        say("setinterface", ioctl(fd, USBDEVFS_SETINTERFACE, &setting));
}

static void do_driver(const char *verb, unsigned code)
{
        struct usbdevfs_ioctl call = { .ifno = (int)next_number(), .ioctl_code = (int)code };
        int r = ioctl(fd, USBDEVFS_IOCTL, &call);

        if (r > 0)
                (void)printf("%s %d\n", verb, r);
        else
                say(verb, r);
}

int main(int argc, char **argv)
{
        if (argc < 3) {
                (void)fprintf(stderr, "usbfs-client NODE VERB...\n");
                return 2;
        }
        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        fd = open(argv[1], O_RDWR | O_CLOEXEC);
        if (fd < 0) {
                (void)printf("open %s\n", name_of(errno));
                return 0;
        }
        words = argv + 2;
        while (*words) {
                const char *verb = next_word();
                unsigned number;

                if (strcmp(verb, "control") == 0)
                        do_control();
                else if (strcmp(verb, "submit") == 0)
                        do_submit();
                else if (strcmp(verb, "discard") == 0)
                        say(verb, ioctl(fd, USBDEVFS_DISCARDURB, &urb));
                else if (strcmp(verb, "reap") == 0)
                        do_reap();
                else if (strcmp(verb, "claim") == 0)
                        number = next_number(), say(verb, ioctl(fd, USBDEVFS_CLAIMINTERFACE, &number));
                else if (strcmp(verb, "release") == 0)
                        number = next_number(), say(verb, ioctl(fd, USBDEVFS_RELEASEINTERFACE, &number));
                else if (strcmp(verb, "setinterface") == 0)
                        do_setinterface();
                else if (strcmp(verb, "reset") == 0)
                        say(verb, ioctl(fd, USBDEVFS_RESET, NULL));
                else if (strcmp(verb, "disconnect") == 0)
                        do_driver(verb, USBDEVFS_DISCONNECT);
                else if (strcmp(verb, "connect") == 0)
                        do_driver(verb, USBDEVFS_CONNECT);
                else if (strcmp(verb, "run") == 0)
                        (void)!system(next_word());
                else if (strcmp(verb, "hangup") == 0)
                        do_hangup();
                else if (strcmp(verb, "rate") == 0)
                        do_rate();
                else
                        return 2;
        }
        (void)close(fd);
        return 0;
}
