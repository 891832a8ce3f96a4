/* SPDX-License-Identifier: MIT */
/*
 * Cameras that run, and are asked over their serial port to restart into their
 * bootloader: in virtual time, no hand at the cable.  And who is never asked.
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
#include "base/log.h"
#include "unit/lab.h"
#include "unit/loop-virtual.h"

#define PORT "3-1.2"
#define FOR_EVER 1000000u

/* Runs version; newer stands in the store. */
static struct lab_camera *running(struct lab *lab, const struct sim_config *config, const char *version, struct lab_image **ret_new)
{
        struct lab_camera *camera = lab_camera_from(lab, config);

        *ret_new = lab_release(lab, config->board, "5.0.1");
        lab_import(lab, *ret_new);
        lab_install(camera, lab_release(lab, config->board, version));
        if (config->board == SIM_OPENMV_AE3) {
                struct lab_image *he = lab_firmware(lab, config->board, "HE", "5.0.1", 2, 200000);

                lab_import(lab, he);
                lab_install(camera, lab_firmware(lab, config->board, "HE", version, 2, 200000));
        }
        lab_plug_until_running(camera, PORT);
        lab_run(lab, SEC);
        lab_reset_counters(camera);
        return camera;
}

static struct sim_config config_of(enum sim_board board)
{
        struct sim_config config;

        sim_config_default(&config, board, 1);
        return config;
}

static struct lab_camera *running_board(struct lab *lab, enum sim_board board, const char *version, struct lab_image **ret_new)
{
        struct sim_config config = config_of(board);

        return running(lab, &config, version, ret_new);
}

static void expect_by_itself(struct lab_camera *camera, const struct lab_image *new)
{
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
        assert_int_equal(lab_counters(camera).plugs, 0);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
}

/* A hand does what no program can. */
static void expect_after_replug(struct lab_camera *camera, const struct lab_image *new)
{
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

static void expect_waits_for_replug(struct lab_camera *camera, enum call_trouble trouble)
{
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_run(camera->lab, 600 * SEC);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_WAITING_FOR_REPLUG);
        assert_int_equal(lab_known(camera)->trouble, trouble);
        assert_int_equal(lab_update(camera)->step, UPDATE_WAITING);
        assert_false(usb_inproc_serial_is_open(camera->usb));
}

/* --- it goes on by itself --- */

static void by_itself(struct lab *lab, const char *version)
{
        static const enum sim_board boards[] = {
                SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4, SIM_OPENMV4P, SIM_OPENMVPT, SIM_OPENMV_N6, SIM_OPENMV_AE3,
        };

        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct lab_image *new;
                struct lab_camera *camera = running_board(lab, boards[i], version, &new);

                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                lab_expect_state(camera, CAMERA_CALLING, SEC);
                assert_int_equal(lab_update(camera)->step, UPDATE_RESTARTING);
                lab_expect_state(camera, CAMERA_RESTARTING, 5 * SEC);
                expect_by_itself(camera, new);
                lab_unplug(camera);
        }
}

static void legacy(void **state)
{
        by_itself(*state, "4.8.1");
}

static void packets(void **state)
{
        by_itself(*state, "5.0.0");
}

/* Before v4.6 "into the bootloader" is an ordinary reset; before v3.6.8 it is not known at all.  The bootloader's window is enough. */
static void old_firmware(void **state)
{
        static const char *const versions[] = { "4.5.9", "3.9.4", "3.6.7", "3.4.0" };
        struct lab *lab = *state;

        for (size_t i = 0; i < ELEMENTSOF(versions); i++) {
                struct sim_config config = config_of(SIM_OPENMV3);
                struct lab_image *new;
                struct lab_camera *camera;

                sim_config_default(&config, SIM_OPENMV3, (unsigned)i + 1);
                config.vendor_37c5_runtime = false;
                camera = running(lab, &config, versions[i], &new);
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                expect_by_itself(camera, new);
                lab_unplug(camera);
        }
}

/* Legacy firmware that does not listen to "into the bootloader" is told to reset. */
static void legacy_is_reset(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV4);
        struct lab_image *new;
        struct lab_camera *camera;

        config.runtime_stays = true;
        camera = running(*state, &config, "4.8.1", &new);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        expect_by_itself(camera, new);
}

/* It returns running, an update being open: after a restart of the daemon; and after it was away. */
static void returns_running(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);
        struct registry *registry = lab->registry;

        lab_unplug(camera);
        lab_run(lab, SEC);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        /* Nobody saw its bootloader: the daemon was not there. */
        lab->registry = NULL;
        lab_plug(camera, "3-2");
        lab_run(lab, 10 * SEC);
        lab->registry = registry;
        lab_reset_counters(camera);
        lab_restart(lab);
        expect_by_itself(camera, new);
}

