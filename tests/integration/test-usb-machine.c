/* SPDX-License-Identifier: MIT */

/*
 * io/usb.c with the distribution's libusb on a simulated machine: opening,
 * claims, requests and their ends, a cable pulled in mid-transfer, a device that
 * never answers beside others that do, and a hundred cameras at once.
 */

#include "io/usb.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "edge/device-monitor.h"
#include "integration/machine.h"

#define DEADLINE (30 * SEC)
#define PATIENCE (20 * SEC)             /* for what has to come; how soon is not the question */
#define N_CAMERAS 100
#define MEANWHILE 2                     /* uploads: one may have been under way */
#define FIRMWARE_ALT 2

/* --- the machine, in few words --- */

static struct machine_answer tell(enum machine_verb verb, const char *name, int value)
{
        struct machine_order order = { .verb = verb, .value = value };

        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        return machine_ask(&order);
}

/* In its bootloader for as long as a test takes, without firmware. */
static void make_camera(const char *name, unsigned seed)
{
        struct machine_order order = { .verb = MACHINE_CAMERA };

        sim_config_default(&order.config, SIM_OPENMV4, seed);
        order.config.usb_speed = 0;
        order.config.window_scale = 1000;
        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        assert_int_equal(machine_ask(&order).error, 0);
}

static struct machine_answer plug(const char *name)
{
        struct machine_answer answer = tell(MACHINE_PLUG, name, 0);

        assert_int_equal(answer.error, 0);
        return answer;
}

static void unplug(const char *name)
{
        (void)tell(MACHINE_UNPLUG, name, 0);
}

static void fault(const char *name, enum sim_fault_kind kind, int request_type, int request)
{
        struct machine_order order = {
                .verb = MACHINE_FAULT, .fault = { .kind = kind, .request_type = request_type, .request = request },
        };

        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        assert_int_equal(machine_ask(&order).error, 0);
}

static struct sim_counters counters(const char *name)
{
        return tell(MACHINE_COUNTERS, name, 0).counters;
}

/* --- the stage --- */

struct client {
        struct stage *stage;
        struct usb_opening *opening;
        struct usb_device *device;
        int open_error;
        unsigned n_opened, n_done;
        enum usb_result result;
        uint8_t data[USB_MAX_TRANSFER];
        size_t actual;
        unsigned more;                  /* uploads to do yet, one after the other */
        uint64_t seen_at, pinned_at;
};

struct stage {
        struct loop *loop;
        struct usb *usb;
        struct timer too_late;
        bool (*until)(struct stage *stage);
        struct client clients[N_CAMERAS];
        unsigned n_clients;
        struct device_monitor *monitor;
};

static void on_too_late(void *userdata)
{
        struct stage *stage = userdata;

        loop_exit(stage->loop, -ETIMEDOUT);
}

static unsigned next_seed;

static int stage_new(void **state)
{
        struct stage *stage = calloc(1, sizeof(*stage));

        assert_non_null(stage);
        assert_int_equal(loop_new(&stage->loop), 0);
        assert_int_equal(usb_new(stage->loop, &stage->usb), 0);
        for (size_t i = 0; i < N_CAMERAS; i++)
                stage->clients[i].stage = stage;
        timer_init(&stage->too_late, stage->loop, on_too_late, stage);
        timer_set(&stage->too_late, DEADLINE);
        *state = stage;
        return 0;
}

static void look(struct stage *stage)
{
        if (stage->until && stage->until(stage))
                loop_exit(stage->loop, 0);
}

static void wait_until(struct stage *stage, bool (*until)(struct stage *stage))
{
        if (until(stage))
                return;
        stage->until = until;
        assert_int_equal(loop_run(stage->loop), 0);
        stage->until = NULL;
}

static void on_turn(void *userdata)
{
        struct stage *stage = userdata;

        loop_exit(stage->loop, 0);
}

