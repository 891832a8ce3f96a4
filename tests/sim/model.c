/* SPDX-License-Identifier: MIT */
/*
 * The camera as a thing: power, plug, jumper, what boots, and its endpoint 0
 * with faults, counters and trace.
 *
 * Invariant: the front end is never called from inside sim_camera_submit(); a
 * urb is completed exactly once; nothing is on the bus while connected is false.
 */

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/model-internal.h"

/* --- time --- */

uint64_t sim_now(const struct sim_camera *camera)
{
        return camera->host->now(camera->fe);
}

static void on_timer(void *arg)
{
        struct timer_slot *slot = arg;

        slot->handle = NULL;
        slot->fn(slot->camera);
}

void sim_timer_clear(struct timer_slot *slot)
{
        if (slot->handle)
                slot->camera->host->cancel_timer(slot->camera->fe, slot->handle);
        slot->handle = NULL;
}

void sim_timer_set(struct timer_slot *slot, uint64_t delay, void (*fn)(struct sim_camera *))
{
        sim_timer_clear(slot);
        slot->fn = fn;
        slot->handle = slot->camera->host->timer(slot->camera->fe, delay, on_timer, slot);
}

uint64_t sim_scaled_window(const struct sim_camera *camera, uint64_t us)
{
        return (uint64_t)((double)us * camera->config.window_scale);
}

/* --- trace --- */

void sim_trace(struct sim_camera *camera, const char *format, ...)
{
        char text[256], line[384];
        uint64_t now;
        va_list ap;

        if (!camera->host->trace)
                return;
        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        now = sim_now(camera);
        snprintf(line, sizeof(line), "%llu.%06u %s %s: %s", (unsigned long long)(now / 1000000), (unsigned)(now % 1000000),
                 camera->name, sim_mode_name(camera->mode), text);
        camera->host->trace(camera->fe, camera, line);
}

static void trace_transfer(struct sim_camera *camera, const struct transfer *t, const char *result, const uint8_t *data, size_t size)
{
        char bytes[3 * 12 + 4] = "";
        size_t n = MIN(size, (size_t)12);

        if (!camera->host->trace)
                return;
        for (size_t i = 0; i < n; i++)
                snprintf(bytes + 3 * i, 4, " %02x", data[i]);
        if (n < size)
                strcat(bytes, " ..");
        sim_trace(camera, "%02x %02x value %04x index %04x length %u%s%s:%s", t->type, t->request, t->value, t->index, t->length,
                  *result ? " " : "", result, bytes);
}

/* --- the bus --- */

static void complete(struct sim_camera *camera, struct sim_urb *urb, int status, size_t actual)
{
        urb->next = NULL;
        urb->model_private = NULL;
        camera->host->complete(camera->fe, urb, status, actual);
}

static void flush(struct sim_camera *camera, int status)
{
        struct sim_urb *urb, *list;

        sim_timer_clear(&camera->transfer_timer);
        camera->abandoned = false;
        list = camera->queue;
        camera->queue = NULL;
        urb = camera->current;
        camera->current = NULL;
        if (urb)
                complete(camera, urb, status, 0);
        while ((urb = list)) {
                list = urb->next;
                complete(camera, urb, status, 0);
        }
}

static void drop_off(struct sim_camera *camera)
{
        if (!camera->connected)
                return;
        camera->connected = false;
        camera->configuration = 0;
        camera->remote_wakeup = false;
        sim_trace(camera, "off the bus");
        flush(camera, -ESHUTDOWN);
        camera->host->disconnected(camera->fe, camera);
}

/* Nothing of what ran goes on. */
static void stop(struct sim_camera *camera)
{
        sim_timer_clear(&camera->boot_timer);
        sim_timer_clear(&camera->window_timer);
        sim_timer_clear(&camera->leave_timer);
        camera->crashed = false;
        camera->reset_pending = false;
        drop_off(camera);
        camera->personality = NULL;
        camera->mode = camera->powered ? SIM_SILENT : SIM_OFF;
}

