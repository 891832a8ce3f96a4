/* SPDX-License-Identifier: MIT */
/*
 * A session: see session.h.
 *
 * It is a chain of operations.  An operation is run by a protocol machine (or
 * is a single standard request); when it is done, "then" goes on with the next
 * link.  A failed operation ends the session; so does the device's leaving.
 * Every function that may end the session is the last call of its caller.
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "core/session.h"
#include "protocol/dfu.h"
#include "protocol/dfuse.h"

#define OPEN_DEADLINE     (5 * SEC)
#define LEAVE_WAIT        (2 * SEC)     /* after DETACH: bootloaders with bcdDevice 0x0200 leave when their window has run out (dfu.md A.7) */
#define WRITE_ROUNDS_MAX  3             /* of writing what did not read back equal */
#define SESSION_TARGETS_MAX 8
#define FILESYSTEM_ZEROS  4096          /* "erase filesystem" is a block of zeros (boards.md section 3) */
#define SESSION_DEADLINE  (3600 * SEC)  /* of the whole: the longest honest one (an AE3's ROMFS on worn flash) takes 45 minutes */
#define CONFIG_MAX        512
#define HURRY             (100 * MSEC)  /* after a bootloader came: opening and pinning take a few milliseconds each */
#define GIVE_WAY_MAX      (500 * MSEC)  /* in one session */
#define ALT_NAME_MAX      128           /* no string descriptor is longer; the memory map of an F42x has 83 characters */
#define FIRST_DFU_GENERATION "4.6.0"    /* first release that expects the DFU bootloader and its file system's place (dfu.md A.1) */

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
        [SESSION_END_OPEN_FAILED] = "open-failed",
        [SESSION_END_WINDOW_MISSED] = "window-missed",
        [SESSION_END_RELEASED] = "released",
        [SESSION_END_HELD] = "held",
        [SESSION_END_NO_FIRMWARE] = "no-firmware",
        [SESSION_END_SOUND_BOOTLOADER] = "sound-bootloader",
        [SESSION_END_ROM_DONE] = "rom-done",
        [SESSION_END_UPDATED] = "updated",
        [SESSION_END_FAILED] = "failed",
        [SESSION_END_STOPPED] = "stopped",
};
DEFINE_ENUM_NAMES(session_end, _SESSION_END_MAX);

static const uint8_t filesystem_zeros[FILESYSTEM_ZEROS];

/* One partition that the session looks at, and what is wanted there. */
struct target {
        struct partition partition;
        uint8_t alt;
        struct blob *wanted_blob;
        const uint8_t *wanted;          /* NULL: only looked at */
        uint32_t wanted_size;
        struct blob *candidates[SURVEY_CANDIDATES_MAX];
        const struct firmware_record *records[SURVEY_CANDIDATES_MAX];   /* NULL: a saved image */
        size_t n_candidates;
        struct survey survey;
        bool head_only;                 /* ROM: looked at because its first unit may have to be erased */
        bool saved;
        bool not_ours;                  /* unknown, and not what our interrupted write would have left */
        enum image_fault fault;
        struct verdict_unit *units;     /* evidence */
        bool *planned, *begun;          /* per unit: counted as wear; erase really begun */
};

struct session {
        struct session_context context;
        const struct session_events *events;
        void *userdata;

        const struct board *board;
        const struct layout *layout;
        struct sighting sighting;
        enum camera_mode mode;
        struct session_wish wish;
        char name[PORT_PATH_MAX + CAMERA_KEY_MAX];
        struct log_subject subject;

        enum session_step step;
        struct usb_opening *opening;
        struct usb_device *device;
        struct dfu dfu;
        struct dfuse dfuse;
        struct timer timer;
        struct timer overall;
        struct machine_step current;    /* the machine's last step: what the timer waits for */
        void (*then)(struct session *s);
        void (*on_chunk)(struct session *s, const struct machine_chunk *chunk);
        bool enough;                    /* on_chunk has seen what it wanted of this read */
        bool stopping;
        struct usb_setup ahead[USB_QUEUE_MAX - 1];      /* requests sent before the machine asked for them */
        size_t n_ahead;
        struct usb_setup asked;         /* what this operation's machine asked for last */
        bool giving_way;                /* the timer ends it; then goes on what current says */
        uint64_t gave_way;              /* so far */
        uint64_t own_hurry;             /* what context.hurry_until was when this one came: not to give way to itself */
        bool draining;                  /* they are taken back; then goes on what current says */
        bool waiting_for_machine;       /* the timer is the machine's MACHINE_WAIT */

        /* layout */
        uint8_t config[CONFIG_MAX];
        char alt_names[BOARD_PARTITIONS_MAX * 2][ALT_NAME_MAX];
        uint8_t alt_string[BOARD_PARTITIONS_MAX * 2];
        size_t n_alts, reading_alt;

        struct blob *fetched[SURVEY_CANDIDATES_MAX * 2];        /* held until the targets hold what they need */
        size_t n_fetched, fetch_image, fetch_firmware, fetch_saved;

        struct target targets[SESSION_TARGETS_MAX];
        size_t n_targets, target;
        size_t unit;
        struct session_decision decision;
        unsigned round;
        bool wrote, verified_all;
        bool head_added;                /* ROM: the firmware is looked at too, because its first unit may have to go */

        uint8_t *save_buffer;
        uint32_t save_size;

        uint64_t bytes_done, bytes_total;
        uint64_t op_bytes;              /* bytes_done before the present operation */
        unsigned units_written, units_total;

        enum session_end end_after_leaving;
        bool told_to_leave;             /* DETACH was sent: that it goes is no accident */
        bool deconfigured;              /* its configuration was taken away, because it did not leave on DETACH */
        char message[256];
};

#define session_log(s, level, ...) log_about(level, &(s)->subject, __VA_ARGS__)

/* --- the end --- */

static void drop_fetched(struct session *s)
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
static void correct_wear(struct session *s)
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

static void session_end(struct session *s, enum session_end end, enum machine_outcome outcome, const char *message)
{
        if (s->step == SESSION_ENDED)
                return;
        s->step = SESSION_ENDED;
        let_go(s);
        correct_wear(s);
        s->events->on_end(s->userdata, end, outcome, message);
}

_printf_(4, 5)
static void session_end_with(struct session *s, enum session_end end, enum machine_outcome outcome,
                             const char *format, ...)
{
        char message[sizeof(s->message)];
        va_list ap;

        va_start(ap, format);
        vsnprintf(message, sizeof(message), format, ap);
        va_end(ap);
        session_end(s, end, outcome, message);
}

static void session_gone_away(struct session *s)
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

/* --- running the machines --- */

static bool in_rom(const struct session *s)
{
        return s->mode == CAMERA_MODE_ROM_DFU;
}

static struct machine *machine_of(struct session *s)
{
        return in_rom(s) ? &s->dfuse.machine : &s->dfu.machine;
}

static const char *op_failure(const struct machine_step *step, char *buffer, size_t size)
{
        const char *status = dfu_status_name(step->status);

        if (step->outcome == MACHINE_DEVICE_ERROR || step->outcome == MACHINE_WRITE_REFUSED ||
            step->outcome == MACHINE_ADDRESS_REFUSED)
                snprintf(buffer, size, "%s (%s)", machine_outcome_to_string(step->outcome), status ?: "unknown status");
        else
                snprintf(buffer, size, "%s", machine_outcome_to_string(step->outcome));
        return buffer;
}

static void on_machine_step(struct session *s, struct machine_step step);
static void take_machine_step(struct session *s, struct machine_step step);
static void run(struct session *s, void (*then)(struct session *s));

