/* SPDX-License-Identifier: MIT */
/*
 * How long a wish lives: tried again, given up with a name, tried once more,
 * forgotten.  Told at the core with simulated cameras in virtual time.
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
#include "core/retry.h"
#include "unit/lab.h"
#include "unit/loop-virtual.h"

#define PORT "3-1.2"
#define FOR_EVER 1000000u

/* An M7 that runs 4.8.1, and a person who wants 5.0.0 on it. */
static struct lab_camera *wanted_camera(struct lab *lab, struct lab_image **ret_new)
{
        struct lab_image *old = lab_release(lab, SIM_OPENMV3, "4.8.1"), *new = lab_release(lab, SIM_OPENMV3, "5.0.0");
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_import(lab, old);
        lab_import(lab, new);
        lab_install(camera, old);
        lab_plug_until_running(camera, PORT);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        *ret_new = new;
        return camera;
}

static void expect_message(struct lab_camera *camera, const char *part)
{
        const char *message = lab_update(camera)->record.message;

        if (!strstr(message, part))
                lab_fail(camera->lab, "\"%s\" is not part of \"%s\"", part, message);
}

static struct request_result retry(struct lab_camera *camera)
{
        struct request_result result;

        registry_retry(camera->lab->registry, lab_known(camera), &result);
        return result;
}

static struct update_units *units_of(struct lab_camera *camera, const char *partition)
{
        struct update *update = lab_update(camera);

        for (size_t i = 0; i < update->n_parts; i++)
                if (strcmp(update->parts[i].partition, partition) == 0)
                        return &update->parts[i];
        return NULL;
}

static size_t proven(struct lab_camera *camera)
{
        const struct update_units *units = units_of(camera, "FIRMWARE");
        size_t n = 0;

        for (size_t u = 0; units && u < units->n; u++)
                n += units->units[u].proven;
        return n;
}

/* --- given up --- */

static void given_up_says_why(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);

        sim_camera_fail_flash(camera->sim, false, 0x08080000, /* silently= */ false, 3);
        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_FAILED, 60 * SEC);
        lab_run(lab, 600 * SEC);
        lab_expect_update(camera, UPDATE_FAILED, "write-refused");
        expect_message(camera, "gave up after 3 attempts at writing FIRMWARE because its flash could not be written (errWRITE)");
        expect_message(camera, "camrescue retry");
        lab_expect_diagnosis(camera, DIAGNOSIS_FAILED);
        assert_non_null(strstr(camera_diagnosis(lab_known(camera)).advice, "camrescue retry"));
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);

        /* A person reads it, and wants it tried once more: the flash takes it now. */
        assert_int_equal(retry(camera).action, REQUEST_UPDATE);
        assert_string_equal(lab_update(camera)->record.id, "u2");
        assert_string_equal(lab_update(camera)->record.version, "5.0.0");
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

/* Nothing is erased, so nothing wears; and still it is not tried for ever, whoever pulls the cable or stops the daemon in between. */
static void a_link_that_never_works_is_given_up(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        unsigned plugs = 0;

        for (; update_is_open(lab_update(camera)) && plugs < 100; plugs++) {
                /* It can be held, and read no further. */
                sim_camera_clear_faults(camera->sim);
                sim_camera_add_fault(camera->sim, &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = 0xa1, .request = 2,
                                                                       .skip = 1 });
                lab_replug(camera);
                lab_run(lab, 60 * SEC);
                if (plugs % 3 == 1) {
                        lab_unplug(camera);
                        lab_run(lab, 2 * SEC);
                        lab_restart(lab);
                }
        }
        lab_expect_update(camera, UPDATE_FAILED, "timeout");
        assert_int_equal(lab_update(camera)->record.failures, RETRY_STUCK_MAX);
        expect_message(camera, "gave up after 30 attempts at");
        expect_message(camera, "did not answer a request in time");
        assert_in_range(plugs, 10, 11);
        assert_int_equal(lab_counters(camera).erases, 0);
}

