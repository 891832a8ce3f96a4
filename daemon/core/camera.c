/* SPDX-License-Identifier: MIT */
/*
 * Cameras: see camera.h.  Three parts: effects of the state table, what a
 * session tells, and what the bus (udev) tells.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/caller.h"
#include "core/camera.h"
#include "core/registry.h"

#define RUNTIME_DEADLINE   (10 * SEC)   /* timing.md section 6: bootloader -> runtime */
#define LEAVING_DEADLINE   (10 * SEC)
#define PASSING_DEADLINE   (10 * SEC)   /* a bootloader's window is 1.5 s */
#define SILENT_AWAY        (10 * SEC)   /* a hand that plugs it in again; nobody writes it elsewhere meanwhile */
#define OTHERS_TIME        (5 * SEC)    /* a firmware is not written in less (timing.md section 4), but into an AE3's memory */
#define RESTART_DEADLINE   (5 * SEC)    /* timing.md section 6: runtime -> bootloader after SYS_BOOT */
#define HUB_LOOK           (1 * SEC)    /* after a deadline for what the bus would tell, while its hub is at work: is it over? */
#define BUSY_RETRY_MIN     (250 * MSEC)
#define BUSY_RETRY_MAX     (2 * SEC)
#define PERMISSION_WINDOW  (2 * SEC)    /* a node that is not ours yet may be so within a bootloader's 1.5 s: looked at often for so long */
#define PERMISSION_RETRY   (100 * MSEC)
#define RETURN_DEADLINE    (20 * SEC)   /* a hand takes the jumper off and plugs in: longer, and it may be waiting for nothing */
#define GONE_DEADLINE      (3 * SEC)    /* a device said to be gone is told by the bus within this, or has not gone */
#define RESTARTS_MAX       3            /* bootloaders in a row without a runtime: a boot loop, as silent as silence (dfu.md A.3) */
#define SLEPT_MIN          (1 * SEC)    /* less is what lies between two readings of two clocks */

#define HISTORY_ROM_DFU "rom-dfu"
#define HISTORY_RAN "ran"
#define HISTORY_BEGAN "began"
#define HISTORY_RESUMED "resumed"
#define HISTORY_INTERRUPTED "interrupted"
#define HISTORY_KEPT 200                /* journal.h */

#define camera_log(camera, level, ...)                                                                  \
        log_about(level, (&(struct log_subject){                                                        \
                .camera = (camera)->record.key, .port = (camera)->sighting.port,                        \
                .update = update_is_open((camera)->update) ? (camera)->update->record.id : NULL }), __VA_ARGS__)

static struct loop *loop_of(const struct camera *camera)
{
        return registry_context(camera->registry)->loop;
}

/* How long the host has slept since boot: a difference between two readings means that it slept in between. */
static int64_t host_slept(void)
{
        struct timespec boot, mono;

        (void)clock_gettime(CLOCK_BOOTTIME, &boot);
        (void)clock_gettime(CLOCK_MONOTONIC, &mono);
        return ((int64_t)boot.tv_sec - (int64_t)mono.tv_sec) * (int64_t)SEC + ((int64_t)boot.tv_nsec - (int64_t)mono.tv_nsec) / 1000;
}

static bool slept_since(const struct camera *camera)
{
        return host_slept() - camera->slept >= (int64_t)SLEPT_MIN;
}

const char *camera_name(const struct camera *camera)
{
        if (camera->has_uid)
                return camera->record.key;
        if (camera->provisional || camera->attached)
                return camera->sighting.port;
        return camera->record.key;
}

bool camera_automatic(const struct camera *camera)
{
        const struct registry_settings *settings = registry_settings(camera->registry);
        int r = -1;

        if (camera->record.automatic >= 0)
                return camera->record.automatic;
        if (settings->camera_automatic)
                r = settings->camera_automatic(settings->userdata, camera->record.key, camera->sighting.serial,
                                               camera->record.port);
        return r >= 0 ? r : settings->automatic;
}

bool camera_is_missing(const struct camera *camera)
{
        return !camera->provisional && !camera->attached && (camera->record.suspect || update_is_open(camera->update));
}

bool camera_is_busy(const struct camera *camera)
{
        if (camera->call)
                return true;
        return camera->attached && usb_has_open(registry_context(camera->registry)->usb, camera->sighting.node);
}

void camera_store(struct camera *camera)
{
        if (camera->provisional && !update_is_open(camera->update))
                return;
        camera->stored = true;
        (void)journal_put_camera(registry_context(camera->registry)->journal, &camera->record);
}

static void history(struct camera *camera, const char *event, const char *text)
{
        if (camera->stored)
                (void)journal_put_history(registry_context(camera->registry)->journal, camera->record.key,
                                          loop_wall_clock(loop_of(camera)), event, text);
}

static void end_update(struct camera *camera, struct update *update, enum update_result result, const char *code, const char *text)
{
        char message[256];

        snprintf(message, sizeof(message), "%s", text);         /* it may be the record's own */
        update_end(update, result, code, message, loop_wall_clock(loop_of(camera)), loop_now(loop_of(camera)));
        camera_log(camera, result == UPDATE_DONE ? LOG_NOTICE : LOG_WARNING, "update %s: %s (%s)",
                   update->record.id, update_result_to_string(result), message);
        history(camera, update_result_to_string(result), message);
        /* Whatever became of the wish: garbage is not booted at the next plug-in, but looked at.  (begun is also remembered from before
         * the daemon was restarted.) */
        if ((camera->incomplete || update_is_begun(update)) && !camera->record.suspect) {
                camera->record.suspect = true;
                camera_store(camera);
        }
        registry_update_changed(camera->registry, update);
}

void camera_end_update(struct camera *camera, enum update_result result, const char *code, const char *text)
{
        if (!update_is_open(camera->update))
                return;
        end_update(camera, camera->update, result, code, text);
        if (camera->update->not_kept)
                defer_call(&camera->reap);
}

void camera_end_superseded(struct camera *camera, struct update *old)
{
        end_update(camera, old, UPDATE_CANCELLED, "superseded", "another update was asked for");
}

/* Which camera a device without an identity may be: a hint for a person, from its port alone.  "": none. */
static void hint(const struct camera *camera, char *text, size_t size)
{
        const struct camera *other = camera->hinted_by_port;

        text[0] = '\0';
        if (!other || other->attached)
                return;
        (void)snprintf(text, size, "%.64s%s%.24s%s", other->record.label[0] ? other->record.label : camera_name(other),
                       other->board ? " (" : "", other->board ? other->board->name : "", other->board ? ")" : "");
}