static void appear(struct sim_camera *camera, const struct personality *personality)
{
        camera->personality = personality;
        camera->mode = personality->mode;
        camera->configuration = 0;
        camera->n_interface_strings = 0;
        camera->descriptors = (struct sim_descriptors){ .speed = 12 };
        personality->describe(camera);
        camera->connected = true;
        camera->counters.configured_at_us = 0;
        camera->counters.first_transfer_at_us = 0;
        camera->counters.first_upload_at_us = 0;
        sim_trace(camera, "on the bus as %04x:%04x %s", get_le16(camera->descriptors.device + 8),
                  get_le16(camera->descriptors.device + 10), camera->descriptors.serial);
        personality->enter(camera);
        camera->host->connected(camera->fe, camera);
}

void sim_crash(struct sim_camera *camera)
{
        sim_trace(camera, "locked up");
        camera->crashed = true;
        sim_timer_clear(&camera->window_timer);
        sim_timer_clear(&camera->leave_timer);
}

/* --- what boots --- */

static void appear_as_bootloader(struct sim_camera *camera)
{
        appear(camera, &sim_bootloader_personality);
}

static void appear_as_vcp(struct sim_camera *camera)
{
        appear(camera, &sim_vcp_personality);
}

static void appear_as_rom(struct sim_camera *camera)
{
        appear(camera, &sim_rom_personality);
}

static void appear_as_runtime(struct sim_camera *camera)
{
        appear(camera, &sim_runtime_personality);
}

static size_t scaled_layout(const struct sim_camera *camera, enum sim_board board, enum sim_bootloader bootloader,
                            struct partition_data partitions[PARTITIONS_MAX])
{
        size_t n = sim_layout(board, bootloader, partitions);

        for (size_t i = 0; i < n && camera->config.erase_unit_scale < 1; i++) {
                const struct memory *memory = &camera->memories[partitions[i].external];

                if (memory->n_units == 0 || partitions[i].recovery)
                        continue;
                partitions[i].start = sim_flash_scale(memory, partitions[i].start);
                partitions[i].limit = sim_flash_scale(memory, partitions[i].limit);
        }
        return n;
}

static const struct memory *boot_memory(const struct sim_camera *camera, const struct board_data *board)
{
        return &camera->memories[board->bootloader_external];
}

static struct image_info find_bootloader(const struct sim_camera *camera)
{
        const struct board_data *board = &sim_board_data[camera->config.board];
        const struct memory *memory = boot_memory(camera, board);
        struct image_info info = { .kind = IMAGE_NONE };

        if (memory->n_units == 0)
                return info;
        info = sim_image_inspect(memory, memory->start);
        if (info.kind != IMAGE_BOOTLOADER || sim_board_data[info.board].chip != camera->chip)
                info.kind = IMAGE_NONE;
        return info;
}

void sim_boot_bootloader(struct sim_camera *camera)
{
        struct image_info info = find_bootloader(camera);
        struct bootloader *bl = &camera->bootloader;

        if (info.kind == IMAGE_NONE) {
                sim_trace(camera, "no bootloader in flash: nothing runs");
                return;
        }
        bl->board = info.board;
        bl->version = info.bootloader;
        bl->n_partitions = scaled_layout(camera, info.board, info.bootloader, bl->partitions);
        sim_timer_set(&camera->boot_timer, TIME_BOOTLOADER_PULL_UP,
                      info.bootloader == SIM_BL_VCP ? appear_as_vcp : appear_as_bootloader);
}

void sim_boot_firmware(struct sim_camera *camera)
{
        const struct board_data *board = &sim_board_data[camera->config.board];
        const struct memory *memory = boot_memory(camera, board);
        struct image_info info = sim_image_inspect(memory, sim_flash_scale(memory, board->firmware_start));
        const struct board_data *built_for = &sim_board_data[info.board];

        if (info.kind != IMAGE_FIRMWARE || built_for->chip != camera->chip || (built_for->sdram && !board->sdram)) {
                sim_trace(camera, "jumped into firmware that does not run");
                return;
        }
        if (info.mute) {
                sim_trace(camera, "firmware runs without USB");
                return;
        }
        camera->runtime_board = info.board;
        memcpy(camera->runtime_version, info.version, sizeof(camera->runtime_version));
        sim_timer_set(&camera->boot_timer, camera->config.boot_us ? camera->config.boot_us : TIME_RUNTIME_DEFAULT, appear_as_runtime);
}

