/* SPDX-License-Identifier: MIT */
/*
 * Talks with running cameras: each is a list of what comes and what must be
 * answered, byte for byte.  The packets are those of runtime-protocol.md.
 */

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
#include "protocol/runtime.h"

#define SYNC            "AAD5000000000000B0AC"
#define SYNC_ACK        "AAD50000010000000846"
#define BYTES_MAX       8192

/* --- bytes --- */

static size_t from_hex(const char *hex, uint8_t *bytes)
{
        size_t n = 0;

        for (; *hex; hex++) {
                unsigned value;

                if (*hex == ' ')
                        continue;
                assert_int_equal(sscanf(hex, "%2x", &value), 1);
                assert_true(n < BYTES_MAX);
                bytes[n++] = (uint8_t)value;
                hex++;
        }
        return n;
}

static void expect_bytes(const char *what, const void *have, size_t have_size, const void *want, size_t want_size)
{
        char have_hex[2 * 512 + 1], want_hex[2 * 512 + 1];

        if (have_size == want_size && (have_size == 0 || memcmp(have, want, want_size) == 0))
                return;
        hex_encode(have, MIN(have_size, (size_t)512), have_hex);
        hex_encode(want, MIN(want_size, (size_t)512), want_hex);
        fail_msg("%s: %s (%zu); expected %s (%zu)", what, have_hex, have_size, want_hex, want_size);
}

/* --- a talk --- */

struct talk {
        struct runtime runtime;
        struct runtime_step step;       /* the last */
        uint8_t sent[BYTES_MAX];        /* since it was last looked at */
        size_t n_sent;
};

static void take(struct talk *talk, struct runtime_step step)
{
        talk->step = step;
        assert_true(talk->n_sent + step.size <= sizeof(talk->sent));
        if (step.size > 0)
                memcpy(talk->sent + talk->n_sent, step.data, step.size);
        talk->n_sent += step.size;
}

static void hears_bytes(struct talk *talk, const uint8_t *bytes, size_t size)
{
        assert_int_equal(talk->step.kind, RUNTIME_LISTEN);
        take(talk, runtime_next(&talk->runtime, bytes, size));
}

static void hears(struct talk *talk, const char *hex)
{
        uint8_t bytes[BYTES_MAX];

        hears_bytes(talk, bytes, from_hex(hex, bytes));
}

static void hears_packet(struct talk *talk, const struct runtime_packet *packet)
{
        uint8_t bytes[RUNTIME_PACKET_MAX];

        hears_bytes(talk, bytes, runtime_packet_write(packet, bytes));
}

static void time_is_over(struct talk *talk)
{
        assert_int_equal(talk->step.kind, RUNTIME_LISTEN);
        take(talk, runtime_next(&talk->runtime, NULL, 0));
}

static void says(struct talk *talk, const char *hex)
{
        uint8_t bytes[BYTES_MAX];
        size_t n = from_hex(hex, bytes);

        expect_bytes("sent", talk->sent, talk->n_sent, bytes, n);
        talk->n_sent = 0;
}

static void says_packet(struct talk *talk, uint8_t sequence, uint8_t flags, uint8_t opcode)
{
        const struct runtime_packet packet = { .sequence = sequence, .flags = flags, .opcode = opcode };
        uint8_t bytes[RUNTIME_HEADER_SIZE];

        assert_true(talk->n_sent >= sizeof(bytes));
        expect_bytes("sent", talk->sent, sizeof(bytes), bytes, runtime_packet_write(&packet, bytes));
        talk->n_sent -= sizeof(bytes);
        memmove(talk->sent, talk->sent + sizeof(bytes), talk->n_sent);
}

static void says_nothing(struct talk *talk)
{
        says(talk, "");
}

static void is_done(const struct talk *talk)
{
        assert_int_equal(talk->step.kind, RUNTIME_DONE);
}