struct diagnosis camera_diagnosis(const struct camera *camera)
{
        const struct inhibitor *inhibitor = camera_inhibitor(camera);
        char may_be[96];
        const struct diagnosis_facts facts = {
                .state = camera->state,
                .mode = camera->mode,
                .port = camera->record.port,
                .board_name = camera->board ? camera->board->name : NULL,
                .name = camera_name(camera),
                .looked = camera->looked,
                .reason = camera->reason,
                .content = camera->content,
                .update_open = update_is_open(camera->update),
                .update_not_seen = camera->not_seen,
                .restored = camera->restored,
                .still_pulled = camera->still_pulled,
                .peeked = camera->may_peek && camera->match != IDENTITY_KNOWN && !camera->word.given,
                .overdue = camera->overdue,
                .ran_between = camera->ran_between,
                .automatic = camera_automatic(camera),
                .blocked = camera->tries > 0,
                .permission = camera->permission,
                .no_node = camera->no_node,
                .trouble = camera->trouble,
                .hold = camera->hold.wished,
                .failure = camera->failure,
                .detail = camera->detail,
                .update_failed = camera->update && camera->update->result == UPDATE_FAILED,
                .silenced = camera->silence.known && !camera->silent_before,
                .inhibited_by = inhibitor ? inhibitor_who(inhibitor) : NULL,
                .inhibited_why = inhibitor ? inhibitor_why(inhibitor) : NULL,
                .unanswered = camera->unanswered,
                .may_be = may_be,
        };

        hint(camera, may_be, sizeof(may_be));
        return diagnosis_of(&facts);
}

bool camera_is_wanted(const struct camera *camera)
{
        return update_is_open(camera->update) || camera->record.suspect || camera->expected || camera->hold.wished;
}

const char *camera_waiting(const struct camera *camera)
{
        return update_is_open(camera->update) ? "its update" : "the hold of its bootloader";
}

/* It ran a moment ago, and stays in its bootloader because we asked for that: if nothing of it is wanted any more, it is sent back. */
static bool is_to_be_sent_back(const struct camera *camera)
{
        return camera->sent && camera->attached && camera->mode == CAMERA_MODE_BOOTLOADER && !camera->incomplete && !camera_is_wanted(camera);
}

/* --- what a session tells --- */

static void on_pinned(void *userdata, uint64_t latency)
{
        struct camera *camera = userdata;

        camera->tries = 0;
        camera->trouble = CALL_FINE;
        camera->held = true;
        if (!camera->silent_before)
                camera->silence.known = false;          /* it answers still */
        camera_log(camera, LOG_INFO, "held %.1f ms after it was seen", (double)latency / 1000);
        camera_event(camera, EVENT_PINNED);
}

/* The version stays as that which it last ran (row 7), unless somebody else's firmware stands there now; the digest goes as soon as
 * anything is overwritten. */
static void note_what_stands_there(struct camera *camera, const struct session_decision *decision)
{
        struct camera_record *record = &camera->record;

        if (camera->mode == CAMERA_MODE_ROM_DFU) {
                if (decision->found)
                        record->bootloader = decision->found->digest;
                return;
        }
        if (decision->found) {
                record->firmware = decision->found->digest;
                snprintf(record->firmware_version, sizeof(record->firmware_version), "%s", decision->found->version);
                camera->incomplete = false;
        } else {
                record->firmware = (struct digest){};
                if (decision->content == CONTENT_UNKNOWN && !camera->incomplete)
                        record->firmware_version[0] = '\0';
        }
        if (decision->verdict.kind == VERDICT_WRITE) {
                record->firmware = (struct digest){};
                camera->incomplete = true;
        }
}

static void note_writing(struct camera *camera, const struct session_decision *decision)
{
        const struct update_record *record = &camera->update->record;
        char text[256];

        (void)snprintf(text, sizeof(text), "update %s writes %s (%s), attempt %u", record->id,
                       camera->mode == CAMERA_MODE_ROM_DFU ? "the bootloader" : record->version[0] ? record->version : "firmware",
                       decision->reason[0] ? decision->reason : record->reason, record->attempts);
        history(camera, record->attempts > 1 ? HISTORY_RESUMED : HISTORY_BEGAN, text);
}

/* A verdict to write is where an update begins (unattended), or where an open one learns what it will write. */
static int on_decided(void *userdata, const struct session_decision *decision)
{
        struct camera *camera = userdata;
        struct update *update = camera->update;
        int r;

        camera->looked = true;
        camera->expected = false;
        camera->reason = decision->verdict.reason;
        camera->content = decision->content;
        if (camera->mode == CAMERA_MODE_BOOTLOADER)
                camera->record.layout = decision->layout;
        note_what_stands_there(camera, decision);

        if (decision->verdict.kind == VERDICT_WRITE) {
                bool is_new = !update_is_open(update);

                if (is_new) {
                        r = registry_new_update(camera->registry, camera, WISH_UNATTENDED, &update);
                        if (r < 0)
                                return r;
                }
                if (update->record.version[0] == '\0') {
                        snprintf(update->record.version, sizeof(update->record.version), "%s", decision->version);
                        snprintf(update->record.reason, sizeof(update->record.reason), "%s", decision->reason);
                }
                /* Chosen when the layout was seen, and fixed from now on. */
                update->record.n_images = decision->n_images;
                memcpy(update->record.images, decision->images, sizeof(update->record.images));
                update->record.attempts++;
                update->record.message[0] = '\0';
                update_set_begun(update, true);
                update_store(update);
                camera_log(camera, LOG_NOTICE, "update %s: writing %s (%s), attempt %u", update->record.id,
                           update->record.version[0] ? update->record.version : "bootloader", update->record.reason,
                           update->record.attempts);
                note_writing(camera, decision);
                if (is_new)
                        registry_announce_update(camera->registry, update);
                else
                        registry_update_changed(camera->registry, update);
                camera_event(camera, EVENT_WRITE);
        }
        camera_store(camera);
        return 0;
}

static unsigned get_wear(void *userdata, const char *partition, unsigned unit)
{
        struct camera *camera = userdata;

        /* Of the open update; or of one that was given up, and the camera has not run since: the next one goes on counting. */
        return update_is_open(camera->update) || update_is_begun(camera->update) ?
               update_wear(camera->update, partition, unit) : 0;
}

static void add_wear(void *userdata, const char *partition, unsigned unit, int delta)
{
        struct camera *camera = userdata;

        if (camera->update)
                update_add_wear(camera->update, partition, unit, delta);
}

static void set_proven(void *userdata, const char *partition, unsigned unit, bool proven)
{
        struct camera *camera = userdata;

        if (update_is_open(camera->update))
                update_set_proven(camera->update, partition, unit, proven);
}

