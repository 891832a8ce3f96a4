/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Cameras as dfu-util shows devices.  What they are the daemon says; numbers that only dfu-util's users want are read from
 * sysfs.  No device is opened.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/bus.h"
#include "client/dfu-options.h"
#include "core/board.h"

#define DFU_ROM_VENDOR 0x0483
#define DFU_ROM_PRODUCT 0xdf11

struct dfu_device {
        const struct camera *camera;
        const struct board *board;      /* NULL: not known */
        bool rom;                       /* in ROM DFU mode */
        uint16_t vendor, product, release;
        unsigned devnum, configuration;
        size_t n_alts;
        const struct layout *layout;    /* NULL: of ROM DFU, or not known */
        char rom_name[128];             /* of alternate setting 0 */
};

struct dfu_id {
        uint16_t vendor, product;
};

/* Is it in DFU mode now, whichever?  False also if it has left meanwhile. */
bool dfu_device_read(const struct camera *camera, const struct board_list *boards, struct dfu_device *ret);
void dfu_device_print(const struct dfu_device *device, FILE *to);
/* Serial and place are as the options say. */
bool dfu_camera_matches(const struct camera *camera, const struct dfu_options *options);
/* So is its id. */
bool dfu_device_matches(const struct dfu_device *device, const struct dfu_options *options);
/* No camera that the daemon can have in a DFU mode shows this id in it. */
bool dfu_is_foreign(const struct board_list *boards, uint16_t vendor, uint16_t product);
/* Such devices that are there now, by what sysfs says of them; each id once, max at most.  How many. */
size_t dfu_find_foreign(const struct board_list *boards, struct dfu_id *ids, size_t max);
/* Which partition of the layout a number or name means; NULL: none. */
const struct partition *dfu_partition(const struct layout *layout, const char *alt);
