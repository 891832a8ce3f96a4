/* SPDX-License-Identifier: MIT */
/*
 * A session: see session.h.
 *
 * It is a chain of operations.  An operation is run by a protocol machine (or
 * is a single standard request); when it is done, "then" goes on with the next
 * link.  A failed operation ends the session; so does the device's leaving.
 * Every function that may end the session is the last call of its caller.
 */

#include "core/session-internal.h"

static const char *const session_step_names[_SESSION_STEP_MAX] = {
        [SESSION_OPENING] = "opening",
        [SESSION_PINNING] = "pinning",
        [SESSION_READING_LAYOUT] = "reading-layout",
        [SESSION_COMPARING] = "comparing",
        [SESSION_SAVING] = "saving",
        [SESSION_COMMITTING] = "committing",
        [SESSION_WRITING] = "writing",
        [SESSION_VERIFYING] = "verifying",
        [SESSION_LEAVING] = "leaving",
        [SESSION_ENDED] = "ended",
};
DEFINE_ENUM_NAMES(session_step, _SESSION_STEP_MAX);

static const char *const session_end_names[_SESSION_END_MAX] = {
        [SESSION_END_GONE] = "gone",
        [SESSION_END_BUSY] = "busy",
        [SESSION_END_NO_PERMISSION] = "no-permission",
        [SESSION_END_NO_NODE] = "no-node",
        [SESSION_END_OPEN_FAILED] = "open-failed",
        [SESSION_END_WINDOW_MISSED] = "window-missed",
        [SESSION_END_RELEASED] = "released",
        [SESSION_END_HELD] = "held",
        [SESSION_END_NO_FIRMWARE] = "no-firmware",
        [SESSION_END_SOUND_BOOTLOADER] = "sound-bootloader",
        [SESSION_END_ROM_DONE] = "rom-done",
        [SESSION_END_UPDATED] = "updated",
        [SESSION_END_FAILED] = "failed",
        [SESSION_END_NOT_RECORDED] = "not-recorded",
        [SESSION_END_STAYS] = "stays",
        [SESSION_END_KEPT] = "kept",
        [SESSION_END_STOPPED] = "stopped",
};
DEFINE_ENUM_NAMES(session_end, _SESSION_END_MAX);

/* --- the end --- */

void session_drop_fetched(struct session *s)
{
        while (s->n_fetched > 0)
                blob_unref(s->fetched[--s->n_fetched]);
}

static void let_go(struct session *s)
{
        timer_clear(&s->timer);
        timer_clear(&s->overall);
        s->opening = usb_opening_cancel(s->opening);
        s->device = usb_device_free(s->device);
        s->n_ahead = 0;
        s->draining = false;
        if (s->context.journal)
                journal_sync_cancel(s->context.journal, s);
        store_cancel(s->context.store, s);
        s->then = NULL;
        s->on_chunk = NULL;
}

/* Wear was counted before the commit for every unit that was going to be erased; take back what did not happen. */
void session_correct_wear(struct session *s)
{
        for (size_t t = 0; t < s->n_targets; t++) {
                struct target *target = &s->targets[t];

                for (size_t u = 0; target->planned && u < target->survey.n_units; u++)
                        if (target->planned[u] && !target->begun[u]) {
                                target->planned[u] = false;
                                s->events->add_wear(s->userdata, target->partition.name, (unsigned)u, -1);
                        }
        }
}

void session_end(struct session *s, enum session_end end, enum machine_outcome outcome, const char *message)
{
        if (s->step == SESSION_ENDED)
                return;
        s->step = SESSION_ENDED;
        let_go(s);
        session_correct_wear(s);
        s->events->on_end(s->userdata, end, outcome, message);
}

_printf_(4, 5)
void session_end_with(struct session *s, enum session_end end, enum machine_outcome outcome,
                             const char *format, ...)
{
        char message[sizeof(s->message)];
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        session_end(s, end, outcome, message);
}

void session_gone_away(struct session *s)
{
        if (s->told_to_leave) {
                session_end(s, s->end_after_leaving, MACHINE_OK, s->message);
                return;
        }
        if (s->step <= SESSION_PINNING)
                session_end(s, SESSION_END_WINDOW_MISSED, MACHINE_GONE, "it left before it could be held");
        else
                session_end_with(s, SESSION_END_GONE, MACHINE_GONE, "it left the bus while %s",
                                 session_step_to_string(s->step));
}

/* --- leaving --- */

static void on_detached(struct session *s)
{
        /* Its disappearance is reported by the bus (session_gone), or this runs out. */
        timer_set(&s->timer, LEAVE_WAIT);
}

static void on_deconfigured(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct session *s = userdata;

        (void)data;
        (void)actual;
        if (result == USB_GONE)
                session_gone_away(s);
        else
                timer_set(&s->timer, LEAVE_WAIT);
}


