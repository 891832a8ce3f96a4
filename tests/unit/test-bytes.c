/* SPDX-License-Identifier: MIT */

/* Bytes: the reader's bounds, comparisons, hexadecimal, and the two checksums against published values. */

#include "base/bytes.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

static void reader_reads_little_endian(void **state)
{
        static const uint8_t data[] = { 0x01, 0x34, 0x12, 0xef, 0xbe, 0xad, 0xde };
        struct reader reader = reader_new(data, sizeof(data));

        assert_int_equal(reader_u8(&reader), 0x01);
        assert_int_equal(reader_le16(&reader), 0x1234);
        assert_int_equal(reader_le32(&reader), 0xdeadbeef);
        assert_int_equal(reader.left, 0);
        assert_false(reader.failed);
}

static void reader_failure_is_sticky(void **state)
{
        static const uint8_t data[] = { 1, 2, 3 };
        struct reader reader = reader_new(data, sizeof(data));

        assert_int_equal(reader_le32(&reader), 0);
        assert_true(reader.failed);
        /* Three bytes stood there, but what follows a missing field means nothing. */
        assert_int_equal(reader_u8(&reader), 0);
        assert_null(reader_take(&reader, 1));
        assert_null(reader_take(&reader, 0));
        assert_true(reader.failed);
}

static void reader_takes_exactly_all(void **state)
{
        static const uint8_t data[] = { 1, 2, 3 };
        struct reader reader = reader_new(data, sizeof(data)), empty = reader_new(NULL, 0);

        assert_ptr_equal(reader_take(&reader, 3), data);
        assert_non_null(reader_take(&reader, 0));
        assert_false(reader.failed);
        assert_null(reader_take(&reader, SIZE_MAX));
        assert_true(reader.failed);

        assert_non_null(reader_take(&empty, 0));
        assert_int_equal(reader_u8(&empty), 0);
        assert_true(empty.failed);
}

static void little_endian_survives_a_round_trip(void **state)
{
        uint8_t data[7] = {};

        put_le32(data + 1, 0xfedcba98);
        assert_int_equal(get_le32(data + 1), 0xfedcba98);
        assert_int_equal(data[1], 0x98);
        assert_int_equal(data[5], 0);
        put_le16(data + 1, 0x8001);
        assert_int_equal(get_le16(data + 1), 0x8001);
        assert_int_equal(get_le32(data + 1), 0xfedc8001);
}

static void one_wrong_byte_is_seen_anywhere(void **state)
{
        uint8_t data[67];

        memset(data, 0xff, sizeof(data));
        for (size_t size = 0; size <= sizeof(data); size++)
                assert_true(bytes_all(data, size, 0xff));
        assert_true(bytes_all(data, 0, 0));
        assert_false(bytes_all(data, sizeof(data), 0));
        for (size_t i = 0; i < sizeof(data); i++) {
                data[i] = 0xfe;
                assert_false(bytes_all(data, sizeof(data), 0xff));
                assert_true(bytes_all(data, i, 0xff));
                data[i] = 0xff;
        }
}

/* Wherever it is cut, what is left is UTF-8 and as long as may be. */
static void text_ends_at_a_character(void **state)
{
        static const char text[] = "x\xc3\xa9\xe2\x82\xac\xf0\x9f\x93\xb7y";
        static const size_t left[] = { 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11 };

        for (size_t n = 0; n < sizeof(text); n++) {
                char cut[sizeof(text)];

                memcpy(cut, text, n);
                cut[n] = '\0';
                text_end_at_character(cut);
                assert_int_equal(strlen(cut), left[n]);
        }
}

