/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One physical camera over all its sightings.  Mode is seen, state is decided
 * (camera-state.h); one door, camera_event(), stores a state, carries out its
 * effect and tells the observers.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/loop.h"
#include "core/board.h"
#include "core/camera-state.h"
#include "core/diagnosis.h"
#include "core/hold.h"
#include "core/identity.h"
#include "core/inhibit.h"
#include "core/journal.h"
#include "core/retry.h"
#include "core/session.h"
#include "core/update.h"

struct registry;

struct camera {
        struct registry *registry;
        struct camera_record record;
        struct uid uid;
        bool has_uid;
        const struct board *board;      /* NULL: unknown */
        bool provisional;               /* key "P:...": lives as long as it is attached */
        bool stored;                    /* in the journal */

        enum camera_mode mode;
        enum camera_state state;
        bool attached;
        uint64_t attachment;            /* which, of all that the registry has seen; the last one, also when absent */
        struct sighting sighting;       /* the last one, also when absent */
        enum identity_match match;      /* how it was recognised at this attachment */
        struct camera *hinted_by_port;  /* provisional, in ROM DFU or unreadable: the camera last seen on this port; a hint, no proof */
        unsigned unanswered;            /* unreadable: times the kernel gave up on it in a row */
        bool may_peek;                  /* unproven ROM device, and a camera with that chip is missing (row 3) */
        uint64_t gone_at;               /* loop_now() of the last departure; 0: never */
        uint64_t said_gone_at;          /* loop_now() when a session ended for that; the bus may tell it later, or never */
        int64_t slept;                  /* how long the host had slept when the bootloader was seen */

        struct session *session;
        struct defer reap;              /* frees an ended session outside its callbacks */
        struct timer deadline;
        unsigned tries;                 /* of opening what others hold, since the last success */
        uint64_t blocked_at;            /* loop_now() of the first of them */
        unsigned failures;              /* sessions that failed while the device stayed, since it came or somebody asked */
        enum failure failure;           /* the last of them */
        struct retry retry;             /* and what follows it */
        bool expected;                  /* its bootloader was restored when it was not known who it is: its firmware is looked at */
        bool held;                      /* we have held it, and not seen it leave since */
        bool disturbed;                 /* somebody else may have worked on it since its bootloader was seen: that it left tells nothing */
        unsigned restarts;              /* its bootloader showed itself again, and it was not seen running in between */
        uint64_t writing_since;         /* loop_now() when it was begun to be written (CAMERA_UPDATING) */
        bool incomplete;                /* we have begun to overwrite its firmware, and not verified the whole yet */

        struct update *update;          /* the open one, or the last; NULL: none */
        struct user_word word;          /* for this attachment */

        struct session_silence silence; /* where it fell silent while it was read, in this attachment or the one before */
        bool silent_before;             /* the one before */

        bool looked;                    /* its flash was read since its last runtime */
        enum verdict_reason reason;
        enum content content;
        bool not_seen, restored;
        bool permission, no_node;       /* what it is blocked by: none, or nothing to open; neither: another program */
        bool restored_now;              /* in this attachment */
        bool still_pulled;              /* restored, and came back in ROM DFU */
        bool overdue;                   /* restored, unplugged, and not seen since */
        unsigned rom_visits;            /* times it was seen in ROM DFU, as far as its history goes back */
        unsigned ran_between;           /* times it ran after the first of them */
        bool firmware_added;            /* since the present session looked into the store */
        bool old_bootloader;            /* it came out of the old serial bootloader */
        struct call *call;              /* the caller's, while it is being called */
        unsigned calls;                 /* times it was told to restart, since a person asked or a hand was there */
        enum call_trouble trouble;      /* what stood in the way of it, since then */
        bool sent;                      /* in its bootloader, and to stay there, because we told its firmware so */
        struct hold hold;               /* for somebody's tool */
        char detail[256];               /* of the last failure */

        TAILQ_ENTRY(camera) link;
};

int camera_new(struct registry *registry, const char *key, struct camera **ret);
struct camera *camera_free(struct camera *camera);

void camera_event(struct camera *camera, enum camera_event event);
/* Of this board it is taken to be; NULL: of an unknown one. */
void camera_set_board(struct camera *camera, const struct board *board);

/* Out of the journal, with its last update: how its story goes on.  Negative errno of reading. */
int camera_load(struct camera *camera);
/* A device that is this camera came or went. */
void camera_seen(struct camera *camera, const struct sighting *sighting, enum camera_mode mode, enum identity_match match);
void camera_gone(struct camera *camera, bool excused);
/* It does not answer, said the kernel age microseconds ago, for the times-th time in a row. */
void camera_unreadable(struct camera *camera, const struct sighting *sighting, enum identity_match match, unsigned times, uint64_t age);
/* Something came into the store. */
void camera_firmware_added(struct camera *camera);
/* For inhibit.c: hands off from now on; and not any more: what waits is as if just seen. */
void camera_inhibited(struct camera *camera, enum inhibit_mode mode);
void camera_uninhibited(struct camera *camera);
/* It runs, and came out of the old serial bootloader: an update that waits for another one would wait for ever. */
void camera_has_old_bootloader(struct camera *camera);

/* If it is in its bootloader because we sent it there, and nothing of it is wanted any more: back to its firmware. */
void camera_send_back(struct camera *camera);

/* Ends its open update, if there is one: logged, told, written into its history. */
void camera_end_update(struct camera *camera, enum update_result result, const char *code, const char *text);
/* The same of one whose place another has taken. */
void camera_end_superseded(struct camera *camera, struct update *old);
/* Its update could not be remembered, and has ended: if that was to take the place of one that is still open, that one goes on; but not
 * where nothing had to be remembered for it, and it is done. */
void camera_take_up_superseded(struct camera *camera);
/* Puts the record into the journal's next batch (not for provisional cameras without an update). */
void camera_store(struct camera *camera);
struct diagnosis camera_diagnosis(const struct camera *camera);
/* How a person would name it: its serial, else its port. */
const char *camera_name(const struct camera *camera);
bool camera_automatic(const struct camera *camera);
/* Is there something for which its bootloader is to be caught? */
bool camera_is_wanted(const struct camera *camera);
/* What waits for its bootloader, in words: its update, or somebody's tool. */
const char *camera_waiting(const struct camera *camera);
/* Do we have anything of it open, or are about to open or close it? */
bool camera_is_busy(const struct camera *camera);
/* Unfinished: absent with an open update or after a silent boot.  (row 3: "missing") */
bool camera_is_missing(const struct camera *camera);
