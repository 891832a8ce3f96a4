/* SPDX-License-Identifier: MIT */
/* What follows a failure: every kind, every count. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "core/retry.h"

static void names_go_both_ways(void **state)
{
        (void)state;
        for (int f = 0; f < _FAILURE_MAX; f++)
                assert_int_equal(failure_from_string(failure_to_string((enum failure)f)), f);
}

static void every_outcome_has_a_failure_and_a_sentence(void **state)
{
        (void)state;
        for (int o = 0; o < _MACHINE_OUTCOME_MAX; o++) {
                assert_in_range(failure_of_outcome((enum machine_outcome)o), 0, _FAILURE_MAX - 1);
                assert_non_null(machine_outcome_text((enum machine_outcome)o));
        }
        assert_int_equal(failure_of_outcome(MACHINE_GONE), FAILURE_LEFT);
        assert_int_equal(failure_of_outcome(MACHINE_TIMEOUT), FAILURE_LINK);
        assert_int_equal(failure_of_outcome(MACHINE_BUSY_FOREVER), FAILURE_LINK);
        assert_int_equal(failure_of_outcome(MACHINE_WRITE_REFUSED), FAILURE_DEVICE);
        assert_int_equal(failure_of_outcome(MACHINE_OK), FAILURE_HERE);
}

/* One line per failure: what follows the first, second, third and fourth in a row. */
static void what_follows_depends_on_what_failed(void **state)
{
        static const struct {
                enum failure failure;
                struct retry follows[4];
        } rows[] = {
                { FAILURE_LINK,   { { RETRY_AFTER, 1 * SEC }, { RETRY_AFTER, 2 * SEC }, { RETRY_WHEN_BACK, 0 }, { RETRY_WHEN_BACK, 0 } } },
                { FAILURE_DEVICE, { { RETRY_AFTER, 1 * SEC }, { RETRY_AFTER, 2 * SEC }, { RETRY_NEVER, 0 }, { RETRY_NEVER, 0 } } },
                { FAILURE_LEFT,   { { RETRY_AFTER, 1 * SEC }, { RETRY_AFTER, 2 * SEC }, { RETRY_WHEN_BACK, 0 }, { RETRY_WHEN_BACK, 0 } } },
                { FAILURE_STATE_DIRECTORY,
                  { { RETRY_AFTER, 2 * SEC }, { RETRY_AFTER, 4 * SEC }, { RETRY_AFTER, 8 * SEC }, { RETRY_AFTER, 16 * SEC } } },
                { FAILURE_HERE,   { { RETRY_AFTER, 2 * SEC }, { RETRY_AFTER, 4 * SEC }, { RETRY_NEVER, 0 }, { RETRY_NEVER, 0 } } },
        };

        (void)state;
        assert_int_equal(ELEMENTSOF(rows), _FAILURE_MAX);
        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (unsigned n = 1; n <= 4; n++) {
                        struct retry retry = retry_after(rows[i].failure, n, 1);

                        assert_int_equal(retry.kind, rows[i].follows[n - 1].kind);
                        assert_int_equal(retry.delay, rows[i].follows[n - 1].delay);
                }
}

/* A hub that browns out at each erase, a cable that breaks each time: not for ever. */
static void nothing_that_stands_still_is_tried_for_ever(void **state)
{
        (void)state;
        for (int f = 0; f < _FAILURE_MAX; f++)
                for (unsigned in_a_row = 0; in_a_row < 5; in_a_row++)
                        if (failure_counts((enum failure)f))
                                assert_int_equal(retry_after((enum failure)f, in_a_row, RETRY_STUCK_MAX).kind, RETRY_NEVER);
        assert_int_equal(retry_after(FAILURE_LEFT, 0, RETRY_STUCK_MAX - 1).kind, RETRY_AFTER);
}

/* Space on a disk is made by somebody else, sooner or later: asked for each minute, at last. */
static void a_full_disk_ends_nothing(void **state)
{
        (void)state;
        assert_false(failure_counts(FAILURE_STATE_DIRECTORY));
        for (unsigned n = 1; n < 1000; n++) {
                struct retry retry = retry_after(FAILURE_STATE_DIRECTORY, n, n);

                assert_int_equal(retry.kind, RETRY_AFTER);
                assert_in_range(retry.delay, 1 * SEC, 60 * SEC);
                if (n > 10)
                        assert_int_equal(retry.delay, 60 * SEC);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(names_go_both_ways),
                cmocka_unit_test(every_outcome_has_a_failure_and_a_sentence),
                cmocka_unit_test(what_follows_depends_on_what_failed),
                cmocka_unit_test(nothing_that_stands_still_is_tried_for_ever),
                cmocka_unit_test(a_full_disk_ends_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
