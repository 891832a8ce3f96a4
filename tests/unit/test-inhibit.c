/* SPDX-License-Identifier: MIT */
/*
 * Hands off: a person's inhibitor, the host's sleep, the daemon's end, in every
 * step of a session.  Whatever the step: nothing is torn, it is quiet in time and
 * stays so, the camera is in the mode in which it should be left, and what
 * waited goes on to its end.
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

#define PORT "3-1.2"
#define QUIET_MAX (5 * SEC)             /* of these boards; the longest erase unit and what is behind it */
#define QUIET_AT_ONCE (20 * MSEC)       /* where no erase unit is begun */
#define SLOW_DISK (40 * MSEC)           /* so that a commit and a reading from the store last */

/* --- a hand on the switch --- */

static void on_quiet(void *userdata)
{
        (*(unsigned *)userdata)++;
}

static struct inhibitor *inhibit(struct lab *lab, struct lab_camera *camera, const char *who, unsigned *quiet)
{
        struct inhibitor *inhibitor;

        assert_int_equal(registry_inhibit(lab->registry, camera ? lab_known(camera) : NULL, who, "flashing it by hand", INHIBIT_HOLD,
                                          quiet ? on_quiet : NULL, quiet, &inhibitor), 0);
        return inhibitor;
}

static bool is_told(void *userdata)
{
        return *(unsigned *)userdata > 0;
}

static void wait_quiet(struct lab *lab, const unsigned *quiet)
{
        if (!loop_run_until(lab->loop, is_told, (void *)quiet, QUIET_MAX))
                lab_fail(lab, "not quiet in time");
}

/* A camera whose own firmware is none that is known, and for which an update is asked: every step happens. */
static struct lab_camera *begin_update(struct lab *lab, enum sim_board board, struct lab_image **ret_old, struct lab_image **ret_new)
{
        struct lab_image *old = lab_firmware(lab, board, "FIRMWARE", "mine", 99, sim_image_default_size(board) - 1000);
        struct lab_image *new = lab_release(lab, board, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, board, 3);

        lab_import(lab, new);
        lab_install(camera, old);
        lab_plug_until_running(camera, PORT);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_reset_counters(camera);
        *ret_old = old;
        *ret_new = new;
        return camera;
}

struct moment {
        struct lab_camera *camera;
        enum session_step step;
        uint64_t bytes;
};

static bool is_at(void *userdata)
{
        const struct moment *moment = userdata;
        const struct camera *known = lab_known(moment->camera);

        return known && known->session && session_step(known->session) == moment->step &&
               lab_counters(moment->camera).download_bytes >= moment->bytes;
}

static void wait_step(struct lab_camera *camera, enum session_step step, uint64_t bytes)
{
        struct moment moment = { .camera = camera, .step = step, .bytes = bytes };

        if (!loop_run_until(camera->lab->loop, is_at, &moment, 120 * SEC))
                lab_fail(camera->lab, "never %s", session_step_to_string(step));
}

/* Each erase unit of the partition holds what the one image has there, or what the other has. */
static void expect_whole_units(struct lab_camera *camera, const struct lab_image *old, const struct lab_image *new)
{
        struct sim_unit_count units[64];
        size_t n = sim_camera_unit_counts(camera->sim, units, ELEMENTSOF(units));
        const struct sim_partition *partitions, *p = NULL;
        size_t n_partitions = sim_camera_partitions(camera->sim, &partitions);

        for (size_t i = 0; i < n_partitions; i++)
                if (strcmp(partitions[i].name, new->partition) == 0)
                        p = &partitions[i];
        assert_non_null(p);
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ uint8_t *unit = malloc(units[i].size);
                uint32_t at = units[i].address - p->start;
                bool is_old, is_new;

                assert_non_null(unit);
                if (at >= new->size)
                        lab_fail(camera->lab, "unit 0x%08x was touched, outside of the image", units[i].address);
                assert_int_equal(sim_camera_flash_read(camera->sim, units[i].external, units[i].address, unit, units[i].size), 0);
                is_new = memcmp(unit, new->data + at, MIN((size_t)units[i].size, new->size - at)) == 0;
                is_old = old && at < old->size && memcmp(unit, old->data + at, MIN((size_t)units[i].size, old->size - at)) == 0;
                if (!is_new && !is_old)
                        lab_fail(camera->lab, "unit 0x%08x is torn", units[i].address);
        }
}

