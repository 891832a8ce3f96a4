/* SPDX-License-Identifier: MIT */
/*
 * The model's OpenMV bootloader, fact by fact from dfu.md part A.  Each case is
 * a sentence of it.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "unit/model-host.h"

enum { DETACH, DNLOAD, UPLOAD, GETSTATUS, CLRSTATUS, GETSTATE, ABORT };
enum { IDLE = 2, DNLOAD_SYNC, DNBUSY, DNLOAD_IDLE, MANIFEST_SYNC, MANIFEST, ERROR = 10 };
enum { M7_FILESYSTEM = 1, M7_FIRMWARE = 2, M7_ROMFS = 3 };

#define MS UINT64_C(1000)

static uint8_t block[4096];

static void fill(uint8_t seed)
{
        for (size_t i = 0; i < sizeof(block); i++)
                block[i] = (uint8_t)(i * 7 + i / 256 + seed);
}

static struct bench *plugged(enum sim_board board)
{
        struct bench *bench = bench_new(board, NULL);

        bench_plug(bench, SIM_BOOTLOADER);
        return bench;
}

/* Plugged in and attached by one small UPLOAD. */
static struct bench *held(enum sim_board board)
{
        struct bench *bench = plugged(board);
        uint8_t bytes[64];

        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        return bench;
}

static struct bench *with_bootloader(enum sim_board board, enum sim_bootloader bootloader)
{
        struct sim_config config;
        struct bench *bench;

        sim_config_default(&config, board, 1);
        config.bootloader = bootloader;
        bench = bench_new(board, &config);
        bench_plug(bench, SIM_BOOTLOADER);
        return bench;
}

static void is_gone_for_good(struct bench *bench)
{
        assert_true(bench_wait(bench, SIM_SILENT, 3000 * MS));
        bench_run(bench, 20000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_SILENT);
}

/* --- enumeration (A.1, A.2) --- */

static void test_descriptors(void **state)
{
        static const uint8_t device[18] = {
                18, 1, 0x00, 0x02, 0, 0, 0, 64, 0xc5, 0x37, 0x03, 0x92, 0x03, 0x01, 1, 2, 3, 1,
        };
        static const uint8_t functional[9] = { 0x09, 0x21, 0x07, 0xe8, 0x03, 0x00, 0x10, 0x01, 0x01 };
        struct bench *bench = plugged(SIM_OPENMV3);
        struct sim_descriptors d;
        uint8_t bytes[256];

        sim_camera_descriptors(bench->camera, &d);
        assert_memory_equal(d.device, device, 18);
        assert_int_equal(d.config_size, 9 + 9 * 4 + 9);
        assert_memory_equal(d.config, "\x09\x02\x36\x00\x01\x01\x00\x80\xfa", 9);
        for (uint8_t alt = 0; alt < 4; alt++)
                assert_memory_equal(d.config + 9 + 9 * alt, ((uint8_t[]){ 9, 4, 0, alt, 0, 0xfe, 1, 2, (uint8_t)(4 + alt) }), 9);
        assert_memory_equal(d.config + 45, functional, 9);
        assert_string_equal(d.manufacturer, "OpenMV");
        assert_string_equal(d.product, "OpenMV Camera (DFU Mode)");
        assert_int_equal(d.speed, 12);

        /* The same over the wire, cut to wLength. */
        assert_int_equal(bench_control(bench, 0x80, 6, 0x0100, 0, bytes, 64, MS * 100), 18);
        assert_memory_equal(bytes, device, 18);
        assert_int_equal(bench_control(bench, 0x80, 6, 0x0200, 0, bytes, 9, MS * 100), 9);
        assert_int_equal(bench_control(bench, 0x80, 6, 0x0200, 0, bytes, 255, MS * 100), 54);
        assert_memory_equal(bytes, d.config, 54);
        assert_int_equal(bench_control(bench, 0x80, 6, 0x0300, 0, bytes, 255, MS * 100), 4);
        assert_memory_equal(bytes, "\x04\x03\x09\x04", 4);
        assert_int_equal(bench_control(bench, 0x80, 6, 0x0306, 0x0409, bytes, 255, MS * 100), 2 + 2 * 8);
        assert_memory_equal(bytes, "\x12\x03" "F\0I\0R\0M\0W\0A\0R\0E\0", 18);
        bench_free(bench);
}

static void test_unknown_strings_stall(void **state)
{
        struct bench *bench = plugged(SIM_OPENMV3);
        uint8_t bytes[255];

        assert_int_equal(bench_control(bench, 0x80, 6, 0x03ee, 0, bytes, 255, 100 * MS), -EPIPE);
        assert_int_equal(bench_control(bench, 0x80, 6, 0x0308, 0x0409, bytes, 255, 100 * MS), -EPIPE);
        assert_int_equal(bench_control(bench, 0x80, 6, 0x0600, 0, bytes, 10, 100 * MS), -EPIPE);
        bench_free(bench);
        bench = plugged(SIM_OPENMV_N6);
        assert_int_equal(bench_control(bench, 0x80, 6, 0x0600, 0, bytes, 10, 100 * MS), 10);
        assert_memory_equal(bytes, "\x0a\x06\x00\x02\x00\x00\x00\x40\x01\x00", 10);
        bench_free(bench);
}

static void test_standard_requests(void **state)
{
        struct bench *bench = plugged(SIM_OPENMV3);
        uint8_t bytes[4];

        assert_int_equal(bench_control(bench, 0x80, 8, 0, 0, bytes, 1, 100 * MS), 1);
        assert_int_equal(bytes[0], 1);
        assert_int_equal(bench_control(bench, 0x80, 0, 0, 0, bytes, 2, 100 * MS), 2);
        assert_memory_equal(bytes, "\0\0", 2);
        assert_int_equal(bench_control(bench, 0x81, 10, 0, 0, bytes, 1, 100 * MS), 1);
        assert_int_equal(bytes[0], 0);
        assert_int_equal(bench_select(bench, 2), 0);
        assert_int_equal(bench_control(bench, 0x81, 10, 0, 0, bytes, 1, 100 * MS), 1);
        assert_int_equal(bytes[0], 2);
        /* Same value again: a no-op that leaves the alternate setting. */
        assert_int_equal(bench_control(bench, 0x00, 9, 1, 0, NULL, 0, 100 * MS), 0);
        assert_int_equal(bench_control(bench, 0x81, 10, 0, 0, bytes, 1, 100 * MS), 1);
        assert_int_equal(bytes[0], 2);
        /* Interface 1 does not exist; a class request to the device is not one to the interface. */
        assert_int_equal(bench_control(bench, 0xa1, GETSTATUS, 0, 1, bytes, 4, 100 * MS), -EPIPE);
        assert_int_equal(bench_control(bench, 0xa0, GETSTATUS, 0, 0, bytes, 4, 100 * MS), -EPIPE);
        assert_int_equal(bench_control(bench, 0xa1, 7, 0, 0, bytes, 4, 100 * MS), -EPIPE);
        bench_free(bench);
}

