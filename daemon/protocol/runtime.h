/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The host's side of a talk with a running camera over its serial port: who
 * are you, and restart into your bootloader.  A sans-I/O value that speaks both
 * protocols (runtime-protocol.md): the legacy debug protocol is tried first,
 * since it is the one that gets out of step by bytes it does not know; a device
 * with the packet protocol skips what is not its own.
 *
 * It is fed the bytes that came, or that the time it asked for has run out, and
 * answers with bytes to be sent, or an outcome.  It knows no fd and no clock; it
 * allocates nothing.  The port must be raw, at 921600, with DTR up.
 *
 * One operation at a time: runtime_begin_identify(), and when that is done
 * runtime_begin_restart().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/enum-name.h"

#define RUNTIME_BAUD 921600             /* the magic rate of both protocols (runtime-protocol.md section 1) */

/* Header, largest payload, CRC-32 (section 3). */
#define RUNTIME_HEADER_SIZE 10
#define RUNTIME_PAYLOAD_MAX 4082
#define RUNTIME_PACKET_MAX (RUNTIME_HEADER_SIZE + RUNTIME_PAYLOAD_MAX + 4)

enum runtime_protocol { RUNTIME_UNKNOWN, RUNTIME_LEGACY, RUNTIME_PACKETS };

enum runtime_outcome {
        RUNTIME_OK,
        RUNTIME_NO_ANSWER,              /* silence, in both protocols */
        RUNTIME_BAD_ANSWER,             /* it speaks, and what it says makes no sense, or is cut short */
        RUNTIME_REFUSED,                /* NAK, again and again */
        RUNTIME_IGNORED,                /* told to restart, and still there when the time was over */
        _RUNTIME_OUTCOME_MAX
};
DECLARE_ENUM_NAMES(runtime_outcome);

enum runtime_step_kind {
        RUNTIME_LISTEN,                 /* send data if there is any; call again with what comes, or when the time is over */
        RUNTIME_DONE,                   /* send data if there is any (an acknowledgement); the operation succeeded */
        RUNTIME_FAILED,                 /* outcome says how */
};

struct runtime_step {
        enum runtime_step_kind kind;
        const uint8_t *data;            /* valid until the next call */
        size_t size;                    /* 0: nothing to send */
        uint64_t wait;                  /* RUNTIME_LISTEN: the time now begins, and is over after so many microseconds.  0: the one
                                         * that runs goes on */
        enum runtime_outcome outcome;
};

struct runtime {
        /* what was learnt by identifying */
        enum runtime_protocol protocol;
        unsigned version[3];            /* of its firmware */
        bool has_id;
        char id[25];                    /* 24 upper-case hex digits: the unique id as an STM32's bootloader shows it (identity.md
                                         * section 1, "U-form"); of other chips as it was told */

        /* private */
        unsigned op, phase, tries;
        bool extended, nak;
        uint8_t sequence;
        uint8_t in[RUNTIME_PACKET_MAX];
        size_t n_in;
        uint8_t payload[128];           /* of a response, put together from its fragments */
        size_t n_payload;
        uint8_t out[256];
        size_t n_out;
};

void runtime_init(struct runtime *runtime);

/* Which protocol, which firmware, whose unique id.  Nothing that it sends changes anything on the camera. */
void runtime_begin_identify(struct runtime *runtime);

/* Into the bootloader, to stay there: SYS_RESET_TO_BL or SYS_BOOT; firmware before v3.6.8, or one that ignores that, is told to reset
 * (section 2: its bootloader then shows itself for its usual window).  There is no answer: the port disappears, and the
 * caller ends the operation then; RUNTIME_FAILED, RUNTIME_IGNORED if the time is over before.  Only after identifying. */
void runtime_begin_restart(struct runtime *runtime);

/* data, size: what came; NULL, 0: the operation begins, or its time is over. */
struct runtime_step runtime_next(struct runtime *runtime, const uint8_t *data, size_t size);

/* --- the packets (section 3), for tests and simulated cameras, too --- */

enum {
        RUNTIME_FLAG_ACK = 0x01, RUNTIME_FLAG_NAK = 0x02, RUNTIME_FLAG_RTX = 0x04, RUNTIME_FLAG_ACK_REQ = 0x08,
        RUNTIME_FLAG_FRAGMENT = 0x10, RUNTIME_FLAG_EVENT = 0x20,
};
enum {
        RUNTIME_PROTO_SYNC = 0x00, RUNTIME_GET_CAPS = 0x01, RUNTIME_SET_CAPS = 0x02, RUNTIME_VERSION = 0x04,
        RUNTIME_SYS_RESET = 0x10, RUNTIME_SYS_BOOT = 0x11, RUNTIME_SYS_INFO = 0x12,
};

struct runtime_packet {
        uint8_t sequence, channel, flags, opcode;
        const uint8_t *payload;         /* NULL if there is none */
        uint16_t size;
};

/* Polynomial F94F, from FFFF; and FA567D89, from FFFFFFFF.  Neither reflected nor inverted at the end. */
uint16_t runtime_crc16(const void *data, size_t size);
uint32_t runtime_crc32(const void *data, size_t size);

/* Writes it to buffer, which has room for its 10 bytes and, with a payload, size + 4 more; returns how many it took. */
size_t runtime_packet_write(const struct runtime_packet *packet, uint8_t *buffer);

/* The first whole packet in data.  Returns how many bytes are done with: those of the packet and what came before it
 * (*ret_found, and ret->payload points into data), or what can be no part of a packet any more.  What is left may become one
 * with more bytes.  *ret_bad_payload: nothing but the CRC of its payload was wrong. */
size_t runtime_packet_read(const uint8_t *data, size_t size, struct runtime_packet *ret, bool *ret_found, bool *ret_bad_payload);
