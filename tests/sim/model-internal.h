/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What the parts of the model know of each other.  No front end includes this.
 *
 * A camera has at most one mode at a time, at most one control transfer under
 * way (endpoint 0 is one pipe) and at most one flash job (there is one flash
 * controller).  All device time passes through the four timers below.
 */

#include "sim/model.h"

/* --- facts of boards and chips: model-board.c --- */

enum memory_kind {
        MEMORY_NONE,
        MEMORY_WORD4,                   /* F4, F7: AND-programming in words of 4 bytes */
        MEMORY_WORD32,                  /* H7: flash words of 32 bytes with ECC */
        MEMORY_SPI,                     /* external NOR: AND-programming by the byte, erase of 64 KiB */
        MEMORY_OSPI,                    /* AE3's external NOR: erase of 4 KiB */
        MEMORY_MRAM,                    /* AE3: overwritten in units of 16 bytes, never erased */
};

struct segment_data {
        uint32_t unit_size, units;
        unsigned erase_ms;              /* typical, by the OpenMV bootloader (timing.md sections 1, 2) */
};

struct memory_data {
        enum memory_kind kind;
        uint32_t start;
        struct segment_data segments[3];
        unsigned program_size;          /* bytes that take program_ns together */
        unsigned program_ns;
        unsigned erase_limit_ms;        /* the bootloader's own limit, then errWRITE; 0: none */
};

struct partition_data {
        const char *name;
        uint32_t start, limit;
        bool read_only, external;
        bool window;                    /* an MPU region: writable only after a block 0 (dfu.md A.5) */
        bool recovery;                  /* AE3's RECOVERY: no store behind it */
};

#define PARTITIONS_MAX 8

struct board_data {
        const char *id, *short_name;
        enum sim_chip chip;
        uint16_t bootloader_product, runtime_product;
        bool high_speed;
        bool st_usb;                    /* the runtime's stack: ST's (composite, M-form unreduced) or TinyUSB */
        bool sdram;
        bool bootloader_external;       /* N6: everything lives in the octal flash */
        uint32_t bootloader_start, firmware_start;
        uint32_t code_offset;           /* firmware address as the core sees it minus firmware_start (N6: memory mapped) */
        uint32_t firmware_stack, firmware_reset;
        uint32_t bootloader_stack, bootloader_reset;
        size_t bootloader_size;         /* program without padding */
        uint32_t bootloader_padded;
        size_t firmware_size;
        struct memory_data external;
        struct partition_data partitions[PARTITIONS_MAX];
};

struct chip_data {
        struct memory_data internal;
        unsigned rom_erase_factor_permille;     /* the ROM's erase against the bootloader's (parallelism) */
        unsigned rom_program_ns;                /* per program_size */
};

extern const struct board_data sim_board_data[_SIM_BOARD_MAX];
const struct chip_data *sim_chip_data(enum sim_chip chip);
/* In order of alternate setting; returns their number. */
size_t sim_layout(enum sim_board board, enum sim_bootloader bootloader, struct partition_data partitions[PARTITIONS_MAX]);

/* Device and bus times that are no flash times (microseconds at speed 1). */
enum {
        TIME_POWER_ON = 20000,          /* power to the first instruction of what boots */
        TIME_RESET = 5000,
        TIME_ROM_PULL_UP = 50000,       /* ROM: clock measurement before USB comes up */
        TIME_BOOTLOADER_PULL_UP = 10000,
        TIME_RUNTIME_DEFAULT = 300000,  /* boot_us = 0: "a few hundred ms" (dfu.md A.7, unconfirmed) */
        TIME_LEAVE = 1000,              /* from the decision to leave to the line going down */
        TIME_MOUNT_WAIT = 1000000,      /* dfu.md A.3 */
        TIME_WINDOW = 1500000,
        TIME_VCP_MOUNT_WAIT = 2000000,  /* vcp-bootloader.md section 2; polled per 200 ms, so 0 to 200 ms more on real parts */
        TIME_VCP_WINDOW = 1000000,
        /* timing.md section 3, "realistic": full speed GETSTATUS 0.5 ms, 1024 B 1.5 ms, 2048 B 2.5 ms, 4096 B 4.5 ms;
         * high speed GETSTATUS 0.2 ms, 4096 B 1 ms */
        TIME_FS_TRANSFER = 500, TIME_FS_PER_KIB = 1000,
        TIME_HS_TRANSFER = 200, TIME_HS_PER_KIB = 200,
};

/* --- flash: model-flash.c --- */

struct unit {
        uint32_t start, size;
        uint64_t erase_us;              /* typical */
        uint8_t *data;                  /* NULL: blank */
        uint8_t *broken;                /* WORD32: one byte per flash word whose ECC does not fit; NULL: none */
        uint32_t erases, programmed;
};

struct memory {
        enum memory_kind kind;
        const struct memory_data *real;
        uint32_t start, limit;
        size_t n_units;
        struct unit *units;
};

