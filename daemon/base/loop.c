/* SPDX-License-Identifier: MIT */

/*
 * See loop.h: the loop on libevent, which no other file of the daemon knows.
 *
 * A round is: deferred calls, then whatever the kernel says is ready, then
 * timers that are due; works come back through an eventfd.  A thread lives only
 * while it has work, there is no periodic timer, and so an idle loop is one
 * thread asleep in epoll_wait(2).
 *
 * Of struct loop only what stands under `lock` is seen by helper threads; they
 * never touch libevent, which is therefore used without its own locking.
 */

#include "base/loop.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

/* Deep enough for libusb and SQLite; the default of 8 MiB would be counted against the unit's limits. */
#define HELPER_STACK_SIZE (256 * 1024)

/* Delays are cut here (about 30 years), so that no sum of times can overflow. */
#define DELAY_MAX (UINT64_C(1000000000) * SEC)

struct work {
        work_fn run, done;
        void *data;
        STAILQ_ENTRY(work) link;        /* in lane->queue, then in loop->finished */
};
STAILQ_HEAD(work_queue, work);

struct helper {
        struct loop *loop;
        struct lane *lane;              /* NULL: ends after its one work */
        struct work *work;              /* the first */
        pthread_t thread;
        void *stack;
        SLIST_ENTRY(helper) link;       /* in loop->ended */
};

struct lane {
        struct loop *loop;
        struct work_queue queue;        /* not yet begun; under loop->lock */
        bool has_helper;                /* under loop->lock */
};

struct signal_watch {
        struct event *event;
        void (*fn)(void *userdata);
        void *userdata;
        SLIST_ENTRY(signal_watch) link; /* in loop->signals */
};

struct loop {
        struct event_base *base;
        TAILQ_HEAD(, defer) deferred;
        SLIST_HEAD(, signal_watch) signals;
        unsigned timers, watches, lanes, works;
        bool exiting;
        int exit_code;

        int wakeup_fd;                  /* eventfd: something is in finished or ended */
        struct event *wakeup;
        pthread_attr_t helper_attributes;
        pthread_mutex_t lock;
        pthread_cond_t lane_emptied;
        struct work_queue finished;     /* run, not yet done(); under lock */
        SLIST_HEAD(, helper) ended;     /* threads that have only their return left; under lock */
};

DEFINE_FREEP(loop)

/* --- helper threads --- */

static void *helper_main(void *userdata)
{
        struct helper *helper = userdata;
        struct loop *loop = helper->loop;
        struct lane *lane = helper->lane;
        struct work *work = helper->work;

        while (work) {
                work->run(work->data);

                (void)pthread_mutex_lock(&loop->lock);
                STAILQ_INSERT_TAIL(&loop->finished, work, link);
                work = NULL;
                if (lane) {
                        work = STAILQ_FIRST(&lane->queue);
                        if (work) {
                                STAILQ_REMOVE_HEAD(&lane->queue, link);
                        } else {
                                /* From here on the lane may be freed. */
                                lane->has_helper = false;
                                (void)pthread_cond_broadcast(&loop->lane_emptied);
                        }
                }
                /* From here on the loop waits for this thread before it goes. */
                if (!work)
                        SLIST_INSERT_HEAD(&loop->ended, helper, link);
                (void)pthread_mutex_unlock(&loop->lock);
                (void)eventfd_write(loop->wakeup_fd, 1);
        }
        return NULL;
}

/* A stack of its own, given back when the thread was joined: the C library would keep it for the next thread, with the pages that were
 * touched, and after a hundred at once that would be more than all else that an idle daemon has. */