/*
 * Looking ahead.  Where the answer to a request is as good as certain, the next request is sent without waiting for it, so that
 * the device never waits for the host: an UPLOAD behind the one before, and the GETSTATUS that waits for the flash behind the
 * one that starts it.  The device sees the same requests in the same order.  What will come next is found out by asking a copy of
 * the machine, which is a value, and giving it the expected answer.  If the machine then wants something else, what was sent
 * ahead is taken back, or comes to nothing.
 *
 * What changes flash is never sent ahead: no DNLOAD, and not the GETSTATUS behind it either, for that is what commits the block.
 * Endpoint 0 goes on with what is queued whatever became of the request before, and a device that had half of a block when the
 * transfer broke off (a bad cable) holds that half as its pending block; one that refused the block may hold another one.  The
 * second GETSTATUS stands behind a DNLOAD that was answered: even if the first is lost, it commits no other block than this one.
 */

static bool same_setup(const struct usb_setup *a, const struct usb_setup *b)
{
        return a->request_type == b->request_type && a->request == b->request && a->value == b->value &&
               a->index == b->index && a->length == b->length;
}

/* The answer that request will have, if all is well; false: that cannot be told. */
static bool expected_reply(const struct usb_setup *request, const struct usb_setup *before, struct machine_reply *ret)
{
        static const uint8_t zeros[DFU_BLOCK_SIZE];
        static const uint8_t busy[6] = { [4] = DFU_STATE_DNBUSY };

        *ret = (struct machine_reply){ .result = USB_OK, .actual = request->length };
        if (request->request_type != 0xa1)
                return false;
        if (request->request == DFU_GETSTATUS && before->request_type == 0x21 && before->request == DFU_DNLOAD &&
            before->length > 0) {
                ret->data = busy;
                return true;
        }
        if (request->request == DFU_UPLOAD && request->length <= sizeof(zeros)) {
                ret->data = zeros;
                return true;
        }
        return false;
}

static bool may_go_ahead(const struct usb_setup *request)
{
        return request->request_type == 0xa1 && (request->request == DFU_GETSTATUS || request->request == DFU_UPLOAD);
}

static void on_reply(void *userdata, enum usb_result result, const uint8_t *data, size_t actual);

static bool others_hurry(const struct session *s)
{
        return *s->context.hurry_until != s->own_hurry && loop_now(s->context.loop) < *s->context.hurry_until;
}

/* request is on its way for the machine as it is now. */
static void look_ahead(struct session *s, struct usb_setup request)
{
        struct usb_setup before = s->asked;
        struct dfu copy = s->dfu;

        s->asked = request;

        /* A comparison may stop at its first block: only where reading goes on is it worth to read ahead. */
        if (in_rom(s) || (request.request == DFU_UPLOAD && (s->dfu.machine.progress == 0 || others_hurry(s))))
                return;
        for (size_t i = 0; i < s->n_ahead; i++) {
                struct machine_reply reply;

                if (!expected_reply(&request, &before, &reply))
                        return;
                (void)dfu_next(&copy, &reply);
                before = request;
                request = s->ahead[i];
        }
        while (s->n_ahead < ELEMENTSOF(s->ahead)) {
                struct machine_reply reply;
                struct machine_step step;

                if (!expected_reply(&request, &before, &reply))
                        return;
                step = dfu_next(&copy, &reply);
                if (step.kind != MACHINE_REQUEST || !may_go_ahead(&step.setup) ||
                    usb_submit(s->device, &step.setup, step.data, step.timeout, on_reply, s) < 0)
                        return;
                s->ahead[s->n_ahead++] = step.setup;
                before = request;
                request = step.setup;
        }
}

static void on_reply(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct session *s = userdata;
        struct machine_reply reply = { .result = result, .data = data, .actual = actual };

        if (s->draining) {
                if (--s->n_ahead > 0)
                        return;
                s->draining = false;
                take_machine_step(s, s->current);
                return;
        }
        on_machine_step(s, in_rom(s) ? dfuse_next(&s->dfuse, &reply) : dfu_next(&s->dfu, &reply));
}

static void on_machine_failed(struct session *s, const struct machine_step *step)
{
        char buffer[64];

        if (step->outcome == MACHINE_GONE) {
                session_gone_away(s);
                return;
        }
        if (s->step == SESSION_LEAVING) {
                /* Everything is verified; that it did not answer "leave" is seen on the bus. */
                timer_set(&s->timer, LEAVE_WAIT);
                return;
        }
        if (s->step == SESSION_COMPARING && !s->wish.peek_only &&
            (step->outcome == MACHINE_DEVICE_ERROR || step->outcome == MACHINE_PROTECTED ||
             step->outcome == MACHINE_ADDRESS_REFUSED)) {
                /* Flash that the device says it cannot read is evidence, and the verdict knows what to make of it.  Trouble on
                 * the bus is none: a cable being pulled may look like that. */
                session_log(s, LOG_WARNING, "cannot read %s: %s", s->targets[s->target].partition.name,
                            op_failure(step, buffer, sizeof(buffer)));
                survey_unreadable(&s->targets[s->target].survey);
                s->then(s);
                return;
        }
        session_end_with(s, s->step == SESSION_PINNING ? SESSION_END_OPEN_FAILED : SESSION_END_FAILED, step->outcome,
                         "%s: %s", session_step_to_string(s->step), op_failure(step, buffer, sizeof(buffer)));
}

/* A bootloader that is not held within its window is lost; a comparison can wait a moment for the bus and the processor. */
static bool give_way(struct session *s)
{
        uint64_t wait;

        if ((s->step != SESSION_COMPARING && s->step != SESSION_SAVING) || !others_hurry(s) || s->gave_way >= GIVE_WAY_MAX)
                return false;
        wait = *s->context.hurry_until - loop_now(s->context.loop);
        s->gave_way += wait;
        s->giving_way = true;
        timer_set(&s->timer, wait);
        return true;
}

static void take_machine_step(struct session *s, struct machine_step step)
{
        struct machine *machine = machine_of(s);
        int r;

        switch (step.kind) {
        case MACHINE_REQUEST:
                if (!s->enough && give_way(s))
                        return;
                if (s->enough) {
                        /* A comparison that has seen enough.  The OpenMV bootloader's UPLOAD leaves no state behind; the ROM
                         * sits in dfuUPLOAD-IDLE and is brought back to dfuIDLE first. */
                        s->enough = false;
                        s->on_chunk = NULL;
                        if (in_rom(s)) {
                                dfuse_begin_take(&s->dfuse);
                                run(s, s->then);
                        } else
                                s->then(s);
                        return;
                }
                if (s->step == SESSION_WRITING || s->step == SESSION_VERIFYING || s->step == SESSION_SAVING) {
                        s->bytes_done = s->op_bytes + machine->progress;
                        s->events->on_progress(s->userdata);
                }
                r = usb_submit(s->device, &step.setup, step.data, step.timeout, on_reply, s);
                if (r < 0) {
                        session_end_with(s, SESSION_END_FAILED, MACHINE_TRANSFER_ERROR, "cannot send a request: %s",
                                         strerror(-r));
                        return;
                }
                look_ahead(s, step.setup);
                return;
        case MACHINE_WAIT:
                s->waiting_for_machine = true;
                timer_set(&s->timer, step.wait);
                return;
        case MACHINE_DONE:
                s->bytes_done = s->op_bytes + machine->progress;
                s->then(s);
                return;
        case MACHINE_FAILED:
                on_machine_failed(s, &step);
                return;
        }
}

static void on_machine_step(struct session *s, struct machine_step step)
{
        struct machine *machine = machine_of(s);

        if (s->on_chunk && machine->chunk.size > 0) {
                s->on_chunk(s, &machine->chunk);
                if (s->step == SESSION_ENDED)
                        return;
        }
        if (s->n_ahead > 0 && step.kind == MACHINE_REQUEST && !s->enough && same_setup(&step.setup, &s->ahead[0])) {
                /* It is on its way already. */
                memmove(&s->ahead[0], &s->ahead[1], --s->n_ahead * sizeof(s->ahead[0]));
                s->current = step;
                look_ahead(s, step.setup);
                return;
        }
        s->current = step;
        if (s->n_ahead > 0) {
                s->draining = true;
                usb_cancel(s->device);
                return;
        }
        take_machine_step(s, step);
}

