/* SPDX-License-Identifier: MIT */
/*
 * The stories, told at the core: registry, sessions, verdict, journal and store
 * on simulated cameras.  After each the flash is compared byte for byte, and what
 * was not ours has not been written to.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "unit/lab.h"

#define PORT "3-1.2"

/* --- story E: a healthy camera --- */

static void healthy(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4, SIM_OPENMV4P, SIM_OPENMVPT, SIM_OPENMV_N6 };
        struct lab *lab = *state;

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct lab_camera *camera = lab_camera_new(lab, boards[i], (unsigned)i + 1);
                struct lab_image *old = lab_release(lab, boards[i], "4.8.1"), *new = lab_release(lab, boards[i], "5.0.0");
                char port[16];

                lab_import(lab, new);
                lab_install(camera, old);
                snprintf(port, sizeof(port), "3-1.%zu", i + 1);
                lab_plug(camera, port);
                lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
                lab_expect_state(camera, CAMERA_BOOTING, 5 * SEC);
                lab_expect_state(camera, CAMERA_RUNNING, 5 * SEC);
                lab_run(lab, 60 * SEC);
                lab_replug(camera);
                lab_run(lab, 60 * SEC);
                lab_expect_state(camera, CAMERA_RUNNING, SEC);
                lab_expect_untouched(camera);
                lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
                assert_int_equal(lab_counters(camera).boots, 2);
        }
}

static void quick_unplugs(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");

        lab_import(lab, release);
        lab_install(camera, release);
        /* Pulled while its bootloader shows, twice, and forgotten in a drawer. */
        for (int i = 0; i < 2; i++) {
                lab_plug(camera, PORT);
                lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
                lab_run(lab, 200 * MSEC);
                lab_unplug(camera);
                lab_expect_state(camera, CAMERA_BOOTING, SEC);
        }
        lab_expect_untouched(camera);
        lab_expect_state(camera, CAMERA_SILENT, 15 * SEC);
        /* A suspicion, nothing more: it is looked at, found whole, let go, and runs. */
        lab_plug_until_running(camera, PORT);
        lab_expect_only_read(camera);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
        lab_reset_counters(camera);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        lab_expect_untouched(camera);
}

static void hub_lost(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_install(camera, lab_release(lab, SIM_OPENMV3, "5.0.0"));
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
        lab->hub_is_gone = true;
        lab_unplug(camera);
        lab_run(lab, 15 * SEC);
        lab_expect_state(camera, CAMERA_ABSENT, SEC);
        lab->hub_is_gone = false;
        lab_plug_until_running(camera, PORT);
        lab_expect_untouched(camera);
}

/* --- silent boots --- */

/* A healthy camera first, so that it is known. */
static struct lab_camera *known_camera(struct lab *lab, enum sim_board board, const struct lab_image *image)
{
        struct lab_camera *camera = lab_camera_new(lab, board, 7);

        lab_install(camera, image);
        lab_plug_until_running(camera, PORT);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        lab_reset_counters(camera);
        return camera;
}

/* Erases what stands in a partition behind its first bytes. */
static void cut_off(struct lab_camera *camera, const struct lab_image *image, size_t at, size_t unit_end)
{
        _cleanup_free_ uint8_t *blank = malloc(unit_end - at);

        assert_non_null(blank);
        memset(blank, 0xff, unit_end - at);
        lab_install(camera, image);
        assert_int_equal(sim_camera_partition_poke(camera->sim, image->partition, (uint32_t)at, blank, unit_end - at), 0);
}

static void silent_boot(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;

        lab_import(lab, release);
        camera = known_camera(lab, SIM_OPENMV3, release);
        /* An update of somebody else was interrupted in unit 2. */
        cut_off(camera, release, 0x20000 + 0x40000 + 5000, 0x20000 + 2 * 0x40000);
        lab_remember(camera);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_BOOTING, 10 * SEC);
        lab_expect_state(camera, CAMERA_SILENT, 15 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_SILENT_BOOT);
        lab_expect_untouched(camera);

        lab_replug(camera);
        lab_expect_state(camera, CAMERA_UPDATING, 10 * SEC);
        lab_expect_done(camera);
        lab_expect_flash(camera, release);
        lab_expect_unchanged_but(camera, "FIRMWARE");
        lab_expect_wrote_only(camera, "FIRMWARE");
        /* Only the unit that was damaged. */
        assert_int_equal(lab_counters(camera).erases, 1);
        assert_string_equal(lab_update(camera)->record.version, "5.0.0");
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);

        lab_reset_counters(camera);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        lab_expect_untouched(camera);
}

