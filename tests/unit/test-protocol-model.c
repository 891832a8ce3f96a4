/* SPDX-License-Identifier: MIT */

/*
 * The protocol machines against the simulated cameras, in virtual time: every
 * board read, written and released through its bootloader, every chip restored
 * through its ROM with every quirk, and every request of a write made to fail
 * in every way.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/loop.h"
#include "protocol/dfu.h"
#include "protocol/dfuse.h"
#include "unit/model-host.h"

/* --- driving a machine --- */

struct session {
        struct bench *bench;
        struct dfu dfu;
        struct dfuse dfuse;
        uint8_t *read;                  /* where chunks go; NULL: they are ignored */
        uint32_t read_base;
        size_t read_size;
};

static enum usb_result result_of(int r)
{
        switch (r) {
        case -EPIPE:
                return USB_STALL;
        case -ETIMEDOUT:
                return USB_TIMEOUT;
        case -ESHUTDOWN:
        case -ENODEV:
                return USB_GONE;
        case -EOVERFLOW:
                return USB_OVERFLOW;
        default:
                return r < 0 ? USB_IO : USB_OK;
        }
}

static void take_chunk(struct session *s, const struct machine_chunk *chunk)
{
        if (chunk->size == 0 || !s->read)
                return;
        assert_true(chunk->offset >= s->read_base && chunk->offset - s->read_base + chunk->size <= s->read_size);
        memcpy(s->read + (chunk->offset - s->read_base), chunk->data, chunk->size);
}

static struct machine_step drive(struct session *s, bool rom)
{
        struct machine *machine = rom ? &s->dfuse.machine : &s->dfu.machine;
        struct machine_step step = rom ? dfuse_next(&s->dfuse, NULL) : dfu_next(&s->dfu, NULL);

        for (unsigned n = 0;; n++) {
                uint8_t data[USB_MAX_TRANSFER];
                struct machine_reply reply = { 0 };
                uint64_t begun = s->bench->now;
                int r;

                assert_true(n < 100000);
                if (step.kind == MACHINE_WAIT) {
                        assert_true(rom);
                        bench_run(s->bench, step.wait);
                        step = dfuse_next(&s->dfuse, NULL);
                        continue;
                }
                if (step.kind != MACHINE_REQUEST)
                        return step;
                if (step.data)
                        memcpy(data, step.data, step.setup.length);
                r = bench_control(s->bench, step.setup.request_type, step.setup.request, step.setup.value, step.setup.index,
                                  data, step.setup.length, step.timeout);
                reply.result = result_of(r);
                if (r >= 0) {
                        reply.actual = (size_t)r;
                        if (step.setup.request_type & 0x80)
                                reply.data = data;
                }
                reply.elapsed = s->bench->now - begun;
                step = rom ? dfuse_next(&s->dfuse, &reply) : dfu_next(&s->dfu, &reply);
                take_chunk(s, &machine->chunk);
        }
}

#define assert_outcome(step, expected)                                                          \
        assert_string_equal(machine_outcome_to_string((step).outcome), machine_outcome_to_string(expected))

static struct machine_step dfu_do(struct session *s)
{
        return drive(s, false);
}

static struct machine_step rom_do(struct session *s)
{
        return drive(s, true);
}

static void session_begin(struct session *s, struct bench *bench)
{
        *s = (struct session){ .bench = bench };
        dfu_init(&s->dfu);
}

static void pin(struct session *s)
{
        dfu_begin_pin(&s->dfu);
        assert_outcome(dfu_do(s), MACHINE_OK);
}

static void select_alt(struct session *s, uint8_t alt)
{
        dfu_begin_select(&s->dfu, alt);
        assert_outcome(dfu_do(s), MACHINE_OK);
}

static uint8_t alt_of(struct bench *bench, const char *name, const struct sim_partition **ret)
{
        const struct sim_partition *partitions;
        size_t n = sim_camera_partitions(bench->camera, &partitions);

        for (size_t i = 0; i < n; i++)
                if (strcmp(partitions[i].name, name) == 0) {
                        if (ret)
                                *ret = &partitions[i];
                        return (uint8_t)i;
                }
        fail_msg("no partition %s", name);
        abort();
}

static const char *firmware_name(enum sim_board board)
{
        return board == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE";
}

/* Reads through the machine, and what is said to be there. */
static void assert_reads_as_flash(struct session *s, const struct sim_partition *p, uint32_t offset, uint32_t size)
{
        _cleanup_free_ uint8_t *got = malloc(size), *there = malloc(size);

        assert_true(got && there);
        memset(got, 0xcc, size);
        s->read = got;
        s->read_base = offset;
        s->read_size = size;
        dfu_begin_read(&s->dfu, offset, size);
        assert_outcome(dfu_do(s), MACHINE_OK);
        s->read = NULL;
        assert_int_equal(s->dfu.machine.progress, size);
        assert_int_equal(sim_camera_partition_read(s->bench->camera, p->name, offset, there, size), 0);
        assert_memory_equal(got, there, size);
}