/* --- every step, and each of the three who stop --- */

enum who { BY_PERSON, BY_SLEEP, BY_STOP };

static const char *const who_names[] = { [BY_PERSON] = "inhibited", [BY_SLEEP] = "asleep", [BY_STOP] = "stopped" };

static bool is_stopped(void *userdata)
{
        struct lab *lab = userdata;

        return registry_stop(lab->registry);
}

static struct inhibitor *stop_by(struct lab *lab, struct lab_camera *camera, enum who who)
{
        struct inhibitor *inhibitor = NULL;
        unsigned quiet = 0;

        if (who == BY_STOP) {
                if (!loop_run_until(lab->loop, is_stopped, lab, QUIET_MAX))
                        lab_fail(lab, "does not come to a boundary");
                return NULL;
        }
        inhibitor = inhibit(lab, who == BY_PERSON ? camera : NULL, "someone", &quiet);
        wait_quiet(lab, &quiet);
        lab_run(lab, 0);
        assert_int_equal(quiet, 1);
        return inhibitor;
}

static void go_on(struct lab *lab, struct lab_camera *camera, enum who who, struct inhibitor *inhibitor)
{
        if (who == BY_STOP)
                lab_restart(lab);
        else
                inhibitor_lift(inhibitor);
        lab_run(lab, 5 * SEC);
        /* What was not held, or was let go, runs, and its update waits for a replug as it did before. */
        if (lab_known(camera)->state == CAMERA_RUNNING && update_is_open(lab_update(camera)))
                lab_replug(camera);
        lab_expect_done(camera);
}

static void one_step(struct lab *lab, enum sim_board board, enum session_step step, uint64_t bytes, uint64_t later, enum who who)
{
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, board, &old, &new);
        struct inhibitor *inhibitor;
        struct sim_counters before;
        uint64_t begun;
        bool wrote, runs;

        loop_set_work_delay(lab->loop, SLOW_DISK);
        lab_replug(camera);
        wait_step(camera, step, bytes);
        lab_run(lab, later);
        begun = loop_now(lab->loop);
        inhibitor = stop_by(lab, camera, who);
        print_message("# %s in %s at +%u us: quiet after %u ms\n", who_names[who], session_step_to_string(step), (unsigned)later,
                      (unsigned)((loop_now(lab->loop) - begun) / MSEC));
        if (step != SESSION_WRITING && loop_now(lab->loop) - begun > QUIET_AT_ONCE)
                lab_fail(lab, "%s waits for something", session_step_to_string(step));
        assert_false(usb_inproc_is_open(camera->usb));
        expect_whole_units(camera, old, new);

        /* And stays quiet, in the mode in which it was to be left. */
        before = lab_counters(camera);
        lab_run(lab, 60 * SEC);
        assert_int_equal(lab_counters(camera).transfers, before.transfers);
        assert_int_equal(lab_counters(camera).erases, before.erases);
        wrote = before.programmed_bytes > 0;
        runs = sim_camera_mode(camera->sim) == SIM_RUNTIME;
        if (step == SESSION_LEAVING || before.first_upload_at_us == 0)
                assert_true(runs);                      /* told before; or never held */
        else if (who == BY_STOP && !wrote)
                assert_true(runs);                      /* whole: released */
        else
                assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);

        go_on(lab, camera, who, inhibitor);
        lab_expect_flash(camera, new);
        for (unsigned u = 0; u < 11; u++)
                assert_true(update_wear(lab_update(camera), "FIRMWARE", u) <= 1);
}

