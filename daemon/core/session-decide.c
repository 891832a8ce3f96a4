/* SPDX-License-Identifier: MIT */
/*
 * The evidence is gathered, the verdict asked, what is unknown saved, and the answer carried out.
 */

#include "core/session-internal.h"

/* What this update has begun to erase is its own work, not somebody's image. */
static bool was_begun_before(const struct session *s, const struct target *target)
{
        for (size_t u = 0; s->wish.begun && u < target->survey.n_units; u++)
                if (s->events->get_wear(s->userdata, target->partition.name, (unsigned)u) > 0)
                        return true;
        return false;
}

static bool content_is_incomplete(enum content content)
{
        switch (content) {
        case CONTENT_BLANK:
        case CONTENT_IMPOSSIBLE:
        case CONTENT_INTERRUPTED:
        case CONTENT_UNREADABLE:
        case CONTENT_UNREAD:
                return true;
        case CONTENT_KNOWN:
        case CONTENT_WANTED:
        case CONTENT_UNKNOWN:
        case _CONTENT_MAX:
                return false;
        }
        return true;
}

/* Power that was lost in the middle of a unit makes an unknown image of a half-written one; and where memory is written in place, so
 * does every interruption. */
static bool is_incomplete(const struct session *s, const struct target *target)
{
        enum content content = survey_content(&target->survey);

        if (target->partition.role != PARTITION_FIRMWARE)
                return false;
        return content_is_incomplete(content) ||
               (content == CONTENT_UNKNOWN && !target->not_ours && was_begun_before(s, target));
}

bool session_firmware_is_incomplete(const struct session *s)
{
        for (size_t t = 0; t < s->n_targets; t++)
                if (is_incomplete(s, &s->targets[t]))
                        return true;
        return false;
}

bool session_other_firmware_is_incomplete(const struct session *s)
{
        for (size_t t = 0; t < s->n_targets; t++)
                if (!s->targets[t].wanted && is_incomplete(s, &s->targets[t]))
                        return true;
        return false;
}

/* Left alone it runs, as far as is known: what stands there was read and is whole, or nothing was done to it since it ran. */
bool session_would_boot(const struct session *s)
{
        if (session_in_rom(s) || s->wrote)
                return false;
        if (!s->surveyed)
                return s->wish.would_boot;
        /* Half of a set that we have begun to write is no whole. */
        for (size_t t = 0; s->wish.begun && t < s->n_targets; t++)
                if (survey_count_differing(&s->targets[t].survey) > 0)
                        return false;
        return !session_firmware_is_incomplete(s);
}

/* --- save --- */

static void save_next(struct session *s);
static void give_verdict(struct session *s, bool as_if_saved);
static void announce_verdict(struct session *s);

static void on_saved(void *userdata, int error)
{
        struct session *s = userdata;
        struct target *target = &s->targets[s->target];

        s->on_disk = false;
        free(take_ptr(s->save_buffer));
        if (session_stops_here(s))
                return;
        if (error < 0) {
                /* Row 8 says what follows from that. */
                session_log(s, LOG_WARNING, "what stands in %s could not be saved (%s)", target->partition.name, strerror(-error));
                give_verdict(s, /* as_if_saved= */ false);
                announce_verdict(s);
                return;
        }
        session_log(s, LOG_NOTICE, "saved what stood in %s: 'camrescue restore' brings it back", target->partition.name);
        target->saved = true;
        save_next(s);
}

static void save_chunk(struct session *s, const struct machine_chunk *chunk)
{
        uint32_t offset = session_chunk_offset(s, &s->targets[s->target], chunk);

        if (offset + chunk->size <= s->save_size)
                memcpy(s->save_buffer + offset, chunk->data, chunk->size);
}

/* Does the unit hold an image's part of it, or the beginning of that and then nothing? */
static bool unit_is_of(const uint8_t *unit, const struct erase_unit *place, const uint8_t *image, size_t size)
{
        size_t n = place->offset < size ? MIN((size_t)place->size, size - place->offset) : 0;
        size_t equal = n > 0 ? bytes_common_prefix(unit, image + place->offset, n) : 0;

        return (equal == n && n > 0) || bytes_all(unit + equal, place->size - equal, 0xff);
}