/* Pulled after each unit that was written: that is slow, and goes on all the same. */
static void who_goes_on_is_not_given_up(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        unsigned pulls = 0;

        lab_plug(camera, PORT);
        for (; pulls < 5; pulls++) {
                lab_wait_writing(camera, 0x40000 + 8192, 60 * SEC);
                assert_in_range(lab_update(camera)->record.failures, 0, 2);
                lab_unplug(camera);
                lab_run(lab, 2 * SEC);
                if (pulls == 2)
                        lab_restart(lab);
                lab_plug(camera, PORT);
        }
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
        assert_true(lab_update(camera)->record.attempts > pulls);
}

/* --- what is known of units --- */

static void what_is_proven_is_remembered(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        size_t n;

        lab_plug(camera, PORT);
        lab_wait_writing(camera, 800000, 60 * SEC);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        /* Sent is not proven. */
        assert_int_equal(proven(camera), 0);
        lab_plug(camera, PORT);
        lab_wait_writing(camera, 8192, 60 * SEC);
        n = proven(camera);
        assert_in_range(n, 3, 4);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        lab_restart(lab);
        assert_int_equal(proven(camera), n);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        assert_int_equal(proven(camera), 6);
}

/* Given up, the daemon restarted, wanted again: the erases of before count on. */
static void erases_outlive_update_and_daemon(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);

        for (unsigned n = 0; n < 3; n++) {
                lab_plug(camera, PORT);
                lab_wait_writing(camera, 8192, 60 * SEC);
                lab_unplug(camera);
                lab_run(lab, 2 * SEC);
        }
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        assert_int_equal(update_wear(lab_update(camera), "FIRMWARE", 0), 3);
        lab_restart(lab);
        assert_true(update_is_begun(lab_update(camera)));
        assert_int_equal(update_wear(lab_update(camera), "FIRMWARE", 0), 3);

        /* Unattended, at the next plug-in, all of them; it is the same camera in the same trouble. */
        lab_plug(camera, PORT);
        lab_wait_writing(camera, 4096, 60 * SEC);
        assert_string_equal(lab_update(camera)->record.wish, "unattended");
        assert_int_equal(update_wear(lab_update(camera), "FIRMWARE", 0), 4);
        lab_expect_done(camera);
}

/* --- once more --- */

static void what_can_be_retried(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        struct request_result result = retry(camera);

        assert_int_equal(result.action, REQUEST_REFUSE);
        assert_non_null(strstr(result.text, "is open"));

        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        result = retry(camera);
        assert_int_equal(result.action, REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);

        result = retry(camera);
        assert_int_equal(result.action, REQUEST_REFUSE);
        assert_non_null(strstr(result.text, "was done"));
}

static void images_that_are_gone_cannot_be_written(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        struct request_result result;

        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        assert_int_equal(store_remove_firmware(lab->store, &new->digest), 0);
        result = retry(camera);
        assert_int_equal(result.action, REQUEST_REFUSE);
        assert_non_null(strstr(result.text, "not in the store any more"));
        assert_string_equal(lab_update(camera)->record.id, "u1");
}

static void a_camera_without_an_update(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);

        lab_install(camera, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        lab_plug_until_running(camera, PORT);
        assert_int_equal(retry(camera).action, REQUEST_REFUSE);
}

static void a_restore_is_retried_as_a_restore(void **state)
{
        struct lab *lab = *state;
        struct lab_image *mine = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 99, 1000001), *new;
        struct lab_camera *camera = wanted_camera(lab, &new);

        lab_install(camera, mine);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        assert_int_equal(lab_request(camera, &(struct request){ .wish = WISH_RESTORE }), REQUEST_QUEUED);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        assert_int_equal(retry(camera).action, REQUEST_QUEUED);
        assert_string_equal(lab_update(camera)->record.wish, "restore");
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_flash(camera, mine);
}

/* --- forgotten --- */

static void who_is_here_or_awaited_is_not_forgotten(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);

        assert_int_equal(registry_forget(lab->registry, lab_known(camera), false), -EALREADY);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        assert_int_equal(registry_forget(lab->registry, lab_known(camera), false), -EBUSY);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        assert_int_equal(registry_forget(lab->registry, lab_known(camera), false), 0);
        assert_null(lab_known(camera));
        lab_restart(lab);
        assert_null(lab_known(camera));

        /* Who comes back is new. */
        lab_plug_until_running(camera, PORT);
        assert_null(lab_known(camera)->update);
}

