/* SPDX-License-Identifier: MIT */
/*
 * The stories, told at the core: registry, sessions, verdict, journal and store
 * on simulated cameras.  After each the flash is compared byte for byte, and what
 * was not ours has not been written to.
 */

#include <errno.h>
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
#include "unit/loop-virtual.h"
#include "unit/watcher.h"

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
        struct sim_counters pinned;
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
        pinned = lab_counters(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, release);
        lab_expect_unchanged_but(camera, "FIRMWARE");
        lab_expect_wrote_only(camera, "FIRMWARE");
        /* Only the unit that was damaged. */
        assert_int_equal(lab_counters(camera).erases, 1);
        /* The UPLOAD that holds it comes within milliseconds, behind nothing but libusb's own request. */
        assert_true(pinned.first_upload_at_us - pinned.configured_at_us < 10 * MSEC);
        assert_true(pinned.first_upload_at_us - pinned.first_transfer_at_us < MSEC);
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

static void labels(void **state)
{
        static const char *const wrong[] = {
                "3-1.2", "1-1", " tom", "tom ", "-tom", "to\tm", "to\x7fm", "to\xc2\x85m",
                "0123456789012345678901234567890123456789012345678901234567890123"
        };
        struct lab *lab = *state;
        struct lab_camera *tom = lab_camera_new(lab, SIM_OPENMV3, 1), *ann = lab_camera_new(lab, SIM_OPENMV4, 2);
        struct lab_camera *stranger = lab_camera_new(lab, SIM_OPENMV4, 3);
        struct registry *registry = lab->registry;

        lab_install(tom, lab_release(lab, SIM_OPENMV3, "5.0.0"));
        lab_install(ann, lab_release(lab, SIM_OPENMV4, "5.0.0"));
        lab_plug_until_running(tom, "1-1");
        lab_plug_until_running(ann, "1-2");
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                assert_int_equal(registry_set_label(registry, lab_known(tom), wrong[i]), -EINVAL);
        assert_int_equal(registry_set_label(registry, lab_known(tom), "b\xc3\xa4nk 7"), 0);
        assert_int_equal(registry_set_label(registry, lab_known(tom), "b\xc3\xa4nk 7"), 0);
        assert_int_equal(registry_set_label(registry, lab_known(ann), "B\xc3\xa4NK 7"), -EEXIST);
        assert_int_equal(registry_set_label(registry, lab_known(ann), "7-bank"), 0);
        /* In ROM DFU with a serial that many have: nobody knows who it is. */
        lab_jumper(stranger, true);
        lab_plug(stranger, "1-3");
        lab_expect_state(stranger, CAMERA_UNPROVEN, 20 * SEC);
        assert_int_equal(registry_set_label(registry, lab_known(stranger), "who"), -ENXIO);

        lab_restart(lab);
        registry = lab->registry;
        assert_string_equal(lab_known(tom)->record.label, "b\xc3\xa4nk 7");
        assert_string_equal(lab_known(ann)->record.label, "7-bank");
        assert_int_equal(registry_set_label(registry, lab_known(tom), ""), 0);
        assert_int_equal(registry_set_label(registry, lab_known(ann), "b\xc3\xa4nk 7"), 0);
        assert_int_equal(registry_set_label(registry, lab_known(tom), ""), 0);
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

/* --- interruptions (story D) --- */

/* The image of a camera that is updated from 4.8.1 to 5.0.0; plugged in, update under way. */
static struct lab_camera *begin_update(struct lab *lab, enum sim_board board, struct lab_image **ret_new)
{
        struct lab_image *old = lab_release(lab, board, "4.8.1"), *new = lab_release(lab, board, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, board, (unsigned)lab->n_cameras + 1);

        if (!store_by_digest(lab->store, &new->digest, NULL)) {
                lab_import(lab, old);
                lab_import(lab, new);
        }
        lab_install(camera, old);
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_remember(camera);
        lab_reset_counters(camera);
        *ret_new = new;
        return camera;
}

static void expect_updated(struct lab_camera *camera, const struct lab_image *image)
{
        lab_expect_done(camera);
        lab_expect_flash(camera, image);
        lab_expect_unchanged_but(camera, "FIRMWARE");
        lab_expect_wrote_only(camera, "FIRMWARE");
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
}

/* How often the most worn unit was erased. */
static unsigned most_erases(struct lab_camera *camera)
{
        static struct sim_unit_count units[4096];
        size_t n = sim_camera_unit_counts(camera->sim, units, ELEMENTSOF(units));
        unsigned most = 0;

        for (size_t i = 0; i < n; i++)
                most = MAX(most, units[i].erases);
        return most;
}

/* What the model has counted for the unit that is number u from start. */
static unsigned unit_erases(struct lab_camera *camera, uint32_t start, unsigned u)
{
        static struct sim_unit_count units[4096];
        size_t n = sim_camera_unit_counts(camera->sim, units, ELEMENTSOF(units));
        uint32_t address = start, size = 0;

        for (unsigned i = 0; i <= u; i++) {
                address += size;
                sim_camera_erase_unit(camera->sim, false, address, &address, &size);
        }
        for (size_t i = 0; i < n; i++)
                if (units[i].address == address)
                        return units[i].erases;
        return 0;
}

static void pulled_at_many_places(void **state)
{
        static const uint64_t places[] = { 1, 4096, 40000, 0x20000 - 1, 0x20000, 0x20000 + 1, 0x60000 - 4096, 0x60000, 800000, 1333696 };
        struct lab *lab = *state;

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                struct lab_image *new;
                struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);
                int ahead = 0;

                lab_replug(camera);
                lab_wait_writing(camera, places[i], 60 * SEC);
                lab_unplug(camera);
                lab_expect_state(camera, CAMERA_WAITING, SEC);
                lab_expect_diagnosis(camera, DIAGNOSIS_AWAITED);
                /* Erases that were planned and did not happen are not counted. */
                for (unsigned u = 0; u < 6; u++)
                        ahead += (int)update_wear(lab_update(camera), "FIRMWARE", u) - (int)unit_erases(camera, 0x08020000, u);
                assert_true(ahead == 0 || ahead == 1);  /* one may have been asked for, and the power was faster */
                lab_run(lab, 3600 * SEC);
                lab_plug(camera, i % 2 ? PORT : "5-1");
                expect_updated(camera, new);
                assert_true(most_erases(camera) <= 2);
                assert_true(lab_counters(camera).erases <= 7);
                assert_int_equal(lab_update(camera)->record.attempts, 2);
                lab_unplug(camera);
        }
}

/* In a lab of its own: an update, and its camera is plugged in with this fault. */
static struct lab_camera *begin_with_fault(void **state, struct lab_image **ret_new, const struct sim_fault *fault)
{
        struct lab_camera *camera;

        lab_free(*state);
        *state = lab_new();
        camera = begin_update(*state, SIM_OPENMV3, ret_new);
        lab_unplug(camera);
        sim_camera_add_fault(camera->sim, fault);
        lab_plug(camera, PORT);
        return camera;
}

/* Every kind of request, early and late, at each of its stages. */
static void pulled_at_every_stage(void **state)
{
        static const enum sim_fault_kind kinds[] = {
                SIM_FAULT_UNPLUG_BEFORE, SIM_FAULT_UNPLUG_DATA, SIM_FAULT_UNPLUG_STATUS, SIM_FAULT_UNPLUG_FLASH,
        };
        static const struct {
                int type, request;
                unsigned skip;
        } requests[] = {
                { 0xa1, 2, 0 }, { 0xa1, 2, 1 }, { 0xa1, 2, 5 },         /* UPLOAD: pin, comparison */
                { 0x21, 1, 0 }, { 0x21, 1, 33 },                        /* DNLOAD */
                { 0xa1, 3, 1 }, { 0xa1, 3, 2 }, { 0xa1, 3, 100 },       /* GETSTATUS */
                { 0x01, 11, 0 }, { 0x80, 6, 0 },                        /* SET_INTERFACE, descriptors */
                { 0x21, 1, 326 },                                       /* manifest */
                { 0x21, 0, 0 },                                         /* DETACH */
        };

        for (size_t i = 0; i < ELEMENTSOF(requests); i++)
                for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                        struct lab_image *new;
                        struct lab_camera *camera = begin_with_fault(state, &new, &(struct sim_fault){
                                .kind = kinds[k], .request_type = requests[i].type, .request = requests[i].request,
                                .skip = requests[i].skip, .count = 1 });
                        struct lab *lab = *state;

                        lab_run(lab, 120 * SEC);
                        sim_camera_clear_faults(camera->sim);
                        if (!sim_camera_is_powered(camera->sim)) {
                                lab_plug(camera, PORT);
                                lab_run(lab, 120 * SEC);
                        }
                        lab_expect_state(camera, CAMERA_RUNNING, SEC);
                        lab_expect_flash(camera, new);
                        lab_expect_unchanged_but(camera, "FIRMWARE");
                        lab_expect_wrote_only(camera, "FIRMWARE");
                        assert_true(most_erases(camera) <= 2);
                        /* Pulled while it was told to leave, it looks as if it had left, and not come: verified, and not seen. */
                        if (requests[i].request == 0)
                                assert_false(update_is_open(lab_update(camera)));
                        else
                                lab_expect_update(camera, UPDATE_DONE, "done");
                }
}

/* What does not come through says nothing about the device: a replug, and it goes on. */
static void descriptors_do_not_come_through(void **state)
{
        static const enum sim_fault_kind kinds[] = { SIM_FAULT_NAK, SIM_FAULT_ERROR };

        /* The configuration, the names of the first and of the last partition. */
        for (unsigned skip = 0; skip < 5; skip += 2)
                for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                        struct lab_image *new;
                        struct lab_camera *camera = begin_with_fault(state, &new, &(struct sim_fault){
                                .kind = kinds[k], .request_type = 0x80, .request = 6, .skip = skip, .error_code = -EPROTO });
                        struct lab *lab = *state;

                        lab_run(lab, 120 * SEC);
                        if (!update_is_open(lab_update(camera)))
                                lab_fail(lab, "given up: %s", lab_update(camera)->record.message);
                        assert_int_equal(lab_counters(camera).erases, 0);
                        sim_camera_clear_faults(camera->sim);
                        lab_replug(camera);
                        expect_updated(camera, new);
                }
}

static uint64_t transfers_time(const struct lab_camera *camera, size_t bytes)
{
        return (bytes + 4095) / 4096 * sim_camera_transfer_time(camera->sim, 4096);
}

/* Pulled at 60 %, between two blocks or while one is programmed: programmed is at most one erase unit more than without, and from the
 * replug until it is verified it takes no longer than what is left to write, one reading of the image, and a second. */
