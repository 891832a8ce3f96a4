/* SPDX-License-Identifier: MIT */
/*
 * The in-process front end: sightings as udev would tell them, and io/usb.h
 * over the model, in virtual time.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/usb-inproc.h"
#include "unit/loop-virtual.h"

enum { DETACH, DNLOAD, UPLOAD, GETSTATUS };

struct stage {
        struct loop *loop;
        struct usb_inproc *host;
        struct usb *usb;
        struct usb_inproc_camera *camera;

        struct {
                bool added;
                uint64_t at;
                struct sighting sighting;
        } events[32];
        size_t n_events, n_expected;

        struct usb_opening *opening;
        struct usb_device *device;
        int open_error;
        unsigned n_opens;

        enum usb_result result;
        size_t actual;
        uint8_t data[4096];
        unsigned n_done;
        bool free_in_completion, resubmit_in_completion;
};

static void on_event(void *userdata, bool added, const struct sighting *sighting)
{
        struct stage *stage = userdata;

        assert_true(stage->n_events < ELEMENTSOF(stage->events));
        stage->events[stage->n_events].added = added;
        stage->events[stage->n_events].at = loop_now(stage->loop);
        stage->events[stage->n_events++].sighting = *sighting;
}

static struct usb_inproc_camera *add_camera(struct stage *stage, enum sim_board board, unsigned seed)
{
        struct usb_inproc_camera *camera;
        _cleanup_free_ uint8_t *image = NULL;
        size_t size = sim_image_default_size(board);
        struct sim_config config;

        sim_config_default(&config, board, seed);
        assert_int_equal(usb_inproc_camera_new(stage->host, &config, &camera), 0);
        sim_camera_install_bootloader(usb_inproc_sim(camera));
        assert_int_equal(sim_image_firmware(board, "5.0.0", seed, size, &image), 0);
        assert_int_equal(sim_camera_partition_poke(usb_inproc_sim(camera), "FIRMWARE", 0, image, size), 0);
        return camera;
}

static int setup(void **state)
{
        struct stage *stage = calloc(1, sizeof(*stage));

        assert_non_null(stage);
        assert_int_equal(loop_new(&stage->loop), 0);
        assert_int_equal(usb_inproc_new(stage->loop, &stage->host), 0);
        usb_inproc_on_event(stage->host, on_event, stage);
        assert_int_equal(usb_new(stage->loop, &stage->usb), 0);
        stage->camera = add_camera(stage, SIM_OPENMV3, 1);
        *state = stage;
        return 0;
}

static int teardown(void **state)
{
        struct stage *stage = *state;

        usb_device_free(stage->device);
        usb_free(stage->usb);
        usb_inproc_free(stage->host);
        loop_free(stage->loop);
        free(stage);
        return 0;
}

static bool event_came(void *userdata)
{
        struct stage *stage = userdata;

        return stage->n_events >= stage->n_expected;
}

static void wait_events(struct stage *stage, size_t n)
{
        stage->n_expected = n;
        assert_true(loop_run_until(stage->loop, event_came, stage, 30 * SEC));
}

static void plug(struct stage *stage)
{
        usb_inproc_port_plug(stage->camera, "3-1.2");
        wait_events(stage, stage->n_events + 1);
        assert_true(stage->events[stage->n_events - 1].added);
}

static const char *node(struct stage *stage)
{
        return stage->events[stage->n_events - 1].sighting.node;
}

static void on_open(void *userdata, int error, struct usb_device *device)
{
        struct stage *stage = userdata;

        stage->n_opens++;
        stage->open_error = error;
        stage->device = device;
        stage->opening = NULL;
}

static bool opened(void *userdata)
{
        return ((struct stage *)userdata)->n_opens > 0;
}

static int open_node(struct stage *stage, const char *path, uint64_t deadline)
{
        stage->n_opens = 0;
        assert_int_equal(usb_open(stage->usb, path, 0, deadline, on_open, stage, &stage->opening), 0);
        assert_int_equal(stage->n_opens, 0);
        assert_true(loop_run_until(stage->loop, opened, stage, 10 * SEC));
        assert_int_equal(stage->n_opens, 1);
        assert_true((stage->open_error == 0) == (stage->device != NULL));
        return stage->open_error;
}

static int submit(struct stage *stage, uint8_t type, uint8_t request, uint16_t value, const void *data, uint16_t length, uint64_t timeout);

static void on_done(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct stage *stage = userdata;

        stage->n_done++;
        stage->result = result;
        stage->actual = actual;
        if (data)
                memcpy(stage->data, data, actual);
        if (stage->free_in_completion)
                stage->device = usb_device_free(stage->device);
        if (stage->resubmit_in_completion && stage->n_done < 10)
                assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), 0);
}

static int submit(struct stage *stage, uint8_t type, uint8_t request, uint16_t value, const void *data, uint16_t length, uint64_t timeout)
{
        struct usb_setup setup_packet = { .request_type = type, .request = request, .value = value, .length = length };

        return usb_submit(stage->device, &setup_packet, data, timeout, on_done, stage);
}

static bool done(void *userdata)
{
        return ((struct stage *)userdata)->n_done > 0;
}

static enum usb_result control(struct stage *stage, uint8_t type, uint8_t request, uint16_t value, const void *data, uint16_t length, uint64_t timeout)
{
        stage->n_done = 0;
        assert_int_equal(submit(stage, type, request, value, data, length, timeout), 0);
        assert_int_equal(stage->n_done, 0);
        assert_true(loop_run_until(stage->loop, done, stage, 60 * SEC));
        assert_int_equal(stage->n_done, 1);
        return stage->result;
}

/* --- sightings --- */

