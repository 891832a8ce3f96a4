/* SPDX-License-Identifier: MIT */
/*
 * What somebody thought of who wanted to break it: wrong order, bad luck twice
 * in a row, a person who changes his mind, flash that lies.  Each case is one
 * suspicion, told at the core with simulated cameras in virtual time.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "unit/lab.h"

#define PORT "3-1.2"

/* What the host has slept: added to CLOCK_BOOTTIME, in nanoseconds. */
static int64_t slept_ns;
/* Where within a second CLOCK_MONOTONIC stands: every other reading is half a second further. */
static bool clock_wobbles;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
        static unsigned n;
        int64_t ns;

        if (syscall(SYS_clock_gettime, clock, ts) < 0)
                return -1;
        if (clock != CLOCK_BOOTTIME && clock != CLOCK_MONOTONIC)
                return 0;
        ns = (int64_t)ts->tv_sec * 1000000000 + ts->tv_nsec;
        if (clock_wobbles) {
                if (clock == CLOCK_BOOTTIME)
                        n++;
                ns = ns / 1000000000 * 1000000000 + (n % 2 ? 700000000 : 100000000);
        }
        if (clock == CLOCK_BOOTTIME)
                ns += slept_ns;
        ts->tv_sec = ns / 1000000000;
        ts->tv_nsec = ns % 1000000000;
        return 0;
}

/* A healthy camera, seen once and unplugged. */
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

/* The unit that ends at "end" was cut off at "at". */
static void cut_off(struct lab_camera *camera, const struct lab_image *image, size_t at, size_t end)
{
        _cleanup_free_ uint8_t *blank = malloc(end - at);

        assert_non_null(blank);
        memset(blank, 0xff, end - at);
        lab_install(camera, image);
        assert_int_equal(sim_camera_partition_poke(camera->sim, image->partition, (uint32_t)at, blank, end - at), 0);
}

/* --- row 10 --- */

/* Flash that takes nothing, and a night in which nobody is there. */
static void worn_flash(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;
        uint64_t n;

        lab_import(lab, release);
        camera = known_camera(lab, SIM_OPENMV3, release);
        cut_off(camera, release, 5000, 0x20000);
        sim_camera_fail_flash(camera->sim, /* external= */ false, 0x08020000, /* silently= */ true, 1000000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_run(lab, 600 * SEC);
        n = lab_counters(camera).download;
        lab_run(lab, 8 * 3600 * SEC);
        assert_int_equal(lab_counters(camera).download, n);
        lab_expect_state(camera, CAMERA_FAILED, SEC);
        lab_expect_update(camera, UPDATE_FAILED, NULL);

        /* Nor does a hand that tries again and again wear it out: the unit is of 32 blocks. */
        for (int i = 0; i < 10; i++) {
                lab_replug(camera);
                lab_run(lab, 300 * SEC);
        }
        assert_in_range(lab_counters(camera).download, 32, VERDICT_MAX_ERASES * (32 + 1));
        lab_expect_state(camera, CAMERA_ASKING, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_REFUSED);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
}

/* --- "done" means these bytes --- */

/* In ROM DFU with a blank bootloader: the newest is chosen, and what stands there is an older one that is whole. */
static void whole_but_another(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;
        const struct update *update;

        lab_import(lab, old);
        lab_import(lab, new);
        lab_import(lab, lab_bootloader(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0"));
        camera = known_camera(lab, SIM_OPENMV3, old);
        sim_camera_flash_blank(camera->sim, false, 0x08000000, 0x8000);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_RESTORED_JUMPER);
        lab_jumper(camera, false);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 180 * SEC);
        lab_expect_flash(camera, old);
        update = lab_update(camera);
        assert_false(update_is_open(update));
        assert_string_not_equal(update->record.outcome, "done");
        /* What is remembered of it is what stands there. */
        assert_true(digest_equal(&lab_known(camera)->record.firmware, &old->digest));
        assert_string_equal(lab_known(camera)->record.firmware_version, "4.8.1");
}

static void romfs_nowhere_to_go(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_image *romfs = lab_firmware(lab, SIM_OPENMV3, "ROMFS0", "5.0.0", 3, 50000);
        struct lab_camera *camera;
        struct sim_config config;

        lab_import(lab, old);
        lab_import(lab, new);
        lab_import(lab, romfs);
        sim_config_default(&config, SIM_OPENMV3, 1);
        config.bootloader = SIM_BL_1_0_0_OLD_LAYOUT;
        camera = lab_camera_from(lab, &config);
        lab_install(camera, old);
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .firmware = "5.0.0", .romfs = true }),
                         REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 180 * SEC);
        lab_expect_update(camera, UPDATE_REFUSED, "forbidden-partition");
        lab_expect_only_read(camera);
        lab_expect_flash(camera, old);
}

