/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Sees USB devices come and go: udev's events, and scans of sysfs where events
 * cannot be trusted (at the start, and after some were lost).  Says what is
 * there; judges nothing, opens no device, keeps no libudev object of a device.
 *
 * Invariant: for each port on_seen and on_gone alternate, but that on_seen may
 * come again for the same node when the device may have become usable (udev has
 * finished with it, its permissions have changed).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "core/identity.h"

struct device_monitor;

struct device_monitor_callbacks {
        /* Asked before anything of a device is read; what is not interesting is never reported. */
        bool (*is_interesting)(void *userdata, uint16_t vendor, uint16_t product);
        void (*on_seen)(void *userdata, const struct sighting *sighting);
        void (*on_gone)(void *userdata, const char *port);
        /* udev has finished with a serial port of the USB device at port, whatever device that is.  May be NULL. */
        void (*on_serial_port)(void *userdata, const char *port);
        /* A device that is not interesting, a hub perhaps, has been enumerated at port, or has left it.  From events only: what was lost or
         * was there before is not told.  May be NULL. */
        void (*on_other)(void *userdata, const char *port, bool there);
};

int device_monitor_new(struct loop *loop, const struct device_monitor_callbacks *callbacks, void *userdata,
                       struct device_monitor **ret);
/* Not from inside a callback. */
struct device_monitor *device_monitor_free(struct device_monitor *monitor);

/* Listens, then looks: when it returns, what is attached has been reported. */
int device_monitor_start(struct device_monitor *monitor);
/* Looks again, and reports the difference to what was reported before.  After a suspend, for instance. */
int device_monitor_rescan(struct device_monitor *monitor);
/* The node of the serial port that the device at port has now ("/dev/ttyACM0"); -ENOENT: none, or not yet; -ENODEV: nothing is there. */
int device_monitor_serial_port(const char *port, char *node, size_t size);
