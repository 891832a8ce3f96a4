/* SPDX-License-Identifier: MIT */
/*
 * Serial ports on the real loop, played by a pty: talking, hanging up, ports that
 * others have, ports that hang.  (A pty has no modem lines and no rate of its own;
 * lock files are seen on a simulated machine.)
 */

#include "io/tty.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define DEADLINE (20 * SEC)
#define BAUD 921600

/* --- a line that hangs when it is set --- */

static pthread_mutex_t line_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t line_changed = PTHREAD_COND_INITIALIZER;
static bool line_hangs;
static unsigned line_settings;

int __real_tcsetattr(int fd, int actions, const struct termios *termios);
int __wrap_tcsetattr(int fd, int actions, const struct termios *termios);
int __wrap_tcsetattr(int fd, int actions, const struct termios *termios)
{
        pthread_mutex_lock(&line_lock);
        line_settings++;
        while (line_hangs)
                pthread_cond_wait(&line_changed, &line_lock);
        pthread_mutex_unlock(&line_lock);
        return __real_tcsetattr(fd, actions, termios);
}

static void set_hanging(bool hangs)
{
        pthread_mutex_lock(&line_lock);
        line_hangs = hangs;
        pthread_cond_broadcast(&line_changed);
        pthread_mutex_unlock(&line_lock);
}

/* --- the desk --- */

struct desk {
        struct loop *loop;
        struct timer too_late, look;
        int master, slave;
        char node[64];
        struct tty_opening *opening;
        struct tty *tty;
        bool opened;
        int error;
        uint8_t heard[65536];
        size_t n_heard;
        unsigned hangups;
        bool (*until)(struct desk *desk);
};

static void on_too_late(void *userdata)
{
        struct desk *desk = userdata;

        loop_exit(desk->loop, -ETIMEDOUT);
}

static void on_look(void *userdata)
{
        struct desk *desk = userdata;

        if (desk->until(desk))
                loop_exit(desk->loop, 0);
        else
                timer_set(&desk->look, MSEC);
}

static void run_until(struct desk *desk, bool (*until)(struct desk *desk))
{
        desk->until = until;
        timer_set(&desk->too_late, DEADLINE);
        timer_set(&desk->look, 0);
        assert_int_equal(loop_run(desk->loop), 0);
        timer_clear(&desk->too_late);
}

static void make_pty(struct desk *desk)
{
        assert_int_equal(openpty(&desk->master, &desk->slave, desk->node, NULL, NULL), 0);
        assert_int_equal(fcntl(desk->master, F_SETFL, O_NONBLOCK), 0);
        assert_int_equal(fcntl(desk->slave, F_SETFL, O_NONBLOCK), 0);
}

static int desk_new(void **state)
{
        struct desk *desk = calloc(1, sizeof(*desk));

        assert_non_null(desk);
        assert_int_equal(loop_new(&desk->loop), 0);
        timer_init(&desk->too_late, desk->loop, on_too_late, desk);
        timer_init(&desk->look, desk->loop, on_look, desk);
        make_pty(desk);
        *state = desk;
        return 0;
}

static bool no_work(struct desk *desk)
{
        return loop_pending_work(desk->loop) == 0;
}

static int desk_free(void **state)
{
        struct desk *desk = *state;

        desk->opening = tty_opening_cancel(desk->opening);
        desk->tty = tty_free(desk->tty);
        run_until(desk, no_work);
        timer_deinit(&desk->too_late);
        timer_deinit(&desk->look);
        loop_free(desk->loop);
        if (desk->master >= 0)
                (void)close(desk->master);
        if (desk->slave >= 0)
                (void)close(desk->slave);
        free(desk);
        return 0;
}

static void on_open(void *userdata, int error, struct tty *tty)
{
        struct desk *desk = userdata;

        assert_false(desk->opened);
        desk->opening = NULL;
        desk->opened = true;
        desk->error = error;
        desk->tty = tty;
        assert_true((error == 0) == (tty != NULL));
}

static bool is_opened(struct desk *desk)
{
        return desk->opened;
}

static int open_node(struct desk *desk, const char *node, uint64_t deadline)
{
        desk->opened = false;
        assert_int_equal(tty_open(desk->loop, node, BAUD, deadline, on_open, desk, &desk->opening), 0);
        assert_false(desk->opened);
        run_until(desk, is_opened);
        return desk->error;
}

static void on_input(void *userdata, const uint8_t *data, size_t size)
{
        struct desk *desk = userdata;

        if (!data) {
                desk->hangups++;
                return;
        }
        assert_true(desk->n_heard + size <= sizeof(desk->heard));
        memcpy(desk->heard + desk->n_heard, data, size);
        desk->n_heard += size;
}

static void open_line(struct desk *desk)
{
        assert_int_equal(open_node(desk, desk->node, SEC * 10), 0);
        tty_listen(desk->tty, on_input, desk);
}

