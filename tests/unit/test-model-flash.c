/* SPDX-License-Identifier: MIT */
/*
 * The model's flash through the bootloader's eyes: erase units, programming as
 * each technology does it, power cuts, failures, the toy geometry.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "unit/model-host.h"

enum { DETACH, DNLOAD, UPLOAD, GETSTATUS, CLRSTATUS, GETSTATE, ABORT };
enum { IDLE = 2, DNLOAD_SYNC, DNBUSY, DNLOAD_IDLE, ERROR = 10 };

#define MS UINT64_C(1000)
#define KIB 1024u

static uint8_t block[4096];

static struct bench *held_with(enum sim_board board, const struct sim_config *config)
{
        struct bench *bench = bench_new(board, config);
        uint8_t bytes[64];

        for (size_t i = 0; i < sizeof(block); i++)
                block[i] = (uint8_t)(i * 11 + i / 256);
        bench_plug(bench, SIM_BOOTLOADER);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        return bench;
}

static struct bench *held(enum sim_board board)
{
        return held_with(board, NULL);
}

static uint32_t unit_start(struct bench *bench, bool external, uint32_t address, uint32_t expected_size)
{
        uint32_t start, size;

        sim_camera_erase_unit(bench->camera, external, address, &start, &size);
        assert_int_equal(size, expected_size);
        return start;
}

static void test_erase_units(void **state)
{
        struct bench *bench = bench_new(SIM_OPENMV2, NULL);

        assert_int_equal(unit_start(bench, false, 0x0800ffff, 16 * KIB), 0x0800c000);
        assert_int_equal(unit_start(bench, false, 0x08010000, 64 * KIB), 0x08010000);
        assert_int_equal(unit_start(bench, false, 0x080fffff, 128 * KIB), 0x080e0000);
        bench_free(bench);
        bench = bench_new(SIM_OPENMV3, NULL);
        assert_int_equal(unit_start(bench, false, 0x08018000, 32 * KIB), 0x08018000);
        assert_int_equal(unit_start(bench, false, 0x0803ffff, 128 * KIB), 0x08020000);
        assert_int_equal(unit_start(bench, false, 0x081fffff, 256 * KIB), 0x081c0000);
        bench_free(bench);
        bench = bench_new(SIM_OPENMV4P, NULL);
        assert_int_equal(unit_start(bench, false, 0x081fffff, 128 * KIB), 0x081e0000);
        assert_int_equal(unit_start(bench, true, 0x01ffffff, 64 * KIB), 0x01ff0000);
        assert_int_equal(unit_start(bench, true, 0x02000000, 0), 0);
        bench_free(bench);
        bench = bench_new(SIM_OPENMV_AE3, NULL);
        assert_int_equal(unit_start(bench, true, 0x00801234, 4 * KIB), 0x00801000);
        bench_free(bench);
}

static void test_erases_only_at_a_units_start(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        struct sim_counters c;
        uint8_t old[4096], now[4096];

        /* FIRMWARE: units begin at block 0, 32, 96, 160 ... */
        assert_int_equal(bench_select(bench, 2), 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 33 * 4096, old, 4096), 0);
        assert_status(bench_write(bench, 33, block, 4096), DNLOAD_IDLE, 0);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 33 * 4096, now, 4096), 0);
        for (size_t i = 0; i < 4096; i++)
                assert_int_equal(now[i], old[i] & block[i]);
        for (uint16_t n = 0; n < 200; n++)
                assert_status(bench_write(bench, n, block, 4096), DNLOAD_IDLE, 0);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 4);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 33 * 4096, now, 4096), 0);
        assert_memory_equal(now, block, 4096);
        bench_free(bench);
}

