/* SPDX-License-Identifier: MIT */
/*
 * Requests that are sent ahead of their turn: a whole recovery of a bootloader,
 * and at each of its transfers each thing that can happen to it, with requests
 * queued behind.  Someone watches what is submitted: no block is sent, and none
 * committed, while it is not known what became of the request before.
 *
 * LOOKAHEAD_ALL=1 takes every transfer of the real geometries, too.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "protocol/dfu.h"
#include "unit/lab.h"
#include "unit/loop-virtual.h"
#include "unit/watcher.h"

#define PORT "3-1.2"
#define BLOCK 4096
#define HE_SIZE (2 * BLOCK + 100)
#define OLD "4.8.1"
#define NEW "5.0.0"

struct geometry {
        const char *name;
        enum sim_board board;
        bool toy;
        size_t size;                    /* of the image */
        size_t cut, cut_end;            /* where the old one was cut off, and the end of that unit; both 0: it is whole */
        unsigned stride;
};

/* AE3: MRAM, one unit per block, and the window opens with block 0.  M7: a unit of 32 blocks and one of 64. */
static const struct geometry geometries[] = {
        { "toy", SIM_OPENMV3, true, 8 * BLOCK + 1000, 3 * BLOCK + 100, 6 * BLOCK, 1 },
        { "M7", SIM_OPENMV3, false, 34 * BLOCK + 100, 5000, 32 * BLOCK, 13 },
        { "AE3", SIM_OPENMV_AE3, false, 9 * BLOCK + 100, 0, 0, 1 },
};

struct bench {
        const struct geometry *geometry;
        struct lab *lab;
        struct lab_camera *camera;
        struct lab_image *old, *new, *he;
        struct watcher watcher;
        unsigned act_at;                /* the submission that is waited for */
};

/* --- a broken camera on a desk --- */

static const char *partition(const struct geometry *geometry)
{
        return geometry->board == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE";
}

/* It ran the old firmware, which was then cut off by somebody; its owner asks for the new one.  It is not plugged in. */
static void bench_init(struct bench *bench, const struct geometry *geometry)
{
        size_t n = geometry->cut_end - geometry->cut;
        _cleanup_free_ uint8_t *blank = malloc(n + 1);
        struct sim_config config;

        *bench = (struct bench){ .geometry = geometry, .lab = lab_new() };
        sim_config_default(&config, geometry->board, 7);
        if (geometry->toy)
                config.erase_unit_scale = 1.0 / 16;
        bench->camera = lab_camera_from(bench->lab, &config);
        bench->old = lab_firmware(bench->lab, geometry->board, partition(geometry), OLD, 1, geometry->size);
        bench->new = lab_firmware(bench->lab, geometry->board, partition(geometry), NEW, 2, geometry->size);
        lab_import(bench->lab, bench->old);
        lab_import(bench->lab, bench->new);
        lab_install(bench->camera, bench->old);
        if (geometry->board == SIM_OPENMV_AE3) {
                /* A release is both.  This one stays as it is. */
                bench->he = lab_firmware(bench->lab, geometry->board, "HE", NEW, 3, HE_SIZE);
                lab_import(bench->lab, bench->he);
                lab_install(bench->camera, bench->he);
        }
        lab_plug_until_running(bench->camera, PORT);
        lab_unplug(bench->camera);
        lab_run(bench->lab, 2 * SEC);
        assert_non_null(blank);
        memset(blank, 0xff, n);
        assert_int_equal(sim_camera_partition_poke(bench->camera->sim, bench->old->partition, (uint32_t)geometry->cut, blank, n), 0);
        assert_int_equal(lab_ask_update(bench->camera, NEW), REQUEST_QUEUED);
        lab_reset_counters(bench->camera);
        watcher_init(&bench->watcher, bench->camera);
        usb_inproc_watch(bench->lab->host, watcher_watch, &bench->watcher);
}

static void bench_deinit(struct bench *bench)
{
        usb_inproc_watch(bench->lab->host, NULL, NULL);
        bench->lab = lab_free(bench->lab);
}

static bool is_over(void *userdata)
{
        const struct bench *bench = userdata;
        const struct camera *camera = lab_known(bench->camera);

        if (!camera || !camera->update || !update_is_open(camera->update))
                return true;
        switch (camera->state) {
        case CAMERA_OPENING:
        case CAMERA_EXAMINING:
        case CAMERA_UPDATING:
        case CAMERA_CONFIRMING:
        case CAMERA_PASSING:
        case CAMERA_BOOTING:
                return false;
        default:
                return camera->state != CAMERA_ABSENT || !sim_camera_is_powered(bench->camera->sim);
        }
}

