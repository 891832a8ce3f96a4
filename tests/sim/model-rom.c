/* SPDX-License-Identifier: MIT */
/*
 * The ST ROM bootloader (dfu.md part B): DfuSe, with what each chip does
 * wrongly.  N6 shows the same ids and programs no flash.
 *
 * A command is stored by DNLOAD and begins with GETSTATUS.  On F4 and F7 the
 * reply (dfuDNBUSY) comes at once and the next request waits for the flash; on
 * H743 the reply itself comes when the work is done (B.3).
 */

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/model-internal.h"

enum {
        STD_GET_STATUS = 0, STD_GET_INTERFACE = 10, STD_SET_INTERFACE = 11,
        CMD_GET = 0x00, CMD_SET_ADDRESS = 0x21, CMD_ERASE = 0x41, CMD_READ_UNPROTECT = 0x92,
        FLASH_BASE = 0x08000000,
        WEDGE_REPLY_US = 16000,         /* B.3: H743 bank 2 */
        WEDGE_ADDRESS = 0x08100000, DUAL_BANK_ADDRESS = 0x08080000,
        BANK2_PERMILLE = 2222,          /* of the ROM's 0.9 s: "~2 s on each bank-2 sector" */
};

/* bwPollTimeout in ms; only F4's are observed (B.3), F7's "short enough for 5 ms polling", H743's reply comes late instead */
static const struct rom_data {
        uint16_t usb, device, transfer_size;
        unsigned erase_poll, mass_erase_poll, address_poll;
        bool reply_when_done;
        const char *product;
        const char *alts[4];            /* from alternate setting 1; 0 is made from the geometry */
        const char *map_name;
} roms[] = {
        [SIM_F427] = {
                0x0100, 0x2200, 2048, 100, 100, 104, false, "STM32  BOOTLOADER",
                { "@Option Bytes  /0x1FFFC000/01*016 e/0x1FFEC000/01*016 e", "@OTP Memory /0x1FFF7800/01*512 e,01*016 e",
                  "@Device Feature/0xFFFF0000/01*004 e" },
                "@Internal Flash  ",
        },
        [SIM_F765] = {
                0x0100, 0x2200, 2048, 100, 100, 0, false, "STM32  BOOTLOADER",
                { "@Option Bytes  /0x1FFF0000/01*048 e", "@OTP Memory /0x1FF07800/01*528e" },
                "@Internal Flash  ",
        },
        [SIM_H743] = {
                0x0200, 0x0200, 1024, 0, 0, 0, true, "DFU in FS Mode",
                { "@Option Bytes   /0x5200201C/01*128 e" },
                "@Internal Flash   ",
        },
        /* Unconfirmed throughout (B.1); a first stage goes into RAM, there is no flash to program. */
        [SIM_N657] = { 0x0200, 0x0200, 1024, 0, 0, 0, false, "DFU in HS Mode", { NULL }, NULL },
        [SIM_ALIF] = { 0 },
};

static const struct rom_data *data_of(const struct sim_camera *camera)
{
        return &roms[camera->chip];
}

/* --- descriptors (B.1) --- */

/* "04*016Kg,01*064Kg,07*128Kg", from the segments of this camera's geometry. */
static void map_string(const struct sim_camera *camera, char *ret, size_t size)
{
        const struct memory *memory = &camera->memories[0];
        char part[48] = "";
        size_t n = 0;

        for (size_t i = 0; i < memory->n_units;) {
                size_t j = i;

                while (j < memory->n_units && memory->units[j].size == memory->units[i].size)
                        j++;
                n += (size_t)snprintf(part + n, sizeof(part) - n, "%s%02zu*%03uKg", n ? "," : "", j - i, memory->units[i].size / 1024);
                i = j;
        }
        snprintf(ret, size, "%s/0x%08X/%s%s%s", data_of(camera)->map_name, memory->start, part,
                 /* The F42x string describes two banks; a 1 MB part has one. */
                 camera->chip == SIM_F427 && !camera->config.f427_1mb_string ? "," : "",
                 camera->chip == SIM_F427 && !camera->config.f427_1mb_string ? part : "");
}

