/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * How fast an update goes, and how long it will take: from its bytes and its
 * progress.  Flash is erased and written in jerks, so both are
 * taken over some seconds, and what is shown does not jump.  Pure: time is given.
 */

#include <stdint.h>

struct rate_point {
        uint64_t at;                    /* microseconds */
        uint64_t bytes;
        double progress;
};

struct rate {
        char step[16];
        struct rate_point begin;        /* of the window for the time left, over all steps */
        struct rate_point middle;
        struct rate_point step_begin, step_middle;      /* of the window for the speed: bytes count in each step anew */
        struct rate_point last;
        uint64_t end;                   /* when it will be done, as far as it is known; 0: not known */
        uint64_t shown_end;             /* the same, as it is told */
};

/* News of an update: the step's name, its bytes, 0..1 over all steps.  Nothing moves in steps like "waiting". */
void rate_feed(struct rate *rate, uint64_t now, const char *step, uint64_t bytes, double progress);
/* Bytes per second; 0: not known (yet). */
uint64_t rate_speed(const struct rate *rate);
/* Microseconds; counts down, and does not jump back and forth; 0: not known (yet). */
uint64_t rate_left(const struct rate *rate, uint64_t now);
