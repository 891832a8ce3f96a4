/* SPDX-License-Identifier: MIT */

/*
 * protocol/dfuse: the conversations with the ST ROM, its quirks one by one
 * (dfu.md B.4), every wrong answer at every point, a ROM of noise under a judge
 * who knows what must never be sent; and the memory-map strings of real chips.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "protocol/dfuse.h"
#include "unit/script.h"

#define MS UINT64_C(1000)
#define SIZE 2048

static uint8_t image[8192];

static const uint8_t set_08000000[] = { 0x21, 0x00, 0x00, 0x00, 0x08 };
static const uint8_t set_08004000[] = { 0x21, 0x00, 0x40, 0x00, 0x08 };
static const uint8_t set_08005000[] = { 0x21, 0x00, 0x50, 0x00, 0x08 };
static const uint8_t set_08120000[] = { 0x21, 0x00, 0x00, 0x12, 0x08 };
static const uint8_t erase_08004000[] = { 0x41, 0x00, 0x40, 0x00, 0x08 };
static const uint8_t erase_080e0000[] = { 0x41, 0x00, 0x00, 0x0e, 0x08 };
static const uint8_t erase_08120000[] = { 0x41, 0x00, 0x00, 0x12, 0x08 };

#define BUSY(poll) GETSTATUS(0, DFU_STATE_DNBUSY, poll)
#define DONE_WITH_COMMAND GETSTATUS(0, DFU_STATE_DNLOAD_IDLE, 0)
#define IDLE GETSTATUS(0, DFU_STATE_IDLE, 0)
#define IN_ERROR(status) GETSTATUS(status, DFU_STATE_ERROR, 0)
/* As an F4 answers (B.3): 104 ms are asked for, and 50 are enough. */
#define SET_ADDRESS(bytes) DNLOAD(0, 5, bytes), BUSY(104), WAITING(50 * MS, 50 * MS), DONE_WITH_COMMAND

static struct machine_step next(void *machine, const struct machine_reply *reply)
{
        return dfuse_next(machine, reply);
}

static void take(struct dfuse *d, uint16_t transfer_size, bool h743)
{
        static const struct exchange script[] = { GETSTATE(DFU_STATE_IDLE), IDLE };

        assert_int_equal(dfuse_init(d, transfer_size, h743), 0);
        dfuse_begin_take(d);
        assert_done(PLAY(next, d, script));
        assert_int_equal(d->state, DFU_STATE_IDLE);
}

/* --- conversations --- */

static void begin_take(struct dfuse *d)
{
        assert_int_equal(dfuse_init(d, SIZE, false), 0);
        dfuse_begin_take(d);
}

static void begin_take_h743(struct dfuse *d)
{
        assert_int_equal(dfuse_init(d, 1024, true), 0);
        dfuse_begin_take(d);
}

static void begin_peek(struct dfuse *d)
{
        take(d, SIZE, false);
        dfuse_begin_peek(d, SIZE + 8);
}

static void begin_read(struct dfuse *d)
{
        take(d, SIZE, false);
        dfuse_begin_read(d, 0x08004000, SIZE + 8);
}

static void begin_erase(struct dfuse *d)
{
        take(d, SIZE, false);
        dfuse_begin_erase(d, 0x08004000);
}

static void begin_erase_bank1(struct dfuse *d)
{
        take(d, 1024, true);
        dfuse_begin_erase(d, 0x080e0000);
}

static void begin_erase_bank2(struct dfuse *d)
{
        take(d, 1024, true);
        dfuse_begin_erase(d, 0x08120000);
}

static void begin_write(struct dfuse *d)
{
        take(d, SIZE, false);
        dfuse_begin_write(d, 0x08004000, image, 2 * SIZE + 100);
}

static void begin_leave(struct dfuse *d)
{
        take(d, SIZE, false);
        dfuse_begin_leave(d, 0x08000000);
}

static const struct exchange take_script[] = { GETSTATE(DFU_STATE_IDLE), IDLE };
/* Quirk 1. */
static const struct exchange take_f4_script[] = {
        GETSTATE(DFU_STATE_ERROR), IN_ERROR(DFU_STATUS_FIRMWARE), CLRSTATUS, IDLE,
};
/* A dead host's command must not be carried out by our first GETSTATUS. */
static const struct exchange take_pending_script[] = { GETSTATE(DFU_STATE_DNLOAD_SYNC), ABORT, IDLE };
static const struct exchange take_leaving_script[] = { GETSTATE(DFU_STATE_MANIFEST_SYNC), ABORT, IDLE };
static const struct exchange take_uploading_script[] = {
        GETSTATE(DFU_STATE_UPLOAD_IDLE), GETSTATUS(0, DFU_STATE_UPLOAD_IDLE, 0), ABORT, IDLE,
};
static const struct exchange take_blind_script[] = { GETSTATE_FAILS(USB_STALL), ABORT, IDLE };
static const struct exchange take_blind_error_script[] = {
        GETSTATE_FAILS(USB_STALL), ABORT_FAILS(USB_STALL), IN_ERROR(DFU_STATUS_FIRMWARE), CLRSTATUS, IDLE,
};
static const struct exchange take_busy_script[] = {
        GETSTATE(DFU_STATE_DNBUSY), BUSY(100), WAITING(100 * MS, 100 * MS), BUSY(0), WAITING(40 * MS, 40 * MS),
        DONE_WITH_COMMAND, ABORT, IDLE,
};
static const struct exchange peek_script[] = { UPLOAD(2, SIZE, 0x5a), UPLOAD(3, SIZE, 0xa5), ABORT };
static const struct exchange read_script[] = {
        SET_ADDRESS(set_08004000), ABORT, UPLOAD(2, SIZE, 0x5a), UPLOAD(3, SIZE, 0xa5), ABORT,
};
static const struct exchange erase_script[] = {
        DNLOAD(0, 5, erase_08004000), BUSY(100), WAITING(100 * MS, 100 * MS), BUSY(0), WAITING(40 * MS, 40 * MS), DONE_WITH_COMMAND,
};
/* The ROM's reply itself comes with the erase done. */
static const struct exchange erase_bank1_script[] = {
        DNLOAD(0, 5, erase_080e0000), BUSY(0), WAITING(0, 20 * MS), DONE_WITH_COMMAND,
};
static const struct exchange erase_bank2_script[] = {
        DNLOAD(0, 5, erase_08120000), BUSY(0), WAITING(0, 20 * MS), DONE_WITH_COMMAND,
};
static const struct exchange write_script[] = {
        SET_ADDRESS(set_08004000),
        DNLOAD(2, SIZE, image), BUSY(0), DONE_WITH_COMMAND,
        DNLOAD(3, SIZE, image + SIZE), BUSY(5), WAITING(5 * MS, 5 * MS), DONE_WITH_COMMAND,
        SET_ADDRESS(set_08005000),
        DNLOAD(2, 100, image + 2 * SIZE), BUSY(0), DONE_WITH_COMMAND,
};
static const struct exchange leave_script[] = {
        SET_ADDRESS(set_08000000), DNLOAD(2, 0, NULL), GETSTATUS(0, DFU_STATE_MANIFEST, 0),
};

