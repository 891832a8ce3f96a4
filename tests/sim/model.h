/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The simulated camera: one device model, event driven.  It knows neither
 * FUSE, nor USB/IP, nor libusb, nor a clock of its own: a front end gives it
 * time, carries its transfers and plays the kernel (enumeration, port, bus).
 *
 * One struct sim_camera is one physical camera and survives every
 * re-enumeration: flash contents, unique id, jumper, counters.  Content decides
 * what boots.  Where a reference says how a real device behaves, the model
 * behaves so, the ugly parts included (dfu.md, boards.md, identity.md,
 * timing.md); what is marked unconfirmed there is a switch in struct sim_config.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum sim_board {
        SIM_OPENMV2,                    /* M4, STM32F427 */
        SIM_OPENMV3,                    /* M7, STM32F765 */
        SIM_OPENMV4,                    /* H7, STM32H743 */
        SIM_OPENMV4P,                   /* H7 Plus */
        SIM_OPENMVPT,                   /* Pure Thermal */
        SIM_OPENMV_N6,
        SIM_OPENMV_AE3,
        SIM_FOREIGN,                    /* not a camera: any STM32 that shows 0483:df11 (config.chip says which ROM) */
        _SIM_BOARD_MAX
};

enum sim_chip { SIM_CHIP_BY_BOARD, SIM_F427, SIM_F765, SIM_H743, SIM_N657, SIM_ALIF };

/* What the camera shows on USB now. */
enum sim_mode {
        SIM_OFF,                        /* no power */
        SIM_SILENT,                     /* powered, shows nothing: crashed, jumped into garbage, locked up */
        SIM_ROM_DFU,
        SIM_BOOTLOADER,                 /* OpenMV DFU bootloader */
        SIM_VCP_BOOTLOADER,             /* old CDC bootloader, 1209:abd1: descriptors and its window only */
        SIM_RUNTIME,
        _SIM_MODE_MAX
};

enum sim_bootloader {                   /* which bootloader program image stands in flash when sim_camera_install_bootloader() is used */
        SIM_BL_1_0_0_OLD_LAYOUT,        /* v4.6.0/v4.6.20: bcdDevice 0x0200, no ROMFS0 partition, firmware to the end of flash; AE3 16M/16M */
        SIM_BL_1_0_0,                   /* v4.8.0: bcdDevice 0x0200: DETACH waits for the window and never leaves forced mode */
        SIM_BL_1_0_2,                   /* 0x0102 */
        SIM_BL_1_0_3,                   /* 0x0103 */
        SIM_BL_VCP,                     /* old CDC bootloader */
};

struct sim_camera;
struct sim_urb;

/* --- the front end, as the model sees it --- */
struct sim_host {
        /* microseconds; virtual or real */
        uint64_t (*now)(void *fe);
        /* Calls fn(arg) once after delay; returns a handle for cancel_timer; 0 delay: soon, never from inside this call. */
        void *(*timer)(void *fe, uint64_t delay_us, void (*fn)(void *arg), void *arg);
        void (*cancel_timer)(void *fe, void *timer);
        /* The device pulled up its line: the front end enumerates it (or does not).
         * It reads sim_camera_descriptors() and sends SET_CONFIGURATION(1) as the kernel would. */
        void (*connected)(void *fe, struct sim_camera *camera);
        /* It dropped off the bus.  The model has completed every urb with SIM_SHUTDOWN before. */
        void (*disconnected)(void *fe, struct sim_camera *camera);
        /* Ends a submitted urb; actual = bytes of the data stage. status 0 or a negative errno as usbfs
         * would report it: -EPIPE (stall), -ESHUTDOWN (gone), -ENOENT (unlinked), -EPROTO, -EOVERFLOW ... */
        void (*complete)(void *fe, struct sim_urb *urb, int status, size_t actual);
        /* One line per request and per flash operation (the trace that a failing test prints); may be NULL. */
        void (*trace)(void *fe, struct sim_camera *camera, const char *line);
};

/* A control transfer.  The front end owns it from submit to complete. */
struct sim_urb {
        uint8_t setup[8];
        uint8_t *data;                  /* OUT: filled by the front end; IN: room for wLength, filled by the model */
        void *fe_private;
        /* the model's */
        struct sim_urb *next;
        void *model_private;
};