static void test_a_life_in_sightings(void **state)
{
        struct stage *stage = *state;
        uint64_t began = loop_now(stage->loop), configured;
        const struct sighting *s = &stage->events[0].sighting;
        struct sim_counters c;

        plug(stage);
        assert_string_equal(s->port, "3-1.2");
        assert_string_equal(s->node, "/dev/bus/usb/003/002");
        assert_int_equal(s->vendor, 0x37c5);
        assert_int_equal(s->product, 0x9203);
        assert_int_equal(s->device, 0x0103);
        assert_int_equal(strlen(s->serial), 24);
        assert_string_equal(s->product_name, "OpenMV Camera (DFU Mode)");
        assert_int_equal(s->speed, 12);
        assert_int_equal(s->n_interfaces, 1);
        assert_false(s->has_mass_storage);
        assert_int_equal(s->n_alts, 4);
        assert_string_equal(s->alt_names[0], "BOOTLOADER");
        assert_string_equal(s->alt_names[2], "FIRMWARE");
        assert_string_equal(s->alt_names[3], "ROMFS0");
        assert_int_equal(s->transfer_size, 4096);
        assert_int_equal(s->seen_at, stage->events[0].at);
        assert_in_range(stage->events[0].at - began, 350 * MSEC, 450 * MSEC);
        sim_camera_counters(usb_inproc_sim(stage->camera), &c);
        configured = c.configured_at_us;
        assert_in_range(s->seen_at - configured, 1 * MSEC, 2 * MSEC);

        wait_events(stage, 3);
        assert_false(stage->events[1].added);
        assert_string_equal(stage->events[1].sighting.node, "/dev/bus/usb/003/002");
        assert_in_range(stage->events[1].at - configured, 1500 * MSEC, 1510 * MSEC);
        s = &stage->events[2].sighting;
        assert_true(stage->events[2].added);
        assert_string_equal(s->port, "3-1.2");
        assert_string_equal(s->node, "/dev/bus/usb/003/003");
        assert_int_equal(s->product, 0x1203);
        assert_true(s->has_mass_storage);
        assert_int_equal(s->n_interfaces, 3);
        assert_int_equal(s->n_alts, 0);
        sim_camera_counters(usb_inproc_sim(stage->camera), &c);
        assert_int_equal(c.transfers, 0);

        usb_inproc_port_unplug(stage->camera);
        wait_events(stage, 4);
        assert_false(stage->events[3].added);
}

static void test_another_port(void **state)
{
        struct stage *stage = *state;
        struct sighting found[4];

        plug(stage);
        assert_int_equal(usb_inproc_enumerate(stage->host, found, 4), 1);
        assert_string_equal(found[0].port, "3-1.2");
        usb_inproc_port_unplug(stage->camera);
        assert_int_equal(usb_inproc_enumerate(stage->host, found, 4), 0);
        usb_inproc_port_plug(stage->camera, "2-4");
        wait_events(stage, 3);
        assert_string_equal(stage->events[2].sighting.port, "2-4");
        assert_string_equal(stage->events[2].sighting.node, "/dev/bus/usb/002/002");
        assert_string_equal(stage->events[2].sighting.serial, stage->events[0].sighting.serial);
        assert_string_equal(usb_inproc_port_of(stage->camera), "2-4");
}

static void test_gone_before_enumerated(void **state)
{
        struct stage *stage = *state;

        usb_inproc_port_plug(stage->camera, "3-1");
        loop_advance(stage->loop, 200 * MSEC);
        usb_inproc_port_unplug(stage->camera);
        loop_advance(stage->loop, 10 * SEC);
        assert_int_equal(stage->n_events, 0);
        /* Configured, and gone before the event was out: both are told, in order. */
        usb_inproc_set_delays(stage->host, 100 * MSEC, 500 * MSEC);
        usb_inproc_port_plug(stage->camera, "3-1");
        loop_advance(stage->loop, 300 * MSEC);
        usb_inproc_port_unplug(stage->camera);
        wait_events(stage, 2);
        assert_true(stage->events[0].added);
        assert_false(stage->events[1].added);
}