static void test_erases_at_a_sectors_start_of_another_partition_too(void **state)
{
        struct bench *bench = held(SIM_OPENMV2);
        struct sim_unit_count units[8];

        /* FILESYSTEM of the M4: two units of 16 K; block 4 begins the second. */
        assert_int_equal(bench_select(bench, 1), 0);
        for (uint16_t n = 0; n < 8; n++)
                assert_status(bench_write(bench, n, block, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_unit_counts(bench->camera, units, 8), 2);
        assert_int_equal(units[0].address, 0x08008000);
        assert_int_equal(units[1].address, 0x0800c000);
        assert_int_equal(units[0].erases, 1);
        assert_int_equal(units[1].programmed_bytes, 16 * KIB);
        bench_free(bench);
}

static void test_tail_is_padded_with_zeros(void **state)
{
        static const struct {
                enum sim_board board;
                uint8_t alt;
                unsigned padded;
                const char *partition;
        } cases[] = {
                { SIM_OPENMV3, 2, 104, "FIRMWARE" },
                { SIM_OPENMV4, 2, 128, "FIRMWARE" },
                { SIM_OPENMV4P, 4, 101, "ROMFS0" },
                { SIM_OPENMV_N6, 1, 101, "FIRMWARE" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct bench *bench = held(cases[i].board);
                uint8_t now[160];

                memset(block, 0x77, sizeof(block));
                assert_int_equal(bench_select(bench, cases[i].alt), 0);
                assert_status(bench_write(bench, 0, block, 101), DNLOAD_IDLE, 0);
                assert_int_equal(sim_camera_partition_read(bench->camera, cases[i].partition, 0, now, 160), 0);
                assert_true(bytes_all(now, 101, 0x77));
                assert_true(bytes_all(now + 101, cases[i].padded - 101, 0x00));
                assert_true(bytes_all(now + cases[i].padded, 160 - cases[i].padded, 0xff));
                bench_free(bench);
        }
}

static void test_h7_word_programmed_twice(void **state)
{
        struct sim_config config;
        struct bench *bench = held(SIM_OPENMV4);
        uint8_t now[4096], other[4096];

        assert_int_equal(bench_select(bench, 3), 0);
        assert_status(bench_write(bench, 1, block, 4096), DNLOAD_IDLE, 0);
        /* The same again changes nothing. */
        assert_status(bench_write(bench, 1, block, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(bench_in(bench, UPLOAD, 1, now, 4096), 4096);
        assert_memory_equal(now, block, 4096);
        /* Something else leaves a word that reads as neither, and not as the AND. */
        memcpy(other, block, 4096);
        other[40] = (uint8_t)~block[40];
        assert_status(bench_write(bench, 1, other, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(bench_in(bench, UPLOAD, 1, now, 4096), 4096);
        assert_memory_equal(now, block, 32);
        assert_memory_not_equal(now + 32, block + 32, 32);
        assert_memory_equal(now + 64, block + 64, 4096 - 64);
        other[40] &= block[40];
        assert_memory_not_equal(now + 32, other + 32, 32);
        /* An erase heals it. */
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 1, block, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(bench_in(bench, UPLOAD, 1, now, 4096), 4096);
        assert_memory_equal(now, block, 4096);
        bench_free(bench);

        sim_config_default(&config, SIM_OPENMV4, 1);
        config.h7_ecc_fault = true;
        bench = held_with(SIM_OPENMV4, &config);
        assert_int_equal(bench_select(bench, 3), 0);
        assert_status(bench_write(bench, 1, block, 4096), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 1, other, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(bench_control(bench, 0xa1, UPLOAD, 0, 0, now, 64, 1000 * MS), 64);
        assert_int_equal(bench_control(bench, 0xa1, UPLOAD, 1, 0, now, 64, 1000 * MS), -ETIMEDOUT);
        assert_int_equal(bench_control(bench, 0xa1, UPLOAD, 0, 0, now, 64, 1000 * MS), -ETIMEDOUT);
        bench_free(bench);
}

static void test_spi_erases_64k(void **state)
{
        struct bench *bench = held(SIM_OPENMV4P);
        struct sim_counters c;
        uint64_t before;

        assert_int_equal(bench_select(bench, 4), 0);
        before = bench->now;
        for (uint16_t n = 0; n < 17; n++)
                assert_status(bench_write(bench, n, block, 4096), DNLOAD_IDLE, 0);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 2);
        /* 2 x 150 ms, 272 pages of 0.7 ms, 17 blocks of 3 transfers */
        assert_in_range(bench->now - before, 500 * MS, 640 * MS);
        bench_free(bench);
}

static void test_spi_erase_that_takes_too_long(void **state)
{
        struct sim_config config;
        struct bench *bench;
        uint64_t before;

        sim_config_default(&config, SIM_OPENMV_N6, 1);
        config.erase_factor = 11;               /* 2.2 s: beyond the driver's 2 s */
        bench = held_with(SIM_OPENMV_N6, &config);
        assert_int_equal(bench_select(bench, 1), 0);
        before = bench->now;
        assert_status(bench_write(bench, 0, block, 4096), ERROR, 3);
        assert_in_range(bench->now - before, 2000 * MS, 2010 * MS);
        bench_free(bench);
}

static void test_ae3_memories(void **state)
{
        struct bench *bench = held(SIM_OPENMV_AE3);
        uint8_t now[4096], expected[4096];
        struct sim_counters c;

        /* MRAM: no erase, overwritten; rounded up to 16 bytes with what stands in the buffer. */
        assert_int_equal(bench_select(bench, 1), 0);
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        memset(expected, 0xa5, sizeof(expected));
        assert_status(bench_write(bench, 1, expected, 4096), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 1, block, 4096), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 2, expected, 20), DNLOAD_IDLE, 0);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "HP", 4096, now, 4096), 0);
        assert_memory_equal(now, block, 4096);
        assert_int_equal(sim_camera_partition_read(bench->camera, "HP", 8192, now, 32), 0);
        assert_true(bytes_all(now, 20, 0xa5));
        assert_memory_equal(now + 20, block + 20, 12);
        /* OSPI: each block erases its own 4 K. */
        assert_int_equal(bench_select(bench, 6), 0);
        for (uint16_t n = 0; n < 3; n++)
                assert_status(bench_write(bench, n, block, 4096), DNLOAD_IDLE, 0);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 3);
        bench_free(bench);
}

static void test_romfs0_lies_in_spi_flash(void **state)
{
        struct bench *bench = held(SIM_OPENMV4P);
        uint8_t now[4096];

        assert_int_equal(bench_select(bench, 3), 0);
        assert_status(bench_write(bench, 0x1800, block, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(bench_select(bench, 4), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 0, now, 4096), 4096);
        assert_memory_equal(now, block, 4096);
        bench_free(bench);
}

/* --- power cuts --- */

static void cut(struct bench *bench, uint8_t alt, uint16_t number, size_t bytes)
{
        assert_int_equal(bench_select(bench, alt), 0);
        assert_int_equal(bench_out(bench, DNLOAD, number, block, 4096), 4096);
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_UNPLUG_FLASH, .request_type = -1,
                             .request = GETSTATUS, .count = 1, .length = bytes });
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_int_equal(bench_status(bench).result, -ESHUTDOWN);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_OFF);
}