/* --- the OpenMV bootloader --- */

static void update_of(enum sim_board board)
{
        const char *name = firmware_name(board);
        struct bench *bench = bench_new(board, NULL);
        const struct sim_partition *p, *all;
        _cleanup_free_ uint8_t *image = NULL, *there = NULL;
        struct sim_counters counters;
        size_t size = sim_image_default_size(board) - 5, n, blocks = (size + DFU_BLOCK_SIZE - 1) / DFU_BLOCK_SIZE;
        struct session s;
        uint8_t alt;

        assert_int_equal(sim_image_firmware(board, "5.1.0", 2, size, &image), 0);
        there = malloc(size);
        assert_non_null(there);
        session_begin(&s, bench);
        bench_plug(bench, SIM_BOOTLOADER);
        pin(&s);
        bench_run(bench, 60 * SEC);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_BOOTLOADER);

        /* Whole partitions up to 4 MiB, and the last odd piece of the others. */
        n = sim_camera_partitions(bench->camera, &all);
        for (size_t i = 0; i < n; i++) {
                uint32_t room = all[i].limit - all[i].start;

                if (strcmp(all[i].name, "RECOVERY") == 0)
                        continue;
                select_alt(&s, (uint8_t)i);
                assert_reads_as_flash(&s, &all[i], room <= 4 << 20 ? 0 : room - 3 * DFU_BLOCK_SIZE,
                                      room <= 4 << 20 ? room : 3 * DFU_BLOCK_SIZE);
        }

        alt = alt_of(bench, name, &p);
        select_alt(&s, alt);
        sim_camera_reset_counters(bench->camera);
        dfu_begin_write(&s.dfu, 0, image, (uint32_t)size);
        assert_outcome(dfu_do(&s), MACHINE_OK);
        sim_camera_counters(bench->camera, &counters);
        assert_int_equal(counters.download, blocks);
        assert_int_equal(counters.get_status, 2 * blocks);
        assert_int_equal(counters.transfers, 3 * blocks);
        assert_int_equal(counters.stalls, 0);
        assert_int_equal(s.dfu.machine.progress, size);
        assert_int_equal(sim_camera_partition_read(bench->camera, name, 0, there, size), 0);
        assert_memory_equal(there, image, size);
        assert_reads_as_flash(&s, p, 0, (uint32_t)size);

        dfu_begin_manifest(&s.dfu);
        assert_outcome(dfu_do(&s), MACHINE_OK);
        assert_int_equal(sim_camera_mode(bench->camera), SIM_BOOTLOADER);
        dfu_begin_detach(&s.dfu);
        assert_outcome(dfu_do(&s), MACHINE_OK);
        assert_true(bench_wait(bench, SIM_RUNTIME, 10 * SEC));
        bench_free(bench);
}

static void every_board_is_updated_with_three_requests_per_block(void **state)
{
        for (int board = 0; board < SIM_FOREIGN; board++)
                update_of((enum sim_board)board);
}

static struct bench *bootloader_of(enum sim_board board, const struct sim_config *config, struct session *s)
{
        struct bench *bench = bench_new(board, config);

        session_begin(s, bench);
        bench_plug(bench, SIM_BOOTLOADER);
        pin(s);
        return bench;
}

static void every_bootloader_version_is_told_to_leave(void **state)
{
        static const enum sim_bootloader versions[] = { SIM_BL_1_0_0_OLD_LAYOUT, SIM_BL_1_0_0, SIM_BL_1_0_2, SIM_BL_1_0_3 };

        for (size_t i = 0; i < ELEMENTSOF(versions); i++) {
                struct sim_config config;
                struct bench *bench;
                struct session s;

                sim_config_default(&config, SIM_OPENMV3, 4);
                config.bootloader = versions[i];
                bench = bootloader_of(SIM_OPENMV3, &config, &s);
                dfu_begin_detach(&s.dfu);
                assert_outcome(dfu_do(&s), MACHINE_OK);
                assert_true(bench_wait(bench, SIM_RUNTIME, 10 * SEC));
                bench_free(bench);
        }
}