/* Known by its runtime serial only: its unique id, as told by its firmware, is the one which that serial is made of. */
static void never_seen_in_its_bootloader(void **state)
{
        static const char *const versions[] = { "4.8.1", "5.0.0" };
        struct lab *lab = *state;

        for (unsigned i = 0; i < ELEMENTSOF(versions); i++) {
                struct registry *registry = lab->registry;
                struct lab_camera *camera;
                struct lab_image *new = lab_release(lab, SIM_OPENMV3, "5.0.1");
                struct camera *known = NULL;
                struct request_result result;

                lab_import(lab, new);
                camera = lab_camera_new(lab, SIM_OPENMV3, 10 + i);
                lab_install(camera, lab_release(lab, SIM_OPENMV3, versions[i]));
                lab->registry = NULL;
                lab_plug(camera, PORT);
                lab_run(lab, 10 * SEC);
                lab->registry = registry;
                lab_reset_counters(camera);
                lab_restart(lab);
                lab_run(lab, SEC);
                for (known = registry_first_camera(lab->registry); known && !known->attached; known = registry_next_camera(known))
                        ;
                assert_non_null(known);
                assert_memory_equal(known->record.key, "M:", 2);
                registry_request(lab->registry, known, &(struct request){ .wish = WISH_UPDATE }, &result);
                assert_int_equal(result.action, REQUEST_UPDATE);
                expect_by_itself(camera, new);
                lab_unplug(camera);
        }
}

/* --- what stands in the way --- */

static void held_by_others(struct lab *lab, int error, enum call_trouble trouble, enum diagnosis_code code)
{
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);

        usb_inproc_hold_serial(camera->usb, error);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_run(lab, SEC);
        for (unsigned i = 0; i < 5; i++) {
                lab_expect_state(camera, CAMERA_CALLING, SEC);
                lab_expect_diagnosis(camera, code);
                assert_int_equal(lab_known(camera)->trouble, trouble);
                assert_int_equal(lab_update(camera)->step, UPDATE_WAITING);
                lab_run(lab, 60 * SEC);
        }
        assert_int_equal(lab_counters(camera).serial_bytes, 0);
        usb_inproc_hold_serial(camera->usb, 0);
        lab_expect_state(camera, CAMERA_RESTARTING, 5 * SEC);
        expect_by_itself(camera, new);
}

static void busy(void **state)
{
        held_by_others(*state, -EBUSY, CALL_BUSY, DIAGNOSIS_BUSY);
}

static void no_permission(void **state)
{
        held_by_others(*state, -EACCES, CALL_NO_PERMISSION, DIAGNOSIS_NO_PERMISSION);
}

static void replugged_while_busy(void **state)
{
        struct lab_image *new;
        struct lab_camera *camera = running_board(*state, SIM_OPENMV3, "4.8.1", &new);

        usb_inproc_hold_serial(camera->usb, -EBUSY);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_run(*state, 5 * SEC);
        expect_after_replug(camera, new);
        assert_int_equal(lab_known(camera)->trouble, CALL_FINE);
}

/* What answers is another camera than the one whose serial it shows: nothing is asked of it but that. */
static void other_unique_id(void **state)
{
        static const char *const versions[] = { "4.8.1", "5.0.0" };
        struct lab *lab = *state;

        for (unsigned i = 0; i < ELEMENTSOF(versions); i++) {
                struct sim_config config;
                struct lab_image *new;
                struct lab_camera *camera;

                sim_config_default(&config, SIM_OPENMV4, i + 1);
                config.runtime_other_uid = true;
                camera = running(lab, &config, versions[i], &new);
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                expect_waits_for_replug(camera, CALL_OTHER_CAMERA);
                assert_true(lab_logged(lab, "nothing was sent"));
                assert_int_equal(lab_counters(camera).boots, 0);
                lab_expect_untouched(camera);
                expect_after_replug(camera, new);
                lab_unplug(camera);
        }
}

static void falls_back(struct lab *lab, const struct sim_config *config, const char *version, int error, enum call_trouble trouble)
{
        struct lab_image *new;
        struct lab_camera *camera = running(lab, config, version, &new);

        usb_inproc_hold_serial(camera->usb, error);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_CALLING, SEC);
        expect_waits_for_replug(camera, trouble);
        assert_int_equal(lab_counters(camera).boots, 0);
        expect_after_replug(camera, new);
        /* Asked again, and now it can be heard. */
        lab_unplug(camera);
}

static void deaf(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV3);

        config.runtime_deaf = true;
        falls_back(*state, &config, "5.0.0", 0, CALL_NO_ANSWER);
}

static void no_port(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV3);

        falls_back(*state, &config, "5.0.0", -ENOENT, CALL_NO_PORT);
}

static void hanging_port(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV3);

        falls_back(*state, &config, "5.0.0", USB_INPROC_HANGS, CALL_NO_ANSWER);
}

static void stays(void **state)
{
        struct sim_config config = config_of(SIM_OPENMV3);

        config.runtime_stays = true;
        falls_back(*state, &config, "5.0.0", 0, CALL_STAYED);
}

