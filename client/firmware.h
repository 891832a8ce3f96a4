/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The daemon's firmware store, as its list gives it.
 */

#include "client/bus.h"
#include "client/client.h"
#include "client/json.h"

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
/* A release archive, opened at path and called name, of this version; its lines or document is printed.  archive: what the document
 * says of it; stolen; may be NULL. */
enum exit_code firmware_import_archive(struct client *client, struct bus *bus, const char *path, const char *name, const char *version,
                                       json_t *archive);
void firmware_list_clear(struct firmware_list *list);