static void what_an_accident_costs(void **state)
{
        static const enum sim_fault_kind kinds[] = { SIM_FAULT_UNPLUG_DATA, SIM_FAULT_UNPLUG_STATUS, SIM_FAULT_UNPLUG_FLASH };
        struct lab *lab = *state;

        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                bool in_flash = kinds[k] == SIM_FAULT_UNPLUG_FLASH;
                uint32_t unit = 0x20000 + 2 * 0x40000;
                struct lab_image *new;
                struct lab_camera *camera;
                uint64_t begin, left;

                lab_free(lab);
                *state = lab = lab_new();
                camera = begin_update(lab, SIM_OPENMV3, &new);
                lab_unplug(camera);
                lab_reset_counters(camera);
                lab_plug(camera, PORT);
                lab_wait_writing(camera, new->size * 6 / 10, 60 * SEC);
                sim_camera_add_fault(camera->sim, &(struct sim_fault){
                        .kind = kinds[k], .request_type = in_flash ? 0xa1 : 0x21, .request = in_flash ? 3 : 1, .length = 2048 });
                lab_expect_state(camera, CAMERA_WAITING, SEC);
                assert_false(sim_camera_is_powered(camera->sim));
                sim_camera_clear_faults(camera->sim);

                left = sim_camera_flash_time(camera->sim, "FIRMWARE", new->size) - sim_camera_flash_time(camera->sim, "FIRMWARE", unit) +
                       transfers_time(camera, new->size - unit) +
                       2 * ((new->size - unit + 4095) / 4096) * sim_camera_transfer_time(camera->sim, 6);
                lab_plug(camera, "5-1");
                lab_expect_state(camera, CAMERA_UPDATING, 60 * SEC);
                begin = lab_counters(camera).configured_at_us;
                lab_expect_state(camera, CAMERA_CONFIRMING, 60 * SEC);
                if (loop_now(lab->loop) - begin > left + transfers_time(camera, new->size) + SEC)
                        lab_fail(lab, "verified after %.2f s, with %.2f s left to write", (double)(loop_now(lab->loop) - begin) / SEC,
                                 (double)left / SEC);
                expect_updated(camera, new);
                assert_true(lab_counters(camera).programmed_bytes <= new->size + 0x40000);
                assert_null(store_saved(lab->store, camera->key, "FIRMWARE"));
        }
}

/* Where power failed reading the H7's flash may be a bus fault (dfu.md A.5, unconfirmed): the device is silent until it is plugged in again, and
 * with the next look, for which nothing is read there, the update is finished. */
static void reading_silences_it(void **state)
{
        static const struct {
                unsigned skip;          /* GETSTATUS requests: one, and then two a block, of which the first starts it */
                uint32_t length;        /* bytes of the block in; 0: in the erase before */
        } cuts[] = { { 203, 1000 }, { 1, 0 }, { 193, 0 }, { 257, 0 }, { 3, 32 } };

        for (size_t i = 0; i < ELEMENTSOF(cuts); i++) {
                struct lab *lab = *state;
                struct sim_config config;
                struct lab_camera *camera;
                struct lab_image *new;
                unsigned replugs = 0;

                lab_free(lab);
                *state = lab = lab_new();
                new = lab_release(lab, SIM_OPENMV4, "5.0.0");
                lab_import(lab, new);
                sim_config_default(&config, SIM_OPENMV4, 3);
                config.h7_ecc_fault = true;
                camera = lab_camera_from(lab, &config);
                lab_install(camera, lab_firmware(lab, SIM_OPENMV4, "FIRMWARE", "mine", 99, new->size));
                lab_plug_until_running(camera, PORT);
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
                sim_camera_add_fault(camera->sim, &(struct sim_fault){ .kind = SIM_FAULT_UNPLUG_FLASH, .request_type = 0xa1, .request = 3,
                        .skip = cuts[i].skip, .count = 1, .length = cuts[i].length });
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
                lab_expect_state(camera, CAMERA_WAITING, 120 * SEC);
                assert_false(sim_camera_is_powered(camera->sim));
                sim_camera_clear_faults(camera->sim);
                lab_plug(camera, PORT);
                lab_run(lab, 60 * SEC);
                for (; update_is_open(lab_update(camera)) && replugs < 3; replugs++) {
                        assert_int_equal(lab_known(camera)->mode, CAMERA_MODE_BOOTLOADER);
                        assert_non_null(strstr(camera_diagnosis(lab_known(camera)).advice, "plug it in again at once"));
                        lab_replug(camera);
                        lab_run(lab, 60 * SEC);
                }
                lab_expect_done(camera);
                lab_expect_flash(camera, new);
                assert_int_equal(replugs, 1);
                assert_true(most_erases(camera) <= 2);
                /* Noise is nobody's firmware; what stood there before was somebody's. */
                assert_non_null(store_nth_saved(lab->store, 0));
                assert_null(store_nth_saved(lab->store, 1));
        }
}

/* But only when it comes back at once.  Who was away for longer may have been written elsewhere: what stands there is read, and saved, before it is
 * replaced; and what nobody asked for is not done. */
static void somebodys_since_it_was_silent(void **state)
{
        for (int unattended = 0; unattended < 2; unattended++) {
                struct lab *lab = *state;
                struct lab_image *old, *new, *theirs;
                struct sim_config config;
                struct lab_camera *camera;

                lab_free(lab);
                *state = lab = lab_new();
                old = lab_release(lab, SIM_OPENMV4, "4.8.1");
                new = lab_release(lab, SIM_OPENMV4, "5.0.0");
                theirs = lab_firmware(lab, SIM_OPENMV4, "FIRMWARE", "mine", 99, new->size);
                lab_import(lab, old);
                lab_import(lab, new);
                sim_config_default(&config, SIM_OPENMV4, 3);
                config.h7_ecc_fault = true;
                camera = lab_camera_from(lab, &config);
                if (unattended) {
                        lab_plug(camera, PORT);
                        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
                } else {
                        lab_install(camera, old);
                        lab_plug_until_running(camera, PORT);
                        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
                }
                sim_camera_add_fault(camera->sim, &(struct sim_fault){ .kind = SIM_FAULT_UNPLUG_FLASH, .request_type = 0xa1, .request = 3,
                        .skip = 1, .count = 1 });
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
                lab_expect_state(camera, CAMERA_WAITING, 120 * SEC);
                sim_camera_clear_faults(camera->sim);
                lab_plug(camera, PORT);
                lab_run(lab, 60 * SEC);
                assert_true(update_is_open(lab_update(camera)));
                lab_unplug(camera);
                lab_install(camera, theirs);
                lab_run(lab, 60 * SEC);
                lab_reset_counters(camera);
                lab_plug(camera, PORT);
                lab_run(lab, 120 * SEC);
                if (unattended) {
                        lab_expect_flash(camera, theirs);
                        lab_expect_only_read(camera);
                } else {
                        lab_expect_flash(camera, new);
                        assert_non_null(store_saved(lab->store, camera->key, "FIRMWARE"));
                }
        }
}

static void restarted_in_the_middle(void **state)
{
        static const uint64_t places[] = { 1, 4096, 100000, 0x20000, 700000, 1333696 };
        struct lab *lab = *state;

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                struct lab_image *new;
                struct lab_camera *camera;

                lab_free(lab);
                *state = lab = lab_new();
                camera = begin_update(lab, SIM_OPENMV3, &new);
                lab_replug(camera);
                lab_wait_writing(camera, places[i], 60 * SEC);
                lab_restart(lab);
                /* The bootloader was held, and stayed where it was. */
                assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
                expect_updated(camera, new);
                assert_true(most_erases(camera) <= 2);
        }
}

static bool is_told_to_leave(void *userdata)
{
        return lab_counters(userdata).detach > 0;
}

/* What the dead daemon had verified its successor knows, and asks for no replug to look again. */
static void killed_when_it_left(void **state)
{
        struct lab_image *old, *new;
        struct lab_camera *camera;
        struct lab *lab = *state;

        lab_free(lab);
        *state = lab = lab_new_on_disk(NULL);
        old = lab_release(lab, SIM_OPENMV3, "4.8.1");
        new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        lab_import(lab, old);
        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, old);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_replug(camera);
        assert_true(loop_run_until(lab->loop, is_told_to_leave, camera, 60 * SEC));
        lab_run(lab, 600);              /* it has heard that, and is still there */
        lab_kill(lab);
        lab_run(lab, 20 * SEC);
        lab_start(lab);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
        lab_expect_flash(camera, new);
}

static void restarted_while_it_is_away(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        lab_replug(camera);
        lab_wait_writing(camera, 500000, 60 * SEC);
        lab_unplug(camera);
        lab_restart(lab);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_AWAITED);
        lab_run(lab, 60 * SEC);
        lab_restart(lab);
        lab_plug(camera, "1-1");
        expect_updated(camera, new);
}

/* Nothing but evidence: an interrupted write that is nobody's, resumed by every replug. */
static void unattended_and_pulled(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV4, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 1);

        lab_import(lab, release);
        lab_remember(camera);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        for (int i = 0; i < 4; i++) {
                lab_replug(camera);
                lab_wait_writing(camera, 300000, 60 * SEC);
                lab_unplug(camera);
                lab_expect_state(camera, CAMERA_WAITING, SEC);
        }
        lab_replug(camera);
        expect_updated(camera, release);
        assert_true(most_erases(camera) <= 5);
}

/* --- cancel and stop --- */

static void cancelled(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        /* Before it begins. */
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), -EALREADY);
        lab_expect_update(camera, UPDATE_CANCELLED, "cancelled");
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        lab_expect_untouched(camera);

        /* In the middle: at the end of the unit. */
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_replug(camera);
        lab_wait_writing(camera, 300000, 60 * SEC);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_expect_state(camera, CAMERA_ASKING, 20 * SEC);
        lab_expect_update(camera, UPDATE_CANCELLED, "cancelled");
        lab_expect_diagnosis(camera, DIAGNOSIS_REFUSED);
        assert_int_equal(lab_counters(camera).download_bytes, 0x20000 + 0x40000);
        lab_run(lab, 60 * SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);

        /* Two versions stand there now, which is no image: to write it over needs the word, and it is not let go into garbage. */
        assert_int_equal(lab_ask_recover(camera, NULL, false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_EXAMINING, SEC);
        lab_expect_state(camera, CAMERA_ASKING, 20 * SEC);
        lab_expect_update(camera, UPDATE_REFUSED, "unknown-firmware");
        lab_expect_diagnosis(camera, DIAGNOSIS_UNKNOWN_FIRMWARE);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        /* The same after a replug: what is known to be unfinished is caught. */
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_ASKING, 20 * SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        /* What was on it once is not on it now. */
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = "4.8.1", .dry_run = true }),
                         REQUEST_UPDATE);
        lab_unplug(camera);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = "4.8.1", .dry_run = true }),
                         REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_ASKING, 20 * SEC);
        /* He changes his mind. */
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

static void cancelled_while_away(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        lab_unplug(camera);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_expect_state(camera, CAMERA_ABSENT, SEC);
        lab_plug_until_running(camera, PORT);
        lab_expect_untouched(camera);
}

static bool has_stopped(void *userdata)
{
        struct lab *lab = userdata;

        return registry_stop(lab->registry);
}

static void stopped(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        lab_replug(camera);
        lab_wait_writing(camera, 0x20000 + 5000, 60 * SEC);
        assert_true(loop_run_until(lab->loop, has_stopped, lab, 8 * SEC));
        assert_int_equal(lab_counters(camera).download_bytes, 0x20000 + 0x40000);
        lab_restart(lab);
        expect_updated(camera, new);
        assert_int_equal(most_erases(camera), 1);
}

/* --- other programs (story H) --- */

struct busy_seen {
        unsigned n, n_busy;
};

static void count_busy(void *userdata, struct camera *camera)
{
        struct busy_seen *seen = userdata;

        seen->n++;
        seen->n_busy += camera_diagnosis(camera).code == DIAGNOSIS_BUSY;
}

