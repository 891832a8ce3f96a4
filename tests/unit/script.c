/* SPDX-License-Identifier: MIT */

/* See script.h. */

#include "unit/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *const request_names[] = { "DETACH", "DNLOAD", "UPLOAD", "GETSTATUS", "CLRSTATUS", "GETSTATE", "ABORT" };

static void describe(char *text, size_t size, enum machine_step_kind kind, uint8_t type, uint8_t request, uint16_t value,
                     uint16_t length, uint64_t wait, enum machine_outcome outcome)
{
        switch (kind) {
        case MACHINE_REQUEST:
                if (type == 0x01)
                        (void)snprintf(text, size, "SET_INTERFACE(%u)", value);
                else
                        (void)snprintf(text, size, "%02x %s value %u length %u", type,
                                       request < 7 ? request_names[request] : "?", value, length);
                break;
        case MACHINE_WAIT:
                (void)snprintf(text, size, "a wait of %llu us", (unsigned long long)wait);
                break;
        case MACHINE_DONE:
                (void)snprintf(text, size, "done");
                break;
        case MACHINE_FAILED:
                (void)snprintf(text, size, "failed: %s", machine_outcome_to_string(outcome));
                break;
        }
}

static void mismatch(const struct exchange *exchange, size_t at, const struct machine_step *step, const char *what)
{
        char expected[80] = "the end", got[80];

        if (exchange)
                describe(expected, sizeof(expected), exchange->kind, exchange->type, exchange->request, exchange->value,
                         exchange->length, exchange->wait_min, MACHINE_OK);
        describe(got, sizeof(got), step->kind, step->setup.request_type, step->setup.request, step->setup.value,
                 step->setup.length, step->wait, step->outcome);
        print_error("exchange %zu, %s differs:\n  expected %s\n  got      %s\n", at, what, expected, got);
        fail();
}

void exchange_expect(const struct exchange *x, size_t at, const struct machine_step *step)
{
        if (step->kind != x->kind)
                mismatch(x, at, step, "kind");
        if (step->kind == MACHINE_WAIT) {
                if (step->wait < x->wait_min || step->wait > x->wait_max)
                        mismatch(x, at, step, "wait");
                return;
        }
        if (step->setup.request_type != x->type || step->setup.request != x->request || step->setup.value != x->value ||
            step->setup.length != x->length || step->setup.index != 0)
                mismatch(x, at, step, "setup");
        if (step->timeout == 0)
                mismatch(x, at, step, "deadline");
        if (!(x->type & 0x80) && (x->length > 0) != (step->data != NULL))
                mismatch(x, at, step, "data stage");
        if (x->out && memcmp(step->data, x->out, x->length) != 0)
                mismatch(x, at, step, "data");
}

void exchange_answer(const struct exchange *x, struct machine_reply *reply, uint8_t *buffer)
{
        *reply = (struct machine_reply){ .result = x->result };
        if (x->result != USB_OK)
                return;
        if (!(x->type & 0x80)) {
                reply->actual = x->length;
                return;
        }
        if (x->fills && !x->is_short) {
                memset(buffer, x->fill, x->length);
                reply->actual = x->length;
        } else {
                memcpy(buffer, x->reply, x->n_reply);
                reply->actual = x->n_reply;
        }
        reply->data = buffer;
}

struct machine_step script_play(next_fn next, void *machine, const struct exchange *script, size_t n,
                                void (*on_chunk)(void *userdata, const void *machine), void *userdata)
{
        struct machine_step step = next(machine, NULL);

        for (size_t i = 0; i < n; i++) {
                uint8_t buffer[USB_MAX_TRANSFER];
                struct machine_reply reply;

                exchange_expect(&script[i], i, &step);
                exchange_answer(&script[i], &reply, buffer);
                step = next(machine, script[i].kind == MACHINE_WAIT ? NULL : &reply);
                if (on_chunk)
                        on_chunk(userdata, machine);
        }
        if (step.kind != MACHINE_DONE && step.kind != MACHINE_FAILED)
                mismatch(NULL, n, &step, "kind");
        return step;
}
