/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Someone who watches the requests of one camera as they are submitted, and
 * fails the test when one of them breaks a rule that the camera's flash depends
 * on, whatever became of the requests before:
 *
 * - no block is sent, and nothing read, while it is not known what became of the block before;
 * - what is pending in the device is committed only by who has sent it himself, and knows that it arrived whole;
 * - memory behind a window (AE3) gets block 0 first.
 */

#include <stdbool.h>
#include <stddef.h>

#include "sim/usb-inproc.h"
#include "unit/lab.h"

struct watcher {
        struct lab *lab;
        struct lab_camera *camera;
        bool lied_to;                   /* the device tells untrue states: who believes it may break a rule */

        /* of the present opening */
        unsigned opening;
        size_t in_flight;
        bool block_is_open;             /* a DNLOAD is in flight, or its answer was not the right one: not to be committed */
        bool unfinished;                /* a block was sent, and that it was written is not known yet */
        bool block_is_ours;             /* what is pending, this opening has sent */
        bool at_risk;                   /* a GETSTATUS is in flight that commits what it must not, unless the device refuses it */
        unsigned alt;
        bool wrote;                     /* a block to this alternate setting */

        /* of all */
        size_t in_flight_max, most_uploads;
        unsigned n_openings, n_cancelled, n_blocks, n_submitted;
        unsigned n_farewells;           /* since the last block: requests that tell it to leave, the empty block or DETACH */
        struct usb_setup last;          /* submitted */
};

void watcher_init(struct watcher *watcher, struct lab_camera *camera);
/* A usb_inproc_watch_fn, for a lab with one camera. */
void watcher_watch(void *watcher, struct usb_inproc_camera *camera, unsigned opening, const struct usb_setup *setup, bool told,
                   enum usb_result result, const uint8_t *data, size_t actual);
bool watcher_is_request(const struct usb_setup *setup, unsigned request);