/* A hub so slow that the bootloader is gone before it is configured: a few times, and no more. */
static void bootloader_is_not_seen(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);

        usb_inproc_set_delays(lab->host, 1200 * MSEC, USB_INPROC_EVENT_DELAY);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_run(lab, 60 * SEC);
        expect_waits_for_replug(camera, CALL_NOT_BACK);
        assert_int_equal(lab_counters(camera).boots, 3);
        /* The person asks again, and the hub has recovered. */
        usb_inproc_set_delays(lab->host, USB_INPROC_ENUMERATION, USB_INPROC_EVENT_DELAY);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        expect_by_itself(camera, new);
}

/* Told to restart, left, and never came. */
static void does_not_come_back(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);

        usb_inproc_set_delays(lab->host, 30 * SEC, USB_INPROC_EVENT_DELAY);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_RESTARTING, 5 * SEC);
        lab_expect_state(camera, CAMERA_WAITING, 6 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_AWAITED);
        assert_int_equal(lab_known(camera)->trouble, CALL_NOT_BACK);
        lab_unplug(camera);
        usb_inproc_set_delays(lab->host, USB_INPROC_ENUMERATION, USB_INPROC_EVENT_DELAY);
        expect_after_replug(camera, new);
}

/* Its hub was busy with others, or off for a while: it comes later than anybody waits, and running.  Nobody has to plug it in again. */
static void comes_back_late(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);

        usb_inproc_set_delays(lab->host, 20 * SEC, USB_INPROC_EVENT_DELAY);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_RESTARTING, 5 * SEC);
        lab_expect_state(camera, CAMERA_WAITING, 6 * SEC);
        assert_int_equal(lab_known(camera)->trouble, CALL_NOT_BACK);
        usb_inproc_set_delays(lab->host, USB_INPROC_ENUMERATION, USB_INPROC_EVENT_DELAY);
        lab_expect_state(camera, CAMERA_CALLING, 30 * SEC);
        assert_int_equal(lab_known(camera)->trouble, CALL_FINE);
        expect_by_itself(camera, new);
        assert_int_equal(lab_counters(camera).boots, 2);
}

/* Its hub has other ports to look after, and notices late that it has left.  Nobody is sent to unplug what restarts by itself. */
static void hub_is_busy(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);

        usb_inproc_set_delays(lab->host, USB_INPROC_ENUMERATION, 12 * SEC);
        /* Twelve others come, a second after each other, and each is heard of twelve seconds later; so is its departure. */
        for (unsigned i = 0; i < 24; i++) {
                char port[16];

                if (i == 14)
                        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                (void)snprintf(port, sizeof(port), "3-1.%u", 10 + i);
                if (i < 12)
                        lab_plug(lab_camera_new(lab, SIM_OPENMV4, 100 + i), port);
                lab_run(lab, SEC);
                assert_int_equal(lab_known(camera)->trouble, CALL_FINE);
        }
        usb_inproc_set_delays(lab->host, USB_INPROC_ENUMERATION, USB_INPROC_EVENT_DELAY);
        expect_by_itself(camera, new);
}

static bool has_left(void *userdata)
{
        return !lab_known(userdata)->attached;
}

/* Its hub, busy with others, tells twelve seconds late that it has left; its bootloader comes 0.9 s after that. */
static void leave_a_busy_hub(struct lab_camera *camera)
{
        struct lab *lab = camera->lab;

        usb_inproc_set_delays(lab->host, 900 * MSEC, 12 * SEC);
        for (unsigned i = 0; i < 12; i++) {
                char port[16];

                (void)snprintf(port, sizeof(port), "3-1.%u", 10 + i);
                lab_plug(lab_camera_new(lab, SIM_OPENMV4, 100 + i), port);
                lab_run(lab, SEC);
        }
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_RESTARTING, 5 * SEC);
        assert_true(loop_run_until(lab->loop, has_left, camera, 20 * SEC));
        usb_inproc_set_delays(lab->host, USB_INPROC_ENUMERATION, USB_INPROC_EVENT_DELAY);
}

/* That has still to be enumerated, and the hub is its own until then. */
static void hub_is_busy_when_it_leaves(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new), *next = lab_camera_new(lab, SIM_OPENMV3, 2);

        lab_install(next, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        lab_plug_until_running(next, "3-1.3");
        lab_run(lab, SEC);
        leave_a_busy_hub(camera);
        assert_int_equal(lab_ask_update(next, NULL), REQUEST_UPDATE);
        lab_run(lab, 890 * MSEC);
        assert_int_equal(lab_known(camera)->state, CAMERA_RESTARTING);
        assert_int_equal(lab_known(camera)->trouble, CALL_FINE);
        assert_int_equal(lab_known(next)->state, CAMERA_CALLING);
        expect_by_itself(camera, new);
        lab_expect_done(next);
}

