/* SPDX-License-Identifier: MIT */

/*
 * core/image: files as they are found in the world, every way in which they may
 * be wrong, and whether they belong on a board.  The boards are the real ones.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "core/image.h"

static struct board_list boards;

#define assert_fault(got, expected)                                                                     \
        assert_string_equal(image_fault_to_string(got), image_fault_to_string(expected))

/* --- making files --- */

struct piece {
        uint8_t alt;
        uint32_t address, size;
        uint8_t fill;
        uint32_t stack, reset;          /* first two words, if not both 0 */
};

static void put_crc(uint8_t *file, size_t size)
{
        put_le32(file + size - 4, dfu_crc(file, size - 4));
}

static uint8_t *put_suffix(uint8_t *p, uint16_t device, uint16_t product, uint16_t vendor, uint16_t bcd)
{
        put_le16(p, device);
        put_le16(p + 2, product);
        put_le16(p + 4, vendor);
        put_le16(p + 6, bcd);
        memcpy(p + 8, "UFD", 3);
        p[11] = 16;
        return p + 16;
}

/* A DfuSe file; consecutive pieces of one alternate setting make one target. */
static uint8_t *make_dfuse(const struct piece *pieces, size_t n, size_t *ret_size)
{
        size_t size = 11 + 16, n_targets = 0;
        uint8_t *file, *p, *target = NULL;

        for (size_t i = 0; i < n; i++) {
                if (i == 0 || pieces[i].alt != pieces[i - 1].alt) {
                        size += 274;
                        n_targets++;
                }
                size += 8 + pieces[i].size;
        }
        file = calloc(1, size);
        assert_non_null(file);
        memcpy(file, "DfuSe\1", 6);
        put_le32(file + 6, (uint32_t)(size - 16));
        file[10] = (uint8_t)n_targets;
        p = file + 11;
        for (size_t i = 0; i < n; i++) {
                if (i == 0 || pieces[i].alt != pieces[i - 1].alt) {
                        target = p;
                        memcpy(p, "Target", 6);
                        p[6] = pieces[i].alt;
                        p[7] = 1;
                        memcpy(p + 11, "ST...", 5);
                        p += 274;
                }
                put_le32(target + 266, get_le32(target + 266) + 8 + pieces[i].size);
                put_le32(target + 270, get_le32(target + 270) + 1);
                put_le32(p, pieces[i].address);
                put_le32(p + 4, pieces[i].size);
                memset(p + 8, pieces[i].fill, pieces[i].size);
                if (pieces[i].stack || pieces[i].reset) {
                        put_le32(p + 8, pieces[i].stack);
                        put_le32(p + 12, pieces[i].reset);
                }
                p += 8 + pieces[i].size;
        }
        p = put_suffix(p, 0, 0xdf11, 0x0483, 0x011a);
        assert_int_equal(p - file, size);
        put_crc(file, size);
        *ret_size = size;
        return file;
}

static uint8_t *make_raw(size_t size, uint8_t fill, uint32_t stack, uint32_t reset)
{
        uint8_t *raw = malloc(size);

        assert_non_null(raw);
        memset(raw, fill, size);
        put_le32(raw, stack);
        put_le32(raw + 4, reset);
        return raw;
}

static const struct board *board(const char *id)
{
        const struct board *b = board_by_id(&boards, id);

        assert_non_null(b);
        return b;
}

static const struct partition *partition(const struct board *b, const char *name)
{
        const struct partition *p = layout_partition(&b->layouts[0], name, NULL);

        assert_non_null(p);
        return p;
}

static uint32_t bit(const char *id)
{
        return UINT32_C(1) << (board(id) - boards.boards);
}

static enum image_fault fit(const struct image *image, const char *id, const char *name, size_t *ret_size)
{
        const uint8_t *data = NULL;
        size_t size = 0;
        enum image_fault fault = image_for_partition(image, board(id), partition(board(id), name), &data, &size);

        assert_int_equal(fault == IMAGE_FINE, data != NULL);
        if (ret_size)
                *ret_size = size;
        return fault;
}

static enum image_fault fit_raw(const uint8_t *raw, size_t size, const char *id, const char *name, size_t *ret_size)
{
        struct image image;

        assert_fault(image_parse(&image, raw, size, "x.bin"), IMAGE_FINE);
        return fit(&image, id, name, ret_size);
}

/* --- vectors of the formats --- */

static const uint8_t plain_vector[20] = {
        0x41, 0x42, 0x43, 0x44, 0xff, 0xff, 0x04, 0x92, 0xc5, 0x37, 0x00, 0x01, 0x55, 0x46, 0x44, 0x10, 0x8f, 0x77, 0xed, 0x13,
};

static void plain_dfu_vector_is_read(void **state)
{
        struct image image;

        assert_fault(image_parse(&image, plain_vector, sizeof(plain_vector), "x.dfu"), IMAGE_FINE);
        assert_int_equal(image.format, IMAGE_DFU);
        assert_int_equal(image.vendor, 0x37c5);
        assert_int_equal(image.product, 0x9204);
        assert_int_equal(image.device, 0xffff);
        assert_int_equal(image.n_elements, 1);
        assert_int_equal(image.elements[0].size, 4);
        assert_int_equal(image.elements[0].address, 0);
        assert_memory_equal(image.elements[0].data, "ABCD", 4);
}

