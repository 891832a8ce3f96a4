/* SPDX-License-Identifier: MIT */
/*
 * The OpenMV DFU bootloader (dfu.md part A): plain DFU on TinyUSB, a window
 * after configuration, and a blind jump when it leaves.
 *
 * Which program runs, with which partitions, was read from flash.  The state
 * machine keeps TinyUSB's habits: a reply tells the next state, the change and
 * the flash work come with the status stage, and refused requests change nothing.
 */

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/model-internal.h"

enum { STD_GET_INTERFACE = 10, STD_SET_INTERFACE = 11, BLOCK_SIZE = 4096 };

/* SET_INTERFACE is not range-checked: what lies behind the table is taken for an empty, writable partition. */
static const struct partition_data nothing = { .name = "" };

static const struct partition_data *partition(const struct sim_camera *camera)
{
        const struct bootloader *bl = &camera->bootloader;

        return bl->alt < bl->n_partitions ? &bl->partitions[bl->alt] : &nothing;
}

static struct memory *memory(struct sim_camera *camera, const struct partition_data *p)
{
        return &camera->memories[p->external];
}

static uint16_t device_version(enum sim_bootloader version)
{
        switch (version) {
        case SIM_BL_1_0_2:
                return 0x0102;
        case SIM_BL_1_0_3:
                return 0x0103;
        case SIM_BL_1_0_0_OLD_LAYOUT:
        case SIM_BL_1_0_0:
        case SIM_BL_VCP:
                break;
        }
        return 0x0200;
}

static void describe(struct sim_camera *camera)
{
        struct bootloader *bl = &camera->bootloader;
        const struct board_data *board = &sim_board_data[bl->board];

        sim_describe_device(camera, 0x0200, 0, 0, 0, 0x37c5, board->bootloader_product, device_version(bl->version), true);
        strcpy(camera->descriptors.manufacturer, "OpenMV");
        strcpy(camera->descriptors.product, "OpenMV Camera (DFU Mode)");
        if (board->chip == SIM_ALIF)
                for (size_t i = 0; i < 12; i++)
                        sprintf(camera->descriptors.serial + 2 * i, "%02X", camera->config.uid[i]);
        else
                sim_serial_u(camera->config.uid, camera->descriptors.serial);
        camera->descriptors.speed = board->high_speed ? 480 : 12;
        camera->n_interface_strings = bl->n_partitions;
        for (size_t i = 0; i < bl->n_partitions; i++)
                snprintf(camera->interface_strings[i], sizeof(camera->interface_strings[i]), "%s", bl->partitions[i].name);
        sim_describe_dfu(camera, 0x80, 0xfa, 0x07, 1000, BLOCK_SIZE, 0x0101);
}

/* --- staying and leaving (A.3) --- */

static void leave(struct sim_camera *camera)
{
        sim_timer_clear(&camera->window_timer);
        sim_leave(camera, sim_boot_firmware);
}

static void on_window_end(struct sim_camera *camera)
{
        struct bootloader *bl = &camera->bootloader;

        /* In forced mode nothing sets this timer once the device is configured. */
        if (camera->configuration && bl->attached)
                return;
        camera->counters.windows_missed++;
        sim_trace(camera, camera->configuration ? "window is over, leaving" : "not configured in time, leaving");
        leave(camera);
}

static void reset_state(struct bootloader *bl)
{
        bl->state = STATE_IDLE;
        bl->status = STATUS_OK;
        bl->pending = false;
}

static void enter(struct sim_camera *camera)
{
        struct bootloader *bl = &camera->bootloader;

        reset_state(bl);
        bl->alt = 0;
        bl->attached = false;
        bl->block = bl->length = 0;
        bl->configured_at = 0;
        memset(bl->window_open, 0, sizeof(bl->window_open));
        memset(bl->buffer, 0, sizeof(bl->buffer));
        sim_timer_set(&camera->window_timer, sim_scaled_window(camera, TIME_MOUNT_WAIT), on_window_end);
}

static void configured(struct sim_camera *camera, uint8_t value)
{
        struct bootloader *bl = &camera->bootloader;

        if (value == 0) {
                leave(camera);
                return;
        }
        reset_state(bl);
        bl->alt = 0;
        /* Another configuration value is taken without a new window. */
        if (bl->configured_at)
                return;
        bl->configured_at = MAX(sim_now(camera), UINT64_C(1));
        if (bl->forced)
                sim_timer_clear(&camera->window_timer);
        else
                sim_timer_set(&camera->window_timer, sim_scaled_window(camera, TIME_WINDOW), on_window_end);
}

static void bus_reset(struct sim_camera *camera)
{
        /* Still waiting to be configured: resets are part of being enumerated. */
        if (camera->configuration)
                leave(camera);
        reset_state(&camera->bootloader);
}