static void describe(struct sim_camera *camera)
{
        const struct rom_data *rom = data_of(camera);
        struct sim_descriptors *d = &camera->descriptors;
        bool old = camera->chip == SIM_F427 && camera->config.f4_rom_2100;
        size_t n = 0;

        d->speed = camera->chip == SIM_N657 ? 480 : 12;
        strcpy(d->manufacturer, "STMicroelectronics");
        strcpy(d->product, rom->product);
        d->serial[0] = '\0';
        if (camera->chip == SIM_H743)
                strcpy(d->serial, "200364500000");
        else if (camera->config.rom_constant_serial)
                strcpy(d->serial, "STM32FxSTM32");
        else if (camera->chip != SIM_N657)
                sim_serial_r(camera->config.uid, d->serial);
        sim_describe_device(camera, rom->usb, 0, 0, 0, 0x0483, 0xdf11, old ? 0x2100 : rom->device, d->serial[0] != '\0');

        if (rom->map_name)
                map_string(camera, camera->interface_strings[n++], sizeof(camera->interface_strings[0]));
        else
                strcpy(camera->interface_strings[n++], "@FSBL /0x01/01*01Me");
        for (size_t i = 0; rom->alts[i]; i++) {
                strcpy(camera->interface_strings[n], rom->alts[i]);
                for (char *p = camera->interface_strings[n]; old && *p; p++)
                        if (p[0] == ' ' && p[1] == 'e')
                                p[1] = 'g';
                n++;
        }
        camera->n_interface_strings = n;
        sim_describe_dfu(camera, 0xc0, 50, 0x0b, 255, rom->transfer_size, 0x011a);
}

/* --- states --- */

static void initial_state(struct sim_camera *camera)
{
        struct rom *rom = &camera->rom;
        bool error = camera->chip == SIM_F427 && camera->config.f4_first_dfu_error;

        rom->alt = 0;
        rom->state = error ? STATE_ERROR : STATE_IDLE;
        rom->status = error ? STATUS_FIRMWARE : STATUS_OK;
        rom->pending = rom->wedged = false;
        rom->pointer = FLASH_BASE;
        rom->block = rom->length = 0;
}

static void enter(struct sim_camera *camera)
{
        initial_state(camera);
}

static void configured(struct sim_camera *camera, uint8_t value)
{
        if (value)
                initial_state(camera);
}

static void bus_reset(struct sim_camera *camera)
{
        /* Stays (quirk 9); SET_CONFIGURATION will begin anew. */
        camera->rom.pending = false;
}

static void refuse(struct sim_camera *camera, struct transfer *transfer, uint8_t status)
{
        struct rom *rom = &camera->rom;

        transfer->stall = true;
        if (camera->config.rom_stall_keeps_state && status == STATUS_STALLEDPKT)
                return;
        if (rom->state == STATE_ERROR || rom->wedged)
                return;
        rom->state = STATE_ERROR;
        rom->status = status;
        rom->pending = false;
}

/* --- the work behind GETSTATUS --- */

static void op_end(struct sim_camera *camera, uint8_t status)
{
        struct rom *rom = &camera->rom;

        if (rom->state != STATE_DNBUSY)
                return;                 /* escaped from it meanwhile; what is pending now is another command */
        rom->pending = false;
        if (status != STATUS_OK) {
                rom->state = STATE_ERROR;
                rom->status = status;
        } else
                rom->state = STATE_DNLOAD_SYNC;
}

static void on_flash(struct sim_camera *camera, enum flash_result result)
{
        if (camera->rom.wedged)
                return;
        op_end(camera, result == FLASH_OK ? STATUS_OK : STATUS_WRITE);
}

static void on_erased(struct sim_camera *camera, enum flash_result result)
{
        if (camera->rom.wedged)
                return;
        op_end(camera, result == FLASH_OK ? STATUS_OK : STATUS_ERASE);
}

static void on_unprotected(struct sim_camera *camera, enum flash_result result)
{
        camera->read_protected = false;
        sim_leave(camera, sim_boot_from_reset);
}

static bool in_flash(const struct sim_camera *camera, uint32_t address, size_t size)
{
        return sim_flash_contains(&camera->memories[0], address, size) && (size > 0 || address < camera->memories[0].limit);
}