static void dfuse_vector_is_read(void **state)
{
        static const uint8_t head[] = { 0x44, 0x66, 0x75, 0x53, 0x65, 0x01, 0x2d, 0x01, 0x00, 0x00, 0x01,
                                        0x54, 0x61, 0x72, 0x67, 0x65, 0x74, 0x00, 0x01, 0x00, 0x00, 0x00,
                                        0x53, 0x54, 0x2e, 0x2e, 0x2e };
        static const uint8_t tail[] = { 0x10, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
                                        0x00, 0x00, 0x04, 0x08, 0x08, 0x00, 0x00, 0x00,
                                        0x4f, 0x50, 0x45, 0x4e, 0x4d, 0x56, 0x21, 0x21,
                                        0x00, 0x00, 0x11, 0xdf, 0x83, 0x04, 0x1a, 0x01, 0x55, 0x46, 0x44, 0x10, 0x69, 0xc5, 0xdc, 0xa0 };
        uint8_t file[sizeof(head) + 250 + sizeof(tail)] = { 0 };
        struct image image;

        assert_int_equal(sizeof(file), 317);
        memcpy(file, head, sizeof(head));
        memcpy(file + sizeof(head) + 250, tail, sizeof(tail));
        assert_fault(image_parse(&image, file, sizeof(file), NULL), IMAGE_FINE);
        assert_int_equal(image.format, IMAGE_DFUSE);
        assert_int_equal(image.vendor, 0x0483);
        assert_int_equal(image.product, 0xdf11);
        assert_int_equal(image.device, 0);
        assert_int_equal(image.n_elements, 1);
        assert_int_equal(image.elements[0].alt, 0);
        assert_int_equal(image.elements[0].address, 0x08040000);
        assert_int_equal(image.elements[0].size, 8);
        assert_memory_equal(image.elements[0].data, "OPENMV!!", 8);
}

/* Files with the headers of real ones, the payload all 0xff: the checksums are known. */
static void synthetic_twins_have_the_known_checksums(void **state)
{
        static const struct { struct piece pieces[2]; size_t n, file_size; uint8_t crc[4]; } twins[] = {
                { { { 0, 0x08000000, 14240, 0xff } }, 1, 14549, { 0x38, 0x4c, 0x88, 0xd1 } },
                { { { 0, 0x08010000, 868520, 0xff } }, 1, 868829, { 0xae, 0xa9, 0x7c, 0xc3 } },
                { { { 0, 0x08020000, 1333696, 0xff } }, 1, 1334005, { 0xae, 0xf3, 0x02, 0x9c } },
                { { { 0, 0x08000000, 19400, 0xff } }, 1, 19709, { 0xf6, 0x92, 0x24, 0xa6 } },
                { { { 0, 0x08040000, 1352836, 0xff } }, 1, 1353145, { 0xb1, 0x7e, 0xf5, 0x47 } },
                { { { 0, 0x08000000, 262144, 0xff }, { 0, 0x08040000, 1352836, 0xff } }, 2, 1615297, { 0xa9, 0xb2, 0x5c, 0x8a } },
        };

        for (size_t i = 0; i < ELEMENTSOF(twins); i++) {
                size_t size;
                _cleanup_free_ uint8_t *file = make_dfuse(twins[i].pieces, twins[i].n, &size);
                struct image image;

                assert_int_equal(size, twins[i].file_size);
                assert_memory_equal(file + size - 4, twins[i].crc, 4);
                assert_fault(image_parse(&image, file, size, "twin.dfu"), IMAGE_FINE);
                assert_int_equal(image.n_elements, twins[i].n);
                for (size_t e = 0; e < twins[i].n; e++) {
                        assert_int_equal(image.elements[e].address, twins[i].pieces[e].address);
                        assert_int_equal(image.elements[e].size, twins[i].pieces[e].size);
                }
        }
}

static void extended_suffix_is_read(void **state)
{
        uint8_t file[4 + 8 + 16] = "ABCD";
        struct image image;

        put_suffix(file + 12, 0xffff, 0xffff, 0xffff, 0x0110);
        file[sizeof(file) - 5] = 24;
        put_crc(file, sizeof(file));
        assert_fault(image_parse(&image, file, sizeof(file), NULL), IMAGE_FINE);
        assert_int_equal(image.elements[0].size, 4);
}

static void file_without_suffix_is_raw(void **state)
{
        struct image image;

        assert_fault(image_parse(&image, (const uint8_t *)"0123456789abcdefghij", 20, "firmware.bin"), IMAGE_FINE);
        assert_int_equal(image.format, IMAGE_RAW);
        assert_int_equal(image.vendor, 0xffff);
        assert_int_equal(image.product, 0xffff);
        assert_int_equal(image.n_elements, 1);
        assert_int_equal(image.elements[0].size, 20);
        assert_fault(image_parse(&image, (const uint8_t *)"x", 1, NULL), IMAGE_FINE);
}

