/* SPDX-License-Identifier: MIT */

/*
 * What programs hear from udevd of USB devices and their serial ports, a line for each event as it comes:
 *
 *     ACTION NAME NUMBER NOW      "remove 1-4 5 6": device 5 has left port 1-4, where the kernel shows device 6 already;
 *                                 NUMBER is "-" of what has none, and NOW is "-" when nothing is there
 *
 * and before them "listening".
 */

#include <libudev.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

/* The device number at a port, without zeros in front of it. */
static void number_at(const char *port, char ret[static 16])
{
        _cleanup_fclose_ FILE *f = NULL;
        char path[128];

        (void)snprintf(path, sizeof(path), "/sys/bus/usb/devices/%s/devnum", port);
        f = fopen(path, "re");
        if (!f || fscanf(f, "%15[0-9]", ret) != 1)
                (void)snprintf(ret, 16, "-");
}

static void tell(struct udev_device *device)
{
        const char *name = udev_device_get_sysname(device), *number = udev_device_get_property_value(device, "DEVNUM");
        char now[16];

        number_at(name, now);
        (void)printf("%s %s ", udev_device_get_action(device), name);
        if (number)
                (void)printf("%lu %s\n", strtoul(number, NULL, 10), now);
        else
                (void)printf("- %s\n", now);
}

int main(void)
{
        struct udev *udev = udev_new();
        struct udev_monitor *monitor = udev ? udev_monitor_new_from_netlink(udev, "udev") : NULL;
        struct pollfd pollfd = { .events = POLLIN };

        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        if (!monitor || udev_monitor_filter_add_match_subsystem_devtype(monitor, "usb", NULL) < 0 ||
            udev_monitor_filter_add_match_subsystem_devtype(monitor, "tty", NULL) < 0 || udev_monitor_enable_receiving(monitor) < 0) {
                (void)fprintf(stderr, "udev-listener: cannot listen\n");
                return 1;
        }
        pollfd.fd = udev_monitor_get_fd(monitor);
        (void)printf("listening\n");
        while (poll(&pollfd, 1, -1) > 0)
                for (struct udev_device *device; (device = udev_monitor_receive_device(monitor)); (void)udev_device_unref(device))
                        tell(device);
        return 1;
}
