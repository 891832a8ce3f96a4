/* SPDX-License-Identifier: MIT */

/*
 * protocol/dfu: the conversations with the OpenMV bootloader, word for word;
 * every wrong answer at every point of every one of them; and a device that
 * answers with noise, watched by a judge who knows the rules (dfu.md A.4, A.5).
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "protocol/dfu.h"
#include "unit/script.h"

static uint8_t image[3 * DFU_BLOCK_SIZE];

static struct machine_step next(void *machine, const struct machine_reply *reply)
{
        return dfu_next(machine, reply);
}

static void select_firmware(struct dfu *dfu)
{
        static const struct exchange script[] = { SET_INTERFACE(2), GETSTATUS(0, DFU_STATE_IDLE, 0) };

        dfu_init(dfu);
        dfu_begin_select(dfu, 2);
        assert_done(PLAY(next, dfu, script));
        assert_int_equal(dfu->alt, 2);
        assert_true(dfu->clean);
}

/* --- conversations --- */

static void begin_pin(struct dfu *dfu)
{
        dfu_init(dfu);
        dfu_begin_pin(dfu);
}

static void begin_select(struct dfu *dfu)
{
        dfu_init(dfu);
        dfu_begin_select(dfu, 2);
}

static void begin_read(struct dfu *dfu)
{
        select_firmware(dfu);
        dfu_begin_read(dfu, 2 * DFU_BLOCK_SIZE, DFU_BLOCK_SIZE + 100);
}

static void begin_write(struct dfu *dfu)
{
        select_firmware(dfu);
        dfu_begin_write(dfu, 16 * DFU_BLOCK_SIZE, image, 2 * DFU_BLOCK_SIZE + 5);
}

static void begin_manifest(struct dfu *dfu)
{
        select_firmware(dfu);
        dfu_begin_manifest(dfu);
}

static void begin_detach(struct dfu *dfu)
{
        dfu_init(dfu);
        dfu_begin_detach(dfu);
}

static void begin_recover(struct dfu *dfu)
{
        select_firmware(dfu);
        dfu_begin_recover(dfu);
}

/* Not known to be clean: nothing may be asked before the stale block is dropped. */
static void begin_recover_unknown(struct dfu *dfu)
{
        dfu_init(dfu);
        dfu_begin_recover(dfu);
}

/* A block of ours went astray, and the caller reads on without recovering. */
static void begin_read_after_failed_block(struct dfu *dfu)
{
        static const struct exchange script[] = {
                DNLOAD(0, DFU_BLOCK_SIZE, image),
                GETSTATUS_FAILS(USB_IO),
        };

        select_firmware(dfu);
        dfu_begin_write(dfu, 0, image, DFU_BLOCK_SIZE);
        assert_failed(PLAY(next, dfu, script), MACHINE_TRANSFER_ERROR);
        assert_false(dfu->clean);
        dfu_begin_read(dfu, 0, DFU_BLOCK_SIZE);
}

static const struct exchange pin_script[] = { UPLOAD(0, 64, 0xa5) };
static const struct exchange select_script[] = { SET_INTERFACE(2), GETSTATUS(0, DFU_STATE_IDLE, 0) };
static const struct exchange read_script[] = { UPLOAD(2, DFU_BLOCK_SIZE, 0x11), UPLOAD(3, 100, 0x22) };
static const struct exchange write_script[] = {
        DNLOAD(16, DFU_BLOCK_SIZE, image), GETSTATUS(0, DFU_STATE_DNBUSY, 0), GETSTATUS(0, DFU_STATE_DNLOAD_IDLE, 0),
        DNLOAD(17, DFU_BLOCK_SIZE, image + DFU_BLOCK_SIZE), GETSTATUS(0, DFU_STATE_DNBUSY, 100),
        GETSTATUS(0, DFU_STATE_DNLOAD_IDLE, 0),
        DNLOAD(18, 5, image + 2 * DFU_BLOCK_SIZE), GETSTATUS(0, DFU_STATE_DNBUSY, 0), GETSTATUS(0, DFU_STATE_DNLOAD_IDLE, 0),
};
static const struct exchange manifest_script[] = {
        DNLOAD(0, 0, NULL), GETSTATUS(0, DFU_STATE_MANIFEST, 0), GETSTATUS(0, DFU_STATE_IDLE, 0),
};
static const struct exchange detach_script[] = { DETACH };
static const struct exchange recover_script[] = {
        GETSTATUS(DFU_STATUS_WRITE, DFU_STATE_ERROR, 0), CLRSTATUS, GETSTATUS(0, DFU_STATE_IDLE, 0),
};
static const struct exchange recover_unknown_script[] = { CLRSTATUS, GETSTATUS(0, DFU_STATE_IDLE, 0) };
static const struct exchange read_after_script[] = { ABORT, UPLOAD(0, DFU_BLOCK_SIZE, 0xff) };

