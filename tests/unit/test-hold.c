/* SPDX-License-Identifier: MIT */
/*
 * A bootloader that is held for somebody's tool, and let go again: on every
 * board and bootloader, at a replug and out of a running firmware; how the wish
 * ends; and what is never done.
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
#include "protocol/dfu.h"
#include "unit/lab.h"
#include "unit/loop-virtual.h"

#define PORT "3-1.2"

/* --- people --- */

static bool ask(struct lab_camera *camera, uint64_t timeout)
{
        struct request_result result;
        bool agreed = camera_hold(lab_known(camera), timeout, &result);

        assert_int_equal(agreed, result.text[0] == '\0');
        return agreed;
}

static void expect_refused(struct lab_camera *camera, const char *part)
{
        struct request_result result;

        assert_false(camera_hold(lab_known(camera), HOLD_DEFAULT, &result));
        if (!strstr(result.text, part))
                lab_fail(camera->lab, "\"%s\" does not say \"%s\"", result.text, part);
}

struct answer {
        unsigned n;
        enum release_end end;
        char text[256];
};

static void on_released(void *userdata, enum release_end end, const char *message)
{
        struct answer *answer = userdata;

        answer->n++;
        answer->end = end;
        snprintf(answer->text, sizeof(answer->text), "%s", message);
}

static bool is_answered(void *userdata)
{
        return ((struct answer *)userdata)->n > 0;
}

static void expect_release(struct lab_camera *camera, enum release_end end)
{
        struct answer answer = {};

        camera_release(lab_known(camera), on_released, &answer);
        if (!loop_run_until(camera->lab->loop, is_answered, &answer, 60 * SEC))
                lab_fail(camera->lab, "Release was not answered");
        if (answer.end != end)
                lab_fail(camera->lab, "Release: %d (%s)", answer.end, answer.text);
        lab_run(camera->lab, SEC);
        assert_int_equal(answer.n, 1);
}

/* --- cameras --- */

static struct lab_camera *running(struct lab *lab, enum sim_board board, enum sim_bootloader bootloader, const char *version)
{
        struct sim_config config;
        struct lab_camera *camera;

        sim_config_default(&config, board, 1);
        config.bootloader = bootloader;
        camera = lab_camera_from(lab, &config);
        lab_install(camera, lab_release(lab, board, version));
        if (board == SIM_OPENMV_AE3)
                lab_install(camera, lab_firmware(lab, board, "HE", version, 2, 200000));
        lab_plug_until_running(camera, PORT);
        lab_run(lab, SEC);
        lab_reset_counters(camera);
        return camera;
}

/* One UPLOAD, and then nothing more, however long it takes; and whoever wants it can have it. */
static void expect_held(struct lab_camera *camera)
{
        struct sim_counters counters;

        lab_expect_state(camera, CAMERA_HELD, 20 * SEC);
        assert_false(usb_inproc_is_open(camera->usb));
        lab_run(camera->lab, 600 * SEC);
        lab_expect_state(camera, CAMERA_HELD, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_HELD);
        counters = lab_counters(camera);
        assert_int_equal(counters.upload, 1);
        assert_int_equal(counters.transfers - counters.get_configuration, 1);
        assert_int_equal(counters.get_configuration, 1);        /* whoever opens a device asks that */
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        lab_expect_only_read(camera);
}

/* So often pinned since then, and nothing else. */
static void expect_touched(struct lab_camera *camera, unsigned n)
{
        struct sim_counters counters = lab_counters(camera);

        assert_int_equal(counters.upload, n);
        assert_int_equal(counters.transfers - counters.get_configuration, n);
}

static struct lab_camera *held_at_replug(struct lab *lab, enum sim_board board)
{
        struct lab_camera *camera = running(lab, board, SIM_BL_1_0_3, "5.0.0");

        assert_true(ask(camera, HOLD_DEFAULT));
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_WAITING_FOR_REPLUG);
        lab_replug(camera);
        expect_held(camera);
        return camera;
}

/* What is left where a download was cut off in the fourth erase unit. */
static struct lab_image *half_of(struct lab *lab, const struct lab_image *image)
{
        size_t size = 4 * 128 * 1024, written = 3 * 128 * 1024 + 5000;
        _cleanup_free_ uint8_t *data = malloc(size);

        assert_non_null(data);
        assert_true(image->size > size);
        memcpy(data, image->data, written);
        memset(data + written, 0xff, size - written);
        return lab_bytes(lab, image->board, image->partition, "half", data, size);
}

static void expect_runs(struct lab_camera *camera)
{
        lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
        assert_false(lab_known(camera)->hold.wished);
        lab_expect_only_read(camera);
}

/* --- held, and let go --- */

static const enum sim_board boards[] = {
        SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4, SIM_OPENMV4P, SIM_OPENMVPT, SIM_OPENMV_N6, SIM_OPENMV_AE3,
};

static void at_replug(void **state)
{
        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct lab_camera *camera = held_at_replug(*state, boards[i]);

                expect_release(camera, RELEASE_DONE);
                expect_runs(camera);
                /* The next time it boots as if nobody were there. */
                lab_reset_counters(camera);
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
                lab_expect_untouched(camera);
                lab_unplug(camera);
        }
}

static void every_bootloader(void **state)
{
        static const enum sim_bootloader bootloaders[] = { SIM_BL_1_0_0, SIM_BL_1_0_2, SIM_BL_1_0_3 };
        struct lab *lab = *state;

        for (size_t i = 0; i < ELEMENTSOF(bootloaders); i++) {
                struct lab_camera *camera = running(lab, SIM_OPENMV3, bootloaders[i], "4.8.1");

                assert_true(ask(camera, HOLD_DEFAULT));
                lab_replug(camera);
                expect_held(camera);
                expect_release(camera, RELEASE_DONE);
                expect_runs(camera);
                lab_unplug(camera);
        }
}