static void erase_all(struct sim_camera *camera, void (*done)(struct sim_camera *, enum flash_result))
{
        struct memory *memory = &camera->memories[0];

        sim_flash_begin(camera, &(struct flash_request){
                .memory = memory, .erase_count = memory->n_units, .address = memory->start, .rom = true }, done);
}

static void erase_sector(struct sim_camera *camera, uint32_t address)
{
        struct rom *rom = &camera->rom;
        struct memory *memory = &camera->memories[0];
        const struct unit *unit = sim_flash_unit(memory, address);
        struct flash_request request = { .memory = memory, .erase_count = 1, .address = address, .rom = true };

        if (!unit) {
                op_end(camera, STATUS_TARGET);
                return;
        }
        if (!camera->config.rom_erase_keeps_pointer)
                rom->pointer = address;
        if (camera->chip == SIM_F765 && camera->config.f765_dual_bank &&
            address >= sim_flash_scale(memory, DUAL_BANK_ADDRESS)) {
                op_end(camera, STATUS_OK);
                return;
        }
        request.erase_first = (size_t)(unit - memory->units);
        if (camera->chip == SIM_H743 && camera->config.h743_rev_v && address >= sim_flash_scale(memory, WEDGE_ADDRESS)) {
                rom->wedged = true;
                rom->pending = false;
                request.background = true;
                request.erase_permille = BANK2_PERMILLE;
                sim_trace(camera, "ROM wedged in dfuDNBUSY, erasing 0x%08x", unit->start);
        }
        sim_flash_begin(camera, &request, on_erased);
}

static void command(struct sim_camera *camera)
{
        struct rom *rom = &camera->rom;
        uint32_t address = get_le32(rom->buffer + 1);

        if (rom->buffer[0] == CMD_READ_UNPROTECT && rom->length == 1) {
                erase_all(camera, on_unprotected);
                return;
        }
        if (camera->read_protected) {
                op_end(camera, STATUS_VENDOR);
                return;
        }
        if (rom->buffer[0] == CMD_SET_ADDRESS && rom->length == 5) {
                if (!in_flash(camera, address, 0)) {
                        op_end(camera, STATUS_TARGET);
                        return;
                }
                rom->pointer = address;
                op_end(camera, STATUS_OK);
        } else if (rom->buffer[0] == CMD_ERASE && rom->length == 5)
                erase_sector(camera, address);
        else if (rom->buffer[0] == CMD_ERASE && rom->length == 1) {
                if (camera->config.rom_mass_erase_works)
                        erase_all(camera, on_erased);
                else
                        op_end(camera, STATUS_ERASE);
        } else
                op_end(camera, STATUS_STALLEDPKT);
}

static uint32_t block_address(const struct sim_camera *camera, uint16_t block, uint16_t length)
{
        uint32_t stride = camera->config.rom_constant_stride ? data_of(camera)->transfer_size : length;

        return camera->rom.pointer + (block - 2u) * stride;
}

static void execute(struct sim_camera *camera)
{
        struct rom *rom = &camera->rom;
        struct flash_request request = { .memory = &camera->memories[0], .data = rom->buffer, .padding = 0xff, .rom = true };
        size_t word = camera->chip == SIM_H743 ? 32 : 4;        /* what is programmed at once */

        if (rom->block == 0) {
                command(camera);
                return;
        }
        request.address = block_address(camera, rom->block, rom->length);
        request.size = rom->length;
        if (rom->block == 1)
                op_end(camera, STATUS_STALLEDPKT);
        else if (camera->read_protected)
                op_end(camera, STATUS_VENDOR);
        else if (camera->chip == SIM_H743 && request.address % 32 != 0)
                op_end(camera, STATUS_TARGET);
        else if (!in_flash(camera, request.address, (request.size + word - 1) / word * word))
                op_end(camera, STATUS_TARGET);
        else
                sim_flash_begin(camera, &request, on_flash);
}

static unsigned poll_timeout(const struct sim_camera *camera)
{
        const struct rom *rom = &camera->rom;
        const struct rom_data *data = data_of(camera);

        if (rom->block > 1)
                return camera->config.rom_write_poll_ms;
        if (rom->block == 0 && rom->buffer[0] == CMD_SET_ADDRESS)
                return data->address_poll;
        if (rom->block == 0 && rom->buffer[0] == CMD_ERASE)
                return rom->length == 1 ? data->mass_erase_poll : data->erase_poll;
        return 0;
}

