/* SPDX-License-Identifier: MIT */
/* When it is told that objects have changed, in virtual time. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "edge/news.h"
#include "loop-virtual.h"

#define N_THINGS 50
#define N_TOLD   200

struct thing {
        struct told told;
        uint64_t at[N_TOLD];            /* when it was told */
        size_t n;
};

struct fixture {
        struct loop *loop;
        struct news news;
        struct thing things[N_THINGS];
        uint64_t takes;                 /* to tell one object */
        struct timer change;
        size_t last_in_front;           /* in changes: the order in which they are added turns round with each */
};

static void tell(void *userdata, struct told *told)
{
        struct fixture *f = userdata;
        struct thing *thing = container_of(told, struct thing, told);

        assert_true(thing->n < N_TOLD);
        thing->at[thing->n++] = loop_now(f->loop);
        loop_spend(f->loop, f->takes);
}

/* Each millisecond, all of them. */
static void on_change(void *userdata)
{
        struct fixture *f = userdata;

        for (size_t i = 0; i < N_THINGS; i++)
                news_add(&f->news, &f->things[(f->last_in_front & 1) ? N_THINGS - 1 - i : i].told);
        f->last_in_front++;
        timer_set(&f->change, 1 * MSEC);
}

static int set_up(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        assert_int_equal(loop_new(&f->loop), 0);
        news_init(&f->news, f->loop, tell, f);
        timer_init(&f->change, f->loop, on_change, f);
        *state = f;
        return 0;
}

static int tear_down(void **state)
{
        struct fixture *f = *state;

        timer_deinit(&f->change);
        news_tell_all(&f->news);
        news_deinit(&f->news);
        (void)loop_free(f->loop);
        free(f);
        return 0;
}

/* In no second, wherever it begins, is one of them told more than ten times. */
static void assert_ten_a_second(const struct fixture *f)
{
        for (size_t i = 0; i < N_THINGS; i++)
                for (size_t k = 10; k < f->things[i].n; k++)
                        assert_true(f->things[i].at[k] - f->things[i].at[k - 10] >= SEC);
}

static void the_first_change_is_told_at_once(void **state)
{
        struct fixture *f = *state;

        loop_advance(f->loop, 5 * SEC);
        news_add(&f->news, &f->things[0].told);
        news_add(&f->news, &f->things[0].told);
        loop_advance(f->loop, 0);
        assert_int_equal(f->things[0].n, 1);
        assert_true(f->things[0].at[0] == loop_now(f->loop));
        loop_advance(f->loop, 5 * SEC);
        assert_int_equal(f->things[0].n, 1);
        assert_int_equal(loop_next_due(f->loop), 0);
}

static void the_next_one_a_tenth_of_a_second_later(void **state)
{
        struct fixture *f = *state;

        news_add(&f->news, &f->things[0].told);
        loop_advance(f->loop, 30 * MSEC);
        news_add(&f->news, &f->things[0].told);
        loop_advance(f->loop, 5 * SEC);
        assert_int_equal(f->things[0].n, 2);
        assert_true(f->things[0].at[1] == f->things[0].at[0] + 100 * MSEC);
}

static void what_changes_all_the_time_is_told_ten_times_a_second(void **state)
{
        struct fixture *f = *state;

        on_change(f);
        loop_advance(f->loop, 10 * SEC);
        assert_ten_a_second(f);
        for (size_t i = 0; i < N_THINGS; i++)
                assert_true(f->things[i].n >= 99);
}

/* Who is told last in one round and first in the next. */
static void and_never_more_often_however_long_it_takes(void **state)
{
        static const uint64_t takes[] = { 50, 300, 1 * MSEC, 10 * MSEC };

        for (size_t k = 0; k < ELEMENTSOF(takes); k++) {
                struct fixture *f;

                assert_int_equal(set_up((void **)&f), 0);
                f->takes = takes[k];
                on_change(f);
                loop_advance(f->loop, 10 * SEC);
                assert_ten_a_second(f);
                for (size_t i = 0; i < N_THINGS; i++)
                        assert_true(f->things[i].n >= 10 * SEC / (110 * MSEC + N_THINGS * takes[k]));
                assert_int_equal(tear_down((void **)&f), 0);
        }
}

