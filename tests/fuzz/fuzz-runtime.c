/* SPDX-License-Identifier: MIT */

/*
 * Talks with a running camera, damaged: each input is what comes, in pieces, and
 * where the time is over between them.  Whatever comes, the talk ends, and what
 * is sent is what may be sent.
 */

#include <string.h>

#include "base/cleanup.h"
#include "fuzz/fuzz.h"
#include "protocol/runtime.h"

#define SILENCES_MAX 64                 /* in a row, until it has given up */

/* Nothing but questions, acknowledgements, and, where it was asked for, the restart. */
static void check_sent(const struct runtime_step *step, bool restart)
{
        CHECK((step->size == 0) == (step->data == NULL));
        for (size_t i = 0; i < step->size;) {
                const uint8_t *p = step->data + i;

                if (p[0] == 0x30) {
                        CHECK(step->size - i >= 6);
                        CHECK(p[1] == 0x80 || p[1] == 0x83 || (restart && (p[1] == 0x0c || p[1] == 0x0e)));
                        i += 6;
                        continue;
                }
                CHECK(step->size - i >= RUNTIME_HEADER_SIZE);
                CHECK(p[0] == 0xaa && p[1] == 0xd5 && p[6] == 0 && p[7] == 0);
                CHECK(p[4] == RUNTIME_FLAG_ACK || p[5] == RUNTIME_PROTO_SYNC || p[5] == RUNTIME_VERSION || p[5] == RUNTIME_SYS_INFO ||
                      (restart && p[5] == RUNTIME_SYS_BOOT));
                i += RUNTIME_HEADER_SIZE;
        }
}

/* Feeds what is left of the input; true: it succeeded. */
static bool talk(struct runtime *runtime, const uint8_t **data, size_t *size, bool restart)
{
        struct runtime_step step = runtime_next(runtime, NULL, 0);
        unsigned silences = 0;

        for (;;) {
                check_sent(&step, restart);
                if (step.kind == RUNTIME_DONE) {
                        CHECK(!restart && runtime->protocol != RUNTIME_UNKNOWN && runtime->has_id && strlen(runtime->id) == 24);
                        return true;
                }
                if (step.kind == RUNTIME_FAILED) {
                        CHECK(step.outcome > RUNTIME_OK && step.outcome < _RUNTIME_OUTCOME_MAX);
                        return false;
                }
                CHECK(runtime->n_in < sizeof(runtime->in) || runtime->protocol != RUNTIME_PACKETS);
                if (*size >= 2 && ((*data)[0] | (*data)[1] << 8) > 0) {
                        size_t n = (size_t)((*data)[0] | (*data)[1] << 8);

                        *data += 2;
                        *size -= 2;
                        n = MIN(n, *size);
                        if (n > 0) {
                                step = runtime_next(runtime, *data, n);
                                *data += n;
                                *size -= n;
                                continue;
                        }
                } else if (*size >= 2) {
                        *data += 2;
                        *size -= 2;
                }
                CHECK(silences++ < SILENCES_MAX || *size >= 2);
                step = runtime_next(runtime, NULL, 0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct runtime runtime;

        runtime_begin_identify(&runtime);
        if (talk(&runtime, &data, &size, /* restart= */ false)) {
                runtime_begin_restart(&runtime);
                CHECK(!talk(&runtime, &data, &size, /* restart= */ true));
        }
        return 0;
}

/* --- sound talks --- */

struct input {
        uint8_t *data;
        size_t size, room;
};

static void piece(struct input *input, const void *data, size_t size)
{
        CHECK(input->size + 2 + size <= input->room);
        input->data[input->size++] = (uint8_t)size;
        input->data[input->size++] = (uint8_t)(size >> 8);
        if (size > 0)
                memcpy(input->data + input->size, data, size);
        input->size += size;
}

static void time_is_over(struct input *input)
{
        piece(input, NULL, 0);
}

static void packet(struct input *input, uint8_t sequence, uint8_t flags, uint8_t opcode, const uint8_t *payload, uint16_t size)
{
        const struct runtime_packet p = { .sequence = sequence, .flags = flags, .opcode = opcode, .payload = payload, .size = size };
        uint8_t bytes[256];

        piece(input, bytes, runtime_packet_write(&p, bytes));
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t size)
{
        static const uint8_t version[12] = { 4, 0, 0, 0, 8, 0, 0, 0, 1 }, version_5[16] = { 1, 0, 2, 1, 0, 3, 5 }, info[76] = { 1, 2, 3, 4, 5 };
        static const uint8_t arch[64] = "OMV4 H7 1024 [H7:34303639330D5113001F002A]";
        struct input input = { .data = data, .room = size };

        switch (n) {
        case 0:         /* legacy */
                time_is_over(&input);
                piece(&input, version, sizeof(version));
                piece(&input, arch, sizeof(arch));
                time_is_over(&input);
                break;
        case 1:         /* packets */
        case 2:         /* with an event, a fragment, a retransmission, a NAK */
                time_is_over(&input);
                time_is_over(&input);
                packet(&input, 0, RUNTIME_FLAG_ACK, RUNTIME_PROTO_SYNC, NULL, 0);
                if (n == 2) {
                        packet(&input, 0, RUNTIME_FLAG_EVENT | RUNTIME_FLAG_ACK_REQ, 0x29, version_5, 4);
                        packet(&input, 0, RUNTIME_FLAG_NAK, RUNTIME_VERSION, (const uint8_t *)"\6\0", 2);
                        packet(&input, 0, RUNTIME_FLAG_ACK, RUNTIME_PROTO_SYNC, NULL, 0);
                }
                packet(&input, 0, RUNTIME_FLAG_ACK_REQ, RUNTIME_VERSION, version_5, sizeof(version_5));
                if (n == 2) {
                        packet(&input, 0, RUNTIME_FLAG_ACK_REQ | RUNTIME_FLAG_RTX, RUNTIME_VERSION, version_5, sizeof(version_5));
                        packet(&input, 1, RUNTIME_FLAG_ACK_REQ | RUNTIME_FLAG_FRAGMENT, RUNTIME_SYS_INFO, info, 50);
                        packet(&input, 2, RUNTIME_FLAG_ACK_REQ, RUNTIME_SYS_INFO, info + 50, 26);
                } else
                        packet(&input, 1, RUNTIME_FLAG_ACK_REQ, RUNTIME_SYS_INFO, info, sizeof(info));
                time_is_over(&input);
                packet(&input, 0, RUNTIME_FLAG_ACK, RUNTIME_PROTO_SYNC, NULL, 0);
                break;
        default:
                return 0;
        }
        return input.size;
}