static void what_was_saved_is_deleted_only_when_that_was_said(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        char key[CAMERA_KEY_MAX];

        lab_install(camera, lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", "mine", 99, 1000001));
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        snprintf(key, sizeof(key), "%s", lab_known(camera)->record.key);
        assert_non_null(store_saved(lab->store, key, NULL));
        assert_int_equal(registry_forget(lab->registry, lab_known(camera), false), -ENOTEMPTY);
        assert_non_null(lab_known(camera));
        assert_int_equal(registry_forget(lab->registry, lab_known(camera), true), 0);
        assert_null(store_saved(lab->store, key, NULL));
}

/* --- another wish while the end of one is awaited --- */

/* It was cancelled when all of it was verified and its camera told to leave, and something else was asked for: that the camera runs, or is
 * not seen, says nothing of that. */
static void only_what_was_verified_is_done(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);

        for (unsigned comes_back = 0; comes_back < 2; comes_back++) {
                const char *other = comes_back ? "5.0.0" : "4.8.1";

                lab_plug(camera, PORT);
                lab_expect_state(camera, CAMERA_CONFIRMING, 60 * SEC);
                assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
                assert_int_not_equal(lab_ask_update(camera, other), REQUEST_REFUSE);
                if (!comes_back)
                        lab_unplug(camera);
                lab_run(lab, 20 * SEC);
                lab_expect_state(camera, comes_back ? CAMERA_RUNNING : CAMERA_WAITING, SEC);
                assert_true(update_is_open(lab_update(camera)));
        }
        lab_replug(camera);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

/* --- a state directory that takes nothing --- */

/* What cannot be remembered is not begun; a camera that is whole is let run, one that is not is held, and it goes on by itself. */
static void nothing_is_begun_that_cannot_be_remembered(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);

        lab_plug(camera, PORT);
        lab_wait_writing(camera, 300000, 60 * SEC);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        lab_reset_counters(camera);

        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_EXAMINING, 10 * SEC);
        loop_fail_work(lab->loop, -ENOSPC, FOR_EVER);
        lab_expect_state(camera, CAMERA_FAILED, 60 * SEC);
        lab_expect_diagnosis(camera, DIAGNOSIS_STATE_DIRECTORY);
        lab_run(lab, 900 * SEC);
        lab_expect_state(camera, CAMERA_FAILED, 70 * SEC);
        assert_true(update_is_open(lab_update(camera)));
        assert_int_equal(lab_counters(camera).erases, 0);
        assert_int_equal(sim_camera_mode(camera->sim), SIM_BOOTLOADER);

        loop_fail_work(lab->loop, 0, 0);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

/* One that could not be kept in its time, and was written down later as ended, does not hide the half-done work of the one that went on in its place. */
static void what_was_half_done_is_the_last(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        struct update_record later = lab_update(camera)->record;
        char id[sizeof(later.id)];

        lab_plug(camera, PORT);
        lab_expect_state(camera, CAMERA_UPDATING, 20 * SEC);
        lab_run(lab, 2 * SEC);
        lab_unplug(camera);
        lab_run(lab, SEC);
        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        assert_true(lab_update(camera)->record.begun);
        snprintf(id, sizeof(id), "%s", lab_update(camera)->record.id);
        snprintf(later.id, sizeof(later.id), "u77");
        snprintf(later.state, sizeof(later.state), "cancelled");
        assert_int_equal(journal_put_update(lab_update(camera)->journal, &later), 0);
        lab_restart(lab);
        assert_string_equal(lab_update(camera)->record.id, id);
}

/* Who is refused has the disk asked: after it was mended only the first is told wrong, and nobody waits for it to be asked by itself. */
static void who_asks_again_is_not_refused(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);

        assert_int_equal(registry_cancel(lab->registry, lab_update(camera)), 0);
        lab_run(lab, SEC);
        loop_fail_work(lab->loop, -ENOSPC, FOR_EVER);
        assert_int_equal(registry_set_label(lab->registry, lab_known(camera), "bench"), 0);
        lab_run(lab, 600 * SEC);
        for (unsigned turn = 0; turn < 2; turn++) {
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_REFUSE);
                lab_run(lab, 1);
        }
        loop_fail_work(lab->loop, 0, 0);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_REFUSE);
        lab_run(lab, 1);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        lab_expect_flash(camera, new);
}