static void turn(struct stage *stage, uint64_t time)
{
        struct timer timer = { 0 };

        timer_init(&timer, stage->loop, on_turn, stage);
        timer_set(&timer, time);
        assert_int_equal(loop_run(stage->loop), 0);
        timer_deinit(&timer);
}

static void settle(struct stage *stage)
{
        do
                turn(stage, 1 * MSEC);
        while (loop_pending_work(stage->loop) > 0);
}

static int stage_free(void **state)
{
        struct stage *stage = *state;

        stage->monitor = device_monitor_free(stage->monitor);
        for (size_t i = 0; i < N_CAMERAS; i++) {
                stage->clients[i].opening = usb_opening_cancel(stage->clients[i].opening);
                stage->clients[i].device = usb_device_free(stage->clients[i].device);
        }
        settle(stage);
        stage->usb = usb_free(stage->usb);
        timer_deinit(&stage->too_late);
        stage->loop = loop_free(stage->loop);
        free(stage);
        return 0;
}

static void on_open(void *userdata, int error, struct usb_device *device)
{
        struct client *client = userdata;

        client->opening = NULL;
        client->open_error = error;
        client->device = device;
        client->n_opened++;
        look(client->stage);
}

static void begin_open(struct client *client, const char *node, uint64_t deadline)
{
        assert_int_equal(usb_open(client->stage->usb, node, 0, deadline, on_open, client, &client->opening), 0);
}

static bool first_opened(struct stage *stage)
{
        return !stage->clients[0].opening;
}

static int open_node(struct client *client, const char *node)
{
        struct stage *stage = client->stage;
        unsigned before = client->n_opened;

        begin_open(client, node, 5 * SEC);
        wait_until(stage, first_opened);
        assert_int_equal(client->n_opened, before + 1);
        return client->open_error;
}

static void on_done(void *userdata, enum usb_result result, const uint8_t *data, size_t actual);

static const struct usb_setup upload = { .request_type = 0xa1, .request = 2, .length = 64 };
static const struct usb_setup upload_all = { .request_type = 0xa1, .request = 2, .length = USB_MAX_TRANSFER };
static const struct usb_setup get_status = { .request_type = 0xa1, .request = 3, .length = 6 };

static void submit(struct client *client, const struct usb_setup *setup, uint64_t timeout)
{
        assert_int_equal(usb_submit(client->device, setup, NULL, timeout, on_done, client), 0);
}

static void on_done(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct client *client = userdata;

        client->n_done++;
        client->result = result;
        client->actual = actual;
        if (data)
                memcpy(client->data, data, actual);
        if (client->more > 0 && result == USB_OK) {
                client->more--;
                submit(client, &upload_all, PATIENCE);
        }
        look(client->stage);
}

static bool first_done(struct stage *stage)
{
        return stage->clients[0].n_done > 0;
}

static enum usb_result ask(struct client *client, const struct usb_setup *setup, uint64_t timeout)
{
        client->n_done = 0;
        submit(client, setup, timeout);
        wait_until(client->stage, first_done);
        return client->result;
}

/* A camera of its own for each test, plugged in, and its interface ours. */
static const char *attach(struct stage *stage)
{
        static char name[16];
        struct machine_answer answer;

        (void)snprintf(name, sizeof(name), "cam-%u", ++next_seed);
        make_camera(name, next_seed);
        answer = plug(name);
        assert_int_equal(open_node(&stage->clients[0], answer.node), 0);
        return name;
}

/* --- opening --- */

static void interface_claimed_by_another_is_busy(void **state)
{
        struct stage *stage = *state;
        struct client *client = &stage->clients[0];
        struct machine_answer answer;

        make_camera("busy", ++next_seed);
        answer = plug("busy");
        assert_int_equal(tell(MACHINE_HOLD, "busy", 1).error, 0);
        assert_int_equal(open_node(client, answer.node), -EBUSY);
        assert_int_equal(tell(MACHINE_HOLD, "busy", 0).error, 0);
        assert_int_equal(open_node(client, answer.node), 0);

        /* And by ourselves, too. */
        begin_open(&stage->clients[1], answer.node, 5 * SEC);
        while (stage->clients[1].opening)
                turn(stage, 1 * MSEC);
        assert_int_equal(stage->clients[1].open_error, -EBUSY);
        unplug("busy");
}