static void test_power_lost_while_erasing(void **state)
{
        static const double speeds[] = { 1, 0 };

        for (size_t i = 0; i < ELEMENTSOF(speeds); i++) {
                struct sim_config config;
                struct bench *bench;
                _cleanup_free_ uint8_t *old = malloc(128 * KIB), *now = malloc(128 * KIB);
                struct sim_unit_count unit;

                sim_config_default(&config, SIM_OPENMV3, 1);
                config.flash_speed = speeds[i];
                bench = held_with(SIM_OPENMV3, &config);
                assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, old, 128 * KIB), 0);
                cut(bench, 2, 0, 0);
                assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, now, 128 * KIB), 0);
                assert_memory_not_equal(old, now, 128 * KIB);
                assert_false(bytes_all(now, 128 * KIB, 0xff));
                assert_memory_not_equal(now, block, 4096);
                assert_int_equal(sim_camera_unit_counts(bench->camera, &unit, 1), 1);
                assert_int_equal(unit.erases, 1);
                assert_int_equal(unit.programmed_bytes, 0);
                bench_free(bench);
        }
}

static void test_power_lost_while_programming(void **state)
{
        static const struct {
                enum sim_board board;
                uint8_t alt;
                unsigned word;
        } cases[] = { { SIM_OPENMV3, 3, 4 }, { SIM_OPENMV4, 3, 32 }, { SIM_OPENMV4P, 4, 16 }, { SIM_OPENMV_AE3, 6, 16 } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct bench *bench = held(cases[i].board);
                unsigned word = cases[i].word;
                uint8_t now[4096];

                cut(bench, cases[i].alt, 0, 1024);
                assert_int_equal(sim_camera_partition_read(bench->camera, "ROMFS0", 0, now, 4096), 0);
                assert_memory_equal(now, block, 1024);
                /* The word under way is neither blank nor as wanted. */
                assert_memory_not_equal(now + 1024, block + 1024, word);
                assert_false(bytes_all(now + 1024, word, 0xff));
                assert_true(bytes_all(now + 1024 + word, 4096 - 1024 - word, 0xff));
                bench_free(bench);
        }
}