static const struct registry_observer busy_observer = { .on_camera_changed = count_busy };

static void busy_and_free_again(void **state)
{
        struct lab *lab = *state;
        struct busy_seen seen = {};
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        /* Somebody holds a forced bootloader. */
        lab_unplug(camera);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_EXAMINING, 10 * SEC);
        lab->registry = registry_free(lab->registry);
        lab_run(lab, SEC);
        assert_int_equal(usb_inproc_claim(camera->usb, 0, true), 0);
        lab_reset_counters(camera);
        lab_restart(lab);
        lab_expect_state(camera, CAMERA_BLOCKED, 5 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_BUSY);
        /* Tried again and again, and whoever watches sees no change of what is wrong. */
        assert_int_equal(registry_observe(lab->registry, &busy_observer, &seen), 0);
        lab_run(lab, 600 * SEC);
        registry_unobserve(lab->registry, &busy_observer);
        assert_in_range(seen.n, 20, 2000);
        assert_int_equal(seen.n_busy, seen.n);
        /* Nothing is sent but what libusb asks when it is given the node. */
        assert_int_equal(lab_counters(camera).transfers, lab_counters(camera).get_configuration);
        lab_expect_only_read(camera);
        assert_true(update_is_open(lab_update(camera)));
        assert_int_equal(usb_inproc_claim(camera->usb, 0, false), 0);
        expect_updated(camera, new);
}

static void permission_comes_later(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        lab_unplug(camera);
        usb_inproc_fail_open(camera->usb, -EACCES, 2);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_BLOCKED, 5 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_NO_PERMISSION);
        expect_updated(camera, new);
}

/* Almost all of a bootloader's window passes before the node is ours: it is caught all the same, without another hand. */
static void late_node(struct lab *lab, int error, enum diagnosis_code code)
{
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        lab_unplug(camera);
        usb_inproc_fail_open(camera->usb, error, 11);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_BLOCKED, 5 * SEC);
        lab_expect_diagnosis(camera, code);
        lab_run(lab, 800 * MSEC);
        assert_int_equal(lab_known(camera)->state, CAMERA_BLOCKED);
        lab_expect_state(camera, CAMERA_UPDATING, 5 * SEC);
        expect_updated(camera, new);
        assert_int_equal(lab_known(camera)->update->record.failures, 0);
}

static void permission_comes_late_in_the_window(void **state)
{
        late_node(*state, -EACCES, DIAGNOSIS_NO_PERMISSION);
}

static void node_comes_late_in_the_window(void **state)
{
        late_node(*state, -ENOENT, DIAGNOSIS_NO_NODE);
}

/* It never comes: named, looked for at leisure, and nothing is given up. */
static void permission_never_comes(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        usb_inproc_fail_open(camera->usb, -EPERM, 60);
        sim_camera_reset(camera->sim, /* forced= */ true);
        lab_expect_state(camera, CAMERA_BLOCKED, 5 * SEC);
        lab_run(lab, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_NO_PERMISSION);
        assert_true(update_is_open(lab_update(camera)));
        assert_true(lab_known(camera)->tries < 60);
        expect_updated(camera, new);
}

/* --- images that do not belong (story I) --- */

static void refused_images(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        struct lab_image *running = lab_release(lab, SIM_OPENMV3, "4.8.1"), *wrong, *right;

        lab_install(camera, running);
        lab_import(lab, running);
        /* An H7's firmware under the M7's name. */
        right = lab_release(lab, SIM_OPENMV4, "6.0.0");
        wrong = lab_bytes(lab, SIM_OPENMV3, "FIRMWARE", "6.0.0", right->data, right->size);
        lab_import(lab, wrong);
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_ask_update(camera, "6.0.0"), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_expect_update(camera, UPDATE_REFUSED, "image-refused");
        lab_expect_only_read(camera);
        lab_expect_flash(camera, running);

        /* No such version, no such board. */
        assert_int_equal(lab_ask_update(camera, "9.9.9"), REQUEST_REFUSE);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_REFUSE);
}

static void larger_than_the_partition(void **state)
{
        struct lab *lab = *state;
        size_t size = 0x1a0000 + 5000;          /* fits M7's old layout, which had no ROMFS */
        struct lab_image *large = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "4.6.20", 1, size);
        struct lab_image *small = lab_release(lab, SIM_OPENMV3, "4.5.0");
        struct lab_camera *new_layout = lab_camera_new(lab, SIM_OPENMV3, 1), *old_layout;
        struct sim_config config;

        lab_import(lab, large);
        lab_import(lab, small);
        lab_install(new_layout, small);
        lab_plug_until_running(new_layout, PORT);
        assert_int_equal(lab_ask_update(new_layout, "4.6.20"), REQUEST_REFUSE);

        sim_config_default(&config, SIM_OPENMV3, 2);
        config.bootloader = SIM_BL_1_0_0_OLD_LAYOUT;
        old_layout = lab_camera_from(lab, &config);
        lab_install(old_layout, small);
        lab_plug_until_running(old_layout, "3-3");
        /* Its layout is not known before its bootloader was read; then the newest that fits is chosen. */
        cut_off(old_layout, small, 5000, 0x20000);
        lab_replug(old_layout);
        lab_expect_state(old_layout, CAMERA_SILENT, 20 * SEC);
        lab_replug(old_layout);
        lab_expect_done(old_layout);
        lab_expect_flash(old_layout, large);
        lab_expect_wrote_only(old_layout, "FIRMWARE");

        /* And the new one's damaged firmware is not replaced by what does not fit. */
        cut_off(new_layout, small, 5000, 0x20000);
        lab_replug(new_layout);
        lab_expect_state(new_layout, CAMERA_SILENT, 20 * SEC);
        lab_replug(new_layout);
        lab_expect_done(new_layout);
        lab_expect_flash(new_layout, small);
}

/* --- silent traps (story J) --- */

static void ignores_detach(void **state)
{
        static const enum sim_bootloader bootloaders[] = { SIM_BL_1_0_0, SIM_BL_1_0_0_OLD_LAYOUT, SIM_BL_1_0_2 };
        struct lab *lab = *state;

        for (size_t i = 0; i < ELEMENTSOF(bootloaders); i++)
                for (int forced = 0; forced < 2; forced++) {
                        struct lab_image *old, *new;
                        struct lab_camera *camera;
                        struct sim_config config;

                        lab_free(lab);
                        *state = lab = lab_new();
                        old = lab_release(lab, SIM_OPENMV3, "4.8.1");
                        new = lab_release(lab, SIM_OPENMV3, "5.0.0");
                        lab_import(lab, old);
                        lab_import(lab, new);
                        sim_config_default(&config, SIM_OPENMV3, 1);
                        config.bootloader = bootloaders[i];
                        camera = lab_camera_from(lab, &config);
                        lab_install(camera, old);
                        lab_plug_until_running(camera, PORT);
                        lab_remember(camera);
                        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
                        if (forced)
                                sim_camera_reset(camera->sim, /* forced= */ true);
                        else
                                lab_replug(camera);
                        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
                        expect_updated(camera, new);
                        /* The same where nothing has to be written: a look after a silent boot. */
                        lab_reset_counters(camera);
                        lab_known(camera)->record.suspect = true;
                        if (forced)
                                sim_camera_reset(camera->sim, /* forced= */ true);
                        else
                                lab_replug(camera);
                        lab_expect_state(camera, CAMERA_EXAMINING, 20 * SEC);
                        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
                        lab_expect_only_read(camera);
                }
}

static void on_request_done(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        (void)data;
        (void)actual;
        *(int *)userdata = (int)result;
}

static void on_opened(void *userdata, int error, struct usb_device *device)
{
        assert_int_equal(error, 0);
        *(struct usb_device **)userdata = device;
}

static bool is_open(void *userdata)
{
        return *(struct usb_device **)userdata;
}

static bool request_has_ended(void *userdata)
{
        return *(int *)userdata >= 0;
}

static void send(struct lab *lab, struct usb_device *device, const struct usb_setup *setup, const uint8_t *data)
{
        int result = -1;

        assert_int_equal(usb_submit(device, setup, data, SEC, on_request_done, &result), 0);
        assert_true(loop_run_until(lab->loop, request_has_ended, &result, 5 * SEC));
        assert_int_equal(result, USB_OK);
}

static void stale_block(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);
        struct usb_device *device = NULL;
        struct usb_opening *opening = NULL;
        struct sighting sighting;
        static uint8_t garbage[4096];

        /* Another program selected FIRMWARE, held the bootloader, sent a block, and died before its GETSTATUS. */
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
        assert_true(usb_inproc_sighting(camera->usb, &sighting));
        assert_int_equal(usb_open(lab->usb, sighting.node, 0, SEC, on_opened, &device, &opening), 0);
        assert_true(loop_run_until(lab->loop, is_open, &device, SEC));
        memset(garbage, 0x5a, sizeof(garbage));
        send(lab, device, &(struct usb_setup){ .request_type = 0x01, .request = 11, .value = 2 }, NULL);
        send(lab, device, &(struct usb_setup){ .request_type = 0xa1, .request = 2, .length = 64 }, NULL);
        send(lab, device, &(struct usb_setup){ .request_type = 0x21, .request = 1, .value = 200, .length = 4096 }, garbage);
        usb_device_free(device);
        lab_run(lab, 30 * SEC);
        lab_expect_state(camera, CAMERA_STAYING, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_STAYS_IN_BOOTLOADER);
        lab_reset_counters(camera);

        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        expect_updated(camera, new);
        /* Block 200 was programmed once, with what belongs there. */
        assert_int_equal(most_erases(camera), 1);
        assert_true(lab_counters(camera).download_bytes <= 1333696 + 4096);
}

static void flash_that_does_not_erase(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        /* Erase and program report success and do nothing. */
        sim_camera_fail_flash(camera->sim, false, 0x08080000, /* silently= */ true, 1000000);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_FAILED, 300 * SEC);
        lab_run(lab, 600 * SEC);
        lab_expect_update(camera, UPDATE_FAILED, "write-refused");
        lab_expect_diagnosis(camera, DIAGNOSIS_FAILED);
        assert_true(most_erases(camera) <= 20);
        /* Never "done", never let go into garbage. */
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
}

/* Nobody asked: it is not erased for ever, neither while it stays attached. */
static void unattended_and_worn(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, release);
        sim_camera_fail_flash(camera->sim, false, 0x08080000, /* silently= */ true, 1000000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_run(lab, 3600 * SEC);
        lab_expect_state(camera, CAMERA_FAILED, SEC);
        lab_expect_update(camera, UPDATE_FAILED, "write-refused");
        assert_true(most_erases(camera) <= 20);
        assert_null(registry_next_update(registry_first_update(lab->registry)));
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
}

static void flash_that_refuses(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        sim_camera_fail_flash(camera->sim, false, 0x08080000, /* silently= */ false, 1);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_FAILED, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_FAILED);
        /* Once: it is tried again by itself. */
        expect_updated(camera, new);

        sim_camera_fail_flash(camera->sim, false, 0x08080000, /* silently= */ false, 1000000);
        assert_int_equal(lab_ask_update(camera, "4.8.1"), REQUEST_QUEUED);
        lab_replug(camera);
        lab_run(lab, 600 * SEC);
        lab_expect_state(camera, CAMERA_FAILED, SEC);
        lab_expect_update(camera, UPDATE_FAILED, "write-refused");
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
}

