/* SPDX-License-Identifier: MIT */

/*
 * Identities: one camera is known through all its modes, no two cameras are
 * taken for one, and a port never proves anything.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "core/identity.h"

static struct board_list boards;

/* Camera A: no sum overflows.  Camera B: one does, and all its forms differ. */
static const struct uid uid_a = { { 0x2a, 0x00, 0x1f, 0x00, 0x13, 0x51, 0x0d, 0x33, 0x39, 0x36, 0x30, 0x34 } };
static const struct uid uid_b = { { 0x3b, 0x00, 0xd6, 0x00, 0x13, 0x51, 0x0d, 0x33, 0x39, 0x36, 0x30, 0x34 } };
#define U_A "34303639330D5113001F002A"
#define U_B "34303639330D511300D6003B"
#define M_A "344F3663330D"
#define M_B "341063674330D"
#define M_B_REDUCED "34063674330D"
#define R_B "35063674330D"
#define SERIAL_H7 "200364500000"

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

static struct sighting seen(const char *port, uint16_t vendor, uint16_t product, const char *serial)
{
        struct sighting s = { .vendor = vendor, .product = product, .n_interfaces = 1, .speed = 12 };

        snprintf(s.port, sizeof(s.port), "%s", port);
        snprintf(s.serial, sizeof(s.serial), "%s", serial);
        return s;
}

static struct sighting rom(const char *port, const char *serial)
{
        return seen(port, 0x0483, 0xdf11, serial);
}

static struct known_identity known_by_uid(const struct uid *uid, const char *board_id, const char *port)
{
        struct known_identity k = { .uid = *uid, .has_uid = true, .board = board(board_id) };
        char u[25];

        uid_to_u(uid, u);
        snprintf(k.key, sizeof(k.key), "%s", u);
        snprintf(k.port, sizeof(k.port), "%s", port);
        return k;
}

static struct known_identity known_by_runtime(const char *serial, const char *board_id, const char *port)
{
        struct known_identity k = { .board = board_id ? board(board_id) : NULL };

        snprintf(k.key, sizeof(k.key), "M:%s", serial);
        snprintf(k.runtime_serial, sizeof(k.runtime_serial), "%s", serial);
        snprintf(k.port, sizeof(k.port), "%s", port);
        return k;
}

static struct identity_result resolve(struct sighting s, const struct known_identity *known, size_t n)
{
        return identity_resolve(&s, &boards, known, n);
}

/* --- forms --- */

static void test_worked_example_a(void **state)
{
        struct uid back;
        char text[25];

        uid_to_u(&uid_a, text);
        assert_string_equal(text, U_A);
        assert_int_equal(uid_from_u(U_A, &back), 0);
        assert_memory_equal(&back, &uid_a, sizeof(back));
        uid_to_m(&uid_a, false, text);
        assert_string_equal(text, M_A);
        uid_to_m(&uid_a, true, text);
        assert_string_equal(text, M_A);
        uid_to_r(&uid_a, text);
        assert_string_equal(text, M_A);
        uid_to_byte_order(&uid_a, text);
        assert_string_equal(text, "2a001f0013510d3339363034");
        assert_int_equal(uid_from_byte_order(text, &back), 0);
        assert_memory_equal(&back, &uid_a, sizeof(back));
}

static void test_worked_example_b(void **state)
{
        char text[25];

        uid_to_u(&uid_b, text);
        assert_string_equal(text, U_B);
        uid_to_m(&uid_b, false, text);
        assert_string_equal(text, "34106367" "4330D");
        uid_to_m(&uid_b, true, text);
        assert_string_equal(text, M_B_REDUCED);
        uid_to_r(&uid_b, text);
        assert_string_equal(text, R_B);
}