/* No hand at the cable; and the bootloader is in forced mode, which the oldest one does not leave on DETACH. */
static void out_of_running_firmware(void **state)
{
        static const enum sim_bootloader bootloaders[] = { SIM_BL_1_0_0, SIM_BL_1_0_2, SIM_BL_1_0_3 };
        static const char *const versions[] = { "4.8.1", "5.0.0" };
        struct lab *lab = *state;

        lab_connect_serial(lab);
        for (size_t i = 0; i < ELEMENTSOF(bootloaders); i++)
                for (size_t v = 0; v < ELEMENTSOF(versions); v++) {
                        struct lab_camera *camera = running(lab, SIM_OPENMV3, bootloaders[i], versions[v]);

                        assert_true(ask(camera, HOLD_DEFAULT));
                        lab_expect_state(camera, CAMERA_CALLING, SEC);
                        expect_held(camera);
                        assert_int_equal(lab_counters(camera).plugs, 0);
                        expect_release(camera, RELEASE_DONE);
                        expect_runs(camera);
                        /* Once. */
                        lab_run(lab, 600 * SEC);
                        lab_expect_state(camera, CAMERA_RUNNING, SEC);
                        assert_int_equal(lab_counters(camera).plugs, 0);
                        lab_unplug(camera);
                }
}

/* Its firmware does not listen: a hand does what no program can. */
static void deaf_firmware(void **state)
{
        struct lab *lab = *state;
        struct sim_config config;
        struct lab_camera *camera;

        lab_connect_serial(lab);
        sim_config_default(&config, SIM_OPENMV3, 1);
        config.runtime_deaf = true;
        camera = lab_camera_from(lab, &config);
        lab_install(camera, lab_release(lab, SIM_OPENMV3, "5.0.0"));
        lab_plug_until_running(camera, PORT);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_expect_state(camera, CAMERA_CALLING, SEC);
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_WAITING_FOR_REPLUG);
        assert_non_null(strstr(camera_diagnosis(lab_known(camera)).text, "another program waits for it"));
        lab_reset_counters(camera);
        lab_replug(camera);
        expect_held(camera);
}

/* Asked for in the bootloader's own window. */
static void in_its_window(void **state)
{
        struct lab_camera *camera = running(*state, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");

        lab_replug(camera);
        lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
        assert_true(ask(camera, HOLD_DEFAULT));
        expect_held(camera);
}

/* Not attached: it is awaited, and that can be taken back. */
static void absent(void **state)
{
        struct lab_camera *camera = running(*state, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");

        lab_unplug(camera);
        lab_run(*state, SEC);
        expect_release(camera, RELEASE_REFUSED);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_AWAITED);
        assert_false(registry_is_idle(((struct lab *)*state)->registry));
        expect_release(camera, RELEASE_DONE);
        lab_expect_state(camera, CAMERA_ABSENT, SEC);
        lab_reset_counters(camera);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
        lab_expect_untouched(camera);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_unplug(camera);
        lab_run(*state, 60 * SEC);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        lab_reset_counters(camera);
        lab_plug(camera, "3-2");
        expect_held(camera);
}

/* Taken back while it is on its way into its bootloader: it is sent back. */
static void released_while_it_restarts(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera;

        lab_connect_serial(lab);
        camera = running(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0");
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_expect_state(camera, CAMERA_RESTARTING, 5 * SEC);
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_expect_state(camera, CAMERA_CALLING, SEC);
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
}

/* Somebody else's program left it there, or sent it. */
static void one_that_just_stays(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_0, "4.8.1");

        sim_camera_reset(camera->sim, /* forced= */ true);
        lab_expect_state(camera, CAMERA_STAYING, 20 * SEC);
        lab_expect_untouched(camera);
        assert_non_null(strstr(camera_diagnosis(lab_known(camera)).advice, "camrescue release"));
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
}

/* --- how it ends --- */

/* Nobody lets it go: it is let go, and one that is not there is not awaited any more. */
static void timeout(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");

        assert_true(ask(camera, 1000 * SEC));
        lab_replug(camera);
        expect_held(camera);
        lab_run(lab, 300 * SEC);
        lab_expect_state(camera, CAMERA_HELD, SEC);
        lab_run(lab, 90 * SEC);
        expect_runs(camera);
        assert_true(ask(camera, 1000 * SEC));
        lab_unplug(camera);
        lab_run(lab, 999 * SEC);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        lab_run(lab, 2 * SEC);
        lab_expect_state(camera, CAMERA_ABSENT, SEC);
        /* Asked again, its time begins anew. */
        assert_true(ask(camera, 100 * SEC));
        lab_run(lab, 90 * SEC);
        assert_true(ask(camera, 100 * SEC));
        lab_run(lab, 90 * SEC);
        lab_reset_counters(camera);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_HELD, 5 * SEC);
        assert_true(ask(camera, HOLD_DEFAULT));
        expect_held(camera);
}

/* The tool has it when its time is over: it is not taken away. */
static void timeout_in_use(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");

        assert_true(ask(camera, 1000 * SEC));
        lab_replug(camera);
        expect_held(camera);
        assert_int_equal(usb_inproc_claim(camera->usb, 0, true), 0);
        lab_run(lab, 1000 * SEC);
        lab_expect_state(camera, CAMERA_STAYING, SEC);
        expect_touched(camera, 1);
        assert_int_equal(usb_inproc_claim(camera->usb, 0, false), 0);
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
}

/* The tool itself told it to leave. */
static void the_tool_lets_it_go(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);

        usb_inproc_port_reset(camera->usb);
        expect_runs(camera);
        lab_run(lab, 600 * SEC);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        lab_reset_counters(camera);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
        lab_expect_untouched(camera);
}

/* Pulled while it is held: it is awaited, and held again. */
static void unplugged(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);

        lab_unplug(camera);
        lab_run(lab, 100 * SEC);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        lab_reset_counters(camera);
        lab_plug(camera, PORT);
        expect_held(camera);
        lab_unplug(camera);
        lab_run(lab, SEC);
        expect_release(camera, RELEASE_DONE);
        lab_expect_state(camera, CAMERA_ABSENT, SEC);
        assert_false(lab_known(camera)->record.suspect);
}

