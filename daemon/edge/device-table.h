/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What has been reported as attached, and so the difference between what the
 * kernel says (in events that may be lost, doubled or late, and in scans) and
 * what the listener knows.  Pure.
 *
 * Invariant: at most one attachment per port.  Of two, the later is true; what is
 * said of the earlier afterwards is ignored.
 */

#include "edge/sighting-reader.h"

struct device_table;

enum device_news {
        DEVICE_NEW,                     /* nothing was known on this port */
        DEVICE_REPLACED,                /* another was: it has left without our hearing of it */
        DEVICE_AGAIN,                   /* known; found by a scan before, and this is the first event about it: now udev is done with it */
        DEVICE_KNOWN,                   /* known; nothing new */
        _DEVICE_NEWS_MAX
};

int device_table_new(struct device_table **ret);
struct device_table *device_table_free(struct device_table *table);
size_t device_table_size(const struct device_table *table);

/* Attached, says an event or a scan.  -ENOMEM, or enum device_news. */
int device_table_add(struct device_table *table, const struct attachment *attachment, bool by_event);
/* Left, says an event.  false: not known, or another has taken its place. */
bool device_table_remove(struct device_table *table, const struct attachment *attachment);
bool device_table_has(const struct device_table *table, const struct attachment *attachment);

/* Takes out, and hands to fn, whatever is not among present[]. */
void device_table_retain(struct device_table *table, const struct attachment *present, size_t n_present,
                         void (*fn)(void *userdata, const char *port), void *userdata);
