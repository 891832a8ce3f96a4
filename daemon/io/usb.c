/* SPDX-License-Identifier: MIT */

/*
 * Control transfers over libusb-1.0, on the loop.
 *
 * Each open device has a libusb context of its own, without discovery.  So a
 * completion polls one device and not all of them, no lock of libusb is shared
 * between two devices, and a context belongs to one thread at a time: to the
 * helper that opens, then to the loop, then to the helper that closes.  It also
 * makes the event pipe of libusb, which only tells one thread of another, and
 * its timerfd superfluous: requests are sent without a libusb timeout, and a
 * timer of the loop cancels them.  What is left to watch is the device's own
 * file descriptor, and only while a request is in flight: an idle device, be it
 * gone, costs no wakeup.
 *
 * Invariant: libusb's completion callback only notes what happened; the owner is
 * told after libusb has returned, so that he may submit, cancel and free.
 */

#include "io/usb.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libusb.h>
#include <linux/usbdevice_fs.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/log.h"

/* A context takes one of the process's thread-specific keys, and libusb does not notice when there is none left. */
#define MAX_OPEN (PTHREAD_KEYS_MAX / 2)

struct usb {
        struct loop *loop;
        unsigned n_open;                /* devices, from the beginning of opening to the end of closing */
        LIST_HEAD(, usb_device) devices;        /* the same */
        void (*on_closed)(void *userdata);
        void *closed_userdata;
};

/* What helper threads open and close. */
struct connection {
        int fd;
        libusb_context *context;
        libusb_device_handle *handle;
        uint8_t interface;
        bool claimed;
};

enum request_state {
        REQUEST_NONE,
        REQUEST_IN_FLIGHT,
        REQUEST_ENDED,                  /* its owner has not been told yet */
};

struct request {
        struct usb_device *device;
        enum request_state state;
        struct libusb_transfer *transfer;       /* made for the first use, then kept */
        uint8_t buffer[LIBUSB_CONTROL_SETUP_SIZE + USB_MAX_TRANSFER];   /* setup, then data */
        uint64_t timeout;               /* runs from when it is the first in the queue */
        bool timed_out;                 /* who cancelled first: the clock */
        bool cancelled;                 /* or the owner */
        enum usb_result result;
        size_t actual;
        usb_done_fn on_done;
        void *userdata;
};

/* Mapped alone, with its buffers: what else is made while a hundred conversations begin would stand between them, and hold a page each
 * when they have ended. */
struct usb_device {
        struct usb *usb;
        LIST_ENTRY(usb_device) link;
        char *node;
        struct connection connection;

        struct io_watch watch;
        struct timer timeout;           /* of the first in the queue */
        struct defer later;

        struct request requests[USB_QUEUE_MAX]; /* a ring: n of them from first on; the device answers them in this order */
        size_t first, n;

        bool telling;                   /* on_done is being called */
        bool freed;                     /* by its owner; the device goes when its requests have ended */
        bool stuck;                     /* libusb failed in a way that leaves the request with the kernel until the fd is closed */
};

struct usb_opening {
        struct usb_device *device;
        struct timer deadline;
        usb_open_fn on_open;
        void *userdata;
        atomic_bool abandoned;          /* nobody waits: do not claim, close again */
        int error;
};

static const char *const usb_result_names[_USB_RESULT_MAX] = {
        [USB_OK] = "ok",
        [USB_STALL] = "stall",
        [USB_TIMEOUT] = "timeout",
        [USB_GONE] = "gone",
        [USB_OVERFLOW] = "overflow",
        [USB_IO] = "io-error",
        [USB_CANCELLED] = "cancelled",
};

const char *usb_result_to_string(enum usb_result result)
{
        if ((int)result < 0 || result >= _USB_RESULT_MAX)
                return NULL;
        return usb_result_names[result];
}

