/* SPDX-License-Identifier: MIT */
/*
 * The model's ST ROM bootloader, from dfu.md part B: request rules, commands,
 * poll timeouts, and each quirk of B.4 that is emulated.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "unit/model-host.h"

enum { DETACH, DNLOAD, UPLOAD, GETSTATUS, CLRSTATUS, GETSTATE, ABORT };
enum { IDLE = 2, DNLOAD_SYNC, DNBUSY, DNLOAD_IDLE, MANIFEST_SYNC, MANIFEST, UPLOAD_IDLE = 9, ERROR };

#define MS UINT64_C(1000)

static uint8_t block[2048];

static struct bench *in_rom_with(enum sim_board board, const struct sim_config *config)
{
        struct bench *bench = bench_new(board, config);

        for (size_t i = 0; i < sizeof(block); i++)
                block[i] = (uint8_t)(i * 5 + i / 256);
        bench_plug_with_jumper(bench);
        return bench;
}

/* In dfuIDLE. */
static struct bench *in_rom(enum sim_board board)
{
        struct bench *bench = in_rom_with(board, NULL);

        if (bench_state(bench) == ERROR)
                assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_int_equal(bench_state(bench), IDLE);
        return bench;
}

static void abort_to_idle(struct bench *bench)
{
        assert_int_equal(bench_out(bench, ABORT, 0, NULL, 0), 0);
        assert_int_equal(bench_state(bench), IDLE);
}

static void alt_name(struct bench *bench, uint8_t alt, char *name)
{
        uint8_t bytes[255];
        int n = bench_control(bench, 0x80, 6, (uint16_t)(0x0304 + alt), 0x0409, bytes, 255, 100 * MS);

        assert_true(n > 2);
        assert_int_equal(bytes[0], n);
        for (int i = 2; i < n; i += 2)
                *name++ = (char)bytes[i];
        *name = '\0';
}

/* --- descriptors (B.1) --- */

static void test_strings_byte_for_byte(void **state)
{
        static const struct {
                enum sim_board board;
                uint16_t usb, device, transfer_size;
                const char *product;
                const char *alts[4];
        } chips[] = {
                { SIM_OPENMV2, 0x0100, 0x2200, 2048, "STM32  BOOTLOADER", {
                        "@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg,04*016Kg,01*064Kg,07*128Kg",
                        "@Option Bytes  /0x1FFFC000/01*016 e/0x1FFEC000/01*016 e",
                        "@OTP Memory /0x1FFF7800/01*512 e,01*016 e", "@Device Feature/0xFFFF0000/01*004 e" } },
                { SIM_OPENMV3, 0x0100, 0x2200, 2048, "STM32  BOOTLOADER", {
                        "@Internal Flash  /0x08000000/04*032Kg,01*128Kg,07*256Kg",
                        "@Option Bytes  /0x1FFF0000/01*048 e", "@OTP Memory /0x1FF07800/01*528e" } },
                { SIM_OPENMV4, 0x0200, 0x0200, 1024, "DFU in FS Mode", {
                        "@Internal Flash   /0x08000000/16*128Kg", "@Option Bytes   /0x5200201C/01*128 e" } },
        };

        for (size_t i = 0; i < ELEMENTSOF(chips); i++) {
                struct bench *bench = in_rom_with(chips[i].board, NULL);
                struct sim_descriptors d;
                char name[128];
                uint8_t n = 0;

                sim_camera_descriptors(bench->camera, &d);
                assert_memory_equal(d.device, ((uint8_t[]){ 18, 1, 0, (uint8_t)(chips[i].usb >> 8), 0, 0, 0, 64, 0x83, 0x04, 0x11, 0xdf,
                                    0, (uint8_t)(chips[i].device >> 8), 1, 2, 3, 1 }), 18);
                assert_string_equal(d.manufacturer, "STMicroelectronics");
                assert_string_equal(d.product, chips[i].product);
                assert_int_equal(d.speed, 12);
                for (; n < 4 && chips[i].alts[n]; n++) {
                        alt_name(bench, n, name);
                        assert_string_equal(name, chips[i].alts[n]);
                }
                assert_int_equal(d.config_size, 18 + 9 * n);
                assert_memory_equal(d.config, ((uint8_t[]){ 9, 2, (uint8_t)(18 + 9 * n), 0, 1, 1, 0, 0xc0, 50 }), 9);
                for (uint8_t alt = 0; alt < n; alt++)
                        assert_memory_equal(d.config + 9 + 9 * alt, ((uint8_t[]){ 9, 4, 0, alt, 0, 0xfe, 1, 2, (uint8_t)(4 + alt) }), 9);
                assert_memory_equal(d.config + 9 + 9 * n, ((uint8_t[]){ 9, 0x21, 0x0b, 0xff, 0, (uint8_t)chips[i].transfer_size,
                                    (uint8_t)(chips[i].transfer_size >> 8), 0x1a, 0x01 }), 9);
                assert_int_equal(bench_control(bench, 0x80, 6, 0x03ee, 0, block, 255, 100 * MS), -EPIPE);
                assert_int_equal(bench_control(bench, 0x80, 6, 0x0600, 0, block, 10, 100 * MS), -EPIPE);
                bench_free(bench);
        }
}