/* A person asks while an unattended look is going on. */
static void asked_while_examining(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;

        lab_import(lab, old);
        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, new);
        cut_off(camera, new, 0x20000 + 3 * 0x40000 + 5000, 0x20000 + 4 * 0x40000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_EXAMINING, 10 * SEC);
        assert_int_equal(lab_ask_update(camera, "4.8.1"), REQUEST_UPDATE);
        lab_expect_done(camera);
        lab_expect_flash(camera, old);
        assert_string_equal(lab_update(camera)->record.version, "4.8.1");
}

static void asked_while_opening(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;

        lab_import(lab, old);
        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, new);
        cut_off(camera, new, 5000, 0x20000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_OPENING, 10 * SEC);
        assert_int_equal(lab_ask_update(camera, "4.8.1"), REQUEST_UPDATE);
        lab_expect_done(camera);
        lab_expect_flash(camera, old);
}

/* --- a person's word --- */

static void cancelled_and_busy(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, new);
        lab_install(camera, old);
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_reset_counters(camera);
        usb_inproc_fail_open(camera->usb, -EACCES, 1);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_OPENING, 10 * SEC);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_expect_update(camera, UPDATE_CANCELLED, "cancelled");
        lab_expect_only_read(camera);
        lab_expect_flash(camera, old);
}

static void cancelled_and_failing(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        const struct sim_fault fault = { .kind = SIM_FAULT_ERROR, .request_type = 0xa1, .request = 2, .skip = 40, .count = 1,
                                         .error_code = -EPROTO };

        lab_import(lab, new);
        lab_install(camera, old);
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_reset_counters(camera);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_EXAMINING, 10 * SEC);
        sim_camera_add_fault(camera->sim, &fault);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_run(lab, 120 * SEC);
        lab_expect_update(camera, UPDATE_CANCELLED, "cancelled");
        lab_expect_only_read(camera);
}

/* "This ROM device is my H7": unplugged before it was finished, the word is gone, and so is what waited for it. */
static void word_and_unplug(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV4, "5.0.0");
        struct lab_image *bootloader = lab_bootloader(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 1), *other = lab_camera_new(lab, SIM_OPENMV4P, 2);

        lab_import(lab, release);
        lab_import(lab, bootloader);
        sim_camera_flash_blank(camera->sim, false, 0x08000000, 0x20000);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        lab_expect_untouched(camera);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        for (struct update *u = registry_first_update(lab->registry); u; u = registry_next_update(u))
                assert_false(update_is_open(u));

        /* Another one there, which shows the same: it is nobody's, and not touched. */
        sim_camera_flash_blank(other->sim, false, 0x08000000, 0x20000);
        lab_jumper(other, true);
        lab_plug(other, PORT);
        lab_expect_state(other, CAMERA_UNPROVEN, 5 * SEC);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(other);
        lab_unplug(other);
        lab_run(lab, 2 * SEC);

        /* Nor does anything of it come back with the daemon. */
        lab_restart(lab);
        assert_null(registry_first_camera(lab->registry));
        lab_plug(other, PORT);
        lab_expect_state(other, CAMERA_UNPROVEN, 5 * SEC);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(other);
}

/* The daemon dies while it carries out a word that was good for this attachment: it does not outlive the daemon. */
static void word_and_restart(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV4, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 1);
        uint64_t erases;

        lab_import(lab, release);
        lab_import(lab, lab_bootloader(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0"));
        sim_camera_flash_blank(camera->sim, false, 0x08000000, 0x20000);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 5 * SEC);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_restart(lab);
        erases = lab_counters(camera).erases;
        lab_run(lab, 120 * SEC);
        assert_int_equal(lab_counters(camera).erases, erases);
        for (struct update *u = registry_first_update(lab->registry); u; u = registry_next_update(u))
                assert_false(update_is_open(u));
        /* Said again, it goes on. */
        assert_int_equal(lab_ask_recover(camera, "H7", true), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_RESTORED_JUMPER);
}

