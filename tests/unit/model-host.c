/* SPDX-License-Identifier: MIT */
/*
 * See model-host.h.  Time moves only inside bench_run(), bench_wait() and the
 * requests; timers of one instant fire in the order in which they were set.
 */

#include <assert.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "unit/model-host.h"

#define ENUMERATION_US 350000

struct bench_timer {
        uint64_t due;
        void (*fn)(void *);
        void *arg;
        struct bench_timer *next;
};

static uint64_t host_now(void *fe)
{
        return ((struct bench *)fe)->now;
}

static void *host_timer(void *fe, uint64_t delay, void (*fn)(void *), void *arg)
{
        struct bench *bench = fe;
        struct bench_timer *timer = calloc(1, sizeof(*timer)), **p = &bench->timers;

        assert(timer);
        *timer = (struct bench_timer){ .due = bench->now + delay, .fn = fn, .arg = arg };
        while (*p && (*p)->due <= timer->due)
                p = &(*p)->next;
        timer->next = *p;
        *p = timer;
        return timer;
}

static void host_cancel_timer(void *fe, void *handle)
{
        struct bench *bench = fe;

        for (struct bench_timer **p = &bench->timers; *p; p = &(*p)->next)
                if (*p == handle) {
                        *p = (*p)->next;
                        free(handle);
                        return;
                }
        fail_msg("a timer was cancelled that is not set");
}

struct pending {
        struct sim_urb urb;
        bool done, owned;
        int status;
        size_t actual;
};

static void on_enumerate(void *arg)
{
        struct bench *bench = arg;
        struct pending *pending = calloc(1, sizeof(*pending));

        assert(pending);
        bench->enumeration = NULL;
        pending->owned = true;
        pending->urb.fe_private = pending;
        pending->urb.setup[1] = 9;
        pending->urb.setup[2] = 1;
        sim_camera_quiet(bench->camera, true);
        sim_camera_submit(bench->camera, &pending->urb);
        sim_camera_quiet(bench->camera, false);
}

static void host_connected(void *fe, struct sim_camera *camera)
{
        struct bench *bench = fe;

        assert_false(bench->connected);
        bench->connected = true;
        bench->n_connects++;
        bench->connected_at = bench->now;
        if (bench->enumerate)
                bench->enumeration = host_timer(bench, ENUMERATION_US, on_enumerate, bench);
}

static void host_disconnected(void *fe, struct sim_camera *camera)
{
        struct bench *bench = fe;

        assert_true(bench->connected);
        bench->connected = bench->configured = false;
        bench->n_disconnects++;
        bench->disconnected_at = bench->now;
        if (bench->enumeration)
                host_cancel_timer(bench, bench->enumeration);
        bench->enumeration = NULL;
}

static void host_complete(void *fe, struct sim_urb *urb, int status, size_t actual)
{
        struct bench *bench = fe;
        struct pending *pending = urb->fe_private;

        assert_false(pending->done);
        bench->completions++;
        if (pending->owned) {
                bench->configured = status == 0 && bench->connected;
                free(pending);
                return;
        }
        pending->done = true;
        pending->status = status;
        pending->actual = actual;
}

static void host_trace(void *fe, struct sim_camera *camera, const char *line)
{
        fprintf(stderr, "# %s\n", line);
}

static const struct sim_host silent_host = {
        .now = host_now, .timer = host_timer, .cancel_timer = host_cancel_timer,
        .connected = host_connected, .disconnected = host_disconnected, .complete = host_complete,
}, tracing_host = {
        .now = host_now, .timer = host_timer, .cancel_timer = host_cancel_timer,
        .connected = host_connected, .disconnected = host_disconnected, .complete = host_complete, .trace = host_trace,
};

struct bench *bench_new(enum sim_board board, const struct sim_config *config)
{
        struct bench *bench = calloc(1, sizeof(*bench));
        _cleanup_free_ uint8_t *image = NULL;
        struct sim_config defaults;
        size_t size;

        assert(bench);
        if (!config) {
                sim_config_default(&defaults, board, 1);
                config = &defaults;
        }
        bench->now = 1000;
        bench->enumerate = true;
        assert_int_equal(sim_camera_new(getenv("BENCH_TRACE") ? &tracing_host : &silent_host, bench, config, &bench->camera), 0);
        if (board == SIM_FOREIGN)
                return bench;
        sim_camera_install_bootloader(bench->camera);
        size = config->erase_unit_scale < 1 ? 16384 : sim_image_default_size(board);
        assert_int_equal(sim_image_firmware(board, "5.0.0", 1, size, &image), 0);
        assert_int_equal(sim_camera_partition_poke(bench->camera, board == SIM_OPENMV_AE3 ? "HP" : "FIRMWARE", 0, image, size), 0);
        return bench;
}