static void test_string_switches(void **state)
{
        struct sim_config config;
        struct sim_descriptors d;
        struct bench *bench;
        char name[128];

        sim_config_default(&config, SIM_OPENMV2, 1);
        config.f427_1mb_string = config.f4_rom_2100 = true;
        bench = in_rom_with(SIM_OPENMV2, &config);
        alt_name(bench, 0, name);
        assert_string_equal(name, "@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg");
        alt_name(bench, 2, name);
        assert_string_equal(name, "@OTP Memory /0x1FFF7800/01*512 g,01*016 g");
        sim_camera_descriptors(bench->camera, &d);
        assert_int_equal(get_le16(d.device + 12), 0x2100);
        bench_free(bench);
}

/* --- requests (B.2) --- */

static void test_set_interface_is_range_checked(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV4);
        uint8_t alt;

        assert_int_equal(bench_select(bench, 1), 0);
        assert_int_equal(bench_control(bench, 0x81, 10, 0, 0, &alt, 1, 100 * MS), 1);
        assert_int_equal(alt, 1);
        assert_int_equal(bench_select(bench, 2), -EPIPE);
        bench_free(bench);
}

static void test_get_commands(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);
        uint8_t bytes[16];

        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, sizeof(bytes)), 4);
        assert_memory_equal(bytes, "\x00\x21\x41\x92", 4);
        assert_int_equal(bench_state(bench), IDLE);
        bench_free(bench);
}

static void test_upload_needs_idle(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);
        uint8_t bytes[2048], expected[2048];

        /* From the default pointer, without any DNLOAD. */
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000, expected, 2048), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 2, bytes, 2048), 2048);
        assert_memory_equal(bytes, expected, 2048);
        assert_int_equal(bench_state(bench), UPLOAD_IDLE);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000800, expected, 2048), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 3, bytes, 2048), 2048);
        assert_memory_equal(bytes, expected, 2048);
        /* DNLOAD is refused there, and UPLOAD after Set Address is, until ABORT. */
        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x21\x00\x00\x02\x08", 5), -EPIPE);
        assert_status(bench_status(bench), ERROR, 15);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_point(bench, 0x08020000), DNLOAD_IDLE, 0);
        assert_int_equal(bench_in(bench, UPLOAD, 2, bytes, 2048), -EPIPE);
        assert_status(bench_status(bench), ERROR, 15);
        /* ABORT does not leave dfuERROR. */
        assert_int_equal(bench_out(bench, ABORT, 0, NULL, 0), -EPIPE);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_point(bench, 0x08020000), DNLOAD_IDLE, 0);
        abort_to_idle(bench);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, expected, 2048), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 2, bytes, 2048), 2048);
        assert_memory_equal(bytes, expected, 2048);
        abort_to_idle(bench);
        assert_int_equal(bench_in(bench, UPLOAD, 2, bytes, 1), -EPIPE);
        bench_free(bench);
}

static void test_refusals_may_keep_the_state(void **state)
{
        struct sim_config config;
        struct bench *bench;
        uint8_t bytes[64];

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.rom_stall_keeps_state = true;
        bench = in_rom_with(SIM_OPENMV3, &config);
        assert_status(bench_point(bench, 0x08020000), DNLOAD_IDLE, 0);
        assert_int_equal(bench_in(bench, UPLOAD, 2, bytes, 64), -EPIPE);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        bench_free(bench);
}

static void test_block_addressing(void **state)
{
        struct sim_config config;
        struct bench *bench;
        uint8_t bytes[1000], expected[1000];

        /* L is the length of this request ... */
        bench = in_rom(SIM_OPENMV3);
        assert_int_equal(bench_in(bench, UPLOAD, 4, bytes, 1000), 1000);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000 + 2 * 1000, expected, 1000), 0);
        assert_memory_equal(bytes, expected, 1000);
        bench_free(bench);
        /* ... or the transfer size. */
        sim_config_default(&config, SIM_OPENMV3, 1);
        config.rom_constant_stride = true;
        bench = in_rom_with(SIM_OPENMV3, &config);
        assert_int_equal(bench_in(bench, UPLOAD, 4, bytes, 1000), 1000);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000 + 2 * 2048, expected, 1000), 0);
        assert_memory_equal(bytes, expected, 1000);
        bench_free(bench);
}

