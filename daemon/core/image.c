/* SPDX-License-Identifier: MIT */

/*
 * Reads image files and judges whether they belong on a board.  It opens no
 * file and copies nothing: all results point into the caller's bytes.
 *
 * Invariant: everything that a file says about itself is checked against
 * everything else that it says, before any of it is believed.  Where a fault
 * is found, the caller's results are not touched.
 */

#include "core/image.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"

#define SUFFIX_SIZE 16
#define PREFIX_SIZE 11
#define TARGET_NAME_SIZE 255
#define ELEMENT_HEADER_SIZE 8
#define ID_ANY 0xffff
#define BCD_DFUSE 0x011a
#define VECTORS_SIZE 8

static const char *const image_format_names[_IMAGE_FORMAT_MAX] = {
        [IMAGE_RAW]   = "raw",
        [IMAGE_DFU]   = "dfu",
        [IMAGE_DFUSE] = "dfuse",
};
DEFINE_ENUM_NAMES(image_format, _IMAGE_FORMAT_MAX);

static const char *const image_fault_names[_IMAGE_FAULT_MAX] = {
        [IMAGE_FINE]           = "fine",
        [IMAGE_EMPTY]          = "empty",
        [IMAGE_TRUNCATED]      = "truncated",
        [IMAGE_BAD_SUFFIX]     = "bad-suffix",
        [IMAGE_BAD_CRC]        = "bad-crc",
        [IMAGE_BAD_VERSION]    = "bad-version",
        [IMAGE_BAD_TARGETS]    = "bad-targets",
        [IMAGE_BAD_ELEMENT]    = "bad-element",
        [IMAGE_OUT_OF_RANGE]   = "out-of-range",
        [IMAGE_TOO_LARGE]      = "too-large",
        [IMAGE_WRONG_DEVICE]   = "wrong-device",
        [IMAGE_BAD_VECTORS]    = "bad-vectors",
        [IMAGE_COMBINED]       = "combined",
        [IMAGE_NOT_EXECUTABLE] = "not-executable",
};
DEFINE_ENUM_NAMES(image_fault, _IMAGE_FAULT_MAX);

static const char *const image_fault_advices[_IMAGE_FAULT_MAX] = {
        [IMAGE_FINE] =
                "Nothing is wrong with the image.",
        [IMAGE_EMPTY] =
                "The file holds no data. Download or build it again.",
        [IMAGE_TRUNCATED] =
                "The file is shorter or longer than it says of itself. Download it again.",
        [IMAGE_BAD_SUFFIX] =
                "The file is called .dfu and has no valid DFU suffix. Download it again, or use the .bin file.",
        [IMAGE_BAD_CRC] =
                "The file's checksum is wrong: it was damaged on its way. Download it again.",
        [IMAGE_BAD_VERSION] =
                "The file is of a DFU version that is not known, or its parts are of different versions. Use the .bin file.",
        [IMAGE_BAD_TARGETS] =
                "The file's table of targets contradicts itself, or names memory that the camera does not have. Use the .bin file.",
        [IMAGE_BAD_ELEMENT] =
                "A piece of the file is empty, impossible, or overlaps another. Use the .bin file.",
        [IMAGE_OUT_OF_RANGE] =
                "The file is meant for other addresses than this part of the camera has: it is of another board, or of another part. "
                "Choose the file from the board's own folder.",
        [IMAGE_TOO_LARGE] =
                "The image is larger than the place for it on this camera. Use a version that fits the camera's bootloader.",
        [IMAGE_WRONG_DEVICE] =
                "The file is marked for another device. Choose the file from the board's own folder.",
        [IMAGE_BAD_VECTORS] =
                "The image cannot start on this board: its first words are no vector table for it. It is of another board, or no firmware. "
                "Choose the file from the board's own folder.",
        [IMAGE_COMBINED] =
                "The file holds bootloader and firmware in one. This camera takes them apart: write bootloader.bin first and then "
                "firmware.bin.",
        [IMAGE_NOT_EXECUTABLE] =
                "The image is blank. Download or build it again.",
};

