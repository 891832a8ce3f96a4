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
 * directory NULL: blobs in memory (tests). saved_quota: bytes for saved images, the oldest go first. */
int store_new(struct loop *loop, struct journal *journal, const char *directory, uint64_t saved_quota, struct store **ret);
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
/* Maps (once) and checks the digest the first time: -ENOENT, -EBADMSG (blob damaged on disk). */
int store_blob(struct store *store, const struct digest *digest, struct blob **ret);
struct blob *blob_unref(struct blob *blob);
struct blob *blob_ref(struct blob *blob);

/* --- adding --- */
typedef void (*store_added_fn)(void *userdata, int error);
/* Copies data; on_added from the loop when the blob is on disk and the record put.  record->digest and size are filled in here. */
int store_add_firmware(struct store *store, const struct firmware_record *record, const void *data, size_t size,
                       store_added_fn on_added, void *userdata);
/* Saves what stood on a camera.  -EDQUOT at once if it is larger than the whole quota. */
int store_save(struct store *store, const char *camera, const char *partition, const void *data, size_t size,
               store_added_fn on_added, void *userdata);
/* Forgets callbacks that have this userdata. */
void store_cancel(struct store *store, void *userdata);
/* An open update keeps its images: a blob that is held is not deleted by removal of its record. */
int store_remove_firmware(struct store *store, const struct digest *digest);
void store_set_blob_in_use(struct store *store, bool (*in_use)(void *userdata, const struct digest *digest), void *userdata);

/* --- looking --- */
size_t store_count(const struct store *store);
const struct firmware_record *store_nth(const struct store *store, size_t n);
/* By digest and role; board NULL: any. */
const struct firmware_record *store_by_digest(const struct store *store, const struct digest *digest, const char *board);
/* Boards whose image this digest is: bit i = board_list.boards[i]; more than one bit: names no board (rule 1). */
uint32_t store_boards_of_digest(const struct store *store, const struct board_list *list, const struct digest *digest);
/* The newest saved image of a camera; NULL: none. */
const struct saved_record *store_saved(const struct store *store, const char *camera, const char *partition);
const struct saved_record *store_nth_saved(const struct store *store, size_t n);

/* "4.8.1" < "5.0.0" < "5.0.1"; a version that does not parse is older than any.  Like strcmp. */
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
        char text[96];                  /* "newest stable in the store", "version it last ran" */
};

/* layout: as *its* bootloader reports it (NULL: the board's newest).  named: version, "" = free choice.  last_ran: "" unknown; unattended: never older than last_ran.
 * with_romfs: the ROMFS images of that version belong to the set too.  -ENOENT and CHOICE_NONE when nothing fits. */
int store_choose(const struct store *store, const struct board *board, const struct layout *layout, const char *named,
                 const char *last_ran, bool unattended, bool with_romfs, struct choice *ret);
/* The bootloader image for a board: newest stable; NULL: none. */
const struct firmware_record *store_bootloader(const struct store *store, const struct board *board);