static void test_a_command_begins_with_getstatus(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);
        uint8_t erase[5] = { 0x41, 0x00, 0x00, 0x02, 0x08 }, bytes[16], old[16];
        uint64_t before;

        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, old, 16), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, erase, 5), 5);
        bench_run(bench, 5000 * MS);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, bytes, 16), 0);
        assert_memory_equal(old, bytes, 16);
        before = bench->now;
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_in_range(bench->now - before, 0, 2 * MS);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        assert_in_range(bench->now - before, 500 * MS, 510 * MS);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, bytes, 16), 0);
        assert_true(bytes_all(bytes, 16, 0xff));
        /* Dropped by ABORT. */
        assert_int_equal(bench_out(bench, DNLOAD, 2, block, 2048), 2048);
        abort_to_idle(bench);
        assert_status(bench_status(bench), IDLE, 0);
        bench_free(bench);
}

static void test_write_and_read_back(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4 };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct bench *bench = in_rom(boards[i]);
                uint16_t size = boards[i] == SIM_OPENMV4 ? 1024 : 2048;
                uint8_t bytes[2048];

                assert_status(bench_erase(bench, 0x08000000), DNLOAD_IDLE, 0);
                assert_status(bench_point(bench, 0x08000000), DNLOAD_IDLE, 0);
                assert_status(bench_write(bench, 2, block, size), DNLOAD_IDLE, 0);
                assert_status(bench_write(bench, 3, block, size), DNLOAD_IDLE, 0);
                abort_to_idle(bench);
                for (uint16_t n = 2; n < 4; n++) {
                        assert_int_equal(bench_in(bench, UPLOAD, n, bytes, size), size);
                        assert_memory_equal(bytes, block, size);
                }
                assert_int_equal(bench_in(bench, UPLOAD, 4, bytes, size), size);
                assert_true(bytes_all(bytes, size, 0xff));
                bench_free(bench);
        }
}

static void test_errors(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);

        assert_status(bench_point(bench, 0x20000000), ERROR, 1);
        assert_int_equal(bench_out(bench, DNLOAD, 2, block, 2048), -EPIPE);
        assert_status(bench_status(bench), ERROR, 1);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_erase(bench, 0x08200000), ERROR, 1);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_write(bench, 0, "\x77", 1), ERROR, 15);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_write(bench, 1, block, 16), ERROR, 15);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        sim_camera_fail_flash(bench->camera, false, 0x08020000, /* silently= */ false, 1);
        assert_status(bench_erase(bench, 0x08020000), ERROR, 4);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        /* A write-protected sector: success is reported. */
        sim_camera_fail_flash(bench->camera, false, 0x08000000, /* silently= */ true, 1);
        assert_status(bench_erase(bench, 0x08000000), DNLOAD_IDLE, 0);
        abort_to_idle(bench);
        assert_int_equal(bench_in(bench, UPLOAD, 2, block, 16), 16);
        assert_false(bytes_all(block, 16, 0xff));
        bench_free(bench);
}

/* --- every request in every state --- */

static struct bench *in_state(int wanted)
{
        struct bench *bench = in_rom(SIM_OPENMV3);

        switch (wanted) {
        case DNLOAD_SYNC:
                assert_int_equal(bench_out(bench, DNLOAD, 0, "\x21\x00\x00\x02\x08", 5), 5);
                break;
        case DNLOAD_IDLE:
                assert_status(bench_point(bench, 0x08020000), DNLOAD_IDLE, 0);
                break;
        case MANIFEST_SYNC:
                assert_int_equal(bench_out(bench, DNLOAD, 0, NULL, 0), 0);
                break;
        case UPLOAD_IDLE:
                assert_int_equal(bench_in(bench, UPLOAD, 2, block, 64), 64);
                break;
        case ERROR:
                assert_status(bench_point(bench, 0x20000000), ERROR, 1);
                break;
        }
        assert_int_equal(bench_state(bench), wanted);
        return bench;
}

