/* SPDX-License-Identifier: MIT */

/*
 * Image files, damaged.  Damage nearly always spoils the checksum, behind which
 * the interesting part of the parser lies: each input is therefore also tried
 * with its checksum mended.  What is accepted must hold what the writers of
 * flash rely on.
 */

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/image.h"
#include "fuzz/fuzz.h"

static const struct board_list *boards(void)
{
        static struct board_list list;
        const char *directory = getenv("CAMRESCUE_BOARDS");

        if (list.n == 0)
                CHECK(board_list_load(&list, directory ? directory : "boards") >= 0);
        return &list;
}

static void check_accepted(const struct image *image, const uint8_t *data, size_t size)
{
        CHECK(image->format < _IMAGE_FORMAT_MAX);
        CHECK(image->n_elements > 0 && image->n_elements <= IMAGE_ELEMENTS_MAX);
        CHECK(image->format == IMAGE_DFUSE || image->n_elements == 1);
        for (size_t i = 0; i < image->n_elements; i++) {
                const struct image_element *e = &image->elements[i];

                CHECK(e->size > 0 && e->data >= data && e->size <= size && (size_t)(e->data - data) <= size - e->size);
                CHECK((uint64_t)e->address + e->size <= UINT64_C(1) << 32);
                for (size_t j = 0; j < i; j++) {
                        const struct image_element *f = &image->elements[j];

                        CHECK(e->alt != f->alt || (uint64_t)e->address >= (uint64_t)f->address + f->size ||
                              (uint64_t)f->address >= (uint64_t)e->address + e->size);
                }
        }
}

static void check_boards(const struct image *image, const uint8_t *data, size_t size)
{
        for (size_t b = 0; b < boards()->n; b++) {
                const struct board *board = &boards()->boards[b];

                for (size_t l = 0; l < board->n_layouts; l++)
                        for (size_t p = 0; p < board->layouts[l].n_partitions; p++) {
                                const struct partition *partition = &board->layouts[l].partitions[p];
                                const uint8_t *bytes;
                                size_t n;

                                if (image_for_partition(image, board, partition, &bytes, &n) != IMAGE_FINE)
                                        continue;
                                CHECK(partition->role != PARTITION_FORBIDDEN);
                                CHECK(n > 0 && n <= partition->limit - partition->start);
                                CHECK(bytes >= data && n <= size && (size_t)(bytes - data) <= size - n);
                        }
        }
        (void)image_possible_boards(image, boards(), "FIRMWARE");
}

static void try_input(const uint8_t *data, size_t size)
{
        struct image image;

        if (image_parse(&image, data, size, "fuzz.dfu") != IMAGE_FINE &&
            image_parse(&image, data, size, NULL) != IMAGE_FINE)
                return;
        check_accepted(&image, data, size);
        check_boards(&image, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ uint8_t *mended = NULL;

        try_input(data, size);
        if (size < 16)
                return 0;
        mended = malloc(size);
        CHECK(mended);
        memcpy(mended, data, size);
        memcpy(mended + size - 8, "UFD", 3);
        if (mended[size - 5] < 16)
                mended[size - 5] = 16;
        put_le32(mended + size - 4, dfu_crc(mended, size - 4));
        try_input(mended, size);
        return 0;
}

static uint8_t *put_element(uint8_t *p, uint32_t address, uint32_t size)
{
        put_le32(p, address);
        put_le32(p + 4, size);
        memset(p + 8, 0x5a, size);
        put_le32(p + 8, 0x20020000);
        put_le32(p + 12, address + 33);
        return p + 8 + size;
}

static uint8_t *put_target(uint8_t *p, uint8_t alt, uint32_t size, uint32_t n_elements)
{
        memset(p, 0, 274);
        memcpy(p, "Target", 6);
        p[6] = alt;
        put_le32(p + 266, size);
        put_le32(p + 270, n_elements);
        return p + 274;
}

static size_t put_end(uint8_t *data, uint8_t *p, uint16_t product, uint16_t vendor, uint16_t bcd)
{
        put_le16(p, 0);
        put_le16(p + 2, product);
        put_le16(p + 4, vendor);
        put_le16(p + 6, bcd);
        memcpy(p + 8, "UFD\x10", 4);
        put_le32(p + 12, dfu_crc(data, (size_t)(p - data) + 12));
        return (size_t)(p - data) + 16;
}

static uint8_t *put_prefix(uint8_t *data, size_t image_size, uint8_t n_targets)
{
        memcpy(data, "DfuSe\1", 6);
        put_le32(data + 6, (uint32_t)image_size);
        data[10] = n_targets;
        return data + 11;
}

size_t fuzz_seed(unsigned n, uint8_t *data, size_t size)
{
        uint8_t *p = data;

        switch (n) {
        case 0:                         /* one element */
                p = put_prefix(p, 11 + 274 + 8 + 64, 1);
                p = put_target(p, 0, 8 + 64, 1);
                p = put_element(p, 0x08040000, 64);
                return put_end(data, p, 0xdf11, 0x0483, 0x011a);
        case 1:                         /* bootloader and firmware */
                p = put_prefix(p, 11 + 274 + 8 + 64 + 8 + 48, 1);
                p = put_target(p, 0, 8 + 64 + 8 + 48, 2);
                p = put_element(p, 0x08000000, 64);
                p = put_element(p, 0x08020000, 48);
                return put_end(data, p, 0xdf11, 0x0483, 0x011a);
        case 2:                         /* two targets */
                p = put_prefix(p, 2 * (11 + 274 + 8 + 64) - 11, 2);
                p = put_target(p, 0, 8 + 64, 1);
                p = put_element(p, 0x08000000, 64);
                p = put_target(p, 1, 8 + 64, 1);
                p = put_element(p, 0x08000000, 64);
                return put_end(data, p, 0xdf11, 0x0483, 0x011a);
        case 3:                         /* plain DFU */
                memset(p, 0x42, 200);
                put_le32(p, 0x20020000);
                put_le32(p + 4, 0x08040021);
                return put_end(data, p + 200, 0x9204, 0x37c5, 0x0100);
        case 4:                         /* raw, padded beyond the bootloader of an M7 */
                memset(p, 0x42, 1000);
                memset(p + 1000, 0xff, 34000);
                put_le32(p, 0x20020000);
                put_le32(p + 4, 0x08000021);
                return 35000;
        default:
                return 0;
        }
}
