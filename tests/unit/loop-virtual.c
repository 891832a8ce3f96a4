/* SPDX-License-Identifier: MIT */

/*
 * See loop-virtual.h.  A round has the same parts in the same order as the real
 * loop's: deferred calls, signals, ends of works, file descriptors, timers.  A part
 * that asks for more of its own kind (a timer that sets a timer) gets it in the
 * next round.  No thread is ever made.
 */

#include "loop-virtual.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"

#define DELAY_MAX (UINT64_C(1000000000) * SEC)

/* So many rounds at one moment are no progress: somebody re-arms itself with no delay for ever. */
#define ROUNDS_AT_ONE_MOMENT_MAX 1000000

/* A work has run; its done() is yet to come. */
struct work {
        work_fn done;
        void *data;
        uint64_t due;
        TAILQ_ENTRY(work) link;
};
TAILQ_HEAD(work_queue, work);

struct lane {
        struct loop *loop;
        uint64_t busy_until;            /* works of a lane end one after the other */
};

/* What loop.h calls "loop.c's": here, the watch's place in the list of watches. */
struct event {
        struct io_watch *watch;
        unsigned ready;
        TAILQ_ENTRY(event) link;
};

struct signal_watch {
        int signo;
        void (*fn)(void *userdata);
        void *userdata;
        TAILQ_ENTRY(signal_watch) link;
};

LIST_HEAD(timer_list, timer);

struct loop {
        uint64_t now;
        uint64_t wall_offset;           /* wall clock = now + this, modulo 2^64 */
        TAILQ_HEAD(, defer) deferred;
        TAILQ_HEAD(, signal_watch) signals;
        sigset_t raised;
        bool any_raised;
        struct work_queue works;        /* by due, then by age */
        unsigned pending_works;
        TAILQ_HEAD(, event) watching;
        struct timer_list armed;        /* by due, then by age */
        unsigned timers, watches, lanes;
        uint64_t work_delay;
        int work_error;
        unsigned work_errors;
        bool exiting;
        int exit_code;
};

int loop_new(struct loop **ret)
{
        struct loop *loop = calloc(1, sizeof(*loop));

        if (!loop)
                return -ENOMEM;
        (void)signal(SIGPIPE, SIG_IGN);
        loop->now = LOOP_VIRTUAL_START;
        loop->wall_offset = LOOP_VIRTUAL_WALL_START - LOOP_VIRTUAL_START;
        TAILQ_INIT(&loop->deferred);
        TAILQ_INIT(&loop->signals);
        TAILQ_INIT(&loop->works);
        TAILQ_INIT(&loop->watching);
        LIST_INIT(&loop->armed);
        (void)sigemptyset(&loop->raised);
        *ret = loop;
        return 0;
}

/* --- the parts of a round; each says whether it did anything --- */

static bool run_deferred(struct loop *loop)
{
        struct defer end = { .queued = true }, *defer;
        bool any = false;

        if (TAILQ_EMPTY(&loop->deferred))
                return false;
        TAILQ_INSERT_TAIL(&loop->deferred, &end, link);
        while ((defer = TAILQ_FIRST(&loop->deferred)) != &end) {
                TAILQ_REMOVE(&loop->deferred, defer, link);
                defer->queued = false;
                defer->fn(defer->userdata);
                any = true;
        }
        TAILQ_REMOVE(&loop->deferred, &end, link);
        return any;
}

static bool run_signals(struct loop *loop)
{
        sigset_t raised = loop->raised;
        struct signal_watch *watch;
        bool any = false;

        if (!loop->any_raised)
                return false;
        (void)sigemptyset(&loop->raised);
        loop->any_raised = false;
        TAILQ_FOREACH(watch, &loop->signals, link) {
                if (sigismember(&raised, watch->signo) != 1)
                        continue;
                watch->fn(watch->userdata);
                any = true;
        }
        return any;
}