static void permission_that_comes_late(void **state)
{
        struct stage *stage = *state;
        struct machine_answer answer;

        make_camera("late", ++next_seed);
        answer = plug("late");
        assert_int_equal(tell(MACHINE_REFUSE_OPEN, "late", -EACCES).error, 0);
        assert_int_equal(open_node(&stage->clients[0], answer.node), -EACCES);
        assert_int_equal(tell(MACHINE_REFUSE_OPEN, "late", 0).error, 0);
        assert_int_equal(open_node(&stage->clients[0], answer.node), 0);
        unplug("late");
}

static void node_of_a_departed_device_is_not_there(void **state)
{
        struct stage *stage = *state;
        struct machine_answer answer;

        make_camera("departed", ++next_seed);
        answer = plug("departed");
        unplug("departed");
        assert_int_equal(open_node(&stage->clients[0], answer.node), -ENOENT);
}

static void opening_sends_one_request(void **state)
{
        struct stage *stage = *state;
        const char *name = attach(stage);
        struct sim_counters before = counters(name), after;

        assert_int_equal(before.get_configuration, 1);
        assert_int_equal(before.transfers, 1);

        /* Nor does closing send any, with an alternate setting chosen. */
        assert_int_equal(ask(&stage->clients[0], &(struct usb_setup){ .request_type = 0x01, .request = 11, .value = FIRMWARE_ALT }, PATIENCE),
                         USB_OK);
        assert_int_equal(ask(&stage->clients[0], &upload, PATIENCE), USB_OK);
        stage->clients[0].device = usb_device_free(stage->clients[0].device);
        settle(stage);
        after = counters(name);
        assert_int_equal(after.transfers, 3);
        assert_int_equal(after.set_interface, 1);
        assert_int_equal(tell(MACHINE_COUNTERS, name, 0).open_files, 0);
        unplug(name);
}

/* --- requests --- */

static void upload_brings_what_is_in_flash(void **state)
{
        struct stage *stage = *state;
        struct client *client = &stage->clients[0];
        struct machine_order order = { .verb = MACHINE_CAMERA, .value = 1 };
        struct machine_answer answer;

        sim_config_default(&order.config, SIM_OPENMV4, ++next_seed);
        order.config.usb_speed = 0;
        order.config.window_scale = 1000;
        (void)snprintf(order.name, sizeof(order.name), "whole");
        assert_int_equal(machine_ask(&order).error, 0);
        answer = plug("whole");
        assert_int_equal(open_node(client, answer.node), 0);
        assert_int_equal(ask(client, &(struct usb_setup){ .request_type = 0x01, .request = 11, .value = FIRMWARE_ALT }, PATIENCE), USB_OK);

        for (uint16_t block = 0; block < 3; block++) {
                struct usb_setup setup = upload_all;

                setup.value = block;
                order = (struct machine_order){ .verb = MACHINE_READ, .value = 4096, .offset = block * 4096U };
                (void)snprintf(order.name, sizeof(order.name), "whole");
                assert_int_equal(ask(client, &setup, PATIENCE), USB_OK);
                assert_int_equal(client->actual, 4096);
                answer = machine_ask(&order);
                assert_int_equal(answer.error, 0);
                assert_false(bytes_all(answer.data, 4096, 0xff));
                assert_memory_equal(client->data, answer.data, 4096);
        }
        unplug("whole");
}

static void stall_is_named(void **state)
{
        struct stage *stage = *state;
        const char *name = attach(stage);

        assert_int_equal(ask(&stage->clients[0], &(struct usb_setup){ .request_type = 0xa1, .request = 0x42, .length = 8 }, PATIENCE), USB_STALL);
        assert_int_equal(ask(&stage->clients[0], &get_status, PATIENCE), USB_OK);
        unplug(name);
}

