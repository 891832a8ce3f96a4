/* SPDX-License-Identifier: MIT */

/*
 * io/usb.c against a libusb that the test plays (its functions are wrapped by
 * the linker), on the real loop with real helper threads.  The device node is a
 * FIFO: full, it is not ready; emptied, a transfer has ended.
 */

#include "io/usb.h"

#include <errno.h>
#include <fcntl.h>
#include <libusb.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/cleanup.h"

#define DEADLINE (20 * SEC)

/* --- the other side --- */

static struct {
        /* what it answers; 0: as if all were well */
        int wrap, claim, submit, handle;
        bool hold_wrap;                 /* wrapping waits for `go_on`, as for a device that NAKs */
        bool ignore_cancel;             /* the end of a cancelled transfer takes until device_answers() */
        int no_thread;                  /* what pthread_create() fails with */
        sem_t go_on, wrapping, claimed;

        /* what it was asked */
        atomic_uint contexts, handles, interfaces, claims;
        unsigned submits, cancels, rounds;

        struct libusb_transfer *flying; /* the first in the queue */
        struct {
                struct libusb_transfer *transfer;
                bool cancelled;
        } behind[USB_QUEUE_MAX];
        unsigned n_behind;
        enum libusb_transfer_status status;
        uint8_t reply[64];
        int actual;
        bool answered;

        char directory[64], node[96];
        int fifo;
} usb_side;

static void node_set_ready(bool ready)
{
        char page[4096] = "";

        if (ready)
                while (read(usb_side.fifo, page, sizeof(page)) > 0)
                        ;
        else
                while (write(usb_side.fifo, page, sizeof(page)) > 0)
                        ;
}

static void device_answers(enum libusb_transfer_status status, const void *data, int actual)
{
        assert_non_null(usb_side.flying);
        usb_side.status = status;
        usb_side.actual = actual;
        if (data)
                memcpy(usb_side.reply, data, (size_t)actual);
        usb_side.answered = true;
        node_set_ready(true);
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg)
{
        return usb_side.no_thread ? usb_side.no_thread : __real_pthread_create(thread, attributes, fn, arg);
}

int __wrap_libusb_init(libusb_context **context);
int __wrap_libusb_init(libusb_context **context)
{
        *context = (libusb_context *)&usb_side;
        usb_side.contexts++;
        return 0;
}

void __wrap_libusb_exit(libusb_context *context);
void __wrap_libusb_exit(libusb_context *context)
{
        usb_side.contexts--;
}

int __wrap_libusb_wrap_sys_device(libusb_context *context, intptr_t fd, libusb_device_handle **handle);
int __wrap_libusb_wrap_sys_device(libusb_context *context, intptr_t fd, libusb_device_handle **handle)
{
        if (usb_side.hold_wrap) {
                sem_post(&usb_side.wrapping);
                sem_wait(&usb_side.go_on);
        }
        if (usb_side.wrap < 0)
                return usb_side.wrap;
        *handle = (libusb_device_handle *)&usb_side;
        usb_side.handles++;
        return 0;
}

void __wrap_libusb_close(libusb_device_handle *handle);
void __wrap_libusb_close(libusb_device_handle *handle)
{
        /* Nothing may be in flight but what libusb has lost. */
        if (usb_side.flying && usb_side.handle == 0)
                abort();
        usb_side.handles--;
}

int __wrap_libusb_claim_interface(libusb_device_handle *handle, int interface);
int __wrap_libusb_claim_interface(libusb_device_handle *handle, int interface)
{
        usb_side.claims++;
        if (usb_side.claim == 0)
                usb_side.interfaces++;
        sem_post(&usb_side.claimed);
        return usb_side.claim;
}

int __wrap_libusb_release_interface(libusb_device_handle *handle, int interface);
int __wrap_libusb_release_interface(libusb_device_handle *handle, int interface)
{
        usb_side.interfaces--;
        return 0;
}