static void test_slow_enumeration_misses_the_bootloader(void **state)
{
        struct stage *stage = *state;

        usb_inproc_set_delays(stage->host, 1100 * MSEC, MSEC);
        plug(stage);
        assert_int_equal(stage->events[0].sighting.product, 0x1203);
}

static void test_two_cameras(void **state)
{
        struct stage *stage = *state;
        struct usb_inproc_camera *other = add_camera(stage, SIM_OPENMV4, 2);

        sim_camera_set_jumper(usb_inproc_sim(other), true);
        usb_inproc_port_plug(stage->camera, "1-1");
        usb_inproc_port_plug(other, "1-2");
        wait_events(stage, 2);
        assert_string_not_equal(stage->events[0].sighting.node, stage->events[1].sighting.node);
        assert_int_equal(stage->events[1].sighting.vendor, 0x0483);
        assert_string_equal(stage->events[1].sighting.serial, "200364500000");
        assert_string_equal(stage->events[1].sighting.alt_names[0], "@Internal Flash   /0x08000000/16*128Kg");
        assert_int_equal(stage->events[1].sighting.transfer_size, 1024);
}

static void test_device_numbers_wrap(void **state)
{
        struct stage *stage = *state;
        char last[32] = "";

        usb_inproc_set_delays(stage->host, 0, 0);
        for (int i = 0; i < 130; i++) {
                stage->n_events = 0;
                plug(stage);
                assert_string_not_equal(stage->events[0].sighting.node, last);
                assert_string_not_equal(stage->events[0].sighting.node, "/dev/bus/usb/003/001");
                strcpy(last, stage->events[0].sighting.node);
                usb_inproc_port_unplug(stage->camera);
                wait_events(stage, 2);
        }
}

/* --- opening --- */

static void test_open_costs_one_transfer(void **state)
{
        struct stage *stage = *state;
        struct sim_counters c;

        plug(stage);
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
        assert_true(usb_inproc_is_open(stage->camera));
        sim_camera_counters(usb_inproc_sim(stage->camera), &c);
        assert_int_equal(c.transfers, 1);
        assert_int_equal(c.get_configuration, 1);
        stage->device = usb_device_free(stage->device);
        assert_false(usb_inproc_is_open(stage->camera));
        sim_camera_counters(usb_inproc_sim(stage->camera), &c);
        assert_int_equal(c.transfers, 1);
}

static void test_open_refused(void **state)
{
        struct stage *stage = *state;

        assert_int_equal(open_node(stage, "/dev/bus/usb/003/099", SEC), -ENOENT);
        plug(stage);
        usb_inproc_fail_open(stage->camera, -EACCES, 2);
        assert_int_equal(open_node(stage, node(stage), SEC), -EACCES);
        assert_int_equal(open_node(stage, node(stage), SEC), -EACCES);
        assert_int_equal(usb_inproc_claim(stage->camera, 0, true), 0);
        assert_int_equal(open_node(stage, node(stage), SEC), -EBUSY);
        assert_int_equal(usb_inproc_claim(stage->camera, 0, false), 0);
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
        assert_int_equal(usb_inproc_claim(stage->camera, 0, true), -EBUSY);
        stage->device = usb_device_free(stage->device);
        /* The claim of others ends with the attachment. */
        assert_int_equal(usb_inproc_claim(stage->camera, 0, true), 0);
        usb_inproc_port_unplug(stage->camera);
        wait_events(stage, 2);
        assert_int_equal(open_node(stage, stage->events[0].sighting.node, SEC), -ENOENT);
        plug(stage);
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
}

static void test_kernel_drivers_hold_the_runtime(void **state)
{
        struct stage *stage = *state;

        plug(stage);
        wait_events(stage, 3);
        assert_int_equal(open_node(stage, node(stage), SEC), -EBUSY);
}

static void test_open_of_a_device_that_naks(void **state)
{
        struct stage *stage = *state;
        uint64_t before;

        plug(stage);
        sim_camera_add_fault(usb_inproc_sim(stage->camera), &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = 0x80, .request = 8 });
        before = loop_now(stage->loop);
        assert_int_equal(open_node(stage, node(stage), 3 * SEC), 0);
        assert_int_equal(loop_now(stage->loop) - before, SEC);
        stage->device = usb_device_free(stage->device);
        assert_int_equal(open_node(stage, node(stage), 300 * MSEC), -ETIMEDOUT);
        loop_advance(stage->loop, 2 * SEC);
        assert_false(usb_inproc_is_open(stage->camera));
}

static void count(void *userdata)
{
        (*(unsigned *)userdata)++;
}

