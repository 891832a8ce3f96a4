/* SPDX-License-Identifier: MIT */
/* Updates: see update.h.  The record's names of wish, state and outcome are those of the enums. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "core/update.h"

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

static int on_wear(void *userdata, const char *partition, unsigned unit, unsigned erases)
{
        update_add_wear(userdata, partition, unit, (int)erases);
        return 0;
}

int update_new_from_record(struct journal *journal, const struct update_record *record, struct update **ret)
{
        _cleanup_(update_freep) struct update *update = calloc(1, sizeof(*update));
        int r;

        if (!update)
                return -ENOMEM;
        update->record = *record;
        r = journal_each_wear(journal, record->id, on_wear, update);
        if (r < 0)
                return r;
        update->journal = journal;      /* only now: what was read need not be written again */
        r = update_result_from_string(record->state);
        update->result = r < 0 ? UPDATE_FAILED : (enum update_result)r;
        update->step = update->result == UPDATE_OPEN ? UPDATE_WAITING : UPDATE_ENDED;
        update->begun = record->attempts > 0;
        *ret = take_ptr(update);
        return 0;
}

struct update *update_free(struct update *update)
{
        if (!update)
                return NULL;
        free(update->wear);
        free(update);
        return NULL;
}

bool update_is_open(const struct update *update)
{
        return update && update->result == UPDATE_OPEN;
}

bool update_is_begun(const struct update *update)
{
        return update && update->begun && update->result != UPDATE_DONE && update->result != UPDATE_NOT_SEEN;
}

void update_set_begun(struct update *update, bool begun)
{
        bool was = update->begun;

        update->begun = begun;
        /* attempts is what is kept of it. */
        if (!was || begun || !update_is_open(update))
                return;
        update->record.attempts = 0;
        update_store(update);
}

void update_take_over(struct update *update, const struct update *last, bool unattended)
{
        if (!update_is_begun(last))
                return;
        update->begun = true;
        for (size_t i = 0; i < last->n_wear; i++)
                if (last->wear[i].erases > 0)
                        update_add_wear(update, last->wear[i].partition, last->wear[i].unit,
                                        unattended ? (int)last->wear[i].erases : 1);
}

void update_store(struct update *update)
{
        (void)journal_put_update(update->journal, &update->record);
}

void update_end(struct update *update, enum update_result result, const char *code, const char *message, uint64_t wall)
{
        if (!update_is_open(update))
                return;
        update->result = result;
        update->step = UPDATE_ENDED;
        update->record.ended = wall;
        snprintf(update->record.state, sizeof(update->record.state), "%s", update_result_to_string(result));
        snprintf(update->record.outcome, sizeof(update->record.outcome), "%s", code);
        snprintf(update->record.message, sizeof(update->record.message), "%s", message);
        update_store(update);
}

static struct wear *find_wear(const struct update *update, const char *partition, unsigned unit)
{
        for (size_t i = 0; i < update->n_wear; i++)
                if (update->wear[i].unit == unit && strcmp(update->wear[i].partition, partition) == 0)
                        return &update->wear[i];
        return NULL;
}

unsigned update_wear(const struct update *update, const char *partition, unsigned unit)
{
        const struct wear *wear = update ? find_wear(update, partition, unit) : NULL;

        return wear ? wear->erases : 0;
}

void update_add_wear(struct update *update, const char *partition, unsigned unit, int delta)
{
        struct wear *wear = find_wear(update, partition, unit);

        if (!wear) {
                struct wear *grown = reallocarray(update->wear, update->n_wear + 1, sizeof(*grown));

                if (!grown)
                        return;
                update->wear = grown;
                wear = &grown[update->n_wear++];
                *wear = (struct wear){ .unit = unit };
                snprintf(wear->partition, sizeof(wear->partition), "%s", partition);
        }
        wear->erases = (int)wear->erases + delta < 0 ? 0 : (unsigned)((int)wear->erases + delta);
        if (update->journal)
                (void)journal_put_wear(update->journal, update->record.id, partition, unit, wear->erases);
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

void update_follow(struct update *update, const struct session *session)
{
        update->step = step_of(session_step(session));
        snprintf(update->image, sizeof(update->image), "%s", session_image(session));
        session_bytes(session, &update->bytes_done, &update->bytes_total);
        session_units(session, &update->units_written, &update->units_total);
        update->progress = session_progress(session);
}
