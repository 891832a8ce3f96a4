/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A private world for one simulation: mount and network namespaces of its own
 * in which /dev, /run, and the parts of /sys that tell of devices are empty,
 * and a FUSE file system stands on /dev/bus/usb.  Nothing of it is seen
 * outside, and it goes with the last process in it.
 */

#include <stdbool.h>

enum namespace_user {
        NAMESPACE_USER_AUTO,            /* a user namespace unless we may do without (root) */
        NAMESPACE_USER_KEEP,            /* never one */
        NAMESPACE_USER_NEW,             /* always one */
};

/*
 * Puts the calling process into its own namespaces; to be called once, with a
 * single thread, before any child is forked.  ret_fuse_fd: the connection of the
 * file system on /dev/bus/usb.  Its FUSE_INIT is not answered yet: whoever
 * touches /dev/bus/usb before the fd is served waits for ever, and so must not
 * be the one that serves it.
 * On failure *ret_step is what was being done, in words ("mounting FUSE").
 */
int namespace_enter(enum namespace_user user, int *ret_fuse_fd, const char **ret_step);