/* --- every rejection of dfu-file-formats section 5, by its number --- */

static void rejection_1_no_valid_suffix(void **state)
{
        uint8_t file[20];
        struct image image = { .n_elements = 99 };

        assert_fault(image_parse(&image, file, 0, NULL), IMAGE_EMPTY);
        assert_fault(image_parse(&image, plain_vector, 10, "FIRMWARE.DFU"), IMAGE_TRUNCATED);
        assert_fault(image_parse(&image, plain_vector, 19, "firmware.dfu"), IMAGE_BAD_SUFFIX);
        memcpy(file, plain_vector, 20);
        file[15] = 15;
        put_crc(file, 20);
        assert_fault(image_parse(&image, file, 20, NULL), IMAGE_BAD_SUFFIX);
        file[15] = 21;
        put_crc(file, 20);
        assert_fault(image_parse(&image, file, 20, NULL), IMAGE_BAD_SUFFIX);
        file[15] = 20;
        put_crc(file, 20);
        assert_fault(image_parse(&image, file, 20, NULL), IMAGE_EMPTY);
        assert_int_equal(image.n_elements, 99);
}

static void rejection_2_any_damaged_bit(void **state)
{
        uint8_t file[20];
        struct image image;

        for (size_t bit = 0; bit < 8 * sizeof(file); bit++) {
                memcpy(file, plain_vector, sizeof(file));
                file[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_int_not_equal(image_parse(&image, file, sizeof(file), "x.dfu"), IMAGE_FINE);
                if (bit < 12 * 8 || bit >= 16 * 8)
                        assert_fault(image_parse(&image, file, sizeof(file), "x.dfu"), IMAGE_BAD_CRC);
        }
}

static void rejection_3_unknown_versions(void **state)
{
        static const uint16_t known[] = { 0x0100, 0x0101, 0x0110 }, unknown[] = { 0x0000, 0x0120, 0x0200, 0x011b, 0xffff };
        static const struct piece piece = { 0, 0x08040000, 64, 0x55 };
        uint8_t file[20];
        struct image image;
        size_t size;
        _cleanup_free_ uint8_t *dfuse = make_dfuse(&piece, 1, &size);

        memcpy(file, plain_vector, sizeof(file));
        for (size_t i = 0; i < ELEMENTSOF(known); i++) {
                put_le16(file + 10, known[i]);
                put_crc(file, sizeof(file));
                assert_fault(image_parse(&image, file, sizeof(file), NULL), IMAGE_FINE);
        }
        for (size_t i = 0; i < ELEMENTSOF(unknown); i++) {
                put_le16(file + 10, unknown[i]);
                put_crc(file, sizeof(file));
                assert_fault(image_parse(&image, file, sizeof(file), NULL), IMAGE_BAD_VERSION);
        }
        /* DfuSe by its suffix and not by its prefix, and the other way round. */
        put_le16(file + 10, 0x011a);
        put_crc(file, sizeof(file));
        assert_fault(image_parse(&image, file, sizeof(file), NULL), IMAGE_BAD_VERSION);
        put_le16(dfuse + size - 10, 0x0100);
        put_crc(dfuse, size);
        assert_fault(image_parse(&image, dfuse, size, NULL), IMAGE_BAD_VERSION);
        /* The suffix lost on the way, and the name too. */
        assert_fault(image_parse(&image, dfuse, size - 16, "firmware.bin"), IMAGE_TRUNCATED);
}

/* Changes one byte or word of a sound file and mends the checksum. */
static enum image_fault spoilt(const uint8_t *sound, size_t size, size_t at, uint32_t value, unsigned bytes)
{
        _cleanup_free_ uint8_t *file = malloc(size);
        struct image image = { .n_elements = 99 };
        enum image_fault fault;

        assert_non_null(file);
        memcpy(file, sound, size);
        if (bytes == 1)
                file[at] = (uint8_t)value;
        else
                put_le32(file + at, value);
        put_crc(file, size);
        fault = image_parse(&image, file, size, NULL);
        if (fault != IMAGE_FINE)
                assert_int_equal(image.n_elements, 99);
        return fault;
}

static void rejections_4_5_sums_and_counts(void **state)
{
        static const struct piece pieces[] = { { 0, 0x08000000, 64, 1 }, { 0, 0x08040000, 32, 2 } };
        size_t size;
        _cleanup_free_ uint8_t *file = make_dfuse(pieces, 2, &size);
        const size_t target = 11, element = target + 274, second = element + 8 + 64;

        assert_fault(spoilt(file, size, 0, 'D', 1), IMAGE_FINE);
        assert_fault(spoilt(file, size, 5, 2, 1), IMAGE_BAD_VERSION);
        assert_fault(spoilt(file, size, 6, (uint32_t)size - 15, 4), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, 6, (uint32_t)size, 4), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, 10, 0, 1), IMAGE_BAD_TARGETS);
        assert_fault(spoilt(file, size, 10, 2, 1), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, target, 't', 1), IMAGE_BAD_TARGETS);
        assert_fault(spoilt(file, size, target + 266, 8 + 64 + 8 + 32 + 1, 4), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, target + 266, 8 + 64 + 8 + 31, 4), IMAGE_BAD_TARGETS);
        assert_fault(spoilt(file, size, target + 266, 0xffffffff, 4), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, target + 270, 0, 4), IMAGE_BAD_TARGETS);
        assert_fault(spoilt(file, size, target + 270, 1, 4), IMAGE_BAD_TARGETS);
        assert_fault(spoilt(file, size, target + 270, 3, 4), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, target + 270, 0xffffffff, 4), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, element + 4, 0, 4), IMAGE_BAD_ELEMENT);
        assert_fault(spoilt(file, size, second + 4, 33, 4), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, second + 4, 0xffffffff, 4), IMAGE_TRUNCATED);
        assert_fault(spoilt(file, size, second + 4, 31, 4), IMAGE_BAD_TARGETS);
        assert_fault(spoilt(file, size, second, 0xffffffe1, 4), IMAGE_BAD_ELEMENT);
        assert_fault(spoilt(file, size, second, 0xffffffe0, 4), IMAGE_FINE);
}