static void test_unplugged_by_hand_in_mid_program(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t now[4096];

        assert_int_equal(bench_select(bench, 3), 0);
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(bench_out(bench, DNLOAD, 1, block, 4096), 4096);
        assert_status(bench_status(bench), DNBUSY, 0);
        bench_run(bench, 8 * MS);               /* of 16.4 */
        sim_camera_unplug(bench->camera);
        assert_int_equal(sim_camera_partition_read(bench->camera, "ROMFS0", 4096, now, 4096), 0);
        assert_in_range(bytes_common_prefix(now, block, 4096), 1900, 2100);
        assert_true(bytes_all(now + 2100, 4096 - 2100, 0xff));
        bench_free(bench);
}

static void test_the_same_cut_leaves_the_same_bytes(void **state)
{
        uint8_t first[4096], second[4096];

        for (int i = 0; i < 2; i++) {
                struct bench *bench = held(SIM_OPENMV3);

                cut(bench, 2, 0, 0);
                assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, i ? second : first, 4096), 0);
                bench_free(bench);
        }
        assert_memory_equal(first, second, 4096);
}

/* --- failures --- */

static void test_failing_units(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t now[4096], old[4096];

        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, old, 4096), 0);
        /* The erase silently does nothing: what follows is ANDed. */
        sim_camera_fail_flash(bench->camera, false, 0x08021000, /* silently= */ true, 1);
        assert_int_equal(bench_select(bench, 2), 0);
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, now, 4096), 0);
        for (size_t i = 0; i < 4096; i++)
                assert_int_equal(now[i], old[i] & block[i]);
        /* Erase and programming both do nothing. */
        sim_camera_fail_flash(bench->camera, false, 0x08020000, /* silently= */ true, 2);
        memset(old, 0, sizeof(old));
        assert_status(bench_write(bench, 0, old, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, old, 4096), 0);
        assert_memory_equal(now, old, 4096);
        /* Another unit is not concerned; this one fails once. */
        sim_camera_fail_flash(bench->camera, false, 0x08020000, /* silently= */ false, 1);
        assert_status(bench_write(bench, 32, block, 4096), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 0, block, 4096), ERROR, 3);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, now, 4096), 0);
        assert_memory_equal(now, block, 4096);
        bench_free(bench);
}

/* --- speeds and the toy --- */

static uint64_t time_of_block_0(double flash_speed, double usb_speed, double erase_factor)
{
        struct sim_config config;
        struct bench *bench;
        uint64_t before, took;

        sim_config_default(&config, SIM_OPENMV4, 1);
        config.flash_speed = flash_speed;
        config.usb_speed = usb_speed;
        config.erase_factor = erase_factor;
        bench = held_with(SIM_OPENMV4, &config);
        assert_int_equal(bench_select(bench, 2), 0);
        before = bench->now;
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        took = bench->now - before;
        bench_free(bench);
        return took;
}