/* dfu.md A.5: a plain GETSTATUS would commit it. */
static void dead_hosts_block_is_never_committed(void **state)
{
        uint8_t garbage[DFU_BLOCK_SIZE], before[DFU_BLOCK_SIZE], after[DFU_BLOCK_SIZE];

        memset(garbage, 0x5a, sizeof(garbage));
        for (int way = 0; way < 3; way++) {
                struct bench *bench = bench_new(SIM_OPENMV4, NULL);
                struct sim_counters counters;
                struct session s;

                session_begin(&s, bench);
                bench_plug(bench, SIM_BOOTLOADER);
                pin(&s);
                assert_int_equal(bench_select(bench, alt_of(bench, "FIRMWARE", NULL)), 0);
                assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, before, sizeof(before)), 0);
                assert_int_equal(bench_out(bench, DFU_DNLOAD, 0, garbage, sizeof(garbage)), sizeof(garbage));
                sim_camera_reset_counters(bench->camera);

                /* a new host */
                session_begin(&s, bench);
                switch (way) {
                case 0:
                        pin(&s);
                        select_alt(&s, alt_of(bench, "FIRMWARE", NULL));
                        break;
                case 1:
                        select_alt(&s, alt_of(bench, "FIRMWARE", NULL));
                        break;
                case 2:
                        dfu_begin_recover(&s.dfu);
                        assert_outcome(dfu_do(&s), MACHINE_OK);
                        break;
                }
                assert_int_equal(bench_state(bench), DFU_STATE_IDLE);
                bench_run(bench, 5 * SEC);
                sim_camera_counters(bench->camera, &counters);
                assert_int_equal(counters.erases, 0);
                assert_int_equal(counters.programmed_bytes, 0);
                assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, after, sizeof(after)), 0);
                assert_memory_equal(before, after, sizeof(after));
                bench_free(bench);
        }
}

/* The daemon was killed over a sector erase, and comes back while the device is still deaf. */
static void device_that_is_deaf_over_a_dead_hosts_block_is_pinned(void **state)
{
        uint8_t block[DFU_BLOCK_SIZE], reply[6];
        struct session s;
        struct bench *bench = bootloader_of(SIM_OPENMV4, NULL, &s);

        memset(block, 0x11, sizeof(block));
        assert_int_equal(bench_select(bench, 2), 0);
        assert_int_equal(bench_out(bench, DFU_DNLOAD, 0, block, sizeof(block)), sizeof(block));
        assert_int_equal(bench_in(bench, DFU_GETSTATUS, 0, reply, 6), 6);
        session_begin(&s, bench);
        pin(&s);
        select_alt(&s, 2);
        bench_free(bench);
}

static void refusals_have_their_names_and_are_recovered_from(void **state)
{
        static uint8_t data[2 * DFU_BLOCK_SIZE];
        const struct sim_partition *p;
        struct session s;
        struct bench *bench = bootloader_of(SIM_OPENMV4, NULL, &s);
        struct machine_step step;
        uint8_t alt = alt_of(bench, "FIRMWARE", &p);
        uint32_t room = p->limit - p->start;

        /* the read-only bootloader */
        select_alt(&s, alt_of(bench, "BOOTLOADER", NULL));
        dfu_begin_write(&s.dfu, 0, data, sizeof(data));
        step = dfu_do(&s);
        assert_outcome(step, MACHINE_WRITE_REFUSED);
        assert_int_equal(step.status, DFU_STATUS_WRITE);
        dfu_begin_recover(&s.dfu);
        step = dfu_do(&s);
        assert_outcome(step, MACHINE_OK);
        assert_int_equal(step.status, DFU_STATUS_WRITE);

        /* beyond the partition */
        select_alt(&s, alt);
        dfu_begin_write(&s.dfu, room - DFU_BLOCK_SIZE, data, sizeof(data));
        assert_outcome(dfu_do(&s), MACHINE_ADDRESS_REFUSED);
        assert_int_equal(s.dfu.machine.progress, DFU_BLOCK_SIZE);
        dfu_begin_recover(&s.dfu);
        assert_outcome(dfu_do(&s), MACHINE_OK);
        dfu_begin_read(&s.dfu, room - DFU_BLOCK_SIZE, sizeof(data));
        assert_outcome(dfu_do(&s), MACHINE_ADDRESS_REFUSED);

        /* a unit that is worn out, once */
        sim_camera_fail_flash(bench->camera, false, p->start, false, 1);
        dfu_begin_write(&s.dfu, 0, data, sizeof(data));
        assert_outcome(dfu_do(&s), MACHINE_WRITE_REFUSED);
        dfu_begin_recover(&s.dfu);
        assert_outcome(dfu_do(&s), MACHINE_OK);
        dfu_begin_write(&s.dfu, 0, data, sizeof(data));
        assert_outcome(dfu_do(&s), MACHINE_OK);
        assert_reads_as_flash(&s, p, 0, sizeof(data));
        bench_free(bench);
}

