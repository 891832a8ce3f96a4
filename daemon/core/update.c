/* SPDX-License-Identifier: MIT */
/* Updates: see update.h.  The record's names of wish, state and outcome are those of the enums. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/update.h"

#define UNITS_MAX 65536                 /* of one partition; no board has so many: what the journal says is not trusted with memory */

static const char *const update_step_names[_UPDATE_STEP_MAX] = {
        [UPDATE_WAITING] = "waiting",
        [UPDATE_RESTARTING] = "restarting",
        [UPDATE_OPENING] = "opening",
        [UPDATE_COMPARING] = "comparing",
        [UPDATE_SAVING] = "saving",
        [UPDATE_WRITING] = "writing",
        [UPDATE_VERIFYING] = "verifying",
        [UPDATE_LEAVING] = "leaving",
        [UPDATE_CONFIRMING] = "confirming",
        [UPDATE_ENDED] = "ended",
};
DEFINE_ENUM_NAMES(update_step, _UPDATE_STEP_MAX);

static const char *const update_result_names[_UPDATE_RESULT_MAX] = {
        [UPDATE_OPEN] = "open",
        [UPDATE_DONE] = "done",
        [UPDATE_FAILED] = "failed",
        [UPDATE_REFUSED] = "refused",
        [UPDATE_CANCELLED] = "cancelled",
        [UPDATE_NOT_SEEN] = "not-seen",
};
DEFINE_ENUM_NAMES(update_result, _UPDATE_RESULT_MAX);

DEFINE_FREEP(update)

int update_new(struct journal *journal, uint64_t number, const char *camera, enum wish wish, uint64_t wall, struct update **ret)
{
        struct update *update = calloc(1, sizeof(*update));

        if (!update)
                return -ENOMEM;
        update->journal = journal;
        snprintf(update->record.id, sizeof(update->record.id), "u%" PRIu64, number);
        snprintf(update->record.camera, sizeof(update->record.camera), "%s", camera);
        snprintf(update->record.wish, sizeof(update->record.wish), "%s", wish_to_string(wish));
        snprintf(update->record.state, sizeof(update->record.state), "%s", update_result_to_string(UPDATE_OPEN));
        update->record.started = wall;
        *ret = update;
        return 0;
}

static struct unit_record *unit_of(struct update *update, const char *partition, unsigned unit)
{
        struct update_units *part = NULL;

        for (size_t i = 0; i < update->n_parts && !part; i++)
                if (strcmp(update->parts[i].partition, partition) == 0)
                        part = &update->parts[i];
        if (!part) {
                struct update_units *grown = reallocarray(update->parts, update->n_parts + 1, sizeof(*grown));

                if (!grown)
                        return NULL;
                update->parts = grown;
                part = &grown[update->n_parts++];
                *part = (struct update_units){};
                snprintf(part->partition, sizeof(part->partition), "%s", partition);
        }
        if (unit >= part->n) {
                struct unit_record *grown = reallocarray(part->units, (size_t)unit + 1, sizeof(*grown));

                if (!grown)
                        return NULL;
                memset(grown + part->n, 0, (unit + 1 - part->n) * sizeof(*grown));
                part->units = grown;
                part->n = (size_t)unit + 1;
        }
        part->changed = true;
        return &part->units[unit];
}

static int on_unit(void *userdata, const char *partition, unsigned number, const struct unit_record *record)
{
        struct unit_record *unit = number < UNITS_MAX ? unit_of(userdata, partition, number) : NULL;

        if (unit)
                *unit = *record;
        return 0;
}

static size_t count_proven(const struct update *update)
{
        size_t n = 0;

        for (size_t i = 0; i < update->n_parts; i++)
                for (size_t u = 0; u < update->parts[i].n; u++)
                        n += update->parts[i].units[u].proven;
        return n;
}

/* How long ago an end was that lies in the future nobody knows: the clock was set back.  As in the journal, a near one counts as just now, and
 * one that is far as long ago. */
static uint64_t recent_until(uint64_t ended, uint64_t wall, uint64_t now)
{
        uint64_t age = ended < wall ? wall - ended : 0;

        if (age >= ENDED_UPDATES_MIN_AGE || ended > wall + ENDED_UPDATES_MIN_AGE)
                return 0;
        return now + ENDED_UPDATES_MIN_AGE - age;
}

int update_new_from_record(struct journal *journal, const struct update_record *record, uint64_t wall, uint64_t now, struct update **ret)
{
        _cleanup_(update_freep) struct update *update = calloc(1, sizeof(*update));
        int r;

        if (!update)
                return -ENOMEM;
        update->record = *record;
        update->journal = journal;
        r = journal_each_unit(journal, record->id, on_unit, update);
        if (r < 0)
                return r;
        for (size_t i = 0; i < update->n_parts; i++)
                update->parts[i].changed = false;
        update->proven = count_proven(update);
        r = update_result_from_string(record->state);
        update->result = r < 0 ? UPDATE_FAILED : (enum update_result)r;
        update->step = update->result == UPDATE_OPEN ? UPDATE_WAITING : UPDATE_ENDED;
        update->recent_until = recent_until(record->ended, wall, now);
        *ret = take_ptr(update);
        return 0;
}

struct update *update_free(struct update *update)
{
        if (!update)
                return NULL;
        if (update->being_kept)
                journal_sync_cancel(update->journal, update);
        for (size_t i = 0; i < update->n_parts; i++)
                free(update->parts[i].units);
        free(update->parts);
        free(update);
        return NULL;
}

