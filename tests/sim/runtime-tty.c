/* SPDX-License-Identifier: MIT */

/* See runtime-tty.h. */

#include "sim/runtime-tty.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

enum {
        USBDBG_MAGIC = 0x30,
        USBDBG_SYS_RESET = 0x0c,
        USBDBG_SYS_RESET_TO_BL = 0x0e,
        USBDBG_FW_VERSION = 0x80,
        USBDBG_ARCH_STR = 0x83,
        USBDBG_SCRIPT_RUNNING = 0x87,
};

enum { FLAG_ACK = 0x01, FLAG_NAK = 0x02, FLAG_RTX = 0x04, FLAG_ACK_REQ = 0x08, FLAG_EVENT = 0x20 };
enum {
        OP_SYNC = 0x00, OP_GET_CAPS = 0x01, OP_SET_CAPS = 0x02, OP_VERSION = 0x04, OP_SYS_RESET = 0x10, OP_SYS_BOOT = 0x11,
        OP_SYS_INFO = 0x12, OP_SYSTEM_MAX = 0x14,
};
enum { NAK_CHANNEL = 2, NAK_PAYLOAD = 5, NAK_SEQUENCE = 6, NAK_LENGTH = 7 };

#define HEADER 10
#define PAYLOAD_MAX 4082
#define POLL_TIME (20 * MSEC)           /* at most 50 ms when nothing else runs */
#define GIVE_UP_TIME (4 * SEC)

static void on_reset(void *userdata)
{
        struct runtime_tty *tty = userdata;

        /* May drop off the bus, and take this with it. */
        sim_camera_reset(tty->camera, tty->forced);
}

static unsigned number_of(const unsigned version[static 3])
{
        return version[0] * 10000 + version[1] * 100 + version[2];
}

static void reset(struct runtime_tty *tty, bool into_bootloader)
{
        unsigned version[3];

        if (into_bootloader && tty->config->runtime_stays)
                return;
        sim_camera_runtime_version(tty->camera, version);
        /* Known since v3.6.8; and v4.5.x and before do not know the magic word: an ordinary reset. */
        if (into_bootloader && number_of(version) < 30608)
                return;
        tty->forced = into_bootloader && number_of(version) >= 40600;
        defer_call(&tty->reset);
}

static void unique_id(const struct runtime_tty *tty, uint8_t uid[static 12])
{
        memcpy(uid, tty->config->uid, 12);
        if (tty->config->runtime_other_uid)
                uid[4] ^= 0x55;
}

/* --- legacy --- */

static void answer(struct runtime_tty *tty, const void *data, size_t size, size_t wanted)
{
        uint8_t bytes[64] = { 0 };

        memcpy(bytes, data, MIN(size, sizeof(bytes)));
        tty->say(tty->userdata, bytes, MIN(wanted, sizeof(bytes)));
}

static const char *architecture(enum sim_board board)
{
        switch (board) {
        case SIM_OPENMV2:
                return "OMV2 F4 256 JPEG [M4:";
        case SIM_OPENMV3:
                return "OMV3 F7 512 [M7:";
        case SIM_OPENMV4:
                return "OMV4 H7 1024 [H7:";
        case SIM_OPENMV4P:
                return "OMV4P H7 32768 SDRAM [H7:";
        case SIM_OPENMVPT:
                return "OPENMVPT 65536 SDRAM [H7:";
        case SIM_OPENMV_N6:
                return "OpenMV N6 [N6:";
        case SIM_OPENMV_AE3:
                return "OPENMV AE3 [AE3:";
        case SIM_FOREIGN:
        case _SIM_BOARD_MAX:
                break;
        }
        return "UNKNOWN [?:";
}

static void command(struct runtime_tty *tty)
{
        size_t wanted = get_le32(tty->command + 2);
        uint8_t uid[12], bytes[12];
        unsigned version[3];
        char text[64];

        switch (tty->command[1]) {
        case USBDBG_FW_VERSION:
                sim_camera_runtime_version(tty->camera, version);
                for (size_t i = 0; i < 3; i++)
                        put_le32(bytes + 4 * i, version[i]);
                answer(tty, bytes, sizeof(bytes), wanted);
                break;
        case USBDBG_ARCH_STR:
                unique_id(tty, uid);
                /* What stands behind its end is what stood there before. */
                memset(text, 0x5a, sizeof(text));
                (void)snprintf(text, sizeof(text), "%s%08X%08X%08X]", architecture(tty->config->board), get_le32(uid + 8),
                               get_le32(uid + 4), get_le32(uid));
                answer(tty, text, sizeof(text), wanted);
                break;
        case USBDBG_SCRIPT_RUNNING:
                answer(tty, "\0\0\0", 4, wanted);
                break;
        case USBDBG_SYS_RESET:
        case USBDBG_SYS_RESET_TO_BL:
                reset(tty, tty->command[1] == USBDBG_SYS_RESET_TO_BL);
                break;
        default:
                break;
        }
}