static void detach(struct sim_camera *camera)
{
        struct bootloader *bl = &camera->bootloader;
        uint64_t end, now = sim_now(camera);

        switch (bl->version) {
        case SIM_BL_1_0_2:
        case SIM_BL_1_0_3:
        case SIM_BL_VCP:
                leave(camera);
                return;
        case SIM_BL_1_0_0_OLD_LAYOUT:
        case SIM_BL_1_0_0:
                break;
        }
        bl->attached = false;
        if (bl->forced)
                return;
        end = bl->configured_at + sim_scaled_window(camera, TIME_WINDOW);
        if (end <= now)
                leave(camera);
        else
                sim_timer_set(&camera->window_timer, end - now, on_window_end);
}

/* --- writing (A.5) --- */

static void finish(struct sim_camera *camera, uint8_t status)
{
        struct bootloader *bl = &camera->bootloader;

        bl->pending = false;
        if (status != STATUS_OK) {
                bl->state = STATE_ERROR;
                bl->status = status;
        } else if (bl->state == STATE_DNBUSY)
                bl->state = STATE_DNLOAD_SYNC;
        else if (bl->state == STATE_MANIFEST)
                bl->state = STATE_MANIFEST_SYNC;
}

static void on_written(struct sim_camera *camera, enum flash_result result)
{
        finish(camera, result == FLASH_OK ? STATUS_OK : STATUS_WRITE);
}

static void write_block(struct sim_camera *camera)
{
        struct bootloader *bl = &camera->bootloader;
        const struct partition_data *p = partition(camera);
        struct memory *m = memory(camera, p);
        uint32_t address = p->start + bl->block * (uint32_t)BLOCK_SIZE;
        struct flash_request request = { .memory = m, .address = address, .data = bl->buffer, .size = bl->length };
        const struct unit *unit;

        if (p->read_only) {
                finish(camera, STATUS_WRITE);
                return;
        }
        if (bl->block == 0 && p->window)
                bl->window_open[bl->alt] = true;
        if ((uint64_t)address + bl->length > p->limit) {
                finish(camera, STATUS_ADDRESS);
                return;
        }
        if (p->recovery || !sim_flash_contains(m, address, bl->length)) {
                finish(camera, STATUS_WRITE);
                return;
        }
        if (p->window && !bl->window_open[bl->alt]) {
                if (camera->config.mpu_fault_is_error)
                        finish(camera, STATUS_WRITE);
                else
                        sim_crash(camera);
                return;
        }
        unit = sim_flash_unit(m, address);
        if (unit->start == address && m->kind != MEMORY_MRAM) {
                request.erase_first = (size_t)(unit - m->units);
                request.erase_count = 1;
        }
        /* Words are filled up with zeros, MRAM with what an earlier block left in the buffer. */
        request.padding = m->kind == MEMORY_MRAM ? -1 : 0x00;
        sim_flash_begin(camera, &request, on_written);
}

/* --- requests (A.4) --- */

/* v4.6.x builds ask for 100 ms from alternate setting 3 on. */
static uint32_t poll_timeout(const struct bootloader *bl)
{
        return bl->version == SIM_BL_1_0_0_OLD_LAYOUT && bl->alt >= 3 ? 100 : 0;
}

static void get_status(struct sim_camera *camera, struct transfer *transfer)
{
        struct bootloader *bl = &camera->bootloader;
        uint8_t reply[6] = { bl->status, 0, 0, 0, bl->state, 0 };

        if (bl->state == STATE_DNLOAD_SYNC || bl->state == STATE_MANIFEST_SYNC) {
                if (!bl->pending)
                        reply[4] = bl->state == STATE_DNLOAD_SYNC ? STATE_DNLOAD_IDLE : STATE_IDLE;
                else {
                        bl->attached = true;
                        reply[4] = bl->state == STATE_DNLOAD_SYNC ? STATE_DNBUSY : STATE_MANIFEST;
                        if (bl->state == STATE_DNLOAD_SYNC)
                                put_le16(reply + 1, (uint16_t)poll_timeout(bl));
                }
        }
        sim_reply(camera, transfer, reply, sizeof(reply));
}

static void get_status_ack(struct sim_camera *camera)
{
        struct bootloader *bl = &camera->bootloader;

        if (bl->state == STATE_DNLOAD_SYNC) {
                if (bl->pending) {
                        bl->state = STATE_DNBUSY;
                        write_block(camera);
                } else
                        bl->state = STATE_DNLOAD_IDLE;
        } else if (bl->state == STATE_MANIFEST_SYNC) {
                if (bl->pending) {
                        bl->state = STATE_MANIFEST;
                        if (bl->alt < PARTITIONS_MAX)
                                bl->window_open[bl->alt] = false;
                        finish(camera, STATUS_OK);
                } else
                        bl->state = STATE_IDLE;
        }
}