bool update_is_open(const struct update *update)
{
        return update && update->result == UPDATE_OPEN;
}

bool update_is_recent(const struct update *update, uint64_t now)
{
        return update_is_open(update) || now < update->recent_until;
}

bool update_is_begun(const struct update *update)
{
        return update && update->record.begun && update->result != UPDATE_NOT_SEEN;
}

void update_set_begun(struct update *update, bool begun)
{
        bool was = update->record.begun;

        update->record.begun = begun;
        if (was != begun && !begun)
                update_store(update);
}

/* All that was wanted there reads back equal. */
static bool is_proven(const struct update_units *part)
{
        for (size_t u = 0; u < part->n; u++)
                if (!part->units[u].proven)
                        return false;
        return true;
}

bool update_is_half_done(const struct update *update)
{
        for (size_t i = 0; i < update->n_parts; i++)
                for (size_t u = 0; u < update->parts[i].n; u++)
                        if (update->parts[i].units[u].erases > 0 && !is_proven(&update->parts[i]))
                                return true;
        return false;
}

void update_take_over(struct update *update, const struct update *last, bool unattended)
{
        if (!update_is_begun(last))
                return;
        update->record.begun = true;
        if (unattended)
                update->record.failures = last->record.failures;
        for (size_t i = 0; i < last->n_parts; i++)
                for (size_t u = 0; u < last->parts[i].n; u++)
                        if (last->parts[i].units[u].erases > 0 && (unattended || !is_proven(&last->parts[i])))
                                update_add_wear(update, last->parts[i].partition, (unsigned)u,
                                                unattended ? (int)last->parts[i].units[u].erases : 1);
}

void update_store(struct update *update)
{
        (void)journal_put_update(update->journal, &update->record);
}

void update_end(struct update *update, enum update_result result, const char *code, const char *message, uint64_t wall, uint64_t now)
{
        if (!update_is_open(update))
                return;
        update->result = result;
        update->step = UPDATE_ENDED;
        update->pace = (struct rate){ .end = 0 };
        update->rate = update->left = 0;
        update->record.ended = wall;
        update->recent_until = now + ENDED_UPDATES_MIN_AGE;
        snprintf(update->record.state, sizeof(update->record.state), "%s", update_result_to_string(result));
        snprintf(update->record.outcome, sizeof(update->record.outcome), "%s", code);
        snprintf(update->record.message, sizeof(update->record.message), "%s", message);
        update_store(update);
}

unsigned update_wear(const struct update *update, const char *partition, unsigned unit)
{
        for (size_t i = 0; update && i < update->n_parts; i++)
                if (strcmp(update->parts[i].partition, partition) == 0)
                        return unit < update->parts[i].n ? update->parts[i].units[unit].erases : 0;
        return 0;
}

void update_add_wear(struct update *update, const char *partition, unsigned number, int delta)
{
        struct unit_record *unit = unit_of(update, partition, number);

        if (unit)
                unit->erases = (int)unit->erases + delta < 0 ? 0 : (unsigned)((int)unit->erases + delta);
}

void update_set_proven(struct update *update, const char *partition, unsigned number, bool proven)
{
        struct unit_record *unit = unit_of(update, partition, number);

        if (unit)
                unit->proven = proven;
}

void update_store_units(struct update *update)
{
        for (size_t i = 0; i < update->n_parts; i++) {
                struct update_units *part = &update->parts[i];

                if (part->changed)
                        (void)journal_put_units(update->journal, update->record.id, part->partition, 0, part->n, part->units);
                part->changed = false;
        }
}

void update_store_all(struct update *update)
{
        update_store(update);
        for (size_t i = 0; i < update->n_parts; i++)
                update->parts[i].changed = true;
        update_store_units(update);
}

bool update_went_on(struct update *update)
{
        size_t n = count_proven(update);
        bool on = n > update->proven;

        update->proven = MAX(update->proven, n);
        return on;
}

static enum update_step step_of(enum session_step step)
{
        switch (step) {
        case SESSION_OPENING:
        case SESSION_PINNING:
        case SESSION_READING_LAYOUT:
                return UPDATE_OPENING;
        case SESSION_COMPARING:
                return UPDATE_COMPARING;
        case SESSION_SAVING:
                return UPDATE_SAVING;
        case SESSION_COMMITTING:
        case SESSION_WRITING:
                return UPDATE_WRITING;
        case SESSION_VERIFYING:
                return UPDATE_VERIFYING;
        case SESSION_LEAVING:
                return UPDATE_LEAVING;
        case SESSION_ENDED:
        case _SESSION_STEP_MAX:
                break;
        }
        return UPDATE_WAITING;
}

void update_follow(struct update *update, const struct session *session, uint64_t now)
{
        enum update_step step = step_of(session_step(session));

        update->step = step;
        snprintf(update->image, sizeof(update->image), "%s", session_image(session));
        session_bytes(session, &update->bytes_done, &update->bytes_total);
        session_units(session, &update->units_written, &update->units_total);
        update->progress = session_progress(session);
        rate_feed(&update->pace, now, update_step_to_string(step), update->bytes_done, update->progress);
        update->rate = rate_speed(&update->pace);
        update->left = rate_left(&update->pace, now);
}

void update_wait(struct update *update)
{
        update->step = UPDATE_WAITING;
        update->image[0] = '\0';
        update->pace = (struct rate){ .end = 0 };
        update->rate = update->left = 0;
}