/* Starts the operation that was begun in the machine; then() goes on after it. */
static void run(struct session *s, void (*then)(struct session *s))
{
        s->then = then;
        s->enough = false;
        s->asked = (struct usb_setup){};
        s->op_bytes = s->bytes_done;
        on_machine_step(s, in_rom(s) ? dfuse_next(&s->dfuse, NULL) : dfu_next(&s->dfu, NULL));
}

static void begin_read(struct session *s, const struct target *target, uint32_t offset, uint32_t size)
{
        if (in_rom(s))
                dfuse_begin_read(&s->dfuse, target->partition.start + offset, size);
        else
                dfu_begin_read(&s->dfu, offset, size);
}

static uint32_t chunk_offset(const struct session *s, const struct target *target, const struct machine_chunk *chunk)
{
        return s->mode == CAMERA_MODE_ROM_DFU ? chunk->offset - target->partition.start : chunk->offset;
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

static void leave(struct session *s, enum session_end end, const char *message);

static void on_manifested(struct session *s)
{
        leave(s, s->end_after_leaving, s->message);
}

static void leave(struct session *s, enum session_end end, const char *message)
{
        s->end_after_leaving = end;
        if (message != s->message)
                snprintf(s->message, sizeof(s->message), "%s", message);
        s->step = SESSION_LEAVING;
        s->told_to_leave = true;
        s->events->on_progress(s->userdata);
        dfu_begin_detach(&s->dfu);
        run(s, on_detached);
}

static void on_leave_deadline(struct session *s)
{
        static const struct usb_setup deconfigure = { .request_type = 0x00, .request = 0x09, .value = 0 };

        if (!s->deconfigured) {
                /* DETACH is not obeyed: bcdDevice 0x0200 in forced mode.  SET_CONFIGURATION(0) makes every version leave (dfu.md
                 * A.7), and everything is complete. */
                session_log(s, LOG_NOTICE, "does not leave on DETACH: taking its configuration away");
                s->deconfigured = true;
                s->told_to_leave = true;
                if (usb_submit(s->device, &deconfigure, NULL, DFU_TIMEOUT_REQUEST, on_deconfigured, s) >= 0)
                        return;
        }
        session_end(s, s->end_after_leaving, MACHINE_OK, s->message);
}

/* --- verify --- */

static void decide_again(struct session *s);
static void verify_next(struct session *s);

static void verify_chunk(struct session *s, const struct machine_chunk *chunk)
{
        struct target *target = &s->targets[s->target];
        uint32_t offset = chunk_offset(s, target, chunk), n = (uint32_t)chunk->size;
        uint32_t i;

        if (!target->wanted) {          /* a head that had to be erased */
                if (!bytes_all(chunk->data, n, 0xff))
                        target->survey.differs[s->unit] = true;
                return;
        }
        if (offset >= target->wanted_size)
                return;
        n = MIN(n, target->wanted_size - offset);
        i = (uint32_t)bytes_common_prefix(chunk->data, target->wanted + offset, n);
        if (i < n) {
                session_log(s, LOG_WARNING, "%s at 0x%08x: read back 0x%02x, wrote 0x%02x", target->partition.name,
                            target->partition.start + offset + i, chunk->data[i], target->wanted[offset + i]);
                target->survey.differs[s->unit] = true;
                s->enough = true;
        }
}

static void verified_unit(struct session *s)
{
        s->unit++;
        verify_next(s);
}

static uint32_t unit_bytes(const struct target *target, size_t u)
{
        const struct erase_unit *unit = &target->survey.units[u];

        if (!target->wanted)
                return unit->size;
        return MIN(unit->size, target->wanted_size - unit->offset);
}

static void finish(struct session *s)
{
        char text[96];

        for (size_t t = 0; t < s->n_targets; t++)
                for (size_t u = 0; u < s->targets[t].survey.n_units; u++)
                        if (s->targets[t].begun && s->targets[t].begun[u] && s->targets[t].survey.differs[u]) {
                                decide_again(s);
                                return;
                        }
        snprintf(text, sizeof(text), "%u of %u erase units written, all read back equal", s->units_written,
                 s->units_total);
        if (in_rom(s)) {
                session_end(s, SESSION_END_ROM_DONE, MACHINE_OK, text);
                return;
        }
        s->step = SESSION_LEAVING;
        s->end_after_leaving = SESSION_END_UPDATED;
        snprintf(s->message, sizeof(s->message), "%s", text);
        s->on_chunk = NULL;
        dfu_begin_manifest(&s->dfu);
        run(s, on_manifested);
}

static void verify_selected(struct session *s)
{
        struct target *target = &s->targets[s->target];

        s->on_chunk = verify_chunk;
        begin_read(s, target, target->survey.units[s->unit].offset, unit_bytes(target, s->unit));
        run(s, verified_unit);
}

static void verify_next(struct session *s)
{
        s->on_chunk = NULL;
        for (; s->target < s->n_targets; s->target++, s->unit = 0) {
                struct target *target = &s->targets[s->target];

                for (; s->unit < target->survey.n_units; s->unit++) {
                        if (!target->begun || !target->begun[s->unit] ||
                            !verdict_writes_unit(&s->decision.verdict, s->target, s->unit))
                                continue;
                        target->survey.differs[s->unit] = false;
                        if (!in_rom(s) && s->dfu.alt != target->alt) {
                                dfu_begin_select(&s->dfu, target->alt);
                                run(s, verify_selected);
                        } else
                                verify_selected(s);
                        return;
                }
        }
        finish(s);
}

/* --- write --- */

static void write_next(struct session *s);

static void written_unit(struct session *s)
{
        s->units_written++;
        s->unit++;
        write_next(s);
}

static void erased_unit(struct session *s)
{
        struct target *target = &s->targets[s->target];
        const struct erase_unit *unit = &target->survey.units[s->unit];

        if (!target->wanted) {
                written_unit(s);
                return;
        }
        dfuse_begin_write(&s->dfuse, target->partition.start + unit->offset, target->wanted + unit->offset,
                          unit_bytes(target, s->unit));
        run(s, written_unit);
}

static void write_selected(struct session *s)
{
        struct target *target = &s->targets[s->target];
        const struct erase_unit *unit = &target->survey.units[s->unit];

        target->begun[s->unit] = true;
        s->wrote = true;
        if (in_rom(s)) {
                dfuse_begin_erase(&s->dfuse, target->partition.start + unit->offset);
                run(s, erased_unit);
                return;
        }
        dfu_begin_write(&s->dfu, unit->offset, target->wanted + unit->offset, unit_bytes(target, s->unit));
        run(s, written_unit);
}

static void write_next(struct session *s)
{
        if (s->stopping) {
                session_end(s, SESSION_END_STOPPED, MACHINE_OK, "stopped between two erase units");
                return;
        }
        for (; s->target < s->n_targets; s->target++, s->unit = 0) {
                struct target *target = &s->targets[s->target];

                for (; s->unit < target->survey.n_units; s->unit++) {
                        if (!verdict_writes_unit(&s->decision.verdict, s->target, s->unit))
                                continue;
                        if (!in_rom(s) && s->dfu.alt != target->alt) {
                                dfu_begin_select(&s->dfu, target->alt);
                                run(s, write_selected);
                        } else
                                write_selected(s);
                        return;
                }
        }
        s->step = SESSION_VERIFYING;
        s->target = s->unit = 0;
        s->bytes_done = 0;
        s->events->on_progress(s->userdata);
        verify_next(s);
}

static void begin_writing(struct session *s)
{
        s->step = SESSION_WRITING;
        s->target = s->unit = 0;
        s->bytes_done = 0;
        s->on_chunk = NULL;
        s->events->on_progress(s->userdata);
        write_next(s);
}

/* What this update has begun to erase is its own work, not somebody's image. */
static bool was_begun_before(const struct session *s, const struct target *target)
{
        for (size_t u = 0; s->wish.begun && u < target->survey.n_units; u++)
                if (s->events->get_wear(s->userdata, target->partition.name, (unsigned)u) > 0)
                        return true;
        return false;
}

static bool content_is_incomplete(enum content content)
{
        switch (content) {
        case CONTENT_BLANK:
        case CONTENT_IMPOSSIBLE:
        case CONTENT_INTERRUPTED:
        case CONTENT_UNREADABLE:
        case CONTENT_UNREAD:
                return true;
        case CONTENT_KNOWN:
        case CONTENT_WANTED:
        case CONTENT_UNKNOWN:
        case _CONTENT_MAX:
                return false;
        }
        return true;
}

static bool firmware_is_incomplete(const struct session *s)
{
        for (size_t t = 0; t < s->n_targets; t++) {
                const struct target *target = &s->targets[t];
                enum content content = survey_content(&target->survey);

                if (target->partition.role != PARTITION_FIRMWARE)
                        continue;
                /* Power that was lost in the middle of a unit makes an unknown image of a half-written one. */
                if (content_is_incomplete(content) ||
                    (content == CONTENT_UNKNOWN && !target->not_ours && was_begun_before(s, target)))
                        return true;
        }
        return false;
}

static void on_committed(void *userdata, int error)
{
        struct session *s = userdata;

        if (error < 0) {
                char text[128];

                (void)snprintf(text, sizeof(text), "nothing was written: the state directory cannot be written to (%s)",
                               strerror(-error));
                /* It is none the worse for it: a camera that is whole goes on to run. */
                correct_wear(s);
                if (s->wrote || in_rom(s) || firmware_is_incomplete(s))
                        session_end(s, SESSION_END_FAILED, MACHINE_OK, text);
                else
                        leave(s, SESSION_END_FAILED, text);
                return;
        }
        begin_writing(s);
}

/* The intent and the wear are on disk before the first irreversible transfer. */
static void commit(struct session *s)
{
        int r;

        s->step = SESSION_COMMITTING;
        s->bytes_total = 0;
        for (size_t t = 0; t < s->n_targets; t++) {
                struct target *target = &s->targets[t];

                for (size_t u = 0; u < target->survey.n_units; u++) {
                        if (!verdict_writes_unit(&s->decision.verdict, t, u))
                                continue;
                        target->planned[u] = true;
                        target->begun[u] = false;
                        s->events->add_wear(s->userdata, target->partition.name, (unsigned)u, 1);
                        s->bytes_total += unit_bytes(target, u);
                }
        }
        s->events->on_progress(s->userdata);
        r = journal_sync(s->context.journal, on_committed, s);
        if (r < 0)
                on_committed(s, r);
}

/* --- save --- */

static void save_next(struct session *s);
static void decide(struct session *s);
static void give_verdict(struct session *s, bool as_if_saved);
static void announce_verdict(struct session *s);
static void survey_next_target(struct session *s);
static int add_target(struct session *s, const struct partition *partition, uint8_t alt, struct blob *wanted_blob,
                      const uint8_t *wanted, uint32_t wanted_size);

static void on_saved(void *userdata, int error)
{
        struct session *s = userdata;
        struct target *target = &s->targets[s->target];

        free(take_ptr(s->save_buffer));
        if (error < 0) {
                /* Row 8 says what follows from that. */
                session_log(s, LOG_WARNING, "what stands in %s could not be saved (%s)", target->partition.name, strerror(-error));
                give_verdict(s, /* as_if_saved= */ false);
                announce_verdict(s);
                return;
        }
        session_log(s, LOG_NOTICE, "saved what stood in %s: 'camrescue restore' brings it back", target->partition.name);
        target->saved = true;
        save_next(s);
}

static void save_chunk(struct session *s, const struct machine_chunk *chunk)
{
        uint32_t offset = chunk_offset(s, &s->targets[s->target], chunk);

        if (offset + chunk->size <= s->save_size)
                memcpy(s->save_buffer + offset, chunk->data, chunk->size);
}

/* Does the unit hold an image's part of it, or the beginning of that and then nothing? */
static bool unit_is_of(const uint8_t *unit, const struct erase_unit *place, const uint8_t *image, size_t size)
{
        size_t n = place->offset < size ? MIN((size_t)place->size, size - place->offset) : 0;
        size_t equal = n > 0 ? bytes_common_prefix(unit, image + place->offset, n) : 0;

        return (equal == n && n > 0) || bytes_all(unit + equal, place->size - equal, 0xff);
}

/* What an interrupted write of ours leaves: each unit of an image that we know, or have saved; and one, at most, that was begun and
 * in which power failed.  Anything else that is unknown was put there by somebody since. */
static bool is_own_work(const struct session *s, const struct target *target)
{
        unsigned n_broken = 0;

        for (size_t u = 0; u < target->survey.n_units; u++) {
                const struct erase_unit *place = &target->survey.units[u];
                const uint8_t *unit = s->save_buffer + place->offset;
                bool explained = bytes_all(unit, place->size, 0xff) ||
                                 (target->wanted && unit_is_of(unit, place, target->wanted, target->wanted_size));

                for (size_t i = 0; i < target->n_candidates && !explained; i++)
                        explained = unit_is_of(unit, place, target->candidates[i]->data, target->candidates[i]->size);
                if (!explained && (++n_broken > 1 ||
                                   s->events->get_wear(s->userdata, target->partition.name, (unsigned)u) == 0))
                        return false;
        }
        return true;
}

static void save_was_read(struct session *s)
{
        struct target *target = &s->targets[s->target];
        uint32_t size = s->save_size;
        int r;

        s->on_chunk = NULL;
        if (was_begun_before(s, target)) {
                bool ours = is_own_work(s, target);

                if (ours || s->wish.begun_unattended) {
                        /* Ours is no loss; somebody else's is not touched for a recovery that nobody asked for. */
                        free(take_ptr(s->save_buffer));
                        target->saved = ours;
                        target->not_ours = !ours;
                        save_next(s);
                        return;
                }
        }
        while (size > 0 && s->save_buffer[size - 1] == 0xff)
                size--;
        r = store_save(s->context.store, s->wish.camera, target->partition.name, s->save_buffer, size, on_saved, s);
        if (r < 0)
                on_saved(s, r);
}

static void save_selected(struct session *s)
{
        struct target *target = &s->targets[s->target];

        s->save_size = target->partition.limit - target->partition.start;
        s->save_buffer = malloc(s->save_size);
        if (!s->save_buffer) {
                on_saved(s, -ENOMEM);
                return;
        }
        s->bytes_done = 0;
        s->bytes_total = s->save_size;
        s->on_chunk = save_chunk;
        begin_read(s, target, 0, s->save_size);
        run(s, save_was_read);
}

/* A whole known firmware of the DFU bootloader's generation (dfu.md A.1) runs under any DFU bootloader of its board. */
static bool head_fits(const struct target *target)
{
        const struct survey_candidate *found = survey_found(&target->survey);
        const struct firmware_record *record = found && found->match == SURVEY_WHOLE ? target->records[found->tag] : NULL;

        return record && version_compare(record->version, FIRST_DFU_GENERATION) >= 0;
}

static bool needs_saving(const struct session *s, const struct target *target)
{
        if (target->partition.role == PARTITION_BOOTLOADER && was_begun_before(s, target))
                return false;
        return !target->saved && !target->not_ours && survey_content(&target->survey) == CONTENT_UNKNOWN &&
               (target->partition.role == PARTITION_FIRMWARE || target->partition.role == PARTITION_BOOTLOADER) &&
               (target->head_only ? !head_fits(target) : survey_count_differing(&target->survey) > 0);
}

static void save_next(struct session *s)
{
        s->step = SESSION_SAVING;
        s->events->on_progress(s->userdata);
        for (s->target = 0; s->target < s->n_targets; s->target++) {
                struct target *target = &s->targets[s->target];

                if (!needs_saving(s, target))
                        continue;
                if (!in_rom(s) && s->dfu.alt != target->alt) {
                        dfu_begin_select(&s->dfu, target->alt);
                        run(s, save_selected);
                } else
                        save_selected(s);
                return;
        }
        decide(s);
}

/* --- the verdict --- */

static bool anything_differs(const struct session *s)
{
        for (size_t t = 0; t < s->n_targets; t++) {
                if (survey_count_differing(&s->targets[t].survey) > 0)
                        return true;
        }
        return false;
}

/* Row 5: what else stands in its flash fits the bootloader being restored: that is the one that the camera had, or the firmware
 * is known to be of that generation. */
static bool firmware_fits(const struct session *s, const struct target *target)
{
        if (target->wanted_blob && digest_equal(&s->wish.known_bootloader, &target->wanted_blob->digest))
                return true;
        return s->head_added && head_fits(&s->targets[s->n_targets - 1]);
}

/* Row 6: an image is wanted, and this camera's bootloader has no such partition: half of what was asked for is not "done". */
static void miss_partitions(const struct session *s, struct verdict_evidence *evidence)
{
        for (size_t i = 0; i < s->decision.n_images; i++) {
                const char *name = s->decision.images[i].partition;
                const struct partition *known = layout_partition(&s->board->layouts[0], name, NULL);

                if (in_rom(s) || !s->layout || layout_partition(s->layout, name, NULL) ||
                    (known && known->role == PARTITION_BOOTLOADER) || evidence->n_targets == VERDICT_TARGETS_MAX)
                        continue;
                evidence->targets[evidence->n_targets++] = (struct verdict_target){
                        .role = PARTITION_FORBIDDEN, .forbidden = true, .content = CONTENT_BLANK, .fits_bootloader = true,
                };
        }
}

static bool is_ours(const struct session *s, const struct firmware_record *record)
{
        return !record || strcmp(record->board, s->board->id) == 0 ||
               store_by_digest(s->context.store, &record->digest, s->board->id);
}

/* What stands there is, whole or as far as it was written, an image that another board carries and this one does not. */
static bool is_of_another_board(const struct session *s, const struct target *target)
{
        bool others = false;

        for (size_t i = 0; i < target->survey.n_candidates; i++) {
                const struct survey_candidate *c = &target->survey.candidates[i];

                if (c->match != SURVEY_WHOLE && c->match != SURVEY_INTERRUPTED)
                        continue;
                if (is_ours(s, target->records[c->tag]))
                        return false;
                others = true;
        }
        return others;
}

static bool flash_contradicts(const struct session *s)
{
        for (size_t t = 0; in_rom(s) && t < s->n_targets; t++)
                if (is_of_another_board(s, &s->targets[t]))
                        return true;
        return false;
}

static void gather_evidence(struct session *s, struct verdict_evidence *evidence, bool as_if_saved)
{
        const struct session_wish *wish = &s->wish;

        *evidence = (struct verdict_evidence){
                .wish = wish->wish,
                .mode = s->mode,
                .automatic = wish->automatic,
                .inhibited = wish->inhibited,
                .board_known = s->board != NULL,
                .board_contradicted = wish->contradicted || (!in_rom(s) && !s->layout) || flash_contradicts(s),
                .proof = wish->proof,
                .serial_shared = wish->serial_shared,
                .word_is_stale = wish->word_is_stale,
                .older_than_ran = wish->last_ran[0] && s->decision.version[0] &&
                                  version_compare(s->decision.version, wish->last_ran) < 0,
                .word_romfs = wish->word_romfs,
                .word_filesystem = wish->word_filesystem,
                .word_replace = wish->word_replace,
                .begun_unattended = wish->begun_unattended,
                .silent = wish->silent,
                /* As long as the firmware was not looked at, what would be if its head needed no erasing. */
                .firmware_head.content = CONTENT_BLANK,
        };

        for (size_t t = 0; t < s->n_targets; t++) {
                struct target *target = &s->targets[t];
                struct verdict_target *vt = &evidence->targets[evidence->n_targets];

                if (target->head_only) {        /* always the last */
                        evidence->firmware_head.content = survey_content(&target->survey);
                        evidence->firmware_head.needs_saving = !as_if_saved && needs_saving(s, target);
                        evidence->firmware_head.erases = s->events->get_wear(s->userdata, target->partition.name, 0);
                        break;
                }
                evidence->n_targets++;
                for (size_t u = 0; u < target->survey.n_units; u++)
                        target->units[u] = (struct verdict_unit){
                                .differs = target->survey.differs[u],
                                .erases = target->not_ours ? 0 :
                                          s->events->get_wear(s->userdata, target->partition.name, (unsigned)u),
                        };
                *vt = (struct verdict_target){
                        .role = target->partition.role,
                        .forbidden = target->partition.read_only && !in_rom(s),
                        .image_refused = target->fault != IMAGE_FINE,
                        .content = survey_content(&target->survey),
                        .needs_saving = !as_if_saved && needs_saving(s, target),
                        .fits_bootloader = target->partition.role != PARTITION_BOOTLOADER || firmware_fits(s, target),
                        .units = target->units,
                        .n_units = target->survey.n_units,
                };
        }
        miss_partitions(s, evidence);
}

/* Row 5: the verdict wants the firmware's first unit gone in this same ROM session. */
static void plan_erased_head(struct session *s)
{
        size_t t = s->n_targets - 1;

        if (!s->decision.verdict.erase_firmware_head || !s->head_added)
                return;
        s->decision.verdict.write[t][0] |= 1;
        s->targets[t].survey.differs[0] = true;
        s->units_total++;
}

static void carry_out(struct session *s)
{
        struct verdict *verdict = &s->decision.verdict;
        bool nothing_wanted = true;
        int r;

        for (size_t t = 0; t < s->n_targets; t++)
                if (s->targets[t].wanted)
                        nothing_wanted = false;

        if (verdict->kind != VERDICT_WRITE && nothing_wanted && s->n_targets > 0 &&
            (in_rom(s) ? content_is_incomplete(s->decision.content) : firmware_is_incomplete(s))) {
                (void)s->events->on_decided(s->userdata, &s->decision);
                session_end(s, SESSION_END_NO_FIRMWARE, MACHINE_OK, "nothing in the firmware store fits it");
                return;
        }

        r = s->events->on_decided(s->userdata, &s->decision);
        if (r < 0) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_OK, "nothing was written: %s", strerror(-r));
                return;
        }

        if (verdict->kind == VERDICT_WRITE) {
                plan_erased_head(s);
                commit(s);
                return;
        }
        if (in_rom(s)) {
                session_end(s, verdict->reason == REASON_SOUND_BOOTLOADER || verdict->reason == REASON_NOTHING_TO_DO
                            ? SESSION_END_SOUND_BOOTLOADER : SESSION_END_HELD,
                            MACHINE_OK, verdict_reason_text(verdict->reason));
                return;
        }
        if (verdict->reason == REASON_NOTHING_TO_DO) {
                /* An intact camera is left as it is also when another image was thought of: that one is not "done". */
                if (s->wish.wish == WISH_UNATTENDED || anything_differs(s))
                        leave(s, SESSION_END_RELEASED, "its firmware is whole: it is left as it is");
                else
                        leave(s, SESSION_END_UPDATED, "nothing had to be written: every erase unit reads back equal");
                return;
        }
        if (firmware_is_incomplete(s)) {
                session_end(s, SESSION_END_HELD, MACHINE_OK, verdict_reason_text(verdict->reason));
                return;
        }
        leave(s, SESSION_END_RELEASED, verdict_reason_text(verdict->reason));
}