void sim_boot_from_rom(struct sim_camera *camera)
{
        const struct board_data *board = &sim_board_data[camera->config.board];
        uint32_t target = camera->rom.pointer;

        if (target == camera->memories[0].start)
                sim_boot_bootloader(camera);
        else if (target == sim_flash_scale(&camera->memories[0], board->firmware_start))
                sim_boot_firmware(camera);
        else
                sim_trace(camera, "jumped to 0x%08x: nothing runs there", target);
}

void sim_boot_from_reset(struct sim_camera *camera)
{
        if (camera->jumper && camera->chip != SIM_ALIF)
                sim_timer_set(&camera->boot_timer, TIME_ROM_PULL_UP, appear_as_rom);
        else
                sim_boot_bootloader(camera);
}

static void on_left(struct sim_camera *camera)
{
        void (*next)(struct sim_camera *) = camera->next_boot;

        camera->next_boot = NULL;
        next(camera);
}

static void on_leave(struct sim_camera *camera)
{
        uint64_t delay = camera->next_boot == sim_boot_from_reset ? TIME_RESET : 0;

        if (camera->job.active) {
                /* The main loop comes round when the flash is done. */
                sim_timer_set(&camera->leave_timer, 1000, on_leave);
                return;
        }
        sim_timer_clear(&camera->window_timer);
        camera->mode = SIM_SILENT;
        camera->crashed = false;
        drop_off(camera);
        camera->personality = NULL;
        if (camera->powered && camera->next_boot)
                sim_timer_set(&camera->boot_timer, delay, on_left);
}

void sim_leave(struct sim_camera *camera, void (*next)(struct sim_camera *))
{
        camera->next_boot = next;
        sim_timer_set(&camera->leave_timer, TIME_LEAVE, on_leave);
}

/* --- faults --- */

static const struct sim_fault *match_fault(struct sim_camera *camera, const struct transfer *t)
{
        for (struct fault *f = camera->faults; f; f = f->next) {
                if ((f->fault.request_type >= 0 && f->fault.request_type != t->type) ||
                    (f->fault.request >= 0 && f->fault.request != t->request) ||
                    (t->quiet && f->fault.request < 0))
                        continue;
                if (f->passed < f->fault.skip) {
                        f->passed++;
                        continue;
                }
                if (f->fault.count > 0 && f->hit >= f->fault.count)
                        continue;
                f->hit++;
                return &f->fault;
        }
        return NULL;
}

void sim_camera_add_fault(struct sim_camera *camera, const struct sim_fault *fault)
{
        struct fault *f = calloc(1, sizeof(*f)), **tail = &camera->faults;

        if (!f)
                return;
        f->fault = *fault;
        while (*tail)
                tail = &(*tail)->next;
        *tail = f;
}

void sim_camera_clear_faults(struct sim_camera *camera)
{
        struct fault *f;

        while ((f = camera->faults)) {
                camera->faults = f->next;
                free(f);
        }
}

/* --- endpoint 0 --- */

static bool is_deaf(const struct sim_camera *camera)
{
        if (!camera->job.active || camera->job.background)
                return false;
        return !(camera->mode == SIM_ROM_DFU && camera->config.rom_busy_stalls);
}

static uint64_t transfer_time(const struct sim_camera *camera, size_t size)
{
        bool high = camera->descriptors.speed == 480;
        uint64_t us = (high ? TIME_HS_TRANSFER : TIME_FS_TRANSFER) + (high ? TIME_HS_PER_KIB : TIME_FS_PER_KIB) * size / 1024;

        return camera->config.usb_speed > 0 ? (uint64_t)((double)us / camera->config.usb_speed) : 0;
}

uint64_t sim_camera_transfer_time(const struct sim_camera *camera, size_t size)
{
        return transfer_time(camera, size);
}