/* before: only works due by then. */
static bool run_works(struct loop *loop, uint64_t before)
{
        struct work_queue due = TAILQ_HEAD_INITIALIZER(due);
        struct work *work;
        bool any = false;

        while ((work = TAILQ_FIRST(&loop->works)) && work->due <= before) {
                TAILQ_REMOVE(&loop->works, work, link);
                TAILQ_INSERT_TAIL(&due, work, link);
        }
        while ((work = TAILQ_FIRST(&due))) {
                TAILQ_REMOVE(&due, work, link);
                loop->pending_works--;
                if (work->done)
                        work->done(work->data);
                free(work);
                any = true;
        }
        return any;
}

static struct event *first_ready(struct loop *loop)
{
        struct event *event;

        TAILQ_FOREACH(event, &loop->watching, link)
                if (event->ready)
                        return event;
        return NULL;
}

static bool run_watches(struct loop *loop)
{
        struct event *event;
        bool any = false;
        nfds_t n = 0, i = 0;

        TAILQ_FOREACH(event, &loop->watching, link)
                n++;
        if (n == 0)
                return false;

        _cleanup_free_ struct pollfd *fds = calloc(n, sizeof(*fds));
        assert(fds);
        TAILQ_FOREACH(event, &loop->watching, link)
                fds[i++] = (struct pollfd){
                        .fd = event->watch->fd,
                        .events = (short)(((event->watch->interest & IO_READ) ? POLLIN : 0) |
                                          ((event->watch->interest & IO_WRITE) ? POLLOUT : 0)),
                };
        if (poll(fds, n, 0) <= 0)
                return false;

        i = 0;
        TAILQ_FOREACH(event, &loop->watching, link) {
                short got = fds[i++].revents;

                /* A watch of a closed fd is a mistake of its owner, which epoll would hide. */
                assert(!(got & POLLNVAL));
                if (got & (POLLERR | POLLHUP))
                        event->ready = event->watch->interest;
                else
                        event->ready = ((got & POLLIN) ? IO_READ : 0U) | ((got & POLLOUT) ? IO_WRITE : 0U);
        }
        /* A callback may deinit any watch: look again from the beginning after each. */
        while ((event = first_ready(loop))) {
                unsigned ready = event->ready;

                event->ready = 0;
                event->watch->fn(event->watch->userdata, ready);
                any = true;
        }
        return any;
}

static bool run_timers(struct loop *loop)
{
        struct timer_list due = LIST_HEAD_INITIALIZER(due);
        struct timer *timer, *last = NULL;
        bool any = false;

        while ((timer = LIST_FIRST(&loop->armed)) && timer->due <= loop->now) {
                LIST_REMOVE(timer, link);
                if (last)
                        LIST_INSERT_AFTER(last, timer, link);
                else
                        LIST_INSERT_HEAD(&due, timer, link);
                last = timer;
        }
        /* A timer that another one clears or sets anew leaves this list by itself. */
        while ((timer = LIST_FIRST(&due))) {
                LIST_REMOVE(timer, link);
                timer->due = 0;
                timer->fn(timer->userdata);
                any = true;
        }
        return any;
}

static bool run_round(struct loop *loop)
{
        bool any = run_deferred(loop);

        /* As in the real loop: nothing more of a round that a deferred call has ended. */
        if (loop->exiting)
                return any;
        any |= run_signals(loop);
        any |= run_works(loop, loop->now);
        any |= run_watches(loop);
        any |= run_timers(loop);
        return any;
}

uint64_t loop_next_due(struct loop *loop)
{
        struct timer *timer = LIST_FIRST(&loop->armed);
        struct work *work = TAILQ_FIRST(&loop->works);

        if (timer && work)
                return MIN(timer->due, work->due);
        return timer ? timer->due : work ? work->due : 0;
}

/* Runs until predicate, exit or limit.  limit 0: none; -EDEADLK when nothing is left that could happen.
 * 1: the predicate is true; 0: the limit was reached, or exit. */
