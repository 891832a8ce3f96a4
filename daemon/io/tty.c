/* SPDX-License-Identifier: MIT */

/*
 * See tty.h.  An open port belongs to one thread at a time: to the helper that
 * opens, then to the loop, then to the helper that closes.  The helpers count as
 * pending work of the loop.
 */

#include "io/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"

#define READ_SIZE 1024

struct tty {
        struct loop *loop;
        int fd;
        struct termios before;          /* as it was found */
        struct io_watch watch;
        struct defer later;             /* tells of a port that was found gone while sending */
        tty_input_fn on_input;
        void *userdata;
        bool gone;
        uint8_t out[TTY_WRITE_MAX];
        size_t n_out;
};

struct tty_opening {
        struct tty *tty;
        unsigned baud;
        struct timer deadline;
        tty_open_fn on_open;
        void *userdata;
        atomic_bool abandoned;
        int error;
        char node[];
};

/* --- whose it is --- */

/* A lock file of a program that lives, as UUCP had them and Qt and others still write them: its process id, in decimal or (kermit) as it
 * stands in memory. */
static bool is_locked_by(const char *directory, const char *name)
{
        char path[96], text[32];
        _cleanup_close_ int fd = -1;
        ssize_t n;
        long pid;

        (void)snprintf(path, sizeof(path), "%s/LCK..%s", directory, name);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return false;
        n = read(fd, text, sizeof(text) - 1);
        if (n <= 0)
                return false;
        text[n] = '\0';
        pid = strtol(text, NULL, 10);
        if (pid <= 0 && n == sizeof(int)) {
                int binary;

                memcpy(&binary, text, sizeof(binary));
                pid = binary;
        }
        if (pid <= 0 || pid == getpid())
                return false;
        return kill((pid_t)pid, 0) == 0 || errno == EPERM;
}

static bool has_lock_file(const char *node)
{
        const char *name = strrchr(node, '/');

        name = name ? name + 1 : node;
        return is_locked_by("/run/lock", name) || is_locked_by("/var/lock", name);
}

/* --- opening and closing: what may block, on helper threads --- */

static void line_close(struct tty *tty, bool restore)
{
        if (tty->fd < 0)
                return;
        if (restore) {
                /* What was not sent will not be: else closing waits for it, half a minute for a device that takes nothing.  (Where it is
                 * another program's line, what waits in it is that program's, too.) */
                (void)tcflush(tty->fd, TCIOFLUSH);
                (void)tcsetattr(tty->fd, TCSANOW, &tty->before);
                (void)ioctl(tty->fd, TIOCNXCL);
        }
        (void)close(tty->fd);
        tty->fd = -1;
}

static speed_t speed_of(unsigned baud)
{
        switch (baud) {
        case 115200:
                return B115200;
        case 921600:
                return B921600;
        default:
                return B0;
        }
}

static int line_set(struct tty *tty, unsigned baud)
{
        struct termios raw = tty->before;
        speed_t speed = speed_of(baud);
        int dtr = TIOCM_DTR;

        if (speed == B0)
                return -EINVAL;
        cfmakeraw(&raw);
        raw.c_cflag |= CLOCAL | CREAD;
        raw.c_cflag &= ~(unsigned)(CSTOPB | CRTSCTS);
        raw.c_cc[VMIN] = raw.c_cc[VTIME] = 0;
        /* The device hears of a rate only when it changes. */
        (void)cfsetspeed(&raw, speed == B115200 ? B9600 : B115200);
        if (tcsetattr(tty->fd, TCSANOW, &raw) < 0)
                return -errno;
        (void)cfsetspeed(&raw, speed);
        if (tcsetattr(tty->fd, TCSANOW, &raw) < 0)
                return -errno;
        /* Opening has raised it, unless the line was at rate 0.  A pty has none. */
        (void)ioctl(tty->fd, TIOCMBIS, &dtr);
        if (tcflush(tty->fd, TCIOFLUSH) < 0)
                return -errno;
        return 0;
}