static void count(struct sim_camera *camera, const struct sim_urb *urb)
{
        struct sim_counters *c = &camera->counters;
        uint8_t type = urb->setup[0], request = urb->setup[1];

        if (camera->quiet)
                return;
        c->transfers++;
        if (c->first_transfer_at_us == 0)
                c->first_transfer_at_us = MAX(sim_now(camera), UINT64_C(1));
        if ((type & 0x7f) == 0x21 && (camera->mode == SIM_BOOTLOADER || camera->mode == SIM_ROM_DFU))
                switch (request) {
                case REQ_DETACH:
                        c->detach++;
                        return;
                case REQ_DNLOAD:
                        c->download++;
                        return;
                case REQ_UPLOAD:
                        c->upload++;
                        if (c->first_upload_at_us == 0)
                                c->first_upload_at_us = MAX(sim_now(camera), UINT64_C(1));
                        return;
                case REQ_GETSTATUS:
                        c->get_status++;
                        return;
                case REQ_CLRSTATUS:
                        c->clr_status++;
                        return;
                case REQ_GETSTATE:
                        c->get_state++;
                        return;
                case REQ_ABORT:
                        c->abort++;
                        return;
                }
        if (type == 0x01 && request == 11)
                c->set_interface++;
        else if (type == 0x80 && request == 8)
                c->get_configuration++;
        else
                c->other++;
}

static void end_transfer(struct sim_camera *camera);

static void begin_transfer(struct sim_camera *camera, struct sim_urb *urb)
{
        struct transfer *t = &camera->transfer;

        camera->current = urb;
        t->started_at = sim_now(camera);
        t->fault = match_fault(camera, t);
        if (t->fault) {
                t->fault_copy = *t->fault;
                t->fault = &t->fault_copy;
                switch (t->fault->kind) {
                case SIM_FAULT_NAK:
                        trace_transfer(camera, t, "NAK (fault)", NULL, 0);
                        return;
                case SIM_FAULT_CRASH:
                        sim_crash(camera);
                        return;
                case SIM_FAULT_UNPLUG_BEFORE:
                        trace_transfer(camera, t, "unplugged before (fault)", NULL, 0);
                        sim_camera_unplug(camera);
                        return;
                case SIM_FAULT_STALL:
                case SIM_FAULT_ERROR:
                        sim_timer_set(&camera->transfer_timer, transfer_time(camera, 0), end_transfer);
                        return;
                case SIM_FAULT_SHORT:
                case SIM_FAULT_GARBAGE:
                case SIM_FAULT_UNPLUG_DATA:
                case SIM_FAULT_UNPLUG_STATUS:
                case SIM_FAULT_TORN:
                case SIM_FAULT_BABBLE:
                case SIM_FAULT_STATE:
                        break;
                case _SIM_FAULT_KIND_MAX:
                        assert(false);
                        break;
                case SIM_FAULT_UNPLUG_FLASH:
                        camera->job.tear = true;
                        camera->job.tear_bytes = t->fault->length;
                        break;
                }
        }
        if (!sim_standard_request(camera, t))
                camera->personality->setup(camera, t);
        if (t->mute || camera->crashed || !camera->current)
                return;
        if (t->wait_job)
                return;
        t->duration += transfer_time(camera, t->stall ? 0 : t->type & 0x80 ? t->reply_size : t->length);
        sim_timer_set(&camera->transfer_timer, t->duration, end_transfer);
}

static void parse(struct transfer *t, const struct sim_urb *urb)
{
        *t = (struct transfer){
                .type = urb->setup[0], .request = urb->setup[1], .value = get_le16(urb->setup + 2),
                .index = get_le16(urb->setup + 4), .length = get_le16(urb->setup + 6),
                .quiet = urb->model_private != NULL,
        };
}

/*
 * Hardware acknowledged the SETUP, the main loop reads it when the flash is done: as long as no newer one
 * has taken its place, the request is acted upon although nobody waits for its answer any more.
 */
static void take_up_abandoned(struct sim_camera *camera)
{
        if (!camera->abandoned || camera->crashed || is_deaf(camera))
                return;
        camera->abandoned = false;
        if (!camera->connected || camera->queue || camera->current)
                return;
        camera->transfer = camera->abandoned_transfer;
        trace_transfer(camera, &camera->transfer, "taken up, nobody listens", NULL, 0);
        if (!sim_standard_request(camera, &camera->transfer))
                camera->personality->setup(camera, &camera->transfer);
}