/* Every request of select and write, failed in every way: it ends, in time, with a name; and the write done again holds. */
static void every_request_of_a_write_fails_in_every_way(void **state)
{
        static const enum sim_fault_kind kinds[] = {
                SIM_FAULT_STALL, SIM_FAULT_ERROR, SIM_FAULT_NAK, SIM_FAULT_SHORT, SIM_FAULT_GARBAGE, SIM_FAULT_UNPLUG_BEFORE,
                SIM_FAULT_UNPLUG_DATA, SIM_FAULT_UNPLUG_STATUS, SIM_FAULT_UNPLUG_FLASH, SIM_FAULT_CRASH,
        };
        enum { SIZE = 3 * DFU_BLOCK_SIZE - 7, REQUESTS = 2 + 3 * 3 };
        uint8_t data[SIZE], there[SIZE];
        unsigned failures = 0;

        for (size_t i = 0; i < SIZE; i++)
                data[i] = (uint8_t)(i * 13 + i / 251);
        for (size_t kind = 0; kind < ELEMENTSOF(kinds); kind++)
                for (unsigned k = 0; k < REQUESTS; k++) {
                        struct session s;
                        struct bench *bench = bootloader_of(SIM_OPENMV2, NULL, &s);
                        uint8_t alt = alt_of(bench, "FIRMWARE", NULL);
                        struct sim_fault fault = { .kind = kinds[kind], .request_type = -1, .request = -1, .skip = k, .count = 1,
                                                   .error_code = -EPROTO, .length = 3, .pattern = 0x77 };
                        struct machine_step step;
                        uint64_t begun = bench->now;

                        sim_camera_add_fault(bench->camera, &fault);
                        dfu_begin_select(&s.dfu, alt);
                        step = dfu_do(&s);
                        if (step.outcome == MACHINE_OK) {
                                dfu_begin_write(&s.dfu, 0, data, SIZE);
                                step = dfu_do(&s);
                        }
                        failures += step.outcome != MACHINE_OK;
                        assert_true(bench->now - begun < 25 * SEC);
                        assert_true(step.kind == MACHINE_DONE || step.kind == MACHINE_FAILED);
                        /* Acknowledged bytes are in flash, whatever came then. */
                        if (s.dfu.machine.progress > 0 && step.kind == MACHINE_FAILED && s.dfu.alt == alt) {
                                assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, there, SIZE), 0);
                                assert_memory_equal(there, data, s.dfu.machine.progress);
                        }
                        sim_camera_clear_faults(bench->camera);

                        if (sim_camera_mode(bench->camera) != SIM_BOOTLOADER || kinds[kind] == SIM_FAULT_CRASH) {
                                /* A hand plugs it in again, and a new session begins. */
                                sim_camera_unplug(bench->camera);
                                bench_run(bench, SEC);
                                bench_plug(bench, SIM_BOOTLOADER);
                                session_begin(&s, bench);
                                pin(&s);
                                select_alt(&s, alt);
                        } else if (s.dfu.alt == DFU_ALT_UNKNOWN)
                                select_alt(&s, alt);
                        else if (step.outcome != MACHINE_OK) {
                                dfu_begin_recover(&s.dfu);
                                assert_outcome(dfu_do(&s), MACHINE_OK);
                        }
                        dfu_begin_write(&s.dfu, 0, data, SIZE);
                        assert_outcome(dfu_do(&s), MACHINE_OK);
                        assert_int_equal(sim_camera_partition_read(bench->camera, "FIRMWARE", 0, there, SIZE), 0);
                        assert_memory_equal(there, data, SIZE);
                        bench_free(bench);
                }
        /* A short or garbled OUT transfer may be none at all; but most of these must have been felt. */
        assert_true(failures > REQUESTS * 8);
}

/* --- the ROM --- */

static void rom_open(struct session *s, struct bench *bench, enum sim_board board)
{
        bool h743 = board == SIM_OPENMV4 || board == SIM_OPENMV4P || board == SIM_OPENMVPT;

        *s = (struct session){ .bench = bench };
        assert_int_equal(dfuse_init(&s->dfuse, h743 || board == SIM_OPENMV_N6 ? 1024 : 2048, h743), 0);
}

static void rom_take(struct session *s)
{
        dfuse_begin_take(&s->dfuse);
        assert_outcome(rom_do(s), MACHINE_OK);
        assert_int_equal(bench_state(s->bench), DFU_STATE_IDLE);
}

static void rom_read(struct session *s, uint32_t address, uint8_t *data, uint32_t size)
{
        memset(data, 0xcc, size);
        s->read = data;
        s->read_base = address;
        s->read_size = size;
        dfuse_begin_read(&s->dfuse, address, size);
        assert_outcome(rom_do(s), MACHINE_OK);
        s->read = NULL;
}