static const struct conversation {
        const char *name;
        void (*begin)(struct dfuse *d);
        const struct exchange *script;
        size_t n;
} conversations[] = {
        { "take", begin_take, take_script, ELEMENTSOF(take_script) },
        { "take, quirk 1", begin_take, take_f4_script, ELEMENTSOF(take_f4_script) },
        { "take, pending command", begin_take, take_pending_script, ELEMENTSOF(take_pending_script) },
        { "take, pending leave", begin_take, take_leaving_script, ELEMENTSOF(take_leaving_script) },
        { "take, uploading", begin_take, take_uploading_script, ELEMENTSOF(take_uploading_script) },
        { "take, no GETSTATE", begin_take, take_blind_script, ELEMENTSOF(take_blind_script) },
        { "take, no GETSTATE, in error", begin_take, take_blind_error_script, ELEMENTSOF(take_blind_error_script) },
        { "take, busy", begin_take, take_busy_script, ELEMENTSOF(take_busy_script) },
        { "take, busy, H743", begin_take_h743, take_busy_script, ELEMENTSOF(take_busy_script) },
        { "peek", begin_peek, peek_script, ELEMENTSOF(peek_script) },
        { "read", begin_read, read_script, ELEMENTSOF(read_script) },
        { "erase", begin_erase, erase_script, ELEMENTSOF(erase_script) },
        { "erase, H743 bank 1", begin_erase_bank1, erase_bank1_script, ELEMENTSOF(erase_bank1_script) },
        { "erase, H743 bank 2, no wedge", begin_erase_bank2, erase_bank2_script, ELEMENTSOF(erase_bank2_script) },
        { "write", begin_write, write_script, ELEMENTSOF(write_script) },
        { "leave", begin_leave, leave_script, ELEMENTSOF(leave_script) },
};

static void every_operation_says_exactly_its_words(void **state)
{
        for (size_t c = 0; c < ELEMENTSOF(conversations); c++) {
                struct dfuse d;

                conversations[c].begin(&d);
                assert_done(script_play(next, &d, conversations[c].script, conversations[c].n, NULL, NULL));
        }
}

static void take_reports_what_it_cleared(void **state)
{
        struct machine_step step;
        struct dfuse d;

        begin_take(&d);
        step = PLAY(next, &d, take_f4_script);
        assert_done(step);
        assert_int_equal(step.status, DFU_STATUS_FIRMWARE);
}

static void take_never_commits_what_it_cannot_abort(void **state)
{
        static const struct exchange script[] = { GETSTATE(DFU_STATE_DNLOAD_SYNC), ABORT_FAILS(USB_STALL) };
        struct dfuse d;

        begin_take(&d);
        assert_failed(PLAY(next, &d, script), MACHINE_STALLED);
}

/* Quirk 2: CLRSTATUS outside dfuERROR would stall; a ROM that cannot be cleared ends in a name. */
static void take_gives_up_on_an_error_that_stays(void **state)
{
        static const struct exchange script[] = {
                GETSTATE(DFU_STATE_ERROR), IN_ERROR(DFU_STATUS_POR), CLRSTATUS, IN_ERROR(DFU_STATUS_POR), CLRSTATUS,
                IN_ERROR(DFU_STATUS_POR),
        };
        struct machine_step step;
        struct dfuse d;

        begin_take(&d);
        step = PLAY(next, &d, script);
        assert_failed(step, MACHINE_DEVICE_ERROR);
        assert_int_equal(step.status, DFU_STATUS_POR);
}

struct collected {
        size_t n;
        struct { uint32_t offset; size_t size; uint8_t first; } chunks[4];
};

static void collect(void *userdata, const void *machine)
{
        struct collected *c = userdata;
        const struct machine *m = machine;

        if (m->chunk.size == 0)
                return;
        assert_true(c->n < 4);
        c->chunks[c->n].offset = m->chunk.offset;
        c->chunks[c->n].size = m->chunk.size;
        c->chunks[c->n].first = m->chunk.data[0];
        c->n++;
}

/* Whole blocks are asked for and the rest is cut off (B.2). */
static void read_delivers_every_byte_once(void **state)
{
        struct collected c = { 0 };
        struct dfuse d;

        begin_read(&d);
        assert_done(script_play(next, &d, read_script, ELEMENTSOF(read_script), collect, &c));
        assert_int_equal(c.n, 2);
        assert_int_equal(c.chunks[0].offset, 0x08004000);
        assert_int_equal(c.chunks[0].size, SIZE);
        assert_int_equal(c.chunks[0].first, 0x5a);
        assert_int_equal(c.chunks[1].offset, 0x08004800);
        assert_int_equal(c.chunks[1].size, 8);
        assert_int_equal(c.chunks[1].first, 0xa5);
        assert_int_equal(d.machine.progress, SIZE + 8);
        assert_int_equal(d.state, DFU_STATE_IDLE);
}

static void read_broken_off_is_aborted_by_the_next_operation(void **state)
{
        static const struct exchange again[] = { ABORT, DNLOAD(0, 5, erase_08004000), DONE_WITH_COMMAND };
        struct machine_step step;
        struct machine_reply reply;
        uint8_t buffer[USB_MAX_TRANSFER];
        struct dfuse d;

        begin_peek(&d);
        step = dfuse_next(&d, NULL);
        exchange_expect(&peek_script[0], 0, &step);
        exchange_answer(&peek_script[0], &reply, buffer);
        (void)dfuse_next(&d, &reply);
        assert_int_equal(d.machine.chunk.size, SIZE);
        dfuse_begin_erase(&d, 0x08004000);
        assert_done(PLAY(next, &d, again));
}

