/* SPDX-License-Identifier: MIT */
/*
 * The survey: see survey.h.
 *
 * Each candidate walks through the partition as long as it is equal.  Where it
 * first differs the device may hold 0xff: the beginning of an interrupted
 * write.  That is proven when 0xff goes on to the end of the unit in which it
 * diverged, because the bootloader erases a unit when it writes its first
 * block, and never before.  Where power fails while a program unit is written, that
 * one is neither old nor new.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "core/image.h"
#include "core/survey.h"

#define PROGRAM_UNIT_MAX 32             /* H7's flash word; F4 and F7 have 4 bytes (dfu.md A.5) */

int survey_init(struct survey *survey, const struct board *board, const struct partition *partition,
                const uint8_t *wanted, uint32_t wanted_size)
{
        uint32_t size = partition->limit - partition->start;
        size_t n;

        if (wanted_size > size)
                return -E2BIG;

        n = partition_units(board, partition, size, NULL, 0);
        *survey = (struct survey){
                .board = board,
                .base = partition->start,
                .executable = board->vector_table && (partition->role == PARTITION_FIRMWARE ||
                                                      partition->role == PARTITION_BOOTLOADER),
                .in_place = strcmp(board->memories[partition->memory].name, "mram") == 0,
                .n_units = n,
                .avoided = n,
                .wanted = wanted,
                .wanted_size = wanted_size,
        };
        survey->units = calloc(n ?: 1, sizeof(*survey->units));
        survey->differs = calloc(n ?: 1, sizeof(bool));
        survey->known = calloc(n ?: 1, sizeof(bool));
        if (!survey->units || !survey->differs || !survey->known) {
                survey_deinit(survey);
                return -ENOMEM;
        }
        (void)partition_units(board, partition, size, survey->units, n);
        if (wanted)
                for (size_t u = 0; u < n && survey->units[u].offset < wanted_size; u++)
                        survey->wanted_units = u + 1;
        return 0;
}

void survey_deinit(struct survey *survey)
{
        free(survey->units);
        free(survey->differs);
        free(survey->known);
        *survey = (struct survey){};
}

void survey_add_candidate(struct survey *survey, const uint8_t *data, uint32_t size, unsigned tag)
{
        uint32_t limit = survey->n_units ? survey->units[survey->n_units - 1].offset +
                                           survey->units[survey->n_units - 1].size : 0;

        if (survey->n_candidates == SURVEY_CANDIDATES_MAX || size == 0 || size > limit)
                return;
        survey->candidates[survey->n_candidates++] = (struct survey_candidate){
                .data = data, .size = size, .tag = tag, .match = SURVEY_MATCHING,
        };
}

/* Whether reading more of the present unit can teach anything. */
static bool unit_is_interesting(const struct survey *survey)
{
        size_t u = survey->unit;

        if (survey->unreadable)
                return false;
        /* The very beginning tells blank and impossible, even where nothing is known and nothing wanted. */
        if (u == 0 && survey->offset == 0)
                return true;
        for (size_t i = 0; i < survey->n_candidates; i++) {
                const struct survey_candidate *c = &survey->candidates[i];

                if (c->match == SURVEY_MATCHING || (c->match == SURVEY_TAIL && c->unit == u))
                        return true;
        }
        return u < survey->wanted_units && !survey->known[u];
}

/* A candidate that reached the end of the unit it diverged in, or the end of the unit in which it ended. */
static void leave_unit(struct survey *survey)
{
        const struct erase_unit *unit = &survey->units[survey->unit];
        uint32_t end = unit->offset + unit->size;

        for (size_t i = 0; i < survey->n_candidates; i++) {
                struct survey_candidate *c = &survey->candidates[i];

                if (c->match == SURVEY_TAIL && c->unit == survey->unit && survey->offset >= end)
                        c->match = c->torn ? SURVEY_TORN : SURVEY_INTERRUPTED;
                else if (c->match == SURVEY_MATCHING && c->size <= end && survey->offset >= end)
                        c->match = SURVEY_WHOLE;
        }
        if (survey->unit < survey->wanted_units && !survey->known[survey->unit]) {
                /* Read to its end, or to the end of what is wanted of it, without a difference. */
                survey->known[survey->unit] = true;
                survey->differs[survey->unit] = survey->unreadable;
        }
        survey->unit++;
        if (survey->unit < survey->n_units)
                survey->offset = survey->units[survey->unit].offset;
}

static void pass_over(struct survey *survey)
{
        for (size_t i = 0; i < survey->n_candidates; i++) {
                struct survey_candidate *c = &survey->candidates[i];

                if (c->match != SURVEY_MATCHING)
                        continue;
                c->match = SURVEY_TORN;
                c->unit = survey->unit;
        }
        if (survey->unit < survey->wanted_units)
                survey->known[survey->unit] = survey->differs[survey->unit] = true;
        leave_unit(survey);
}

void survey_avoid(struct survey *survey, size_t unit)
{
        survey->avoided = MIN(unit, survey->n_units);
}

bool survey_next(struct survey *survey, uint32_t *ret_offset, uint32_t *ret_size)
{
        while (survey->unit < survey->n_units) {
                const struct erase_unit *unit = &survey->units[survey->unit];
                uint32_t end = unit->offset + unit->size;

                if (survey->unit == survey->avoided) {
                        pass_over(survey);
                        continue;
                }
                if (survey->offset < end && unit_is_interesting(survey)) {
                        *ret_offset = survey->offset;
                        *ret_size = end - survey->offset;
                        return true;
                }
                leave_unit(survey);
        }
        return false;
}