static void test_partitions_of_every_board(void **state)
{
        static const struct {
                enum sim_board board;
                uint16_t product;
                const char *names[8];
                uint32_t first_writable, firmware_size;
                const char *firmware;
        } boards[] = {
                { SIM_OPENMV2, 0x9202, { "BOOTLOADER", "FILESYSTEM", "FIRMWARE", "ROMFS0" }, 0x08008000, 851968, "FIRMWARE" },
                { SIM_OPENMV3, 0x9203, { "BOOTLOADER", "FILESYSTEM", "FIRMWARE", "ROMFS0" }, 0x08008000, 1703936, "FIRMWARE" },
                { SIM_OPENMV4, 0x9204, { "BOOTLOADER", "FILESYSTEM", "FIRMWARE", "ROMFS0" }, 0x08020000, 1703936, "FIRMWARE" },
                { SIM_OPENMV4P, 0x924a, { "BOOTLOADER", "FILESYSTEM", "FIRMWARE", "SPI_FLASH", "ROMFS0" }, 0x08020000, 1835008, "FIRMWARE" },
                { SIM_OPENMVPT, 0x9205, { "BOOTLOADER", "FILESYSTEM", "FIRMWARE", "SPI_FLASH", "ROMFS0" }, 0x08020000, 1835008, "FIRMWARE" },
                { SIM_OPENMV_N6, 0x9206, { "BOOTLOADER", "FIRMWARE", "FILESYSTEM", "ROMFS0" }, 0x00080000, 3670016, "FIRMWARE" },
                { SIM_OPENMV_AE3, 0x96e3, { "BOOT", "HP", "HE", "ROMFS1", "TOC", "RWFS", "ROMFS0", "RECOVERY" }, 0x80020000, 3145728, "HP" },
        };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct bench *bench = plugged(boards[i].board);
                const struct sim_partition *p;
                size_t n = sim_camera_partitions(bench->camera, &p), k = 0;
                struct sim_descriptors d;

                sim_camera_descriptors(bench->camera, &d);
                assert_int_equal(get_le16(d.device + 10), boards[i].product);
                assert_int_equal(d.config_size, 18 + 9 * n);
                for (; k < 8 && boards[i].names[k]; k++) {
                        uint8_t bytes[255];
                        size_t length = strlen(boards[i].names[k]);

                        assert_string_equal(p[k].name, boards[i].names[k]);
                        assert_int_equal(bench_control(bench, 0x80, 6, (uint16_t)(0x0304 + k), 0x0409, bytes, 255, 100 * MS), 2 + 2 * length);
                        for (size_t c = 0; c < length; c++)
                                assert_int_equal(get_le16(bytes + 2 + 2 * c), boards[i].names[k][c]);
                }
                assert_int_equal(n, k);
                assert_true(p[0].read_only);
                assert_int_equal(p[1].start, boards[i].first_writable);
                for (k = 0; k < n; k++)
                        if (strcmp(p[k].name, boards[i].firmware) == 0)
                                assert_int_equal(p[k].limit - p[k].start, boards[i].firmware_size);
                bench_free(bench);
        }
}

static void test_old_layout(void **state)
{
        struct bench *bench = with_bootloader(SIM_OPENMV3, SIM_BL_1_0_0_OLD_LAYOUT);
        const struct sim_partition *p;
        struct sim_descriptors d;

        assert_int_equal(sim_camera_partitions(bench->camera, &p), 3);
        assert_int_equal(p[2].limit, 0x08200000);
        sim_camera_descriptors(bench->camera, &d);
        assert_int_equal(get_le16(d.device + 12), 0x0200);
        assert_int_equal(d.config_size, 9 + 27 + 9);
        bench_free(bench);

        bench = with_bootloader(SIM_OPENMV4P, SIM_BL_1_0_0_OLD_LAYOUT);
        assert_int_equal(sim_camera_partitions(bench->camera, &p), 4);
        assert_string_equal(p[3].name, "SPI_FLASH");
        bench_free(bench);

        bench = with_bootloader(SIM_OPENMV_AE3, SIM_BL_1_0_0_OLD_LAYOUT);
        assert_int_equal(sim_camera_partitions(bench->camera, &p), 8);
        assert_int_equal(p[5].limit, 16 << 20);
        assert_int_equal(p[6].start, 16 << 20);
        bench_free(bench);
}

static void test_version_header(void **state)
{
        static const uint8_t header[8] = { 0xad, 0x10, 0x07, 0xb0, 1, 0, 2, 0 };
        struct bench *bench = with_bootloader(SIM_OPENMV4, SIM_BL_1_0_2);
        uint8_t bytes[32];

        assert_int_equal(bench_in(bench, UPLOAD, 1, bytes, 32), 32);
        assert_memory_equal(bytes, header, 8);
        assert_true(bytes[8] == 0 && bytes[31] == 0);
        bench_free(bench);
        /* Before December 2025 there was none. */
        bench = with_bootloader(SIM_OPENMV4, SIM_BL_1_0_0_OLD_LAYOUT);
        assert_int_equal(bench_in(bench, UPLOAD, 1, bytes, 32), 32);
        assert_memory_not_equal(bytes, header, 4);
        bench_free(bench);
}

/* --- staying and leaving (A.3, A.7) --- */

static void test_healthy_camera_passes_through(void **state)
{
        struct bench *bench = plugged(SIM_OPENMV3);
        uint64_t configured = bench->now;
        struct sim_counters c;

        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        assert_in_range(bench->disconnected_at - configured, 1500 * MS, 1510 * MS);
        assert_in_range(bench->connected_at - bench->disconnected_at, 300 * MS, 310 * MS);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.transfers, 0);
        assert_int_equal(c.windows_missed, 1);
        assert_int_equal(c.boots, 1);
        bench_free(bench);
}

static void test_mount_wait(void **state)
{
        struct bench *bench = bench_new(SIM_OPENMV3, NULL);

        bench->enumerate = false;
        bench_plug(bench, SIM_BOOTLOADER);
        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        assert_in_range(bench->disconnected_at, 1000 * MS, 1100 * MS);
        bench_free(bench);
}

static void test_forced_mode(void **state)
{
        struct bench *bench = plugged(SIM_OPENMV3);

        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        sim_camera_reset(bench->camera, /* forced= */ true);
        assert_true(bench_wait(bench, SIM_BOOTLOADER, 5000 * MS));
        bench_run(bench, 60000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_BOOTLOADER);
        /* The word was cleared: the next power cycle has its window again. */
        sim_camera_unplug(bench->camera);
        bench_plug(bench, SIM_BOOTLOADER);
        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        /* Forced or not, an unconfigured device leaves. */
        bench->enumerate = false;
        sim_camera_reset(bench->camera, /* forced= */ true);
        assert_true(bench_wait(bench, SIM_BOOTLOADER, 5000 * MS));
        assert_true(bench_wait(bench, SIM_RUNTIME, 2000 * MS));
        bench_free(bench);
}