/* The daemon dies: the camera stays where it is, and the next daemon does not know why, and touches nothing. */
static void daemon_killed(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);

        lab_restart(lab);
        lab_expect_state(camera, CAMERA_STAYING, 20 * SEC);
        lab_run(lab, 600 * SEC);
        expect_touched(camera, 1);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
}

/* --- updates win --- */

static void update_is_open_already(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "4.8.1");
        struct lab_image *new = lab_release(lab, SIM_OPENMV4, "5.0.1");

        lab_import(lab, new);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        expect_refused(camera, "is open");
        expect_release(camera, RELEASE_UPDATE_OPEN);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        expect_refused(camera, "is open");
        expect_release(camera, RELEASE_UPDATE_OPEN);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

static void update_while_held(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);
        struct lab_image *new = lab_release(lab, SIM_OPENMV4, "5.0.1");

        lab_import(lab, new);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        assert_false(lab_known(camera)->hold.wished);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

/* It comes while the flash is looked at for Release, which is answered all the same. */
static void update_while_released(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);
        struct lab_image *new = lab_release(lab, SIM_OPENMV4, "5.0.1");
        struct answer answer = {};

        lab_import(lab, new);
        camera_release(lab_known(camera), on_released, &answer);
        lab_expect_state(camera, CAMERA_EXAMINING, SEC);
        assert_int_equal(answer.n, 0);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
        assert_int_equal(answer.n, 1);
        assert_int_equal(answer.end, RELEASE_UPDATE_OPEN);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
        assert_int_equal(answer.n, 1);
}

/* A silent boot would be looked at, and repaired; but somebody wants to do that himself. */
static void before_a_recovery(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *whole = lab_release(lab, SIM_OPENMV4, "5.0.1");

        lab_import(lab, whole);
        lab_unplug(camera);
        lab_install(camera, half_of(lab, whole));
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_SILENT, 60 * SEC);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_reset_counters(camera);
        lab_replug(camera);
        expect_held(camera);
        /* Let go, it would jump into nothing. */
        expect_release(camera, RELEASE_INCOMPLETE);
        lab_expect_state(camera, CAMERA_STAYING, SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        lab_expect_only_read(camera);
        assert_int_equal(lab_counters(camera).detach, 0);
        assert_null(lab_known(camera)->update);
}

/* --- what a tool leaves --- */

/* It has written half an image, or erased it: neither by Release nor by time is that booted. */
static void incomplete_firmware(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *new = lab_release(lab, SIM_OPENMV4, "5.0.1");

        lab_import(lab, new);
        assert_true(ask(camera, 1000 * SEC));
        lab_replug(camera);
        expect_held(camera);
        lab_install(camera, half_of(lab, new));
        lab_run(lab, 1000 * SEC);
        lab_expect_state(camera, CAMERA_STAYING, SEC);
        expect_release(camera, RELEASE_INCOMPLETE);
        lab_expect_state(camera, CAMERA_STAYING, SEC);
        assert_int_equal(lab_counters(camera).detach, 0);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        lab_expect_only_read(camera);
        /* The tool goes on to the end. */
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_expect_state(camera, CAMERA_HELD, 5 * SEC);
        lab_install(camera, new);
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
        assert_string_equal(lab_known(camera)->record.firmware_version, "5.0.1");
}

/* That we had sent it there ourselves does not make it any more harmless to send it back. */
static void incomplete_firmware_of_one_sent_there(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new = lab_release(lab, SIM_OPENMV4, "5.0.1");
        struct lab_camera *camera;

        lab_connect_serial(lab);
        camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        lab_import(lab, new);
        assert_true(ask(camera, HOLD_DEFAULT));
        expect_held(camera);
        lab_install(camera, half_of(lab, new));
        expect_release(camera, RELEASE_INCOMPLETE);
        lab_run(lab, 600 * SEC);
        lab_expect_state(camera, CAMERA_STAYING, SEC);
        assert_int_equal(lab_counters(camera).detach, 0);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
}

/* What a tool writes and boots itself is not known here, and what stood there before is known to be it no more. */
static void written_and_booted_by_the_tool(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");

        lab_import(lab, lab_release(lab, SIM_OPENMV4, "5.0.1"));
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_expect_done(camera);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_CURRENT);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 20 * SEC);
        lab_install(camera, lab_firmware(lab, SIM_OPENMV4, "FIRMWARE", "mine", 77, sim_image_default_size(SIM_OPENMV4)));
        usb_inproc_port_reset(camera->usb);
        lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
}

/* What it wrote is unknown here, and whole for all that is known. */
static void somebodys_own_firmware(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);

        lab_import(lab, lab_release(lab, SIM_OPENMV4, "5.0.1"));
        lab_install(camera, lab_firmware(lab, SIM_OPENMV4, "FIRMWARE", "mine", 77, sim_image_default_size(SIM_OPENMV4)));
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
        /* And so it is not said to have what it had. */
        assert_int_not_equal(lab_ask_update(camera, NULL), REQUEST_CURRENT);
}

/* --- others --- */

static void claimed_by_another(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);

        assert_int_equal(usb_inproc_claim(camera->usb, 0, true), 0);
        expect_release(camera, RELEASE_BUSY);
        lab_expect_state(camera, CAMERA_STAYING, SEC);
        expect_touched(camera, 1);
        /* Wanted again: it waits until they let go. */
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_expect_state(camera, CAMERA_BLOCKED, SEC);
        lab_run(lab, 60 * SEC);
        expect_touched(camera, 1);
        expect_release(camera, RELEASE_BUSY);
        lab_run(lab, 60 * SEC);
        lab_expect_state(camera, CAMERA_STAYING, SEC);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_expect_state(camera, CAMERA_BLOCKED, SEC);
        assert_int_equal(usb_inproc_claim(camera->usb, 0, false), 0);
        lab_expect_state(camera, CAMERA_HELD, 10 * SEC);
        expect_touched(camera, 2);
}