static void silent_device_times_out_and_can_be_used_again(void **state)
{
        struct stage *stage = *state;
        const char *name = attach(stage);
        uint64_t begin = loop_now(stage->loop);

        fault(name, SIM_FAULT_NAK, -1, 3);
        assert_int_equal(ask(&stage->clients[0], &get_status, 50 * MSEC), USB_TIMEOUT);
        assert_true(loop_now(stage->loop) - begin >= 50 * MSEC);
        assert_int_equal(ask(&stage->clients[0], &upload, PATIENCE), USB_OK);
        assert_int_equal(tell(MACHINE_CLEAR_FAULTS, name, 0).error, 0);
        assert_int_equal(ask(&stage->clients[0], &get_status, PATIENCE), USB_OK);
        unplug(name);
}

static void cancelled_request_ends_as_such(void **state)
{
        struct stage *stage = *state;
        struct client *client = &stage->clients[0];
        const char *name = attach(stage);

        fault(name, SIM_FAULT_NAK, -1, 3);
        submit(client, &get_status, DEADLINE);
        usb_cancel(client->device);
        assert_int_equal(client->n_done, 0);
        wait_until(stage, first_done);
        assert_int_equal(client->result, USB_CANCELLED);
        assert_int_equal(ask(client, &upload, PATIENCE), USB_OK);
        unplug(name);
}

static void freed_in_flight_closes_silently(void **state)
{
        struct stage *stage = *state;
        struct client *client = &stage->clients[0];
        const char *name = attach(stage);

        fault(name, SIM_FAULT_NAK, -1, 3);
        submit(client, &get_status, DEADLINE);
        client->device = usb_device_free(client->device);
        do
                settle(stage);
        while (tell(MACHINE_COUNTERS, name, 0).open_files > 0);
        assert_int_equal(client->n_done, 0);
        unplug(name);
}

static void transfer_errors_are_named(void **state)
{
        static const struct { int error; enum usb_result expected; } errors[] = {
                { -EPROTO, USB_IO }, { -EILSEQ, USB_IO }, { -EOVERFLOW, USB_OVERFLOW }, { -ESHUTDOWN, USB_GONE }, { -EPIPE, USB_STALL },
        };
        struct stage *stage = *state;
        const char *name = attach(stage);

        for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
                struct machine_order order = {
                        .verb = MACHINE_FAULT,
                        .fault = { .kind = SIM_FAULT_ERROR, .request_type = -1, .request = 3, .count = 1, .error_code = errors[i].error },
                };

                (void)snprintf(order.name, sizeof(order.name), "%s", name);
                assert_int_equal(machine_ask(&order).error, 0);
                assert_int_equal(ask(&stage->clients[0], &get_status, PATIENCE), errors[i].expected);
        }
        unplug(name);
}

/* --- leaving --- */

static void cable_pulled_in_mid_transfer(void **state)
{
        struct stage *stage = *state;
        struct client *client = &stage->clients[0];
        const char *name = attach(stage);

        fault(name, SIM_FAULT_NAK, -1, 3);
        submit(client, &get_status, DEADLINE);
        unplug(name);
        wait_until(stage, first_done);
        assert_int_equal(client->result, USB_GONE);
        assert_int_equal(ask(client, &get_status, PATIENCE), USB_GONE);
}

static void departed_idle_device_costs_no_wakeup(void **state)
{
        struct stage *stage = *state;
        struct client *client = &stage->clients[0];
        const char *name = attach(stage);
        struct rusage before, after;

        assert_int_equal(ask(client, &get_status, PATIENCE), USB_OK);
        unplug(name);
        turn(stage, 10 * MSEC);
        assert_int_equal(getrusage(RUSAGE_THREAD, &before), 0);
        turn(stage, 200 * MSEC);
        assert_int_equal(getrusage(RUSAGE_THREAD, &after), 0);
        /* The timer itself is one. */
        assert_true(after.ru_nvcsw - before.ru_nvcsw <= 3);
        assert_int_equal(ask(client, &get_status, PATIENCE), USB_GONE);
}

