/* SPDX-License-Identifier: MIT */
/*
 * Speed and time left, in virtual time.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "client/rate.h"
#include "core/rate.h"

#define MSEC UINT64_C(1000)
#define SEC (1000 * MSEC)
#define TOTAL UINT64_C(1333696)

/* What a person sees of it. */
static uint64_t seconds_left(const struct rate *rate, uint64_t now)
{
        return rate_seconds(rate_left(rate, now));
}

static void nothing_is_said_at_once(void **state)
{
        struct rate rate = { .end = 0 };

        rate_feed(&rate, 10 * SEC, "writing", 0, 0.05);
        assert_int_equal(rate_speed(&rate), 0);
        assert_int_equal(seconds_left(&rate, 10 * SEC), 0);
        rate_feed(&rate, 11 * SEC, "writing", 100000, 0.11);
        assert_int_equal(rate_speed(&rate), 0);
        assert_int_equal(seconds_left(&rate, 11 * SEC), 0);
        rate_feed(&rate, 12 * SEC, "writing", 200000, 0.17);
        assert_int_equal(rate_speed(&rate), 100000);
        assert_in_range(seconds_left(&rate, 12 * SEC), 12, 16);
}

static void what_stands_still_has_no_speed(void **state)
{
        struct rate rate = { .end = 0 };

        for (uint64_t t = 0; t < 20; t++)
                rate_feed(&rate, t * SEC, "waiting", 0, 0);
        assert_int_equal(rate_speed(&rate), 0);
        assert_int_equal(seconds_left(&rate, 20 * SEC), 0);
        for (uint64_t t = 20; t < 25; t++)
                rate_feed(&rate, t * SEC, "writing", t * 1000, (double)t / 100);
        assert_int_not_equal(rate_speed(&rate), 0);
        /* Pulled out. */
        rate_feed(&rate, 25 * SEC, "waiting", 0, 0);
        assert_int_equal(rate_speed(&rate), 0);
        assert_int_equal(seconds_left(&rate, 25 * SEC), 0);
}

/* As an M7 is written: 1.1 s of erasing, then a unit of 256 KiB in blocks; news ten times a second at most.  Then read back. */
static uint64_t feed_a_camera(struct rate *rate, void (*look)(struct rate *rate, uint64_t now, void *userdata), void *userdata)
{
        uint64_t now = 100 * SEC, bytes = 0;

        while (bytes < TOTAL) {
                if (bytes % 262144 == 0)
                        now += 1100 * MSEC;
                else
                        now += 100 * MSEC;
                /* To the next multiple of a unit in ten steps. */
                bytes += 26214;
                if (bytes % 262144 > 262144 - 26214)
                        bytes += 262144 - bytes % 262144;
                if (bytes > TOTAL)
                        bytes = TOTAL;
                rate_feed(rate, now, "writing", bytes, 0.05 + 0.83 * (double)bytes / (double)TOTAL);
                look(rate, now, userdata);
        }
        for (bytes = 0; bytes <= TOTAL; bytes += TOTAL / 16) {
                now += 90 * MSEC;
                rate_feed(rate, now, "verifying", bytes, 0.88 + 0.12 * (double)bytes / (double)TOTAL);
                look(rate, now, userdata);
        }
        return now;
}

struct seen {
        uint64_t end;                   /* 0: not known yet, in the first round */
        uint64_t last;
        unsigned looks, changes, rises;
};

static void look(struct rate *rate, uint64_t now, void *userdata)
{
        struct seen *seen = userdata;
        uint64_t left = seconds_left(rate, now);

        if (left == 0)
                return;
        seen->looks++;
        seen->changes += seen->last != left;
        seen->rises += seen->last != 0 && left > seen->last;
        seen->last = left;
        if (seen->end) {
                uint64_t really = (seen->end - now) / SEC;

                assert_in_range(left, really > 4 ? really - 4 : 1, really + 5);
        }
}

static void jerks_are_not_shown(void **state)
{
        struct rate first = { .end = 0 }, rate = { .end = 0 };
        struct seen seen = { .end = 0 };
        uint64_t end = feed_a_camera(&first, look, &seen);

        seen = (struct seen){ .end = end };
        (void)feed_a_camera(&rate, look, &seen);
        assert_in_range(seen.looks, 20, 200);
        /* It counts down, and no more than once a second. */
        assert_int_equal(seen.rises, 0);
        assert_in_range(seen.changes, 3, (end - 100 * SEC) / SEC + 1);
}

static void speed_is_that_of_the_step(void **state)
{
        struct rate rate = { .end = 0 };
        uint64_t now = 0;

        for (uint64_t b = 0; b < 40; b++)
                rate_feed(&rate, now += 100 * MSEC, "comparing", b * 100000, 0.05 * (double)b / 40);
        assert_in_range(rate_speed(&rate), 990000, 1010000);
        for (uint64_t b = 0; b < 40; b++)
                rate_feed(&rate, now += 100 * MSEC, "writing", b * 10000, 0.05 + 0.83 * (double)b / 400);
        assert_in_range(rate_speed(&rate), 99000, 101000);
}

static void begins_again_after_an_interruption(void **state)
{
        struct rate rate = { .end = 0 };

        for (uint64_t t = 1; t < 10; t++)
                rate_feed(&rate, t * SEC, "writing", t * 100000, 0.05 + 0.08 * (double)t);
        assert_int_not_equal(seconds_left(&rate, 10 * SEC), 0);
        rate_feed(&rate, 70 * SEC, "comparing", 0, 0);
        assert_int_equal(seconds_left(&rate, 70 * SEC), 0);
        assert_int_equal(rate_speed(&rate), 0);
}

static void odd_numbers_do_no_harm(void **state)
{
        static const double odd[] = { -1, 0, 2, 1e300, -1e300, __builtin_nan(""), __builtin_inf() };
        struct rate rate = { .end = 0 };
        char text[RATE_TEXT_SIZE];
        uint64_t now = 0;

        for (size_t i = 0; i < 100; i++) {
                now += i % 3 * SEC;
                rate_feed(&rate, now, i % 5 ? "writing" : "verifying", i % 2 ? UINT64_MAX : 0, odd[i % ELEMENTSOF(odd)]);
                (void)rate_speed_text(rate_speed(&rate), text);
                assert_true(strlen(text) < RATE_TEXT_SIZE);
                (void)rate_left_text(seconds_left(&rate, now), text);
                assert_true(strlen(text) < RATE_TEXT_SIZE);
        }
}

static void words(void **state)
{
        char text[RATE_TEXT_SIZE];

        assert_string_equal(rate_speed_text(0, text), "");
        assert_string_equal(rate_speed_text(105 * 1024, text), "105 KiB/s");
        assert_string_equal(rate_speed_text(3 * 1024 * 1024 + 512 * 1024, text), "3.5 MiB/s");
        assert_string_equal(rate_left_text(0, text), "");
        assert_string_equal(rate_left_text(12, text), "12 s");
        assert_string_equal(rate_left_text(120, text), "120 s");
        assert_string_equal(rate_left_text(150, text), "3 min");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_is_said_at_once),
                cmocka_unit_test(what_stands_still_has_no_speed),
                cmocka_unit_test(jerks_are_not_shown),
                cmocka_unit_test(speed_is_that_of_the_step),
                cmocka_unit_test(begins_again_after_an_interruption),
                cmocka_unit_test(odd_numbers_do_no_harm),
                cmocka_unit_test(words),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
