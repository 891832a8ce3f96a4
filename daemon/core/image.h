/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Images: what a file holds, and whether it belongs on a board.  Pure: works on
 * bytes in memory.  Formats and rejections: dfu-file-formats.md.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "core/board.h"

enum image_format { IMAGE_RAW, IMAGE_DFU, IMAGE_DFUSE, _IMAGE_FORMAT_MAX };
DECLARE_ENUM_NAMES(image_format);

/* Why an image is refused.  Positive outcomes; IMAGE_FINE is 0.  Names are stable ("bad-crc"). */
enum image_fault {
        IMAGE_FINE,
        IMAGE_EMPTY,
        IMAGE_TRUNCATED,                /* lengths do not agree */
        IMAGE_BAD_SUFFIX,
        IMAGE_BAD_CRC,
        IMAGE_BAD_VERSION,              /* bcdDFU, bVersion, prefix/suffix disagree */
        IMAGE_BAD_TARGETS,              /* counts and sums, duplicate or absent alternate settings */
        IMAGE_BAD_ELEMENT,              /* zero size, overflow, overlap */
        IMAGE_OUT_OF_RANGE,             /* outside the partition / the address window */
        IMAGE_TOO_LARGE,
        IMAGE_WRONG_DEVICE,             /* suffix ids of another device */
        IMAGE_BAD_VECTORS,              /* stack pointer or reset vector make no sense on this board */
        IMAGE_COMBINED,                 /* bootloader and firmware in one file: refused for the ROM of H7-class boards */
        IMAGE_NOT_EXECUTABLE,           /* blank */
        _IMAGE_FAULT_MAX
};
DECLARE_ENUM_NAMES(image_fault);
/* A sentence for a person, with what to do. */
const char *image_fault_advice(enum image_fault fault);

struct image_element {
        uint8_t alt;
        uint32_t address;               /* absolute; IMAGE_RAW and IMAGE_DFU: 0 */
        const uint8_t *data;            /* into the caller's bytes */
        uint32_t size;
};

#define IMAGE_ELEMENTS_MAX 16

struct image {
        enum image_format format;
        uint16_t vendor, product, device;       /* of the suffix; 0xffff: any */
        size_t n_elements;
        struct image_element elements[IMAGE_ELEMENTS_MAX];
};

/* Parses bytes (kept by the caller while image is used).  0 or enum image_fault.  A file that has no
 * DFU signature is IMAGE_RAW with one element; name (may be NULL) is only a hint: "*.dfu" without a valid suffix is refused. */
enum image_fault image_parse(struct image *image, const uint8_t *bytes, size_t size, const char *name);

/* Is the vector table at the beginning of a whole image sane for this board (row 9; dfu-file-formats.md 5.10)?  base: address that
 * data[0] will have.  The reset vector must point into the image itself.  Of a board whose images have no vector table
 * only blankness is judged. */
enum image_fault image_check_vectors(const struct board *board, const uint8_t *data, size_t size, uint32_t base);
/* Blank (all 0xff in its first 8 bytes) or impossible: evidence of row 4.  data is what was read back from base, perhaps
 * only its beginning: the reset vector may point anywhere into the memory that holds base.  Fewer than 8 bytes are no evidence. */
bool image_vectors_impossible(const struct board *board, const uint8_t *data, size_t size, uint32_t base);

/* The bytes that belong on partition: picks the element at the partition's address, checks size and, for executable partitions,
 * the vectors.  Of a bootloader the padding is cut (row 5): 0xff to the end wherever it begins, since it equals erased flash;
 * 0x00 only beyond the partition's end, since zeros before it may be the program's own.
 * Result points into the caller's bytes. */
enum image_fault image_for_partition(const struct image *image, const struct board *board, const struct partition *partition,
                                     const uint8_t **ret_data, size_t *ret_size);

/* Which boards could this image be for?  Bit i of the result: board_list.boards[i].  partition: "FIRMWARE" ...; of any of a
 * board's layouts. */
uint32_t image_possible_boards(const struct image *image, const struct board_list *list, const char *partition);