/* The disk was slow, and then full: that a wish could not be remembered, which was to take the place of another, is known so long after
 * its camera came.  (Nothing had to be written for it, so it did not wait for the disk.)  pulled: when
 * it is told to leave, and so it is not seen running. */
static enum update_result known_after(struct lab *lab, uint64_t after, bool pulled)
{
        struct lab_image *wanted_first;
        struct lab_camera *camera = wanted_camera(lab, &wanted_first);
        struct update *first = lab_update(camera), *second;
        uint64_t end;

        /* Something else is under way to the disk. */
        loop_set_work_delay(lab->loop, after + SEC);
        assert_int_equal(registry_set_label(lab->registry, lab_known(camera), "bench"), 0);
        assert_int_equal(journal_sync(lab->journal, NULL, NULL), 0);
        lab_run(lab, SEC);
        loop_set_work_delay(lab->loop, 0);
        assert_int_equal(lab_ask_update(camera, "4.8.1"), REQUEST_QUEUED);
        second = lab_update(camera);
        lab_plug(camera, PORT);
        end = loop_now(lab->loop) + after;
        if (pulled) {
                lab_expect_state(camera, CAMERA_CONFIRMING, 5 * SEC);
                lab_unplug(camera);
        }
        lab_run(lab, end - loop_now(lab->loop) - 1);
        assert_true(second->being_kept && update_is_open(first));
        loop_fail_work(lab->loop, -ENOSPC, 1);
        lab_run(lab, 1);
        assert_false(second->being_kept);
        loop_fail_work(lab->loop, 0, 0);

        lab_run(lab, 100 * SEC);
        if (pulled)
                lab_plug(camera, PORT);
        else
                lab_replug(camera);
        lab_run(lab, 100 * SEC);
        lab_expect_state(camera, CAMERA_RUNNING, SEC);
        if (second->result == (pulled ? UPDATE_NOT_SEEN : UPDATE_DONE)) {
                assert_string_equal(first->record.outcome, "superseded");
                assert_ptr_equal(lab_update(camera), second);
                assert_false(lab_stands_there(camera, wanted_first));
        } else {
                assert_int_equal(second->result, UPDATE_CANCELLED);
                assert_int_equal(first->result, UPDATE_DONE);
                assert_ptr_equal(lab_update(camera), first);
                lab_expect_flash(camera, wanted_first);
        }
        return second->result;
}

static bool is_leaving(void *userdata)
{
        const struct camera *camera = lab_known(userdata);

        return camera && camera->session && session_step(camera->session) == SESSION_LEAVING;
}

/* How long after it came it is told to leave. */
static uint64_t leaves_after(struct lab *lab)
{
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        uint64_t begun;

        assert_int_equal(lab_ask_update(camera, "4.8.1"), REQUEST_QUEUED);
        lab_plug(camera, PORT);
        begun = loop_now(lab->loop);
        assert_true(loop_run_until(lab->loop, is_leaving, camera, 10 * SEC));
        return loop_now(lab->loop) - begun;
}

static struct lab *another_lab(void **state)
{
        lab_free(*state);
        *state = lab_new();
        return *state;
}

/* Either it came to nothing, and what was wanted before is done; or it is done, or not seen, and what was wanted before is not. */
static void what_was_to_be_superseded_is_nobodys_at_no_moment(void **state)
{
        uint64_t leaves = leaves_after(*state);

        for (uint64_t after = 200 * MSEC; after < leaves; after += 200 * MSEC)
                assert_int_equal(known_after(another_lab(state), after, /* pulled= */ false), UPDATE_CANCELLED);
        /* Too late to be stopped. */
        assert_int_equal(known_after(another_lab(state), leaves + 100, /* pulled= */ false), UPDATE_DONE);
        /* Its firmware is awaited. */
        assert_int_equal(known_after(another_lab(state), leaves + 100 * MSEC, /* pulled= */ false), UPDATE_CANCELLED);
        assert_int_equal(known_after(another_lab(state), leaves + 9 * SEC, /* pulled= */ true), UPDATE_CANCELLED);
        /* That has come, or has not. */
        assert_int_equal(known_after(another_lab(state), leaves + 5 * SEC, /* pulled= */ false), UPDATE_DONE);
        assert_int_equal(known_after(another_lab(state), leaves + 12 * SEC, /* pulled= */ true), UPDATE_NOT_SEEN);
}