static void peek_downloads_nothing_and_minds_the_pointer(void **state)
{
        static const struct exchange script[] = { SET_ADDRESS(set_08004000), ABORT, UPLOAD(2, SIZE, 0), ABORT };
        struct dfuse d;

        take(&d, SIZE, false);
        dfuse_begin_read(&d, 0x08004000, SIZE);
        assert_done(PLAY(next, &d, script));
        dfuse_begin_peek(&d, 8);
        assert_failed(dfuse_next(&d, NULL), MACHINE_ADDRESS_REFUSED);
}

/* An operation begun on a device whose state is not known takes it back first. */
static void operation_after_a_failure_takes_the_device_back(void **state)
{
        static const struct exchange fails[] = { DNLOAD(0, 5, erase_08004000), IN_ERROR(DFU_STATUS_WRITE) };
        static const struct exchange again[] = {
                GETSTATE(DFU_STATE_ERROR), IN_ERROR(DFU_STATUS_WRITE), CLRSTATUS, IDLE,
                DNLOAD(0, 5, erase_08004000), DONE_WITH_COMMAND,
        };
        struct dfuse d;

        take(&d, SIZE, false);
        dfuse_begin_erase(&d, 0x08004000);
        assert_failed(PLAY(next, &d, fails), MACHINE_WRITE_REFUSED);
        dfuse_begin_erase(&d, 0x08004000);
        assert_done(PLAY(next, &d, again));
}

static void nothing_to_do_is_done_at_once(void **state)
{
        struct dfuse d;

        take(&d, SIZE, false);
        dfuse_begin_read(&d, 0x08000000, 0);
        assert_done(dfuse_next(&d, NULL));
        dfuse_begin_write(&d, 0x08000000, image, 0);
        assert_done(dfuse_next(&d, NULL));
        dfuse_begin_peek(&d, 0);
        assert_done(dfuse_next(&d, NULL));
}

/* --- quirks and refusals --- */

/* Quirk 3, the whole of it: 4 s of dfuDNBUSY, the CLRSTATUS pair, Set Address anew. */
static void h743_wedge_is_escaped_after_four_seconds(void **state)
{
        static const struct exchange end[] = {
                CLRSTATUS, IN_ERROR(DFU_STATUS_UNKNOWN), CLRSTATUS, IDLE, SET_ADDRESS(set_08120000),
        };
        static const struct exchange first = DNLOAD(0, 5, erase_08120000), busy = BUSY(0);
        struct machine_reply reply;
        uint8_t buffer[USB_MAX_TRANSFER];
        struct machine_step step;
        uint64_t waited = 0;
        unsigned polls = 0;
        struct dfuse d;

        begin_erase_bank2(&d);
        step = dfuse_next(&d, NULL);
        exchange_expect(&first, 0, &step);
        exchange_answer(&first, &reply, buffer);
        step = dfuse_next(&d, &reply);
        while (step.kind == MACHINE_WAIT || step.setup.request == DFU_GETSTATUS) {
                if (step.kind == MACHINE_WAIT) {
                        waited += step.wait;
                        step = dfuse_next(&d, NULL);
                } else {
                        assert_true(++polls < 100);
                        exchange_expect(&busy, polls, &step);
                        exchange_answer(&busy, &reply, buffer);
                        step = dfuse_next(&d, &reply);
                }
        }
        assert_int_equal(waited, 4000 * MS);
        for (size_t i = 0; i < ELEMENTSOF(end); i++) {
                exchange_expect(&end[i], i, &step);
                exchange_answer(&end[i], &reply, buffer);
                step = dfuse_next(&d, end[i].kind == MACHINE_WAIT ? NULL : &reply);
        }
        assert_done(step);
        assert_int_equal(d.pointer, 0x08120000);
}

/* Answers with dfuDNBUSY until the machine says something else; returns the waits' sum. */
static uint64_t stay_busy(struct dfuse *d, struct machine_step *step, uint64_t elapsed)
{
        static const struct exchange busy = BUSY(0);
        uint64_t waited = 0;

        for (unsigned i = 0; i < 1000; i++) {
                if (step->kind == MACHINE_WAIT) {
                        waited += step->wait;
                        *step = dfuse_next(d, NULL);
                } else if (step->kind == MACHINE_REQUEST && step->setup.request == DFU_GETSTATUS) {
                        struct machine_reply reply;
                        uint8_t buffer[USB_MAX_TRANSFER];

                        exchange_answer(&busy, &reply, buffer);
                        reply.elapsed = elapsed;
                        waited += elapsed;
                        *step = dfuse_next(d, &reply);
                } else
                        return waited;
        }
        fail_msg("polls for ever");
        return 0;
}

static struct machine_step send_first(struct dfuse *d, const struct exchange *x)
{
        struct machine_step step = dfuse_next(d, NULL);
        struct machine_reply reply;
        uint8_t buffer[USB_MAX_TRANSFER];

        exchange_expect(x, 0, &step);
        exchange_answer(x, &reply, buffer);
        return dfuse_next(d, &reply);
}

/* Plays the rest of a conversation of which step is the present one. */
static struct machine_step go_on(struct dfuse *d, struct machine_step step, const struct exchange *script, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                struct machine_reply reply;
                uint8_t buffer[USB_MAX_TRANSFER];

                exchange_expect(&script[i], i, &step);
                exchange_answer(&script[i], &reply, buffer);
                step = dfuse_next(d, script[i].kind == MACHINE_WAIT ? NULL : &reply);
        }
        return step;
}