static void has_failed(const struct talk *talk, enum runtime_outcome outcome)
{
        assert_int_equal(talk->step.kind, RUNTIME_FAILED);
        assert_string_equal(runtime_outcome_to_string(talk->step.outcome), runtime_outcome_to_string(outcome));
}

static void begin_identify(struct talk *talk)
{
        *talk = (struct talk){};
        runtime_begin_identify(&talk->runtime);
        take(talk, runtime_next(&talk->runtime, NULL, 0));
        says_nothing(talk);
        assert_int_equal(talk->step.wait, 50000);
        time_is_over(talk);
        says(talk, "30 80 0C000000");
        assert_int_equal(talk->step.wait, 300000);
}

static void begin_restart(struct talk *talk)
{
        runtime_begin_restart(&talk->runtime);
        take(talk, runtime_next(&talk->runtime, NULL, 0));
}

/* "4.8.1", and "OMV4 H7 1024 [H7:34303639330D5113001F002A]" with garbage behind its NUL */
#define LEGACY_4_8_1 "04000000 08000000 01000000"
static void hears_arch(struct talk *talk, const char *text)
{
        uint8_t bytes[64];

        memset(bytes, 0xa5, sizeof(bytes));
        memcpy(bytes, text, strlen(text) + 1);
        hears_bytes(talk, bytes, sizeof(bytes));
}

#define ARCH_A "OMV4 H7 1024 [H7:34303639330D5113001F002A]"

static void version_response(struct talk *talk, uint8_t sequence, uint8_t flags)
{
        static const uint8_t payload[16] = { 1, 0, 2, 1, 0, 3, 5, 0, 0 };

        hears_packet(talk, &(struct runtime_packet){ .sequence = sequence, .flags = flags, .opcode = RUNTIME_VERSION, .payload = payload,
                                                     .size = sizeof(payload) });
}

static const uint8_t info_a[76] = {
        0x72, 0xc2, 0x1f, 0x41,                                         /* cpuid */
        0x39, 0x36, 0x30, 0x34, 0x13, 0x51, 0x0d, 0x33, 0x2a, 0x00, 0x1f, 0x00,
        0x04, 0x12, 0xc5, 0x37,
};

static void info_response(struct talk *talk, uint8_t sequence, uint8_t flags)
{
        hears_packet(talk, &(struct runtime_packet){ .sequence = sequence, .flags = flags, .opcode = RUNTIME_SYS_INFO, .payload = info_a,
                                                     .size = sizeof(info_a) });
}

static void begin_packets(struct talk *talk)
{
        begin_identify(talk);
        time_is_over(talk);
        says(talk, SYNC);
        assert_int_equal(talk->step.wait, 500000);
}

/* --- the packets of the reference --- */

static void crcs(void **unused)
{
        (void)unused;
        assert_int_equal(runtime_crc16("123456789", 9), 0xe541);
        assert_int_equal(runtime_crc32("123456789", 9), 0x41b403d3);
}

static const struct {
        const char *hex;
        uint8_t sequence, flags, opcode;
        const char *payload;
} vectors[] = {
        { "AAD5 00 00 00 00 0000 B0AC", 0, 0, 0x00, "" },
        { "AAD5 00 00 01 00 0000 0846", 0, RUNTIME_FLAG_ACK, 0x00, "" },
        { "AAD5 00 00 00 01 0000 C3DD", 0, 0, 0x01, "" },
        { "AAD5 00 00 08 01 1000 EF0B 0F000000F20F00000000000000000000 8D0E859E", 0, RUNTIME_FLAG_ACK_REQ, 0x01,
          "0F000000F20F00000000000000000000" },
        { "AAD5 00 00 01 01 0000 7B37", 0, RUNTIME_FLAG_ACK, 0x01, "" },
        { "AAD5 01 00 00 04 0000 7DF7", 1, 0, 0x04, "" },
        { "AAD5 01 00 08 04 1000 5121 01000201000305000000000000000000 655CF299", 1, RUNTIME_FLAG_ACK_REQ, 0x04,
          "01000201000305000000000000000000" },
        { "AAD5 01 00 01 04 0000 C51D", 1, RUNTIME_FLAG_ACK, 0x04, "" },
        { "AAD5 02 00 00 12 0000 C672", 2, 0, 0x12, "" },
        { "AAD5 03 00 00 11 0000 1D86", 3, 0, 0x11, "" },
        { "AAD5 00 00 00 11 0000 CF2F", 0, 0, 0x11, "" },
        { "AAD5 00 00 00 10 0000 BC5E", 0, 0, 0x10, "" },
        { "AAD5 00 00 02 04 0200 D6B0 0600 DE22819A", 0, RUNTIME_FLAG_NAK, 0x04, "0600" },
};

