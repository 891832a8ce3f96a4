/* SPDX-License-Identifier: MIT */

/*
 * The order of requests towards the ST ROM bootloader, with its quirks
 * (dfu.md part B), and the parser of its memory-map strings.  It does not
 * decide what is erased or written.
 *
 * Invariants: of the special commands only Set Address Pointer and the erase
 * of one sector of main flash exist here; mass erase, Read Unprotect and the
 * option bytes cannot be put together.  A command runs when GETSTATUS follows
 * it: GETSTATUS is never sent where somebody else's command may wait.
 */

#include "protocol/dfuse.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define COMMAND_BLOCK 0                 /* wBlockNum of special commands; 1 is reserved */
#define FIRST_BLOCK 2
#define CODE_SET_ADDRESS 0x21
#define CODE_ERASE 0x41

#define MS UINT64_C(1000)
#define WAIT_MAX (50 * MS)              /* Set Address, program: the ROM's 104 ms are bogus, polling early works (B.3) */
#define WAIT_MAX_ERASE (500 * MS)
#define DEADLINE_COMMAND DFU_TIMEOUT_FLASH
/* Quirk 3. */
#define H743_WEDGE_START UINT32_C(0x08100000)
#define H743_WEDGE_WAIT (4000 * MS)

#define BUSY_STALLS_MAX 3               /* quirk 6 */
#define STALL_WAIT (50 * MS)            /* doubled by each */
#define STALL_WAIT_ERASE (500 * MS)     /* three of them outlast an erase */
#define CLEARS_MAX 2                    /* the pair of quirk 3 */
#define ABORTS_MAX 2

#define STATE_UNKNOWN _DFU_STATE_MAX

enum op { OP_NONE, OP_TAKE, OP_PEEK, OP_READ, OP_ERASE, OP_WRITE, OP_LEAVE };

enum command { COMMAND_SET_ADDRESS, COMMAND_ERASE, COMMAND_PROGRAM };

/* Named for the reply that is awaited. */
enum phase {
        BEGIN,
        TAKE_STATE,             /* GETSTATE */
        TAKE_ABORTED_PENDING,   /* ABORT of a command that is known to wait */
        TAKE_ABORTED_BLIND,     /* ABORT because GETSTATE is not to be had */
        TAKE_STATUS,
        TAKE_WAITED,
        TAKE_CLEARED,
        TAKE_ABORTED,
        READY_ABORTED,          /* ABORT from a state that is known, to dfuIDLE */
        COMMAND_SENT,
        COMMAND_STATUS,
        COMMAND_WAITED,
        COMMAND_EXPLAINED,      /* GETSTATUS after a refused DNLOAD or UPLOAD */
        READ_ABORTED,           /* after Set Address */
        UPLOADED,
        READ_ENDED,
        PEEK_CLEARED,
        LEAVE_SENT,
        LEFT,
};

int dfuse_init(struct dfuse *dfuse, uint16_t transfer_size, bool h743)
{
        bool valid = transfer_size >= 64 && transfer_size <= USB_MAX_TRANSFER &&
                     (transfer_size & (transfer_size - 1)) == 0;

        *dfuse = (struct dfuse){
                .transfer_size = valid ? transfer_size : 0,
                .pointer = UINT32_MAX,
                .h743 = h743,
                .state = STATE_UNKNOWN,
        };
        return valid ? 0 : -EINVAL;
}

static void begin(struct dfuse *d, enum op op, uint32_t address, uint32_t size)
{
        machine_begin(&d->machine, op);
        d->machine.offset = address;
        /* A sum beyond 32 bits is no flash address either. */
        d->machine.end = size <= UINT32_MAX - address ? address + size : UINT32_MAX;
        d->clears = d->aborts = d->polls = 0;
        d->escaped = d->erased = false;
}

void dfuse_begin_take(struct dfuse *dfuse)
{
        begin(dfuse, OP_TAKE, DFUSE_FLASH_START, 0);
        dfuse->state = STATE_UNKNOWN;
}

