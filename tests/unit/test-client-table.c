/* SPDX-License-Identifier: MIT */
/*
 * Tables at every width, and what is drawn in place.
 */

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "client/progress.h"
#include "client/table.h"

static const char *const headings[] = { "PORT", "STATE", "DOING", "ADVICE", NULL };

static const char *const rows[][4] = {
        { "3-1.2", "running", "", "" },
        { "3-1.10", "stuck", "", "Remove the jumper between BOOT and RST, then plug the camera in again." },
};

static struct table *filled(void)
{
        struct table *table = table_new(headings);

        for (size_t r = 0; r < ELEMENTSOF(rows); r++) {
                assert_int_equal(table_row(table), 0);
                for (size_t c = 0; c < 4; c++)
                        assert_int_equal(table_cell(table, STYLE_PLAIN, rows[r][c]), 0);
        }
        return table;
}

static char *printed(struct table *table, const struct terminal *terminal)
{
        char *text = NULL;
        size_t size;
        FILE *f = open_memstream(&text, &size);

        assert_non_null(f);
        assert_int_equal(table_print(table, f, terminal), 0);
        assert_int_equal(fclose(f), 0);
        return text;
}

static void a_file_gets_one_line_per_row(void **state)
{
        const struct terminal file = { .utf8 = true, .columns = TEXT_UNLIMITED };
        _cleanup_(table_freep) struct table *table = filled();
        _cleanup_free_ char *text = printed(table, &file);

        assert_string_equal(text, "PORT    STATE    ADVICE\n"
                                  "3-1.2   running\n"
                                  "3-1.10  stuck    Remove the jumper between BOOT and RST, then plug the camera in again.\n");
}

static void a_wide_terminal_gets_advice_beside(void **state)
{
        const struct terminal wide = { .is_terminal = true, .utf8 = true, .columns = 60, .rows = 24 };
        _cleanup_(table_freep) struct table *table = filled();
        _cleanup_free_ char *text = printed(table, &wide);

        assert_string_equal(text, "PORT    STATE    ADVICE\n"
                                  "3-1.2   running\n"
                                  "3-1.10  stuck    Remove the jumper between BOOT and RST,\n"
                                  "                 then plug the camera in again.\n");
}

static void a_narrow_terminal_gets_advice_below(void **state)
{
        const struct terminal narrow = { .is_terminal = true, .utf8 = true, .columns = 40, .rows = 24 };
        _cleanup_(table_freep) struct table *table = filled();
        _cleanup_free_ char *text = printed(table, &narrow);

        assert_string_equal(text, "PORT    STATE\n"
                                  "3-1.2   running\n"
                                  "3-1.10  stuck\n"
                                  "    Remove the jumper between BOOT and\n"
                                  "    RST, then plug the camera in again.\n");
}

static void no_line_is_wider_than_the_terminal(void **state)
{
        for (unsigned columns = 16; columns < 140; columns++) {
                const struct terminal terminal = { .is_terminal = true, .utf8 = true, .columns = columns, .rows = 24 };
                _cleanup_(table_freep) struct table *table = filled();
                _cleanup_free_ char *text = printed(table, &terminal);

                for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
                        if (text_width(line) > columns)
                                fail_msg("at %u columns: \"%s\"", columns, line);
        }
}

static void cells_cannot_move_the_cursor(void **state)
{
        const struct terminal file = { .utf8 = true, .columns = TEXT_UNLIMITED };
        static const char *const two[] = { "A", "B", NULL };
        _cleanup_(table_freep) struct table *table = table_new(two);
        _cleanup_free_ char *text = NULL;

        assert_int_equal(table_row(table), 0);
        assert_int_equal(table_cell(table, STYLE_PLAIN, "x\033[2J\ny"), 0);
        assert_int_equal(table_cell(table, STYLE_PLAIN, "z"), 0);
        text = printed(table, &file);
        assert_string_equal(text, "A        B\nx?[2J y  z\n");
}

static void bar(double fraction, const char *expected)
{
        char buffer[3 * 10 + 3];

        progress_bar(buffer, sizeof(buffer), fraction, 10, /* utf8= */ false);
        assert_string_equal(buffer, expected);
}

static void bars(void **state)
{
        char buffer[3 * 4 + 3];

        bar(0, "----------");
        bar(0.5, "#####-----");
        /* not full before it is */
        bar(0.999, "#########-");
        bar(1, "##########");
        bar(-3, "----------");
        bar(7, "##########");
        bar(NAN, "----------");
        bar(INFINITY, "##########");
        progress_bar(buffer, sizeof(buffer), 0.5, 4, /* utf8= */ true);
        assert_string_equal(buffer, "██░░");
}

static char *drawn(struct live *live, const char *const *lines, size_t n)
{
        char *text = NULL;
        size_t size;

        live->to = open_memstream(&text, &size);
        live_draw(live, lines, n);
        assert_int_equal(fclose(live->to), 0);
        return text;
}

static void lines_are_redrawn_in_place(void **state)
{
        static const char *const lines[] = { "one", "two", "three", "four" };
        struct terminal terminal = { .is_terminal = true, .columns = 80, .rows = 4 };
        struct live live = { .terminal = &terminal, .begun = true };
        _cleanup_free_ char *first = drawn(&live, lines, 2), *second = drawn(&live, lines, 1), *third = drawn(&live, lines, 4);

        assert_string_equal(first, "\rone\033[K\n\rtwo\033[K\n\033[J");
        assert_string_equal(second, "\033[2A\rone\033[K\n\033[J");
        /* four lines and the cursor's do not fit four rows */
        assert_string_equal(third, "\033[1A\rone\033[K\n\rtwo\033[K\n\r... and 2 more\033[K\n\033[J");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_file_gets_one_line_per_row),
                cmocka_unit_test(a_wide_terminal_gets_advice_beside),
                cmocka_unit_test(a_narrow_terminal_gets_advice_below),
                cmocka_unit_test(no_line_is_wider_than_the_terminal),
                cmocka_unit_test(cells_cannot_move_the_cursor),
                cmocka_unit_test(bars),
                cmocka_unit_test(lines_are_redrawn_in_place),
        };

        (void)setlocale(LC_CTYPE, "C.UTF-8");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
