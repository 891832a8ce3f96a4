/* SPDX-License-Identifier: MIT */
/* Holding for a tool: see hold.h. */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "core/caller.h"
#include "core/hold.h"
#include "core/registry.h"
#include "protocol/dfu.h"

#define READ_GRACE (10 * SEC)

#define camera_log(about, level, ...)                                                                   \
        log_about(level, (&(struct log_subject){ .camera = (about)->record.key, .port = (about)->sighting.port }), __VA_ARGS__)

static void end_wish(struct camera *camera)
{
        camera->hold.wished = camera->hold.kept = camera->hold.until_gone = false;
        timer_clear(&camera->hold.timer);
}

static void withdraw(struct camera *camera)
{
        end_wish(camera);
        if (!camera_is_wanted(camera))
                camera_event(camera, EVENT_FINISHED);
        camera_send_back(camera);
        registry_camera_changed(camera->registry, camera);
}

void hold_forget_firmware(struct camera *camera)
{
        camera->hold.was_kept = true;
        camera->record.firmware = (struct digest){};
        camera_store(camera);
}

/* --- hold --- */

static bool refuse(struct request_result *ret, enum request_refusal refusal, const char *format, ...) _printf_(3, 4);
static bool refuse(struct request_result *ret, enum request_refusal refusal, const char *format, ...)
{
        va_list ap;

        ret->refusal = refusal;
        va_start(ap, format);
        vsnprintf(ret->text, sizeof(ret->text), format, ap);
        va_end(ap);
        text_end_at_character(ret->text);
        return false;
}

static bool may_be_held(const struct camera *camera, struct request_result *ret)
{
        if (!registry_handles(camera, ret))
                return false;
        if (update_is_open(camera->update))
                return refuse(ret, REFUSAL_UPDATE_OPEN, "update %s is open for it, which holds its bootloader itself: wait for its end, or cancel it",
                              camera->update->record.id);
        if (camera->attached && camera->mode == CAMERA_MODE_ROM_DFU)
                return refuse(ret, REFUSAL_NOT_HANDLED, "it is in ROM DFU mode, where it stays by itself");
        if (camera->provisional)
                return refuse(ret, REFUSAL_NOT_PROVEN, "it is not known to be a certain camera");
        if (!camera->has_uid && camera->board->chip == CHIP_ALIF)
                return refuse(ret, REFUSAL_NOT_PROVEN, "its bootloader was not seen yet, and its serial there is another one: unplug it, plug it in again, and "
                              "ask once more");
        if (camera->hold.releasing)
                return refuse(ret, REFUSAL_BUSY, "it is being let go");
        return true;
}

bool camera_hold(struct camera *camera, uint64_t timeout, struct request_result *ret)
{
        struct hold *hold = &camera->hold;

        *ret = (struct request_result){ .action = REQUEST_REFUSE };
        if (!may_be_held(camera, ret))
                return false;
        camera_log(camera, LOG_NOTICE, "its bootloader will be held for another program, for %u s at most", (unsigned)(timeout / SEC));
        hold->wished = true;
        hold->until_gone = false;
        timer_set(&hold->timer, timeout);
        ret->action = REQUEST_QUEUED;
        if (camera->state != CAMERA_HELD && !hold->closing) {
                camera->tries = camera->failures = camera->calls = 0;
                camera->trouble = CALL_FINE;
                camera_event(camera, EVENT_REQUESTED);
                caller_consider(camera);
        }
        registry_camera_changed(camera->registry, camera);
        return true;
}

/* --- read --- */

static bool may_be_read(const struct camera *camera, const struct session_read *what, struct request_result *ret)
{
        const struct inhibitor *inhibitor = camera_inhibitor(camera);

        if (camera->hold.read.wanted)
                return refuse(ret, REFUSAL_BUSY, "it is being read already");
        if (inhibitor)
                return refuse(ret, REFUSAL_INHIBITED, "held back by %s: %s", inhibitor_who(inhibitor), inhibitor_why(inhibitor));
        if (camera->state != CAMERA_HELD || camera->hold.closing || camera->hold.releasing)
                return refuse(ret, REFUSAL_NOT_HELD, "its bootloader is not held: hold it first");
        if (what->offset % DFU_BLOCK_SIZE != 0)
                return refuse(ret, REFUSAL_ARGUMENT, "reading begins at a multiple of %u", DFU_BLOCK_SIZE);
        return true;
}

