/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Reads a sighting (core/identity.h) from what the kernel shows of a USB device
 * in sysfs: a directory of small files.  Knows no libudev; touches no device.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/identity.h"

/* One attachment of one device: a device that comes back has another number. */
struct attachment {
        char port[PORT_PATH_MAX];       /* sysfs name: "3-1.4.2" */
        char node[32];                  /* "/dev/bus/usb/003/012" */
        unsigned bus, number;
};

/* The node follows from the numbers and is not compared. */
bool attachment_equal(const struct attachment *a, const struct attachment *b);

/* "3-1.4.2", and not an interface ("3-1:1.0"), a root hub ("usb3") or anything too long. */
bool is_port_path(const char *name);

/* "37c5/9204/103", as the kernel writes vendor, product and bcdDevice; -EINVAL. */
int product_parse(const char *product, uint16_t *ret_vendor, uint16_t *ret_product, uint16_t *ret_device);

/* The `descriptors` file: device descriptor and configurations, as the device sent them.  Fills in vendor, product,
 * device, n_interfaces, has_mass_storage, n_alts (at most as many as there is room for names; these are left
 * empty: sysfs knows only the current one) and transfer_size.  -EINVAL without a whole device descriptor;
 * SIGHTING_MALFORMED when what follows is cut short or senseless: what was sound before it stands. */
enum { SIGHTING_MALFORMED = 1 };
int sighting_from_descriptors(const void *descriptors, size_t size, struct sighting *sighting);

/* Who is in this sysfs directory now: from its `uevent` file alone.  -ENODEV if it is leaving; -EINVAL if it is no
 * USB device. */
int attachment_read(int directory_fd, const char *port, struct attachment *ret,
                    uint16_t *ret_vendor, uint16_t *ret_product);

/* All of it.  -ENODEV: the device has left, or another is there by now.  seen_at is the caller's. */
int sighting_read(int directory_fd, const struct attachment *attachment, struct sighting *ret);

/* The node of the serial port ("/dev/ttyACM0") that the device in this directory has; with several the one of its lowest interface.
 * -ENOENT: none, or not yet; -ENODEV: the device has left. */
int serial_port_read(int directory_fd, const char *port, char *node, size_t size);

/* "/devices/.../3-1.4/3-1.4:1.0/tty/ttyACM0", of a serial port: which USB device's it is ("3-1.4").  -EINVAL: of none. */
int serial_port_owner(const char *path, char port[static PORT_PATH_MAX]);
