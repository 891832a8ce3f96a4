/* SPDX-License-Identifier: MIT */
/*
 * The runtime firmware and the old CDC bootloader as far as endpoint 0 shows
 * them: descriptors, standard requests, line coding.  No debug protocol; the
 * bulk pipes are the front end's business.
 */

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/model-internal.h"

enum {
        STD_GET_STATUS = 0, STD_GET_INTERFACE = 10, STD_SET_INTERFACE = 11,
        CDC_SET_LINE_CODING = 0x20, CDC_GET_LINE_CODING = 0x21, CDC_SET_CONTROL_LINE_STATE = 0x22, CDC_SEND_BREAK = 0x23,
        MSC_GET_MAX_LUN = 0xfe, MSC_RESET = 0xff,
};

struct builder {
        uint8_t bytes[256];
        size_t size;
};

static void put(struct builder *b, const uint8_t *bytes, size_t size)
{
        memcpy(b->bytes + b->size, bytes, size);
        b->size += size;
}

#define PUT(b, ...) put((b), (uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

static void put_msc(struct builder *b, uint8_t interface, uint8_t in, uint8_t out, uint16_t packet)
{
        PUT(b, 9, 4, interface, 0, 2, 0x08, 0x06, 0x50, 0);
        PUT(b, 7, 5, in, 2, (uint8_t)packet, (uint8_t)(packet >> 8), 0);
        PUT(b, 7, 5, out, 2, (uint8_t)packet, (uint8_t)(packet >> 8), 0);
}

static void put_cdc(struct builder *b, uint8_t first, uint8_t notify, uint8_t interval, uint8_t out, uint8_t in, uint16_t packet)
{
        PUT(b, 8, 0x0b, first, 2, 2, 2, 1, 0);
        PUT(b, 9, 4, first, 0, 1, 2, 2, 1, 0);
        PUT(b, 5, 0x24, 0, 0x10, 0x01);
        PUT(b, 5, 0x24, 1, 0, (uint8_t)(first + 1));
        PUT(b, 4, 0x24, 2, 2);
        PUT(b, 5, 0x24, 6, first, (uint8_t)(first + 1));
        PUT(b, 7, 5, notify, 3, 8, 0, interval);
        PUT(b, 9, 4, (uint8_t)(first + 1), 0, 2, 0x0a, 0, 0, 0);
        PUT(b, 7, 5, out, 2, (uint8_t)packet, (uint8_t)(packet >> 8), 0);
        PUT(b, 7, 5, in, 2, (uint8_t)packet, (uint8_t)(packet >> 8), 0);
}

static void begin(struct builder *b, uint8_t interfaces, uint8_t attributes, uint8_t max_power)
{
        b->size = 0;
        PUT(b, 9, 2, 0, 0, interfaces, 1, 0, attributes, max_power);
}

static void end(struct sim_camera *camera, struct builder *b)
{
        put_le16(b->bytes + 2, (uint16_t)b->size);
        sim_describe_bytes(camera, b->bytes, b->size);
}

/* identity.md section 1, by mode and stack */
static void runtime_serial(const struct sim_camera *camera, const struct board_data *board, char *ret)
{
        const uint8_t *uid = camera->config.uid;

        if (board->st_usb)
                sim_serial_m(uid, /* reduced= */ false, ret);
        else if (board->chip == SIM_ALIF)
                /* Another field of the secure enclave: not to be had from the bootloader's serial. */
                sprintf(ret, "%016llx", (unsigned long long)sim_mix(camera->seed));
        else if (camera->config.n6_serial_lower)
                for (size_t i = 0; i < 12; i++)
                        sprintf(ret + 2 * i, "%02x", uid[i]);
        else
                sim_serial_m(uid, /* reduced= */ true, ret);
}

static void describe_runtime(struct sim_camera *camera)
{
        const struct board_data *board = &sim_board_data[camera->runtime_board];
        bool now = camera->config.vendor_37c5_runtime;
        bool msc = board->st_usb || camera->config.tinyusb_msc;
        struct builder b;

        sim_describe_device(camera, 0x0200, 0xef, 0x02, 0x01, now ? 0x37c5 : 0x1209, now ? board->runtime_product : 0xabd1,
                            board->st_usb ? 0x0200 : 0x0100, true);
        strcpy(camera->descriptors.manufacturer, "OpenMV");
        strcpy(camera->descriptors.product, board->st_usb ? "OpenMV Virtual Comm Port in FS Mode" : "OpenMV Camera");
        runtime_serial(camera, board, camera->descriptors.serial);
        camera->descriptors.speed = board->high_speed ? 480 : 12;
        camera->descriptors.has_cdc = true;
        if (board->st_usb) {
                begin(&b, 3, 0xc0, 0xfa);
                put_msc(&b, 0, 0x81, 0x01, 64);
                put_cdc(&b, 1, 0x82, 0x20, 0x03, 0x83, 64);
        } else {
                begin(&b, msc ? 3 : 2, 0x80, 0xfa);
                put_cdc(&b, 0, 0x81, 16, 0x02, 0x82, 512);
                if (msc)
                        put_msc(&b, 2, 0x83, 0x03, 512);
        }
        end(camera, &b);
}