void sim_pump(struct sim_camera *camera)
{
        struct sim_urb *urb;

        take_up_abandoned(camera);
        while (!camera->current && (urb = camera->queue)) {
                if (!camera->connected) {
                        camera->queue = urb->next;
                        complete(camera, urb, -ESHUTDOWN, 0);
                        continue;
                }
                if (camera->crashed || is_deaf(camera))
                        return;
                parse(&camera->transfer, urb);
                if (camera->job.active && camera->personality->must_wait &&
                    camera->personality->must_wait(camera, &camera->transfer))
                        return;
                camera->queue = urb->next;
                urb->next = NULL;
                begin_transfer(camera, urb);
        }
}

static void kick(struct sim_camera *camera)
{
        if (!camera->pump_timer.handle)
                sim_timer_set(&camera->pump_timer, 0, sim_pump);
}

/* Power fails after the request was carried out: the flash work it began is carried out too. */
static void unplug_after(struct sim_camera *camera)
{
        sim_flash_finish(camera);
        sim_camera_unplug(camera);
}

/* What the device says of its own state, changed on the way. */
static void twist_state(const struct transfer *t, const struct sim_fault *fault, uint8_t *reply, size_t size)
{
        if (t->type != 0xa1)
                return;
        if (t->request == REQ_GETSTATUS && size > 4)
                reply[4] = fault->pattern;
        else if (t->request == REQ_GETSTATE && size > 0)
                reply[0] = fault->pattern;
}

static void end_transfer(struct sim_camera *camera)
{
        struct sim_urb *urb = camera->current;
        struct transfer t = camera->transfer;
        const struct sim_fault *fault = t.fault ? &t.fault_copy : NULL;
        bool in = t.type & 0x80;
        size_t actual;

        assert(urb);
        if (fault && fault->kind == SIM_FAULT_ERROR) {
                camera->current = NULL;
                trace_transfer(camera, &t, "error (fault)", NULL, 0);
                complete(camera, urb, fault->error_code > 0 ? -fault->error_code : fault->error_code, 0);
                kick(camera);
                return;
        }
        if (t.stall || (fault && fault->kind == SIM_FAULT_STALL)) {
                camera->current = NULL;
                camera->counters.stalls++;
                trace_transfer(camera, &t, "STALL", NULL, 0);
                complete(camera, urb, -EPIPE, 0);
                kick(camera);
                return;
        }

        actual = in ? t.reply_size : t.length;
        if (fault && fault->kind == SIM_FAULT_TORN) {
                camera->current = NULL;
                if (!in && actual > 0)
                        camera->personality->data(camera, &t, urb->data, MIN(actual, fault->length));
                trace_transfer(camera, &t, "torn (fault)", NULL, 0);
                if (fault->length > t.length)
                        camera->personality->ack(camera, &t);
                if (camera->connected)
                        complete(camera, urb, fault->error_code > 0 ? -fault->error_code : fault->error_code, 0);
                else
                        complete(camera, urb, -ESHUTDOWN, 0);
                kick(camera);
                return;
        }
        if (fault && fault->kind == SIM_FAULT_BABBLE) {
                camera->current = NULL;
                if (in) {
                        memcpy(urb->data, camera->reply, actual);
                        memset(urb->data + actual, fault->pattern, t.length - actual);
                } else {
                        if (actual > 0)
                                camera->personality->data(camera, &t, urb->data, actual);
                        camera->personality->ack(camera, &t);
                }
                trace_transfer(camera, &t, "babble (fault)", NULL, 0);
                complete(camera, urb, camera->connected ? -EOVERFLOW : -ESHUTDOWN, t.length);
                kick(camera);
                return;
        }
        if (fault && in && fault->kind == SIM_FAULT_SHORT)
                actual = MIN(actual, fault->length);
        if (in && actual > 0) {
                memcpy(urb->data, camera->reply, actual);
                if (fault && fault->kind == SIM_FAULT_GARBAGE)
                        memset(urb->data, fault->pattern, actual);
                else if (fault && fault->kind == SIM_FAULT_STATE)
                        twist_state(&t, fault, urb->data, actual);
        } else if (!in && actual > 0)
                camera->personality->data(camera, &t, urb->data, actual);
        trace_transfer(camera, &t, "", urb->data, actual);
        if (fault && fault->kind == SIM_FAULT_UNPLUG_DATA) {
                sim_camera_unplug(camera);
                return;
        }
        if ((t.type & 0x7f) == 0x21 && (camera->mode == SIM_BOOTLOADER || camera->mode == SIM_ROM_DFU)) {
                if (t.request == REQ_UPLOAD)
                        camera->counters.upload_bytes += actual;
                else if (t.request == REQ_DNLOAD)
                        camera->counters.download_bytes += actual;
        }
        camera->personality->ack(camera, &t);
        if (fault && fault->kind == SIM_FAULT_UNPLUG_STATUS) {
                unplug_after(camera);
                return;
        }
        if (!camera->job.active)
                camera->job.tear = false;       /* the request began no flash work */
        camera->current = NULL;
        complete(camera, urb, 0, actual);
        kick(camera);
}