static void wedge_escape_believes_only_errunknown(void **state)
{
        static const struct exchange first = DNLOAD(0, 5, erase_08120000);
        static const struct exchange vendor[] = { CLRSTATUS, IN_ERROR(DFU_STATUS_VENDOR) };
        static const struct exchange busy[] = { CLRSTATUS, BUSY(0) };
        static const struct exchange refused[] = { CLRSTATUS_FAILS(USB_STALL) };
        static const struct exchange third[] = { CLRSTATUS, IN_ERROR(DFU_STATUS_UNKNOWN), CLRSTATUS, IN_ERROR(DFU_STATUS_UNKNOWN) };
        static const struct exchange at_once[] = { CLRSTATUS, IDLE, SET_ADDRESS(set_08120000) };
        static const struct { const struct exchange *script; size_t n; enum machine_outcome outcome; } cases[] = {
                { vendor, ELEMENTSOF(vendor), MACHINE_PROTECTED },
                { busy, ELEMENTSOF(busy), MACHINE_BUSY_FOREVER },
                { refused, ELEMENTSOF(refused), MACHINE_STALLED },
                { third, ELEMENTSOF(third), MACHINE_DEVICE_ERROR },
                { at_once, ELEMENTSOF(at_once), MACHINE_OK },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct machine_step step;
                struct dfuse d;

                begin_erase_bank2(&d);
                step = send_first(&d, &first);
                assert_int_equal(stay_busy(&d, &step, 0), 4000 * MS);
                step = go_on(&d, step, cases[i].script, cases[i].n);
                assert_string_equal(machine_outcome_to_string(step.outcome), machine_outcome_to_string(cases[i].outcome));
                assert_int_equal(step.kind, cases[i].outcome == MACHINE_OK ? MACHINE_DONE : MACHINE_FAILED);
        }
}

/* Quirk 1 before the operation must not use up the pair that the wedge needs. */
static void wedge_escape_works_on_a_device_just_taken_back(void **state)
{
        static const struct exchange before[] = {
                GETSTATE(DFU_STATE_ERROR), IN_ERROR(DFU_STATUS_FIRMWARE), CLRSTATUS, IDLE, DNLOAD(0, 5, erase_08120000),
        };
        static const struct exchange after[] = {
                CLRSTATUS, IN_ERROR(DFU_STATUS_UNKNOWN), CLRSTATUS, IDLE, SET_ADDRESS(set_08120000),
        };
        struct machine_step step;
        struct dfuse d;

        assert_int_equal(dfuse_init(&d, 1024, true), 0);
        dfuse_begin_erase(&d, 0x08120000);
        step = go_on(&d, dfuse_next(&d, NULL), before, ELEMENTSOF(before));
        assert_int_equal(stay_busy(&d, &step, 0), 4000 * MS);
        assert_done(go_on(&d, step, after, ELEMENTSOF(after)));
}

/* A host that died over a bank-2 erase leaves the ROM wedged; the erase asked for now still has to be done. */
static void wedge_found_at_the_beginning_does_not_count_as_the_erase(void **state)
{
        static const struct exchange before[] = { GETSTATE(DFU_STATE_DNBUSY) };
        static const struct exchange after[] = {
                CLRSTATUS, IN_ERROR(DFU_STATUS_UNKNOWN), CLRSTATUS, IDLE, DNLOAD(0, 5, erase_080e0000), DONE_WITH_COMMAND,
        };
        struct machine_step step;
        struct dfuse d;

        assert_int_equal(dfuse_init(&d, 1024, true), 0);
        dfuse_begin_erase(&d, 0x080e0000);
        step = go_on(&d, dfuse_next(&d, NULL), before, ELEMENTSOF(before));
        assert_int_equal(stay_busy(&d, &step, 0), 4000 * MS);
        assert_done(go_on(&d, step, after, ELEMENTSOF(after)));
}

static void busy_for_ever_ends_after_ten_seconds_without_clrstatus(void **state)
{
        static const struct exchange first = DNLOAD(0, 5, erase_08004000), bank1 = DNLOAD(0, 5, erase_080e0000);
        struct machine_step step;
        struct dfuse d;
        uint64_t waited;

        begin_erase(&d);
        step = send_first(&d, &first);
        assert_int_equal(stay_busy(&d, &step, 0), 10000 * MS);
        assert_failed(step, MACHINE_BUSY_FOREVER);

        begin_erase_bank1(&d);
        step = send_first(&d, &bank1);
        assert_int_equal(stay_busy(&d, &step, 0), 10000 * MS);
        assert_failed(step, MACHINE_BUSY_FOREVER);

        /* A ROM that answers late: the time of the requests counts. */
        begin_erase(&d);
        step = send_first(&d, &first);
        waited = stay_busy(&d, &step, 900 * MS);
        assert_true(waited >= 10000 * MS && waited < 11000 * MS);
        assert_failed(step, MACHINE_BUSY_FOREVER);
}

/* Quirk 6: and the three waits outlast an erase. */
static void three_stalls_while_busy_are_forgiven(void **state)
{
#define UNTIL_THE_THIRD                                                                         \
                DNLOAD(0, 5, erase_08004000), BUSY(100), WAITING(100 * MS, 100 * MS),           \
                GETSTATUS_FAILS(USB_STALL), WAITING(500 * MS, 500 * MS),                        \
                GETSTATUS_FAILS(USB_STALL), WAITING(1000 * MS, 1000 * MS),                      \
                GETSTATUS_FAILS(USB_STALL), WAITING(2000 * MS, 2000 * MS)
        static const struct exchange three[] = { UNTIL_THE_THIRD, DONE_WITH_COMMAND };
        static const struct exchange four[] = { UNTIL_THE_THIRD, GETSTATUS_FAILS(USB_STALL) };
        static const struct exchange program[] = {
                SET_ADDRESS(set_08004000), DNLOAD(2, SIZE, NULL), GETSTATUS_FAILS(USB_STALL), WAITING(50 * MS, 50 * MS),
                GETSTATUS_FAILS(USB_STALL), WAITING(100 * MS, 100 * MS), GETSTATUS_FAILS(USB_STALL), WAITING(200 * MS, 200 * MS),
                GETSTATUS_FAILS(USB_STALL),
        };
        struct dfuse d;

        begin_erase(&d);
        assert_done(PLAY(next, &d, three));
        begin_erase(&d);
        assert_failed(PLAY(next, &d, four), MACHINE_STALLED);
        begin_write(&d);
        assert_failed(PLAY(next, &d, program), MACHINE_STALLED);
}

static void lying_poll_timeouts_are_bounded(void **state)
{
        static const struct exchange set[] = {
                DNLOAD(0, 5, set_08004000), BUSY(0xffffff), WAITING(50 * MS, 50 * MS), DONE_WITH_COMMAND,
        };
        static const struct exchange erase[] = {
                DNLOAD(0, 5, erase_08004000), BUSY(0xffffff), WAITING(1, 500 * MS), DONE_WITH_COMMAND,
        };
        struct dfuse d;

        begin_write(&d);
        (void)go_on(&d, dfuse_next(&d, NULL), set, ELEMENTSOF(set));
        assert_int_equal(d.pointer, 0x08004000);
        begin_erase(&d);
        assert_done(PLAY(next, &d, erase));
}