static void test_every_request_in_every_state(void **state)
{
        static const int states[] = { IDLE, DNLOAD_SYNC, DNLOAD_IDLE, MANIFEST_SYNC, UPLOAD_IDLE, ERROR };
        enum { STALL = -1 };
        /* The state after it, STALL: refused, and dfuERROR; for GETSTATUS what it reports. */
        static const struct {
                uint8_t request;
                uint16_t length;
                int after[ELEMENTSOF(states)];
        } rows[] = {
                { DNLOAD, 64, { DNLOAD_SYNC, STALL, DNLOAD_SYNC, STALL, STALL, STALL } },
                { DNLOAD, 0, { MANIFEST_SYNC, STALL, MANIFEST_SYNC, STALL, STALL, STALL } },
                { DNLOAD, 2049, { STALL, STALL, STALL, STALL, STALL, STALL } },
                { UPLOAD, 64, { UPLOAD_IDLE, STALL, STALL, STALL, UPLOAD_IDLE, STALL } },
                { UPLOAD, 0, { IDLE, STALL, STALL, STALL, IDLE, STALL } },
                { UPLOAD, 2049, { STALL, STALL, STALL, STALL, STALL, STALL } },
                { GETSTATUS, 6, { IDLE, DNBUSY, DNLOAD_IDLE, MANIFEST, UPLOAD_IDLE, ERROR } },
                { GETSTATE, 1, { IDLE, DNLOAD_SYNC, DNLOAD_IDLE, MANIFEST_SYNC, UPLOAD_IDLE, ERROR } },
                { CLRSTATUS, 0, { ERROR, ERROR, ERROR, ERROR, ERROR, IDLE } },
                { ABORT, 0, { IDLE, IDLE, IDLE, IDLE, IDLE, STALL } },
                { 7, 0, { STALL, STALL, STALL, STALL, STALL, STALL } },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (size_t k = 0; k < ELEMENTSOF(states); k++) {
                        struct bench *bench = in_state(states[k]);
                        bool in = rows[i].request == UPLOAD || rows[i].request == GETSTATUS || rows[i].request == GETSTATE;
                        uint8_t bytes[2049] = { 0 };
                        int r = bench_control(bench, in ? 0xa1 : 0x21, rows[i].request, 2, 0, bytes, rows[i].length, 1000 * MS);

                        if (rows[i].after[k] == STALL) {
                                assert_int_equal(r, -EPIPE);
                                assert_status(bench_status(bench), ERROR, states[k] == ERROR ? 1 : 15);
                        } else {
                                assert_int_equal(r, rows[i].length);
                                if (rows[i].request == GETSTATUS)
                                        assert_int_equal(bytes[4], rows[i].after[k]);
                                else
                                        assert_int_equal(bench_state(bench), rows[i].after[k]);
                                if (rows[i].request == CLRSTATUS)
                                        assert_status(bench_status(bench), rows[i].after[k], rows[i].after[k] == ERROR ? 14 : 0);
                        }
                        bench_free(bench);
                }
}

/* Nothing is lost of the last words, and nothing goes beyond them. */
static void test_the_end_of_flash(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);
        uint8_t bytes[64];

        assert_status(bench_erase(bench, 0x081c0000), DNLOAD_IDLE, 0);
        assert_status(bench_point(bench, 0x081ffffc), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 2, "\x12\x34\x56\x78", 4), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x081ffffc, bytes, 4), 0);
        assert_memory_equal(bytes, "\x12\x34\x56\x78", 4);
        assert_status(bench_write(bench, 2, "\x12\x34\x56\x78\x9a", 5), ERROR, 1);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 2, bytes, 4), 4);
        assert_memory_equal(bytes, "\x12\x34\x56\x78", 4);
        abort_to_idle(bench);
        assert_int_equal(bench_in(bench, UPLOAD, 2, bytes, 8), -EPIPE);
        assert_status(bench_status(bench), ERROR, 1);
        bench_free(bench);

        /* Flash words of 32 bytes; block numbers lead out of it, and never back. */
        bench = in_rom(SIM_OPENMV4);
        assert_int_equal(bench_in(bench, UPLOAD, 0xffff, block, 1024), -EPIPE);
        assert_status(bench_status(bench), ERROR, 1);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_write(bench, 0xffff, block, 1024), ERROR, 1);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_erase(bench, 0x08000000), DNLOAD_IDLE, 0);
        assert_status(bench_point(bench, 0x08000010), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 2, block, 32), ERROR, 1);
        bench_free(bench);
}

/* A bus reset in the ROM: it begins anew once it is configured again. */
static void test_bus_reset_begins_anew(void **state)
{
        struct bench *bench = in_state(DNLOAD_SYNC);

        sim_camera_bus_reset(bench->camera);
        assert_int_equal(bench_control(bench, 0xa1, GETSTATUS, 0, 0, block, 6, 100 * MS), -EPIPE);
        assert_int_equal(bench_control(bench, 0x00, 9, 1, 0, NULL, 0, 100 * MS), 0);
        assert_status(bench_status(bench), IDLE, 0);
        bench_free(bench);
}

