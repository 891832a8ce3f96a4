/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The journal: what was wanted, in one SQLite database (WAL) under the state
 * directory.  The truth about a camera's flash is on the camera; here stands
 * which cameras are known, which updates are open, how often a unit was erased
 * for one of them, which images are in the store, which were saved.
 *
 * Memory is read at start-up (synchronously, before anything else runs) and
 * afterwards only written: puts are copied into a batch, and a helper thread
 * commits one batch after the other.  Nothing on the loop ever waits for the
 * disk; who needs durability (an update, before its first irreversible
 * transfer) gives journal_sync() a callback.
 *
 * A damaged database is set aside (state.db.damaged-<time>), one of another
 * program or of a newer version likewise and untouched (state.db.foreign-<time>),
 * with one clear line, and an empty one begun.
 *
 * When nothing happens the database is closed: an idle daemon holds neither its
 * memory nor its file.
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "core/identity.h"

struct journal;

/* directory: state directory, made if absent (0700).  NULL: in memory (tests).  0, or negative errno when even an empty
 * database cannot be had. A read-only or full disk is no fault here: journal_writable() is false then, and new updates are refused. */
int journal_open(struct loop *loop, const char *directory, struct journal **ret);
/* Commits what is pending, waits for it (bounded: 10 s), closes.  Syncs still waiting are answered from here.  A disk that does
 * not answer in that time keeps its thread: then loop_pending_work() stays above 0, and the loop cannot be freed. */
struct journal *journal_close(struct journal *journal);
/* false after a failed commit (disk full, read-only, I/O error), until one succeeds.  What could not be written is kept in
 * memory (bounded) and tried again by itself, after a second at first and every half minute in the end, and at once with a sync. */
bool journal_writable(const struct journal *journal);
/* If it is not writable: it is tried again so, also if nothing is to be written, until it is.  Watches are told. */
void journal_await(struct journal *journal);

enum journal_birth {
        JOURNAL_LOADED,                 /* the database of the last run */
        JOURNAL_BEGUN,                  /* an empty one: the first run, or the old one was set aside */
        JOURNAL_UNREAD,                 /* there may be one, but it cannot be read now: nothing is known of the past, nothing will be written */
};
enum journal_birth journal_birth(const struct journal *journal);

/* false: this database was begun empty, in this run or before, and nobody has said since that nothing is missed in it: a blob that it does
 * not name may be of the time before.  (Also when it was filled again: the daemon may have been killed before all of it was.) */
bool journal_is_whole(const struct journal *journal);
/* All that it does not name was put out of harm's way: from the next start on it is whole. */
int journal_put_whole(struct journal *journal);

/* The database was found damaged while running and was set aside, or it was removed, and an empty one was begun: whoever holds records puts them again from
 * on_reset.  So it is, too, when the disk takes something again after records were dropped for want of memory.  Syncs waiting at that moment
 * are answered after those puts are on disk. */
struct journal_watch {
        void (*on_reset)(void *userdata);
        void (*on_writable)(void *userdata);    /* again; NULL: nobody wants to know */
        void *userdata;
        LIST_ENTRY(journal_watch) link; /* in journal->watches */
};
void journal_watch(struct journal *journal, struct journal_watch *watch);
/* Safe on a zeroed struct. */
void journal_unwatch(struct journal_watch *watch);

/* on_durable(userdata, error) from the loop, once, when every put so far is on disk (0) or could not be written (-errno).
 * Several syncs share one commit.  on_durable NULL: soon, but nobody waits for it. */
typedef void (*journal_sync_fn)(void *userdata, int error);
int journal_sync(struct journal *journal, journal_sync_fn on_durable, void *userdata);
/* Forgets callbacks that have this userdata. */
void journal_sync_cancel(struct journal *journal, void *userdata);

/* --- records: plain values, strings owned by the record --- */

struct camera_record {
        char key[CAMERA_KEY_MAX];
        char board[20];                 /* "" unknown */
        char port[PORT_PATH_MAX];       /* last seen there */
        char runtime_serial[SERIAL_MAX + 1];
        char rom_serial[SERIAL_MAX + 1];
        char label[64];
        char firmware_version[32];      /* last written and verified, or read back whole; "" unknown */
        struct digest firmware;         /* all zero: unknown */
        struct digest bootloader;       /* of the program last read back or written, padding cut; all zero: unknown */
        uint16_t bootloader_device;     /* bcdDevice of its bootloader; 0: never seen */
        uint8_t layout;                 /* index into board.layouts, as last seen; 0xff unknown */
        int automatic;                  /* -1: as configured; 0 no; 1 yes */
        bool suspect;                   /* a silent boot was seen: look at the flash at the next plug-in */
        uint64_t first_seen, last_seen; /* wall clock, microseconds */
};

struct update_image_record {
        char partition[16];
        struct digest digest;           /* an image kept in the store until the update ends */
        uint32_t size;
};

#define UPDATE_IMAGES_MAX 8
#define ENDED_UPDATES_MIN_AGE (600 * SEC)       /* readable for at least ten minutes after their end */

