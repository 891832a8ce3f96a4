/* SPDX-License-Identifier: MIT */
/*
 * io/tty.h over the simulated cameras of usb-inproc.h, in place of
 * daemon/io/tty.c at link time.  As there, nothing is told from inside a call.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "io/tty.h"
#include "sim/usb-inproc.h"

#define OPEN_TIME (2 * MSEC)            /* of the control transfers that set the line */

struct tty {
        struct usb_inproc_camera *camera;       /* NULL: it has gone */
        struct defer later;
        tty_input_fn on_input;
        void *userdata;
        uint8_t in[8192];
        size_t n_in;
        bool told_gone;
};

struct tty_opening {
        struct loop *loop;
        struct timer done, deadline;
        tty_open_fn on_open;
        void *userdata;
        char node[];
};

static void said(void *userdata, const uint8_t *bytes, size_t size)
{
        struct tty *tty = userdata;

        size = MIN(size, sizeof(tty->in) - tty->n_in);
        memcpy(tty->in + tty->n_in, bytes, size);
        tty->n_in += size;
        defer_call(&tty->later);
}

static void gone(void *userdata)
{
        struct tty *tty = userdata;

        tty->camera = NULL;
        defer_call(&tty->later);
}

static const struct usb_inproc_serial_user user = { .said = said, .gone = gone };

static void on_later(void *userdata)
{
        struct tty *tty = userdata;
        uint8_t bytes[sizeof(tty->in)];
        size_t n = tty->n_in;

        if (n > 0) {
                memcpy(bytes, tty->in, n);
                tty->n_in = 0;
                if (!tty->camera)
                        defer_call(&tty->later);
                if (tty->on_input)
                        tty->on_input(tty->userdata, bytes, n);
        } else if (!tty->camera && !tty->told_gone) {
                tty->told_gone = true;
                if (tty->on_input)
                        tty->on_input(tty->userdata, NULL, 0);
        }
}

void tty_listen(struct tty *tty, tty_input_fn on_input, void *userdata)
{
        tty->on_input = on_input;
        tty->userdata = userdata;
}

int tty_write(struct tty *tty, const void *data, size_t size)
{
        if (tty->camera)
                usb_inproc_serial_write(tty->camera, data, size);
        return 0;
}

struct tty *tty_free(struct tty *tty)
{
        if (!tty)
                return NULL;
        if (tty->camera)
                usb_inproc_serial_close(tty->camera);
        defer_deinit(&tty->later);
        free(tty);
        return NULL;
}

/* --- openings --- */

static void opening_free(struct tty_opening *opening)
{
        timer_deinit(&opening->done);
        timer_deinit(&opening->deadline);
        free(opening);
}

static void opened(struct tty_opening *opening, int error, struct tty *tty)
{
        tty_open_fn on_open = opening->on_open;
        void *userdata = opening->userdata;

        opening_free(opening);
        on_open(userdata, error, tty);
}

static void on_done(void *userdata)
{
        struct tty_opening *opening = userdata;
        struct tty *tty = calloc(1, sizeof(*tty));
        int r;

        if (!tty) {
                opened(opening, -ENOMEM, NULL);
                return;
        }
        r = usb_inproc_serial_open(opening->node, &user, tty, &tty->camera);
        if (r == USB_INPROC_HANGS) {
                free(tty);
                return;
        }
        if (r < 0) {
                free(tty);
                opened(opening, r, NULL);
                return;
        }
        defer_init(&tty->later, opening->loop, on_later, tty);
        opened(opening, 0, tty);
}

static void on_deadline(void *userdata)
{
        opened(userdata, -ETIMEDOUT, NULL);
}

int tty_open(struct loop *loop, const char *node, unsigned baud, uint64_t deadline, tty_open_fn on_open, void *userdata,
             struct tty_opening **ret)
{
        struct tty_opening *opening = calloc(1, sizeof(*opening) + strlen(node) + 1);

        if (!opening)
                return -ENOMEM;
        strcpy(opening->node, node);
        opening->loop = loop;
        opening->on_open = on_open;
        opening->userdata = userdata;
        timer_init(&opening->done, loop, on_done, opening);
        timer_init(&opening->deadline, loop, on_deadline, opening);
        timer_set(&opening->done, OPEN_TIME);
        timer_set(&opening->deadline, deadline);
        *ret = opening;
        return 0;
}

struct tty_opening *tty_opening_cancel(struct tty_opening *opening)
{
        if (opening)
                opening_free(opening);
        return NULL;
}