static void on_progress(void *userdata)
{
        struct camera *camera = userdata;

        if (camera->update)
                update_store_units(camera->update);
        if (update_is_open(camera->update) && camera->session) {
                update_follow(camera->update, camera->session, loop_now(loop_of(camera)));
                registry_update_changed(camera->registry, camera->update);
        }
}

/* So that whoever finds it running after our death need not ask for a replug to look again: on its way to the disk before the device is
 * told to leave. */
static void on_verified(void *userdata, const char *message)
{
        struct camera *camera = userdata;
        struct update_record *record = camera->update ? &camera->update->record : NULL;

        if (!update_is_open(camera->update) || strcmp(record->message, message) == 0)
                return;
        snprintf(record->message, sizeof(record->message), "%s", message);
        update_store(camera->update);
        (void)journal_sync(registry_context(camera->registry)->journal, NULL, NULL);
}

static void set_detail(struct camera *camera, const char *message)
{
        snprintf(camera->detail, sizeof(camera->detail), "%s", message);
}

/* What was verified is what it has now: in ROM DFU its bootloader, in its bootloader the rest. */
static void remember_firmware(struct camera *camera, bool rom)
{
        const struct update_record *record = &camera->update->record;

        for (size_t i = 0; i < record->n_images; i++) {
                if (strcmp(record->images[i].partition, "BOOTLOADER") == 0) {
                        if (rom)
                                camera->record.bootloader = record->images[i].digest;
                        continue;
                }
                if (rom)
                        continue;
                if (strcmp(record->images[i].partition, "FIRMWARE") != 0 && strcmp(record->images[i].partition, "HP") != 0)
                        continue;
                camera->record.firmware = record->images[i].digest;
                snprintf(camera->record.firmware_version, sizeof(camera->record.firmware_version), "%s", record->version);
        }
}

static void update_waits(struct camera *camera)
{
        if (!update_is_open(camera->update))
                return;
        update_wait(camera->update);
        registry_update_changed(camera->registry, camera->update);
}

/* A session of an open update has ended, however: did it bring anything forward?  What it wrote and did not verify is found by
 * the next one's comparison. */
static void count_session(struct camera *camera, bool counts)
{
        struct update *update = camera->update;
        unsigned before;

        if (!update_is_open(update))
                return;
        before = update->record.failures;
        if (update_went_on(update))
                update->record.failures = 0;
        if (counts)
                update->record.failures++;
        if (update->record.failures != before)
                update_store(update);
}

/* because: what failed the last time. */
static void give_up(struct camera *camera, const char *code, const char *because)
{
        const struct update *update = camera->update;
        char text[256];

        (void)snprintf(text, sizeof(text), "gave up after %u attempts at %s%s%s because %s. To try again: camrescue retry %s",
                       MAX(camera->failures, update->record.failures), update_step_to_string(update->step),
                       update->image[0] ? " " : "", update->image, because, camera_name(camera));
        camera_end_update(camera, UPDATE_FAILED, code, text);
}

static void on_failed(struct camera *camera, enum failure failure, enum machine_outcome outcome, const char *message)
{
        const char *code = failure == FAILURE_STATE_DIRECTORY ? failure_to_string(failure) :
                           outcome == MACHINE_OK ? "failed" : machine_outcome_to_string(outcome);
        struct update *update = update_is_open(camera->update) ? camera->update : NULL;

        set_detail(camera, message);
        camera_log(camera, LOG_WARNING, "%s%s%s%s%s", update ? update_step_to_string(update->step) : "looking",
                   update && update->image[0] ? " " : "", update ? update->image : "", ": ", message);
        camera->failures++;
        camera->failure = failure;
        camera->retry = retry_after(failure, camera->failures, update ? update->record.failures : 0);
        if (update && camera->retry.kind == RETRY_NEVER)
                give_up(camera, code, message);
        else
                update_waits(camera);
        camera_event(camera, camera->state == CAMERA_OPENING ? EVENT_OPEN_FAILED : EVENT_UPDATE_FAILED);
}

/* A person's wish that the verdict does not allow ends with the verdict's reason; an unattended look has nothing to end. */
static void refuse_update(struct camera *camera, const char *message)
{
        if (update_is_open(camera->update) && camera->looked)
                camera_end_update(camera, UPDATE_REFUSED, verdict_reason_to_string(camera->reason), message);
}

void camera_set_board(struct camera *camera, const struct board *board)
{
        camera->board = board;
        snprintf(camera->record.board, sizeof(camera->record.board), "%s", board ? board->id : "");
}

/* A board that somebody named and the device contradicts is not its board. */
static void camera_disown_board(struct camera *camera)
{
        camera_set_board(camera, NULL);
        camera->word = (struct user_word){};
}

/* Its update is done, and was not to end in running firmware: it is held, as for somebody's tool, for a while. */
static void verified_and_stays(struct camera *camera, const char *message)
{
        bool whole = !session_other_firmware_is_incomplete(camera->session);

        camera->failures = 0;
        camera->incomplete = !whole;
        if (update_is_open(camera->update)) {
                remember_firmware(camera, /* rom= */ false);
                update_set_begun(camera->update, !whole && update_is_half_done(camera->update));
                camera->update->progress = 1.0;
                camera_end_update(camera, UPDATE_DONE, "done", message);
        }
        camera_store(camera);
        hold_after_update(camera, message);
        if (camera->state == CAMERA_UPDATING)
                camera_event(camera, EVENT_STAYS);
}

/* Its bootloader was wanted and nothing else, and is complete.  If we have written, its firmware may not go with it, or has lost its head for
 * that: as begun, it is looked at when its bootloader comes. */
static void end_bootloader_only(struct camera *camera, const char *code, const char *text)
{
        camera_end_update(camera, UPDATE_DONE, code, text);
        update_set_begun(camera->update, false);
}

static void on_silence(void *userdata, const char *partition, unsigned unit)
{
        struct camera *camera = userdata;

        camera->silence = (struct session_silence){ .known = true, .unit = unit };
        snprintf(camera->silence.partition, sizeof(camera->silence.partition), "%s", partition);
        camera->silent_before = false;
}

static int on_read(void *userdata, const uint8_t *data, size_t size)
{
        struct camera *camera = userdata;

        return hold_take_read(camera, data, size);
}

