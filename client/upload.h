/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Giving an image to the daemon: as a sealed memory file, so that neither side
 * can change it while the other reads, and the daemon opens no path of ours.
 */

#include "client/bus.h"
#include "client/client.h"

#define UPLOAD_MAX ((size_t)64 << 20)

struct upload {
        const char *file;               /* for people */
        const char *board, *partition, *version;        /* NULL or "": not known */
        bool stable;
};

/* A sealed copy.  -EFBIG: more than the daemon takes; -ENODATA: empty; -EISDIR, -EINVAL: no regular file. */
int upload_memory(const void *data, size_t size);
int upload_file(const char *path);

/* error: the daemon's words. */
enum exit_code upload(struct bus *bus, int memfd, const struct upload *what, sd_bus_error *error, char **ret_id);
/* A single file for cameras of one board (update --firmware FILE), reported. */
enum exit_code upload_one(const struct client *client, struct bus *bus, const char *path, const char *board, char **ret_id);
/* Why a file could not be taken. */
const char *upload_problem(int error);
