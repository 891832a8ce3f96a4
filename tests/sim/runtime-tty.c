/* SPDX-License-Identifier: MIT */

/* See runtime-tty.h. */

#include "sim/runtime-tty.h"

#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

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

static void on_reset(void *userdata)
{
        struct runtime_tty *tty = userdata;

        /* May drop off the bus, and take this with it. */
        sim_camera_reset(tty->camera, tty->forced);
}

void runtime_tty_init(struct runtime_tty *tty, struct loop *loop, int fd, struct sim_camera *camera,
                      const struct sim_config *config)
{
        *tty = (struct runtime_tty){ .camera = camera, .config = config, .fd = fd };
        defer_init(&tty->reset, loop, on_reset, tty);
}

void runtime_tty_deinit(struct runtime_tty *tty)
{
        if (tty->reset.loop)
                defer_deinit(&tty->reset);
}

static void answer(struct runtime_tty *tty, const void *data, size_t size, size_t wanted)
{
        uint8_t bytes[64] = { 0 };

        memcpy(bytes, data, MIN(size, sizeof(bytes)));
        (void)!write(tty->fd, bytes, MIN(wanted, sizeof(bytes)));
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
        /* The old USB ids are those of v4.5.9 and before, which do not know the forced bootloader. */
        static const uint8_t v4_8_1[12] = { 4, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0 }, v4_5_9[12] = { 4, 0, 0, 0, 5, 0, 0, 0, 9, 0, 0, 0 };
        bool old = !tty->config->vendor_37c5_runtime;
        size_t wanted = get_le32(tty->command + 2);
        const uint8_t *uid = tty->config->uid;
        char text[64];

        switch (tty->command[1]) {
        case USBDBG_FW_VERSION:
                answer(tty, old ? v4_5_9 : v4_8_1, sizeof(v4_8_1), wanted);
                break;
        case USBDBG_ARCH_STR:
                (void)snprintf(text, sizeof(text), "%s%08X%08X%08X]", architecture(tty->config->board), get_le32(uid + 8),
                               get_le32(uid + 4), get_le32(uid));
                answer(tty, text, strlen(text), wanted);
                break;
        case USBDBG_SCRIPT_RUNNING:
                answer(tty, "\0\0\0", 4, wanted);
                break;
        case USBDBG_SYS_RESET:
        case USBDBG_SYS_RESET_TO_BL:
                tty->forced = tty->command[1] == USBDBG_SYS_RESET_TO_BL && !old;
                defer_call(&tty->reset);
                break;
        default:
                break;
        }
}

void runtime_tty_receive(struct runtime_tty *tty, const uint8_t *bytes, size_t size)
{
        struct termios termios;

        /* The master sees what a program set on the slave. */
        if (sim_camera_mode(tty->camera) != SIM_RUNTIME || tcgetattr(tty->fd, &termios) < 0 ||
            cfgetospeed(&termios) != B921600) {
                tty->n = 0;
                return;
        }
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
