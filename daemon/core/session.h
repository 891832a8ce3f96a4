/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One conversation with one attached device, from opening to letting go:
 *
 *   bootloader: open -> pin -> layout -> survey -> verdict -> (save) -> commit -> write -> verify -> manifest -> leave
 *   ROM DFU:    open -> take -> survey -> verdict -> (save) -> commit -> erase, write -> verify
 *
 * A session decides nothing: what is wanted comes in with struct session_wish,
 * whether it may be written is asked of the verdict, and what its end means for
 * the camera is camera.c's.  It ends exactly once, through on_end(); after that
 * the device is closed and stays as it is (an attached bootloader stays attached).
 */

#include <stdbool.h>
#include <stdint.h>

#include "core/board.h"
#include "core/identity.h"
#include "core/journal.h"
#include "core/store.h"
#include "core/survey.h"
#include "core/verdict.h"
#include "io/usb.h"
#include "protocol/machine.h"

#define FILESYSTEM_ZEROS 4096            /* "erase filesystem" is a block of zeros (boards.md section 3) */
extern const uint8_t session_zeros[FILESYSTEM_ZEROS];   /* that block */

struct session;

/* What a session needs of the program around it. */
struct session_context {
        struct loop *loop;
        struct usb *usb;
        struct store *store;
        struct journal *journal;
        const struct board_list *boards;
        /* The administrator's pin for a board; NULL: none.  The member may be NULL. */
        const char *(*pin)(void *userdata, const char *board_id);
        void *pin_userdata;
        /* Until then (loop_now()) a bootloader that has just come may be about to be pinned; shared by all sessions.  Who only
         * reads gives way. */
        uint64_t *hurry_until;
};

/* Row 7, with the pin: what store_choose() says, for this board and layout. */
int session_context_choose(const struct session_context *context, const struct board *board, const struct layout *layout,
                           const char *named, const char *last_ran, bool unattended, bool with_romfs, struct choice *ret);

enum session_step {
        SESSION_OPENING,
        SESSION_PINNING,
        SESSION_READING_LAYOUT,
        SESSION_COMPARING,
        SESSION_SAVING,
        SESSION_COMMITTING,
        SESSION_WRITING,
        SESSION_VERIFYING,
        SESSION_LEAVING,
        SESSION_ENDED,
        _SESSION_STEP_MAX
};
DECLARE_ENUM_NAMES(session_step);

enum session_end {
        SESSION_END_GONE,               /* the device left the bus under us */
        SESSION_END_BUSY,               /* claimed by another program (-EBUSY) */
        SESSION_END_NO_PERMISSION,      /* for its device node, yet (-EACCES) */
        SESSION_END_NO_NODE,            /* made yet (-ENOENT); or it has left, and that is on its way to us */
        SESSION_END_OPEN_FAILED,        /* could not be opened or pinned: message says how */
        SESSION_END_WINDOW_MISSED,      /* it left before the pin was answered */
        SESSION_END_RELEASED,           /* nothing to write, told to leave */
        SESSION_END_HELD,               /* verdict forbids the write, firmware incomplete or unknown to be whole: stays as it is */
        SESSION_END_NO_FIRMWARE,        /* nothing in the store fits; stays as it is */
        SESSION_END_SOUND_BOOTLOADER,   /* ROM: bootloader known and whole */
        SESSION_END_ROM_DONE,           /* ROM: bootloader restored and verified */
        SESSION_END_UPDATED,            /* every unit read back equal, told to leave */
        SESSION_END_FAILED,             /* outcome and message say how */
        SESSION_END_NOT_RECORDED,       /* what was meant could not be made durable: nothing more was written */
        SESSION_END_STAYS,              /* every unit read back equal, and not told to leave: so wished, or other firmware is incomplete */
        SESSION_END_KEPT,               /* pinned for somebody's tool, and no more than read */
        SESSION_END_STOPPED,            /* session_stop() was obeyed at a safe boundary (released or not: the bus tells) */
        _SESSION_END_MAX
};
DECLARE_ENUM_NAMES(session_end);

