/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a running camera says on its serial port: the legacy debug protocol's
 * few commands that tell who it is and reset it.  It answers only at 921600
 * baud; at any other rate the port is a REPL, which is not simulated.  Scripts,
 * frames and the packet protocol are not either.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "sim/model.h"

struct runtime_tty {
        struct sim_camera *camera;
        const struct sim_config *config;
        int fd;
        struct defer reset;             /* never from inside a read */
        bool forced;
        uint8_t command[6];
        size_t n;
};

/* fd: the master of the pty, the caller's. */
void runtime_tty_init(struct runtime_tty *tty, struct loop *loop, int fd, struct sim_camera *camera,
                      const struct sim_config *config);
void runtime_tty_deinit(struct runtime_tty *tty);
void runtime_tty_receive(struct runtime_tty *tty, const uint8_t *bytes, size_t size);