struct camera {
        struct fixture *f;
        struct defer defer;
        size_t most;                    /* of them had been told when it was asked again */
        size_t told;
};

static void on_camera(void *userdata)
{
        struct camera *camera = userdata;
        size_t told = 0;

        for (size_t i = 0; i < N_THINGS; i++)
                told += camera->f->things[i].n;
        camera->most = MAX(camera->most, told - camera->told);
        camera->told = told;
        if (told < N_THINGS)
                defer_call(&camera->defer);
}

static void nobody_waits_for_all_of_them(void **state)
{
        struct fixture *f = *state;
        struct camera camera = { .f = f };

        defer_init(&camera.defer, f->loop, on_camera, &camera);
        for (size_t i = 0; i < N_THINGS; i++)
                news_add(&f->news, &f->things[i].told);
        defer_call(&camera.defer);
        loop_advance(f->loop, 0);
        assert_int_equal(camera.told, N_THINGS);
        assert_true(camera.most <= 4);
        defer_deinit(&camera.defer);
}

/* One by one while they are told: each in its queue, and in the end nothing is left. */
static void what_is_gone_is_not_told(void **state)
{
        struct fixture *f = *state;
        struct told *told;
        size_t n = 0;

        for (size_t i = 0; i < N_THINGS; i++)
                news_add(&f->news, &f->things[i].told);
        loop_run_until(f->loop, NULL, NULL, 0);
        for (size_t i = 0; i < N_THINGS; i++)
                news_add(&f->news, &f->things[i].told);
        for (told = news_first(&f->news); told; told = news_next(&f->news, told))
                n++;
        assert_int_equal(n, N_THINGS);
        for (size_t i = 0; i < N_THINGS; i += 2)
                news_withdraw(&f->news, &f->things[i].told);
        news_withdraw(&f->news, &f->things[0].told);
        loop_advance(f->loop, 5 * SEC);
        for (size_t i = 0; i < N_THINGS; i++)
                assert_int_equal(f->things[i].n, i % 2 ? 2 : 1);
        assert_true(news_is_empty(&f->news));

        news_add(&f->news, &f->things[7].told);
        news_withdraw(&f->news, &f->things[7].told);
        loop_advance(f->loop, 5 * SEC);
        assert_int_equal(f->things[7].n, 2);
        news_add(&f->news, &f->things[7].told);
        loop_advance(f->loop, 5 * SEC);
        assert_int_equal(f->things[7].n, 3);
}

/* In the middle of a round that has told some, while others have begun to wait for the next. */
static bool some_are_told(void *userdata)
{
        const struct fixture *f = userdata;

        return f->things[0].n > 0;
}

static void all_that_waits_can_be_told_at_once(void **state)
{
        struct fixture *f = *state;
        size_t n = 0;

        for (size_t i = 0; i < N_THINGS; i++)
                news_add(&f->news, &f->things[i].told);
        assert_true(loop_run_until(f->loop, some_are_told, f, SEC));
        assert_int_equal(f->things[N_THINGS - 1].n, 0);
        news_add(&f->news, &f->things[0].told);
        for (struct told *told = news_first(&f->news); told; told = news_next(&f->news, told))
                n++;
        assert_int_equal(n, N_THINGS - 4 + 1);
        news_withdraw(&f->news, &f->things[N_THINGS - 1].told);
        news_tell_all(&f->news);
        assert_true(news_is_empty(&f->news));
        assert_int_equal(f->things[0].n, 2);
        assert_int_equal(f->things[1].n, 1);
        assert_int_equal(f->things[N_THINGS - 2].n, 1);
        assert_int_equal(f->things[N_THINGS - 1].n, 0);
}

#define test(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                test(the_first_change_is_told_at_once),
                test(the_next_one_a_tenth_of_a_second_later),
                test(what_changes_all_the_time_is_told_ten_times_a_second),
                cmocka_unit_test(and_never_more_often_however_long_it_takes),
                test(nobody_waits_for_all_of_them),
                test(what_is_gone_is_not_told),
                test(all_that_waits_can_be_told_at_once),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
