/* SPDX-License-Identifier: MIT */

/*
 * See ep0.h.  Invariant: at most the first of the queue is with the device, and
 * whatever is queued ends exactly once, through control_end().
 */

#include "sim/ep0.h"

#include <assert.h>
#include <errno.h>


static void control_end(struct control *control, int status, size_t actual)
{
        struct ep0 *ep0 = control->ep0;

        TAILQ_REMOVE(&ep0->queue, control, link);
        timer_deinit(&control->timer);
        control->ep0 = NULL;
        control->active = false;
        if (control->timed_out)
                status = -ETIMEDOUT;
        if (!TAILQ_EMPTY(&ep0->queue))
                defer_call(&ep0->pump);
        control->done(control, status, actual);
}

static void on_pump(void *userdata)
{
        struct ep0 *ep0 = userdata;
        struct control *control = TAILQ_FIRST(&ep0->queue);

        if (!control || control->active)
                return;
        control->active = true;
        if (ep0->down) {
                control_end(control, -ESHUTDOWN, 0);
        } else if (!ep0->camera) {
                control_end(control, -EPIPE, 0);
        } else {
                sim_camera_quiet(ep0->camera, control->quiet);
                sim_camera_submit(ep0->camera, &control->urb);
        }
}

static void on_timeout(void *userdata)
{
        struct control *control = userdata;

        control->timed_out = true;
        ep0_cancel(control);
}

void ep0_init(struct ep0 *ep0, struct loop *loop, struct sim_camera *camera)
{
        *ep0 = (struct ep0){ .loop = loop, .camera = camera };
        TAILQ_INIT(&ep0->queue);
        defer_init(&ep0->pump, loop, on_pump, ep0);
}

void ep0_deinit(struct ep0 *ep0)
{
        if (!ep0->loop)
                return;
        assert(TAILQ_EMPTY(&ep0->queue));
        defer_deinit(&ep0->pump);
        ep0->loop = NULL;
}

void ep0_submit(struct ep0 *ep0, struct control *control)
{
        control->ep0 = ep0;
        control->active = false;
        control->timed_out = false;
        control->urb.fe_private = control;
        control->urb.next = NULL;
        control->urb.model_private = NULL;
        timer_init(&control->timer, ep0->loop, on_timeout, control);
        if (control->timeout > 0)
                timer_set(&control->timer, control->timeout);
        TAILQ_INSERT_TAIL(&ep0->queue, control, link);
        /* The device never answers from inside sim_camera_submit(), so the common case needs no round of its own. */
        if (TAILQ_FIRST(&ep0->queue) == control && ep0->camera && !ep0->down)
                on_pump(ep0);
        else
                defer_call(&ep0->pump);
}

void ep0_cancel(struct control *control)
{
        if (!control->ep0)
                return;
        /* The device answers from inside, with -ENOENT; what it does not know (any more) ends here. */
        if (control->active && control->ep0->camera && sim_camera_cancel(control->ep0->camera, &control->urb))
                return;
        if (control->ep0)
                control_end(control, -ENOENT, 0);
}

bool control_is_pending(const struct control *control)
{
        return control->ep0 != NULL;
}

void ep0_shutdown(struct ep0 *ep0)
{
        ep0->down = true;
        for (struct control *control; (control = TAILQ_FIRST(&ep0->queue));) {
                if (control->active && ep0->camera && sim_camera_cancel(ep0->camera, &control->urb))
                        continue;
                control_end(control, -ESHUTDOWN, 0);
        }
}

void ep0_on_complete(struct sim_urb *urb, int status, size_t actual)
{
        control_end(urb->fe_private, status, actual);
}