/* --- a camera's nature --- */
struct sim_config {
        const char *name;               /* for traces and counters; copied */
        enum sim_board board;
        enum sim_chip chip;             /* SIM_CHIP_BY_BOARD unless SIM_FOREIGN */
        uint8_t uid[12];                /* bytes b0..b11 in address order (identity.md) */
        enum sim_bootloader bootloader;
        double flash_speed;             /* 1.0: datasheet typical times; 0: no time at all; 10: ten times faster */
        double usb_speed;               /* 1.0: timing.md "realistic" transfer times; 0: no time at all */
        double window_scale;            /* stretches mount wait and window; 1.0: 1000 ms and 1500 ms */
        uint64_t boot_us;               /* from the jump to the runtime's pull-up; default (0) 300 ms */

        /* quirks */
        bool f4_first_dfu_error;        /* dfu.md B.4 quirk 1 (on by sim_config_default() for F4) */
        bool h743_rev_v;                /* quirk 3: erase of sector >= 8 wedges in dfuDNBUSY (on by default for H743) */
        bool f765_dual_bank;            /* quirk 5 */
        bool rom_strict_clrstatus;      /* quirk 2: CLRSTATUS outside dfuERROR stalls */
        bool rom_read_protected;        /* B.2: errVENDOR for everything but Read Unprotect */
        bool n6_serial_lower;           /* runtime serial of N6: 24 hex lower case instead of M-form mod 256 */
        bool vendor_37c5_runtime;       /* runtime id 37c5:12xx (default) or the old 1209:abd1 */

        /* what the references call unconfirmed, or only some parts do; the default is the likeliest reading */
        bool h7_ecc_fault;              /* reading a flash word that was programmed twice, or in which power failed: the device locks up (default: garbage is read) */
        bool mpu_fault_is_error;        /* AE3 write before block 0 opened the window: errWRITE (default: fault, locked up) */
        bool rom_constant_stride;       /* block address = pointer + (n-2) * wTransferSize (default: * wLength of this request) */
        bool rom_stall_keeps_state;     /* a refused request leaves state and status (default: dfuERROR, errSTALLEDPKT) */
        bool rom_erase_keeps_pointer;   /* the address pointer stands where Set Address put it (default: at the erased sector, as in ST's later library) */
        bool rom_busy_stalls;           /* quirk 6: GETSTATUS stalls while flash works (default: NAKed) */
        bool rom_leave_mute;            /* quirk 7: the GETSTATUS of leaving has no answer (default on for H743) */
        bool rom_mass_erase_works;      /* default off for H743 (quirk 4: errERASE), on elsewhere */
        bool rom_constant_serial;       /* "STM32FxSTM32" instead of the R-form */
        bool f427_1mb_string;           /* memory map string of a 1 MB part instead of the 2 MB one */
        bool f4_rom_2100;               /* old ROM: bcdDevice 21.00, type letter g on alt 1-3 */
        unsigned rom_write_poll_ms;     /* bwPollTimeout of a block write; default 0 */
        bool tinyusb_msc;               /* N6, AE3: the runtime has a mass-storage interface */
        bool runtime_deaf;              /* its firmware's serial port answers nothing: a script that hogs it */
        bool runtime_stays;             /* it does not listen to "reset into the bootloader" */
        bool runtime_other_uid;         /* it tells another unique id there than its USB serial is made of */
        double erase_factor;            /* worn or cold part: multiplies erase times; default 1 */
        double program_factor;
        double erase_unit_scale;        /* 1: real geometry.  <1: a toy with smaller erase units, partitions and images, for exhaustive runs */
};

/* Fills in the defaults of a board: chip, quirks, speeds 1.0, bootloader 1.0.3, a uid derived from seed. */
void sim_config_default(struct sim_config *config, enum sim_board board, unsigned seed);

int sim_camera_new(const struct sim_host *host, void *fe, const struct sim_config *config, struct sim_camera **ret);
struct sim_camera *sim_camera_free(struct sim_camera *camera);

/* --- geometry --- */
struct sim_partition {
        const char *name;
        uint32_t start, limit;          /* device addresses, limit exclusive */
        bool read_only;
        bool external;                  /* in the SPI/OSPI chip: its own address space */
};
/* As the bootloader in flash presents them, in order of alternate setting. */
size_t sim_camera_partitions(const struct sim_camera *camera, const struct sim_partition **ret);
/* Erase unit that holds address: start and size.  external as above. */
void sim_camera_erase_unit(const struct sim_camera *camera, bool external, uint32_t address, uint32_t *start, uint32_t *size);

/* --- what nobody can be faster than, by the same tables (microseconds, with this camera's speeds and factors) --- */
/* Erasing and programming size bytes from a partition's beginning, in the bootloader's blocks of 4096. 0: no such partition. */
uint64_t sim_camera_flash_time(const struct sim_camera *camera, const char *partition, size_t size);
/* One control transfer that moves size bytes. */
uint64_t sim_camera_transfer_time(const struct sim_camera *camera, size_t size);

