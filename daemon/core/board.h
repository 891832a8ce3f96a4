/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What is known of each board: ids per mode, partitions, erase map, image set.
 * Facts stand in boards/ *.board (one key file per board; format: boards/README.md)
 * and nowhere else in the program.  Pure but for board_list_load().
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/enum-name.h"

enum board_support {
        BOARD_DFU,                      /* OpenMV DFU bootloader */
        BOARD_RECOGNISED,               /* named and left alone (RT1062, Arduino ...) */
        _BOARD_SUPPORT_MAX
};
DECLARE_ENUM_NAMES(board_support);

/* What a partition is to us; decides who may write it (verdict rows 5, 6). */
enum partition_role {
        PARTITION_BOOTLOADER,
        PARTITION_FIRMWARE,             /* executable: FIRMWARE, HP, HE */
        PARTITION_FILESYSTEM,           /* the user's work: FILESYSTEM, RWFS */
        PARTITION_ROMFS,
        PARTITION_FORBIDDEN,            /* SPI_FLASH, TOC, RECOVERY: never written */
        _PARTITION_ROLE_MAX
};
DECLARE_ENUM_NAMES(partition_role);

enum chip { CHIP_NONE, CHIP_F4, CHIP_F7, CHIP_H7, CHIP_N6, CHIP_ALIF, _CHIP_MAX };
DECLARE_ENUM_NAMES(chip);

#define BOARD_PARTITIONS_MAX 8
#define BOARD_LAYOUTS_MAX 4
#define BOARD_IDS_MAX 8
#define BOARD_SEGMENTS_MAX 8
#define BOARD_FILES_MAX 6
#define BOARDS_MAX 24
#define BOARD_FILE_MAX 65536            /* bytes of a *.board file */

struct partition {
        char name[16];                  /* the alternate setting's string: "FIRMWARE" */
        enum partition_role role;
        uint32_t start, limit;          /* device addresses, limit exclusive */
        bool read_only;
        unsigned memory;                /* index into board.memories */
};

/* The partitions as one generation of the board's bootloader presents them, in order of alternate setting. */
struct layout {
        size_t n_partitions;
        struct partition partitions[BOARD_PARTITIONS_MAX];
};

/* Erase units of one memory: n units of size bytes each from start. */
struct erase_segment {
        uint32_t start, unit_size, units;
};

struct memory {
        char name[16];                  /* "internal", "spi", "mram" */
        size_t n_segments;
        struct erase_segment segments[BOARD_SEGMENTS_MAX];      /* ascending, each begins where the former ends */
};

struct usb_id {
        uint16_t vendor, product;
        uint16_t product_mask;          /* 0xffff but for other[] of Arduino boards, whose modes share the low byte */
};

struct address_range {
        uint32_t start, limit;
};

/* One file of the board's firmware folder and where it goes. */
struct board_file {
        char file[32];                  /* "firmware.bin" */
        char partition[16];             /* "FIRMWARE", "BOOTLOADER", "ROMFS0" */
};

struct board {
        char id[20];                    /* folder name: "OPENMV3" */
        char name[32];                  /* "OpenMV Cam M7" */
        char short_name[16];            /* "M7" */
        enum board_support support;
        enum chip chip;
        bool high_speed;
        bool ambiguous_rom;             /* shares chip, ROM and strings with other boards: H7, H7 Plus, Pure Thermal */
        size_t n_runtime, n_bootloader, n_legacy, n_rom, n_other;
        struct usb_id runtime[BOARD_IDS_MAX];           /* may hold one of bootloader[] (early AE3): then the interfaces tell */
        struct usb_id bootloader[BOARD_IDS_MAX];
        struct usb_id legacy[BOARD_IDS_MAX];            /* shared by many boards: old runtime or VCP bootloader */
        struct usb_id rom[BOARD_IDS_MAX];               /* shared by every STM32 */
        struct usb_id other[BOARD_IDS_MAX];             /* modes that we name and leave alone */
        size_t n_layouts;
        struct layout layouts[BOARD_LAYOUTS_MAX];       /* [0] is the newest */
        size_t n_memories;
        struct memory memories[3];
        size_t n_files;
        struct board_file files[BOARD_FILES_MAX];
        size_t n_stack;
        struct address_range stack[8];  /* where an initial stack pointer may point: start < pointer <= limit, as stacks grow down.  All
                                         * RAM of the chip: firmware since 2025 puts its stack into ITCM (0x00010000 on H7) */
        bool vector_table;              /* the firmware image begins with one whose reset vector lies inside the partition's device addresses (not: N6, AE3) */
        char filesystem_erase[16];      /* partition whose first 4096 bytes become zero on --erase-filesystem; the camera formats it anew */
        bool rom_restore;               /* the ROM can put the bootloader back (STM32F4/F7/H7) */
        uint32_t bootloader_address;
        uint32_t bootloader_limit;      /* its partition's end: padding beyond the program is cut (row 5) */
        size_t bootloader_max_bytes;    /* program size allowed */
        bool block0_first;              /* AE3 and MPU window: block 0 must be the session's first write (dfu.md A.5) */
};

struct board_list {
        size_t n;
        struct board boards[BOARDS_MAX];
};

/* Reads every *.board of directory.  A wrong line: logged with file and line, that board is left out.
 * -ENOENT: no directory; -ENODATA: no usable board in it. */
int board_list_load(struct board_list *list, const char *directory);
/* One file's text (for tests and fuzzing). file: name for messages. */
int board_parse(struct board *board, const char *text, size_t size, const char *file);

const struct board *board_by_id(const struct board_list *list, const char *id);
/* "OPENMV3", "M7", "openmv cam m7": case-insensitive.  NULL: none, or ambiguous. */
const struct board *board_by_any_name(const struct board_list *list, const char *name);

enum usb_role {
        USB_ROLE_NONE,                  /* not ours */
        USB_ROLE_ROM_DFU,               /* 0483:df11, any STM32 */
        USB_ROLE_BOOTLOADER,            /* OpenMV DFU bootloader of *board */
        USB_ROLE_RUNTIME,               /* runtime of *board */
        USB_ROLE_LEGACY,                /* 1209:abd1: VCP bootloader or old runtime, told apart by identity.h; no board */
        USB_ROLE_OTHER,                 /* a recognised board in a mode that we leave alone */
        _USB_ROLE_MAX
};
DECLARE_ENUM_NAMES(usb_role);
/* *ret_board (may be NULL): NULL when several boards share the id.  An id that is both bootloader and runtime of a board is
 * USB_ROLE_BOOTLOADER here; identity_mode() looks at the interfaces too. */
enum usb_role board_classify(const struct board_list *list, uint16_t vendor, uint16_t product, const struct board **ret_board);

const struct partition *layout_partition(const struct layout *layout, const char *name, uint8_t *ret_alt);
/* Which layout do these alternate-setting names (in order) mean?  NULL: none fits (an unknown bootloader: leave it alone).
 * The newest one, where names cannot tell (AE3: the executable partitions are equal, the split of the external flash is not). */
const struct layout *board_match_layout(const struct board *board, const char *const *names, size_t n_names);

/* --- erase units of a partition --- */
struct erase_unit {
        uint32_t offset;                /* from the start of the partition */
        uint32_t size;                  /* clipped to the partition */
};
/* Number of erase units that size bytes from the partition's start touch (size is clipped to the partition); the first max
 * of them are filled in, units may be NULL to count.  Memory without erase (AE3's MRAM): its 4096-byte blocks. */
size_t partition_units(const struct board *board, const struct partition *partition, uint32_t size,
                       struct erase_unit *units, size_t max);