static void on_end(void *userdata, enum session_end end, enum machine_outcome outcome, const char *message)
{
        struct camera *camera = userdata;
        bool cancelled = update_is_open(camera->update) && camera->update->cancelling;

        defer_call(&camera->reap);
        camera_log(camera, LOG_DEBUG, "session: %s (%s)", session_end_to_string(end), message);
        camera->permission = end == SESSION_END_NO_PERMISSION;
        camera->no_node = end == SESSION_END_NO_NODE;
        if (hold_take_end(camera, end, message))
                return;
        if (camera->update)
                update_store_units(camera->update);
        /* However it ended, but for well: a cancelled update does not go on. */
        if (cancelled && end != SESSION_END_UPDATED && end != SESSION_END_STAYS && end != SESSION_END_ROM_DONE)
                camera_end_update(camera, UPDATE_CANCELLED, "cancelled", end == SESSION_END_STOPPED ? message : "cancelled");
        switch (end) {
        case SESSION_END_GONE:
        case SESSION_END_WINDOW_MISSED:
                camera_log(camera, LOG_NOTICE, "%s", message);
                count_session(camera, /* counts= */ end == SESSION_END_GONE);
                if (camera->state == CAMERA_UPDATING)
                        history(camera, HISTORY_INTERRUPTED, message);
                if (update_is_open(camera->update) &&
                    retry_after(FAILURE_LEFT, /* in_a_row= */ 0, camera->update->record.failures).kind == RETRY_NEVER)
                        give_up(camera, machine_outcome_to_string(MACHINE_GONE), message);
                else
                        update_waits(camera);
                camera->said_gone_at = loop_now(loop_of(camera));
                timer_set(&camera->deadline, GONE_DEADLINE);    /* the bus tells the rest, or nothing has left it */
                break;
        case SESSION_END_BUSY:
        case SESSION_END_NO_PERMISSION:
        case SESSION_END_NO_NODE:
                camera->silence.known = false;          /* others may be at it */
                if (camera->tries == 0) {
                        camera_log(camera, LOG_NOTICE, "%s: waiting", message);
                        camera->blocked_at = loop_now(loop_of(camera));
                }
                camera->tries++;
                update_waits(camera);
                camera_event(camera, EVENT_BUSY);
                break;
        case SESSION_END_OPEN_FAILED:
                count_session(camera, /* counts= */ true);
                on_failed(camera, FAILURE_LINK, outcome, message);
                break;
        case SESSION_END_FAILED:
                count_session(camera, /* counts= */ true);
                on_failed(camera, failure_of_outcome(outcome), outcome, message);
                break;
        case SESSION_END_NOT_RECORDED:
                count_session(camera, /* counts= */ false);
                on_failed(camera, FAILURE_STATE_DIRECTORY, outcome, message);
                break;
        case SESSION_END_RELEASED:
                camera_log(camera, LOG_NOTICE, "released: %s", message);
                if (camera->restored && camera->reason == REASON_NOTHING_TO_DO && update_is_open(camera->update)) {
                        update_set_begun(camera->update, false);
                        camera_end_update(camera, UPDATE_DONE, "bootloader-restored",
                                   "its bootloader was restored, and its firmware is whole and was left as it is");
                }
                refuse_update(camera, message);
                camera_event(camera, EVENT_RELEASE);
                break;
        case SESSION_END_HELD:
                camera_log(camera, LOG_NOTICE, "not written: %s", message);
                refuse_update(camera, message);
                if (camera->provisional && camera->reason == REASON_CONTRADICTED)
                        camera_disown_board(camera);
                camera_event(camera, EVENT_HOLD);
                break;
        case SESSION_END_NO_FIRMWARE:
                camera_log(camera, LOG_WARNING, "%s", message);
                update_waits(camera);
                camera_event(camera, EVENT_NO_FIRMWARE);
                break;
        case SESSION_END_SOUND_BOOTLOADER:
                camera_log(camera, LOG_NOTICE, "bootloader: %s", message);
                camera->still_pulled = camera->restored && !camera->restored_now;
                if (update_is_open(camera->update) && camera->update->record.bootloader_only) {
                        if (digest_equal(&camera->update->record.images[0].digest, &camera->record.bootloader))
                                end_bootloader_only(camera, "bootloader-sound", "nothing had to be written: its bootloader reads back equal");
                        else
                                refuse_update(camera, message);
                }
                update_waits(camera);
                camera_event(camera, EVENT_SOUND_BOOTLOADER);
                break;
        case SESSION_END_ROM_DONE:
                camera_log(camera, LOG_NOTICE, "bootloader restored: %s", message);
                camera->restored = camera->restored_now = true;
                camera->still_pulled = false;
                if (camera->update)
                        remember_firmware(camera, /* rom= */ true);
                camera_store(camera);
                history(camera, "bootloader-restored", message);
                if (!camera->provisional && update_is_open(camera->update) && camera->update->record.bootloader_only)
                        end_bootloader_only(camera, "bootloader-restored",
                                            "bootloader restored and verified: remove the jumper, unplug it and plug it in again");
                else if (camera->provisional) {
                        if (camera->update)
                                update_set_begun(camera->update, false);        /* who is expected is looked at anyway */
                        registry_expect_bootloader(camera->registry, camera->sighting.port, camera->board);
                        camera_end_update(camera, UPDATE_DONE, "bootloader-restored",
                                   "bootloader restored and verified: remove the jumper, unplug it and plug it in again");
                } else if (update_is_open(camera->update) && camera->update->cancelling)
                        camera_end_update(camera, UPDATE_CANCELLED, "cancelled", "cancelled; its bootloader was restored before that");
                else
                        update_waits(camera);
                camera_event(camera, EVENT_ROM_DONE);
                break;
        case SESSION_END_UPDATED:
                camera_log(camera, LOG_NOTICE, "verified: %s", message);
                camera->incomplete = false;
                if (update_is_open(camera->update)) {
                        camera->failures = 0;
                        camera->update->step = UPDATE_CONFIRMING;
                        camera->update->progress = 1.0;
                        on_verified(camera, message);   /* it may not have been told so */
                        remember_firmware(camera, /* rom= */ false);
                        registry_update_changed(camera->registry, camera->update);
                }
                camera_store(camera);
                camera_event(camera, EVENT_UPDATED);
                break;
        case SESSION_END_STAYS:
                camera_log(camera, LOG_NOTICE, "verified: %s", message);
                verified_and_stays(camera, message);
                break;
        case SESSION_END_STOPPED:
                camera_log(camera, LOG_NOTICE, "%s", message);
                update_waits(camera);
                camera_event(camera, cancelled && !camera_is_inhibited(camera) ? EVENT_STOPPED : EVENT_INHIBITED);
                break;
        case SESSION_END_KEPT:          /* hold.c's */
        case _SESSION_END_MAX:
                break;
        }
}