static void test_its_end_is_told(void **state)
{
        struct stage *stage = *state;
        unsigned n = 0;

        usb_watch_closed(stage->usb, count, &n);
        plug(stage);
        assert_false(usb_has_open(stage->usb, node(stage)));
        assert_int_equal(usb_open(stage->usb, node(stage), 0, SEC, on_open, stage, &stage->opening), 0);
        assert_true(usb_has_open(stage->usb, node(stage)));
        assert_false(usb_has_open(stage->usb, "/dev/bus/usb/009/009"));
        stage->n_opens = 0;
        assert_true(loop_run_until(stage->loop, opened, stage, SEC));
        assert_true(usb_has_open(stage->usb, node(stage)));
        assert_int_equal(n, 0);
        stage->device = usb_device_free(stage->device);
        loop_advance(stage->loop, SEC);
        assert_false(usb_has_open(stage->usb, node(stage)));
        assert_int_equal(n, 1);
        assert_int_equal(open_node(stage, "/dev/bus/usb/009/009", SEC), -ENOENT);
        assert_int_equal(n, 2);
        usb_watch_closed(stage->usb, NULL, NULL);
}

static void test_open_cancelled(void **state)
{
        struct stage *stage = *state;

        plug(stage);
        stage->n_opens = 0;
        assert_int_equal(usb_open(stage->usb, node(stage), 0, SEC, on_open, stage, &stage->opening), 0);
        stage->opening = usb_opening_cancel(stage->opening);
        loop_advance(stage->loop, 5 * SEC);
        assert_int_equal(stage->n_opens, 0);
        assert_false(usb_inproc_is_open(stage->camera));
}

static void test_unplugged_while_opening(void **state)
{
        struct stage *stage = *state;

        plug(stage);
        sim_camera_add_fault(usb_inproc_sim(stage->camera), &(struct sim_fault){ .kind = SIM_FAULT_UNPLUG_BEFORE, .request_type = 0x80, .request = 8, .count = 1 });
        assert_int_equal(open_node(stage, node(stage), SEC), -ENODEV);
}

/* --- requests --- */

static void open_bootloader(struct stage *stage)
{
        plug(stage);
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
}

static void test_pin_write_and_leave(void **state)
{
        struct stage *stage = *state;
        uint8_t block[4096], back[4096];

        open_bootloader(stage);
        memset(block, 0x42, sizeof(block));
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), USB_OK);
        assert_int_equal(stage->actual, 64);
        assert_int_equal(control(stage, 0x01, 11, 3, NULL, 0, SEC), USB_OK);
        assert_int_equal(control(stage, 0x21, DNLOAD, 0, block, 4096, SEC), USB_OK);
        assert_int_equal(stage->actual, 4096);
        assert_int_equal(control(stage, 0xa1, GETSTATUS, 0, NULL, 6, SEC), USB_OK);
        assert_int_equal(stage->data[4], 4);
        assert_int_equal(control(stage, 0xa1, GETSTATUS, 0, NULL, 6, 10 * SEC), USB_OK);
        assert_int_equal(stage->data[4], 5);
        assert_int_equal(sim_camera_partition_read(usb_inproc_sim(stage->camera), "ROMFS0", 0, back, 4096), 0);
        assert_memory_equal(back, block, 4096);
        assert_int_equal(control(stage, 0x21, DETACH, 1000, NULL, 0, SEC), USB_OK);
        wait_events(stage, 3);
        assert_int_equal(stage->events[2].sighting.product, 0x1203);
        /* What was opened is gone for good. */
        assert_int_equal(control(stage, 0xa1, GETSTATUS, 0, NULL, 6, SEC), USB_GONE);
}

static void test_results(void **state)
{
        struct stage *stage = *state;
        struct sim_camera *sim = usb_inproc_sim(stage->camera);
        uint64_t before;

        open_bootloader(stage);
        assert_int_equal(control(stage, 0xa1, 9, 0, NULL, 6, SEC), USB_STALL);
        sim_camera_add_fault(sim, &(struct sim_fault){ .kind = SIM_FAULT_ERROR, .request_type = -1, .request = -1, .count = 1, .error_code = EPROTO });
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), USB_IO);
        sim_camera_add_fault(sim, &(struct sim_fault){ .kind = SIM_FAULT_ERROR, .request_type = -1, .request = -1, .count = 1, .error_code = EOVERFLOW });
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), USB_OVERFLOW);
        sim_camera_add_fault(sim, &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = -1, .request = -1, .count = 2 });
        before = loop_now(stage->loop);
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, 700 * MSEC), USB_TIMEOUT);
        assert_int_equal(loop_now(stage->loop) - before, 700 * MSEC);
        stage->n_done = 0;
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), 0);
        loop_advance(stage->loop, 10 * MSEC);
        usb_cancel(stage->device);
        assert_int_equal(stage->n_done, 0);
        assert_true(loop_run_until(stage->loop, done, stage, SEC));
        assert_int_equal(stage->result, USB_CANCELLED);
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), USB_OK);
        /* Unplugged with a request in flight. */
        stage->n_done = 0;
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 4096, SEC), 0);
        loop_advance(stage->loop, MSEC);
        usb_inproc_port_unplug(stage->camera);
        assert_int_equal(stage->n_done, 0);
        assert_true(loop_run_until(stage->loop, done, stage, SEC));
        assert_int_equal(stage->result, USB_GONE);
}