struct flash_failure {
        bool external, silently;
        uint32_t unit_start;
        unsigned count;
        struct flash_failure *next;
};

enum flash_result { FLASH_OK, FLASH_FAILED };

struct flash_job {
        bool active;
        bool background;                /* the device answers requests meanwhile (ROM wedge) */
        struct memory *memory;
        size_t erase_first, erase_count;
        bool erase_silent, erase_fails, program_silent, program_fails;
        uint32_t address;
        size_t size;                    /* padded to whole program units; 0: nothing is programmed */
        uint8_t data[4096 + 32];
        uint64_t erase_us, program_us;  /* as scaled by factors, not by flash_speed */
        uint64_t started_at;
        void (*done)(struct sim_camera *, enum flash_result);
        /* power fails in the middle: set by a fault before the job begins */
        bool tear;
        size_t tear_bytes;
        uint64_t tear_us;               /* nominal time at which */
};

struct flash_request {
        struct memory *memory;
        size_t erase_first, erase_count;
        uint32_t address;
        const uint8_t *data;
        size_t size;                    /* of data; room behind it up to the next program unit */
        int padding;                    /* byte that fills the last unit, or -1: whatever stands behind data */
        bool rom;                       /* the ROM's timing */
        unsigned erase_permille;        /* of that; 0: 1000 */
        bool background;
};

int sim_flash_init(struct sim_camera *camera);
void sim_flash_deinit(struct sim_camera *camera);
struct unit *sim_flash_unit(struct memory *memory, uint32_t address);
/* Maps a real address to this camera's geometry (erase_unit_scale). */
uint32_t sim_flash_scale(const struct memory *memory, uint32_t address);
/* Reads as the device does; false: a flash word whose ECC does not fit was touched. */
bool sim_flash_fetch(const struct memory *memory, uint32_t address, uint8_t *data, size_t size);
bool sim_flash_contains(const struct memory *memory, uint32_t address, size_t size);
void sim_flash_begin(struct sim_camera *camera, const struct flash_request *request, void (*done)(struct sim_camera *, enum flash_result));
/* Carries the job under way out at once. */
void sim_flash_finish(struct sim_camera *camera);
/* Power is gone: the unit under way is neither old nor new. */
void sim_flash_power_lost(struct sim_camera *camera);

/* --- modes: model-bootloader.c, model-rom.c, model-runtime.c --- */

struct transfer {
        uint8_t type, request;
        uint16_t value, index, length;
        bool stall;
        bool wait_job;                  /* the reply comes when the flash job that SETUP began is over (H743 ROM) */
        bool mute;                      /* never answered */
        bool quiet;
        size_t reply_size;              /* IN */
        uint64_t started_at, duration;
        const struct sim_fault *fault;
        struct sim_fault fault_copy;
};

struct personality {
        enum sim_mode mode;
        /* Fills in device, configuration and strings. */
        void (*describe)(struct sim_camera *);
        void (*enter)(struct sim_camera *);             /* pulled up */
        /* SET_CONFIGURATION changed the value (0: not configured) */
        void (*configured)(struct sim_camera *, uint8_t value);
        void (*bus_reset)(struct sim_camera *);
        /* SETUP stage of a class, vendor or interface request; sets stall or the reply. */
        void (*setup)(struct sim_camera *, struct transfer *);
        void (*data)(struct sim_camera *, const struct transfer *, const uint8_t *data, size_t size);
        void (*ack)(struct sim_camera *, const struct transfer *);
        /* Must this request wait for a flash job in the background?  NULL: there are none. */
        bool (*must_wait)(const struct sim_camera *, const struct transfer *);
};

extern const struct personality sim_bootloader_personality, sim_rom_personality, sim_runtime_personality, sim_vcp_personality;

enum {
        STATE_IDLE = 2, STATE_DNLOAD_SYNC, STATE_DNBUSY, STATE_DNLOAD_IDLE, STATE_MANIFEST_SYNC, STATE_MANIFEST,
        STATE_UPLOAD_IDLE = 9, STATE_ERROR,
};
enum {
        STATUS_OK, STATUS_TARGET, STATUS_FILE, STATUS_WRITE, STATUS_ERASE, STATUS_ADDRESS = 8, STATUS_FIRMWARE = 10,
        STATUS_VENDOR, STATUS_UNKNOWN = 14, STATUS_STALLEDPKT,
};
enum { REQ_DETACH, REQ_DNLOAD, REQ_UPLOAD, REQ_GETSTATUS, REQ_CLRSTATUS, REQ_GETSTATE, REQ_ABORT };

struct bootloader {
        enum sim_board board;           /* what the program in flash was built for */
        enum sim_bootloader version;
        size_t n_partitions;
        struct partition_data partitions[PARTITIONS_MAX];
        bool window_open[PARTITIONS_MAX];
        uint8_t alt, state, status;
        bool pending, attached, forced;
        uint16_t block, length;
        uint8_t buffer[4096 + 32];      /* the margin is never read by a correct driver: zeros */
        uint64_t configured_at;
};