static void every_step_by(void **state, enum sim_board board, enum who who)
{
        static const struct { enum session_step step; uint64_t bytes, later; } moments[] = {
                { SESSION_OPENING, 0, 0 },
                { SESSION_PINNING, 0, 0 }, { SESSION_PINNING, 0, 300 },
                { SESSION_READING_LAYOUT, 0, 0 }, { SESSION_READING_LAYOUT, 0, 2 * MSEC }, { SESSION_READING_LAYOUT, 0, 20 * MSEC },
                { SESSION_COMPARING, 0, 0 }, { SESSION_COMPARING, 0, 777 }, { SESSION_COMPARING, 0, 50 * MSEC },
                { SESSION_SAVING, 0, 0 }, { SESSION_SAVING, 0, 300 * MSEC },
                { SESSION_COMMITTING, 0, 0 }, { SESSION_COMMITTING, 0, 1 * MSEC },
                { SESSION_WRITING, 0, 0 }, { SESSION_WRITING, 1, 0 }, { SESSION_WRITING, 100000, 333 }, { SESSION_WRITING, 393216, 0 },
                { SESSION_WRITING, 600000, 12345 },
                { SESSION_VERIFYING, 0, 0 }, { SESSION_VERIFYING, 0, 1234 }, { SESSION_VERIFYING, 0, 400 * MSEC },
                { SESSION_LEAVING, 0, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(moments); i++) {
                struct lab *lab = *state;

                lab_free(lab);
                *state = lab = lab_new();
                one_step(lab, board, moments[i].step, moments[i].bytes, moments[i].later, who);
        }
}

static void every_step_inhibited(void **state)
{
        every_step_by(state, SIM_OPENMV3, BY_PERSON);
}

static void every_step_asleep(void **state)
{
        every_step_by(state, SIM_OPENMV4, BY_SLEEP);
}

static void every_step_stopped(void **state)
{
        every_step_by(state, SIM_OPENMV3, BY_STOP);
}

/* In ROM DFU: stays there, between two units; then the bootloader is finished. */
static void rom_steps(void **state)
{
        static const struct { enum session_step step; uint64_t later; } moments[] = {
                { SESSION_OPENING, 0 }, { SESSION_PINNING, 0 }, { SESSION_COMPARING, 0 }, { SESSION_COMPARING, 5 * MSEC },
                { SESSION_COMMITTING, 0 }, { SESSION_WRITING, 0 }, { SESSION_WRITING, 100 * MSEC }, { SESSION_WRITING, 900 * MSEC },
                { SESSION_VERIFYING, 0 }, { SESSION_VERIFYING, 3 * MSEC },
        };

        for (size_t i = 0; i < ELEMENTSOF(moments); i++)
                for (enum who who = BY_PERSON; who <= BY_STOP; who++) {
                        struct lab *lab = *state;
                        struct lab_image *firmware, *bootloader;
                        struct inhibitor *inhibitor;
                        struct lab_camera *camera;
                        uint8_t blank[0x8000];

                        lab_free(lab);
                        *state = lab = lab_new();
                        firmware = lab_release(lab, SIM_OPENMV3, "5.0.0");
                        bootloader = lab_bootloader(lab, SIM_OPENMV3, SIM_BL_1_0_3, "5.0.0");
                        lab_import(lab, firmware);
                        lab_import(lab, bootloader);
                        camera = lab_camera_new(lab, SIM_OPENMV3, 7);
                        lab_install(camera, firmware);
                        lab_plug_until_running(camera, PORT);
                        lab_unplug(camera);
                        memset(blank, 0xff, sizeof(blank));
                        assert_int_equal(sim_camera_partition_poke(camera->sim, "BOOTLOADER", 0, blank, sizeof(blank)), 0);
                        lab_reset_counters(camera);
                        loop_set_work_delay(lab->loop, SLOW_DISK);
                        lab_jumper(camera, true);
                        lab_plug(camera, PORT);
                        wait_step(camera, moments[i].step, 0);
                        lab_run(lab, moments[i].later);

                        inhibitor = stop_by(lab, camera, who);
                        assert_false(usb_inproc_is_open(camera->usb));
                        expect_whole_units(camera, NULL, bootloader);
                        assert_int_equal(sim_camera_mode(camera->sim), SIM_ROM_DFU);
                        if (who == BY_STOP)
                                lab_restart(lab);
                        else
                                inhibitor_lift(inhibitor);
                        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
                        lab_expect_flash(camera, bootloader);
                        lab_jumper(camera, false);
                        lab_replug(camera);
                        lab_expect_state(camera, CAMERA_RUNNING, 60 * SEC);
                        lab_expect_flash(camera, firmware);
                }
}

/* --- hands off --- */

static void nothing_is_opened(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &old, &new);
        struct inhibitor *one, *two;
        struct diagnosis diagnosis;
        unsigned quiet = 0;

        one = inhibit(lab, camera, "OpenMV IDE", &quiet);
        lab_run(lab, 0);
        assert_int_equal(quiet, 1);
        assert_true(camera_is_inhibited(lab_known(camera)));
        lab_expect_diagnosis(camera, DIAGNOSIS_INHIBITED);      /* an update waits for it */
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_INHIBITED, 5 * SEC);
        diagnosis = camera_diagnosis(lab_known(camera));
        assert_non_null(strstr(diagnosis.text, "OpenMV IDE"));
        assert_non_null(strstr(diagnosis.text, "flashing it by hand"));
        lab_expect_state(camera, CAMERA_RUNNING, 10 * SEC);
        lab_expect_untouched(camera);
        assert_true(update_is_open(lab_update(camera)));

        /* Two hold; one lets go. */
        two = inhibit(lab, NULL, "lab script", NULL);
        inhibitor_lift(one);
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_INHIBITED, 5 * SEC);
        lab_run(lab, 300 * MSEC);
        lab_expect_untouched(camera);
        /* Lifted within its window: opened at once. */
        inhibitor_lift(two);
        assert_int_equal(lab_known(camera)->state, CAMERA_OPENING);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
        assert_int_equal(quiet, 1);
}