static const struct conversation {
        const char *name;
        void (*begin)(struct dfu *dfu);
        const struct exchange *script;
        size_t n;
} conversations[] = {
#define CONVERSATION(name, script) { #name, begin_##name, script, ELEMENTSOF(script) }
        CONVERSATION(pin, pin_script),
        CONVERSATION(select, select_script),
        CONVERSATION(read, read_script),
        CONVERSATION(write, write_script),
        CONVERSATION(manifest, manifest_script),
        CONVERSATION(detach, detach_script),
        CONVERSATION(recover, recover_script),
        CONVERSATION(recover_unknown, recover_unknown_script),
        CONVERSATION(read_after_failed_block, read_after_script),
};

static void every_operation_says_exactly_its_words(void **state)
{
        for (size_t c = 0; c < ELEMENTSOF(conversations); c++) {
                struct dfu dfu;

                conversations[c].begin(&dfu);
                assert_done(script_play(next, &dfu, conversations[c].script, conversations[c].n, NULL, NULL));
                assert_int_equal(dfu.machine.op, 0);
        }
}

static void write_counts_only_acknowledged_bytes(void **state)
{
        struct dfu dfu;

        begin_write(&dfu);
        assert_done(PLAY(next, &dfu, write_script));
        assert_int_equal(dfu.machine.progress, 2 * DFU_BLOCK_SIZE + 5);
        assert_true(dfu.clean);

        begin_write(&dfu);
        {
                const struct exchange script[] = { write_script[0], write_script[1], write_script[2], write_script[3],
                                                   write_script[4], GETSTATUS_FAILS(USB_TIMEOUT) };

                assert_failed(PLAY(next, &dfu, script), MACHINE_TIMEOUT);
        }
        assert_int_equal(dfu.machine.progress, DFU_BLOCK_SIZE);
        assert_false(dfu.clean);
}