/* --- requests (B.2) --- */

static void get_status(struct sim_camera *camera, struct transfer *transfer)
{
        struct rom *rom = &camera->rom;
        uint8_t reply[6] = { rom->status, 0, 0, 0, rom->state, 0 };

        switch (rom->state) {
        case STATE_DNLOAD_SYNC:
                if (!rom->pending) {
                        reply[4] = rom->state = STATE_DNLOAD_IDLE;
                        break;
                }
                reply[4] = STATE_DNBUSY;
                put_le16(reply + 1, (uint16_t)poll_timeout(camera));
                if (data_of(camera)->reply_when_done) {
                        bool erasing = camera->job.active;      /* behind an escape from the wedge: not this command's */

                        rom->state = STATE_DNBUSY;
                        execute(camera);
                        if (rom->wedged)
                                transfer->duration = WEDGE_REPLY_US;
                        else
                                transfer->wait_job = camera->job.active && !erasing;
                }
                break;
        case STATE_DNBUSY:
                if (camera->job.active && !rom->wedged) {
                        transfer->stall = true;         /* only with rom_busy_stalls does a request get here */
                        return;
                }
                break;
        case STATE_MANIFEST_SYNC:
                reply[4] = STATE_MANIFEST;
                if (camera->config.rom_leave_mute)
                        transfer->mute = true;
                break;
        }
        sim_reply(camera, transfer, reply, sizeof(reply));
        if (transfer->mute) {
                rom->state = STATE_MANIFEST;
                sim_leave(camera, sim_boot_from_rom);
        }
}

static void download(struct sim_camera *camera, struct transfer *transfer)
{
        struct rom *rom = &camera->rom;

        if ((rom->state != STATE_IDLE && rom->state != STATE_DNLOAD_IDLE) || transfer->length > data_of(camera)->transfer_size ||
            camera->chip == SIM_N657 || (transfer->length > 0 && (transfer->type & 0x80))) {
                refuse(camera, transfer, STATUS_STALLEDPKT);
                return;
        }
        rom->block = transfer->value;
        rom->length = transfer->length;
        if (transfer->length == 0) {
                rom->state = STATE_MANIFEST_SYNC;
                return;
        }
        rom->pending = true;
        rom->state = STATE_DNLOAD_SYNC;
}

static void upload(struct sim_camera *camera, struct transfer *transfer)
{
        static const uint8_t commands[] = { CMD_GET, CMD_SET_ADDRESS, CMD_ERASE, CMD_READ_UNPROTECT };
        struct rom *rom = &camera->rom;
        uint32_t address;

        if ((rom->state != STATE_IDLE && rom->state != STATE_UPLOAD_IDLE) || transfer->length > data_of(camera)->transfer_size ||
            camera->chip == SIM_N657) {
                refuse(camera, transfer, STATUS_STALLEDPKT);
                return;
        }
        if (transfer->length == 0) {
                rom->state = STATE_IDLE;
                return;
        }
        if (transfer->value == 0) {
                rom->state = transfer->length > sizeof(commands) ? STATE_IDLE : STATE_UPLOAD_IDLE;
                sim_reply(camera, transfer, commands, sizeof(commands));
                return;
        }
        address = block_address(camera, transfer->value, transfer->length);
        if (transfer->value == 1 || transfer->length < 2)
                refuse(camera, transfer, STATUS_STALLEDPKT);
        else if (camera->read_protected)
                refuse(camera, transfer, STATUS_VENDOR);
        else if (!in_flash(camera, address, transfer->length))
                refuse(camera, transfer, STATUS_TARGET);
        else {
                uint8_t data[2048];

                if (!sim_flash_fetch(&camera->memories[0], address, data, transfer->length) && camera->config.h7_ecc_fault) {
                        sim_crash(camera);
                        transfer->mute = true;
                        return;
                }
                rom->state = STATE_UPLOAD_IDLE;
                sim_reply(camera, transfer, data, transfer->length);
        }
}

