/* SPDX-License-Identifier: MIT */
/*
 * See runtime.h.  Everything that comes may be garbage: what was left in a
 * buffer from a REPL, the answer to another program's question, half a packet.
 * What does not make sense is dropped, and the time that was set decides.
 */

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "protocol/runtime.h"

/* Microseconds (runtime-protocol.md, as said). */
#define QUIET_TIME      UINT64_C(50000)         /* what comes before anything was asked is nobody's answer */
#define LEGACY_TIME     UINT64_C(300000)        /* section 1: a legacy device answers the version within it */
#define DATA_TIME       UINT64_C(1000000)       /* section 2: data phases */
#define SYNC_TIME       UINT64_C(500000)        /* section 3: polls its input every 50 ms, later when a script blocks */
#define RESTART_TIME    UINT64_C(1500000)
#define SYNCS_MAX       4                       /* of one identification: each mishap costs one */

#define VERSION_SIZE    12
#define ARCH_SIZE       64
#define COMMAND_SIZE    6

enum { USBDBG = 0x30, USBDBG_SYS_RESET = 0x0c, USBDBG_SYS_RESET_TO_BL = 0x0e, USBDBG_FW_VERSION = 0x80, USBDBG_ARCH_STR = 0x83 };

enum { OP_NONE, OP_IDENTIFY, OP_RESTART };

enum {
        PHASE_BEGIN,
        PHASE_QUIET,
        PHASE_LEGACY_VERSION,
        PHASE_LEGACY_ARCH,
        PHASE_SYNC,
        PHASE_VERSION,
        PHASE_INFO,
        PHASE_RESTART,
        PHASE_RESTART_AGAIN,
        PHASE_RESTART_SYNC,             /* packets: in step again first */
};

static const char *const runtime_outcome_names[_RUNTIME_OUTCOME_MAX] = {
        [RUNTIME_OK] = "ok",
        [RUNTIME_NO_ANSWER] = "no-answer",
        [RUNTIME_BAD_ANSWER] = "bad-answer",
        [RUNTIME_REFUSED] = "refused",
        [RUNTIME_IGNORED] = "ignored",
};
DEFINE_ENUM_NAMES(runtime_outcome, _RUNTIME_OUTCOME_MAX);

/* --- packets --- */

uint16_t runtime_crc16(const void *data, size_t size)
{
        uint16_t crc = 0xffff;

        for (size_t i = 0; i < size; i++) {
                crc = (uint16_t)(crc ^ ((const uint8_t *)data)[i] << 8);
                for (int bit = 0; bit < 8; bit++)
                        crc = (uint16_t)(crc << 1 ^ (crc & 0x8000 ? 0xf94f : 0));
        }
        return crc;
}

uint32_t runtime_crc32(const void *data, size_t size)
{
        uint32_t crc = 0xffffffff;

        for (size_t i = 0; i < size; i++) {
                crc ^= (uint32_t)((const uint8_t *)data)[i] << 24;
                for (int bit = 0; bit < 8; bit++)
                        crc = crc << 1 ^ (crc & 0x80000000 ? 0xfa567d89 : 0);
        }
        return crc;
}

size_t runtime_packet_write(const struct runtime_packet *packet, uint8_t *buffer)
{
        buffer[0] = 0xaa;
        buffer[1] = 0xd5;
        buffer[2] = packet->sequence;
        buffer[3] = packet->channel;
        buffer[4] = packet->flags;
        buffer[5] = packet->opcode;
        put_le16(buffer + 6, packet->size);
        put_le16(buffer + 8, runtime_crc16(buffer, 8));
        if (packet->size == 0)
                return RUNTIME_HEADER_SIZE;
        memcpy(buffer + RUNTIME_HEADER_SIZE, packet->payload, packet->size);
        put_le32(buffer + RUNTIME_HEADER_SIZE + packet->size, runtime_crc32(packet->payload, packet->size));
        return RUNTIME_HEADER_SIZE + packet->size + 4U;
}