const char *image_fault_advice(enum image_fault fault)
{
        if ((int)fault < 0 || fault >= _IMAGE_FAULT_MAX)
                return NULL;
        return image_fault_advices[fault];
}

/* --- reading a file --- */

static bool name_ends_with(const char *name, const char *end)
{
        size_t n = strlen(name), m = strlen(end);

        return n >= m && strcasecmp(name + n - m, end) == 0;
}

static bool ranges_overlap(uint32_t a, uint32_t a_size, uint32_t b, uint32_t b_size)
{
        return (uint64_t)a < (uint64_t)b + b_size && (uint64_t)b < (uint64_t)a + a_size;
}

static enum image_fault add_element(struct image *image, uint8_t alt, uint32_t address, const uint8_t *data, uint32_t size)
{
        if (size == 0 || (uint64_t)address + size > UINT64_C(1) << 32)
                return IMAGE_BAD_ELEMENT;
        for (size_t i = 0; i < image->n_elements; i++) {
                const struct image_element *e = &image->elements[i];

                if (e->alt == alt && ranges_overlap(e->address, e->size, address, size))
                        return IMAGE_BAD_ELEMENT;
        }
        if (image->n_elements == IMAGE_ELEMENTS_MAX)
                return IMAGE_BAD_ELEMENT;
        image->elements[image->n_elements++] = (struct image_element){
                .alt = alt, .address = address, .data = data, .size = size,
        };
        return IMAGE_FINE;
}

static enum image_fault parse_target(struct image *image, struct reader *reader, bool seen[static 256])
{
        const uint8_t *signature = reader_take(reader, 6);
        uint8_t alt = reader_u8(reader);
        uint32_t target_size, n_elements;
        size_t begin;

        (void)reader_le32(reader);      /* bTargetNamed */
        (void)reader_take(reader, TARGET_NAME_SIZE);
        target_size = reader_le32(reader);
        n_elements = reader_le32(reader);
        if (reader->failed)
                return IMAGE_TRUNCATED;
        if (memcmp(signature, "Target", 6) != 0 || seen[alt] || n_elements == 0)
                return IMAGE_BAD_TARGETS;
        seen[alt] = true;
        if (target_size > reader->left)
                return IMAGE_TRUNCATED;

        begin = reader->left;
        /* Ends by itself: each turn takes eight bytes at least, or fails. */
        for (uint32_t i = 0; i < n_elements; i++) {
                uint32_t address = reader_le32(reader), size = reader_le32(reader);
                const uint8_t *data = reader_take(reader, size);
                enum image_fault fault;

                if (!data)
                        return IMAGE_TRUNCATED;
                fault = add_element(image, alt, address, data, size);
                if (fault != IMAGE_FINE)
                        return fault;
        }
        return begin - reader->left == target_size ? IMAGE_FINE : IMAGE_BAD_TARGETS;
}

static enum image_fault parse_dfuse(struct image *image, const uint8_t *bytes, size_t size)
{
        struct reader reader = reader_new(bytes, size);
        bool seen[256] = { false };
        uint8_t version, n_targets;
        uint32_t image_size;

        (void)reader_take(&reader, 5);
        version = reader_u8(&reader);
        image_size = reader_le32(&reader);
        n_targets = reader_u8(&reader);
        if (reader.failed)
                return IMAGE_TRUNCATED;
        if (version != 1)
                return IMAGE_BAD_VERSION;
        if (image_size != size)
                return IMAGE_TRUNCATED;
        if (n_targets == 0)
                return IMAGE_BAD_TARGETS;
        for (unsigned i = 0; i < n_targets; i++) {
                enum image_fault fault = parse_target(image, &reader, seen);

                if (fault != IMAGE_FINE)
                        return fault;
        }
        return reader.left == 0 ? IMAGE_FINE : IMAGE_BAD_TARGETS;
}