static void download(struct sim_camera *camera, struct transfer *transfer)
{
        struct bootloader *bl = &camera->bootloader;

        if ((bl->state != STATE_IDLE && bl->state != STATE_DNLOAD_IDLE) || transfer->length > BLOCK_SIZE) {
                transfer->stall = true;
                return;
        }
        /* Nobody looks at the direction: to a host that asks to read, the buffer is sent, and is pending then. */
        if (transfer->length > 0 && (transfer->type & 0x80))
                sim_reply(camera, transfer, bl->buffer, transfer->length);
        bl->pending = true;
        bl->block = transfer->value;
        bl->length = transfer->length;
        bl->state = transfer->length > 0 ? STATE_DNLOAD_SYNC : STATE_MANIFEST_SYNC;
}

/* Uses DNLOAD's buffer, and counts as the end of whatever was pending (A.6). */
static void upload(struct sim_camera *camera, struct transfer *transfer)
{
        struct bootloader *bl = &camera->bootloader;
        const struct partition_data *p = partition(camera);
        struct memory *m = memory(camera, p);
        uint32_t address = p->start + transfer->value * (uint32_t)BLOCK_SIZE;
        size_t size = transfer->length;

        if (size > BLOCK_SIZE) {
                transfer->stall = true;
                return;
        }
        bl->attached = true;
        if ((uint64_t)address + size > p->limit) {
                size = 4;
                memset(bl->buffer, 0, size);
                finish(camera, STATUS_OK);
        } else if (p->recovery || !sim_flash_contains(m, address, size) || (size == 0 && (m->kind == MEMORY_WORD4 || m->kind == MEMORY_WORD32))) {
                /* The internal flash driver of the STM32 ports also refuses to read nothing. */
                size = 0;
                finish(camera, STATUS_FILE);
        } else {
                if (!sim_flash_fetch(m, address, bl->buffer, size) && camera->config.h7_ecc_fault) {
                        sim_crash(camera);
                        transfer->mute = true;
                        return;
                }
                finish(camera, STATUS_OK);
        }
        sim_reply(camera, transfer, bl->buffer, size);
}

/* Acted upon at SETUP.  To a data stage that should not be, the stack never answers: it waits for its status stage. */
static void no_data(struct transfer *transfer)
{
        transfer->mute = transfer->length > 0;
}

static void interface_request(struct sim_camera *camera, struct transfer *transfer)
{
        struct bootloader *bl = &camera->bootloader;

        switch (transfer->request) {
        case STD_GET_INTERFACE:
                sim_reply(camera, transfer, &bl->alt, 1);
                return;
        case STD_SET_INTERFACE:
                bl->alt = (uint8_t)transfer->value;
                reset_state(bl);
                no_data(transfer);
                return;
        }
        transfer->stall = true;
}

static void setup(struct sim_camera *camera, struct transfer *transfer)
{
        struct bootloader *bl = &camera->bootloader;

        if ((transfer->type & 0x1f) != 1 || (uint8_t)transfer->index != 0 || !camera->configuration) {
                transfer->stall = true;
                return;
        }
        if ((transfer->type & 0x60) == 0) {
                interface_request(camera, transfer);
                return;
        }
        if ((transfer->type & 0x60) != 0x20) {
                transfer->stall = true;
                return;
        }
        switch (transfer->request) {
        case REQ_DETACH:
                no_data(transfer);
                return;
        case REQ_DNLOAD:
                download(camera, transfer);
                return;
        case REQ_UPLOAD:
                upload(camera, transfer);
                return;
        case REQ_GETSTATUS:
                get_status(camera, transfer);
                return;
        case REQ_GETSTATE:
                sim_reply(camera, transfer, &bl->state, 1);
                return;
        case REQ_CLRSTATUS:
        case REQ_ABORT:
                reset_state(bl);
                no_data(transfer);
                return;
        }
        transfer->stall = true;
}

static void data(struct sim_camera *camera, const struct transfer *transfer, const uint8_t *bytes, size_t size)
{
        if ((transfer->type & 0x60) == 0x20 && transfer->request == REQ_DNLOAD)
                memcpy(camera->bootloader.buffer, bytes, MIN(size, (size_t)BLOCK_SIZE));
}

static void ack(struct sim_camera *camera, const struct transfer *transfer)
{
        if ((transfer->type & 0x7f) != 0x21)
                return;
        if (transfer->request == REQ_GETSTATUS)
                get_status_ack(camera);
        else if (transfer->request == REQ_DETACH)
                detach(camera);
}

const struct personality sim_bootloader_personality = {
        .mode = SIM_BOOTLOADER, .describe = describe, .enter = enter, .configured = configured, .bus_reset = bus_reset,
        .setup = setup, .data = data, .ack = ack,
};