size_t runtime_packet_read(const uint8_t *data, size_t size, struct runtime_packet *ret, bool *ret_found, bool *ret_bad_payload)
{
        size_t done = 0;

        *ret_found = *ret_bad_payload = false;
        for (;; done++) {
                struct reader reader;
                const uint8_t *header, *payload;
                uint16_t n;

                while (done < size && data[done] != 0xaa)
                        done++;
                if (size - done < 2)
                        return done;            /* nothing, or perhaps a first byte */
                if (data[done + 1] != 0xd5)
                        continue;
                reader = reader_new(data + done, size - done);
                header = reader_take(&reader, RUNTIME_HEADER_SIZE);
                if (!header)
                        return done;
                n = get_le16(header + 6);
                if (get_le16(header + 8) != runtime_crc16(header, 8) || n > RUNTIME_PAYLOAD_MAX)
                        continue;
                *ret = (struct runtime_packet){ .sequence = header[2], .channel = header[3], .flags = header[4],
                                                .opcode = header[5], .size = n };
                if (n > 0) {
                        uint32_t crc;

                        payload = reader_take(&reader, n);
                        crc = reader_le32(&reader);
                        if (reader.failed)
                                return done;
                        if (crc != runtime_crc32(payload, n)) {
                                *ret_bad_payload = true;
                                continue;       /* its own bytes may hold one that is sound */
                        }
                        ret->payload = payload;
                }
                *ret_found = true;
                return size - reader.left;
        }
}

/* --- sending --- */

static void put(struct runtime *rt, const uint8_t *data, size_t size)
{
        if (sizeof(rt->out) - rt->n_out < size)
                return;                 /* who floods us with what is to be acknowledged sends it again */
        memcpy(rt->out + rt->n_out, data, size);
        rt->n_out += size;
}

static void put_command(struct runtime *rt, uint8_t command, uint32_t length)
{
        uint8_t bytes[COMMAND_SIZE] = { USBDBG, command };

        put_le32(bytes + 2, length);
        put(rt, bytes, sizeof(bytes));
}

static void put_packet(struct runtime *rt, uint8_t sequence, uint8_t channel, uint8_t flags, uint8_t opcode)
{
        const struct runtime_packet packet = { .sequence = sequence, .channel = channel, .flags = flags, .opcode = opcode };
        uint8_t bytes[RUNTIME_HEADER_SIZE];

        put(rt, bytes, runtime_packet_write(&packet, bytes));
}

static struct runtime_step step(struct runtime *rt, enum runtime_step_kind kind, uint64_t wait)
{
        return (struct runtime_step){ .kind = kind, .data = rt->n_out > 0 ? rt->out : NULL, .size = rt->n_out, .wait = wait };
}

static struct runtime_step listen_on(struct runtime *rt)
{
        return step(rt, RUNTIME_LISTEN, 0);
}

static struct runtime_step enter(struct runtime *rt, unsigned phase, uint64_t wait)
{
        rt->phase = phase;
        rt->n_payload = 0;
        return step(rt, RUNTIME_LISTEN, wait);
}

static struct runtime_step done(struct runtime *rt)
{
        rt->op = OP_NONE;
        return step(rt, RUNTIME_DONE, 0);
}

static struct runtime_step failed(struct runtime *rt, enum runtime_outcome outcome)
{
        struct runtime_step result;

        rt->op = OP_NONE;
        result = step(rt, RUNTIME_FAILED, 0);
        result.outcome = outcome;
        return result;
}

static struct runtime_step synchronise(struct runtime *rt, unsigned phase)
{
        rt->sequence = 0;
        put_packet(rt, 0, 0, 0, RUNTIME_PROTO_SYNC);
        return enter(rt, phase, SYNC_TIME);
}

static struct runtime_step ask(struct runtime *rt, unsigned phase, uint8_t opcode)
{
        put_packet(rt, rt->sequence, 0, 0, opcode);
        return enter(rt, phase, DATA_TIME);
}

static struct runtime_step boot(struct runtime *rt, unsigned phase)
{
        put_packet(rt, rt->sequence, 0, 0, RUNTIME_SYS_BOOT);
        return enter(rt, phase, RESTART_TIME);
}

/* --- legacy --- */