static bool has_suffix(const uint8_t *bytes, size_t size)
{
        return size >= SUFFIX_SIZE && memcmp(bytes + size - 8, "UFD", 3) == 0;
}

static bool has_prefix(const uint8_t *bytes, size_t size)
{
        return size >= 5 && memcmp(bytes, "DfuSe", 5) == 0;
}

static enum image_fault parse_suffixed(struct image *image, const uint8_t *bytes, size_t size)
{
        const uint8_t *suffix = bytes + size - SUFFIX_SIZE;
        uint8_t length = suffix[11];
        uint16_t bcd = get_le16(suffix + 6);

        if (length < SUFFIX_SIZE || length > size)
                return IMAGE_BAD_SUFFIX;
        if (dfu_crc(bytes, size - 4) != get_le32(suffix + 12))
                return IMAGE_BAD_CRC;
        if (bcd != 0x0100 && bcd != 0x0101 && bcd != 0x0110 && bcd != BCD_DFUSE)
                return IMAGE_BAD_VERSION;

        image->device = get_le16(suffix);
        image->product = get_le16(suffix + 2);
        image->vendor = get_le16(suffix + 4);
        size -= length;
        if (has_prefix(bytes, size) != (bcd == BCD_DFUSE))
                return IMAGE_BAD_VERSION;
        if (bcd == BCD_DFUSE) {
                image->format = IMAGE_DFUSE;
                return parse_dfuse(image, bytes, size);
        }
        image->format = IMAGE_DFU;
        if (size == 0)
                return IMAGE_EMPTY;
        if (size > UINT32_MAX)
                return IMAGE_TOO_LARGE;
        return add_element(image, 0, 0, bytes, (uint32_t)size);
}

enum image_fault image_parse(struct image *image, const uint8_t *bytes, size_t size, const char *name)
{
        struct image result = { .format = IMAGE_RAW, .vendor = ID_ANY, .product = ID_ANY, .device = ID_ANY };
        enum image_fault fault;

        if (size == 0)
                return IMAGE_EMPTY;
        if (has_suffix(bytes, size))
                fault = parse_suffixed(&result, bytes, size);
        else if (has_prefix(bytes, size))
                /* The beginning of a DfuSe file without its end, whatever it is called. */
                return IMAGE_TRUNCATED;
        else if (name && name_ends_with(name, ".dfu"))
                return size < SUFFIX_SIZE ? IMAGE_TRUNCATED : IMAGE_BAD_SUFFIX;
        else if (size > UINT32_MAX)
                return IMAGE_TOO_LARGE;
        else
                fault = add_element(&result, 0, 0, bytes, (uint32_t)size);
        if (fault == IMAGE_FINE)
                *image = result;
        return fault;
}

/* --- vector tables --- */

static bool stack_possible(const struct board *board, uint32_t stack)
{
        if (stack % 8 != 0)
                return false;
        for (size_t i = 0; i < board->n_stack; i++)
                /* A stack grows down: its first address is the one after the last of the RAM. */
                if (stack > board->stack[i].start && stack <= board->stack[i].limit)
                        return true;
        return false;
}

static bool reset_within(uint32_t reset, uint64_t start, uint64_t limit)
{
        return (reset & 1) && (reset & ~UINT32_C(1)) >= start && (reset & ~UINT32_C(1)) < limit;
}

enum image_fault image_check_vectors(const struct board *board, const uint8_t *data, size_t size, uint32_t base)
{
        if (bytes_all(data, MIN(size, (size_t)VECTORS_SIZE), 0xff))
                return IMAGE_NOT_EXECUTABLE;
        if (!board->vector_table)
                return IMAGE_FINE;
        if (size < VECTORS_SIZE)
                return IMAGE_BAD_VECTORS;
        if (!stack_possible(board, get_le32(data)) ||
            !reset_within(get_le32(data + 4), (uint64_t)base + VECTORS_SIZE, (uint64_t)base + size))
                return IMAGE_BAD_VECTORS;
        return IMAGE_FINE;
}

