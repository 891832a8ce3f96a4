/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A kernel that is played, for a process in namespaces of its own
 * (namespace.h): it enumerates what is plugged in, shows /dev/bus/usb (fuse-usbfs.h),
 * /sys and uevents (sysfs.h), and a pty for a serial port.
 */

#include "base/loop.h"

struct kernel;

/* fuse_fd: namespace_enter()'s; the kernel's if this goes well.  The world that gets the kernel frees it. */
int kernel_played_new(struct loop *loop, int fuse_fd, struct kernel **ret);
