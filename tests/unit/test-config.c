/* SPDX-License-Identifier: MIT */

/*
 * The configuration: a wrong line is named and ignored, the rest holds, and the
 * example that is installed says the defaults.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "daemon/config.h"

static struct board_list boards;
static struct config config;

static char lines[4096];
static unsigned n_lines;

static void sink(int level, const struct log_subject *subject, const char *line, void *userdata)
{
        size_t used = strlen(lines);

        snprintf(lines + used, sizeof(lines) - used, "%s\n", line);
        n_lines++;
}

static int unload(void **state)
{
        config_free(&config);
        return 0;
}

static int load(void **state)
{
        const char *directory = getenv("CAMRESCUE_BOARDS");

        return board_list_load(&boards, directory ? directory : "boards");
}

static unsigned parse(const char *text)
{
        unsigned wrong;

        config_free(&config);
        lines[0] = '\0';
        n_lines = 0;
        log_set_sink(sink, NULL);
        wrong = config_parse(&config, text, strlen(text), "x.conf");
        log_set_sink(NULL, NULL);
        assert_int_equal(wrong, n_lines);
        return wrong;
}

static void expect_wrong(const char *text, unsigned line, const char *word)
{
        char where[32];

        assert_int_equal(parse(text), 1);
        snprintf(where, sizeof(where), "x.conf:%u:", line);
        if (!strstr(lines, where) || !strstr(lines, word))
                fail_msg("\"%s\" does not say \"%s\" and \"%s\"", lines, where, word);
}

static void defaults(void **state)
{
        assert_int_equal(parse(""), 0);
        assert_true(config.automatic);
        assert_int_equal(config.saved_quota, 64 << 20);
        assert_int_equal(config_camera_automatic(&config, "K", "S", "1-1"), -1);
        assert_null(config_pin(&config, "OPENMV3"));
}

static void whole(void **state)
{
        assert_int_equal(parse("[recovery]\n"
                               "automatic = no\n"
                               "saved-quota=1G\n"
                               "[camera 34303639330D5113001F002A]\n"
                               "automatic=yes\n"
                               "[camera 3-1.2]\n"
                               "automatic=no\n"
                               "[camera M:344F3663330D]\n"
                               "[firmware]\n"
                               "pin.OPENMV3=4.8.1\n"
                               "pin.h7=5.0.0\n"), 0);
        assert_false(config.automatic);
        assert_true(config.saved_quota == UINT64_C(1) << 30);
        assert_int_equal(config_check_pins(&config, &boards), 0);
        assert_string_equal(config_pin(&config, "OPENMV3"), "4.8.1");
        assert_string_equal(config_pin(&config, "OPENMV4"), "5.0.0");
        assert_null(config_pin(&config, "OPENMV2"));
}

static void precedence(void **state)
{
        whole(state);
        assert_int_equal(config_camera_automatic(&config, "OTHER", "SERIAL", "1-1"), -1);
        assert_int_equal(config_camera_automatic(&config, NULL, NULL, NULL), -1);
        assert_int_equal(config_camera_automatic(&config, "34303639330D5113001F002A", NULL, "1-1"), 1);
        assert_int_equal(config_camera_automatic(&config, NULL, "34303639330d5113001f002a", NULL), 1);
        assert_int_equal(config_camera_automatic(&config, "34303639330D5113001F002A", NULL, "3-1.2"), 0);
        assert_int_equal(config_camera_automatic(&config, "M:344F3663330D", NULL, "1-1"), -1);
        /* a port is not the beginning of another */
        assert_int_equal(parse("[camera 3-1]\nautomatic=no\n"), 0);
        assert_int_equal(config_camera_automatic(&config, NULL, NULL, "3-1.2"), -1);
        assert_int_equal(config_camera_automatic(&config, NULL, NULL, "3-1"), 0);
}

static void wrong_lines(void **state)
{
        expect_wrong("automatic=no\n", 1, "before the first section");
        expect_wrong("[recovery]\nautomatic=maybe\n", 2, "yes");
        expect_wrong("[recovery]\nautomatic=no\nautomatic=yes\n", 3, "before");
        assert_false(config.automatic);
        expect_wrong("[recovery]\nsaved-quota=lots\n", 2, "64M");
        assert_int_equal(config.saved_quota, 64 << 20);
        expect_wrong("[recovery]\nsaved-quota=1M\nsaved-quota=2M\n", 3, "before");
        assert_int_equal(config.saved_quota, 1 << 20);
        expect_wrong("[recovery]\ncolour=red\n", 2, "unknown key");
        expect_wrong("[recovery now]\n", 1, "argument");
        expect_wrong("[camera]\nautomatic=no\n", 1, "key, a serial or a port");
        expect_wrong("[camera A]\n[camera a]\n", 2, "second");
        expect_wrong("[camera A]\nautomatic=no\nautomatic=yes\n", 3, "before");
        assert_int_equal(config_camera_automatic(&config, "A", NULL, NULL), 0);
        expect_wrong("[camera A]\ncolour=red\n", 2, "unknown key");
        expect_wrong("[camera A]\nautomatic=on\n", 2, "yes");
        expect_wrong("[firmware]\npin.=4.8.1\n", 2, "board");
        expect_wrong("[firmware]\npin.OPENMV3=\n", 2, "version");
        expect_wrong("[firmware]\npin.OPENMV3=four eight\n", 2, "version");
        expect_wrong("[firmware]\npin.OPENMV3=4.8.1\npin.openmv3=5.0.0\n", 3, "before");
        assert_string_equal(config_pin(&config, "OPENMV3"), "4.8.1");
        expect_wrong("[firmware]\nOPENMV3=4.8.1\n", 2, "unknown key");
        expect_wrong("[recovery]\nrubbish\n", 2, "ignored");
}