/* Where the pointer stands after an erase is not documented; the model moves it, as ST's later library does. */
static void test_erase_moves_the_pointer(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);
        struct sim_config config;
        uint8_t bytes[64];

        assert_status(bench_point(bench, 0x08020000), DNLOAD_IDLE, 0);
        assert_status(bench_erase(bench, 0x08018000), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 2, block, 64), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08018000, bytes, 64), 0);
        assert_memory_equal(bytes, block, 64);
        bench_free(bench);

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.rom_erase_keeps_pointer = true;
        bench = in_rom_with(SIM_OPENMV3, &config);
        assert_status(bench_point(bench, 0x08020000), DNLOAD_IDLE, 0);
        assert_status(bench_erase(bench, 0x08020000), DNLOAD_IDLE, 0);
        assert_status(bench_erase(bench, 0x08018000), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 2, block, 64), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08020000, bytes, 64), 0);
        assert_memory_equal(bytes, block, 64);
        bench_free(bench);
}

/* --- poll timeouts (B.3) --- */

static unsigned first_poll(struct bench *bench, const void *command, size_t size, uint16_t number)
{
        struct bench_status s, second;

        assert_int_equal(bench_out(bench, DNLOAD, number, command, size), size);
        s = bench_status(bench);
        assert_status(s, DNBUSY, 0);
        second = bench_status(bench);
        assert_status(second, DNLOAD_IDLE, 0);
        assert_int_equal(second.poll, 0);
        return s.poll;
}

static void test_poll_timeouts(void **state)
{
        struct sim_config config;
        struct bench *bench = in_rom(SIM_OPENMV2);
        uint64_t before;

        assert_int_equal(first_poll(bench, "\x41\x00\x00\x01\x08", 5, 0), 100);
        before = bench->now;
        assert_int_equal(first_poll(bench, "\x21\x00\x00\x01\x08", 5, 0), 104);
        assert_in_range(bench->now - before, 0, 3 * MS);       /* polling at once works */
        assert_int_equal(first_poll(bench, block, 2048, 2), 0);
        before = bench->now;
        assert_int_equal(first_poll(bench, "\x41", 1, 0), 100);
        assert_in_range(bench->now - before, 8000 * MS, 9000 * MS);
        bench_free(bench);

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.rom_write_poll_ms = 7;
        bench = in_rom_with(SIM_OPENMV3, &config);
        assert_int_equal(first_poll(bench, "\x21\x00\x00\x02\x08", 5, 0), 0);
        assert_int_equal(first_poll(bench, block, 2048, 2), 7);
        bench_free(bench);

        /* H743, bank 1: the reply itself comes with the erase done. */
        bench = in_rom(SIM_OPENMV4);
        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x41\x00\x00\x00\x08", 5), 5);
        before = bench->now;
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_in_range(bench->now - before, 850 * MS, 950 * MS);
        before = bench->now;
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        assert_in_range(bench->now - before, 0, 2 * MS);
        bench_free(bench);
}

/* --- quirks (B.4) --- */

static void test_quirk_1_first_dfu_error(void **state)
{
        struct bench *bench = in_rom_with(SIM_OPENMV2, NULL);

        assert_int_equal(bench_in(bench, UPLOAD, 2, block, 64), -EPIPE);
        assert_status(bench_status(bench), ERROR, 10);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_status(bench), IDLE, 0);
        bench_free(bench);
        bench = in_rom_with(SIM_OPENMV3, NULL);
        assert_status(bench_status(bench), IDLE, 0);
        bench_free(bench);
}

static void test_quirk_2_clrstatus_outside_error(void **state)
{
        struct sim_config config;
        struct bench *bench;

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.rom_strict_clrstatus = true;
        bench = in_rom_with(SIM_OPENMV3, &config);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), -EPIPE);
        bench_free(bench);
        bench = in_rom(SIM_OPENMV3);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_status(bench), ERROR, 14);
        bench_free(bench);
}

static void test_quirk_3_rev_v_wedge(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV4);
        uint8_t bytes[64];
        uint64_t before;

        memset(bytes, 0x3c, sizeof(bytes));
        assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08100000, bytes, 64), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x41\x00\x00\x10\x08", 5), 5);
        before = bench->now;
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_in_range(bench->now - before, 16 * MS, 18 * MS);
        for (int i = 0; i < 50; i++) {
                bench_run(bench, 100 * MS);
                assert_status(bench_status(bench), DNBUSY, 0);
        }
        /* The erase itself completed behind it. */
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08100000, bytes, 64), 0);
        assert_true(bytes_all(bytes, 64, 0xff));
        /* ABORT is no way out; the pair of CLRSTATUS is. */
        assert_int_equal(bench_out(bench, ABORT, 0, NULL, 0), -EPIPE);
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_status(bench), ERROR, 14);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_status(bench), IDLE, 0);
        assert_status(bench_point(bench, 0x08100000), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 2, block, 1024), DNLOAD_IDLE, 0);
        bench_free(bench);
}

static struct bench *escaped_too_early(void)
{
        struct bench *bench = in_rom(SIM_OPENMV4);

        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x41\x00\x00\x10\x08", 5), 5);
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        return bench;
}