static const struct session_events session_events = {
        .on_pinned = on_pinned,
        .on_decided = on_decided,
        .get_wear = get_wear,
        .add_wear = add_wear,
        .set_proven = set_proven,
        .on_silence = on_silence,
        .on_progress = on_progress,
        .on_verified = on_verified,
        .on_read = on_read,
        .on_end = on_end,
};

/* --- effects --- */

void camera_send_back(struct camera *camera)
{
        if (is_to_be_sent_back(camera))
                camera_event(camera, EVENT_REQUESTED);
}

static void on_reap(void *userdata)
{
        struct camera *camera = userdata;

        if (camera->session && session_step(camera->session) == SESSION_ENDED)
                camera->session = session_free(camera->session);
        /* What was missing came while it was being looked at. */
        if (camera->state == CAMERA_NO_FIRMWARE && camera->firmware_added)
                camera_event(camera, EVENT_FIRMWARE_ADDED);
        camera_take_up_superseded(camera);
        camera_send_back(camera);
        /* They let go before we had. */
        if (camera->state == CAMERA_INHIBITED && !camera_is_inhibited(camera))
                camera_uninhibited(camera);
}

static void close_session(struct camera *camera)
{
        if (camera->session && session_step(camera->session) != SESSION_ENDED) {
                camera->session = session_free(camera->session);
                if (camera->update)
                        update_store_units(camera->update);
        }
}

/* Nothing speaks against the firmware that stands there.  What others may have worked on since it ran is not known before it is read. */
static bool would_boot(const struct camera *camera)
{
        return !camera->record.suspect && !camera->expected && !camera->incomplete && !update_is_begun(camera->update) &&
               !camera->hold.was_kept && !camera->hold.releasing && !camera->disturbed;
}

/* What silenced it stands there still: it was silent until it was unplugged, and there was no time since in which others could have written. */
static bool may_trust_silence(const struct camera *camera)
{
        return camera->silence.known && camera->silent_before && !camera->disturbed &&
               loop_now(loop_of(camera)) - camera->sighting.seen_at < OTHERS_TIME;
}

static struct session_wish make_wish(struct camera *camera)
{
        const struct update *update = update_is_open(camera->update) ? camera->update : NULL;
        struct session_wish wish = {
                .wish = WISH_UNATTENDED,
                .serial_shared = serial_is_shared(camera->sighting.serial),
                .automatic = camera_automatic(camera),
                .silent = camera->record.suspect,
                .would_boot = would_boot(camera),
                .known_bootloader = camera->record.bootloader,
        };
        int r;

        snprintf(wish.camera, sizeof(wish.camera), "%s", camera->record.key);
        snprintf(wish.last_ran, sizeof(wish.last_ran), "%s", camera->record.firmware_version);
        if (camera->match == IDENTITY_KNOWN || (camera->mode == CAMERA_MODE_BOOTLOADER && camera->has_uid))
                wish.proof = PROOF_SERIAL;
        else if (camera->word.given)
                wish.proof = PROOF_USER;
        if (camera->word.given)
                wish.wish = WISH_RECOVER;
        wish.word_replace = camera->word.replace;
        wish.word_is_stale = camera->word.given && camera->attachment > camera->word.said_at;
        wish.peek_only = camera->may_peek && wish.proof == PROOF_NONE;
        wish.begun = update_is_begun(camera->update);
        if (may_trust_silence(camera))
                wish.silence = camera->silence;
        wish.keep = camera->hold.wished && camera->mode == CAMERA_MODE_BOOTLOADER && !update;
        if (wish.keep && camera->hold.read.wanted)
                wish.read = camera->hold.read;
        wish.look_and_leave = camera->hold.releasing;
        wish.release_only = is_to_be_sent_back(camera) && !wish.look_and_leave;
        if (!update)
                return wish;

        r = wish_from_string(update->record.wish);
        wish.begun_unattended = r < 0 || r == WISH_UNATTENDED;
        wish.wish = wish.begun_unattended || (update->record.attempts > 0 && update->record.begun) ? WISH_RESUME : (enum wish)r;
        wish.stay = update->record.stay;
        wish.word_romfs = update->record.word_romfs;
        wish.word_filesystem = update->record.word_filesystem;
        wish.word_replace = update->record.word_replace || camera->word.replace;
        snprintf(wish.named, sizeof(wish.named), "%s", update->record.version);
        wish.n_images = update->record.n_images;
        memcpy(wish.images, update->record.images, sizeof(wish.images));
        /* A person who names a version may go back; an update that began unattended may not. */
        if (wish.wish != WISH_RESUME || update->record.n_images > 0)
                wish.last_ran[0] = '\0';
        return wish;
}

static void open_session(struct camera *camera)
{
        const struct session_context *context = registry_context(camera->registry);
        struct session_wish wish;
        int r;

        close_session(camera);
        if (camera->session) {          /* ended, and still inside its callbacks */
                camera->session = session_free(camera->session);
        }
        if (camera_is_inhibited(camera)) {
                update_waits(camera);
                camera_event(camera, EVENT_INHIBITED);
                return;
        }
        if (!camera->board) {
                camera_log(camera, LOG_WARNING, "its board is not known: not opened");
                camera->retry = (struct retry){ .kind = RETRY_WHEN_BACK };
                camera_event(camera, EVENT_OPEN_FAILED);
                return;
        }
        camera->firmware_added = camera->hold.closing = false;
        wish = make_wish(camera);
        if (wish.release_only)
                camera->sent = false;           /* once */
        r = session_new(context, &session_events, camera, camera->board, &camera->sighting, camera->mode, &wish,
                        &camera->session);
        if (r < 0) {
                hold_not_begun(camera, strerror(-r));
                on_failed(camera, FAILURE_HERE, MACHINE_OK, strerror(-r));
                return;
        }
        if (update_is_open(camera->update)) {
                camera->update->step = UPDATE_OPENING;
                registry_update_changed(camera->registry, camera->update);
        }
}

/* Nobody asked, and still one look that failed is not the last.  (Into what may be somebody else's chip there is only one.) */
static bool is_looked_at_again(const struct camera *camera)
{
        if (camera->mode == CAMERA_MODE_ROM_DFU)
                return camera->match == IDENTITY_KNOWN || camera->word.given;
        return camera->record.suspect || camera->expected;
}