/* One answer comes out wrong while its flash is read: that is no evidence that it cannot be read. */
static void one_untrue_error(void **state)
{
        static const struct sim_fault faults[] = {
                { .kind = SIM_FAULT_STATE, .request_type = 0xa1, .request = 3, .count = 1, .pattern = 10 },
                { .kind = SIM_FAULT_GARBAGE, .request_type = 0xa1, .request = 3, .count = 1, .pattern = 10 },
        };

        for (size_t i = 0; i < ELEMENTSOF(faults); i++) {
                struct lab *lab = *state;
                struct lab_image *old, *new;
                struct lab_camera *camera;

                lab_free(lab);
                *state = lab = lab_new();
                old = lab_release(lab, SIM_OPENMV3, "4.8.1");
                new = lab_release(lab, SIM_OPENMV3, "5.0.0");
                lab_import(lab, old);
                lab_import(lab, new);
                camera = known_camera(lab, SIM_OPENMV3, old);
                assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
                sim_camera_add_fault(camera->sim, &faults[i]);
                lab_replug(camera);
                lab_expect_done(camera);
                lab_expect_flash(camera, new);
        }
}

static void locks_up(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);

        sim_camera_add_fault(camera->sim, &(struct sim_fault){ .kind = SIM_FAULT_CRASH, .request_type = 0x21, .request = 1,
                                                               .skip = 50, .count = 1 });
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_FAILED, 120 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_FAILED);
        lab_run(lab, 300 * SEC);
        lab_expect_state(camera, CAMERA_FAILED, SEC);
        sim_camera_clear_faults(camera->sim);
        /* A power cycle mends it, and the update goes on. */
        lab_replug(camera);
        expect_updated(camera, new);
}

static void not_seen(void **state)
{
        struct lab *lab = *state;
        struct lab_image *mute = lab_mute_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, mute);
        lab_install(camera, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_CONFIRMING, 120 * SEC);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_expect_update(camera, UPDATE_NOT_SEEN, "verified-not-seen");
        lab_expect_diagnosis(camera, DIAGNOSIS_NOT_SEEN);
        lab_expect_flash(camera, mute);
        lab_reset_counters(camera);
        look_again(camera);
        lab_expect_only_read(camera);
        lab_expect_update(camera, UPDATE_NOT_SEEN, "verified-not-seen");
}

/* --- ROM DFU (stories A, C, G) --- */

static void blank_bootloader(struct lab_camera *camera)
{
        sim_camera_flash_blank(camera->sim, false, 0x08000000,
                               camera->board == SIM_OPENMV2 || camera->board == SIM_OPENMV3 ? 0x8000 : 0x20000);
}

/* Unplugged, jumper set, plugged in where it was. */
static void into_rom(struct lab_camera *camera)
{
        lab_unplug(camera);
        lab_jumper(camera, true);
        lab_run(camera->lab, 2 * SEC);
        lab_plug(camera, *usb_inproc_port_of(camera->usb) ? usb_inproc_port_of(camera->usb) : PORT);
}

/* A store with a bootloader and a firmware of one release. */
static struct lab_image *stock(struct lab *lab, enum sim_board board, struct lab_image **ret_bootloader)
{
        struct lab_image *bootloader = lab_bootloader(lab, board, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *firmware = lab_release(lab, board, "5.0.0");

        lab_import(lab, bootloader);
        lab_import(lab, firmware);
        if (ret_bootloader)
                *ret_bootloader = bootloader;
        return firmware;
}

/* In a lab of its own: an M7 that is known, and has lost its bootloader. */
static struct lab_camera *without_bootloader(void **state, struct lab_image **ret_bootloader, struct lab_image **ret_firmware)
{
        struct lab_camera *camera;
        struct lab *lab;

        lab_free(*state);
        *state = lab = lab_new();
        *ret_firmware = stock(lab, SIM_OPENMV3, ret_bootloader);
        camera = known_camera(lab, SIM_OPENMV3, *ret_firmware);
        blank_bootloader(camera);
        return camera;
}

/* Nobody asked, and the first look at it failed: it is looked at again, a few times. */
static void looked_at_again_in_rom(void **state)
{
        for (unsigned failures = 1; failures <= RETRY_ATTACHED_MAX; failures++) {
                struct lab_image *bootloader, *firmware;
                struct lab_camera *camera = without_bootloader(state, &bootloader, &firmware);
                struct lab *lab = *state;

                lab_remember(camera);
                sim_camera_add_fault(camera->sim, &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = 0xa1, .request = 2, .count = failures });
                into_rom(camera);
                lab_expect_state(camera, CAMERA_FAILED, 20 * SEC);
                if (failures < RETRY_ATTACHED_MAX) {
                        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
                        lab_expect_flash(camera, bootloader);
                        continue;
                }
                lab_run(lab, 60 * SEC);
                lab_expect_state(camera, CAMERA_FAILED, SEC);
                lab_expect_only_read(camera);
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
                lab_expect_flash(camera, bootloader);
        }
}

static void dead_after_update(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV3, SIM_OPENMV2 };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct lab *lab = *state;
                struct lab_image *bootloader, *firmware;
                struct lab_camera *camera;

                lab_free(lab);
                *state = lab = lab_new();
                firmware = stock(lab, boards[i], &bootloader);
                camera = known_camera(lab, boards[i], firmware);
                /* Neither bootloader nor firmware is left. */
                blank_bootloader(camera);
                cut_off(camera, firmware, 5000, boards[i] == SIM_OPENMV2 ? 0x10000 : 0x20000);
                lab_remember(camera);
                into_rom(camera);
                lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
                lab_expect_diagnosis(camera, DIAGNOSIS_RESTORED_JUMPER);
                lab_expect_flash(camera, bootloader);
                assert_true(update_is_open(lab_update(camera)));
                assert_true(lab_known(camera)->has_uid);

                /* Asked for before a hand was there: it has not come back, it is still the same. */
                assert_int_equal(lab_ask_update(camera, ""), REQUEST_UPDATE);
                lab_expect_state(camera, CAMERA_EXAMINING, 10 * SEC);
                lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
                lab_expect_diagnosis(camera, DIAGNOSIS_RESTORED_JUMPER);

                /* The jumper forgotten: said again, nothing written again. */
                lab_reset_counters(camera);
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_EXAMINING, 10 * SEC);
                lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
                lab_expect_diagnosis(camera, DIAGNOSIS_JUMPER);
                lab_expect_only_read(camera);
                assert_true(update_is_open(lab_update(camera)));

                lab_unplug(camera);
                lab_expect_state(camera, CAMERA_WAITING, SEC);
                lab_expect_diagnosis(camera, DIAGNOSIS_RESTORED_JUMPER);
                lab_jumper(camera, false);
                lab_plug(camera, "2-1");
                lab_expect_done(camera);
                lab_expect_flash(camera, bootloader);
                lab_expect_flash(camera, firmware);
                lab_expect_wrote_only(camera, "FIRMWARE");
                lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
        }
}

static void bootloader_only(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV3, &bootloader);
        struct lab_camera *camera = known_camera(lab, SIM_OPENMV3, firmware);

        blank_bootloader(camera);
        lab_remember(camera);
        into_rom(camera);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
        /* Its firmware is whole, known and of the DFU bootloader's time: it is left as it is. */
        lab_expect_flash(camera, firmware);
        lab_expect_unchanged_but(camera, "BOOTLOADER");
        lab_expect_wrote_only(camera, "BOOTLOADER");
        lab_unplug(camera);
        lab_jumper(camera, false);
        lab_reset_counters(camera);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_only_read(camera);
}

static void jumper_on_a_sound_camera(void **state)
{
        struct lab *lab = *state;
        struct lab_image *firmware = stock(lab, SIM_OPENMV3, NULL);
        struct lab_camera *camera = known_camera(lab, SIM_OPENMV3, firmware);

        for (int i = 0; i < 3; i++) {
                into_rom(camera);
                lab_expect_state(camera, CAMERA_JUMPER, 30 * SEC);
                lab_expect_diagnosis(camera, DIAGNOSIS_JUMPER);
                lab_run(lab, 600 * SEC);
        }
        lab_expect_only_read(camera);
        lab_unplug(camera);
        lab_jumper(camera, false);
        lab_reset_counters(camera);
        lab_plug_until_running(camera, PORT);
        lab_expect_untouched(camera);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
}

static void unknown_bootloader(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV3, &bootloader);
        struct lab_image *own = lab_bootloader(lab, SIM_OPENMV3, SIM_BL_1_0_2, "?");
        struct lab_camera *camera = known_camera(lab, SIM_OPENMV3, firmware);

        lab_install(camera, own);
        into_rom(camera);
        lab_expect_state(camera, CAMERA_ASKING, 30 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_UNKNOWN_BOOTLOADER);
        lab_run(lab, 600 * SEC);
        lab_expect_only_read(camera);
        /* With his word it is saved and replaced. */
        assert_int_equal(lab_ask_recover(camera, NULL, false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
        lab_expect_flash(camera, firmware);
        assert_non_null(store_saved(lab->store, camera->key, "BOOTLOADER"));
        assert_int_equal(store_saved(lab->store, camera->key, "BOOTLOADER")->size, own->size);
}

static void f4_first_error(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV2, &bootloader);
        struct sim_config config;
        struct lab_camera *camera;

        sim_config_default(&config, SIM_OPENMV2, 3);
        config.f4_first_dfu_error = true;
        config.rom_strict_clrstatus = true;
        config.rom_constant_stride = true;
        config.rom_busy_stalls = true;
        camera = lab_camera_from(lab, &config);
        lab_install(camera, firmware);
        lab_plug_until_running(camera, PORT);
        blank_bootloader(camera);
        into_rom(camera);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
        lab_expect_flash(camera, firmware);
}

static void f765_dual_bank(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV3, &bootloader);
        struct sim_config config;
        struct lab_camera *camera;

        sim_config_default(&config, SIM_OPENMV3, 3);
        config.f765_dual_bank = true;
        camera = lab_camera_from(lab, &config);
        lab_install(camera, firmware);
        lab_plug_until_running(camera, PORT);
        blank_bootloader(camera);
        into_rom(camera);
        /* Nothing is written through the ROM where its erase does nothing. */
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
        lab_expect_flash(camera, firmware);
        lab_expect_wrote_only(camera, "BOOTLOADER");
}

/* Whoever has protected it meant it: nothing irreversible is done about that, asked or not. */
static void read_protected(void **state)
{
        struct lab *lab = *state;
        struct lab_image *firmware = stock(lab, SIM_OPENMV3, NULL);
        struct sim_config config;
        struct lab_camera *camera;

        sim_config_default(&config, SIM_OPENMV3, 3);
        config.rom_read_protected = true;
        camera = lab_camera_from(lab, &config);
        lab_install(camera, firmware);
        lab_plug_until_running(camera, PORT);
        blank_bootloader(camera);
        lab_remember(camera);
        into_rom(camera);
        lab_expect_state(camera, CAMERA_ASKING, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_REFUSED);
        assert_int_equal(lab_ask_recover(camera, NULL, /* replace= */ true), REQUEST_UPDATE);
        lab_run(lab, 600 * SEC);
        lab_expect_update(camera, UPDATE_REFUSED, "unreadable");
        lab_expect_only_read(camera);
        lab_expect_unchanged_but(camera, NULL);
}

