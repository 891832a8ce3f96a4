/* SPDX-License-Identifier: MIT */

/*
 * Boards: the installed files say what the cameras are known to be, and a file
 * with anything wrong in it is no board at all.
 */

#include <fcntl.h>
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
#include "core/board.h"

static struct board_list boards;

static const struct board *board(const char *id)
{
        const struct board *b = board_by_id(&boards, id);

        if (!b)
                fail_msg("no board %s", id);
        return b;
}

static int load(void **state)
{
        const char *directory = getenv("CAMRESCUE_BOARDS");

        return board_list_load(&boards, directory ? directory : "boards");
}

static void test_all_files(void **state)
{
        static const char *const dfu[] = {
                "OPENMV2", "OPENMV3", "OPENMV4", "OPENMV4P", "OPENMVPT", "OPENMV_N6", "OPENMV_AE3",
        };
        static const char *const recognised[] = {
                "OPENMV_RT1060", "ARDUINO_PORTENTA", "ARDUINO_GIGA", "ARDUINO_NICLA", "ARDUINO_NANO33", "ARDUINO_RP2040",
        };

        assert_int_equal(boards.n, ELEMENTSOF(dfu) + ELEMENTSOF(recognised));
        for (size_t i = 0; i < ELEMENTSOF(dfu); i++)
                assert_int_equal(board(dfu[i])->support, BOARD_DFU);
        for (size_t i = 0; i < ELEMENTSOF(recognised); i++)
                assert_int_equal(board(recognised[i])->support, BOARD_RECOGNISED);
}

static void expect_role(uint16_t vendor, uint16_t product, enum usb_role role, const char *id)
{
        const struct board *b;
        enum usb_role got = board_classify(&boards, vendor, product, &b);

        if (got != role || (id && (!b || strcmp(b->id, id) != 0)) || (!id && b))
                fail_msg("%04x:%04x: %s of %s instead of %s of %s", vendor, product, usb_role_to_string(got), b ? b->id : "none",
                         usb_role_to_string(role), id ? id : "none");
}

static void test_ids(void **state)
{
        static const struct {
                uint16_t vendor, runtime, bootloader;
                const char *id;
        } ids[] = {
                { 0x37c5, 0x1202, 0x9202, "OPENMV2" },
                { 0x37c5, 0x1203, 0x9203, "OPENMV3" },
                { 0x37c5, 0x1204, 0x9204, "OPENMV4" },
                { 0x37c5, 0x124a, 0x924a, "OPENMV4P" },
                { 0x37c5, 0x1205, 0x9205, "OPENMVPT" },
                { 0x37c5, 0x1206, 0x9206, "OPENMV_N6" },
                { 0x37c5, 0x16e3, 0x96e3, "OPENMV_AE3" },
        };

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                expect_role(ids[i].vendor, ids[i].runtime, USB_ROLE_RUNTIME, ids[i].id);
                expect_role(ids[i].vendor, ids[i].bootloader, USB_ROLE_BOOTLOADER, ids[i].id);
        }
        expect_role(0x37c5, 0xafe3, USB_ROLE_BOOTLOADER, "OPENMV_AE3");
        expect_role(0x37c5, 0x1060, USB_ROLE_RUNTIME, "OPENMV_RT1060");
        expect_role(0x2341, 0x005b, USB_ROLE_RUNTIME, "ARDUINO_PORTENTA");
        expect_role(0x2341, 0x045b, USB_ROLE_RUNTIME, "ARDUINO_PORTENTA");
        expect_role(0x2341, 0x035b, USB_ROLE_OTHER, "ARDUINO_PORTENTA");
        expect_role(0x2341, 0x805b, USB_ROLE_OTHER, "ARDUINO_PORTENTA");
        expect_role(0x2341, 0x0366, USB_ROLE_OTHER, "ARDUINO_GIGA");
        expect_role(0x2341, 0x005a, USB_ROLE_OTHER, "ARDUINO_NANO33");
}

static void test_shared_ids(void **state)
{
        expect_role(0x1209, 0xabd1, USB_ROLE_LEGACY, NULL);
        expect_role(0x0483, 0xdf11, USB_ROLE_ROM_DFU, NULL);
        expect_role(0x0483, 0x5740, USB_ROLE_NONE, NULL);
        expect_role(0x37c5, 0x0000, USB_ROLE_NONE, NULL);
        expect_role(0x2341, 0x0001, USB_ROLE_NONE, NULL);
        expect_role(0x0403, 0x6015, USB_ROLE_NONE, NULL);
        expect_role(0x15a2, 0x0073, USB_ROLE_NONE, NULL);
}

