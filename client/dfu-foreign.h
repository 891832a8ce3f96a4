/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * DFU devices that are no cameras of the daemon's, like an IDE's Arduino boards.  They are left to the dfu-util whose place this
 * program has taken (dfu-install.h): it stands beside the link by which this one was run.
 */

#include <stdio.h>

#include "client/dfu-options.h"
#include "core/board.h"

/* Becomes that program.  Returns only if it cannot: -ENOENT, there is none; else why it does not run. */
int dfu_foreign_become(char **argv);
/* What that program lists of such devices, if there are any; each other line of its is left out, and no camera is looked at. */
void dfu_foreign_list(const char *argv0, const struct dfu_options *options, const struct board_list *boards, FILE *to);
