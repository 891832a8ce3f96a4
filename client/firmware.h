/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon's firmware store, as its list gives it.
 */

#include "client/bus.h"
#include "client/client.h"

struct firmware {
        char *id, *board, *partition, *version, *file;
        bool stable, pinned;
        uint32_t size;
        uint64_t added;
};

struct firmware_list {
        struct firmware **items;
        size_t n;
};

/* By board, version, partition.  EXIT_DONE, or reported. */
enum exit_code firmware_fetch(const struct client *client, struct bus *bus, struct firmware_list *list);
void firmware_list_clear(struct firmware_list *list);