static void receive_legacy(struct runtime_tty *tty, const uint8_t *bytes, size_t size)
{
        for (size_t i = 0; i < size; i++) {
                if (tty->n == 0 && bytes[i] != USBDBG_MAGIC)
                        continue;
                tty->command[tty->n++] = bytes[i];
                if (tty->n == sizeof(tty->command)) {
                        tty->n = 0;
                        command(tty);
                }
        }
}

/* --- packets --- */

static uint32_t crc(const uint8_t *data, size_t size, unsigned width, uint32_t polynomial)
{
        uint64_t mask = (UINT64_C(1) << width) - 1, sum = mask;

        for (size_t bit = 0; bit < 8 * size; bit++) {
                bool one = (sum >> (width - 1) & 1) != (data[bit / 8] >> (7 - bit % 8) & 1u);

                sum = sum << 1 & mask;
                if (one)
                        sum ^= polynomial;
        }
        return (uint32_t)sum;
}

static size_t packet(uint8_t *out, uint8_t sequence, uint8_t channel, uint8_t flags, uint8_t opcode, const uint8_t *payload, uint16_t size)
{
        memcpy(out, (uint8_t[]){ 0xaa, 0xd5, sequence, channel, flags, opcode, (uint8_t)size, (uint8_t)(size >> 8) }, 8);
        put_le16(out + 8, (uint16_t)crc(out, 8, 16, 0xf94f));
        if (size == 0)
                return HEADER;
        memcpy(out + HEADER, payload, size);
        put_le32(out + HEADER + size, crc(payload, size, 32, 0xfa567d89));
        return HEADER + size + 4U;
}

static void say_nak(struct runtime_tty *tty, uint8_t channel, uint8_t opcode, uint16_t status)
{
        uint8_t bytes[HEADER + 6], payload[2];

        put_le16(payload, status);
        tty->say(tty->userdata, bytes, packet(bytes, tty->sequence, channel, FLAG_NAK, opcode, payload, sizeof(payload)));
}

static void say_ack(struct runtime_tty *tty, uint8_t opcode)
{
        uint8_t bytes[HEADER];

        tty->say(tty->userdata, bytes, packet(bytes, tty->sequence, 0, FLAG_ACK, opcode, NULL, 0));
}

static void forget_response(struct runtime_tty *tty)
{
        tty->n_unacknowledged = 0;
        timer_clear(&tty->again);
}

void runtime_tty_hang_up(struct runtime_tty *tty)
{
        forget_response(tty);
        timer_clear(&tty->poll);
        tty->n = tty->n_in = 0;
        tty->sequence = 0;
}

/* 500, 1500 and 3500 ms after the first time; then it gives up. */
static void on_again(void *userdata)
{
        static const uint64_t pauses[] = { 1000 * MSEC, 2000 * MSEC, GIVE_UP_TIME };
        struct runtime_tty *tty = userdata;

        if (tty->sends > ELEMENTSOF(pauses)) {
                forget_response(tty);
                tty->sequence = 0;
                return;
        }
        if (!tty->is_up(tty->userdata)) {
                runtime_tty_hang_up(tty);
                return;
        }
        tty->unacknowledged[4] |= FLAG_RTX;
        put_le16(tty->unacknowledged + 8, (uint16_t)crc(tty->unacknowledged, 8, 16, 0xf94f));
        timer_set(&tty->again, pauses[tty->sends++ - 1]);
        tty->say(tty->userdata, tty->unacknowledged, tty->n_unacknowledged);
}

static void respond(struct runtime_tty *tty, uint8_t opcode, const uint8_t *payload, uint16_t size)
{
        tty->n_unacknowledged = packet(tty->unacknowledged, tty->sequence++, 0, FLAG_ACK_REQ, opcode, payload, size);
        tty->sends = 1;
        timer_set(&tty->again, 500 * MSEC);
        tty->say(tty->userdata, tty->unacknowledged, tty->n_unacknowledged);
}

static void respond_version(struct runtime_tty *tty)
{
        uint8_t payload[16] = { 1, 0, 2, 1, 0, 3 };
        unsigned version[3];

        sim_camera_runtime_version(tty->camera, version);
        for (size_t i = 0; i < 3; i++)
                payload[6 + i] = (uint8_t)version[i];
        respond(tty, OP_VERSION, payload, sizeof(payload));
}

static void respond_info(struct runtime_tty *tty)
{
        uint8_t payload[76] = { 0 }, uid[12];

        unique_id(tty, uid);
        put_le32(payload, 0x411fc271);
        for (size_t i = 0; i < 3; i++)
                memcpy(payload + 4 + 4 * i, uid + 8 - 4 * i, 4);        /* words 2, 1, 0 */
        respond(tty, OP_SYS_INFO, payload, sizeof(payload));
}