/* --- what comes back before it was seen running --- */

/* Its firmware crashes and starts over, or somebody switches the power every five seconds. */
static void boot_loop(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;
        bool updating = false;

        lab_import(lab, release);
        camera = known_camera(lab, SIM_OPENMV3, release);
        cut_off(camera, release, 5000, 0x20000);
        lab_plug(camera, PORT);
        for (int i = 0; i < 8 && !updating; i++) {
                lab_run(lab, 3 * SEC);
                updating = lab_known(camera)->state == CAMERA_UPDATING;
                if (!updating)
                        lab_replug(camera);
        }
        assert_true(updating);
        lab_expect_done(camera);
        lab_expect_flash(camera, release);
}

/* Written, verified, and then it starts over again and again. */
static void confirm_loop(void **state)
{
        struct lab *lab = *state;
        struct lab_image *mute = lab_mute_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;
        uint64_t erases;

        lab_import(lab, mute);
        camera = known_camera(lab, SIM_OPENMV3, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_CONFIRMING, 120 * SEC);
        erases = lab_counters(camera).erases;
        for (int i = 0; i < 8 && update_is_open(lab_update(camera)); i++) {
                lab_run(lab, 5 * SEC);
                lab_replug(camera);
        }
        lab_expect_update(camera, UPDATE_NOT_SEEN, "verified-not-seen");
        assert_int_equal(lab_counters(camera).erases, erases);
}

/* The kernel takes our claim away (a reset by another program, a driver that was bound): the device stays, and no uevent follows. */
static void gone_but_there(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;

        lab_import(lab, old);
        lab_import(lab, new);
        lab_import(lab, lab_bootloader(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0"));
        camera = known_camera(lab, SIM_OPENMV3, old);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        sim_camera_flash_blank(camera->sim, false, 0x08000000, 0x8000);
        lab_jumper(camera, true);
        usb_inproc_fail_open(camera->usb, -ENODEV, 1);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_RESTORED_JUMPER);

        /* And one that says so for ever is a failure with a name. */
        usb_inproc_fail_open(camera->usb, -ENODEV, 1000);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_FAILED, 60 * SEC);
        lab_run(lab, 60 * SEC);
        lab_expect_state(camera, CAMERA_FAILED, SEC);
        lab_expect_update(camera, UPDATE_FAILED, "gone");
}

/* --- row 8 --- */

/* An update that was cut off gives way to another wish: what is saved stays the image that stood there before both. */
static void saved_once(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_image *mine = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 99, 1000001);
        struct lab_camera *camera;

        lab_import(lab, old);
        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, mine);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_wait_writing(camera, 300000, 120 * SEC);
        lab_unplug(camera);
        /* Power was lost while a unit was being erased. */
        assert_int_equal(sim_camera_partition_poke(camera->sim, "FIRMWARE", 0x20000 + 0x3ff00, "half", 4), 0);
        lab_run(lab, 2 * SEC);
        assert_int_equal(lab_ask_update(camera, "4.8.1"), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_flash(camera, old);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RESTORE }), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, mine);
}

/* Cut off; then its owner puts his own firmware on with another program, and it runs.  Then it is plugged in again. */
static void others_work_in_between(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_image *mine = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 99, 1000001);
        struct lab_camera *camera;

        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, old);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_wait_writing(camera, 300000, 120 * SEC);
        lab_unplug(camera);
        lab_install(camera, mine);
        /* Flashed on another machine; here it is seen running, as the daemon was not there when it booted. */
        usb_inproc_fail_open(camera->usb, -ENODEV, 1);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 180 * SEC);
        lab_run(lab, SEC);
        if (!store_saved(lab->store, camera->key, "FIRMWARE"))
                lab_expect_flash(camera, mine);
        else {
                const struct saved_record *saved = store_saved(lab->store, camera->key, "FIRMWARE");
                struct blob *blob;
                bool whole;

                /* Then it was saved whole, before. */
                assert_int_equal(store_blob(lab->store, &saved->digest, &blob), 0);
                whole = blob->size >= mine->size && memcmp(blob->data, mine->data, mine->size) == 0;
                blob_unref(blob);
                assert_true(whole);
        }
}