/* Published by others: the R-form of two real chips. */
static void test_published_rom_serials(void **state)
{
        struct uid uid;
        char r[13];

        assert_int_equal(uid_from_u("32313533" "3334510B" "002D0030", &uid), 0);
        uid_to_r(&uid, r);
        assert_string_equal(r, "325E35633334");
        assert_int_equal(uid_from_u("38393631" "33335105" "00330032", &uid), 0);
        uid_to_r(&uid, r);
        assert_string_equal(r, "386C36633333");
}

static void test_longest_m_form(void **state)
{
        struct uid uid;
        char m[17];

        memset(&uid, 0xff, sizeof(uid));
        uid_to_m(&uid, false, m);
        assert_string_equal(m, "FF1FEFF1FEFFFF");
        uid_to_m(&uid, true, m);
        assert_string_equal(m, "FFFEFFFEFFFF");
}

static void test_no_uid(void **state)
{
        static const char *const bad[] = {
                "", "0123456789ABCDEF", "000000000000000000000000", "FFFFFFFFFFFFFFFFFFFFFFFF", "ffffffffffffffffffffffff",
                "34303639330D5113001F002", "34303639330D5113001F002A0", "34303639330D5113001F002G", "34303639 30D5113001F002A",
        };
        struct uid uid;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                assert_int_equal(uid_from_u(bad[i], &uid), -EINVAL);
}

static void test_shared_serials(void **state)
{
        static const char *const shared[] = {
                SERIAL_H7, "STM32FxSTM32", "000000000010", "000000000011", "0123456789ABCDEF", "0123456789abcdef", "",
                "000000000000", "FFFFFFFFFFFF", "34 4F", "\x7f\x01",
        };

        for (size_t i = 0; i < ELEMENTSOF(shared); i++)
                assert_true(serial_is_shared(shared[i]));
        assert_false(serial_is_shared(M_A));
        assert_false(serial_is_shared(U_A));
        assert_false(serial_is_shared("200364500001"));
}

/* --- mode --- */

static enum camera_mode mode_of(struct sighting s, const struct board **ret)
{
        return identity_mode(&s, &boards, ret);
}

static void test_modes(void **state)
{
        struct sighting s;
        const struct board *b;

        assert_int_equal(mode_of(rom("1-1", M_A), &b), CAMERA_MODE_ROM_DFU);
        assert_null(b);
        assert_int_equal(mode_of(seen("1-1", 0x37c5, 0x9203, U_A), &b), CAMERA_MODE_BOOTLOADER);
        assert_ptr_equal(b, board("OPENMV3"));
        assert_int_equal(mode_of(seen("1-1", 0x37c5, 0x1203, M_A), &b), CAMERA_MODE_RUNTIME);
        assert_ptr_equal(b, board("OPENMV3"));
        assert_int_equal(mode_of(seen("1-1", 0x2341, 0x035b, "x1"), &b), CAMERA_MODE_OTHER);
        assert_ptr_equal(b, board("ARDUINO_PORTENTA"));
        assert_int_equal(mode_of(seen("1-1", 0x046d, 0xc31c, "x1"), &b), CAMERA_MODE_ABSENT);
        assert_null(b);

        /* 1209:abd1 */
        assert_int_equal(mode_of(seen("1-1", 0x1209, 0xabd1, "000000000011"), &b), CAMERA_MODE_VCP_BOOTLOADER);
        assert_int_equal(mode_of(seen("1-1", 0x1209, 0xabd1, "000000000010"), &b), CAMERA_MODE_VCP_BOOTLOADER);
        s = seen("1-1", 0x1209, 0xabd1, M_A);
        s.n_interfaces = 2;
        assert_int_equal(mode_of(s, &b), CAMERA_MODE_VCP_BOOTLOADER);
        s.n_interfaces = 3;
        s.has_mass_storage = true;
        assert_int_equal(mode_of(s, &b), CAMERA_MODE_RUNTIME);
        assert_null(b);
        s = seen("1-1", 0x1209, 0xabd1, M_A);
        s.n_interfaces = 0;
        assert_int_equal(mode_of(s, &b), CAMERA_MODE_RUNTIME);
}