static void the_vectors(void **unused)
{
        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(vectors); i++) {
                uint8_t bytes[BYTES_MAX], payload[BYTES_MAX], written[BYTES_MAX];
                size_t n = from_hex(vectors[i].hex, bytes), n_payload = from_hex(vectors[i].payload, payload);
                const struct runtime_packet packet = { .sequence = vectors[i].sequence, .flags = vectors[i].flags,
                                                       .opcode = vectors[i].opcode, .payload = payload, .size = (uint16_t)n_payload };
                struct runtime_packet read;
                bool found, bad;

                expect_bytes(vectors[i].hex, written, runtime_packet_write(&packet, written), bytes, n);
                assert_int_equal(runtime_packet_read(bytes, n, &read, &found, &bad), n);
                assert_true(found && !bad);
                assert_int_equal(read.sequence, packet.sequence);
                assert_int_equal(read.channel, 0);
                assert_int_equal(read.flags, packet.flags);
                assert_int_equal(read.opcode, packet.opcode);
                expect_bytes("payload", read.payload, read.size, payload, n_payload);
                /* Half a packet is waited for, whatever half. */
                for (size_t part = 0; part < n; part++) {
                        assert_int_equal(runtime_packet_read(bytes, part, &read, &found, &bad), 0);
                        assert_false(found || bad);
                }
                /* A damaged bit anywhere: nothing is found. */
                for (size_t bit = 0; bit < 8 * n; bit++) {
                        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
                        assert_true(runtime_packet_read(bytes, n, &read, &found, &bad) <= n);
                        assert_false(found);
                        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
                }
        }
}

static void garbage_between_packets(void **unused)
{
        uint8_t bytes[BYTES_MAX];
        size_t n = from_hex("AA AAD5 4D50 AAD5AAD5 00 AAD50000010000000846 AA", bytes), taken;
        struct runtime_packet packet;
        bool found, bad;

        (void)unused;
        taken = runtime_packet_read(bytes, n, &packet, &found, &bad);
        assert_true(found);
        assert_int_equal(packet.flags, RUNTIME_FLAG_ACK);
        assert_int_equal(taken, n - 1);
        assert_int_equal(runtime_packet_read(bytes + taken, n - taken, &packet, &found, &bad), 0);
        assert_false(found);

        /* A payload whose CRC is wrong, and a sound packet inside it and behind it. */
        n = from_hex("AAD5 00 00 08 01 1000 EF0B AAD50000010000000846 000000000000 00000000 AAD5000000000000B0AC", bytes);
        taken = runtime_packet_read(bytes, n, &packet, &found, &bad);
        assert_true(found && bad);
        assert_int_equal(packet.flags, RUNTIME_FLAG_ACK);
        assert_int_equal(taken, 20);
        taken += runtime_packet_read(bytes + taken, n - taken, &packet, &found, &bad);
        assert_true(found && !bad);
        assert_int_equal(packet.flags, 0);
        assert_int_equal(taken, n);
}