int __wrap_libusb_submit_transfer(struct libusb_transfer *transfer);
int __wrap_libusb_submit_transfer(struct libusb_transfer *transfer)
{
        usb_side.submits++;
        if (usb_side.submit < 0)
                return usb_side.submit;
        if (usb_side.flying) {
                assert_true(usb_side.n_behind < USB_QUEUE_MAX);
                usb_side.behind[usb_side.n_behind].transfer = transfer;
                usb_side.behind[usb_side.n_behind++].cancelled = false;
                return 0;
        }
        usb_side.flying = transfer;
        return 0;
}

/* What stood behind is now what the device works on; it may have been taken back while it waited. */
static void next_flies(void)
{
        bool cancelled;

        if (usb_side.n_behind == 0)
                return;
        usb_side.flying = usb_side.behind[0].transfer;
        cancelled = usb_side.behind[0].cancelled;
        usb_side.n_behind--;
        memmove(&usb_side.behind[0], &usb_side.behind[1], usb_side.n_behind * sizeof(usb_side.behind[0]));
        if (cancelled)
                device_answers(LIBUSB_TRANSFER_CANCELLED, NULL, 0);
}

int __wrap_libusb_cancel_transfer(struct libusb_transfer *transfer);
int __wrap_libusb_cancel_transfer(struct libusb_transfer *transfer)
{
        usb_side.cancels++;
        for (unsigned i = 0; i < usb_side.n_behind; i++)
                if (usb_side.behind[i].transfer == transfer) {
                        usb_side.behind[i].cancelled = true;
                        return 0;
                }
        if (!usb_side.flying || usb_side.answered)
                return LIBUSB_ERROR_NOT_FOUND;
        assert_ptr_equal(usb_side.flying, transfer);
        if (!usb_side.ignore_cancel)
                device_answers(LIBUSB_TRANSFER_CANCELLED, NULL, 0);
        return 0;
}

int __wrap_libusb_handle_events_timeout_completed(libusb_context *context, struct timeval *tv, int *completed);
int __wrap_libusb_handle_events_timeout_completed(libusb_context *context, struct timeval *tv, int *completed)
{
        struct libusb_transfer *transfer = usb_side.flying;

        usb_side.rounds++;
        assert_int_equal(tv->tv_sec, 0);
        assert_int_equal(tv->tv_usec, 0);
        if (usb_side.handle < 0)
                return usb_side.handle;
        if (transfer && usb_side.answered) {
                node_set_ready(false);
                usb_side.flying = NULL;
                usb_side.answered = false;
                transfer->status = usb_side.status;
                transfer->actual_length = usb_side.actual;
                if (transfer->buffer[0] & LIBUSB_ENDPOINT_IN)
                        memcpy(transfer->buffer + LIBUSB_CONTROL_SETUP_SIZE, usb_side.reply, (size_t)usb_side.actual);
                transfer->callback(transfer);
                next_flies();
        }
        return 0;
}

/* --- the stage --- */

struct stage {
        struct loop *loop;
        struct usb *usb;
        struct usb_device *device;
        struct usb_opening *opening;
        struct timer too_late;
        int open_error;
        unsigned n_opened, n_done;
        enum usb_result result, first;
        uint8_t data[64];
        size_t actual;
        void (*then)(struct stage *stage);      /* what the owner does when told */
        unsigned wanted;                /* ends the loop when so many were done */
};

static void on_too_late(void *userdata)
{
        struct stage *stage = userdata;

        loop_exit(stage->loop, -ETIMEDOUT);
}