bool camera_read(struct camera *camera, const struct session_read *what, const struct hold_reader *reader, void *userdata,
                 struct request_result *ret)
{
        struct hold *hold = &camera->hold;

        *ret = (struct request_result){ .action = REQUEST_REFUSE };
        if (!may_be_read(camera, what, ret))
                return false;
        camera_log(camera, LOG_NOTICE, "%s is read for somebody", what->partition);
        hold->read = *what;
        hold->read.wanted = true;
        hold->reader = reader;
        hold->reader_userdata = userdata;
        camera_event(camera, EVENT_REQUESTED);
        return true;
}

/* He is told; what is read for him goes on until its next block. */
static void dismiss_reader(struct camera *camera, enum read_end end, const char *message)
{
        struct hold *hold = &camera->hold;
        const struct hold_reader *reader = hold->reader;

        hold->reader = NULL;
        if (reader)
                reader->on_end(hold->reader_userdata, end, message);
}

static void answer_read(struct camera *camera, enum read_end end, const char *message)
{
        camera->hold.read = (struct session_read){};
        camera->hold.read_done = false;
        dismiss_reader(camera, end, message);
}

void camera_read_cancel(struct camera *camera)
{
        camera->hold.reader = NULL;     /* the next block finds nobody */
}

int hold_take_read(struct camera *camera, const uint8_t *data, size_t size)
{
        const struct hold *hold = &camera->hold;

        return hold->reader ? hold->reader->on_data(hold->reader_userdata, data, size) : -ECANCELED;
}

/* --- release --- */

static void answer(struct camera *camera, enum release_end end, const char *message)
{
        struct hold *hold = &camera->hold;
        hold_released_fn on_released = hold->on_released;

        hold->releasing = hold->release_next = false;
        hold->on_released = NULL;
        if (on_released)
                on_released(hold->userdata, end, message);
}

/* RELEASE_DONE if it may be: else text says why not. */
static enum release_end why_not_released(const struct camera *camera, char *text, size_t size)
{
        const struct inhibitor *inhibitor = camera_inhibitor(camera);

        if (camera->hold.releasing)
                snprintf(text, size, "It is being let go already.");
        else if (update_is_open(camera->update)) {
                snprintf(text, size, "Update %s is open for it: cancel that first.", camera->update->record.id);
                return RELEASE_UPDATE_OPEN;
        } else if (camera->attached && camera->mode == CAMERA_MODE_ROM_DFU)
                snprintf(text, size, "It is in ROM DFU mode: remove the jumper, and unplug it.");
        else if (camera->hold.wished)
                return RELEASE_DONE;
        else if (!camera->attached || camera->mode != CAMERA_MODE_BOOTLOADER)
                snprintf(text, size, "It is not in its bootloader, and nobody asked for that.");
        else if (camera->provisional)
                snprintf(text, size, "It is not known to be a certain camera.");
        else if (inhibitor) {
                snprintf(text, size, "Held back by %s: %s.", inhibitor_who(inhibitor), inhibitor_why(inhibitor));
                return RELEASE_INHIBITED;
        } else
                return RELEASE_DONE;
        return RELEASE_REFUSED;
}