static void clear_status(struct sim_camera *camera, struct transfer *transfer)
{
        struct rom *rom = &camera->rom;

        if (rom->state == STATE_ERROR) {
                rom->state = STATE_IDLE;
                rom->status = STATUS_OK;
                rom->pending = false;
                return;
        }
        if (camera->config.rom_strict_clrstatus && !rom->wedged) {
                refuse(camera, transfer, STATUS_STALLEDPKT);
                return;
        }
        rom->wedged = false;
        rom->pending = false;
        rom->state = STATE_ERROR;
        rom->status = STATUS_UNKNOWN;
}

static void abort_request(struct sim_camera *camera, struct transfer *transfer)
{
        struct rom *rom = &camera->rom;

        switch (rom->state) {
        case STATE_IDLE:
        case STATE_DNLOAD_SYNC:
        case STATE_DNLOAD_IDLE:
        case STATE_MANIFEST_SYNC:
        case STATE_UPLOAD_IDLE:
                rom->state = STATE_IDLE;
                rom->status = STATUS_OK;
                rom->pending = false;
                return;
        }
        refuse(camera, transfer, STATUS_STALLEDPKT);
}

static void setup(struct sim_camera *camera, struct transfer *transfer)
{
        struct rom *rom = &camera->rom;

        if ((transfer->type & 0x1f) != 1 || (uint8_t)transfer->index != 0 || !camera->configuration) {
                transfer->stall = true;
                return;
        }
        if ((transfer->type & 0x60) == 0) {
                if (transfer->request == STD_GET_STATUS)
                        sim_reply(camera, transfer, (uint8_t[]){ 0, 0 }, 2);
                else if (transfer->request == STD_GET_INTERFACE)
                        sim_reply(camera, transfer, &rom->alt, 1);
                else if (transfer->request == STD_SET_INTERFACE && transfer->value < camera->n_interface_strings)
                        rom->alt = (uint8_t)transfer->value;
                else
                        transfer->stall = true;
                return;
        }
        if ((transfer->type & 0x60) != 0x20) {
                transfer->stall = true;
                return;
        }
        switch (transfer->request) {
        case REQ_DETACH:
                return;                 /* already in DFU mode: nothing to do */
        case REQ_DNLOAD:
                download(camera, transfer);
                return;
        case REQ_UPLOAD:
                upload(camera, transfer);
                return;
        case REQ_GETSTATUS:
                get_status(camera, transfer);
                return;
        case REQ_CLRSTATUS:
                clear_status(camera, transfer);
                return;
        case REQ_GETSTATE:
                sim_reply(camera, transfer, &rom->state, 1);
                return;
        case REQ_ABORT:
                abort_request(camera, transfer);
                return;
        }
        refuse(camera, transfer, STATUS_STALLEDPKT);
}

static void data(struct sim_camera *camera, const struct transfer *transfer, const uint8_t *bytes, size_t size)
{
        if ((transfer->type & 0x60) == 0x20 && transfer->request == REQ_DNLOAD)
                memcpy(camera->rom.buffer, bytes, MIN(size, (size_t)2048));
}

static void ack(struct sim_camera *camera, const struct transfer *transfer)
{
        struct rom *rom = &camera->rom;

        if ((transfer->type & 0x7f) != 0x21 || transfer->request != REQ_GETSTATUS)
                return;
        if (rom->state == STATE_DNLOAD_SYNC && rom->pending) {
                rom->state = STATE_DNBUSY;
                execute(camera);
        } else if (rom->state == STATE_MANIFEST_SYNC) {
                rom->state = STATE_MANIFEST;
                sim_leave(camera, sim_boot_from_rom);
        }
}

/* The wedge's erase goes on behind the state machine; nothing that touches flash can begin before it is over. */
static bool must_wait(const struct sim_camera *camera, const struct transfer *transfer)
{
        const struct rom *rom = &camera->rom;

        if ((transfer->type & 0x60) != 0x20 || rom->wedged)
                return false;
        if (transfer->request == REQ_UPLOAD)
                return true;
        if (transfer->request != REQ_GETSTATUS)
                return false;
        return rom->state == STATE_DNLOAD_SYNC && rom->pending && (rom->block > 0 || rom->buffer[0] != CMD_SET_ADDRESS);
}

const struct personality sim_rom_personality = {
        .mode = SIM_ROM_DFU, .describe = describe, .enter = enter, .configured = configured, .bus_reset = bus_reset,
        .setup = setup, .data = data, .ack = ack, .must_wait = must_wait,
};