static void common_prefix_ends_at_the_first_difference(void **state)
{
        uint8_t a[41], b[41];

        for (size_t i = 0; i < sizeof(a); i++)
                a[i] = b[i] = (uint8_t)(i * 7);
        for (size_t size = 0; size <= sizeof(a); size++)
                assert_int_equal(bytes_common_prefix(a, b, size), size);
        for (size_t i = 0; i < sizeof(a); i++) {
                b[i] ^= 0x80;
                assert_int_equal(bytes_common_prefix(a, b, sizeof(a)), i);
                assert_int_equal(bytes_common_prefix(a, b, i), i);
                b[i] ^= 0x80;
        }
}

static void hex_survives_a_round_trip(void **state)
{
        uint8_t data[256], back[256];
        char hex[513];

        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (uint8_t)i;
        hex_encode(data, sizeof(data), hex);
        assert_int_equal(strlen(hex), 512);
        assert_memory_equal(hex, "000102", 6);
        assert_string_equal(hex + 506, "fdfeff");
        assert_int_equal(hex_decode(hex, back, sizeof(back)), 0);
        assert_memory_equal(data, back, sizeof(data));
        assert_int_equal(hex_decode("aBCd", back, 2), 0);
        assert_memory_equal(back, "\xab\xcd", 2);
        assert_int_equal(hex_decode("", back, 0), 0);
}

static void hex_of_another_length_is_refused(void **state)
{
        static const char *const wrong[] = { "", "a", "ab", "abc", "abcde", "abcdef", "abcg", "ab d", "0xab", "ab-1", "+abc" };
        uint8_t data[2] = { 0x55, 0x55 };

        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                assert_int_equal(hex_decode(wrong[i], data, sizeof(data)), -EINVAL);
        /* And nothing was stored. */
        assert_memory_equal(data, "\x55\x55", 2);
}

static void dfu_crc_is_the_uninverted_one(void **state)
{
        /* The check value of CRC-32/JAMCRC. */
        assert_int_equal(dfu_crc("123456789", 9), 0x340bc6d9);
        assert_int_equal(dfu_crc(NULL, 0), 0xffffffff);
        assert_int_equal(dfu_crc("", 0), 0xffffffff);
}

static void digest_is_sha256(void **state)
{
        char hex[DIGEST_HEX_SIZE];
        struct digest a, b;

        digest_of("", 0, &a);
        digest_to_hex(&a, hex);
        assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        digest_of("abc", 3, &b);
        digest_to_hex(&b, hex);
        assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_false(digest_equal(&a, &b));
        digest_of("abc", 3, &a);
        assert_true(digest_equal(&a, &b));
}

static void *digest_many(void *userdata)
{
        struct digest digest;
        uint8_t data[1000] = {};

        for (int i = 0; i < 100; i++)
                digest_of(data, sizeof(data), &digest);
        *(struct digest *)userdata = digest;
        return NULL;
}

static void digests_on_many_threads_agree(void **state)
{
        struct digest digests[8];
        pthread_t threads[8];

        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                assert_int_equal(pthread_create(&threads[i], NULL, digest_many, &digests[i]), 0);
        for (size_t i = 0; i < ELEMENTSOF(threads); i++)
                assert_int_equal(pthread_join(threads[i], NULL), 0);
        for (size_t i = 1; i < ELEMENTSOF(threads); i++)
                assert_true(digest_equal(&digests[0], &digests[i]));
}

int main(void)
{
        /* The threads first: they find the library not yet set up. */
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(digests_on_many_threads_agree),
                cmocka_unit_test(digest_is_sha256),
                cmocka_unit_test(dfu_crc_is_the_uninverted_one),
                cmocka_unit_test(reader_reads_little_endian),
                cmocka_unit_test(reader_failure_is_sticky),
                cmocka_unit_test(reader_takes_exactly_all),
                cmocka_unit_test(little_endian_survives_a_round_trip),
                cmocka_unit_test(one_wrong_byte_is_seen_anywhere),
                cmocka_unit_test(text_ends_at_a_character),
                cmocka_unit_test(common_prefix_ends_at_the_first_difference),
                cmocka_unit_test(hex_survives_a_round_trip),
                cmocka_unit_test(hex_of_another_length_is_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