/* The bootloader is put back: what a person with a jumper came for. */
static void restore_of(enum sim_board board, const struct sim_config *config)
{
        struct bench *bench = bench_new(board, config);
        uint32_t block = board == SIM_OPENMV2 || board == SIM_OPENMV3 ? 2048 : 1024;
        _cleanup_free_ uint8_t *program = NULL, *there = NULL, *junk = NULL;
        uint8_t peeked[DFUSE_READ_UNPROVEN_MAX], expected[DFUSE_READ_UNPROVEN_MAX];
        struct sim_counters counters;
        struct session s;
        size_t size;

        assert_int_equal(sim_image_bootloader(board, config->bootloader, false, &program, &size), 0);
        there = malloc(size);
        junk = malloc(size);
        assert_true(there && junk);
        memset(junk, 0x3c, size);
        assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08000000, junk, size), 0);
        bench_plug_with_jumper(bench);
        rom_open(&s, bench, board);

        sim_camera_reset_counters(bench->camera);
        rom_take(&s);
        s.read = peeked;
        s.read_base = 0x08000000;
        s.read_size = sizeof(peeked);
        dfuse_begin_peek(&s.dfuse, sizeof(peeked));
        assert_outcome(rom_do(&s), MACHINE_OK);
        s.read = NULL;
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000, expected, sizeof(expected)), 0);
        assert_memory_equal(peeked, expected, sizeof(peeked));
        sim_camera_counters(bench->camera, &counters);
        assert_int_equal(counters.download, 0);
        assert_int_equal(counters.upload_bytes, sizeof(peeked));

        for (uint32_t at = 0; at < size;) {
                uint32_t start, unit;

                sim_camera_erase_unit(bench->camera, false, 0x08000000 + at, &start, &unit);
                dfuse_begin_erase(&s.dfuse, start);
                assert_outcome(rom_do(&s), MACHINE_OK);
                at += unit;
        }
        sim_camera_reset_counters(bench->camera);
        dfuse_begin_write(&s.dfuse, 0x08000000, program, (uint32_t)size);
        assert_outcome(rom_do(&s), MACHINE_OK);
        sim_camera_counters(bench->camera, &counters);
        assert_int_equal(counters.clr_status, 0);
        if (!config->rom_busy_stalls && !config->rom_write_poll_ms) {
                uint64_t blocks = (size + block - 1) / block, pointers = size % block ? 2 : 1;

                /* Set Address once, and again for the short last block; three requests each. */
                assert_int_equal(counters.download, blocks + pointers);
                assert_int_equal(counters.get_status, 2 * (blocks + pointers));
        }
        rom_read(&s, 0x08000000, there, (uint32_t)size);
        assert_memory_equal(there, program, size);
        memset(there, 0, size);
        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000, there, size), 0);
        assert_memory_equal(there, program, size);

        dfuse_begin_leave(&s.dfuse, 0x08000000);
        assert_outcome(rom_do(&s), MACHINE_OK);
        assert_true(bench_wait(bench, SIM_BOOTLOADER, 10 * SEC));
        bench_free(bench);
}

static void every_bootloader_is_restored_whatever_the_quirk(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4, SIM_OPENMV4P, SIM_OPENMVPT };

        for (size_t b = 0; b < ELEMENTSOF(boards); b++)
                for (unsigned quirks = 0; quirks < 1 << 8; quirks++) {
                        struct sim_config config;

                        sim_config_default(&config, boards[b], 7);
                        config.f4_first_dfu_error ^= !!(quirks & 1 << 0);
                        config.rom_strict_clrstatus = quirks & 1 << 1;
                        config.rom_constant_stride = quirks & 1 << 2;
                        config.rom_stall_keeps_state = quirks & 1 << 3;
                        config.rom_busy_stalls = quirks & 1 << 4;
                        config.rom_leave_mute ^= !!(quirks & 1 << 5);
                        config.rom_write_poll_ms = quirks & 1 << 6 ? 100 : 0;
                        config.h743_rev_v ^= !!(quirks & 1 << 7);
                        restore_of(boards[b], &config);
                }
}

/* Quirk 3, from both sides of the boundary, with and without the defect. */
static void h743_bank_2_is_erased_and_written(void **state)
{
        for (int defect = 0; defect < 2; defect++)
                for (int strict = 0; strict < 2; strict++) {
                        struct sim_config config;
                        struct bench *bench;
                        struct session s;

                        sim_config_default(&config, SIM_OPENMV4, 3);
                        config.h743_rev_v = defect;
                        config.rom_strict_clrstatus = strict;
                        bench = bench_new(SIM_OPENMV4, &config);
                        bench_plug_with_jumper(bench);
                        rom_open(&s, bench, SIM_OPENMV4);
                        rom_take(&s);
                        for (uint32_t address = 0x080e0000; address < 0x08160000; address += 0x20000) {
                                uint8_t data[3000], there[3000];
                                struct sim_counters counters;
                                uint64_t begun = bench->now;

                                memset(data, (int)(address >> 17), sizeof(data));
                                assert_int_equal(sim_camera_flash_poke(bench->camera, false, address, (uint8_t[]){ 1 }, 1), 0);
                                sim_camera_reset_counters(bench->camera);
                                dfuse_begin_erase(&s.dfuse, address);
                                assert_outcome(rom_do(&s), MACHINE_OK);
                                sim_camera_counters(bench->camera, &counters);
                                assert_int_equal(counters.erases, 1);
                                if (defect && address >= 0x08100000) {
                                        assert_int_equal(counters.clr_status, 2);
                                        assert_true(bench->now - begun >= 4 * SEC && bench->now - begun < 5 * SEC);
                                } else {
                                        assert_int_equal(counters.clr_status, 0);
                                        assert_true(bench->now - begun < 3 * SEC);
                                }
                                dfuse_begin_write(&s.dfuse, address, data, sizeof(data));
                                assert_outcome(rom_do(&s), MACHINE_OK);
                                rom_read(&s, address, there, sizeof(there));
                                assert_memory_equal(there, data, sizeof(data));
                        }
                        bench_free(bench);
                }
}

