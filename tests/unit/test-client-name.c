/* SPDX-License-Identifier: MIT */
/*
 * Which camera a person means.  A wrong answer here writes to a wrong camera.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "client/name.h"

#define UID_A "344F3663330D5113001F002A"
#define UID_B "344F3663330D5113001F002B"

static const struct name_candidate two[] = {
        { "3-1.2", true, UID_A, UID_A, UID_A },
        { "3-10", true, UID_B, UID_B, "200364500000" },
};

static void assert_found(const char *name, const struct name_candidate *candidates, size_t n, size_t expected)
{
        size_t index = 99;

        assert_int_equal(name_find(name, candidates, n, &index), NAME_FOUND);
        assert_int_equal(index, expected);
}

static void assert_not_found(const char *name, const struct name_candidate *candidates, size_t n, enum name_match expected)
{
        size_t index = 99;

        assert_int_equal(name_find(name, candidates, n, &index), expected);
        assert_int_equal(index, 99);
}

static void ports_are_recognised(void **state)
{
        static const char *const ports[] = { "1-1", "3-1.2", "10-4.4.4", "0-0" };
        static const char *const others[] = { "", "1", "1-", "-1", "1-1.", "1-.1", "a-1", "1-1a", "1--1", "3-1.2 ", "P:3-1" };

        for (size_t i = 0; i < ELEMENTSOF(ports); i++)
                assert_true(name_is_port(ports[i]));
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                assert_false(name_is_port(others[i]));
}

static void found_by_port_and_by_whole_id(void **state)
{
        assert_found("3-1.2", two, 2, 0);
        assert_found("3-10", two, 2, 1);
        assert_found(UID_B, two, 2, 1);
        assert_found("344f3663330d5113001f002a", two, 2, 0);
        assert_found("200364500000", two, 2, 1);
}

static void found_by_label(void **state)
{
        static const struct name_candidate some[] = {
                { "3-1.2", true, UID_A, UID_A, UID_A, "Bench 7" },
                { "3-10", true, UID_B, UID_B, UID_B, "3-4" },
                { "3-4", true, "", "P:3-4", "200364500000", NULL },
                { "3-5", true, "", "P:3-5", "ABC", "bin" },
                { "3-6", true, "", "P:3-6", "bin", "" },
        };

        assert_found("bench 7", some, 5, 0);
        assert_found("be", some, 5, 0);
        /* What is called like a port is not at that port. */
        assert_found("3-4", some, 5, 2);
        assert_not_found("3-4", some, 2, NAME_NONE);
        /* One's label and another's serial: in doubt neither. */
        assert_not_found("bin", some, 5, NAME_AMBIGUOUS);
        assert_not_found("b", some, 5, NAME_AMBIGUOUS);
        assert_not_found("", some, 5, NAME_NONE);
}

static void found_by_unique_prefix(void **state)
{
        assert_found("2003", two, 2, 1);
        assert_found("3-1.", two, 2, 0);
        assert_not_found("344F", two, 2, NAME_AMBIGUOUS);
        assert_not_found("3", two, 2, NAME_AMBIGUOUS);
        assert_not_found("344G", two, 2, NAME_NONE);
}

static void a_port_is_never_the_beginning_of_another(void **state)
{
        assert_not_found("3-1", two, 2, NAME_NONE);
        assert_not_found("3-1.20", two, 2, NAME_NONE);
}

static void nothing_is_nobody(void **state)
{
        assert_not_found("", two, 2, NAME_NONE);
        assert_not_found("3-1.2", two, 0, NAME_NONE);
}

static void a_shared_serial_is_ambiguous(void **state)
{
        static const struct name_candidate shared[] = {
                { "1-1", true, "", "P:1-1", "200364500000" },
                { "1-2", true, "", "P:1-2", "200364500000" },
        };

        assert_not_found("200364500000", shared, 2, NAME_AMBIGUOUS);
        assert_found("1-2", shared, 2, 1);
        assert_found("P:1-1", shared, 2, 0);
}

static void who_is_there_goes_before_who_was(void **state)
{
        static const struct name_candidate moved[] = {
                { "1-1", false, UID_A, UID_A, UID_A },
                { "1-1", true, UID_B, UID_B, UID_B },
                { "1-2", false, "AAAA", "AAAA", "AAAA" },
                { "1-3", false, "BBBB", "BBBB", "BBBB" },
                { "1-3", false, "CCCC", "CCCC", "CCCC" },
        };

        assert_found("1-1", moved, 5, 1);
        assert_found("1-2", moved, 5, 2);
        assert_not_found("1-3", moved, 5, NAME_AMBIGUOUS);
}

static void a_whole_id_goes_before_a_longer_one(void **state)
{
        static const struct name_candidate nested[] = {
                { "1-1", true, "", "", "ABC" },
                { "1-2", true, "", "", "ABCDEF" },
        };

        assert_found("ABC", nested, 2, 0);
        assert_not_found("AB", nested, 2, NAME_AMBIGUOUS);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ports_are_recognised),
                cmocka_unit_test(found_by_port_and_by_whole_id),
                cmocka_unit_test(found_by_label),
                cmocka_unit_test(found_by_unique_prefix),
                cmocka_unit_test(a_port_is_never_the_beginning_of_another),
                cmocka_unit_test(nothing_is_nobody),
                cmocka_unit_test(a_shared_serial_is_ambiguous),
                cmocka_unit_test(who_is_there_goes_before_who_was),
                cmocka_unit_test(a_whole_id_goes_before_a_longer_one),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
