/* SPDX-License-Identifier: MIT */

/*
 * The order of requests towards the OpenMV DFU bootloader.  It does not decide
 * what is written, nor retries a write: whoever drives it does.
 *
 * Invariant: GETSTATUS is sent only when no block can be pending on the device,
 * or when the pending block is the one that this operation has just sent.  A
 * block that another host, or a failed operation of ours, left behind is
 * dropped and never committed.
 */

#include "protocol/dfu.h"

#include <assert.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define REQUEST_SET_INTERFACE 0x0b
#define DETACH_TIMEOUT_MS 1000          /* wDetachTimeOut of the functional descriptor; the device ignores it */
/* Four pins of a second each outlast the longest flash operation (2.2 s) that a dead host can have left running. */
#define PIN_RETRIES 3

enum op { OP_NONE, OP_PIN, OP_SELECT, OP_READ, OP_WRITE, OP_MANIFEST, OP_DETACH, OP_RECOVER };

/* Named for the reply that is awaited. */
enum phase {
        BEGIN,
        PINNED,
        INTERFACE_SET,
        SELECTED,
        STALE_DROPPED,
        UPLOADED,
        UPLOAD_EXPLAINED,
        BLOCK_SENT,
        BLOCK_STARTED,
        BLOCK_WRITTEN,
        MANIFEST_SENT,
        MANIFEST_STARTED,
        MANIFESTED,
        DETACHED,
        EXPLAINED,
        CLEARED,
        RECOVERED,
};

void dfu_init(struct dfu *dfu)
{
        *dfu = (struct dfu){ .alt = DFU_ALT_UNKNOWN };
}

void dfu_begin_pin(struct dfu *dfu)
{
        machine_begin(&dfu->machine, OP_PIN);
}

void dfu_begin_select(struct dfu *dfu, uint8_t alt)
{
        assert(alt != DFU_ALT_UNKNOWN);
        machine_begin(&dfu->machine, OP_SELECT);
        dfu->machine.scratch[0] = alt;
        dfu->alt = DFU_ALT_UNKNOWN;
        dfu->clean = false;
}

static void begin_range(struct dfu *dfu, enum op op, uint32_t offset, uint32_t size)
{
        assert(dfu->alt != DFU_ALT_UNKNOWN);
        assert(offset % DFU_BLOCK_SIZE == 0);
        /* wBlockNum has 16 bits. */
        assert((uint64_t)offset + size <= (uint64_t)DFU_BLOCK_SIZE << 16);
        machine_begin(&dfu->machine, op);
        dfu->machine.offset = offset;
        dfu->machine.end = offset + size;
}

void dfu_begin_read(struct dfu *dfu, uint32_t offset, uint32_t size)
{
        begin_range(dfu, OP_READ, offset, size);
}

void dfu_begin_write(struct dfu *dfu, uint32_t offset, const uint8_t *data, uint32_t size)
{
        begin_range(dfu, OP_WRITE, offset, size);
        dfu->machine.data = data;
}

void dfu_begin_manifest(struct dfu *dfu)
{
        assert(dfu->alt != DFU_ALT_UNKNOWN);
        machine_begin(&dfu->machine, OP_MANIFEST);
}

void dfu_begin_detach(struct dfu *dfu)
{
        machine_begin(&dfu->machine, OP_DETACH);
}

void dfu_begin_recover(struct dfu *dfu)
{
        machine_begin(&dfu->machine, OP_RECOVER);
}

static struct machine_step get_status(struct dfu *dfu, enum phase phase, uint64_t timeout)
{
        return machine_in(&dfu->machine, phase, DFU_GETSTATUS, 0, 6, timeout);
}

/* An outcome of its own for each way in which a report is not the one hoped for.  MACHINE_OK: it is. */
static enum machine_outcome expect_report(struct dfu *dfu, const struct machine_reply *reply, uint8_t state)
{
        struct dfu_report report;

        if (reply->result != USB_OK)
                return machine_outcome_of_result(reply->result);
        if (!dfu_report_parse(reply, &report))
                return MACHINE_BAD_REPLY;
        if (report.state == DFU_STATE_ERROR) {
                /* Whatever was pending has been carried out or refused. */
                dfu->clean = true;
                dfu->machine.status = report.status;
                return machine_outcome_of_status(report.status);
        }
        return report.state == state ? MACHINE_OK : MACHINE_BAD_REPLY;
}