/* No byte stands there that neither was there before, nor belongs there, nor is blank. */
static void expect_no_strange_byte(struct bench *bench, const char *what, unsigned k)
{
        _cleanup_free_ uint8_t *now = malloc(bench->new->size);

        assert_non_null(now);
        assert_int_equal(sim_camera_partition_read(bench->camera->sim, bench->new->partition, 0, now, bench->new->size), 0);
        for (size_t i = 0; i < bench->new->size; i++)
                if (now[i] != bench->new->data[i] && now[i] != bench->old->data[i] && now[i] != 0xff)
                        lab_fail(bench->lab, "%s at transfer %u: a byte that is nobody's at 0x%zx", what, k, i);
}

/* --- what may happen to a transfer --- */

struct trouble {
        const char *name;
        struct sim_fault fault;
        bool flash_torn;                /* half-written words are to be expected */
        bool refused;                   /* may look as if the flash could not be read */
        bool dies;                      /* may not be seen any more after it was verified */
};

static const struct trouble troubles[] = {
        { "nak", { .kind = SIM_FAULT_NAK } },
        { "stall", { .kind = SIM_FAULT_STALL } },
        { "io-error", { .kind = SIM_FAULT_ERROR, .error_code = EPROTO } },
        { "overflow", { .kind = SIM_FAULT_ERROR, .error_code = EOVERFLOW } },
        { "torn", { .kind = SIM_FAULT_TORN, .error_code = EPROTO } },
        { "torn-half", { .kind = SIM_FAULT_TORN, .error_code = EPROTO, .length = BLOCK / 2 } },
        { "answer-lost", { .kind = SIM_FAULT_TORN, .error_code = EPROTO, .length = SIZE_MAX } },
        { "empty", { .kind = SIM_FAULT_SHORT, .length = 0 } },
        { "short", { .kind = SIM_FAULT_SHORT, .length = 5 } },
        { "garbage", { .kind = SIM_FAULT_GARBAGE, .pattern = 0xff } },
        { "zeros", { .kind = SIM_FAULT_GARBAGE, .pattern = 0x00 } },
        { "dfu-error", { .kind = SIM_FAULT_GARBAGE, .pattern = 0x0a }, .refused = true },
        { "unplug-before", { .kind = SIM_FAULT_UNPLUG_BEFORE }, .dies = true },
        { "unplug-data", { .kind = SIM_FAULT_UNPLUG_DATA }, .dies = true },
        { "unplug-status", { .kind = SIM_FAULT_UNPLUG_STATUS }, .dies = true },
        { "unplug-flash", { .kind = SIM_FAULT_UNPLUG_FLASH }, .flash_torn = true, .dies = true },
        { "crash", { .kind = SIM_FAULT_CRASH }, .dies = true },
};

/* Plugs it in and out until it runs; fails if that is not soon, or if it runs with anything else. */
static void carry_through(struct bench *bench, const struct trouble *trouble, unsigned k, bool again)
{
        const struct update *update;

        for (int i = 0; i < 4; i++) {
                if (!loop_run_until(bench->lab->loop, is_over, bench, 120 * SEC))
                        lab_fail(bench->lab, "%s at transfer %u: no end in sight", trouble->name, k);
                lab_run(bench->lab, 3 * SEC);   /* what the flash is still about */
                if (!trouble->flash_torn)
                        expect_no_strange_byte(bench, trouble->name, k);
                update = lab_update(bench->camera);
                if (!update_is_open(update))
                        break;
                if (sim_camera_is_powered(bench->camera->sim)) {
                        /* It is tried again without a hand. */
                        lab_run(bench->lab, 60 * SEC);
                        if (!update_is_open(lab_update(bench->camera)))
                                continue;
                }
                if (sim_camera_is_powered(bench->camera->sim))
                        lab_replug(bench->camera);
                else
                        lab_plug(bench->camera, PORT);
        }
        update = lab_update(bench->camera);
        if (strcmp(update->record.outcome, "unreadable") == 0 && trouble->refused && !again) {
                /* The device said that it cannot be read, and a person is told so.  He tries again. */
                lab_expect_only_read(bench->camera);
                lab_unplug(bench->camera);
                lab_run(bench->lab, 2 * SEC);
                assert_int_equal(lab_ask_update(bench->camera, NEW), REQUEST_QUEUED);
                lab_plug(bench->camera, PORT);
                carry_through(bench, trouble, k, /* again= */ true);
        } else if (strcmp(update->record.outcome, "verified-not-seen") == 0 && trouble->dies) {
                lab_expect_flash(bench->camera, bench->new);
        } else if (strcmp(update->record.outcome, "done") == 0) {
                lab_expect_flash(bench->camera, bench->new);
                if (sim_camera_mode(bench->camera->sim) != SIM_RUNTIME)
                        lab_fail(bench->lab, "%s at transfer %u: done, and it does not run", trouble->name, k);
        } else
                lab_fail(bench->lab, "%s at transfer %u: %s, \"%s\" (%s)", trouble->name, k,
                         update_result_to_string(update->result), update->record.outcome, update->record.message);
}