static void test_chip_id_names_no_board(void **state)
{
        static struct board_list one;
        const struct board *b = &boards.boards[0];

        one.n = 1;
        one.boards[0] = *board("OPENMV4");
        assert_int_equal(board_classify(&one, 0x0483, 0xdf11, &b), USB_ROLE_ROM_DFU);
        assert_null(b);
        b = &boards.boards[0];
        assert_int_equal(board_classify(&one, 0x1209, 0xabd1, &b), USB_ROLE_LEGACY);
        assert_null(b);
}

static void test_names(void **state)
{
        assert_ptr_equal(board_by_any_name(&boards, "openmv3"), board("OPENMV3"));
        assert_ptr_equal(board_by_any_name(&boards, "m7"), board("OPENMV3"));
        assert_ptr_equal(board_by_any_name(&boards, "OpenMV Cam M7"), board("OPENMV3"));
        assert_ptr_equal(board_by_any_name(&boards, "H7"), board("OPENMV4"));
        assert_ptr_equal(board_by_any_name(&boards, "H7 Plus"), board("OPENMV4P"));
        assert_null(board_by_any_name(&boards, "M"));
        assert_null(board_by_any_name(&boards, ""));
        assert_null(board_by_id(&boards, "openmv3"));
}

/* --- the tables of the hardware notes: name, start, limit, read-only, role --- */

struct expected_partition {
        const char *board;
        unsigned layout, alt;
        const char *name;
        uint32_t start, limit;
        bool read_only;
        enum partition_role role;
        const char *units;              /* "1x128K 6x256K" */
};