static int line_open(struct tty *tty, const char *node, unsigned baud)
{
        int exclusive = 0, r;

        if (has_lock_file(node))
                return -EBUSY;
        tty->fd = open(node, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (tty->fd < 0)
                return -errno;          /* EBUSY: TIOCEXCL, and we are not root */
        if (ioctl(tty->fd, TIOCGEXCL, &exclusive) >= 0 && exclusive) {
                line_close(tty, /* restore= */ false);
                return -EBUSY;
        }
        if (flock(tty->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
                line_close(tty, /* restore= */ false);
                return -EBUSY;
        }
        if (tcgetattr(tty->fd, &tty->before) < 0) {
                r = -errno;
                line_close(tty, /* restore= */ false);
                return r;
        }
        (void)ioctl(tty->fd, TIOCEXCL);
        r = line_set(tty, baud);
        if (r < 0)
                line_close(tty, /* restore= */ true);
        return r;
}

static void close_run(void *data)
{
        line_close(data, /* restore= */ true);
}

static void close_done(void *data)
{
        free(data);
}

struct tty *tty_free(struct tty *tty)
{
        if (!tty)
                return NULL;
        io_watch_deinit(&tty->watch);
        defer_deinit(&tty->later);
        if (loop_work(tty->loop, NULL, close_run, close_done, tty) < 0) {
                close_run(tty);
                close_done(tty);
        }
        return NULL;
}

/* --- talking --- */

static bool means_later(ssize_t n)
{
        return n < 0 && (errno == EAGAIN || errno == EINTR);
}

static void on_later(void *userdata)
{
        struct tty *tty = userdata;

        if (tty->on_input)
                tty->on_input(tty->userdata, NULL, 0);
}

/* Once, and never from inside tty_write(). */
static void has_gone(struct tty *tty)
{
        if (tty->gone)
                return;
        tty->gone = true;
        tty->n_out = 0;
        (void)io_watch_set(&tty->watch, 0);
        defer_call(&tty->later);
}

static void send_what_waits(struct tty *tty)
{
        ssize_t n;

        if (tty->n_out == 0 || tty->gone)
                return;
        n = write(tty->fd, tty->out, tty->n_out);
        if (n > 0) {
                memmove(tty->out, tty->out + n, tty->n_out - (size_t)n);
                tty->n_out -= (size_t)n;
        } else if (!means_later(n)) {
                has_gone(tty);
                return;
        }
        (void)io_watch_set(&tty->watch, tty->n_out > 0 ? IO_READ | IO_WRITE : IO_READ);
}

static void on_ready(void *userdata, unsigned events)
{
        struct tty *tty = userdata;
        uint8_t data[READ_SIZE];
        ssize_t n;

        if (events & IO_WRITE)
                send_what_waits(tty);
        if (!(events & IO_READ) || tty->gone)
                return;
        n = read(tty->fd, data, sizeof(data));
        if (n > 0) {
                if (tty->on_input)
                        tty->on_input(tty->userdata, data, (size_t)n);
        } else if (!means_later(n))
                has_gone(tty);
}

void tty_listen(struct tty *tty, tty_input_fn on_input, void *userdata)
{
        tty->on_input = on_input;
        tty->userdata = userdata;
}

int tty_write(struct tty *tty, const void *data, size_t size)
{
        if (tty->gone)
                return 0;
        if (size > sizeof(tty->out) - tty->n_out)
                return -ENOSPC;
        memcpy(tty->out + tty->n_out, data, size);
        tty->n_out += size;
        send_what_waits(tty);
        return 0;
}

/* --- openings --- */

static void open_run(void *data)
{
        struct tty_opening *opening = data;

        opening->error = line_open(opening->tty, opening->node, opening->baud);
}

static void open_done(void *data)
{
        struct tty_opening *opening = data;
        struct tty *tty = opening->tty;
        tty_open_fn on_open = opening->on_open;
        void *userdata = opening->userdata;
        bool abandoned = atomic_load(&opening->abandoned);
        int error = opening->error;

        timer_deinit(&opening->deadline);
        free(opening);
        if (error < 0) {
                free(tty);
                if (!abandoned)
                        on_open(userdata, error, NULL);
                return;
        }
        defer_init(&tty->later, tty->loop, on_later, tty);
        io_watch_init(&tty->watch, tty->loop, tty->fd, on_ready, tty);
        if (abandoned) {
                (void)tty_free(tty);
                return;
        }
        error = io_watch_set(&tty->watch, IO_READ);
        if (error < 0) {
                (void)tty_free(tty);
                on_open(userdata, error, NULL);
                return;
        }
        on_open(userdata, 0, tty);
}

static void on_deadline(void *userdata)
{
        struct tty_opening *opening = userdata;

        /* The thread keeps the opening; open_done() clears it away whenever it comes. */
        atomic_store(&opening->abandoned, true);
        opening->on_open(opening->userdata, -ETIMEDOUT, NULL);
}

int tty_open(struct loop *loop, const char *node, unsigned baud, uint64_t deadline, tty_open_fn on_open, void *userdata,
             struct tty_opening **ret)
{
        _cleanup_free_ struct tty_opening *opening = NULL;
        _cleanup_free_ struct tty *tty = NULL;
        size_t size = strlen(node) + 1;
        int r;

        opening = calloc(1, sizeof(*opening) + size);
        tty = calloc(1, sizeof(*tty));
        if (!opening || !tty)
                return -ENOMEM;
        tty->loop = loop;
        tty->fd = -1;
        memcpy(opening->node, node, size);
        opening->tty = tty;
        opening->baud = baud;
        opening->on_open = on_open;
        opening->userdata = userdata;
        atomic_init(&opening->abandoned, false);
        timer_init(&opening->deadline, loop, on_deadline, opening);
        r = loop_work(loop, NULL, open_run, open_done, opening);
        if (r < 0) {
                timer_deinit(&opening->deadline);
                return r;
        }
        timer_set(&opening->deadline, deadline);
        tty = NULL;
        *ret = take_ptr(opening);
        return 0;
}

struct tty_opening *tty_opening_cancel(struct tty_opening *opening)
{
        if (!opening)
                return NULL;
        timer_clear(&opening->deadline);
        atomic_store(&opening->abandoned, true);
        return NULL;
}