static void blank_firmware(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4, SIM_OPENMV4P, SIM_OPENMVPT, SIM_OPENMV_N6 };
        struct lab *lab = *state;

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct lab_camera *camera = lab_camera_new(lab, boards[i], (unsigned)i + 1);
                struct lab_image *release = lab_release(lab, boards[i], "5.0.0");

                lab_import(lab, release);
                lab_import(lab, lab_release(lab, boards[i], "4.8.1"));
                lab_remember(camera);
                lab_plug(camera, PORT);
                lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
                lab_expect_done(camera);
                lab_expect_flash(camera, release);
                lab_expect_unchanged_but(camera, "FIRMWARE");
                lab_expect_wrote_only(camera, "FIRMWARE");
                lab_unplug(camera);
                lab_run(lab, 2 * SEC);
        }
}

/* Plugged in again, caught, looked at, let go, and silent again. */
static void look_again(struct lab_camera *camera)
{
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_EXAMINING, 10 * SEC);
        lab_expect_state(camera, CAMERA_BOOTING, 20 * SEC);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
}

static void intact_and_silent(void **state)
{
        struct lab *lab = *state;
        struct lab_image *mute = lab_mute_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, mute);
        lab_import(lab, lab_release(lab, SIM_OPENMV3, "5.0.1"));
        lab_install(camera, mute);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        /* However often it stays silent. */
        for (int i = 0; i < 3; i++) {
                look_again(camera);
                lab_expect_diagnosis(camera, DIAGNOSIS_INTACT_SILENT);
        }
        lab_expect_only_read(camera);
        lab_expect_flash(camera, mute);
}

static void custom_firmware(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_image *custom = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 99, 1000001);
        struct lab_camera *camera;
        _cleanup_free_ uint8_t *data = NULL;
        struct lab_image *mute;

        assert_int_equal(sim_image_firmware_mute(SIM_OPENMV3, "mine", 99, 1000001, &data), 0);
        mute = lab_bytes(lab, SIM_OPENMV3, "FIRMWARE", "mine", data, 1000001);
        lab_import(lab, release);
        camera = known_camera(lab, SIM_OPENMV3, custom);
        lab_install(camera, mute);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        for (int i = 0; i < 3; i++) {
                look_again(camera);
                lab_expect_diagnosis(camera, DIAGNOSIS_UNKNOWN_FIRMWARE);
        }
        lab_expect_only_read(camera);

        /* "recover" alone is no word about somebody's firmware. */
        assert_int_equal(lab_ask_recover(camera, NULL, /* replace= */ false), REQUEST_QUEUED);
        look_again(camera);
        lab_expect_update(camera, UPDATE_REFUSED, "unknown-firmware");
        lab_expect_only_read(camera);

        /* With it: saved first, then replaced. */
        assert_int_equal(lab_ask_recover(camera, NULL, /* replace= */ true), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, release);
        lab_expect_wrote_only(camera, "FIRMWARE");
        assert_non_null(store_saved(lab->store, camera->key, "FIRMWARE"));

        /* And comes back, byte for byte. */
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RESTORE }), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_SILENT, 120 * SEC);
        lab_expect_update(camera, UPDATE_NOT_SEEN, "verified-not-seen");
        lab_expect_diagnosis(camera, DIAGNOSIS_NOT_SEEN);
        lab_expect_flash(camera, mute);
        lab_expect_wrote_only(camera, "FIRMWARE");

        /* Not seen, and never rewritten for that. */
        lab_reset_counters(camera);
        look_again(camera);
        lab_expect_only_read(camera);
}

static void automatic_off(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;

        lab_set_automatic(lab, false);
        lab_import(lab, release);
        camera = known_camera(lab, SIM_OPENMV3, release);
        cut_off(camera, release, 5000, 0x20000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_ASKING, 20 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_AUTOMATIC_OFF);
        lab_run(lab, 60 * SEC);
        lab_expect_only_read(camera);
        /* It is held: garbage is not booted. */
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);

        assert_int_equal(lab_ask_recover(camera, NULL, false), REQUEST_UPDATE);
        lab_expect_done(camera);
        lab_expect_flash(camera, release);
}