static const struct expected_partition expected[] = {
        { "OPENMV2", 0, 0, "BOOTLOADER", 0x08000000, 0x08008000, true,  PARTITION_BOOTLOADER, "2x16K" },
        { "OPENMV2", 0, 1, "FILESYSTEM", 0x08008000, 0x08010000, false, PARTITION_FILESYSTEM, "2x16K" },
        { "OPENMV2", 0, 2, "FIRMWARE",   0x08010000, 0x080e0000, false, PARTITION_FIRMWARE,   "1x64K 6x128K" },
        { "OPENMV2", 0, 3, "ROMFS0",     0x080e0000, 0x08100000, false, PARTITION_ROMFS,      "1x128K" },
        { "OPENMV2", 1, 2, "FIRMWARE",   0x08010000, 0x08100000, false, PARTITION_FIRMWARE,   "1x64K 7x128K" },
        { "OPENMV3", 0, 0, "BOOTLOADER", 0x08000000, 0x08008000, true,  PARTITION_BOOTLOADER, "1x32K" },
        { "OPENMV3", 0, 1, "FILESYSTEM", 0x08008000, 0x08020000, false, PARTITION_FILESYSTEM, "3x32K" },
        { "OPENMV3", 0, 2, "FIRMWARE",   0x08020000, 0x081c0000, false, PARTITION_FIRMWARE,   "1x128K 6x256K" },
        { "OPENMV3", 0, 3, "ROMFS0",     0x081c0000, 0x08200000, false, PARTITION_ROMFS,      "1x256K" },
        { "OPENMV3", 1, 2, "FIRMWARE",   0x08020000, 0x08200000, false, PARTITION_FIRMWARE,   "1x128K 7x256K" },
        { "OPENMV4", 0, 0, "BOOTLOADER", 0x08000000, 0x08020000, true,  PARTITION_BOOTLOADER, "1x128K" },
        { "OPENMV4", 0, 1, "FILESYSTEM", 0x08020000, 0x08040000, false, PARTITION_FILESYSTEM, "1x128K" },
        { "OPENMV4", 0, 2, "FIRMWARE",   0x08040000, 0x081e0000, false, PARTITION_FIRMWARE,   "13x128K" },
        { "OPENMV4", 0, 3, "ROMFS0",     0x081e0000, 0x08200000, false, PARTITION_ROMFS,      "1x128K" },
        { "OPENMV4", 1, 2, "FIRMWARE",   0x08040000, 0x08200000, false, PARTITION_FIRMWARE,   "14x128K" },
        { "OPENMV4P", 0, 0, "BOOTLOADER", 0x08000000, 0x08020000, true,  PARTITION_BOOTLOADER, "1x128K" },
        { "OPENMV4P", 0, 1, "FILESYSTEM", 0x08020000, 0x08040000, false, PARTITION_FILESYSTEM, "1x128K" },
        { "OPENMV4P", 0, 2, "FIRMWARE",   0x08040000, 0x08200000, false, PARTITION_FIRMWARE,   "14x128K" },
        { "OPENMV4P", 0, 3, "SPI_FLASH",  0x00000000, 0x02000000, false, PARTITION_FORBIDDEN,  "512x64K" },
        { "OPENMV4P", 0, 4, "ROMFS0",     0x01800000, 0x02000000, false, PARTITION_ROMFS,      "128x64K" },
        { "OPENMV4P", 1, 2, "FIRMWARE",   0x08040000, 0x08200000, false, PARTITION_FIRMWARE,   "14x128K" },
        { "OPENMVPT", 0, 2, "FIRMWARE",   0x08040000, 0x08200000, false, PARTITION_FIRMWARE,   "14x128K" },
        { "OPENMVPT", 0, 3, "SPI_FLASH",  0x00000000, 0x02000000, false, PARTITION_FORBIDDEN,  "512x64K" },
        { "OPENMVPT", 0, 4, "ROMFS0",     0x01800000, 0x02000000, false, PARTITION_ROMFS,      "128x64K" },
        { "OPENMV_N6", 0, 0, "BOOTLOADER", 0x00000000, 0x00080000, true,  PARTITION_BOOTLOADER, "8x64K" },
        { "OPENMV_N6", 0, 1, "FIRMWARE",   0x00080000, 0x00400000, false, PARTITION_FIRMWARE,   "56x64K" },
        { "OPENMV_N6", 0, 2, "FILESYSTEM", 0x00400000, 0x00800000, false, PARTITION_FILESYSTEM, "64x64K" },
        { "OPENMV_N6", 0, 3, "ROMFS0",     0x00800000, 0x02000000, false, PARTITION_ROMFS,      "384x64K" },
        { "OPENMV_AE3", 0, 0, "BOOT",     0x80000000, 0x80020000, true,  PARTITION_BOOTLOADER, "32x4K" },
        { "OPENMV_AE3", 0, 1, "HP",       0x80020000, 0x80320000, false, PARTITION_FIRMWARE,   "768x4K" },
        { "OPENMV_AE3", 0, 2, "HE",       0x80320000, 0x8047e000, false, PARTITION_FIRMWARE,   "350x4K" },
        { "OPENMV_AE3", 0, 3, "ROMFS1",   0x8047e000, 0x8057e000, false, PARTITION_ROMFS,      "256x4K" },
        { "OPENMV_AE3", 0, 4, "TOC",      0x8057e000, 0x80580000, false, PARTITION_FORBIDDEN,  "2x4K" },
        { "OPENMV_AE3", 0, 5, "RWFS",     0x00000000, 0x00800000, false, PARTITION_FILESYSTEM, "2048x4K" },
        { "OPENMV_AE3", 0, 6, "ROMFS0",   0x00800000, 0x02000000, false, PARTITION_ROMFS,      "6144x4K" },
        { "OPENMV_AE3", 0, 7, "RECOVERY", 0x00000000, 0x00001000, false, PARTITION_FORBIDDEN,  "1x4K" },
        { "OPENMV_AE3", 1, 5, "RWFS",     0x00000000, 0x01000000, false, PARTITION_FILESYSTEM, "4096x4K" },
        { "OPENMV_AE3", 1, 6, "ROMFS0",   0x01000000, 0x02000000, false, PARTITION_ROMFS,      "4096x4K" },
};

static void test_partitions(void **state)
{
        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                const struct expected_partition *e = &expected[i];
                const struct board *b = board(e->board);
                const struct partition *p;
                uint8_t alt = 0xff;

                assert_true(e->layout < b->n_layouts);
                p = layout_partition(&b->layouts[e->layout], e->name, &alt);
                if (!p)
                        fail_msg("%s layout %u has no %s", e->board, e->layout, e->name);
                assert_int_equal(alt, e->alt);
                assert_int_equal(p->start, e->start);
                assert_int_equal(p->limit, e->limit);
                assert_int_equal(p->read_only, e->read_only);
                assert_int_equal(p->role, e->role);
        }
}