static void close_line(struct desk *desk)
{
        desk->tty = tty_free(desk->tty);
        run_until(desk, no_work);
}

/* --- talking --- */

static bool heard_four(struct desk *desk)
{
        return desk->n_heard >= 4;
}

static void talks(void **state)
{
        struct desk *desk = *state;
        struct termios termios;
        char bytes[16];

        /* What was there before is not ours. */
        assert_int_equal(write(desk->master, "old\n", 4), 4);
        open_line(desk);
        (void)tcflush(desk->master, TCIOFLUSH);         /* its echo */
        assert_int_equal(tcgetattr(desk->slave, &termios), 0);
        assert_int_equal(cfgetospeed(&termios), B921600);
        assert_int_equal(termios.c_lflag & (ECHO | ICANON | ISIG), 0);
        assert_int_equal(write(desk->master, "\0\r\n\xff", 4), 4);
        run_until(desk, heard_four);
        assert_memory_equal(desk->heard, "\0\r\n\xff", 4);
        assert_int_equal(desk->n_heard, 4);
        assert_int_equal(tty_write(desk->tty, "\0\r\n\x11", 4), 0);
        assert_int_equal(read(desk->master, bytes, sizeof(bytes)), 4);
        assert_memory_equal(bytes, "\0\r\n\x11", 4);
        assert_int_equal(desk->hangups, 0);
}

static void is_left_as_it_was(void **state)
{
        struct desk *desk = *state;
        struct termios before, after;
        int exclusive = 1;

        assert_int_equal(tcgetattr(desk->slave, &before), 0);
        (void)cfsetspeed(&before, B19200);
        before.c_cflag |= PARENB;
        assert_int_equal(__real_tcsetattr(desk->slave, TCSANOW, &before), 0);
        assert_int_equal(tcgetattr(desk->slave, &before), 0);
        line_settings = 0;
        open_line(desk);
        /* By way of another rate: whoever listens for one begins anew. */
        assert_int_equal(line_settings, 2);
        close_line(desk);
        assert_int_equal(tcgetattr(desk->slave, &after), 0);
        assert_int_equal(cfgetospeed(&after), B19200);
        assert_int_equal(after.c_iflag, before.c_iflag);
        assert_int_equal(after.c_oflag, before.c_oflag);
        assert_int_equal(after.c_cflag, before.c_cflag);
        assert_int_equal(after.c_lflag, before.c_lflag);
        assert_int_equal(ioctl(desk->slave, TIOCGEXCL, &exclusive), 0);
        assert_int_equal(exclusive, 0);
        assert_int_equal(flock(desk->slave, LOCK_EX | LOCK_NB), 0);
}

static bool hung_up(struct desk *desk)
{
        return desk->hangups > 0;
}

static bool look_again(struct desk *desk)
{
        static unsigned looks;

        (void)desk;
        return ++looks % 20 == 0;
}

static void hangs_up_once(void **state)
{
        struct desk *desk = *state;

        open_line(desk);
        assert_int_equal(write(desk->master, "last", 4), 4);
        run_until(desk, heard_four);
        (void)close(desk->master);
        desk->master = -1;
        run_until(desk, hung_up);
        run_until(desk, look_again);
        assert_int_equal(desk->hangups, 1);
        /* Whatever is said to nobody is said. */
        assert_int_equal(tty_write(desk->tty, "x", 1), 0);
        run_until(desk, look_again);
        assert_int_equal(desk->hangups, 1);
}

static void on_input_free(void *userdata, const uint8_t *data, size_t size)
{
        struct desk *desk = userdata;

        (void)data;
        (void)size;
        desk->hangups++;
        desk->tty = tty_free(desk->tty);
}

static void may_be_freed_while_told(void **state)
{
        struct desk *desk = *state;

        open_line(desk);
        tty_listen(desk->tty, on_input_free, desk);
        assert_int_equal(write(desk->master, "x", 1), 1);
        run_until(desk, hung_up);
        run_until(desk, no_work);
        assert_null(desk->tty);
        /* And when it hangs up. */
        open_line(desk);
        tty_listen(desk->tty, on_input_free, desk);
        (void)close(desk->master);
        desk->master = -1;
        desk->hangups = 0;
        run_until(desk, hung_up);
        assert_null(desk->tty);
}

/* Nobody reads: what does not go out waits, as much as there is room for, and goes out later. */
static void waits_to_send(void **state)
{
        struct desk *desk = *state;
        uint8_t block[TTY_WRITE_MAX], bytes[4096];
        size_t sent = 0, got = 0;

        open_line(desk);
        for (size_t i = 0; i < sizeof(block); i++)
                block[i] = (uint8_t)(i * 7);
        while (tty_write(desk->tty, block, sizeof(block)) == 0) {
                sent += sizeof(block);
                assert_true(sent < 10000000);
        }
        assert_int_equal(tty_write(desk->tty, block, sizeof(block)), -ENOSPC);
        while (got < sent) {
                ssize_t n = read(desk->master, bytes, sizeof(bytes));

                if (n < 0) {
                        assert_int_equal(errno, EAGAIN);
                        run_until(desk, look_again);
                        continue;
                }
                for (ssize_t i = 0; i < n; i++)
                        assert_int_equal(bytes[i], block[(got + (size_t)i) % sizeof(block)]);
                got += (size_t)n;
        }
        assert_int_equal(got, sent);
        assert_int_equal(tty_write(desk->tty, block, sizeof(block)), 0);
}