static void test_misuse(void **state)
{
        struct stage *stage = *state;

        open_bootloader(stage);
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 4097, SEC), -EINVAL);
        assert_int_equal(submit(stage, 0x21, DNLOAD, 0, NULL, 16, SEC), -EINVAL);
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, 0), -EINVAL);
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), 0);
        for (size_t i = 1; i < USB_QUEUE_MAX; i++)
                assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), 0);
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), -EBUSY);
        loop_advance(stage->loop, SEC);
        assert_int_equal(stage->n_done, USB_QUEUE_MAX);
        usb_inproc_set_queue(stage->host, 1);
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), 0);
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), -EBUSY);
        loop_advance(stage->loop, SEC);
        assert_int_equal(stage->n_done, USB_QUEUE_MAX + 1);
}

static void test_completion_may_submit_and_free(void **state)
{
        struct stage *stage = *state;

        open_bootloader(stage);
        stage->resubmit_in_completion = true;
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), 0);
        loop_advance(stage->loop, SEC);
        assert_int_equal(stage->n_done, 10);
        stage->resubmit_in_completion = false;
        stage->free_in_completion = true;
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), 0);
        loop_advance(stage->loop, SEC);
        assert_int_equal(stage->n_done, 11);
        assert_null(stage->device);
        assert_false(usb_inproc_is_open(stage->camera));
}

static void test_freed_with_a_request_in_flight(void **state)
{
        struct stage *stage = *state;

        open_bootloader(stage);
        assert_int_equal(submit(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), 0);
        stage->device = usb_device_free(stage->device);
        loop_advance(stage->loop, 500 * MSEC);
        assert_int_equal(stage->n_done, 0);
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
}

/* --- several in flight --- */

struct ending {
        struct queue *queue;
        size_t index;                   /* of submission */
        enum usb_result result;
        size_t actual;
        uint8_t data[64];
        uint64_t at;
};

struct queue {
        struct stage *stage;
        struct ending endings[8];
        size_t n_submitted, n_ended;
        size_t free_at, submit_at;      /* within the completion with that number, from 1; 0: never */
};

static void enqueue(struct queue *queue, uint8_t request, uint16_t value, uint16_t length, uint64_t timeout);

static void on_ending(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct ending *ending = userdata;
        struct queue *queue = ending->queue;

        assert_int_equal(ending->index, queue->n_ended++);      /* in order */
        ending->result = result;
        ending->actual = actual;
        if (data)
                memcpy(ending->data, data, MIN(actual, sizeof(ending->data)));
        ending->at = loop_now(queue->stage->loop);
        if (queue->n_ended == queue->free_at)
                queue->stage->device = usb_device_free(queue->stage->device);
        if (queue->n_ended == queue->submit_at)
                enqueue(queue, GETSTATUS, 0, 6, SEC);
}

static void enqueue(struct queue *queue, uint8_t request, uint16_t value, uint16_t length, uint64_t timeout)
{
        struct usb_setup s = { .request_type = 0xa1, .request = request, .value = value, .length = length };
        struct ending *ending = &queue->endings[queue->n_submitted];
        size_t before = queue->n_ended;

        *ending = (struct ending){ .queue = queue, .index = queue->n_submitted++ };
        assert_int_equal(usb_submit(queue->stage->device, &s, NULL, timeout, on_ending, ending), 0);
        assert_int_equal(queue->n_ended, before);
}

static void test_queued_in_order(void **state)
{
        struct stage *stage = *state;
        struct queue queue = { .stage = stage, .submit_at = 1 };
        struct sim_camera *sim;
        struct sim_counters c;
        uint64_t began;

        open_bootloader(stage);
        sim = usb_inproc_sim(stage->camera);
        assert_int_equal(control(stage, 0x01, 11, 2, NULL, 0, SEC), USB_OK);
        sim_camera_reset_counters(sim);
        began = loop_now(stage->loop);
        enqueue(&queue, UPLOAD, 0, 4096, SEC);
        enqueue(&queue, 9, 0, 6, SEC);          /* no such request: those behind it go on */
        enqueue(&queue, UPLOAD, 0, 8, SEC);
        /* One at a time: the device hears of the second when it has answered the first. */
        loop_advance(stage->loop, MSEC);
        sim_camera_counters(sim, &c);
        assert_int_equal(c.transfers, 1);
        loop_advance(stage->loop, SEC);
        assert_int_equal(queue.n_ended, 4);
        assert_int_equal(queue.endings[0].result, USB_OK);
        assert_int_equal(queue.endings[0].actual, 4096);
        assert_int_equal(queue.endings[1].result, USB_STALL);
        assert_int_equal(queue.endings[2].result, USB_OK);
        assert_int_equal(queue.endings[2].actual, 8);
        assert_memory_equal(queue.endings[2].data, queue.endings[0].data, 8);
        assert_int_equal(queue.endings[3].actual, 6);
        assert_int_equal(queue.endings[0].at - began, sim_camera_transfer_time(sim, 4096));
        assert_int_equal(queue.endings[2].at - queue.endings[1].at, sim_camera_transfer_time(sim, 8));
}