/* What an interrupted write of ours leaves: each unit of an image that we know, or have saved; and one, at most, that was begun and
 * in which power failed.  Anything else that is unknown was put there by somebody since. */
static bool is_own_work(const struct session *s, const struct target *target)
{
        unsigned n_broken = 0;

        for (size_t u = 0; u < target->survey.n_units; u++) {
                const struct erase_unit *place = &target->survey.units[u];
                const uint8_t *unit = s->save_buffer + place->offset;
                bool explained = bytes_all(unit, place->size, 0xff) ||
                                 (target->wanted && unit_is_of(unit, place, target->wanted, target->wanted_size));

                for (size_t i = 0; i < target->n_candidates && !explained; i++)
                        explained = unit_is_of(unit, place, target->candidates[i]->data, target->candidates[i]->size);
                if (!explained && (++n_broken > 1 ||
                                   s->events->get_wear(s->userdata, target->partition.name, (unsigned)u) == 0))
                        return false;
        }
        return true;
}

/* This update has begun to erase the unit, and what stands there is the wanted image up to a word in which power failed: seen
 * while it was compared, and no more need be read. */
static bool is_torn_write(const struct session *s, const struct target *target)
{
        if (!target->wanted_blob || !was_begun_before(s, target))
                return false;
        for (size_t i = 0; i < target->survey.n_candidates; i++) {
                const struct survey_candidate *c = &target->survey.candidates[i];

                if (c->match == SURVEY_TORN && digest_equal(&target->candidates[c->tag]->digest, &target->wanted_blob->digest))
                        return s->events->get_wear(s->userdata, target->partition.name, (unsigned)c->unit) > 0;
        }
        return false;
}

static void save_was_read(struct session *s)
{
        struct target *target = &s->targets[s->target];
        uint32_t size = s->save_size;
        int r;

        if (session_stops_here(s))
                return;
        s->on_chunk = NULL;
        if (was_begun_before(s, target)) {
                bool ours = is_own_work(s, target);

                if (ours || s->wish.begun_unattended) {
                        /* Ours is no loss; somebody else's is not touched for a recovery that nobody asked for. */
                        free(take_ptr(s->save_buffer));
                        target->saved = ours;
                        target->not_ours = !ours;
                        save_next(s);
                        return;
                }
        }
        while (size > 0 && s->save_buffer[size - 1] == 0xff)
                size--;
        s->on_disk = true;
        r = store_save(s->context.store, s->wish.camera, target->partition.name, s->save_buffer, size, on_saved, s);
        if (r < 0)
                on_saved(s, r);
}

static void save_selected(struct session *s)
{
        struct target *target = &s->targets[s->target];

        s->save_size = target->partition.limit - target->partition.start;
        s->save_buffer = malloc(s->save_size);
        if (!s->save_buffer) {
                on_saved(s, -ENOMEM);
                return;
        }
        s->bytes_done = 0;
        s->bytes_total = s->save_size;
        s->on_chunk = save_chunk;
        session_begin_read(s, target, 0, s->save_size);
        session_run(s, save_was_read);
}

/* A whole known firmware of the DFU bootloader's generation (dfu.md A.1) runs under any DFU bootloader of its board. */
static bool head_fits(const struct target *target)
{
        const struct survey_candidate *found = survey_found(&target->survey);
        const struct firmware_record *record = found && found->match == SURVEY_WHOLE ? target->records[found->tag] : NULL;

        return record && version_compare(record->version, FIRST_DFU_GENERATION) >= 0;
}

static bool needs_saving(const struct session *s, const struct target *target)
{
        if (target->partition.role == PARTITION_BOOTLOADER && was_begun_before(s, target))
                return false;
        return !target->saved && !target->not_ours && survey_content(&target->survey) == CONTENT_UNKNOWN &&
               (target->partition.role == PARTITION_FIRMWARE || target->partition.role == PARTITION_BOOTLOADER) &&
               (target->head_only ? !head_fits(target) : survey_count_differing(&target->survey) > 0);
}

