/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The device is a script: an array of what it expects to be asked, and what it
 * answers.  A mismatch prints both sides.  Nothing here knows DFU's rules; the
 * scripts do.
 */

#include "protocol/machine.h"

/* The reply of a request, or an elapsed wait; and how one was come by. */
struct exchange {
        /* expected */
        enum machine_step_kind kind;    /* MACHINE_REQUEST or MACHINE_WAIT */
        uint8_t type, request;
        uint16_t value, length;
        const uint8_t *out;             /* expected data stage; NULL: not looked at */
        uint64_t wait_min, wait_max;
        /* answered */
        enum usb_result result;
        uint8_t reply[8];
        size_t n_reply;                 /* IN: bytes of reply[]; 0 with fill: length bytes of fill */
        bool fills;
        uint8_t fill;
        bool is_short;                  /* n_reply counts although it is 0 */
};

#define OUT(r, v, l) .kind = MACHINE_REQUEST, .type = 0x21, .request = (r), .value = (v), .length = (l)
#define IN(r, v, l)  .kind = MACHINE_REQUEST, .type = 0xa1, .request = (r), .value = (v), .length = (l)

#define SET_INTERFACE(a)        { .kind = MACHINE_REQUEST, .type = 0x01, .request = 0x0b, .value = (a) }
#define DNLOAD(v, l, data)      { OUT(DFU_DNLOAD, v, l), .out = (data) }
#define GETSTATUS(s, st, p)     { IN(DFU_GETSTATUS, 0, 6), .n_reply = 6, \
                                  .reply = { (s), (p) & 0xff, (p) >> 8 & 0xff, (p) >> 16 & 0xff, (st), 0 } }
#define GETSTATE(st)            { IN(DFU_GETSTATE, 0, 1), .n_reply = 1, .reply = { (st) } }
#define CLRSTATUS               { OUT(DFU_CLRSTATUS, 0, 0) }
#define ABORT                   { OUT(DFU_ABORT, 0, 0) }
#define DETACH                  { OUT(DFU_DETACH, 1000, 0) }
#define UPLOAD(v, l, f)         { IN(DFU_UPLOAD, v, l), .fills = true, .fill = (f) }
#define WAITING(min, max)       { .kind = MACHINE_WAIT, .wait_min = (min), .wait_max = (max) }
/* The same, refused or unanswered. */
#define DNLOAD_FAILS(v, l, r)   { OUT(DFU_DNLOAD, v, l), .result = (r) }
#define GETSTATUS_FAILS(r)      { IN(DFU_GETSTATUS, 0, 6), .result = (r) }
#define GETSTATE_FAILS(r)       { IN(DFU_GETSTATE, 0, 1), .result = (r) }
#define UPLOAD_FAILS(v, l, r)   { IN(DFU_UPLOAD, v, l), .result = (r) }
#define CLRSTATUS_FAILS(r)      { OUT(DFU_CLRSTATUS, 0, 0), .result = (r) }
#define ABORT_FAILS(r)          { OUT(DFU_ABORT, 0, 0), .result = (r) }
#define DETACH_FAILS(r)         { OUT(DFU_DETACH, 1000, 0), .result = (r) }

typedef struct machine_step (*next_fn)(void *machine, const struct machine_reply *reply);

/* Answers a step as the exchange says: fills in reply (which points into exchange and buffer, of USB_MAX_TRANSFER bytes). */
void exchange_answer(const struct exchange *exchange, struct machine_reply *reply, uint8_t *buffer);
/* Fails the test, printing both sides, unless step is what exchange expects. */
void exchange_expect(const struct exchange *exchange, size_t at, const struct machine_step *step);

/* Plays the script to its end; the machine must then be done or have failed.  Chunks of reads are given to on_chunk (may be NULL). */
struct machine_step script_play(next_fn next, void *machine, const struct exchange *script, size_t n,
                                void (*on_chunk)(void *userdata, const void *machine), void *userdata);

#define PLAY(next, machine, script) script_play(next, machine, script, sizeof(script) / sizeof((script)[0]), NULL, NULL)

#define assert_done(step)                                                                       \
        do {                                                                                    \
                struct machine_step _s = (step);                                                \
                assert_int_equal(_s.kind, MACHINE_DONE);                                        \
                assert_int_equal(_s.outcome, MACHINE_OK);                                       \
        } while (0)
#define assert_failed(step, how)                                                                \
        do {                                                                                    \
                struct machine_step _s = (step);                                                \
                assert_int_equal(_s.kind, MACHINE_FAILED);                                      \
                assert_string_equal(machine_outcome_to_string(_s.outcome), machine_outcome_to_string(how)); \
        } while (0)

/* A small generator with a seed of its own: the same numbers on every machine. */
static inline uint32_t script_random(uint64_t *seed)
{
        *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        return (uint32_t)(*seed >> 33);
}