static void protection_is_told_from_damage(void **state)
{
        static const struct exchange peek[] = { UPLOAD_FAILS(2, SIZE, USB_STALL), IN_ERROR(DFU_STATUS_VENDOR), CLRSTATUS };
        static const struct exchange stays[] = {
                UPLOAD_FAILS(2, SIZE, USB_STALL), IN_ERROR(DFU_STATUS_VENDOR), CLRSTATUS_FAILS(USB_STALL),
        };
        static const struct exchange leaves[] = {
                UPLOAD_FAILS(2, SIZE, USB_STALL), IN_ERROR(DFU_STATUS_VENDOR), CLRSTATUS_FAILS(USB_GONE),
        };
        static const struct exchange erase[] = { DNLOAD(0, 5, erase_08004000), BUSY(0), WAITING(0, 20 * MS), IN_ERROR(DFU_STATUS_VENDOR) };
        static const struct exchange refused[] = { DNLOAD_FAILS(0, 5, USB_STALL), IN_ERROR(DFU_STATUS_VENDOR) };
        static const struct exchange stalled[] = { DNLOAD_FAILS(0, 5, USB_STALL), IN_ERROR(DFU_STATUS_STALLEDPKT) };
        static const struct exchange silent[] = { DNLOAD_FAILS(0, 5, USB_STALL), IDLE };
        static const struct exchange address[] = { DNLOAD(0, 5, erase_08004000), IN_ERROR(DFU_STATUS_TARGET) };
        struct machine_step step;
        struct dfuse d;

        begin_peek(&d);
        step = PLAY(next, &d, peek);
        assert_failed(step, MACHINE_PROTECTED);
        assert_int_equal(step.status, DFU_STATUS_VENDOR);
        begin_peek(&d);
        assert_failed(PLAY(next, &d, stays), MACHINE_PROTECTED);
        begin_peek(&d);
        assert_failed(PLAY(next, &d, leaves), MACHINE_GONE);
        begin_erase(&d);
        assert_failed(PLAY(next, &d, erase), MACHINE_PROTECTED);
        begin_erase(&d);
        assert_failed(PLAY(next, &d, refused), MACHINE_PROTECTED);
        begin_erase(&d);
        assert_failed(PLAY(next, &d, stalled), MACHINE_STALLED);
        begin_erase(&d);
        assert_failed(PLAY(next, &d, silent), MACHINE_STALLED);
        begin_erase(&d);
        assert_failed(PLAY(next, &d, address), MACHINE_ADDRESS_REFUSED);
}

static void leaving_without_an_answer_is_success(void **state)
{
        static const struct { enum usb_result result; bool success; } cases[] = {
                { USB_GONE, true }, { USB_TIMEOUT, true }, { USB_IO, true }, { USB_STALL, false }, { USB_CANCELLED, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                const struct exchange script[] = { SET_ADDRESS(set_08000000), DNLOAD(2, 0, NULL), GETSTATUS_FAILS(cases[i].result) };
                struct dfuse d;

                begin_leave(&d);
                assert_int_equal(PLAY(next, &d, script).kind, cases[i].success ? MACHINE_DONE : MACHINE_FAILED);
        }
}

static void nothing_but_main_flash_is_addressed(void **state)
{
        static const uint32_t addresses[] = { 0, 0x07ffffff, 0x08200000, 0x1fffc000, 0x1fff7800, 0x5200201c, 0x20000000, 0xffffffff };
        struct dfuse d;

        for (size_t i = 0; i < ELEMENTSOF(addresses); i++) {
                take(&d, SIZE, true);
                dfuse_begin_erase(&d, addresses[i]);
                assert_failed(dfuse_next(&d, NULL), MACHINE_ADDRESS_REFUSED);
                dfuse_begin_write(&d, addresses[i], image, 8);
                assert_failed(dfuse_next(&d, NULL), MACHINE_ADDRESS_REFUSED);
                dfuse_begin_leave(&d, addresses[i]);
                assert_failed(dfuse_next(&d, NULL), MACHINE_ADDRESS_REFUSED);
        }
        take(&d, SIZE, false);
        dfuse_begin_write(&d, 0x081fff00, image, 0x101);
        assert_failed(dfuse_next(&d, NULL), MACHINE_ADDRESS_REFUSED);
        dfuse_begin_write(&d, 0x08000000, image, 0xfffffff0);
        assert_failed(dfuse_next(&d, NULL), MACHINE_ADDRESS_REFUSED);
}

static void impossible_transfer_sizes_send_nothing(void **state)
{
        static const uint16_t sizes[] = { 0, 1, 32, 63, 100, 3000, 4097, 8192, 0xffff };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                struct dfuse d;

                assert_int_equal(dfuse_init(&d, sizes[i], false), -EINVAL);
                dfuse_begin_take(&d);
                assert_failed(dfuse_next(&d, NULL), MACHINE_BAD_REPLY);
                dfuse_begin_read(&d, 0x08000000, 64);
                assert_failed(dfuse_next(&d, NULL), MACHINE_BAD_REPLY);
        }
}

/* --- every wrong answer at every point --- */

static struct machine_step answer_wrongly(const struct conversation *c, size_t k, struct dfuse *d,
                                          const struct machine_reply *wrong)
{
        struct machine_step step;

        c->begin(d);
        step = go_on(d, dfuse_next(d, NULL), c->script, k);
        exchange_expect(&c->script[k], k, &step);
        return dfuse_next(d, wrong);
}

