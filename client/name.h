/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which camera a person means: by port path, by serial (unique id, or what the
 * device shows), by its label, or by a prefix that fits one camera only.  Pure.
 */

#include <stdbool.h>
#include <stddef.h>

struct name_candidate {
        const char *port;
        bool attached;
        const char *unique_id, *key, *serial, *label;  /* label may be NULL */
};

enum name_match { NAME_FOUND, NAME_NONE, NAME_AMBIGUOUS };

/* "3-1", "1-2.4": bus, dash, port numbers. */
bool name_is_port(const char *name);

/* How well the name fits; the best rank with exactly one camera decides, and a rank with several makes it ambiguous.
 * A whole port path is never taken as the beginning of another: with nothing at 3-1, "3-1" must not become the camera at 3-10. */
enum name_rank {
        NAME_RANK_NONE,
        NAME_RANK_PREFIX,               /* beginning of a port path, unique id, serial or label */
        NAME_RANK_WAS_AT_PORT,          /* absent, last seen at that port */
        NAME_RANK_EXACT,                /* attached at that port; or whole id, serial or label, of either case */
};
enum name_rank name_rank(const char *name, const struct name_candidate *candidate);

/* *ret_index: set for NAME_FOUND.  An empty name fits nothing. */
enum name_match name_find(const char *name, const struct name_candidate *candidates, size_t n, size_t *ret_index);