static unsigned count_transfers(const struct geometry *geometry)
{
        struct bench bench;
        unsigned n;

        bench_init(&bench, geometry);
        lab_plug(bench.camera, PORT);
        lab_expect_done(bench.camera);
        n = (unsigned)lab_counters(bench.camera).transfers;
        bench_deinit(&bench);
        return n;
}

static void one_trouble(const struct geometry *geometry, const struct trouble *trouble, unsigned k, size_t queue, uint64_t latency)
{
        struct sim_fault fault = trouble->fault;
        struct bench bench;

        bench_init(&bench, geometry);
        usb_inproc_set_queue(bench.lab->host, queue);
        usb_inproc_set_latency(bench.lab->host, latency);
        fault.request_type = fault.request = -1;
        fault.skip = k;
        fault.count = 1;
        sim_camera_add_fault(bench.camera->sim, &fault);
        lab_plug(bench.camera, PORT);
        carry_through(&bench, trouble, k, /* again= */ false);
        bench_deinit(&bench);
}

static void every_trouble(const struct geometry *geometry, size_t queue, uint64_t latency)
{
        unsigned n = count_transfers(geometry), stride = getenv("LOOKAHEAD_ALL") ? 1 : geometry->stride;

        for (size_t i = 0; i < ELEMENTSOF(troubles); i++)
                for (unsigned k = (unsigned)i % stride; k < n; k += stride)
                        one_trouble(geometry, &troubles[i], k, queue, latency);
}

static void trouble_toy(void **state)
{
        every_trouble(&geometries[0], USB_QUEUE_MAX, 0);
}

static void trouble_toy_slow_host(void **state)
{
        every_trouble(&geometries[0], USB_QUEUE_MAX, 20 * MSEC);
}

static void trouble_toy_one_at_a_time(void **state)
{
        every_trouble(&geometries[0], 1, 0);
}

static void trouble_m7(void **state)
{
        every_trouble(&geometries[1], USB_QUEUE_MAX, MSEC);
}

static void trouble_ae3(void **state)
{
        every_trouble(&geometries[2], USB_QUEUE_MAX, MSEC);
}

/* --- a hand, a person, a daemon that dies: at each submission --- */

static bool is_submitted(void *userdata)
{
        const struct bench *bench = userdata;

        return bench->watcher.n_submitted >= bench->act_at;
}

/* Up to the k-th submission of the good path; false: it is not that long. */
static bool bench_until(struct bench *bench, const struct geometry *geometry, unsigned k)
{
        bench_init(bench, geometry);
        bench->act_at = k;
        lab_plug(bench->camera, PORT);
        return loop_run_until(bench->lab->loop, is_submitted, bench, 60 * SEC);
}

static const struct trouble hand = { .name = "unplugged by hand", .dies = true }, death = { .name = "the daemon dies" };

static void unplugged(void **state)
{
        struct bench bench;

        for (unsigned k = 1; bench_until(&bench, &geometries[0], k); k++) {
                lab_unplug(bench.camera);
                carry_through(&bench, &hand, k, /* again= */ false);
                bench_deinit(&bench);
        }
        bench_deinit(&bench);
}

/* Sessions are freed with what is in flight, and what is open is begun anew. */
static void killed(void **state)
{
        size_t in_flight_max = 0;
        struct bench bench;

        for (unsigned k = 1; bench_until(&bench, &geometries[0], k); k++) {
                in_flight_max = MAX(in_flight_max, bench.watcher.in_flight);
                lab_restart(bench.lab);
                carry_through(&bench, &death, k, /* again= */ false);
                bench_deinit(&bench);
        }
        bench_deinit(&bench);
        assert_int_equal(in_flight_max, USB_QUEUE_MAX);
}