static void test_speeds(void **state)
{
        assert_in_range(time_of_block_0(1, 1, 1), 1120 * MS, 1125 * MS);
        assert_in_range(time_of_block_0(10, 1, 1), 115 * MS, 120 * MS);
        assert_in_range(time_of_block_0(1, 1, 2), 2220 * MS, 2225 * MS);
        assert_in_range(time_of_block_0(0, 1, 1), 5 * MS, 6 * MS);
        assert_int_equal(time_of_block_0(0, 0, 1), 0);
}

static void test_toy_geometry(void **state)
{
        for (int board = 0; board < SIM_FOREIGN; board++) {
                struct sim_config config;
                const struct sim_partition *toy, *real;
                struct bench *bench, *big;
                struct sim_counters c;
                size_t n;

                sim_config_default(&config, board, 1);
                config.erase_unit_scale = 1.0 / 16;
                config.flash_speed = config.usb_speed = 0;
                bench = held_with(board, &config);
                big = bench_new(board, NULL);
                n = sim_camera_partitions(bench->camera, &toy);
                assert_int_equal(n, sim_camera_partitions(big->camera, &real));
                for (size_t i = 0; i < n; i++) {
                        uint32_t start, size;

                        assert_string_equal(toy[i].name, real[i].name);
                        assert_int_equal(toy[i].start % 4096, 0);
                        assert_true(toy[i].limit > toy[i].start);
                        assert_true(toy[i].limit - toy[i].start <= real[i].limit - real[i].start);
                        sim_camera_erase_unit(bench->camera, toy[i].external, toy[i].start, &start, &size);
                        assert_int_equal(start, toy[i].start);
                        assert_int_equal(size % 4096, 0);
                }
                /* The same structure: M7's FIRMWARE is one smaller unit and six larger ones. */
                if (board == SIM_OPENMV3) {
                        assert_int_equal(toy[2].limit - toy[2].start, 8192 + 6 * 16384);
                        assert_int_equal(bench_select(bench, 2), 0);
                        for (uint16_t i = 0; i < 26; i++)
                                assert_status(bench_write(bench, i, block, 4096), DNLOAD_IDLE, 0);
                        assert_status(bench_write(bench, 26, block, 4096), ERROR, 8);
                        sim_camera_counters(bench->camera, &c);
                        assert_int_equal(c.erases, 7);
                }
                assert_int_equal(bench_out(bench, DETACH, 0, NULL, 0), 0);
                bench_run(bench, 2000 * MS);
                assert_int_equal(sim_camera_mode(bench->camera), board == SIM_OPENMV3 ? SIM_SILENT : SIM_RUNTIME);
                bench_free(big);
                bench_free(bench);
        }
}

static void test_toy_bootloader_through_the_rom(void **state)
{
        struct sim_config config;
        struct bench *bench;
        _cleanup_free_ uint8_t *image = NULL;
        size_t size;

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.erase_unit_scale = 1.0 / 16;
        bench = bench_new(SIM_OPENMV3, &config);
        sim_camera_flash_blank(bench->camera, false, 0x08000000, 4096);
        bench_plug_with_jumper(bench);
        assert_int_equal(sim_camera_bootloader_image(bench->camera, SIM_BL_1_0_3, false, &image, &size), 0);
        assert_int_equal(size, 4096);
        assert_status(bench_erase(bench, 0x08000000), DNLOAD_IDLE, 0);
        assert_status(bench_point(bench, 0x08000000), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 2, image, 2048), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 3, image + 2048, 2048), DNLOAD_IDLE, 0);
        sim_camera_unplug(bench->camera);
        sim_camera_set_jumper(bench->camera, false);
        bench_plug(bench, SIM_BOOTLOADER);
        bench_free(bench);
}