static void test_only_upload_and_pending_status_attach(void **state)
{
        struct bench *bench = plugged(SIM_OPENMV3);
        uint64_t configured = bench->now;

        /* All of these, and it leaves nevertheless. */
        assert_status(bench_status(bench), IDLE, 0);
        assert_int_equal(bench_state(bench), IDLE);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_int_equal(bench_out(bench, ABORT, 0, NULL, 0), 0);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        assert_in_range(bench->disconnected_at - configured, 1500 * MS, 1510 * MS);
        bench_free(bench);

        /* An UPLOAD, even one that gives the end-of-file frame. */
        bench = plugged(SIM_OPENMV3);
        assert_int_equal(bench_in(bench, UPLOAD, 0xff00, block, 64), 4);
        bench_run(bench, 60000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_BOOTLOADER);
        bench_free(bench);

        /* A manifest alone. */
        bench = plugged(SIM_OPENMV3);
        assert_int_equal(bench_out(bench, DNLOAD, 0, NULL, 0), 0);
        assert_status(bench_status(bench), MANIFEST, 0);
        assert_status(bench_status(bench), IDLE, 0);
        bench_run(bench, 60000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_BOOTLOADER);
        bench_free(bench);
}

static void test_deconfigured_leaves(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);

        sim_camera_bus_reset(bench->camera);
        assert_true(bench_wait(bench, SIM_RUNTIME, 1000 * MS));
        bench_free(bench);

        bench = held(SIM_OPENMV3);
        assert_int_equal(bench_control(bench, 0x00, 9, 0, 0, NULL, 0, 100 * MS), 0);
        assert_true(bench_wait(bench, SIM_RUNTIME, 1000 * MS));
        bench_free(bench);
}

static void test_detach(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint64_t before;

        /* 1.0.2 and later: at once. */
        assert_int_equal(bench_out(bench, DETACH, 1000, NULL, 0), 0);
        before = bench->now;
        assert_true(bench_wait(bench, SIM_RUNTIME, 1000 * MS));
        assert_in_range(bench->disconnected_at - before, 0, 10 * MS);
        bench_free(bench);

        /* Before: when the window has run out. */
        bench = with_bootloader(SIM_OPENMV3, SIM_BL_1_0_0);
        before = bench->now;
        assert_int_equal(bench_in(bench, UPLOAD, 0, block, 64), 64);
        assert_int_equal(bench_out(bench, DETACH, 1000, NULL, 0), 0);
        bench_run(bench, 1000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_BOOTLOADER);
        assert_true(bench_wait(bench, SIM_RUNTIME, 2000 * MS));
        assert_in_range(bench->disconnected_at - before, 1500 * MS, 1510 * MS);
        bench_free(bench);

        bench = with_bootloader(SIM_OPENMV3, SIM_BL_1_0_0);
        assert_int_equal(bench_in(bench, UPLOAD, 0, block, 64), 64);
        bench_run(bench, 5000 * MS);
        before = bench->now;
        assert_int_equal(bench_out(bench, DETACH, 1000, NULL, 0), 0);
        assert_true(bench_wait(bench, SIM_RUNTIME, 1000 * MS));
        assert_in_range(bench->disconnected_at - before, 0, 10 * MS);

        /* And never in forced mode; a bus reset does it. */
        sim_camera_reset(bench->camera, /* forced= */ true);
        assert_true(bench_wait(bench, SIM_BOOTLOADER, 5000 * MS));
        assert_int_equal(bench_out(bench, DETACH, 1000, NULL, 0), 0);
        bench_run(bench, 20000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_BOOTLOADER);
        sim_camera_bus_reset(bench->camera);
        assert_true(bench_wait(bench, SIM_RUNTIME, 1000 * MS));
        bench_free(bench);
}

static void test_blind_jump(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);

        fill(1);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(bench_out(bench, DETACH, 0, NULL, 0), 0);
        is_gone_for_good(bench);
        /* The power cycle brings the bootloader for its window, then silence again. */
        sim_camera_unplug(bench->camera);
        bench_plug(bench, SIM_BOOTLOADER);
        is_gone_for_good(bench);
        bench_free(bench);
}

/* --- requests and states (A.4) --- */

static void test_one_block(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        struct bench_status s;
        uint8_t back[4096];

        fill(2);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
        assert_int_equal(bench_state(bench), DNLOAD_SYNC);
        s = bench_status(bench);
        assert_status(s, DNBUSY, 0);
        assert_int_equal(s.poll, 0);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        assert_int_equal(bench_state(bench), DNLOAD_IDLE);
        assert_int_equal(bench_in(bench, UPLOAD, 0, back, 4096), 4096);
        assert_memory_equal(back, block, 4096);
        assert_int_equal(bench_state(bench), DNLOAD_IDLE);
        /* 4 and 7 are never resting states. */
        assert_int_equal(bench_out(bench, DNLOAD, 1, NULL, 0), 0);
        assert_int_equal(bench_state(bench), MANIFEST_SYNC);
        assert_status(bench_status(bench), MANIFEST, 0);
        assert_int_equal(bench_state(bench), MANIFEST_SYNC);
        assert_status(bench_status(bench), IDLE, 0);
        assert_int_equal(bench_state(bench), IDLE);
        bench_free(bench);
}

static void test_refused_requests_change_nothing(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t big[4097] = { 0 };

        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, big, 4097), -EPIPE);
        assert_int_equal(bench_in(bench, UPLOAD, 0, big, 4097), -EPIPE);
        assert_status(bench_status(bench), IDLE, 0);
        /* In dfuDNLOAD-SYNC: refused, state and pending block stay. */
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
        assert_int_equal(bench_out(bench, DNLOAD, 1, block, 4096), -EPIPE);
        assert_int_equal(bench_state(bench), DNLOAD_SYNC);
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_int_equal(bench_out(bench, DNLOAD, 1, block, 4096), -EPIPE);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        bench_free(bench);
}

/* --- every request in every state --- */

/* With one block of M7's FIRMWARE pending where the state has one. */
static struct bench *in_state(int wanted)
{
        struct bench *bench = held(SIM_OPENMV3);

        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        switch (wanted) {
        case DNLOAD_SYNC:
                assert_int_equal(bench_out(bench, DNLOAD, 1, block, 4096), 4096);
                break;
        case DNLOAD_IDLE:
                assert_status(bench_write(bench, 1, block, 4096), DNLOAD_IDLE, 0);
                break;
        case MANIFEST_SYNC:
                assert_int_equal(bench_out(bench, DNLOAD, 1, NULL, 0), 0);
                break;
        case ERROR:
                assert_status(bench_write(bench, 416, block, 4096), ERROR, 8);
                break;
        }
        assert_int_equal(bench_state(bench), wanted);
        return bench;
}