static int stage_new(void **state)
{
        struct stage *stage = calloc(1, sizeof(*stage));

        assert_non_null(stage);
        memset(&usb_side, 0, sizeof(usb_side));
        sem_init(&usb_side.go_on, 0, 0);
        sem_init(&usb_side.wrapping, 0, 0);
        sem_init(&usb_side.claimed, 0, 0);
        strcpy(usb_side.directory, "/tmp/usb-XXXXXX");
        assert_non_null(mkdtemp(usb_side.directory));
        (void)snprintf(usb_side.node, sizeof(usb_side.node), "%s/001", usb_side.directory);
        assert_int_equal(mkfifo(usb_side.node, 0600), 0);
        usb_side.fifo = open(usb_side.node, O_RDWR | O_NONBLOCK | O_CLOEXEC);
        assert_true(usb_side.fifo >= 0);
        node_set_ready(false);

        assert_int_equal(loop_new(&stage->loop), 0);
        assert_int_equal(usb_new(stage->loop, &stage->usb), 0);
        timer_init(&stage->too_late, stage->loop, on_too_late, stage);
        timer_set(&stage->too_late, DEADLINE);
        *state = stage;
        return 0;
}

static void on_turn(void *userdata)
{
        struct stage *stage = userdata;

        loop_exit(stage->loop, 0);
}

/* One round of the loop at least. */
static void turn(struct stage *stage)
{
        struct timer timer = { 0 };

        timer_init(&timer, stage->loop, on_turn, stage);
        timer_set(&timer, 1 * MSEC);
        assert_int_equal(loop_run(stage->loop), 0);
        timer_deinit(&timer);
}

/* Until no helper thread is at work. */
static void settle(struct stage *stage)
{
        turn(stage);
        while (loop_pending_work(stage->loop) > 0)
                turn(stage);
}

static int stage_free(void **state)
{
        struct stage *stage = *state;

        stage->device = usb_device_free(stage->device);
        settle(stage);

        /* Whatever was opened, claimed or begun has been given back. */
        assert_int_equal(usb_side.interfaces, 0);
        assert_int_equal(usb_side.handles, 0);
        assert_int_equal(usb_side.contexts, 0);

        stage->usb = usb_free(stage->usb);
        timer_deinit(&stage->too_late);
        stage->loop = loop_free(stage->loop);
        (void)close(usb_side.fifo);
        (void)unlink(usb_side.node);
        (void)rmdir(usb_side.directory);
        free(stage);
        return 0;
}

static void on_open(void *userdata, int error, struct usb_device *device)
{
        struct stage *stage = userdata;

        stage->n_opened++;
        stage->opening = NULL;
        stage->open_error = error;
        stage->device = device;
        assert_true((error == 0) == (device != NULL));
        loop_exit(stage->loop, 0);
}

static void begin_open(struct stage *stage, const char *node, uint64_t deadline)
{
        assert_int_equal(usb_open(stage->usb, node, 0, deadline, on_open, stage, &stage->opening), 0);
}

static void open_device(struct stage *stage)
{
        begin_open(stage, usb_side.node, DEADLINE);
        assert_int_equal(loop_run(stage->loop), 0);
        assert_int_equal(stage->open_error, 0);
}

static void count(void *userdata)
{
        (*(unsigned *)userdata)++;
}

static void on_done(void *userdata, enum usb_result result, const uint8_t *data, size_t actual)
{
        struct stage *stage = userdata;

        stage->n_done++;
        stage->result = result;
        stage->actual = actual;
        if (data)
                memcpy(stage->data, data, actual);
        if (stage->then)
                stage->then(stage);
        if (stage->n_done >= stage->wanted)
                loop_exit(stage->loop, 0);
}

static const struct usb_setup get_status = { .request_type = 0xa1, .request = 3, .length = 6 };
static const struct usb_setup download = { .request_type = 0x21, .request = 1, .length = 4 };

static void ask(struct stage *stage, uint64_t timeout)
{
        assert_int_equal(usb_submit(stage->device, &get_status, NULL, timeout, on_done, stage), 0);
}

static void wait_done(struct stage *stage, unsigned n)
{
        stage->wanted = n;
        if (stage->n_done < n)
                assert_int_equal(loop_run(stage->loop), 0);
        assert_int_equal(stage->n_done, n);
}

/* --- opening --- */

static void missing_node_is_said(void **state)
{
        struct stage *stage = *state;

        begin_open(stage, "/nonexistent/001/004", DEADLINE);
        assert_int_equal(stage->n_opened, 0);
        assert_int_equal(loop_run(stage->loop), 0);
        assert_int_equal(stage->open_error, -ENOENT);
}