/* A host that is slow to hear of things: what is queued goes out meanwhile, after a refusal too. */
static void test_queued_and_slow_to_hear(void **state)
{
        struct stage *stage = *state;
        struct queue queue = { .stage = stage };
        struct sim_counters c;

        open_bootloader(stage);
        sim_camera_reset_counters(usb_inproc_sim(stage->camera));
        usb_inproc_set_latency(stage->host, 100 * MSEC);
        for (int i = 0; i < 3; i++)
                enqueue(&queue, i == 0 ? 9 : UPLOAD, 0, 6, SEC);
        loop_advance(stage->loop, 50 * MSEC);
        sim_camera_counters(usb_inproc_sim(stage->camera), &c);
        assert_int_equal(c.transfers, 3);
        assert_int_equal(queue.n_ended, 0);
        loop_advance(stage->loop, 100 * MSEC);
        assert_int_equal(queue.n_ended, 3);
        assert_int_equal(queue.endings[0].result, USB_STALL);
        assert_int_equal(queue.endings[2].result, USB_OK);
}

/* The deadline of the second runs from when it is first. */
static void test_queued_deadlines(void **state)
{
        struct stage *stage = *state;
        struct queue queue = { .stage = stage };
        struct sim_counters c;
        uint64_t began;

        open_bootloader(stage);
        sim_camera_add_fault(usb_inproc_sim(stage->camera), &(struct sim_fault){ .kind = SIM_FAULT_NAK, .request_type = 0xa1, .request = GETSTATUS, .count = 1 });
        sim_camera_reset_counters(usb_inproc_sim(stage->camera));
        began = loop_now(stage->loop);
        enqueue(&queue, UPLOAD, 0, 4096, 10 * SEC);
        enqueue(&queue, GETSTATUS, 0, 6, SEC);
        enqueue(&queue, UPLOAD, 0, 64, 10 * SEC);
        loop_advance(stage->loop, 20 * SEC);
        assert_int_equal(queue.n_ended, 3);
        assert_int_equal(queue.endings[0].result, USB_OK);
        assert_int_equal(queue.endings[1].result, USB_TIMEOUT);
        assert_int_equal(queue.endings[1].at - queue.endings[0].at, SEC);
        /* What stood behind the one that ran out of time is taken back with it, and was never sent. */
        assert_int_equal(queue.endings[2].result, USB_CANCELLED);
        assert_int_equal(queue.endings[2].at - began, SEC + sim_camera_transfer_time(usb_inproc_sim(stage->camera), 4096));
        sim_camera_counters(usb_inproc_sim(stage->camera), &c);
        assert_int_equal(c.upload, 1);
}

static void test_queued_cancelled(void **state)
{
        struct stage *stage = *state;
        struct queue queue = { .stage = stage };
        struct sim_counters c;

        open_bootloader(stage);
        sim_camera_reset_counters(usb_inproc_sim(stage->camera));
        for (int i = 0; i < 3; i++)
                enqueue(&queue, UPLOAD, 0, 4096, SEC);
        loop_advance(stage->loop, sim_camera_transfer_time(usb_inproc_sim(stage->camera), 4096) + MSEC);
        assert_int_equal(queue.n_ended, 1);
        usb_cancel(stage->device);
        usb_cancel(stage->device);
        assert_int_equal(queue.n_ended, 1);
        loop_advance(stage->loop, SEC);
        assert_int_equal(queue.n_ended, 3);
        assert_int_equal(queue.endings[0].result, USB_OK);
        assert_int_equal(queue.endings[1].result, USB_CANCELLED);
        assert_int_equal(queue.endings[2].result, USB_CANCELLED);
        sim_camera_counters(usb_inproc_sim(stage->camera), &c);
        assert_int_equal(c.upload, 2);
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), USB_OK);
}

static void test_queued_and_gone(void **state)
{
        struct stage *stage = *state;
        struct queue queue = { .stage = stage };

        open_bootloader(stage);
        for (int i = 0; i < 3; i++)
                enqueue(&queue, UPLOAD, 0, 4096, SEC);
        loop_advance(stage->loop, MSEC);
        usb_inproc_port_unplug(stage->camera);
        assert_int_equal(queue.n_ended, 0);
        loop_advance(stage->loop, SEC);
        assert_int_equal(queue.n_ended, 3);
        for (int i = 0; i < 3; i++)
                assert_int_equal(queue.endings[i].result, USB_GONE);
}

