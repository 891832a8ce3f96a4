/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The live view on a terminal: one line per camera, drawn when something has
 * changed and at most ten times a second.  Woken by events only.
 */

#include "client/bus.h"
#include "client/client.h"
#include "client/progress.h"

/* Fills cameras with those to show, in order; returns how many (at most max). */
typedef size_t (*view_list_fn)(void *userdata, const struct camera **cameras, size_t max);

struct view {
        struct client *client;
        struct bus *bus;
        struct live live;
        view_list_fn list;
        void *userdata;
        const char *remark;             /* shown below the cameras; NULL: what their updates come to together, if their lines do not say it */
        sd_event_source *timer, *resize;
        uint64_t drawn_at;
        bool pending;
};

/* The remark may be there already. */
int view_begin(struct view *view, struct client *client, struct bus *bus, view_list_fn list, void *userdata);
/* Something to show has changed. */
void view_changed(struct view *view);
/* Draws what is pending and leaves it there.  Harmless twice, and when never begun. */
void view_end(struct view *view);
