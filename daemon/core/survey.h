/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What stands in a partition: compared, while it is read, with the image that
 * is wanted and with every known image that could stand there.  Pure: it asks
 * for ranges, is fed bytes, and answers with the evidence of the verdict
 * (content, and which erase units differ).  It reads no more than it needs:
 * a unit that is known to differ, when nothing else can be learnt from it, is
 * left at its first difference.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/board.h"
#include "core/verdict.h"

#define SURVEY_CANDIDATES_MAX 64

enum survey_match {
        SURVEY_MATCHING,                /* equal so far */
        SURVEY_TAIL,                    /* diverged in this unit into 0xff, and 0xff since */
        SURVEY_INTERRUPTED,             /* units before k equal, unit k its beginning and then 0xff */
        SURVEY_TORN,                    /* the same, but for one program unit at the cut that is neither */
        SURVEY_WHOLE,                   /* equal to its last byte, and the rest of its last unit blank */
        SURVEY_DEAD,
};

struct survey_candidate {
        const uint8_t *data;            /* the caller's, until survey_deinit */
        uint32_t size;
        unsigned tag;                   /* the caller's name for it */
        enum survey_match match;
        size_t unit;                    /* SURVEY_INTERRUPTED, SURVEY_TORN: k */
        bool torn;                      /* SURVEY_TAIL: it began with a program unit that is neither */
};

struct survey {
        const struct board *board;
        uint32_t base;                  /* device address of offset 0 */
        bool executable;                /* its first words are a vector table */
        bool in_place;                  /* memory that is never erased (MRAM): behind an image's end stands what stood there before */
        struct erase_unit *units;       /* of the whole partition; owned */
        size_t n_units;
        struct survey_candidate candidates[SURVEY_CANDIDATES_MAX];
        size_t n_candidates;
        const uint8_t *wanted;          /* NULL: nothing is wanted, only looked at */
        uint32_t wanted_size;
        size_t wanted_units;            /* units that the wanted image touches */
        bool *differs;                  /* per unit; owned */
        bool *known;                    /* per unit: differs is established; owned */
        size_t avoided;                 /* unit that is not read; n_units: none */
        size_t unit;                    /* being read */
        uint32_t offset;                /* next byte to read */
        bool impossible, blank, unreadable;
};

/* The partition is read as device addresses [base, ...); for a bootloader's own partition offset 0 is its start.
 * -ENOMEM; -E2BIG if wanted does not fit. */
int survey_init(struct survey *survey, const struct board *board, const struct partition *partition,
                const uint8_t *wanted, uint32_t wanted_size);
void survey_deinit(struct survey *survey);
/* The wanted image should be given here, too.  Beyond SURVEY_CANDIDATES_MAX: ignored. */
void survey_add_candidate(struct survey *survey, const uint8_t *data, uint32_t size, unsigned tag);
/* A group of erase units is rewritten from its first one: on boards whose write window opens with block 0, unit 0 counts as
 * differing when any unit does (dfu.md A.5). */
void survey_finish(struct survey *survey);

/* The next range to read, within one erase unit; false: the survey is complete. */
bool survey_next(struct survey *survey, uint32_t *ret_offset, uint32_t *ret_size);
/* Bytes of that range, in order.  false: enough of this range, ask survey_next() again. */
bool survey_feed(struct survey *survey, uint32_t offset, const uint8_t *data, uint32_t size);
/* The range could not be read. */
void survey_unreadable(struct survey *survey);
/* A unit in which power failed, and which is not to be read: it differs, and what is equal up to there was torn in it.  Before it is reached. */
void survey_avoid(struct survey *survey, size_t unit);

enum content survey_content(const struct survey *survey);
/* The candidate that stands there whole (SURVEY_WHOLE) or began to (SURVEY_INTERRUPTED); NULL: none.  The longest wins.  SURVEY_TORN is
 * not found: it is what a write looks like in which power failed, but only who knows of that write may say so. */
const struct survey_candidate *survey_found(const struct survey *survey);
size_t survey_count_differing(const struct survey *survey);