static void every_transfer_failure_has_its_name(void **state)
{
        static const enum machine_outcome names[_USB_RESULT_MAX] = {
                [USB_STALL] = MACHINE_STALLED, [USB_TIMEOUT] = MACHINE_TIMEOUT, [USB_GONE] = MACHINE_GONE,
                [USB_OVERFLOW] = MACHINE_TRANSFER_ERROR, [USB_IO] = MACHINE_TRANSFER_ERROR,
                [USB_CANCELLED] = MACHINE_CANCELLED,
        };

        for (size_t c = 0; c < ELEMENTSOF(conversations); c++)
                for (size_t k = 0; k < conversations[c].n; k++) {
                        const struct exchange *x = &conversations[c].script[k];

                        if (x->kind == MACHINE_WAIT || x->result != USB_OK)
                                continue;
                        for (int r = USB_OK + 1; r < _USB_RESULT_MAX; r++) {
                                struct machine_reply reply = { .result = (enum usb_result)r };
                                struct dfuse d;
                                struct machine_step step = answer_wrongly(&conversations[c], k, &d, &reply);
                                bool leaving = conversations[c].begin == begin_leave && k + 1 == conversations[c].n;

                                if (leaving && (r == USB_GONE || r == USB_TIMEOUT || r == USB_IO))
                                        assert_done(step);
                                else if (r == USB_STALL && !leaving &&
                                         (x->request == DFU_GETSTATUS || x->request == DFU_GETSTATE ||
                                          x->request == DFU_DNLOAD || x->request == DFU_UPLOAD))
                                        /* asked again, or asked why */
                                        assert_int_not_equal(step.kind, MACHINE_DONE);
                                else if (r == USB_STALL && k == 1 && conversations[c].script == take_blind_script)
                                        assert_int_equal(step.kind, MACHINE_REQUEST);
                                else
                                        assert_failed(step, names[r]);
                        }
                }
}

/* After a wrong status the device goes on answering dfuERROR, dfuDNBUSY, or idle: it must end, with a name, in time. */
static void every_wrong_status_ends(void **state)
{
        static const uint8_t states[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x42, 0xff };
        static const uint8_t afterwards[] = { DFU_STATE_IDLE, DFU_STATE_DNBUSY, DFU_STATE_DNLOAD_IDLE, DFU_STATE_ERROR,
                                              DFU_STATE_UPLOAD_IDLE, DFU_STATE_DNLOAD_SYNC };
        size_t tried = 0;

        for (size_t c = 0; c < ELEMENTSOF(conversations); c++)
                for (size_t k = 0; k < conversations[c].n; k++) {
                        const struct exchange *x = &conversations[c].script[k];

                        if (x->kind != MACHINE_REQUEST || x->request != DFU_GETSTATUS)
                                continue;
                        for (size_t i = 0; i < 18 * ELEMENTSOF(states) * ELEMENTSOF(afterwards); i++) {
                                uint8_t status = (uint8_t)(i % 18), s = states[i / 18 % ELEMENTSOF(states)];
                                uint8_t then = afterwards[i / 18 / ELEMENTSOF(states)];
                                uint8_t bytes[6] = { status, 1, 0, 0, s, 0 };
                                struct machine_reply reply = { .data = bytes, .actual = 6 };
                                struct machine_step step;
                                uint64_t waited = 0;
                                struct dfuse d;

                                step = answer_wrongly(&conversations[c], k, &d, &reply);
                                tried++;
                                if (status > 15 || s > 10 || (status != 0 && s != 10))
                                        assert_failed(step, MACHINE_BAD_REPLY);
                                for (unsigned n = 0; step.kind == MACHINE_REQUEST || step.kind == MACHINE_WAIT; n++) {
                                        static const uint8_t data[SIZE];

                                        assert_true(n < 1000);
                                        if (step.kind == MACHINE_WAIT) {
                                                waited += step.wait;
                                                step = dfuse_next(&d, NULL);
                                                continue;
                                        }
                                        memset(bytes, 0, sizeof(bytes));
                                        bytes[4] = then;
                                        if (then == DFU_STATE_ERROR)
                                                bytes[0] = DFU_STATUS_UNKNOWN;
                                        reply = (struct machine_reply){ .actual = step.setup.length };
                                        if (step.setup.request == DFU_GETSTATUS)
                                                reply.data = bytes;
                                        else if (step.setup.request == DFU_GETSTATE)
                                                reply.data = &then;
                                        else if (step.setup.request == DFU_UPLOAD)
                                                reply.data = data;
                                        step = dfuse_next(&d, &reply);
                                }
                                assert_non_null(machine_outcome_to_string(step.outcome));
                                assert_true(waited <= 60 * 1000 * MS);
                        }
                }
        assert_true(tried > 10000);
}

static void every_short_answer_has_its_name(void **state)
{
        static const uint8_t zeros[USB_MAX_TRANSFER];

        for (size_t c = 0; c < ELEMENTSOF(conversations); c++)
                for (size_t k = 0; k < conversations[c].n; k++) {
                        const struct exchange *x = &conversations[c].script[k];

                        if (x->kind == MACHINE_WAIT || x->result != USB_OK)
                                continue;
                        for (size_t n = 0; n < x->length; n = n < 70 ? n + 1 : n + 197) {
                                struct machine_reply reply = { .data = x->type & 0x80 ? zeros : NULL, .actual = n };
                                struct dfuse d;

                                assert_failed(answer_wrongly(&conversations[c], k, &d, &reply), MACHINE_BAD_REPLY);
                        }
                }
}

/* --- a ROM of noise, and a judge --- */

struct judge {
        bool h743;
        bool maybe_pending;             /* a command that is not ours may wait for GETSTATUS */
        uint8_t state;                  /* as last reported; 0xff: nothing since */
        uint64_t busy;                  /* waited since the last command */
        unsigned clears_out_of_wedge;
};

static void judge_step(struct judge *judge, const struct machine_step *step)
{
        const struct usb_setup *s = &step->setup;

        if (step->kind == MACHINE_WAIT) {
                judge->busy += step->wait;
                assert_true(step->wait <= 2000 * MS);
                return;
        }
        assert_int_not_equal(step->timeout, 0);
        assert_true(step->timeout <= DFU_TIMEOUT_FLASH);
        assert_true(s->request_type == 0x21 || s->request_type == 0xa1);
        switch (s->request) {
        case DFU_DNLOAD:
                if (s->value == 0) {
                        uint32_t address;

                        assert_int_equal(s->length, 5);
                        assert_true(step->data[0] == 0x21 || step->data[0] == 0x41);
                        address = get_le32(step->data + 1);
                        assert_true(address >= 0x08000000 && address < 0x08200000);
                } else
                        assert_true(s->value >= 2);
                judge->busy = 0;
                break;
        case DFU_GETSTATUS:
                if (judge->maybe_pending)
                        fail_msg("GETSTATUS might carry out a dead host's command");
                break;
        case DFU_CLRSTATUS:
                if (judge->state == DFU_STATE_ERROR)
                        break;
                if (!judge->h743 || judge->busy < 4000 * MS)
                        fail_msg("CLRSTATUS in state %u", judge->state);
                judge->clears_out_of_wedge++;
                break;
        case DFU_UPLOAD:
                assert_true(s->value >= 2);
                break;
        case DFU_ABORT:
        case DFU_GETSTATE:
                break;
        default:
                fail_msg("request %u", s->request);
        }
}

