/* SPDX-License-Identifier: MIT */
/*
 * Facts of the boards and chips that the model plays: ids, memories, erase
 * units, times, partitions.  Written down from the references and not shared
 * with the daemon's own board files, so that a slip in one shows against the
 * other.
 */

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "sim/model-internal.h"

#define KIB 1024u
#define MIB (1024u * 1024u)

/* timing.md section 1 (x32 typical) and 2 */
static const struct chip_data chips[] = {
        [SIM_F427] = {
                .internal = {
                        .kind = MEMORY_WORD4, .start = 0x08000000,
                        .segments = { { 16 * KIB, 4, 250 }, { 64 * KIB, 1, 550 }, { 128 * KIB, 7, 1000 } },
                        .program_size = 4, .program_ns = 16000,
                },
                .rom_erase_factor_permille = 1000, .rom_program_ns = 16000,
        },
        [SIM_F765] = {
                .internal = {
                        .kind = MEMORY_WORD4, .start = 0x08000000,
                        .segments = { { 32 * KIB, 4, 200 }, { 128 * KIB, 1, 500 }, { 256 * KIB, 7, 1000 } },
                        .program_size = 4, .program_ns = 16000,
                },
                .rom_erase_factor_permille = 1000, .rom_program_ns = 16000,
        },
        [SIM_H743] = {
                .internal = {
                        .kind = MEMORY_WORD32, .start = 0x08000000,
                        .segments = { { 128 * KIB, 16, 1100 } },
                        .program_size = 32, .program_ns = 130000,
                },
                .rom_erase_factor_permille = 818, .rom_program_ns = 100000,   /* 0.9 s: observed; x64 */
        },
        [SIM_N657] = { .internal = { .kind = MEMORY_NONE } },
        [SIM_ALIF] = {
                .internal = {
                        .kind = MEMORY_MRAM, .start = 0x80000000,
                        .segments = { { 4 * KIB, 0x580, 0 } },
                        .program_size = 16, .program_ns = 800,          /* "tens of MB/s" */
                },
        },
};

#define QSPI_W25Q256 { \
                .kind = MEMORY_SPI, .segments = { { 64 * KIB, 512, 150 } }, \
                .program_size = 256, .program_ns = 700000, .erase_limit_ms = 2000 }