static void test_every_request_in_every_state(void **state)
{
        static const struct {
                int state;
                struct {
                        int result, after;
                } download, manifest, upload, get_status, clear, abort, select, detach;
                int reported;           /* by GETSTATUS */
        } rows[] = {
                { IDLE, { 4096, DNLOAD_SYNC }, { 0, MANIFEST_SYNC }, { 64, IDLE }, { 6, IDLE }, { 0, IDLE }, { 0, IDLE }, { 0, IDLE }, { 0, IDLE }, IDLE },
                { DNLOAD_SYNC, { -EPIPE, DNLOAD_SYNC }, { -EPIPE, DNLOAD_SYNC }, { 64, DNLOAD_SYNC }, { 6, DNLOAD_SYNC }, { 0, IDLE }, { 0, IDLE },
                  { 0, IDLE }, { 0, DNLOAD_SYNC }, DNBUSY },
                { DNLOAD_IDLE, { 4096, DNLOAD_SYNC }, { 0, MANIFEST_SYNC }, { 64, DNLOAD_IDLE }, { 6, DNLOAD_IDLE }, { 0, IDLE }, { 0, IDLE },
                  { 0, IDLE }, { 0, DNLOAD_IDLE }, DNLOAD_IDLE },
                { MANIFEST_SYNC, { -EPIPE, MANIFEST_SYNC }, { -EPIPE, MANIFEST_SYNC }, { 64, MANIFEST_SYNC }, { 6, MANIFEST_SYNC }, { 0, IDLE },
                  { 0, IDLE }, { 0, IDLE }, { 0, MANIFEST_SYNC }, MANIFEST },
                { ERROR, { -EPIPE, ERROR }, { -EPIPE, ERROR }, { 64, ERROR }, { 6, ERROR }, { 0, IDLE }, { 0, IDLE }, { 0, IDLE }, { 0, ERROR }, ERROR },
        };

        for (size_t i = 0; i < ELEMENTSOF(rows); i++)
                for (int request = 0; request < 10; request++) {
                        struct bench *bench = in_state(rows[i].state);
                        uint8_t bytes[4096] = { 0 };
                        int result = -EPIPE, after = rows[i].state, r;

                        switch (request) {
                        case 0:
                                r = bench_out(bench, DNLOAD, 2, bytes, 4096);
                                result = rows[i].download.result;
                                after = rows[i].download.after;
                                break;
                        case 1:
                                r = bench_out(bench, DNLOAD, 2, NULL, 0);
                                result = rows[i].manifest.result;
                                after = rows[i].manifest.after;
                                break;
                        case 2:
                                r = bench_in(bench, UPLOAD, 0, bytes, 64);
                                result = rows[i].upload.result;
                                after = rows[i].upload.after;
                                break;
                        case 3:
                                r = bench_in(bench, GETSTATUS, 0, bytes, 6);
                                assert_int_equal(bytes[4], rows[i].reported);
                                assert_int_equal(bytes[0], rows[i].state == ERROR ? 8 : 0);
                                assert_int_equal(bytes[5], 0);
                                result = rows[i].get_status.result;
                                after = rows[i].get_status.after;
                                break;
                        case 4:
                                r = bench_out(bench, CLRSTATUS, 0, NULL, 0);
                                result = rows[i].clear.result;
                                after = rows[i].clear.after;
                                break;
                        case 5:
                                r = bench_out(bench, ABORT, 0, NULL, 0);
                                result = rows[i].abort.result;
                                after = rows[i].abort.after;
                                break;
                        case 6:
                                r = bench_select(bench, M7_FIRMWARE);
                                result = rows[i].select.result;
                                after = rows[i].select.after;
                                break;
                        case 7:
                                r = bench_in(bench, GETSTATE, 0, bytes, 1);
                                result = 1;
                                assert_int_equal(bytes[0], rows[i].state);
                                break;
                        case 8:
                                r = bench_out(bench, 7, 0, NULL, 0);
                                break;
                        default:
                                r = bench_out(bench, DETACH, 0, NULL, 0);
                                result = rows[i].detach.result;
                                break;
                        }
                        assert_int_equal(r, result);
                        if (request == 9)
                                assert_true(bench_wait(bench, SIM_SILENT, 10 * MS));
                        else
                                assert_int_equal(bench_state(bench), after);
                        /* What was reset is clean. */
                        if (request >= 4 && request <= 6)
                                assert_status(bench_status(bench), IDLE, 0);
                        bench_free(bench);
                }
}

/* An UPLOAD that succeeds says nothing of an older error. */
static void test_upload_keeps_an_error(void **state)
{
        struct bench *bench = in_state(ERROR);

        assert_int_equal(bench_in(bench, UPLOAD, 0, block, 64), 64);
        assert_int_equal(bench_in(bench, UPLOAD, 0xffff, block, 64), 4);
        assert_status(bench_status(bench), ERROR, 8);
        bench_free(bench);
}

/* The state changes when the status stage is through, and not before. */
static void test_state_changes_with_the_status_stage(void **state)
{
        struct bench *bench = in_state(DNLOAD_SYNC);
        struct sim_counters c;
        uint8_t reply[6];

        assert_int_equal(bench_control(bench, 0xa1, GETSTATUS, 0, 0, reply, 6, 100), -ETIMEDOUT);
        assert_int_equal(bench_state(bench), DNLOAD_SYNC);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.programmed_bytes, 0);
        /* A reply that is cut short counts like a whole one. */
        assert_int_equal(bench_in(bench, GETSTATUS, 0, reply, 1), 1);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.programmed_bytes, 4096);
        bench_free(bench);
}

/* Its SETUP was acknowledged by hardware: the main loop finds it when the flash is done. */
static void test_given_up_while_busy(void **state)
{
        static const struct {
                uint8_t type, request;
                uint16_t value, length;
                int state;              /* afterwards, if nothing newer has come; 0: gone */
        } requests[] = {
                { 0xa1, GETSTATUS, 0, 6, DNLOAD_SYNC }, { 0x21, ABORT, 0, 0, IDLE }, { 0x21, CLRSTATUS, 0, 0, IDLE },
                { 0x01, 11, M7_ROMFS, 0, IDLE }, { 0x21, DETACH, 0, 0, DNLOAD_SYNC }, { 0x00, 9, 0, 0, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(requests); i++)
                for (int newer = 0; newer < 2; newer++) {
                        struct bench *bench = held(SIM_OPENMV3);
                        uint8_t bytes[64];

                        assert_int_equal(bench_select(bench, M7_ROMFS), 0);
                        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
                        assert_status(bench_status(bench), DNBUSY, 0);
                        assert_int_equal(bench_control(bench, requests[i].type, requests[i].request, requests[i].value, 0, bytes,
                                                       requests[i].length, 50 * MS), -ETIMEDOUT);
                        if (newer) {
                                assert_int_equal(bench_state(bench), DNLOAD_SYNC);
                        } else {
                                bench_run(bench, 2000 * MS);
                                if (requests[i].state == 0)
                                        assert_int_equal(sim_camera_mode(bench->camera), SIM_RUNTIME);
                                else
                                        assert_int_equal(bench_state(bench), requests[i].state);
                        }
                        bench_free(bench);
                }
}

/* Requests without data, sent with some: acted upon, never answered. */
static void test_data_where_none_belongs(void **state)
{
        struct bench *bench = in_state(DNLOAD_SYNC);
        uint8_t bytes[16] = { 0 };

        assert_int_equal(bench_control(bench, 0x21, ABORT, 0, 0, bytes, 4, 1000 * MS), -ETIMEDOUT);
        assert_int_equal(bench_state(bench), IDLE);
        assert_int_equal(bench_control(bench, 0xa1, CLRSTATUS, 0, 0, bytes, 6, 1000 * MS), -ETIMEDOUT);
        /* The wrong way round, a DNLOAD shows the buffer, and has it pending. */
        assert_int_equal(bench_control(bench, 0xa1, DNLOAD, 1, 0, bytes, 16, 1000 * MS), 16);
        assert_memory_equal(bytes, block, 16);
        assert_int_equal(bench_state(bench), DNLOAD_SYNC);
        bench_free(bench);
}

static void test_stale_pending_block(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t before[4096], after[4096];
        struct sim_counters c;

        fill(3);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, before, 4096), 0);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        /* Dropped by SET_INTERFACE, ABORT, CLRSTATUS. */
        for (int i = 0; i < 3; i++) {
                assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
                if (i == 0)
                        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
                else
                        assert_int_equal(bench_out(bench, i == 1 ? ABORT : CLRSTATUS, 0, NULL, 0), 0);
                assert_status(bench_status(bench), IDLE, 0);
        }
        /* Dropped by UPLOAD, which leaves the state: the next GETSTATUS says that all went well. */
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
        assert_int_equal(bench_in(bench, UPLOAD, 0, after, 64), 64);
        assert_int_equal(bench_state(bench), DNLOAD_SYNC);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, after, 4096), 0);
        assert_memory_equal(before, after, 4096);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 0);
        /* Committed by a plain GETSTATUS, however late. */
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
        bench_run(bench, 3600000 * MS);
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, after, 4096), 0);
        assert_memory_equal(block, after, 4096);
        bench_free(bench);
}