static void only_the_camera_meant(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &old, &new), *other = lab_camera_new(lab, SIM_OPENMV3, 9);
        struct inhibitor *inhibitor;

        lab_install(other, old);
        lab_plug_until_running(other, "3-1.3");
        inhibitor = inhibit(lab, other, "IDE", NULL);
        assert_false(camera_is_inhibited(lab_known(camera)));
        assert_int_equal(lab_ask_update(other, NULL), REQUEST_QUEUED);
        lab_reset_counters(other);
        lab_replug(other);
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_state(other, CAMERA_RUNNING, 10 * SEC);
        lab_expect_untouched(other);
        inhibitor_lift(inhibitor);
        lab_replug(other);
        lab_expect_done(other);
}

/* Whoever lets go before we had: it goes on, in each step, and no hand is needed. */
static void lifted_before_it_was_quiet(void **state)
{
        for (int step = SESSION_OPENING; step < SESSION_ENDED; step++) {
                struct lab *lab = *state;
                struct lab_image *old, *new;
                struct lab_camera *camera;
                unsigned quiet = 0;

                lab_free(lab);
                *state = lab = lab_new();
                camera = begin_update(lab, SIM_OPENMV3, &old, &new);
                loop_set_work_delay(lab->loop, SLOW_DISK);
                lab_replug(camera);
                wait_step(camera, (enum session_step)step, 0);
                inhibitor_lift(inhibit(lab, camera, "IDE", &quiet));
                lab_expect_done(camera);
                lab_expect_flash(camera, new);
                assert_int_equal(quiet, 0);
        }
}

/* The IDE's flow: our half-done write is finished by somebody else, with his own firmware. */
static void somebody_else_flashes(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new, *theirs = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "ide", 5, 1000000);
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &old, &new);
        struct inhibitor *inhibitor;
        unsigned quiet = 0;

        lab_replug(camera);
        lab_wait_writing(camera, 300000, 60 * SEC);
        inhibitor = inhibit(lab, camera, "IDE", &quiet);
        wait_quiet(lab, &quiet);
        lab_expect_state(camera, CAMERA_INHIBITED, 0);
        /* They can claim it this moment. */
        assert_int_equal(usb_inproc_claim(camera->usb, 0, true), 0);
        lab_run(lab, 30 * SEC);
        lab_install(camera, theirs);
        usb_inproc_port_reset(camera->usb);
        lab_expect_state(camera, CAMERA_RUNNING, 10 * SEC);
        lab_reset_counters(camera);
        inhibitor_lift(inhibitor);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(camera);
        lab_expect_flash(camera, theirs);
        /* The wish was a person's: it waits, and says for what. */
        lab_expect_diagnosis(camera, DIAGNOSIS_WAITING_FOR_REPLUG);
}