static void test_layout_sizes(void **state)
{
        static const struct {
                const char *id;
                size_t n_layouts, n[2];
        } sizes[] = {
                { "OPENMV2", 2, { 4, 3 } }, { "OPENMV3", 2, { 4, 3 } }, { "OPENMV4", 2, { 4, 3 } },
                { "OPENMV4P", 2, { 5, 4 } }, { "OPENMVPT", 2, { 5, 4 } },
                { "OPENMV_N6", 1, { 4, 0 } }, { "OPENMV_AE3", 2, { 8, 8 } },
        };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                const struct board *b = board(sizes[i].id);

                assert_int_equal(b->n_layouts, sizes[i].n_layouts);
                for (size_t k = 0; k < b->n_layouts; k++)
                        assert_int_equal(b->layouts[k].n_partitions, sizes[i].n[k]);
        }
}

/* "1x128K 6x256K": runs of equal units. */
static void describe_units(const struct erase_unit *units, size_t n, char *text, size_t size)
{
        size_t used = 0;

        text[0] = '\0';
        for (size_t i = 0; i < n;) {
                size_t k = i;

                while (k < n && units[k].size == units[i].size)
                        k++;
                used += (size_t)snprintf(text + used, size - used, "%s%zux%uK", used ? " " : "", k - i, units[i].size / 1024);
                i = k;
        }
}

static void test_units(void **state)
{
        static struct erase_unit units[8192];

        for (size_t i = 0; i < ELEMENTSOF(expected); i++) {
                const struct expected_partition *e = &expected[i];
                const struct board *b = board(e->board);
                const struct partition *p = &b->layouts[e->layout].partitions[e->alt];
                uint32_t offset = 0;
                char text[64];
                size_t n;

                n = partition_units(b, p, UINT32_MAX, units, ELEMENTSOF(units));
                assert_int_equal(n, partition_units(b, p, p->limit - p->start, NULL, 0));
                describe_units(units, n, text, sizeof(text));
                if (strcmp(text, e->units) != 0)
                        fail_msg("%s %s: units %s instead of %s", e->board, e->name, text, e->units);
                for (size_t u = 0; u < n; u++) {
                        assert_int_equal(units[u].offset, offset);
                        offset += units[u].size;
                }
                assert_int_equal(offset, p->limit - p->start);
        }
}

/* First blocks of the erase units, as the resume rule lists them. */
static void expect_starts(const char *id, const char *partition, const unsigned *blocks, size_t n_blocks)
{
        const struct board *b = board(id);
        struct erase_unit units[16];

        assert_true(partition_units(b, layout_partition(&b->layouts[0], partition, NULL), UINT32_MAX, units, ELEMENTSOF(units)) >=
                    n_blocks);
        for (size_t i = 0; i < n_blocks; i++)
                assert_int_equal(units[i].offset, blocks[i] * 4096);
}

static void test_unit_starts(void **state)
{
        expect_starts("OPENMV2", "FIRMWARE", (const unsigned[]){ 0, 16, 48, 80 }, 4);
        expect_starts("OPENMV3", "FIRMWARE", (const unsigned[]){ 0, 32, 96, 160 }, 4);
        expect_starts("OPENMV4", "FIRMWARE", (const unsigned[]){ 0, 32, 64, 96 }, 4);
}

static void test_units_of_an_image(void **state)
{
        const struct board *b = board("OPENMV3");
        const struct partition *p = layout_partition(&b->layouts[0], "FIRMWARE", NULL);
        struct erase_unit units[2] = { { 99, 99 }, { 99, 99 } };

        assert_int_equal(partition_units(b, p, 0, NULL, 0), 0);
        assert_int_equal(partition_units(b, p, 1, NULL, 0), 1);
        assert_int_equal(partition_units(b, p, 0x20000, NULL, 0), 1);
        assert_int_equal(partition_units(b, p, 0x20001, NULL, 0), 2);
        /* 1,333,696 bytes: one of 128 K and five of 256 K; only what there is room for is filled in, a touched unit whole */
        assert_int_equal(partition_units(b, p, 1333696, units, 1), 6);
        assert_int_equal(units[0].offset, 0);
        assert_int_equal(units[0].size, 0x20000);
        assert_int_equal(units[1].size, 99);
        assert_int_equal(partition_units(b, p, 0x20001, units, 2), 2);
        assert_int_equal(units[1].offset, 0x20000);
        assert_int_equal(units[1].size, 0x40000);
}