static void look_at_head(struct session *s)
{
        const struct layout *layout = &s->board->layouts[0];
        int r;

        s->head_added = true;
        for (size_t i = 0; i < layout->n_partitions; i++) {
                if (layout->partitions[i].role != PARTITION_FIRMWARE)
                        continue;
                s->target = s->n_targets;
                r = add_target(s, &layout->partitions[i], (uint8_t)i, NULL, NULL, 0);
                if (r < 0) {
                        session_end_with(s, SESSION_END_FAILED, MACHINE_OK, "cannot prepare the comparison: %s", strerror(-r));
                        return;
                }
                s->targets[s->target].head_only = true;
                s->step = SESSION_COMPARING;
                survey_next_target(s);
                return;
        }
        decide(s);
}

static void announce_verdict(struct session *s)
{
        for (size_t t = 0; t < s->n_targets; t++)
                s->units_total += (unsigned)survey_count_differing(&s->targets[t].survey);
        session_log(s, LOG_INFO, "verdict: %s (%s), content %s", verdict_kind_to_string(s->decision.verdict.kind),
                    verdict_reason_to_string(s->decision.verdict.reason), content_to_string(s->decision.content));
        carry_out(s);
}

static void give_verdict(struct session *s, bool as_if_saved)
{
        struct verdict_evidence evidence;

        gather_evidence(s, &evidence, as_if_saved);
        s->decision.verdict = verdict_give(&evidence);
}

