/* SPDX-License-Identifier: MIT */
/*
 * What stands in the flash: the partitions that a session looks at, the images that they are compared
 * with, and the comparison.
 */

#include "core/session-internal.h"

const uint8_t session_zeros[FILESYSTEM_ZEROS];

/* --- survey --- */

static void survey_go_on(struct session *s);

static void survey_chunk(struct session *s, const struct machine_chunk *chunk)
{
        struct target *target = &s->targets[s->target];

        s->bytes_done += chunk->size;
        if (!survey_feed(&target->survey, session_chunk_offset(s, target, chunk), chunk->data, (uint32_t)chunk->size))
                s->enough = true;
        s->events->on_progress(s->userdata);
}

static void survey_range_done(struct session *s)
{
        survey_go_on(s);
}

static void survey_selected(struct session *s)
{
        survey_go_on(s);
}

/* Of what is not our own half-done work reading is the only evidence. */
static void avoid_silence(struct session *s, struct target *target)
{
        const struct session_silence *silence = &s->wish.silence;

        if (!silence->known || !s->wish.begun || session_in_rom(s) || strcmp(silence->partition, target->partition.name) != 0 ||
            s->events->get_wear(s->userdata, target->partition.name, silence->unit) == 0)
                return;
        session_log(s, LOG_NOTICE, "erase unit %u of %s is half-written, and reading it silences the device: it is written without being read",
                    silence->unit, target->partition.name);
        survey_avoid(&target->survey, silence->unit);
}

void session_survey_next_target(struct session *s)
{
        for (; s->target < s->n_targets; s->target++) {
                struct target *target = &s->targets[s->target];

                s->asked_again = false;
                avoid_silence(s, target);
                if (session_in_rom(s))
                        survey_go_on(s);
                else {
                        dfu_begin_select(&s->dfu, target->alt);
                        session_run(s, survey_selected);
                }
                return;
        }
        s->on_chunk = NULL;
        session_decide(s);
}

/* From the beginning of what could not be read; the device is brought out of its error first. */
void session_survey_again(struct session *s)
{
        s->asked_again = true;
        s->on_chunk = NULL;
        if (session_in_rom(s))
                dfuse_begin_take(&s->dfuse);
        else
                dfu_begin_select(&s->dfu, s->targets[s->target].alt);
        session_run(s, survey_selected);
}

static void survey_go_on(struct session *s)
{
        struct target *target = &s->targets[s->target];
        uint32_t offset, size;

        if (session_stops_here(s))
                return;
        if (!target->survey.unreadable && survey_next(&target->survey, &offset, &size)) {
                s->on_chunk = survey_chunk;
                session_begin_read(s, target, offset, size);
                session_run(s, survey_range_done);
                return;
        }
        survey_finish(&target->survey);
        s->on_chunk = NULL;
        s->target++;
        session_survey_next_target(s);
}

/* One image may belong to several versions. */
static bool is_candidate(const struct target *target, const struct digest *digest)
{
        for (size_t i = 0; i < target->n_candidates; i++)
                if (digest_equal(&target->candidates[i]->digest, digest))
                        return true;
        return false;
}

/* In ROM DFU boards with one chip look alike: what others of them carry could stand there, too, and would speak against (row 1). */
static bool could_stand_here(const struct session *s, const struct firmware_record *record)
{
        const struct board *board;

        if (strcmp(record->board, s->board->id) == 0)
                return true;
        if (!session_in_rom(s))
                return false;
        board = board_by_id(s->context.boards, record->board);
        return board && board->chip == s->board->chip && board->rom_restore;
}

static void add_candidate(struct session *s, struct target *target, const struct firmware_record *record)
{
        struct blob *blob;

        if (target->n_candidates == SURVEY_CANDIDATES_MAX || strcmp(record->partition, target->partition.name) != 0 ||
            is_candidate(target, &record->digest) || store_blob(s->context.store, &record->digest, &blob) < 0)
                return;
        target->records[target->n_candidates] = record;
        survey_add_candidate(&target->survey, blob->data, (uint32_t)blob->size, (unsigned)target->n_candidates);
        target->candidates[target->n_candidates++] = blob;
}