static void faults_of_opening_are_named(void **state)
{
        static const struct { int wrap, claim, expected; } faults[] = {
                { LIBUSB_ERROR_NO_DEVICE, 0, -ENODEV },
                { LIBUSB_ERROR_IO, 0, -EIO },
                { LIBUSB_ERROR_NO_MEM, 0, -ENOMEM },
                { 0, LIBUSB_ERROR_BUSY, -EBUSY },
                { 0, LIBUSB_ERROR_NOT_FOUND, -ENXIO },
                { 0, LIBUSB_ERROR_NO_DEVICE, -ENODEV },
                { 0, LIBUSB_ERROR_ACCESS, -EACCES },
        };
        struct stage *stage = *state;

        for (size_t i = 0; i < ELEMENTSOF(faults); i++) {
                usb_side.wrap = faults[i].wrap;
                usb_side.claim = faults[i].claim;
                begin_open(stage, usb_side.node, DEADLINE);
                assert_int_equal(loop_run(stage->loop), 0);
                assert_int_equal(stage->open_error, faults[i].expected);
                assert_int_equal(usb_side.handles, 0);
                assert_int_equal(usb_side.contexts, 0);
        }
}

static void node_that_is_no_device_is_refused(void **state)
{
        struct stage *stage = *state;

        begin_open(stage, usb_side.directory, DEADLINE);
        assert_int_equal(loop_run(stage->loop), 0);
        assert_int_equal(stage->open_error, -EISDIR);
}

static void opening_has_a_deadline(void **state)
{
        struct stage *stage = *state;

        usb_side.hold_wrap = true;
        begin_open(stage, usb_side.node, 10 * MSEC);
        assert_int_equal(loop_run(stage->loop), 0);
        assert_int_equal(stage->open_error, -ETIMEDOUT);
        assert_int_equal(loop_pending_work(stage->loop), 1);

        /* It comes back later: nothing is claimed, nothing is said again. */
        sem_post(&usb_side.go_on);
        settle(stage);
        assert_int_equal(stage->n_opened, 1);
        assert_int_equal(usb_side.claims, 0);
        assert_int_equal(usb_side.handles, 0);
}

static void cancelled_opening_claims_nothing(void **state)
{
        struct stage *stage = *state;

        usb_side.hold_wrap = true;
        begin_open(stage, usb_side.node, DEADLINE);
        sem_wait(&usb_side.wrapping);
        stage->opening = usb_opening_cancel(stage->opening);
        sem_post(&usb_side.go_on);
        settle(stage);
        assert_int_equal(stage->n_opened, 0);
        assert_int_equal(usb_side.claims, 0);
        assert_int_equal(usb_side.handles, 0);
}

static void opening_cancelled_too_late_closes_again(void **state)
{
        struct stage *stage = *state;

        begin_open(stage, usb_side.node, DEADLINE);
        sem_wait(&usb_side.claimed);
        stage->opening = usb_opening_cancel(stage->opening);
        settle(stage);
        assert_int_equal(stage->n_opened, 0);
        assert_int_equal(usb_side.interfaces, 0);
        assert_int_equal(usb_side.handles, 0);
}

static void on_other_open(void *userdata, int error, struct usb_device *device)
{
        struct usb_device **ret = userdata;

        *ret = device;
}

static void slow_opening_delays_no_other(void **state)
{
        struct stage *stage = *state;
        struct usb_device *slow = NULL;
        struct usb_opening *opening;

        usb_side.hold_wrap = true;
        assert_int_equal(usb_open(stage->usb, usb_side.node, 0, DEADLINE, on_other_open, &slow, &opening), 0);
        sem_wait(&usb_side.wrapping);
        usb_side.hold_wrap = false;

        open_device(stage);
        assert_null(slow);
        sem_post(&usb_side.go_on);
        settle(stage);
        assert_non_null(slow);
        assert_null(usb_device_free(slow));
}