int usb_new(struct loop *loop, struct usb **ret)
{
        struct usb *usb;

        /* For all contexts to come: without it each would scan every device and the first would start a thread. */
        if (libusb_set_option(NULL, LIBUSB_OPTION_NO_DEVICE_DISCOVERY) != LIBUSB_SUCCESS)
                return -EOPNOTSUPP;

        usb = calloc(1, sizeof(*usb));
        if (!usb)
                return -ENOMEM;

        usb->loop = loop;
        *ret = usb;
        return 0;
}

struct usb *usb_free(struct usb *usb)
{
        if (!usb)
                return NULL;

        assert(usb->n_open == 0);
        free(usb);
        return NULL;
}

bool usb_is_idle(const struct usb *usb)
{
        return usb->n_open == 0;
}

bool usb_has_open(const struct usb *usb, const char *node)
{
        const struct usb_device *device;

        LIST_FOREACH(device, &usb->devices, link)
                if (strcmp(device->node, node) == 0)
                        return true;
        return false;
}

void usb_watch_closed(struct usb *usb, void (*fn)(void *userdata), void *userdata)
{
        usb->on_closed = fn;
        usb->closed_userdata = userdata;
}

static struct usb_device *device_map(void)
{
        void *memory = mmap(NULL, sizeof(struct usb_device), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return memory == MAP_FAILED ? NULL : memory;
}

static void device_unmap(struct usb_device *device)
{
        free(device->node);
        (void)munmap(device, sizeof(*device));
}

static void device_unmapp(struct usb_device **device)
{
        if (*device)
                device_unmap(*device);
}

/* Nothing of it is open any more, and no thread knows it. */
static void device_forget(struct usb_device *device)
{
        struct usb *usb = device->usb;

        usb->n_open--;
        LIST_REMOVE(device, link);
        device_unmap(device);
        /* After a hundred conversations at once much of the heap is free, but only its end would be given back. */
        if (usb->n_open == 0)
                (void)malloc_trim(0);
        if (usb->on_closed)
                usb->on_closed(usb->closed_userdata);
}

/* --- opening and closing: what may block, on helper threads --- */

/* Has the kernel seen the device leave? */
static bool is_hung_up(int fd)
{
        struct pollfd p = { .fd = fd };

        return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static int error_from_libusb(int error, int fd)
{
        switch (error) {
        case LIBUSB_ERROR_NO_DEVICE:
                return -ENODEV;
        case LIBUSB_ERROR_BUSY:
                return -EBUSY;
        case LIBUSB_ERROR_ACCESS:
                return -EACCES;
        case LIBUSB_ERROR_NO_MEM:
                return -ENOMEM;
        case LIBUSB_ERROR_NOT_FOUND:
                return -ENXIO;          /* no such interface */
        case LIBUSB_ERROR_TIMEOUT:
                return -ETIMEDOUT;
        default:
                /* Descriptors that cannot be read or make no sense; or there is nothing any more to read them from. */
                return fd >= 0 && is_hung_up(fd) ? -ENODEV : -EIO;
        }
}

static int connection_open(struct connection *connection, const char *node, const atomic_bool *abandoned)
{
        unsigned interface = connection->interface;
        int r;

        connection->fd = open(node, O_RDWR | O_CLOEXEC | O_NOCTTY);
        if (connection->fd < 0)
                return -errno;

        /* First of all, and by the kernel's own word: a device that somebody else holds is not even asked for its configuration.
         * That libusb claims it again on the same descriptor is no contradiction for the kernel. */
        if (ioctl(connection->fd, USBDEVFS_CLAIMINTERFACE, &interface) < 0 && errno == EBUSY)
                return -EBUSY;

        r = libusb_init(&connection->context);
        if (r < 0) {
                connection->context = NULL;
                return error_from_libusb(r, -1);
        }

        /* Asks the device for its configuration, and waits a second for the answer. */
        r = libusb_wrap_sys_device(connection->context, connection->fd, &connection->handle);
        if (r < 0)
                return error_from_libusb(r, connection->fd);

        if (atomic_load(abandoned))
                return -ECANCELED;

        r = libusb_claim_interface(connection->handle, connection->interface);
        if (r < 0)
                return error_from_libusb(r, connection->fd);

        connection->claimed = true;
        return 0;
}

static void connection_close(struct connection *connection, struct request *requests, size_t n_requests)
{
        if (connection->claimed)
                (void)libusb_release_interface(connection->handle, connection->interface);
        if (connection->handle)
                libusb_close(connection->handle);
        /* libusb does not close what it only wrapped.  From here on the kernel holds no request any more, not even
         * one that libusb has lost. */
        if (connection->fd >= 0)
                (void)close(connection->fd);
        /* It knows the device, and the device the context. */
        for (size_t i = 0; i < n_requests; i++)
                libusb_free_transfer(requests[i].transfer);
        if (connection->context)
                libusb_exit(connection->context);
        *connection = (struct connection){ .fd = -1 };
}

static void close_run(void *data)
{
        struct usb_device *device = data;

        connection_close(&device->connection, device->requests, USB_QUEUE_MAX);
}

static void close_done(void *data)
{
        device_forget(data);
}

/* Nothing is in flight and nobody knows the device any more. */
static void device_close(struct usb_device *device)
{
        timer_deinit(&device->timeout);
        defer_deinit(&device->later);
        io_watch_deinit(&device->watch);

        if (loop_work(device->usb->loop, NULL, close_run, close_done, device) < 0) {
                /* No thread to be had: rather wait here than keep somebody's camera claimed. */
                close_run(device);
                close_done(device);
        }
}

/* --- requests --- */

static struct request *nth(struct usb_device *device, size_t i)
{
        return &device->requests[(device->first + i) % USB_QUEUE_MAX];
}

static void request_cancel(struct request *request)
{
        int r;

        if (request->state != REQUEST_IN_FLIGHT)
                return;
        r = libusb_cancel_transfer(request->transfer);
        /* NOT_FOUND, NO_DEVICE: it has ended already, and its completion is on the way. */
        if (r < 0 && r != LIBUSB_ERROR_NOT_FOUND && r != LIBUSB_ERROR_NO_DEVICE)
                log_debug("Failed to cancel a transfer (%s), ignoring.", libusb_error_name(r));
}

/* The last first: what stands behind must not go out because what stood before it was taken back. */
static void device_cancel(struct usb_device *device)
{
        for (size_t i = device->n; i > 0; i--)
                request_cancel(nth(device, i - 1));
}

static void device_retire(struct usb_device *device)
{
        if (device->n > 0)
                device_cancel(device);          /* device_tell() closes */
        else
                device_close(device);
}

/* The end of requests: the one place that calls on_done. */
static void device_tell(struct usb_device *device)
{
        while (device->n > 0 && nth(device, 0)->state == REQUEST_ENDED) {
                struct request *request = nth(device, 0);
                bool in = request->buffer[0] & LIBUSB_ENDPOINT_IN;

                timer_clear(&device->timeout);
                request->state = REQUEST_NONE;
                device->first = (device->first + 1) % USB_QUEUE_MAX;
                device->n--;
                if (device->n > 0)
                        timer_set(&device->timeout, nth(device, 0)->timeout);

                if (device->freed)
                        continue;
                device->telling = true;
                request->on_done(request->userdata, request->result,
                                 in ? request->buffer + LIBUSB_CONTROL_SETUP_SIZE : NULL, request->actual);
                device->telling = false;
        }

        if (device->freed)
                device_retire(device);
        else if (device->n == 0)
                (void)io_watch_set(&device->watch, 0);
}

static void on_later(void *userdata)
{
        device_tell(userdata);
}

static enum usb_result result_of(const struct request *request, enum libusb_transfer_status status)
{
        switch (status) {
        case LIBUSB_TRANSFER_COMPLETED:
                return USB_OK;
        case LIBUSB_TRANSFER_STALL:
                return USB_STALL;
        case LIBUSB_TRANSFER_NO_DEVICE:
                return USB_GONE;
        case LIBUSB_TRANSFER_OVERFLOW:
                return USB_OVERFLOW;
        case LIBUSB_TRANSFER_TIMED_OUT:
                return USB_TIMEOUT;
        case LIBUSB_TRANSFER_CANCELLED:
                if (request->timed_out)
                        return USB_TIMEOUT;
                if (request->cancelled || request->device->freed)
                        return USB_CANCELLED;
                /* Not by us: the kernel kills what is in flight when it takes the device away. */
                return USB_GONE;
        case LIBUSB_TRANSFER_ERROR:
                break;
        }
        return is_hung_up(request->device->connection.fd) ? USB_GONE : USB_IO;
}

static void LIBUSB_CALL on_transfer(struct libusb_transfer *transfer)
{
        struct request *request = transfer->user_data;

        request->result = result_of(request, transfer->status);
        request->actual = transfer->actual_length > 0 ? (size_t)transfer->actual_length : 0;
        request->state = REQUEST_ENDED;
}

static void on_ready(void *userdata, unsigned events)
{
        struct usb_device *device = userdata;
        struct timeval zero = { 0 };
        int r;

        r = libusb_handle_events_timeout_completed(device->connection.context, &zero, NULL);

        if (device->n > 0 && nth(device, 0)->state == REQUEST_IN_FLIGHT && r < 0 && r != LIBUSB_ERROR_INTERRUPTED) {
                /* The descriptor stays ready and libusb cannot take what is there: to try again would be for ever. */
                log_warning("libusb failed to reap a transfer: %s.", libusb_error_name(r));
                device->stuck = true;
                for (size_t i = 0; i < device->n; i++) {
                        struct request *request = nth(device, i);

                        if (request->state != REQUEST_IN_FLIGHT)
                                continue;
                        request->result = is_hung_up(device->connection.fd) ? USB_GONE : USB_IO;
                        request->actual = 0;
                        request->state = REQUEST_ENDED;
                }
        }

        device_tell(device);
}

static void on_timeout(void *userdata)
{
        struct usb_device *device = userdata;

        for (size_t i = 0; i < device->n; i++) {
                struct request *request = nth(device, i);

                if (i == 0)
                        request->timed_out = !request->cancelled;
                else
                        request->cancelled = true;
        }
        device_cancel(device);
}

static int request_prepare(struct request *request)
{
        if (!request->transfer) {
                request->transfer = libusb_alloc_transfer(0);
                if (!request->transfer)
                        return -ENOMEM;
        }
        return 0;
}

/* The request is over before it began, or as good as over; its owner hears of it in the next round. */
static void request_fail(struct request *request, bool gone)
{
        request->result = gone || is_hung_up(request->device->connection.fd) ? USB_GONE : USB_IO;
        request->state = REQUEST_ENDED;
        defer_call(&request->device->later);
}

int usb_submit(struct usb_device *device, const struct usb_setup *setup, const uint8_t *data,
               uint64_t timeout, usb_done_fn on_done, void *userdata)
{
        bool in = setup->request_type & LIBUSB_ENDPOINT_IN;
        struct request *request;
        int r;

        assert(!device->freed);

        if (device->n == USB_QUEUE_MAX)
                return -EBUSY;
        if (setup->length > USB_MAX_TRANSFER || timeout == 0 || (!in && setup->length > 0 && !data))
                return -EINVAL;

        request = nth(device, device->n);
        r = request_prepare(request);
        if (r < 0)
                return r;

        /* The data may stand in this very buffer: the caller may send back what he was just given.  Data first. */
        if (!in && setup->length > 0)
                memmove(request->buffer + LIBUSB_CONTROL_SETUP_SIZE, data, setup->length);
        libusb_fill_control_setup(request->buffer, setup->request_type, setup->request,
                                  setup->value, setup->index, setup->length);
        libusb_fill_control_transfer(request->transfer, device->connection.handle, request->buffer,
                                     on_transfer, request, /* timeout= */ 0);

        request->device = device;
        request->timed_out = request->cancelled = false;
        request->on_done = on_done;
        request->userdata = userdata;
        request->timeout = timeout;
        request->actual = 0;
        device->n++;

        r = device->stuck ? LIBUSB_ERROR_IO : libusb_submit_transfer(request->transfer);
        if (r < 0) {
                request_fail(request, r == LIBUSB_ERROR_NO_DEVICE);
                return 0;
        }

        r = io_watch_set(&device->watch, IO_WRITE);
        if (r < 0) {
                /* It is on its way, and its end would not be seen. */
                device->stuck = true;
                request_fail(request, /* gone= */ false);
                return 0;
        }

        request->state = REQUEST_IN_FLIGHT;
        if (device->n == 1)
                timer_set(&device->timeout, timeout);
        return 0;
}

void usb_cancel(struct usb_device *device)
{
        bool any = false;

        for (size_t i = 0; i < device->n; i++) {
                struct request *request = nth(device, i);

                if (request->state != REQUEST_IN_FLIGHT || request->cancelled)
                        continue;
                request->cancelled = !request->timed_out;
                any = true;
        }
        if (any)
                device_cancel(device);
}

struct usb_device *usb_device_free(struct usb_device *device)
{
        if (!device)
                return NULL;

        assert(!device->freed);
        device->freed = true;
        /* Within on_done it is device_tell() that goes on, when the owner has returned. */
        if (!device->telling)
                device_retire(device);
        return NULL;
}

/* --- openings --- */

static void open_run(void *data)
{
        struct usb_opening *opening = data;
        struct connection *connection = &opening->device->connection;

        opening->error = connection_open(connection, opening->device->node, &opening->abandoned);
        if (opening->error < 0)
                connection_close(connection, NULL, 0);
}

static void open_done(void *data)
{
        struct usb_opening *opening = data;
        struct usb_device *device = opening->device;
        struct usb *usb = device->usb;
        usb_open_fn on_open = opening->on_open;
        void *userdata = opening->userdata;
        bool abandoned = atomic_load(&opening->abandoned);
        int error = opening->error;

        timer_deinit(&opening->deadline);
        free(opening);

        if (error < 0) {
                device_forget(device);
                if (!abandoned)
                        on_open(userdata, error, NULL);
                return;
        }

        io_watch_init(&device->watch, usb->loop, device->connection.fd, on_ready, device);
        timer_init(&device->timeout, usb->loop, on_timeout, device);
        defer_init(&device->later, usb->loop, on_later, device);

        if (abandoned)
                (void)usb_device_free(device);
        else
                on_open(userdata, 0, device);
}

static void on_deadline(void *userdata)
{
        struct usb_opening *opening = userdata;

        /* The thread keeps the opening; open_done() clears it away whenever it comes. */
        atomic_store(&opening->abandoned, true);
        opening->on_open(opening->userdata, -ETIMEDOUT, NULL);
}

int usb_open(struct usb *usb, const char *node, uint8_t interface, uint64_t deadline,
             usb_open_fn on_open, void *userdata, struct usb_opening **ret)
{
        _cleanup_free_ struct usb_opening *opening = NULL;
        _cleanup_(device_unmapp) struct usb_device *device = NULL;
        int r;

        if (usb->n_open >= MAX_OPEN)
                return -EMFILE;

        opening = calloc(1, sizeof(*opening));
        device = device_map();
        if (!opening || !device)
                return -ENOMEM;
        device->node = strdup(node);
        if (!device->node)
                return -ENOMEM;

        device->usb = usb;
        device->connection = (struct connection){ .fd = -1, .interface = interface };
        opening->device = device;
        opening->on_open = on_open;
        opening->userdata = userdata;
        atomic_init(&opening->abandoned, false);
        timer_init(&opening->deadline, usb->loop, on_deadline, opening);

        r = loop_work(usb->loop, NULL, open_run, open_done, opening);
        if (r < 0) {
                timer_deinit(&opening->deadline);
                return r;
        }

        timer_set(&opening->deadline, deadline);
        usb->n_open++;
        LIST_INSERT_HEAD(&usb->devices, device, link);
        device = NULL;
        *ret = take_ptr(opening);
        return 0;
}

struct usb_opening *usb_opening_cancel(struct usb_opening *opening)
{
        if (!opening)
                return NULL;

        timer_clear(&opening->deadline);
        atomic_store(&opening->abandoned, true);
        return NULL;
}