static void longest_packet(void **unused)
{
        uint8_t payload[RUNTIME_PAYLOAD_MAX], bytes[RUNTIME_PACKET_MAX];
        struct runtime_packet packet = { .opcode = 7, .payload = payload, .size = sizeof(payload) }, read;
        bool found, bad;

        (void)unused;
        memset(payload, 0xaa, sizeof(payload));
        assert_int_equal(runtime_packet_write(&packet, bytes), sizeof(bytes));
        assert_int_equal(runtime_packet_read(bytes, sizeof(bytes), &read, &found, &bad), sizeof(bytes));
        assert_true(found);
        /* One byte more is no packet, though its header's CRC is right. */
        put_le16(bytes + 6, RUNTIME_PAYLOAD_MAX + 1);
        put_le16(bytes + 8, runtime_crc16(bytes, 8));
        assert_true(runtime_packet_read(bytes, sizeof(bytes), &read, &found, &bad) > 0);
        assert_false(found);
}

/* --- legacy --- */

static void legacy_identifies_and_restarts(void **unused)
{
        struct talk talk;

        (void)unused;
        begin_identify(&talk);
        hears(&talk, LEGACY_4_8_1);
        says(&talk, "30 83 40000000");
        hears_arch(&talk, ARCH_A);
        is_done(&talk);
        says_nothing(&talk);
        assert_int_equal(talk.runtime.protocol, RUNTIME_LEGACY);
        assert_int_equal(talk.runtime.version[0], 4);
        assert_int_equal(talk.runtime.version[1], 8);
        assert_int_equal(talk.runtime.version[2], 1);
        assert_true(talk.runtime.has_id);
        assert_string_equal(talk.runtime.id, "34303639330D5113001F002A");

        begin_restart(&talk);
        says(&talk, "30 0E 00000000");
        hears(&talk, "00010203");               /* output of a script */
        says_nothing(&talk);
        /* It did not listen: an ordinary reset. */
        time_is_over(&talk);
        says(&talk, "30 0C 00000000");
        time_is_over(&talk);
        has_failed(&talk, RUNTIME_IGNORED);
}

static void old_firmware_is_reset(void **unused)
{
        static const struct {
                const char *version, *command;
        } cases[] = {
                { "03000000 06000000 07000000", "30 0C 00000000" },
                { "03000000 05000000 09000000", "30 0C 00000000" },
                { "02000000 09000000 00000000", "30 0C 00000000" },
                { "03000000 06000000 08000000", "30 0E 00000000" },
                { "03000000 09000000 00000000", "30 0E 00000000" },
                { "04000000 00000000 00000000", "30 0E 00000000" },
        };

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                struct talk talk;

                begin_identify(&talk);
                hears(&talk, cases[i].version);
                says(&talk, "30 83 40000000");
                hears_arch(&talk, ARCH_A);
                is_done(&talk);
                begin_restart(&talk);
                says(&talk, cases[i].command);
        }
}

static void legacy_in_pieces(void **unused)
{
        struct talk talk;
        uint8_t arch[64] = ARCH_A;

        (void)unused;
        begin_identify(&talk);
        hears(&talk, "04000000 0800");
        says_nothing(&talk);
        assert_int_equal(talk.step.wait, 0);
        time_is_over(&talk);                    /* something came: a little longer */
        says_nothing(&talk);
        assert_int_equal(talk.step.wait, 300000);
        hears(&talk, "0000 01000000");
        says(&talk, "30 83 40000000");
        for (size_t i = 0; i < sizeof(arch); i++)
                hears_bytes(&talk, arch + i, 1);
        is_done(&talk);
        assert_string_equal(talk.runtime.id, "34303639330D5113001F002A");
}