static void retry_later(struct camera *camera, enum camera_state state)
{
        uint64_t delay;

        if (state == CAMERA_BLOCKED && (camera->permission || camera->no_node) &&
            loop_now(loop_of(camera)) - camera->blocked_at < PERMISSION_WINDOW) {
                timer_set(&camera->deadline, PERMISSION_RETRY);
                return;
        }
        if (state == CAMERA_BLOCKED) {
                delay = BUSY_RETRY_MIN << MIN(camera->tries ? camera->tries - 1 : 0, 3u);
                timer_set(&camera->deadline, MIN(delay, BUSY_RETRY_MAX));
                return;
        }
        /* Failed: with an update that is still open, with an unattended look that is still worth a try, or before it was held. */
        if (camera->retry.kind == RETRY_AFTER &&
            (update_is_open(camera->update) || is_looked_at_again(camera) || camera->hold.wished))
                timer_set(&camera->deadline, camera->retry.delay);
}

/* It was told to leave with its update verified, and that is the one which is open still: another wish may have come since. */
static bool is_confirming(const struct camera *camera, enum camera_state state)
{
        return state == CAMERA_CONFIRMING && update_is_open(camera->update) && camera->update->step == UPDATE_CONFIRMING;
}

static void arrived(struct camera *camera, enum camera_state from)
{
        camera->record.suspect = false;
        camera->looked = camera->not_seen = camera->restored = camera->still_pulled = camera->incomplete =
                camera->expected = false;
        /* What was begun on it before it ran is somebody's finished work by now, and saved before it is touched again. */
        if (camera->update)
                update_set_begun(camera->update, false);
        if (camera->rom_visits > 0) {
                camera->ran_between++;
                history(camera, HISTORY_RAN, "it runs");
        }
        camera->silence.known = false;
        camera->detail[0] = '\0';
        camera->tries = camera->failures = camera->restarts = 0;
        hold_arrived(camera);
        if (is_confirming(camera, from))
                camera_end_update(camera, UPDATE_DONE, "done", camera->update->record.message);
        else if (update_is_open(camera->update) && wish_from_string(camera->update->record.wish) == WISH_UNATTENDED)
                /* Somebody else has brought it back: nobody asked for more. */
                camera_end_update(camera, UPDATE_CANCELLED, "runs-again", "it runs again, and nobody had asked for this recovery");
        else
                update_waits(camera);
        camera_store(camera);
}

static bool hub_is_there(const struct camera *camera)
{
        const struct registry_settings *settings = registry_settings(camera->registry);

        return !settings->hub_is_there || settings->hub_is_there(settings->userdata, camera->record.port);
}

static void run_effect(struct camera *camera, enum camera_effect effect, enum camera_state from)
{
        switch (effect) {
        case EFFECT_NONE:
                break;
        case EFFECT_OPEN:
                open_session(camera);
                break;
        case EFFECT_CLOSE:
                close_session(camera);
                break;
        case EFFECT_AWAIT_RUNTIME:
                close_session(camera);
                timer_set(&camera->deadline, RUNTIME_DEADLINE);
                break;
        case EFFECT_AWAIT_LEAVING:
                timer_set(&camera->deadline, LEAVING_DEADLINE);
                break;
        case EFFECT_RETRY_LATER:
                retry_later(camera, camera->state);
                break;
        case EFFECT_SUSPECT:
                if (slept_since(camera) || !hub_is_there(camera) || camera->disturbed) {
                        camera_log(camera, LOG_INFO, "no running camera followed, but the host slept, its hub is gone, or others worked "
                                   "on it: no sign of anything");
                        camera_event(camera, EVENT_GONE_EXCUSED);
                        break;
                }
                camera->record.suspect = true;
                camera_log(camera, LOG_WARNING, "silent boot: its bootloader left and no running camera followed");
                camera_store(camera);
                history(camera, "silent-boot", "its bootloader left and no running camera followed");
                break;
        case EFFECT_NOT_SEEN:
                camera->not_seen = true;
                camera->record.suspect = !camera->disturbed;
                if (is_confirming(camera, from))
                        camera_end_update(camera, UPDATE_NOT_SEEN, "verified-not-seen",
                                          "written and verified, but the camera was not seen running within 10 s");
                camera_store(camera);
                if (update_is_open(camera->update))
                        camera_event(camera, EVENT_REQUESTED);
                break;
        case EFFECT_AWAIT_RETURN:
                close_session(camera);
                if (camera->restored)
                        timer_set(&camera->deadline, RETURN_DEADLINE);
                break;
        case EFFECT_OVERDUE:
                camera->overdue = true;
                camera_log(camera, LOG_NOTICE, "its bootloader was restored, and nothing was seen of it since it was unplugged");
                break;
        case EFFECT_ARRIVED:
                close_session(camera);
                arrived(camera, from);
                break;
        case EFFECT_PASS:
                close_session(camera);
                timer_set(&camera->deadline, PASSING_DEADLINE);
                break;
        case EFFECT_CALL:
                caller_begin(registry_caller(camera->registry), camera);
                break;
        case EFFECT_AWAIT_BOOTLOADER:
                timer_set(&camera->deadline, RESTART_DEADLINE);
                break;
        case EFFECT_CALL_FAILED:
                update_waits(camera);
                break;
        case _CAMERA_EFFECT_MAX:
                break;
        }
}

/* Tried again, and in vain: said once. */
static bool is_still_blocked(const struct camera *camera, enum camera_state from)
{
        return (camera->state == CAMERA_BLOCKED && camera->tries > 1) || (from == CAMERA_BLOCKED && camera->state == CAMERA_OPENING);
}

void camera_event(struct camera *camera, enum camera_event event)
{
        enum camera_state from = camera->state;
        struct transition to = camera_state_next(from, event);

        if (to.next != from || to.effect != EFFECT_NONE)
                timer_clear(&camera->deadline);
        camera->state = to.next;
        if (to.next == CAMERA_UPDATING && from != CAMERA_UPDATING)
                camera->writing_since = loop_now(registry_context(camera->registry)->loop);
        if (to.next != CAMERA_CALLING && to.next != CAMERA_RESTARTING)
                caller_drop(camera);
        if (to.next != from)
                camera_log(camera, is_still_blocked(camera, from) ? LOG_DEBUG : LOG_INFO, "%s -> %s (%s)", camera_state_to_string(from), camera_state_to_string(to.next),
                           camera_event_to_string(event));
        run_effect(camera, to.effect, from);
        registry_camera_changed(camera->registry, camera);
}

/* Told to restart, and no bootloader was seen. */
static void camera_not_back(struct camera *camera)
{
        if (camera->trouble == CALL_FINE)
                camera->trouble = camera->attached ? CALL_STAYED : CALL_NOT_BACK;
        if (camera->attached)
                camera_log(camera, LOG_NOTICE, "told to restart, and it did not: %s waits for a replug", camera_waiting(camera));
        else
                camera_log(camera, LOG_NOTICE, "told to restart, and its bootloader was not seen");
        camera_event(camera, camera->attached ? EVENT_CALL_FAILED : EVENT_DEADLINE);
        if (!camera_is_wanted(camera))
                camera_event(camera, EVENT_FINISHED);
}