/* Row 5: what is in the file system's place would be taken for firmware by the new bootloader, or be jumped into. */
static void firmware_of_another_time(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV2, &bootloader);
        struct lab_image *old = lab_release(lab, SIM_OPENMV2, "4.5.0");
        struct lab_camera *camera;
        uint8_t head[8];

        lab_import(lab, old);
        camera = known_camera(lab, SIM_OPENMV2, old);
        blank_bootloader(camera);
        lab_remember(camera);
        into_rom(camera);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
        /* 4.5.0 is older than the DFU bootloader: its head went in the same session. */
        assert_int_equal(sim_camera_partition_read(camera->sim, "FIRMWARE", 0, head, sizeof(head)), 0);
        assert_true(bytes_all(head, sizeof(head), 0xff));
        lab_unplug(camera);
        lab_jumper(camera, false);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        /* Not older than it last ran, and whole. */
        (void)firmware;
        assert_true(version_compare(lab_known(camera)->record.firmware_version, "4.5.0") >= 0);
}

static void unknown_firmware_behind_a_blank_bootloader(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV3, &bootloader);
        struct lab_image *custom = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 77, 900000);
        struct lab_camera *camera = known_camera(lab, SIM_OPENMV3, custom);

        blank_bootloader(camera);
        into_rom(camera);
        lab_expect_state(camera, CAMERA_ASKING, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_UNKNOWN_FIRMWARE);
        lab_expect_only_read(camera);
        /* The word that it may go: saved first. */
        assert_int_equal(lab_ask_recover(camera, NULL, /* replace= */ true), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
        assert_non_null(store_saved(lab->store, camera->key, "FIRMWARE"));
        lab_unplug(camera);
        lab_jumper(camera, false);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_flash(camera, firmware);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RESTORE }), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, custom);
}

#define ID_SIZE (7 + DIGEST_HEX_SIZE)

static const char *named(const struct lab_image *image, char id[static ID_SIZE])
{
        memcpy(id, "sha256:", 7);
        digest_to_hex(&image->digest, id + 7);
        return id;
}

static enum request_action ask_bootloader(struct lab_camera *camera, const struct lab_image *image, const char *board)
{
        char id[ID_SIZE];

        return lab_request(camera, &(struct request){ .wish = WISH_RECOVER, .firmware = named(image, id), .board = board });
}

/* A certain bootloader, and nothing after it: of a known camera, of one that the ROM hides, and once more. */
static void rom_named_bootloader(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV3, SIM_OPENMV4 };
        static const char *const names[] = { "M7", "H7" };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct lab *lab = *state;
                struct lab_image *bootloader, *older, *firmware;
                struct lab_camera *camera;
                char id[ID_SIZE];

                lab_free(lab);
                *state = lab = lab_new();
                firmware = stock(lab, boards[i], &bootloader);
                older = lab_bootloader(lab, boards[i], SIM_BL_1_0_2, "4.8.1");
                lab_import(lab, older);
                lab_set_automatic(lab, false);
                camera = known_camera(lab, boards[i], firmware);
                /* It is refused where the bootloader runs. */
                assert_int_equal(ask_bootloader(camera, older, NULL), REQUEST_REFUSE);
                assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = named(older, id) }), REQUEST_REFUSE);
                blank_bootloader(camera);
                into_rom(camera);
                lab_run(lab, 5 * SEC);
                assert_int_equal(ask_bootloader(camera, older, names[i]), REQUEST_UPDATE);
                lab_run(lab, 20 * SEC);
                lab_expect_update(camera, UPDATE_DONE, "bootloader-restored");
                lab_expect_flash(camera, older);
                lab_expect_flash(camera, firmware);
                /* It stands there: nothing is written for it.  Another one does not replace it. */
                lab_reset_counters(camera);
                assert_int_equal(ask_bootloader(camera, older, names[i]), REQUEST_UPDATE);
                lab_run(lab, 20 * SEC);
                lab_expect_update(camera, UPDATE_DONE, "bootloader-sound");
                assert_int_equal(ask_bootloader(camera, bootloader, names[i]), REQUEST_UPDATE);
                lab_run(lab, 20 * SEC);
                lab_expect_update(camera, UPDATE_REFUSED, "sound-bootloader");
                lab_expect_only_read(camera);
                lab_unplug(camera);
                lab_jumper(camera, false);
                lab_run(lab, 2 * SEC);
                lab_plug(camera, PORT);
                lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        }
}

/* Tried again it is the same that is wanted: that bootloader, and nothing after it. */
static void rom_named_bootloader_again(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV3, &bootloader);
        struct lab_image *older = lab_bootloader(lab, SIM_OPENMV3, SIM_BL_1_0_2, "4.8.1");
        struct lab_camera *camera;
        struct request_result result;

        lab_import(lab, older);
        lab_set_automatic(lab, false);
        camera = known_camera(lab, SIM_OPENMV3, firmware);
        blank_bootloader(camera);
        into_rom(camera);
        lab_run(lab, 5 * SEC);
        assert_int_equal(ask_bootloader(camera, older, NULL), REQUEST_UPDATE);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_run(lab, 20 * SEC);
        lab_expect_update(camera, UPDATE_CANCELLED, "cancelled");
        registry_retry(lab->registry, lab_known(camera), &result);
        if (result.action != REQUEST_UPDATE)
                lab_fail(lab, "%s", result.text);
        assert_true(lab_update(camera)->record.bootloader_only);
        lab_run(lab, 20 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "bootloader-restored");
        lab_expect_flash(camera, older);
}

/* What was to stay in its bootloader stays there. */
static void retried_it_stays(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);
        struct request_result result;

        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = "5.0.0", .stay = true }), REQUEST_QUEUED);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        registry_retry(lab->registry, lab_known(camera), &result);
        assert_int_equal(result.action, REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 120 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
        lab_expect_flash(camera, new);
}

static bool has_lost_its_head(void *userdata)
{
        const struct lab_camera *camera = userdata;
        uint8_t head[8];

        assert_int_equal(sim_camera_partition_read(camera->sim, "FIRMWARE", 0, head, sizeof(head)), 0);
        return bytes_all(head, sizeof(head), 0xff);
}

/* Only a bootloader was asked for, and the firmware had to lose its head for it: it is not left to jump into that when the jumper is off,
 * not by the next daemon either; nor where power failed between the one and the other. */
static void rom_named_bootloader_and_no_head(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3 };
        static const char *const names[] = { "M4", "M7" };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++)
                for (int how = 0; how < 3; how++) {
                        enum { AT_ONCE, RESTARTED, PULLED };
                        struct lab *lab = *state;
                        struct lab_image *bootloader, *firmware, *old;
                        struct lab_camera *camera;

                        lab_free(lab);
                        *state = lab = lab_new();
                        firmware = stock(lab, boards[i], &bootloader);
                        old = lab_release(lab, boards[i], "4.5.0");
                        lab_import(lab, old);
                        camera = known_camera(lab, boards[i], old);
                        lab_set_automatic(lab, false);
                        blank_bootloader(camera);
                        into_rom(camera);
                        lab_run(lab, 5 * SEC);
                        assert_int_equal(ask_bootloader(camera, bootloader, names[i]), REQUEST_UPDATE);
                        if (how == PULLED) {
                                assert_true(loop_run_until(lab->loop, has_lost_its_head, camera, 60 * SEC));
                                lab_unplug(camera);
                                lab_run(lab, SEC);
                                lab_plug(camera, PORT);
                        }
                        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
                        lab_expect_update(camera, UPDATE_DONE, how == PULLED ? "bootloader-sound" : "bootloader-restored");
                        lab_expect_flash(camera, bootloader);
                        assert_true(has_lost_its_head(camera));
                        if (how == RESTARTED)
                                lab_restart(lab);
                        lab_unplug(camera);
                        lab_jumper(camera, false);
                        lab_run(lab, 2 * SEC);
                        lab_plug(camera, PORT);
                        lab_run(lab, 60 * SEC);
                        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
                        lab_expect_diagnosis(camera, DIAGNOSIS_AUTOMATIC_OFF);
                        lab_set_automatic(lab, true);
                        lab_replug(camera);
                        lab_expect_done(camera);
                        lab_expect_flash(camera, lab_stands_there(camera, old) ? old : firmware);
                }
}

static void rom_pulled_in_the_middle(void **state)
{
        static const unsigned skips[] = { 0, 1, 2, 5, 9, 12 };

        for (size_t i = 0; i < ELEMENTSOF(skips); i++)
                for (int when = 0; when < 3; when++) {
                        static const enum sim_fault_kind kinds[] = { SIM_FAULT_UNPLUG_BEFORE, SIM_FAULT_UNPLUG_STATUS, SIM_FAULT_UNPLUG_FLASH };
                        struct lab_image *bootloader, *firmware;
                        struct lab_camera *camera = without_bootloader(state, &bootloader, &firmware);
                        struct lab *lab = *state;

                        sim_camera_add_fault(camera->sim, &(struct sim_fault){
                                .kind = kinds[when], .request_type = kinds[when] == SIM_FAULT_UNPLUG_FLASH ? 0xa1 : 0x21,
                                .request = kinds[when] == SIM_FAULT_UNPLUG_FLASH ? 3 : 1, .skip = skips[i], .count = 1 });
                        into_rom(camera);
                        lab_run(lab, 60 * SEC);
                        sim_camera_clear_faults(camera->sim);
                        if (!sim_camera_is_powered(camera->sim))
                                lab_plug(camera, PORT);
                        lab_run(lab, 60 * SEC);
                        lab_expect_state(camera, CAMERA_JUMPER, SEC);
                        lab_expect_flash(camera, bootloader);
                        lab_expect_flash(camera, firmware);
                        assert_true(most_erases(camera) <= 3);
                }
}

static struct lab_camera *foreign_chip(struct lab *lab, enum sim_chip chip)
{
        struct lab_camera *foreign;
        struct sim_config config;
        uint8_t program[8192];

        sim_config_default(&config, SIM_FOREIGN, 55);
        config.chip = chip;
        foreign = lab_camera_from(lab, &config);
        for (size_t i = 0; i < sizeof(program); i++)
                program[i] = (uint8_t)(i * 7 + 3);
        put_le32(program, 0x20001000);
        put_le32(program + 4, 0x08000401);
        assert_int_equal(sim_camera_flash_poke(foreign->sim, false, 0x08000000, program, sizeof(program)), 0);
        lab_jumper(foreign, true);
        lab_remember(foreign);
        return foreign;
}

