/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What udev and the kernel write down about devices: /sys, /run/udev/data, and
 * the uevents that tell of them.  Plain files in a private tmpfs; everything is
 * written before the event goes out, and deleted before "remove" does.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/uevent.h"

struct sysfs_device {
        char name[48];                  /* "usb1", "1-1.4" */
        char devpath[256];              /* "/devices/platform/camsim/usb1/1-1/1-1.4" */
        char port[48];                  /* "1.4"; "0" of a root hub */
        unsigned bus, device, speed, children;
        const uint8_t *descriptors;     /* device descriptor and configuration */
        size_t descriptors_size;
        char manufacturer[64], product[64], serial[64];
        uint8_t configuration;          /* 0: not configured */
};

struct sysfs_interface {
        uint8_t number, alternate, class, subclass, protocol, endpoints;
        char string[64];
        const char *driver;             /* NULL: none */
};

struct sysfs_tty {
        char name[16];                  /* "ttyACM0" */
        unsigned minor;
        uint8_t interface;
};

int sysfs_device_write(const struct sysfs_device *device);
/* The attribute that changes while a device lives. */
int sysfs_device_write_configuration(const struct sysfs_device *device);
int sysfs_interface_write(const struct sysfs_device *device, const struct sysfs_interface *interface);
/* Before the device's configuration is forgotten, of which the names tell. */
void sysfs_interface_delete(const struct sysfs_device *device, const struct sysfs_interface *interface);
int sysfs_interface_write_driver(const struct sysfs_device *device, const struct sysfs_interface *interface);
int sysfs_tty_write(const struct sysfs_device *device, const struct sysfs_tty *tty);
void sysfs_tty_delete(const struct sysfs_device *device, const struct sysfs_tty *tty);

/* udev's database entry; from now on libudev calls the device initialized. */
int sysfs_device_write_database(const struct sysfs_device *device);
int sysfs_interface_write_database(const struct sysfs_device *device, const struct sysfs_interface *interface);
int sysfs_tty_write_database(const struct sysfs_device *device, const struct sysfs_tty *tty);

/* The device with everything below it; children devices must have been removed. */
void sysfs_device_delete(const struct sysfs_device *device, const struct sysfs_interface *interfaces, size_t n,
                         const struct sysfs_tty *tty);

/* action: "add", "bind", "change", "unbind", "remove". */
int sysfs_device_event(struct uevents *uevents, const struct sysfs_device *device, const char *action);
int sysfs_interface_event(struct uevents *uevents, const struct sysfs_device *device,
                          const struct sysfs_interface *interface, const char *action);
int sysfs_tty_event(struct uevents *uevents, const struct sysfs_device *device, const struct sysfs_tty *tty, const char *action);
/* See uevents_overflow(); the events that make it happen are "change" of this device. */
int sysfs_overflow(struct uevents *uevents, const struct sysfs_device *device);