static void on_deadline(void *userdata)
{
        struct camera *camera = userdata;

        switch (camera->state) {
        case CAMERA_OPENING:
        case CAMERA_EXAMINING:
        case CAMERA_UPDATING:
                if (caller_hub_is_busy(camera, camera->said_gone_at)) {
                        timer_set(&camera->deadline, HUB_LOOK);
                        break;
                }
                /* Another program has reset it, or its claim was taken from us: it said "gone", and is there.  (It was counted then.) */
                on_failed(camera, FAILURE_DEVICE, MACHINE_GONE, "it stopped answering, but did not leave the bus");
                break;
        case CAMERA_BLOCKED:
        case CAMERA_FAILED:
                /* What it was to be opened for was cancelled meanwhile: it boots on. */
                if (camera->mode == CAMERA_MODE_BOOTLOADER && !camera_is_wanted(camera) && !is_to_be_sent_back(camera)) {
                        camera_event(camera, EVENT_SEEN_BOOTLOADER);
                        break;
                }
                camera_event(camera, EVENT_DEADLINE);
                break;
        case CAMERA_RESTARTING:
                if (caller_is_patient(camera)) {
                        timer_set(&camera->deadline, HUB_LOOK);
                        break;
                }
                camera_not_back(camera);
                break;
        case CAMERA_UNREADABLE:
                registry_unreadable_over(camera->registry, camera);     /* it is not there any more, nor are we */
                break;
        default:
                camera_event(camera, EVENT_DEADLINE);
        }
}

/* --- what the bus tells --- */

/* A bootloader that comes and goes, and no runtime ever between: garbage that starts over, or a hand that is impatient.  The third
 * time it is looked at. */
static void count_restart(struct camera *camera, const struct sighting *sighting)
{
        if ((camera->state != CAMERA_BOOTING && camera->state != CAMERA_CONFIRMING) || camera->disturbed ||
            strcmp(camera->sighting.port, sighting->port) != 0 || ++camera->restarts < RESTARTS_MAX)
                return;
        camera->restarts = 0;
        if (camera->state == CAMERA_CONFIRMING)
                camera->not_seen = true;
        if (is_confirming(camera, camera->state))
                camera_end_update(camera, UPDATE_NOT_SEEN, "verified-not-seen",
                                  "written and verified, but its bootloader came again and again, and no running camera");
        camera->record.suspect = true;
        history(camera, "silent-boot", "its bootloader came again and again, and no running camera");
}

static enum camera_event event_of_rom(const struct camera *camera)
{
        return camera->match == IDENTITY_KNOWN || camera->may_peek || camera->word.given ? EVENT_SEEN_ROM : EVENT_SEEN_ROM_UNPROVEN;
}

void camera_inhibited(struct camera *camera, enum inhibit_mode mode)
{
        camera->disturbed = true;
        camera->silence.known = false;
        if (camera->session && session_step(camera->session) != SESSION_ENDED)
                session_stop(camera->session, /* release= */ mode == INHIBIT_RELEASE);
        else if (camera->state == CAMERA_BLOCKED || camera->state == CAMERA_CALLING)
                camera_event(camera, EVENT_INHIBITED);
        registry_camera_changed(camera->registry, camera);
}

void camera_uninhibited(struct camera *camera)
{
        if (camera->state == CAMERA_CONFIRMING && !camera->attached)
                timer_set(&camera->deadline, RUNTIME_DEADLINE);         /* it could not be looked for */
        caller_consider(camera);
        if (camera->state != CAMERA_INHIBITED)
                return;
        camera->failures = camera->tries = 0;
        if (camera->mode == CAMERA_MODE_ROM_DFU)
                camera_event(camera, event_of_rom(camera));
        else
                /* Nothing but us would let it go: whether it may is found out by looking. */
                camera_event(camera, camera_is_wanted(camera) || camera->held ? EVENT_SEEN_WANTED : EVENT_SEEN_BOOTLOADER);
}

void camera_seen(struct camera *camera, const struct sighting *sighting, enum camera_mode mode, enum identity_match match)
{
        if (mode == CAMERA_MODE_BOOTLOADER)
                count_restart(camera, sighting);
        if (strcmp(camera->sighting.port, sighting->port) != 0 || camera->mode != mode)
                camera->detail[0] = '\0';
        if (mode != CAMERA_MODE_BOOTLOADER || camera->silent_before || loop_now(loop_of(camera)) - camera->gone_at > SILENT_AWAY)
                camera->silence.known = false;
        camera->silent_before = camera->silence.known;
        camera->sighting = *sighting;
        camera->attached = true;
        camera->mode = mode;
        camera->match = match;
        camera->tries = 0;
        camera->record.last_seen = loop_wall_clock(loop_of(camera));
        if (!camera->record.first_seen)
                camera->record.first_seen = camera->record.last_seen;
        snprintf(camera->record.port, sizeof(camera->record.port), "%s", sighting->port);
        camera->failures = 0;
        camera->overdue = camera->held = false;
        if (mode != CAMERA_MODE_ROM_DFU)
                camera->word = (struct user_word){};

        switch (mode) {
        case CAMERA_MODE_BOOTLOADER:
                camera->record.bootloader_device = sighting->device;
                camera->slept = host_slept();
                camera->disturbed = camera_is_inhibited(camera);
                camera->old_bootloader = false;
                camera->sent = caller_bootloader_came(registry_caller(camera->registry), camera, sighting->port);
                camera_event(camera, camera_is_wanted(camera) || camera->sent ? EVENT_SEEN_WANTED : EVENT_SEEN_BOOTLOADER);
                break;
        case CAMERA_MODE_ROM_DFU:
                if (match == IDENTITY_KNOWN && !serial_is_shared(sighting->serial))
                        snprintf(camera->record.rom_serial, sizeof(camera->record.rom_serial), "%s", sighting->serial);
                if (match == IDENTITY_KNOWN) {
                        camera->rom_visits++;
                        history(camera, HISTORY_ROM_DFU, "it is in ROM DFU mode");
                }
                camera_event(camera, event_of_rom(camera));
                break;
        case CAMERA_MODE_RUNTIME:
                if (!serial_is_shared(sighting->serial))
                        snprintf(camera->record.runtime_serial, sizeof(camera->record.runtime_serial), "%s", sighting->serial);
                camera_event(camera, EVENT_SEEN_RUNTIME);
                break;
        case CAMERA_MODE_VCP_BOOTLOADER:
        case CAMERA_MODE_OTHER:
        case CAMERA_MODE_ABSENT:
        case _CAMERA_MODE_MAX:
                camera_event(camera, EVENT_SEEN_OTHER);
                break;
        case CAMERA_MODE_UNREADABLE:
                camera_event(camera, EVENT_SEEN_UNREADABLE);
                break;
        }
        camera_store(camera);
}