/* What others have written while its bootloader was theirs is not known here, and what stood there before is known to be it no more. */
static void others_have_it(void **state)
{
        static const struct {
                bool inhibited;
                bool asked;             /* for an update, which waits meanwhile */
                enum camera_state state;
                uint64_t time;
        } cases[] = {
                { false, false, CAMERA_PASSING, 6 * SEC },
                { false, false, CAMERA_STAYING, 0 },
                { true, false, CAMERA_PASSING, 6 * SEC },
                { true, true, CAMERA_INHIBITED, 6 * SEC },
                { false, true, CAMERA_BLOCKED, 3 * SEC },
                { false, true, CAMERA_FAILED, 20 * SEC },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct lab_image *old, *new, *theirs;
                struct inhibitor *inhibitor = NULL;
                struct lab_camera *camera;
                struct lab *lab = *state;

                lab_free(lab);
                *state = lab = lab_new();
                theirs = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "ide", 5, 1000000);
                camera = begin_update(lab, SIM_OPENMV3, &old, &new);
                lab_import(lab, lab_release(lab, SIM_OPENMV3, "4.8.1"));
                lab_replug(camera);
                lab_expect_done(camera);
                if (cases[i].inhibited)
                        inhibitor = inhibit(lab, camera, "IDE", NULL);

                /* Plugged in again it is there as long as by itself. */
                lab_replug(camera);
                lab_expect_state(camera, CAMERA_RUNNING, 10 * SEC);
                assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_CURRENT);

                if (cases[i].asked)
                        assert_int_not_equal(lab_ask_update(camera, "4.8.1"), REQUEST_CURRENT);
                if (cases[i].state == CAMERA_BLOCKED)
                        usb_inproc_fail_open(camera->usb, -EBUSY, 1000);
                if (cases[i].state == CAMERA_FAILED)
                        usb_inproc_fail_open(camera->usb, -EIO, 1000);
                sim_camera_reset(camera->sim, /* forced= */ true);
                lab_expect_state(camera, cases[i].state, 20 * SEC);
                lab_run(lab, cases[i].time);
                assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
                lab_install(camera, theirs);
                usb_inproc_port_reset(camera->usb);
                lab_expect_state(camera, CAMERA_RUNNING, 10 * SEC);
                if (cases[i].asked)
                        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
                inhibitor_lift(inhibitor);
                lab_run(lab, 60 * SEC);
                lab_expect_flash(camera, theirs);
                assert_int_equal(lab_ask_update(camera, "5.0.0"), REQUEST_QUEUED);
        }
}

static void held_and_cancelled(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &old, &new);
        struct inhibitor *inhibitor;
        unsigned quiet = 0;

        /* Held for a look, and then nobody wants it any more: a whole one is not kept from running. */
        lab_replug(camera);
        wait_step(camera, SESSION_COMPARING, 0);
        inhibitor = inhibit(lab, camera, "IDE", &quiet);
        wait_quiet(lab, &quiet);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_run(lab, 60 * SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        inhibitor_lift(inhibitor);
        lab_expect_state(camera, CAMERA_RUNNING, 30 * SEC);
        lab_expect_only_read(camera);
        lab_expect_update(camera, UPDATE_CANCELLED, "cancelled");
}

static void asked_while_inhibited(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0"), *old = lab_release(lab, SIM_OPENMV3, "4.8.1");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 3);
        struct inhibitor *inhibitor;

        lab_import(lab, release);
        lab_import(lab, old);
        lab_install(camera, old);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
        inhibitor = inhibit(lab, camera, "IDE", NULL);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        assert_true(lab_logged(lab, "held back by IDE: begins when that lets go"));
        lab_expect_state(camera, CAMERA_INHIBITED, 0);
        lab_expect_untouched(camera);
        lab_run(lab, 200 * MSEC);
        inhibitor_lift(inhibitor);
        lab_expect_done(camera);
        lab_expect_flash(camera, release);
}

static void blocked_and_inhibited(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &old, &new);
        struct inhibitor *inhibitor;
        unsigned quiet = 0;

        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        lab_plug(camera, PORT);
        usb_inproc_fail_open(camera->usb, -EBUSY, 100);
        lab_expect_state(camera, CAMERA_BLOCKED, 5 * SEC);
        inhibitor = inhibit(lab, camera, "dfu-util", &quiet);
        wait_quiet(lab, &quiet);
        lab_expect_state(camera, CAMERA_INHIBITED, 0);
        usb_inproc_fail_open(camera->usb, 0, 0);
        inhibitor_lift(inhibitor);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

/* --- what left meanwhile tells nothing --- */