static void decide(struct session *s)
{
        const struct target *head = NULL;

        s->decision.firmware_whole = !in_rom(s) && !firmware_is_incomplete(s);
        for (size_t t = 0; t < s->n_targets && !head; t++)
                if (s->targets[t].partition.role == (in_rom(s) ? PARTITION_BOOTLOADER : PARTITION_FIRMWARE))
                        head = &s->targets[t];
        if (head) {
                const struct survey_candidate *found = survey_found(&head->survey);

                s->decision.content = survey_content(&head->survey);
                s->decision.found = found && found->match == SURVEY_WHOLE ? head->records[found->tag] : NULL;
                if (!is_ours(s, s->decision.found))
                        s->decision.found = NULL;
        }

        /* What would be, if everything unknown were saved: only then is it worth the time to save it (row 8). */
        give_verdict(s, /* as_if_saved= */ true);
        if (s->decision.verdict.kind == VERDICT_WRITE && in_rom(s) && !s->head_added &&
            !firmware_fits(s, &s->targets[0])) {
                look_at_head(s);
                return;
        }
        if (s->decision.verdict.kind == VERDICT_WRITE) {
                for (size_t t = 0; t < s->n_targets; t++)
                        if (needs_saving(s, &s->targets[t])) {
                                save_next(s);
                                return;
                        }
                give_verdict(s, /* as_if_saved= */ false);
        }
        announce_verdict(s);
}

