/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The verdict: the one pure function that decides whether anything may be
 * erased or written.  No other code decides to write.  Its rules are rows of
 * one table in verdict.c, each with a test named after it
 * (docs/architecture.md, "The verdict").  Evidence that speaks against always
 * wins: all rows are asked, and the most careful answer is the answer.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/enum-name.h"
#include "core/board.h"
#include "core/identity.h"

enum verdict_kind { VERDICT_WRITE, VERDICT_ASK, VERDICT_LEAVE, _VERDICT_KIND_MAX };    /* in order of care */
DECLARE_ENUM_NAMES(verdict_kind);

/* Who wants the write. */
enum wish {
        WISH_UNATTENDED,                /* automatic recovery: nobody asked */
        WISH_RESUME,                    /* an open update of ours on its own camera, begun by a person or by a verdict before */
        WISH_UPDATE,                    /* the user's update, now */
        WISH_RECOVER,                   /* the user's "recover": his word for this attachment */
        WISH_RESTORE,                   /* the user wants his saved image back */
        _WISH_MAX
};
DECLARE_ENUM_NAMES(wish);

/* Why this device is believed to be the camera meant.  (row 1) */
enum proof {
        PROOF_NONE,                     /* a port, a chip, a constant serial: hints */
        PROOF_SERIAL,                   /* serial derived from the unique id, unique among known cameras */
        PROOF_FLASH,                    /* shared serial, but flash read back matches what was last written to or read from that camera */
        PROOF_BOARD_DIGEST,             /* exact digest of one board's image, that no other board carries: names the board, not the camera */
        PROOF_USER,                     /* the user's word, given during this attachment */
        _PROOF_MAX
};
DECLARE_ENUM_NAMES(proof);

/* What stands in a partition, as read back. */
enum content {
        CONTENT_UNREAD,
        CONTENT_UNREADABLE,             /* read protection, transfer errors */
        CONTENT_BLANK,                  /* vector table blank, all of the first erase unit 0xff */
        CONTENT_IMPOSSIBLE,             /* vector table impossible on this board */
        CONTENT_INTERRUPTED,            /* units before k equal one known image, unit k is its beginning and then 0xff */
        CONTENT_KNOWN,                  /* one whole known image, not the one wanted */
        CONTENT_WANTED,                 /* the wanted image, whole */
        CONTENT_UNKNOWN,                /* anything else: somebody's own firmware, a script with USB off ... */
        _CONTENT_MAX
};
DECLARE_ENUM_NAMES(content);

#define VERDICT_MAX_ERASES 20           /* row 10 */
#define VERDICT_TARGETS_MAX 8
#define VERDICT_UNITS_MAX 6144          /* AE3's ROMFS0: 24 MiB in units of 4 KiB */

struct verdict_unit {
        bool differs;                   /* read back, and not equal to what is wanted */
        unsigned erases;                /* by this update over all attempts, counted durably */
};

/* One image on one partition. */
struct verdict_target {
        enum partition_role role;
        bool forbidden;                 /* the partition is read-only on this path, or not in this device's layout */
        bool image_refused;             /* image.h found a fault with it (row 9) */
        enum content content;
        bool needs_saving;              /* content is an unknown image that is not saved yet (row 8) */
        bool fits_bootloader;           /* row 5: firmware known to be of the generation of the bootloader being restored */
        const struct verdict_unit *units;
        size_t n_units;
};

struct verdict_evidence {
        enum wish wish;
        bool begun_unattended;          /* WISH_RESUME: no person ever asked for the update that is open */
        enum camera_mode mode;          /* where the write would happen: BOOTLOADER or ROM_DFU */
        bool automatic;                 /* [recovery] automatic, global and per camera */
        bool inhibited;                 /* somebody asked us to keep our hands off */
        bool board_known;               /* the board meant is known, not guessed from the chip */
        bool board_contradicted;        /* anything seen speaks for another board or camera: ids, map string, layout, unique id, flash */
        enum proof proof;
        bool serial_shared;             /* the device's serial is a constant: a word is good for this attachment only (row 2) */
        bool word_is_stale;             /* PROOF_USER was given before this attachment */
        bool older_than_ran;            /* the image is older than what the camera last ran (row 7) */
        bool word_romfs;                /* the user said --romfs */
        bool word_filesystem;           /* the user said --erase-filesystem */
        bool word_replace;              /* the user named this camera and this update: unknown firmware may be replaced (after saving) */
        bool silent;                    /* the camera was silent after its last boot.  No evidence for writing, however often: it only
                                         * makes "intact and does not come up" of "nothing to do" */
        size_t n_targets;
        struct verdict_target targets[VERDICT_TARGETS_MAX];     /* empty: nothing to do */
        /* ROM_DFU, and a bootloader is restored that the firmware is not known to fit (!fits_bootloader): what stands in the
         * firmware's first erase unit, which would have to be erased in the same session.  BLANK: it need not.  Else unused. */
        struct verdict_head {
                enum content content;
                bool needs_saving;      /* row 8, for the whole firmware that would lose its head */
                unsigned erases;        /* row 10 */
        } firmware_head;
};

/* Stable codes; each has a sentence and advice (verdict_reason_text). */
enum verdict_reason {
        REASON_WRITE,                   /* go */
        REASON_NOTHING_TO_DO,           /* every unit equal */
        REASON_NOT_PROVEN,              /* row 1 */
        REASON_CONTRADICTED,            /* row 1 */
        REASON_BOARD_UNKNOWN,           /* row 1 */
        REASON_STALE_WORD,              /* row 2 */
        REASON_NOT_READ,                /* row 3: nothing was read yet */
        REASON_UNREADABLE,
        REASON_AUTOMATIC_OFF,
        REASON_INHIBITED,
        REASON_UNKNOWN_FIRMWARE,        /* row 4: ask */
        REASON_INTACT,                  /* row 4: whole and known, does not come up: script, power or cable */
        REASON_SOUND_BOOTLOADER,        /* row 5: known and whole: remove the jumper */
        REASON_UNKNOWN_BOOTLOADER,      /* row 5: ask */
        REASON_USERS_WORK,              /* row 6: file system or ROMFS without his word */
        REASON_FORBIDDEN_PARTITION,     /* row 6 */
        REASON_OLDER,                   /* row 7 */
        REASON_NOT_SAVED,               /* row 8 */
        REASON_IMAGE_REFUSED,           /* row 9 */
        REASON_WORN,                    /* row 10 */
        REASON_MIXED_SET,               /* row 4: parts of the firmware are damaged, others whole and of another version: ask */
        _VERDICT_REASON_MAX
};
DECLARE_ENUM_NAMES(verdict_reason);

struct verdict {
        enum verdict_kind kind;
        enum verdict_reason reason;
        size_t target;                  /* the one that decided */
        /* VERDICT_WRITE: bit u of write[t] = erase and write unit u of target t */
        uint64_t write[VERDICT_TARGETS_MAX][VERDICT_UNITS_MAX / 64];
        /* row 5: the firmware's first erase unit must be erased in the same ROM session, before leaving */
        bool erase_firmware_head;
};

struct verdict verdict_give(const struct verdict_evidence *evidence);
/* What store_boards_of_digest() proves: an image that several boards carry names none of them (row 1). */
enum proof proof_of_board_digest(uint32_t boards);
/* The rows in order, for documentation and tests: NULL behind the last one. */
const char *verdict_row(size_t n, unsigned *ret_number);
/* What it means and what to do, for a person. */
const char *verdict_reason_text(enum verdict_reason reason);
bool verdict_writes_unit(const struct verdict *verdict, size_t target, size_t unit);
