/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Control transfers to one USB device on the loop.  No libusb type is seen
 * here; usb.c carries it over libusb-1.0, tests/sim/usb-inproc.c over the
 * device model in virtual time.  Whatever may block (open(2), wrapping,
 * claiming, closing) happens on a helper thread: one device that NAKs for ever
 * delays no other (rule 16).  Not even libusb's locks are shared: each device has
 * a libusb context of its own.
 *
 * A device has a few requests in flight at most; it answers them in the order in
 * which they were submitted, as control transfers of one endpoint.  Each request
 * ends exactly once, through its completion, in that order.  Nothing is ever sent to a device but what is
 * submitted here and the GET_CONFIGURATION of wrapping: no reset, no
 * SETINTERFACE ioctl (the kernel then knows of no alternate setting, and
 * closing sends nothing to the device; dfu.md A.3).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"

struct usb;
struct usb_device;

enum usb_result {
        USB_OK,
        USB_STALL,
        USB_TIMEOUT,
        USB_GONE,                       /* the device left the bus (a pull in mid-transfer may show as USB_IO first) */
        USB_OVERFLOW,
        USB_IO,                         /* any other transfer error (-EPROTO, -EILSEQ ...) */
        USB_CANCELLED,
        _USB_RESULT_MAX
};

const char *usb_result_to_string(enum usb_result result);

struct usb_setup {
        uint8_t request_type;
        uint8_t request;
        uint16_t value;
        uint16_t index;
        uint16_t length;
};

#define USB_QUEUE_MAX 3                 /* requests of one device in flight; a front end may take fewer */
#define USB_MAX_TRANSFER 4096           /* the largest data stage of any device we talk to */

int usb_new(struct loop *loop, struct usb **ret);
/* All devices must have been freed and closed (usb_is_idle()). */
struct usb *usb_free(struct usb *usb);
/* Nothing is open, being opened or being closed any more.  A device that was freed with a request in flight waits for the end of
 * that first, and is no pending work of the loop until then. */
bool usb_is_idle(const struct usb *usb);
/* The same of one node. */
bool usb_has_open(const struct usb *usb, const char *node);
/* fn is called from the loop after something has been closed, or an opening has come to nothing: who waits for a node's end asks again.
 * One watcher; fn NULL: none.  fn may not open or free anything. */
void usb_watch_closed(struct usb *usb, void (*fn)(void *userdata), void *userdata);

/* --- opening ---
 * on_open is called exactly once from the loop: error 0 and the device, or a
 * negative errno and NULL: -EBUSY (interface claimed by somebody else), -EACCES
 * (no permission yet), -ENODEV/-ENOENT (gone), -ETIMEDOUT (wrap did not come
 * back; the thread is abandoned and cleans up behind itself), other.
 * node: "/dev/bus/usb/001/004".  deadline in microseconds. */
typedef void (*usb_open_fn)(void *userdata, int error, struct usb_device *device);

struct usb_opening;                     /* lives until on_open is called, or usb_opening_cancel() */
int usb_open(struct usb *usb, const char *node, uint8_t interface, uint64_t deadline,
             usb_open_fn on_open, void *userdata, struct usb_opening **ret);
/* on_open will not be called any more. NULL is fine. */
struct usb_opening *usb_opening_cancel(struct usb_opening *opening);

/* --- requests ---
 * A negative errno says what the caller did wrong (-EBUSY: the queue is
 * full, -EINVAL) or -ENOMEM, and there is no completion.  Whatever the device
 * has to say, that it is gone too, comes through the completion, and never from
 * inside usb_submit().
 * data: for OUT, length bytes, copied at once; for IN, NULL.  timeout in
 * microseconds from when it is first in the queue, never 0.  The completion gets the bytes moved (IN: data valid
 * during the call).  A completion may submit the next request or free the device. */
typedef void (*usb_done_fn)(void *userdata, enum usb_result result, const uint8_t *data, size_t actual);

int usb_submit(struct usb_device *device, const struct usb_setup *setup, const uint8_t *data,
               uint64_t timeout, usb_done_fn on_done, void *userdata);
/* All that is in flight.  Asks; the completions come with USB_CANCELLED (or what was faster). */
void usb_cancel(struct usb_device *device);
/* Releases the interface and closes, on a helper thread.  Requests in flight
 * are cancelled first; their completions are not called any more. */
struct usb_device *usb_device_free(struct usb_device *device);
