/* SPDX-License-Identifier: MIT */
/*
 * What names of files, folders and archives say of an image.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "client/image-name.h"

static void files_name_their_partition(void **state)
{
        assert_string_equal(image_partition("firmware.bin"), "FIRMWARE");
        assert_string_equal(image_partition("FIRMWARE.BIN"), "FIRMWARE");
        assert_string_equal(image_partition("firmware.dfu"), "FIRMWARE");
        assert_string_equal(image_partition("bootloader.bin"), "BOOTLOADER");
        assert_string_equal(image_partition("firmware_M55_HP.bin"), "HP");
        assert_string_equal(image_partition("firmware_M55_HE.bin"), "HE");
        assert_string_equal(image_partition("romfs.img"), "ROMFS0");
        assert_string_equal(image_partition("romfs0.img"), "ROMFS0");
        assert_string_equal(image_partition("romfs1.img"), "ROMFS1");
        assert_null(image_partition("openmv.bin"));
        assert_null(image_partition("firmware_pad.toc"));
        assert_null(image_partition("firmware.bin.sign"));
        assert_null(image_partition(""));
}

static void folders_of_boards(void **state)
{
        static const char *const boards[] = { "OPENMV2", "OPENMV4P", "OPENMVPT", "OPENMV_AE3", "ARDUINO_NANO_RP2040_CONNECT" };
        static const char *const others[] = { "CYW4343", "WINC1500", "openmv3", "OPENMV3.old", "firmware", "", "..", "OPENMV3/x" };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++)
                assert_true(image_is_board_folder(boards[i]));
        for (size_t i = 0; i < ELEMENTSOF(others); i++)
                assert_false(image_is_board_folder(others[i]));
}

static void paths_name_their_board(void **state)
{
        char board[IMAGE_BOARD_SIZE];

        image_folder_board("OPENMV3/firmware.bin", board);
        assert_string_equal(board, "OPENMV3");
        image_folder_board("/a/firmware/OPENMV_AE3/firmware_M55_HP.bin", board);
        assert_string_equal(board, "OPENMV_AE3");
        image_folder_board("firmware.bin", board);
        assert_string_equal(board, "");
        image_folder_board("/firmware.bin", board);
        assert_string_equal(board, "");
        image_folder_board("tmp/firmware.bin", board);
        assert_string_equal(board, "");
        image_folder_board("ARDUINO_NANO_RP2040_CONNECT/firmware.bin", board);
        assert_string_equal(board, "ARDUINO_NANO_RP2040_CONNECT");
        image_folder_board("OPENMV_0123456789012345678901234567890123456789/firmware.bin", board);
        assert_string_equal(board, "");
        assert_string_equal(image_base("a/b/c.bin"), "c.bin");
        assert_string_equal(image_base("c.bin"), "c.bin");
}

static void assert_archive(const char *path, const char *board, const char *version)
{
        char b[IMAGE_BOARD_SIZE] = "x", v[IMAGE_VERSION_SIZE] = "x";

        image_archive_name(path, b, v);
        assert_string_equal(b, board);
        assert_string_equal(v, version);
}

static void archives_name_version_or_board(void **state)
{
        assert_archive("firmware_v4.8.1.zip", "", "4.8.1");
        assert_archive("/tmp/firmware_v4.8.1.zip", "", "4.8.1");
        assert_archive("Firmware_4.8.1.ZIP", "", "4.8.1");
        assert_archive("firmware_v5.0.0-rc1.zip", "", "5.0.0-rc1");
        assert_archive("firmware_OPENMV3.zip", "OPENMV3", "development");
        assert_archive("firmware_development.zip", "", "development");
        assert_archive("firmware_.zip", "", "");
        assert_archive("firmware_v4.8.1 (2).zip", "", "");
        assert_archive("openmv-ide-resources-4.8.1.zip", "", "");
        assert_archive("firmware.zip", "", "");
        assert_archive("", "", "");
}

static void versions(void **state)
{
        char v[IMAGE_VERSION_SIZE];

        assert_int_equal(image_version("v4.8.1", v), 0);
        assert_string_equal(v, "4.8.1");
        assert_int_equal(image_version("vega", v), 0);
        assert_string_equal(v, "vega");
        assert_int_equal(image_version("", v), -EINVAL);
        assert_int_equal(image_version("4.8 1", v), -EINVAL);
        assert_int_equal(image_version("4.8\n", v), -EINVAL);
        assert_int_equal(image_version("0123456789012345678901234567890", v), 0);
        assert_int_equal(image_version("01234567890123456789012345678901", v), -EINVAL);
}

static void a_release_has_no_suffix(void **state)
{
        assert_true(image_version_is_stable("4.8.1"));
        assert_true(image_version_is_stable("5"));
        assert_false(image_version_is_stable("5.0.0-rc1"));
        assert_false(image_version_is_stable("development"));
        assert_false(image_version_is_stable(""));
        assert_false(image_version_is_stable("."));
}

static int settings(const char *text, char *version)
{
        return image_settings_version(text, strlen(text), version);
}

static void settings_tell_the_version(void **state)
{
        char v[IMAGE_VERSION_SIZE] = "unchanged";

        assert_int_equal(settings("{ \"firmware_version\": \"4.7.0\", \"boards\": [] }", v), 0);
        assert_string_equal(v, "4.7.0");
        assert_int_equal(settings("// not JSON at all,\n\"firmware_version\"\n:\t\"v4.8.1\" ,,", v), 0);
        assert_string_equal(v, "4.8.1");
}

static void settings_cut_anywhere_tell_nothing(void **state)
{
        static const char whole[] = "{ \"firmware_version\" : \"4.7.0\"";
        char v[IMAGE_VERSION_SIZE];

        for (size_t n = 0; n < sizeof(whole) - 1; n++) {
                _cleanup_free_ char *cut = malloc(n + 1);

                /* exactly as long, so that a sanitizer sees the byte after it */
                assert_non_null(cut);
                memcpy(cut, whole, n);
                cut = realloc(cut, n ? n : 1);
                assert_non_null(cut);
                assert_int_equal(image_settings_version(cut, n, v), -ENOENT);
        }
        assert_int_equal(image_settings_version(whole, sizeof(whole) - 1, v), 0);
        assert_int_equal(settings("\"firmware_version\": 4.7", v), -ENOENT);
        assert_int_equal(settings("\"firmware_version\": \"\"", v), -ENOENT);
        assert_int_equal(settings("\"firmware_version\": \"0123456789012345678901234567890123456789\"", v), -ENOENT);
        assert_int_equal(image_settings_version("\"firmware_version\": \"4.\0\"", 25, v), -ENOENT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(files_name_their_partition),
                cmocka_unit_test(folders_of_boards),
                cmocka_unit_test(paths_name_their_board),
                cmocka_unit_test(archives_name_version_or_board),
                cmocka_unit_test(versions),
                cmocka_unit_test(a_release_has_no_suffix),
                cmocka_unit_test(settings_tell_the_version),
                cmocka_unit_test(settings_cut_anywhere_tell_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
