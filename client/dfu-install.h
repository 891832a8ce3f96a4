/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * camrescue-dfu-util in place of the dfu-util that an IDE brings along and runs by its path.  What was there is kept
 * beside it, and comes back.  Every step is one rename(2) or one link: whatever interrupts it, a program is there.
 */

#include <stdbool.h>
#include <stdio.h>

#define DFU_INSTALL_ASIDE "dfu-util.before-camrescue"

/* Looks for PLATFORM/dfu-util below directory, as the IDE lays them out, at most 6 folders deep.  program: absolute path of this program.
 * Says on to what it did.  Returns how many there are now, or a negative errno, reported on standard error: -ENOENT none was found;
 * -EINVAL what is there is no dfu-util, and nothing was changed. */
int dfu_install(const char *directory, const char *program, FILE *to);
int dfu_uninstall(const char *directory, const char *program, FILE *to);