static void test_early_ae3(void **state)
{
        struct sighting s = seen("1-1", 0x37c5, 0xafe3, "x1");
        const struct board *b;

        s.n_interfaces = 2;
        assert_int_equal(mode_of(s, &b), CAMERA_MODE_RUNTIME);
        s.n_interfaces = 1;
        s.n_alts = 8;
        assert_int_equal(mode_of(s, &b), CAMERA_MODE_BOOTLOADER);
        assert_ptr_equal(b, board("OPENMV_AE3"));
}

/* --- matching --- */

static void test_new_camera(void **state)
{
        struct identity_result r;

        r = resolve(seen("1-1", 0x37c5, 0x9203, U_A), NULL, 0);
        assert_int_equal(r.match, IDENTITY_NEW);
        assert_string_equal(r.key, U_A);
        assert_true(r.learnt_uid);
        assert_memory_equal(&r.uid, &uid_a, sizeof(uid_a));

        r = resolve(seen("1-1", 0x37c5, 0x1203, M_A), NULL, 0);
        assert_int_equal(r.match, IDENTITY_NEW);
        assert_string_equal(r.key, "M:" M_A);
        assert_false(r.learnt_uid);

        r = resolve(rom("3-1.2", M_A), NULL, 0);
        assert_int_equal(r.match, IDENTITY_UNPROVEN);
        assert_string_equal(r.key, "P:3-1.2");
}