/* The longest erase of each chip, worn, answered and refused while busy (quirk 6). */
static void longest_erase_is_waited_for(void **state)
{
        static const struct { enum sim_board board; uint32_t address; } cases[] = {
                { SIM_OPENMV2, 0x080e0000 }, { SIM_OPENMV3, 0x08040000 }, { SIM_OPENMV4, 0x080e0000 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (int stalls = 0; stalls < 2; stalls++) {
                        struct sim_config config;
                        struct bench *bench;
                        uint8_t there[64];
                        struct session s;

                        sim_config_default(&config, cases[i].board, 9);
                        config.erase_factor = 2;
                        config.rom_busy_stalls = stalls;
                        bench = bench_new(cases[i].board, &config);
                        bench_plug_with_jumper(bench);
                        rom_open(&s, bench, cases[i].board);
                        assert_int_equal(sim_camera_flash_poke(bench->camera, false, cases[i].address, (uint8_t[]){ 1 }, 1), 0);
                        dfuse_begin_erase(&s.dfuse, cases[i].address);
                        assert_outcome(rom_do(&s), MACHINE_OK);
                        rom_read(&s, cases[i].address, there, sizeof(there));
                        for (size_t k = 0; k < sizeof(there); k++)
                                assert_int_equal(there[k], 0xff);
                        bench_free(bench);
                }
}

/* A dead host's erase waits to be carried out by the next GETSTATUS. */
static void dead_hosts_command_is_never_carried_out(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4 };
        static const uint8_t mass_erase[] = { 0x41 }, erase[] = { 0x41, 0, 0, 0, 8 };

        for (size_t b = 0; b < ELEMENTSOF(boards); b++)
                for (int way = 0; way < 3; way++) {
                        struct bench *bench = bench_new(boards[b], NULL);
                        uint8_t peeked[64], expected[64];
                        struct sim_counters counters;
                        struct session s;

                        bench_plug_with_jumper(bench);
                        rom_open(&s, bench, boards[b]);
                        rom_take(&s);
                        if (way == 2) {
                                /* not even "leave" */
                                assert_true(bench_point(bench, 0x08000000).result == 6);
                                assert_int_equal(bench_out(bench, DFU_DNLOAD, 2, NULL, 0), 0);
                        } else
                                assert_true(bench_out(bench, DFU_DNLOAD, 0, way ? erase : mass_erase, way ? 5 : 1) > 0);
                        sim_camera_reset_counters(bench->camera);

                        rom_open(&s, bench, boards[b]);
                        dfuse_begin_peek(&s.dfuse, sizeof(peeked));
                        s.read = peeked;
                        s.read_base = 0x08000000;
                        s.read_size = sizeof(peeked);
                        assert_outcome(rom_do(&s), MACHINE_OK);
                        bench_run(bench, 60 * SEC);
                        assert_int_equal(sim_camera_mode(bench->camera), SIM_ROM_DFU);
                        sim_camera_counters(bench->camera, &counters);
                        assert_int_equal(counters.erases, 0);
                        assert_int_equal(counters.download, 0);
                        assert_int_equal(sim_camera_flash_read(bench->camera, false, 0x08000000, expected, sizeof(expected)), 0);
                        assert_memory_equal(peeked, expected, sizeof(peeked));
                        bench_free(bench);
                }
}

static void wedge_of_a_dead_host_is_escaped(void **state)
{
        static const uint8_t erase[] = { 0x41, 0, 0, 0x12, 8 };
        struct bench *bench = bench_new(SIM_OPENMV4, NULL);
        uint8_t reply[6];
        struct session s;

        bench_plug_with_jumper(bench);
        rom_open(&s, bench, SIM_OPENMV4);
        rom_take(&s);
        assert_int_equal(bench_out(bench, DFU_DNLOAD, 0, erase, 5), 5);
        assert_int_equal(bench_in(bench, DFU_GETSTATUS, 0, reply, 6), 6);
        assert_int_equal(reply[4], DFU_STATE_DNBUSY);
        rom_open(&s, bench, SIM_OPENMV4);
        rom_take(&s);
        dfuse_begin_erase(&s.dfuse, 0x08000000);
        assert_outcome(rom_do(&s), MACHINE_OK);
        bench_free(bench);
}

static void read_protection_is_named_for_every_operation(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV3, SIM_OPENMV4 };
        static const uint8_t data[64];

        for (size_t b = 0; b < ELEMENTSOF(boards); b++) {
                struct sim_config config;
                struct sim_counters counters;
                struct bench *bench;
                struct session s;

                sim_config_default(&config, boards[b], 5);
                config.rom_read_protected = true;
                bench = bench_new(boards[b], &config);
                bench_plug_with_jumper(bench);
                rom_open(&s, bench, boards[b]);
                rom_take(&s);
                dfuse_begin_peek(&s.dfuse, 64);
                assert_outcome(rom_do(&s), MACHINE_PROTECTED);
                assert_int_equal(bench_state(bench), DFU_STATE_IDLE);
                dfuse_begin_read(&s.dfuse, 0x08000000, 64);
                assert_outcome(rom_do(&s), MACHINE_PROTECTED);
                dfuse_begin_erase(&s.dfuse, 0x08000000);
                assert_outcome(rom_do(&s), MACHINE_PROTECTED);
                dfuse_begin_write(&s.dfuse, 0x08000000, data, sizeof(data));
                assert_outcome(rom_do(&s), MACHINE_PROTECTED);
                rom_take(&s);
                sim_camera_counters(bench->camera, &counters);
                assert_int_equal(counters.erases, 0);
                assert_int_equal(counters.programmed_bytes, 0);
                bench_free(bench);
        }
}

