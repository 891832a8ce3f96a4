/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Private to journal.c: records as rows.  What a put does to the database, and
 * how a row becomes a record again.  It knows neither loop nor thread, and
 * decides nothing about when.
 */

#include <sys/queue.h>

#include "core/database.h"
#include "core/journal.h"

extern const struct database_schema journal_schema;

/* --- one put, waiting --- */

enum op_kind {
        OP_PUT_CAMERA,
        OP_DELETE_CAMERA,
        OP_RENAME_CAMERA,
        OP_PUT_UPDATE,
        OP_PUT_UNITS,
        OP_PUT_FIRMWARE,
        OP_DELETE_FIRMWARE,
        OP_PUT_SAVED,
        OP_DELETE_SAVED,
        OP_PUT_HISTORY,
        OP_PUT_WHOLE,
        _OP_KIND_MAX
};

struct journal_units {
        char update[sizeof(((struct update_record *)NULL)->id)];
        char partition[16];
        unsigned first;
        size_t n;
        struct unit_record units[];
};

struct journal_rename {
        char old[CAMERA_KEY_MAX], new[CAMERA_KEY_MAX];
};

struct journal_history {
        char camera[CAMERA_KEY_MAX];
        struct history_line line;
};

struct op {
        TAILQ_ENTRY(op) link;           /* in journal->pending or batch->ops */
        enum op_kind kind;
        uint64_t wall;                  /* when it was put */
        size_t size;                    /* allocated, with what stands behind it: */
        union {
                void *record;
                struct camera_record *camera;
                struct journal_rename *rename;  /* DELETE_CAMERA: only old */
                struct update_record *update;
                struct journal_units *units;
                struct firmware_record *firmware;
                struct saved_record *saved;
                struct journal_history *history;
        };
};
TAILQ_HEAD(op_queue, op);

/* same: a put replaces the row that the other writes, so of two that wait only the later need be kept.
 * barrier: it touches rows of other keys, so nothing is moved past it. */
struct op_type {
        const char *name;               /* for people */
        int (*apply)(struct database *database, const struct op *op);   /* within a transaction */
        bool (*same)(const struct op *a, const struct op *b);
        bool barrier;
        size_t size;                    /* of its record, without what may follow it */
};
extern const struct op_type op_types[_OP_KIND_MAX];

/* The number of an id: "u17" is 17; 0: not an id. */
uint64_t update_number(const char *id);

/* --- reading: as journal_each_*() of journal.h; wall: what the clock says --- */

int rows_each_camera(struct database *database, int (*fn)(void *userdata, const struct camera_record *), void *userdata);
int rows_each_update(struct database *database, uint64_t wall, int (*fn)(void *userdata, const struct update_record *), void *userdata);
int rows_each_unit(struct database *database, const char *update,
                   int (*fn)(void *userdata, const char *partition, unsigned unit, const struct unit_record *), void *userdata);
int rows_each_firmware(struct database *database, int (*fn)(void *userdata, const struct firmware_record *), void *userdata);
int rows_each_saved(struct database *database, int (*fn)(void *userdata, const struct saved_record *), void *userdata);
int rows_each_history(struct database *database, const char *camera, size_t max,
                      int (*fn)(void *userdata, uint64_t wall, const char *event, const char *text), void *userdata);
int rows_last_update_number(struct database *database, uint64_t *ret);
int rows_are_whole(struct database *database, bool *ret);