static void memory_range(const struct memory *memory, uint64_t *ret_start, uint64_t *ret_limit)
{
        *ret_start = UINT64_MAX;
        *ret_limit = 0;
        for (size_t i = 0; i < memory->n_segments; i++) {
                const struct erase_segment *segment = &memory->segments[i];

                *ret_start = MIN(*ret_start, (uint64_t)segment->start);
                *ret_limit = MAX(*ret_limit, segment->start + (uint64_t)segment->unit_size * segment->units);
        }
}

/* The memory that holds address, as one range.  false: none does. */
static bool memory_around(const struct board *board, uint32_t address, uint64_t *ret_start, uint64_t *ret_limit)
{
        for (size_t i = 0; i < board->n_memories; i++) {
                memory_range(&board->memories[i], ret_start, ret_limit);
                if (address >= *ret_start && address < *ret_limit)
                        return true;
        }
        return false;
}

bool image_vectors_impossible(const struct board *board, const uint8_t *data, size_t size, uint32_t base)
{
        uint64_t start, limit;

        if (size < VECTORS_SIZE)
                return false;
        if (bytes_all(data, VECTORS_SIZE, 0xff))
                return true;
        if (!board->vector_table)
                return false;
        if (!stack_possible(board, get_le32(data)))
                return true;
        /* Without the memory's range nothing speaks against the reset vector but that it is no Thumb address. */
        if (!memory_around(board, base, &start, &limit))
                return !(get_le32(data + 4) & 1);
        return !reset_within(get_le32(data + 4), start, limit);
}

/* --- an image and a board --- */

static bool id_matches(const struct usb_id *ids, size_t n, uint16_t vendor, uint16_t product)
{
        for (size_t i = 0; i < n; i++)
                if ((vendor == ID_ANY || vendor == ids[i].vendor) &&
                    (product == ID_ANY || (product & ids[i].product_mask) == (ids[i].product & ids[i].product_mask)))
                        return true;
        return false;
}

static bool suffix_fits(const struct image *image, const struct board *board)
{
        if (image->vendor == ID_ANY && image->product == ID_ANY)
                return true;
        if (id_matches(board->bootloader, board->n_bootloader, image->vendor, image->product) ||
            id_matches(board->runtime, board->n_runtime, image->vendor, image->product))
                return true;
        /* The ROM's id proves nothing (every DfuSe file carries it); it is merely no reason to refuse. */
        return board->rom_restore && id_matches(board->rom, board->n_rom, image->vendor, image->product);
}

static bool is_executable(enum partition_role role)
{
        switch (role) {
        case PARTITION_BOOTLOADER:
        case PARTITION_FIRMWARE:
                return true;
        case PARTITION_FILESYSTEM:
        case PARTITION_ROMFS:
        case PARTITION_FORBIDDEN:
        case _PARTITION_ROLE_MAX:
                break;
        }
        return false;
}

