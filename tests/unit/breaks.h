/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One camera on its way back to life, broken off anywhere: what the tests of
 * interruptions have in common.  A row is a kind of camera and a way; a stock
 * is what was known and in the store before, made once per row; a scene is one
 * case of it, played with accidents, and hands that do what the diagnosis says.
 *
 * What may come of it stands in tables: here how many hands it may take, in
 * the tests which ends a break may have.
 *
 * BREAKS_ALL=1 takes every transfer of the real geometries, too.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "unit/lab.h"
#include "unit/watcher.h"

#define BREAKS_OLD "4.8.1"
#define BREAKS_NEW "5.0.0"

struct row {
        const char *name;               /* of the table: "M7, bootloader" */
        enum sim_board board;
        double scale;                   /* of erase units; 1: the real ones */
        bool rom;                       /* its bootloader is gone, too: the way begins in the chip's ROM */
        size_t size, he_size;           /* of the images */
        uint32_t cut, cut_end;          /* what is missing of the old firmware; both 0: nothing */
        unsigned stride;                /* every so many-th transfer is taken */
        unsigned hands;                 /* that the way takes without an accident */
};

#define BREAKS_ROWS 8
extern const struct row breaks_rows[BREAKS_ROWS];

struct stock {
        const struct row *row;
        char directory[64];             /* scratch; the state that is kept stands below it */
        struct lab_image *old, *old_he, *new, *new_he, *bootloader;
        unsigned n_transfers;           /* of the whole way, when nothing happens */
        bool *flash_at;                 /* per transfer: it begins work in flash */
};

void stock_init(struct stock *stock, const struct row *row);
void stock_deinit(struct stock *stock);
/* The row's, or 1 with BREAKS_ALL=1. */
unsigned stock_stride(const struct stock *stock);
bool breaks_all(void);

/* --- one case --- */

struct scene {
        const struct stock *stock;
        const struct row *row;
        struct lab *lab;
        struct lab_camera *camera;
        struct watcher watcher;
        unsigned number;                /* of the case; what varies from one to the next is drawn from it */
        char what[128];                 /* the case in words, for who must find the mistake */
        bool other_port;
        unsigned n_breaks, n_hands, n_asked_again;
        unsigned n_deaths;              /* of a daemon */
        unsigned tolerance;             /* breaks that a test has made besides those of scene_suffer() */
        unsigned tolerated_hands;
        unsigned tolerated_erases;      /* of one unit, besides one for each break */
        bool for_ever;                  /* the fault stays: who is on the bus may try again and again */
        bool suffering;                 /* an accident is awaited */
        const bool *struck;             /* besides: becomes true when something else has happened that ends a daemon's life; or NULL */
        uint64_t strikes_at;            /* transfer */
        bool by_power;
        char port[16];
};

/* On the desk, unplugged. */
void scene_begin(struct scene *scene, const struct stock *stock, unsigned number, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* Draws a number below n: the same one for the same case. */
unsigned scene_draw(struct scene *scene, unsigned n);
void scene_plug(struct scene *scene);
void scene_end(struct scene *scene);

/* Nothing more happens by itself, or it is over; hands help up to n times.  True: over, that is: ended by name, or the camera runs and no
 * update is open. */
bool scene_play(struct scene *scene, unsigned n_hands);
/* What a person does who reads the diagnosis. */
void scene_lend_a_hand(struct scene *scene);

/* A person asks once more for an update that has ended otherwise; the camera is unplugged then. */
void scene_ask_again(struct scene *scene);

enum accident_kind { ACCIDENT_UNPLUG, ACCIDENT_KILL, ACCIDENT_BOTH, _ACCIDENT_KIND_MAX };
/* Where in a transfer: before anything of it has reached the device; after its data stage; when the device has carried it out, and nobody
 * has heard of it; in the middle of the work in flash that it began. */
enum accident_moment { MOMENT_BEFORE, MOMENT_DATA, MOMENT_STATUS, MOMENT_FLASH, _MOMENT_MAX };
extern const char *const accident_names[_ACCIDENT_KIND_MAX];
extern const char *const moment_names[_MOMENT_MAX];

/* Plays on until the k-th transfer from now on, where it happens; then cable and daemon are there again.  False: it was over before. */
bool scene_suffer(struct scene *scene, enum accident_kind kind, enum accident_moment moment, unsigned k);

/* The daemon is killed this moment, and the next one started after a while. */
void scene_kill(struct scene *scene);

/* --- what came of it --- */

enum ending {
        ENDING_DONE,                    /* the right bytes, and it runs; no hand but the one that undid the accident */
        ENDING_DONE_BY_HAND,            /* the same, after another hand that the diagnosis asked for */
        ENDING_NOT_SEEN,                /* the right bytes, and not seen running within its time; runs when plugged in again */
        _ENDING_MAX
};

struct tally {
        unsigned n[_ENDING_MAX];
};

/* Its present update, or the last. */
struct update *scene_update(struct scene *scene);
bool scene_is_running(const struct scene *scene);
/* Plays to the end.  Fails if it takes more hands than may be, if a byte is wrong, or is where it does not belong, if a unit was erased too
 * often, if something is still open, or the update has ended by another name. */
enum ending scene_carry_through(struct scene *scene);
/* After a daemon's death: what was asked for is known, and what was erased was counted before. */
void scene_expect_remembered(struct scene *scene);
/* No byte outside of the partitions meant; no unit erased too often. */
void scene_expect_sound_flash(struct scene *scene);
/* One line of the table. */
void tally_print(const struct tally *tally, const struct row *row, const char *what, const char *after);