void session_on_manifested(struct session *s)
{
        session_updated(s, s->message);
}

void session_updated(struct session *s, const char *message)
{
        bool incomplete = session_other_firmware_is_incomplete(s);

        if (incomplete || s->wish.stay)
                session_end_with(s, SESSION_END_STAYS, MACHINE_OK, "%s; it stays in its bootloader%s", message,
                                 incomplete ? ", because its firmware is incomplete" : "");
        else
                session_leave(s, SESSION_END_UPDATED, message);
}

void session_leave(struct session *s, enum session_end end, const char *message)
{
        s->end_after_leaving = end;
        if (message != s->message)
                snprintf(s->message, sizeof(s->message), "%s", message);
        s->step = SESSION_LEAVING;
        s->told_to_leave = true;
        if (end == SESSION_END_UPDATED)
                s->events->on_verified(s->userdata, s->message);
        s->events->on_progress(s->userdata);
        dfu_begin_detach(&s->dfu);
        session_run(s, on_detached);
}

static void on_leave_deadline(struct session *s)
{
        static const struct usb_setup deconfigure = { .request_type = 0x00, .request = 0x09, .value = 0 };

        if (!s->deconfigured) {
                /* DETACH is not obeyed: bcdDevice 0x0200 in forced mode.  SET_CONFIGURATION(0) makes every version leave (dfu.md
                 * A.7), and everything is complete. */
                session_log(s, LOG_NOTICE, "does not leave on DETACH: taking its configuration away");
                s->deconfigured = true;
                if (usb_submit(s->device, &deconfigure, NULL, DFU_TIMEOUT_REQUEST, on_deconfigured, s) >= 0)
                        return;
        }
        session_end(s, s->end_after_leaving, MACHINE_OK, s->message);
}

/* --- stopping --- */

/* What was asked of the disk comes to nothing. */
static void forget_disk(struct session *s)
{
        if (s->context.journal)
                journal_sync_cancel(s->context.journal, s);
        store_cancel(s->context.store, s);
        s->on_disk = false;
}

bool session_stops_here(struct session *s)
{
        if (!s->stopping || s->step >= SESSION_LEAVING)
                return false;
        s->on_chunk = NULL;
        if (s->release && s->step > SESSION_OPENING && session_would_boot(s)) {
                char text[96];

                snprintf(text, sizeof(text), "stopped while %s, and released: its firmware is whole", session_step_to_string(s->step));
                forget_disk(s);
                session_leave(s, SESSION_END_STOPPED, text);
        } else
                session_end_with(s, SESSION_END_STOPPED, MACHINE_OK, "stopped while %s", session_step_to_string(s->step));
        return true;
}

void session_stop(struct session *s, bool release)
{
        s->release = s->release || release;
        if (s->stopping || s->step >= SESSION_LEAVING)
                return;
        s->stopping = true;
        /* Nothing that could be torn is under way.  (An opening hangs as long as its device does.) */
        if (s->step == SESSION_OPENING || s->on_disk)
                timer_set(&s->timer, 0);
}

/* --- opening --- */

static void pinned(struct session *s)
{
        s->events->on_pinned(s->userdata, loop_now(s->context.loop) - s->sighting.seen_at);
        if (s->step == SESSION_ENDED || session_stops_here(s))
                return;
        if (s->wish.read.wanted)
                session_read_layout(s);
        else if (s->wish.keep)
                session_end(s, SESSION_END_KEPT, MACHINE_OK, "its bootloader is held, for another program to use");
        else if (s->wish.release_only)
                session_leave(s, SESSION_END_RELEASED, "nothing is wanted of it any more: sent back to its firmware");
        else if (s->wish.peek_only)
                session_begin_peek(s);
        else
                session_read_layout(s);
}

static void on_open(void *userdata, int error, struct usb_device *device)
{
        struct session *s = userdata;

        s->opening = NULL;
        if (error < 0) {
                switch (error) {
                case -EBUSY:
                        session_end(s, SESSION_END_BUSY, MACHINE_OK, "another program holds it");
                        break;
                case -EACCES:
                case -EPERM:
                        session_end(s, SESSION_END_NO_PERMISSION, MACHINE_OK, "no permission to open its device node");
                        break;
                case -ENOENT:
                        session_end(s, SESSION_END_NO_NODE, MACHINE_OK, "its device node is not there yet");
                        break;
                case -ENODEV:
                        session_gone_away(s);
                        break;
                default:
                        session_end_with(s, SESSION_END_OPEN_FAILED, MACHINE_OK, "cannot be opened: %s", strerror(-error));
                }
                return;
        }
        s->device = device;
        if (session_stops_here(s))      /* before it is held */
                return;
        s->step = SESSION_PINNING;
        if (session_in_rom(s)) {
                dfuse_init(&s->dfuse, s->sighting.transfer_size ?: (s->board->chip == CHIP_H7 ? 1024 : 2048),
                           s->board->chip == CHIP_H7);
                dfuse_begin_take(&s->dfuse);
        } else {
                dfu_init(&s->dfu);
                dfu_begin_pin(&s->dfu);
        }
        session_run(s, pinned);
}