static void automatic_on_again(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;

        lab_import(lab, release);
        camera = known_camera(lab, SIM_OPENMV3, release);
        registry_set_automatic(lab->registry, lab_known(camera), 0);
        cut_off(camera, release, 5000, 0x20000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_ASKING, 20 * SEC);
        lab_expect_only_read(camera);
        registry_set_automatic(lab->registry, lab_known(camera), 1);
        lab_expect_done(camera);
        lab_expect_flash(camera, release);
}

static void no_firmware(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");

        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_NO_FIRMWARE, 20 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_NO_FIRMWARE);
        lab_run(lab, 60 * SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        lab_expect_only_read(camera);
        /* Another board's does not help. */
        lab_import(lab, lab_release(lab, SIM_OPENMV4, "5.0.0"));
        lab_run(lab, 10 * SEC);
        lab_expect_state(camera, CAMERA_NO_FIRMWARE, SEC);
        lab_expect_only_read(camera);
        lab_import(lab, release);
        lab_expect_done(camera);
        lab_expect_flash(camera, release);
}

/* --- updates that people ask for --- */

static void queued_update(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, old);
        lab_import(lab, new);
        lab_install(camera, old);
        lab_plug_until_running(camera, PORT);
        lab_remember(camera);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_expect_diagnosis(camera, DIAGNOSIS_WAITING_FOR_REPLUG);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(camera);

        lab_unplug(camera);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_AWAITED);
        lab_plug(camera, "3-4");                /* another port */
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
        lab_expect_unchanged_but(camera, "FIRMWARE");
        lab_expect_wrote_only(camera, "FIRMWARE");
        assert_string_equal(lab_known(camera)->record.firmware_version, "5.0.0");

        /* The second time nothing is written, nor asked of the camera. */
        lab_reset_counters(camera);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_CURRENT);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_CURRENT);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        lab_expect_untouched(camera);

        /* Back to the version named. */
        assert_int_equal(lab_ask_update(camera, "4.8.1"), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, old);
}

static void second_flash_writes_nothing(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, new);
        lab_install(camera, new);
        lab_plug_until_running(camera, PORT);
        /* It is not known here what runs on it: it is compared. */
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_only_read(camera);
        assert_true(lab_counters(camera).upload_bytes >= new->size);
        lab_expect_flash(camera, new);
}

static void only_what_differs(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        _cleanup_free_ uint8_t *data = malloc(new->size);

        /* The same but for one byte in unit 3. */
        assert_non_null(data);
        memcpy(data, new->data, new->size);
        data[0x20000 + 2 * 0x40000 + 77777] ^= 1;
        old = lab_bytes(lab, SIM_OPENMV3, "FIRMWARE", "4.8.1", data, new->size);
        lab_import(lab, new);
        lab_install(camera, new);
        lab_plug_until_running(camera, PORT);
        lab_install(camera, old);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
        assert_int_equal(lab_counters(camera).erases, 1);
        /* The old one was unknown: it was saved before its unit was erased. */
        assert_non_null(store_saved(lab->store, camera->key, "FIRMWARE"));
}

static void in_the_bootloader_already(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, new);
        lab_install(camera, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

static int setup(void **state)
{
        *state = lab_new();
        return 0;
}

static int teardown(void **state)
{
        lab_free(*state);
        return 0;
}

#define STORY(name, function) { (name), (function), setup, teardown, NULL }

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                STORY("/recovery/E/a-healthy-camera-is-not-touched", healthy),
                STORY("/recovery/E/two-quick-unplugs-are-a-suspicion-only", quick_unplugs),
                STORY("/recovery/E/a-camera-that-left-with-its-hub-tells-nothing", hub_lost),
                STORY("/recovery/silent-boot/pinned-written-where-it-differs-runs", silent_boot),
                STORY("/recovery/silent-boot/blank-firmware-on-every-board", blank_firmware),
                STORY("/recovery/silent-boot/intact-is-never-rewritten", intact_and_silent),
                STORY("/recovery/silent-boot/custom-firmware-is-asked-about-and-comes-back", custom_firmware),
                STORY("/recovery/silent-boot/automatic-off-holds-and-asks", automatic_off),
                STORY("/recovery/silent-boot/automatic-on-again-goes-on", automatic_on_again),
                STORY("/recovery/silent-boot/no-firmware-until-some-is-imported", no_firmware),
                STORY("/recovery/update/queued-for-a-running-camera", queued_update),
                STORY("/recovery/update/the-second-flash-writes-nothing", second_flash_writes_nothing),
                STORY("/recovery/update/only-what-differs", only_what_differs),
                STORY("/recovery/update/in-the-bootloader-already", in_the_bootloader_already),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
