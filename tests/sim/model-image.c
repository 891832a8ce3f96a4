/* SPDX-License-Identifier: MIT */
/*
 * Synthetic programs: a plausible vector table, noise, and a marker with a
 * checksum over the whole.  Whether something boots is decided by the marker
 * alone, so any lost, torn or ANDed bit keeps a camera dark.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sim/model-internal.h"

/* The marker stands behind the largest vector table of the family. */
enum {
        MARKER = 0x400,
        MARKER_MAGIC = 0, MARKER_KIND = 8, MARKER_BOARD = 9, MARKER_VARIANT = 10,
        MARKER_SIZE_FIELD = 12, MARKER_VERSION = 16, MARKER_CHECKSUM = 48,
        MARKER_SIZE = 56,
        VERSION_HEADER = 0x1000, VERSION_HEADER_SIZE = 32,
};

static const char magic[8] = "SIMIMAGE";

static uint64_t checksum_add(uint64_t sum, const uint8_t *data, size_t size)
{
        while (size >= 8) {
                sum = (sum ^ (get_le32(data) | (uint64_t)get_le32(data + 4) << 32)) * UINT64_C(0x2127599bf4325c37);
                sum ^= sum >> 29;
                data += 8;
                size -= 8;
        }
        for (; size > 0; size--)
                sum = (sum ^ *data++) * UINT64_C(0x100000001b3);
        return sum;
}

/* Over everything but the field itself. */
static uint64_t checksum(const uint8_t *image, size_t size)
{
        uint64_t sum = checksum_add(size, image, MARKER + MARKER_CHECKSUM);

        return checksum_add(sum, image + MARKER + MARKER_SIZE, size - MARKER - MARKER_SIZE);
}

static void put_le64(uint8_t *p, uint64_t v)
{
        put_le32(p, (uint32_t)v);
        put_le32(p + 4, (uint32_t)(v >> 32));
}

static uint64_t seed_of(enum sim_board board, const char *version, unsigned seed)
{
        uint64_t x = sim_mix(((uint64_t)board << 32) + seed);

        for (const char *p = version; *p; p++)
                x = sim_mix(x ^ (uint8_t)*p);
        return x;
}

static void fill(uint8_t *image, size_t size, uint64_t seed)
{
        size_t i;

        for (i = 0; i + 8 <= size; i += 8)
                put_le64(image + i, sim_mix(seed + i));
        for (; i < size; i++)
                image[i] = (uint8_t)sim_mix(seed + i);
}

/* Stack top, reset vector, and handlers that all lie in the image. */
static void vectors(uint8_t *image, size_t size, uint32_t base, uint32_t stack, uint32_t reset)
{
        if (reset - base >= size)
                reset = base + ((uint32_t)(size / 2) & ~1u) + 1;
        put_le32(image, stack);
        put_le32(image + 4, reset);
        for (size_t i = 2; i < 16; i++)
                put_le32(image + 4 * i, reset + 2 * (uint32_t)i);
}

static void mark(uint8_t *image, size_t size, enum image_kind kind, enum sim_board board, unsigned variant, const char *version)
{
        uint8_t *marker = image + MARKER;

        memset(marker, 0, MARKER_SIZE);
        memcpy(marker + MARKER_MAGIC, magic, sizeof(magic));
        marker[MARKER_KIND] = (uint8_t)kind;
        marker[MARKER_BOARD] = (uint8_t)board;
        marker[MARKER_VARIANT] = (uint8_t)variant;
        put_le32(marker + MARKER_SIZE_FIELD, (uint32_t)size);
        strncpy((char *)marker + MARKER_VERSION, version, MARKER_CHECKSUM - MARKER_VERSION - 1);
        put_le64(marker + MARKER_CHECKSUM, checksum(image, size));
}

static int firmware(enum sim_board board, const char *version, unsigned seed, size_t size, bool mute, uint8_t **ret)
{
        const struct board_data *data;
        uint8_t *image;

        if ((unsigned)board >= SIM_FOREIGN || size < MARKER + MARKER_SIZE || size > UINT32_MAX)
                return -EINVAL;
        data = &sim_board_data[board];
        image = malloc(size);
        if (!image)
                return -ENOMEM;
        fill(image, size, seed_of(board, version, seed));
        vectors(image, size, data->firmware_start + data->code_offset, data->firmware_stack, data->firmware_reset);
        mark(image, size, IMAGE_FIRMWARE, board, mute, version);
        *ret = image;
        return 0;
}