static void rejections_6_7_overlaps_and_doubles(void **state)
{
        static const struct piece overlap[] = { { 0, 0x08000000, 64, 1 }, { 0, 0x0800003f, 64, 2 } };
        static const struct piece inside[] = { { 0, 0x08000000, 64, 1 }, { 0, 0x08000010, 4, 2 } };
        static const struct piece adjacent[] = { { 0, 0x08000040, 64, 1 }, { 0, 0x08000000, 64, 2 } };
        static const struct piece two_alts[] = { { 0, 0x08000000, 64, 1 }, { 1, 0x08000000, 64, 2 } };
        static const struct piece twice[] = { { 0, 0x08000000, 64, 1 }, { 1, 0x08000000, 64, 2 }, { 0, 0x08010000, 64, 1 } };
        struct piece many[IMAGE_ELEMENTS_MAX + 1];
        struct { const struct piece *pieces; size_t n; enum image_fault fault; } cases[] = {
                { overlap, 2, IMAGE_BAD_ELEMENT }, { inside, 2, IMAGE_BAD_ELEMENT }, { adjacent, 2, IMAGE_FINE },
                { two_alts, 2, IMAGE_FINE }, { twice, 3, IMAGE_BAD_TARGETS },
                { many, IMAGE_ELEMENTS_MAX, IMAGE_FINE }, { many, IMAGE_ELEMENTS_MAX + 1, IMAGE_BAD_ELEMENT },
        };

        for (size_t i = 0; i < ELEMENTSOF(many); i++)
                many[i] = (struct piece){ 0, (uint32_t)(0x08000000 + i * 16), 16, 3 };
        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                size_t size;
                _cleanup_free_ uint8_t *file = make_dfuse(cases[i].pieces, cases[i].n, &size);
                struct image image;

                assert_fault(image_parse(&image, file, size, NULL), cases[i].fault);
        }
}

static void rejection_7_alternate_setting_of_option_bytes(void **state)
{
        static const struct piece pieces[] = { { 0, 0x08040000, 64, 1, 0x20020000, 0x08040021 }, { 1, 0x5200201c, 16, 2 } };
        size_t size;
        _cleanup_free_ uint8_t *file = make_dfuse(pieces, 2, &size);
        struct image image;

        assert_fault(image_parse(&image, file, size, NULL), IMAGE_FINE);
        assert_fault(fit(&image, "OPENMV4", "FIRMWARE", NULL), IMAGE_BAD_TARGETS);
}

