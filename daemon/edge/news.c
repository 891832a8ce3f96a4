/* SPDX-License-Identifier: MIT */
/* See news.h. */

#include <assert.h>

#include "edge/news.h"

#define NEWS_AT_ONCE 4                  /* objects; then the loop looks whether there is something that cannot wait: a camera has a second and a half */

static void remove_from_queue(struct told *told)
{
        TAILQ_REMOVE(told->queue, told, waiting);
        told->queue = NULL;
}

static void begin_round(struct news *news)
{
        struct told *told;

        TAILQ_FOREACH(told, &news->waiting, waiting)
                told->queue = &news->round;
        TAILQ_CONCAT(&news->round, &news->waiting, waiting);
}

static void tell_later(struct news *news)
{
        uint64_t now = loop_now(news->timer.loop), next = news->round_ended + NEWS_INTERVAL;

        if (!TAILQ_EMPTY(&news->round))
                timer_set(&news->timer, 0);
        else if (!TAILQ_EMPTY(&news->waiting))
                timer_set(&news->timer, next > now ? next - now : 0);
}

static void on_timer(void *userdata)
{
        struct news *news = userdata;
        struct told *told;
        unsigned n = 0;

        if (TAILQ_EMPTY(&news->round))
                begin_round(news);
        while (n++ < NEWS_AT_ONCE && (told = TAILQ_FIRST(&news->round))) {
                remove_from_queue(told);
                news->tell(news->userdata, told);
        }
        /* From its end on: who was told last in this round may be the first in the next. */
        news->round_ended = loop_now(news->timer.loop);
        tell_later(news);
}

void news_init(struct news *news, struct loop *loop, news_fn tell, void *userdata)
{
        *news = (struct news){ .tell = tell, .userdata = userdata };
        TAILQ_INIT(&news->waiting);
        TAILQ_INIT(&news->round);
        timer_init(&news->timer, loop, on_timer, news);
}

void news_deinit(struct news *news)
{
        assert(news_is_empty(news));
        timer_deinit(&news->timer);
}

void news_add(struct news *news, struct told *told)
{
        if (told->queue)
                return;
        told->queue = &news->waiting;
        TAILQ_INSERT_TAIL(&news->waiting, told, waiting);
        if (!timer_is_set(&news->timer))
                tell_later(news);
}

void news_withdraw(struct news *news, struct told *told)
{
        if (told->queue)
                remove_from_queue(told);
}

void news_tell_all(struct news *news)
{
        while (!news_is_empty(news))
                on_timer(news);
}

bool news_is_empty(const struct news *news)
{
        return !news_first(news);
}

struct told *news_first(const struct news *news)
{
        return TAILQ_EMPTY(&news->round) ? TAILQ_FIRST(&news->waiting) : TAILQ_FIRST(&news->round);
}

struct told *news_next(const struct news *news, const struct told *told)
{
        struct told *next = TAILQ_NEXT(told, waiting);

        return next || told->queue == &news->waiting ? next : TAILQ_FIRST(&news->waiting);
}