static void second_getstatus_has_the_long_deadline(void **state)
{
        static const struct exchange a[] = { DNLOAD(16, DFU_BLOCK_SIZE, NULL), GETSTATUS(0, DFU_STATE_DNBUSY, 0) };
        struct machine_reply reply;
        uint8_t buffer[USB_MAX_TRANSFER];
        struct machine_step step;
        struct dfu dfu;

        begin_write(&dfu);
        step = dfu_next(&dfu, NULL);
        exchange_expect(&a[0], 0, &step);
        assert_int_equal(step.timeout, DFU_TIMEOUT_REQUEST);
        exchange_answer(&a[0], &reply, buffer);
        step = dfu_next(&dfu, &reply);
        exchange_expect(&a[1], 1, &step);
        assert_int_equal(step.timeout, DFU_TIMEOUT_REQUEST);
        exchange_answer(&a[1], &reply, buffer);
        step = dfu_next(&dfu, &reply);
        assert_int_equal(step.kind, MACHINE_REQUEST);
        assert_int_equal(step.setup.request, DFU_GETSTATUS);
        assert_int_equal(step.timeout, DFU_TIMEOUT_FLASH);
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

static void read_delivers_every_byte_once(void **state)
{
        struct collected c = { 0 };
        struct dfu dfu;

        begin_read(&dfu);
        assert_done(script_play(next, &dfu, read_script, ELEMENTSOF(read_script), collect, &c));
        assert_int_equal(c.n, 2);
        assert_int_equal(c.chunks[0].offset, 2 * DFU_BLOCK_SIZE);
        assert_int_equal(c.chunks[0].size, DFU_BLOCK_SIZE);
        assert_int_equal(c.chunks[0].first, 0x11);
        assert_int_equal(c.chunks[1].offset, 3 * DFU_BLOCK_SIZE);
        assert_int_equal(c.chunks[1].size, 100);
        assert_int_equal(c.chunks[1].first, 0x22);
        assert_int_equal(dfu.machine.progress, DFU_BLOCK_SIZE + 100);
}

static void read_may_be_broken_off(void **state)
{
        static const struct exchange again[] = { UPLOAD(0, 64, 0) };
        struct machine_step step;
        struct machine_reply reply;
        uint8_t buffer[USB_MAX_TRANSFER];
        struct dfu dfu;

        begin_read(&dfu);
        step = dfu_next(&dfu, NULL);
        exchange_expect(&read_script[0], 0, &step);
        exchange_answer(&read_script[0], &reply, buffer);
        (void)dfu_next(&dfu, &reply);
        dfu_begin_read(&dfu, 0, 64);
        assert_done(PLAY(next, &dfu, again));
}

static void nothing_to_do_is_done_at_once(void **state)
{
        struct dfu dfu;

        select_firmware(&dfu);
        dfu_begin_read(&dfu, 0, 0);
        assert_done(dfu_next(&dfu, NULL));
        dfu_begin_write(&dfu, 0, image, 0);
        assert_done(dfu_next(&dfu, NULL));
}

/* dfu.md A.6 */
static void upload_beyond_the_partition_is_told_from_data(void **state)
{
        static const struct exchange eof[] = { { IN(DFU_UPLOAD, 2, DFU_BLOCK_SIZE), .n_reply = 4 } };
        static const struct exchange odd[] = { { IN(DFU_UPLOAD, 2, DFU_BLOCK_SIZE), .n_reply = 4, .reply = { 0, 0, 0, 1 } } };
        static const struct exchange driver[] = {
                { IN(DFU_UPLOAD, 2, DFU_BLOCK_SIZE), .is_short = true },
                GETSTATUS(DFU_STATUS_FILE, DFU_STATE_ERROR, 0),
        };
        static const struct exchange nothing[] = {
                { IN(DFU_UPLOAD, 2, DFU_BLOCK_SIZE), .is_short = true },
                GETSTATUS(0, DFU_STATE_IDLE, 0),
        };
        struct machine_step step;
        struct dfu dfu;

        begin_read(&dfu);
        assert_failed(PLAY(next, &dfu, eof), MACHINE_ADDRESS_REFUSED);
        begin_read(&dfu);
        assert_failed(PLAY(next, &dfu, odd), MACHINE_BAD_REPLY);
        begin_read(&dfu);
        step = PLAY(next, &dfu, driver);
        assert_failed(step, MACHINE_DEVICE_ERROR);
        assert_int_equal(step.status, DFU_STATUS_FILE);
        begin_read(&dfu);
        assert_failed(PLAY(next, &dfu, nothing), MACHINE_BAD_REPLY);
}

/* The end-of-partition frame holds as well as data does (A.3), and so does the empty one of an unreadable partition. */
static void pin_is_content_with_any_answered_upload(void **state)
{
        static const struct exchange eof[] = { { IN(DFU_UPLOAD, 0, 64), .n_reply = 4 } };
        static const struct exchange empty[] = { { IN(DFU_UPLOAD, 0, 64), .is_short = true } };
        static const struct exchange odd[] = { { IN(DFU_UPLOAD, 0, 64), .n_reply = 5 } };
        struct dfu dfu;

        begin_pin(&dfu);
        assert_done(PLAY(next, &dfu, eof));
        begin_pin(&dfu);
        assert_done(PLAY(next, &dfu, empty));
        begin_pin(&dfu);
        assert_failed(PLAY(next, &dfu, odd), MACHINE_BAD_REPLY);
}

static void pin_outlasts_a_deaf_device(void **state)
{
        static const struct exchange comes_back[] = {
                UPLOAD_FAILS(0, 64, USB_TIMEOUT), UPLOAD_FAILS(0, 64, USB_TIMEOUT), UPLOAD_FAILS(0, 64, USB_TIMEOUT),
                UPLOAD(0, 64, 0),
        };
        static const struct exchange never[] = {
                UPLOAD_FAILS(0, 64, USB_TIMEOUT), UPLOAD_FAILS(0, 64, USB_TIMEOUT), UPLOAD_FAILS(0, 64, USB_TIMEOUT),
                UPLOAD_FAILS(0, 64, USB_TIMEOUT),
        };
        struct dfu dfu;

        begin_pin(&dfu);
        assert_done(PLAY(next, &dfu, comes_back));
        begin_pin(&dfu);
        assert_failed(PLAY(next, &dfu, never), MACHINE_TIMEOUT);
}

static void detach_over_which_the_device_is_lost_succeeds(void **state)
{
        static const struct exchange gone[] = { DETACH_FAILS(USB_GONE) }, io[] = { DETACH_FAILS(USB_IO) };
        struct dfu dfu;

        begin_detach(&dfu);
        assert_done(PLAY(next, &dfu, gone));
        begin_detach(&dfu);
        assert_done(PLAY(next, &dfu, io));
}

static void recover_reports_what_it_recovered_from(void **state)
{
        struct machine_step step;
        struct dfu dfu;

        begin_recover(&dfu);
        step = PLAY(next, &dfu, recover_script);
        assert_done(step);
        assert_int_equal(step.status, DFU_STATUS_WRITE);
}

static void failed_select_leaves_no_partition_selected(void **state)
{
        static const struct exchange script[] = { { .kind = MACHINE_REQUEST, .type = 0x01, .request = 0x0b, .value = 3,
                                                    .result = USB_STALL } };
        struct dfu dfu;

        select_firmware(&dfu);
        dfu_begin_select(&dfu, 3);
        assert_failed(PLAY(next, &dfu, script), MACHINE_STALLED);
        assert_int_equal(dfu.alt, DFU_ALT_UNKNOWN);
        assert_false(dfu.clean);
}

/* --- every wrong answer at every point --- */

static enum machine_outcome refused_as(uint8_t status)
{
        if (status == 3 || (status >= 4 && status <= 7))
                return MACHINE_WRITE_REFUSED;
        if (status == 1 || status == 8)
                return MACHINE_ADDRESS_REFUSED;
        if (status == 11)
                return MACHINE_PROTECTED;
        return MACHINE_DEVICE_ERROR;
}

/* Plays the conversation up to exchange k, answers that one with reply, and returns what the machine makes of it. */
static struct machine_step answer_wrongly(const struct conversation *c, size_t k, struct dfu *dfu,
                                          const struct machine_reply *wrong)
{
        struct machine_step step;

        c->begin(dfu);
        step = dfu_next(dfu, NULL);
        for (size_t i = 0; i < k; i++) {
                uint8_t buffer[USB_MAX_TRANSFER];
                struct machine_reply reply;

                exchange_expect(&c->script[i], i, &step);
                exchange_answer(&c->script[i], &reply, buffer);
                step = dfu_next(dfu, &reply);
        }
        exchange_expect(&c->script[k], k, &step);
        return dfu_next(dfu, wrong);
}

static void every_transfer_failure_has_its_name(void **state)
{
        static const enum machine_outcome names[_USB_RESULT_MAX] = {
                [USB_STALL] = MACHINE_STALLED, [USB_TIMEOUT] = MACHINE_TIMEOUT, [USB_GONE] = MACHINE_GONE,
                [USB_OVERFLOW] = MACHINE_TRANSFER_ERROR, [USB_IO] = MACHINE_TRANSFER_ERROR,
                [USB_CANCELLED] = MACHINE_CANCELLED,
        };

        for (size_t c = 0; c < ELEMENTSOF(conversations); c++)
                for (size_t k = 0; k < conversations[c].n; k++)
                        for (int r = USB_OK + 1; r < _USB_RESULT_MAX; r++) {
                                struct machine_reply reply = { .result = (enum usb_result)r };
                                struct dfu dfu;
                                struct machine_step step = answer_wrongly(&conversations[c], k, &dfu, &reply);

                                if (conversations[c].begin == begin_pin && r == USB_TIMEOUT) {
                                        assert_int_equal(step.kind, MACHINE_REQUEST);
                                        continue;
                                }
                                if (conversations[c].begin == begin_detach && (r == USB_GONE || r == USB_IO)) {
                                        assert_done(step);
                                        continue;
                                }
                                assert_failed(step, names[r]);
                                assert_int_equal(dfu.machine.op, 0);
                        }
}

static void every_wrong_status_has_its_name(void **state)
{
        static const uint8_t statuses[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 0x42, 0xff };
        static const uint8_t states[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x42, 0xff };
        size_t tried = 0;

        for (size_t c = 0; c < ELEMENTSOF(conversations); c++)
                for (size_t k = 0; k < conversations[c].n; k++) {
                        const struct exchange *x = &conversations[c].script[k];

                        if (x->request != DFU_GETSTATUS || x->type != 0xa1)
                                continue;
                        for (size_t i = 0; i < ELEMENTSOF(statuses) * ELEMENTSOF(states); i++) {
                                uint8_t status = statuses[i % ELEMENTSOF(statuses)], s = states[i / ELEMENTSOF(statuses)];
                                const uint8_t bytes[6] = { status, 0xff, 0xff, 0xff, s, 0 };
                                struct machine_reply reply = { .data = bytes, .actual = 6 };
                                bool known = status < 16 && s < 11 && (status == 0 || s == 10);
                                struct machine_step step;
                                struct dfu dfu;

                                step = answer_wrongly(&conversations[c], k, &dfu, &reply);
                                tried++;
                                if (conversations[c].begin == begin_recover && k == 0 && known)
                                        assert_int_equal(step.kind, MACHINE_REQUEST);   /* whatever it is, it is cleared */
                                else if (status == 0 && s == x->reply[4])
                                        assert_int_not_equal(step.kind, MACHINE_FAILED);
                                else if (known && s == 10) {
                                        assert_failed(step, refused_as(status));
                                        assert_int_equal(step.status, status);
                                } else
                                        assert_failed(step, MACHINE_BAD_REPLY);
                        }
                }
        assert_true(tried > 1000);
}

static void every_short_answer_has_its_name(void **state)
{
        static const uint8_t zeros[USB_MAX_TRANSFER];

        for (size_t c = 0; c < ELEMENTSOF(conversations); c++)
                for (size_t k = 0; k < conversations[c].n; k++) {
                        const struct exchange *x = &conversations[c].script[k];

                        for (size_t n = 0; n < x->length; n = n < 70 ? n + 1 : n < 4000 ? n + 997 : n + 32) {
                                struct machine_reply reply = { .data = x->type & 0x80 ? zeros : NULL, .actual = n };
                                struct machine_step step;
                                struct dfu dfu;

                                step = answer_wrongly(&conversations[c], k, &dfu, &reply);
                                if (x->request == DFU_UPLOAD && conversations[c].begin == begin_pin && (n == 0 || n == 4))
                                        assert_done(step);
                                else if (x->request == DFU_UPLOAD && n == 0)
                                        assert_int_equal(step.setup.request, DFU_GETSTATUS);
                                else if (x->request == DFU_UPLOAD && n == 4)
                                        assert_failed(step, MACHINE_ADDRESS_REFUSED);
                                else
                                        assert_failed(step, MACHINE_BAD_REPLY);
                        }
                }
}

/* --- a device of noise, and a judge --- */

struct judge {
        bool stale;                     /* a block may be pending that this operation has not sent */
        bool sent;                      /* our block is on its way: DNLOAD answered, GETSTATUSes outstanding */
        unsigned statuses;              /* GETSTATUSes since */
};

static void judge_request(struct judge *judge, const struct machine_step *step)
{
        const struct usb_setup *s = &step->setup;

        assert_int_not_equal(step->timeout, 0);
        assert_true(step->timeout <= DFU_TIMEOUT_FLASH);
        assert_int_equal(s->index, 0);
        assert_true(s->length <= DFU_BLOCK_SIZE);
        if (s->request_type == 0x01)
                return;
        switch (s->request) {
        case DFU_GETSTATUS:
                if (judge->stale)
                        fail_msg("GETSTATUS would commit a stale block");
                break;
        case DFU_UPLOAD:
                if (judge->sent)
                        fail_msg("UPLOAD between DNLOAD and its GETSTATUSes");
                break;
        case DFU_DNLOAD:
                if (judge->sent || judge->stale)
                        fail_msg("DNLOAD upon a pending block");
                break;
        case DFU_CLRSTATUS:
        case DFU_ABORT:
        case DFU_DETACH:
                break;
        default:
                fail_msg("request %u", s->request);
        }
}

static void judge_reply(struct judge *judge, const struct machine_step *step, const struct machine_reply *reply)
{
        const struct usb_setup *s = &step->setup;

        if (s->request_type == 0x01 || s->request == DFU_CLRSTATUS || s->request == DFU_ABORT) {
                if (reply->result == USB_OK)
                        *judge = (struct judge){ 0 };
        } else if (s->request == DFU_DNLOAD) {
                judge->sent = true;
                judge->statuses = 0;
        } else if (s->request == DFU_GETSTATUS && judge->sent && reply->result == USB_OK && reply->actual == 6) {
                judge->statuses++;
                if (reply->data[4] == DFU_STATE_ERROR || judge->statuses == 2)
                        *judge = (struct judge){ 0 };
        }
}

static void noise(const struct machine_step *step, struct machine_reply *reply, uint8_t *buffer, uint64_t *seed)
{
        uint32_t dice = script_random(seed) % 16;

        memset(buffer, (int)script_random(seed), USB_MAX_TRANSFER);
        *reply = (struct machine_reply){ .result = USB_OK, .actual = step->setup.length };
        if (step->setup.request_type & 0x80) {
                reply->data = buffer;
                if (step->setup.request == DFU_GETSTATUS) {
                        memset(buffer, 0, 6);
                        buffer[4] = (uint8_t)(script_random(seed) % 12);
                        if (buffer[4] == DFU_STATE_ERROR || script_random(seed) % 8 == 0)
                                buffer[0] = (uint8_t)(script_random(seed) % 18);
                }
        }
        if (dice == 0)
                reply->result = (enum usb_result)(1 + script_random(seed) % (_USB_RESULT_MAX - 1));
        else if (dice == 1 && reply->actual > 0)
                reply->actual = script_random(seed) % reply->actual;
        if (reply->result != USB_OK) {
                reply->data = NULL;
                reply->actual = 0;
        }
}

static void noise_never_breaks_the_rules(void **state)
{
        uint64_t seed = 1;
        unsigned done = 0, failed = 0;

        for (unsigned session = 0; session < 20000; session++) {
                struct judge judge = { .stale = true };
                struct dfu dfu;

                dfu_init(&dfu);
                for (unsigned i = 0; i < 12; i++) {
                        unsigned op = script_random(&seed) % 7, steps = 0;
                        struct machine_step step;

                        if (dfu.alt == DFU_ALT_UNKNOWN && op >= 4)
                                op = 1;
                        /* A block whose end was not heard of is stale for the next operation. */
                        judge.stale = judge.stale || judge.sent;
                        judge.sent = false;
                        switch (op) {
                        case 0: dfu_begin_pin(&dfu); break;
                        case 1: dfu_begin_select(&dfu, (uint8_t)(script_random(&seed) % 8)); break;
                        case 2: dfu_begin_recover(&dfu); break;
                        case 3: dfu_begin_detach(&dfu); break;
                        case 4: dfu_begin_read(&dfu, DFU_BLOCK_SIZE, 1 + script_random(&seed) % 10000); break;
                        case 5: dfu_begin_write(&dfu, DFU_BLOCK_SIZE, image, 1 + script_random(&seed) % sizeof(image)); break;
                        case 6: dfu_begin_manifest(&dfu); break;
                        }
                        step = dfu_next(&dfu, NULL);
                        while (step.kind == MACHINE_REQUEST) {
                                uint8_t buffer[USB_MAX_TRANSFER];
                                struct machine_reply reply;

                                assert_true(++steps < 40);
                                judge_request(&judge, &step);
                                noise(&step, &reply, buffer, &seed);
                                judge_reply(&judge, &step, &reply);
                                step = dfu_next(&dfu, &reply);
                        }
                        assert_non_null(machine_outcome_to_string(step.outcome));
                        if (step.kind == MACHINE_DONE)
                                done++;
                        else
                                failed++;
                        assert_true(step.kind == MACHINE_DONE || step.kind == MACHINE_FAILED);
                        assert_int_equal(step.kind == MACHINE_DONE, step.outcome == MACHINE_OK);
                }
        }
        assert_true(done > 10000 && failed > 10000);
}

static void names_go_both_ways(void **state)
{
        for (int i = 0; i < _MACHINE_OUTCOME_MAX; i++) {
                assert_non_null(machine_outcome_to_string((enum machine_outcome)i));
                assert_int_equal(machine_outcome_from_string(machine_outcome_to_string((enum machine_outcome)i)), i);
        }
        for (int i = 0; i < _DFU_STATE_MAX; i++)
                assert_int_equal(dfu_state_from_string(dfu_state_to_string((enum dfu_state)i)), i);
        assert_string_equal(dfu_status_name(8), "errADDRESS");
        for (unsigned i = 0; i < 256; i++)
                assert_int_equal(dfu_status_name((uint8_t)i) != NULL, i < 16);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_operation_says_exactly_its_words),
                cmocka_unit_test(write_counts_only_acknowledged_bytes),
                cmocka_unit_test(second_getstatus_has_the_long_deadline),
                cmocka_unit_test(read_delivers_every_byte_once),
                cmocka_unit_test(read_may_be_broken_off),
                cmocka_unit_test(nothing_to_do_is_done_at_once),
                cmocka_unit_test(upload_beyond_the_partition_is_told_from_data),
                cmocka_unit_test(pin_is_content_with_any_answered_upload),
                cmocka_unit_test(pin_outlasts_a_deaf_device),
                cmocka_unit_test(detach_over_which_the_device_is_lost_succeeds),
                cmocka_unit_test(recover_reports_what_it_recovered_from),
                cmocka_unit_test(failed_select_leaves_no_partition_selected),
                cmocka_unit_test(every_transfer_failure_has_its_name),
                cmocka_unit_test(every_wrong_status_has_its_name),
                cmocka_unit_test(every_short_answer_has_its_name),
                cmocka_unit_test(noise_never_breaks_the_rules),
                cmocka_unit_test(names_go_both_ways),
        };

        for (size_t i = 0; i < sizeof(image); i++)
                image[i] = (uint8_t)(i * 7 + i / 256);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
