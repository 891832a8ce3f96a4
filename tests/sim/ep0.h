/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Endpoint 0 of one enumerated device, as a host controller serves it: one
 * transfer at a time, in order.  A transfer that the device NAKs for ever holds
 * up those behind it until it is cancelled or its time is over.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/loop.h"
#include "sim/model.h"

struct control;
typedef void (*control_fn)(struct control *control, int status, size_t actual);

/* Embedded in its owner, and the owner's from its done() on. */
struct control {
        struct sim_urb urb;             /* setup and data are the owner's to fill in and to free */
        control_fn done;                /* called exactly once for each ep0_submit() */
        uint64_t timeout;               /* microseconds from the submission, 0: none */
        bool quiet;                     /* the kernel's own: not counted */

        struct ep0 *ep0;                /* ep0.c's from here on */
        struct timer timer;
        bool active;                    /* with the device */
        bool timed_out;
        TAILQ_ENTRY(control) link;
};

struct ep0 {
        struct loop *loop;
        struct sim_camera *camera;      /* NULL: a hub, which stalls whatever it is asked */
        bool down;                      /* off the bus: everything ends with -ENODEV */
        TAILQ_HEAD(control_queue, control) queue;
        struct defer pump;
};

void ep0_init(struct ep0 *ep0, struct loop *loop, struct sim_camera *camera);
/* Nothing may be queued any more. */
void ep0_deinit(struct ep0 *ep0);

/* done() is never called from inside. */
void ep0_submit(struct ep0 *ep0, struct control *control);
/* Ends it with -ENOENT from inside, if it has not ended yet. */
void ep0_cancel(struct control *control);
bool control_is_pending(const struct control *control);
/* The device left the bus: everything ends with -ESHUTDOWN, and what comes later too, in the next round. */
void ep0_shutdown(struct ep0 *ep0);
/* For sim_host.complete. */
void ep0_on_complete(struct sim_urb *urb, int status, size_t actual);

static inline void control_setup(struct control *control, uint8_t type, uint8_t request, uint16_t value, uint16_t index,
                                 uint16_t length)
{
        const uint8_t setup[8] = {
                type, request, (uint8_t)value, (uint8_t)(value >> 8), (uint8_t)index, (uint8_t)(index >> 8),
                (uint8_t)length, (uint8_t)(length >> 8),
        };

        for (int i = 0; i < 8; i++)
                control->urb.setup[i] = setup[i];
}