/* The same with a recovery that nobody asked for: a camera that runs needs none. */
static void recovered_by_others(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_image *mine = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 99, 1000001);
        struct lab_camera *camera;

        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, new);
        cut_off(camera, new, 5000, 0x20000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_wait_writing(camera, 30000, 60 * SEC);
        lab_unplug(camera);
        lab_install(camera, mine);
        usb_inproc_fail_open(camera->usb, -ENODEV, 1);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_reset_counters(camera);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 180 * SEC);
        lab_expect_untouched(camera);
        lab_expect_flash(camera, mine);
}

/* The same, and here it is not seen running before its bootloader is held: his firmware is not replaced for a recovery that he
 * did not ask for. */
static void recovered_elsewhere(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_image *mine = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 99, 1000001);
        struct lab_camera *camera;

        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, new);
        cut_off(camera, new, 5000, 0x20000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_wait_writing(camera, 30000, 60 * SEC);
        lab_unplug(camera);
        lab_install(camera, mine);
        lab_reset_counters(camera);
        lab_plug_until_running(camera, PORT);
        lab_expect_only_read(camera);
        lab_expect_flash(camera, mine);
        lab_expect_update(camera, UPDATE_REFUSED, "unknown-firmware");
}

/* A unit that was broken by a loss of power is no firmware of anybody, and no word is needed to go on. */
static void power_lost_in_a_unit(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;

        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, new);
        cut_off(camera, new, 5000, 0x20000);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        lab_wait_writing(camera, 30000, 60 * SEC);
        lab_unplug(camera);
        assert_int_equal(sim_camera_partition_poke(camera->sim, "FIRMWARE", 0x1ff00, "half", 4), 0);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
        assert_null(store_saved(lab->store, camera->key, NULL));
}

/* --- row 5 --- */