/* Somebody's drone: read, and let go as it was found. */
static void foreign_chip_is_only_read(void **state)
{
        static const enum sim_chip chips[] = { SIM_F427, SIM_F765, SIM_H743 };

        for (size_t i = 0; i < ELEMENTSOF(chips); i++) {
                struct sim_config config;
                struct sim_counters counters;
                uint8_t peeked[1500], there[1500];
                struct bench *bench;
                struct session s;

                sim_config_default(&config, SIM_FOREIGN, 6);
                config.chip = chips[i];
                bench = bench_new(SIM_FOREIGN, &config);
                for (size_t k = 0; k < sizeof(there); k++)
                        there[k] = (uint8_t)(k * 3);
                assert_int_equal(sim_camera_flash_poke(bench->camera, false, 0x08000000, there, sizeof(there)), 0);
                bench_plug_with_jumper(bench);
                sim_camera_reset_counters(bench->camera);
                rom_open(&s, bench, chips[i] == SIM_H743 ? SIM_OPENMV4 : SIM_OPENMV2);
                s.read = peeked;
                s.read_base = 0x08000000;
                s.read_size = sizeof(peeked);
                dfuse_begin_peek(&s.dfuse, sizeof(peeked));
                assert_outcome(rom_do(&s), MACHINE_OK);
                assert_memory_equal(peeked, there, sizeof(there));
                sim_camera_counters(bench->camera, &counters);
                assert_int_equal(counters.download, 0);
                assert_int_equal(counters.erases + counters.programmed_bytes, 0);
                assert_true(counters.upload_bytes <= DFUSE_READ_UNPROVEN_MAX);
                assert_int_equal(counters.stalls, 0);
                assert_int_equal(bench_state(bench), DFU_STATE_IDLE);
                bench_free(bench);
        }
}

/* Its ROM programs no flash: refused, not broken. */
static void n6_rom_refuses_by_name(void **state)
{
        struct bench *bench = bench_new(SIM_OPENMV_N6, NULL);
        struct session s;

        bench_plug_with_jumper(bench);
        rom_open(&s, bench, SIM_OPENMV_N6);
        rom_take(&s);
        dfuse_begin_peek(&s.dfuse, 64);
        assert_outcome(rom_do(&s), MACHINE_STALLED);
        assert_int_equal(bench_state(bench), DFU_STATE_IDLE);
        bench_free(bench);
}