const struct board_data sim_board_data[_SIM_BOARD_MAX] = {
        [SIM_OPENMV2] = {
                .id = "OPENMV2", .short_name = "M4", .chip = SIM_F427, .st_usb = true,
                .bootloader_product = 0x9202, .runtime_product = 0x1202,
                .bootloader_start = 0x08000000, .firmware_start = 0x08010000,
                .firmware_stack = 0x10010000, .firmware_reset = 0x0804282d,
                .bootloader_stack = 0x10010000, .bootloader_reset = 0x08003459,
                .bootloader_size = 14240, .bootloader_padded = 64 * KIB, .firmware_size = 849920,
                .partitions = {
                        { "BOOTLOADER", 0x08000000, 0x08008000, .read_only = true },
                        { "FILESYSTEM", 0x08008000, 0x08010000 },
                        { "FIRMWARE", 0x08010000, 0x080e0000 },
                        { "ROMFS0", 0x080e0000, 0x08100000 },
                },
        },
        [SIM_OPENMV3] = {
                .id = "OPENMV3", .short_name = "M7", .chip = SIM_F765, .st_usb = true,
                .bootloader_product = 0x9203, .runtime_product = 0x1203,
                .bootloader_start = 0x08000000, .firmware_start = 0x08020000,
                .firmware_stack = 0x20020000, .firmware_reset = 0x08086221,
                .bootloader_stack = 0x20020000, .bootloader_reset = 0x080034bd,
                .bootloader_size = 14336, .bootloader_padded = 128 * KIB, .firmware_size = 1333696,
                .partitions = {
                        { "BOOTLOADER", 0x08000000, 0x08008000, .read_only = true },
                        { "FILESYSTEM", 0x08008000, 0x08020000 },
                        { "FIRMWARE", 0x08020000, 0x081c0000 },
                        { "ROMFS0", 0x081c0000, 0x08200000 },
                },
        },
        [SIM_OPENMV4] = {
                .id = "OPENMV4", .short_name = "H7", .chip = SIM_H743, .st_usb = true,
                .bootloader_product = 0x9204, .runtime_product = 0x1204,
                .bootloader_start = 0x08000000, .firmware_start = 0x08040000,
                .firmware_stack = 0x30040000, .firmware_reset = 0x080aa8c1,
                .bootloader_stack = 0x20020000, .bootloader_reset = 0x080047e9,
                .bootloader_size = 19400, .bootloader_padded = 256 * KIB, .firmware_size = 1352836,
                .partitions = {
                        { "BOOTLOADER", 0x08000000, 0x08020000, .read_only = true },
                        { "FILESYSTEM", 0x08020000, 0x08040000 },
                        { "FIRMWARE", 0x08040000, 0x081e0000 },
                        { "ROMFS0", 0x081e0000, 0x08200000 },
                },
        },
        [SIM_OPENMV4P] = {
                .id = "OPENMV4P", .short_name = "H7 Plus", .chip = SIM_H743, .st_usb = true, .sdram = true,
                .bootloader_product = 0x924a, .runtime_product = 0x124a,
                .bootloader_start = 0x08000000, .firmware_start = 0x08040000,
                .firmware_stack = 0x30040000, .firmware_reset = 0x080aa8c1,
                .bootloader_stack = 0x20020000, .bootloader_reset = 0x080047e9,
                .bootloader_size = 19400, .bootloader_padded = 256 * KIB, .firmware_size = 1358288,
                .external = QSPI_W25Q256,
                .partitions = {
                        { "BOOTLOADER", 0x08000000, 0x08020000, .read_only = true },
                        { "FILESYSTEM", 0x08020000, 0x08040000 },
                        { "FIRMWARE", 0x08040000, 0x08200000 },
                        { "SPI_FLASH", 0x00000000, 0x02000000, .external = true },
                        { "ROMFS0", 0x01800000, 0x02000000, .external = true },
                },
        },
        [SIM_OPENMVPT] = {
                .id = "OPENMVPT", .short_name = "Pure Thermal", .chip = SIM_H743, .st_usb = true, .sdram = true,
                .bootloader_product = 0x9205, .runtime_product = 0x1205,
                .bootloader_start = 0x08000000, .firmware_start = 0x08040000,
                .firmware_stack = 0x30040000, .firmware_reset = 0x080aa8c1,
                .bootloader_stack = 0x20020000, .bootloader_reset = 0x080047e9,
                .bootloader_size = 19400, .bootloader_padded = 256 * KIB, .firmware_size = 1358288,
                .external = QSPI_W25Q256,
                .partitions = {
                        { "BOOTLOADER", 0x08000000, 0x08020000, .read_only = true },
                        { "FILESYSTEM", 0x08020000, 0x08040000 },
                        { "FIRMWARE", 0x08040000, 0x08200000 },
                        { "SPI_FLASH", 0x00000000, 0x02000000, .external = true },
                        { "ROMFS0", 0x01800000, 0x02000000, .external = true },
                },
        },
        [SIM_OPENMV_N6] = {
                .id = "OPENMV_N6", .short_name = "N6", .chip = SIM_N657, .high_speed = true,
                .bootloader_product = 0x9206, .runtime_product = 0x1206, .bootloader_external = true,
                .bootloader_start = 0x00000000, .firmware_start = 0x00080000, .code_offset = 0x70000000,
                .firmware_stack = 0x34040000, .firmware_reset = 0x70099001,
                .bootloader_stack = 0x34040000, .bootloader_reset = 0x70001001,
                .bootloader_size = 40000, .bootloader_padded = 512 * KIB, .firmware_size = 3 * MIB,
                .external = {
                        .kind = MEMORY_SPI, .segments = { { 64 * KIB, 512, 200 } },
                        .program_size = 256, .program_ns = 150000, .erase_limit_ms = 2000,
                },
                .partitions = {
                        { "BOOTLOADER", 0x00000000, 0x00080000, .read_only = true, .external = true },
                        { "FIRMWARE", 0x00080000, 0x00400000, .external = true },
                        { "FILESYSTEM", 0x00400000, 0x00800000, .external = true },
                        { "ROMFS0", 0x00800000, 0x02000000, .external = true },
                },
        },
        [SIM_OPENMV_AE3] = {
                .id = "OPENMV_AE3", .short_name = "AE3", .chip = SIM_ALIF, .high_speed = true,
                .bootloader_product = 0x96e3, .runtime_product = 0x16e3,
                .bootloader_start = 0x80000000, .firmware_start = 0x80020000,
                .firmware_stack = 0x20100000, .firmware_reset = 0x80031001,
                .bootloader_stack = 0x20100000, .bootloader_reset = 0x80001001,
                .bootloader_size = 40000, .bootloader_padded = 128 * KIB, .firmware_size = 2 * MIB,
                .external = {
                        .kind = MEMORY_OSPI, .segments = { { 4 * KIB, 8192, 40 } },
                        .program_size = 128, .program_ns = 100000,
                },
                .partitions = {
                        { "BOOT", 0x80000000, 0x80020000, .read_only = true, .window = true },
                        { "HP", 0x80020000, 0x80320000, .window = true },
                        { "HE", 0x80320000, 0x8047e000, .window = true },
                        { "ROMFS1", 0x8047e000, 0x8057e000, .window = true },
                        { "TOC", 0x8057e000, 0x80580000, .window = true },
                        { "RWFS", 0x00000000, 0x00800000, .external = true },
                        { "ROMFS0", 0x00800000, 0x02000000, .external = true },
                        { "RECOVERY", 0x00000000, 0x00001000, .external = true, .recovery = true },
                },
        },
        [SIM_FOREIGN] = { .id = "FOREIGN", .short_name = "foreign", .chip = SIM_F427, .bootloader_start = 0x08000000 },
};