/* --- many --- */

static bool second_opened(struct stage *stage)
{
        return !stage->clients[1].opening;
}

static bool third_done(struct stage *stage)
{
        return stage->clients[2].n_done > 0;
}

static bool first_has_no_more(struct stage *stage)
{
        return stage->clients[0].more == 0;
}

static void device_that_never_answers_delays_no_other(void **state)
{
        struct stage *stage = *state;
        struct client *client = &stage->clients[0], *deaf = &stage->clients[1], *mute = &stage->clients[2];
        struct machine_answer answer;
        const char *name;
        unsigned before;

        make_camera("mute", ++next_seed);
        answer = plug("mute");
        begin_open(mute, answer.node, 5 * SEC);
        while (mute->opening)
                turn(stage, 1 * MSEC);
        assert_int_equal(mute->open_error, 0);
        make_camera("deaf", ++next_seed);
        answer = plug("deaf");
        fault("mute", SIM_FAULT_NAK, -1, -1);
        fault("deaf", SIM_FAULT_NAK, -1, -1);
        name = attach(stage);

        /* One upload after the other, before, while and after another one's opening runs out, and its request. */
        client->more = UINT_MAX;
        client->n_done = 0;
        submit(client, &upload_all, PATIENCE);
        wait_until(stage, first_done);
        before = client->n_done;
        begin_open(deaf, answer.node, 500 * MSEC);
        wait_until(stage, second_opened);
        assert_int_equal(deaf->open_error, -ETIMEDOUT);
        assert_true(client->n_done > before + MEANWHILE);

        before = client->n_done;
        submit(mute, &get_status, 500 * MSEC);
        wait_until(stage, third_done);
        assert_int_equal(mute->result, USB_TIMEOUT);
        assert_true(client->n_done > before + MEANWHILE);

        client->more = 1000;
        wait_until(stage, first_has_no_more);
        client->n_done = 0;
        wait_until(stage, first_done);
        assert_int_equal(client->result, USB_OK);
        /* The thread that opens is still waiting, as long as the kernel does. */
        settle(stage);
        assert_int_equal(tell(MACHINE_COUNTERS, "deaf", 0).open_files, 0);
        unplug("deaf");
        unplug("mute");
        unplug(name);
}

static bool is_camera(void *userdata, uint16_t vendor, uint16_t product)
{
        return vendor == 0x37c5 && product == 0x9204;
}

static bool all_pinned(struct stage *stage)
{
        unsigned n = 0;

        for (unsigned i = 0; i < stage->n_clients; i++)
                n += stage->clients[i].pinned_at != 0;
        return n == N_CAMERAS;
}

static void on_pinned(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct client *client = userdata;

        assert_int_equal(result, USB_OK);
        assert_int_equal(actual, 64);
        client->pinned_at = loop_now(client->stage->loop);
        look(client->stage);
}

static void on_open_to_pin(void *userdata, int error, struct usb_device *device)
{
        struct client *client = userdata;

        client->opening = NULL;
        assert_int_equal(error, 0);
        client->device = device;
        assert_int_equal(usb_submit(device, &upload, NULL, PATIENCE, on_pinned, client), 0);
}

static void on_seen_to_pin(void *userdata, const struct sighting *sighting)
{
        struct stage *stage = userdata;
        struct client *client = &stage->clients[stage->n_clients++];

        assert_true(stage->n_clients <= N_CAMERAS);
        client->seen_at = sighting->seen_at;
        assert_int_equal(usb_open(stage->usb, sighting->node, 0, 5 * SEC, on_open_to_pin, client, &client->opening), 0);
}