static void rejections_8_9_addresses_tell_the_board(void **state)
{
        static const struct { const char *id; uint32_t address, size, stack, reset; } files[] = {
                { "OPENMV2", 0x08010000, 800000, 0x10010000, 0x0804282d },
                { "OPENMV3", 0x08020000, 1333696, 0x20020000, 0x08086221 },
                { "OPENMV4", 0x08040000, 1352836, 0x30040000, 0x080aa8c1 },
                { "OPENMV4P", 0x08040000, 1352836, 0x30040000, 0x080aa8c1 },
                { "OPENMVPT", 0x08040000, 1352836, 0x30040000, 0x080aa8c1 },
        };

        for (size_t f = 0; f < ELEMENTSOF(files); f++) {
                const struct piece piece = { 0, files[f].address, files[f].size, 0x33, files[f].stack, files[f].reset };
                size_t size;
                _cleanup_free_ uint8_t *file = make_dfuse(&piece, 1, &size);
                _cleanup_free_ uint8_t *raw = make_raw(files[f].size, 0x33, files[f].stack, files[f].reset);
                struct image image, raw_image;
                uint32_t expected = 0, raw_expected;

                assert_fault(image_parse(&image, file, size, NULL), IMAGE_FINE);
                assert_fault(image_parse(&raw_image, raw, files[f].size, NULL), IMAGE_FINE);
                for (size_t b = 0; b < ELEMENTSOF(files); b++) {
                        size_t fitting = 0;
                        enum image_fault fault = fit(&image, files[b].id, "FIRMWARE", &fitting);

                        if (files[b].address == files[f].address) {
                                expected |= bit(files[b].id);
                                assert_fault(fault, IMAGE_FINE);
                                assert_int_equal(fitting, files[f].size);
                                assert_fault(fit(&raw_image, files[b].id, "FIRMWARE", NULL), IMAGE_FINE);
                        } else
                                assert_fault(fault, IMAGE_OUT_OF_RANGE);
                        assert_fault(fit(&image, files[b].id, "BOOTLOADER", NULL), IMAGE_OUT_OF_RANGE);
                }
                assert_int_equal(image_possible_boards(&image, &boards, "FIRMWARE"), expected);
                /* A raw file tells less: boards without a vector table to judge by are not ruled out, and the M7's
                 * stack and reset vector are possible on an H7. */
                raw_expected = expected | bit("OPENMV_N6");
                if (strcmp(files[f].id, "OPENMV3") == 0)
                        raw_expected |= bit("OPENMV4") | bit("OPENMV4P") | bit("OPENMVPT");
                assert_int_equal(image_possible_boards(&raw_image, &boards, "FIRMWARE"), raw_expected);
        }
}

static void rejection_8_element_beyond_the_memory(void **state)
{
        static const struct piece beyond[] = { { 0, 0x08040000, 64, 1, 0x20020000, 0x08040021 }, { 0, 0x081ffff0, 17, 2 } };
        static const struct piece before[] = { { 0, 0x08040000, 64, 1, 0x20020000, 0x08040021 }, { 0, 0x07fffff0, 17, 2 } };
        static const struct piece second_half[] = { { 0, 0x08040000, 64, 1, 0x20020000, 0x08040021 }, { 0, 0x08060000, 64, 2 } };
        static const struct piece elsewhere[] = { { 0, 0x08040000, 64, 1, 0x20020000, 0x08040021 }, { 0, 0x081e0000, 64, 2 } };
        static const struct { const struct piece *pieces; enum image_fault fault; } cases[] = {
                { beyond, IMAGE_OUT_OF_RANGE }, { before, IMAGE_OUT_OF_RANGE }, { second_half, IMAGE_BAD_ELEMENT },
                { elsewhere, IMAGE_FINE },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                size_t size;
                _cleanup_free_ uint8_t *file = make_dfuse(cases[i].pieces, 2, &size);
                struct image image;

                assert_fault(image_parse(&image, file, size, NULL), IMAGE_FINE);
                assert_fault(fit(&image, "OPENMV4", "FIRMWARE", NULL), cases[i].fault);
        }
}

static void suffix_of_another_device_is_refused(void **state)
{
        static const struct { uint16_t vendor, product; const char *id; enum image_fault fault; } cases[] = {
                { 0x37c5, 0x9204, "OPENMV4", IMAGE_FINE }, { 0x37c5, 0x1204, "OPENMV4", IMAGE_FINE },
                { 0x0483, 0xdf11, "OPENMV4", IMAGE_FINE }, { 0xffff, 0xffff, "OPENMV4", IMAGE_FINE },
                { 0x37c5, 0xffff, "OPENMV4", IMAGE_FINE }, { 0x37c5, 0x9203, "OPENMV4", IMAGE_WRONG_DEVICE },
                { 0x2341, 0x035b, "OPENMV4", IMAGE_WRONG_DEVICE }, { 0x0483, 0x5740, "OPENMV4", IMAGE_WRONG_DEVICE },
                { 0x2341, 0xffff, "OPENMV4", IMAGE_WRONG_DEVICE },
                { 0x0483, 0xdf11, "OPENMV_N6", IMAGE_WRONG_DEVICE }, { 0x37c5, 0x9206, "OPENMV_N6", IMAGE_FINE },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint8_t file[64 + 16] = { 0 };
                struct image image;

                memset(file, 0x44, 64);
                put_le32(file, 0x20020000);
                put_le32(file + 4, 0x08040021);
                put_suffix(file + 64, 0xffff, cases[i].product, cases[i].vendor, 0x0100);
                put_crc(file, sizeof(file));
                assert_fault(image_parse(&image, file, sizeof(file), NULL), IMAGE_FINE);
                assert_fault(fit(&image, cases[i].id, "FIRMWARE", NULL), cases[i].fault);
        }
}