static struct runtime_step ask_legacy(struct runtime *rt, unsigned phase, uint8_t command, uint32_t length, uint64_t time)
{
        rt->n_in = 0;
        rt->extended = false;
        put_command(rt, command, length);       /* exactly the length it has: else it goes on owing us bytes (section 2) */
        return enter(rt, phase, time);
}

/* The last twelve bytes: what stands before them was on its way when we came. */
static bool take_legacy_version(struct runtime *rt)
{
        struct reader reader;
        unsigned version[3];

        if (rt->n_in < VERSION_SIZE)
                return false;
        reader = reader_new(rt->in + rt->n_in - VERSION_SIZE, VERSION_SIZE);
        for (size_t i = 0; i < ELEMENTSOF(version); i++) {
                version[i] = reader_le32(&reader);
                if (version[i] > 255)
                        return false;
        }
        if (version[0] == 0 && version[1] == 0 && version[2] == 0)
                return false;
        memcpy(rt->version, version, sizeof(version));
        rt->protocol = RUNTIME_LEGACY;
        return true;
}

static bool take_id(struct runtime *rt, const char *text, size_t size)
{
        uint8_t bytes[12];
        char id[25];

        if (size != 24)
                return false;
        memcpy(id, text, 24);
        id[24] = '\0';
        if (hex_decode(id, bytes, sizeof(bytes)) < 0)
                return false;
        for (size_t i = 0; i < sizeof(bytes); i++)
                (void)snprintf(rt->id + 2 * i, 3, "%02X", bytes[i]);
        rt->has_id = true;
        return true;
}

/* "OMV4 H7 1024 [H7:34303639330D5113001F002A]"; behind the NUL is garbage. */
static bool take_arch(struct runtime *rt)
{
        char text[ARCH_SIZE + 1];
        const char *type, *id, *end;

        memcpy(text, rt->in, ARCH_SIZE);
        text[ARCH_SIZE] = '\0';
        type = strrchr(text, '[');
        id = type ? strchr(type, ':') : NULL;
        end = id ? strchr(id, ']') : NULL;
        return end && take_id(rt, id + 1, (size_t)(end - id - 1));
}

static void collect(struct runtime *rt, const uint8_t *data, size_t size)
{
        /* More than there is room for is nothing that was asked for: the newest is kept. */
        if (size > sizeof(rt->in)) {
                data += size - sizeof(rt->in);
                size = sizeof(rt->in);
        }
        if (rt->n_in + size > sizeof(rt->in)) {
                size_t drop = rt->n_in + size - sizeof(rt->in);

                memmove(rt->in, rt->in + drop, rt->n_in - drop);
                rt->n_in -= drop;
        }
        memcpy(rt->in + rt->n_in, data, size);
        rt->n_in += size;
}

static struct runtime_step on_legacy(struct runtime *rt, const uint8_t *data, size_t size)
{
        collect(rt, data, size);
        if (rt->phase == PHASE_LEGACY_VERSION) {
                if (!take_legacy_version(rt))
                        return listen_on(rt);
                return ask_legacy(rt, PHASE_LEGACY_ARCH, USBDBG_ARCH_STR, ARCH_SIZE, DATA_TIME);
        }
        if (rt->n_in < ARCH_SIZE)
                return listen_on(rt);
        return take_arch(rt) ? done(rt) : failed(rt, RUNTIME_BAD_ANSWER);
}

static bool knows_reset_to_bootloader(const struct runtime *rt)
{
        static const unsigned since[3] = { 3, 6, 8 };

        for (size_t i = 0; i < ELEMENTSOF(since); i++)
                if (rt->version[i] != since[i])
                        return rt->version[i] > since[i];
        return true;
}

/* --- packets --- */

/* Out of step, or not answered: from the beginning, a few times. */
static struct runtime_step sync_again(struct runtime *rt)
{
        if (rt->op == OP_RESTART)
                return failed(rt, RUNTIME_IGNORED);
        if (rt->tries >= SYNCS_MAX)
                return failed(rt, rt->nak ? RUNTIME_REFUSED : rt->protocol == RUNTIME_PACKETS ? RUNTIME_BAD_ANSWER : RUNTIME_NO_ANSWER);
        rt->tries++;
        return synchronise(rt, PHASE_SYNC);
}

