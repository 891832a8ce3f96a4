/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * /dev/bus/usb: a FUSE file system (raw protocol, no library) whose files
 * understand usbfs' ioctls, so that an unchanged libusb works on them.
 *
 * It plays drivers/usb/core/devio.c for one device each: claims per open file,
 * URBs per open file, the device lock, what release does to the device.  It
 * knows neither sysfs nor enumeration; a usbfs_node comes and goes when its
 * owner says so.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "sim/ep0.h"

#define USBFS_INTERFACES_MAX 32

struct fuse_usbfs;
struct usbfs_node;

int fuse_usbfs_new(struct loop *loop, int fd, struct fuse_usbfs **ret);
/* All nodes must have been removed. Closes fd, which ends the file system for everybody. */
struct fuse_usbfs *fuse_usbfs_free(struct fuse_usbfs *usbfs);

struct usbfs_ops {
        /* May refuse an open(2) with a negative errno; NULL: never does. */
        int (*open)(void *userdata);
        /* The kernel was asked to reset the port.  Answered once by usbfs_node_reset_done(); a driver that cannot bear a reset is
         * bound to nothing before (usbfs_node_bind()), and looked for again after it. */
        void (*reset)(void *userdata);
        /* The driver that takes an interface which has none, or NULL. */
        const char *(*find_driver)(void *userdata, uint8_t interface);
        /* SETINTERFACE, or the release of an interface, changed an alternate setting.  True: the kernel has still something to
         * ask the device, and whoever caused it waits until usbfs_node_alternate_done(). */
        bool (*alternate_changed)(void *userdata, uint8_t interface, uint8_t alternate);
        /* An interface has another driver: "usbfs" of who claimed it, or NULL. */
        void (*driver_changed)(void *userdata, uint8_t interface, const char *driver);
        /* SETCONFIGURATION was answered by the device. */
        void (*configuration_changed)(void *userdata, uint8_t configuration);
        /* One line about what a program does: open, claim, release, errors. */
        void (*trace)(void *userdata, const char *line);
};

struct usbfs_info {
        unsigned bus, device;           /* numbers */
        unsigned speed;                 /* Mbit/s */
        size_t n_ports;
        uint8_t ports[7];
        const uint8_t *descriptors;     /* device descriptor and configuration; the owner's, until removed */
        size_t descriptors_size;
        bool configured;                /* false: the device lock is held, and open(2) waits, until usbfs_node_configured() */
};

int usbfs_node_new(struct fuse_usbfs *usbfs, const struct usbfs_info *info, struct ep0 *ep0,
                   const struct usbfs_ops *ops, void *userdata, struct usbfs_node **ret);
/* The device is gone, and its name with it; who has it open is told.  ep0 was shut down before. Returns NULL. */
struct usbfs_node *usbfs_node_remove(struct usbfs_node *node);
void usbfs_node_reset_done(struct usbfs_node *node, int error);
void usbfs_node_alternate_done(struct usbfs_node *node);
/* The kernel is through with a new device; configured: it took SET_CONFIGURATION. */
void usbfs_node_configured(struct usbfs_node *node, bool configured);
/* The name of the driver other than usbfs that has an interface: "cdc_acm", or a made-up one that holds it so that
 * claims are refused.  NULL: nobody.  Must outlive the node. -EBUSY: a program has claimed it. */
int usbfs_node_bind(struct usbfs_node *node, uint8_t interface, const char *driver);
unsigned usbfs_node_open_files(const struct usbfs_node *node);