/* And its loss, when it was cut off in the middle of a write with others that came and went: that is no failure of the device. */
static void hub_is_busy_in_the_middle(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);
        bool is_pulled = false;

        usb_inproc_set_delays(lab->host, USB_INPROC_ENUMERATION, 12 * SEC);
        for (unsigned i = 0; i < 60; i++) {
                char port[16];

                if (i == 14)
                        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                (void)snprintf(port, sizeof(port), "3-1.%u", 10 + i);
                lab_plug(lab_camera_new(lab, SIM_OPENMV4, 100 + i), port);
                lab_run(lab, SEC);
                if (!is_pulled && lab_known(camera)->state == CAMERA_UPDATING) {
                        lab_unplug(camera);
                        is_pulled = true;
                }
                assert_int_equal(lab_known(camera)->failures, 0);
        }
        assert_true(is_pulled);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        assert_true(update_is_open(lab_update(camera)));
        assert_int_equal(lab_update(camera)->record.failures, 1);
        usb_inproc_set_delays(lab->host, USB_INPROC_ENUMERATION, USB_INPROC_EVENT_DELAY);
        lab_run(lab, 15 * SEC);         /* what is under way keeps its order */
        expect_after_replug(camera, new);
}

/* Its serial port came later than anybody waits for one. */
static void port_comes_late(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "5.0.0", &new);

        usb_inproc_hold_serial(camera->usb, -ENOENT);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_CALLING, SEC);
        expect_waits_for_replug(camera, CALL_NO_PORT);
        usb_inproc_hold_serial(camera->usb, 0);
        registry_serial_port(lab->registry, PORT);
        expect_by_itself(camera, new);
}

static void unplugged(void **state)
{
        static const uint64_t moments[] = { 1, 10 * MSEC, 60 * MSEC, 100 * MSEC, 400 * MSEC, 500 * MSEC, 700 * MSEC, 900 * MSEC };
        struct lab *lab = *state;

        for (unsigned i = 0; i < ELEMENTSOF(moments); i++) {
                struct sim_config config;
                struct lab_image *new;
                struct lab_camera *camera;

                sim_config_default(&config, SIM_OPENMV3, i + 1);
                camera = running(lab, &config, i % 2 ? "4.8.1" : "5.0.0", &new);
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                lab_run(lab, moments[i]);
                lab_unplug(camera);
                lab_run(lab, 10 * SEC);
                lab_expect_state(camera, CAMERA_WAITING, SEC);
                expect_after_replug(camera, new);
                lab_unplug(camera);
        }
}

/* Nothing that an AE3 shows while it runs is in its bootloader's serial: another one on the same port may be restarted for it.  Its bootloader
 * tells who it is, and it is sent back. */
static void swapped_without_identity(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV_AE3, "5.0.0", &new), *stranger = lab_camera_new(lab, SIM_OPENMV_AE3, 99);
        struct registry *registry = lab->registry;
        struct sighting sighting;

        for (const struct lab_image *image = lab->images; image; image = image->next)
                if (strcmp(image->version, "5.0.0") == 0)
                        lab_install(stranger, image);
        lab_unplug(camera);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        /* Only its bootloader was ever seen. */
        lab_known(camera)->record.runtime_serial[0] = '\0';
        lab->registry = NULL;
        lab_plug(stranger, PORT);
        lab_run(lab, 5 * SEC);
        lab_reset_counters(stranger);
        lab->registry = registry;
        assert_true(usb_inproc_sighting(stranger->usb, &sighting));
        registry_seen(registry, &sighting);
        lab_run(lab, 120 * SEC);
        assert_int_equal(sim_camera_mode(stranger->sim), SIM_RUNTIME);
        assert_int_equal(lab_counters(stranger).erases, 0);
        assert_int_equal(lab_counters(stranger).download, 0);
        assert_int_equal(lab_counters(stranger).boots, 1);
        assert_int_equal(lab_known(camera)->trouble, CALL_OTHER_CAMERA);
        assert_true(update_is_open(lab_update(camera)));
        lab_unplug(stranger);
        lab_run(lab, 120 * SEC);
        lab_plug(camera, "3-7");
        lab_expect_state(camera, CAMERA_CONFIRMING, 60 * SEC);
        lab_expect_flash(camera, new);
}

/* --- who is not called --- */

/* An update was wanted while it was away; it comes back while the state directory takes nothing, and nobody touches it after that is
 * mended. */
static void not_before_it_can_be_remembered(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);

        lab_import(lab, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        lab_unplug(camera);
        lab_run(lab, 60 * SEC);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_run(lab, SEC);
        loop_fail_work(lab->loop, -ENOSPC, FOR_EVER);
        assert_int_equal(registry_set_label(lab->registry, lab_known(camera), "bench"), 0);
        lab_run(lab, SEC);
        assert_false(journal_writable(lab->journal));

        lab_plug(camera, PORT);
        lab_run(lab, 600 * SEC);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        assert_int_equal(lab_counters(camera).serial_bytes, 0);
        assert_true(update_is_open(lab_update(camera)));
        lab_reset_counters(camera);

        loop_fail_work(lab->loop, 0, 0);
        lab_expect_state(camera, CAMERA_CALLING, 60 * SEC);
        expect_by_itself(camera, new);
}