static void no_thread_to_open_is_an_error(void **state)
{
        struct stage *stage = *state;

        usb_side.no_thread = EAGAIN;
        assert_int_equal(usb_open(stage->usb, usb_side.node, 0, DEADLINE, on_open, stage, &stage->opening), -EAGAIN);
        usb_side.no_thread = 0;
        settle(stage);
        assert_int_equal(stage->n_opened, 0);
}

static void no_thread_to_close_closes_all_the_same(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        usb_side.no_thread = EAGAIN;
        stage->device = usb_device_free(stage->device);
        usb_side.no_thread = 0;
        assert_int_equal(usb_side.handles, 0);
}

/* --- requests --- */

static void reply_comes_back(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        ask(stage, DEADLINE);
        assert_int_equal(usb_side.flying->timeout, 0);
        assert_int_equal(libusb_control_transfer_get_setup(usb_side.flying)->bRequest, 3);
        device_answers(LIBUSB_TRANSFER_COMPLETED, "\0\1\2\3\4\5", 6);
        wait_done(stage, 1);
        assert_int_equal(stage->result, USB_OK);
        assert_int_equal(stage->actual, 6);
        assert_memory_equal(stage->data, "\0\1\2\3\4\5", 6);
}

static void data_is_copied_at_once(void **state)
{
        struct stage *stage = *state;
        uint8_t data[4] = "abcd";

        open_device(stage);
        assert_int_equal(usb_submit(stage->device, &download, data, DEADLINE, on_done, stage), 0);
        memset(data, 0, sizeof(data));
        assert_memory_equal(libusb_control_transfer_get_data(usb_side.flying), "abcd", 4);
        assert_int_equal(usb_side.flying->length, 8 + 4);
        device_answers(LIBUSB_TRANSFER_COMPLETED, NULL, 4);
        wait_done(stage, 1);
        assert_int_equal(stage->result, USB_OK);
        assert_int_equal(stage->actual, 4);
}

static void ends_are_named(void **state)
{
        static const struct { enum libusb_transfer_status status; enum usb_result expected; } ends[] = {
                { LIBUSB_TRANSFER_COMPLETED, USB_OK },
                { LIBUSB_TRANSFER_STALL, USB_STALL },
                { LIBUSB_TRANSFER_NO_DEVICE, USB_GONE },
                { LIBUSB_TRANSFER_OVERFLOW, USB_OVERFLOW },
                { LIBUSB_TRANSFER_ERROR, USB_IO },
                { LIBUSB_TRANSFER_TIMED_OUT, USB_TIMEOUT },
                { LIBUSB_TRANSFER_CANCELLED, USB_GONE },        /* by the kernel, that takes the device away */
        };
        struct stage *stage = *state;

        open_device(stage);
        for (unsigned i = 0; i < ELEMENTSOF(ends); i++) {
                ask(stage, DEADLINE);
                device_answers(ends[i].status, NULL, 0);
                wait_done(stage, i + 1);
                assert_int_equal(stage->result, ends[i].expected);
        }
}

static void results_have_names(void **state)
{
        for (int i = 0; i < _USB_RESULT_MAX; i++)
                assert_non_null(usb_result_to_string((enum usb_result)i));
        assert_null(usb_result_to_string(_USB_RESULT_MAX));
}

static void silent_device_times_out(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        ask(stage, 5 * MSEC);
        wait_done(stage, 1);
        assert_int_equal(stage->result, USB_TIMEOUT);
        assert_int_equal(usb_side.cancels, 1);
}

static void answer_that_crosses_the_timeout_counts(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        usb_side.ignore_cancel = true;
        ask(stage, 1 * MSEC);
        while (usb_side.cancels == 0)
                turn(stage);
        device_answers(LIBUSB_TRANSFER_COMPLETED, "abcdef", 6);
        wait_done(stage, 1);
        assert_int_equal(stage->result, USB_OK);
}