static void what_was_under_way_is_no_version(void **unused)
{
        struct talk talk;
        uint8_t flood[3 * RUNTIME_PACKET_MAX];

        (void)unused;
        talk = (struct talk){};
        runtime_begin_identify(&talk.runtime);
        take(&talk, runtime_next(&talk.runtime, NULL, 0));
        hears(&talk, LEGACY_4_8_1);             /* before we asked */
        says_nothing(&talk);
        time_is_over(&talk);
        says(&talk, "30 80 0C000000");
        hears(&talk, "3E3E3E20 4D6963726F507974686F6E");        /* a prompt */
        says_nothing(&talk);
        memset(flood, 'x', sizeof(flood));
        hears_bytes(&talk, flood, sizeof(flood));
        says_nothing(&talk);
        hears(&talk, LEGACY_4_8_1);
        says(&talk, "30 83 40000000");
        hears_arch(&talk, ARCH_A);
        is_done(&talk);
}

static void senseless_arch(void **unused)
{
        static const char *const texts[] = {
                "", "OMV4 H7 1024", "OMV4 H7 1024 [H7:]", "[H7:34303639330D5113001F00]", "[H7:34303639330D5113001F002A",
                "[H7:34303639330D5113001F002A2]", "[H7:34303639330D5113001F00ZZ]", "]H7:34303639330D5113001F002A[",
                "[34303639330D5113001F002A]",
        };

        (void)unused;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                struct talk talk;

                begin_identify(&talk);
                hears(&talk, LEGACY_4_8_1);
                hears_arch(&talk, texts[i]);
                has_failed(&talk, RUNTIME_BAD_ANSWER);
                assert_false(talk.runtime.has_id);
        }
}

static void legacy_falls_silent(void **unused)
{
        struct talk talk;

        (void)unused;
        begin_identify(&talk);
        hears(&talk, LEGACY_4_8_1);
        says(&talk, "30 83 40000000");
        assert_int_equal(talk.step.wait, 1000000);
        hears(&talk, "4F4D5634");
        time_is_over(&talk);
        has_failed(&talk, RUNTIME_BAD_ANSWER);
        says_nothing(&talk);
}

/* --- packets --- */

static void packets_identify_and_restart(void **unused)
{
        struct talk talk;

        (void)unused;
        begin_packets(&talk);
        hears(&talk, SYNC_ACK);
        says_packet(&talk, 0, 0, RUNTIME_VERSION);
        says_nothing(&talk);
        assert_int_equal(talk.step.wait, 1000000);
        version_response(&talk, 0, RUNTIME_FLAG_ACK_REQ);
        says_packet(&talk, 0, RUNTIME_FLAG_ACK, RUNTIME_VERSION);
        says_packet(&talk, 1, 0, RUNTIME_SYS_INFO);
        says_nothing(&talk);
        info_response(&talk, 1, RUNTIME_FLAG_ACK_REQ);
        is_done(&talk);
        says_packet(&talk, 1, RUNTIME_FLAG_ACK, RUNTIME_SYS_INFO);
        says_nothing(&talk);
        assert_int_equal(talk.runtime.protocol, RUNTIME_PACKETS);
        assert_int_equal(talk.runtime.version[0], 5);
        assert_string_equal(talk.runtime.id, "34303639330D5113001F002A");

        begin_restart(&talk);
        says_packet(&talk, 2, 0, RUNTIME_SYS_BOOT);
        says_nothing(&talk);
        /* Lost: in step again, and once more. */
        time_is_over(&talk);
        says(&talk, SYNC);
        hears(&talk, SYNC_ACK);
        says(&talk, "AAD50000001100 00CF2F");
        time_is_over(&talk);
        has_failed(&talk, RUNTIME_IGNORED);
}

static void packets_byte_by_byte(void **unused)
{
        static const struct runtime_packet event = { .channel = 3, .flags = RUNTIME_FLAG_EVENT, .opcode = 0x29, .payload = (const uint8_t *)"xy",
                                                     .size = 2 };
        uint8_t bytes[BYTES_MAX];
        size_t n;
        struct talk talk;

        (void)unused;
        begin_packets(&talk);
        n = from_hex("4D50 " SYNC_ACK, bytes);
        for (size_t i = 0; i < n; i++) {
                says_nothing(&talk);
                hears_bytes(&talk, bytes + i, 1);
        }
        says_packet(&talk, 0, 0, RUNTIME_VERSION);
        /* An event does not advance the sequence, and is not answered. */
        hears_packet(&talk, &event);
        says_nothing(&talk);
        assert_int_equal(talk.step.wait, 0);
        version_response(&talk, 0, RUNTIME_FLAG_ACK_REQ);
        says_packet(&talk, 0, RUNTIME_FLAG_ACK, RUNTIME_VERSION);
        says_packet(&talk, 1, 0, RUNTIME_SYS_INFO);
        says_nothing(&talk);
}