/* A firmware update waits, and the camera comes in ROM DFU with somebody's own bootloader. */
static void own_bootloader(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;
        uint8_t byte = 0x5a;

        lab_import(lab, new);
        lab_import(lab, lab_bootloader(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0"));
        camera = known_camera(lab, SIM_OPENMV3, old);
        assert_int_equal(sim_camera_flash_poke(camera->sim, false, 0x08001234, &byte, 1), 0);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_run(lab, 120 * SEC);
        assert_int_equal(lab_counters(camera).erases, 0);
        assert_int_equal(lab_counters(camera).programmed_bytes, 0);
        lab_expect_diagnosis(camera, DIAGNOSIS_UNKNOWN_BOOTLOADER);
}

/* --- rule 15 --- */

/* Worn in the middle of our own write: held, not released into garbage. */
static void worn_is_held(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera;
        struct update *update;

        lab_import(lab, old);
        lab_import(lab, new);
        camera = known_camera(lab, SIM_OPENMV3, old);
        assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_wait_writing(camera, 300000, 120 * SEC);
        lab_unplug(camera);
        update = lab_update(camera);
        for (unsigned u = 0; u < 6; u++)
                update_add_wear(update, "FIRMWARE", u, VERDICT_MAX_ERASES);
        lab_plug(camera, PORT);
        lab_run(lab, 60 * SEC);
        lab_expect_update(camera, UPDATE_REFUSED, "worn");
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
}

/* --- clocks --- */

/* A host that once slept for ten and a half seconds: its silent boots are silent boots all the same. */
static void slept_once(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera;

        slept_ns = INT64_C(10500000000);
        clock_wobbles = true;
        camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
}

/* One that sleeps while the camera boots tells nothing of the camera. */
static void sleeps_meanwhile(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera;

        camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_BOOTING, 5 * SEC);
        slept_ns += INT64_C(3600000000000);
        lab_expect_state(camera, CAMERA_ABSENT, 20 * SEC);
        assert_false(lab_known(camera)->record.suspect);
}

static void show_ae3(struct lab *lab, uint16_t product, const char *serial)
{
        struct sighting sighting = {
                .port = "2-1", .node = "/dev/bus/usb/002/002", .vendor = 0x37c5, .product = product, .speed = 480,
                .device = product == 0x96e3 ? 0x0103 : 0x0100, .n_interfaces = product == 0x96e3 ? 1 : 3,
                .n_alts = product == 0x96e3 ? 8 : 0, .transfer_size = product == 0x96e3 ? 4096 : 0,
                .seen_at = loop_now(lab->loop),
        };

        registry_gone(lab->registry, "2-1");
        lab_run(lab, 300 * MSEC);
        (void)snprintf(sighting.serial, sizeof(sighting.serial), "%s", serial);
        registry_seen(lab->registry, &sighting);
}

/* The serials of its modes have nothing to do with each other; the daemon was started when it was running. */
static void ae3_first_seen_running(void **state)
{
        static const char u[] = "140002001330393538303031", eui[] = "0a0b0c0d0e0f0102";
        const struct request request = { .wish = WISH_UPDATE, .replace_unknown = true };
        struct lab *lab = *state;
        struct request_result result;
        struct camera *camera;

        lab_import(lab, lab_firmware(lab, SIM_OPENMV_AE3, "HP", "5.0.0", 1, 65536));
        lab_import(lab, lab_firmware(lab, SIM_OPENMV_AE3, "HE", "5.0.0", 2, 32768));
        show_ae3(lab, 0x16e3, eui);
        camera = registry_first_camera(lab->registry);
        assert_non_null(camera);
        assert_int_equal(camera->state, CAMERA_RUNNING);
        registry_request(lab->registry, camera, &request, &result);
        assert_int_equal(result.action, REQUEST_REFUSE);
        assert_non_null(strstr(result.text, "plug it in again"));

        show_ae3(lab, 0x96e3, u);
        camera = registry_first_camera(lab->registry);
        assert_string_equal(camera->record.key, u);
        assert_int_equal(camera->state, CAMERA_PASSING);
        show_ae3(lab, 0x16e3, eui);
        assert_null(registry_next_camera(registry_first_camera(lab->registry)));
        assert_int_equal(camera->state, CAMERA_RUNNING);
        registry_request(lab->registry, camera, &request, &result);
        assert_int_equal(result.action, REQUEST_QUEUED);
        assert_int_equal(registry_cancel(lab->registry, result.update), 0);
        registry_gone(lab->registry, "2-1");
}

static int setup(void **state)
{
        slept_ns = 0;
        clock_wobbles = false;
        *state = lab_new();
        return 0;
}

static int teardown(void **state)
{
        clock_wobbles = false;
        lab_free(*state);
        return 0;
}

#define CASE(name, function) { (name), (function), setup, teardown, NULL }

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                CASE("/adversary/wear/flash-that-takes-nothing-is-given-up", worn_flash),
                CASE("/adversary/wear/an-incomplete-camera-is-held", worn_is_held),
                CASE("/adversary/done/another-whole-image-is-not-done", whole_but_another),
                CASE("/adversary/done/an-image-without-a-partition-is-refused", romfs_nowhere_to_go),
                CASE("/adversary/done/asked-while-examining", asked_while_examining),
                CASE("/adversary/done/asked-while-opening", asked_while_opening),
                CASE("/adversary/word/cancelled-and-then-busy", cancelled_and_busy),
                CASE("/adversary/word/cancelled-and-then-failing", cancelled_and_failing),
                CASE("/adversary/word/gone-with-the-attachment", word_and_unplug),
                CASE("/adversary/word/gone-with-the-daemon", word_and_restart),
                CASE("/adversary/loop/bootloader-again-and-again", boot_loop),
                CASE("/adversary/loop/verified-and-bootloader-again-and-again", confirm_loop),
                CASE("/adversary/wait/gone-but-there", gone_but_there),
                CASE("/adversary/saved/not-again-by-the-next-wish", saved_once),
                CASE("/adversary/saved/others-work-in-between", others_work_in_between),
                CASE("/adversary/saved/recovered-by-others", recovered_by_others),
                CASE("/adversary/saved/recovered-elsewhere", recovered_elsewhere),
                CASE("/adversary/saved/power-lost-in-a-unit", power_lost_in_a_unit),
                CASE("/adversary/bootloader/an-unknown-one-stays-for-a-firmware-update", own_bootloader),
                CASE("/adversary/identity/ae3-first-seen-running", ae3_first_seen_running),
                CASE("/adversary/clock/a-host-that-slept-once", slept_once),
                CASE("/adversary/clock/a-host-that-sleeps-meanwhile", sleeps_meanwhile),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
