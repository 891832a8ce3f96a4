/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The loop of base/loop.h in virtual time, and the verbs by which a test drives
 * it.  Time stands still while anything can be done at the present moment, and
 * then jumps to the next timer (or work whose end was put off).  What happens
 * at one moment happens in the order in which it was asked for, so a test that
 * fails once fails always.
 *
 * File descriptors are real but polled without waiting: use them between two
 * ends that both live in the test.  loop_run() with nothing left to wait for
 * gives -EDEADLK instead of hanging.  Signals come from loop_raise().
 */

#include "base/loop.h"

/* The monotonic clock begins at one hour, the wall clock at 2024-01-01 00:00 UTC. */
#define LOOP_VIRTUAL_START (UINT64_C(3600) * SEC)
#define LOOP_VIRTUAL_WALL_START (UINT64_C(1704067200) * SEC)

/* Runs until predicate(userdata) is true (asked before the first round and after each), or until deadline_us
 * of virtual time have passed, or loop_exit() was called.  Returns what the predicate says at last.  When nothing can happen any more the
 * clock goes to the deadline.  A NULL predicate is never true. */
bool loop_run_until(struct loop *loop, bool (*predicate)(void *userdata), void *userdata, uint64_t deadline_us);

/* Lets time pass: everything due within us microseconds from now happens, each at its own time; 0: what can happen now. */
void loop_advance(struct loop *loop, uint64_t us);

/* What runs just now takes so long: time passes, and nothing else happens meanwhile. */
void loop_spend(struct loop *loop, uint64_t us);

/* The handlers of signo run in the next round. */
void loop_raise(struct loop *loop, int signo);

/* Sets the wall clock, forwards or backwards; the monotonic one does not notice. */
void loop_set_wall_clock(struct loop *loop, uint64_t us);

/* From now on done() of a new work comes so much later (a slow disk, a device that NAKs); 0: in the next round. */
void loop_set_work_delay(struct loop *loop, uint64_t us);

/* The next count calls of loop_work() give error (say -EAGAIN: no thread could be had). */
void loop_fail_work(struct loop *loop, int error, unsigned count);

/* When the next timer or delayed work is due; 0: there is none. */
uint64_t loop_next_due(struct loop *loop);