static void test_files(void **state)
{
        static const struct {
                const char *id, *file, *partition;
                uint32_t max;
        } files[] = {
                { "OPENMV2", "firmware.bin", "FIRMWARE", 851968 },
                { "OPENMV2", "romfs0.img", "ROMFS0", 131072 },
                { "OPENMV3", "firmware.bin", "FIRMWARE", 1703936 },
                { "OPENMV3", "romfs0.img", "ROMFS0", 262144 },
                { "OPENMV4", "firmware.bin", "FIRMWARE", 1703936 },
                { "OPENMV4", "romfs0.img", "ROMFS0", 131072 },
                { "OPENMV4P", "firmware.bin", "FIRMWARE", 1835008 },
                { "OPENMV4P", "romfs0.img", "ROMFS0", 8388608 },
                { "OPENMVPT", "firmware.bin", "FIRMWARE", 1835008 },
                { "OPENMVPT", "romfs0.img", "ROMFS0", 8388608 },
                { "OPENMV_N6", "firmware.bin", "FIRMWARE", 3670016 },
                { "OPENMV_N6", "romfs0.img", "ROMFS0", 25165824 },
                { "OPENMV_AE3", "firmware_M55_HP.bin", "HP", 3145728 },
                { "OPENMV_AE3", "firmware_M55_HE.bin", "HE", 1433600 },
                { "OPENMV_AE3", "romfs1.img", "ROMFS1", 1048576 },
                { "OPENMV_AE3", "romfs0.img", "ROMFS0", 25165824 },
        };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                const struct board *b = board(files[i].id);
                const struct partition *p;
                bool found = false;

                for (size_t k = 0; k < b->n_files; k++)
                        if (strcmp(b->files[k].file, files[i].file) == 0) {
                                assert_string_equal(b->files[k].partition, files[i].partition);
                                found = true;
                        }
                assert_true(found);
                p = layout_partition(&b->layouts[0], files[i].partition, NULL);
                assert_int_equal(p->limit - p->start, files[i].max);
        }
        assert_string_equal(board("OPENMV_AE3")->files[0].partition, "HP");
        assert_string_equal(board("OPENMV_AE3")->files[1].partition, "HE");
}