/* Each erase unit is as it was, or as it was to be. */
static void expect_whole_units(struct bench *bench, const uint8_t *before, unsigned k)
{
        const struct sim_partition *p;
        size_t n = sim_camera_partitions(bench->camera->sim, &p);
        _cleanup_free_ uint8_t *now = malloc(bench->new->size);

        assert_non_null(now);
        assert_int_equal(sim_camera_partition_read(bench->camera->sim, bench->new->partition, 0, now, bench->new->size), 0);
        for (; n > 0 && strcmp(p->name, bench->new->partition) != 0; n--)
                p++;
        assert_true(n > 0);
        for (size_t at = 0; at < bench->new->size;) {
                uint32_t start, size;

                sim_camera_erase_unit(bench->camera->sim, p->external, p->start + (uint32_t)at, &start, &size);
                size = MIN(size, (uint32_t)(bench->new->size - at));
                if (memcmp(now + at, before + at, size) != 0 && memcmp(now + at, bench->new->data + at, size) != 0)
                        lab_fail(bench->lab, "cancelled at submission %u: half a unit at 0x%zx", k, at);
                at += size;
        }
}

static void cancelled(void **state)
{
        unsigned n_cancelled = 0, n_incomplete = 0;
        struct bench bench;

        for (unsigned k = 1;; k++) {
                _cleanup_free_ uint8_t *before = malloc(geometries[0].size);
                const struct update *update;

                assert_non_null(before);
                bench_init(&bench, &geometries[0]);
                assert_int_equal(sim_camera_partition_read(bench.camera->sim, bench.new->partition, 0, before, bench.new->size), 0);
                bench.act_at = k;
                lab_plug(bench.camera, PORT);
                if (!loop_run_until(bench.lab->loop, is_submitted, &bench, 60 * SEC))
                        break;
                (void)registry_cancel(bench.lab->registry, lab_update(bench.camera));
                if (!loop_run_until(bench.lab->loop, is_over, &bench, 60 * SEC))
                        lab_fail(bench.lab, "cancelled at submission %u, and no end in sight", k);
                lab_run(bench.lab, 20 * SEC);
                update = lab_update(bench.camera);
                expect_whole_units(&bench, before, k);
                if (update->result == UPDATE_DONE)
                        lab_expect_flash(bench.camera, bench.new);
                else if (update->result == UPDATE_CANCELLED) {
                        n_cancelled++;
                        /* Rule 15. */
                        if (sim_camera_mode(bench.camera->sim) != SIM_BOOTLOADER)
                                lab_fail(bench.lab, "cancelled at submission %u: released into garbage", k);
                        if (lab_counters(bench.camera).erases > 0)
                                n_incomplete++;
                } else
                        lab_fail(bench.lab, "cancelled at submission %u: %s, \"%s\"", k, update_result_to_string(update->result),
                                 update->record.outcome);
                bench_deinit(&bench);
        }
        bench_deinit(&bench);
        assert_true(n_cancelled > n_incomplete && n_incomplete > 0);
}

/* --- what was sent ahead is taken back --- */

static bool is_writing(void *userdata)
{
        const struct bench *bench = userdata;

        return bench->watcher.n_blocks >= bench->act_at;
}

/* A block that the flash did not take is found when it is read back, with two more reads under way. */
static void taken_back(void **state)
{
        static const uint64_t latencies[] = { 0, MSEC, 20 * MSEC };

        for (size_t i = 0; i < ELEMENTSOF(latencies); i++) {
                unsigned n_uploads, n_units = 2;
                struct sim_counters c;
                struct bench bench;

                bench_init(&bench, &geometries[1]);
                usb_inproc_set_latency(bench.lab->host, latencies[i]);
                bench.act_at = 10;
                lab_plug(bench.camera, PORT);
                assert_true(loop_run_until(bench.lab->loop, is_writing, &bench, 60 * SEC));
                n_uploads = (unsigned)lab_counters(bench.camera).upload;
                sim_camera_fail_flash(bench.camera->sim, false, 0x08020000, /* silently= */ true, 1);
                lab_expect_done(bench.camera);
                lab_expect_flash(bench.camera, bench.new);
                c = lab_counters(bench.camera);
                /* The unit once more: 32 blocks. */
                assert_int_equal(bench.watcher.n_blocks, 35 + 32);
                assert_int_equal(c.erases, n_units + 1);
                assert_int_equal(c.stalls, 0);
                assert_in_range(bench.watcher.n_cancelled, 0, USB_QUEUE_MAX - 1);
                if (latencies[i] == 0)
                        assert_true(bench.watcher.n_cancelled > 0);
                /* Up to the tenth block and two more; the other unit; then the first one again. */
                assert_in_range(c.upload - n_uploads, 10 + 3 + 32, 10 + 2 + 3 + 32);
                bench_deinit(&bench);
        }
}