static void not_without_a_wish(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);

        lab_run(lab, 600 * SEC);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        lab_restart(lab);
        lab_run(lab, 600 * SEC);
        assert_int_equal(lab_counters(camera).serial_bytes, 0);
        lab_expect_untouched(camera);
        /* A dry run is a question. */
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .dry_run = true }), REQUEST_UPDATE);
        lab_run(lab, 60 * SEC);
        assert_int_equal(lab_counters(camera).serial_bytes, 0);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
}

/* --- nothing is written: it is sent back --- */

static void expect_sent_back(struct lab_camera *camera)
{
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_run(camera->lab, 600 * SEC);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_RUNTIME);
        assert_int_equal(lab_counters(camera).erases, 0);
        assert_int_equal(lab_counters(camera).plugs, 0);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
}

static const enum sim_bootloader bootloaders[] = { SIM_BL_1_0_3, SIM_BL_1_0_2, SIM_BL_1_0_0, SIM_BL_1_0_0_OLD_LAYOUT };

static void cancelled(void **state)
{
        static const enum camera_state moments[] = { CAMERA_CALLING, CAMERA_RESTARTING, CAMERA_OPENING, CAMERA_EXAMINING };
        struct lab *lab = *state;
        unsigned seed = 1;

        for (size_t b = 0; b < ELEMENTSOF(bootloaders); b++)
                for (size_t m = 0; m < ELEMENTSOF(moments); m++) {
                        struct sim_config config;
                        struct lab_image *new;
                        struct lab_camera *camera;

                        sim_config_default(&config, SIM_OPENMV3, seed++);
                        config.bootloader = bootloaders[b];
                        camera = running(lab, &config, seed % 2 ? "4.8.1" : "5.0.0", &new);
                        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                        lab_expect_state(camera, moments[m], 20 * SEC);
                        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
                        expect_sent_back(camera);
                        lab_expect_update(camera, UPDATE_CANCELLED, "cancelled");
                        assert_int_equal(lab_counters(camera).boots, moments[m] == CAMERA_CALLING ? 0 : 1);
                        lab_unplug(camera);
                }
}

/* Nobody wants it any more, and it comes: it is known why it stays. */
static void cancelled_on_a_busy_hub(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "4.8.1", &new);

        leave_a_busy_hub(camera);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        expect_sent_back(camera);
}

static void refused(void **state)
{
        struct lab *lab = *state;

        for (size_t b = 0; b < ELEMENTSOF(bootloaders); b++) {
                static uint8_t nonsense[100000];
                struct sim_config config;
                struct lab_image *new, *bad;
                struct lab_camera *camera;
                char hex[DIGEST_HEX_SIZE], id[sizeof(hex) + 8];

                sim_config_default(&config, SIM_OPENMV3, (unsigned)b + 1);
                config.bootloader = bootloaders[b];
                camera = running(lab, &config, "5.0.0", &new);
                memset(nonsense, 0x11, sizeof(nonsense));
                bad = lab_bytes(lab, SIM_OPENMV3, "FIRMWARE", "custom", nonsense, sizeof(nonsense));
                lab_import(lab, bad);
                digest_to_hex(&bad->digest, hex);
                snprintf(id, sizeof(id), "sha256:%s", hex);
                assert_int_equal(lab_ask_update(camera, id), REQUEST_UPDATE);
                lab_expect_state(camera, CAMERA_EXAMINING, 60 * SEC);
                expect_sent_back(camera);
                lab_expect_update(camera, UPDATE_REFUSED, "image-refused");
                lab_unplug(camera);
        }
}

/* Another wish while it is being called: that is carried out. */
static void another_wish(void **state)
{
        static const enum camera_state moments[] = { CAMERA_CALLING, CAMERA_RESTARTING };
        struct lab *lab = *state;

        for (unsigned m = 0; m < ELEMENTSOF(moments); m++) {
                struct sim_config config;
                struct lab_image *new, *other;
                struct lab_camera *camera;

                sim_config_default(&config, SIM_OPENMV3, m + 1);
                camera = running(lab, &config, "4.8.1", &new);
                other = lab_release(lab, SIM_OPENMV3, "4.9.0");
                lab_import(lab, other);
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                lab_expect_state(camera, moments[m], 5 * SEC);
                assert_int_equal(lab_ask_update(camera, "4.9.0"), REQUEST_UPDATE);
                expect_by_itself(camera, other);
                assert_int_equal(lab_counters(camera).boots, 1);
                lab_unplug(camera);
        }
}

/* --- the daemon dies --- */