struct rom {
        uint8_t alt, state, status;
        bool pending, wedged;
        uint16_t block, length;
        uint32_t pointer;
        uint8_t buffer[2048 + 32];
};

struct timer_slot {
        struct sim_camera *camera;
        void *handle;
        void (*fn)(struct sim_camera *);
};

struct fault {
        struct sim_fault fault;
        unsigned passed, hit;
        struct fault *next;
};

struct sim_camera {
        const struct sim_host *host;
        void *fe;
        struct sim_config config;
        char name[64];
        enum sim_chip chip;
        uint64_t seed;

        /* physical */
        struct memory memories[2];      /* internal, external */
        bool read_protected;
        bool jumper, powered;

        /* what runs now */
        enum sim_mode mode;
        const struct personality *personality;
        bool connected, crashed, reset_pending, quiet;
        uint8_t configuration;
        bool remote_wakeup;
        enum sim_board runtime_board;   /* of the firmware that runs */
        char runtime_version[32];
        struct bootloader bootloader;
        struct rom rom;
        uint8_t line_coding[7];
        bool line_ready;                /* DTR */

        struct sim_descriptors descriptors;
        uint8_t configuration_bytes[256];
        char interface_strings[PARTITIONS_MAX][128];
        size_t n_interface_strings;

        /* one transfer, one job */
        struct sim_urb *queue, *current;
        struct transfer transfer;
        bool abandoned;                 /* the host gave up a SETUP that the deaf bootloader has in its hands */
        struct transfer abandoned_transfer;
        uint8_t reply[4096];
        struct flash_job job;
        struct timer_slot boot_timer, window_timer, transfer_timer, pump_timer, job_timer, leave_timer;
        void (*next_boot)(struct sim_camera *);

        struct fault *faults;
        struct flash_failure *flash_failures;
        struct sim_counters counters;

        struct sim_partition partitions[PARTITIONS_MAX];
};

/* --- model.c, for the modes --- */
void sim_timer_set(struct timer_slot *slot, uint64_t delay, void (*fn)(struct sim_camera *));
void sim_timer_clear(struct timer_slot *slot);
uint64_t sim_now(const struct sim_camera *camera);
void sim_trace(struct sim_camera *camera, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Soon, and not before the flash is done: drops off the bus, then goes on with next. */
void sim_leave(struct sim_camera *camera, void (*next)(struct sim_camera *));
/* What the reset vector leads to: ROM if BOOT0 is high, else the bootloader in flash, else nothing. */
void sim_boot_from_reset(struct sim_camera *camera);
/* A jump, without reset, to the program at the bootloader's or the firmware's place. */
void sim_boot_bootloader(struct sim_camera *camera);
void sim_boot_firmware(struct sim_camera *camera);
void sim_boot_from_rom(struct sim_camera *camera);      /* to where the ROM's pointer stands */
void sim_crash(struct sim_camera *camera);      /* locked up: still on the bus, NAKs for ever */
void sim_pump(struct sim_camera *camera);
void sim_job_over(struct sim_camera *camera);
uint64_t sim_scaled_window(const struct sim_camera *camera, uint64_t us);

/* --- model-descriptors.c --- */
void sim_describe_device(struct sim_camera *camera, uint16_t usb, uint8_t class, uint8_t subclass, uint8_t protocol,
                         uint16_t vendor, uint16_t product, uint16_t device, bool serial);
/* N alternate settings of one DFU interface and the functional descriptor. */
void sim_describe_dfu(struct sim_camera *camera, uint8_t attributes, uint8_t max_power, uint8_t dfu_attributes,
                      uint16_t detach_timeout, uint16_t transfer_size, uint16_t dfu_version);
void sim_describe_bytes(struct sim_camera *camera, const uint8_t *bytes, size_t size);
/* Standard requests to the device, and what every stack does with the others.  False: not a standard device/endpoint request. */
bool sim_standard_request(struct sim_camera *camera, struct transfer *transfer);
void sim_reply(struct sim_camera *camera, struct transfer *transfer, const void *data, size_t size);
void sim_serial_u(const uint8_t uid[12], char *ret);
void sim_serial_r(const uint8_t uid[12], char *ret);
void sim_serial_m(const uint8_t uid[12], bool reduced, char *ret);

/* --- model-image.c --- */
enum image_kind { IMAGE_NONE, IMAGE_BOOTLOADER, IMAGE_FIRMWARE };
struct image_info {
        enum image_kind kind;
        enum sim_board board;
        enum sim_bootloader bootloader;
        bool mute;
        size_t size;
        char version[32];
};
/* What stands whole at address; kind IMAGE_NONE if nothing does. */
struct image_info sim_image_inspect(const struct memory *memory, uint32_t address);
int sim_image_bootloader_of(enum sim_board board, enum sim_bootloader bootloader, size_t limit, size_t padded_to,
                            uint8_t **ret, size_t *ret_size);

static inline uint64_t sim_mix(uint64_t x)
{
        x += UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}