struct bench *bench_free(struct bench *bench)
{
        if (!bench)
                return NULL;
        sim_camera_free(bench->camera);
        assert_null(bench->timers);
        free(bench);
        return NULL;
}

static bool step(struct bench *bench, uint64_t until)
{
        struct bench_timer *timer = bench->timers;

        if (!timer || timer->due > until)
                return false;
        bench->timers = timer->next;
        if (timer->due > bench->now)
                bench->now = timer->due;
        timer->fn(timer->arg);
        free(timer);
        return true;
}

void bench_run(struct bench *bench, uint64_t us)
{
        uint64_t until = bench->now + us;

        while (step(bench, until))
                ;
        bench->now = until;
}

bool bench_wait(struct bench *bench, enum sim_mode mode, uint64_t us)
{
        uint64_t until = bench->now + us;

        do {
                if (sim_camera_mode(bench->camera) == mode && (mode <= SIM_SILENT || bench->configured || !bench->enumerate))
                        return true;
        } while (step(bench, until));
        bench->now = until;
        return false;
}

void bench_plug(struct bench *bench, enum sim_mode mode)
{
        sim_camera_plug(bench->camera);
        assert_true(bench_wait(bench, mode, 10 * 1000000));
}

void bench_plug_with_jumper(struct bench *bench)
{
        sim_camera_set_jumper(bench->camera, true);
        bench_plug(bench, SIM_ROM_DFU);
}

int bench_control(struct bench *bench, uint8_t type, uint8_t request, uint16_t value, uint16_t index,
                  void *data, uint16_t length, uint64_t timeout)
{
        struct pending pending = { .urb = { .data = data, .setup = { type, request } } };
        uint64_t until = bench->now + timeout;

        pending.urb.fe_private = &pending;
        put_le16(pending.urb.setup + 2, value);
        put_le16(pending.urb.setup + 4, index);
        put_le16(pending.urb.setup + 6, length);
        sim_camera_submit(bench->camera, &pending.urb);
        assert_false(pending.done);
        while (!pending.done && step(bench, until))
                ;
        if (!pending.done) {
                bench->now = until;
                assert_true(sim_camera_cancel(bench->camera, &pending.urb));
                assert_true(pending.done);
                assert_int_equal(pending.status, -ENOENT);
                return -ETIMEDOUT;
        }
        return pending.status < 0 ? pending.status : (int)pending.actual;
}

int bench_out(struct bench *bench, uint8_t request, uint16_t value, const void *data, size_t size)
{
        return bench_control(bench, 0x21, request, value, 0, (void *)data, (uint16_t)size, 20000000);
}

int bench_in(struct bench *bench, uint8_t request, uint16_t value, void *data, size_t size)
{
        return bench_control(bench, 0xa1, request, value, 0, data, (uint16_t)size, 20000000);
}

struct bench_status bench_status(struct bench *bench)
{
        uint8_t reply[6] = { 0 };
        struct bench_status s = { .result = bench_in(bench, 3, 0, reply, 6) };

        s.status = reply[0];
        s.poll = get_le16(reply + 1) + reply[3] * 65536u;
        s.state = reply[4];
        return s;
}

int bench_state(struct bench *bench)
{
        uint8_t state = 0xff;
        int r = bench_in(bench, 5, 0, &state, 1);

        return r == 1 ? state : r;
}

int bench_select(struct bench *bench, uint8_t alt)
{
        return bench_control(bench, 0x01, 11, alt, 0, NULL, 0, 1000000);
}

struct bench_status bench_write(struct bench *bench, uint16_t block, const void *data, size_t size)
{
        struct bench_status s;

        assert_int_equal(bench_out(bench, 1, block, data, size), size);
        s = bench_status(bench);
        assert_status(s, 4, 0);
        return bench_status(bench);
}

static struct bench_status rom_command(struct bench *bench, uint8_t command, uint32_t address)
{
        uint8_t bytes[5] = { command };

        put_le32(bytes + 1, address);
        return bench_write(bench, 0, bytes, 5);
}

struct bench_status bench_point(struct bench *bench, uint32_t address)
{
        return rom_command(bench, 0x21, address);
}

struct bench_status bench_erase(struct bench *bench, uint32_t address)
{
        return rom_command(bench, 0x41, address);
}