static void judge_reply(struct judge *judge, const struct machine_step *step, const struct machine_reply *reply)
{
        const struct usb_setup *s = &step->setup;

        if (s->request == DFU_GETSTATE && reply->result == USB_OK && reply->actual == 1) {
                judge->state = reply->data[0];
                judge->maybe_pending = reply->data[0] == DFU_STATE_DNLOAD_SYNC || reply->data[0] == DFU_STATE_MANIFEST_SYNC;
        } else if (s->request == DFU_GETSTATUS && reply->result == USB_OK && reply->actual == 6)
                judge->state = reply->data[4];
        else if (s->request == DFU_ABORT)
                judge->maybe_pending = false;
        else if (s->request == DFU_DNLOAD)
                judge->state = 0xff;
}

static void noise_never_breaks_the_rules(void **state)
{
        uint64_t seed = 2;
        unsigned done = 0, failed = 0, escapes = 0;

        for (unsigned session = 0; session < 20000; session++) {
                struct judge judge = { .h743 = session & 1, .maybe_pending = true, .state = 0xff };
                bool stubborn = session % 16 < 2;       /* stays busy once it is */
                struct dfuse d;

                assert_int_equal(dfuse_init(&d, judge.h743 ? 1024 : SIZE, judge.h743), 0);
                for (unsigned i = 0; i < 8; i++) {
                        struct machine_step step;
                        uint64_t waited = 0;
                        unsigned steps = 0;
                        bool busy = false;

                        judge.busy = 0;
                        switch (script_random(&seed) % 6) {
                        case 0: dfuse_begin_take(&d); break;
                        case 1: dfuse_begin_peek(&d, script_random(&seed) % 4097); break;
                        case 2: dfuse_begin_read(&d, 0x08000000 + (script_random(&seed) % 256) * 0x2000, script_random(&seed) % 6000); break;
                        case 3: dfuse_begin_erase(&d, 0x08000000 + (script_random(&seed) % 17) * 0x20000); break;
                        case 4: dfuse_begin_write(&d, 0x08000000 + (script_random(&seed) % 17) * 0x20000, image,
                                                  script_random(&seed) % sizeof(image)); break;
                        case 5: dfuse_begin_leave(&d, 0x08000000); break;
                        }
                        if (d.state == _DFU_STATE_MAX)
                                judge.maybe_pending = true;
                        step = dfuse_next(&d, NULL);
                        while (step.kind == MACHINE_REQUEST || step.kind == MACHINE_WAIT) {
                                uint8_t buffer[USB_MAX_TRANSFER];
                                struct machine_reply reply = { .actual = step.setup.length };
                                uint32_t dice = script_random(&seed) % 32;

                                assert_true(++steps < 3000);
                                judge_step(&judge, &step);
                                if (step.kind == MACHINE_WAIT) {
                                        waited += step.wait;
                                        step = dfuse_next(&d, NULL);
                                        continue;
                                }
                                if (step.setup.request_type & 0x80) {
                                        reply.data = buffer;
                                        memset(buffer, 0, 6);
                                        buffer[4] = (uint8_t)(dice % 3 ? dice % 2 ? DFU_STATE_DNLOAD_IDLE : DFU_STATE_IDLE
                                                                       : script_random(&seed) % 12);
                                        if (stubborn && (busy || (buffer[4] == DFU_STATE_DNBUSY)) && judge.clears_out_of_wedge == 0) {
                                                busy = true;
                                                buffer[4] = DFU_STATE_DNBUSY;
                                                dice = 31;
                                        }
                                        if (buffer[4] == DFU_STATE_ERROR)
                                                buffer[0] = (uint8_t)(script_random(&seed) % 2 ? DFU_STATUS_UNKNOWN : script_random(&seed) % 17);
                                        if (step.setup.request == DFU_GETSTATE)
                                                buffer[0] = (uint8_t)(script_random(&seed) % 12);
                                }
                                if (dice == 0)
                                        reply.result = (enum usb_result)(1 + script_random(&seed) % (_USB_RESULT_MAX - 1));
                                else if (dice == 1 && reply.actual > 0)
                                        reply.actual = script_random(&seed) % reply.actual;
                                if (reply.result != USB_OK) {
                                        reply.data = NULL;
                                        reply.actual = 0;
                                }
                                judge_reply(&judge, &step, &reply);
                                step = dfuse_next(&d, &reply);
                        }
                        escapes += judge.clears_out_of_wedge;
                        judge.clears_out_of_wedge = 0;
                        assert_non_null(machine_outcome_to_string(step.outcome));
                        assert_int_equal(step.kind == MACHINE_DONE, step.outcome == MACHINE_OK);
                        assert_true(waited < 120 * 1000 * MS);
                        if (step.kind == MACHINE_DONE)
                                done++;
                        else
                                failed++;
                }
        }
        assert_true(done > 10000 && failed > 10000 && escapes > 100);
}

/* --- the memory map --- */

static void assert_map(const char *string, const char *name, size_t n, const struct dfuse_segment *expected)
{
        struct dfuse_segment segments[DFUSE_SEGMENTS_MAX];
        char got[DFUSE_NAME_SIZE];
        size_t got_n;

        assert_int_equal(dfuse_parse_map(string, got, segments, &got_n), 0);
        assert_string_equal(got, name);
        assert_int_equal(got_n, n);
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(segments[i].address, expected[i].address);
                assert_int_equal(segments[i].sector_size, expected[i].sector_size);
                assert_int_equal(segments[i].sectors, expected[i].sectors);
                assert_int_equal(segments[i].readable, expected[i].readable);
                assert_int_equal(segments[i].erasable, expected[i].erasable);
                assert_int_equal(segments[i].writable, expected[i].writable);
        }
        assert_int_equal(dfuse_parse_map(string, NULL, segments, &got_n), 0);
}

#define MAP(string, name, ...)                                                                  \
        do {                                                                                    \
                const struct dfuse_segment _e[] = { __VA_ARGS__ };                              \
                assert_map(string, name, ELEMENTSOF(_e), _e);                                   \
        } while (0)