/* Every request of erase and write, failed in every way: it ends, in time, with a name; and done again it holds. */
static void every_request_of_a_rom_write_fails_in_every_way(void **state)
{
        static const enum sim_board boards[] = { SIM_OPENMV2, SIM_OPENMV4 };
        static const enum sim_fault_kind kinds[] = {
                SIM_FAULT_STALL, SIM_FAULT_ERROR, SIM_FAULT_NAK, SIM_FAULT_SHORT, SIM_FAULT_GARBAGE, SIM_FAULT_UNPLUG_BEFORE,
                SIM_FAULT_UNPLUG_DATA, SIM_FAULT_UNPLUG_STATUS, SIM_FAULT_UNPLUG_FLASH, SIM_FAULT_CRASH,
        };
        enum { SIZE = 5000, REQUESTS = 20 };
        uint8_t data[SIZE], there[SIZE];
        unsigned failures = 0;

        for (size_t i = 0; i < SIZE; i++)
                data[i] = (uint8_t)(i * 11 + i / 255);
        for (size_t b = 0; b < ELEMENTSOF(boards); b++)
                for (size_t kind = 0; kind < ELEMENTSOF(kinds); kind++)
                        for (unsigned k = 0; k < REQUESTS; k++) {
                                struct sim_fault fault = { .kind = kinds[kind], .request_type = -1, .request = -1, .skip = k,
                                                           .count = 1, .error_code = -EPROTO, .length = 3, .pattern = 0x77 };
                                struct bench *bench = bench_new(boards[b], NULL);
                                struct machine_step step;
                                struct session s;
                                uint64_t begun;

                                bench_plug_with_jumper(bench);
                                rom_open(&s, bench, boards[b]);
                                begun = bench->now;
                                sim_camera_add_fault(bench->camera, &fault);
                                dfuse_begin_erase(&s.dfuse, 0x08000000);
                                step = rom_do(&s);
                                if (step.outcome == MACHINE_OK) {
                                        dfuse_begin_write(&s.dfuse, 0x08000000, data, SIZE);
                                        step = rom_do(&s);
                                }
                                failures += step.outcome != MACHINE_OK;
                                assert_true(bench->now - begun < 30 * SEC);
                                assert_true(step.kind == MACHINE_DONE || step.kind == MACHINE_FAILED);
                                sim_camera_clear_faults(bench->camera);

                                if (sim_camera_mode(bench->camera) != SIM_ROM_DFU || kinds[kind] == SIM_FAULT_CRASH) {
                                        sim_camera_unplug(bench->camera);
                                        bench_run(bench, SEC);
                                        bench_plug(bench, SIM_ROM_DFU);
                                        rom_open(&s, bench, boards[b]);
                                }
                                dfuse_begin_erase(&s.dfuse, 0x08000000);
                                assert_outcome(rom_do(&s), MACHINE_OK);
                                dfuse_begin_write(&s.dfuse, 0x08000000, data, SIZE);
                                assert_outcome(rom_do(&s), MACHINE_OK);
                                rom_read(&s, 0x08000000, there, SIZE);
                                assert_memory_equal(there, data, SIZE);
                                bench_free(bench);
                        }
        assert_true(failures > ELEMENTSOF(boards) * REQUESTS * 6);
}

/* The strings that the model shows are those of the chips (the model makes them from its geometry). */
static void memory_maps_are_understood(void **state)
{
        static const struct { enum sim_board board; size_t n; uint32_t last_sector; } cases[] = {
                { SIM_OPENMV2, 6, 131072 }, { SIM_OPENMV3, 3, 262144 }, { SIM_OPENMV4, 1, 131072 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct bench *bench = bench_new(cases[i].board, NULL);
                struct dfuse_segment segments[DFUSE_SEGMENTS_MAX];
                uint8_t reply[255];
                char string[128], name[DFUSE_NAME_SIZE];
                size_t n, length = 0;
                int r;

                bench_plug_with_jumper(bench);
                /* alternate setting 0's string comes after manufacturer, product and serial */
                r = bench_control(bench, 0x80, 6, 0x0304, 0x0409, reply, sizeof(reply), SEC);
                assert_true(r > 2);
                for (int k = 2; k + 1 < r; k += 2)
                        string[length++] = (char)reply[k];
                string[length] = '\0';
                assert_int_equal(dfuse_parse_map(string, name, segments, &n), 0);
                assert_string_equal(name, "Internal Flash");
                assert_int_equal(n, cases[i].n);
                assert_int_equal(segments[0].address, 0x08000000);
                assert_int_equal(segments[n - 1].sector_size, cases[i].last_sector);
                bench_free(bench);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(every_board_is_updated_with_three_requests_per_block),
                cmocka_unit_test(every_bootloader_version_is_told_to_leave),
                cmocka_unit_test(dead_hosts_block_is_never_committed),
                cmocka_unit_test(device_that_is_deaf_over_a_dead_hosts_block_is_pinned),
                cmocka_unit_test(refusals_have_their_names_and_are_recovered_from),
                cmocka_unit_test(every_request_of_a_write_fails_in_every_way),
                cmocka_unit_test(every_bootloader_is_restored_whatever_the_quirk),
                cmocka_unit_test(h743_bank_2_is_erased_and_written),
                cmocka_unit_test(longest_erase_is_waited_for),
                cmocka_unit_test(dead_hosts_command_is_never_carried_out),
                cmocka_unit_test(wedge_of_a_dead_host_is_escaped),
                cmocka_unit_test(read_protection_is_named_for_every_operation),
                cmocka_unit_test(foreign_chip_is_only_read),
                cmocka_unit_test(n6_rom_refuses_by_name),
                cmocka_unit_test(every_request_of_a_rom_write_fails_in_every_way),
                cmocka_unit_test(memory_maps_are_understood),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