/* Story G: a flight controller on the port that a camera used yesterday. */
static void not_a_camera(void **state)
{
        static const enum sim_chip chips[] = { SIM_F427, SIM_F765, SIM_H743 };
        struct lab *lab = *state;
        struct lab_image *firmware = stock(lab, SIM_OPENMV4, NULL);
        struct lab_camera *camera = known_camera(lab, SIM_OPENMV4, firmware);

        (void)stock(lab, SIM_OPENMV3, NULL);
        for (size_t i = 0; i < ELEMENTSOF(chips); i++) {
                struct lab_camera *foreign = foreign_chip(lab, chips[i]);

                lab_plug(foreign, PORT);
                lab_expect_state(foreign, CAMERA_UNPROVEN, 5 * SEC);
                lab_expect_diagnosis(foreign, DIAGNOSIS_UNPROVEN);
                lab_run(lab, 3600 * SEC);
                lab_import(lab, lab_release(lab, SIM_OPENMV4, i == 0 ? "5.0.1" : i == 1 ? "5.0.2" : "5.0.3"));
                lab_restart(lab);
                lab_run(lab, 60 * SEC);
                lab_expect_untouched(foreign);
                /* Without the board's name not even a person's wish is enough. */
                assert_int_equal(lab_ask_recover(foreign, NULL, false), REQUEST_REFUSE);
                assert_int_equal(lab_ask_update(foreign, NULL), REQUEST_REFUSE);
                lab_expect_untouched(foreign);
                lab_unplug(foreign);
        }
        lab_plug_until_running(camera, PORT);
        lab_expect_untouched(camera);
}

/* While an H7 is missing, a chip like its own is looked at, 4 KiB at most, and let go. */
static void not_the_missing_camera(void **state)
{
        struct lab *lab = *state;
        struct lab_image *firmware = stock(lab, SIM_OPENMV4, NULL);
        struct lab_camera *camera = known_camera(lab, SIM_OPENMV4, firmware), *foreign, *other;

        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        foreign = foreign_chip(lab, SIM_H743);
        lab_plug(foreign, PORT);
        lab_run(lab, 600 * SEC);
        lab_expect_only_read(foreign);
        assert_true(lab_counters(foreign).upload_bytes <= 4096);
        assert_int_equal(lab_counters(foreign).set_interface, 0);
        assert_int_equal(lab_counters(foreign).download, 0);
        lab_expect_unchanged_but(foreign, NULL);
        assert_true(update_is_open(lab_update(camera)));
        lab_unplug(foreign);

        /* Another chip's ROM cannot be it. */
        foreign = foreign_chip(lab, SIM_F427);
        lab_plug(foreign, PORT);
        lab_run(lab, 600 * SEC);
        lab_expect_untouched(foreign);
        lab_unplug(foreign);

        /* An H7 Plus: same chip, same ROM, same serial, another board. */
        other = lab_camera_new(lab, SIM_OPENMV4P, 9);
        lab_remember(other);
        lab_jumper(other, true);
        lab_plug(other, PORT);
        lab_run(lab, 600 * SEC);
        lab_expect_only_read(other);
        assert_true(lab_counters(other).upload_bytes <= 4096);
        blank_bootloader(other);
        lab_replug(other);
        lab_run(lab, 600 * SEC);
        lab_expect_only_read(other);
        lab_unplug(other);

        /* One that begins as an H7's bootloader does is as likely it as not: nothing is written, and the advice is good for both. */
        into_rom(camera);
        lab_expect_state(camera, CAMERA_JUMPER, 20 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_JUMPER);
        lab_run(lab, 600 * SEC);
        lab_expect_only_read(camera);
        assert_int_equal(lab_counters(camera).download, 0);
        assert_true(lab_counters(camera).upload_bytes <= 4096);
        lab_unplug(camera);
        lab_jumper(camera, false);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
}

/* The user says what it is. */
static void users_word(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV4, &bootloader);
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 1);

        blank_bootloader(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(camera);
        assert_int_equal(lab_ask_recover(camera, NULL, false), REQUEST_REFUSE);
        assert_int_equal(lab_ask_recover(camera, "RT1062", false), REQUEST_REFUSE);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_RESTORED_JUMPER);
        lab_expect_flash(camera, bootloader);
        lab_expect_wrote_only(camera, "BOOTLOADER");
        lab_expect_update(camera, UPDATE_DONE, "bootloader-restored");

        /* On the replug its bootloader is expected, and its firmware follows. */
        lab_unplug(camera);
        lab_jumper(camera, false);
        lab_run(lab, 5 * SEC);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_flash(camera, firmware);
        lab_expect_flash(camera, bootloader);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
}

static void word_is_for_one_attachment(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 1), *foreign;

        (void)stock(lab, SIM_OPENMV4, &bootloader);
        blank_bootloader(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_UPDATING, 10 * SEC);
        lab_unplug(camera);
        assert_string_equal(registry_first_update(lab->registry)->record.outcome, "stale-word");
        lab_run(lab, 2 * SEC);

        /* Something else comes to the port: not touched. */
        foreign = foreign_chip(lab, SIM_H743);
        lab_plug(foreign, PORT);
        lab_run(lab, 600 * SEC);
        lab_expect_untouched(foreign);
        lab_unplug(foreign);
        lab_run(lab, 2 * SEC);

        /* And the camera itself is unproven again. */
        lab_reset_counters(camera);
        lab_plug(camera, PORT);
        lab_run(lab, 600 * SEC);
        lab_expect_untouched(camera);
        lab_expect_state(camera, CAMERA_UNPROVEN, SEC);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
}

/* What a person said while another one was there is no word about who came since: it takes a while until an image is on the disk, or a password typed. */
static void word_is_for_what_was_there(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader;
        struct lab_camera *meant = lab_camera_new(lab, SIM_OPENMV4, 1), *other = lab_camera_new(lab, SIM_OPENMV4, 2);
        struct request request = { .wish = WISH_RECOVER, .board = "H7" };

        (void)stock(lab, SIM_OPENMV4, &bootloader);
        /* Before anything was ever there, too. */
        request.said_at = registry_last_attachment(lab->registry);
        blank_bootloader(meant);
        blank_bootloader(other);
        lab_jumper(meant, true);
        lab_jumper(other, true);
        lab_plug(meant, PORT);
        lab_expect_state(meant, CAMERA_UNPROVEN, 5 * SEC);
        assert_int_equal(lab_request(meant, &request), REQUEST_REFUSE);

        request.said_at = registry_last_attachment(lab->registry);
        lab_unplug(meant);
        lab_run(lab, 2 * SEC);
        lab_plug(other, PORT);
        lab_expect_state(other, CAMERA_UNPROVEN, 5 * SEC);
        assert_int_equal(lab_request(other, &request), REQUEST_REFUSE);
        assert_null(lab_known(other)->update);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(other);

        /* Nor would the verdict take it for one. */
        lab_known(other)->word.given = true;
        lab_known(other)->word.said_at = request.said_at;
        lab_known(other)->board = board_by_any_name(registry_context(lab->registry)->boards, "H7");
        camera_event(lab_known(other), EVENT_REQUESTED);
        lab_run(lab, 60 * SEC);
        assert_int_equal(lab_known(other)->reason, REASON_STALE_WORD);
        lab_expect_only_read(other);
        lab_unplug(other);
        lab_run(lab, 2 * SEC);

        /* That of who is there is one, whoever came to another port since. */
        lab_plug(meant, PORT);
        lab_expect_state(meant, CAMERA_UNPROVEN, 5 * SEC);
        request.said_at = registry_last_attachment(lab->registry);
        lab_plug(other, "1-9");
        lab_run(lab, 5 * SEC);
        assert_int_equal(lab_request(meant, &request), REQUEST_UPDATE);
        lab_expect_state(meant, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(meant, bootloader);
}

/* An impatient hand says it twice, or somebody only looks what would be done: what is being carried out goes on as it was said. */
static void word_outlives_a_refusal(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 1);
        struct lab_image *bootloader;

        (void)stock(lab, SIM_OPENMV4, &bootloader);
        blank_bootloader(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        sim_camera_add_fault(camera->sim, &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = 0x21, .request = 1, .skip = 12, .count = 1 });
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_REFUSE);
        lab_expect_state(camera, CAMERA_FAILED, 20 * SEC);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RECOVER, .board = "H7", .dry_run = true }), REQUEST_UPDATE);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RECOVER, .board = "H7", .firmware = "9.9.9" }), REQUEST_REFUSE);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
}

/* Between two tries he says that it is another board, and the disk would not have that: what was said first is carried out. */
static void word_outlives_one_that_is_not_kept(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 1);
        struct lab_image *bootloader;
        struct update *first;

        (void)stock(lab, SIM_OPENMV4P, NULL);
        (void)stock(lab, SIM_OPENMV4, &bootloader);
        blank_bootloader(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        sim_camera_add_fault(camera->sim, &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = 0x21, .request = 1, .skip = 12, .count = 1 });
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        first = lab_update(camera);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_expect_state(camera, CAMERA_FAILED, 20 * SEC);
        loop_fail_work(lab->loop, -ENOSPC, 1);
        assert_int_equal(lab_ask_recover(camera, "H7 Plus", true), REQUEST_UPDATE);
        assert_ptr_not_equal(lab_update(camera), first);
        lab_run(lab, SEC);
        loop_fail_work(lab->loop, 0, 0);
        assert_ptr_equal(lab_update(camera), first);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
        assert_true(update_is_open(first) || first->result == UPDATE_DONE);
}

/* The word is contradicted by the chip's own map. */
static void wrong_word(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        (void)stock(lab, SIM_OPENMV4, NULL);
        (void)stock(lab, SIM_OPENMV3, NULL);
        blank_bootloader(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        (void)lab_ask_recover(camera, "H7", false);
        lab_run(lab, 60 * SEC);
        lab_expect_only_read(camera);
        assert_int_equal(lab_counters(camera).download, 0);
        assert_true(lab_counters(camera).upload_bytes <= 4096);
        assert_false(update_is_open(lab_known(camera)->update));
}

/* Two of them at once, with one serial that both show. */
static void two_with_one_serial(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader, *firmware = stock(lab, SIM_OPENMV4, &bootloader);
        struct lab_camera *a = lab_camera_new(lab, SIM_OPENMV4, 1), *b = lab_camera_new(lab, SIM_OPENMV4, 2);

        lab_install(a, firmware);               /* b has none */
        blank_bootloader(a);
        blank_bootloader(b);
        lab_remember(b);
        lab_jumper(a, true);
        lab_jumper(b, true);
        lab_plug(a, "3-1");
        lab_plug(b, "3-2");
        lab_expect_state(a, CAMERA_UNPROVEN, 5 * SEC);
        lab_expect_state(b, CAMERA_UNPROVEN, 5 * SEC);
        assert_int_equal(lab_ask_recover(a, "H7", false), REQUEST_UPDATE);
        lab_expect_state(a, CAMERA_JUMPER, 60 * SEC);
        lab_run(lab, 120 * SEC);
        lab_expect_flash(a, bootloader);
        lab_expect_untouched(b);
        lab_expect_unchanged_but(b, NULL);
        assert_int_equal(lab_ask_recover(b, "H7", false), REQUEST_UPDATE);
        lab_expect_state(b, CAMERA_JUMPER, 60 * SEC);
        lab_unplug(a);
        lab_unplug(b);
        lab_jumper(a, false);
        lab_jumper(b, false);
        lab_plug(b, "3-2");
        lab_plug(a, "3-1");
        lab_expect_state(a, CAMERA_EXAMINING, 5 * SEC);
        lab_expect_state(a, CAMERA_RUNNING, 30 * SEC);
        lab_expect_done(b);
        lab_expect_flash(a, firmware);
        lab_expect_flash(b, firmware);
}

static void word_and_a_restart(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 1);

        (void)stock(lab, SIM_OPENMV4, &bootloader);
        blank_bootloader(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_UPDATING, 10 * SEC);
        lab_restart(lab);
        lab_reset_counters(camera);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        lab_run(lab, 600 * SEC);
        lab_expect_untouched(camera);
        assert_string_equal(registry_first_update(lab->registry)->record.outcome, "stale-word");
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
}