/* The file of 2019 that has cost people their cameras: block 208 of it is refused, after 208 blocks were written. */
static void size_trap_of_openmv2_is_seen_first(void **state)
{
        static const struct piece piece = { 0, 0x08010000, 868520, 0x77, 0x10010000, 0x0804282d };
        const struct board *m4 = board("OPENMV2");
        size_t size, fitting;
        _cleanup_free_ uint8_t *file = make_dfuse(&piece, 1, &size);
        _cleanup_free_ uint8_t *raw = make_raw(868520, 0x77, 0x10010000, 0x0804282d);
        const struct partition *old;
        struct image image;
        const uint8_t *data;

        assert_fault(image_parse(&image, file, size, NULL), IMAGE_FINE);
        assert_fault(fit(&image, "OPENMV2", "FIRMWARE", NULL), IMAGE_TOO_LARGE);
        assert_fault(fit_raw(raw, 868520, "OPENMV2", "FIRMWARE", NULL), IMAGE_TOO_LARGE);
        assert_fault(fit_raw(raw, 851969, "OPENMV2", "FIRMWARE", NULL), IMAGE_TOO_LARGE);
        assert_fault(fit_raw(raw, 851968, "OPENMV2", "FIRMWARE", &fitting), IMAGE_FINE);
        assert_int_equal(fitting, 851968);
        /* The bootloader of that time had room for it. */
        old = layout_partition(&m4->layouts[1], "FIRMWARE", NULL);
        assert_non_null(old);
        assert_fault(image_for_partition(&image, m4, old, &data, &fitting), IMAGE_FINE);
        assert_int_equal(image_possible_boards(&image, &boards, "FIRMWARE"), bit("OPENMV2"));
}

static void rejection_10_vector_tables(void **state)
{
        static const struct { const char *id; uint32_t base, size, stack, reset; bool sane; } cases[] = {
                /* real ones */
                { "OPENMV2", 0x08000000, 14240, 0x10010000, 0x08003459, true },
                { "OPENMV2", 0x08010000, 868520, 0x10010000, 0x0804282d, true },
                { "OPENMV3", 0x08000000, 14336, 0x20020000, 0x080034bd, true },
                { "OPENMV3", 0x08020000, 1333696, 0x20020000, 0x08086221, true },
                { "OPENMV4", 0x08000000, 19400, 0x20020000, 0x080047e9, true },
                { "OPENMV4", 0x08040000, 1352836, 0x30040000, 0x080aa8c1, true },
                { "OPENMV3", 0x08000000, 14520, 0x20020000, 0x08002e39, true },
                { "OPENMV3", 0x08020000, 893048, 0x20080000, 0x08044a21, true },
                /* stack: not in RAM, not aligned, below it; the top itself is allowed */
                { "OPENMV4", 0x08040000, 4096, 0x08040000, 0x08040021, false },
                { "OPENMV4", 0x08040000, 4096, 0x20010004, 0x08040021, false },
                { "OPENMV4", 0x08040000, 4096, 0x20020008, 0x08040021, false },
                { "OPENMV4", 0x08040000, 4096, 0x00000000, 0x08040021, false },
                { "OPENMV4", 0x08040000, 4096, 0x20000000, 0x08040021, false },
                { "OPENMV4", 0x08040000, 4096, 0x00010000, 0x08040021, true },
                { "OPENMV3", 0x08020000, 4096, 0x30040000, 0x08020021, false },
                /* reset: even, before the image, in its table, its last byte, after it */
                { "OPENMV4", 0x08040000, 4096, 0x20020000, 0x08040020, false },
                { "OPENMV4", 0x08040000, 4096, 0x20020000, 0x0803ffff, false },
                { "OPENMV4", 0x08040000, 4096, 0x20020000, 0x08040001, false },
                { "OPENMV4", 0x08040000, 4096, 0x20020000, 0x08040fff, true },
                { "OPENMV4", 0x08040000, 4096, 0x20020000, 0x08041001, false },
        };
        static const uint8_t blank[8] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ uint8_t *raw = make_raw(cases[i].size, 0, cases[i].stack, cases[i].reset);

                assert_fault(image_check_vectors(board(cases[i].id), raw, cases[i].size, cases[i].base),
                             cases[i].sane ? IMAGE_FINE : IMAGE_BAD_VECTORS);
        }
        assert_fault(image_check_vectors(board("OPENMV4"), blank, 8, 0x08040000), IMAGE_NOT_EXECUTABLE);
        assert_fault(image_check_vectors(board("OPENMV_N6"), blank, 8, 0x00080000), IMAGE_NOT_EXECUTABLE);
        assert_fault(image_check_vectors(board("OPENMV_N6"), plain_vector, 8, 0x00080000), IMAGE_FINE);
        assert_fault(image_check_vectors(board("OPENMV4"), plain_vector, 7, 0x08040000), IMAGE_BAD_VECTORS);
}

