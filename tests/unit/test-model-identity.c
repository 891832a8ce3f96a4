/* SPDX-License-Identifier: MIT */
/*
 * What the model says of itself in each mode: the worked examples of
 * identity.md section 3, ids and descriptors of the runtime.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "unit/model-host.h"

static const uint8_t uid_a[12] = { 0x2a, 0x00, 0x1f, 0x00, 0x13, 0x51, 0x0d, 0x33, 0x39, 0x36, 0x30, 0x34 };
static const uint8_t uid_b[12] = { 0x3b, 0x00, 0xd6, 0x00, 0x13, 0x51, 0x0d, 0x33, 0x39, 0x36, 0x30, 0x34 };

static struct sim_config config_of(enum sim_board board, const uint8_t uid[12])
{
        struct sim_config config;

        sim_config_default(&config, board, 1);
        memcpy(config.uid, uid, 12);
        return config;
}

static void has_serial(const struct sim_config *config, enum sim_mode mode, const char *serial)
{
        struct bench *bench = bench_new(config->board, config);
        struct sim_descriptors d;
        uint8_t bytes[255];
        char wire[64] = "";
        int n;

        sim_camera_set_jumper(bench->camera, mode == SIM_ROM_DFU);
        sim_camera_plug(bench->camera);
        assert_true(bench_wait(bench, mode, 10000000));
        sim_camera_descriptors(bench->camera, &d);
        assert_string_equal(d.serial, serial);
        n = bench_control(bench, 0x80, 6, 0x0303, 0x0409, bytes, 255, 1000000);
        assert_int_equal(n, 2 + 2 * strlen(serial));
        for (int i = 2; i < n; i += 2)
                wire[i / 2 - 1] = (char)bytes[i];
        assert_string_equal(wire, serial);
        bench_free(bench);
}

static void test_camera_a(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV3, uid_a);

        has_serial(&config, SIM_BOOTLOADER, "34303639330D5113001F002A");
        has_serial(&config, SIM_RUNTIME, "344F3663330D");
        has_serial(&config, SIM_ROM_DFU, "344F3663330D");
        config.bootloader = SIM_BL_VCP;
        has_serial(&config, SIM_VCP_BOOTLOADER, "000000000011");
        config = config_of(SIM_OPENMV2, uid_a);
        has_serial(&config, SIM_ROM_DFU, "344F3663330D");
        config = config_of(SIM_OPENMV4, uid_a);
        has_serial(&config, SIM_ROM_DFU, "200364500000");
        config = config_of(SIM_OPENMV_N6, uid_a);
        has_serial(&config, SIM_BOOTLOADER, "34303639330D5113001F002A");
        has_serial(&config, SIM_RUNTIME, "344F3663330D");
        config.n6_serial_lower = true;
        has_serial(&config, SIM_RUNTIME, "2a001f0013510d3339363034");
}

static void test_camera_b_overflows(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV3, uid_b);

        has_serial(&config, SIM_BOOTLOADER, "34303639330D511300D6003B");
        has_serial(&config, SIM_RUNTIME, "341063674330D");
        has_serial(&config, SIM_ROM_DFU, "35063674330D");
        config = config_of(SIM_OPENMV_N6, uid_b);
        has_serial(&config, SIM_RUNTIME, "34063674330D");
}

static void test_every_h743_shares_one_rom_serial(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV4, SIM_OPENMV4P, SIM_OPENMVPT };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++)
                for (int k = 0; k < 2; k++) {
                        struct sim_config config = config_of(boards[i], k ? uid_a : uid_b);

                        has_serial(&config, SIM_ROM_DFU, "200364500000");
                }
}

static void test_constant_rom_serial_switch(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV3, uid_a);

        config.rom_constant_serial = true;
        has_serial(&config, SIM_ROM_DFU, "STM32FxSTM32");
}

static void test_ae3(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV_AE3, uid_a);
        struct bench *bench;
        struct sim_descriptors d;

        has_serial(&config, SIM_BOOTLOADER, "2A001F0013510D3339363034");
        bench = bench_new(SIM_OPENMV_AE3, &config);
        sim_camera_plug(bench->camera);
        assert_true(bench_wait(bench, SIM_RUNTIME, 10000000));
        sim_camera_descriptors(bench->camera, &d);
        assert_int_equal(strlen(d.serial), 16);
        assert_int_equal(strspn(d.serial, "0123456789abcdef"), 16);
        bench_free(bench);
}

static void test_default_uids_differ_and_look_like_sts(void **state)
{
        struct sim_config a, b;

        for (unsigned seed = 0; seed < 200; seed++) {
                sim_config_default(&a, SIM_OPENMV3, seed);
                assert_int_equal(a.uid[1], 0);
                assert_int_equal(a.uid[3], 0);
                for (unsigned other = 0; other < seed; other++) {
                        sim_config_default(&b, SIM_OPENMV3, other);
                        assert_memory_not_equal(a.uid, b.uid, 12);
                }
        }
}

static void test_runtime_descriptors(void **state)
{
        static const struct {
                enum sim_board board;
                uint16_t product;
        } boards[] = {
                { SIM_OPENMV2, 0x1202 }, { SIM_OPENMV3, 0x1203 }, { SIM_OPENMV4, 0x1204 }, { SIM_OPENMV4P, 0x124a },
                { SIM_OPENMVPT, 0x1205 }, { SIM_OPENMV_N6, 0x1206 }, { SIM_OPENMV_AE3, 0x16e3 },
        };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++)
                for (int old = 0; old < 2; old++) {
                        bool st = boards[i].board < SIM_OPENMV_N6;
                        struct sim_config config = config_of(boards[i].board, uid_a);
                        struct sim_descriptors d;
                        struct bench *bench;

                        config.vendor_37c5_runtime = !old;
                        bench = bench_new(boards[i].board, &config);
                        sim_camera_plug(bench->camera);
                        assert_true(bench_wait(bench, SIM_RUNTIME, 10000000));
                        sim_camera_descriptors(bench->camera, &d);
                        assert_int_equal(get_le16(d.device + 8), old ? 0x1209 : 0x37c5);
                        assert_int_equal(get_le16(d.device + 10), old ? 0xabd1 : boards[i].product);
                        assert_int_equal(get_le16(d.device + 12), st ? 0x0200 : 0x0100);
                        assert_memory_equal(d.device + 4, "\xef\x02\x01", 3);
                        assert_string_equal(d.product, st ? "OpenMV Virtual Comm Port in FS Mode" : "OpenMV Camera");
                        assert_int_equal(get_le16(d.config + 2), d.config_size);
                        assert_int_equal(d.config[4], st ? 3 : 2);
                        /* Interface 0 is mass storage where ST's stack runs, CDC elsewhere. */
                        assert_int_equal(d.config[9 + (st ? 5 : 8 + 5)], st ? 8 : 2);
                        assert_int_equal(d.speed, st ? 12 : 480);
                        assert_true(d.has_cdc);
                        bench_free(bench);
                }
}

static void test_names(void **state)
{
        for (int i = 0; i < _SIM_BOARD_MAX; i++) {
                assert_non_null(sim_board_name(i));
                assert_int_equal(sim_board_from_name(sim_board_name(i)), i);
        }
        assert_int_equal(sim_board_from_name("m7"), SIM_OPENMV3);
        assert_int_equal(sim_board_from_name("H7 Plus"), SIM_OPENMV4P);
        assert_true(sim_board_from_name("M8") < 0);
        for (int i = 0; i < _SIM_MODE_MAX; i++)
                assert_non_null(sim_mode_name(i));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_camera_a),
                cmocka_unit_test(test_camera_b_overflows),
                cmocka_unit_test(test_every_h743_shares_one_rom_serial),
                cmocka_unit_test(test_constant_rom_serial_switch),
                cmocka_unit_test(test_ae3),
                cmocka_unit_test(test_default_uids_differ_and_look_like_sts),
                cmocka_unit_test(test_runtime_descriptors),
                cmocka_unit_test(test_names),
        };

        return cmocka_run_group_tests_name("model-identity", tests, NULL, NULL);
}