/* What stands in the way is told as it is. */
static void not_to_be_opened(void **state)
{
        static const struct {
                int error;
                const char *text;
        } cases[] = { { -EBUSY, "another program" }, { -EACCES, "no permission" }, { -ENOENT, "not there yet" } };
        struct lab_camera *camera = running(*state, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct answer answer = {};

                assert_true(ask(camera, HOLD_DEFAULT));
                lab_unplug(camera);
                lab_run(*state, SEC);
                usb_inproc_fail_open(camera->usb, cases[i].error, 100);
                lab_plug(camera, PORT);
                lab_expect_state(camera, CAMERA_BLOCKED, 5 * SEC);
                camera_release(lab_known(camera), on_released, &answer);
                assert_int_equal(answer.n, 1);
                assert_int_equal(answer.end, RELEASE_BUSY);
                if (!strstr(answer.text, cases[i].text))
                        lab_fail(*state, "\"%s\" does not say \"%s\"", answer.text, cases[i].text);
                usb_inproc_fail_open(camera->usb, 0, 0);
                lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        }
}

static struct inhibitor *inhibit(struct lab_camera *camera)
{
        struct inhibitor *inhibitor;

        assert_int_equal(registry_inhibit(camera->lab->registry, lab_known(camera), "somebody", "flashing it by hand", INHIBIT_HOLD, NULL,
                                          NULL, &inhibitor), 0);
        return inhibitor;
}

static void inhibited(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera;
        struct inhibitor *inhibitor;

        lab_connect_serial(lab);
        camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        inhibitor = inhibit(camera);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_run(lab, 60 * SEC);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        assert_int_equal(lab_counters(camera).serial_bytes, 0);
        lab_expect_diagnosis(camera, DIAGNOSIS_INHIBITED);
        /* In its bootloader likewise. */
        sim_camera_reset(camera->sim, /* forced= */ true);
        lab_expect_state(camera, CAMERA_INHIBITED, 5 * SEC);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(camera);
        inhibitor_lift(inhibitor);
        expect_held(camera);
        /* And what is held is not let go under their hands. */
        inhibitor = inhibit(camera);
        expect_release(camera, RELEASE_INHIBITED);
        expect_touched(camera, 1);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        inhibitor_lift(inhibitor);
        lab_run(lab, 60 * SEC);
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
}

/* Hands off in the middle of Release: it is told so, and it comes to the end that was asked for when they let go. */
static void inhibited_while_released(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);
        struct inhibitor *inhibitor;
        struct answer answer = {};

        camera_release(lab_known(camera), on_released, &answer);
        lab_expect_state(camera, CAMERA_EXAMINING, SEC);
        inhibitor = inhibit(camera);
        lab_expect_state(camera, CAMERA_INHIBITED, 5 * SEC);
        assert_int_equal(answer.n, 1);
        assert_int_equal(answer.end, RELEASE_INHIBITED);
        inhibitor_lift(inhibitor);
        expect_runs(camera);
        assert_int_equal(answer.n, 1);
}

static void unplugged_while_released(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV4);
        struct answer answer = {};

        camera_release(lab_known(camera), on_released, &answer);
        lab_expect_state(camera, CAMERA_EXAMINING, SEC);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        assert_int_equal(answer.n, 1);
        assert_int_equal(answer.end, RELEASE_DONE);
        lab_expect_state(camera, CAMERA_ABSENT, SEC);
}