/* What is wanted; a plain value, copied. */
struct session_wish {
        enum wish wish;
        enum proof proof;
        bool serial_shared, word_is_stale, contradicted;
        bool automatic, inhibited, silent;
        bool would_boot;                /* nothing speaks against the firmware that stands there: left alone, it would run */
        bool word_romfs, word_filesystem, word_replace;
        bool begun_unattended;          /* WISH_RESUME: no person asked for the update that is open */
        bool begun;                     /* units with wear may hold our own half-done work */
        bool release_only;              /* nothing is wanted of it: pinned, so that it is ours, and told to leave */
        bool keep;                      /* pinned, and let be: somebody's tool wants it there */
        bool stay;                      /* what is written is verified, and it stays in its bootloader */
        struct session_read {           /* with keep: this is read first, and given to on_read() */
                bool wanted;
                char partition[16];
                uint32_t offset;        /* a multiple of DFU_BLOCK_SIZE */
                uint32_t size;          /* 0: to the end of the partition */
        } read;
        struct session_silence {        /* reading this unit of a bootloader's partition has silenced the device: one that we have half written is
                                         * written without being read (dfu.md A.5: a flash word in which power failed may be a bus fault) */
                bool known;
                char partition[16];
                unsigned unit;
        } silence;
        bool look_and_leave;            /* read, not written whatever stands there, and told to leave if its firmware is whole */
        bool peek_only;                 /* unproven ROM device of a missing camera: read at most 4 KiB (row 3) */
        char camera[CAMERA_KEY_MAX];
        char named[80];                 /* firmware version asked for; "" free choice */
        char last_ran[32];
        struct digest known_bootloader; /* last read from or written to this camera; zero: unknown */
        /* of an open update; none: chosen when the layout is known (row 7) */
        size_t n_images;
        struct update_image_record images[UPDATE_IMAGES_MAX];
};

/* What was found and what is to be done, told with on_decided(). */
struct session_decision {
        struct verdict verdict;
        enum content content;           /* of the executable partition, or of the bootloader in ROM */
        const struct firmware_record *found;    /* whole known image that stands there; NULL: none */
        size_t n_images;                /* what was chosen */
        struct update_image_record images[UPDATE_IMAGES_MAX];
        char version[32];
        char reason[96];
        uint8_t layout;
        bool firmware_whole;            /* the executable partitions hold a whole image: releasing is harmless */
};

struct session_events {
        /* The pin (or, in ROM, the first answer) is here: the device is ours. latency: from the sighting, microseconds. */
        void (*on_pinned)(void *userdata, uint64_t latency);
        /* The verdict is given.  With VERDICT_WRITE the receiver makes its record (intent) and returns 0; the session then waits
         * for journal_sync() before the first erase.  A negative return ends the session as FAILED. */
        int (*on_decided)(void *userdata, const struct session_decision *decision);
        /* Wear (row 10): erases of unit so far by this update; and one more is about to happen / did not happen after all. */
        unsigned (*get_wear)(void *userdata, const char *partition, unsigned unit);
        void (*add_wear)(void *userdata, const char *partition, unsigned unit, int delta);
        /* The unit reads back equal to what is wanted there; or does not, or is about to be overwritten. */
        void (*set_proven)(void *userdata, const char *partition, unsigned unit, bool proven);
        /* Where it was being read it has fallen silent. */
        void (*on_silence)(void *userdata, const char *partition, unsigned unit);
        /* Step, image, bytes, or what is known of units have changed. */
        void (*on_progress)(void *userdata);
        /* Every unit reads back equal, and the device will be told to leave: SESSION_END_UPDATED follows, unless we die before. */
        void (*on_verified)(void *userdata, const char *message);
        /* In order, without a gap.  A negative return ends the reading. */
        int (*on_read)(void *userdata, const uint8_t *data, size_t size);
        void (*on_end)(void *userdata, enum session_end end, enum machine_outcome outcome, const char *message);
};

int session_new(const struct session_context *context, const struct session_events *events, void *userdata,
                const struct board *board, const struct sighting *sighting, enum camera_mode mode,
                const struct session_wish *wish, struct session **ret);
/* Closes what is open; on_end is not called any more. */
struct session *session_free(struct session *session);
/*
 * Stop at the next safe boundary: the end of an erase unit, of a block that is read, of an answer that is awaited; what waits for the disk
 * stops at once.  on_end(STOPPED) follows, later.  A session that has told its device to leave goes on to its own end.  The device stays as it
 * is; release: a bootloader is told to leave first, unless its firmware is not known to be whole.  Safe to say again; release is kept.
 */
void session_stop(struct session *session, bool release);
/* The device left the bus (udev says so): ends at once. */
void session_gone(struct session *session);

/* Of the executable partitions that it read and had nothing to write to: one is seen to be incomplete (rule 15). */
bool session_other_firmware_is_incomplete(const struct session *session);
enum session_step session_step(const struct session *session);
/* Partition being worked on; "" none. */
const char *session_image(const struct session *session);
void session_bytes(const struct session *session, uint64_t *ret_done, uint64_t *ret_total);
double session_progress(const struct session *session);
void session_units(const struct session *session, unsigned *ret_written, unsigned *ret_total);
