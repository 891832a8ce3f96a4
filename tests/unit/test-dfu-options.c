/* SPDX-License-Identifier: MIT */
/*
 * The command lines with which IDEs call dfu-util, and those that are refused.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "client/dfu-options.h"

#define WORDS_MAX 24

static char problem[256];

/* Strings of the result live until the next call. */
static struct dfu_options parse(const char *line)
{
        static char copy[512];
        char *words[WORDS_MAX + 1] = { (char *)"dfu-util" }, *rest = copy, *word;
        struct dfu_options options;
        int n = 1;

        assert_true(strlen(line) < sizeof(copy));
        memcpy(copy, line, strlen(line) + 1);
        while (n < WORDS_MAX && (word = strsep(&rest, " ")))
                words[n++] = word;
        words[n] = NULL;
        dfu_options_parse(n, words, &options, problem, sizeof(problem));
        return options;
}

static void ide_firmware(void **state)
{
        struct dfu_options o = parse("-w -d ,37c5:9203 -S 34303639330D5113001F002A -a 2 --reset -D /tmp/x/firmware.bin");

        assert_string_equal(problem, "");
        assert_int_equal(o.action, DFU_ACTION_DOWNLOAD);
        assert_string_equal(o.file, "/tmp/x/firmware.bin");
        assert_true(o.wait && o.reset && o.has_id && !o.dfuse);
        assert_int_equal(o.vendor, 0x37c5);
        assert_int_equal(o.product, 0x9203);
        assert_string_equal(o.serial, "34303639330D5113001F002A");
        assert_string_equal(o.alt, "2");
        assert_int_equal(o.timeout, DFU_TIMEOUT_DEFAULT);
        o = parse("-w --timeout 5 -d ,37c5:9203 -D firmware.bin");
        assert_string_equal(problem, "");
        assert_int_equal(o.timeout, 5);
}

static void ide_bootloader(void **state)
{
        struct dfu_options o = parse("-w -d ,0483:df11 -a 0 -s 0x08000000 -D OPENMV3/bootloader.bin");

        assert_string_equal(problem, "");
        assert_true(o.dfuse && o.has_address && !o.leave && !o.reset);
        assert_int_equal(o.address, 0x08000000);
        o = parse("-w -d ,0483:df11 -a 0 -s :leave -D bootloader.dfu");
        assert_string_equal(problem, "");
        assert_true(o.dfuse && !o.has_address && o.leave);
        o = parse("-s 0x08000000:leave -D x");
        assert_string_equal(problem, "");
        assert_true(o.has_address && o.leave);
}

static void ide_list_and_upload(void **state)
{
        struct dfu_options o = parse("-l");

        assert_int_equal(o.action, DFU_ACTION_LIST);
        assert_int_equal(o.devnum, -1);
        o = parse("-w -d ,37c5:96e3 -a 6 --reset -U romfs.img");
        assert_string_equal(problem, "");
        assert_int_equal(o.action, DFU_ACTION_UPLOAD);
}

static void long_forms(void **state)
{
        struct dfu_options o = parse("--wait --device 37c5:1203,37C5:9203 --serial A,B --alt FIRMWARE --transfer-size 4096 --upload-size=10 "
                                     "--path 1-2.4 --devnum 7 --cfg 1 --intf 0 --verbose --detach-delay 5 --download=x");

        assert_string_equal(problem, "");
        assert_string_equal(o.serial, "B");
        assert_int_equal(o.product, 0x9203);
        assert_string_equal(o.path, "1-2.4");
        assert_int_equal(o.devnum, 7);
        assert_string_equal(o.file, "x");
}

static void wrong_ones(void **state)
{
        static const char *const lines[] = {
                "", "-w", "-D", "-D x -U y", "-l -D x", "--frob -l", "-D x y", "-d , -D x", "-d 37c5 -D x", "-d ,37c5:92033 -D x", "-d ,*:* -D x",
                "-S A, -D x", "-n -1 -l", "-n x -l", "-c 2 -l", "-i 1 -l", "-t many -l", "-s 0x08000000:mass-erase:force -D x",
                "-s 0x08000000:unprotect -D x", "-s 0x08000000:will-reset -D x", "-s nonsense -D x", "-s 0x1ffffffff -D x", "-s 0x08000000:100 -U x",
                "--install-into", "--install-into d -D x", "--timeout 0 -w -D x", "--timeout -1 -w -D x", "--timeout 86401 -w -D x", "--timeout soon -w -D x",
        };

        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                (void)parse(lines[i]);
                if (!problem[0])
                        fail_msg("\"%s\" is taken", lines[i]);
        }
}

static void fuzz(void **state)
{
        static const char letters[] = "-dDUaSswRlVhepnciZtE, :x0123479afF=";

        srandom(1);
        for (int round = 0; round < 20000; round++) {
                char line[64];
                size_t n = (size_t)random() % (sizeof(line) - 1);

                for (size_t i = 0; i < n; i++)
                        line[i] = letters[(size_t)random() % (sizeof(letters) - 1)];
                line[n] = '\0';
                (void)parse(line);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(ide_firmware), cmocka_unit_test(ide_bootloader), cmocka_unit_test(ide_list_and_upload),
                cmocka_unit_test(long_forms), cmocka_unit_test(wrong_ones), cmocka_unit_test(fuzz),
        };

        cmocka_set_message_output(CM_OUTPUT_TAP);
        return cmocka_run_group_tests_name("dfu-options", tests, NULL, NULL);
}