/* --- how fast, and how long yet --- */

/* What is foretold in the middle comes true within a third: an erase of a second lies on one side of that moment or the other. */
static void how_long_it_takes_is_foretold(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        uint64_t then, left, took;

        lab_plug(camera, PORT);
        lab_wait_writing(camera, 700000, 60 * SEC);
        then = loop_now(lab->loop);
        left = lab_update(camera)->left;
        assert_in_range(lab_update(camera)->rate, 60000, 200000);
        lab_expect_state(camera, CAMERA_CONFIRMING, 60 * SEC);
        took = loop_now(lab->loop) - then;
        assert_in_range(left, took * 2 / 3, took * 4 / 3);
        lab_expect_done(camera);
        assert_int_equal(lab_update(camera)->left, 0);
        assert_int_equal(lab_update(camera)->rate, 0);
}

/* --- to be read after its end --- */

struct removed {
        const char *expected;
        unsigned n, n_expected;
};

static void on_update_removed(void *userdata, struct update *update)
{
        struct removed *removed = userdata;

        removed->n++;
        removed->n_expected += strcmp(update->record.id, removed->expected) == 0;
}

static const struct registry_observer removed_observer = { .on_update_removed = on_update_removed };

static void it_can_be_read_for_ten_minutes_after_its_end(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        char first[32];
        struct removed removed = { .expected = first };
        uint64_t ended;

        (void)snprintf(first, sizeof(first), "%s", lab_update(camera)->record.id);
        assert_int_equal(registry_observe(lab->registry, &removed_observer, &removed), 0);
        /* Each wish ends the one before it: far more than are kept for ever. */
        for (unsigned i = 0; i < 120; i++)
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_run(lab, SEC);
        ended = registry_update_by_id(lab->registry, first)->record.ended;
        assert_true(ended > 0);
        lab_run(lab, ended + 599 * SEC - loop_wall_clock(lab->loop));
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        assert_non_null(registry_update_by_id(lab->registry, first));
        assert_int_equal(registry_update_by_id(lab->registry, first)->result, UPDATE_CANCELLED);
        assert_int_equal(removed.n, 0);
        lab_run(lab, SEC);
        assert_int_equal(removed.n, 0);
        /* Those who watch are told, before it is gone. */
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        assert_null(registry_update_by_id(lab->registry, first));
        assert_int_equal(removed.n_expected, 1);
        assert_in_range(removed.n, 2, 71);
        registry_unobserve(lab->registry, &removed_observer);
}

/* All of them are readable for ten minutes, and that is paid for in memory: nobody can ask for as many as he likes. */
static void nobody_asks_without_end(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new), *other;
        struct request_result result;
        unsigned n = 1;

        while (n < 1000 && lab_ask_update(camera, NULL) == REQUEST_QUEUED)
                n++;
        assert_int_equal(n, 200);
        registry_request(lab->registry, lab_known(camera), &(struct request){ .wish = WISH_UPDATE, .firmware = "5.0.0" }, &result);
        assert_int_equal(result.action, REQUEST_REFUSE);
        assert_int_equal(result.refusal, REFUSAL_LIMIT);
        assert_non_null(strstr(result.text, "ask again later"));
        /* The last one stands; and another camera has its own count. */
        assert_true(update_is_open(lab_update(camera)));
        other = lab_camera_new(lab, SIM_OPENMV3, 2);
        lab_install(other, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        lab_plug_until_running(other, PORT);
        assert_int_equal(lab_ask_update(other, NULL), REQUEST_QUEUED);
        lab_run(lab, 601 * SEC);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
}

/* Ten minutes of the daemon's life: whatever becomes of the host's clock, he who was told of an end can read it for so long, and no
 * longer. */