static void test_poll_timeout_is_a_lie(void **state)
{
        struct bench *bench = held(SIM_OPENMV4);
        uint64_t before;

        fill(4);
        assert_int_equal(bench_select(bench, 2), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
        before = bench->now;
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_in_range(bench->now - before, 300, 1000);
        before = bench->now;
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        /* 1.1 s of erase and 128 flash words of 130 us. */
        assert_in_range(bench->now - before, 1100 * MS, 1150 * MS);
        /* A block in mid-sector is quick. */
        assert_int_equal(bench_out(bench, DNLOAD, 1, block, 4096), 4096);
        assert_status(bench_status(bench), DNBUSY, 0);
        before = bench->now;
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        assert_in_range(bench->now - before, 16 * MS, 20 * MS);
        bench_free(bench);
}

static void test_old_poll_timeout(void **state)
{
        struct bench *bench = with_bootloader(SIM_OPENMV4P, SIM_BL_1_0_0_OLD_LAYOUT);
        struct bench_status s;

        for (uint8_t alt = 2; alt <= 3; alt++) {
                assert_int_equal(bench_select(bench, alt), 0);
                assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
                s = bench_status(bench);
                assert_status(s, DNBUSY, 0);
                assert_int_equal(s.poll, alt == 3 ? 100 : 0);
                assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        }
        bench_free(bench);
}

static void test_cancelled_while_busy(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t reply[6], after[4096];

        fill(5);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
        assert_status(bench_status(bench), DNBUSY, 0);
        /* The host gives up after 100 ms of NAK, twice: no harm. */
        assert_int_equal(bench_control(bench, 0xa1, GETSTATUS, 0, 0, reply, 6, 100 * MS), -ETIMEDOUT);
        assert_int_equal(bench_control(bench, 0xa1, GETSTATUS, 0, 0, reply, 6, 100 * MS), -ETIMEDOUT);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, after, 4096), 0);
        assert_memory_equal(block, after, 4096);
        bench_free(bench);
}

static void test_reset_while_busy(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t after[4096];

        fill(6);
        assert_int_equal(bench_select(bench, M7_ROMFS), 0);
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
        assert_status(bench_status(bench), DNBUSY, 0);
        sim_camera_bus_reset(bench->camera);
        bench_run(bench, 500 * MS);
        assert_true(bench->connected);          /* the main loop has not come round yet */
        assert_true(bench_wait(bench, SIM_RUNTIME, 2000 * MS));
        assert_int_equal(sim_camera_partition_read(bench->camera, "ROMFS0", 0, after, 4096), 0);
        assert_memory_equal(block, after, 4096);
        bench_free(bench);
}

/* --- writing and reading (A.5, A.6) --- */

static void test_check_order(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        struct sim_counters c;

        /* Read-only comes before the address. */
        assert_int_equal(bench_select(bench, 0), 0);
        assert_status(bench_write(bench, 0, block, 4096), ERROR, 3);
        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), -EPIPE);
        assert_status(bench_status(bench), ERROR, 3);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_status(bench_write(bench, 100, block, 4096), ERROR, 3);
        /* The last block fits, the next is an address error. */
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        assert_status(bench_write(bench, 415, block, 4096), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 416, block, 16), ERROR, 8);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        /* A flash that fails. */
        sim_camera_fail_flash(bench->camera, false, 0x08020000, /* silently= */ false, 1);
        assert_status(bench_write(bench, 0, block, 4096), ERROR, 3);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.stalls, 1);
        bench_free(bench);
}

static void test_upload(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t bytes[4096];

        fill(7);
        assert_int_equal(sim_camera_partition_poke(bench->camera, "ROMFS0", 0x3f000, block, 4096), 0);
        assert_int_equal(bench_select(bench, M7_ROMFS), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 63, bytes, 4096), 4096);
        assert_memory_equal(bytes, block, 4096);
        assert_int_equal(bench_in(bench, UPLOAD, 63, bytes, 100), 100);
        /* Past the end: four zero bytes, nothing wrong. */
        memset(bytes, 0xee, sizeof(bytes));
        assert_int_equal(bench_in(bench, UPLOAD, 64, bytes, 4096), 4);
        assert_memory_equal(bytes, "\0\0\0\0\xee", 5);
        assert_int_equal(bench_in(bench, UPLOAD, 64, bytes, 2), 2);
        assert_status(bench_status(bench), IDLE, 0);
        /* The last byte is reached with a length that fits. */
        assert_int_equal(sim_camera_partition_poke(bench->camera, "FILESYSTEM", 0, block, 4096), 0);
        assert_int_equal(bench_select(bench, M7_FILESYSTEM), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 23, bytes, 4096), 4096);
        assert_int_equal(bench_in(bench, UPLOAD, 24, bytes, 1), 1);
        bench_free(bench);

        bench = held(SIM_OPENMV_AE3);
        assert_int_equal(bench_select(bench, 7), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 0);
        assert_status(bench_status(bench), ERROR, 2);
        bench_free(bench);
}

static void test_alt_is_not_range_checked(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t bytes[64];

        assert_int_equal(bench_select(bench, 9), 0);
        assert_int_equal(bench_control(bench, 0x81, 10, 0, 0, bytes, 1, 100 * MS), 1);
        assert_int_equal(bytes[0], 9);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 4);
        assert_status(bench_write(bench, 0, block, 64), ERROR, 8);
        /* The low byte is all that counts. */
        assert_int_equal(bench_control(bench, 0x01, 11, 0x100 + M7_FIRMWARE, 0, NULL, 0, 100 * MS), 0);
        assert_int_equal(bench_control(bench, 0x81, 10, 0, 0, bytes, 1, 100 * MS), 1);
        assert_int_equal(bytes[0], M7_FIRMWARE);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        bench_free(bench);
}