static void no_suspicion(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 3);

        lab_import(lab, release);
        lab_install(camera, release);
        lab_plug_until_running(camera, PORT);
        for (int i = 0; i < 4; i++) {
                struct inhibitor *inhibitor = NULL;

                lab_unplug(camera);
                lab_reset_counters(camera);
                if (i == 0)             /* all the time */
                        inhibitor = inhibit(lab, camera, "IDE", NULL);
                lab_plug(camera, PORT);
                lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
                if (i == 1)             /* while its bootloader shows, and lifted before it leaves */
                        inhibitor_lift(inhibit(lab, camera, "IDE", NULL));
                if (i == 2)             /* the host slept */
                        inhibitor = inhibit(lab, NULL, "the host", NULL);
                lab_unplug(camera);
                if (i == 3) {           /* while a running camera was awaited */
                        lab_expect_state(camera, CAMERA_BOOTING, SEC);
                        inhibitor = inhibit(lab, camera, "IDE", NULL);
                } else
                        lab_expect_state(camera, CAMERA_ABSENT, 0);
                lab_run(lab, 5 * SEC);
                inhibitor_lift(inhibitor);
                lab_run(lab, 30 * SEC);
                lab_expect_state(camera, CAMERA_ABSENT, SEC);
                assert_false(lab_known(camera)->record.suspect);
                lab_expect_untouched(camera);
                lab_plug_until_running(camera, PORT);
                lab_expect_untouched(camera);
        }
        /* And without all that it is one. */
        lab_unplug(camera);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_PASSING, 5 * SEC);
        lab_unplug(camera);
        lab_expect_state(camera, CAMERA_SILENT, 15 * SEC);
}

/* A resume resets the bus, and any reset makes the bootloader jump (dfu.md A.3): here into half a firmware. */
static void resume_resets_the_bus(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &old, &new);
        struct inhibitor *inhibitor;
        unsigned quiet = 0;

        lab_replug(camera);
        lab_wait_writing(camera, 300000, 60 * SEC);
        inhibitor = inhibit(lab, NULL, "the host", &quiet);
        wait_quiet(lab, &quiet);
        usb_inproc_port_reset(camera->usb);
        inhibitor_lift(inhibitor);
        lab_expect_state(camera, CAMERA_WAITING, 10 * SEC);
        lab_run(lab, 60 * SEC);
        lab_expect_state(camera, CAMERA_WAITING, 0);
        lab_expect_diagnosis(camera, DIAGNOSIS_AWAITED);
        assert_true(update_is_open(lab_update(camera)));
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

/* A camera that was told to leave just before the host slept comes after the resume: it has its ten seconds then. */
static void confirmed_after_a_sleep(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &old, &new);
        struct inhibitor *inhibitor;

        lab_replug(camera);
        lab_expect_state(camera, CAMERA_CONFIRMING, 120 * SEC);
        lab_unplug(camera);
        inhibitor = inhibit(lab, NULL, "the host", NULL);
        lab_run(lab, 9 * SEC);
        inhibitor_lift(inhibitor);
        lab_run(lab, 9 * SEC);
        lab_expect_state(camera, CAMERA_CONFIRMING, 0);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
}

/* --- devices without identity --- */

static void a_port_is_inhibited(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader = lab_bootloader(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_image *firmware = lab_release(lab, SIM_OPENMV4, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 4);
        struct inhibitor *inhibitor;

        lab_import(lab, bootloader);
        lab_import(lab, firmware);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 10 * SEC);
        inhibitor = inhibit(lab, camera, "IDE", NULL);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_QUEUED);
        lab_expect_state(camera, CAMERA_INHIBITED, 0);
        lab_expect_untouched(camera);
        /* His own tool restores it; what comes to that port next, under another name, is his as well. */
        lab_install(camera, bootloader);
        lab_jumper(camera, false);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_PASSING, 10 * SEC);
        assert_true(camera_is_inhibited(lab_known(camera)));
        lab_run(lab, 30 * SEC);
        lab_expect_untouched(camera);
        assert_false(lab_known(camera)->record.suspect);
        lab_unplug(camera);
        assert_false(camera_is_inhibited(lab_known(camera)));   /* it is not on that port any more */
        inhibitor_lift(inhibitor);
}