static void cancelled_request_ends_once(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        ask(stage, DEADLINE);
        usb_cancel(stage->device);
        usb_cancel(stage->device);
        assert_int_equal(stage->n_done, 0);
        assert_int_equal(usb_side.cancels, 1);
        wait_done(stage, 1);
        assert_int_equal(stage->result, USB_CANCELLED);
        usb_cancel(stage->device);              /* nothing in flight: nothing to do */
        settle(stage);
        assert_int_equal(stage->n_done, 1);
        assert_int_equal(usb_side.cancels, 1);
}

static void gone_device_says_so_later(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        usb_side.submit = LIBUSB_ERROR_NO_DEVICE;
        ask(stage, DEADLINE);
        assert_int_equal(stage->n_done, 0);
        wait_done(stage, 1);
        assert_int_equal(stage->result, USB_GONE);
        usb_side.submit = LIBUSB_ERROR_IO;
        ask(stage, DEADLINE);
        wait_done(stage, 2);
        assert_int_equal(stage->result, USB_IO);
}

static void senseless_requests_are_refused(void **state)
{
        struct stage *stage = *state;
        struct usb_setup too_long = { .request_type = 0xa1, .request = 2, .length = USB_MAX_TRANSFER + 1 };

        open_device(stage);
        assert_int_equal(usb_submit(stage->device, &too_long, NULL, DEADLINE, on_done, stage), -EINVAL);
        assert_int_equal(usb_submit(stage->device, &get_status, NULL, 0, on_done, stage), -EINVAL);
        assert_int_equal(usb_submit(stage->device, &download, NULL, DEADLINE, on_done, stage), -EINVAL);
        assert_int_equal(usb_side.submits, 0);
}

static void queue_is_answered_in_order(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        for (unsigned i = 0; i < USB_QUEUE_MAX; i++)
                ask(stage, DEADLINE);
        assert_int_equal(usb_submit(stage->device, &get_status, NULL, DEADLINE, on_done, stage), -EBUSY);
        assert_int_equal(usb_side.submits, USB_QUEUE_MAX);
        for (uint8_t i = 1; i <= USB_QUEUE_MAX; i++) {
                device_answers(LIBUSB_TRANSFER_COMPLETED, &i, 1);
                wait_done(stage, i);
                assert_int_equal(stage->result, USB_OK);
                assert_int_equal(stage->data[0], i);
        }
        /* The ring goes round. */
        ask(stage, DEADLINE);
        device_answers(LIBUSB_TRANSFER_STALL, NULL, 0);
        wait_done(stage, USB_QUEUE_MAX + 1);
        assert_int_equal(stage->result, USB_STALL);
}

static void deadline_runs_from_being_first(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        ask(stage, DEADLINE);
        ask(stage, 1);
        turn(stage);
        turn(stage);
        assert_int_equal(usb_side.cancels, 0);
        device_answers(LIBUSB_TRANSFER_COMPLETED, NULL, 0);
        wait_done(stage, 2);
        assert_int_equal(stage->result, USB_TIMEOUT);
}

static void remember_first(struct stage *stage)
{
        stage->then = NULL;
        stage->first = stage->result;
}

static void late_first_takes_the_others_along(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        stage->then = remember_first;
        ask(stage, 1);
        ask(stage, DEADLINE);
        ask(stage, DEADLINE);
        wait_done(stage, 3);
        assert_int_equal(stage->first, USB_TIMEOUT);
        assert_int_equal(stage->result, USB_CANCELLED);
}

static void cancel_takes_all_back(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        stage->then = remember_first;
        ask(stage, DEADLINE);
        ask(stage, DEADLINE);
        usb_cancel(stage->device);
        assert_int_equal(usb_side.cancels, 2);
        wait_done(stage, 2);
        assert_int_equal(stage->first, USB_CANCELLED);
        assert_int_equal(stage->result, USB_CANCELLED);
}

static void freed_device_waits_for_its_queue(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        for (unsigned i = 0; i < USB_QUEUE_MAX; i++)
                ask(stage, DEADLINE);
        stage->device = usb_device_free(stage->device);
        /* That they are taken back comes as an event, at its time. */
        while (!usb_is_idle(stage->usb))
                turn(stage);
        settle(stage);
        assert_int_equal(stage->n_done, 0);
        assert_int_equal(usb_side.handles, 0);
        assert_null(usb_side.flying);
}