/* The matching table: one known camera, every mode, on another port. */
static void test_matching_table(void **state)
{
        struct known_identity a = known_by_uid(&uid_a, "OPENMV3", "1-1"), b = known_by_uid(&uid_b, "OPENMV3", "1-2");
        const struct known_identity both[] = { a, b };
        static const struct {
                uint16_t vendor, product;
                const char *serial;
                size_t index;
        } cases[] = {
                { 0x37c5, 0x9203, U_A, 0 },
                { 0x37c5, 0x9203, U_B, 1 },
                { 0x37c5, 0x9203, "34303639330d511300d6003b", 1 },
                { 0x37c5, 0x1203, M_A, 0 },
                { 0x37c5, 0x1203, M_B, 1 },
                { 0x37c5, 0x1203, M_B_REDUCED, 1 },
                { 0x37c5, 0x1203, "341063674330d", 1 },
                { 0x37c5, 0x1203, "2a001f0013510d3339363034", 0 },
                { 0x0483, 0xdf11, M_A, 0 },
                { 0x0483, 0xdf11, R_B, 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct identity_result r = resolve(seen("9-9", cases[i].vendor, cases[i].product, cases[i].serial), both, 2);

                if (r.match != IDENTITY_KNOWN || r.index != cases[i].index)
                        fail_msg("%04x:%04x %s is %s, index %zu", cases[i].vendor, cases[i].product, cases[i].serial,
                                 identity_match_to_string(r.match), r.index);
                assert_false(r.upgrade);
        }
        /* the M-form of an overflowing id is not its R-form, nor the other way round */
        assert_int_equal(resolve(rom("9-9", M_B), both, 2).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(seen("9-9", 0x37c5, 0x1203, R_B), both, 2).match, IDENTITY_NEW);
}

static void test_legacy_runtime(void **state)
{
        struct known_identity a = known_by_uid(&uid_a, "OPENMV4", "1-1");
        struct sighting s = seen("2-2", 0x1209, 0xabd1, M_A);
        struct identity_result r;

        s.n_interfaces = 3;
        s.has_mass_storage = true;
        r = resolve(s, &a, 1);
        assert_int_equal(r.match, IDENTITY_KNOWN);
        assert_null(r.board);
}

static void test_upgrade(void **state)
{
        struct known_identity k[] = {
                known_by_runtime("111122223333", "OPENMV3", "1-1"),
                known_by_runtime(M_B, "OPENMV3", "1-2"),
        };
        struct identity_result r = resolve(seen("5-5", 0x37c5, 0x9203, U_B), k, 2);

        assert_int_equal(r.match, IDENTITY_KNOWN);
        assert_int_equal(r.index, 1);
        assert_true(r.upgrade);
        assert_true(r.learnt_uid);
        assert_string_equal(r.key, U_B);

        /* the key alone says it too */
        k[1].runtime_serial[0] = '\0';
        assert_true(resolve(seen("5-5", 0x37c5, 0x9203, U_B), k, 2).upgrade);

        /* two provisional cameras with this serial: neither is taken */
        k[0] = k[1];
        r = resolve(seen("5-5", 0x37c5, 0x9203, U_B), k, 2);
        assert_int_equal(r.match, IDENTITY_NEW);
        assert_string_equal(r.key, U_B);

        /* one that is attached elsewhere is another camera */
        k[1].present = true;
        k[0].present = true;
        assert_int_equal(resolve(seen("5-5", 0x37c5, 0x9203, U_B), k, 2).match, IDENTITY_NEW);
}

static void test_port_key_is_never_upgraded(void **state)
{
        struct known_identity k = { .key = "P:1-1", .port = "1-1", .left_for_identityless = true };
        struct identity_result r = resolve(seen("1-1", 0x37c5, 0x9204, U_A), &k, 1);

        assert_int_equal(r.match, IDENTITY_NEW);
        assert_false(r.upgrade);
        assert_string_equal(r.key, U_A);
}

static void test_provisional_in_rom(void **state)
{
        struct known_identity k = known_by_runtime(M_A, "OPENMV2", "1-1");

        assert_int_equal(resolve(rom("2-2", M_A), &k, 1).match, IDENTITY_KNOWN);
        assert_int_equal(resolve(rom("2-2", R_B), &k, 1).match, IDENTITY_UNPROVEN);
}

static void test_collisions(void **state)
{
        struct uid twin = uid_a;
        struct known_identity k[2];
        struct identity_result r;

        /* b4 and b5 are in no short form */
        twin.bytes[4] ^= 0xff;
        k[0] = known_by_uid(&uid_a, "OPENMV3", "1-1");
        k[1] = known_by_uid(&twin, "OPENMV3", "1-2");
        r = resolve(seen("1-1", 0x37c5, 0x1203, M_A), k, 2);
        assert_int_equal(r.match, IDENTITY_COLLISION);
        assert_string_equal(r.key, "P:1-1");
        assert_int_equal(resolve(rom("1-1", M_A), k, 2).match, IDENTITY_COLLISION);
        /* the bootloader tells them apart */
        assert_int_equal(resolve(seen("1-1", 0x37c5, 0x9203, U_A), k, 2).match, IDENTITY_KNOWN);

        /* a second device with the serial of one that is attached */
        k[0].present = true;
        assert_int_equal(resolve(seen("3-3", 0x37c5, 0x1203, M_A), k, 1).match, IDENTITY_COLLISION);
        assert_int_equal(resolve(rom("3-3", M_A), k, 1).match, IDENTITY_COLLISION);
        assert_int_equal(resolve(seen("3-3", 0x37c5, 0x9203, U_A), k, 1).match, IDENTITY_COLLISION);
}

static void test_h7_rom_is_a_hint_at_most(void **state)
{
        struct known_identity k = known_by_uid(&uid_a, "OPENMV4", "1-1");
        struct identity_result r;

        r = resolve(rom("1-1", SERIAL_H7), &k, 1);
        assert_int_equal(r.match, IDENTITY_PORT_HINT);
        assert_int_equal(r.index, 0);
        assert_string_equal(r.key, "P:1-1");
        assert_null(r.board);
        /* another port, or the camera is elsewhere */
        assert_int_equal(resolve(rom("1-2", SERIAL_H7), &k, 1).match, IDENTITY_UNPROVEN);
        k.present = true;
        assert_int_equal(resolve(rom("1-1", SERIAL_H7), &k, 1).match, IDENTITY_UNPROVEN);
}

static void test_hint_only_if_possible(void **state)
{
        struct known_identity f7 = known_by_uid(&uid_a, "OPENMV3", "1-1");
        struct known_identity h7 = known_by_uid(&uid_a, "OPENMV4", "1-1");
        struct known_identity ae3 = known_by_uid(&uid_a, "OPENMV_AE3", "1-1");
        struct known_identity n6 = known_by_uid(&uid_a, "OPENMV_N6", "1-1");

        /* F7 chips have serials of their own, H7 chips the constant */
        assert_int_equal(resolve(rom("1-1", SERIAL_H7), &f7, 1).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(rom("1-1", "20663077464B"), &f7, 1).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(rom("1-1", "20663077464B"), &h7, 1).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(rom("1-1", "STM32FxSTM32"), &h7, 1).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(rom("1-1", SERIAL_H7), &ae3, 1).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(rom("1-1", SERIAL_H7), &n6, 1).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(rom("1-1", "20663077464B"), &n6, 1).match, IDENTITY_PORT_HINT);
        /* a serial that could not be read excludes no STM32 */
        assert_int_equal(resolve(rom("1-1", ""), &f7, 1).match, IDENTITY_PORT_HINT);
        assert_int_equal(resolve(rom("1-1", ""), &ae3, 1).match, IDENTITY_UNPROVEN);
}

static void test_left_a_moment_ago(void **state)
{
        struct known_identity k[] = {
                known_by_uid(&uid_a, "OPENMV4", "1-1"),
                known_by_uid(&uid_b, "OPENMV4", "1-1"),
        };
        struct identity_result r;

        /* two cameras were on this port: no hint, unless one of them just left it */
        assert_int_equal(resolve(rom("1-1", SERIAL_H7), k, 2).match, IDENTITY_UNPROVEN);
        k[1].left_for_identityless = true;
        r = resolve(rom("1-1", SERIAL_H7), k, 2);
        assert_int_equal(r.match, IDENTITY_PORT_HINT);
        assert_int_equal(r.index, 1);
        k[0].left_for_identityless = true;
        assert_int_equal(resolve(rom("1-1", SERIAL_H7), k, 2).match, IDENTITY_UNPROVEN);
}

static void test_vcp_bootloader(void **state)
{
        struct known_identity k = known_by_uid(&uid_a, "OPENMV2", "1-1");
        struct sighting s = seen("1-1", 0x1209, 0xabd1, "000000000011");

        assert_int_equal(resolve(s, &k, 1).match, IDENTITY_PORT_HINT);
        assert_int_equal(resolve(s, &k, 1).mode, CAMERA_MODE_VCP_BOOTLOADER);
        k = known_by_uid(&uid_a, "OPENMV_AE3", "1-1");
        assert_int_equal(resolve(s, &k, 1).match, IDENTITY_UNPROVEN);
}

static void test_two_constants_two_cameras(void **state)
{
        struct known_identity k[] = {
                known_by_uid(&uid_a, "OPENMV4", "1-1"),
                known_by_uid(&uid_b, "OPENMV4", "1-2"),
        };

        assert_int_equal(resolve(rom("1-1", SERIAL_H7), k, 2).index, 0);
        assert_int_equal(resolve(rom("1-2", SERIAL_H7), k, 2).index, 1);
        assert_int_equal(resolve(rom("1-3", SERIAL_H7), k, 2).match, IDENTITY_UNPROVEN);
}

static void test_fallback_serial(void **state)
{
        struct known_identity k = known_by_uid(&uid_a, "OPENMV3", "1-1");
        struct identity_result r = resolve(seen("1-1", 0x37c5, 0x9203, "0123456789ABCDEF"), &k, 1);

        assert_int_equal(r.match, IDENTITY_PORT_HINT);
        assert_false(r.learnt_uid);
        /* another board's bootloader is not that camera */
        assert_int_equal(resolve(seen("1-1", 0x37c5, 0x9204, "0123456789ABCDEF"), &k, 1).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(seen("1-1", 0x37c5, 0x9203, ""), NULL, 0).match, IDENTITY_UNPROVEN);
        assert_int_equal(resolve(seen("1-1", 0x37c5, 0x1203, ""), NULL, 0).match, IDENTITY_UNPROVEN);
}

static void test_n6(void **state)
{
        struct known_identity k = known_by_uid(&uid_b, "OPENMV_N6", "1-1");
        struct identity_result r;

        assert_int_equal(resolve(seen("2-2", 0x37c5, 0x1206, "3b00d60013510d3339363034"), &k, 1).match, IDENTITY_KNOWN);
        assert_int_equal(resolve(seen("2-2", 0x37c5, 0x1206, M_B_REDUCED), &k, 1).match, IDENTITY_KNOWN);
        /* the early form is the whole id */
        r = resolve(seen("2-2", 0x37c5, 0x1206, "3b00d60013510d3339363034"), NULL, 0);
        assert_int_equal(r.match, IDENTITY_NEW);
        assert_true(r.learnt_uid);
        assert_string_equal(r.key, U_B);
        /* so it upgrades what was known by the later form */
        k = known_by_runtime(M_B_REDUCED, "OPENMV_N6", "1-1");
        assert_true(resolve(seen("2-2", 0x37c5, 0x1206, "3b00d60013510d3339363034"), &k, 1).upgrade);
        /* no other board shows ids in that order */
        r = resolve(seen("2-2", 0x37c5, 0x1203, "3b00d60013510d3339363034"), NULL, 0);
        assert_false(r.learnt_uid);
}

static void test_ae3(void **state)
{
        struct known_identity boot = known_by_uid(&uid_a, "OPENMV_AE3", "1-1");
        struct known_identity run = known_by_runtime("00a0ffee01020304", "OPENMV_AE3", "1-1");
        struct identity_result r;

        assert_int_equal(resolve(seen("2-2", 0x37c5, 0x96e3, U_A), &boot, 1).match, IDENTITY_KNOWN);
        assert_int_equal(resolve(seen("2-2", 0x37c5, 0x16e3, "00a0ffee01020304"), &run, 1).match, IDENTITY_KNOWN);
        /* nothing is computed from an Alif id */
        assert_int_equal(resolve(seen("2-2", 0x37c5, 0x16e3, M_A), &boot, 1).match, IDENTITY_NEW);
        assert_int_equal(resolve(rom("2-2", M_A), &boot, 1).match, IDENTITY_UNPROVEN);

        /* only the port links the modes, and only a moment after it left */
        r = resolve(seen("1-1", 0x37c5, 0x96e3, U_A), &run, 1);
        assert_int_equal(r.match, IDENTITY_NEW);
        run.left_for_identityless = true;
        r = resolve(seen("1-1", 0x37c5, 0x96e3, U_A), &run, 1);
        assert_int_equal(r.match, IDENTITY_PORT_HINT);
        assert_true(r.learnt_uid);
        assert_string_equal(r.key, U_A);

        r = resolve(seen("1-1", 0x37c5, 0x16e3, "00a0ffee01020304"), &boot, 1);
        assert_int_equal(r.match, IDENTITY_NEW);
        boot.left_for_identityless = true;
        r = resolve(seen("1-1", 0x37c5, 0x16e3, "00a0ffee01020304"), &boot, 1);
        assert_int_equal(r.match, IDENTITY_PORT_HINT);
        assert_string_equal(r.key, "M:00a0ffee01020304");
        /* a known other serial excludes it */
        strcpy(boot.runtime_serial, "ffffee0000000001");
        assert_int_equal(resolve(seen("1-1", 0x37c5, 0x16e3, "00a0ffee01020304"), &boot, 1).match, IDENTITY_NEW);
        /* and a known other unique id */
        run = known_by_uid(&uid_b, "OPENMV_AE3", "1-1");
        run.left_for_identityless = true;
        assert_int_equal(resolve(seen("1-1", 0x37c5, 0x96e3, U_A), &run, 1).match, IDENTITY_NEW);
}

static void test_foreign_device(void **state)
{
        struct known_identity k = known_by_uid(&uid_a, "OPENMV3", "1-1");
        struct identity_result r = resolve(seen("1-1", 0x046d, 0xc31c, M_A), &k, 1);

        assert_int_equal(r.mode, CAMERA_MODE_ABSENT);
        assert_int_equal(r.match, IDENTITY_UNPROVEN);
}

static void test_longest_strings(void **state)
{
        struct sighting s = seen("1-1.2.3.4.5.6.7.8.9.10.11.12.13", 0x37c5, 0x1203, "abcdefghijklmnopqrstuvwxyz012345");
        struct identity_result r = resolve(s, NULL, 0);

        assert_string_equal(r.key, "M:abcdefghijklmnopqrstuvwxyz012345");
        r = resolve(rom("1-1.2.3.4.5.6.7.8.9.10.11.12.13", SERIAL_H7), NULL, 0);
        assert_string_equal(r.key, "P:1-1.2.3.4.5.6.7.8.9.10.11.12.13");
}

static void test_enum_names(void **state)
{
        for (int i = 0; i < _CAMERA_MODE_MAX; i++)
                assert_int_equal(camera_mode_from_string(camera_mode_to_string((enum camera_mode)i)), i);
        for (int i = 0; i <= IDENTITY_COLLISION; i++)
                assert_int_equal(identity_match_from_string(identity_match_to_string((enum identity_match)i)), i);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                { "/identity/worked-example-a", test_worked_example_a, NULL, NULL, NULL },
                { "/identity/worked-example-b", test_worked_example_b, NULL, NULL, NULL },
                { "/identity/published-rom-serials", test_published_rom_serials, NULL, NULL, NULL },
                { "/identity/longest-m-form", test_longest_m_form, NULL, NULL, NULL },
                { "blank, short and fallback ids are no unique ids", test_no_uid, NULL, NULL, NULL },
                { "serials that many chips share are never an identity", test_shared_serials, NULL, NULL, NULL },
                { "the mode follows from ids, serial and interfaces", test_modes, NULL, NULL, NULL },
                { "early AE3: interfaces tell bootloader from runtime", test_early_ae3, NULL, NULL, NULL },
                { "a camera not seen before", test_new_camera, NULL, NULL, NULL },
                { "/identity/matching-table", test_matching_table, NULL, NULL, NULL },
                { "an old runtime is matched without a board", test_legacy_runtime, NULL, NULL, NULL },
                { "a provisional key gives way to the unique id", test_upgrade, NULL, NULL, NULL },
                { "a port's key is never upgraded", test_port_key_is_never_upgraded, NULL, NULL, NULL },
                { "a camera known from runtime is found in ROM", test_provisional_in_rom, NULL, NULL, NULL },
                { "a serial that fits two cameras is nobody's", test_collisions, NULL, NULL, NULL },
                { "an H7 in ROM is a hint at most", test_h7_rom_is_a_hint_at_most, NULL, NULL, NULL },
                { "what cannot be is not hinted", test_hint_only_if_possible, NULL, NULL, NULL },
                { "of two cameras the one that just left is hinted", test_left_a_moment_ago, NULL, NULL, NULL },
                { "the VCP bootloader has no identity", test_vcp_bootloader, NULL, NULL, NULL },
                { "two constants on two ports are two cameras", test_two_constants_two_cameras, NULL, NULL, NULL },
                { "the bootloader's fallback serial is no identity", test_fallback_serial, NULL, NULL, NULL },
                { "N6 is known by both runtime forms", test_n6, NULL, NULL, NULL },
                { "AE3: the modes are linked by the port only", test_ae3, NULL, NULL, NULL },
                { "what is not ours stays unproven", test_foreign_device, NULL, NULL, NULL },
                { "the longest port and serial fit the key", test_longest_strings, NULL, NULL, NULL },
                { "every name goes to its value and back", test_enum_names, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, load, NULL);
}
