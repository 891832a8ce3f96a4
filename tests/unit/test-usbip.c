/* SPDX-License-Identifier: MIT */

/*
 * USB/IP framing and what is pending (sim/usbip.h): the test plays vhci_hcd at
 * the other end of a socketpair, with headers written by hand.
 */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "sim/msc.h"
#include "sim/usbip.h"

#define MAX_URBS 64

/* The device's side: holds what was submitted until the test says what becomes of it. */
struct end {
        struct usbip *usbip;
        struct usbip_urb *urbs[MAX_URBS];
        size_t n_urbs;
        unsigned submits, unlinks;
        bool answers;                   /* everything, at once */
        int kernel, device;             /* the socketpair */
};

static void on_submit(void *userdata, struct usbip_urb *urb)
{
        struct end *end = userdata;

        end->submits++;
        if (end->answers) {
                usbip_complete(end->usbip, urb, 0, urb->size);
                return;
        }
        assert_true(end->n_urbs < MAX_URBS);
        end->urbs[end->n_urbs++] = urb;
}

static void forget(struct end *end, struct usbip_urb *urb)
{
        for (size_t i = 0; i < end->n_urbs; i++)
                if (end->urbs[i] == urb) {
                        end->urbs[i] = end->urbs[--end->n_urbs];
                        return;
                }
        fail_msg("it is not the device's");
}

static void on_unlink(void *userdata, struct usbip_urb *urb)
{
        struct end *end = userdata;

        end->unlinks++;
        forget(end, urb);
}

static const struct usbip_ops ops = { .submit = on_submit, .unlink = on_unlink };

static void begin(struct end *end)
{
        int pair[2];

        *end = (struct end){ 0 };
        assert_int_equal(usbip_new(&ops, end, &end->usbip), 0);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        end->kernel = pair[0];
        end->device = pair[1];
}

static void end_it(struct end *end)
{
        end->usbip = usbip_free(end->usbip);
        (void)close(end->kernel);
        (void)close(end->device);
}

static void complete(struct end *end, struct usbip_urb *urb, int status, size_t actual)
{
        forget(end, urb);
        usbip_complete(end->usbip, urb, status, actual);
}

static void put(uint8_t *p, uint32_t value)
{
        p[0] = (uint8_t)(value >> 24);
        p[1] = (uint8_t)(value >> 16);
        p[2] = (uint8_t)(value >> 8);
        p[3] = (uint8_t)value;
}