/* --- a hand: plug, jumper, power --- */
void sim_camera_plug(struct sim_camera *camera);        /* power on: boots, host->connected follows after its start-up time */
void sim_camera_unplug(struct sim_camera *camera);      /* power off, at once; a flash operation under way leaves its unit neither old nor new */
void sim_camera_set_jumper(struct sim_camera *camera, bool boot0);   /* looked at on reset only */
bool sim_camera_jumper(const struct sim_camera *camera);
enum sim_mode sim_camera_mode(const struct sim_camera *camera);
bool sim_camera_is_powered(const struct sim_camera *camera);
/* A block or a command waits in it for the GETSTATUS that carries it out. */
bool sim_camera_is_pending(const struct sim_camera *camera);

/* --- the bus, called by the front end --- */
struct sim_descriptors {
        uint8_t device[18];
        const uint8_t *config;          /* whole configuration, wTotalLength bytes */
        size_t config_size;
        unsigned speed;                 /* Mbit/s: 12 or 480 */
        char serial[64], manufacturer[64], product[64];
        bool has_cdc;                   /* runtime and VCP: the front end makes a ttyACM */
};
void sim_camera_descriptors(struct sim_camera *camera, struct sim_descriptors *ret);
/* What it answers for string descriptor index, as text; -ENOENT: it stalls. */
int sim_camera_string(const struct sim_camera *camera, uint8_t index, char *ret, size_t size);
/* Any control transfer on endpoint 0, SET_CONFIGURATION and SET_INTERFACE included.  Never completes from inside this call. */
void sim_camera_submit(struct sim_camera *camera, struct sim_urb *urb);
/* Completes it with -ENOENT if still pending (from inside this call); false if unknown. */
bool sim_camera_cancel(struct sim_camera *camera, struct sim_urb *urb);
void sim_camera_bus_reset(struct sim_camera *camera);
/* The runtime was told to reset; forced: into the bootloader for ever (magic word). */
void sim_camera_reset(struct sim_camera *camera, bool forced);
/* So many bytes came to its serial port. */
void sim_camera_heard(struct sim_camera *camera, size_t bytes);
/* What SET_LINE_CODING and SET_CONTROL_LINE_STATE said last: bits per second, DTR. */
void sim_camera_line(const struct sim_camera *camera, uint32_t *rate, bool *ready);
/* Of the firmware that runs, if what its image is called is one ("4.8.1"); else what its USB ids say: v5.0.0, or v4.5.9 with the
 * old ones. */
void sim_camera_runtime_version(const struct sim_camera *camera, unsigned version[static 3]);

/* --- flash, seen by a test (no time passes, no counters) --- */
int sim_camera_flash_read(const struct sim_camera *camera, bool external, uint32_t address, void *data, size_t size);
/* Puts bytes there as if they had always stood there. */
int sim_camera_flash_poke(struct sim_camera *camera, bool external, uint32_t address, const void *data, size_t size);
void sim_camera_flash_blank(struct sim_camera *camera, bool external, uint32_t address, size_t size);
/* Partition by name ("FIRMWARE"), offset within it. */
int sim_camera_partition_poke(struct sim_camera *camera, const char *partition, uint32_t offset, const void *data, size_t size);
int sim_camera_partition_read(const struct sim_camera *camera, const char *partition, uint32_t offset, void *data, size_t size);
/* What stands in its flash (damage of half-written words included) and where its jumper is, to a file, and from there into the same
 * camera made anew: it outlives the machine that simulates it.  As cold as a camera is without power: -EBUSY with it.
 * -EINVAL: the file is not that of a camera with this unique id and geometry, or is damaged; then nothing was changed. */
int sim_camera_save(const struct sim_camera *camera, FILE *f);
int sim_camera_load(struct sim_camera *camera, FILE *f);
/* Writes config.bootloader's own program (sim_image_bootloader()) into flash. */
void sim_camera_install_bootloader(struct sim_camera *camera);

/* --- images: synthetic, with the real geometry --- */
/* A firmware that this board's model boots: sane vector table, size bytes of seeded noise, and inside it a marker with
 * a checksum over the whole image.  "Runs" means: the marker's checksum is right; anything else that the
 * bootloader jumps into is SIM_SILENT until a power cycle. */
int sim_image_firmware(enum sim_board board, const char *version, unsigned seed, size_t size, uint8_t **ret);
/* A firmware that is whole and boots, but never brings USB up (script with USB off, deep sleep). */
int sim_image_firmware_mute(enum sim_board board, const char *version, unsigned seed, size_t size, uint8_t **ret);
/* A bootloader program (19,400 bytes for H7 and so on) padded as bootloader.bin is when padded is true. Old layout and versions
 * differ in their bytes; H7, H7 Plus and Pure Thermal differ too. */
