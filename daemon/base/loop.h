/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The event loop: time, timers, file descriptors, signals, deferred calls and
 * helper threads.  This header knows no libevent; loop.c is the only file of
 * the daemon that does.  Unit tests link tests/unit/loop-virtual.c in its
 * place: the same functions on a clock that jumps to the next timer, so that a
 * ten-second deadline costs nothing and no test sleeps.
 *
 * Everything here belongs to the thread that runs the loop, but the function
 * given to loop_work(), which runs on a helper thread of its own.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#define MSEC UINT64_C(1000)             /* all times are microseconds */
#define SEC  UINT64_C(1000000)

struct loop;
struct event;

int loop_new(struct loop **ret);
/* Asserts that no timer, watch or work of the loop is left.  NULL is fine; returns NULL. */
struct loop *loop_free(struct loop *loop);
/* Runs until loop_exit(); returns the code given there, or a negative errno. */
int loop_run(struct loop *loop);
void loop_exit(struct loop *loop, int code);
/* CLOCK_MONOTONIC, read now (not cached per round): the hot path is timed with it. */
uint64_t loop_now(struct loop *loop);
/* CLOCK_REALTIME in microseconds since 1970, for what a person reads. */
uint64_t loop_wall_clock(struct loop *loop);

/* --- timers: one shot, embedded in their owner --- */

typedef void (*timer_fn)(void *userdata);

struct timer {
        struct loop *loop;
        timer_fn fn;
        void *userdata;
        struct event *event;            /* loop.c's */
        uint64_t due;                   /* 0: not set */
        LIST_ENTRY(timer) link;         /* the virtual loop's */
};

void timer_init(struct timer *timer, struct loop *loop, timer_fn fn, void *userdata);
/* Stops it and lets go; safe on a zeroed struct and inside its own callback. */
void timer_deinit(struct timer *timer);
/* (Re)arms: fn is called once, delay microseconds from now (0: next round). */
void timer_set(struct timer *timer, uint64_t delay);
void timer_clear(struct timer *timer);
bool timer_is_set(const struct timer *timer);

/* --- file descriptors (level triggered) --- */

enum {
        IO_READ  = 1 << 0,
        IO_WRITE = 1 << 1,
};

typedef void (*io_fn)(void *userdata, unsigned events);

struct io_watch {
        struct loop *loop;
        io_fn fn;
        void *userdata;
        int fd;
        unsigned interest;
        struct event *event;
};

void io_watch_init(struct io_watch *watch, struct loop *loop, int fd, io_fn fn, void *userdata);
/* Must be called before the fd is closed.  Does not close it. */
void io_watch_deinit(struct io_watch *watch);
/* 0 stops watching.  POLLERR and POLLHUP are reported as whatever is in interest. */
int io_watch_set(struct io_watch *watch, unsigned interest);

/* --- signals --- */

int loop_on_signal(struct loop *loop, int signo, void (*fn)(void *userdata), void *userdata);

/* --- deferred calls: "nothing dies under its own callback" ---
 * fn is called once at the top of the next round.  The embedded struct keeps
 * calls in order of loop_defer().  Deferring twice is one call. */

typedef void (*defer_fn)(void *userdata);

struct defer {
        struct loop *loop;
        defer_fn fn;
        void *userdata;
        bool queued;
        TAILQ_ENTRY(defer) link;
};

void defer_init(struct defer *defer, struct loop *loop, defer_fn fn, void *userdata);
void defer_deinit(struct defer *defer);
void defer_call(struct defer *defer);

/* --- helper threads ---
 * run(data) on a thread that lives for this call only, then done(data) on the
 * loop.  An idle daemon has one thread.  lane: works of one lane run one after
 * the other, in order (the database); NULL: at once, each on its own thread (a
 * device that NAKs for ever must not delay another).  There is no cancel: who
 * is no longer interested says so in data, and done() frees it.
 * Returns a negative errno when no thread could be had; done is then not called.
 * The virtual loop runs run() at once and done() in the next round. */

typedef void (*work_fn)(void *data);

struct lane;
int lane_new(struct loop *loop, struct lane **ret);
/* Waits for what is queued (done() of those are still called by the loop, or by loop_free()). */
struct lane *lane_free(struct lane *lane);

int loop_work(struct loop *loop, struct lane *lane, work_fn run, work_fn done, void *data);
/* Number of works begun and not yet done; a clean stop waits for 0. */
unsigned loop_pending_work(struct loop *loop);
