/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a running camera says on its serial port: the few commands that tell who
 * it is and reset it, in the protocol that its firmware speaks - the legacy debug
 * protocol, from v5.0.0 on the packet protocol (runtime-protocol.md).  It speaks only
 * as long as the line is up: at 921600 baud, and the packet protocol with DTR.  A line
 * that falls ends the conversation, and what was not said yet is never said.  At any other rate the
 * port is a REPL, which is not simulated.  Scripts and frames are not either.
 *
 * Written from the reference, and not from the daemon's own words: one would
 * believe the other.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "sim/model.h"

typedef void (*runtime_say_fn)(void *userdata, const uint8_t *bytes, size_t size);
/* The host's side is set so that it is spoken to, as far as a front end can know: of a pty the rate only. */
typedef bool (*runtime_line_fn)(void *userdata);

struct runtime_tty {
        struct sim_camera *camera;
        const struct sim_config *config;
        runtime_say_fn say;
        runtime_line_fn is_up;
        void *userdata;
        struct defer reset;             /* never from inside a read */
        bool forced;

        /* legacy */
        uint8_t command[6];
        size_t n;

        /* packets */
        struct timer poll;              /* it looks at its input now and then */
        struct timer again;             /* what is not acknowledged is said again */
        uint8_t in[4200];
        size_t n_in;
        uint8_t sequence;
        uint8_t unacknowledged[128];
        size_t n_unacknowledged;        /* 0: nothing is */
        unsigned sends;
};

void runtime_tty_init(struct runtime_tty *tty, struct loop *loop, struct sim_camera *camera, const struct sim_config *config,
                      runtime_say_fn say, runtime_line_fn is_up, void *userdata);
/* Safe on a zeroed struct. */
void runtime_tty_deinit(struct runtime_tty *tty);
void runtime_tty_receive(struct runtime_tty *tty, const uint8_t *bytes, size_t size);
/* The line has fallen; also found out when something is to be done next, if nobody says it.  A restart that it was told stays told. */
void runtime_tty_hang_up(struct runtime_tty *tty);