static void a_clock_that_is_set_says_nothing(void **state)
{
        static const uint64_t clocks[] = { LOOP_VIRTUAL_WALL_START - UINT64_C(365) * 86400 * SEC, LOOP_VIRTUAL_WALL_START + UINT64_C(365) * 86400 * SEC };

        for (size_t i = 0; i < ELEMENTSOF(clocks); i++) {
                struct lab *lab = another_lab(state);
                struct lab_image *new;
                struct lab_camera *camera = wanted_camera(lab, &new);
                char first[32];

                (void)snprintf(first, sizeof(first), "%s", lab_update(camera)->record.id);
                while (lab_ask_update(camera, NULL) == REQUEST_QUEUED)
                        ;
                lab_run(lab, SEC);      /* each ends the one before it when it is on the disk */
                loop_set_wall_clock(lab->loop, clocks[i]);
                lab_run(lab, 590 * SEC);
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_REFUSE);
                assert_non_null(registry_update_by_id(lab->registry, first));
                lab_run(lab, 11 * SEC);
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
                assert_null(registry_update_by_id(lab->registry, first));
        }
}

/* Also of the daemon that comes after the one that said so. */
static void it_can_be_read_after_a_restart(void **state)
{
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);
        char first[32];

        (void)snprintf(first, sizeof(first), "%s", lab_update(camera)->record.id);
        for (unsigned i = 0; i < 120; i++)
                assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        lab_run(lab, 590 * SEC);
        lab_restart(lab);
        assert_non_null(registry_update_by_id(lab->registry, first));
        assert_int_equal(registry_update_by_id(lab->registry, first)->result, UPDATE_CANCELLED);
        lab_run(lab, 10 * SEC);
        assert_int_equal(lab_ask_update(camera, NULL), REQUEST_QUEUED);
        assert_null(registry_update_by_id(lab->registry, first));
}

/* --- its story --- */

struct story {
        char text[4096];
};

static void on_history(void *userdata, int error, const struct history_line *lines, size_t n)
{
        struct story *story = userdata;

        assert_int_equal(error, 0);
        story->text[0] = '\0';
        for (size_t i = n; i > 0; i--) {
                strncat(story->text, lines[i - 1].event, sizeof(story->text) - strlen(story->text) - 1);
                strncat(story->text, " ", sizeof(story->text) - strlen(story->text) - 1);
        }
}

static void a_story_can_be_read(void **state)
{
        static struct story story;
        struct lab *lab = *state;
        struct lab_image *new;
        struct lab_camera *camera = wanted_camera(lab, &new);

        lab_plug(camera, PORT);
        lab_wait_writing(camera, 300000, 60 * SEC);
        lab_unplug(camera);
        lab_run(lab, 2 * SEC);
        lab_plug(camera, PORT);
        lab_expect_done(camera);
        assert_int_equal(journal_read_history(lab->journal, lab_known(camera)->record.key, 200, on_history, &story), 0);
        lab_run(lab, SEC);
        assert_string_equal(story.text, "began interrupted resumed done ");
}

/* --- what does not answer --- */

static struct camera *unreadable_at(struct lab *lab, const char *port)
{
        char key[CAMERA_KEY_MAX];

        (void)snprintf(key, sizeof(key), "P:%.*s", (int)sizeof(key) - 3, port);
        return registry_camera_by_key(lab->registry, key);
}

static void unreadable_for_a_while(void **state)
{
        struct lab *lab = *state;
        struct camera *camera;

        assert_true(registry_is_idle(lab->registry));
        registry_unreadable(lab->registry, "1-7", "device descriptor read/64, error -71", 1, 0);
        camera = unreadable_at(lab, "1-7");
        assert_non_null(camera);
        assert_int_equal(camera->state, CAMERA_UNREADABLE);
        assert_int_equal(camera->mode, CAMERA_MODE_UNREADABLE);
        assert_int_equal(camera_diagnosis(camera).code, DIAGNOSIS_UNREADABLE);
        assert_true(camera->attached && !camera->stored);
        assert_true(registry_is_idle(lab->registry));
        /* Said again: it stays for as long as if it was said then. */
        lab_run(lab, UNREADABLE_STAYS - 60 * SEC);
        registry_unreadable(lab->registry, "1-7", "", 2, 30 * SEC);
        assert_ptr_equal(unreadable_at(lab, "1-7"), camera);
        assert_non_null(strstr(camera_diagnosis(camera).text, "(2 times in a row)"));
        lab_run(lab, UNREADABLE_STAYS - 31 * SEC);
        assert_non_null(unreadable_at(lab, "1-7"));
        lab_run(lab, 2 * SEC);
        assert_null(unreadable_at(lab, "1-7"));
        /* What is too old is not shown at all. */
        registry_unreadable(lab->registry, "1-7", "", 1, UNREADABLE_STAYS);
        assert_null(unreadable_at(lab, "1-7"));
        registry_unreadable(lab->registry, "1-7", "", 1, 0);
        lab_restart(lab);
        assert_null(unreadable_at(lab, "1-7"));
}

