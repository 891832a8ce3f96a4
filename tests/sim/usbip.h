/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * USB/IP as a device speaks it to a vhci_hcd that it is attached to: frames of a
 * header of 48 bytes (big endian, but for the setup packet) and data, and which
 * transfers are pending.  Bytes in, bytes out: knows no socket, no device and no clock.
 *
 * The kernel submits a transfer (CMD_SUBMIT), and hears its end once (RET_SUBMIT).  A
 * transfer that it takes back (CMD_UNLINK) is not answered any more, but the taking back is: by
 * -ECONNRESET if it came in time, and by 0 if the transfer's end is on its way already.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define USBIP_HEADER_SIZE 48
#define USBIP_DATA_MAX (1U << 20)       /* more than any driver submits; who says more is not understood */

enum { USBIP_CMD_SUBMIT = 1, USBIP_CMD_UNLINK, USBIP_RET_SUBMIT, USBIP_RET_UNLINK };

#define USBIP_SHORT_NOT_OK 1U           /* transfer_flags: URB_SHORT_NOT_OK */

struct usbip_urb {
        uint32_t sequence;
        uint8_t endpoint;               /* number, without direction */
        bool in;
        uint32_t flags;                 /* transfer_flags */
        uint8_t setup[8];               /* endpoint 0 only; wLength is size */
        uint8_t *data;                  /* OUT: what came; IN: room for the answer; never NULL */
        size_t size;
        void *owner;                    /* the device's, NULL at first */
        LIST_ENTRY(usbip_urb) link;
};

struct usbip_ops {
        /* The device's from now on, until it calls usbip_complete(), which it may do from inside, or unlink comes. */
        void (*submit)(void *userdata, struct usbip_urb *urb);
        /* The device forgets it before this returns; it is freed then.  usbip_complete() must not be called for it any more. */
        void (*unlink)(void *userdata, struct usbip_urb *urb);
};

struct usbip;

int usbip_new(const struct usbip_ops *ops, void *userdata, struct usbip **ret);
/* What is pending is freed without further ado. */
struct usbip *usbip_free(struct usbip *usbip);

/*
 * Bytes that came from the kernel, in pieces of any size.  Calls submit and unlink.  -EBADMSG: this is not USB/IP, or not what
 * a kernel says: the connection is of no use any more, and further calls say the same.  -ENOMEM likewise.
 */
int usbip_feed(struct usbip *usbip, const void *bytes, size_t size);
/* status 0 or a negative errno; actual: bytes of the data stage, at most urb->size.  Frees it. */
void usbip_complete(struct usbip *usbip, struct usbip_urb *urb, int status, size_t actual);

/* Any pending one; NULL: none. */
struct usbip_urb *usbip_pending(struct usbip *usbip);

/* What is to be sent; 0: nothing.  Valid until the next call of anything else. */
size_t usbip_output(const struct usbip *usbip, const uint8_t **ret);
/* So much of it was sent. */
void usbip_sent(struct usbip *usbip, size_t size);