static void test_upload_of_odd_lengths_and_blocks(void **state)
{
        struct bench *bench = plugged(SIM_OPENMV3);
        uint8_t bytes[4097];

        /* Refused before anybody asks the partition: it does not hold the camera. */
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 4097), -EPIPE);
        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        bench_free(bench);

        bench = held(SIM_OPENMV3);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        /* No block number leads back into the partition. */
        for (unsigned n = 416; n < 65536; n += 163)
                assert_int_equal(bench_in(bench, UPLOAD, (uint16_t)n, bytes, 4096), 4);
        assert_int_equal(bench_in(bench, UPLOAD, 0xffff, bytes, 4096), 4);
        assert_int_equal(bench_in(bench, UPLOAD, 416, bytes, 0), 0);
        /* At the limit with nothing to read: not beyond it, so the driver is asked, and refuses nothing. */
        assert_status(bench_status(bench), ERROR, 2);
        assert_int_equal(bench_out(bench, CLRSTATUS, 0, NULL, 0), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 417, bytes, 0), 0);
        assert_status(bench_status(bench), IDLE, 0);
        assert_status(bench_write(bench, 0xffff, block, 4096), ERROR, 8);
        bench_free(bench);

        /* The driver of the external flash does not mind. */
        bench = held(SIM_OPENMV_N6);
        assert_int_equal(bench_select(bench, 1), 0);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 0), 0);
        assert_status(bench_status(bench), IDLE, 0);
        bench_free(bench);
}

static void test_ae3_window(void **state)
{
        struct bench *bench = held(SIM_OPENMV_AE3);
        struct sim_config config;
        uint8_t reply[6];

        fill(8);
        assert_int_equal(bench_select(bench, 1), 0);
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        assert_status(bench_write(bench, 5, block, 4096), DNLOAD_IDLE, 0);
        /* The manifest closes it; the next write without block 0 is a fault. */
        assert_int_equal(bench_out(bench, DNLOAD, 0, NULL, 0), 0);
        assert_status(bench_status(bench), MANIFEST, 0);
        assert_status(bench_status(bench), IDLE, 0);
        assert_int_equal(bench_out(bench, DNLOAD, 6, block, 4096), 4096);
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_int_equal(bench_control(bench, 0xa1, GETSTATUS, 0, 0, reply, 6, 10000 * MS), -ETIMEDOUT);
        assert_true(bench->connected);
        bench_free(bench);

        sim_config_default(&config, SIM_OPENMV_AE3, 1);
        config.mpu_fault_is_error = true;
        bench = bench_new(SIM_OPENMV_AE3, &config);
        bench_plug(bench, SIM_BOOTLOADER);
        assert_int_equal(bench_select(bench, 2), 0);
        assert_status(bench_write(bench, 5, block, 4096), ERROR, 3);
        /* External flash has no window. */
        assert_int_equal(bench_select(bench, 6), 0);
        assert_status(bench_write(bench, 5, block, 4096), DNLOAD_IDLE, 0);
        bench_free(bench);
}

static void test_whole_download_of_m7_takes_12_seconds(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        _cleanup_free_ uint8_t *image = NULL;
        size_t size = sim_image_default_size(SIM_OPENMV3);
        uint64_t before = bench->now;
        struct sim_counters c;

        assert_int_equal(size, 1333696);
        assert_int_equal(sim_image_firmware(SIM_OPENMV3, "5.0.1", 9, size, &image), 0);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        for (size_t offset = 0; offset < size; offset += 4096)
                assert_status(bench_write(bench, (uint16_t)(offset / 4096), image + offset, MIN(size - offset, (size_t)4096)), DNLOAD_IDLE, 0);
        assert_in_range(bench->now - before, 12000 * MS, 13500 * MS);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 6);
        assert_int_equal(c.programmed_bytes, size);
        assert_int_equal(bench_out(bench, DETACH, 0, NULL, 0), 0);
        assert_true(bench_wait(bench, SIM_RUNTIME, 1000 * MS));
        bench_free(bench);
}

/* --- content decides what boots --- */

static void test_content_decides(void **state)
{
        struct bench *bench = bench_new(SIM_OPENMV4, NULL);
        _cleanup_free_ uint8_t *plus = NULL, *mute = NULL, *old = NULL, *sdram = NULL;
        struct sim_descriptors d;
        size_t size;

        /* No bootloader: silence, but for the ROM. */
        sim_camera_flash_blank(bench->camera, false, 0x08000000, 0x20000);
        sim_camera_plug(bench->camera);
        bench_run(bench, 5000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_SILENT);
        assert_int_equal(bench->n_connects, 0);
        sim_camera_unplug(bench->camera);

        /* One wrong bit in it is as good as none. */
        sim_camera_install_bootloader(bench->camera);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08002000, block, 1), 0);
        block[0] ^= 4;
        assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08002000, block, 1), 0);
        sim_camera_plug(bench->camera);
        bench_run(bench, 5000 * MS);
        assert_int_equal(bench->n_connects, 0);
        sim_camera_unplug(bench->camera);

        /* A sister board's bootloader runs, as the sister board. */
        assert_int_equal(sim_image_bootloader(SIM_OPENMV4P, SIM_BL_1_0_3, false, &plus, &size), 0);
        assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08000000, plus, size), 0);
        bench_plug(bench, SIM_BOOTLOADER);
        sim_camera_descriptors(bench->camera, &d);
        assert_int_equal(get_le16(d.device + 10), 0x924a);
        sim_camera_unplug(bench->camera);

        /* Another chip's does not. */
        assert_int_equal(sim_image_bootloader(SIM_OPENMV3, SIM_BL_1_0_3, false, &old, &size), 0);
        assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08000000, old, size), 0);
        sim_camera_plug(bench->camera);
        bench_run(bench, 5000 * MS);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_SILENT);
        sim_camera_unplug(bench->camera);

        /* H7 firmware does on an H7 Plus, not the other way round: there is no SDRAM. */
        sim_camera_install_bootloader(bench->camera);
        size = sim_image_default_size(SIM_OPENMV4P);
        assert_int_equal(sim_image_firmware(SIM_OPENMV4P, "5.0.0", 1, size, &sdram), 0);
        assert_int_equal(sim_camera_partition_poke(bench->camera, "FIRMWARE", 0, sdram, size), 0);
        bench_plug(bench, SIM_BOOTLOADER);
        is_gone_for_good(bench);
        sim_camera_unplug(bench->camera);

        /* A firmware without USB. */
        sim_camera_install_bootloader(bench->camera);
        size = sim_image_default_size(SIM_OPENMV4);
        assert_int_equal(sim_image_firmware_mute(SIM_OPENMV4, "5.0.0", 1, size, &mute), 0);
        assert_int_equal(sim_camera_partition_poke(bench->camera, "FIRMWARE", 0, mute, size), 0);
        bench_plug(bench, SIM_BOOTLOADER);
        is_gone_for_good(bench);
        bench_free(bench);
}