struct update_record {
        char id[24];                    /* "u17": counts up for ever */
        char camera[CAMERA_KEY_MAX];
        char wish[16];                  /* enum wish by name, of who began it */
        char version[32];               /* of the firmware, for people */
        char reason[96];                /* why this firmware (row 7) */
        bool word_romfs, word_filesystem, word_replace;
        bool stay;                      /* what it writes is verified, and the camera stays in its bootloader, held */
        bool bootloader_only;           /* in ROM DFU: the bootloader that was named, and nothing after it */
        char state[16];                 /* "open", "done", "failed", "refused", "cancelled", "not-seen" */
        char outcome[64];               /* stable code of the end, "" while open */
        char message[256];              /* sentence of the end */
        unsigned attempts;              /* sessions that came to writing */
        unsigned failures;              /* the last so many of them in a row brought no erase unit forward */
        bool begun;                     /* something was written for it, or for one before it; and the camera has not run since, nor was all of it seen complete */
        uint64_t started, ended;        /* wall clock */
        size_t n_images;
        struct update_image_record images[UPDATE_IMAGES_MAX];
};

/* One erase unit, as far as an update had to do with it. */
struct unit_record {
        unsigned erases;                /* by this update and what it took over: row 10 */
        bool proven;                    /* read back equal to what is wanted, when it was last read */
};

struct firmware_record {
        struct digest digest;           /* of the bytes as they go to the device; the blob's name in firmware/ */
        char board[20];
        char partition[16];             /* "FIRMWARE", "BOOTLOADER", "HP", "ROMFS0" ... */
        char version[32];               /* "5.0.0"; "" unknown; "custom:1a2b3c4d5e6f" for a user's own file */
        char file[64];                  /* name it had */
        bool stable;                    /* a release (not development, not a user's file) */
        bool pinned;                    /* the administrator's choice for this board */
        uint32_t size;
        uint64_t added;                 /* wall clock */
};

struct saved_record {
        char camera[CAMERA_KEY_MAX];
        char partition[16];
        struct digest digest;           /* blob in saved/ */
        uint32_t size;
        uint64_t saved;                 /* wall clock, but later than of all that were saved before */
};

/* --- reading, at start-up (it waits for the disk), of what is committed; each calls fn per record; fn's negative return ends and is returned --- */
int journal_each_camera(struct journal *journal, int (*fn)(void *userdata, const struct camera_record *), void *userdata);
/* Open ones first, then the newest 100 ended, by number: clocks are set back.  A camera's newest is among them for as long as it is begun. */
int journal_each_update(struct journal *journal, int (*fn)(void *userdata, const struct update_record *), void *userdata);
int journal_each_unit(struct journal *journal, const char *update,
                      int (*fn)(void *userdata, const char *partition, unsigned unit, const struct unit_record *), void *userdata);
int journal_each_firmware(struct journal *journal, int (*fn)(void *userdata, const struct firmware_record *), void *userdata);
int journal_each_saved(struct journal *journal, int (*fn)(void *userdata, const struct saved_record *), void *userdata);
uint64_t journal_last_update_number(const struct journal *journal);

/* --- writing: insert or replace; queued, never blocking.  -ENOMEM only (also when more than JOURNAL_PENDING_MAX waits for a
 * disk that takes nothing). --- */
#define JOURNAL_PENDING_MAX (1024 * 1024)
int journal_put_camera(struct journal *journal, const struct camera_record *record);
int journal_delete_camera(struct journal *journal, const char *key);
/* A provisional key gives way to the unique id: everything under old moves to new. */
int journal_rename_camera(struct journal *journal, const char *old_key, const char *new_key);
/* One that came to a good end ("done", "not-seen") takes its units with it; those of another go when it is forgotten, for the next one
 * goes on counting them. */
int journal_put_update(struct journal *journal, const struct update_record *record);
/* Units first, first + 1, ... of a partition. */
int journal_put_units(struct journal *journal, const char *update, const char *partition, unsigned first, size_t n,
                      const struct unit_record *units);
int journal_put_firmware(struct journal *journal, const struct firmware_record *record);
int journal_delete_firmware(struct journal *journal, const struct digest *digest, const char *board, const char *partition);
int journal_put_saved(struct journal *journal, const struct saved_record *record);
int journal_delete_saved(struct journal *journal, const char *camera, const struct digest *digest);
/* History: one line of a camera's biography ("recovered", "silent-boot" ...); the newest 200 are kept.  Read newest first. */
int journal_put_history(struct journal *journal, const char *camera, uint64_t wall, const char *event, const char *text);
int journal_each_history(struct journal *journal, const char *camera, size_t max,
                         int (*fn)(void *userdata, uint64_t wall, const char *event, const char *text), void *userdata);

struct history_line {
        uint64_t wall;
        char event[32];
        char text[256];
};

/* The same while the daemon runs, without waiting for the disk: what is in the database is read on a helper thread, and what was put and is
 * not there yet is told, too.  fn from the loop, once; lines are valid until it returns.  error: negative errno of reading (then n is
 * what memory alone knows).  -ENOMEM, -EAGAIN: fn is not called. */
typedef void (*journal_history_fn)(void *userdata, int error, const struct history_line *lines, size_t n);
int journal_read_history(struct journal *journal, const char *camera, size_t max, journal_history_fn fn, void *userdata);
/* Forgets readings that have this userdata. */
void journal_read_cancel(struct journal *journal, void *userdata);