static void test_quirk_3_escape_too_early(void **state)
{
        struct bench *bench = escaped_too_early();
        uint64_t before = bench->now;
        uint8_t bytes[1024];

        assert_status(bench_point(bench, 0x08100000), DNLOAD_IDLE, 0);
        assert_in_range(bench->now - before, 0, 5 * MS);
        /* The write waits for the erase that still goes on. */
        assert_status(bench_write(bench, 2, block, 1024), DNLOAD_IDLE, 0);
        assert_in_range(bench->now - before, 1950 * MS, 2100 * MS);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08100000, bytes, 1024), 0);
        assert_memory_equal(bytes, block, 1024);
        bench_free(bench);

        /* So do a read, and leaving. */
        bench = escaped_too_early();
        before = bench->now;
        assert_int_equal(bench_in(bench, UPLOAD, 2, bytes, 1024), 1024);
        assert_true(bytes_all(bytes, 1024, 0xff));
        assert_in_range(bench->now - before, 1950 * MS, 2100 * MS);
        bench_free(bench);
        bench = escaped_too_early();
        before = bench->now;
        assert_status(bench_point(bench, 0x08000000), DNLOAD_IDLE, 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, NULL, 0), 0);
        assert_int_equal(bench_status(bench).result, -ESHUTDOWN);
        assert_in_range(bench->now - before, 1950 * MS, 2100 * MS);
        bench_free(bench);

        /* Power off instead: the sector is half erased. */
        bench = in_rom(SIM_OPENMV4);
        memset(bytes, 0, sizeof(bytes));
        assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08100000, bytes, 1024), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x41\x00\x00\x10\x08", 5), 5);
        assert_status(bench_status(bench), DNBUSY, 0);
        bench_run(bench, 500 * MS);
        sim_camera_unplug(bench->camera);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08100000, bytes, 1024), 0);
        assert_false(bytes_all(bytes, 1024, 0xff));
        assert_false(bytes_all(bytes, 1024, 0x00));
        bench_free(bench);
}

static void test_quirk_3_not_on_other_revisions(void **state)
{
        struct sim_config config;
        struct bench *bench;

        sim_config_default(&config, SIM_OPENMV4, 1);
        config.h743_rev_v = false;
        bench = in_rom_with(SIM_OPENMV4, &config);
        assert_status(bench_erase(bench, 0x08100000), DNLOAD_IDLE, 0);
        bench_free(bench);
        bench = in_rom(SIM_OPENMV4);
        assert_status(bench_erase(bench, 0x080e0000), DNLOAD_IDLE, 0);
        bench_free(bench);
}

static void test_quirk_4_mass_erase(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV4);

        assert_status(bench_write(bench, 0, "\x41", 1), ERROR, 4);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000, block, 16), 0);
        assert_false(bytes_all(block, 16, 0xff));
        bench_free(bench);
        bench = in_rom(SIM_OPENMV3);
        assert_status(bench_write(bench, 0, "\x41", 1), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000, block, 16), 0);
        assert_true(bytes_all(block, 16, 0xff));
        bench_free(bench);
}

static void test_quirk_5_dual_bank(void **state)
{
        struct sim_config config;
        struct bench *bench;
        uint8_t bytes[256];

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.f765_dual_bank = true;
        bench = in_rom_with(SIM_OPENMV3, &config);
        memset(bytes, 0x0f, sizeof(bytes));
        assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08080000, bytes, 256), 0);
        assert_status(bench_erase(bench, 0x08080000), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08080000, bytes, 256), 0);
        assert_true(bytes_all(bytes, 256, 0x0f));
        assert_status(bench_point(bench, 0x08080000), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 2, block, 256), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08080000, bytes, 256), 0);
        for (size_t i = 0; i < 256; i++)
                assert_int_equal(bytes[i], block[i] & 0x0f);
        /* Below it all is well. */
        assert_status(bench_erase(bench, 0x08040000), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08040000, bytes, 256), 0);
        assert_true(bytes_all(bytes, 256, 0xff));
        bench_free(bench);
}

static void test_quirk_6_stalls_while_busy(void **state)
{
        struct sim_config config;
        struct bench *bench;

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.rom_busy_stalls = true;
        bench = in_rom_with(SIM_OPENMV3, &config);
        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x41\x00\x00\x02\x08", 5), 5);
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_int_equal(bench_status(bench).result, -EPIPE);
        bench_run(bench, 1000 * MS);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        bench_free(bench);
}

static void test_quirk_7_no_answer_when_leaving(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV4);

        assert_status(bench_point(bench, 0x08000000), DNLOAD_IDLE, 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, NULL, 0), 0);
        assert_int_equal(bench_status(bench).result, -ESHUTDOWN);
        assert_true(bench_wait(bench, SIM_BOOTLOADER, 5000 * MS));
        bench_free(bench);
}