static uint32_t get(const uint8_t *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* usbip_header_cmd_submit, as the kernel's documentation has it. */
static void submit_header(uint8_t *h, uint32_t sequence, bool in, uint8_t endpoint, uint32_t flags, uint32_t size, const uint8_t *setup)
{
        memset(h, 0, 48);
        put(h, 1);
        put(h + 4, sequence);
        put(h + 8, 0x10002);
        put(h + 12, in);
        put(h + 16, endpoint);
        put(h + 20, flags);
        put(h + 24, size);
        if (setup)
                memcpy(h + 40, setup, 8);
}

static void unlink_header(uint8_t *h, uint32_t sequence, uint32_t unlinked)
{
        memset(h, 0, 48);
        put(h, 2);
        put(h + 4, sequence);
        put(h + 20, unlinked);
}

static void kernel_sends(struct end *end, const void *bytes, size_t size)
{
        assert_int_equal(write(end->kernel, bytes, size), (ssize_t)size);
}

/* The device's loop: read, feed, send. */
static int device_runs(struct end *end)
{
        uint8_t bytes[4096];
        const uint8_t *out;
        ssize_t n;
        int r = 0;

        while (r >= 0 && (n = recv(end->device, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
                r = usbip_feed(end->usbip, bytes, (size_t)n);
        while ((n = (ssize_t)usbip_output(end->usbip, &out)) > 0) {
                n = write(end->device, out, (size_t)MIN(n, 31));        /* in pieces */
                assert_true(n > 0);
                usbip_sent(end->usbip, (size_t)n);
        }
        return r;
}

static void kernel_hears(struct end *end, uint32_t command, uint32_t sequence, int status, size_t actual, void *data, size_t size)
{
        uint8_t h[48];

        assert_int_equal(recv(end->kernel, h, sizeof(h), MSG_DONTWAIT), sizeof(h));
        assert_int_equal(get(h), command);
        assert_int_equal(get(h + 4), sequence);
        for (size_t i = 8; i < 20; i++)
                assert_int_equal(h[i], 0);
        assert_int_equal((int)get(h + 20), status);
        assert_int_equal(get(h + 24), actual);
        if (size > 0)
                assert_int_equal(recv(end->kernel, data, size, MSG_DONTWAIT), (ssize_t)size);
}

static void kernel_hears_nothing(struct end *end)
{
        uint8_t byte;

        assert_int_equal(recv(end->kernel, &byte, 1, MSG_DONTWAIT), -1);
        assert_int_equal(errno, EAGAIN);
}

static const uint8_t get_status[8] = { 0xa1, 3, 0, 0, 0, 0, 6, 0 };

static void test_control(void **state)
{
        static const uint8_t download[8] = { 0x21, 1, 2, 0, 0, 0, 4, 0 };
        struct end end;
        uint8_t h[52], data[6];

        begin(&end);
        submit_header(h, 7, true, 0, 0, 6, get_status);
        kernel_sends(&end, h, 48);
        assert_int_equal(device_runs(&end), 0);
        assert_int_equal(end.n_urbs, 1);
        assert_true(end.urbs[0]->in);
        assert_int_equal(end.urbs[0]->endpoint, 0);
        assert_int_equal(end.urbs[0]->size, 6);
        assert_memory_equal(end.urbs[0]->setup, get_status, 8);
        memcpy(end.urbs[0]->data, "\x00\x01\x02\x03\x04\x05", 6);
        complete(&end, end.urbs[0], 0, 6);
        assert_int_equal(device_runs(&end), 0);
        kernel_hears(&end, 3, 7, 0, 6, data, 6);
        assert_memory_equal(data, "\x00\x01\x02\x03\x04\x05", 6);

        /* OUT: the data come with the request, and only a number goes back. */
        submit_header(h, 8, false, 0, 0, 4, download);
        memcpy(h + 48, "abcd", 4);
        kernel_sends(&end, h, 52);
        assert_int_equal(device_runs(&end), 0);
        assert_memory_equal(end.urbs[0]->data, "abcd", 4);
        complete(&end, end.urbs[0], 0, 4);
        assert_int_equal(device_runs(&end), 0);
        kernel_hears(&end, 3, 8, 0, 4, NULL, 0);

        /* A stall. */
        submit_header(h, 9, true, 0, 0, 6, get_status);
        kernel_sends(&end, h, 48);
        assert_int_equal(device_runs(&end), 0);
        complete(&end, end.urbs[0], -EPIPE, 0);
        assert_int_equal(device_runs(&end), 0);
        kernel_hears(&end, 3, 9, -EPIPE, 0, NULL, 0);
        kernel_hears_nothing(&end);
        assert_null(usbip_pending(end.usbip));
        end_it(&end);
}

static void test_short(void **state)
{
        struct end end;
        uint8_t h[48], data[3];

        begin(&end);
        submit_header(h, 1, true, 3, 0, 512, NULL);
        kernel_sends(&end, h, 48);
        submit_header(h, 2, true, 3, USBIP_SHORT_NOT_OK, 512, NULL);
        kernel_sends(&end, h, 48);
        assert_int_equal(device_runs(&end), 0);
        assert_int_equal(end.n_urbs, 2);
        complete(&end, end.urbs[0], 0, 3);
        complete(&end, end.urbs[0], 0, 3);
        assert_int_equal(device_runs(&end), 0);
        kernel_hears(&end, 3, 1, 0, 3, data, 3);
        kernel_hears(&end, 3, 2, -EREMOTEIO, 3, data, 3);
        end_it(&end);
}

static void test_unlink(void **state)
{
        struct end end;
        uint8_t h[48];

        begin(&end);
        /* In time: no RET_SUBMIT. */
        submit_header(h, 1, true, 0, 0, 6, get_status);
        kernel_sends(&end, h, 48);
        submit_header(h, 2, true, 1, 0, 8, NULL);
        kernel_sends(&end, h, 48);
        unlink_header(h, 3, 1);
        kernel_sends(&end, h, 48);
        assert_int_equal(device_runs(&end), 0);
        assert_int_equal(end.unlinks, 1);
        assert_int_equal(end.n_urbs, 1);
        kernel_hears(&end, 4, 3, -ECONNRESET, 0, NULL, 0);
        kernel_hears_nothing(&end);

        /* Too late: the end was on its way, then. */
        complete(&end, end.urbs[0], 0, 0);
        unlink_header(h, 4, 2);
        kernel_sends(&end, h, 48);
        assert_int_equal(device_runs(&end), 0);
        assert_int_equal(end.unlinks, 1);
        kernel_hears(&end, 3, 2, 0, 0, NULL, 0);
        kernel_hears(&end, 4, 4, 0, 0, NULL, 0);

        /* What never was; and twice. */
        unlink_header(h, 5, 99);
        kernel_sends(&end, h, 48);
        unlink_header(h, 6, 1);
        kernel_sends(&end, h, 48);
        assert_int_equal(device_runs(&end), 0);
        kernel_hears(&end, 4, 5, 0, 0, NULL, 0);
        kernel_hears(&end, 4, 6, 0, 0, NULL, 0);
        kernel_hears_nothing(&end);
        end_it(&end);
}

/* A device that answers from inside submit(), and an unlink right behind. */
static void test_unlink_race(void **state)
{
        struct end end;
        uint8_t h[96], data[6];

        begin(&end);
        end.answers = true;
        submit_header(h, 1, true, 0, 0, 6, get_status);
        unlink_header(h + 48, 2, 1);
        kernel_sends(&end, h, 96);
        assert_int_equal(device_runs(&end), 0);
        assert_int_equal(end.unlinks, 0);
        kernel_hears(&end, 3, 1, 0, 6, data, 6);
        kernel_hears(&end, 4, 2, 0, 0, NULL, 0);

        /* The number may be used again now. */
        submit_header(h, 1, true, 0, 0, 6, get_status);
        kernel_sends(&end, h, 48);
        assert_int_equal(device_runs(&end), 0);
        kernel_hears(&end, 3, 1, 0, 6, data, 6);
        end_it(&end);
}

/* Frames cut at every byte, and many in one piece. */
static void test_pieces(void **state)
{
        uint8_t stream[3 * 48 + 5 + 48];
        size_t size = 0;

        submit_header(stream, 1, true, 0, 0, 6, get_status);
        size += 48;
        submit_header(stream + size, 2, false, 3, 0, 5, NULL);
        memcpy(stream + size + 48, "hello", 5);
        size += 53;
        unlink_header(stream + size, 3, 1);
        size += 48;
        submit_header(stream + size, 4, false, 3, 0, 0, NULL);
        size += 48;

        for (size_t cut = 0; cut <= size; cut++) {
                struct end end;

                begin(&end);
                assert_int_equal(usbip_feed(end.usbip, stream, cut), 0);
                assert_int_equal(usbip_feed(end.usbip, stream + cut, size - cut), 0);
                assert_int_equal(end.submits, 3);
                assert_int_equal(end.unlinks, 1);
                assert_int_equal(end.n_urbs, 2);
                end_it(&end);
        }
        struct end end;

        begin(&end);
        for (size_t i = 0; i < size; i++)
                assert_int_equal(usbip_feed(end.usbip, stream + i, 1), 0);
        assert_int_equal(end.submits, 3);
        end_it(&end);
}

static void spoil(void (*how)(uint8_t *h))
{
        struct end end;
        uint8_t h[96];

        begin(&end);
        submit_header(h, 1, true, 0, 0, 6, get_status);
        assert_int_equal(usbip_feed(end.usbip, h, 48), 0);
        submit_header(h, 2, true, 0, 0, 6, get_status);
        how(h);
        assert_int_equal(usbip_feed(end.usbip, h, 48), -EBADMSG);
        assert_int_equal(end.submits, 1);
        /* From then on nothing is believed. */
        submit_header(h, 3, true, 0, 0, 6, get_status);
        assert_int_equal(usbip_feed(end.usbip, h, 48), -EBADMSG);
        assert_int_equal(end.submits, 1);
        end_it(&end);
}

static void no_command(uint8_t *h) { put(h, 0); }
static void ret_submit(uint8_t *h) { put(h, 3); }
static void direction(uint8_t *h) { put(h + 12, 2); }
static void endpoint(uint8_t *h) { put(h + 16, 16); }
static void huge(uint8_t *h) { put(h + 16, 1); put(h + 24, 0x7fffffff); }
static void negative(uint8_t *h) { put(h + 16, 1); put(h + 24, (uint32_t)-1); }
static void isochronous(uint8_t *h) { put(h + 16, 1); put(h + 32, 8); }
static void wrong_length(uint8_t *h) { h[46] = 7; }
static void wrong_way(uint8_t *h) { put(h + 12, 0); }
static void same_number(uint8_t *h) { put(h + 4, 1); }

static void test_malformed(void **state)
{
        spoil(no_command);
        spoil(ret_submit);
        spoil(direction);
        spoil(endpoint);
        spoil(huge);
        spoil(negative);
        spoil(isochronous);
        spoil(wrong_length);
        spoil(wrong_way);
        spoil(same_number);
}

/* Anything at all: no crash, no endless loop, every urb accounted for (with the sanitizers). */
static void test_noise(void **state)
{
        uint32_t seed = 1;

        for (unsigned run = 0; run < 2000; run++) {
                struct end end;
                int r = 0;

                begin(&end);
                for (unsigned frame = 0; frame < 20 && r == 0 && end.n_urbs < MAX_URBS / 2; frame++) {
                        uint8_t h[48];

                        seed = seed * 1664525 + 1013904223;
                        if (seed >> 30 == 0)
                                unlink_header(h, frame + 100, seed >> 8 & 15);
                        else
                                submit_header(h, frame, seed >> 16 & 1, seed >> 17 & 3, 0, seed >> 20 & 63, get_status);
                        if ((seed >> 8 & 7) == 0)
                                h[seed >> 11 & 31] ^= (uint8_t)seed;
                        r = usbip_feed(end.usbip, h, 1 + (seed >> 5) % 48);
                        if (r == 0 && end.n_urbs > 0 && seed >> 28 & 1)
                                complete(&end, end.urbs[0], seed & 0x100 ? -EPROTO : 0, seed & 0x200 ? end.urbs[0]->size : 0);
                }
                end_it(&end);
        }
}

/* --- the disk without a medium --- */

static void command(uint8_t *cbw, uint8_t tag, uint32_t length, bool in, const uint8_t *block, size_t size)
{
        memset(cbw, 0, 31);
        memcpy(cbw, "USBC", 4);
        cbw[4] = tag;
        cbw[8] = (uint8_t)length;
        cbw[9] = (uint8_t)(length >> 8);
        cbw[12] = in ? 0x80 : 0;
        cbw[14] = (uint8_t)size;
        memcpy(cbw + 15, block, size);
}

static void expect_status(struct msc *msc, uint8_t tag, uint8_t status)
{
        uint8_t csw[64];

        assert_int_equal(msc_say(msc, csw, sizeof(csw)), 13);
        assert_memory_equal(csw, "USBS", 4);
        assert_int_equal(csw[4], tag);
        assert_int_equal(csw[12], status);
        assert_int_equal(msc_say(msc, csw, sizeof(csw)), -EAGAIN);
}

static void test_storage(void **state)
{
        struct msc msc;
        uint8_t cbw[31], bytes[512];

        msc_init(&msc);
        assert_int_equal(msc_say(&msc, bytes, sizeof(bytes)), -EAGAIN);

        command(cbw, 1, 36, true, (const uint8_t[]){ 0x12, 0, 0, 0, 36, 0 }, 6);
        assert_true(msc_receive(&msc, cbw, 31));
        assert_int_equal(msc_say(&msc, bytes, 36), 36);
        assert_int_equal(bytes[1], 0x80);
        assert_memory_equal(bytes + 8, "OpenMV  ", 8);
        expect_status(&msc, 1, 0);

        command(cbw, 2, 0, false, (const uint8_t[]){ 0x00, 0, 0, 0, 0, 0 }, 6);
        assert_true(msc_receive(&msc, cbw, 31));
        expect_status(&msc, 2, 1);
        command(cbw, 3, 18, true, (const uint8_t[]){ 0x03, 0, 0, 0, 18, 0 }, 6);
        assert_true(msc_receive(&msc, cbw, 31));
        assert_int_equal(msc_say(&msc, bytes, sizeof(bytes)), 18);
        assert_int_equal(bytes[2], 2);
        assert_int_equal(bytes[12], 0x3a);
        expect_status(&msc, 3, 0);

        /* What it cannot read is filled up, in transfers of any size; what is written is thrown away. */
        command(cbw, 4, 1024, true, (const uint8_t[]){ 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0 }, 10);
        assert_true(msc_receive(&msc, cbw, 31));
        assert_int_equal(msc_say(&msc, bytes, 512), 512);
        assert_int_equal(msc_say(&msc, bytes, 500), 500);
        assert_int_equal(msc_say(&msc, bytes, 500), 12);
        expect_status(&msc, 4, 1);
        command(cbw, 5, 512, false, (const uint8_t[]){ 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0 }, 10);
        assert_true(msc_receive(&msc, cbw, 31));
        assert_int_equal(msc_say(&msc, bytes, 13), -EAGAIN);
        assert_true(msc_receive(&msc, bytes, 512));
        expect_status(&msc, 5, 1);

        memset(cbw, 'x', sizeof(cbw));
        assert_false(msc_receive(&msc, cbw, 31));
        /* Both pipes are stalled now, for a command as it should be, too, until a reset. */
        assert_int_equal(msc_say(&msc, bytes, 13), -EPIPE);
        command(cbw, 6, 0, false, (const uint8_t[]){ 0x00, 0, 0, 0, 0, 0 }, 6);
        assert_false(msc_receive(&msc, cbw, 31));
        assert_int_equal(msc_say(&msc, bytes, 13), -EPIPE);
        msc_init(&msc);
        assert_true(msc_receive(&msc, cbw, 31));
        expect_status(&msc, 6, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_control),
                cmocka_unit_test(test_short),
                cmocka_unit_test(test_unlink),
                cmocka_unit_test(test_unlink_race),
                cmocka_unit_test(test_pieces),
                cmocka_unit_test(test_malformed),
                cmocka_unit_test(test_noise),
                cmocka_unit_test(test_storage),
        };

        return cmocka_run_group_tests_name("usbip", tests, NULL, NULL);
}
