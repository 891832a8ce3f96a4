/* SPDX-License-Identifier: MIT */

/*
 * See usbip.h.  Invariant: a urb is in pending from before submit() until it is
 * completed or unlinked, and no two there have one sequence number.
 */

#include "sim/usbip.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

#define ENDPOINTS 16U

struct buffer {
        uint8_t *bytes;
        size_t begin, end, room;        /* [begin, end) is in use */
};

struct usbip {
        const struct usbip_ops *ops;
        void *userdata;
        struct buffer in, out;
        LIST_HEAD(, usbip_urb) pending;
        int error;                      /* sticky */
};

/* Offsets in the header, of both directions. */
enum {
        AT_COMMAND = 0, AT_SEQUENCE = 4, AT_DIRECTION = 12, AT_ENDPOINT = 16,
        AT_FLAGS = 20, AT_SIZE = 24, AT_PACKETS = 32, AT_SETUP = 40,
        AT_UNLINKED = 20,
        AT_STATUS = 20, AT_ACTUAL = 24,
};

static uint32_t get_be32(const uint8_t *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static void put_be32(uint8_t *p, uint32_t value)
{
        for (int i = 0; i < 4; i++)
                p[i] = (uint8_t)(value >> (24 - 8 * i));
}

/* Room for size more bytes, at the returned place.  NULL: no memory. */
static uint8_t *buffer_extend(struct buffer *buffer, size_t size)
{
        if (buffer->begin > 0 && buffer->end + size > buffer->room) {
                memmove(buffer->bytes, buffer->bytes + buffer->begin, buffer->end - buffer->begin);
                buffer->end -= buffer->begin;
                buffer->begin = 0;
        }
        if (buffer->end + size > buffer->room) {
                size_t room = MAX(2 * buffer->room, buffer->end + size);
                uint8_t *bytes = realloc(buffer->bytes, room);

                if (!bytes)
                        return NULL;
                buffer->bytes = bytes;
                buffer->room = room;
        }
        buffer->end += size;
        return buffer->bytes + buffer->end - size;
}

static void buffer_drop(struct buffer *buffer, size_t size)
{
        buffer->begin += size;
        if (buffer->begin == buffer->end)
                buffer->begin = buffer->end = 0;
}

static void urb_free(struct usbip_urb *urb)
{
        LIST_REMOVE(urb, link);
        free(urb->data);
        free(urb);
}

static struct usbip_urb *find(struct usbip *usbip, uint32_t sequence)
{
        struct usbip_urb *urb;

        LIST_FOREACH(urb, &usbip->pending, link)
                if (urb->sequence == sequence)
                        return urb;
        return NULL;
}

static void answer(struct usbip *usbip, uint32_t command, uint32_t sequence, int status, const uint8_t *data, size_t actual, bool in)
{
        uint8_t *p = buffer_extend(&usbip->out, USBIP_HEADER_SIZE + (in ? actual : 0));

        if (!p) {
                usbip->error = -ENOMEM;
                return;
        }
        memset(p, 0, USBIP_HEADER_SIZE);
        put_be32(p + AT_COMMAND, command);
        put_be32(p + AT_SEQUENCE, sequence);
        put_be32(p + AT_STATUS, (uint32_t)status);
        put_be32(p + AT_ACTUAL, (uint32_t)actual);
        if (in && actual > 0)
                memcpy(p + USBIP_HEADER_SIZE, data, actual);
}

/* How many bytes the frame that begins here has; 0: more of it is needed to tell; or -EBADMSG. */
static ssize_t frame_size(const uint8_t *p, size_t size)
{
        uint32_t command, length, packets;

        if (size < USBIP_HEADER_SIZE)
                return 0;
        command = get_be32(p + AT_COMMAND);
        if (get_be32(p + AT_DIRECTION) > 1)
                return -EBADMSG;
        if (command == USBIP_CMD_UNLINK)
                return USBIP_HEADER_SIZE;
        if (command != USBIP_CMD_SUBMIT || get_be32(p + AT_ENDPOINT) >= ENDPOINTS)
                return -EBADMSG;
        length = get_be32(p + AT_SIZE);
        packets = get_be32(p + AT_PACKETS);
        /* No endpoint of ours is isochronous. */
        if (length > USBIP_DATA_MAX || (packets != 0 && packets != UINT32_MAX))
                return -EBADMSG;
        if (get_be32(p + AT_ENDPOINT) == 0) {
                bool in = p[AT_SETUP] & 0x80;

                if (get_le16(p + AT_SETUP + 6) != length || (length > 0 && in != (get_be32(p + AT_DIRECTION) == 1)))
                        return -EBADMSG;
        }
        return USBIP_HEADER_SIZE + (get_be32(p + AT_DIRECTION) == 0 ? (ssize_t)length : 0);
}

static int take_submit(struct usbip *usbip, const uint8_t *p)
{
        struct usbip_urb *urb;

        if (find(usbip, get_be32(p + AT_SEQUENCE)))
                return -EBADMSG;
        urb = calloc(1, sizeof(*urb));
        if (!urb)
                return -ENOMEM;
        urb->sequence = get_be32(p + AT_SEQUENCE);
        urb->endpoint = (uint8_t)get_be32(p + AT_ENDPOINT);
        urb->in = get_be32(p + AT_DIRECTION) == 1;
        urb->flags = get_be32(p + AT_FLAGS);
        urb->size = get_be32(p + AT_SIZE);
        memcpy(urb->setup, p + AT_SETUP, sizeof(urb->setup));
        urb->data = calloc(1, MAX(urb->size, (size_t)1));
        if (!urb->data) {
                free(urb);
                return -ENOMEM;
        }
        if (!urb->in)
                memcpy(urb->data, p + USBIP_HEADER_SIZE, urb->size);
        LIST_INSERT_HEAD(&usbip->pending, urb, link);
        usbip->ops->submit(usbip->userdata, urb);
        return 0;
}

static void take_unlink(struct usbip *usbip, const uint8_t *p)
{
        struct usbip_urb *urb = find(usbip, get_be32(p + AT_UNLINKED));

        if (urb) {
                usbip->ops->unlink(usbip->userdata, urb);
                urb_free(urb);
        }
        answer(usbip, USBIP_RET_UNLINK, get_be32(p + AT_SEQUENCE), urb ? -ECONNRESET : 0, NULL, 0, false);
}

int usbip_feed(struct usbip *usbip, const void *bytes, size_t size)
{
        uint8_t *room;

        if (usbip->error < 0 || size == 0)
                return usbip->error;
        room = buffer_extend(&usbip->in, size);
        if (!room)
                return usbip->error = -ENOMEM;
        memcpy(room, bytes, size);
        while (usbip->error >= 0) {
                const uint8_t *p = usbip->in.bytes + usbip->in.begin;
                size_t have = usbip->in.end - usbip->in.begin;
                ssize_t n = have > 0 ? frame_size(p, have) : 0;

                if (n < 0) {
                        usbip->error = (int)n;
                } else if (n == 0 || (size_t)n > have) {
                        break;
                } else {
                        int r = 0;

                        if (get_be32(p + AT_COMMAND) == USBIP_CMD_SUBMIT)
                                r = take_submit(usbip, p);
                        else
                                take_unlink(usbip, p);
                        buffer_drop(&usbip->in, (size_t)n);
                        if (r < 0)
                                usbip->error = r;
                }
        }
        return usbip->error;
}

void usbip_complete(struct usbip *usbip, struct usbip_urb *urb, int status, size_t actual)
{
        assert(actual <= urb->size);
        if (status == 0 && urb->in && actual < urb->size && urb->flags & USBIP_SHORT_NOT_OK)
                status = -EREMOTEIO;
        answer(usbip, USBIP_RET_SUBMIT, urb->sequence, status, urb->data, actual, urb->in);
        urb_free(urb);
}

struct usbip_urb *usbip_pending(struct usbip *usbip)
{
        return LIST_FIRST(&usbip->pending);
}

size_t usbip_output(const struct usbip *usbip, const uint8_t **ret)
{
        *ret = usbip->out.bytes + usbip->out.begin;
        return usbip->out.end - usbip->out.begin;
}

void usbip_sent(struct usbip *usbip, size_t size)
{
        buffer_drop(&usbip->out, size);
}

int usbip_new(const struct usbip_ops *ops, void *userdata, struct usbip **ret)
{
        struct usbip *usbip = calloc(1, sizeof(*usbip));

        if (!usbip)
                return -ENOMEM;
        usbip->ops = ops;
        usbip->userdata = userdata;
        LIST_INIT(&usbip->pending);
        *ret = usbip;
        return 0;
}

struct usbip *usbip_free(struct usbip *usbip)
{
        struct usbip_urb *urb;

        if (!usbip)
                return NULL;
        while ((urb = LIST_FIRST(&usbip->pending)))
                urb_free(urb);
        free(usbip->in.bytes);
        free(usbip->out.bytes);
        free(usbip);
        return NULL;
}