static void not_held(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0");

        expect_release(camera, RELEASE_REFUSED);
        lab_unplug(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_run(lab, 10 * SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_ROM_DFU);
        expect_refused(camera, "ROM DFU");
        expect_release(camera, RELEASE_REFUSED);
}

/* It comes in another mode than that which is held: nothing is different there. */
static void comes_in_rom(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0");

        lab_import(lab, lab_bootloader(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0"));
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_unplug(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_unplug(camera);
        lab_jumper(camera, false);
        lab_reset_counters(camera);
        lab_plug(camera, PORT);
        expect_held(camera);
}

/* Said in the moment in which it is held, before it is closed. */
static void released_at_once(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");

        assert_true(ask(camera, HOLD_DEFAULT));
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_EXAMINING, 5 * SEC);
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_OPENING, 5 * SEC);
        expect_release(camera, RELEASE_DONE);
        expect_runs(camera);
}

/* Only the one that was asked for. */
static void neighbours(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *one = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_camera *two = lab_camera_new(lab, SIM_OPENMV3, 9);

        lab_install(two, lab_release(lab, SIM_OPENMV3, "5.0.0"));
        lab_plug_until_running(two, "3-1.3");
        lab_reset_counters(two);
        assert_true(ask(one, HOLD_DEFAULT));
        lab_replug(one);
        lab_replug(two);
        expect_held(one);
        lab_expect_state(two, CAMERA_RUNNING, SEC);
        lab_expect_untouched(two);
}

/* --- read while it is held --- */

struct reading {
        struct answer answer;
        uint8_t *bytes;
        size_t size, max;
        bool full;                      /* nothing more is taken */
};

static int on_data(void *userdata, const uint8_t *data, size_t size)
{
        struct reading *reading = userdata;

        if (reading->full)
                return -ENOSPC;
        assert_true(size <= reading->max - reading->size);
        memcpy(reading->bytes + reading->size, data, size);
        reading->size += size;
        return 0;
}

static void on_read_end(void *userdata, enum read_end end, const char *message)
{
        struct reading *reading = userdata;

        reading->answer.n++;
        reading->answer.end = (enum release_end)end;
        snprintf(reading->answer.text, sizeof(reading->answer.text), "%s", message);
}

static const struct hold_reader reader = { .on_data = on_data, .on_end = on_read_end };

static struct reading reading_new(void)
{
        struct reading reading = { .max = 4 << 20 };

        reading.bytes = malloc(reading.max);
        assert_non_null(reading.bytes);
        return reading;
}

static void begin_reading(struct lab_camera *camera, const char *partition, uint32_t offset, uint32_t size, struct reading *reading)
{
        struct session_read what = { .offset = offset, .size = size };
        struct request_result result;

        snprintf(what.partition, sizeof(what.partition), "%s", partition);
        if (!camera_read(lab_known(camera), &what, &reader, reading, &result))
                lab_fail(camera->lab, "not read: %s", result.text);
}

static void expect_read_end(struct lab_camera *camera, struct reading *reading, enum read_end end)
{
        if (!loop_run_until(camera->lab->loop, is_answered, &reading->answer, 120 * SEC))
                lab_fail(camera->lab, "not answered");
        if (reading->answer.end != (enum release_end)end)
                lab_fail(camera->lab, "read: %d (%s)", reading->answer.end, reading->answer.text);
        lab_run(camera->lab, SEC);
        assert_int_equal(reading->answer.n, 1);
}

static void expect_no_read(struct lab_camera *camera, const struct session_read *what, const char *part)
{
        struct request_result result;

        assert_false(camera_read(lab_known(camera), what, &reader, NULL, &result));
        if (!strstr(result.text, part))
                lab_fail(camera->lab, "\"%s\" does not say \"%s\"", result.text, part);
}

static void read_while_held(void **state)
{
        for (size_t i = 0; i < ELEMENTSOF(boards); i++) {
                struct lab_camera *camera = held_at_replug(*state, boards[i]);
                const char *name = boards[i] == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE";
                const struct lab_image *image = lab_release(*state, boards[i], "5.0.0");
                struct reading all = reading_new(), part = reading_new();

                begin_reading(camera, name, 0, 0, &all);
                assert_true(loop_run_until(camera->lab->loop, is_answered, &all.answer, 120 * SEC));
                assert_int_equal(all.answer.end, (int)READ_DONE);
                assert_true(all.size >= image->size);
                assert_memory_equal(all.bytes, image->data, image->size);
                /* At once: who was answered can go on. */
                begin_reading(camera, name, 8192, 5000, &part);
                expect_read_end(camera, &part, READ_DONE);
                assert_int_equal(part.size, 5000);
                assert_memory_equal(part.bytes, image->data + 8192, 5000);
                lab_expect_state(camera, CAMERA_HELD, SEC);
                assert_false(usb_inproc_is_open(camera->usb));
                lab_expect_only_read(camera);
                expect_release(camera, RELEASE_DONE);
                expect_runs(camera);
                lab_unplug(camera);
                free(all.bytes);
                free(part.bytes);
        }
}

static void not_read(void **state)
{
        struct session_read what = { .partition = "FIRMWARE" };
        struct reading reading = reading_new();
        struct lab_camera *camera = running(*state, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0");

        expect_no_read(camera, &what, "not held");
        assert_true(ask(camera, HOLD_DEFAULT));
        expect_no_read(camera, &what, "not held");
        lab_replug(camera);
        expect_held(camera);
        what.offset = 100;
        expect_no_read(camera, &what, "multiple of 4096");
        what.offset = 0;
        begin_reading(camera, "SPI_FLASH", 0, 0, &reading);
        expect_read_end(camera, &reading, READ_FAILED);
        assert_non_null(strstr(reading.answer.text, "no partition SPI_FLASH"));
        lab_expect_state(camera, CAMERA_HELD, SEC);
        reading.answer = (struct answer){};
        begin_reading(camera, "FIRMWARE", 4096, 1703936, &reading);
        expect_read_end(camera, &reading, READ_FAILED);
        begin_reading(camera, "FIRMWARE", 0, 0, &(struct reading){ .full = true });
        expect_no_read(camera, &what, "being read");
        camera_read_cancel(lab_known(camera));
        lab_expect_state(camera, CAMERA_HELD, 10 * SEC);
        lab_expect_only_read(camera);
        free(reading.bytes);
}

static void what_ends_reading(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = held_at_replug(lab, SIM_OPENMV3);
        struct reading reading = reading_new();
        struct answer released = {};

        /* Whoever gave the place for it has none any more. */
        reading.full = true;
        begin_reading(camera, "FIRMWARE", 0, 0, &reading);
        expect_read_end(camera, &reading, READ_REFUSED);
        lab_expect_state(camera, CAMERA_HELD, SEC);
        /* A hand. */
        reading = (struct reading){ .bytes = reading.bytes, .max = reading.max };
        begin_reading(camera, "FIRMWARE", 0, 0, &reading);
        lab_run(lab, 100 * MSEC);
        lab_unplug(camera);
        expect_read_end(camera, &reading, READ_FAILED);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_HELD, 10 * SEC);
        /* Release wins. */
        reading = (struct reading){ .bytes = reading.bytes, .max = reading.max };
        begin_reading(camera, "FIRMWARE", 0, 0, &reading);
        lab_run(lab, 100 * MSEC);
        expect_release(camera, RELEASE_DONE);
        expect_read_end(camera, &reading, READ_REFUSED);
        expect_runs(camera);
        /* A hand is quicker than the block that was under way: it has left, and the next time it is held. */
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 20 * SEC);
        reading = (struct reading){ .bytes = reading.bytes, .max = reading.max };
        begin_reading(camera, "FIRMWARE", 0, 0, &reading);
        lab_run(lab, 100 * MSEC);
        camera_release(lab_known(camera), on_released, &released);
        lab_unplug(camera);
        assert_true(loop_run_until(lab->loop, is_answered, &released, 20 * SEC));
        assert_int_equal(released.end, RELEASE_DONE);
        expect_read_end(camera, &reading, READ_REFUSED);
        lab_plug(camera, PORT);
        expect_runs(camera);
        /* So does an update. */
        assert_true(ask(camera, HOLD_DEFAULT));
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 20 * SEC);
        reading = (struct reading){ .bytes = reading.bytes, .max = reading.max };
        begin_reading(camera, "FIRMWARE", 0, 0, &reading);
        lab_run(lab, 100 * MSEC);
        lab_import(lab, lab_release(lab, SIM_OPENMV3, "5.1.0"));
        assert_int_equal(lab_ask_update(camera, "5.1.0"), REQUEST_UPDATE);
        assert_int_equal(reading.answer.n, 1);
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
        free(reading.bytes);
}