static void ask_once_more(struct stage *stage)
{
        stage->then = NULL;
        ask(stage, DEADLINE);
        device_answers(LIBUSB_TRANSFER_COMPLETED, NULL, 0);
}

static void completion_may_submit(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        stage->then = ask_once_more;
        ask(stage, DEADLINE);
        device_answers(LIBUSB_TRANSFER_COMPLETED, NULL, 0);
        wait_done(stage, 2);
        assert_int_equal(usb_side.submits, 2);
}

static void free_device(struct stage *stage)
{
        stage->device = usb_device_free(stage->device);
}

static void completion_may_free(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        stage->then = free_device;
        ask(stage, DEADLINE);
        device_answers(LIBUSB_TRANSFER_COMPLETED, NULL, 0);
        wait_done(stage, 1);
        settle(stage);
        assert_int_equal(usb_side.handles, 0);
}

static void ask_and_free(struct stage *stage)
{
        ask(stage, DEADLINE);
        free_device(stage);
}

static void completion_may_submit_and_free(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        stage->then = ask_and_free;
        ask(stage, DEADLINE);
        device_answers(LIBUSB_TRANSFER_COMPLETED, NULL, 0);
        wait_done(stage, 1);
        settle(stage);
        assert_int_equal(stage->n_done, 1);
        assert_int_equal(usb_side.handles, 0);
}

static void freed_device_waits_for_its_request(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        usb_side.ignore_cancel = true;
        ask(stage, DEADLINE);
        stage->device = usb_device_free(stage->device);
        settle(stage);
        assert_int_equal(usb_side.cancels, 1);
        assert_int_equal(usb_side.handles, 1);

        device_answers(LIBUSB_TRANSFER_CANCELLED, NULL, 0);
        settle(stage);
        assert_int_equal(usb_side.handles, 0);
        assert_int_equal(stage->n_done, 0);
}

static void freed_before_a_failure_is_told(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        usb_side.submit = LIBUSB_ERROR_NO_DEVICE;
        ask(stage, DEADLINE);
        stage->device = usb_device_free(stage->device);
        settle(stage);
        assert_int_equal(stage->n_done, 0);
        assert_int_equal(usb_side.handles, 0);
}

static void failure_to_reap_does_not_spin(void **state)
{
        struct stage *stage = *state;
        unsigned rounds;

        open_device(stage);
        ask(stage, DEADLINE);
        usb_side.handle = LIBUSB_ERROR_IO;
        node_set_ready(true);
        wait_done(stage, 1);
        assert_int_equal(stage->result, USB_IO);
        rounds = usb_side.rounds;

        ask(stage, DEADLINE);
        assert_int_equal(usb_side.submits, 1);
        wait_done(stage, 2);
        assert_int_equal(stage->result, USB_IO);
        for (int i = 0; i < 5; i++)
                turn(stage);
        assert_int_equal(usb_side.rounds, rounds);
        stage->device = usb_device_free(stage->device);
        settle(stage);
}

static void idle_device_is_not_watched(void **state)
{
        struct stage *stage = *state;

        open_device(stage);
        node_set_ready(true);
        for (int i = 0; i < 5; i++)
                turn(stage);
        assert_int_equal(usb_side.rounds, 0);

        ask(stage, DEADLINE);
        device_answers(LIBUSB_TRANSFER_COMPLETED, NULL, 0);
        wait_done(stage, 1);
        node_set_ready(true);
        usb_side.rounds = 0;
        for (int i = 0; i < 5; i++)
                turn(stage);
        assert_int_equal(usb_side.rounds, 0);
}

#define ON_STAGE(name, fn) { name, fn, stage_new, stage_free, NULL }