static int run(struct loop *loop, bool (*predicate)(void *userdata), void *userdata, uint64_t limit)
{
        unsigned rounds = 0;
        uint64_t next, moment;

        for (;;) {
                if (predicate && predicate(userdata))
                        return 1;
                if (loop->exiting || (limit > 0 && loop->now > limit))  /* the time was spent */
                        return 0;
                moment = loop->now;
                if (run_round(loop)) {
                        if (loop->now > moment)
                                rounds = 0;
                        if (++rounds >= ROUNDS_AT_ONE_MOMENT_MAX) {
                                fprintf(stderr, "Virtual loop: %u rounds and no time has passed.\n", rounds);
                                abort();
                        }
                        continue;
                }
                if (loop->exiting)
                        continue;

                next = loop_next_due(loop);
                if (limit > 0 && (next == 0 || next > limit)) {
                        loop->now = limit;
                        return 0;
                }
                if (next == 0)
                        return -EDEADLK;
                loop->now = MAX(loop->now, next);
                rounds = 0;
        }
}

int loop_run(struct loop *loop)
{
        int r = run(loop, NULL, NULL, 0);

        if (r < 0)
                return r;
        loop->exiting = false;
        return loop->exit_code;
}

bool loop_run_until(struct loop *loop, bool (*predicate)(void *userdata), void *userdata, uint64_t deadline_us)
{
        return run(loop, predicate, userdata, loop->now + MIN(deadline_us, DELAY_MAX)) == 1;
}

void loop_advance(struct loop *loop, uint64_t us)
{
        (void)run(loop, NULL, NULL, loop->now + MIN(us, DELAY_MAX));
}

void loop_exit(struct loop *loop, int code)
{
        loop->exiting = true;
        loop->exit_code = code;
}

struct loop *loop_free(struct loop *loop)
{
        struct signal_watch *watch;

        if (!loop)
                return NULL;

        while (run_works(loop, UINT64_MAX) || run_deferred(loop))
                ;
        assert(loop->pending_works == 0);
        assert(loop->lanes == 0);
        assert(loop->timers == 0);
        assert(loop->watches == 0);
        while ((watch = TAILQ_FIRST(&loop->signals))) {
                TAILQ_REMOVE(&loop->signals, watch, link);
                free(watch);
        }
        free(loop);
        return NULL;
}

/* --- time --- */

void loop_spend(struct loop *loop, uint64_t us)
{
        loop->now += us;
}

uint64_t loop_now(struct loop *loop)
{
        return loop->now;
}

uint64_t loop_wall_clock(struct loop *loop)
{
        return loop->now + loop->wall_offset;
}

void loop_set_wall_clock(struct loop *loop, uint64_t us)
{
        loop->wall_offset = us - loop->now;
}

/* --- timers --- */

void timer_init(struct timer *timer, struct loop *loop, timer_fn fn, void *userdata)
{
        *timer = (struct timer){ .loop = loop, .fn = fn, .userdata = userdata };
        loop->timers++;
}

void timer_deinit(struct timer *timer)
{
        if (!timer->loop)
                return;
        timer_clear(timer);
        timer->loop->timers--;
        *timer = (struct timer){};
}

void timer_set(struct timer *timer, uint64_t delay)
{
        struct timer *other, *last = NULL;

        timer_clear(timer);
        timer->due = timer->loop->now + MIN(delay, DELAY_MAX);
        LIST_FOREACH(other, &timer->loop->armed, link) {
                if (other->due > timer->due)
                        break;
                last = other;
        }
        if (last)
                LIST_INSERT_AFTER(last, timer, link);
        else
                LIST_INSERT_HEAD(&timer->loop->armed, timer, link);
}

void timer_clear(struct timer *timer)
{
        if (timer->due)
                LIST_REMOVE(timer, link);
        timer->due = 0;
}

bool timer_is_set(const struct timer *timer)
{
        return timer->due != 0;
}

/* --- file descriptors --- */

void io_watch_init(struct io_watch *watch, struct loop *loop, int fd, io_fn fn, void *userdata)
{
        *watch = (struct io_watch){ .loop = loop, .fd = fd, .fn = fn, .userdata = userdata };
        loop->watches++;
}

