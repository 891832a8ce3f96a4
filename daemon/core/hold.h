/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A bootloader that is held for somebody's tool.  A person asks for it; when the camera's bootloader is there, it is pinned by its one
 * UPLOAD within its window (dfu.md A.3), and closed, so that the tool can claim it; then it is not touched any more.
 *
 * The wish lasts until it is released, until the camera was seen running after it was held, until an update is asked for, until its time is
 * over, or until the daemon ends; it is not in the journal.  Nobody knows what a tool has written: before a bootloader is let go its
 * flash is looked at, and one whose firmware is seen to be incomplete stays (rule 15).
 */

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "core/session.h"

#define HOLD_DEFAULT (3600 * SEC)
#define HOLD_MAX     (24 * 3600 * SEC)
#define HOLD_AFTER_UPDATE (300 * SEC)   /* what stays in its bootloader after an update, for the next one */

struct camera;
struct request_result;

enum release_end {
        RELEASE_DONE,                   /* it was told to leave, and has left; or it was not held yet, and will not be */
        RELEASE_BUSY,                   /* another program has claimed it, or its node is not ours, or not there: it stays */
        RELEASE_INCOMPLETE,             /* its firmware is incomplete: it stays */
        RELEASE_REFUSED,                /* nothing was done */
        RELEASE_UPDATE_OPEN,            /* nothing was done: an update holds it */
        RELEASE_INHIBITED,              /* others asked for hands off: it stays */
        RELEASE_FAILED,                 /* it did not answer as it should: it stays */
};

enum read_end {
        READ_DONE,
        READ_REFUSED,                   /* something else is wanted of it */
        READ_UPDATE_OPEN,               /* an update was asked for */
        READ_INHIBITED,                 /* others asked for hands off */
        READ_FAILED,                    /* it went, did not answer, or has no such bytes */
};

/* on_data: in order, without a gap; a negative return ends it.  on_end: once, perhaps at once. */
struct hold_reader {
        int (*on_data)(void *userdata, const uint8_t *data, size_t size);
        void (*on_end)(void *userdata, enum read_end end, const char *message);
};

typedef void (*hold_released_fn)(void *userdata, enum release_end end, const char *message);

/* In struct camera. */
struct hold {
        bool wished;
        bool kept;                      /* it was pinned by this wish: when it runs, the wish is at its end */
        bool was_kept;                  /* the same, or others had it, until it runs: what a tool has left in its flash is not known */
        bool until_gone;                /* it follows an update: nobody asked for it to be caught again */
        struct timer timer;             /* of the wish */
        bool releasing;                 /* the present session looks, and lets it go */
        bool closing;                   /* it stays, and is told so when nothing of it is open any more */
        bool release_next;              /* and is to be let go then: what is not closed yet cannot be claimed */
        enum release_end end;           /* what follows then */
        char message[256];
        struct session_read read;       /* the present session reads this; not wanted: nobody reads */
        bool read_done;                 /* all of it; to be said when nothing is open any more, so that the next part can be asked for */
        const struct hold_reader *reader;
        void *reader_userdata;
        hold_released_fn on_released;
        void *userdata;
};

/* timeout: microseconds, at most HOLD_MAX.  False: refused, and ret->text says why. */
bool camera_hold(struct camera *camera, uint64_t timeout, struct request_result *ret);
/* Withdraws the wish, and lets a bootloader go that is held, or just stays.  on_released is called once, perhaps at once; it may be NULL. */
void camera_release(struct camera *camera, hold_released_fn on_released, void *userdata);
/* Who waits for on_released() does not any more. */
void camera_release_forget(struct camera *camera);

/* Reads a part of a bootloader's partition while it is held, and leaves it held.  Only then: whoever wants to read holds it first.  False:
 * refused, and ret->text says why. */
bool camera_read(struct camera *camera, const struct session_read *what, const struct hold_reader *reader, void *userdata,
                 struct request_result *ret);
/* Who waits for on_end() does not any more: it stops at the next block. */
void camera_read_cancel(struct camera *camera);

/* --- for camera.c, request.c and inhibit.c --- */
/* An update of it is verified, and it was not told to leave. */
void hold_after_update(struct camera *camera, const char *message);
int hold_take_read(struct camera *camera, const uint8_t *data, size_t size);
void hold_init(struct camera *camera);
void hold_deinit(struct camera *camera);
/* A session has ended.  True: that is all that follows from it. */
bool hold_take_end(struct camera *camera, enum session_end end, const char *message);
/* Its session could not be begun. */
void hold_not_begun(struct camera *camera, const char *message);
/* Something was closed: is it quiet by now? */
void hold_look(struct camera *camera);
/* What stands in its flash is, or was, a tool's to change. */
void hold_forget_firmware(struct camera *camera);
/* It runs. */
void hold_arrived(struct camera *camera);
/* It has left. */
void hold_gone(struct camera *camera);
/* An update wins. */
void hold_superseded(struct camera *camera);