static void rest_holds(void **state)
{
        assert_int_equal(parse("[recovery]\nautomatic=nope\nsaved-quota=32M\n[nonsense]\nautomatic=yes\n[firmware]\npin.M7=4.8.1\n"), 2);
        assert_true(config.automatic);
        assert_int_equal(config.saved_quota, 32 << 20);
        assert_string_equal(config_pin(&config, "M7"), "4.8.1");
}

static void keys_of_a_wrong_section(void **state)
{
        /* they belong to no section, least of all to the one before */
        expect_wrong("[recovery]\n[recowery]\nautomatic=no\n", 2, "this section is ignored");
        assert_true(config.automatic);
        expect_wrong("[recovery]\n[camera A\nautomatic=no\n", 2, "this section is ignored");
        assert_true(config.automatic);
        expect_wrong("[camera A]\n[camera A]\nautomatic=no\n", 2, "this section is ignored");
        assert_int_equal(config_camera_automatic(&config, "A", NULL, NULL), -1);
}

static void pins_of_boards(void **state)
{
        assert_int_equal(parse("[firmware]\npin.OPENMV9=4.8.1\npin.M7=4.8.1\npin.OPENMV3=5.0.0\npin.n6=5.0.0\n"), 0);
        n_lines = 0;
        log_set_sink(sink, NULL);
        assert_int_equal(config_check_pins(&config, &boards), 2);
        log_set_sink(NULL, NULL);
        assert_int_equal(n_lines, 2);
        assert_non_null(strstr(lines, "x.conf:2: a pin for a board that is not known"));
        assert_non_null(strstr(lines, "x.conf:4: a second pin"));
        assert_int_equal(config.n_pins, 2);
        assert_string_equal(config_pin(&config, "OPENMV3"), "4.8.1");
        assert_string_equal(config_pin(&config, "OPENMV_N6"), "5.0.0");
}

static void many(void **state)
{
        static char text[65536];
        size_t n = 0;

        for (unsigned i = 0; i < 1000; i++)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "[camera %u]\nautomatic=no\n", i);
        assert_int_equal(parse(text), 0);
        assert_int_equal(config_camera_automatic(&config, "999", NULL, NULL), 0);
        n = (size_t)snprintf(text, sizeof(text), "[firmware]\n");
        for (unsigned i = 0; i <= BOARDS_MAX; i++)
                n += (size_t)snprintf(text + n, sizeof(text) - n, "pin.B%u=1\n", i);
        expect_wrong(text, BOARDS_MAX + 2, "more pins");
}

static void files(void **state)
{
        char path[] = "/tmp/test-config.XXXXXX";
        int fd;

        config_free(&config);
        config.automatic = false;
        assert_int_equal(config_load(&config, "/tmp/test-config-is-not-there.conf"), 0);
        assert_true(config.automatic);

        fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "[recovery]\nautomatic=no\n", 24), 24);
        close(fd);
        config_free(&config);
        assert_int_equal(config_load(&config, path), 0);
        assert_false(config.automatic);
        unlink(path);

        lines[0] = '\0';
        log_set_sink(sink, NULL);
        config_free(&config);
        assert_int_equal(config_load(&config, "/tmp"), 1);
        log_set_sink(NULL, NULL);
        assert_non_null(strstr(lines, "/tmp: cannot be read"));
        assert_true(config.automatic);
}

static void write_file(const char *directory, const char *name, const char *text)
{
        _cleanup_free_ char *path = NULL;
        FILE *file;

        assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
        file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        assert_int_equal(fclose(file), 0);
}