/* --- the daemon's end --- */

static bool is_stopped(void *userdata)
{
        struct lab *lab = userdata;

        return registry_stop(lab->registry);
}

static void on_quiet(void *userdata)
{
        ((struct answer *)userdata)->n++;
}

enum work { READING, RELEASING, UPDATING, AFTER_AN_INHIBITOR };

/* What somebody else has left in its flash, and we are about to look at. */
static struct lab_camera *left_by_others(struct lab *lab, enum work work, bool whole)
{
        struct lab_image *new = lab_release(lab, SIM_OPENMV4, "5.0.1");
        struct lab_image *theirs = lab_firmware(lab, SIM_OPENMV4, "FIRMWARE", "theirs", 77, 900000);
        struct lab_camera *camera;
        struct inhibitor *inhibitor;
        struct answer quiet = {};

        lab_import(lab, new);
        if (work == AFTER_AN_INHIBITOR) {
                camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_EXAMINING, 20 * SEC);
                assert_int_equal(registry_inhibit(lab->registry, lab_known(camera), "someone", "by hand", INHIBIT_HOLD, on_quiet, &quiet,
                                                  &inhibitor), 0);
                assert_true(loop_run_until(lab->loop, is_answered, &quiet, 20 * SEC));
        } else
                camera = held_at_replug(lab, SIM_OPENMV4);
        lab_install(camera, whole ? theirs : half_of(lab, new));
        if (work == AFTER_AN_INHIBITOR)
                inhibitor_lift(inhibitor);
        return camera;
}

/* Nobody knows what others have left there, as long as it was not read: it stays. */
static void daemon_stopped_before_it_was_looked_at(void **state)
{
        for (enum work work = READING; work <= AFTER_AN_INHIBITOR; work++)
                for (int whole = 0; whole < 2; whole++) {
                        struct lab *lab = *state;
                        struct lab_camera *camera;
                        struct reading reading = reading_new();

                        lab_free(lab);
                        *state = lab = lab_new();
                        camera = left_by_others(lab, work, whole);
                        if (work == READING)
                                begin_reading(camera, "FIRMWARE", 0, 0, &reading);
                        else if (work == RELEASING)
                                camera_release(lab_known(camera), NULL, NULL);
                        else if (work == UPDATING)
                                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_UPDATE);
                        lab_expect_state(camera, CAMERA_EXAMINING, SEC);
                        assert_true(loop_run_until(lab->loop, is_stopped, lab, 10 * SEC));
                        lab_run(lab, 60 * SEC);
                        if (sim_camera_mode(camera->sim) != SIM_BOOTLOADER)
                                lab_fail(lab, "let go while %d", work);
                        assert_int_equal(lab_counters(camera).detach, 0);
                        lab_expect_only_read(camera);
                        lab_restart(lab);
                        free(reading.bytes);
                }
}

/* --- updates after which it stays --- */

static enum request_action write_one(struct lab_camera *camera, const struct lab_image *image, bool stay)
{
        char id[7 + DIGEST_HEX_SIZE] = "sha256:";
        struct request request = {
                .wish = WISH_UPDATE, .firmware = id, .romfs = strcmp(image->partition, "ROMFS0") == 0,
                .erase_filesystem = strcmp(image->partition, "FILESYSTEM") == 0, .stay = stay,
        };

        digest_to_hex(&image->digest, id + 7);
        return lab_request(camera, &request);
}

static void stays_between_partitions(void **state)
{
        static const uint8_t zeros[FILESYSTEM_ZEROS];
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *erased = lab_bytes(lab, SIM_OPENMV4, "FILESYSTEM", "zeros", zeros, sizeof(zeros));
        struct lab_image *romfs = lab_firmware(lab, SIM_OPENMV4, "ROMFS0", "r", 3, 9000);
        struct lab_image *firmware = lab_release(lab, SIM_OPENMV4, "5.1.0");

        lab_import(lab, erased);
        lab_import(lab, romfs);
        lab_import(lab, firmware);
        assert_int_equal(write_one(camera, erased, true), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 60 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
        lab_expect_flash(camera, erased);
        lab_expect_wrote_only(camera, "FILESYSTEM");
        assert_int_equal(write_one(camera, romfs, true), REQUEST_UPDATE);
        lab_run(lab, SEC);
        lab_expect_state(camera, CAMERA_HELD, 60 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
        lab_expect_flash(camera, romfs);
        assert_int_equal(write_one(camera, firmware, false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
        lab_expect_flash(camera, firmware);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
        assert_false(lab_known(camera)->record.suspect);
}

/* It runs, and when it is plugged in again this is written, and it is to stay. */
static struct lab_camera *running_and_to_stay(struct lab *lab, struct lab_image **ret_firmware)
{
        struct lab_camera *camera = running(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *firmware = lab_release(lab, SIM_OPENMV3, "5.1.0");

        lab_import(lab, firmware);
        assert_int_equal(write_one(camera, firmware, true), REQUEST_QUEUED);
        *ret_firmware = firmware;
        return camera;
}

/* Nobody comes for the next partition. */
static void stays_for_a_while(void **state)
{
        struct lab *lab = *state;
        struct lab_image *firmware;
        struct lab_camera *camera = running_and_to_stay(lab, &firmware);

        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 60 * SEC);
        lab_run(lab, 200 * SEC);
        lab_expect_state(camera, CAMERA_HELD, SEC);
        lab_run(lab, 120 * SEC);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        lab_expect_flash(camera, firmware);
}

/* That it is to stay is remembered, too. */
static void stays_after_a_restart(void **state)
{
        struct lab *lab = *state;
        struct lab_image *firmware;
        struct lab_camera *camera = running_and_to_stay(lab, &firmware);

        lab_run(lab, SEC);
        lab_restart(lab);
        lab_run(lab, SEC);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 60 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
        lab_expect_flash(camera, firmware);
}

/* From then on a tool may write what it likes, whether it asked for the bootloader itself or just found it held; what it has written
 * is not what our update wrote. */
static void what_a_tool_writes_after_an_update_is_not_known(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *firmware = lab_release(lab, SIM_OPENMV3, "5.1.0");

        lab_import(lab, firmware);
        for (unsigned asked = 0; asked < 2; asked++) {
                assert_int_equal(write_one(camera, firmware, true), REQUEST_QUEUED);
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_HELD, 60 * SEC);
                if (asked)
                        assert_true(ask(camera, HOLD_DEFAULT));
                lab_install(camera, lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 77, sim_image_default_size(SIM_OPENMV3)));
                usb_inproc_port_reset(camera->usb);
                lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
                assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_UPDATE, .all = true, .dry_run = true }), REQUEST_SKIP);
        }
        /* Let go by us, it was looked at. */
        assert_int_equal(write_one(camera, firmware, true), REQUEST_QUEUED);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 60 * SEC);
        expect_release(camera, RELEASE_DONE);
        lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
        assert_int_equal(lab_ask_update(camera, "5.1.0"), REQUEST_CURRENT);
}