/* What was written did not read back equal: ask again, for just those units. */
static void decide_again(struct session *s)
{
        struct verdict_evidence evidence;

        correct_wear(s);
        if (++s->round >= WRITE_ROUNDS_MAX) {
                session_end(s, SESSION_END_FAILED, MACHINE_WRITE_REFUSED,
                            "what was written does not read back equal, even after writing it again: "
                            "the flash is worn out or not erased (dual-bank option bytes?)");
                return;
        }
        for (size_t t = 0; t < s->n_targets; t++)
                for (size_t u = 0; u < s->targets[t].survey.n_units; u++)
                        s->targets[t].planned[u] = false;
        gather_evidence(s, &evidence, /* as_if_saved= */ true);
        s->decision.verdict = verdict_give(&evidence);
        if (s->decision.verdict.kind != VERDICT_WRITE) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_WRITE_REFUSED, "%s",
                                 s->decision.verdict.reason == REASON_NOTHING_TO_DO
                                 ? "the firmware's first erase unit cannot be erased: it may not fit the bootloader that was restored"
                                 : verdict_reason_text(s->decision.verdict.reason));
                return;
        }
        commit(s);
}

/* --- survey --- */

static void survey_go_on(struct session *s);

static void survey_chunk(struct session *s, const struct machine_chunk *chunk)
{
        struct target *target = &s->targets[s->target];

        s->bytes_done += chunk->size;
        if (!survey_feed(&target->survey, chunk_offset(s, target, chunk), chunk->data, (uint32_t)chunk->size))
                s->enough = true;
        s->events->on_progress(s->userdata);
}

static void survey_range_done(struct session *s)
{
        survey_go_on(s);
}

static void survey_selected(struct session *s)
{
        survey_go_on(s);
}

static void survey_next_target(struct session *s)
{
        for (; s->target < s->n_targets; s->target++) {
                struct target *target = &s->targets[s->target];

                if (in_rom(s))
                        survey_go_on(s);
                else {
                        dfu_begin_select(&s->dfu, target->alt);
                        run(s, survey_selected);
                }
                return;
        }
        s->on_chunk = NULL;
        decide(s);
}

static void survey_go_on(struct session *s)
{
        struct target *target = &s->targets[s->target];
        uint32_t offset, size;

        if (s->stopping) {
                session_end(s, SESSION_END_STOPPED, MACHINE_OK, "stopped while comparing");
                return;
        }
        if (!target->survey.unreadable && survey_next(&target->survey, &offset, &size)) {
                s->on_chunk = survey_chunk;
                begin_read(s, target, offset, size);
                run(s, survey_range_done);
                return;
        }
        survey_finish(&target->survey);
        s->on_chunk = NULL;
        s->target++;
        survey_next_target(s);
}

/* One image may belong to several versions. */
static bool is_candidate(const struct target *target, const struct digest *digest)
{
        for (size_t i = 0; i < target->n_candidates; i++)
                if (digest_equal(&target->candidates[i]->digest, digest))
                        return true;
        return false;
}

/* In ROM DFU boards with one chip look alike: what others of them carry could stand there, too, and would speak against (row 1). */
static bool could_stand_here(const struct session *s, const struct firmware_record *record)
{
        const struct board *board;

        if (strcmp(record->board, s->board->id) == 0)
                return true;
        if (!in_rom(s))
                return false;
        board = board_by_id(s->context.boards, record->board);
        return board && board->chip == s->board->chip && board->rom_restore;
}

static void add_candidate(struct session *s, struct target *target, const struct firmware_record *record)
{
        struct blob *blob;

        if (target->n_candidates == SURVEY_CANDIDATES_MAX || strcmp(record->partition, target->partition.name) != 0 ||
            is_candidate(target, &record->digest) || store_blob(s->context.store, &record->digest, &blob) < 0)
                return;
        target->records[target->n_candidates] = record;
        survey_add_candidate(&target->survey, blob->data, (uint32_t)blob->size, (unsigned)target->n_candidates);
        target->candidates[target->n_candidates++] = blob;
}

/* Every known image that could stand there, so that what stands there can be named; this board's own first. */
static void add_candidates(struct session *s, struct target *target)
{
        struct store *store = s->context.store;

        for (size_t i = 0; i < store_count(store); i++)
                if (strcmp(store_nth(store, i)->board, s->board->id) == 0)
                        add_candidate(s, target, store_nth(store, i));
        for (size_t i = 0; target->n_candidates < SURVEY_CANDIDATES_MAX; i++) {
                const struct saved_record *saved = store_nth_saved(store, i);
                struct blob *blob;

                if (!saved)
                        break;
                if (strcmp(saved->camera, s->wish.camera) != 0 || strcmp(saved->partition, target->partition.name) != 0 ||
                    store_blob(store, &saved->digest, &blob) < 0)
                        continue;
                target->records[target->n_candidates] = NULL;
                survey_add_candidate(&target->survey, blob->data, (uint32_t)blob->size, (unsigned)target->n_candidates);
                target->candidates[target->n_candidates++] = blob;
        }
        for (size_t i = 0; i < store_count(store); i++)
                if (strcmp(store_nth(store, i)->board, s->board->id) != 0 && could_stand_here(s, store_nth(store, i)))
                        add_candidate(s, target, store_nth(store, i));
}