static void test_queued_and_freed(void **state)
{
        struct stage *stage = *state;
        struct queue queue = { .stage = stage };
        struct sim_counters c;

        open_bootloader(stage);
        sim_camera_reset_counters(usb_inproc_sim(stage->camera));
        for (int i = 0; i < 3; i++)
                enqueue(&queue, UPLOAD, 0, 4096, SEC);
        loop_advance(stage->loop, MSEC);
        stage->device = usb_device_free(stage->device);
        loop_advance(stage->loop, SEC);
        assert_int_equal(queue.n_ended, 0);
        sim_camera_counters(usb_inproc_sim(stage->camera), &c);
        assert_int_equal(c.upload, 1);

        /* And within a completion, with the next one on its way. */
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
        queue = (struct queue){ .stage = stage, .free_at = 1 };
        for (int i = 0; i < 3; i++)
                enqueue(&queue, UPLOAD, 0, 4096, SEC);
        loop_advance(stage->loop, SEC);
        assert_int_equal(queue.n_ended, 1);
        assert_null(stage->device);
        assert_false(usb_inproc_is_open(stage->camera));
}

static void test_a_dying_host_leaves_the_camera_pinned(void **state)
{
        struct stage *stage = *state;

        open_bootloader(stage);
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), USB_OK);
        assert_int_equal(control(stage, 0x01, 11, 2, NULL, 0, SEC), USB_OK);
        assert_int_equal(control(stage, 0x21, DNLOAD, 0, stage->data, 4096, SEC), USB_OK);
        stage->device = usb_device_free(stage->device);
        loop_advance(stage->loop, 60 * SEC);
        assert_int_equal(sim_camera_mode(usb_inproc_sim(stage->camera)), SIM_BOOTLOADER);
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
        /* Nothing was sent on closing: the stale block waits. */
        assert_int_equal(control(stage, 0xa1, 5, 0, NULL, 1, SEC), USB_OK);
        assert_int_equal(stage->data[0], 3);
}

static void test_port_reset(void **state)
{
        struct stage *stage = *state;
        struct usb_inproc_camera *other = add_camera(stage, SIM_OPENMV4, 2);
        struct sighting s;

        /* A bootloader leaves, held or not. */
        open_bootloader(stage);
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), USB_OK);
        usb_inproc_port_reset(stage->camera);
        wait_events(stage, 3);
        assert_int_equal(stage->events[2].sighting.product, 0x1203);
        stage->device = usb_device_free(stage->device);
        /* The ROM stays, is configured again, and nobody hears of it. */
        sim_camera_set_jumper(usb_inproc_sim(other), true);
        usb_inproc_port_plug(other, "1-2");
        wait_events(stage, 4);
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
        usb_inproc_port_reset(other);
        loop_advance(stage->loop, SEC);
        assert_int_equal(stage->n_events, 4);
        assert_true(usb_inproc_sighting(other, &s));
        assert_string_equal(s.node, stage->events[3].sighting.node);
        assert_int_equal(control(stage, 0xa1, GETSTATUS, 0, NULL, 6, SEC), USB_OK);
}

static void test_one_dead_camera_delays_no_other(void **state)
{
        struct stage *stage = *state;
        struct usb_inproc_camera *other = add_camera(stage, SIM_OPENMV4, 2);
        struct usb_device *dead;

        open_bootloader(stage);
        sim_camera_add_fault(usb_inproc_sim(stage->camera), &(struct sim_fault){ .kind = SIM_FAULT_CRASH, .request_type = -1, .request = -1 });
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, 100 * MSEC), USB_TIMEOUT);
        dead = stage->device;
        usb_inproc_port_plug(other, "1-2");
        wait_events(stage, 2);
        assert_int_equal(open_node(stage, node(stage), SEC), 0);
        assert_int_equal(control(stage, 0xa1, UPLOAD, 0, NULL, 64, SEC), USB_OK);
        usb_device_free(dead);
}

/* --- a serial port --- */

struct ear {
        uint8_t heard[256];
        size_t n;
        size_t n_expected;
};

static void on_said(void *userdata, const uint8_t *bytes, size_t size)
{
        struct ear *ear = userdata;

        assert_true(size <= sizeof(ear->heard) - ear->n);
        memcpy(ear->heard + ear->n, bytes, size);
        ear->n += size;
}

static void on_port_gone(void *userdata)
{
}

static bool heard_it(void *userdata)
{
        struct ear *ear = userdata;

        return ear->n >= ear->n_expected;
}

static bool never(void *userdata)
{
        return false;
}

static bool has_serial(void *userdata)
{
        struct stage *stage = userdata;
        char path[32];

        return usb_inproc_serial_port(stage->host, "3-1.2", path, sizeof(path)) >= 0;
}

static void runs(struct stage *stage, char node_of_port[static 32])
{
        usb_inproc_port_plug(stage->camera, "3-1.2");
        assert_true(loop_run_until(stage->loop, has_serial, stage, 30 * SEC));
        assert_int_equal(usb_inproc_serial_port(stage->host, "3-1.2", node_of_port, 32), 0);
}

