/* SPDX-License-Identifier: MIT */
/*
 * Strings from outside made fit for a terminal.
 */

#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "client/text.h"

static void assert_clean(const char *from, bool utf8, const char *expected)
{
        _cleanup_free_ char *clean = text_clean(from, utf8);

        assert_string_equal(clean, expected);
}

static void nothing_moves_the_cursor(void **state)
{
        assert_clean("\033[2Jgone\007", true, "?[2Jgone?");
        assert_clean("a\nb\tc\rd", true, "a b c d");
        assert_clean("\x7f", true, "?");
        /* C1 controls, as UTF-8: CSI is one of them */
        assert_clean("\xc2\x9b" "31m", true, "?31m");
        /* right-to-left override, zero width space, byte order mark */
        assert_clean("a\u202e\u200b\ufeffb", true, "a???b");
}

static void what_is_not_utf8_is_marked(void **state)
{
        assert_clean("\xff\xfe", true, "??");
        assert_clean("\xc3", true, "?");
        /* overlong, surrogate, beyond the last character */
        assert_clean("\xc0\xaf", true, "??");
        assert_clean("\xed\xa0\x80", true, "???");
        assert_clean("\xf4\x90\x80\x80", true, "????");
        assert_clean("Kamera für Ärzte", true, "Kamera für Ärzte");
        assert_clean("für", false, "f?r");
}

static void valid_keeps_control_characters(void **state)
{
        _cleanup_free_ char *valid = text_valid("a\n\xff\xc3\xbc\033");

        assert_string_equal(valid, "a\n?\xc3\xbc\033");
}

static void width_counts_columns(void **state)
{
        assert_int_equal(text_width(""), 0);
        assert_int_equal(text_width("abc"), 3);
        assert_int_equal(text_width("für"), 3);
        assert_int_equal(text_width("カメラ"), 6);
        assert_int_equal(text_prefix("カメラ", 3), 3);
        assert_int_equal(text_prefix("abc", 2), 2);
        assert_int_equal(text_prefix("abc", 9), 3);
}

static void assert_cut(const char *from, size_t width, bool utf8, const char *expected)
{
        _cleanup_free_ char *cut = text_cut(from, width, utf8);

        assert_string_equal(cut, expected);
        assert_true(text_width(cut) <= width);
}

static void what_is_cut_shows_it(void **state)
{
        assert_cut("camera", 6, true, "camera");
        assert_cut("camera", 5, true, "came…");
        assert_cut("camera", 5, false, "came~");
        assert_cut("a camera", 3, true, "a…");
        assert_cut("camera", 1, true, "…");
        assert_cut("camera", 0, true, "");
        assert_cut("カメラ", 4, true, "カ…");
}

static void lines_are_broken_at_spaces(void **state)
{
        size_t next, n;

        n = text_line("remove the jumper", 10, &next);
        assert_int_equal(n, 10);
        assert_int_equal(next, 11);
        n = text_line("remove the jumper", 9, &next);
        assert_int_equal(n, 6);
        assert_int_equal(next, 7);
        n = text_line("jumper", 80, &next);
        assert_int_equal(n, 6);
        assert_int_equal(next, 6);
        n = text_line("/a/very/long/path", 5, &next);
        assert_int_equal(n, 5);
        assert_int_equal(next, 5);
}

/* Every text of two letters and a space comes to an end at every width, and loses no letter. */
static void wrapping_ends_and_loses_nothing(void **state)
{
        for (unsigned pattern = 0; pattern < 6561; pattern++) {
                char text[9] = "", joined[9] = "", squeezed[9] = "";
                unsigned rest = pattern;

                for (size_t i = 0; i < 8; i++, rest /= 3)
                        text[i] = "a b"[rest % 3];
                for (size_t i = 0, j = 0; text[i]; i++)
                        if (text[i] != ' ')
                                squeezed[j++] = text[i];
                for (size_t width = 0; width < 10; width++) {
                        const char *at = text;
                        size_t j = 0, lines = 0;

                        memset(joined, 0, sizeof(joined));
                        while (*at) {
                                size_t next, n = text_line(at, width, &next);

                                assert_true(next > 0 && ++lines <= 8);
                                assert_true(width == 0 || n <= width);
                                for (size_t i = 0; i < n; i++)
                                        if (at[i] != ' ')
                                                joined[j++] = at[i];
                                at += next;
                        }
                        assert_string_equal(joined, squeezed);
                }
        }
}

static void numbers_within_are_numbers(void **state)
{
        assert_true(text_compare_natural("3-2", "3-10") < 0);
        assert_true(text_compare_natural("3-1.2", "3-1.10") < 0);
        assert_true(text_compare_natural("3-1", "3-1.1") < 0);
        assert_true(text_compare_natural("10-1", "9-1") > 0);
        assert_int_equal(text_compare_natural("3-1", "3-1"), 0);
        assert_true(text_compare_natural("5.0.0", "4.8.1") > 0);
        assert_true(text_compare_natural("a", "") > 0);
        assert_int_equal(text_compare_natural("01", "1"), 0);
}

static void no_colour_without_a_terminal(void **state)
{
        const struct terminal plain = { .is_terminal = false }, coloured = { .is_terminal = true, .colour = true };

        assert_string_equal(style_on(&plain, STYLE_BAD), "");
        assert_string_equal(style_off(&plain, STYLE_BAD), "");
        assert_string_not_equal(style_on(&coloured, STYLE_BAD), "");
        assert_string_not_equal(style_off(&coloured, STYLE_BAD), "");
        assert_string_equal(style_off(&coloured, STYLE_PLAIN), "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(nothing_moves_the_cursor),
                cmocka_unit_test(what_is_not_utf8_is_marked),
                cmocka_unit_test(valid_keeps_control_characters),
                cmocka_unit_test(width_counts_columns),
                cmocka_unit_test(what_is_cut_shows_it),
                cmocka_unit_test(lines_are_broken_at_spaces),
                cmocka_unit_test(wrapping_ends_and_loses_nothing),
                cmocka_unit_test(numbers_within_are_numbers),
                cmocka_unit_test(no_colour_without_a_terminal),
        };

        /* Widths of characters are the locale's; this one is in every glibc. */
        (void)setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