static void save_next(struct session *s)
{
        s->step = SESSION_SAVING;
        s->events->on_progress(s->userdata);
        for (s->target = 0; s->target < s->n_targets; s->target++) {
                struct target *target = &s->targets[s->target];

                if (!needs_saving(s, target))
                        continue;
                if (is_torn_write(s, target)) {
                        target->saved = true;   /* ours is no loss */
                        continue;
                }
                if (!session_in_rom(s) && s->dfu.alt != target->alt) {
                        dfu_begin_select(&s->dfu, target->alt);
                        session_run(s, save_selected);
                } else
                        save_selected(s);
                return;
        }
        session_decide(s);
}

/* --- the verdict --- */

static bool anything_differs(const struct session *s)
{
        for (size_t t = 0; t < s->n_targets; t++) {
                if (survey_count_differing(&s->targets[t].survey) > 0)
                        return true;
        }
        return false;
}

/* Row 5: what else stands in its flash fits the bootloader being restored: that is the one that the camera had, or the firmware
 * is known to be of that generation. */
static bool firmware_fits(const struct session *s, const struct target *target)
{
        if (target->wanted_blob && digest_equal(&s->wish.known_bootloader, &target->wanted_blob->digest))
                return true;
        return s->head_added && head_fits(&s->targets[s->n_targets - 1]);
}

/* Row 6: an image is wanted, and this camera's bootloader has no such partition: half of what was asked for is not "done". */
static void miss_partitions(const struct session *s, struct verdict_evidence *evidence)
{
        for (size_t i = 0; i < s->decision.n_images; i++) {
                const char *name = s->decision.images[i].partition;
                const struct partition *known = layout_partition(&s->board->layouts[0], name, NULL);

                if (session_in_rom(s) || !s->layout || layout_partition(s->layout, name, NULL) ||
                    (known && known->role == PARTITION_BOOTLOADER) || evidence->n_targets == VERDICT_TARGETS_MAX)
                        continue;
                evidence->targets[evidence->n_targets++] = (struct verdict_target){
                        .role = PARTITION_FORBIDDEN, .forbidden = true, .content = CONTENT_BLANK, .fits_bootloader = true,
                };
        }
}

static bool is_ours(const struct session *s, const struct firmware_record *record)
{
        return !record || strcmp(record->board, s->board->id) == 0 ||
               store_by_digest(s->context.store, &record->digest, s->board->id);
}

/* What stands there is, whole or as far as it was written, an image that another board carries and this one does not. */
static bool is_of_another_board(const struct session *s, const struct target *target)
{
        bool others = false;

        for (size_t i = 0; i < target->survey.n_candidates; i++) {
                const struct survey_candidate *c = &target->survey.candidates[i];

                if (c->match != SURVEY_WHOLE && c->match != SURVEY_INTERRUPTED)
                        continue;
                if (is_ours(s, target->records[c->tag]))
                        return false;
                others = true;
        }
        return others;
}

static bool flash_contradicts(const struct session *s)
{
        for (size_t t = 0; session_in_rom(s) && t < s->n_targets; t++)
                if (is_of_another_board(s, &s->targets[t]))
                        return true;
        return false;
}

static void gather_evidence(struct session *s, struct verdict_evidence *evidence, bool as_if_saved)
{
        const struct session_wish *wish = &s->wish;

        *evidence = (struct verdict_evidence){
                .wish = wish->wish,
                .mode = s->mode,
                .automatic = wish->automatic,
                .inhibited = wish->inhibited || s->stopping,
                .board_known = s->board != NULL,
                .board_contradicted = wish->contradicted || (!session_in_rom(s) && !s->layout) || flash_contradicts(s),
                .proof = wish->proof,
                .serial_shared = wish->serial_shared,
                .word_is_stale = wish->word_is_stale,
                .older_than_ran = wish->last_ran[0] && s->decision.version[0] &&
                                  version_compare(s->decision.version, wish->last_ran) < 0,
                .word_romfs = wish->word_romfs,
                .word_filesystem = wish->word_filesystem,
                .word_replace = wish->word_replace,
                .begun_unattended = wish->begun_unattended,
                .silent = wish->silent,
                /* As long as the firmware was not looked at, what would be if its head needed no erasing. */
                .firmware_head.content = CONTENT_BLANK,
        };

        for (size_t t = 0; t < s->n_targets; t++) {
                struct target *target = &s->targets[t];
                struct verdict_target *vt = &evidence->targets[evidence->n_targets];

                if (target->head_only) {        /* always the last */
                        evidence->firmware_head.content = survey_content(&target->survey);
                        evidence->firmware_head.needs_saving = !as_if_saved && needs_saving(s, target);
                        evidence->firmware_head.erases = s->events->get_wear(s->userdata, target->partition.name, 0);
                        break;
                }
                evidence->n_targets++;
                for (size_t u = 0; u < target->survey.n_units; u++)
                        target->units[u] = (struct verdict_unit){
                                .differs = target->survey.differs[u],
                                .erases = target->not_ours ? 0 :
                                          s->events->get_wear(s->userdata, target->partition.name, (unsigned)u),
                        };
                *vt = (struct verdict_target){
                        .role = target->partition.role,
                        .forbidden = target->partition.read_only && !session_in_rom(s),
                        .image_refused = target->fault != IMAGE_FINE,
                        .content = survey_content(&target->survey),
                        .needs_saving = !as_if_saved && needs_saving(s, target),
                        .fits_bootloader = target->partition.role != PARTITION_BOOTLOADER || firmware_fits(s, target),
                        .units = target->units,
                        .n_units = target->survey.n_units,
                };
        }
        miss_partitions(s, evidence);
}