/* The flash job under way ended: who waited for it goes on. */
void sim_job_over(struct sim_camera *camera)
{
        if (camera->reset_pending) {
                camera->reset_pending = false;
                if (camera->personality)
                        camera->personality->bus_reset(camera);
                camera->configuration = 0;
        }
        if (camera->current && camera->transfer.wait_job) {
                camera->transfer.wait_job = false;
                sim_timer_set(&camera->transfer_timer, camera->transfer.duration + transfer_time(camera, camera->transfer.reply_size),
                              end_transfer);
        }
        kick(camera);
}

void sim_camera_submit(struct sim_camera *camera, struct sim_urb *urb)
{
        struct sim_urb **tail = &camera->queue;

        urb->next = NULL;
        urb->model_private = camera->quiet ? camera : NULL;
        if (camera->connected)
                count(camera, urb);
        camera->abandoned = false;
        while (*tail)
                tail = &(*tail)->next;
        *tail = urb;
        kick(camera);
}

/* Whole packets that had passed when the host gave up. */
static size_t moved_so_far(const struct sim_camera *camera)
{
        const struct transfer *t = &camera->transfer;
        size_t size = t->type & 0x80 ? t->reply_size : t->length;
        uint64_t elapsed = sim_now(camera) - t->started_at;

        if (!camera->transfer_timer.handle || t->stall || t->fault || t->duration == 0)
                return 0;
        size = (size_t)(MIN(elapsed, t->duration) * size / t->duration);
        return size - size % 64;
}

bool sim_camera_cancel(struct sim_camera *camera, struct sim_urb *urb)
{
        struct sim_urb **p;
        size_t moved = 0;

        if (urb == camera->current) {
                moved = moved_so_far(camera);
                if (moved > 0 && camera->transfer.type & 0x80)
                        memcpy(urb->data, camera->reply, moved);
                else if (moved > 0)
                        camera->personality->data(camera, &camera->transfer, urb->data, moved);
                sim_timer_clear(&camera->transfer_timer);
                camera->current = NULL;
                trace_transfer(camera, &camera->transfer, "cancelled", NULL, 0);
                kick(camera);
        } else {
                for (p = &camera->queue; *p && *p != urb; p = &(*p)->next)
                        ;
                if (!*p)
                        return false;
                if (p == &camera->queue && !camera->current && camera->mode == SIM_BOOTLOADER && camera->connected && is_deaf(camera)) {
                        parse(&camera->abandoned_transfer, urb);
                        camera->abandoned = true;
                }
                *p = urb->next;
        }
        complete(camera, urb, -ENOENT, moved);
        return true;
}

void sim_camera_bus_reset(struct sim_camera *camera)
{
        if (!camera->connected)
                return;
        sim_trace(camera, "bus reset");
        flush(camera, -ESHUTDOWN);
        if (camera->crashed)
                return;
        if (camera->job.active && !camera->job.background) {
                camera->reset_pending = true;
                return;
        }
        camera->personality->bus_reset(camera);
        camera->configuration = 0;
}

void sim_camera_reset(struct sim_camera *camera, bool forced)
{
        if (camera->mode != SIM_RUNTIME || camera->crashed)
                return;
        sim_trace(camera, forced ? "reset into the bootloader" : "reset");
        camera->bootloader.forced = forced;
        sim_leave(camera, sim_boot_from_reset);
}

void sim_camera_heard(struct sim_camera *camera, size_t bytes)
{
        camera->counters.serial_bytes += bytes;
}