static void events_are_acknowledged_if_they_want(void **unused)
{
        struct talk talk;

        (void)unused;
        begin_packets(&talk);
        hears_packet(&talk, &(struct runtime_packet){ .sequence = 9, .flags = RUNTIME_FLAG_EVENT | RUNTIME_FLAG_ACK_REQ, .opcode = 0x13 });
        says_packet(&talk, 9, RUNTIME_FLAG_ACK, 0x13);
        says_nothing(&talk);
        hears(&talk, SYNC_ACK);
        says_packet(&talk, 0, 0, RUNTIME_VERSION);
}

static void retransmissions(void **unused)
{
        struct talk talk;

        (void)unused;
        begin_packets(&talk);
        hears(&talk, SYNC_ACK);
        says_packet(&talk, 0, 0, RUNTIME_VERSION);
        /* Damaged on its way: it comes again. */
        hears(&talk, "AAD5 00 00 08 04 1000");
        says_nothing(&talk);
        version_response(&talk, 0, RUNTIME_FLAG_ACK_REQ | RUNTIME_FLAG_RTX);
        says_packet(&talk, 0, RUNTIME_FLAG_ACK, RUNTIME_VERSION);
        says_packet(&talk, 1, 0, RUNTIME_SYS_INFO);
        /* Our acknowledgement was lost: it says it again, and we do, too; the question that it did not hear is asked when the time is over. */
        version_response(&talk, 0, RUNTIME_FLAG_ACK_REQ | RUNTIME_FLAG_RTX);
        says_packet(&talk, 0, RUNTIME_FLAG_ACK, RUNTIME_VERSION);
        says_nothing(&talk);
        time_is_over(&talk);
        says(&talk, SYNC);
        hears(&talk, SYNC_ACK);
        says_packet(&talk, 0, 0, RUNTIME_VERSION);
        version_response(&talk, 0, RUNTIME_FLAG_ACK_REQ);
        says_packet(&talk, 0, RUNTIME_FLAG_ACK, RUNTIME_VERSION);
        says_packet(&talk, 1, 0, RUNTIME_SYS_INFO);
        info_response(&talk, 1, RUNTIME_FLAG_ACK_REQ);
        is_done(&talk);
}

static void fragments(void **unused)
{
        struct talk talk;

        (void)unused;
        begin_packets(&talk);
        hears(&talk, SYNC_ACK);
        version_response(&talk, 0, RUNTIME_FLAG_ACK_REQ);
        talk.n_sent = 0;
        hears_packet(&talk, &(struct runtime_packet){ .sequence = 1, .flags = RUNTIME_FLAG_ACK_REQ | RUNTIME_FLAG_FRAGMENT,
                                                      .opcode = RUNTIME_SYS_INFO, .payload = info_a, .size = 50 });
        says_packet(&talk, 1, RUNTIME_FLAG_ACK, RUNTIME_SYS_INFO);
        says_nothing(&talk);
        hears_packet(&talk, &(struct runtime_packet){ .sequence = 2, .flags = RUNTIME_FLAG_ACK_REQ, .opcode = RUNTIME_SYS_INFO,
                                                      .payload = info_a + 50, .size = sizeof(info_a) - 50 });
        is_done(&talk);
        assert_string_equal(talk.runtime.id, "34303639330D5113001F002A");
        talk.n_sent = 0;
        begin_restart(&talk);
        says_packet(&talk, 3, 0, RUNTIME_SYS_BOOT);
}

