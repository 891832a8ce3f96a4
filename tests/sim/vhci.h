/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The machine's own kernel, for root in a virtual machine: a camera that pulls
 * its line up is attached to vhci_hcd, and speaks USB/IP (usbip.h) over a socketpair.
 * The kernel enumerates it, usbfs, cdc_acm and usb-storage talk to it, udevd
 * makes its node: nothing of that is played.
 *
 * A hub of the world is a controller of vhci_hcd.  Port "3-4" is the kernel's own 3-4 if bus 3 is a high-speed bus of such a
 * controller.  Any other path ("2-1", "1-4.2") stands for a port of its own, the last free one of a controller: of that
 * whose bus has this number, or else of the one that is the n-th.
 */

#include "base/loop.h"

struct kernel;

/* Loads the modules that are missing.  -ENODEV: no vhci_hcd here; -EPERM: not root. */
int kernel_vhci_new(struct loop *loop, struct kernel **ret);