/* wanted_blob is taken over, also on failure. */
static int add_target(struct session *s, const struct partition *partition, uint8_t alt, struct blob *wanted_blob,
                      const uint8_t *wanted, uint32_t wanted_size)
{
        struct target *target = &s->targets[s->n_targets];
        struct partition p = *partition;
        size_t n;
        int r;

        if (s->n_targets == SESSION_TARGETS_MAX) {
                blob_unref(wanted_blob);
                return -E2BIG;
        }
        *target = (struct target){
                .partition = p, .alt = alt, .wanted_blob = wanted_blob, .wanted = wanted, .wanted_size = wanted_size,
        };
        if (wanted_size > p.limit - p.start) {
                target->fault = IMAGE_TOO_LARGE;
                wanted_size = p.limit - p.start;
        } else if (wanted && wanted != filesystem_zeros &&
                   (p.role == PARTITION_FIRMWARE || p.role == PARTITION_BOOTLOADER) && s->board->vector_table)
                target->fault = image_check_vectors(s->board, wanted, wanted_size, p.start);
        r = survey_init(&target->survey, s->board, &p, wanted, wanted_size);
        if (r < 0) {
                blob_unref(wanted_blob);
                return r;
        }
        n = target->survey.n_units ?: 1;
        target->units = calloc(n, sizeof(*target->units));
        target->planned = calloc(n, sizeof(bool));
        target->begun = calloc(n, sizeof(bool));
        s->n_targets++;
        if (!target->units || !target->planned || !target->begun)
                return -ENOMEM;
        if (p.role == PARTITION_FIRMWARE || p.role == PARTITION_BOOTLOADER)
                add_candidates(s, target);
        return 0;
}

int session_context_choose(const struct session_context *context, const struct board *board, const struct layout *layout,
                           const char *named, const char *last_ran, bool unattended, bool with_romfs, struct choice *ret)
{
        const char *pin = !named[0] && context->pin ? context->pin(context->pin_userdata, board->id) : NULL;

        if (pin && store_choose(context->store, board, layout, pin, "", /* unattended= */ false, with_romfs, ret) >= 0) {
                ret->reason = CHOICE_PINNED;
                snprintf(ret->text, sizeof(ret->text), "pinned by the administrator");
                return 0;
        }
        return store_choose(context->store, board, layout, named, last_ran, unattended, with_romfs, ret);
}

static const struct update_image_record *image_for(const struct session *s, const char *partition)
{
        for (size_t i = 0; i < s->decision.n_images; i++)
                if (strcmp(s->decision.images[i].partition, partition) == 0)
                        return &s->decision.images[i];
        return NULL;
}

static void choose_images(struct session *s)
{
        struct session_decision *d = &s->decision;
        struct choice choice;

        d->n_images = s->wish.n_images;
        memcpy(d->images, s->wish.images, sizeof(d->images));
        snprintf(d->version, sizeof(d->version), "%.*s", (int)sizeof(d->version) - 1, s->wish.named);
        if (in_rom(s) && !image_for(s, "BOOTLOADER")) {
                const struct firmware_record *bootloader = store_bootloader(s->context.store, s->board);

                if (bootloader && d->n_images < UPDATE_IMAGES_MAX) {
                        struct update_image_record *image = &d->images[d->n_images++];

                        snprintf(image->partition, sizeof(image->partition), "%s", bootloader->partition);
                        image->digest = bootloader->digest;
                        image->size = bootloader->size;
                }
        }
        if (s->wish.n_images > 0)
                return;
        if (session_context_choose(&s->context, s->board, s->layout, s->wish.named, s->wish.last_ran,
                                   s->wish.wish == WISH_UNATTENDED, s->wish.word_romfs, &choice) < 0)
                return;
        snprintf(d->reason, sizeof(d->reason), "%s", choice.text);
        for (size_t i = 0; i < choice.n_images && d->n_images < UPDATE_IMAGES_MAX; i++) {
                struct update_image_record *image = &d->images[d->n_images++];

                snprintf(image->partition, sizeof(image->partition), "%s", choice.images[i]->partition);
                image->digest = choice.images[i]->digest;
                image->size = choice.images[i]->size;
                snprintf(d->version, sizeof(d->version), "%s", choice.images[i]->version);
        }
}

static int add_partition_target(struct session *s, const struct partition *partition, uint8_t alt)
{
        const struct update_image_record *image = image_for(s, partition->name);
        struct blob *blob = NULL;
        int r;

        if (image) {
                r = store_blob(s->context.store, &image->digest, &blob);
                if (r < 0)
                        return r;
        }
        return add_target(s, partition, alt, blob, blob ? blob->data : NULL, blob ? (uint32_t)blob->size : 0);
}

static int make_targets(struct session *s)
{
        int r;

        choose_images(s);
        if (in_rom(s)) {
                const struct layout *layout = &s->board->layouts[0];

                for (size_t i = 0; i < layout->n_partitions; i++) {
                        const struct partition *p = &layout->partitions[i];

                        if (p->role == PARTITION_BOOTLOADER) {
                                r = add_partition_target(s, p, (uint8_t)i);
                                if (r < 0)
                                        return r;
                        }
                }
                return 0;
        }
        for (size_t i = 0; i < s->layout->n_partitions; i++) {
                const struct partition *p = &s->layout->partitions[i];

                if (p->role != PARTITION_FIRMWARE && !(image_for(s, p->name) && p->role != PARTITION_BOOTLOADER))
                        continue;
                r = add_partition_target(s, p, (uint8_t)i);
                if (r < 0)
                        return r;
        }
        if (s->wish.word_filesystem) {
                uint8_t alt;
                const struct partition *p = layout_partition(s->layout, s->board->filesystem_erase, &alt);

                if (p) {
                        r = add_target(s, p, alt, NULL, filesystem_zeros, FILESYSTEM_ZEROS);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static void begin_survey(struct session *s)
{
        int r;

        r = make_targets(s);
        drop_fetched(s);
        if (r < 0) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_OK, "cannot prepare the comparison: %s",
                                 r == -ENOENT ? "an image of the update is missing from the store" : strerror(-r));
                return;
        }
        s->step = SESSION_COMPARING;
        s->target = 0;
        s->bytes_done = 0;
        s->bytes_total = 0;
        for (size_t t = 0; t < s->n_targets; t++)
                s->bytes_total += s->targets[t].wanted ? s->targets[t].wanted_size
                                  : s->targets[t].partition.limit - s->targets[t].partition.start;
        s->events->on_progress(s->userdata);
        survey_next_target(s);
}

/* --- the images, read and checked on helper threads before they are needed --- */

static void fetch_next(struct session *s);

static void on_fetched(void *userdata, struct blob *blob, int error)
{
        struct session *s = userdata;

        /* One that cannot be read is missed when it is needed, or is a candidate less. */
        if (blob)
                s->fetched[s->n_fetched++] = blob;
        fetch_next(s);
}

static bool fetch(struct session *s, const struct digest *digest)
{
        return s->n_fetched < ELEMENTSOF(s->fetched) &&
               store_fetch(s->context.store, digest, on_fetched, s) >= 0;
}

static void fetch_next(struct session *s)
{
        struct store *store = s->context.store;
        const struct firmware_record *record;
        const struct saved_record *saved;

        while (s->fetch_image < s->wish.n_images)
                if (fetch(s, &s->wish.images[s->fetch_image++].digest))
                        return;
        while ((record = store_nth(store, s->fetch_firmware++)))
                if (could_stand_here(s, record) && fetch(s, &record->digest))
                        return;
        while ((saved = store_nth_saved(store, s->fetch_saved++)))
                if (strcmp(saved->camera, s->wish.camera) == 0 && fetch(s, &saved->digest))
                        return;
        begin_survey(s);
}

/* --- layout: the alternate settings' strings --- */

static void read_alt_name(struct session *s);

static void got_layout(struct session *s)
{
        const char *names[ELEMENTSOF(s->alt_names)];

        for (size_t i = 0; i < s->n_alts; i++)
                names[i] = s->alt_names[i];

        if (in_rom(s)) {
                struct dfuse_segment segments[DFUSE_SEGMENTS_MAX];
                const struct erase_segment *mine = &s->board->memories[0].segments[0];
                size_t n = 0;

                /* The map names the chip's flash: one that is not this board's speaks against it (row 1). */
                if (dfuse_parse_map(names[0], NULL, segments, &n) < 0 || n == 0) {
                        session_end_with(s, SESSION_END_FAILED, MACHINE_BAD_REPLY,
                                         "its memory map makes no sense (\"%s\"): nothing is written unseen", names[0]);
                        return;
                }
                if (segments[0].address != mine->start || segments[0].sector_size != mine->unit_size) {
                        session_log(s, LOG_WARNING, "its memory map \"%s\" is not an %s's", names[0], s->board->name);
                        s->wish.contradicted = true;
                        decide(s);      /* nothing more is asked of it */
                        return;
                }
                fetch_next(s);
                return;
        }
        s->layout = board_match_layout(s->board, names, s->n_alts);
        if (!s->layout) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_BAD_REPLY,
                                 "its bootloader shows partitions that no known %s has: left alone", s->board->name);
                return;
        }
        s->decision.layout = (uint8_t)(s->layout - s->board->layouts);
        fetch_next(s);
}