/* Another one's window opens while this one reads ahead. */
static void gives_way(void **state)
{
        for (unsigned k = 1; k < 60; k += 3) {
                struct lab_camera *other;
                struct bench bench;

                bench_init(&bench, &geometries[1]);
                usb_inproc_watch(bench.lab->host, NULL, NULL);
                other = lab_camera_new(bench.lab, SIM_OPENMV3, 8);
                lab_install(other, bench.old);
                lab_plug_until_running(other, "3-1.3");
                assert_int_equal(lab_ask_update(other, NEW), REQUEST_QUEUED);
                lab_plug(bench.camera, PORT);
                lab_expect_state(bench.camera, CAMERA_OPENING, 10 * SEC);
                usb_inproc_set_delays(bench.lab->host, 0, 0);
                lab_unplug(other);
                lab_reset_counters(other);
                lab_run(bench.lab, k * MSEC);
                lab_plug(other, "3-1.3");
                lab_expect_done(bench.camera);
                lab_expect_done(other);
                lab_expect_flash(bench.camera, bench.new);
                lab_expect_flash(other, bench.new);
                assert_int_equal(lab_counters(other).windows_missed, 0);
                bench_deinit(&bench);
        }
}

/* --- the good path --- */

static void good_path(void **state)
{
        for (size_t i = 0; i < ELEMENTSOF(geometries); i++)
                for (size_t queue = 1; queue <= USB_QUEUE_MAX; queue++) {
                        bool one_block_units = geometries[i].board == SIM_OPENMV_AE3;
                        unsigned n_blocks = (unsigned)(geometries[i].size + BLOCK - 1) / BLOCK;
                        struct sim_counters c;
                        struct bench bench;

                        bench_init(&bench, &geometries[i]);
                        usb_inproc_set_queue(bench.lab->host, queue);
                        lab_plug(bench.camera, PORT);
                        lab_expect_done(bench.camera);
                        lab_expect_flash(bench.camera, bench.new);
                        c = lab_counters(bench.camera);
                        /* One more of each download is the manifest's; a status behind each selection. */
                        assert_int_equal(bench.watcher.n_blocks, n_blocks);
                        assert_int_equal(c.download, n_blocks + 1);
                        assert_int_equal(c.get_status, 2 * n_blocks + 2 + c.set_interface);
                        assert_int_equal(c.stalls, 0);
                        /* The two GETSTATUS; and reads of more than one block. */
                        assert_int_equal(bench.watcher.in_flight_max, one_block_units ? MIN(queue, (size_t)2) : queue);
                        assert_int_equal(bench.watcher.most_uploads, one_block_units ? 1 : queue);
                        bench_deinit(&bench);
                }
}

int main(int argc, char *argv[])
{
        const struct CMUnitTest tests[] = {
                { "/lookahead/good-path", good_path, NULL, NULL, NULL },
                { "/lookahead/trouble/toy", trouble_toy, NULL, NULL, NULL },
                { "/lookahead/trouble/toy-and-a-slow-host", trouble_toy_slow_host, NULL, NULL, NULL },
                { "/lookahead/trouble/toy-one-at-a-time", trouble_toy_one_at_a_time, NULL, NULL, NULL },
                { "/lookahead/trouble/M7", trouble_m7, NULL, NULL, NULL },
                { "/lookahead/trouble/AE3", trouble_ae3, NULL, NULL, NULL },
                { "/lookahead/unplugged-by-hand", unplugged, NULL, NULL, NULL },
                { "/lookahead/the-daemon-dies", killed, NULL, NULL, NULL },
                { "/lookahead/cancelled-at-a-unit's-end", cancelled, NULL, NULL, NULL },
                { "/lookahead/taken-back", taken_back, NULL, NULL, NULL },
                { "/lookahead/gives-way", gives_way, NULL, NULL, NULL },
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