/* vcp-bootloader.md section 1 */
static void describe_vcp(struct sim_camera *camera)
{
        struct builder b;

        sim_describe_device(camera, 0x0200, 0xef, 0x02, 0x01, 0x1209, 0xabd1, 0x0200, true);
        strcpy(camera->descriptors.manufacturer, "OpenMV");
        strcpy(camera->descriptors.product, "OpenMV Virtual Comm Port in FS Mode");
        strcpy(camera->descriptors.serial, "000000000011");
        camera->descriptors.speed = 12;
        camera->descriptors.has_cdc = true;
        begin(&b, 2, 0xc0, 0xfa);
        put_cdc(&b, 0, 0x82, 16, 0x01, 0x81, 64);
        end(camera, &b);
}

static void setup(struct sim_camera *camera, struct transfer *transfer)
{
        static const uint8_t zero[2];

        if ((transfer->type & 0x1f) != 1 || (uint8_t)transfer->index >= camera->descriptors.config[4] || !camera->configuration) {
                transfer->stall = true;
                return;
        }
        if ((transfer->type & 0x60) == 0) {
                if (transfer->request == STD_GET_STATUS)
                        sim_reply(camera, transfer, zero, 2);
                else if (transfer->request == STD_GET_INTERFACE)
                        sim_reply(camera, transfer, zero, 1);
                else if (transfer->request != STD_SET_INTERFACE || transfer->value != 0)
                        transfer->stall = true;
                return;
        }
        if ((transfer->type & 0x60) == 0x20)
                switch (transfer->request) {
                case CDC_GET_LINE_CODING:
                        sim_reply(camera, transfer, camera->line_coding, sizeof(camera->line_coding));
                        return;
                case CDC_SET_LINE_CODING:
                        transfer->stall = transfer->length > sizeof(camera->line_coding) || transfer->type & 0x80;
                        return;
                case CDC_SET_CONTROL_LINE_STATE:
                        camera->line_ready = transfer->value & 1;
                        return;
                case CDC_SEND_BREAK:
                case MSC_RESET:
                        return;
                case MSC_GET_MAX_LUN:
                        sim_reply(camera, transfer, zero, 1);
                        return;
                }
        transfer->stall = true;
}

void sim_camera_line(const struct sim_camera *camera, uint32_t *rate, bool *ready)
{
        *rate = get_le32(camera->line_coding);
        *ready = camera->line_ready;
}

static void data(struct sim_camera *camera, const struct transfer *transfer, const uint8_t *bytes, size_t size)
{
        if ((transfer->type & 0x60) == 0x20 && transfer->request == CDC_SET_LINE_CODING)
                memcpy(camera->line_coding, bytes, MIN(size, sizeof(camera->line_coding)));
}

static void ack(struct sim_camera *camera, const struct transfer *transfer)
{
}

static void reset_line(struct sim_camera *camera)
{
        /* 115200 8N1 */
        memcpy(camera->line_coding, (uint8_t[]){ 0x00, 0xc2, 0x01, 0x00, 0, 0, 8 }, 7);
        camera->line_ready = false;
}

static void enter_runtime(struct sim_camera *camera)
{
        reset_line(camera);
        camera->counters.boots++;
}

static void configured_runtime(struct sim_camera *camera, uint8_t value)
{
}

static void bus_reset(struct sim_camera *camera)
{
}

const struct personality sim_runtime_personality = {
        .mode = SIM_RUNTIME, .describe = describe_runtime, .enter = enter_runtime, .configured = configured_runtime,
        .bus_reset = bus_reset, .setup = setup, .data = data, .ack = ack,
};

/* --- the VCP bootloader's two waits (vcp-bootloader.md section 2); START comes over bulk, which is not carried --- */

static void on_vcp_window_end(struct sim_camera *camera)
{
        camera->counters.windows_missed++;
        sim_trace(camera, "VCP window is over, leaving");
        sim_leave(camera, sim_boot_firmware);
}

static void enter_vcp(struct sim_camera *camera)
{
        reset_line(camera);
        camera->bootloader.configured_at = 0;
        sim_timer_set(&camera->window_timer, sim_scaled_window(camera, TIME_VCP_MOUNT_WAIT), on_vcp_window_end);
}

static void configured_vcp(struct sim_camera *camera, uint8_t value)
{
        struct bootloader *bl = &camera->bootloader;

        /* It waits once for each: neither a bus reset nor another configuration gives a second window. */
        if (value == 0 || bl->configured_at)
                return;
        bl->configured_at = MAX(sim_now(camera), UINT64_C(1));
        sim_timer_set(&camera->window_timer, sim_scaled_window(camera, TIME_VCP_WINDOW), on_vcp_window_end);
}

const struct personality sim_vcp_personality = {
        .mode = SIM_VCP_BOOTLOADER, .describe = describe_vcp, .enter = enter_vcp, .configured = configured_vcp,
        .bus_reset = bus_reset, .setup = setup, .data = data, .ack = ack,
};