/* --- whose it is --- */

static void others_have_it(void **state)
{
        struct desk *desk = *state;
        struct termios raw;
        char bytes[8];
        int other;

        /* What waits for them on their line is theirs. */
        assert_int_equal(tcgetattr(desk->slave, &raw), 0);
        cfmakeraw(&raw);
        assert_int_equal(tcsetattr(desk->slave, TCSANOW, &raw), 0);
        assert_int_equal(write(desk->master, "in", 2), 2);
        assert_int_equal(write(desk->slave, "out", 3), 3);
        /* flock() */
        assert_int_equal(flock(desk->slave, LOCK_EX | LOCK_NB), 0);
        assert_int_equal(open_node(desk, desk->node, DEADLINE), -EBUSY);
        assert_int_equal(flock(desk->slave, LOCK_UN), 0);
        /* TIOCEXCL; root is not kept out by it, and keeps out all the same. */
        assert_int_equal(ioctl(desk->slave, TIOCEXCL), 0);
        assert_int_equal(open_node(desk, desk->node, DEADLINE), -EBUSY);
        assert_int_equal(ioctl(desk->slave, TIOCNXCL), 0);
        assert_int_equal(read(desk->slave, bytes, sizeof(bytes)), 2);
        assert_int_equal(read(desk->master, bytes, sizeof(bytes)), 3);
        open_line(desk);
        /* And while it is ours, others see that. */
        assert_int_equal(ioctl(desk->slave, TIOCGEXCL, &other), 0);
        assert_int_equal(other, 1);
        assert_int_equal(flock(desk->slave, LOCK_EX | LOCK_NB), -1);
        assert_int_equal(errno, EWOULDBLOCK);
}

static void cannot_be_opened(void **state)
{
        struct desk *desk = *state;

        assert_int_equal(open_node(desk, "/dev/no-such-port", DEADLINE), -ENOENT);
        assert_int_equal(open_node(desk, "/dev/null", DEADLINE), -ENOTTY);
        run_until(desk, no_work);
}

/* --- a port that hangs --- */

static void hanging_is_abandoned(void **state)
{
        struct desk *desk = *state;
        int exclusive = 1;

        set_hanging(true);
        assert_int_equal(open_node(desk, desk->node, 50 * MSEC), -ETIMEDOUT);
        assert_int_equal(loop_pending_work(desk->loop), 1);
        set_hanging(false);
        run_until(desk, no_work);
        /* It was cleared away. */
        assert_int_equal(ioctl(desk->slave, TIOCGEXCL, &exclusive), 0);
        assert_int_equal(exclusive, 0);
        open_line(desk);
}

static void cancelled_is_not_told(void **state)
{
        struct desk *desk = *state;

        set_hanging(true);
        desk->opened = false;
        assert_int_equal(tty_open(desk->loop, desk->node, BAUD, DEADLINE, on_open, desk, &desk->opening), 0);
        desk->opening = tty_opening_cancel(desk->opening);
        set_hanging(false);
        run_until(desk, no_work);
        assert_false(desk->opened);
        open_line(desk);
}

/* Closing a line that hangs is nobody's delay either. */
static void closing_hangs(void **state)
{
        struct desk *desk = *state;

        open_line(desk);
        set_hanging(true);
        desk->tty = tty_free(desk->tty);
        run_until(desk, look_again);
        assert_int_equal(loop_pending_work(desk->loop), 1);
        set_hanging(false);
        run_until(desk, no_work);
}

#define AT_DESK(name, fn) { name, fn, desk_new, desk_free, NULL }

int main(void)
{
        const struct CMUnitTest tests[] = {
                AT_DESK("/tty/talks", talks),
                AT_DESK("/tty/is-left-as-it-was", is_left_as_it_was),
                AT_DESK("/tty/hangs-up-once", hangs_up_once),
                AT_DESK("/tty/may-be-freed-while-told", may_be_freed_while_told),
                AT_DESK("/tty/waits-to-send", waits_to_send),
                AT_DESK("/tty/others-have-it", others_have_it),
                AT_DESK("/tty/cannot-be-opened", cannot_be_opened),
                AT_DESK("/tty/hanging-is-abandoned", hanging_is_abandoned),
                AT_DESK("/tty/cancelled-is-not-told", cancelled_is_not_told),
                AT_DESK("/tty/closing-hangs", closing_hangs),
        };

        return cmocka_run_group_tests_name("tty", tests, NULL, NULL);
}