/* Evidence of row 4 of the verdict, perhaps from the first bytes only: must not call sound firmware impossible. */
static void only_what_cannot_be_is_impossible(void **state)
{
        static const struct { const char *id; uint32_t base, stack, reset; bool impossible; } cases[] = {
                { "OPENMV3", 0x08020000, 0x20020000, 0x08086221, false },       /* far beyond what was read */
                { "OPENMV3", 0x08020000, 0x20020000, 0x08000201, false },       /* odd, but flash */
                { "OPENMV3", 0x08020000, 0x20020000, 0x08200001, true },
                { "OPENMV3", 0x08020000, 0x20020000, 0x08086220, true },
                { "OPENMV3", 0x08020000, 0x00000000, 0x00000000, true },
                { "OPENMV3", 0x08020000, 0xffffffff, 0xffffffff, true },
                { "OPENMV3", 0x08020000, 0xffffffff, 0x08086221, true },
                { "OPENMV_N6", 0x00080000, 0xffffffff, 0xffffffff, true },
                { "OPENMV_N6", 0x00080000, 0x00000000, 0x00000000, false },
                { "OPENMV_AE3", 0x80020000, 0x12345678, 0x00000000, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                uint8_t head[64] = { 0 };

                put_le32(head, cases[i].stack);
                put_le32(head + 4, cases[i].reset);
                assert_int_equal(image_vectors_impossible(board(cases[i].id), head, sizeof(head), cases[i].base), cases[i].impossible);
                assert_false(image_vectors_impossible(board(cases[i].id), head, 7, cases[i].base));
        }
}

/* --- bootloaders --- */

static void padding_of_a_bootloader_is_cut(void **state)
{
        static const struct { const char *id; uint32_t program, padded, stack, reset; } cases[] = {
                { "OPENMV2", 14240, 65536, 0x10010000, 0x08003459 },
                { "OPENMV3", 14336, 131072, 0x20020000, 0x080034bd },
                { "OPENMV4", 19400, 262144, 0x20020000, 0x080047e9 },
                { "OPENMV4P", 19400, 262144, 0x20020000, 0x080047e9 },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ uint8_t *raw = make_raw(cases[i].padded, 0x99, cases[i].stack, cases[i].reset);
                size_t room = board(cases[i].id)->bootloader_limit - board(cases[i].id)->bootloader_address, size;

                memset(raw + cases[i].program, 0xff, cases[i].padded - cases[i].program);
                assert_fault(fit_raw(raw, cases[i].padded, cases[i].id, "BOOTLOADER", &size), IMAGE_FINE);
                assert_int_equal(size, cases[i].program);
                assert_fault(fit_raw(raw, cases[i].program, cases[i].id, "BOOTLOADER", &size), IMAGE_FINE);
                assert_int_equal(size, cases[i].program);

                /* Zeros: never beyond the bootloader's own place, and none of the program's own is lost. */
                memset(raw + cases[i].program, 0x00, cases[i].padded - cases[i].program);
                assert_fault(fit_raw(raw, cases[i].padded, cases[i].id, "BOOTLOADER", &size), IMAGE_FINE);
                assert_int_equal(size, room);
                assert_fault(fit_raw(raw, cases[i].program + 100, cases[i].id, "BOOTLOADER", &size), IMAGE_FINE);
                assert_int_equal(size, cases[i].program + 100);

                /* One byte of something else out there. */
                raw[cases[i].padded - 1] = 0x01;
                assert_fault(fit_raw(raw, cases[i].padded, cases[i].id, "BOOTLOADER", NULL), IMAGE_COMBINED);
        }
}

static void blank_bootloader_is_refused(void **state)
{
        _cleanup_free_ uint8_t *raw = make_raw(65536, 0xff, 0xffffffff, 0xffffffff);

        assert_fault(fit_raw(raw, 65536, "OPENMV2", "BOOTLOADER", NULL), IMAGE_NOT_EXECUTABLE);
}

static void bootloader_larger_than_programs_are_is_refused(void **state)
{
        struct board small = *board("OPENMV4");
        _cleanup_free_ uint8_t *raw = make_raw(20000, 0x11, 0x20020000, 0x08000021);
        struct image image;
        const uint8_t *data;
        size_t size;

        assert_fault(image_parse(&image, raw, 20000, NULL), IMAGE_FINE);
        small.bootloader_max_bytes = 20000;
        assert_fault(image_for_partition(&image, &small, partition(&small, "BOOTLOADER"), &data, &size), IMAGE_FINE);
        small.bootloader_max_bytes = 19999;
        assert_fault(image_for_partition(&image, &small, partition(&small, "BOOTLOADER"), &data, &size), IMAGE_TOO_LARGE);
}

/* Through the ROM of an H7 nothing beyond the bootloader may be written (quirk 3 of dfu.md); the others take the piece they need. */
static void combined_images(void **state)
{
        static const struct piece h7[] = { { 0, 0x08000000, 262144, 0xff, 0x20020000, 0x08000021 },
                                           { 0, 0x08040000, 1352836, 0x12, 0x30040000, 0x080aa8c1 } };
        static const struct piece m7[] = { { 0, 0x08000000, 131072, 0xff, 0x20020000, 0x08000021 },
                                           { 0, 0x08020000, 1333696, 0x12, 0x20020000, 0x08086221 } };
        size_t size, fitting;
        struct image image;

        {
                _cleanup_free_ uint8_t *file = make_dfuse(h7, 2, &size);

                memset(file + 11 + 274 + 8 + 8, 0x42, 19392);
                put_crc(file, size);
                assert_fault(image_parse(&image, file, size, NULL), IMAGE_FINE);
                assert_fault(fit(&image, "OPENMV4", "BOOTLOADER", NULL), IMAGE_COMBINED);
                assert_fault(fit(&image, "OPENMV4P", "BOOTLOADER", NULL), IMAGE_COMBINED);
                assert_fault(fit(&image, "OPENMV4", "FIRMWARE", &fitting), IMAGE_FINE);
                assert_int_equal(fitting, 1352836);
        }
        {
                _cleanup_free_ uint8_t *file = make_dfuse(m7, 2, &size);

                memset(file + 11 + 274 + 8 + 8, 0x42, 14328);
                put_crc(file, size);
                assert_fault(image_parse(&image, file, size, NULL), IMAGE_FINE);
                assert_fault(fit(&image, "OPENMV3", "BOOTLOADER", &fitting), IMAGE_FINE);
                assert_int_equal(fitting, 14336);
                assert_fault(fit(&image, "OPENMV3", "FIRMWARE", &fitting), IMAGE_FINE);
                assert_int_equal(fitting, 1333696);
        }
        {
                /* openmv.bin: bootloader.bin and firmware.bin, one after the other */
                _cleanup_free_ uint8_t *raw = make_raw(400000, 0x42, 0x20020000, 0x08000021);

                memset(raw + 14336, 0xff, 131072 - 14336);
                assert_fault(fit_raw(raw, 400000, "OPENMV3", "BOOTLOADER", NULL), IMAGE_COMBINED);
                assert_fault(fit_raw(raw, 400000, "OPENMV3", "FIRMWARE", NULL), IMAGE_BAD_VECTORS);
        }
}

static void other_partitions_take_any_bytes_that_fit(void **state)
{
        _cleanup_free_ uint8_t *raw = make_raw(131073, 0x00, 0, 0);
        size_t size;

        assert_fault(fit_raw(raw, 131072, "OPENMV4", "ROMFS0", &size), IMAGE_FINE);
        assert_int_equal(size, 131072);
        assert_fault(fit_raw(raw, 131073, "OPENMV4", "ROMFS0", NULL), IMAGE_TOO_LARGE);
        assert_fault(fit_raw(raw, 4096, "OPENMV4", "FILESYSTEM", NULL), IMAGE_FINE);
        assert_fault(fit_raw(raw, 4096, "OPENMV_AE3", "TOC", NULL), IMAGE_OUT_OF_RANGE);
        assert_fault(fit_raw(raw, 4096, "OPENMV_AE3", "RECOVERY", NULL), IMAGE_OUT_OF_RANGE);
        assert_fault(fit_raw(raw, 4096, "OPENMV4P", "SPI_FLASH", NULL), IMAGE_OUT_OF_RANGE);
}

static void every_fault_has_a_name_and_advice(void **state)
{
        for (int i = 0; i < _IMAGE_FAULT_MAX; i++) {
                assert_non_null(image_fault_to_string((enum image_fault)i));
                assert_int_equal(image_fault_from_string(image_fault_to_string((enum image_fault)i)), i);
                assert_non_null(image_fault_advice((enum image_fault)i));
        }
        assert_null(image_fault_advice(_IMAGE_FAULT_MAX));
        for (int i = 0; i < _IMAGE_FORMAT_MAX; i++)
                assert_int_equal(image_format_from_string(image_format_to_string((enum image_format)i)), i);
}

static int load_boards(void **state)
{
        const char *directory = getenv("CAMRESCUE_BOARDS");

        return board_list_load(&boards, directory ? directory : "boards") < 0 ? -1 : 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(plain_dfu_vector_is_read),
                cmocka_unit_test(dfuse_vector_is_read),
                cmocka_unit_test(synthetic_twins_have_the_known_checksums),
                cmocka_unit_test(extended_suffix_is_read),
                cmocka_unit_test(file_without_suffix_is_raw),
                cmocka_unit_test(rejection_1_no_valid_suffix),
                cmocka_unit_test(rejection_2_any_damaged_bit),
                cmocka_unit_test(rejection_3_unknown_versions),
                cmocka_unit_test(rejections_4_5_sums_and_counts),
                cmocka_unit_test(rejections_6_7_overlaps_and_doubles),
                cmocka_unit_test(rejection_7_alternate_setting_of_option_bytes),
                cmocka_unit_test(rejections_8_9_addresses_tell_the_board),
                cmocka_unit_test(rejection_8_element_beyond_the_memory),
                cmocka_unit_test(suffix_of_another_device_is_refused),
                cmocka_unit_test(size_trap_of_openmv2_is_seen_first),
                cmocka_unit_test(rejection_10_vector_tables),
                cmocka_unit_test(only_what_cannot_be_is_impossible),
                cmocka_unit_test(padding_of_a_bootloader_is_cut),
                cmocka_unit_test(blank_bootloader_is_refused),
                cmocka_unit_test(bootloader_larger_than_programs_are_is_refused),
                cmocka_unit_test(combined_images),
                cmocka_unit_test(other_partitions_take_any_bytes_that_fit),
                cmocka_unit_test(every_fault_has_a_name_and_advice),
        };

        return cmocka_run_group_tests(tests, load_boards, NULL);
}
