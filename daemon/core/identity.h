/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One camera, several identities (identity.md): serials of each mode computed
 * from the 96-bit unique id, and the matching of a sighting to the cameras
 * known.  Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"

#define UID_SIZE 12
#define SERIAL_MAX 32                   /* longest serial kept; longer ones are cut */
#define PORT_PATH_MAX 32
#define CAMERA_KEY_MAX 40               /* "34303639330D5113001F002A", provisional "M:344F3663330D", "P:3-1.2" */

/* b0..b11 in address order. */
struct uid {
        uint8_t bytes[UID_SIZE];
};

/* U-form: 24 upper-case hex digits, UID2 UID1 UID0. */
void uid_to_u(const struct uid *uid, char u[static 25]);
int uid_from_u(const char *u, struct uid *ret);         /* either case; -EINVAL also for the fallback 0123456789ABCDEF and all-0/all-F ids */
int uid_from_byte_order(const char *hex, struct uid *ret);
void uid_to_r(const struct uid *uid, char r[static 13]);
void uid_to_m(const struct uid *uid, bool reduced, char m[static 17]);          /* reduced: sums mod 256 (TinyUSB); else up to 14 digits */
void uid_to_byte_order(const struct uid *uid, char hex[static 25]);             /* early N6 runtime */

/* Is serial one that an STM32 with this uid shows in runtime, in any of its forms?  Either case. */
bool uid_has_runtime_serial(const struct uid *uid, const char *serial);

/* Serials that many chips share: never an identity (200364500000, STM32FxSTM32, 000000000010, 000000000011, 0123456789ABCDEF,
 * empty, one character repeated, not printable). */
bool serial_is_shared(const char *serial);

enum camera_mode {                      /* seen */
        CAMERA_MODE_ABSENT,
        CAMERA_MODE_ROM_DFU,
        CAMERA_MODE_BOOTLOADER,         /* OpenMV DFU bootloader */
        CAMERA_MODE_VCP_BOOTLOADER,     /* old CDC bootloader: recognised, left alone */
        CAMERA_MODE_RUNTIME,
        CAMERA_MODE_OTHER,              /* a recognised board in a mode we do not handle */
        CAMERA_MODE_UNREADABLE,
        _CAMERA_MODE_MAX
};
DECLARE_ENUM_NAMES(camera_mode);

/* What the system says of one USB device now.  A plain value. */
struct sighting {
        char port[PORT_PATH_MAX];       /* sysfs name: "3-1.4.2" */
        char node[32];                  /* "/dev/bus/usb/003/012" */
        uint16_t vendor, product, device;       /* device: bcdDevice */
        char serial[SERIAL_MAX + 1];    /* as the device reports it; "" if none */
        char product_name[64];
        unsigned speed;                 /* Mbit/s; 0 unknown */
        uint8_t n_interfaces;
        bool has_mass_storage;          /* an interface of class 08 */
        size_t n_alts;                  /* of interface 0, if class FE/01 */
        char alt_names[8][64];          /* their strings; "" when not readable (then matched after opening) */
        uint16_t transfer_size;         /* wTransferSize of the DFU functional descriptor; 0: none */
        uint64_t seen_at;               /* loop_now() when the event was read */
        bool unreadable;                /* something is connected there that does not answer: nothing but port and seen_at is known */
};

/* What we know of a camera that matters for matching. */
struct known_identity {
        char key[CAMERA_KEY_MAX];       /* U-form, or provisional */
        struct uid uid;
        bool has_uid;
        const struct board *board;      /* NULL: unknown */
        char port[PORT_PATH_MAX];       /* last seen there */
        char runtime_serial[SERIAL_MAX + 1];    /* as last seen in runtime, "" unknown */
        bool present;                   /* attached now, under another sighting */
        bool left_for_identityless;     /* left this port a moment ago and may come back there without identity (identity.md section 2) */
};

enum identity_match {
        IDENTITY_NEW,                   /* a camera not seen before: key is set */
        IDENTITY_KNOWN,                 /* exactly one known camera, by a serial derived from its unique id: index is set */
        IDENTITY_PORT_HINT,             /* no identity in this mode (AE3: none that links the modes), but this camera (index) was last on
                                         * this port: a hint, no proof.  key is what NEW or UNPROVEN would have given */
        IDENTITY_UNPROVEN,              /* no identity, no hint: key is provisional "P:<port>" */
        IDENTITY_COLLISION,             /* the serial fits two known cameras, or one that is present elsewhere: treat as unproven; key "P:<port>" */
};
DECLARE_ENUM_NAMES(identity_match);

struct identity_result {
        enum identity_match match;
        enum camera_mode mode;
        const struct board *board;      /* as far as ids say */
        size_t index;                   /* into known[] */
        char key[CAMERA_KEY_MAX];       /* for NEW and UNPROVEN */
        bool learnt_uid;                /* uid is set (bootloader sighting, early N6 runtime); key is its U-form unless COLLISION */
        struct uid uid;
        bool upgrade;                   /* KNOWN, and known[index] had a provisional key that this uid replaces */
};

/* Mode from ids, serial, interfaces.  CAMERA_MODE_ABSENT: not one of ours.  *ret_board: NULL when the ids name none. */
enum camera_mode identity_mode(const struct sighting *sighting, const struct board_list *boards, const struct board **ret_board);

/* A sighting's place among the cameras known.  A hint goes to the one camera that left this port for an identity-less mode
 * (left_for_identityless), else to the only one that was last seen there and may show such a serial; never to one of two. */
struct identity_result identity_resolve(const struct sighting *sighting, const struct board_list *boards,
                                        const struct known_identity *known, size_t n_known);