static void request(struct runtime_tty *tty, const uint8_t *header)
{
        static const uint8_t caps[16] = { 0x0f, 0, 0, 0, PAYLOAD_MAX & 0xff, PAYLOAD_MAX >> 8 };

        switch (header[5]) {
        case OP_GET_CAPS:
                respond(tty, OP_GET_CAPS, caps, sizeof(caps));
                break;
        case OP_SET_CAPS:
                say_ack(tty, OP_SET_CAPS);
                tty->sequence++;
                break;
        case OP_VERSION:
                respond_version(tty);
                break;
        case OP_SYS_INFO:
                respond_info(tty);
                break;
        case OP_SYS_RESET:
        case OP_SYS_BOOT:
                reset(tty, header[5] == OP_SYS_BOOT);
                break;
        default:
                break;
        }
}

static void on_header(struct runtime_tty *tty, const uint8_t *header, bool payload_is_right)
{
        uint8_t sequence = header[2], channel = header[3], flags = header[4], opcode = header[5];

        if (opcode == OP_SYNC && !(flags & (FLAG_ACK | FLAG_EVENT))) {
                forget_response(tty);
                tty->sequence = 0;
                say_ack(tty, OP_SYNC);
                return;
        }
        if (flags & FLAG_EVENT)
                return;
        if (tty->n_unacknowledged > 0) {
                /* It waits for this, and does nothing else meanwhile. */
                if (flags & FLAG_ACK && sequence == tty->unacknowledged[2] && opcode == tty->unacknowledged[5])
                        forget_response(tty);
                return;
        }
        if (flags & FLAG_ACK)
                return;
        if (sequence != tty->sequence)
                say_nak(tty, channel, opcode, NAK_SEQUENCE);
        else if (!payload_is_right)
                say_nak(tty, channel, opcode, NAK_PAYLOAD);
        else if (opcode <= OP_SYSTEM_MAX && channel != 0)
                say_nak(tty, channel, opcode, NAK_CHANNEL);
        else
                request(tty, header);
}

static void drop(struct runtime_tty *tty, size_t n)
{
        memmove(tty->in, tty->in + n, tty->n_in - n);
        tty->n_in -= n;
}

static void on_poll(void *userdata)
{
        struct runtime_tty *tty = userdata;

        if (!tty->is_up(tty->userdata))
                runtime_tty_hang_up(tty);
        while (tty->n_in >= HEADER && !tty->reset.queued) {
                uint8_t header[HEADER];
                size_t size, total;
                bool right = true;

                if (tty->in[0] != 0xaa || tty->in[1] != 0xd5 || get_le16(tty->in + 8) != crc(tty->in, 8, 16, 0xf94f)) {
                        drop(tty, 1);
                        continue;
                }
                memcpy(header, tty->in, sizeof(header));
                size = get_le16(header + 6);
                if (size > PAYLOAD_MAX) {
                        drop(tty, HEADER);
                        say_nak(tty, header[3], header[5], NAK_LENGTH);
                        continue;
                }
                total = HEADER + (size > 0 ? size + 4 : 0);
                if (tty->n_in < total)
                        return;
                if (size > 0)
                        right = get_le32(tty->in + HEADER + size) == crc(tty->in + HEADER, size, 32, 0xfa567d89);
                drop(tty, total);
                on_header(tty, header, right);
        }
}

static void receive_packets(struct runtime_tty *tty, const uint8_t *bytes, size_t size)
{
        size = MIN(size, sizeof(tty->in) - tty->n_in);
        memcpy(tty->in + tty->n_in, bytes, size);
        tty->n_in += size;
        if (!timer_is_set(&tty->poll))
                timer_set(&tty->poll, POLL_TIME);
}

/* --- the port --- */

void runtime_tty_init(struct runtime_tty *tty, struct loop *loop, struct sim_camera *camera, const struct sim_config *config,
                      runtime_say_fn say, runtime_line_fn is_up, void *userdata)
{
        *tty = (struct runtime_tty){ .camera = camera, .config = config, .say = say, .is_up = is_up, .userdata = userdata };
        defer_init(&tty->reset, loop, on_reset, tty);
        timer_init(&tty->poll, loop, on_poll, tty);
        timer_init(&tty->again, loop, on_again, tty);
}

void runtime_tty_deinit(struct runtime_tty *tty)
{
        if (tty->reset.loop)
                defer_deinit(&tty->reset);
        timer_deinit(&tty->poll);
        timer_deinit(&tty->again);
}

void runtime_tty_receive(struct runtime_tty *tty, const uint8_t *bytes, size_t size)
{
        unsigned version[3];

        sim_camera_heard(tty->camera, size);
        if (sim_camera_mode(tty->camera) != SIM_RUNTIME || tty->config->runtime_deaf || !tty->is_up(tty->userdata)) {
                runtime_tty_hang_up(tty);
                return;
        }
        sim_camera_runtime_version(tty->camera, version);
        if (version[0] >= 5)
                receive_packets(tty, bytes, size);
        else
                receive_legacy(tty, bytes, size);
}