static void on_timer(void *userdata)
{
        struct session *s = userdata;

        if (s->waiting_for_machine) {
                s->waiting_for_machine = false;
                session_on_machine_step(s, session_in_rom(s) ? dfuse_next(&s->dfuse, NULL) : dfu_next(&s->dfu, NULL));
        } else if (s->giving_way) {
                s->giving_way = false;
                session_take_machine_step(s, s->current);
        } else if (s->step == SESSION_LEAVING)
                on_leave_deadline(s);
        else if (s->step == SESSION_OPENING || s->on_disk)
                (void)session_stops_here(s);
}

static void on_overall(void *userdata)
{
        session_end(userdata, SESSION_END_FAILED, MACHINE_TIMEOUT, "the device answers, but so slowly that it does not come to an end");
}

int session_new(const struct session_context *context, const struct session_events *events, void *userdata,
                const struct board *board, const struct sighting *sighting, enum camera_mode mode,
                const struct session_wish *wish, struct session **ret)
{
        _cleanup_free_ struct session *s = calloc(1, sizeof(*s));
        int r;

        if (!s)
                return -ENOMEM;
        /* Member by member: most of it is for targets that most sessions never have, and what is not written takes no memory. */
        s->context = *context;
        s->events = events;
        s->userdata = userdata;
        s->board = board;
        s->sighting = *sighting;
        s->mode = mode;
        s->wish = *wish;
        s->step = SESSION_OPENING;
        s->subject = (struct log_subject){ .camera = s->wish.camera, .port = s->sighting.port };
        if (mode == CAMERA_MODE_BOOTLOADER)
                s->own_hurry = *context->hurry_until = loop_now(context->loop) + HURRY;
        timer_init(&s->timer, context->loop, on_timer, s);
        timer_init(&s->overall, context->loop, on_overall, s);
        r = usb_open(context->usb, sighting->node, /* interface= */ 0, OPEN_DEADLINE, on_open, s, &s->opening);
        if (r < 0) {
                timer_deinit(&s->timer);
                return r;
        }
        timer_set(&s->overall, SESSION_DEADLINE);
        *ret = take_ptr(s);
        return 0;
}

struct session *session_free(struct session *s)
{
        if (!s)
                return NULL;
        if (s->step != SESSION_ENDED) {
                s->step = SESSION_ENDED;
                let_go(s);
                session_correct_wear(s);
        }
        for (size_t t = 0; t < s->n_targets; t++) {
                struct target *target = &s->targets[t];

                for (size_t i = 0; i < target->n_candidates; i++)
                        blob_unref(target->candidates[i]);
                blob_unref(target->wanted_blob);
                survey_deinit(&target->survey);
                free(target->units);
                free(target->planned);
                free(target->begun);
        }
        session_drop_fetched(s);
        timer_deinit(&s->timer);
        timer_deinit(&s->overall);
        free(s->save_buffer);
        free(s);
        return NULL;
}

void session_gone(struct session *s)
{
        if (s->step != SESSION_ENDED)
                session_gone_away(s);
}

enum session_step session_step(const struct session *s)
{
        return s->step;
}

const char *session_image(const struct session *s)
{
        return s->step >= SESSION_COMPARING && s->target < s->n_targets ? s->targets[s->target].partition.name : "";
}

void session_bytes(const struct session *s, uint64_t *ret_done, uint64_t *ret_total)
{
        *ret_total = s->bytes_total;
        *ret_done = MIN(s->bytes_done, s->bytes_total);
}

/* Weighted by what takes the time: writing is ten times as slow as reading (timing.md section 5). */
double session_progress(const struct session *s)
{
        double part = s->bytes_total ? (double)MIN(s->bytes_done, s->bytes_total) / (double)s->bytes_total : 0;

        switch (s->step) {
        case SESSION_OPENING:
        case SESSION_PINNING:
        case SESSION_READING_LAYOUT:
                return 0.0;
        case SESSION_COMPARING:
                return 0.05 * part;
        case SESSION_SAVING:
        case SESSION_COMMITTING:
                return 0.05;
        case SESSION_WRITING:
                return 0.05 + 0.83 * part;
        case SESSION_VERIFYING:
                return 0.88 + 0.12 * part;
        case SESSION_LEAVING:
        case SESSION_ENDED:
                return 1.0;
        case _SESSION_STEP_MAX:
                break;
        }
        return 0.0;
}

void session_units(const struct session *s, unsigned *ret_written, unsigned *ret_total)
{
        *ret_written = s->units_written;
        *ret_total = s->units_total;
}