static void daemon_killed(void **state)
{
        static const enum camera_state moments[] = { CAMERA_CALLING, CAMERA_RESTARTING, CAMERA_OPENING, CAMERA_EXAMINING };
        struct lab *lab = *state;

        for (unsigned m = 0; m < ELEMENTSOF(moments); m++) {
                struct sim_config config;
                struct lab_image *new;
                struct lab_camera *camera;

                sim_config_default(&config, SIM_OPENMV3, m + 1);
                camera = running(lab, &config, m % 2 ? "5.0.0" : "4.8.1", &new);
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                lab_expect_state(camera, moments[m], 20 * SEC);
                lab_restart(lab);
                assert_false(usb_inproc_serial_is_open(camera->usb));
                expect_by_itself(camera, new);
                lab_unplug(camera);
        }
}

/* Cancelled, and then the daemon died before it could send it back: it sits in its bootloader, and that is said. */
static void nobody_sends_it_back(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "5.0.0", &new);

        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_RESTARTING, 5 * SEC);
        /* Until the camera has looked at what it was told: a port that is closed before that ends it. */
        lab_run(lab, 50 * MSEC);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_restart(lab);
        lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
        lab_expect_state(camera, CAMERA_STAYING, 11 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_STAYS_IN_BOOTLOADER);
        lab_expect_untouched(camera);
        /* Either advice helps. */
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        expect_by_itself(camera, new);
}

static void unplugged_while_staying(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = running_board(lab, SIM_OPENMV3, "5.0.0", &new);

        sim_camera_reset(camera->sim, /* forced= */ true);
        lab_expect_state(camera, CAMERA_STAYING, 20 * SEC);
        lab_unplug(camera);
        lab_run(lab, 60 * SEC);
        /* It was told to be unplugged: no sign of anything. */
        lab_expect_state(camera, CAMERA_ABSENT, SEC);
        assert_false(lab_known(camera)->record.suspect);
        lab_plug_until_running(camera, PORT);
        lab_expect_untouched(camera);
}

/* --- many --- */

#define N_HUBS 6
#define N_PER_HUB 7

struct crowd {
        struct lab_camera *cameras[N_HUBS * N_PER_HUB];
        size_t n;
        unsigned most, most_per_hub;    /* that restarted at a time */
};

/* Called again and again while time passes. */
static bool all_done(void *userdata)
{
        struct crowd *crowd = userdata;
        unsigned calling = 0, per_hub[N_HUBS] = {};
        bool done = true;

        for (size_t i = 0; i < crowd->n; i++) {
                const struct camera *camera = lab_known(crowd->cameras[i]);

                assert_non_null(camera);
                if (camera->state == CAMERA_RESTARTING) {
                        calling++;
                        per_hub[i % N_HUBS]++;
                }
                done = done && camera->update && !update_is_open(camera->update);
        }
        for (size_t i = 0; i < N_HUBS; i++)
                crowd->most_per_hub = MAX(crowd->most_per_hub, per_hub[i]);
        crowd->most = MAX(crowd->most, calling);
        return done;
}

static void a_lab(void **state)
{
        struct lab *lab = *state;
        struct crowd crowd = {};
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *packets = lab_release(lab, SIM_OPENMV3, "5.0.0"),
                         *new = lab_release(lab, SIM_OPENMV3, "5.0.1");
        uint64_t begun;

        usb_inproc_set_hubs(lab->host, /* one_at_a_time= */ true);
        lab_import(lab, new);
        for (unsigned i = 0; i < ELEMENTSOF(crowd.cameras); i++) {
                struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, i + 1);
                char port[16];

                crowd.cameras[crowd.n++] = camera;
                lab_install(camera, i % 3 ? old : packets);
                snprintf(port, sizeof(port), "3-%u.%u", 1 + i % N_HUBS, 1 + i / N_HUBS);
                lab_plug(camera, port);
                if (i % N_HUBS == N_HUBS - 1)
                        lab_run(lab, 5 * SEC);          /* by hand, not all in one instant */
        }
        for (size_t i = 0; i < crowd.n; i++) {
                lab_expect_state(crowd.cameras[i], CAMERA_RUNNING, 20 * SEC);
                lab_reset_counters(crowd.cameras[i]);
        }
        begun = loop_now(lab->loop);
        for (size_t i = 0; i < crowd.n; i++)
                assert_int_equal(lab_request(crowd.cameras[i], &(struct request){ .wish = WISH_UPDATE, .all = true, .replace_unknown = true }),
                                 REQUEST_UPDATE);
        assert_true(loop_run_until(lab->loop, all_done, &crowd, 600 * SEC));
        print_message("# %zu cameras on %u hubs: %.1f s; at most %u restarted at a time, %u on a hub\n", crowd.n, N_HUBS,
                      (double)(loop_now(lab->loop) - begun) / SEC, crowd.most, crowd.most_per_hub);
        for (size_t i = 0; i < crowd.n; i++) {
                lab_expect_update(crowd.cameras[i], UPDATE_DONE, "done");
                lab_expect_flash(crowd.cameras[i], new);
                assert_int_equal(lab_counters(crowd.cameras[i]).windows_missed, 0);
                assert_int_equal(lab_counters(crowd.cameras[i]).boots, 1);
        }
        assert_int_equal(crowd.most_per_hub, 1);
        assert_true(crowd.most > 1 && crowd.most <= 4);
}