/* --- reading --- */

static struct machine_step next_upload(struct dfu *dfu)
{
        struct machine *m = &dfu->machine;

        if (m->offset == m->end)
                return machine_done(m);
        return machine_in(m, UPLOADED, DFU_UPLOAD, (uint16_t)(m->offset / DFU_BLOCK_SIZE),
                          (uint16_t)MIN(m->end - m->offset, (uint32_t)DFU_BLOCK_SIZE), DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_uploaded(struct dfu *dfu, const struct machine_reply *reply)
{
        struct machine *m = &dfu->machine;

        if (reply->result != USB_OK)
                return machine_fail(m, machine_outcome_of_result(reply->result));
        if (reply->actual == 0)
                /* The flash driver failed.  No block is pending after an UPLOAD, so that asking why is harmless. */
                return get_status(dfu, UPLOAD_EXPLAINED, DFU_TIMEOUT_REQUEST);
        if (!reply->data)
                return machine_fail(m, MACHINE_BAD_REPLY);
        if (reply->actual != m->length)
                return machine_fail(m, reply->actual == 4 && bytes_all(reply->data, 4, 0) ? MACHINE_ADDRESS_REFUSED
                                                                                         : MACHINE_BAD_REPLY);
        m->chunk = (struct machine_chunk){ .offset = m->offset, .data = reply->data, .size = reply->actual };
        m->offset += m->length;
        m->progress += m->length;
        return next_upload(dfu);
}

static struct machine_step on_upload_explained(struct dfu *dfu, const struct machine_reply *reply)
{
        enum machine_outcome outcome = expect_report(dfu, reply, DFU_STATE_IDLE);

        /* No data, and yet no error: not the device that we know. */
        return machine_fail(&dfu->machine, outcome == MACHINE_OK ? MACHINE_BAD_REPLY : outcome);
}

/* --- writing --- */

static struct machine_step next_block(struct dfu *dfu)
{
        struct machine *m = &dfu->machine;

        if (m->offset == m->end)
                return machine_done(m);
        dfu->clean = false;
        return machine_out(m, BLOCK_SENT, DFU_DNLOAD, (uint16_t)(m->offset / DFU_BLOCK_SIZE), m->data,
                           (uint16_t)MIN(m->end - m->offset, (uint32_t)DFU_BLOCK_SIZE), DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_block_sent(struct dfu *dfu, const struct machine_reply *reply)
{
        struct machine *m = &dfu->machine;

        if (reply->result != USB_OK)
                return machine_fail(m, machine_outcome_of_result(reply->result));
        if (reply->actual != m->length)
                return machine_fail(m, MACHINE_BAD_REPLY);
        return get_status(dfu, BLOCK_STARTED, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_block_started(struct dfu *dfu, const struct machine_reply *reply)
{
        enum machine_outcome outcome = expect_report(dfu, reply, DFU_STATE_DNBUSY);

        if (outcome != MACHINE_OK)
                return machine_fail(&dfu->machine, outcome);
        /* No wait: bwPollTimeout means nothing here.  The device begins when this reply's status stage is over, is deaf
         * while it erases and programs, and answers the next request when it has done so (A.4). */
        return get_status(dfu, BLOCK_WRITTEN, DFU_TIMEOUT_FLASH);
}

static struct machine_step on_block_written(struct dfu *dfu, const struct machine_reply *reply)
{
        struct machine *m = &dfu->machine;
        enum machine_outcome outcome = expect_report(dfu, reply, DFU_STATE_DNLOAD_IDLE);
        uint32_t written = MIN(m->end - m->offset, (uint32_t)DFU_BLOCK_SIZE);

        if (outcome != MACHINE_OK)
                return machine_fail(m, outcome);
        dfu->clean = true;
        m->offset += written;
        m->data += written;
        m->progress += written;
        return next_block(dfu);
}

/* --- manifest --- */

static struct machine_step send_manifest(struct dfu *dfu)
{
        dfu->clean = false;
        return machine_out(&dfu->machine, MANIFEST_SENT, DFU_DNLOAD, 0, NULL, 0, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_manifest_sent(struct dfu *dfu, const struct machine_reply *reply)
{
        if (reply->result != USB_OK)
                return machine_fail(&dfu->machine, machine_outcome_of_result(reply->result));
        return get_status(dfu, MANIFEST_STARTED, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_manifest_started(struct dfu *dfu, const struct machine_reply *reply)
{
        enum machine_outcome outcome = expect_report(dfu, reply, DFU_STATE_MANIFEST);

        if (outcome != MACHINE_OK)
                return machine_fail(&dfu->machine, outcome);
        return get_status(dfu, MANIFESTED, DFU_TIMEOUT_FLASH);
}

static struct machine_step on_manifested(struct dfu *dfu, const struct machine_reply *reply)
{
        enum machine_outcome outcome = expect_report(dfu, reply, DFU_STATE_IDLE);

        if (outcome != MACHINE_OK)
                return machine_fail(&dfu->machine, outcome);
        dfu->clean = true;
        return machine_done(&dfu->machine);
}

/* --- pin, select, detach, recover --- */

static struct machine_step send_pin(struct dfu *dfu)
{
        return machine_in(&dfu->machine, PINNED, DFU_UPLOAD, 0, DFU_PIN_SIZE, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_pinned(struct dfu *dfu, const struct machine_reply *reply)
{
        struct machine *m = &dfu->machine;

        if (reply->result == USB_TIMEOUT && m->retries < PIN_RETRIES) {
                m->retries++;
                return send_pin(dfu);
        }
        if (reply->result != USB_OK)
                return machine_fail(m, machine_outcome_of_result(reply->result));
        /* Any UPLOAD holds, and the alternate setting may be what a dead host left: the end-of-partition answer and the
         * empty one of a partition that cannot be read are as good as data. */
        if (reply->actual == DFU_PIN_SIZE || reply->actual == 0 ||
            (reply->actual == 4 && reply->data && bytes_all(reply->data, 4, 0)))
                return machine_done(m);
        return machine_fail(m, MACHINE_BAD_REPLY);
}

static struct machine_step send_set_interface(struct dfu *dfu)
{
        struct machine_step step;

        /* The first request after who knows what: a dead host's flash operation may still be running. */
        step = machine_out(&dfu->machine, INTERFACE_SET, REQUEST_SET_INTERFACE, dfu->machine.scratch[0], NULL, 0,
                           DFU_TIMEOUT_FLASH);
        step.setup.request_type = 0x01; /* standard request, to the interface */
        return step;
}

static struct machine_step on_interface_set(struct dfu *dfu, const struct machine_reply *reply)
{
        if (reply->result != USB_OK)
                return machine_fail(&dfu->machine, machine_outcome_of_result(reply->result));
        dfu->clean = true;
        return get_status(dfu, SELECTED, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_selected(struct dfu *dfu, const struct machine_reply *reply)
{
        enum machine_outcome outcome = expect_report(dfu, reply, DFU_STATE_IDLE);

        if (outcome != MACHINE_OK)
                return machine_fail(&dfu->machine, outcome);
        dfu->alt = dfu->machine.scratch[0];
        return machine_done(&dfu->machine);
}

static struct machine_step on_detached(struct dfu *dfu, const struct machine_reply *reply)
{
        /* A device that leaves within its status stage shows as a transfer error just before it is gone. */
        switch (reply->result) {
        case USB_OK:
        case USB_GONE:
        case USB_IO:
                return machine_done(&dfu->machine);
        default:
                return machine_fail(&dfu->machine, machine_outcome_of_result(reply->result));
        }
}

static struct machine_step send_clear(struct dfu *dfu)
{
        return machine_out(&dfu->machine, CLEARED, DFU_CLRSTATUS, 0, NULL, 0,
                           dfu->clean ? DFU_TIMEOUT_REQUEST : DFU_TIMEOUT_FLASH);
}

static struct machine_step on_explained(struct dfu *dfu, const struct machine_reply *reply)
{
        struct dfu_report report;

        if (reply->result != USB_OK)
                return machine_fail(&dfu->machine, machine_outcome_of_result(reply->result));
        if (!dfu_report_parse(reply, &report))
                return machine_fail(&dfu->machine, MACHINE_BAD_REPLY);
        dfu->machine.status = report.status;
        return send_clear(dfu);
}

static struct machine_step on_cleared(struct dfu *dfu, const struct machine_reply *reply)
{
        if (reply->result != USB_OK)
                return machine_fail(&dfu->machine, machine_outcome_of_result(reply->result));
        dfu->clean = true;
        return get_status(dfu, RECOVERED, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_recovered(struct dfu *dfu, const struct machine_reply *reply)
{
        enum machine_outcome outcome = expect_report(dfu, reply, DFU_STATE_IDLE);

        return outcome == MACHINE_OK ? machine_done(&dfu->machine) : machine_fail(&dfu->machine, outcome);
}

/* --- beginning --- */

static struct machine_step begin_clean(struct dfu *dfu)
{
        switch ((enum op)dfu->machine.op) {
        case OP_READ:
                return next_upload(dfu);
        case OP_WRITE:
                return next_block(dfu);
        case OP_MANIFEST:
                return send_manifest(dfu);
        case OP_NONE:
        case OP_PIN:
        case OP_SELECT:
        case OP_DETACH:
        case OP_RECOVER:
                break;
        }
        assert(false);
        return machine_fail(&dfu->machine, MACHINE_BAD_REPLY);
}

static struct machine_step on_stale_dropped(struct dfu *dfu, const struct machine_reply *reply)
{
        if (reply->result != USB_OK)
                return machine_fail(&dfu->machine, machine_outcome_of_result(reply->result));
        dfu->clean = true;
        return begin_clean(dfu);
}

static struct machine_step on_begin(struct dfu *dfu)
{
        struct machine *m = &dfu->machine;

        switch ((enum op)m->op) {
        case OP_PIN:
                return send_pin(dfu);
        case OP_SELECT:
                return send_set_interface(dfu);
        case OP_DETACH:
                return machine_out(m, DETACHED, DFU_DETACH, DETACH_TIMEOUT_MS, NULL, 0, DFU_TIMEOUT_REQUEST);
        case OP_RECOVER:
                return dfu->clean ? get_status(dfu, EXPLAINED, DFU_TIMEOUT_REQUEST) : send_clear(dfu);
        case OP_READ:
        case OP_WRITE:
        case OP_MANIFEST:
                if (dfu->clean)
                        return begin_clean(dfu);
                return machine_out(m, STALE_DROPPED, DFU_ABORT, 0, NULL, 0, DFU_TIMEOUT_FLASH);
        case OP_NONE:
                break;
        }
        assert(false);
        return machine_fail(m, MACHINE_BAD_REPLY);
}

struct machine_step dfu_next(struct dfu *dfu, const struct machine_reply *reply)
{
        enum phase phase = dfu->machine.phase;

        assert(dfu->machine.op != OP_NONE);
        assert(reply || phase == BEGIN);
        dfu->machine.chunk.size = 0;

        switch (phase) {
        case BEGIN:
                return on_begin(dfu);
        case PINNED:
                return on_pinned(dfu, reply);
        case INTERFACE_SET:
                return on_interface_set(dfu, reply);
        case SELECTED:
                return on_selected(dfu, reply);
        case STALE_DROPPED:
                return on_stale_dropped(dfu, reply);
        case UPLOADED:
                return on_uploaded(dfu, reply);
        case UPLOAD_EXPLAINED:
                return on_upload_explained(dfu, reply);
        case BLOCK_SENT:
                return on_block_sent(dfu, reply);
        case BLOCK_STARTED:
                return on_block_started(dfu, reply);
        case BLOCK_WRITTEN:
                return on_block_written(dfu, reply);
        case MANIFEST_SENT:
                return on_manifest_sent(dfu, reply);
        case MANIFEST_STARTED:
                return on_manifest_started(dfu, reply);
        case MANIFESTED:
                return on_manifested(dfu, reply);
        case DETACHED:
                return on_detached(dfu, reply);
        case EXPLAINED:
                return on_explained(dfu, reply);
        case CLEARED:
                return on_cleared(dfu, reply);
        case RECOVERED:
                return on_recovered(dfu, reply);
        }
        assert(false);
        return machine_fail(&dfu->machine, MACHINE_BAD_REPLY);
}