static const struct usb_inproc_serial_user ear_user = { .said = on_said, .gone = on_port_gone };
static const uint8_t sync_request[] = { 0xaa, 0xd5, 0, 0, 0, 0, 0, 0, 0xb0, 0xac };
static const uint8_t caps_request[] = { 0xaa, 0xd5, 0, 0, 0, 1, 0, 0, 0xc3, 0xdd };

/* Opens its port, and says hello. */
static struct usb_inproc_camera *opens(const char *port, struct ear *ear)
{
        struct usb_inproc_camera *camera;

        assert_int_equal(usb_inproc_serial_open(port, &ear_user, ear, &camera), 0);
        usb_inproc_serial_write(camera, sync_request, sizeof(sync_request));
        return camera;
}

/* The packet protocol stops when DTR falls: what was not acknowledged is not said again to who opens the port next. */
static void a_conversation_ends_with_its_line(void **state)
{
        struct stage *stage = *state;
        struct usb_inproc_camera *camera;
        struct ear ear = { 0 };
        char port[32];

        runs(stage, port);
        camera = opens(port, &ear);
        ear.n_expected = sizeof(sync_request);
        assert_true(loop_run_until(stage->loop, heard_it, &ear, 1 * SEC));
        usb_inproc_serial_write(camera, caps_request, sizeof(caps_request));
        ear.n_expected += 30;
        assert_true(loop_run_until(stage->loop, heard_it, &ear, 400 * MSEC));
        ear.n_expected += 30;                   /* once more, as long as the line is up */
        assert_true(loop_run_until(stage->loop, heard_it, &ear, 1 * SEC));

        usb_inproc_serial_close(camera);
        assert_int_equal(usb_inproc_serial_open(port, &ear_user, &ear, &camera), 0);
        assert_false(loop_run_until(stage->loop, never, NULL, 10 * SEC));
        assert_int_equal(ear.n, ear.n_expected);
}

/* Nor is what it was asked, and has not looked at yet, answered to another. */
static void an_answer_is_not_for_who_comes_next(void **state)
{
        struct stage *stage = *state;
        struct usb_inproc_camera *camera;
        struct ear ear = { 0 };
        char port[32];

        runs(stage, port);
        camera = opens(port, &ear);
        usb_inproc_serial_close(camera);
        assert_int_equal(usb_inproc_serial_open(port, &ear_user, &ear, &camera), 0);
        assert_false(loop_run_until(stage->loop, never, NULL, 10 * SEC));
        assert_int_equal(ear.n, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_life_in_sightings, setup, teardown),
                cmocka_unit_test_setup_teardown(test_another_port, setup, teardown),
                cmocka_unit_test_setup_teardown(test_gone_before_enumerated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_slow_enumeration_misses_the_bootloader, setup, teardown),
                cmocka_unit_test_setup_teardown(test_two_cameras, setup, teardown),
                cmocka_unit_test_setup_teardown(test_device_numbers_wrap, setup, teardown),
                cmocka_unit_test_setup_teardown(test_open_costs_one_transfer, setup, teardown),
                cmocka_unit_test_setup_teardown(test_open_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_kernel_drivers_hold_the_runtime, setup, teardown),
                cmocka_unit_test_setup_teardown(test_open_of_a_device_that_naks, setup, teardown),
                cmocka_unit_test_setup_teardown(test_its_end_is_told, setup, teardown),
                cmocka_unit_test_setup_teardown(test_open_cancelled, setup, teardown),
                cmocka_unit_test_setup_teardown(test_unplugged_while_opening, setup, teardown),
                cmocka_unit_test_setup_teardown(test_pin_write_and_leave, setup, teardown),
                cmocka_unit_test_setup_teardown(test_results, setup, teardown),
                cmocka_unit_test_setup_teardown(test_misuse, setup, teardown),
                cmocka_unit_test_setup_teardown(test_completion_may_submit_and_free, setup, teardown),
                cmocka_unit_test_setup_teardown(test_freed_with_a_request_in_flight, setup, teardown),
                cmocka_unit_test_setup_teardown(test_queued_in_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_queued_and_slow_to_hear, setup, teardown),
                cmocka_unit_test_setup_teardown(test_queued_deadlines, setup, teardown),
                cmocka_unit_test_setup_teardown(test_queued_cancelled, setup, teardown),
                cmocka_unit_test_setup_teardown(test_queued_and_gone, setup, teardown),
                cmocka_unit_test_setup_teardown(test_queued_and_freed, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_dying_host_leaves_the_camera_pinned, setup, teardown),
                cmocka_unit_test_setup_teardown(test_port_reset, setup, teardown),
                cmocka_unit_test_setup_teardown(test_one_dead_camera_delays_no_other, setup, teardown),
                cmocka_unit_test_setup_teardown(a_conversation_ends_with_its_line, setup, teardown),
                cmocka_unit_test_setup_teardown(an_answer_is_not_for_who_comes_next, setup, teardown),
        };

        return cmocka_run_group_tests_name("usb-inproc", tests, NULL, NULL);
}