/* One whose port hangs, one that is deaf, one held by others: the others on the hub come through meanwhile. */
static void troubled_neighbours(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.1");
        struct lab_camera *cameras[6];

        lab_import(lab, new);
        for (unsigned i = 0; i < ELEMENTSOF(cameras); i++) {
                struct sim_config config;
                char port[16];

                sim_config_default(&config, SIM_OPENMV3, i + 1);
                config.runtime_deaf = i == 1;
                cameras[i] = lab_camera_from(lab, &config);
                lab_install(cameras[i], old);
                snprintf(port, sizeof(port), "3-1.%u", i + 1);
                lab_plug_until_running(cameras[i], port);
        }
        lab_run(lab, SEC);
        usb_inproc_hold_serial(cameras[0]->usb, USB_INPROC_HANGS);
        usb_inproc_hold_serial(cameras[2]->usb, -EBUSY);
        for (size_t i = 0; i < ELEMENTSOF(cameras); i++)
                assert_int_equal(lab_ask_update(cameras[i], NULL), REQUEST_UPDATE);
        /* Three restarts, one after the other; no deadline of the others' has passed yet. */
        lab_run(lab, 2 * SEC);
        for (size_t i = 3; i < ELEMENTSOF(cameras); i++)
                assert_true(camera_state_has_session(lab_known(cameras[i])->state));
        assert_int_equal(lab_known(cameras[0])->state, CAMERA_CALLING);
        assert_int_equal(lab_known(cameras[1])->state, CAMERA_CALLING);
        for (size_t i = 3; i < ELEMENTSOF(cameras); i++)
                lab_expect_done(cameras[i]);
        lab_expect_state(cameras[0], CAMERA_RUNNING, SEC);
        lab_expect_state(cameras[1], CAMERA_RUNNING, SEC);
        lab_expect_state(cameras[2], CAMERA_CALLING, SEC);
}

/* --- whatever happens --- */

#define N_CHAOS 4

static uint64_t next_random(uint64_t *state)
{
        *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return *state >> 33;
}

struct outcomes {
        unsigned updates, done, cancelled, others, restarts;
};

static void count_outcomes(struct lab *lab, struct outcomes *outcomes)
{
        for (const struct update *update = registry_first_update(lab->registry); update; update = registry_next_update((struct update *)update)) {
                outcomes->updates++;
                outcomes->done += update->result == UPDATE_DONE;
                outcomes->cancelled += update->result == UPDATE_CANCELLED;
                outcomes->others += update->result != UPDATE_DONE && update->result != UPDATE_CANCELLED;
        }
        for (size_t i = 0; i < lab->n_cameras; i++)
                outcomes->restarts += (unsigned)lab_counters(&lab->cameras[i]).boots;
}

static void chaos_of(struct lab *lab, uint64_t seed)
{
        static const enum sim_board boards[N_CHAOS] = { SIM_OPENMV3, SIM_OPENMV3, SIM_OPENMV4, SIM_OPENMV_N6 };
        static const int holds[] = { 0, 0, 0, 0, -EBUSY, -EACCES, -ENOENT, USB_INPROC_HANGS };
        struct lab_camera *cameras[N_CHAOS];
        struct lab_image *new[N_CHAOS];
        uint64_t random = seed * 2654435761u + 1;

        for (unsigned i = 0; i < N_CHAOS; i++) {
                struct sim_config config;

                sim_config_default(&config, boards[i], i + 1);
                config.bootloader = bootloaders[next_random(&random) % ELEMENTSOF(bootloaders)];
                config.runtime_stays = next_random(&random) % 5 == 0;
                config.flash_speed = 20;
                cameras[i] = running(lab, &config, next_random(&random) % 2 ? "4.8.1" : "5.0.0", &new[i]);
                lab_unplug(cameras[i]);
        }
        for (unsigned i = 0; i < N_CHAOS; i++) {
                char port[16];

                snprintf(port, sizeof(port), "3-1.%u", i + 1);
                lab_plug(cameras[i], port);
        }
        lab_run(lab, 10 * SEC);
        for (unsigned step = 0; step < 40; step++) {
                struct lab_camera *camera = cameras[next_random(&random) % N_CHAOS];
                const struct camera *known = lab_known(camera);

                switch (next_random(&random) % 10) {
                case 0:
                case 1:
                case 2:
                        (void)lab_ask_update(camera, next_random(&random) % 2 ? NULL : "5.0.1");
                        break;
                case 3:
                        if (known->update && update_is_open(known->update))
                                (void)registry_cancel(lab->registry, known->update);
                        break;
                case 4:
                        lab_replug(camera);
                        break;
                case 5:
                        if (next_random(&random) % 3 == 0)
                                lab_restart(lab);
                        break;
                case 6:
                        usb_inproc_hold_serial(camera->usb, holds[next_random(&random) % ELEMENTSOF(holds)]);
                        break;
                default:
                        lab_run(lab, next_random(&random) % (800 * MSEC));
                }
                lab_run(lab, next_random(&random) % (150 * MSEC));
        }
        /* Everything is well again, and a hand replugs once. */
        for (unsigned i = 0; i < N_CHAOS; i++)
                usb_inproc_hold_serial(cameras[i]->usb, 0);
        lab_run(lab, 120 * SEC);
        for (unsigned i = 0; i < N_CHAOS; i++)
                if (lab_known(cameras[i])->state != CAMERA_RUNNING || (lab_known(cameras[i])->update && update_is_open(lab_update(cameras[i]))))
                        lab_replug(cameras[i]);
        lab_run(lab, 300 * SEC);
        for (unsigned i = 0; i < N_CHAOS; i++) {
                const struct camera *known = lab_known(cameras[i]);

                assert_false(usb_inproc_serial_is_open(cameras[i]->usb));
                assert_null(known->call);
                /* A wish that was cancelled half-way leaves a camera that waits for a word; any other runs, with what was wanted. */
                if (known->state == CAMERA_ASKING || known->state == CAMERA_SILENT) {
                        lab_expect_update(cameras[i], UPDATE_CANCELLED, NULL);
                        continue;
                }
                lab_expect_state(cameras[i], CAMERA_RUNNING, SEC);
                if (!known->update)
                        continue;
                assert_false(update_is_open(known->update));
                if (known->update->result == UPDATE_DONE)
                        lab_expect_flash(cameras[i], new[i]);
        }
}