static void maps_of_real_chips_are_read(void **state)
{
        MAP("@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg", "Internal Flash",
            { 0x08000000, 16384, 4, true, true, true }, { 0x08010000, 65536, 1, true, true, true },
            { 0x08020000, 131072, 7, true, true, true });
        MAP("@Internal Flash  /0x08000000/04*016Kg,01*064Kg,07*128Kg,04*016Kg,01*064Kg,07*128Kg", "Internal Flash",
            { 0x08000000, 16384, 4, true, true, true }, { 0x08010000, 65536, 1, true, true, true },
            { 0x08020000, 131072, 7, true, true, true }, { 0x08100000, 16384, 4, true, true, true },
            { 0x08110000, 65536, 1, true, true, true }, { 0x08120000, 131072, 7, true, true, true });
        MAP("@Internal Flash  /0x08000000/04*032Kg,01*128Kg,07*256Kg", "Internal Flash",
            { 0x08000000, 32768, 4, true, true, true }, { 0x08020000, 131072, 1, true, true, true },
            { 0x08040000, 262144, 7, true, true, true });
        MAP("@Internal Flash   /0x08000000/16*128Kg", "Internal Flash", { 0x08000000, 131072, 16, true, true, true });
        MAP("@Option Bytes   /0x5200201C/01*128 e", "Option Bytes", { 0x5200201c, 128, 1, true, false, true });
        MAP("@Option Bytes  /0x1FFFC000/01*016 e/0x1FFEC000/01*016 e", "Option Bytes",
            { 0x1fffc000, 16, 1, true, false, true }, { 0x1ffec000, 16, 1, true, false, true });
        MAP("@OTP Memory /0x1FFF7800/01*512 e,01*016 e", "OTP Memory", { 0x1fff7800, 512, 1, true, false, true },
            { 0x1fff7a00, 16, 1, true, false, true });
        MAP("@OTP Memory /0x1FF07800/01*528e", "OTP Memory", { 0x1ff07800, 528, 1, true, false, true });
        MAP("@Device Feature/0xFFFF0000/01*004 e", "Device Feature", { 0xffff0000, 4, 1, true, false, true });
        MAP("@Option Bytes  /0x1FFFC000/01*016 g/0x1FFEC000/01*016 g", "Option Bytes",
            { 0x1fffc000, 16, 1, true, true, true }, { 0x1ffec000, 16, 1, true, true, true });
}

static void maps_are_read_leniently(void **state)
{
        MAP("@/08000000/1*16K a", "", { 0x08000000, 16384, 1, true, false, false });
        MAP(" @ X /0X8000000/ 1 * 1 M b , 00002*8Bd ", " X", { 0x08000000, 1 << 20, 1, false, true, false },
            { 0x08100000, 8, 2, false, false, true });
        MAP("@x/0xfffffff0/1*16c", "x", { 0xfffffff0, 16, 1, true, true, false });
}

static void maps_that_make_no_sense_are_refused(void **state)
{
        static const char *const wrong[] = {
                "", "@", "Internal Flash", "@Internal Flash", "@a/", "@a/0x", "@a/0x08000000", "@a/0x08000000/",
                "@a/0x08000000/1", "@a/0x08000000/1*", "@a/0x08000000/1*1", "@a/0x08000000/1*1K", "@a/0x08000000/1*1Kh",
                "@a/0x08000000/1*1K`", "@a/0x08000000/1*1Kg,", "@a/0x08000000/1*1Kgg", "@a/0x08000000/1*1Kg/",
                "@a/0x08000000/0*1Kg", "@a/0x08000000/1*0Kg", "@a/0x100000000/1*1Kg", "@a/0xffffffff/1*2 g",
                "@a/0x08000000/4294967296*1Kg", "@a/0x08000000/1*4294967295Kg", "@a/0x08000000/4294967295*4294967295 g",
                "@a/0x08000000/1*16Kg/0x", "@a/08g00000/1*1Kg", "a/0x08000000/1*1Kg",
                "@0123456789012345678901234567890123456789012345678901234567890123/0x0/1*1Kg",
                ("@a/0/1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,"
                 "1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a,1*1a"),
        };

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++) {
                struct dfuse_segment segments[DFUSE_SEGMENTS_MAX];
                char name[DFUSE_NAME_SIZE] = "untouched";
                size_t n = 77;

                if (dfuse_parse_map(wrong[i], name, segments, &n) != -EINVAL)
                        fail_msg("accepted: %s", wrong[i]);
                assert_int_equal(n, 77);
                assert_string_equal(name, "untouched");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_operation_says_exactly_its_words),
                cmocka_unit_test(take_reports_what_it_cleared),
                cmocka_unit_test(take_never_commits_what_it_cannot_abort),
                cmocka_unit_test(take_gives_up_on_an_error_that_stays),
                cmocka_unit_test(read_delivers_every_byte_once),
                cmocka_unit_test(read_broken_off_is_aborted_by_the_next_operation),
                cmocka_unit_test(peek_downloads_nothing_and_minds_the_pointer),
                cmocka_unit_test(operation_after_a_failure_takes_the_device_back),
                cmocka_unit_test(nothing_to_do_is_done_at_once),
                cmocka_unit_test(h743_wedge_is_escaped_after_four_seconds),
                cmocka_unit_test(wedge_escape_believes_only_errunknown),
                cmocka_unit_test(wedge_escape_works_on_a_device_just_taken_back),
                cmocka_unit_test(wedge_found_at_the_beginning_does_not_count_as_the_erase),
                cmocka_unit_test(busy_for_ever_ends_after_ten_seconds_without_clrstatus),
                cmocka_unit_test(three_stalls_while_busy_are_forgiven),
                cmocka_unit_test(lying_poll_timeouts_are_bounded),
                cmocka_unit_test(protection_is_told_from_damage),
                cmocka_unit_test(leaving_without_an_answer_is_success),
                cmocka_unit_test(nothing_but_main_flash_is_addressed),
                cmocka_unit_test(impossible_transfer_sizes_send_nothing),
                cmocka_unit_test(every_transfer_failure_has_its_name),
                cmocka_unit_test(every_wrong_status_ends),
                cmocka_unit_test(every_short_answer_has_its_name),
                cmocka_unit_test(noise_never_breaks_the_rules),
                cmocka_unit_test(maps_of_real_chips_are_read),
                cmocka_unit_test(maps_are_read_leniently),
                cmocka_unit_test(maps_that_make_no_sense_are_refused),
        };

        for (size_t i = 0; i < sizeof(image); i++)
                image[i] = (uint8_t)(i * 5 + i / 256);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