/* The one element that belongs at the partition's start. */
static enum image_fault pick_element(const struct image *image, const struct board *board, const struct partition *partition,
                                     const struct image_element **ret)
{
        const struct image_element *found = NULL;
        uint64_t start, limit;

        if (image->format != IMAGE_DFUSE) {
                assert(image->n_elements == 1);
                *ret = &image->elements[0];
                return IMAGE_FINE;
        }

        if (partition->memory >= board->n_memories)
                return IMAGE_OUT_OF_RANGE;
        memory_range(&board->memories[partition->memory], &start, &limit);
        for (size_t i = 0; i < image->n_elements; i++) {
                const struct image_element *e = &image->elements[i];

                /* Alternate setting 0 is the flash.  Another one would be option bytes or OTP. */
                if (e->alt != 0)
                        return IMAGE_BAD_TARGETS;
                if (e->address < start || (uint64_t)e->address + e->size > limit)
                        return IMAGE_OUT_OF_RANGE;
                if (e->address == partition->start)
                        found = e;
        }
        if (!found)
                return IMAGE_OUT_OF_RANGE;
        for (size_t i = 0; i < image->n_elements; i++) {
                const struct image_element *e = &image->elements[i];

                if (e == found)
                        continue;
                if (partition->role == PARTITION_BOOTLOADER && board->chip == CHIP_H7)
                        return IMAGE_COMBINED;
                /* The second half of what belongs here: one without the other would be no image. */
                if (ranges_overlap(e->address, e->size, partition->start, partition->limit - partition->start))
                        return IMAGE_BAD_ELEMENT;
        }
        *ret = found;
        return IMAGE_FINE;
}

static size_t without_trailing(const uint8_t *data, size_t size, uint8_t value)
{
        while (size > 0 && data[size - 1] == value)
                size--;
        return size;
}

/* Where the bootloader's program ends (row 5).  The padding reaches over the camera's file system: written, it would wipe that. */
static enum image_fault cut_bootloader(const struct board *board, const struct partition *partition, const uint8_t *data,
                                       size_t *size)
{
        size_t room = partition->limit - partition->start, n = *size;

        n = without_trailing(data, n, 0xff);
        if (n > room) {
                if (!bytes_all(data + room, n - room, 0x00))
                        return IMAGE_COMBINED;
                n = without_trailing(data, room, 0xff);
        }
        if (board->bootloader_max_bytes > 0 && without_trailing(data, n, 0x00) > board->bootloader_max_bytes)
                return IMAGE_TOO_LARGE;
        *size = n;
        return IMAGE_FINE;
}

enum image_fault image_for_partition(const struct image *image, const struct board *board, const struct partition *partition,
                                     const uint8_t **ret_data, size_t *ret_size)
{
        const struct image_element *element;
        enum image_fault fault;
        size_t size;

        if (partition->role == PARTITION_FORBIDDEN)
                return IMAGE_OUT_OF_RANGE;
        if (!suffix_fits(image, board))
                return IMAGE_WRONG_DEVICE;
        fault = pick_element(image, board, partition, &element);
        if (fault != IMAGE_FINE)
                return fault;

        size = element->size;
        if (partition->role == PARTITION_BOOTLOADER) {
                fault = cut_bootloader(board, partition, element->data, &size);
                if (fault != IMAGE_FINE)
                        return fault;
                if (size == 0)
                        return IMAGE_NOT_EXECUTABLE;
        }
        if (size > partition->limit - partition->start)
                return IMAGE_TOO_LARGE;
        if (is_executable(partition->role)) {
                fault = image_check_vectors(board, element->data, size, partition->start);
                if (fault != IMAGE_FINE)
                        return fault;
        }
        *ret_data = element->data;
        *ret_size = size;
        return IMAGE_FINE;
}

static bool fits_some_layout(const struct image *image, const struct board *board, const char *partition)
{
        for (size_t l = 0; l < board->n_layouts; l++) {
                const struct layout *layout = &board->layouts[l];

                for (size_t p = 0; p < layout->n_partitions; p++) {
                        const uint8_t *data;
                        size_t size;

                        if (strcmp(layout->partitions[p].name, partition) == 0 &&
                            image_for_partition(image, board, &layout->partitions[p], &data, &size) == IMAGE_FINE)
                                return true;
                }
        }
        return false;
}

uint32_t image_possible_boards(const struct image *image, const struct board_list *list, const char *partition)
{
        uint32_t boards = 0;

        _Static_assert(BOARDS_MAX <= 32, "one bit per board");
        for (size_t i = 0; i < list->n; i++)
                if (fits_some_layout(image, &list->boards[i], partition))
                        boards |= UINT32_C(1) << i;
        return boards;
}