void camera_unreadable(struct camera *camera, const struct sighting *sighting, enum identity_match match, unsigned times, uint64_t age)
{
        camera->unanswered = times;
        camera_seen(camera, sighting, CAMERA_MODE_UNREADABLE, match);
        camera->record.last_seen -= age;
        timer_set(&camera->deadline, age < UNREADABLE_STAYS ? UNREADABLE_STAYS - age : 0);
}

/* Its bootloader leaves, and was not ours: another program had it, or may have, for it was there longer than by itself. */
static bool others_may_have_written(const struct camera *camera)
{
        if (camera->mode != CAMERA_MODE_BOOTLOADER)
                return false;
        if (camera->state == CAMERA_STAYING || camera->state == CAMERA_ASKING || camera->state == CAMERA_FAILED || camera->state == CAMERA_NO_FIRMWARE ||
            ((camera->state == CAMERA_BLOCKED || camera->state == CAMERA_OPENING) && camera->tries > 0 && !camera->permission && !camera->no_node))
                return true;
        return (camera->state == CAMERA_PASSING || camera->state == CAMERA_BLOCKED || camera->state == CAMERA_INHIBITED) &&
               loop_now(loop_of(camera)) - camera->sighting.seen_at >= OTHERS_TIME;
}

void camera_gone(struct camera *camera, bool excused)
{
        if (others_may_have_written(camera))
                hold_forget_firmware(camera);
        if (camera->session && session_step(camera->session) != SESSION_ENDED)
                session_gone(camera->session);
        if (camera->provisional)
                camera_end_update(camera, UPDATE_REFUSED, verdict_reason_to_string(REASON_STALE_WORD),
                           "it left before the end: what was said of it held for that attachment only. Say it again");
        hold_gone(camera);
        camera->attached = camera->sent = camera->restored_now = false;
        camera->mode = CAMERA_MODE_ABSENT;
        /* A hand pulled it: what stood in the way of calling it may be another when it returns. */
        if (camera->state == CAMERA_RUNNING || camera->state == CAMERA_CALLING) {
                camera->calls = 0;
                camera->trouble = CALL_FINE;
        }
        camera->word = (struct user_word){};
        camera->gone_at = loop_now(loop_of(camera));
        camera_event(camera, excused || camera->disturbed ? EVENT_GONE_EXCUSED : EVENT_GONE);
        if (!camera_is_wanted(camera) && !camera->restored)
                camera_event(camera, EVENT_FINISHED);
        else if (camera->state == CAMERA_ABSENT && (update_is_open(camera->update) || camera->hold.wished))
                camera_event(camera, EVENT_REQUESTED);  /* it ran while it was wanted in its bootloader: now it is awaited */
}

void camera_has_old_bootloader(struct camera *camera)
{
        if (!camera->old_bootloader)
                camera_log(camera, LOG_NOTICE, "it has the old serial bootloader, which is recognised and left alone");
        camera->old_bootloader = true;
        camera_end_update(camera, UPDATE_REFUSED, diagnosis_code_to_string(DIAGNOSIS_OLD_BOOTLOADER),
                   "it has the old serial bootloader, which is not handled yet: use OpenMV IDE for this camera");
}

static int recall_event(void *userdata, uint64_t wall, const char *event, const char *text)
{
        struct camera *camera = userdata;

        (void)wall;
        (void)text;
        camera->rom_visits += strcmp(event, HISTORY_ROM_DFU) == 0;
        camera->ran_between += strcmp(event, HISTORY_RAN) == 0;
        return 0;
}

static int recall(struct camera *camera)
{
        /* Who was never in ROM DFU has nothing there that is asked for. */
        if (!camera->record.rom_serial[0])
                return 0;
        return journal_each_history(registry_context(camera->registry)->journal, camera->record.key, HISTORY_KEPT, recall_event,
                                    camera);
}

/* The step in the ROM is done: its bootloader is the one that the open update wanted. */
static bool is_restored(const struct camera *camera)
{
        const struct update_record *record = &camera->update->record;

        for (size_t i = 0; i < record->n_images; i++)
                if (strcmp(record->images[i].partition, "BOOTLOADER") == 0)
                        return digest_equal(&record->images[i].digest, &camera->record.bootloader);
        return false;
}

int camera_load(struct camera *camera)
{
        const struct update *update = camera->update;

        if (update_is_open(update) && update->record.message[0]) {
                /* Verified and told to leave, when we died: only its runtime is missing, and may be there already. */
                camera->state = CAMERA_CONFIRMING;
                camera->update->step = UPDATE_CONFIRMING;
                timer_set(&camera->deadline, RUNTIME_DEADLINE);
        } else if (update_is_open(update)) {
                camera->state = CAMERA_WAITING;
                camera->restored = is_restored(camera);
        } else if (camera->record.suspect)
                camera->state = CAMERA_SILENT;
        return recall(camera);
}

void camera_firmware_added(struct camera *camera)
{
        camera->firmware_added = true;
        camera_event(camera, EVENT_FIRMWARE_ADDED);
}

/* --- birth and death --- */

int camera_new(struct registry *registry, const char *key, struct camera **ret)
{
        struct camera *camera = calloc(1, sizeof(*camera));

        if (!camera)
                return -ENOMEM;
        camera->registry = registry;
        snprintf(camera->record.key, sizeof(camera->record.key), "%s", key);
        camera->record.automatic = -1;
        camera->record.layout = 0xff;
        camera->provisional = strncmp(key, "P:", 2) == 0;
        camera->has_uid = uid_from_u(key, &camera->uid) >= 0;
        timer_init(&camera->deadline, loop_of(camera), on_deadline, camera);
        defer_init(&camera->reap, loop_of(camera), on_reap, camera);
        hold_init(camera);
        *ret = camera;
        return 0;
}

struct camera *camera_free(struct camera *camera)
{
        if (!camera)
                return NULL;
        caller_drop(camera);
        session_free(camera->session);
        hold_deinit(camera);
        timer_deinit(&camera->deadline);
        defer_deinit(&camera->reap);
        free(camera);
        return NULL;
}
