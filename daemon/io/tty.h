/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A serial port on the loop, for a short talk with a running camera.  Whatever
 * may block (open(2), setting the line, which is a control transfer to the device,
 * closing) happens on a helper thread, as with io/usb.h: a port that hangs delays
 * nobody.  tests/sim/tty-inproc.c takes the place of tty.c in virtual time.
 *
 * Ports that others use are theirs (rule 14).  A port is taken by nobody else while
 * we have it, and left as it was found.
 */

#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

struct tty;

#define TTY_WRITE_MAX 512               /* bytes that wait to be sent at a time */

/* --- opening ---
 * on_open is called exactly once from the loop: error 0 and the port - raw, at baud, DTR up, nothing in its buffers, its rate
 * changed on the way so that whoever listens for the rate begins anew - or a negative errno and NULL: -EBUSY (another program has it: by
 * TIOCEXCL, flock() or a lock file of the living, /run/lock/LCK..ttyACM0), -EACCES (no permission), -ENOENT, -ENODEV, -ENXIO or
 * -EIO (it has gone), -ETIMEDOUT (the thread is abandoned and cleans up behind itself), other.
 * node: "/dev/ttyACM0".  baud: one of termios's.  deadline in microseconds. */
typedef void (*tty_open_fn)(void *userdata, int error, struct tty *tty);

struct tty_opening;                     /* lives until on_open is called, or tty_opening_cancel() */
int tty_open(struct loop *loop, const char *node, unsigned baud, uint64_t deadline, tty_open_fn on_open, void *userdata,
             struct tty_opening **ret);
/* on_open will not be called any more.  NULL is fine. */
struct tty_opening *tty_opening_cancel(struct tty_opening *opening);

/* --- talking --- */

/* Called with what came, and once with NULL, 0 when the port is gone.  May free the tty. */
typedef void (*tty_input_fn)(void *userdata, const uint8_t *data, size_t size);
void tty_listen(struct tty *tty, tty_input_fn on_input, void *userdata);
/* Sends in the background what does not go out at once; -ENOSPC: more than TTY_WRITE_MAX waits.  A port that is gone takes everything, and
 * says so through on_input. */
int tty_write(struct tty *tty, const void *data, size_t size);
/* Drops what was not sent or not read, puts the line back as it was and closes, on a helper thread.  NULL is fine; returns NULL. */
struct tty *tty_free(struct tty *tty);