int sim_image_bootloader(enum sim_board board, enum sim_bootloader bootloader, bool padded, uint8_t **ret, size_t *ret_size);
size_t sim_image_default_size(enum sim_board board);     /* M7: 1,333,696 */
/* As sim_image_bootloader(), for this camera's geometry: differs from it only when erase_unit_scale is below 1. */
int sim_camera_bootloader_image(const struct sim_camera *camera, enum sim_bootloader bootloader, bool padded, uint8_t **ret, size_t *ret_size);

/* --- faults on command --- */
enum sim_fault_kind {
        SIM_FAULT_STALL,                /* -EPIPE */
        SIM_FAULT_ERROR,                /* error_code */
        SIM_FAULT_NAK,                  /* never answers (the host's timeout decides) */
        SIM_FAULT_SHORT,                /* reply of length bytes */
        SIM_FAULT_GARBAGE,              /* reply bytes replaced by pattern */
        SIM_FAULT_UNPLUG_BEFORE,        /* unplugged before the request reached the device */
        SIM_FAULT_UNPLUG_DATA,          /* after the data stage, before the status stage */
        SIM_FAULT_UNPLUG_STATUS,        /* after the request was carried out, before the host hears of it */
        SIM_FAULT_UNPLUG_FLASH,         /* in the middle of the flash operation that this request starts */
        SIM_FAULT_CRASH,                /* device locks up: NAK for ever until power is cycled */
        SIM_FAULT_TORN,                 /* error_code after length bytes of the data stage: the device has seen the request and these
                                         * bytes.  More than its wLength: it carries it out, and only the host does not hear of it */
        SIM_FAULT_BABBLE,               /* sends more than was asked for (pattern): -EOVERFLOW with a full buffer.  IN: the host breaks off before
                                         * the status stage; OUT: it is the status stage that babbles, and the device has carried it out */
        SIM_FAULT_STATE,                /* GETSTATUS and GETSTATE say that the state is pattern; other requests are not hurt */
        _SIM_FAULT_KIND_MAX
};
struct sim_fault {
        enum sim_fault_kind kind;
        int request_type;               /* bmRequestType to match, -1 any */
        int request;                    /* bRequest, -1 any */
        unsigned skip;                  /* let so many matching requests pass first */
        unsigned count;                 /* then hit so many; 0: for ever */
        int error_code;
        size_t length;                  /* SHORT, TORN; UNPLUG_FLASH: bytes programmed before power fails, 0: half of the operation's time */
        uint8_t pattern;
};
/* Requests marked quiet are only hit by faults that name their request. */
void sim_camera_add_fault(struct sim_camera *camera, const struct sim_fault *fault);
void sim_camera_clear_faults(struct sim_camera *camera);
/* Flash faults: the next erase / program operations of the unit at address fail (errWRITE) or silently do nothing. */
void sim_camera_fail_flash(struct sim_camera *camera, bool external, uint32_t address, bool silently, unsigned count);

/* --- counters since the last reset of them --- */
struct sim_unit_count {
        uint32_t address, size;
        bool external;
        uint32_t erases, programmed_bytes;
};
struct sim_counters {
        uint64_t transfers;             /* all control transfers but the kernel's own enumeration (the front end marks those by sim_camera_quiet()) */
        uint64_t upload, download, get_status, clr_status, get_state, abort, detach, set_interface, get_configuration, other;
        uint64_t upload_bytes, download_bytes;
        uint64_t stalls;
        uint64_t erases, programmed_bytes;
        uint64_t plugs, boots;          /* boots: the runtime came up */
        uint64_t configured_at_us, first_transfer_at_us, first_upload_at_us; /* of the present attachment; 0: not yet */
        uint64_t windows_missed;        /* the bootloader left on its own */
        uint64_t serial_bytes;          /* that came to its firmware's serial port */
};
void sim_camera_counters(const struct sim_camera *camera, struct sim_counters *ret);
void sim_camera_reset_counters(struct sim_camera *camera);
/* Units with at least one erase or programmed byte; returns how many were filled in. */
size_t sim_camera_unit_counts(const struct sim_camera *camera, struct sim_unit_count *units, size_t max);
void sim_camera_quiet(struct sim_camera *camera, bool quiet);

const char *sim_mode_name(enum sim_mode mode);
const char *sim_board_name(enum sim_board board);       /* "OPENMV3" */
int sim_board_from_name(const char *name);              /* "OPENMV3" or "M7", case-insensitive; -EINVAL */