static void unreadable_until_something_answers(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        char known[CAMERA_KEY_MAX];

        lab_install(camera, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        lab_plug_until_running(camera, PORT);
        (void)snprintf(known, sizeof(known), "%s", lab_known(camera)->record.key);
        /* It left, and that is on its way to us; the kernel's log was faster. */
        registry_unreadable(lab->registry, PORT, "", 1, 0);
        assert_int_equal(registry_camera_by_key(lab->registry, known)->state, CAMERA_ABSENT);
        assert_non_null(unreadable_at(lab, PORT));
        registry_gone(lab->registry, PORT);
        assert_non_null(unreadable_at(lab, PORT));
        lab_unplug(camera);
        assert_non_null(unreadable_at(lab, PORT));
        /* A camera, anything, its hub. */
        lab_plug_until_running(camera, PORT);
        assert_null(unreadable_at(lab, PORT));
        registry_unreadable(lab->registry, "2-1", "", 1, 0);
        registry_answers(lab->registry, "2-10");
        registry_below_gone(lab->registry, "2-1");              /* it is not below itself */
        assert_non_null(unreadable_at(lab, "2-1"));
        registry_answers(lab->registry, "2-1");
        assert_null(unreadable_at(lab, "2-1"));
        registry_unreadable(lab->registry, "2-1.4", "", 1, 0);
        registry_unreadable(lab->registry, "2-1.3.2", "", 1, 0);
        registry_unreadable(lab->registry, "2-10.1", "", 1, 0);
        registry_below_gone(lab->registry, "2-1");
        assert_null(unreadable_at(lab, "2-1.4"));
        assert_null(unreadable_at(lab, "2-1.3.2"));
        registry_unreadable(lab->registry, "4-2", "", 1, 0);
        registry_unreadable(lab->registry, "4-1.2", "", 1, 0);
        registry_unreadable(lab->registry, "42-1", "", 1, 0);
        registry_below_gone(lab->registry, "4");                /* a controller */
        assert_null(unreadable_at(lab, "4-2"));
        assert_null(unreadable_at(lab, "4-1.2"));
        registry_answers(lab->registry, "42-1");
        assert_int_equal(registry_forget(lab->registry, unreadable_at(lab, "2-10.1"), false), 0);
        assert_null(unreadable_at(lab, "2-10.1"));
        /* Of who answers anyway that is no news. */
        registry_answers(lab->registry, PORT);
        assert_int_equal(lab_known(camera)->state, CAMERA_RUNNING);
}

static void unreadable_may_be(void **state)
{
        struct lab *lab = *state;
        struct lab_camera *camera = lab_camera_new(lab, SIM_OPENMV3, 1);
        struct camera *dead;

        lab_install(camera, lab_release(lab, SIM_OPENMV3, "4.8.1"));
        lab_plug_until_running(camera, PORT);
        assert_int_equal(registry_set_label(lab->registry, lab_known(camera), "bench 7"), 0);
        lab_unplug(camera);
        lab_run(lab, SEC);
        registry_unreadable(lab->registry, PORT, "", 1, 0);
        dead = unreadable_at(lab, PORT);
        assert_non_null(strstr(camera_diagnosis(dead).text, "This may be bench 7 (OpenMV Cam M7), which was last seen here"));
        /* It is a hint: nothing is taken for that camera. */
        assert_int_equal(lab_known(camera)->state, CAMERA_ABSENT);
        lab_plug_until_running(camera, "3-1");
        assert_null(strstr(camera_diagnosis(dead).text, "may be"));
        lab_unplug(camera);
        lab_run(lab, SEC);
        assert_int_equal(registry_forget(lab->registry, lab_known(camera), false), 0);
        assert_null(strstr(camera_diagnosis(dead).text, "may be"));
}

static void unreadable_takes_no_wish(void **state)
{
        struct lab *lab = *state;
        struct request request = { .wish = WISH_UPDATE };
        struct request_result result;
        struct camera *dead;

        lab_import(lab, lab_bootloader(lab, SIM_OPENMV3, SIM_BL_1_0_3, "1.0.3"));
        registry_unreadable(lab->registry, PORT, "", 1, 0);
        dead = unreadable_at(lab, PORT);
        registry_request(lab->registry, dead, &request, &result);
        assert_int_equal(result.action, REQUEST_REFUSE);
        assert_non_null(strstr(result.text, "does not answer"));
        request = (struct request){ .wish = WISH_RECOVER, .board = "M7" };
        registry_request(lab->registry, dead, &request, &result);
        assert_int_equal(result.action, REQUEST_REFUSE);
        assert_non_null(strstr(result.text, "does not answer"));
        assert_int_equal(registry_set_label(lab->registry, dead, "x"), -ENXIO);
        assert_int_equal(dead->state, CAMERA_UNREADABLE);
        assert_null(dead->board);
}

static void unreadable_so_many(void **state)
{
        struct lab *lab = *state;
        unsigned n = 0;

        for (unsigned i = 1; i <= UNREADABLE_MAX + 8; i++) {
                char port[16];

                (void)snprintf(port, sizeof(port), "%u-1", i);
                registry_unreadable(lab->registry, port, "", 1, 0);
        }
        for (struct camera *camera = registry_first_camera(lab->registry); camera; camera = registry_next_camera(camera))
                n++;
        assert_int_equal(n, UNREADABLE_MAX);
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
                STORY("/lifetime/given-up/says-why", given_up_says_why),
                STORY("/lifetime/given-up/a-link-that-never-works", a_link_that_never_works_is_given_up),
                STORY("/lifetime/given-up/not-who-goes-on", who_goes_on_is_not_given_up),
                STORY("/lifetime/units/proven-is-remembered", what_is_proven_is_remembered),
                STORY("/lifetime/units/erases-outlive-update-and-daemon", erases_outlive_update_and_daemon),
                STORY("/lifetime/retry/what-can-be", what_can_be_retried),
                STORY("/lifetime/retry/images-that-are-gone", images_that_are_gone_cannot_be_written),
                STORY("/lifetime/retry/without-an-update", a_camera_without_an_update),
                STORY("/lifetime/retry/a-restore", a_restore_is_retried_as_a_restore),
                STORY("/lifetime/forget/who-is-here-or-awaited", who_is_here_or_awaited_is_not_forgotten),
                STORY("/lifetime/forget/what-was-saved", what_was_saved_is_deleted_only_when_that_was_said),
                STORY("/lifetime/unreadable/is-shown-for-a-while-and-not-written-down", unreadable_for_a_while),
                STORY("/lifetime/unreadable/ends-when-something-answers", unreadable_until_something_answers),
                STORY("/lifetime/unreadable/a-camera-that-is-missing-is-a-hint", unreadable_may_be),
                STORY("/lifetime/unreadable/nothing-can-be-asked-of-it", unreadable_takes_no_wish),
                STORY("/lifetime/unreadable/so-many-and-no-more", unreadable_so_many),
                STORY("/lifetime/another-wish/only-what-was-verified-is-done", only_what_was_verified_is_done),
                STORY("/lifetime/state-directory/takes-nothing", nothing_is_begun_that_cannot_be_remembered),
                STORY("/lifetime/state-directory/who-asks-again", who_asks_again_is_not_refused),
                STORY("/lifetime/state-directory/what-was-half-done-is-the-last", what_was_half_done_is_the_last),
                STORY("/lifetime/state-directory/takes-nothing-that-supersedes", what_was_to_be_superseded_is_nobodys_at_no_moment),
                STORY("/lifetime/how-long-yet", how_long_it_takes_is_foretold),
                STORY("/lifetime/readable-after-its-end", it_can_be_read_for_ten_minutes_after_its_end),
                STORY("/lifetime/a-clock-that-is-set-says-nothing", a_clock_that_is_set_says_nothing),
                STORY("/lifetime/not-without-end", nobody_asks_without_end),
                STORY("/lifetime/readable-after-a-restart", it_can_be_read_after_a_restart),
                STORY("/lifetime/history", a_story_can_be_read),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