static void test_bootloader_images(void **state)
{
        _cleanup_free_ uint8_t *h7 = NULL, *plus = NULL, *padded = NULL, *m7 = NULL;
        size_t size, padded_size;

        assert_int_equal(sim_image_bootloader(SIM_OPENMV4, SIM_BL_1_0_3, false, &h7, &size), 0);
        assert_int_equal(size, 19400);
        assert_int_equal(get_le32(h7), 0x20020000);
        assert_int_equal(get_le32(h7 + 4), 0x080047e9);
        assert_int_equal(sim_image_bootloader(SIM_OPENMV4P, SIM_BL_1_0_3, false, &plus, &size), 0);
        assert_memory_not_equal(h7, plus, size);
        assert_int_equal(sim_image_bootloader(SIM_OPENMV4, SIM_BL_1_0_3, true, &padded, &padded_size), 0);
        assert_int_equal(padded_size, 256 * 1024);
        assert_memory_equal(padded, h7, size);
        assert_true(bytes_all(padded + size, padded_size - size, 0xff));
        assert_int_equal(sim_image_bootloader(SIM_OPENMV3, SIM_BL_1_0_3, true, &m7, &padded_size), 0);
        assert_int_equal(padded_size, 128 * 1024);
}

/* --- faults --- */

static void test_faults(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t bytes[64];

        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_STALL, .request_type = 0xa1, .request = UPLOAD, .skip = 1, .count = 1 });
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), -EPIPE);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        sim_camera_clear_faults(bench->camera);
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_ERROR, .request_type = -1, .request = -1, .count = 1, .error_code = EPROTO });
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), -EPROTO);
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_SHORT, .request_type = -1, .request = -1, .count = 1, .length = 3 });
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 3);
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_GARBAGE, .request_type = -1, .request = -1, .count = 1, .pattern = 0x5a });
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        assert_true(bytes_all(bytes, 64, 0x5a));
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = -1, .request = -1, .count = 1 });
        assert_int_equal(bench_control(bench, 0xa1, UPLOAD, 0, 0, bytes, 64, 1000 * MS), -ETIMEDOUT);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_CRASH, .request_type = -1, .request = GETSTATUS, .count = 1 });
        assert_int_equal(bench_control(bench, 0xa1, GETSTATUS, 0, 0, bytes, 6, 1000 * MS), -ETIMEDOUT);
        assert_int_equal(bench_control(bench, 0xa1, UPLOAD, 0, 0, bytes, 64, 1000 * MS), -ETIMEDOUT);
        sim_camera_unplug(bench->camera);
        bench_plug(bench, SIM_BOOTLOADER);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        bench_free(bench);
}

/* Who babbles in the data stage never comes to the status stage, with which a block is committed. */
static void test_babble(void **state)
{
        struct sim_fault fault = { .kind = SIM_FAULT_BABBLE, .request_type = -1, .request = -1, .count = 1 };
        struct bench *bench = held(SIM_OPENMV3);
        struct sim_counters c;
        uint8_t bytes[4096];

        memset(bytes, 0x11, sizeof(bytes));
        assert_int_equal(bench_select(bench, 2), 0);
        sim_camera_reset_counters(bench->camera);
        assert_false(sim_camera_is_pending(bench->camera));
        sim_camera_add_fault(bench->camera, &fault);
        assert_int_equal(bench_out(bench, DNLOAD, 0, bytes, sizeof(bytes)), -EOVERFLOW);
        assert_true(sim_camera_is_pending(bench->camera));
        sim_camera_add_fault(bench->camera, &fault);
        assert_int_equal(bench_control(bench, 0xa1, GETSTATUS, 0, 0, bytes, 6, 1000 * MS), -EOVERFLOW);
        assert_true(sim_camera_is_pending(bench->camera));
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 0);
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        assert_false(sim_camera_is_pending(bench->camera));
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.erases, 1);
        bench_free(bench);
}

static void test_untrue_state(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t bytes[64];

        assert_int_equal(bench_select(bench, 2), 0);
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_STATE, .request_type = -1, .request = -1, .count = 3, .pattern = 9 });
        assert_status(bench_status(bench), 9, 0);
        assert_int_equal(bench_state(bench), 9);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        assert_status(bench_status(bench), IDLE, 0);
        bench_free(bench);
}

static void test_enumeration_is_not_hit_by_faults_of_any_request(void **state)
{
        struct bench *bench = bench_new(SIM_OPENMV3, NULL);
        uint8_t bytes[64];

        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_STALL, .request_type = -1, .request = -1, .count = 1 });
        bench_plug(bench, SIM_BOOTLOADER);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), -EPIPE);
        sim_camera_unplug(bench->camera);
        /* But by one that names SET_CONFIGURATION. */
        sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = SIM_FAULT_STALL, .request_type = 0x00, .request = 9, .count = 1 });
        sim_camera_plug(bench->camera);
        bench_run(bench, 600 * MS);
        assert_true(bench->connected);
        assert_false(bench->configured);
        bench_free(bench);
}

/* What reached the device before the host gave up counts. */
static void test_cancelled_in_the_data_stage(void **state)
{
        struct bench *bench = held(SIM_OPENMV3);
        uint8_t now[4096];

        fill(9);
        assert_int_equal(bench_select(bench, M7_ROMFS), 0);
        memset(now, 0, sizeof(now));
        assert_status(bench_write(bench, 1, now, 4096), DNLOAD_IDLE, 0);
        assert_int_equal(bench_control(bench, 0x21, DNLOAD, 0, 0, block, 4096, 2250), -ETIMEDOUT);
        assert_int_equal(bench_state(bench), DNLOAD_SYNC);
        assert_status(bench_status(bench), DNBUSY, 0);
        assert_status(bench_status(bench), DNLOAD_IDLE, 0);
        /* Half of the block, and behind it what the buffer held. */
        assert_int_equal(sim_camera_partition_read(bench->camera, "ROMFS0", 0, now, 4096), 0);
        assert_int_equal(bytes_common_prefix(now, block, 4096) / 64, 2048 / 64);
        assert_true(bytes_all(now + 2112, 4096 - 2112, 0));
        bench_free(bench);
}