/* The device pads the last program unit of an image with zeros (dfu.md A.5): up to 31 bytes, then 0xff. */
static bool is_padding(const struct survey_candidate *c, uint32_t offset, const uint8_t *data, uint32_t size)
{
        uint32_t pad_end = (c->size + 31) / 32 * 32;

        for (uint32_t i = 0; i < size; i++) {
                if (data[i] == 0xff)
                        continue;
                if (data[i] == 0x00 && offset + i < pad_end)
                        continue;
                return false;
        }
        return true;
}

/* It was equal up to here: is what follows erased flash, behind a program unit that may be torn? */
static void diverge(struct survey *survey, struct survey_candidate *c, uint32_t offset, const uint8_t *data, uint32_t size)
{
        const struct erase_unit *unit = &survey->units[survey->unit];
        uint32_t behind = offset - offset % PROGRAM_UNIT_MAX + PROGRAM_UNIT_MAX - offset;

        c->unit = survey->unit;
        /* The image may itself hold 0xff just before the cut: any 0xff tail is the same evidence. */
        if (bytes_all(data, size, 0xff)) {
                c->match = SURVEY_TAIL;
                return;
        }
        /* No tail is no evidence; and what is never erased has none. */
        c->torn = !survey->in_place && behind <= size && offset + behind < unit->offset + unit->size &&
                  bytes_all(data + behind, size - behind, 0xff);
        c->match = c->torn ? SURVEY_TAIL : SURVEY_DEAD;
}

static void feed_candidate(struct survey *survey, struct survey_candidate *c, uint32_t offset,
                           const uint8_t *data, uint32_t size)
{
        uint32_t equal = 0;

        if (c->match == SURVEY_TAIL) {
                if (c->unit != survey->unit || !bytes_all(data, size, 0xff))
                        c->match = SURVEY_DEAD;
                return;
        }
        if (c->match != SURVEY_MATCHING)
                return;

        if (offset < c->size) {
                uint32_t n = MIN(size, c->size - offset);

                equal = (uint32_t)bytes_common_prefix(data, c->data + offset, n);
                if (equal < n) {
                        diverge(survey, c, offset + equal, data + equal, size - equal);
                        return;
                }
        }
        if (equal < size && !survey->in_place && !is_padding(c, offset + equal, data + equal, size - equal))
                c->match = SURVEY_DEAD;
}

bool survey_feed(struct survey *survey, uint32_t offset, const uint8_t *data, uint32_t size)
{
        if (offset == 0 && size >= 8) {
                survey->blank = survey->executable ? bytes_all(data, 8, 0xff) : bytes_all(data, size, 0xff);
                survey->impossible = survey->executable && !survey->blank &&
                                     image_vectors_impossible(survey->board, data, size, survey->base);
                if (survey->blank || survey->impossible) {
                        /* It cannot boot, whatever follows: nothing more to learn than what differs. */
                        for (size_t i = 0; i < survey->n_candidates; i++)
                                survey->candidates[i].match = SURVEY_DEAD;
                }
        }

        for (size_t i = 0; i < survey->n_candidates; i++)
                feed_candidate(survey, &survey->candidates[i], offset, data, size);

        if (survey->unit < survey->wanted_units && !survey->known[survey->unit] && offset < survey->wanted_size) {
                uint32_t n = MIN(size, survey->wanted_size - offset);

                if (memcmp(data, survey->wanted + offset, n) != 0) {
                        survey->known[survey->unit] = true;
                        survey->differs[survey->unit] = true;
                }
        }
        survey->offset = offset + size;
        /* What is wanted of this unit has been read. */
        if (survey->unit + 1 == survey->wanted_units && survey->offset >= survey->wanted_size)
                survey->known[survey->unit] = true;
        return unit_is_interesting(survey);
}

void survey_unreadable(struct survey *survey)
{
        survey->unreadable = true;
        for (size_t u = 0; u < survey->wanted_units; u++)
                if (!survey->known[u]) {
                        survey->known[u] = true;
                        survey->differs[u] = true;
                }
}

void survey_finish(struct survey *survey)
{
        if (survey->board->block0_first && survey->wanted_units > 0 && survey_count_differing(survey) > 0)
                survey->differs[0] = true;
}

const struct survey_candidate *survey_found(const struct survey *survey)
{
        const struct survey_candidate *found = NULL;

        for (size_t i = 0; i < survey->n_candidates; i++) {
                const struct survey_candidate *c = &survey->candidates[i];

                if (c->match == SURVEY_WHOLE && (!found || found->match != SURVEY_WHOLE || c->size > found->size))
                        found = c;
        }
        for (size_t i = 0; i < survey->n_candidates && !found; i++)
                if (survey->candidates[i].match == SURVEY_INTERRUPTED)
                        found = &survey->candidates[i];
        return found;
}

size_t survey_count_differing(const struct survey *survey)
{
        size_t n = 0;

        for (size_t u = 0; u < survey->wanted_units; u++)
                n += survey->differs[u];
        return n;
}

enum content survey_content(const struct survey *survey)
{
        const struct survey_candidate *found = survey_found(survey);

        if (survey->unreadable)
                return CONTENT_UNREADABLE;
        if (survey->offset == 0 && survey->unit == 0)
                return CONTENT_UNREAD;
        if (survey->wanted_units > 0 && survey_count_differing(survey) == 0)
                return CONTENT_WANTED;
        if (survey->blank)
                return CONTENT_BLANK;
        if (survey->impossible)
                return CONTENT_IMPOSSIBLE;
        if (found && found->match == SURVEY_WHOLE)
                return CONTENT_KNOWN;
        if (found && found->match == SURVEY_INTERRUPTED)
                return CONTENT_INTERRUPTED;
        return CONTENT_UNKNOWN;
}