static bool take_version(struct runtime *rt)
{
        struct reader reader = reader_new(rt->payload, rt->n_payload);
        const uint8_t *version = reader_take(&reader, 16);

        if (!version)
                return false;
        for (size_t i = 0; i < ELEMENTSOF(rt->version); i++)
                rt->version[i] = version[6 + i];
        return true;
}

static bool take_info(struct runtime *rt)
{
        struct reader reader = reader_new(rt->payload, rt->n_payload);
        uint32_t word[3];

        (void)reader_le32(&reader);             /* cpuid */
        for (size_t i = 0; i < ELEMENTSOF(word); i++)
                word[i] = reader_le32(&reader);
        (void)reader_le32(&reader);             /* usb id */
        if (reader.failed)
                return false;
        (void)snprintf(rt->id, sizeof(rt->id), "%08X%08X%08X", word[0], word[1], word[2]);
        rt->has_id = true;
        return true;
}

static struct runtime_step on_response(struct runtime *rt)
{
        if (rt->phase == PHASE_VERSION)
                return take_version(rt) ? ask(rt, PHASE_INFO, RUNTIME_SYS_INFO) : failed(rt, RUNTIME_BAD_ANSWER);
        return take_info(rt) ? done(rt) : failed(rt, RUNTIME_BAD_ANSWER);
}

static unsigned awaited_opcode(const struct runtime *rt)
{
        switch (rt->phase) {
        case PHASE_SYNC:
        case PHASE_RESTART_SYNC:
                return RUNTIME_PROTO_SYNC;
        case PHASE_VERSION:
                return RUNTIME_VERSION;
        case PHASE_INFO:
                return RUNTIME_SYS_INFO;
        default:
                return RUNTIME_SYS_BOOT;
        }
}

/* True: *ret is the step that follows; false: it changed nothing but what is to be sent. */
static bool on_packet(struct runtime *rt, const struct runtime_packet *packet, struct runtime_step *ret)
{
        bool sync_awaited = rt->phase == PHASE_SYNC || rt->phase == PHASE_RESTART_SYNC;

        /* Whatever wants it is acknowledged, what was taken before, too: our first acknowledgement was lost. */
        if (packet->flags & RUNTIME_FLAG_ACK_REQ)
                put_packet(rt, packet->sequence, packet->channel, RUNTIME_FLAG_ACK, packet->opcode);
        if (packet->flags & RUNTIME_FLAG_EVENT || packet->channel != 0 || packet->opcode != awaited_opcode(rt))
                return false;
        if (packet->flags & RUNTIME_FLAG_NAK) {
                rt->nak = true;
                *ret = rt->op == OP_RESTART && rt->phase == PHASE_RESTART ? synchronise(rt, PHASE_RESTART_SYNC) : sync_again(rt);
                return true;
        }
        if (sync_awaited) {
                if (!(packet->flags & RUNTIME_FLAG_ACK))
                        return false;
                rt->protocol = RUNTIME_PACKETS;
                *ret = rt->op == OP_RESTART ? boot(rt, PHASE_RESTART_AGAIN) : ask(rt, PHASE_VERSION, RUNTIME_VERSION);
                return true;
        }
        if (rt->op == OP_RESTART || packet->flags & RUNTIME_FLAG_ACK || packet->sequence != rt->sequence)
                return false;
        if (packet->size > sizeof(rt->payload) - rt->n_payload) {
                *ret = failed(rt, RUNTIME_BAD_ANSWER);
                return true;
        }
        if (packet->size > 0)
                memcpy(rt->payload + rt->n_payload, packet->payload, packet->size);
        rt->n_payload += packet->size;
        rt->sequence++;
        if (packet->flags & RUNTIME_FLAG_FRAGMENT)
                return false;
        *ret = on_response(rt);
        return true;
}

static struct runtime_step on_bytes(struct runtime *rt, const uint8_t *data, size_t size)
{
        struct runtime_step result;
        bool stepped = false;