void camera_release(struct camera *camera, hold_released_fn on_released, void *userdata)
{
        struct hold *hold = &camera->hold;
        char text[sizeof(hold->message)];
        enum release_end end = why_not_released(camera, text, sizeof(text));

        if (end != RELEASE_DONE) {
                if (on_released)
                        on_released(userdata, end, text);
                return;
        }
        hold->on_released = on_released;
        hold->userdata = userdata;
        /* Hands that are off stay off: a bootloader that is held is somebody's until they let go. */
        if (camera->state == CAMERA_HELD && camera_is_inhibited(camera)) {
                withdraw(camera);
                answer(camera, RELEASE_INHIBITED, "Others asked for hands off: it stays in its bootloader.");
                return;
        }
        if (camera->state == CAMERA_BLOCKED) {
                withdraw(camera);
                answer(camera, RELEASE_BUSY, camera->permission ? "no permission to open its device node" :
                       camera->no_node ? "its device node is not there yet" : "another program holds it");
                return;
        }
        switch (camera->state) {
        case CAMERA_OPENING:
        case CAMERA_EXAMINING:
        case CAMERA_HELD:
        case CAMERA_STAYING:
        case CAMERA_ASKING:
        case CAMERA_NO_FIRMWARE:
        case CAMERA_FAILED:
                end_wish(camera);
                hold->releasing = true;
                /* What still reads has the interface, and ends at its next block. */
                hold->release_next = hold->closing || hold->read.wanted;
                if (hold->closing && hold->read.wanted)
                        answer_read(camera, READ_REFUSED, "it is being let go");
                else
                        dismiss_reader(camera, READ_REFUSED, "it is being let go");
                camera_log(camera, LOG_NOTICE, "to be let go of its bootloader");
                if (!hold->release_next)
                        camera_event(camera, EVENT_REQUESTED);
                break;
        default:
                /* On its way, or not there yet. */
                withdraw(camera);
                answer(camera, RELEASE_DONE, "");
                break;
        }
}

void camera_release_forget(struct camera *camera)
{
        camera->hold.on_released = NULL;
}

/* --- what becomes of it --- */

static void stays(struct camera *camera, enum release_end end, const char *message)
{
        struct hold *hold = &camera->hold;

        hold->end = end;
        snprintf(hold->message, sizeof(hold->message), "%s", message);
        hold->closing = true;
        registry_look_quiet(camera->registry);
}

void hold_after_update(struct camera *camera, const char *message)
{
        struct hold *hold = &camera->hold;

        hold->wished = hold->kept = hold->until_gone = true;
        timer_set(&hold->timer, HOLD_AFTER_UPDATE);
        camera->sent = false;
        hold_forget_firmware(camera);
        stays(camera, RELEASE_DONE, message);
}

/* It stays held, unless it has left or others asked for hands off. */
static bool take_end_of_read(struct camera *camera, enum session_end end, const char *message)
{
        switch (end) {
        case SESSION_END_KEPT:
                camera->hold.read_done = true;
                break;
        case SESSION_END_GONE:
        case SESSION_END_WINDOW_MISSED:
                answer_read(camera, READ_FAILED, message);
                if (camera->hold.releasing)
                        answer(camera, RELEASE_DONE, message);
                return false;
        case SESSION_END_STOPPED:
                answer_read(camera, camera_is_inhibited(camera) ? READ_INHIBITED : READ_REFUSED,
                            camera_is_inhibited(camera) ? "others asked for hands off" : message);
                if (!camera_is_inhibited(camera))
                        break;
                if (camera->hold.releasing)
                        answer(camera, RELEASE_INHIBITED, message);
                return false;
        default:
                answer_read(camera, READ_FAILED, message);
                break;
        }
        stays(camera, RELEASE_DONE, message);
        return true;
}

bool hold_take_end(struct camera *camera, enum session_end end, const char *message)
{
        struct hold *hold = &camera->hold;

        if (hold->read.wanted)
                return take_end_of_read(camera, end, message);

        if (end == SESSION_END_KEPT) {
                hold->kept = true;
                camera->sent = false;
                hold_forget_firmware(camera);
                stays(camera, RELEASE_DONE, message);
                return true;
        }
        if (!hold->releasing)
                return false;
        switch (end) {
        case SESSION_END_RELEASED:
        case SESSION_END_GONE:
        case SESSION_END_WINDOW_MISSED:
                answer(camera, RELEASE_DONE, message);
                return false;
        case SESSION_END_STOPPED:
                answer(camera, camera_is_inhibited(camera) ? RELEASE_INHIBITED : RELEASE_REFUSED, message);
                return false;
        case SESSION_END_BUSY:
        case SESSION_END_NO_PERMISSION:
        case SESSION_END_NO_NODE:
                stays(camera, RELEASE_BUSY, message);
                break;
        case SESSION_END_HELD:
                stays(camera, RELEASE_INCOMPLETE, message);
                break;
        case SESSION_END_OPEN_FAILED:
        case SESSION_END_NO_FIRMWARE:
        case SESSION_END_SOUND_BOOTLOADER:
        case SESSION_END_ROM_DONE:
        case SESSION_END_UPDATED:
        case SESSION_END_STAYS:
        case SESSION_END_FAILED:
        case SESSION_END_NOT_RECORDED:
        case SESSION_END_KEPT:
        case _SESSION_END_MAX:
                stays(camera, RELEASE_FAILED, message);
                break;
        }
        camera_log(camera, LOG_NOTICE, "not let go: %s", message);
        return true;
}