/* Every known image that could stand there, so that what stands there can be named; this board's own first. */
static void add_candidates(struct session *s, struct target *target)
{
        struct store *store = s->context.store;

        for (size_t i = 0; i < store_count(store); i++)
                if (strcmp(store_nth(store, i)->board, s->board->id) == 0)
                        add_candidate(s, target, store_nth(store, i));
        for (size_t i = 0; target->n_candidates < SURVEY_CANDIDATES_MAX; i++) {
                const struct saved_record *saved = store_nth_saved(store, i);
                struct blob *blob;

                if (!saved)
                        break;
                if (strcmp(saved->camera, s->wish.camera) != 0 || strcmp(saved->partition, target->partition.name) != 0 ||
                    store_blob(store, &saved->digest, &blob) < 0)
                        continue;
                target->records[target->n_candidates] = NULL;
                survey_add_candidate(&target->survey, blob->data, (uint32_t)blob->size, (unsigned)target->n_candidates);
                target->candidates[target->n_candidates++] = blob;
        }
        for (size_t i = 0; i < store_count(store); i++)
                if (strcmp(store_nth(store, i)->board, s->board->id) != 0 && could_stand_here(s, store_nth(store, i)))
                        add_candidate(s, target, store_nth(store, i));
}

/* wanted_blob is taken over, also on failure. */
int session_add_target(struct session *s, const struct partition *partition, uint8_t alt, struct blob *wanted_blob,
                      const uint8_t *wanted, uint32_t wanted_size)
{
        struct target *target = &s->targets[s->n_targets];
        struct partition p = *partition;
        size_t n;
        int r;

        if (s->n_targets == SESSION_TARGETS_MAX) {
                blob_unref(wanted_blob);
                return -E2BIG;
        }
        *target = (struct target){
                .partition = p, .alt = alt, .wanted_blob = wanted_blob, .wanted = wanted, .wanted_size = wanted_size,
        };
        if (wanted_size > p.limit - p.start) {
                target->fault = IMAGE_TOO_LARGE;
                wanted_size = p.limit - p.start;
        } else if (wanted && wanted != session_zeros &&
                   (p.role == PARTITION_FIRMWARE || p.role == PARTITION_BOOTLOADER) && s->board->vector_table)
                target->fault = image_check_vectors(s->board, wanted, wanted_size, p.start);
        r = survey_init(&target->survey, s->board, &p, wanted, wanted_size);
        if (r < 0) {
                blob_unref(wanted_blob);
                return r;
        }
        n = target->survey.n_units ?: 1;
        target->units = calloc(n, sizeof(*target->units));
        target->planned = calloc(n, sizeof(bool));
        target->begun = calloc(n, sizeof(bool));
        s->n_targets++;
        if (!target->units || !target->planned || !target->begun)
                return -ENOMEM;
        if (p.role == PARTITION_FIRMWARE || p.role == PARTITION_BOOTLOADER)
                add_candidates(s, target);
        return 0;
}

int session_context_choose(const struct session_context *context, const struct board *board, const struct layout *layout,
                           const char *named, const char *last_ran, bool unattended, bool with_romfs, struct choice *ret)
{
        const char *pin = !named[0] && context->pin ? context->pin(context->pin_userdata, board->id) : NULL;

        if (pin && store_choose(context->store, board, layout, pin, "", /* unattended= */ false, with_romfs, ret) >= 0) {
                ret->reason = CHOICE_PINNED;
                snprintf(ret->text, sizeof(ret->text), "pinned by the administrator");
                return 0;
        }
        return store_choose(context->store, board, layout, named, last_ran, unattended, with_romfs, ret);
}

static const struct update_image_record *image_for(const struct session *s, const char *partition)
{
        for (size_t i = 0; i < s->decision.n_images; i++)
                if (strcmp(s->decision.images[i].partition, partition) == 0)
                        return &s->decision.images[i];
        return NULL;
}

static void choose_images(struct session *s)
{
        struct session_decision *d = &s->decision;
        struct choice choice;

        d->n_images = s->wish.n_images;
        memcpy(d->images, s->wish.images, sizeof(d->images));
        snprintf(d->version, sizeof(d->version), "%.*s", (int)sizeof(d->version) - 1, s->wish.named);
        if (session_in_rom(s) && !image_for(s, "BOOTLOADER")) {
                const struct firmware_record *bootloader = store_bootloader(s->context.store, s->board);

                if (bootloader && d->n_images < UPDATE_IMAGES_MAX) {
                        struct update_image_record *image = &d->images[d->n_images++];

                        snprintf(image->partition, sizeof(image->partition), "%s", bootloader->partition);
                        image->digest = bootloader->digest;
                        image->size = bootloader->size;
                }
        }
        if (s->wish.n_images > 0)
                return;
        if (session_context_choose(&s->context, s->board, s->layout, s->wish.named, s->wish.last_ran,
                                   s->wish.wish == WISH_UNATTENDED, s->wish.word_romfs, &choice) < 0)
                return;
        snprintf(d->reason, sizeof(d->reason), "%s", choice.text);
        for (size_t i = 0; i < choice.n_images && d->n_images < UPDATE_IMAGES_MAX; i++) {
                struct update_image_record *image = &d->images[d->n_images++];

                snprintf(image->partition, sizeof(image->partition), "%s", choice.images[i]->partition);
                image->digest = choice.images[i]->digest;
                image->size = choice.images[i]->size;
                snprintf(d->version, sizeof(d->version), "%s", choice.images[i]->version);
        }
}