/* Row 5: the verdict wants the firmware's first unit gone in this same ROM session. */
static void plan_erased_head(struct session *s)
{
        size_t t = s->n_targets - 1;

        if (!s->decision.verdict.erase_firmware_head || !s->head_added)
                return;
        s->decision.verdict.write[t][0] |= 1;
        s->targets[t].survey.differs[0] = true;
        s->units_total++;
}

static void carry_out(struct session *s)
{
        struct verdict *verdict = &s->decision.verdict;
        bool nothing_wanted = true;
        int r;

        for (size_t t = 0; t < s->n_targets; t++)
                if (s->targets[t].wanted)
                        nothing_wanted = false;

        if (verdict->kind != VERDICT_WRITE && nothing_wanted && s->n_targets > 0 &&
            (session_in_rom(s) ? content_is_incomplete(s->decision.content) : session_firmware_is_incomplete(s))) {
                (void)s->events->on_decided(s->userdata, &s->decision);
                session_end(s, SESSION_END_NO_FIRMWARE, MACHINE_OK, "nothing in the firmware store fits it");
                return;
        }

        r = s->events->on_decided(s->userdata, &s->decision);
        if (r < 0) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_OK, "nothing was written: %s", strerror(-r));
                return;
        }

        if (verdict->kind == VERDICT_WRITE) {
                plan_erased_head(s);
                session_commit(s);
                return;
        }
        if (session_in_rom(s)) {
                session_end(s, verdict->reason == REASON_SOUND_BOOTLOADER || verdict->reason == REASON_NOTHING_TO_DO
                            ? SESSION_END_SOUND_BOOTLOADER : SESSION_END_HELD,
                            MACHINE_OK, verdict_reason_text(verdict->reason));
                return;
        }
        if (verdict->reason == REASON_NOTHING_TO_DO) {
                /* An intact camera is left as it is also when another image was thought of: that one is not "done". */
                if (s->wish.wish == WISH_UNATTENDED || anything_differs(s))
                        session_leave(s, SESSION_END_RELEASED, "its firmware is whole: it is left as it is");
                else
                        session_updated(s, "nothing had to be written: every erase unit reads back equal");
                return;
        }
        if (session_firmware_is_incomplete(s)) {
                session_end(s, SESSION_END_HELD, MACHINE_OK, verdict_reason_text(verdict->reason));
                return;
        }
        session_leave(s, SESSION_END_RELEASED, verdict_reason_text(verdict->reason));
}

static void look_at_head(struct session *s)
{
        const struct layout *layout = &s->board->layouts[0];
        int r;

        s->head_added = true;
        for (size_t i = 0; i < layout->n_partitions; i++) {
                if (layout->partitions[i].role != PARTITION_FIRMWARE)
                        continue;
                s->target = s->n_targets;
                r = session_add_target(s, &layout->partitions[i], (uint8_t)i, NULL, NULL, 0);
                if (r < 0) {
                        session_end_with(s, SESSION_END_FAILED, MACHINE_OK, "cannot prepare the comparison: %s", strerror(-r));
                        return;
                }
                s->targets[s->target].head_only = true;
                s->step = SESSION_COMPARING;
                session_survey_next_target(s);
                return;
        }
        session_decide(s);
}