/* A hand: nobody has asked for it to be caught again. */
static void stays_until_it_goes(void **state)
{
        struct lab_image *firmware;
        struct lab_camera *camera = running_and_to_stay(*state, &firmware);

        lab_replug(camera);
        lab_expect_state(camera, CAMERA_HELD, 60 * SEC);
        lab_reset_counters(camera);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
        lab_expect_untouched(camera);
        lab_expect_diagnosis(camera, DIAGNOSIS_NONE);
}

/* What was asked for is done, and its firmware is half of one: it is not told to jump into that. */
static void expect_done_and_held(struct lab_camera *camera, const struct lab_image *image)
{
        struct lab *lab = camera->lab;

        lab_expect_state(camera, CAMERA_HELD, 60 * SEC);
        lab_expect_update(camera, UPDATE_DONE, "done");
        lab_expect_flash(camera, image);
        assert_non_null(strstr(lab_update(camera)->record.message, "incomplete"));
        lab_run(lab, 600 * SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
}

/* Rule 15. */
static void does_not_leave_into_half_a_firmware(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *romfs = lab_firmware(lab, SIM_OPENMV4, "ROMFS0", "r", 3, 9000);
        struct lab_image *firmware = lab_release(lab, SIM_OPENMV4, "5.1.0");

        lab_import(lab, romfs);
        lab_import(lab, firmware);
        lab_set_automatic(lab, false);
        lab_unplug(camera);
        lab_install(camera, half_of(lab, firmware));
        assert_int_equal(write_one(camera, romfs, false), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        expect_done_and_held(camera, romfs);
        assert_int_equal(write_one(camera, firmware, false), REQUEST_UPDATE);
        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
        lab_expect_flash(camera, firmware);
}

/* Nor into what we have half written ourselves, when one partition after the other is asked for: memory that is written in place, and a
 * flash word in which power failed, have no end that could be recognised. */
static void does_not_leave_into_our_own_half(void **state)
{
        static const struct {
                enum sim_board board;
                const char *first, *second;
        } cases[] = { { SIM_OPENMV_AE3, "HP", "HE" }, { SIM_OPENMV4, "FIRMWARE", "ROMFS0" } };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct lab *lab = *state;
                struct lab_image *first, *second;
                struct lab_camera *camera;

                lab_free(lab);
                *state = lab = lab_new();
                camera = running(lab, cases[i].board, SIM_BL_1_0_3, "5.0.0");
                first = lab_release(lab, cases[i].board, "5.1.0");
                second = lab_firmware(lab, cases[i].board, cases[i].second, "5.1.0", 3, 90000);
                assert_string_equal(first->partition, cases[i].first);
                lab_import(lab, lab_release(lab, cases[i].board, "5.0.0"));
                lab_import(lab, first);
                lab_import(lab, second);
                assert_int_equal(write_one(camera, first, false), REQUEST_QUEUED);
                sim_camera_add_fault(camera->sim, &(struct sim_fault){
                        .kind = SIM_FAULT_UNPLUG_FLASH, .request_type = 0xa1, .request = 3, .skip = 203, .count = 1, .length = 1000 });
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
                lab_expect_state(camera, CAMERA_WAITING, 60 * SEC);
                assert_int_equal(write_one(camera, second, false), REQUEST_QUEUED);
                lab_plug(camera, PORT);
                expect_done_and_held(camera, second);
                /* Whose work it is, is remembered as well: it is not let go after a look, nor saved as somebody's. */
                lab_restart(lab);
                lab_replug(camera);
                lab_run(lab, 60 * SEC);
                assert_int_equal(write_one(camera, first, false), REQUEST_UPDATE);
                lab_expect_done(camera);
                lab_expect_flash(camera, first);
                lab_expect_flash(camera, second);
                assert_null(store_saved(lab->store, camera->key, cases[i].first));
        }
}

struct farewell {
        unsigned skip;                  /* of the GETSTATUS behind the empty block; ~0u: the block itself */
        enum sim_fault_kind kind;
};

static void watch_farewell(void *userdata, struct usb_inproc_camera *camera, unsigned opening, const struct usb_setup *setup, bool told,
                           enum usb_result result, const uint8_t *data, size_t actual)
{
        const struct farewell *farewell = userdata;

        (void)opening;
        (void)result;
        (void)data;
        (void)actual;
        if (!told && setup->request_type == 0x21 && setup->request == DFU_DNLOAD && setup->length == 0)
                sim_camera_add_fault(usb_inproc_sim(camera), &(struct sim_fault){
                        .kind = farewell->kind, .request_type = farewell->skip == ~0u ? 0x21 : 0xa1,
                        .request = farewell->skip == ~0u ? DFU_DNLOAD : DFU_GETSTATUS, .skip = farewell->skip == ~0u ? 0 : farewell->skip,
                        .count = 1, .pattern = 0x55 });
}

/* All is read back equal, and what ends the download is not answered as it should be: that is no reason to leave. */
static void stays_though_the_end_was_not_answered(void **state)
{
        static const struct farewell farewells[] = {
                { ~0u, SIM_FAULT_STALL }, { ~0u, SIM_FAULT_NAK }, { 0, SIM_FAULT_STALL }, { 0, SIM_FAULT_GARBAGE }, { 1, SIM_FAULT_NAK },
                { 1, SIM_FAULT_SHORT },
        };

        for (size_t i = 0; i < ELEMENTSOF(farewells); i++)
                for (int how = 0; how < 3; how++) {
                        enum { STAYS, HALF, LEAVES };
                        struct farewell farewell = farewells[i];
                        struct lab *lab = *state;
                        struct lab_image *romfs, *firmware;
                        struct lab_camera *camera;

                        lab_free(lab);
                        *state = lab = lab_new();
                        camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
                        romfs = lab_firmware(lab, SIM_OPENMV4, "ROMFS0", "r", 3, 9000);
                        firmware = lab_release(lab, SIM_OPENMV4, "5.1.0");
                        lab_import(lab, romfs);
                        lab_import(lab, firmware);
                        lab_unplug(camera);
                        if (how == HALF)
                                lab_install(camera, half_of(lab, firmware));
                        usb_inproc_watch(lab->host, watch_farewell, &farewell);
                        assert_int_equal(write_one(camera, romfs, how == STAYS), REQUEST_QUEUED);
                        lab_plug(camera, PORT);
                        lab_expect_state(camera, how == LEAVES ? CAMERA_RUNNING : CAMERA_HELD, 120 * SEC);
                        usb_inproc_watch(lab->host, NULL, NULL);
                        lab_expect_update(camera, UPDATE_DONE, "done");
                        lab_expect_flash(camera, romfs);
                        assert_true(lab_logged(lab, "ignoring"));
                        assert_false(lab_logged(lab, "does not leave"));
                        assert_int_equal(lab_counters(camera).detach, how == LEAVES);
                        lab_run(lab, 60 * SEC);
                        assert_int_equal(sim_camera_mode(camera->sim), how == LEAVES ? SIM_RUNTIME : SIM_BOOTLOADER);
                }
}

/* A file system is emptied, and nothing else is done to it. */
static void no_file_system_is_written(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = running(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *image = lab_firmware(lab, SIM_OPENMV4, "FILESYSTEM", "f", 3, 9000);

        lab_import(lab, image);
        assert_int_equal(write_one(camera, image, false), REQUEST_REFUSE);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 15 * SEC);
        lab_expect_untouched(camera);
}

/* --- --- */

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
                STORY("/hold/at-a-replug-one-transfer-and-no-more", at_replug),
                STORY("/hold/every-bootloader", every_bootloader),
                STORY("/hold/out-of-running-firmware", out_of_running_firmware),
                STORY("/hold/deaf-firmware", deaf_firmware),
                STORY("/hold/in-its-window", in_its_window),
                STORY("/hold/absent", absent),
                STORY("/hold/released-while-it-restarts", released_while_it_restarts),
                STORY("/hold/one-that-just-stays", one_that_just_stays),
                STORY("/hold/timeout", timeout),
                STORY("/hold/timeout-in-use", timeout_in_use),
                STORY("/hold/the-tool-lets-it-go", the_tool_lets_it_go),
                STORY("/hold/unplugged", unplugged),
                STORY("/hold/daemon-killed", daemon_killed),
                STORY("/hold/update-is-open-already", update_is_open_already),
                STORY("/hold/update-while-held", update_while_held),
                STORY("/hold/update-while-released", update_while_released),
                STORY("/hold/before-a-recovery", before_a_recovery),
                STORY("/hold/incomplete-firmware", incomplete_firmware),
                STORY("/hold/incomplete-firmware-of-one-sent-there", incomplete_firmware_of_one_sent_there),
                STORY("/hold/written-and-booted-by-the-tool", written_and_booted_by_the_tool),
                STORY("/hold/somebodys-own-firmware", somebodys_own_firmware),
                STORY("/hold/claimed-by-another", claimed_by_another),
                STORY("/hold/not-to-be-opened", not_to_be_opened),
                STORY("/hold/inhibited", inhibited),
                STORY("/hold/inhibited-while-released", inhibited_while_released),
                STORY("/hold/unplugged-while-released", unplugged_while_released),
                STORY("/hold/not-held", not_held),
                STORY("/hold/comes-in-rom", comes_in_rom),
                STORY("/hold/released-at-once", released_at_once),
                STORY("/hold/neighbours", neighbours),
                STORY("/hold/read", read_while_held),
                STORY("/hold/not-read", not_read),
                STORY("/hold/what-ends-reading", what_ends_reading),
                STORY("/hold/daemon-stopped-before-it-was-looked-at", daemon_stopped_before_it_was_looked_at),
                STORY("/hold/stays-between-partitions", stays_between_partitions),
                STORY("/hold/stays-for-a-while", stays_for_a_while),
                STORY("/hold/stays-after-a-restart", stays_after_a_restart),
                STORY("/hold/what-a-tool-writes-after-an-update-is-not-known", what_a_tool_writes_after_an_update_is_not_known),
                STORY("/hold/stays-until-it-goes", stays_until_it_goes),
                STORY("/hold/does-not-leave-into-half-a-firmware", does_not_leave_into_half_a_firmware),
                STORY("/hold/does-not-leave-into-our-own-half", does_not_leave_into_our_own_half),
                STORY("/hold/stays-though-the-end-was-not-answered", stays_though_the_end_was_not_answered),
                STORY("/hold/no-file-system-is-written", no_file_system_is_written),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