static void on_alt_name(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct session *s = userdata;
        char *name = s->alt_names[s->reading_alt];
        size_t n = 0;

        if (result == USB_GONE) {
                session_gone_away(s);
                return;
        }
        if (result == USB_OK && actual >= 2 && data[1] == 0x03)
                for (size_t i = 2; i + 1 < MIN(actual, (size_t)data[0]) && n + 1 < sizeof(s->alt_names[0]); i += 2)
                        name[n++] = data[i + 1] == 0 && data[i] >= 0x20 && data[i] < 0x7f ? (char)data[i] : '?';
        name[n] = '\0';
        s->reading_alt++;
        read_alt_name(s);
}

static void submit_layout(struct session *s, const struct usb_setup *setup, usb_done_fn on_done)
{
        int r = usb_submit(s->device, setup, NULL, DFU_TIMEOUT_REQUEST, on_done, s);

        if (r < 0)
                session_end_with(s, SESSION_END_FAILED, MACHINE_TRANSFER_ERROR, "cannot send a request: %s", strerror(-r));
}

static void read_alt_name(struct session *s)
{
        if (s->reading_alt == s->n_alts) {
                got_layout(s);
                return;
        }
        submit_layout(s, &(struct usb_setup){ .request_type = 0x80, .request = 0x06,
                                              .value = (uint16_t)(0x0300 | s->alt_string[s->reading_alt]),
                                              .index = 0x0409, .length = 255 }, on_alt_name);
}

static void on_config(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct session *s = userdata;
        struct reader reader = reader_new(data, result == USB_OK ? actual : 0);

        if (result == USB_GONE) {
                session_gone_away(s);
                return;
        }
        while (reader.left >= 2) {
                uint8_t length = reader.data[0];
                const uint8_t *d = length >= 2 ? reader_take(&reader, length) : NULL;

                if (!d)
                        break;
                if (d[1] == 0x04 && length >= 9 && d[2] == 0 && s->n_alts < ELEMENTSOF(s->alt_names)) {
                        if (d[3] != s->n_alts)
                                break;          /* not in order: a device that we do not know */
                        s->alt_string[s->n_alts++] = d[8];
                } else if (d[1] == 0x21 && length >= 7)
                        s->sighting.transfer_size = get_le16(d + 5);
        }
        if (s->n_alts == 0) {
                session_end(s, SESSION_END_FAILED, MACHINE_BAD_REPLY, "its configuration descriptor makes no sense");
                return;
        }
        read_alt_name(s);
}

static void read_layout(struct session *s)
{
        s->step = SESSION_READING_LAYOUT;
        submit_layout(s, &(struct usb_setup){ .request_type = 0x80, .request = 0x06, .value = 0x0200,
                                              .length = CONFIG_MAX }, on_config);
}

/* --- peeking at a ROM device that is not proven ours (row 3) --- */

static void peek_chunk(struct session *s, const struct machine_chunk *chunk)
{
        uint32_t n = (uint32_t)MIN(chunk->size, (size_t)(s->save_size - s->bytes_done));

        memcpy(s->save_buffer + s->bytes_done, chunk->data, n);
        s->bytes_done += n;
}

static void peeked(struct session *s)
{
        bool sound = false;

        s->on_chunk = NULL;
        for (size_t i = 0; i < store_count(s->context.store) && !sound; i++) {
                const struct firmware_record *record = store_nth(s->context.store, i);
                struct blob *blob;

                if (strcmp(record->board, s->board->id) != 0 || strcmp(record->partition, "BOOTLOADER") != 0 ||
                    store_blob(s->context.store, &record->digest, &blob) < 0)
                        continue;
                sound = s->bytes_done > 0 &&
                        memcmp(blob->data, s->save_buffer, MIN(blob->size, (size_t)s->bytes_done)) == 0;
                blob_unref(blob);
        }
        /* Nothing was asked of the verdict: 4 KiB of it prove nothing, and nothing is written. */
        s->decision.verdict.kind = VERDICT_ASK;
        s->decision.verdict.reason = sound ? REASON_SOUND_BOOTLOADER : REASON_NOT_PROVEN;
        (void)s->events->on_decided(s->userdata, &s->decision);
        session_end(s, sound ? SESSION_END_SOUND_BOOTLOADER : SESSION_END_HELD, MACHINE_OK,
                    sound ? "the beginning of its flash is a known bootloader"
                          : "it is not proven to be the missing camera");
}

static void begin_peek(struct session *s)
{
        s->save_size = DFUSE_READ_UNPROVEN_MAX;
        s->save_buffer = malloc(s->save_size);
        if (!s->save_buffer) {
                session_end(s, SESSION_END_FAILED, MACHINE_OK, "out of memory");
                return;
        }
        s->bytes_done = 0;
        s->step = SESSION_COMPARING;
        s->on_chunk = peek_chunk;
        dfuse_begin_peek(&s->dfuse, s->save_size);
        run(s, peeked);
}

/* --- opening --- */

static void pinned(struct session *s)
{
        s->events->on_pinned(s->userdata, loop_now(s->context.loop) - s->sighting.seen_at);
        if (s->step == SESSION_ENDED)
                return;
        if (s->wish.peek_only)
                begin_peek(s);
        else
                read_layout(s);
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
                        session_end(s, SESSION_END_BUSY, MACHINE_OK, "no permission to open its device node");
                        break;
                case -ENODEV:
                case -ENOENT:
                        session_gone_away(s);
                        break;
                default:
                        session_end_with(s, SESSION_END_OPEN_FAILED, MACHINE_OK, "cannot be opened: %s", strerror(-error));
                }
                return;
        }
        s->device = device;
        s->step = SESSION_PINNING;
        if (in_rom(s)) {
                dfuse_init(&s->dfuse, s->sighting.transfer_size ?: (s->board->chip == CHIP_H7 ? 1024 : 2048),
                           s->board->chip == CHIP_H7);
                dfuse_begin_take(&s->dfuse);
        } else {
                dfu_init(&s->dfu);
                dfu_begin_pin(&s->dfu);
        }
        run(s, pinned);
}

static void on_timer(void *userdata)
{
        struct session *s = userdata;

        if (s->waiting_for_machine) {
                s->waiting_for_machine = false;
                on_machine_step(s, in_rom(s) ? dfuse_next(&s->dfuse, NULL) : dfu_next(&s->dfu, NULL));
        } else if (s->giving_way) {
                s->giving_way = false;
                take_machine_step(s, s->current);
        } else if (s->step == SESSION_LEAVING)
                on_leave_deadline(s);
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
        *s = (struct session){
                .context = *context,
                .events = events,
                .userdata = userdata,
                .board = board,
                .sighting = *sighting,
                .mode = mode,
                .wish = *wish,
                .step = SESSION_OPENING,
        };
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
                correct_wear(s);
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
        drop_fetched(s);
        timer_deinit(&s->timer);
        timer_deinit(&s->overall);
        free(s->save_buffer);
        free(s);
        return NULL;
}

void session_stop(struct session *s)
{
        s->stopping = true;
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