/* --- boards of other shapes --- */

static void ae3(void **state)
{
        struct lab *lab = *state;
        struct lab_image *hp_old = lab_firmware(lab, SIM_OPENMV_AE3, "HP", "4.8.1", 1, 2 * 1024 * 1024 + 77);
        struct lab_image *hp = lab_firmware(lab, SIM_OPENMV_AE3, "HP", "5.0.0", 1, 2 * 1024 * 1024 - 1000);
        struct lab_image *he_old = lab_firmware(lab, SIM_OPENMV_AE3, "HE", "4.8.1", 2, 500000);
        struct lab_image *he = lab_firmware(lab, SIM_OPENMV_AE3, "HE", "5.0.0", 2, 400001);
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV_AE3, 1);

        /* One of the two is no version. */
        lab_import(lab, hp_old);
        lab_import(lab, he_old);
        lab_import(lab, hp);
        lab_install(camera, hp_old);
        lab_install(camera, he_old);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        lab_expect_untouched(camera);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_REFUSE);
        lab_import(lab, he);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        assert_int_equal(lab_update(camera)->record.n_images, 2);
        lab_replug(camera);
        lab_wait_writing(camera, 2 * 1024 * 1024 + 100000, 60 * SEC);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_flash(camera, hp);
        lab_expect_flash(camera, he);

        /* The second time nothing. */
        lab_reset_counters(camera);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_CURRENT);
        lab_known(camera)->record.suspect = true;
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_EXAMINING, 10 * SEC);
        lab_expect_state(camera, CAMERA_RUNNING, 30 * SEC);
        lab_expect_only_read(camera);
}

/* What is written once more, after another partition was, begins with block 0 again. */
static void ae3_written_again(void **state)
{
        struct lab *lab = *state;
        struct lab_image *hp_old = lab_firmware(lab, SIM_OPENMV_AE3, "HP", "4.8.1", 1, 30000);
        struct lab_image *hp = lab_firmware(lab, SIM_OPENMV_AE3, "HP", "5.0.0", 1, 30000);
        struct lab_image *he_old = lab_firmware(lab, SIM_OPENMV_AE3, "HE", "4.8.1", 2, 20000);
        struct lab_image *he = lab_firmware(lab, SIM_OPENMV_AE3, "HE", "5.0.0", 2, 20000);
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV_AE3, 1);
        struct watcher watcher;

        lab_import(lab, hp_old);
        lab_import(lab, he_old);
        lab_import(lab, hp);
        lab_import(lab, he);
        lab_install(camera, hp_old);
        lab_install(camera, he_old);
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        watcher_init(&watcher, camera);
        usb_inproc_watch(lab->host, watcher_watch, &watcher);
        sim_camera_fail_flash(camera->sim, false, 0x80023000, /* silently= */ true, 1);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, hp);
        lab_expect_flash(camera, he);
        /* All of both, then the block that was not taken, and the first one before it. */
        assert_int_equal(watcher.n_blocks, 8 + 5 + 2);
        usb_inproc_watch(lab->host, NULL, NULL);
}

static void old_serial_bootloader(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera;
        struct sim_config config;

        (void)stock(lab, SIM_OPENMV2, NULL);
        sim_config_default(&config, SIM_OPENMV2, 1);
        config.bootloader = SIM_BL_VCP;
        camera = lab_camera_from(lab, &config);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_LEFT_ALONE, 5 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_OLD_BOOTLOADER);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_REFUSE);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(camera);
}

/* The whole of story F that fits on a desk: everyone gets his own. */
static void fleet(void **state)
{
        static const enum sim_board boards[] = {
                SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4, SIM_OPENMV4P, SIM_OPENMVPT, SIM_OPENMV_N6, SIM_OPENMV3, SIM_OPENMV4,
        };
        struct lab *lab = *state;
        struct lab_camera *cameras[ELEMENTSOF(boards)], *foreign = foreign_chip(lab, SIM_H743);
        struct lab_image *new[_SIM_BOARD_MAX] = {}, *old[_SIM_BOARD_MAX] = {};
        char port[16];

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                if (!new[boards[i]]) {
                        old[boards[i]] = lab_release(lab, boards[i], "4.8.1");
                        new[boards[i]] = lab_release(lab, boards[i], "5.0.0");
                        lab_import(lab, old[boards[i]]);
                        lab_import(lab, new[boards[i]]);
                }
                cameras[i] = lab_camera_new(lab, boards[i], (unsigned)i + 1);
                lab_install(cameras[i], old[boards[i]]);
                snprintf(port, sizeof(port), "3-%zu", i + 1);
                lab_plug(cameras[i], port);
        }
        lab_plug(foreign, "3-9");
        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                lab_expect_state(cameras[i], CAMERA_RUNNING, 20 * SEC);
                lab_remember(cameras[i]);
                assert_int_equal(lab_request(cameras[i], &(struct request){ .wish = WISH_UPDATE, .firmware = "5.0.0",
                                                                            .all = true, .replace_unknown = true }), REQUEST_QUEUED);
        }
        /* The hub is switched off and on, twice, the second time in the middle. */
        for (size_t i = 0; i < ELEMENTSOF(boards); i++)
                usb_inproc_port_unplug(cameras[i]->usb);
        lab_run(lab, 3 * SEC);
        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                snprintf(port, sizeof(port), "3-%zu", i + 1);
                lab_plug(cameras[i], port);
        }
        lab_run(lab, 8 * SEC);
        for (size_t i = 0; i < ELEMENTSOF(boards); i++)
                usb_inproc_port_unplug(cameras[i]->usb);
        lab_run(lab, 30 * SEC);
        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                snprintf(port, sizeof(port), "3-%zu", ELEMENTSOF(boards) - i);  /* in other places */
                lab_plug(cameras[i], port);
        }
        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                lab_expect_done(cameras[i]);
                lab_expect_flash(cameras[i], new[boards[i]]);
                lab_expect_unchanged_but(cameras[i], "FIRMWARE");
                lab_expect_wrote_only(cameras[i], "FIRMWARE");
        }
        lab_expect_only_read(foreign);
        lab_expect_unchanged_but(foreign, NULL);
}

/* --- rows that have not had their story yet --- */

/* Row 6: the user's work stands where it stood, unless he says so. */
static void users_work(void **state)
{
        struct lab *lab = *state;
        struct lab_image *firmware = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        uint8_t work[70000], now[70000], romfs_data[50000];
        struct lab_image *romfs;

        for (size_t i = 0; i < sizeof(work); i++)
                work[i] = (uint8_t)(i * 31 + 7);
        memset(romfs_data, 0x77, sizeof(romfs_data));
        romfs = lab_bytes(lab, SIM_OPENMV3, "ROMFS0", "5.0.0", romfs_data, sizeof(romfs_data));
        lab_import(lab, firmware);
        lab_import(lab, romfs);
        lab_install(camera, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        assert_int_equal(sim_camera_partition_poke(camera->sim, "FILESYSTEM", 0, work, sizeof(work)), 0);
        assert_int_equal(sim_camera_partition_poke(camera->sim, "ROMFS0", 0, work, sizeof(work)), 0);
        lab_plug_until_running(camera, PORT);
        lab_remember(camera);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, firmware);
        lab_expect_unchanged_but(camera, "FIRMWARE");

        /* --romfs */
        lab_remember(camera);
        lab_reset_counters(camera);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = "5.0.0", .romfs = true }), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, romfs);
        lab_expect_unchanged_but(camera, "ROMFS0");
        lab_expect_wrote_only(camera, "ROMFS0");

        /* --erase-filesystem: a block of zeros at its beginning; the camera formats it anew. */
        lab_remember(camera);
        lab_reset_counters(camera);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = "5.0.0", .erase_filesystem = true }),
                         REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_wrote_only(camera, "FILESYSTEM");
        lab_expect_unchanged_but(camera, "FILESYSTEM");
        assert_int_equal(sim_camera_partition_read(camera->sim, "FILESYSTEM", 0, now, sizeof(now)), 0);
        assert_true(bytes_all(now, 4096, 0));
}

/* Row 7: unattended never older than it last ran, not even after an interrupted write has been looked at. */
static void never_older(void **state)
{
        struct lab *lab = *state;
        struct lab_image *five = lab_release(lab, SIM_OPENMV3, "5.0.0"), *four = lab_release(lab, SIM_OPENMV3, "4.8.1");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, five);
        lab_install(camera, lab_release(lab, SIM_OPENMV3, "4.7.0"));
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        /* 5.0.0 is taken out of the store, an older one comes in; and the firmware is damaged. */
        lab_import(lab, four);
        assert_int_equal(store_remove_firmware(lab->store, &five->digest), 0);
        lab_reset_counters(camera);
        assert_int_equal(sim_camera_partition_poke(camera->sim, "FIRMWARE", 0, (const uint8_t[]){ 1, 2, 3, 4, 5, 6, 7, 8 }, 8), 0);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        for (int i = 0; i < 3; i++) {
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_NO_FIRMWARE, 20 * SEC);
                lab_run(lab, 60 * SEC);
        }
        lab_restart(lab);
        lab_run(lab, 60 * SEC);
        lab_expect_only_read(camera);
        /* A person may. */
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_NO_FIRMWARE, 20 * SEC);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RECOVER, .firmware = "4.8.1" }), REQUEST_UPDATE);
        lab_expect_done(camera);
        lab_expect_flash(camera, four);
}

/* Row 8: what cannot be saved is not overwritten. */
static void not_saved(void **state)
{
        struct lab *lab;
        struct lab_image *custom;
        struct lab_camera *camera;

        lab_free(*state);
        *state = lab = lab_new_with_quota(100000);
        custom = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 99, 1000001);
        lab_import(lab, lab_release(lab, SIM_OPENMV3, "5.0.0"));
        camera = known_camera(lab, SIM_OPENMV3, custom);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_run(lab, 300 * SEC);
        lab_expect_only_read(camera);
        lab_expect_flash(camera, custom);
        assert_int_not_equal(lab_update(camera)->result, UPDATE_DONE);
}

/* Row 10: counted over all attempts, and durably. */
static void worn(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &new);
        int pulls = 0;

        while (update_is_open(lab_update(camera)) && pulls < 40) {
                lab_replug(camera);
                for (int i = 0; i < 3000 && update_is_open(lab_update(camera)) && lab_counters(camera).download <= (unsigned)pulls; i++)
                        lab_run(lab, 10 * MSEC);
                if (!update_is_open(lab_update(camera)))
                        break;
                pulls++;
                lab_unplug(camera);
                if (pulls % 7 == 0)
                        lab_restart(lab);
        }
        lab_expect_update(camera, UPDATE_REFUSED, "worn");
        assert_int_equal(pulls, 20);
        assert_true(most_erases(camera) <= 20);
        lab_run(lab, 600 * SEC);
        assert_true(most_erases(camera) <= 20);
}