static void test_unplug_faults(void **state)
{
        static const struct {
                enum sim_fault_kind kind;
                uint8_t request;
                bool written;
        } cases[] = {
                { SIM_FAULT_UNPLUG_BEFORE, DNLOAD, false },
                { SIM_FAULT_UNPLUG_DATA, DNLOAD, false },
                { SIM_FAULT_UNPLUG_STATUS, DNLOAD, false },
                { SIM_FAULT_UNPLUG_BEFORE, GETSTATUS, false },
                { SIM_FAULT_UNPLUG_DATA, GETSTATUS, false },
                { SIM_FAULT_UNPLUG_STATUS, GETSTATUS, true },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct bench *bench = held(SIM_OPENMV3);
                uint8_t before[4096], after[4096], reply[6];

                fill((uint8_t)i);
                assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, before, 4096), 0);
                assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
                sim_camera_add_fault(bench->camera, &(struct sim_fault){ .kind = cases[i].kind, .request_type = -1, .request = cases[i].request, .count = 1 });
                if (cases[i].request == DNLOAD)
                        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), -ESHUTDOWN);
                else {
                        assert_int_equal(bench_out(bench, DNLOAD, 0, block, 4096), 4096);
                        assert_int_equal(bench_in(bench, GETSTATUS, 0, reply, 6), -ESHUTDOWN);
                }
                assert_int_equal(sim_camera_mode(bench->camera), SIM_OFF);
                assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, after, 4096), 0);
                assert_memory_equal(after, cases[i].written ? block : before, 4096);
                bench_free(bench);
        }
}

static void test_counters(void **state)
{
        struct bench *bench = plugged(SIM_OPENMV3);
        uint64_t configured = bench->now;
        struct sim_counters c;
        uint8_t bytes[64];

        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.transfers, 0);
        assert_in_range(c.configured_at_us, configured - MS, configured);
        bench_run(bench, 5 * MS);
        assert_int_equal(bench_control(bench, 0x80, 8, 0, 0, bytes, 1, 100 * MS), 1);
        bench_run(bench, 5 * MS);
        assert_int_equal(bench_in(bench, UPLOAD, 0, bytes, 64), 64);
        assert_int_equal(bench_select(bench, M7_FIRMWARE), 0);
        fill(1);
        assert_status(bench_write(bench, 0, block, 4096), DNLOAD_IDLE, 0);
        sim_camera_counters(bench->camera, &c);
        assert_int_equal(c.transfers, 6);
        assert_int_equal(c.get_configuration, 1);
        assert_int_equal(c.upload, 1);
        assert_int_equal(c.upload_bytes, 64);
        assert_int_equal(c.set_interface, 1);
        assert_int_equal(c.download, 1);
        assert_int_equal(c.download_bytes, 4096);
        assert_int_equal(c.get_status, 2);
        assert_int_equal(c.first_transfer_at_us, configured + 5 * MS);
        assert_in_range(c.first_upload_at_us, configured + 10 * MS, configured + 11 * MS);
        assert_int_equal(c.plugs, 1);
        bench_free(bench);
}

static void test_vcp_bootloader(void **state)
{
        static const uint8_t configuration[75] = {
                9, 2, 75, 0, 2, 1, 0, 0xc0, 0xfa,
                8, 0x0b, 0, 2, 2, 2, 1, 0,
                9, 4, 0, 0, 1, 2, 2, 1, 0, 5, 0x24, 0, 0x10, 1, 5, 0x24, 1, 0, 1, 4, 0x24, 2, 2, 5, 0x24, 6, 0, 1,
                7, 5, 0x82, 3, 8, 0, 16,
                9, 4, 1, 0, 2, 0x0a, 0, 0, 0, 7, 5, 0x01, 2, 64, 0, 0, 7, 5, 0x81, 2, 64, 0, 0,
        };
        struct sim_config config;
        struct sim_descriptors d;
        struct bench *bench;
        uint64_t configured;

        sim_config_default(&config, SIM_OPENMV3, 1);
        config.bootloader = SIM_BL_VCP;
        bench = bench_new(SIM_OPENMV3, &config);
        bench_plug(bench, SIM_VCP_BOOTLOADER);
        configured = bench->now;
        sim_camera_descriptors(bench->camera, &d);
        assert_memory_equal(d.device, ((uint8_t[]){ 18, 1, 0, 2, 0xef, 2, 1, 64, 0x09, 0x12, 0xd1, 0xab, 0, 2, 1, 2, 3, 1 }), 18);
        assert_int_equal(d.config_size, sizeof(configuration));
        assert_memory_equal(d.config, configuration, sizeof(configuration));
        assert_string_equal(d.manufacturer, "OpenMV");
        assert_string_equal(d.product, "OpenMV Virtual Comm Port in FS Mode");
        assert_string_equal(d.serial, "000000000011");
        assert_true(d.has_cdc);
        /* Configured again in between: no second window. */
        bench_run(bench, 500 * MS);
        assert_int_equal(bench_control(bench, 0x00, 9, 0, 0, NULL, 0, 100 * MS), 0);
        assert_int_equal(bench_control(bench, 0x00, 9, 1, 0, NULL, 0, 100 * MS), 0);
        assert_true(bench_wait(bench, SIM_RUNTIME, 5000 * MS));
        assert_in_range(bench->disconnected_at - configured, 1000 * MS, 1210 * MS);
        bench_free(bench);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_unknown_strings_stall),
                cmocka_unit_test(test_standard_requests),
                cmocka_unit_test(test_partitions_of_every_board),
                cmocka_unit_test(test_old_layout),
                cmocka_unit_test(test_version_header),
                cmocka_unit_test(test_healthy_camera_passes_through),
                cmocka_unit_test(test_mount_wait),
                cmocka_unit_test(test_forced_mode),
                cmocka_unit_test(test_only_upload_and_pending_status_attach),
                cmocka_unit_test(test_deconfigured_leaves),
                cmocka_unit_test(test_detach),
                cmocka_unit_test(test_blind_jump),
                cmocka_unit_test(test_one_block),
                cmocka_unit_test(test_refused_requests_change_nothing),
                cmocka_unit_test(test_every_request_in_every_state),
                cmocka_unit_test(test_upload_keeps_an_error),
                cmocka_unit_test(test_state_changes_with_the_status_stage),
                cmocka_unit_test(test_given_up_while_busy),
                cmocka_unit_test(test_data_where_none_belongs),
                cmocka_unit_test(test_stale_pending_block),
                cmocka_unit_test(test_poll_timeout_is_a_lie),
                cmocka_unit_test(test_old_poll_timeout),
                cmocka_unit_test(test_cancelled_while_busy),
                cmocka_unit_test(test_reset_while_busy),
                cmocka_unit_test(test_check_order),
                cmocka_unit_test(test_upload),
                cmocka_unit_test(test_alt_is_not_range_checked),
                cmocka_unit_test(test_upload_of_odd_lengths_and_blocks),
                cmocka_unit_test(test_ae3_window),
                cmocka_unit_test(test_whole_download_of_m7_takes_12_seconds),
                cmocka_unit_test(test_content_decides),
                cmocka_unit_test(test_bootloader_images),
                cmocka_unit_test(test_faults),
                cmocka_unit_test(test_babble),
                cmocka_unit_test(test_untrue_state),
                cmocka_unit_test(test_enumeration_is_not_hit_by_faults_of_any_request),
                cmocka_unit_test(test_cancelled_in_the_data_stage),
                cmocka_unit_test(test_unplug_faults),
                cmocka_unit_test(test_counters),
                cmocka_unit_test(test_vcp_bootloader),
        };

        return cmocka_run_group_tests_name("model-bootloader", tests, NULL, NULL);
}