void sim_camera_runtime_version(const struct sim_camera *camera, unsigned version[static 3])
{
        bool old = !camera->config.vendor_37c5_runtime;

        /* The old ids are those of v4.5.9 and before (runtime-protocol.md section 1). */
        if (sscanf(camera->runtime_version, "%u.%u.%u", &version[0], &version[1], &version[2]) == 3 &&
            (!old || version[0] < 4 || (version[0] == 4 && version[1] <= 5)))
                return;
        version[0] = old ? 4 : 5;
        version[1] = old ? 5 : 0;
        version[2] = old ? 9 : 0;
}

/* --- a hand --- */

static void on_power_up(struct sim_camera *camera)
{
        sim_boot_from_reset(camera);
}

void sim_camera_plug(struct sim_camera *camera)
{
        if (camera->powered)
                return;
        camera->powered = true;
        camera->mode = SIM_SILENT;
        camera->counters.plugs++;
        camera->bootloader.forced = false;
        sim_trace(camera, "plugged%s", camera->jumper ? ", BOOT0 high" : "");
        sim_timer_set(&camera->boot_timer, TIME_POWER_ON, on_power_up);
}

void sim_camera_unplug(struct sim_camera *camera)
{
        if (!camera->powered)
                return;
        sim_trace(camera, "unplugged");
        sim_flash_power_lost(camera);
        camera->job.tear = false;
        camera->powered = false;
        stop(camera);
}

void sim_camera_set_jumper(struct sim_camera *camera, bool boot0)
{
        camera->jumper = boot0;
}

bool sim_camera_jumper(const struct sim_camera *camera)
{
        return camera->jumper;
}

enum sim_mode sim_camera_mode(const struct sim_camera *camera)
{
        return camera->mode;
}

bool sim_camera_is_powered(const struct sim_camera *camera)
{
        return camera->powered;
}

bool sim_camera_is_pending(const struct sim_camera *camera)
{
        switch (camera->mode) {
        case SIM_BOOTLOADER:
                return camera->bootloader.pending &&
                       (camera->bootloader.state == STATE_DNLOAD_SYNC || camera->bootloader.state == STATE_MANIFEST_SYNC);
        case SIM_ROM_DFU:
                return camera->rom.pending && (camera->rom.state == STATE_DNLOAD_SYNC || camera->rom.state == STATE_MANIFEST_SYNC);
        default:
                return false;
        }
}

/* --- birth and death --- */

void sim_config_default(struct sim_config *config, enum sim_board board, unsigned seed)
{
        uint64_t x = sim_mix(seed * UINT64_C(1000003) + 17);

        *config = (struct sim_config){
                .name = sim_board_name(board),
                .board = board,
                .bootloader = SIM_BL_1_0_3,
                .flash_speed = 1, .usb_speed = 1, .window_scale = 1,
                .erase_factor = 1, .program_factor = 1, .erase_unit_scale = 1,
                .vendor_37c5_runtime = true,
                .rom_mass_erase_works = true,
        };
        /* As ST makes them: wafer X and Y, wafer number, seven characters of the lot (b1 = b3 = 0). */
        config->uid[0] = (uint8_t)(x % 0x60 + 1);
        config->uid[2] = (uint8_t)(x / 0x60 % 0x60 + 1);
        config->uid[4] = (uint8_t)((x >> 16) % 25 + 1);
        for (size_t i = 5; i < 12; i++)
                config->uid[i] = (uint8_t)('0' + (x >> (16 + 5 * (i - 4))) % 10);
        switch (sim_board_data[board].chip) {
        case SIM_F427:
                config->f4_first_dfu_error = true;
                /* A foreign device may get another chip; this one matters to an H743 only. */
                config->h743_rev_v = board == SIM_FOREIGN;
                break;
        case SIM_H743:
                config->h743_rev_v = true;
                config->rom_leave_mute = true;
                config->rom_mass_erase_works = false;
                break;
        case SIM_CHIP_BY_BOARD:
        case SIM_F765:
        case SIM_N657:
        case SIM_ALIF:
                break;
        }
}