/* What is refused changes nothing, and what is only tried neither. */
static void refusals_have_no_effect(void **state)
{
        struct lab *lab = *state;
        struct lab_image *firmware = stock(lab, SIM_OPENMV4, NULL), *new;
        struct lab_camera *rom = lab_camera_new(lab, SIM_OPENMV4, 3), *camera = begin_update(lab, SIM_OPENMV3, &new);
        const struct update *update = lab_update(camera);

        /* No bootloader of an M4 is in the store. */
        lab_jumper(rom, true);
        lab_plug(rom, "4-1");
        lab_expect_state(rom, CAMERA_UNPROVEN, 5 * SEC);
        assert_int_equal(lab_ask_recover(rom, "M4", false), REQUEST_REFUSE);
        assert_null(lab_known(rom)->board);
        assert_false(lab_known(rom)->word.given);
        assert_int_equal(lab_request(rom, &(struct request){ .wish = WISH_RECOVER, .board = "H7", .dry_run = true }), REQUEST_UPDATE);
        assert_null(lab_known(rom)->board);
        assert_false(lab_known(rom)->word.given);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(rom);
        (void)firmware;

        /* A wish that cannot be does not end one that can. */
        lab_unplug(camera);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RECOVER, .firmware = "9.9.9" }), REQUEST_REFUSE);
        assert_int_equal(lab_ask_update(camera, "9.9.9"), REQUEST_REFUSE);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RESTORE }), REQUEST_REFUSE);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = "4.8.1", .dry_run = true }),
                         REQUEST_QUEUED);
        assert_ptr_equal(lab_update(camera), update);
        assert_true(update_is_open(update));
        /* One that can does. */
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_run(lab, SEC);
        assert_string_equal(update->record.outcome, "superseded");
        update = lab_update(camera);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RECOVER, .firmware = "5.0.0" }), REQUEST_QUEUED);
        lab_run(lab, SEC);
        assert_string_equal(update->record.outcome, "superseded");
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        /* Not while it is being written. */
        assert_int_equal(lab_ask_update(camera, "4.8.1"), REQUEST_REFUSE);
        assert_int_equal(lab_ask_recover(camera, NULL, false), REQUEST_REFUSE);
        expect_updated(camera, new);
}

/* --- whatever may happen --- */

static uint32_t random_of(uint32_t *x)
{
        *x ^= *x << 13;
        *x ^= *x >> 17;
        *x ^= *x << 5;
        return *x;
}

/* A hand that does what it likes for a while, and then lets the camera be: it runs what was wanted (or what it ran before, if the
 * wish came to a named end), and nothing but its firmware was written, no unit more often than allowed. */
static void chaos_of(struct lab *lab, uint32_t seed)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4, SIM_OPENMV_N6 };
        static const enum sim_fault_kind kinds[] = {
                SIM_FAULT_STALL, SIM_FAULT_NAK, SIM_FAULT_SHORT, SIM_FAULT_GARBAGE, SIM_FAULT_UNPLUG_BEFORE, SIM_FAULT_UNPLUG_DATA,
                SIM_FAULT_UNPLUG_STATUS, SIM_FAULT_UNPLUG_FLASH, SIM_FAULT_CRASH,
        };
        uint32_t x = seed * 2654435761u + 1;
        const struct update *wished;
        struct lab_image *new;
        struct lab_camera *camera = begin_update(lab, boards[seed % ELEMENTSOF(boards)], &new);

        for (int step = 0; step < 12; step++) {
                switch (random_of(&x) % 6) {
                case 0:
                        lab_restart(lab);
                        break;
                case 1:
                        sim_camera_add_fault(camera->sim, &(struct sim_fault){
                                .kind = kinds[random_of(&x) % ELEMENTSOF(kinds)], .request_type = -1, .request = -1,
                                .skip = random_of(&x) % 700, .count = 1, .length = random_of(&x) % 7, .pattern = (uint8_t)random_of(&x) });
                        break;
                case 2:
                        lab->hub_is_gone = !lab->hub_is_gone;
                        break;
                default:
                        lab_replug(camera);
                        break;
                }
                lab_run(lab, random_of(&x) % 4 ? random_of(&x) % (6 * SEC) : random_of(&x) % (60 * SEC));
        }
        lab->hub_is_gone = false;
        sim_camera_clear_faults(camera->sim);
        for (int i = 0; i < 3; i++) {
                if (sim_camera_is_powered(camera->sim))
                        lab_unplug(camera);
                lab_run(lab, 3 * SEC);
                lab_plug(camera, PORT);
                lab_run(lab, 200 * SEC);
        }
        if (lab_known(camera)->state != CAMERA_RUNNING || update_is_open(lab_update(camera)))
                lab_fail(lab, "seed %u: %s, update %s", seed, camera_state_to_string(lab_known(camera)->state),
                         update_result_to_string(lab_update(camera)->result));
        wished = registry_update_by_id(lab->registry, "u1");
        assert_non_null(wished);
        assert_false(update_is_open(wished));
        if (wished->result == UPDATE_FAILED)
                new = lab_release(lab, camera->board, lab_known(camera)->record.firmware_version);
        else
                assert_true(wished->result == UPDATE_DONE || wished->result == UPDATE_NOT_SEEN);
        lab_expect_flash(camera, new);
        lab_expect_unchanged_but(camera, "FIRMWARE");
        lab_expect_wrote_only(camera, "FIRMWARE");
        assert_true(most_erases(camera) <= 20);
}

static void chaos(void **state)
{
        const char *from = getenv("CHAOS_SEED"), *count = getenv("CHAOS_COUNT");
        uint32_t first = from ? (uint32_t)atoi(from) : 1, n = count ? (uint32_t)atoi(count) : 40;

        for (uint32_t seed = first; seed < first + n; seed++) {
                lab_free(*state);
                *state = lab_new();
                chaos_of(*state, seed);
        }
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
                STORY("/recovery/label/names-one-camera-and-lasts", labels),
                STORY("/recovery/silent-boot/no-firmware-until-some-is-imported", no_firmware),
                STORY("/recovery/update/queued-for-a-running-camera", queued_update),
                STORY("/recovery/update/the-second-flash-writes-nothing", second_flash_writes_nothing),
                STORY("/recovery/update/only-what-differs", only_what_differs),
                STORY("/recovery/update/in-the-bootloader-already", in_the_bootloader_already),
                STORY("/recovery/D/pulled-at-many-places", pulled_at_many_places),
                STORY("/recovery/D/pulled-at-every-stage-of-every-request", pulled_at_every_stage),
                STORY("/recovery/D/descriptors-do-not-come-through", descriptors_do_not_come_through),
                STORY("/recovery/D/what-an-accident-costs", what_an_accident_costs),
                STORY("/recovery/D/reading-silences-it", reading_silences_it),
                STORY("/recovery/D/somebodys-since-it-was-silent", somebodys_since_it_was_silent),
                STORY("/recovery/D/restarted-in-the-middle", restarted_in_the_middle),
                STORY("/recovery/D/killed-when-it-left", killed_when_it_left),
                STORY("/recovery/D/restarted-while-it-is-away", restarted_while_it_is_away),
                STORY("/recovery/D/unattended-and-pulled-again-and-again", unattended_and_pulled),
                STORY("/recovery/stop/cancelled", cancelled),
                STORY("/recovery/stop/cancelled-while-it-is-away", cancelled_while_away),
                STORY("/recovery/stop/stopped-at-a-safe-boundary", stopped),
                STORY("/recovery/H/busy-and-free-again", busy_and_free_again),
                STORY("/recovery/H/permission-comes-later", permission_comes_later),
                STORY("/recovery/H/permission-comes-late-in-the-window", permission_comes_late_in_the_window),
                STORY("/recovery/H/node-comes-late-in-the-window", node_comes_late_in_the_window),
                STORY("/recovery/H/permission-never-comes", permission_never_comes),
                STORY("/recovery/I/refused-before-the-first-byte", refused_images),
                STORY("/recovery/I/larger-than-the-partition", larger_than_the_partition),
                STORY("/recovery/J/ignores-detach", ignores_detach),
                STORY("/recovery/J/a-stale-block-is-not-committed", stale_block),
                STORY("/recovery/J/flash-that-does-not-erase-is-never-done", flash_that_does_not_erase),
                STORY("/recovery/J/flash-that-does-not-erase-and-nobody-asked", unattended_and_worn),
                STORY("/recovery/J/flash-that-refuses", flash_that_refuses),
                STORY("/recovery/J/one-untrue-error", one_untrue_error),
                STORY("/recovery/J/locks-up", locks_up),
                STORY("/recovery/J/verified-and-not-seen", not_seen),
                STORY("/recovery/A/neither-bootloader-nor-firmware", dead_after_update),
                STORY("/recovery/rom/looked-at-again", looked_at_again_in_rom),
                STORY("/recovery/A/a-jumper-on-a-sound-camera", jumper_on_a_sound_camera),
                STORY("/recovery/C/bootloader-only", bootloader_only),
                STORY("/recovery/rom/unknown-bootloader-is-asked-about", unknown_bootloader),
                STORY("/recovery/rom/quirks", f4_first_error),
                STORY("/recovery/J/dual-bank", f765_dual_bank),
                STORY("/recovery/rom/read-protected", read_protected),
                STORY("/recovery/rom/firmware-of-another-time-loses-its-head", firmware_of_another_time),
                STORY("/recovery/rom/unknown-firmware-keeps-its-head", unknown_firmware_behind_a_blank_bootloader),
                STORY("/recovery/rom/pulled-in-the-middle", rom_pulled_in_the_middle),
                STORY("/recovery/rom/named-bootloader", rom_named_bootloader),
                STORY("/recovery/rom/named-bootloader-again", rom_named_bootloader_again),
                STORY("/recovery/update/retried-it-stays", retried_it_stays),
                STORY("/recovery/rom/named-bootloader-and-no-head", rom_named_bootloader_and_no_head),
                STORY("/recovery/G/not-a-camera", not_a_camera),
                STORY("/recovery/G/not-the-missing-camera", not_the_missing_camera),
                STORY("/recovery/word/restores-and-goes-on", users_word),
                STORY("/recovery/word/is-for-one-attachment", word_is_for_one_attachment),
                STORY("/recovery/word/is-for-what-was-there", word_is_for_what_was_there),
                STORY("/recovery/rom/word-outlives-a-refusal", word_outlives_a_refusal),
                STORY("/recovery/rom/word-outlives-one-that-is-not-kept", word_outlives_one_that_is_not_kept),
                STORY("/recovery/word/does-not-outlive-the-daemon", word_and_a_restart),
                STORY("/recovery/word/contradicted-by-the-chip", wrong_word),
                STORY("/recovery/word/two-with-one-serial", two_with_one_serial),
                STORY("/recovery/boards/ae3-is-a-set-of-two", ae3),
                STORY("/recovery/boards/ae3-opens-its-window-again", ae3_written_again),
                STORY("/recovery/boards/old-serial-bootloader-is-left-alone", old_serial_bootloader),
                STORY("/recovery/F/everyone-gets-his-own", fleet),
                STORY("/recovery/row-6/the-users-work", users_work),
                STORY("/recovery/row-7/never-older-unattended", never_older),
                STORY("/recovery/row-8/what-cannot-be-saved-is-not-overwritten", not_saved),
                STORY("/recovery/row-10/worn", worn),
                STORY("/recovery/request/refusals-have-no-effect", refusals_have_no_effect),
                STORY("/recovery/chaos", chaos),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