int sim_image_firmware(enum sim_board board, const char *version, unsigned seed, size_t size, uint8_t **ret)
{
        return firmware(board, version, seed, size, /* mute= */ false, ret);
}

int sim_image_firmware_mute(enum sim_board board, const char *version, unsigned seed, size_t size, uint8_t **ret)
{
        return firmware(board, version, seed, size, /* mute= */ true, ret);
}

int sim_image_bootloader_of(enum sim_board board, enum sim_bootloader bootloader, size_t limit, size_t padded_to,
                            uint8_t **ret, size_t *ret_size)
{
        static const struct {
                const char *name;
                uint8_t patch;
                bool header;            /* since December 2025 (dfu.md A.6) */
        } versions[] = {
                [SIM_BL_1_0_0_OLD_LAYOUT] = { "unnumbered", 0, false },
                [SIM_BL_1_0_0] = { "1.0.0", 0, true },
                [SIM_BL_1_0_2] = { "1.0.2", 2, true },
                [SIM_BL_1_0_3] = { "1.0.3", 3, true },
                [SIM_BL_VCP] = { "vcp", 0, false },
        };
        const struct board_data *data = &sim_board_data[board];
        size_t size, total;
        uint8_t *image;

        if ((unsigned)board >= SIM_FOREIGN || (unsigned)bootloader >= ELEMENTSOF(versions))
                return -EINVAL;
        size = MIN(data->bootloader_size, limit);
        total = MAX(size, padded_to);
        image = malloc(total);
        if (!image)
                return -ENOMEM;
        memset(image, 0xff, total);
        fill(image, size, seed_of(board, versions[bootloader].name, 0));
        vectors(image, size, data->bootloader_start + data->code_offset, data->bootloader_stack, data->bootloader_reset);
        if (versions[bootloader].header && size >= VERSION_HEADER + VERSION_HEADER_SIZE) {
                memset(image + VERSION_HEADER, 0, VERSION_HEADER_SIZE);
                put_le32(image + VERSION_HEADER, 0xb00710ad);
                image[VERSION_HEADER + 4] = 1;
                image[VERSION_HEADER + 6] = versions[bootloader].patch;
        }
        mark(image, size, IMAGE_BOOTLOADER, board, bootloader, versions[bootloader].name);
        *ret = image;
        *ret_size = total;
        return 0;
}

int sim_image_bootloader(enum sim_board board, enum sim_bootloader bootloader, bool padded, uint8_t **ret, size_t *ret_size)
{
        if ((unsigned)board >= SIM_FOREIGN)
                return -EINVAL;
        return sim_image_bootloader_of(board, bootloader, SIZE_MAX, padded ? sim_board_data[board].bootloader_padded : 0, ret, ret_size);
}

size_t sim_image_default_size(enum sim_board board)
{
        return sim_board_data[board].firmware_size;
}

struct image_info sim_image_inspect(const struct memory *memory, uint32_t address)
{
        struct image_info info = { .kind = IMAGE_NONE };
        uint8_t marker[MARKER_SIZE];
        _cleanup_free_ uint8_t *image = NULL;
        uint64_t sum;
        size_t size;

        if (!sim_flash_contains(memory, address, MARKER + MARKER_SIZE))
                return info;
        (void)sim_flash_fetch(memory, address + MARKER, marker, sizeof(marker));
        if (memcmp(marker, magic, sizeof(magic)) != 0)
                return info;
        size = get_le32(marker + MARKER_SIZE_FIELD);
        if (size < MARKER + MARKER_SIZE || !sim_flash_contains(memory, address, size) || marker[MARKER_BOARD] >= SIM_FOREIGN)
                return info;
        image = malloc(size);
        if (!image || !sim_flash_fetch(memory, address, image, size))
                return info;
        sum = get_le32(marker + MARKER_CHECKSUM) | (uint64_t)get_le32(marker + MARKER_CHECKSUM + 4) << 32;
        if (checksum(image, size) != sum)
                return info;
        info.board = marker[MARKER_BOARD];
        info.size = size;
        memcpy(info.version, marker + MARKER_VERSION, MARKER_CHECKSUM - MARKER_VERSION - 1);
        info.kind = marker[MARKER_KIND] == IMAGE_BOOTLOADER ? IMAGE_BOOTLOADER : IMAGE_FIRMWARE;
        if (info.kind == IMAGE_BOOTLOADER)
                info.bootloader = marker[MARKER_VARIANT];
        else
                info.mute = marker[MARKER_VARIANT];
        return info;
}