int sim_camera_new(const struct sim_host *host, void *fe, const struct sim_config *config, struct sim_camera **ret)
{
        struct sim_camera *camera;
        int r;

        if ((unsigned)config->board >= _SIM_BOARD_MAX)
                return -EINVAL;
        camera = calloc(1, sizeof(*camera));
        if (!camera)
                return -ENOMEM;
        camera->host = host;
        camera->fe = fe;
        camera->config = *config;
        camera->chip = sim_board_data[config->board].chip;
        if (config->board == SIM_FOREIGN && config->chip != SIM_CHIP_BY_BOARD)
                camera->chip = config->chip;
        if (config->board == SIM_FOREIGN)
                camera->jumper = true;          /* sits in its ROM: that is all it is here for */
        camera->read_protected = config->rom_read_protected;
        snprintf(camera->name, sizeof(camera->name), "%s", config->name ? config->name : sim_board_name(config->board));
        camera->config.name = camera->name;
        for (size_t i = 0; i < sizeof(config->uid); i++)
                camera->seed = sim_mix(camera->seed + config->uid[i] + 1);
        for (struct timer_slot *slot = &camera->boot_timer; slot <= &camera->leave_timer; slot++)
                slot->camera = camera;
        r = sim_flash_init(camera);
        if (r < 0) {
                sim_camera_free(camera);
                return r;
        }
        *ret = camera;
        return 0;
}

struct sim_camera *sim_camera_free(struct sim_camera *camera)
{
        if (!camera)
                return NULL;
        sim_camera_unplug(camera);
        flush(camera, -ESHUTDOWN);
        sim_timer_clear(&camera->pump_timer);
        sim_camera_clear_faults(camera);
        sim_flash_deinit(camera);
        free(camera);
        return NULL;
}

/* --- looking at it --- */

size_t sim_camera_partitions(const struct sim_camera *camera, const struct sim_partition **ret)
{
        struct sim_camera *c = (struct sim_camera *)camera;     /* the answer is kept in the camera */
        struct image_info info = find_bootloader(camera);
        struct partition_data partitions[PARTITIONS_MAX];
        size_t n;

        if (info.kind == IMAGE_NONE) {
                info.board = camera->config.board;
                info.bootloader = camera->config.bootloader;
        }
        n = scaled_layout(camera, info.board, info.bootloader, partitions);
        for (size_t i = 0; i < n; i++)
                c->partitions[i] = (struct sim_partition){
                        .name = partitions[i].name, .start = partitions[i].start, .limit = partitions[i].limit,
                        .read_only = partitions[i].read_only, .external = partitions[i].external,
                };
        *ret = c->partitions;
        return n;
}

int sim_camera_bootloader_image(const struct sim_camera *camera, enum sim_bootloader bootloader, bool padded, uint8_t **ret, size_t *ret_size)
{
        const struct board_data *board = &sim_board_data[camera->config.board];
        struct partition_data partitions[PARTITIONS_MAX];
        const struct memory *memory = boot_memory(camera, board);

        if (scaled_layout(camera, camera->config.board, bootloader, partitions) == 0)
                return -EINVAL;
        return sim_image_bootloader_of(camera->config.board, bootloader, partitions[0].limit - partitions[0].start,
                                       padded ? sim_flash_scale(memory, board->firmware_start) - memory->start : 0, ret, ret_size);
}

void sim_camera_install_bootloader(struct sim_camera *camera)
{
        _cleanup_free_ uint8_t *image = NULL;
        const struct board_data *board = &sim_board_data[camera->config.board];
        size_t size;

        if (sim_camera_bootloader_image(camera, camera->config.bootloader, /* padded= */ false, &image, &size) < 0)
                return;
        (void)sim_camera_flash_poke(camera, board->bootloader_external, boot_memory(camera, board)->start, image, size);
}

void sim_camera_counters(const struct sim_camera *camera, struct sim_counters *ret)
{
        *ret = camera->counters;
}

void sim_camera_reset_counters(struct sim_camera *camera)
{
        struct sim_counters old = camera->counters;

        camera->counters = (struct sim_counters){
                .configured_at_us = old.configured_at_us, .first_transfer_at_us = old.first_transfer_at_us,
                .first_upload_at_us = old.first_upload_at_us,
        };
        for (size_t m = 0; m < ELEMENTSOF(camera->memories); m++)
                for (size_t i = 0; i < camera->memories[m].n_units; i++)
                        camera->memories[m].units[i].erases = camera->memories[m].units[i].programmed = 0;
}

void sim_camera_quiet(struct sim_camera *camera, bool quiet)
{
        camera->quiet = quiet;
}
