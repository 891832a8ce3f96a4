/* SPDX-License-Identifier: MIT */

/*
 * Key files: every line is read on its own, and a wrong one is named by its
 * number and costs nothing else.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/key-file.h"

static void expect_section(struct key_file *file, unsigned line, const char *section, const char *argument)
{
        assert_int_equal(key_file_next(file), KEY_ITEM_SECTION);
        assert_int_equal(file->line, line);
        assert_string_equal(file->section, section);
        assert_string_equal(file->argument, argument);
}

static void expect_pair(struct key_file *file, unsigned line, const char *key, const char *value)
{
        assert_int_equal(key_file_next(file), KEY_ITEM_VALUE);
        assert_int_equal(file->line, line);
        assert_string_equal(file->key, key);
        assert_string_equal(file->value, value);
}

static void expect_wrong(struct key_file *file, unsigned line)
{
        assert_int_equal(key_file_next(file), KEY_ITEM_WRONG);
        assert_int_equal(file->line, line);
        assert_non_null(file->fault);
}

static void test_lines(void **state)
{
        static const char text[] = "# comment\n"
                                   "\n"
                                   "  [one]\r\n"
                                   "key=value\n"
                                   " long-key =  two words  \n"
                                   "[ two   its argument ]\n"
                                   "pin.OPENMV3 = 4.8.1\n"
                                   "empty =\n"
                                   "a = b = c";
        struct key_file file;

        key_file_init(&file, text, sizeof(text) - 1);
        expect_section(&file, 3, "one", "");
        expect_pair(&file, 4, "key", "value");
        expect_pair(&file, 5, "long-key", "two words");
        expect_section(&file, 6, "two", "its argument");
        expect_pair(&file, 7, "pin.OPENMV3", "4.8.1");
        expect_pair(&file, 8, "empty", "");
        expect_pair(&file, 9, "a", "b = c");
        assert_int_equal(key_file_next(&file), KEY_ITEM_END);
        assert_int_equal(key_file_next(&file), KEY_ITEM_END);
}

static void test_wrong_lines(void **state)
{
        char text[1024] = "no equals sign\n"
                          "[open\n"
                          "[]\n"
                          "= value\n"
                          "two words = value\n"
                          "key = \x01\n";
        struct key_file file;
        size_t n = strlen(text);

        memset(text + n, 'x', KEY_FILE_LINE_MAX + 1);
        strcpy(text + n + KEY_FILE_LINE_MAX + 1, "\ngood = line\n");
        key_file_init(&file, text, strlen(text));
        for (unsigned line = 1; line <= 7; line++)
                expect_wrong(&file, line);
        expect_pair(&file, 8, "good", "line");
        assert_int_equal(key_file_next(&file), KEY_ITEM_END);
}

static void test_nul_byte(void **state)
{
        static const char text[] = "key = va\0lue\nnext = 1\n";
        struct key_file file;

        key_file_init(&file, text, sizeof(text) - 1);
        expect_wrong(&file, 1);
        expect_pair(&file, 2, "next", "1");
}

static void test_words(void **state)
{
        char text[] = "  one two\t three ";
        char *rest = text;

        assert_string_equal(key_file_word(&rest), "one");
        assert_string_equal(key_file_word(&rest), "two");
        assert_string_equal(key_file_word(&rest), "three");
        assert_null(key_file_word(&rest));
        assert_null(key_file_word(&rest));
}

static void test_numbers(void **state)
{
        static const char *const bad[] = { "", "0x", "-1", "+1", " 1", "1 ", "1.0", "abc", "0xg", "12a" };
        uint64_t v;

        assert_int_equal(parse_number("0", 10, &v), 0);
        assert_int_equal(v, 0);
        assert_int_equal(parse_number("0x080e0000", UINT32_MAX, &v), 0);
        assert_int_equal(v, 0x080e0000);
        assert_int_equal(parse_number("18446744073709551615", UINT64_MAX, &v), 0);
        assert_true(v == UINT64_MAX);
        assert_int_equal(parse_number("18446744073709551616", UINT64_MAX, &v), -ERANGE);
        assert_int_equal(parse_number("0x100000000", UINT32_MAX, &v), -ERANGE);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(parse_number(bad[i], UINT64_MAX, &v), -EINVAL);
}

static void test_sizes(void **state)
{
        uint64_t v;

        assert_int_equal(parse_size("64M", &v), 0);
        assert_int_equal(v, 64 << 20);
        assert_int_equal(parse_size("0", &v), 0);
        assert_int_equal(v, 0);
        assert_int_equal(parse_size("1536K", &v), 0);
        assert_int_equal(v, 1536 << 10);
        assert_int_equal(parse_size("2G", &v), 0);
        assert_true(v == UINT64_C(2) << 30);
        assert_int_equal(parse_size("18446744073709551615K", &v), -ERANGE);
        assert_int_equal(parse_size("M", &v), -EINVAL);
        assert_int_equal(parse_size("64m", &v), -EINVAL);
        assert_int_equal(parse_size("64MB", &v), -EINVAL);
        assert_int_equal(parse_size("0x10K", &v), -EINVAL);
        assert_int_equal(parse_size("", &v), -EINVAL);
}

static void test_booleans(void **state)
{
        assert_int_equal(parse_boolean("yes"), 1);
        assert_int_equal(parse_boolean("no"), 0);
        assert_int_equal(parse_boolean("true"), -EINVAL);
        assert_int_equal(parse_boolean("Yes"), -EINVAL);
        assert_int_equal(parse_boolean(""), -EINVAL);
}

static void test_whole_file(void **state)
{
        char path[] = "/tmp/test-key-file.XXXXXX";
        _cleanup_free_ char *text = NULL;
        size_t size;
        int fd;

        fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "a = b\n", 6), 6);
        close(fd);

        assert_int_equal(read_whole_file(path, 6, &text, &size), 0);
        assert_int_equal(size, 6);
        assert_string_equal(text, "a = b\n");
        freep(&text);
        text = NULL;
        assert_int_equal(read_whole_file(path, 5, &text, &size), -EFBIG);
        unlink(path);
        assert_int_equal(read_whole_file(path, 6, &text, &size), -ENOENT);
        assert_int_equal(read_whole_file("/tmp", 1 << 20, &text, &size), -EINVAL);
        assert_null(text);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                { "sections, keys and values are read with their line numbers", test_lines, NULL, NULL, NULL },
                { "a wrong line is an item of its own and the next one is read", test_wrong_lines, NULL, NULL, NULL },
                { "a line with a NUL byte is wrong", test_nul_byte, NULL, NULL, NULL },
                { "words are separated by blanks", test_words, NULL, NULL, NULL },
                { "a number is a whole string without sign", test_numbers, NULL, NULL, NULL },
                { "sizes take K, M and G", test_sizes, NULL, NULL, NULL },
                { "a boolean is yes or no", test_booleans, NULL, NULL, NULL },
                { "a file is read whole or not at all", test_whole_file, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