void dfuse_begin_peek(struct dfuse *dfuse, uint32_t size)
{
        assert(size <= DFUSE_READ_UNPROVEN_MAX);
        begin(dfuse, OP_PEEK, DFUSE_DEFAULT_POINTER, size);
}

void dfuse_begin_read(struct dfuse *dfuse, uint32_t address, uint32_t size)
{
        assert(dfuse->transfer_size == 0 || address % dfuse->transfer_size == 0);
        begin(dfuse, OP_READ, address, size);
}

void dfuse_begin_erase(struct dfuse *dfuse, uint32_t address)
{
        begin(dfuse, OP_ERASE, address, 0);
}

void dfuse_begin_write(struct dfuse *dfuse, uint32_t address, const uint8_t *data, uint32_t size)
{
        begin(dfuse, OP_WRITE, address, size);
        dfuse->machine.data = data;
}

void dfuse_begin_leave(struct dfuse *dfuse, uint32_t address)
{
        begin(dfuse, OP_LEAVE, address, 0);
}

/* --- small steps --- */

static struct machine_step get_status(struct dfuse *d, enum phase phase, uint64_t timeout)
{
        return machine_in(&d->machine, phase, DFU_GETSTATUS, 0, 6, timeout);
}

static struct machine_step abort_to(struct dfuse *d, enum phase phase)
{
        d->state = STATE_UNKNOWN;
        return machine_out(&d->machine, phase, DFU_ABORT, 0, NULL, 0, DFU_TIMEOUT_REQUEST);
}

static struct machine_step clear_status(struct dfuse *d)
{
        d->clears++;
        d->state = STATE_UNKNOWN;
        return machine_out(&d->machine, TAKE_CLEARED, DFU_CLRSTATUS, 0, NULL, 0, DFU_TIMEOUT_REQUEST);
}

static struct machine_step fail_result(struct dfuse *d, const struct machine_reply *reply)
{
        return machine_fail(&d->machine, machine_outcome_of_result(reply->result));
}

static struct machine_step fail_status(struct dfuse *d, uint8_t status)
{
        d->state = DFU_STATE_ERROR;
        d->machine.status = status;
        return machine_fail(&d->machine, machine_outcome_of_status(status));
}