static void on_gone(void *userdata, const char *port)
{
}

static void hundred_cameras_at_once_are_pinned(void **state)
{
        static const struct device_monitor_callbacks callbacks = {
                .is_interesting = is_camera, .on_seen = on_seen_to_pin, .on_gone = on_gone,
        };
        struct stage *stage = *state;
        uint64_t worst = 0, sum = 0, first = UINT64_MAX, last = 0;
        char name[16];

        assert_int_equal(device_monitor_new(stage->loop, &callbacks, stage, &stage->monitor), 0);
        assert_int_equal(device_monitor_start(stage->monitor), 0);
        for (unsigned i = 0; i < N_CAMERAS; i++) {
                struct machine_order order = { .verb = MACHINE_CAMERA };

                /* With USB as fast as it really is; that their real window is enough is what bench-pin measures, with nothing beside it. */
                sim_config_default(&order.config, SIM_OPENMV4, ++next_seed);
                order.config.window_scale = 3;
                (void)snprintf(order.name, sizeof(order.name), "many-%u", i);
                assert_int_equal(machine_ask(&order).error, 0);
        }
        assert_int_equal(tell(MACHINE_PLUG_ALL, "many-", 0).error, 0);
        wait_until(stage, all_pinned);

        for (unsigned i = 0; i < N_CAMERAS; i++) {
                struct client *client = &stage->clients[i];
                uint64_t took = client->pinned_at - client->seen_at;

                worst = MAX(worst, took);
                sum += took;
                first = MIN(first, client->seen_at);
                last = MAX(last, client->seen_at);
        }
        (void)fprintf(stderr, "# %u cameras seen within %.1f ms; from event to pinned %.2f ms on average, %.2f ms at worst\n",
                      N_CAMERAS, (double)(last - first) / 1e3, (double)sum / N_CAMERAS / 1e3, (double)worst / 1e3);
        for (unsigned i = 0; i < N_CAMERAS; i++) {
                (void)snprintf(name, sizeof(name), "many-%u", i);
                assert_int_equal(counters(name).windows_missed, 0);
                assert_int_equal(counters(name).upload, 1);
        }
}

#define ON_STAGE(name, fn) { name, fn, stage_new, stage_free, NULL }

static int test(void)
{
        const struct CMUnitTest tests[] = {
                ON_STAGE("/opening/interface-claimed-by-another-is-busy", interface_claimed_by_another_is_busy),
                ON_STAGE("/opening/permission-that-comes-late", permission_that_comes_late),
                ON_STAGE("/opening/node-of-a-departed-device-is-not-there", node_of_a_departed_device_is_not_there),
                ON_STAGE("/opening/sends-one-request-and-closing-none", opening_sends_one_request),
                ON_STAGE("/request/upload-brings-what-is-in-flash", upload_brings_what_is_in_flash),
                ON_STAGE("/request/stall-is-named", stall_is_named),
                ON_STAGE("/request/silent-device-times-out-and-can-be-used-again", silent_device_times_out_and_can_be_used_again),
                ON_STAGE("/request/cancelled-ends-as-such", cancelled_request_ends_as_such),
                ON_STAGE("/request/freed-in-flight-closes-silently", freed_in_flight_closes_silently),
                ON_STAGE("/request/transfer-errors-are-named", transfer_errors_are_named),
                ON_STAGE("/leaving/cable-pulled-in-mid-transfer", cable_pulled_in_mid_transfer),
                ON_STAGE("/leaving/idle-device-costs-no-wakeup", departed_idle_device_costs_no_wakeup),
                ON_STAGE("/many/device-that-never-answers-delays-no-other", device_that_never_answers_delays_no_other),
                ON_STAGE("/many/hundred-at-once-are-pinned", hundred_cameras_at_once_are_pinned),
        };

        return cmocka_run_group_tests_name("usb-machine", tests, NULL, NULL);
}

int main(void)
{
        return machine_run(test);
}