static void chaos(void **state)
{
        struct outcomes outcomes = {};
        const char *first = getenv("CHAOS_SEED");
        uint64_t seed = first ? strtoull(first, NULL, 10) : 1, n = first ? 1 : 40;

        for (uint64_t end = seed + n; seed < end; seed++) {
                lab_free(*state);
                *state = lab_new();
                lab_connect_serial(*state);
                log_info("seed %u: CHAOS_SEED=%u plays it alone", (unsigned)seed, (unsigned)seed);
                chaos_of(*state, seed);
                count_outcomes(*state, &outcomes);
        }
        print_message("# %u updates: %u done, %u cancelled, %u others; %u boots\n", outcomes.updates, outcomes.done, outcomes.cancelled,
                      outcomes.others, outcomes.restarts);
        assert_true(first || outcomes.done > 2 * n);
        assert_int_equal(outcomes.others, 0);
}

/* --- --- */

static int setup(void **state)
{
        struct lab *lab = lab_new();

        lab_connect_serial(lab);
        *state = lab;
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
                STORY("/caller/legacy-on-every-board", legacy),
                STORY("/caller/packets-on-every-board", packets),
                STORY("/caller/old-firmware", old_firmware),
                STORY("/caller/legacy-that-does-not-listen-is-reset", legacy_is_reset),
                STORY("/caller/returns-running", returns_running),
                STORY("/caller/never-seen-in-its-bootloader", never_seen_in_its_bootloader),
                STORY("/caller/busy", busy),
                STORY("/caller/no-permission", no_permission),
                STORY("/caller/replugged-while-busy", replugged_while_busy),
                STORY("/caller/other-unique-id", other_unique_id),
                STORY("/caller/deaf", deaf),
                STORY("/caller/no-port", no_port),
                STORY("/caller/hanging-port", hanging_port),
                STORY("/caller/stays", stays),
                STORY("/caller/bootloader-is-not-seen", bootloader_is_not_seen),
                STORY("/caller/does-not-come-back", does_not_come_back),
                STORY("/caller/comes-back-late", comes_back_late),
                STORY("/caller/hub-is-busy", hub_is_busy),
                STORY("/caller/hub-is-busy-when-it-leaves", hub_is_busy_when_it_leaves),
                STORY("/caller/hub-is-busy-in-the-middle", hub_is_busy_in_the_middle),
                STORY("/caller/port-comes-late", port_comes_late),
                STORY("/caller/unplugged", unplugged),
                STORY("/caller/swapped-without-identity", swapped_without_identity),
                STORY("/caller/not-before-it-can-be-remembered", not_before_it_can_be_remembered),
                STORY("/caller/not-without-a-wish", not_without_a_wish),
                STORY("/caller/cancelled", cancelled),
                STORY("/caller/cancelled-on-a-busy-hub", cancelled_on_a_busy_hub),
                STORY("/caller/refused", refused),
                STORY("/caller/another-wish", another_wish),
                STORY("/caller/daemon-killed", daemon_killed),
                STORY("/caller/nobody-sends-it-back", nobody_sends_it_back),
                STORY("/caller/unplugged-while-staying", unplugged_while_staying),
                STORY("/caller/a-lab", a_lab),
                STORY("/caller/troubled-neighbours", troubled_neighbours),
                STORY("/caller/chaos", chaos),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