void hold_not_begun(struct camera *camera, const char *message)
{
        if (camera->hold.releasing)
                answer(camera, RELEASE_FAILED, message);
        if (camera->hold.read.wanted)
                answer_read(camera, READ_FAILED, message);
}

/* Who hears that it is held claims it in the same moment. */
void hold_look(struct camera *camera)
{
        struct hold *hold = &camera->hold;

        if (!hold->closing || camera_is_busy(camera))
                return;
        hold->closing = false;
        if (camera->state == CAMERA_OPENING || camera->state == CAMERA_EXAMINING) {
                camera_event(camera, EVENT_KEPT);
                if (hold->release_next && !camera_is_inhibited(camera)) {
                        hold->release_next = false;
                        camera_event(camera, EVENT_REQUESTED);
                        return;
                }
                if (hold->release_next) {
                        hold->end = RELEASE_INHIBITED;
                        snprintf(hold->message, sizeof(hold->message), "Others asked for hands off: it stays in its bootloader.");
                }
                if (!hold->wished)
                        camera_event(camera, EVENT_FINISHED);
        } else
                hold->end = RELEASE_DONE;       /* it has left meanwhile */
        hold->release_next = false;
        if (hold->read_done)
                answer_read(camera, READ_DONE, hold->message);
        if (hold->releasing)
                answer(camera, hold->end, hold->message);
}

void hold_arrived(struct camera *camera)
{
        camera->hold.was_kept = false;
        if (!camera->hold.kept)
                return;
        camera_log(camera, LOG_INFO, "it runs again: its bootloader is not held any more");
        end_wish(camera);
}

void hold_gone(struct camera *camera)
{
        if (camera->hold.until_gone)
                end_wish(camera);
}

void hold_superseded(struct camera *camera)
{
        struct hold *hold = &camera->hold;

        hold->closing = hold->release_next = false;
        if (hold->wished)
                camera_log(camera, LOG_NOTICE, "its bootloader is not held for others any more: an update was asked for");
        end_wish(camera);
        if (hold->releasing)
                answer(camera, RELEASE_UPDATE_OPEN, "An update was asked for.");
        if (hold->read.wanted)
                answer_read(camera, READ_UPDATE_OPEN, "an update was asked for");
}

/* --- its time --- */

static void on_timer(void *userdata)
{
        struct camera *camera = userdata;

        if (camera->hold.read.wanted && !camera->hold.closing) {
                timer_set(&camera->hold.timer, READ_GRACE);     /* which comes to an end of its own */
                return;
        }
        camera_log(camera, LOG_NOTICE, "its bootloader was to be held, and the time for that is over");
        if (camera->state == CAMERA_HELD && !camera_is_inhibited(camera)) {
                camera_release(camera, NULL, NULL);
                return;
        }
        /* A device that is slow to be closed. */
        if (camera->hold.closing && camera->state == CAMERA_EXAMINING) {
                camera->hold.closing = false;
                camera_event(camera, EVENT_KEPT);
                if (camera->hold.read_done)
                        answer_read(camera, READ_DONE, camera->hold.message);
        }
        withdraw(camera);
}

void hold_init(struct camera *camera)
{
        timer_init(&camera->hold.timer, registry_context(camera->registry)->loop, on_timer, camera);
}

void hold_deinit(struct camera *camera)
{
        timer_deinit(&camera->hold.timer);
        if (camera->hold.read.wanted)
                answer_read(camera, READ_FAILED, "it was forgotten");
        if (camera->hold.releasing)
                answer(camera, RELEASE_DONE, "");       /* forgotten: it is not there */
}