static void refused(void **unused)
{
        struct talk talk;

        (void)unused;
        begin_packets(&talk);
        for (unsigned i = 0; i < 4; i++) {
                hears(&talk, SYNC_ACK);
                says_packet(&talk, 0, 0, RUNTIME_VERSION);
                says_nothing(&talk);
                hears(&talk, "AAD500000204 0200D6B0 0600 DE22819A");
                if (i < 3)
                        says(&talk, SYNC);
        }
        has_failed(&talk, RUNTIME_REFUSED);
}

static void restart_refused_once(void **unused)
{
        struct talk talk;

        (void)unused;
        begin_packets(&talk);
        hears(&talk, SYNC_ACK);
        version_response(&talk, 0, RUNTIME_FLAG_ACK_REQ);
        info_response(&talk, 1, RUNTIME_FLAG_ACK_REQ);
        is_done(&talk);
        talk.n_sent = 0;
        begin_restart(&talk);
        says_packet(&talk, 2, 0, RUNTIME_SYS_BOOT);
        hears_packet(&talk, &(struct runtime_packet){ .sequence = 2, .flags = RUNTIME_FLAG_NAK, .opcode = RUNTIME_SYS_BOOT,
                                                      .payload = (const uint8_t *)"\6\0", .size = 2 });
        says(&talk, SYNC);
        hears(&talk, SYNC_ACK);
        says_packet(&talk, 0, 0, RUNTIME_SYS_BOOT);
        hears_packet(&talk, &(struct runtime_packet){ .sequence = 0, .flags = RUNTIME_FLAG_NAK, .opcode = RUNTIME_SYS_BOOT,
                                                      .payload = (const uint8_t *)"\6\0", .size = 2 });
        has_failed(&talk, RUNTIME_IGNORED);
}

static void senseless_responses(void **unused)
{
        static const uint8_t nothing[128];
        struct talk talk;

        (void)unused;
        /* Cut short. */
        begin_packets(&talk);
        hears(&talk, SYNC_ACK);
        hears_packet(&talk, &(struct runtime_packet){ .flags = RUNTIME_FLAG_ACK_REQ, .opcode = RUNTIME_VERSION, .payload = nothing, .size = 8 });
        has_failed(&talk, RUNTIME_BAD_ANSWER);
        /* Longer than anything it could say; and a fragment that never ends. */
        begin_packets(&talk);
        hears(&talk, SYNC_ACK);
        version_response(&talk, 0, RUNTIME_FLAG_ACK_REQ);
        hears_packet(&talk, &(struct runtime_packet){ .sequence = 1, .flags = RUNTIME_FLAG_ACK_REQ | RUNTIME_FLAG_FRAGMENT,
                                                      .opcode = RUNTIME_SYS_INFO, .payload = nothing, .size = 128 });
        hears_packet(&talk, &(struct runtime_packet){ .sequence = 2, .flags = RUNTIME_FLAG_ACK_REQ | RUNTIME_FLAG_FRAGMENT,
                                                      .opcode = RUNTIME_SYS_INFO, .payload = nothing, .size = 1 });
        has_failed(&talk, RUNTIME_BAD_ANSWER);
        /* Of another channel, of another question, of another time: not meant. */
        begin_packets(&talk);
        hears(&talk, SYNC_ACK);
        talk.n_sent = 0;
        hears_packet(&talk, &(struct runtime_packet){ .channel = 1, .opcode = RUNTIME_VERSION, .payload = nothing, .size = 16 });
        hears_packet(&talk, &(struct runtime_packet){ .opcode = RUNTIME_SYS_INFO, .payload = nothing, .size = 76 });
        hears_packet(&talk, &(struct runtime_packet){ .sequence = 1, .opcode = RUNTIME_VERSION, .payload = nothing, .size = 16 });
        hears(&talk, SYNC_ACK);
        says_nothing(&talk);
        assert_int_equal(talk.step.kind, RUNTIME_LISTEN);
}