static int add_partition_target(struct session *s, const struct partition *partition, uint8_t alt)
{
        const struct update_image_record *image = image_for(s, partition->name);
        struct blob *blob = NULL;
        int r;

        if (image) {
                r = store_blob(s->context.store, &image->digest, &blob);
                if (r < 0)
                        return r;
        }
        return session_add_target(s, partition, alt, blob, blob ? blob->data : NULL, blob ? (uint32_t)blob->size : 0);
}

static int make_targets(struct session *s)
{
        int r;

        choose_images(s);
        if (session_in_rom(s)) {
                const struct layout *layout = &s->board->layouts[0];

                for (size_t i = 0; i < layout->n_partitions; i++) {
                        const struct partition *p = &layout->partitions[i];

                        if (p->role == PARTITION_BOOTLOADER) {
                                r = add_partition_target(s, p, (uint8_t)i);
                                if (r < 0)
                                        return r;
                        }
                }
                return 0;
        }
        for (size_t i = 0; i < s->layout->n_partitions; i++) {
                const struct partition *p = &s->layout->partitions[i];

                if (p->role != PARTITION_FIRMWARE && !(image_for(s, p->name) && p->role != PARTITION_BOOTLOADER))
                        continue;
                r = add_partition_target(s, p, (uint8_t)i);
                if (r < 0)
                        return r;
        }
        if (s->wish.word_filesystem) {
                uint8_t alt;
                const struct partition *p = layout_partition(s->layout, s->board->filesystem_erase, &alt);

                if (p && !image_for(s, p->name)) {
                        r = session_add_target(s, p, alt, NULL, session_zeros, FILESYSTEM_ZEROS);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static void begin_survey(struct session *s)
{
        int r;

        r = make_targets(s);
        session_drop_fetched(s);
        if (r < 0) {
                session_end_with(s, SESSION_END_FAILED, MACHINE_OK, "cannot prepare the comparison: %s",
                                 r == -ENOENT ? "an image of the update is missing from the store" : strerror(-r));
                return;
        }
        s->step = SESSION_COMPARING;
        s->target = 0;
        s->bytes_done = 0;
        s->bytes_total = 0;
        for (size_t t = 0; t < s->n_targets; t++)
                s->bytes_total += s->targets[t].wanted ? s->targets[t].wanted_size
                                  : s->targets[t].partition.limit - s->targets[t].partition.start;
        s->events->on_progress(s->userdata);
        session_survey_next_target(s);
}

/* --- the images, read and checked on helper threads before they are needed --- */


static void on_fetched(void *userdata, struct blob *blob, int error)
{
        struct session *s = userdata;

        s->on_disk = false;
        /* One that cannot be read is missed when it is needed, or is a candidate less. */
        if (blob)
                s->fetched[s->n_fetched++] = blob;
        if (!session_stops_here(s))
                session_fetch_next(s);
}

static bool fetch(struct session *s, const struct digest *digest)
{
        s->on_disk = s->n_fetched < ELEMENTSOF(s->fetched) && store_fetch(s->context.store, digest, on_fetched, s) >= 0;
        return s->on_disk;
}

void session_fetch_next(struct session *s)
{
        struct store *store = s->context.store;
        const struct firmware_record *record;
        const struct saved_record *saved;

        while (s->fetch_image < s->wish.n_images)
                if (fetch(s, &s->wish.images[s->fetch_image++].digest))
                        return;
        while ((record = store_nth(store, s->fetch_firmware++)))
                if (could_stand_here(s, record) && fetch(s, &record->digest))
                        return;
        while ((saved = store_nth_saved(store, s->fetch_saved++)))
                if (strcmp(saved->camera, s->wish.camera) == 0 && fetch(s, &saved->digest))
                        return;
        begin_survey(s);
}