static void test_saved_and_loaded(void **state)
{
        struct bench *bench = bench_new(SIM_OPENMV4, NULL), *again = bench_new(SIM_OPENMV4, NULL), *other;
        const struct sim_partition *partitions;
        _cleanup_free_ uint8_t *before = NULL, *after = NULL;
        struct sim_config config;
        FILE *f = tmpfile();
        size_t size;

        assert_non_null(f);
        assert_true(sim_camera_partitions(bench->camera, &partitions) > 2);
        size = partitions[2].limit - partitions[2].start;
        before = malloc(size);
        after = malloc(size);
        assert_non_null(before);
        assert_non_null(after);

        /* Power is lost in the middle of a block: a unit neither old nor new, a flash word that is damaged. */
        bench_plug(bench, SIM_BOOTLOADER);
        assert_int_equal(sim_camera_save(bench->camera, f), -EBUSY);
        assert_int_equal(sim_camera_load(bench->camera, f), -EBUSY);
        assert_int_equal(bench_select(bench, 2), 0);
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_UNPLUG_FLASH, .request_type = 0xa1, .request = 3,
                                                                 .count = 1, .length = 1000 });
        (void)bench_write(bench, 0, block, 4096);
        sim_camera_unplug(bench->camera);
        sim_camera_set_jumper(bench->camera, true);
        assert_int_equal(sim_camera_save(bench->camera, f), 0);

        rewind(f);
        assert_int_equal(sim_camera_load(again->camera, f), 0);
        assert_true(sim_camera_jumper(again->camera));
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, before, size), 0);
        assert_int_equal(sim_camera_partition_read(again->camera, "FIRMWARE", 0, after, size), 0);
        assert_memory_equal(before, after, size);
        assert_memory_equal(after, block, 900);
        assert_memory_not_equal(after, block, 4096);

        /* It is that camera's, and nobody else's. */
        sim_config_default(&config, SIM_OPENMV4, 77);
        other = bench_new(SIM_OPENMV4, &config);
        rewind(f);
        assert_int_equal(sim_camera_load(other->camera, f), -EINVAL);
        bench_free(other);
        other = bench_new(SIM_OPENMV3, NULL);
        rewind(f);
        assert_int_equal(sim_camera_load(other->camera, f), -EINVAL);
        bench_free(other);

        /* Half a file changes nothing. */
        assert_int_equal(ftruncate(fileno(f), 300000), 0);
        sim_camera_set_jumper(again->camera, false);
        rewind(f);
        assert_int_equal(sim_camera_load(again->camera, f), -EINVAL);
        assert_int_equal(sim_camera_partition_read(again->camera, "FIRMWARE", 0, after, size), 0);
        assert_memory_equal(before, after, size);
        assert_false(sim_camera_jumper(again->camera));
        (void)fclose(f);
        bench_free(again);
        bench_free(bench);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_erase_units),
                cmocka_unit_test(test_erases_only_at_a_units_start),
                cmocka_unit_test(test_erases_at_a_sectors_start_of_another_partition_too),
                cmocka_unit_test(test_tail_is_padded_with_zeros),
                cmocka_unit_test(test_h7_word_programmed_twice),
                cmocka_unit_test(test_spi_erases_64k),
                cmocka_unit_test(test_spi_erase_that_takes_too_long),
                cmocka_unit_test(test_ae3_memories),
                cmocka_unit_test(test_romfs0_lies_in_spi_flash),
                cmocka_unit_test(test_power_lost_while_erasing),
                cmocka_unit_test(test_power_lost_while_programming),
                cmocka_unit_test(test_unplugged_by_hand_in_mid_program),
                cmocka_unit_test(test_the_same_cut_leaves_the_same_bytes),
                cmocka_unit_test(test_failing_units),
                cmocka_unit_test(test_speeds),
                cmocka_unit_test(test_toy_geometry),
                cmocka_unit_test(test_toy_bootloader_through_the_rom),
                cmocka_unit_test(test_saved_and_loaded),
        };

        return cmocka_run_group_tests_name("model-flash", tests, NULL, NULL);
}
