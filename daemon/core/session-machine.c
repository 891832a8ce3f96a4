/* SPDX-License-Identifier: MIT */
/*
 * The machines of a session: what they ask for is submitted, waited for, answered, and in part
 * sent ahead.
 */

#include "core/session-internal.h"

/* --- running the machines --- */

bool session_in_rom(const struct session *s)
{
        return s->mode == CAMERA_MODE_ROM_DFU;
}

static struct machine *machine_of(struct session *s)
{
        return session_in_rom(s) ? &s->dfuse.machine : &s->dfu.machine;
}

static const char *op_failure(const struct machine_step *step, char *buffer, size_t size)
{
        const char *status = dfu_status_name(step->status);

        if (step->outcome == MACHINE_DEVICE_ERROR || step->outcome == MACHINE_WRITE_REFUSED ||
            step->outcome == MACHINE_ADDRESS_REFUSED)
                snprintf(buffer, size, "%s (%s)", machine_outcome_text(step->outcome), status ?: "unknown status");
        else
                snprintf(buffer, size, "%s", machine_outcome_text(step->outcome));
        return buffer;
}


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
        static const uint8_t busy[6] = { [4] = DFU_STATE_DNBUSY };

        *ret = (struct machine_reply){ .result = USB_OK, .actual = request->length };
        if (request->request_type != 0xa1)
                return false;
        if (request->request == DFU_GETSTATUS && before->request_type == 0x21 && before->request == DFU_DNLOAD &&
            before->length > 0) {
                ret->data = busy;
                return true;
        }
        if (request->request == DFU_UPLOAD && request->length <= sizeof(session_zeros)) {
                ret->data = session_zeros;
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
        if (session_in_rom(s) || (request.request == DFU_UPLOAD && (s->dfu.machine.progress == 0 || others_hurry(s))))
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
                session_take_machine_step(s, s->current);
                return;
        }
        session_on_machine_step(s, session_in_rom(s) ? dfuse_next(&s->dfuse, &reply) : dfu_next(&s->dfu, &reply));
}

/* It does not answer any more: if it was being read, where that was. */
static void tell_silence(struct session *s)
{
        const struct target *target = &s->targets[s->target];
        uint64_t offset = s->read_offset + s->dfu.machine.progress;

        if (session_in_rom(s) || !s->on_chunk ||
            (s->step != SESSION_COMPARING && s->step != SESSION_SAVING && s->step != SESSION_VERIFYING))
                return;
        for (size_t u = 0; u < target->survey.n_units; u++)
                if (offset - target->survey.units[u].offset < target->survey.units[u].size)
                        s->events->on_silence(s->userdata, target->partition.name, (unsigned)u);
}

static void on_machine_failed(struct session *s, const struct machine_step *step)
{
        char buffer[64];

        if (step->outcome == MACHINE_TIMEOUT)
                tell_silence(s);
        if (step->outcome == MACHINE_GONE) {
                session_gone_away(s);
                return;
        }
        if (s->step == SESSION_LEAVING && !s->told_to_leave) {
                /* Everything is verified, and the end of the download changes no flash: whether it leaves or stays is what was to be. */
                session_log(s, LOG_WARNING, "the end of the download: %s, ignoring", op_failure(step, buffer, sizeof(buffer)));
                session_updated(s, s->message);
                return;
        }
        if (s->step == SESSION_LEAVING) {
                /* That it did not answer "leave" is seen on the bus. */
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
                if (!s->asked_again) {
                        /* One answer may have come out wrong, and for the want of one more question a person's wish would be refused. */
                        session_survey_again(s);
                        return;
                }
                survey_unreadable(&s->targets[s->target].survey);
                s->then(s);
                return;
        }
        session_end(s, s->step == SESSION_PINNING ? SESSION_END_OPEN_FAILED : SESSION_END_FAILED, step->outcome,
                    op_failure(step, buffer, sizeof(buffer)));
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

void session_take_machine_step(struct session *s, struct machine_step step)
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
                        if (session_in_rom(s)) {
                                dfuse_begin_take(&s->dfuse);
                                session_run(s, s->then);
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

void session_on_machine_step(struct session *s, struct machine_step step)
{
        struct machine *machine = machine_of(s);

        if (s->on_chunk && machine->chunk.size > 0) {
                s->on_chunk(s, &machine->chunk);
                if (s->step == SESSION_ENDED)
                        return;
                if (s->stopping)
                        s->enough = true;       /* between two blocks that are read */
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
        session_take_machine_step(s, step);
}

/* Starts the operation that was begun in the machine; then() goes on after it. */
void session_run(struct session *s, void (*then)(struct session *s))
{
        s->then = then;
        s->enough = false;
        s->asked = (struct usb_setup){};
        s->op_bytes = s->bytes_done;
        session_on_machine_step(s, session_in_rom(s) ? dfuse_next(&s->dfuse, NULL) : dfu_next(&s->dfu, NULL));
}

void session_begin_read(struct session *s, const struct target *target, uint32_t offset, uint32_t size)
{
        s->read_offset = offset;
        if (session_in_rom(s))
                dfuse_begin_read(&s->dfuse, target->partition.start + offset, size);
        else
                dfu_begin_read(&s->dfu, offset, size);
}

uint32_t session_chunk_offset(const struct session *s, const struct target *target, const struct machine_chunk *chunk)
{
        return s->mode == CAMERA_MODE_ROM_DFU ? chunk->offset - target->partition.start : chunk->offset;
}