static void test_quirk_8_programming_ands(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);
        uint8_t bytes[16];

        assert_status(bench_point(bench, 0x08000000), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08000000, "\x55\x55\x55\x55", 4), 0);
        assert_status(bench_write(bench, 2, "\x0f\x0f\x0f\x0f", 4), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000, bytes, 4), 0);
        assert_true(bytes_all(bytes, 4, 0x05));
        bench_free(bench);
}

static void test_quirk_9_stays_for_ever(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);

        bench_run(bench, 24 * 3600000 * MS);
        assert_status(bench_status(bench), IDLE, 0);
        sim_camera_bus_reset(bench->camera);
        bench_run(bench, 1000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_ROM_DFU);
        /* The jumper is looked at on reset only: taken off, nothing changes until power is cycled. */
        sim_camera_set_jumper(bench->camera, false);
        bench_run(bench, 1000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_ROM_DFU);
        sim_camera_unplug(bench->camera);
        bench_plug(bench, SIM_BOOTLOADER);
        bench_free(bench);
}

static void test_read_protection(void **state)
{
        struct sim_config config;
        struct bench *bench;

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.rom_read_protected = true;
        bench = in_rom_with(SIM_OPENMV3, &config);
        assert_int_equal(bench_in(bench, UPLOAD, 2, block, 64), -EPIPE);
        assert_status(bench_status(bench), ERROR, 11);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_erase(bench, 0x08000000), ERROR, 11);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_write(bench, 2, block, 64), ERROR, 11);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        /* Read Unprotect erases everything, resets, and with the jumper on the ROM is there again. */
        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x92", 1), 1);
        assert_status(bench_status(bench), DNBUSY, 0);
        bench_run(bench, 20000 * MS);
        assert_int_equal(bench->n_disconnects, 1);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_ROM_DFU);
        assert_int_equal(bench_in(bench, UPLOAD, 2, block, 64), 64);
        assert_true(bytes_all(block, 64, 0xff));
        bench_free(bench);
}

static void test_leave_is_a_jump(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);

        /* The jumper still stands: no reset, so it does not matter. */
        assert_status(bench_point(bench, 0x08000000), DNLOAD_IDLE, 0);
        assert_int_equal(bench_out(bench, DNLOAD, 2, NULL, 0), 0);
        assert_status(bench_status(bench), MANIFEST, 0);
        assert_true(bench_wait(bench, SIM_BOOTLOADER, 5000 * MS));
        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        /* But the next reset sees it. */
        sim_camera_reset(bench->camera, /* forced= */ true);
        assert_true(bench_wait(bench, SIM_ROM_DFU, 5000 * MS));
        /* Straight to the firmware. */
        assert_status(bench_point(bench, 0x08020000), DNLOAD_IDLE, 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, NULL, 0), 0);
        assert_status(bench_status(bench), MANIFEST, 0);
        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        sim_camera_reset(bench->camera, /* forced= */ false);
        assert_true(bench_wait(bench, SIM_ROM_DFU, 5000 * MS));
        /* To where nothing runs. */
        assert_status(bench_point(bench, 0x08010000), DNLOAD_IDLE, 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, NULL, 0), 0);
        assert_status(bench_status(bench), MANIFEST, 0);
        bench_run(bench, 20000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_SILENT);
        bench_free(bench);
}

static void test_restoring_a_bootloader(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4 };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct bench *bench = bench_new(boards[i], NULL);
                _cleanup_free_ uint8_t *image = NULL;
                uint16_t chunk = boards[i] == SIM_OPENMV4 ? 1024 : 2048;
                size_t size;

                sim_camera_flash_blank(bench->camera, false, 0x08000000, 0x8000);
                bench_plug_with_jumper(bench);
                if (bench_state(bench) == ERROR)
                        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
                assert_int_equal(sim_image_bootloader(boards[i], SIM_BL_1_0_3, false, &image, &size), 0);
                assert_status(bench_erase(bench, 0x08000000), DNLOAD_IDLE, 0);
                assert_status(bench_point(bench, 0x08000000), DNLOAD_IDLE, 0);
                for (uint16_t n = 0; n < size / chunk; n++)
                        assert_status(bench_write(bench, (uint16_t)(2 + n), image + n * chunk, chunk), DNLOAD_IDLE, 0);
                if (size % chunk) {
                        assert_status(bench_point(bench, (uint32_t)(0x08000000 + size - size % chunk)), DNLOAD_IDLE, 0);
                        assert_status(bench_write(bench, 2, image + size - size % chunk, size % chunk), DNLOAD_IDLE, 0);
                }
                sim_camera_unplug(bench->camera);
                sim_camera_set_jumper(bench->camera, false);
                bench_plug(bench, SIM_BOOTLOADER);
                assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
                bench_free(bench);
        }
}