/* Who wants to claim it next waits for that, and not for the order to close. */
static void its_end_is_told(void **state)
{
        struct stage *stage = *state;
        unsigned n = 0;

        usb_watch_closed(stage->usb, count, &n);
        assert_false(usb_has_open(stage->usb, usb_side.node));
        begin_open(stage, usb_side.node, DEADLINE);
        assert_true(usb_has_open(stage->usb, usb_side.node));
        assert_int_equal(loop_run(stage->loop), 0);
        assert_true(usb_has_open(stage->usb, usb_side.node));
        assert_false(usb_has_open(stage->usb, "/nonexistent/001/004"));
        stage->device = usb_device_free(stage->device);
        assert_true(usb_has_open(stage->usb, usb_side.node));   /* a thread has it */
        settle(stage);
        assert_false(usb_has_open(stage->usb, usb_side.node));
        assert_int_equal(n, 1);
        begin_open(stage, "/nonexistent/001/004", DEADLINE);
        assert_int_equal(loop_run(stage->loop), 0);
        assert_int_equal(stage->open_error, -ENOENT);
        assert_int_equal(n, 2);
        usb_watch_closed(stage->usb, NULL, NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ON_STAGE("/opening/missing-node-is-said", missing_node_is_said),
                ON_STAGE("/opening/faults-are-named", faults_of_opening_are_named),
                ON_STAGE("/opening/node-that-is-no-device-is-refused", node_that_is_no_device_is_refused),
                ON_STAGE("/opening/has-a-deadline", opening_has_a_deadline),
                ON_STAGE("/opening/cancelled-claims-nothing", cancelled_opening_claims_nothing),
                ON_STAGE("/opening/cancelled-too-late-closes-again", opening_cancelled_too_late_closes_again),
                ON_STAGE("/opening/slow-one-delays-no-other", slow_opening_delays_no_other),
                ON_STAGE("/opening/no-thread-is-an-error", no_thread_to_open_is_an_error),
                ON_STAGE("/closing/no-thread-closes-all-the-same", no_thread_to_close_closes_all_the_same),
                ON_STAGE("/closing/its-end-is-told", its_end_is_told),
                ON_STAGE("/request/reply-comes-back", reply_comes_back),
                ON_STAGE("/request/data-is-copied-at-once", data_is_copied_at_once),
                ON_STAGE("/request/ends-are-named", ends_are_named),
                { "/request/results-have-names", results_have_names },
                ON_STAGE("/request/silent-device-times-out", silent_device_times_out),
                ON_STAGE("/queue/is-answered-in-order", queue_is_answered_in_order),
                ON_STAGE("/queue/deadline-runs-from-being-first", deadline_runs_from_being_first),
                ON_STAGE("/queue/late-first-takes-the-others-along", late_first_takes_the_others_along),
                ON_STAGE("/queue/cancel-takes-all-back", cancel_takes_all_back),
                ON_STAGE("/queue/freed-device-waits-for-it", freed_device_waits_for_its_queue),
                ON_STAGE("/request/answer-that-crosses-the-timeout-counts", answer_that_crosses_the_timeout_counts),
                ON_STAGE("/request/cancelled-ends-once", cancelled_request_ends_once),
                ON_STAGE("/request/gone-device-says-so-later", gone_device_says_so_later),
                ON_STAGE("/request/senseless-ones-are-refused", senseless_requests_are_refused),
                ON_STAGE("/request/completion-may-submit", completion_may_submit),
                ON_STAGE("/request/completion-may-free", completion_may_free),
                ON_STAGE("/request/completion-may-submit-and-free", completion_may_submit_and_free),
                ON_STAGE("/request/freed-device-waits-for-its-request", freed_device_waits_for_its_request),
                ON_STAGE("/request/freed-before-a-failure-is-told", freed_before_a_failure_is_told),
                ON_STAGE("/request/failure-to-reap-does-not-spin", failure_to_reap_does_not_spin),
                ON_STAGE("/request/idle-device-is-not-watched", idle_device_is_not_watched),
        };

        return cmocka_run_group_tests_name("usb", tests, NULL, NULL);
}
