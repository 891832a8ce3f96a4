/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Which objects have changed, and when that is told: of each object at most ten times a
 * second, its last state always, and only a few objects at a time.
 *
 * It goes in rounds.  What has changed until a round begins is told in it; the next one
 * begins a tenth of a second after its end, or, if nothing happens, with the next change.
 */

#include "base/loop.h"
#include "edge/told.h"

#define NEWS_INTERVAL (100 * MSEC)      /* docs/dbus-api.md, "Changes" */

/* Tells it.  Not to add or withdraw anything. */
typedef void (*news_fn)(void *userdata, struct told *told);

struct news {
        struct timer timer;
        struct told_queue waiting;      /* for the next round */
        struct told_queue round;        /* what this one has still to tell */
        uint64_t round_ended;           /* loop_now(); 0: there was none */
        news_fn tell;
        void *userdata;
};

void news_init(struct news *news, struct loop *loop, news_fn tell, void *userdata);
/* Nothing may be waiting. */
void news_deinit(struct news *news);

/* It has changed; told must stay until it was told or withdrawn.  If it waits already nothing happens. */
void news_add(struct news *news, struct told *told);
/* It is not to be told any more; fine if it was not waiting. */
void news_withdraw(struct news *news, struct told *told);
/* Everything that waits is told now. */
void news_tell_all(struct news *news);

bool news_is_empty(const struct news *news);
/* Those that wait: the first, and the next; NULL: no more. */
struct told *news_first(const struct news *news);
struct told *news_next(const struct news *news, const struct told *told);