/* Its word is kept over the inhibitor: it did not leave. */
static void the_word_is_kept(void **state)
{
        struct lab *lab = *state;
        struct lab_image *bootloader = lab_bootloader(lab, SIM_OPENMV4, SIM_BL_1_0_3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV4, 4);
        struct inhibitor *inhibitor;
        uint8_t blank[0x20000];

        memset(blank, 0xff, sizeof(blank));
        lab_import(lab, bootloader);
        assert_int_equal(sim_camera_partition_poke(camera->sim, "BOOTLOADER", 0, blank, sizeof(blank)), 0);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UNPROVEN, 10 * SEC);
        inhibitor = inhibit(lab, NULL, "IDE", NULL);
        assert_int_equal(lab_ask_recover(camera, "H7", false), REQUEST_QUEUED);
        lab_run(lab, 60 * SEC);
        lab_expect_untouched(camera);
        inhibitor_lift(inhibitor);
        lab_expect_state(camera, CAMERA_JUMPER, 60 * SEC);
        lab_expect_flash(camera, bootloader);
}

/* Row 3: a missing camera on which somebody else works is no reason to look into a chip that may be it. */
static void missing_and_inhibited(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV4, &old, &new);
        struct inhibitor *inhibitor = inhibit(lab, camera, "IDE", NULL);

        lab_unplug(camera);
        lab_expect_state(camera, CAMERA_WAITING, SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_INHIBITED);
        lab_reset_counters(camera);
        lab_jumper(camera, true);
        lab_plug(camera, PORT);
        lab_run(lab, 30 * SEC);
        lab_expect_untouched(camera);
        inhibitor_lift(inhibitor);
}

/* --- the end --- */

static void stopped_for_good(void **state)
{
        struct lab *lab = *state;
        struct lab_image *old, *new;
        struct lab_camera *camera = begin_update(lab, SIM_OPENMV3, &old, &new);

        assert_true(registry_stop(lab->registry));
        lab_replug(camera);
        lab_expect_state(camera, CAMERA_RUNNING, 20 * SEC);
        lab_expect_untouched(camera);
        assert_true(registry_stop(lab->registry));
        lab_restart(lab);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        lab_replug(camera);
        lab_expect_done(camera);
}

/* A suspicion is no proof of the contrary either: what may be garbage is not let go unread. */
static void stopped_in_doubt(void **state)
{
        struct lab *lab = *state;
        struct lab_image *release = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 3);

        lab_import(lab, release);
        lab_plug(camera, PORT);         /* blank */
        lab_expect_state(camera, CAMERA_SILENT, 20 * SEC);
        lab_replug(camera);
        wait_step(camera, SESSION_COMPARING, 0);
        assert_true(loop_run_until(lab->loop, is_stopped, lab, QUIET_MAX));
        lab_run(lab, 60 * SEC);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);
        lab_restart(lab);
        lab_expect_done(camera);
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

#define CASE(name, function) { (name), (function), setup, teardown, NULL }

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                CASE("/inhibit/every-step/by-a-person", every_step_inhibited),
                CASE("/inhibit/every-step/by-the-hosts-sleep", every_step_asleep),
                CASE("/inhibit/every-step/by-the-daemons-end", every_step_stopped),
                CASE("/inhibit/every-step/in-rom", rom_steps),
                CASE("/inhibit/nothing-is-opened", nothing_is_opened),
                CASE("/inhibit/only-the-camera-meant", only_the_camera_meant),
                CASE("/inhibit/lifted-before-it-was-quiet", lifted_before_it_was_quiet),
                CASE("/inhibit/somebody-else-flashes", somebody_else_flashes),
                CASE("/inhibit/others-have-it", others_have_it),
                CASE("/inhibit/held-and-cancelled-is-let-go-when-whole", held_and_cancelled),
                CASE("/inhibit/asked-meanwhile", asked_while_inhibited),
                CASE("/inhibit/blocked-by-a-claim", blocked_and_inhibited),
                CASE("/inhibit/what-left-meanwhile-tells-nothing", no_suspicion),
                CASE("/inhibit/sleep/a-resume-resets-the-bus", resume_resets_the_bus),
                CASE("/inhibit/sleep/confirmed-after-it", confirmed_after_a_sleep),
                CASE("/inhibit/no-identity/a-port", a_port_is_inhibited),
                CASE("/inhibit/no-identity/the-word-is-kept", the_word_is_kept),
                CASE("/inhibit/no-identity/a-missing-camera", missing_and_inhibited),
                CASE("/inhibit/stop/opens-nothing", stopped_for_good),
                CASE("/inhibit/stop/in-doubt-it-stays-held", stopped_in_doubt),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