static void announce_verdict(struct session *s)
{
        for (size_t t = 0; t < s->n_targets; t++)
                s->units_total += (unsigned)survey_count_differing(&s->targets[t].survey);
        session_log(s, LOG_INFO, "verdict: %s (%s), content %s", verdict_kind_to_string(s->decision.verdict.kind),
                    verdict_reason_to_string(s->decision.verdict.reason), content_to_string(s->decision.content));
        carry_out(s);
}

static void give_verdict(struct session *s, bool as_if_saved)
{
        struct verdict_evidence evidence;

        gather_evidence(s, &evidence, as_if_saved);
        s->decision.verdict = verdict_give(&evidence);
}

/* Nothing is written, whatever the verdict would say. */
static void look_and_leave(struct session *s)
{
        if (!session_would_boot(s)) {
                session_end(s, SESSION_END_HELD, MACHINE_OK, "its firmware is incomplete");
                return;
        }
        give_verdict(s, /* as_if_saved= */ true);
        if (s->decision.verdict.kind != VERDICT_WRITE)
                (void)s->events->on_decided(s->userdata, &s->decision);
        session_leave(s, SESSION_END_RELEASED, "as somebody asked for it");
}

void session_decide(struct session *s)
{
        const struct target *head = NULL;

        s->surveyed = true;
        if (session_stops_here(s))
                return;
        s->decision.firmware_whole = !session_in_rom(s) && !session_firmware_is_incomplete(s);
        for (size_t t = 0; t < s->n_targets && !head; t++)
                if (s->targets[t].partition.role == (session_in_rom(s) ? PARTITION_BOOTLOADER : PARTITION_FIRMWARE))
                        head = &s->targets[t];
        if (head) {
                const struct survey_candidate *found = survey_found(&head->survey);

                s->decision.content = survey_content(&head->survey);
                s->decision.found = found && found->match == SURVEY_WHOLE ? head->records[found->tag] : NULL;
                if (!is_ours(s, s->decision.found))
                        s->decision.found = NULL;
        }

        if (s->wish.look_and_leave) {
                look_and_leave(s);
                return;
        }

        /* What would be, if everything unknown were saved: only then is it worth the time to save it (row 8). */
        give_verdict(s, /* as_if_saved= */ true);
        if (s->decision.verdict.kind == VERDICT_WRITE && session_in_rom(s) && !s->head_added &&
            !firmware_fits(s, &s->targets[0])) {
                look_at_head(s);
                return;
        }
        if (s->decision.verdict.kind == VERDICT_WRITE) {
                for (size_t t = 0; t < s->n_targets; t++)
                        if (needs_saving(s, &s->targets[t])) {
                                save_next(s);
                                return;
                        }
                give_verdict(s, /* as_if_saved= */ false);
        }
        announce_verdict(s);
}

/* What was written did not read back equal: ask again, for just those units. */
void session_decide_again(struct session *s)
{
        struct verdict_evidence evidence;

        session_correct_wear(s);
        if (++s->round >= WRITE_ROUNDS_MAX) {
                session_end(s, SESSION_END_FAILED, MACHINE_WRITE_REFUSED,
                            "what was written does not read back equal, even after writing it again: "
                            "the flash is worn out or not erased (dual-bank option bytes?)");
                return;
        }
        for (size_t t = 0; t < s->n_targets; t++) {
                for (size_t u = 0; u < s->targets[t].survey.n_units; u++)
                        s->targets[t].planned[u] = false;
                /* A window that another partition's may have closed is opened again. */
                survey_finish(&s->targets[t].survey);
        }
        gather_evidence(s, &evidence, /* as_if_saved= */ true);
        s->decision.verdict = verdict_give(&evidence);
        if (s->decision.verdict.kind != VERDICT_WRITE) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_WRITE_REFUSED, "%s",
                                 s->decision.verdict.reason == REASON_NOTHING_TO_DO
                                 ? "the firmware's first erase unit cannot be erased: it may not fit the bootloader that was restored"
                                 : verdict_reason_text(s->decision.verdict.reason));
                return;
        }
        session_commit(s);
}