        while (size > 0 && rt->op != OP_NONE) {
                size_t n = MIN(size, sizeof(rt->in) - rt->n_in), taken;
                bool found = true, bad;

                memcpy(rt->in + rt->n_in, data, n);
                rt->n_in += n;
                data += n;
                size -= n;
                while (found && rt->op != OP_NONE) {
                        struct runtime_packet packet;

                        taken = runtime_packet_read(rt->in, rt->n_in, &packet, &found, &bad);
                        if (found)
                                stepped |= on_packet(rt, &packet, &result);
                        memmove(rt->in, rt->in + taken, rt->n_in - taken);
                        rt->n_in -= taken;
                }
        }
        if (!stepped)
                return listen_on(rt);
        /* All that was said meanwhile goes out with it. */
        result.data = rt->n_out > 0 ? rt->out : NULL;
        result.size = rt->n_out;
        return result;
}

/* --- the clock --- */

static struct runtime_step on_time_over(struct runtime *rt)
{
        /* The rest of what began does not come any more: its sender begins anew. */
        if (rt->phase != PHASE_LEGACY_VERSION)
                rt->n_in = 0;
        switch (rt->phase) {
        case PHASE_QUIET:
                return ask_legacy(rt, PHASE_LEGACY_VERSION, USBDBG_FW_VERSION, VERSION_SIZE, LEGACY_TIME);
        case PHASE_LEGACY_VERSION:
                if (rt->n_in > 0 && !rt->extended) {
                        rt->extended = true;
                        return enter(rt, PHASE_LEGACY_VERSION, LEGACY_TIME);
                }
                rt->n_in = 0;
                return sync_again(rt);
        case PHASE_LEGACY_ARCH:
                return failed(rt, RUNTIME_BAD_ANSWER);
        case PHASE_SYNC:
        case PHASE_VERSION:
        case PHASE_INFO:
                return sync_again(rt);
        case PHASE_RESTART:
                if (rt->protocol == RUNTIME_PACKETS)
                        return synchronise(rt, PHASE_RESTART_SYNC);
                return ask_legacy(rt, PHASE_RESTART_AGAIN, USBDBG_SYS_RESET, 0, RESTART_TIME);
        default:
                return failed(rt, RUNTIME_IGNORED);
        }
}

static struct runtime_step begin(struct runtime *rt)
{
        if (rt->op == OP_IDENTIFY)
                return enter(rt, PHASE_QUIET, QUIET_TIME);
        if (rt->protocol == RUNTIME_PACKETS)
                return boot(rt, PHASE_RESTART);
        if (knows_reset_to_bootloader(rt))
                return ask_legacy(rt, PHASE_RESTART, USBDBG_SYS_RESET_TO_BL, 0, RESTART_TIME);
        return ask_legacy(rt, PHASE_RESTART_AGAIN, USBDBG_SYS_RESET, 0, RESTART_TIME);
}

void runtime_init(struct runtime *rt)
{
        *rt = (struct runtime){};
}

void runtime_begin_identify(struct runtime *rt)
{
        runtime_init(rt);
        rt->op = OP_IDENTIFY;
}

void runtime_begin_restart(struct runtime *rt)
{
        assert(rt->op == OP_NONE && rt->protocol != RUNTIME_UNKNOWN);
        rt->op = OP_RESTART;
        rt->phase = PHASE_BEGIN;
        rt->n_in = 0;
}

struct runtime_step runtime_next(struct runtime *rt, const uint8_t *data, size_t size)
{
        assert(rt->op != OP_NONE);
        rt->n_out = 0;
        if (rt->phase == PHASE_BEGIN)
                return begin(rt);
        if (!data)
                return on_time_over(rt);
        switch (rt->phase) {
        case PHASE_QUIET:
                return listen_on(rt);
        case PHASE_LEGACY_VERSION:
        case PHASE_LEGACY_ARCH:
                return on_legacy(rt, data, size);
        default:
                return rt->protocol == RUNTIME_LEGACY ? listen_on(rt) : on_bytes(rt, data, size);
        }
}