/* A refused request leaves a correct ROM in dfuERROR with the reason (errVENDOR: read protection). */
static struct machine_step explain(struct dfuse *d)
{
        d->state = STATE_UNKNOWN;
        return get_status(d, COMMAND_EXPLAINED, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_explained(struct dfuse *d, const struct machine_reply *reply)
{
        struct dfu_report report;

        if (reply->result != USB_OK)
                return fail_result(d, reply);
        if (!dfu_report_parse(reply, &report))
                return machine_fail(&d->machine, MACHINE_BAD_REPLY);
        d->machine.status = report.status;
        d->state = report.state;
        if (report.state == DFU_STATE_ERROR && report.status != DFU_STATUS_STALLEDPKT)
                d->refusal = machine_outcome_of_status(report.status);
        else
                d->refusal = MACHINE_STALLED;
        if (d->machine.op != OP_PEEK || report.state != DFU_STATE_ERROR)
                return machine_fail(&d->machine, d->refusal);
        d->state = STATE_UNKNOWN;
        return machine_out(&d->machine, PEEK_CLEARED, DFU_CLRSTATUS, 0, NULL, 0, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_peek_cleared(struct dfuse *d, const struct machine_reply *reply)
{
        /* Politeness only; a device that is gone meanwhile is another matter. */
        if (reply->result == USB_GONE)
                return fail_result(d, reply);
        return machine_fail(&d->machine, d->refusal);
}

/* How long to leave a busy device alone.  What it asks for, within bounds; but never the same short time for ever. */
static uint64_t polling_wait(struct dfuse *d, bool erasing)
{
        uint64_t most = erasing ? WAIT_MAX_ERASE : WAIT_MAX;
        uint64_t wait = d->poll_ms * MS, least;

        if (erasing)
                least = 20 * MS << MIN(d->polls, 2U);
        else
                least = d->polls == 0 ? 0 : 1 * MS << MIN(d->polls - 1, 6U);
        d->polls++;
        wait = MAX(wait, least);
        return MIN(wait, most);
}

/* --- commands: DNLOAD, GETSTATUS until it is no longer busy --- */

static struct machine_step send_command(struct dfuse *d, enum command command, uint16_t block, const uint8_t *data,
                                        uint16_t length)
{
        d->command = command;
        d->state = STATE_UNKNOWN;
        d->polls = 0;
        d->poll_ms = 0;
        d->escaped = false;
        d->machine.retries = 0;
        d->machine.waited = 0;
        return machine_out(&d->machine, COMMAND_SENT, DFU_DNLOAD, block, data, length, DFU_TIMEOUT_REQUEST);
}

static struct machine_step send_special(struct dfuse *d, enum command command, uint8_t code)
{
        d->machine.scratch[0] = code;
        put_le32(d->machine.scratch + 1, d->machine.offset);
        /* Five bytes always: the erase command without an address is the mass erase. */
        return send_command(d, command, COMMAND_BLOCK, d->machine.scratch, 5);
}

static struct machine_step set_address(struct dfuse *d)
{
        d->pointer = UINT32_MAX;
        return send_special(d, COMMAND_SET_ADDRESS, CODE_SET_ADDRESS);
}

static struct machine_step erase(struct dfuse *d)
{
        d->pointer = UINT32_MAX;
        return send_special(d, COMMAND_ERASE, CODE_ERASE);
}

static struct machine_step next_block(struct dfuse *d)
{
        struct machine *m = &d->machine;
        uint32_t left = m->end - m->offset;

        if (left == 0)
                return machine_done(m);
        /* Where a short block with a number above 2 would go is ambiguous (B.2). */
        if (left < d->transfer_size && d->block != FIRST_BLOCK)
                return set_address(d);
        return send_command(d, COMMAND_PROGRAM, d->block, m->data, (uint16_t)MIN(left, (uint32_t)d->transfer_size));
}

static struct machine_step next_upload(struct dfuse *d)
{
        struct machine *m = &d->machine;

        if (m->offset == m->end) {
                if (d->state == DFU_STATE_IDLE)
                        return machine_done(m);
                return abort_to(d, READ_ENDED);
        }
        return machine_in(m, UPLOADED, DFU_UPLOAD, d->block, d->transfer_size, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_uploaded(struct dfuse *d, const struct machine_reply *reply)
{
        struct machine *m = &d->machine;
        uint32_t size = MIN(m->end - m->offset, (uint32_t)d->transfer_size);

        if (reply->result == USB_STALL)
                return explain(d);
        d->state = STATE_UNKNOWN;
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        if (reply->actual != d->transfer_size || !reply->data)
                return machine_fail(m, MACHINE_BAD_REPLY);
        d->state = DFU_STATE_UPLOAD_IDLE;
        m->chunk = (struct machine_chunk){ .offset = m->offset, .data = reply->data, .size = size };
        m->offset += size;
        m->progress += size;
        d->block++;
        return next_upload(d);
}

static struct machine_step on_command_done(struct dfuse *d)
{
        struct machine *m = &d->machine;
        uint32_t size;

        d->state = DFU_STATE_DNLOAD_IDLE;
        switch ((enum command)d->command) {
        case COMMAND_SET_ADDRESS:
                d->pointer = m->offset;
                d->block = FIRST_BLOCK;
                switch ((enum op)m->op) {
                case OP_READ:
                        return abort_to(d, READ_ABORTED);
                case OP_WRITE:
                        return next_block(d);
                case OP_LEAVE:
                        d->state = STATE_UNKNOWN;
                        return machine_out(m, LEAVE_SENT, DFU_DNLOAD, FIRST_BLOCK, NULL, 0, DFU_TIMEOUT_REQUEST);
                case OP_ERASE:          /* after the escape of quirk 3 */
                        return machine_done(m);
                case OP_NONE:
                case OP_TAKE:
                case OP_PEEK:
                        break;
                }
                break;
        case COMMAND_ERASE:
                return machine_done(m);
        case COMMAND_PROGRAM:
                size = MIN(m->end - m->offset, (uint32_t)d->transfer_size);
                m->offset += size;
                m->data += size;
                m->progress += size;
                d->block++;
                return next_block(d);
        }
        assert(false);
        return machine_fail(m, MACHINE_BAD_REPLY);
}

static struct machine_step on_command_sent(struct dfuse *d, const struct machine_reply *reply)
{
        if (reply->result == USB_STALL)
                return explain(d);
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        if (reply->actual != d->machine.length)
                return machine_fail(&d->machine, MACHINE_BAD_REPLY);
        return get_status(d, COMMAND_STATUS, DFU_TIMEOUT_FLASH);
}

static struct machine_step keep_polling(struct dfuse *d, enum phase phase, bool stalled)
{
        struct machine *m = &d->machine;
        /* A device found busy may be busy with anything. */
        bool taking = phase == TAKE_WAITED;
        bool erasing = taking || d->command == COMMAND_ERASE;
        bool wedge = d->h743 && erasing && (taking || m->offset >= H743_WEDGE_START);
        uint64_t deadline = wedge ? H743_WEDGE_WAIT : DEADLINE_COMMAND;
        uint64_t wait;

        if (m->waited >= deadline) {
                if (!wedge || d->escaped)
                        return machine_fail(m, MACHINE_BUSY_FOREVER);
                /* Quirk 3.  By now the erase has ended in the background; only the ROM does not know. */
                d->escaped = true;
                d->erased = !taking;
                d->clears = 0;
                return clear_status(d);
        }
        if (stalled)
                wait = (erasing ? STALL_WAIT_ERASE : STALL_WAIT) << (m->retries - 1);
        else
                wait = polling_wait(d, erasing);
        wait = MIN(wait, deadline - m->waited);
        if (wait == 0)
                return get_status(d, taking ? TAKE_STATUS : COMMAND_STATUS, DFU_TIMEOUT_FLASH);
        return machine_wait(m, phase, wait);
}

static struct machine_step on_command_status(struct dfuse *d, const struct machine_reply *reply)
{
        struct machine *m = &d->machine;
        struct dfu_report report;

        m->waited += reply->elapsed;
        if (reply->result == USB_STALL && m->retries < BUSY_STALLS_MAX) {
                m->retries++;
                return keep_polling(d, COMMAND_WAITED, /* stalled= */ true);
        }
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        if (!dfu_report_parse(reply, &report))
                return machine_fail(m, MACHINE_BAD_REPLY);

        switch (report.state) {
        case DFU_STATE_DNBUSY:
                d->poll_ms = report.poll;
                return keep_polling(d, COMMAND_WAITED, /* stalled= */ false);
        case DFU_STATE_DNLOAD_IDLE:
                return on_command_done(d);
        case DFU_STATE_ERROR:
                return fail_status(d, report.status);
        default:
                return machine_fail(m, MACHINE_BAD_REPLY);
        }
}

/* --- taking the device back --- */

/* It is in dfuIDLE or dfuDNLOAD-IDLE: on with the operation. */
static struct machine_step on_ready(struct dfuse *d)
{
        struct machine *m = &d->machine;

        switch ((enum op)m->op) {
        case OP_TAKE:
                return machine_done(m);
        case OP_PEEK:
                if (d->state != DFU_STATE_IDLE)
                        return abort_to(d, READY_ABORTED);
                d->block = FIRST_BLOCK;
                return next_upload(d);
        case OP_READ:
        case OP_WRITE:
                if (m->offset == m->end)
                        return machine_done(m);
                return set_address(d);
        case OP_LEAVE:
                return set_address(d);
        case OP_ERASE:
                return d->erased ? set_address(d) : erase(d);
        case OP_NONE:
                break;
        }
        assert(false);
        return machine_fail(m, MACHINE_BAD_REPLY);
}

static struct machine_step take_status(struct dfuse *d)
{
        return get_status(d, TAKE_STATUS, DFU_TIMEOUT_FLASH);
}

static struct machine_step on_take_state(struct dfuse *d, const struct machine_reply *reply)
{
        uint8_t state;

        if (reply->result == USB_STALL)
                return abort_to(d, TAKE_ABORTED_BLIND);
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        if (reply->actual != 1 || !reply->data || reply->data[0] >= _DFU_STATE_MAX)
                return machine_fail(&d->machine, MACHINE_BAD_REPLY);
        state = reply->data[0];
        if (state == DFU_STATE_DNLOAD_SYNC || state == DFU_STATE_MANIFEST_SYNC)
                return abort_to(d, TAKE_ABORTED_PENDING);
        return take_status(d);
}

static struct machine_step on_take_aborted(struct dfuse *d, const struct machine_reply *reply, bool stall_allowed)
{
        /* Without GETSTATE: a correct ROM refuses ABORT in dfuERROR and while busy, and in both nothing is pending. */
        if (reply->result == USB_STALL && stall_allowed)
                return take_status(d);
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        return take_status(d);
}

static struct machine_step on_take_status(struct dfuse *d, const struct machine_reply *reply)
{
        struct machine *m = &d->machine;
        struct dfu_report report;

        m->waited += reply->elapsed;
        if (reply->result == USB_STALL && m->retries < BUSY_STALLS_MAX) {
                m->retries++;
                return keep_polling(d, TAKE_WAITED, /* stalled= */ true);
        }
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        if (!dfu_report_parse(reply, &report))
                return machine_fail(m, MACHINE_BAD_REPLY);

        switch (report.state) {
        case DFU_STATE_IDLE:
                d->state = DFU_STATE_IDLE;
                return on_ready(d);
        case DFU_STATE_ERROR:
                /* Out of the wedge the first CLRSTATUS leads to errUNKNOWN.  Anything else is about the erase itself. */
                if (d->erased && report.status != DFU_STATUS_UNKNOWN)
                        return fail_status(d, report.status);
                if (d->clears >= CLEARS_MAX)
                        return fail_status(d, report.status);
                if (m->op == OP_TAKE)
                        m->status = report.status;
                return clear_status(d);
        case DFU_STATE_DNBUSY:
                d->poll_ms = report.poll;
                return keep_polling(d, TAKE_WAITED, /* stalled= */ false);
        case DFU_STATE_DNLOAD_SYNC:
        case DFU_STATE_DNLOAD_IDLE:
        case DFU_STATE_MANIFEST_SYNC:
        case DFU_STATE_UPLOAD_IDLE:
                if (d->aborts >= ABORTS_MAX)
                        return machine_fail(m, MACHINE_BAD_REPLY);
                d->aborts++;
                return abort_to(d, TAKE_ABORTED);
        default:
                return machine_fail(m, MACHINE_BAD_REPLY);
        }
}

static struct machine_step on_take_cleared(struct dfuse *d, const struct machine_reply *reply)
{
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        return take_status(d);
}

static struct machine_step on_begin(struct dfuse *d)
{
        struct machine *m = &d->machine;

        if (d->transfer_size == 0)
                return machine_fail(m, MACHINE_BAD_REPLY);
        if (m->offset < DFUSE_FLASH_START || m->offset >= DFUSE_FLASH_LIMIT || m->end > DFUSE_FLASH_LIMIT)
                return machine_fail(m, MACHINE_ADDRESS_REFUSED);
        if (m->op == OP_PEEK && d->pointer != UINT32_MAX && d->pointer != DFUSE_DEFAULT_POINTER)
                return machine_fail(m, MACHINE_ADDRESS_REFUSED);

        switch (d->state) {
        case DFU_STATE_IDLE:
        case DFU_STATE_DNLOAD_IDLE:
                return on_ready(d);
        case DFU_STATE_UPLOAD_IDLE:
                return abort_to(d, READY_ABORTED);
        default:
                return machine_in(m, TAKE_STATE, DFU_GETSTATE, 0, 1, DFU_TIMEOUT_FLASH);
        }
}

/* --- replies that only lead on --- */

static struct machine_step on_ready_aborted(struct dfuse *d, const struct machine_reply *reply)
{
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        d->state = DFU_STATE_IDLE;
        return on_ready(d);
}

static struct machine_step on_read_aborted(struct dfuse *d, const struct machine_reply *reply)
{
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        d->state = DFU_STATE_IDLE;
        return next_upload(d);
}

static struct machine_step on_read_ended(struct dfuse *d, const struct machine_reply *reply)
{
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        d->state = DFU_STATE_IDLE;
        return machine_done(&d->machine);
}

static struct machine_step on_leave_sent(struct dfuse *d, const struct machine_reply *reply)
{
        if (reply->result == USB_STALL)
                return explain(d);
        if (reply->result != USB_OK)
                return fail_result(d, reply);
        return get_status(d, LEFT, DFU_TIMEOUT_REQUEST);
}

static struct machine_step on_left(struct dfuse *d, const struct machine_reply *reply)
{
        struct dfu_report report;

        switch (reply->result) {
        case USB_OK:
                break;
        case USB_GONE:
        case USB_TIMEOUT:
        case USB_IO:                    /* fell off the bus over it */
                return machine_done(&d->machine);
        default:
                return fail_result(d, reply);
        }
        if (!dfu_report_parse(reply, &report))
                return machine_fail(&d->machine, MACHINE_BAD_REPLY);
        if (report.state == DFU_STATE_ERROR)
                return fail_status(d, report.status);
        if (report.state != DFU_STATE_MANIFEST && report.state != DFU_STATE_MANIFEST_WAIT_RESET)
                return machine_fail(&d->machine, MACHINE_BAD_REPLY);
        return machine_done(&d->machine);
}

struct machine_step dfuse_next(struct dfuse *dfuse, const struct machine_reply *reply)
{
        enum phase phase = dfuse->machine.phase;

        assert(dfuse->machine.op != OP_NONE);
        assert(reply || phase == BEGIN || phase == TAKE_WAITED || phase == COMMAND_WAITED);
        dfuse->machine.chunk.size = 0;

        switch (phase) {
        case BEGIN:
                return on_begin(dfuse);
        case TAKE_STATE:
                return on_take_state(dfuse, reply);
        case TAKE_ABORTED_PENDING:
        case TAKE_ABORTED:
                return on_take_aborted(dfuse, reply, /* stall_allowed= */ false);
        case TAKE_ABORTED_BLIND:
                return on_take_aborted(dfuse, reply, /* stall_allowed= */ true);
        case TAKE_STATUS:
                return on_take_status(dfuse, reply);
        case TAKE_WAITED:
                return take_status(dfuse);
        case TAKE_CLEARED:
                return on_take_cleared(dfuse, reply);
        case READY_ABORTED:
                return on_ready_aborted(dfuse, reply);
        case COMMAND_SENT:
                return on_command_sent(dfuse, reply);
        case COMMAND_STATUS:
                return on_command_status(dfuse, reply);
        case COMMAND_WAITED:
                return get_status(dfuse, COMMAND_STATUS, DFU_TIMEOUT_FLASH);
        case COMMAND_EXPLAINED:
                return on_explained(dfuse, reply);
        case READ_ABORTED:
                return on_read_aborted(dfuse, reply);
        case UPLOADED:
                return on_uploaded(dfuse, reply);
        case READ_ENDED:
                return on_read_ended(dfuse, reply);
        case PEEK_CLEARED:
                return on_peek_cleared(dfuse, reply);
        case LEAVE_SENT:
                return on_leave_sent(dfuse, reply);
        case LEFT:
                return on_left(dfuse, reply);
        }
        assert(false);
        return machine_fail(&dfuse->machine, MACHINE_BAD_REPLY);
}

/* --- the memory map --- */

static bool digit_of(char c, unsigned base, unsigned *ret)
{
        unsigned v;

        if (c >= '0' && c <= '9')
                v = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
                v = (unsigned)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
                v = (unsigned)(c - 'A') + 10;
        else
                return false;
        if (v >= base)
                return false;
        *ret = v;
        return true;
}

static void skip_spaces(const char **p)
{
        while (**p == ' ' || **p == '\t')
                (*p)++;
}

/* At least one digit, any number of leading zeros, 32 bits. */
static bool read_number(const char **p, unsigned base, uint32_t *ret)
{
        uint64_t value = 0;
        unsigned digit;

        if (!digit_of(**p, base, &digit))
                return false;
        for (; digit_of(**p, base, &digit); (*p)++) {
                value = value * base + digit;
                if (value > UINT32_MAX)
                        return false;
        }
        *ret = (uint32_t)value;
        return true;
}

/* "04*016Kg", with spaces wherever somebody may have put them. */
static bool read_segment(const char **p, uint64_t address, struct dfuse_segment *ret)
{
        uint32_t sectors, size;
        unsigned access;

        skip_spaces(p);
        if (!read_number(p, 10, &sectors))
                return false;
        skip_spaces(p);
        if (*(*p)++ != '*')
                return false;
        skip_spaces(p);
        if (!read_number(p, 10, &size))
                return false;
        skip_spaces(p);
        if (**p == 'K' || **p == 'M') {
                unsigned shift = **p == 'K' ? 10 : 20;

                if (size > UINT32_MAX >> shift)
                        return false;
                size <<= shift;
                (*p)++;
        } else if (**p == 'B')
                (*p)++;
        skip_spaces(p);
        if (**p < 'a' || **p > 'g')
                return false;
        access = (unsigned)*(*p)++ & 7;
        skip_spaces(p);

        if (sectors == 0 || size == 0)
                return false;
        if (address + (uint64_t)sectors * size > UINT64_C(1) << 32)
                return false;
        *ret = (struct dfuse_segment){
                .address = (uint32_t)address,
                .sector_size = size,
                .sectors = sectors,
                .readable = access & 1,
                .erasable = access & 2,
                .writable = access & 4,
        };
        return true;
}

int dfuse_parse_map(const char *string, char *name, struct dfuse_segment segments[static DFUSE_SEGMENTS_MAX], size_t *ret_n)
{
        const char *p = string, *slash, *end;
        size_t n = 0;

        skip_spaces(&p);
        if (*p != '@')
                return -EINVAL;
        p++;
        slash = strchr(p, '/');
        if (!slash)
                return -EINVAL;
        for (end = slash; end > p && end[-1] == ' '; end--)
                ;
        if (end - p >= DFUSE_NAME_SIZE)
                return -EINVAL;

        for (const char *q = slash; *q != '\0';) {
                uint32_t start;
                uint64_t address;

                if (*q++ != '/')
                        return -EINVAL;
                skip_spaces(&q);
                if (q[0] == '0' && (q[1] == 'x' || q[1] == 'X'))
                        q += 2;
                if (!read_number(&q, 16, &start))
                        return -EINVAL;
                skip_spaces(&q);
                if (*q++ != '/')
                        return -EINVAL;
                for (address = start;; q++) {
                        if (n == DFUSE_SEGMENTS_MAX)
                                return -EINVAL;
                        if (!read_segment(&q, address, &segments[n]))
                                return -EINVAL;
                        address += (uint64_t)segments[n].sectors * segments[n].sector_size;
                        n++;
                        if (*q != ',')
                                break;
                }
        }

        if (name) {
                memcpy(name, p, (size_t)(end - p));
                name[end - p] = '\0';
        }
        *ret_n = n;
        return 0;
}