static void drop_ins(void **state)
{
        char directory[] = "/tmp/test-config.XXXXXX";
        static const char *const names[] = {
                "camrescue.conf", "camrescue.conf.d/10-site.conf", "camrescue.conf.d/20-lab.conf", "camrescue.conf.d/.hidden.conf",
                "camrescue.conf.d/notes.txt",
        };
        _cleanup_free_ char *path = NULL, *sub = NULL;

        assert_non_null(mkdtemp(directory));
        assert_true(asprintf(&path, "%s/camrescue.conf", directory) > 0 && asprintf(&sub, "%s.d", path) > 0);
        assert_int_equal(mkdir(sub, 0755), 0);
        write_file(directory, names[0], "[recovery]\nautomatic=no\nsaved-quota=1M\n[firmware]\npin.OPENMV3=4.8.1\n"
                                        "[camera 1-1]\nautomatic=yes\n");
        write_file(directory, names[1], "[recovery]\nautomatic=yes\n[camera 1-1]\nautomatic=no\n[camera 1-2]\nautomatic=no\n");
        write_file(directory, names[2], "[firmware]\npin.openmv3=5.0.0\nnonsense\n[daemon]\nexit-on-idle=10min\n");
        write_file(directory, names[3], "[recovery]\nsaved-quota=3M\n");
        write_file(directory, names[4], "[recovery]\nsaved-quota=4M\n");

        config_free(&config);
        lines[0] = '\0';
        log_set_sink(sink, NULL);
        assert_int_equal(config_load(&config, path), 1);
        log_set_sink(NULL, NULL);
        /* The wrong line is named with the file that it stands in. */
        assert_non_null(strstr(lines, "20-lab.conf:3: "));
        assert_true(config.automatic);
        assert_int_equal(config.saved_quota, 1 << 20);
        assert_string_equal(config_pin(&config, "OPENMV3"), "5.0.0");
        assert_int_equal(config.n_pins, 1);
        assert_int_equal(config_camera_automatic(&config, NULL, NULL, "1-1"), 0);
        assert_int_equal(config.n_cameras, 2);
        assert_int_equal(config.exit_on_idle, UINT64_C(600000000));

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *file = NULL;

                assert_true(asprintf(&file, "%s/%s", directory, names[i]) > 0);
                assert_int_equal(unlink(file), 0);
        }
        assert_int_equal(rmdir(sub), 0);
        assert_int_equal(rmdir(directory), 0);
}

static void durations(void **state)
{
        static const struct { const char *text; uint64_t us; } right[] = {
                { "no", 0 }, { "90", 90000000 }, { "90s", 90000000 }, { "5sec", 5000000 }, { "10min", 600000000 },
                { "2h", UINT64_C(7200000000) },
        };
        static const char *const wrong[] = { "yes", "-1", "min", "10 min", "10x", "99999999999999999999", "1.5h", "0x10",
                                             "0", "0s", "4", "4s", "0min" };
        char text[64];

        for (size_t i = 0; i < ELEMENTSOF(right); i++) {
                snprintf(text, sizeof(text), "[daemon]\nexit-on-idle=%s\n", right[i].text);
                assert_int_equal(parse(text), 0);
                assert_int_equal(config.exit_on_idle, right[i].us);
        }
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                snprintf(text, sizeof(text), "[daemon]\nexit-on-idle=%s\n", wrong[i]);
                assert_int_equal(parse(text), 1);
                assert_int_equal(config.exit_on_idle, 0);
        }
        assert_int_equal(parse("[daemon]\nexit-on-idle=1h\nexit-on-idle=2h\n"), 1);
        assert_int_equal(parse("[daemon]\nautomatic=yes\n"), 1);
}

static void example(void **state)
{
        _cleanup_free_ char *path = NULL;
        const char *srcdir = getenv("CAMRESCUE_SRCDIR");
        static struct config expected;

        assert_true(asprintf(&path, "%s/systemd/camrescue.conf", srcdir ? srcdir : ".") > 0);
        config_init(&expected);
        config_free(&config);
        assert_int_equal(config_load(&config, path), 0);
        assert_int_equal(config.automatic, expected.automatic);
        assert_int_equal(config.exit_on_idle, expected.exit_on_idle);
        assert_int_equal(config.saved_quota, expected.saved_quota);
        assert_int_equal(config.n_cameras, 0);
        assert_int_equal(config.n_pins, 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                { "an empty file is the defaults", defaults, NULL, NULL, NULL },
                { "every section and key is read", whole, NULL, NULL, NULL },
                { "a camera's own section goes before, and one no is enough", precedence, NULL, NULL, NULL },
                { "a wrong line is named with file and line", wrong_lines, NULL, NULL, NULL },
                { "what is right around a wrong line holds", rest_holds, NULL, NULL, NULL },
                { "keys of a wrong section belong to none", keys_of_a_wrong_section, NULL, NULL, NULL },
                { "pins of boards that are not known are named", pins_of_boards, NULL, NULL, NULL },
                { "there may be many cameras, and a pin for each board", many, NULL, NULL, NULL },
                { "no file is the defaults, an unreadable one is said", files, NULL, NULL, NULL },
                { "a drop-in overrides, setting by setting", drop_ins, NULL, NULL, NULL },
                { "how long an idle daemon stays", durations, NULL, NULL, NULL },
                { "the example says the defaults", example, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, load, unload);
}