/* --- who else shows these ids --- */

static void test_n6_is_no_flash_programmer(void **state)
{
        struct bench *bench = in_rom_with(SIM_OPENMV_N6, NULL);
        struct sim_descriptors d;

        sim_camera_descriptors(bench->camera, &d);
        assert_int_equal(get_le16(d.device + 8), 0x0483);
        assert_int_equal(get_le16(d.device + 10), 0xdf11);
        assert_status(bench_status(bench), IDLE, 0);
        assert_int_equal(bench_in(bench, UPLOAD, 2, block, 64), -EPIPE);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x41\x00\x00\x00\x08", 5), -EPIPE);
        bench_free(bench);
}

static void test_ae3_has_no_rom_dfu(void **state)
{
        struct bench *bench = bench_new(SIM_OPENMV_AE3, NULL);

        sim_camera_set_jumper(bench->camera, true);
        bench_plug(bench, SIM_BOOTLOADER);
        bench_free(bench);
}

static void test_foreign_device(void **state)
{
        static const enum sim_chip chips[] = { SIM_F427, SIM_F765, SIM_H743 };

        for (size_t i = 0; i < ELEMENTSOF(chips); i++) {
                struct sim_config config;
                struct bench *bench;

                sim_config_default(&config, SIM_FOREIGN, 3);
                config.chip = chips[i];
                bench = bench_new(SIM_FOREIGN, &config);
                bench_plug(bench, SIM_ROM_DFU);
                if (chips[i] == SIM_F427) {
                        assert_status(bench_status(bench), ERROR, 10);
                        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
                }
                assert_status(bench_status(bench), IDLE, 0);
                assert_int_equal(bench_in(bench, UPLOAD, 2, block, 64), 64);
                bench_free(bench);
        }
}

static void test_power_lost_while_erasing(void **state)
{
        struct bench *bench = in_rom(SIM_OPENMV3);
        uint8_t bytes[64];

        assert_int_equal(bench_out(bench, DNLOAD, 0, "\x41\x00\x00\x00\x08", 5), 5);
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_UNPLUG_FLASH, .request_type = -1, .request = GETSTATUS, .count = 1 });
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_int_equal(bench_status(bench).result, -ESHUTDOWN);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000, bytes, 64), 0);
        assert_false(bytes_all(bytes, 64, 0xff));
        sim_camera_set_jumper(bench->camera, false);
        sim_camera_plug(bench->camera);
        bench_run(bench, 5000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_SILENT);
        bench_free(bench);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_strings_byte_for_byte),
                cmocka_unit_test(test_string_switches),
                cmocka_unit_test(test_set_interface_is_range_checked),
                cmocka_unit_test(test_get_commands),
                cmocka_unit_test(test_upload_needs_idle),
                cmocka_unit_test(test_refusals_may_keep_the_state),
                cmocka_unit_test(test_block_addressing),
                cmocka_unit_test(test_a_command_begins_with_getstatus),
                cmocka_unit_test(test_write_and_read_back),
                cmocka_unit_test(test_errors),
                cmocka_unit_test(test_every_request_in_every_state),
                cmocka_unit_test(test_the_end_of_flash),
                cmocka_unit_test(test_bus_reset_begins_anew),
                cmocka_unit_test(test_erase_moves_the_pointer),
                cmocka_unit_test(test_poll_timeouts),
                cmocka_unit_test(test_quirk_1_first_dfu_error),
                cmocka_unit_test(test_quirk_2_clrstatus_outside_error),
                cmocka_unit_test(test_quirk_3_rev_v_wedge),
                cmocka_unit_test(test_quirk_3_escape_too_early),
                cmocka_unit_test(test_quirk_3_not_on_other_revisions),
                cmocka_unit_test(test_quirk_4_mass_erase),
                cmocka_unit_test(test_quirk_5_dual_bank),
                cmocka_unit_test(test_quirk_6_stalls_while_busy),
                cmocka_unit_test(test_quirk_7_no_answer_when_leaving),
                cmocka_unit_test(test_quirk_8_programming_ands),
                cmocka_unit_test(test_quirk_9_stays_for_ever),
                cmocka_unit_test(test_read_protection),
                cmocka_unit_test(test_leave_is_a_jump),
                cmocka_unit_test(test_restoring_a_bootloader),
                cmocka_unit_test(test_n6_is_no_flash_programmer),
                cmocka_unit_test(test_ae3_has_no_rom_dfu),
                cmocka_unit_test(test_foreign_device),
                cmocka_unit_test(test_power_lost_while_erasing),
        };

        return cmocka_run_group_tests_name("model-rom", tests, NULL, NULL);
}
