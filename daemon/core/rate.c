/* SPDX-License-Identifier: MIT */
/*
 * Speed and time left.  Each is a difference over a window that slides in two
 * halves: between one and two times HALF long, and never empty.
 */

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/rate.h"

#define HALF (4 * UINT64_C(1000000))            /* an erase unit of 256 KiB takes up to 2 s */
#define SLACK (5 * UINT64_C(1000000))
#define LEAST (2 * UINT64_C(1000000))           /* nothing is said of less */

static bool is_moving(const char *step)
{
        static const char *const steps[] = { "comparing", "saving", "writing", "verifying" };

        for (size_t i = 0; i < ELEMENTSOF(steps); i++)
                if (strcmp(steps[i], step) == 0)
                        return true;
        return false;
}

static void slide(struct rate_point *begin, struct rate_point *middle, const struct rate_point *point)
{
        if (point->at - middle->at < HALF)
                return;
        *begin = *middle;
        *middle = *point;
}

/* When it will be done.  A new guess moves the old one by a part, so that one jerk does not show; and a little later than was said is
 * not worth saying. */
static void guess(struct rate *rate)
{
        const struct rate_point *last = &rate->last;
        double done = last->progress - rate->begin.progress, left;
        uint64_t passed = last->at - rate->begin.at, end;

        if (passed < LEAST || !(done > 0) || !(last->progress < 1))
                return;
        left = (1 - last->progress) / done * (double)passed;
        if (!(left <= 1e12))
                return;
        end = last->at + (uint64_t)left;
        if (rate->end == 0)
                rate->end = end;
        else
                rate->end = (uint64_t)((int64_t)rate->end + ((int64_t)end - (int64_t)rate->end) / 4);
        if (rate->shown_end == 0 || rate->end < rate->shown_end ||
            rate->end - rate->shown_end > SLACK + (uint64_t)left / 5)
                rate->shown_end = rate->end;
}

void rate_feed(struct rate *rate, uint64_t now, const char *step, uint64_t bytes, double progress)
{
        const struct rate_point point = { .at = now, .bytes = bytes, .progress = progress };

        if (!is_moving(step)) {
                *rate = (struct rate){ .end = 0 };
                return;
        }
        /* Begins, or begins again after an interruption. */
        if (!*rate->step || progress < rate->last.progress) {
                *rate = (struct rate){ .begin = point, .middle = point };
        }
        if (strcmp(rate->step, step) != 0 || bytes < rate->last.bytes) {
                (void)snprintf(rate->step, sizeof(rate->step), "%s", step);
                rate->step_begin = rate->step_middle = point;
        }
        /* Several properties of one moment come as several pieces of news; the guess is made of moments. */
        if (now == rate->last.at) {
                rate->last = point;
                return;
        }
        rate->last = point;
        slide(&rate->begin, &rate->middle, &point);
        slide(&rate->step_begin, &rate->step_middle, &point);
        guess(rate);
}

uint64_t rate_speed(const struct rate *rate)
{
        uint64_t passed = rate->last.at - rate->step_begin.at;

        if (passed < LEAST)
                return 0;
        return (rate->last.bytes - rate->step_begin.bytes) * UINT64_C(1000000) / passed;
}

uint64_t rate_left(const struct rate *rate, uint64_t now)
{
        if (rate->shown_end == 0)
                return 0;
        /* Late: it does not say 0 before the end. */
        return rate->shown_end > now ? rate->shown_end - now : 1;
}
