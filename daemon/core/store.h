/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The firmware store: images that the daemon may write, and images that it
 * saved from cameras before overwriting them.  Blobs are immutable files named
 * by their SHA-256 under <state>/firmware and <state>/saved; what they are
 * stands in the journal.  Blobs are written on a helper thread (a slow disk
 * delays nobody) and read through mmap, so that a hundred cameras that get the
 * same image share its pages.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"
#include "core/image.h"
#include "core/journal.h"

struct store;

/* Loads the index from the journal; entries whose blob is missing or has another size are dropped with a line.
 * Blobs that no record and no open update names are removed; but when the journal was begun anew (journal_is_whole()) they are only renamed (<name>.lost):
 * among them may be somebody's only copy.
 * directory NULL: blobs in memory (tests). saved_quota: bytes for saved images, the oldest go first, but never the only saved image of a
 * partition of a camera with an open update. */
int store_new(struct loop *loop, struct journal *journal, const char *directory, uint64_t saved_quota, struct store **ret);
/* Before journal_close(), and when no blob is held any more.  Who still waits for an image to be added is not called. */
struct store *store_free(struct store *store);

/* --- bytes of a blob: reference counted, read-only --- */
struct blob {
        unsigned refs;
        struct digest digest;
        const uint8_t *data;
        size_t size;
        /* private */
        void *mapping;
};
/* Maps (once) and checks the digest the first time, and again when the file was touched: -ENOENT, -EBADMSG (blob damaged on disk: its
 * record is dropped, the file becomes <name>.damaged).  The first time waits for the disk; see store_fetch(). */
int store_blob(struct store *store, const struct digest *digest, struct blob **ret);
struct blob *blob_unref(struct blob *blob);
struct blob *blob_ref(struct blob *blob);
/* The same without waiting: read and checked on a helper thread.  on_fetched from the loop, later: blob (a reference that is the
 * receiver's) or NULL and the error. */
typedef void (*store_fetched_fn)(void *userdata, struct blob *blob, int error);
int store_fetch(struct store *store, const struct digest *digest, store_fetched_fn on_fetched, void *userdata);

/* --- adding --- */
typedef void (*store_added_fn)(void *userdata, int error);
/* Copies data; on_added from the loop when the blob is on disk and the record put.  record->digest and size are filled in here.  A
 * record that is there already (digest, board, partition, version: a ROM file system may belong to several) is replaced; a pinned one unpins the board's other versions. */
int store_add_firmware(struct store *store, const struct firmware_record *record, const void *data, size_t size,
                       store_added_fn on_added, void *userdata);
/* The same without a copy: data is of malloc(), and taken over, also when this fails. */
int store_take_firmware(struct store *store, const struct firmware_record *record, uint8_t *data, size_t size,
                        store_added_fn on_added, void *userdata);
/* Saves what stood on a camera.  -EDQUOT at once if it is larger than the whole quota, or than what may be given up of it. */
int store_save(struct store *store, const char *camera, const char *partition, const void *data, size_t size,
               store_added_fn on_added, void *userdata);
/* A provisional key gave way to the unique id: its saved images are found under the new one. (The journal's rows are
 * journal_rename_camera()'s.) */
void store_rename_camera(struct store *store, const char *old_key, const char *new_key);
/* As saved_quota of store_new(), from now on; the oldest give way when the next image is saved. */
void store_set_quota(struct store *store, uint64_t saved_quota);
/* The images saved from a camera are deleted. */
void store_forget_saved(struct store *store, const char *camera);
/* Forgets callbacks that have this userdata. */
void store_cancel(struct store *store, void *userdata);
/* An open update keeps its images: a blob that is held is not deleted by removal of its record.  -ENOENT. */
int store_remove_firmware(struct store *store, const struct digest *digest);
void store_set_blob_in_use(struct store *store, bool (*in_use)(void *userdata, const struct digest *digest), void *userdata);
/* Has this camera an open update?  (see saved_quota) */
void store_set_camera_in_use(struct store *store, bool (*in_use)(void *userdata, const char *camera), void *userdata);

/* An image saved from this camera has given way to newer ones. */
void store_on_evicted(struct store *store, void (*on_evicted)(void *userdata, const char *camera), void *userdata);

/* --- looking --- */
/* Records stay where they are until they are removed. */
size_t store_count(const struct store *store);
const struct firmware_record *store_nth(const struct store *store, size_t n);   /* NULL: no more */
/* By digest and role; board NULL: any. */
const struct firmware_record *store_by_digest(const struct store *store, const struct digest *digest, const char *board);
/* Boards whose image this digest is: bit i = board_list.boards[i]; more than one bit: names no board (rule 1). */
uint32_t store_boards_of_digest(const struct store *store, const struct board_list *list, const struct digest *digest);
/* The newest saved image of a camera; partition NULL: of any.  NULL: none. */
const struct saved_record *store_saved(const struct store *store, const char *camera, const char *partition);
const struct saved_record *store_nth_saved(const struct store *store, size_t n);        /* NULL: no more */

/* "4.8.1" < "5.0.0-dev" < "5.0.0" < "5.0.1", as semantic versioning has it; a version that does not parse is older than any that does,
 * and two that do not are equal only if they are the same.  Like strcmp. */
int version_compare(const char *a, const char *b);

/* --- row 7: which firmware --- */
enum choice_reason {
        CHOICE_NONE,                    /* nothing in the store fits: "no-firmware" */
        CHOICE_OPEN_UPDATE,
        CHOICE_NAMED,                   /* the user named version or file */
        CHOICE_PINNED,                  /* the administrator's pin */
        CHOICE_LAST_RAN,
        CHOICE_NEWEST,
        _CHOICE_REASON_MAX
};
DECLARE_ENUM_NAMES(choice_reason);

struct choice {
        enum choice_reason reason;
        const struct firmware_record *images[UPDATE_IMAGES_MAX];        /* a whole set of one version (AE3: HP and HE) */
        size_t n_images;
        char version[32];               /* of the set */
        char text[96];                  /* "newest stable in the store", "version it last ran"; with CHOICE_NONE, why */
};

/* layout: as *its* bootloader reports it (NULL: the board's newest).  named: a version, or "sha256:<64 hex digits>" of one image, "" = free
 * choice.  last_ran: "" unknown, or not to be considered (a user who asks for an update without naming one wants the pin or the newest).
 * unattended: never older than last_ran.  with_romfs: the ROMFS images of that version belong to the set too.
 * -ENOENT and CHOICE_NONE when nothing fits.  An open update's images are the caller's to keep: nothing is chosen for it. */
int store_choose(const struct store *store, const struct board *board, const struct layout *layout, const char *named,
                 const char *last_ran, bool unattended, bool with_romfs, struct choice *ret);
/* The bootloader image for a board: newest stable; NULL: none. */
const struct firmware_record *store_bootloader(const struct store *store, const struct board *board);
