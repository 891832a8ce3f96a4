/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * An update: one wish ("these images on this camera"), kept in the journal
 * until it is done, cancelled or given up with a reason.  It survives every
 * session; camera.c runs those and tells it how they went.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "core/journal.h"
#include "core/rate.h"
#include "core/session.h"

struct camera;

enum update_step {
        UPDATE_WAITING,                 /* for the camera */
        UPDATE_RESTARTING,              /* the camera runs, and is asked to restart into its bootloader */
        UPDATE_OPENING,
        UPDATE_COMPARING,
        UPDATE_SAVING,
        UPDATE_WRITING,
        UPDATE_VERIFYING,
        UPDATE_LEAVING,
        UPDATE_CONFIRMING,              /* told to leave; its runtime is awaited */
        UPDATE_ENDED,
        _UPDATE_STEP_MAX
};
DECLARE_ENUM_NAMES(update_step);

enum update_result { UPDATE_OPEN, UPDATE_DONE, UPDATE_FAILED, UPDATE_REFUSED, UPDATE_CANCELLED, UPDATE_NOT_SEEN, _UPDATE_RESULT_MAX };
DECLARE_ENUM_NAMES(update_result);

/* What is known of the erase units of one partition. */
struct update_units {
        char partition[16];
        size_t n;
        struct unit_record *units;
        bool changed;                   /* since they were put into the journal */
};

/* The user's word that a device is his camera (row 2). */
struct user_word {
        bool given;
        bool replace;                   /* whatever stands there */
        const struct board *board;      /* and what he says it is */
        uint64_t said_at;               /* the last attachment that was seen then */
};

struct update {
        struct update_record record;
        struct journal *journal;
        struct camera *camera;          /* NULL: its camera was forgotten */
        enum update_step step;
        enum update_result result;
        char image[16];
        uint64_t bytes_done, bytes_total;
        double progress;
        unsigned units_written, units_total;
        uint64_t rate;                  /* bytes per second of the present step; 0: not known yet */
        uint64_t left;                  /* microseconds until the device is let go, at this pace; 0: not known */
        struct rate pace;               /* where both come from */
        uint64_t recent_until;          /* loop_now(): when it has ended, for so long at least it can be read; the wall clock may be set */
        bool cancelling;                /* ends at the session's next safe boundary */
        bool being_kept;                /* the journal was asked to say when it is on the disk */
        bool not_kept;                  /* the disk would not have it */
        struct user_word word;          /* by which it was asked for; good as long as that of its camera */
        char supersedes[sizeof(((struct update_record *)NULL)->id)];        /* an open one, which ends when this one is kept; "": none */
        size_t proven;                  /* units proven good, the most so far */
        struct update_units *parts;
        size_t n_parts;
        TAILQ_ENTRY(update) link;       /* in the registry, newest first */
};

/* A new wish; not yet in the journal. */
int update_new(struct journal *journal, uint64_t number, const char *camera, enum wish wish, uint64_t wall, struct update **ret);
/* One that the journal remembers; its wear is read, too.  wall, now: the two clocks. */
int update_new_from_record(struct journal *journal, const struct update_record *record, uint64_t wall, uint64_t now, struct update **ret);
struct update *update_free(struct update *update);

bool update_is_open(const struct update *update);
/* Open, or ended ENDED_UPDATES_MIN_AGE ago at most. */
bool update_is_recent(const struct update *update, uint64_t now);
/* What stands on the camera may be this update's half-done work, or that of one before it: it is open, was given up, or is done, and that
 * was not its to finish. */
bool update_is_begun(const struct update *update);
void update_set_begun(struct update *update, bool begun);
/* It has erases, its own or taken over, in a partition that is not known to hold all that was wanted there. */
bool update_is_half_done(const struct update *update);
/* The next wish for a camera on which half-done work is left: its erases are remembered, for an unattended one all of them. */
void update_take_over(struct update *update, const struct update *last, bool unattended);
/* Puts the record into the journal's next batch. */
void update_store(struct update *update);
/* Ends it: once, later calls are ignored. code: stable, for machines. */
void update_end(struct update *update, enum update_result result, const char *code, const char *message, uint64_t wall, uint64_t now);

/* Erases (row 10) and proof of erase units; kept in memory until update_store_units() puts what has changed into the journal's next batch. */
unsigned update_wear(const struct update *update, const char *partition, unsigned unit);
void update_add_wear(struct update *update, const char *partition, unsigned unit, int delta);
void update_set_proven(struct update *update, const char *partition, unsigned unit, bool proven);
void update_store_units(struct update *update);
/* As update_store_units(), of all: the journal was begun anew. */
void update_store_all(struct update *update);
/* Has a unit been proven good since this was asked last, that brings their number above what it ever was? */
bool update_went_on(struct update *update);
/* Takes step, image and bytes from a session; now: of the loop. */
void update_follow(struct update *update, const struct session *session, uint64_t now);
/* No session works for it: it waits. */
void update_wait(struct update *update);