static void silence(void **unused)
{
        struct talk talk;
        uint64_t waited = 0;

        (void)unused;
        begin_identify(&talk);
        waited += talk.step.wait;
        for (unsigned i = 0; i < 4; i++) {
                time_is_over(&talk);
                says(&talk, SYNC);
                waited += talk.step.wait;
        }
        time_is_over(&talk);
        has_failed(&talk, RUNTIME_NO_ANSWER);
        says_nothing(&talk);
        assert_true(waited <= 3000000);

        /* In step, and then never a word. */
        begin_packets(&talk);
        hears(&talk, SYNC_ACK);
        for (unsigned i = 0; i < 3; i++) {
                time_is_over(&talk);
                hears(&talk, SYNC_ACK);
        }
        time_is_over(&talk);
        has_failed(&talk, RUNTIME_BAD_ANSWER);
}

static void babble(void **unused)
{
        uint8_t bytes[RUNTIME_PACKET_MAX + 1];
        struct talk talk;

        (void)unused;
        /* Whatever it is, the time that was set decides. */
        for (unsigned fill = 0; fill < 3; fill++) {
                memset(bytes, fill == 0 ? 0xaa : fill == 1 ? 0xd5 : 0x30, sizeof(bytes));
                begin_identify(&talk);
                for (unsigned i = 0; i < 10; i++)
                        hears_bytes(&talk, bytes, sizeof(bytes));
                time_is_over(&talk);            /* a little longer */
                time_is_over(&talk);
                says(&talk, SYNC);
                for (unsigned i = 0; i < 10; i++)
                        hears_bytes(&talk, bytes, sizeof(bytes));
                says_nothing(&talk);
                hears(&talk, SYNC_ACK);
                says_packet(&talk, 0, 0, RUNTIME_VERSION);
        }
}

static void outcome_names(void **unused)
{
        (void)unused;
        for (int i = 0; i < _RUNTIME_OUTCOME_MAX; i++)
                assert_int_equal(runtime_outcome_from_string(runtime_outcome_to_string((enum runtime_outcome)i)), i);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/packet/crc", crcs, NULL, NULL, NULL },
                { "/packet/vectors", the_vectors, NULL, NULL, NULL },
                { "/packet/garbage-between", garbage_between_packets, NULL, NULL, NULL },
                { "/packet/longest", longest_packet, NULL, NULL, NULL },
                { "/legacy/identifies-and-restarts", legacy_identifies_and_restarts, NULL, NULL, NULL },
                { "/legacy/old-firmware-is-reset", old_firmware_is_reset, NULL, NULL, NULL },
                { "/legacy/in-pieces", legacy_in_pieces, NULL, NULL, NULL },
                { "/legacy/what-was-under-way", what_was_under_way_is_no_version, NULL, NULL, NULL },
                { "/legacy/senseless-arch", senseless_arch, NULL, NULL, NULL },
                { "/legacy/falls-silent", legacy_falls_silent, NULL, NULL, NULL },
                { "/packets/identify-and-restart", packets_identify_and_restart, NULL, NULL, NULL },
                { "/packets/byte-by-byte", packets_byte_by_byte, NULL, NULL, NULL },
                { "/packets/events", events_are_acknowledged_if_they_want, NULL, NULL, NULL },
                { "/packets/retransmissions", retransmissions, NULL, NULL, NULL },
                { "/packets/fragments", fragments, NULL, NULL, NULL },
                { "/packets/refused", refused, NULL, NULL, NULL },
                { "/packets/restart-refused-once", restart_refused_once, NULL, NULL, NULL },
                { "/packets/senseless-responses", senseless_responses, NULL, NULL, NULL },
                { "/silence", silence, NULL, NULL, NULL },
                { "/babble", babble, NULL, NULL, NULL },
                { "/outcome-names", outcome_names, NULL, NULL, NULL },
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