const struct chip_data *sim_chip_data(enum sim_chip chip)
{
        return &chips[chip];
}

size_t sim_layout(enum sim_board board, enum sim_bootloader bootloader, struct partition_data partitions[PARTITIONS_MAX])
{
        const struct board_data *data = &sim_board_data[board];
        size_t n = 0;

        memcpy(partitions, data->partitions, sizeof(data->partitions));
        while (n < PARTITIONS_MAX && partitions[n].name)
                n++;
        if (bootloader != SIM_BL_1_0_0_OLD_LAYOUT && bootloader != SIM_BL_VCP)
                return n;

        switch (board) {
        case SIM_OPENMV2:
        case SIM_OPENMV3:
        case SIM_OPENMV4:
                /* The firmware ran to the end of flash, where the ROMFS is now. */
                partitions[2].limit = partitions[3].limit;
                n--;
                break;
        case SIM_OPENMV4P:
        case SIM_OPENMVPT:
                n--;
                break;
        case SIM_OPENMV_AE3:
                partitions[5].limit = partitions[6].start = 0x01000000;         /* RWFS, ROMFS0: 16 M each */
                break;
        case SIM_OPENMV_N6:
        case SIM_FOREIGN:
        case _SIM_BOARD_MAX:
                break;
        }
        /* The VCP bootloader shows no partitions, but its split differs on the M4 (vcp-bootloader.md section 4). */
        if (bootloader == SIM_BL_VCP && board == SIM_OPENMV2)
                partitions[0].limit = partitions[1].start = 0x08004000;
        return n;
}

const char *sim_board_name(enum sim_board board)
{
        return (unsigned)board < _SIM_BOARD_MAX ? sim_board_data[board].id : NULL;
}

int sim_board_from_name(const char *name)
{
        for (int i = 0; i < _SIM_BOARD_MAX; i++)
                if (strcasecmp(name, sim_board_data[i].id) == 0 || strcasecmp(name, sim_board_data[i].short_name) == 0)
                        return i;
        return -EINVAL;
}

const char *sim_mode_name(enum sim_mode mode)
{
        static const char *const names[_SIM_MODE_MAX] = {
                [SIM_OFF] = "off", [SIM_SILENT] = "silent", [SIM_ROM_DFU] = "rom-dfu", [SIM_BOOTLOADER] = "bootloader",
                [SIM_VCP_BOOTLOADER] = "vcp-bootloader", [SIM_RUNTIME] = "runtime",
        };

        return (unsigned)mode < _SIM_MODE_MAX ? names[mode] : NULL;
}