static void test_rom(void **state)
{
        static const struct {
                const char *id;
                bool restore, ambiguous;
                uint32_t limit;
        } roms[] = {
                { "OPENMV2", true, false, 0x08008000 },  { "OPENMV3", true, false, 0x08008000 },
                { "OPENMV4", true, true, 0x08020000 },   { "OPENMV4P", true, true, 0x08020000 },
                { "OPENMVPT", true, true, 0x08020000 },  { "OPENMV_N6", false, false, 0 },
                { "OPENMV_AE3", false, false, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(roms); i++) {
                const struct board *b = board(roms[i].id);

                assert_int_equal(b->rom_restore, roms[i].restore);
                assert_int_equal(b->ambiguous_rom, roms[i].ambiguous);
                assert_int_equal(b->bootloader_limit, roms[i].limit);
                if (b->rom_restore) {
                        const struct partition *p = layout_partition(&b->layouts[0], "BOOTLOADER", NULL);

                        assert_int_equal(b->bootloader_address, 0x08000000);
                        assert_int_equal(b->bootloader_max_bytes, p->limit - p->start);
                }
        }
}

static bool may_hold_stack(const struct board *b, uint32_t pointer)
{
        for (size_t i = 0; i < b->n_stack; i++)
                if (pointer > b->stack[i].start && pointer <= b->stack[i].limit)
                        return true;
        return false;
}

static void test_stacks(void **state)
{
        /* as seen in files of 2016 to 2019, and the ITCM stacks of firmware since 2025 */
        assert_true(may_hold_stack(board("OPENMV2"), 0x10010000));
        assert_true(may_hold_stack(board("OPENMV3"), 0x20020000));
        assert_true(may_hold_stack(board("OPENMV3"), 0x20080000));
        assert_true(may_hold_stack(board("OPENMV3"), 0x00004000));
        assert_true(may_hold_stack(board("OPENMV4"), 0x20020000));
        assert_true(may_hold_stack(board("OPENMV4"), 0x30040000));
        assert_true(may_hold_stack(board("OPENMV4"), 0x00010000));
        assert_true(may_hold_stack(board("OPENMV4P"), 0x00010000));

        assert_false(may_hold_stack(board("OPENMV2"), 0x30040000));
        assert_false(may_hold_stack(board("OPENMV3"), 0x30040000));
        assert_false(may_hold_stack(board("OPENMV4"), 0x10010000));
        assert_false(may_hold_stack(board("OPENMV4"), 0xffffffff));
        assert_false(may_hold_stack(board("OPENMV4"), 0x00000000));
        assert_false(board("OPENMV_N6")->vector_table);
        assert_false(board("OPENMV_AE3")->vector_table);
}

static void test_filesystem_erase(void **state)
{
        assert_string_equal(board("OPENMV2")->filesystem_erase, "FILESYSTEM");
        assert_string_equal(board("OPENMV4P")->filesystem_erase, "SPI_FLASH");
        assert_string_equal(board("OPENMVPT")->filesystem_erase, "SPI_FLASH");
        assert_string_equal(board("OPENMV_AE3")->filesystem_erase, "RWFS");
}

static void test_match_layout(void **state)
{
        static const char *const newest[] = { "BOOTLOADER", "FILESYSTEM", "FIRMWARE", "ROMFS0" };
        static const char *const n6[] = { "BOOTLOADER", "FIRMWARE", "FILESYSTEM", "ROMFS0" };
        static const char *const shifted[] = { "FILESYSTEM", "FIRMWARE", "ROMFS0", "" };
        static const char *const ae3[] = { "BOOT", "HP", "HE", "ROMFS1", "TOC", "RWFS", "ROMFS0", "RECOVERY" };
        const struct board *m7 = board("OPENMV3");

        assert_ptr_equal(board_match_layout(m7, newest, 4), &m7->layouts[0]);
        assert_ptr_equal(board_match_layout(m7, newest, 3), &m7->layouts[1]);
        assert_null(board_match_layout(m7, newest, 2));
        assert_null(board_match_layout(m7, newest, 0));
        assert_null(board_match_layout(m7, n6, 4));
        assert_null(board_match_layout(m7, shifted, 4));
        assert_null(board_match_layout(board("OPENMV_N6"), newest, 4));
        assert_ptr_equal(board_match_layout(board("OPENMV_N6"), n6, 4), &board("OPENMV_N6")->layouts[0]);
        assert_ptr_equal(board_match_layout(board("OPENMV_AE3"), ae3, 8), &board("OPENMV_AE3")->layouts[0]);
        assert_null(board_match_layout(board("OPENMV_RT1060"), newest, 4));
}

/* --- wrong files --- */

#define HEAD "[board]\nid = TEST\nname = Test\nshort-name = T\nsupport = dfu\nchip = f7\n"
#define USB "[usb]\nbootloader = 37c5:9999\n"
#define MEMORY "[memory internal]\nunits = 0x08000000 0x8000 4\n"
#define LAYOUT "[layout]\npartition = FIRMWARE firmware internal 0x08008000 0x08020000\n"
#define FILES "[files]\nfile = firmware.bin FIRMWARE\n"

static char last_line[512];
static unsigned n_lines;

static void sink(int level, const struct log_subject *subject, const char *line, void *userdata)
{
        snprintf(last_line, sizeof(last_line), "%s", line);
        n_lines++;
}

static void expect_fault(const char *text, unsigned line, const char *word)
{
        static struct board b;
        char where[32];

        n_lines = 0;
        last_line[0] = '\0';
        log_set_sink(sink, NULL);
        assert_int_equal(board_parse(&b, text, strlen(text), "x.board"), -EINVAL);
        log_set_sink(NULL, NULL);
        assert_int_equal(n_lines, 1);
        snprintf(where, sizeof(where), "x.board:%u:", line);
        if (!strstr(last_line, where) || !strstr(last_line, word))
                fail_msg("\"%s\" does not say \"%s\" and \"%s\"", last_line, where, word);
}

static void test_wrong_lines(void **state)
{
        static struct board b;

        assert_int_equal(board_parse(&b, HEAD USB MEMORY LAYOUT FILES, strlen(HEAD USB MEMORY LAYOUT FILES), "x.board"), 0);

        expect_fault("id = TEST\n", 1, "before the first section");
        expect_fault("[board]\nid = TEST\nid = TEST\n", 3, "before");
        expect_fault("[board]\nid = test\n", 2, "A-Z");
        expect_fault("[board]\nid = A23456789012345678901\n", 2, "too long");
        expect_fault("[board]\nchip = f9\n", 2, "chip");
        expect_fault("[board]\nhigh-speed = true\n", 2, "yes");
        expect_fault("[board]\ncolour = red\n", 2, "key");
        expect_fault("[bored]\n", 1, "section");
        expect_fault("[board x]\n", 1, "argument");
        expect_fault("[usb]\nruntime = 37C5:1203\n", 2, "37c5:9203");
        expect_fault("[usb]\nruntime = 37c5:12030\n", 2, "37c5:9203");
        expect_fault("[usb]\nruntime = 2341:005b/00ff\n", 2, "37c5:9203");
        expect_fault("[usb]\nother = 2341:035b/00ff\n", 2, "mask");
        expect_fault("[memory]\n", 1, "empty");
        expect_fault("[memory a]\n[memory a]\n", 2, "second");
        expect_fault("[memory a]\nunits = 0 0 1\n", 2, "4096");
        expect_fault("[memory a]\nunits = 0 0x1001 1\n", 2, "4096");
        expect_fault("[memory a]\nunits = 0xfffff000 0x1000 2\n", 2, "address space");
        expect_fault("[memory a]\nunits = 0 0x1000 1\nunits = 0x2000 0x1000 1\n", 3, "former");
        expect_fault("[memory a]\nunits = 0 0x1000\n", 2, "number");
        expect_fault("[memory a]\nunits = 0 0x1000 1 1\n", 2, "words");
        expect_fault(MEMORY "[layout]\npartition = A firmware spi 0 1\n", 4, "memory");
        expect_fault(MEMORY "[layout]\npartition = A software internal 0 1\n", 4, "role");
        expect_fault(MEMORY "[layout]\npartition = A firmware internal 0x08008000 0x08020001\n", 4, "inside");
        expect_fault(MEMORY "[layout]\npartition = A firmware internal 0x07ffffff 0x08020000\n", 4, "inside");
        expect_fault(MEMORY "[layout]\npartition = A firmware internal 0x08008000 0x08008000\n", 4, "ends");
        expect_fault(MEMORY "[layout]\npartition = A firmware internal 0x08009000 0x08020000\n", 4, "erase unit");
        expect_fault(MEMORY "[layout]\npartition = A firmware internal 0x08008000 0x08020000 rw\n", 4, "ro");
        expect_fault(MEMORY LAYOUT "partition = FIRMWARE firmware internal 0x08008000 0x08020000\n", 5, "second");
        expect_fault("[files]\nfile = firmware.bin\n", 2, "partition");
        expect_fault("[files]\nfile = ../firmware.bin FIRMWARE\n", 2, "slash");
        expect_fault("[vectors]\nstack = 0x20000000 0x10000000\n", 2, "ends");
        expect_fault("[rom]\nbootloader = 0x08000000\n", 2, "number");
}

static void test_wrong_wholes(void **state)
{
        expect_fault("", 0, "needed");
        expect_fault("[board]\nid = TEST\n", 2, "needed");
        expect_fault(HEAD, 6, "USB id");
        expect_fault(HEAD USB, 8, "layout");
        expect_fault(HEAD USB MEMORY LAYOUT, 12, "files");
        expect_fault(HEAD USB MEMORY LAYOUT "[layout]\n" FILES, 15, "without partitions");
        expect_fault(HEAD USB MEMORY "[memory b]\n" LAYOUT FILES, 15, "without erase units");
        expect_fault(HEAD USB MEMORY LAYOUT FILES "file = a B\n", 15, "newest layout");
        expect_fault(HEAD "filesystem-erase = FS\n" USB MEMORY LAYOUT FILES, 15, "filesystem-erase");
        expect_fault(HEAD USB MEMORY LAYOUT FILES "[vectors]\nvector-table = yes\n", 16, "stack");
        expect_fault(HEAD USB MEMORY LAYOUT FILES "[rom]\nbootloader = 0x08000000 0x08008000\n", 16, "ROM id");
        expect_fault("[board]\nid = T\nname = T\nshort-name = T\nsupport = recognised\nchip = none\n" USB, 8, "recognised");
}

static void write_file(const char *directory, const char *name, const char *text)
{
        _cleanup_free_ char *path = NULL;
        _cleanup_fclose_ FILE *f = NULL;

        assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
        f = fopen(path, "w");
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
}

static void remove_file(const char *directory, const char *name)
{
        _cleanup_free_ char *path = NULL;

        assert_true(asprintf(&path, "%s/%s", directory, name) > 0);
        assert_int_equal(unlink(path), 0);
}

static void test_load(void **state)
{
        static struct board_list list;
        static const char *const names[] = { "TEST.board", "OTHER.board", "B.board", "WRONG.board", ".hidden.board", "notes.txt" };
        char directory[] = "/tmp/test-board.XXXXXX";

        assert_int_equal(board_list_load(&list, "/tmp/test-board-is-not-there"), -ENOENT);
        assert_non_null(mkdtemp(directory));
        assert_int_equal(board_list_load(&list, directory), -ENODATA);

        write_file(directory, names[0], HEAD USB MEMORY LAYOUT FILES);
        /* named otherwise; the same bootloader id; wrong; not to be read */
        write_file(directory, names[1], HEAD "[usb]\nbootloader = 37c5:9998\n" MEMORY LAYOUT FILES);
        write_file(directory, names[2], "[board]\nid = B\nname = B\nshort-name = B\nsupport = dfu\nchip = f7\n" USB MEMORY LAYOUT FILES);
        write_file(directory, names[3], "rubbish\n");
        write_file(directory, names[4], HEAD);
        write_file(directory, names[5], "notes\n");

        n_lines = 0;
        log_set_sink(sink, NULL);
        assert_int_equal(board_list_load(&list, directory), 0);
        log_set_sink(NULL, NULL);
        /* B is read first and keeps the id; TEST, OTHER and WRONG are each named once */
        assert_int_equal(list.n, 1);
        assert_string_equal(list.boards[0].id, "B");
        assert_int_equal(n_lines, 3);

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                remove_file(directory, names[i]);
        assert_int_equal(rmdir(directory), 0);
}

static void test_enum_names(void **state)
{
        for (int i = 0; i < _BOARD_SUPPORT_MAX; i++)
                assert_int_equal(board_support_from_string(board_support_to_string((enum board_support)i)), i);
        for (int i = 0; i < _PARTITION_ROLE_MAX; i++)
                assert_int_equal(partition_role_from_string(partition_role_to_string((enum partition_role)i)), i);
        for (int i = 0; i < _CHIP_MAX; i++)
                assert_int_equal(chip_from_string(chip_to_string((enum chip)i)), i);
        for (int i = 0; i < _USB_ROLE_MAX; i++)
                assert_int_equal(usb_role_from_string(usb_role_to_string((enum usb_role)i)), i);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                { "every board file is understood", test_all_files, NULL, NULL, NULL },
                { "an id names its board and mode", test_ids, NULL, NULL, NULL },
                { "a shared id names no board", test_shared_ids, NULL, NULL, NULL },
                { "a chip's id names no board even if one board only is known", test_chip_id_names_no_board, NULL, NULL, NULL },
                { "a board is found by each of its names", test_names, NULL, NULL, NULL },
                { "partitions are where the devices have them", test_partitions, NULL, NULL, NULL },
                { "historic layouts have fewer partitions", test_layout_sizes, NULL, NULL, NULL },
                { "erase units cover each partition without a gap", test_units, NULL, NULL, NULL },
                { "erase units begin where the resume rule says", test_unit_starts, NULL, NULL, NULL },
                { "an image touches as many units as it reaches into", test_units_of_an_image, NULL, NULL, NULL },
                { "files go to their partitions", test_files, NULL, NULL, NULL },
                { "the ROM restores bootloaders of F4, F7 and H7 only", test_rom, NULL, NULL, NULL },
                { "stacks seen in the field are possible, foreign ones are not", test_stacks, NULL, NULL, NULL },
                { "the file system is erased where it lives", test_filesystem_erase, NULL, NULL, NULL },
                { "alternate settings' names choose the layout, unknown ones none", test_match_layout, NULL, NULL, NULL },
                { "a wrong line is named and the board left out", test_wrong_lines, NULL, NULL, NULL },
                { "a file that is wrong as a whole is left out", test_wrong_wholes, NULL, NULL, NULL },
                { "a wrong file costs its board only", test_load, NULL, NULL, NULL },
                { "every name goes to its value and back", test_enum_names, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, load, NULL);
}