static void watch_stop(struct io_watch *watch)
{
        if (watch->event) {
                TAILQ_REMOVE(&watch->loop->watching, watch->event, link);
                free(watch->event);
                watch->event = NULL;
        }
        watch->interest = 0;
}

void io_watch_deinit(struct io_watch *watch)
{
        if (!watch->loop)
                return;
        watch_stop(watch);
        watch->loop->watches--;
        *watch = (struct io_watch){};
}

int io_watch_set(struct io_watch *watch, unsigned interest)
{
        if (interest == watch->interest)
                return 0;
        watch_stop(watch);
        if (interest == 0)
                return 0;
        watch->event = calloc(1, sizeof(*watch->event));
        if (!watch->event)
                return -ENOMEM;
        watch->event->watch = watch;
        watch->interest = interest;
        TAILQ_INSERT_TAIL(&watch->loop->watching, watch->event, link);
        return 0;
}

/* --- signals --- */

int loop_on_signal(struct loop *loop, int signo, void (*fn)(void *userdata), void *userdata)
{
        struct signal_watch *watch = calloc(1, sizeof(*watch));

        if (!watch)
                return -ENOMEM;
        *watch = (struct signal_watch){ .signo = signo, .fn = fn, .userdata = userdata };
        TAILQ_INSERT_TAIL(&loop->signals, watch, link);
        return 0;
}

void loop_raise(struct loop *loop, int signo)
{
        (void)sigaddset(&loop->raised, signo);
        loop->any_raised = true;
}

/* --- deferred calls --- */

void defer_init(struct defer *defer, struct loop *loop, defer_fn fn, void *userdata)
{
        *defer = (struct defer){ .loop = loop, .fn = fn, .userdata = userdata };
}

void defer_deinit(struct defer *defer)
{
        if (defer->queued)
                TAILQ_REMOVE(&defer->loop->deferred, defer, link);
        *defer = (struct defer){};
}

void defer_call(struct defer *defer)
{
        if (defer->queued)
                return;
        defer->queued = true;
        TAILQ_INSERT_TAIL(&defer->loop->deferred, defer, link);
}

/* --- helper threads, without threads --- */

int lane_new(struct loop *loop, struct lane **ret)
{
        struct lane *lane = calloc(1, sizeof(*lane));

        if (!lane)
                return -ENOMEM;
        lane->loop = loop;
        loop->lanes++;
        *ret = lane;
        return 0;
}

struct lane *lane_free(struct lane *lane)
{
        if (!lane)
                return NULL;
        lane->loop->lanes--;
        free(lane);
        return NULL;
}

int loop_work(struct loop *loop, struct lane *lane, work_fn run_fn, work_fn done, void *data)
{
        struct work *work, *other;
        uint64_t begin = lane ? MAX(lane->busy_until, loop->now) : loop->now;

        assert(!lane || lane->loop == loop);
        if (loop->work_errors > 0) {
                loop->work_errors--;
                return loop->work_error;
        }
        work = calloc(1, sizeof(*work));
        if (!work)
                return -ENOMEM;
        *work = (struct work){ .done = done, .data = data, .due = begin + loop->work_delay };
        if (lane)
                lane->busy_until = work->due;

        loop->pending_works++;
        run_fn(data);

        TAILQ_FOREACH(other, &loop->works, link)
                if (other->due > work->due)
                        break;
        if (other)
                TAILQ_INSERT_BEFORE(other, work, link);
        else
                TAILQ_INSERT_TAIL(&loop->works, work, link);
        return 0;
}

unsigned loop_pending_work(struct loop *loop)
{
        return loop->pending_works;
}

void loop_set_work_delay(struct loop *loop, uint64_t us)
{
        loop->work_delay = MIN(us, DELAY_MAX);
}

void loop_fail_work(struct loop *loop, int error, unsigned count)
{
        loop->work_error = error;
        loop->work_errors = count;
}