static int helper_stack_new(pthread_attr_t *attributes, void **ret)
{
        size_t guard = (size_t)sysconf(_SC_PAGESIZE);
        char *stack = mmap(NULL, HELPER_STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
        int r;

        if (stack == MAP_FAILED)
                return -errno;
        r = mprotect(stack, guard, PROT_NONE) < 0 ? -errno
                : -pthread_attr_setstack(attributes, stack + guard, HELPER_STACK_SIZE - guard);
        if (r < 0) {
                (void)munmap(stack, HELPER_STACK_SIZE);
                return r;
        }
        *ret = stack;
        return 0;
}

static void helper_free(struct helper *helper)
{
        (void)munmap(helper->stack, HELPER_STACK_SIZE);
        free(helper);
}

static int helper_start(struct loop *loop, struct lane *lane, struct work *work)
{
        _cleanup_free_ struct helper *helper = NULL;
        int r;

        helper = calloc(1, sizeof(*helper));
        if (!helper)
                return -ENOMEM;
        helper->loop = loop;
        helper->lane = lane;
        helper->work = work;

        /* The thread writes no member that is read here, and `thread` is read only after it was seen in
         * loop->ended, which this thread looks at later. */
        r = helper_stack_new(&loop->helper_attributes, &helper->stack);
        if (r < 0)
                return r;
        r = pthread_create(&helper->thread, &loop->helper_attributes, helper_main, helper);
        if (r != 0) {
                (void)munmap(helper->stack, HELPER_STACK_SIZE);
                return -r;
        }
        helper = NULL;
        return 0;
}

/* A thread in loop->ended is about to return, but it may have been preempted just there: the loop does not wait
 * for it.  What is left is tried again with the next work, or joined in loop_free(). */
static void helpers_reap(struct loop *loop, bool wait)
{
        SLIST_HEAD(, helper) ended, left = SLIST_HEAD_INITIALIZER(left);
        struct helper *helper, *next;

        (void)pthread_mutex_lock(&loop->lock);
        ended.slh_first = SLIST_FIRST(&loop->ended);
        SLIST_INIT(&loop->ended);
        (void)pthread_mutex_unlock(&loop->lock);

        for (helper = SLIST_FIRST(&ended); helper; helper = next) {
                next = SLIST_NEXT(helper, link);
                if ((wait ? pthread_join(helper->thread, NULL) : pthread_tryjoin_np(helper->thread, NULL)) == 0)
                        helper_free(helper);
                else
                        SLIST_INSERT_HEAD(&left, helper, link);
        }

        (void)pthread_mutex_lock(&loop->lock);
        while ((helper = SLIST_FIRST(&left))) {
                SLIST_REMOVE_HEAD(&left, link);
                SLIST_INSERT_HEAD(&loop->ended, helper, link);
        }
        (void)pthread_mutex_unlock(&loop->lock);
}

/* Calls done() of what was finished before this call; later ones have woken the loop again. */
static bool works_finish(struct loop *loop)
{
        struct work_queue finished = STAILQ_HEAD_INITIALIZER(finished);
        struct work *work;
        bool any;

        (void)pthread_mutex_lock(&loop->lock);
        STAILQ_CONCAT(&finished, &loop->finished);
        (void)pthread_mutex_unlock(&loop->lock);

        any = !STAILQ_EMPTY(&finished);
        while ((work = STAILQ_FIRST(&finished))) {
                STAILQ_REMOVE_HEAD(&finished, link);
                loop->works--;
                if (work->done)
                        work->done(work->data);
                free(work);
        }
        return any;
}

static void on_wakeup(evutil_socket_t fd, short events, void *userdata)
{
        struct loop *loop = userdata;
        eventfd_t count;

        /* Emptied first: what is finished from now on makes it readable again. */
        (void)eventfd_read(fd, &count);
        (void)works_finish(loop);
        helpers_reap(loop, /* wait= */ false);
}

int lane_new(struct loop *loop, struct lane **ret)
{
        struct lane *lane = calloc(1, sizeof(*lane));

        if (!lane)
                return -ENOMEM;
        lane->loop = loop;
        STAILQ_INIT(&lane->queue);
        loop->lanes++;
        *ret = lane;
        return 0;
}

struct lane *lane_free(struct lane *lane)
{
        struct loop *loop;

        if (!lane)
                return NULL;
        loop = lane->loop;

        /* A queue that is not empty has a helper. */
        (void)pthread_mutex_lock(&loop->lock);
        while (lane->has_helper)
                (void)pthread_cond_wait(&loop->lane_emptied, &loop->lock);
        (void)pthread_mutex_unlock(&loop->lock);

        loop->lanes--;
        free(lane);
        return NULL;
}

int loop_work(struct loop *loop, struct lane *lane, work_fn run, work_fn done, void *data)
{
        _cleanup_free_ struct work *work = NULL;
        int r = 0;

        assert(!lane || lane->loop == loop);

        work = calloc(1, sizeof(*work));
        if (!work)
                return -ENOMEM;
        work->run = run;
        work->done = done;
        work->data = data;

        if (lane) {
                /* The lock is held over the thread's start, so that a second work cannot find neither helper nor queue. */
                (void)pthread_mutex_lock(&loop->lock);
                if (lane->has_helper) {
                        STAILQ_INSERT_TAIL(&lane->queue, work, link);
                } else {
                        r = helper_start(loop, lane, work);
                        lane->has_helper = r >= 0;
                }
                (void)pthread_mutex_unlock(&loop->lock);
        } else {
                r = helper_start(loop, NULL, work);
        }
        if (r < 0)
                return r;

        work = NULL;                    /* its thread's, and in the end works_finish()'s */
        loop->works++;
        return 0;
}

unsigned loop_pending_work(struct loop *loop)
{
        return loop->works;
}

/* --- the loop --- */

static void on_libevent_message(int severity, const char *message)
{
        log_write(severity >= EVENT_LOG_WARN ? LOG_WARNING : LOG_DEBUG, NULL, __FILE__, __LINE__, __func__,
                  "libevent: %s", message);
}

static int base_new(struct event_base **ret)
{
        struct event_config *config = event_config_new();
        struct event_base *base;

        if (!config)
                return -ENOMEM;
        /* Microseconds instead of epoll's milliseconds; each timer counts from the moment it was set. */
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER | EVENT_BASE_FLAG_NO_CACHE_TIME |
                                    EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
        base = event_base_new_with_config(config);
        event_config_free(config);
        if (!base)
                return -ENOMEM;
        *ret = base;
        return 0;
}

static int helper_attributes_init(pthread_attr_t *attributes)
{
        sigset_t all;
        int r;

        r = pthread_attr_init(attributes);
        if (r != 0)
                return -r;
        /* Signals are the loop's: a helper that took one would end whatever it waits in. */
        (void)sigfillset(&all);
        r = pthread_attr_setsigmask_np(attributes, &all);
        if (r == 0)
                r = pthread_attr_setstacksize(attributes, MAX((long)HELPER_STACK_SIZE, PTHREAD_STACK_MIN));
        if (r != 0)
                (void)pthread_attr_destroy(attributes);
        return -r;
}

int loop_new(struct loop **ret)
{
        _cleanup_(loop_freep) struct loop *loop = NULL;
        _cleanup_free_ struct loop *raw = NULL;
        int r;

        event_set_log_callback(on_libevent_message);
        /* Who writes to somebody that is gone gets EPIPE. */
        (void)signal(SIGPIPE, SIG_IGN);

        raw = calloc(1, sizeof(*raw));
        if (!raw)
                return -ENOMEM;
        TAILQ_INIT(&raw->deferred);
        SLIST_INIT(&raw->signals);
        STAILQ_INIT(&raw->finished);
        SLIST_INIT(&raw->ended);
        raw->wakeup_fd = -1;
        r = helper_attributes_init(&raw->helper_attributes);
        if (r < 0)
                return r;
        (void)pthread_mutex_init(&raw->lock, NULL);
        (void)pthread_cond_init(&raw->lane_emptied, NULL);
        loop = take_ptr(raw);

        r = base_new(&loop->base);
        if (r < 0)
                return r;
        loop->wakeup_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (loop->wakeup_fd < 0)
                return -errno;
        loop->wakeup = event_new(loop->base, loop->wakeup_fd, EV_READ | EV_PERSIST, on_wakeup, loop);
        if (!loop->wakeup || event_add(loop->wakeup, NULL) < 0)
                return -ENOMEM;

        *ret = take_ptr(loop);
        return 0;
}

/* One round's worth; what is deferred meanwhile waits for the next. */
static bool deferred_run(struct loop *loop)
{
        struct defer end = { .queued = true }, *defer;
        bool any = false;

        if (TAILQ_EMPTY(&loop->deferred))
                return false;

        /* The end is marked in the queue itself: a call may deinit others, which then leave this same queue. */
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

struct loop *loop_free(struct loop *loop)
{
        struct signal_watch *watch;

        if (!loop)
                return NULL;

        /* Works whose lane was waited for, and what their ends have put off. */
        while (works_finish(loop) || deferred_run(loop))
                ;
        assert(loop->works == 0);
        assert(loop->lanes == 0);
        assert(loop->timers == 0);
        assert(loop->watches == 0);
        helpers_reap(loop, /* wait= */ true);

        while ((watch = SLIST_FIRST(&loop->signals))) {
                SLIST_REMOVE_HEAD(&loop->signals, link);
                event_free(watch->event);
                free(watch);
        }
        if (loop->wakeup)
                event_free(loop->wakeup);
        if (loop->wakeup_fd >= 0)
                (void)close(loop->wakeup_fd);
        if (loop->base)
                event_base_free(loop->base);
        (void)pthread_cond_destroy(&loop->lane_emptied);
        (void)pthread_mutex_destroy(&loop->lock);
        (void)pthread_attr_destroy(&loop->helper_attributes);
        free(loop);
        return NULL;
}

int loop_run(struct loop *loop)
{
        while (!loop->exiting) {
                (void)deferred_run(loop);
                if (loop->exiting)
                        break;
                if (event_base_loop(loop->base, EVLOOP_ONCE | (TAILQ_EMPTY(&loop->deferred) ? 0 : EVLOOP_NONBLOCK)) < 0)
                        return errno > 0 ? -errno : -EIO;
        }
        /* The loop can be run again. */
        loop->exiting = false;
        return loop->exit_code;
}

void loop_exit(struct loop *loop, int code)
{
        loop->exiting = true;
        loop->exit_code = code;
}

static uint64_t clock_read(clockid_t clock)
{
        struct timespec now;

        (void)clock_gettime(clock, &now);
        return (uint64_t)now.tv_sec * SEC + (uint64_t)now.tv_nsec / 1000;
}

uint64_t loop_now(struct loop *loop)
{
        return clock_read(CLOCK_MONOTONIC);
}

uint64_t loop_wall_clock(struct loop *loop)
{
        return clock_read(CLOCK_REALTIME);
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
        if (timer->event)
                event_free(timer->event);
        timer->loop->timers--;
        *timer = (struct timer){};
}

static void on_timer(evutil_socket_t fd, short events, void *userdata)
{
        struct timer *timer = userdata;

        timer->due = 0;
        timer->fn(timer->userdata);
}

/* event_new() and event_add() of a timer fail only without memory.  A deadline that never comes would be worse
 * than an end that systemd sees and mends. */
static void timer_must(bool done)
{
        if (!done) {
                log_error("No memory for a timer.");
                abort();
        }
}

void timer_set(struct timer *timer, uint64_t delay)
{
        struct timeval tv;

        delay = MIN(delay, DELAY_MAX);
        /* Most timers of an idle daemon were never set: they cost nothing until then. */
        if (!timer->event) {
                timer->event = event_new(timer->loop->base, -1, 0, on_timer, timer);
                timer_must(timer->event != NULL);
        }
        tv.tv_sec = (time_t)(delay / SEC);
        tv.tv_usec = (suseconds_t)(delay % SEC);
        timer_must(event_add(timer->event, &tv) == 0);
        timer->due = loop_now(timer->loop) + delay;
}

void timer_clear(struct timer *timer)
{
        if (timer->event)
                (void)event_del(timer->event);
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

void io_watch_deinit(struct io_watch *watch)
{
        if (!watch->loop)
                return;
        if (watch->event)
                event_free(watch->event);
        watch->loop->watches--;
        *watch = (struct io_watch){};
}

static void on_io(evutil_socket_t fd, short events, void *userdata)
{
        struct io_watch *watch = userdata;

        watch->fn(watch->userdata, ((events & EV_READ) ? IO_READ : 0U) | ((events & EV_WRITE) ? IO_WRITE : 0U));
}

int io_watch_set(struct io_watch *watch, unsigned interest)
{
        short events = (short)(EV_PERSIST | ((interest & IO_READ) ? EV_READ : 0) | ((interest & IO_WRITE) ? EV_WRITE : 0));

        if (interest == watch->interest)
                return 0;
        if (watch->event) {
                event_free(watch->event);
                watch->event = NULL;
                watch->interest = 0;
        }
        if (interest == 0)
                return 0;

        watch->event = event_new(watch->loop->base, watch->fd, events, on_io, watch);
        if (!watch->event)
                return -ENOMEM;
        errno = 0;
        if (event_add(watch->event, NULL) < 0) {
                int r = errno > 0 ? -errno : -EIO;

                event_free(watch->event);
                watch->event = NULL;
                return r;
        }
        watch->interest = interest;
        return 0;
}

/* --- signals --- */

static void on_signal(evutil_socket_t signo, short events, void *userdata)
{
        struct signal_watch *watch = userdata;

        watch->fn(watch->userdata);
}

int loop_on_signal(struct loop *loop, int signo, void (*fn)(void *userdata), void *userdata)
{
        _cleanup_free_ struct signal_watch *watch = NULL;

        watch = calloc(1, sizeof(*watch));
        if (!watch)
                return -ENOMEM;
        watch->fn = fn;
        watch->userdata = userdata;
        watch->event = evsignal_new(loop->base, signo, on_signal, watch);
        if (!watch->event)
                return -ENOMEM;
        errno = 0;
        if (event_add(watch->event, NULL) < 0) {
                int r = errno > 0 ? -errno : -EIO;

                event_free(watch->event);
                return r;
        }
        SLIST_INSERT_HEAD(&loop->signals, watch, link);
        watch = NULL;                   /* the loop's */
        return 0;
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
