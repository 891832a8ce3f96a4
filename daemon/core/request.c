/* SPDX-License-Identifier: MIT */
/*
 * What people ask of the registry: update, recover, restore, cancel.  A
 * request makes or changes an update; whether anything is written is the
 * verdict's to say, later, with the device at hand.
 */

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "core/caller.h"
#include "core/registry-internal.h"

#define RECENT_UPDATES_OF_ONE_MAX 200           /* of one camera, open or ended ten minutes ago at most */
#define RECENT_UPDATES_MAX       5000           /* of all */

static const char *const request_action_names[_REQUEST_ACTION_MAX] = {
        [REQUEST_UPDATE] = "update",
        [REQUEST_QUEUED] = "queued",
        [REQUEST_CURRENT] = "current",
        [REQUEST_SKIP] = "skip",
        [REQUEST_REFUSE] = "refuse",
};
DEFINE_ENUM_NAMES(request_action, _REQUEST_ACTION_MAX);

_printf_(3, 4)
static void answer(struct request_result *ret, enum request_action action, const char *format, ...)
{
        va_list ap;

        ret->action = action;
        va_start(ap, format);
        vsnprintf(ret->text, sizeof(ret->text), format, ap);
        va_end(ap);
        text_end_at_character(ret->text);       /* it may have words of the caller's in it */
}

_printf_(3, 4)
static void refuse(struct request_result *ret, enum request_refusal refusal, const char *format, ...)
{
        va_list ap;

        ret->action = REQUEST_REFUSE;
        ret->refusal = refusal;
        va_start(ap, format);
        vsnprintf(ret->text, sizeof(ret->text), format, ap);
        va_end(ap);
        text_end_at_character(ret->text);
}

/* The images of a request, and the version that they make. */
struct wanted {
        size_t n_images;
        struct update_image_record images[UPDATE_IMAGES_MAX];
        char version[32];
        char reason[96];
};

static void add_image(struct wanted *wanted, const char *partition, const struct digest *digest, uint32_t size)
{
        struct update_image_record *image;

        if (wanted->n_images == UPDATE_IMAGES_MAX)
                return;
        image = &wanted->images[wanted->n_images++];
        snprintf(image->partition, sizeof(image->partition), "%s", partition);
        image->digest = *digest;
        image->size = size;
}

static const struct layout *layout_of(const struct camera *camera)
{
        if (camera->record.layout < camera->board->n_layouts)
                return &camera->board->layouts[camera->record.layout];
        return NULL;
}

static bool find_by_id(struct registry *registry, const struct camera *camera, const char *id, struct wanted *ret)
{
        const struct firmware_record *record;
        struct digest digest;

        if (hex_decode(id, digest.bytes, DIGEST_SIZE) < 0)
                return false;
        record = store_by_digest(registry->context.store, &digest, camera->board->id);
        if (!record)
                return false;
        add_image(ret, record->partition, &record->digest, record->size);
        snprintf(ret->version, sizeof(ret->version), "%s", record->version);
        snprintf(ret->reason, sizeof(ret->reason), "named: %.64s", record->file[0] ? record->file : record->version);
        return true;
}

static bool find_firmware(struct registry *registry, const struct camera *camera, const struct request *request,
                          struct wanted *ret)
{
        struct choice choice;

        *ret = (struct wanted){};
        if (request->firmware && strncmp(request->firmware, "sha256:", 7) == 0)
                return find_by_id(registry, camera, request->firmware + 7, ret);
        /* What people ask for is the newest, unless they name something: "last ran" is for recovery. */
        if (session_context_choose(&registry->context, camera->board, layout_of(camera), request->firmware ?: "",
                                   request->wish == WISH_RECOVER ? camera->record.firmware_version : "",
                                   /* unattended= */ false, request->romfs, &choice) < 0)
                return false;
        for (size_t i = 0; i < choice.n_images; i++) {
                add_image(ret, choice.images[i]->partition, &choice.images[i]->digest, choice.images[i]->size);
                snprintf(ret->version, sizeof(ret->version), "%s", choice.images[i]->version);
        }
        snprintf(ret->reason, sizeof(ret->reason), "%s", choice.text);
        return true;
}

static const struct partition *partition_of(const struct camera *camera, const char *name)
{
        const struct layout *layout = layout_of(camera);
        const struct partition *partition = NULL;

        if (layout)
                return layout_partition(layout, name, NULL);
        for (size_t i = 0; i < camera->board->n_layouts && !partition; i++)
                partition = layout_partition(&camera->board->layouts[i], name, NULL);
        return partition;
}

/* The block of zeros that empties a file system, as the IDE sends it. */
static bool is_erased_filesystem(const struct camera *camera, const struct update_image_record *image)
{
        struct digest digest;

        digest_of(session_zeros, sizeof(session_zeros), &digest);
        return digest_equal(&digest, &image->digest) && strcmp(camera->board->filesystem_erase, image->partition) == 0;
}

/* What is known to come to nothing is refused at once; the verdict, with the device at hand, has the last word on all the rest. */
static bool may_be_written(const struct camera *camera, const struct request *request, const struct wanted *wanted,
                           struct request_result *ret)
{
        bool rom = request->wish == WISH_RECOVER && camera->attached && camera->mode == CAMERA_MODE_ROM_DFU;

        for (size_t i = 0; i < wanted->n_images; i++) {
                const struct update_image_record *image = &wanted->images[i];
                const struct partition *partition = partition_of(camera, image->partition);

                if (!partition)
                        refuse(ret, REFUSAL_IMAGE, "its bootloader has no partition %s", image->partition);
                else if (partition->role == PARTITION_FORBIDDEN)
                        refuse(ret, REFUSAL_IMAGE, "%s is never written here", image->partition);
                else if (partition->role == PARTITION_FILESYSTEM && (!request->erase_filesystem || !is_erased_filesystem(camera, image)))
                        refuse(ret, REFUSAL_USERS_WORK, "%s holds the user's work: it is only emptied, with --erase-filesystem", image->partition);
                else if (partition->role == PARTITION_BOOTLOADER && !rom)
                        refuse(ret, REFUSAL_IMAGE, "a bootloader is restored through the chip's ROM only: 'camrescue recover' there");
                else if (partition->role == PARTITION_ROMFS && !request->romfs)
                        refuse(ret, REFUSAL_USERS_WORK, "%s holds the user's work: it is written only with --romfs", image->partition);
                else if (layout_of(camera) && image->size > partition->limit - partition->start)
                        refuse(ret, REFUSAL_IMAGE, "too-large: %u bytes, and the %s which its bootloader has is of %u",
                               image->size, image->partition, partition->limit - partition->start);
                else
                        continue;
                return false;
        }
        return true;
}

static bool runs_already(const struct camera *camera, const struct wanted *wanted)
{
        for (size_t i = 0; i < wanted->n_images; i++)
                if (digest_equal(&wanted->images[i].digest, &camera->record.firmware))
                        return true;
        return false;
}

static bool firmware_is_known(const struct camera *camera)
{
        return !bytes_all(camera->record.firmware.bytes, DIGEST_SIZE, 0);
}

/* An update that is open already gives way to a person's new wish, unless it is being written this moment. */
static bool may_supersede(const struct camera *camera, struct request_result *ret)
{
        if (!update_is_open(camera->update) || !camera_state_has_session(camera->state))
                return true;
        ret->update = camera->update;
        refuse(ret, REFUSAL_UPDATE_OPEN, "update %s is being carried out: wait for its end, or cancel it", camera->update->record.id);
        return false;
}

static struct update *superseded_by(const struct update *update)
{
        return update->supersedes[0] ? registry_update_by_id(update->camera->registry, update->supersedes) : NULL;
}

/* This one; or, of those whose place it was to take, the one that is open: what came between them could not be kept. */
static struct update *still_open(struct update *update)
{
        while (update && !update_is_open(update))
                update = superseded_by(update);
        return update;
}

void camera_take_up_superseded(struct camera *camera)
{
        struct update *update = camera->update, *old;

        if (!update || update_is_open(update) || !update->not_kept)
                return;
        update->not_kept = false;
        old = still_open(update);
        if (!old)
                return;
        if (update->result == UPDATE_DONE || update->result == UPDATE_NOT_SEEN) {
                camera_end_superseded(camera, old);     /* it did not need the disk */
                return;
        }
        log_about(LOG_NOTICE, (&(struct log_subject){ .camera = camera->record.key, .port = camera->record.port, .update = old->record.id }),
                  "%s: update %s goes on: what was to take its place could not be remembered", camera->record.port, old->record.id);
        camera->update = old;
        registry_camera_changed(camera->registry, camera);
        camera_event(camera, EVENT_REQUESTED);
        caller_consider(camera);
}

/* By what was said before, as long as this attachment lasts, and of the board that was named then. */
static void take_back_word(struct camera *camera, const struct update *update)
{
        const struct update *old = still_open(superseded_by(update));

        if (camera->update != update || !camera->word.given)
                return;
        camera->word = old ? old->word : (struct user_word){};
        if (camera->word.given)
                camera_set_board(camera, camera->word.board);
}

/* What is on the disk takes the place of what was; of what is not there nothing would be left when the daemon is gone, and so it is not done.
 * (Nothing was written for it: that waits for the disk, too.) */
static void on_kept(void *userdata, int error)
{
        struct update *update = userdata, *old;
        struct camera *camera = update->camera;

        update->being_kept = false;
        if (!camera)            /* forgotten, with all that was wanted for it */
                return;
        if (error >= 0) {
                old = still_open(superseded_by(update));
                if (old)
                        camera_end_superseded(camera, old);
                return;
        }
        update->not_kept = true;
        take_back_word(camera, update);
        if (update_is_open(update))
                (void)registry_cancel(camera->registry, update);
        camera_take_up_superseded(camera);
}

static void keep(struct update *update)
{
        int r = journal_sync(update->journal, on_kept, update);

        update->being_kept = r >= 0;
        if (r < 0)
                on_kept(update, r);
}

/* Every update is readable for ten minutes after its end: who asks for one after the other would fill the memory with them. */
static bool is_too_much(struct registry *registry, const struct camera *camera, struct request_result *ret)
{
        uint64_t now = loop_now(registry->context.loop);
        const struct update *update;
        size_t n = 0, of_camera = 0;

        TAILQ_FOREACH(update, &registry->updates, link) {
                if (!update_is_recent(update, now))
                        continue;
                n++;
                of_camera += update->camera == camera;
        }
        if (of_camera < RECENT_UPDATES_OF_ONE_MAX && n < RECENT_UPDATES_MAX)
                return false;
        refuse(ret, REFUSAL_LIMIT, "%s in the last ten minutes: ask again later",
               of_camera < RECENT_UPDATES_OF_ONE_MAX ? "too many updates were asked for" : "too many updates of it were asked for");
        return true;
}

static void begin(struct registry *registry, struct camera *camera, const struct request *request,
                  const struct wanted *wanted, struct request_result *ret)
{
        bool runs = camera->attached && camera->mode == CAMERA_MODE_RUNTIME;
        const struct inhibitor *inhibitor = camera_inhibitor(camera);
        struct update *update, *old;
        int r;

        snprintf(ret->version, sizeof(ret->version), "%s", wanted->version);
        if (inhibitor)
                answer(ret, REQUEST_QUEUED, "held back by %s: begins when that lets go%s", inhibitor_who(inhibitor),
                       camera->attached ? "" : ", and it is plugged in");
        else if (runs && caller_may_call(camera))
                answer(ret, REQUEST_UPDATE, "it is running: it is told to restart into its bootloader");
        else if (camera->attached && !runs)
                answer(ret, REQUEST_UPDATE, "%s begins", wish_to_string(request->wish));
        else if (camera->attached)
                answer(ret, REQUEST_QUEUED, "it is running: waiting for a replug. Unplug it and plug it in again");
        else
                answer(ret, REQUEST_QUEUED, "it is not attached: begins when it is plugged in");
        if (request->dry_run)
                return;
        if (!journal_writable(registry->context.journal)) {
                refuse(ret, REFUSAL_NOT_SAVED, "the state directory cannot be written to: an update that cannot be remembered "
                       "is not begun");
                /* Who asks again after it was mended is told otherwise. */
                (void)journal_sync(registry->context.journal, NULL, NULL);
                return;
        }

        if (is_too_much(registry, camera, ret))
                return;
        old = still_open(camera->update);
        r = registry_new_update(registry, camera, request->wish, &update);
        if (r < 0) {
                refuse(ret, REFUSAL_FAILED, "%s", strerror(-r));
                return;
        }
        if (old)
                snprintf(update->supersedes, sizeof(update->supersedes), "%s", old->record.id);
        update->record.n_images = wanted->n_images;
        memcpy(update->record.images, wanted->images, sizeof(update->record.images));
        snprintf(update->record.version, sizeof(update->record.version), "%s", wanted->version);
        snprintf(update->record.reason, sizeof(update->record.reason), "%s", wanted->reason);
        update->record.stay = request->stay;
        update->record.bootloader_only = wanted->n_images == 1 && strcmp(wanted->images[0].partition, "BOOTLOADER") == 0;
        update->word = camera->word;
        update->record.word_romfs = request->romfs;
        update->record.word_filesystem = request->erase_filesystem;
        /* Who names one camera means it, whatever stands in it; a whole fleet needs the word. */
        update->record.word_replace = request->replace_unknown || (request->wish != WISH_RECOVER && !request->all);
        camera->tries = camera->failures = camera->calls = 0;
        camera->trouble = CALL_FINE;            /* who asks again means it: what stood in the way before is tried again */
        camera_store(camera);
        update_store(update);
        log_about(LOG_NOTICE, (&(struct log_subject){ .camera = camera->record.key, .port = camera->record.port,
                                                      .update = update->record.id }),
                  "update %s: %s to %s (%s)", update->record.id, update->record.wish,
                  wanted->version[0] ? wanted->version : "what fits", wanted->reason);
        ret->update = update;
        hold_superseded(camera);
        registry_announce_update(registry, update);
        camera_event(camera, EVENT_REQUESTED);
        caller_consider(camera);
        keep(update);
}

bool registry_handles(const struct camera *camera, struct request_result *ret)
{
        if (camera->mode == CAMERA_MODE_UNREADABLE)
                refuse(ret, REFUSAL_NOT_HANDLED, "it does not answer, and no software can reach it: try another cable and port");
        else if (!camera->board)
                refuse(ret, REFUSAL_BOARD, "its board is not known: say it with 'camrescue recover %s --board BOARD'",
                       camera_name(camera));
        else if (camera->board->support != BOARD_DFU)
                refuse(ret, REFUSAL_NOT_HANDLED, "an %s is recognised, but not handled: use its own tools", camera->board->name);
        else if (camera->old_bootloader)
                refuse(ret, REFUSAL_NOT_HANDLED, "it has the old serial bootloader, which is not handled yet: use OpenMV IDE for this camera");
        else if (camera->attached && camera->state == CAMERA_LEFT_ALONE)
                refuse(ret, REFUSAL_NOT_HANDLED, "it is in a mode that is not handled");
        else
                return true;
        return false;
}

static void no_firmware(const struct camera *camera, const struct request *request, struct request_result *ret)
{
        const struct layout *layout = layout_of(camera);
        bool has_romfs = !layout;

        for (size_t i = 0; layout && i < layout->n_partitions; i++)
                has_romfs = has_romfs || layout->partitions[i].role == PARTITION_ROMFS;
        if (request->romfs && !has_romfs)
                refuse(ret, REFUSAL_NO_FIRMWARE, "its bootloader is an old one, without a partition for a ROM file system");
        else if (request->firmware && request->firmware[0])
                refuse(ret, REFUSAL_NO_FIRMWARE, "no firmware %s for an %s in the store: camrescue firmware list",
                       request->firmware, camera->board->name);
        else
                refuse(ret, REFUSAL_NO_FIRMWARE, "no firmware for an %s in the store: camrescue firmware import FILE|DIR|ZIP",
                       camera->board->name);
}

static void request_update(struct registry *registry, struct camera *camera, const struct request *request,
                           struct request_result *ret)
{
        const struct partition *filesystem;
        struct wanted wanted;

        if (!registry_handles(camera, ret))
                return;
        if (camera->state == CAMERA_UNPROVEN || (camera->provisional && camera->mode == CAMERA_MODE_ROM_DFU)) {
                refuse(ret, REFUSAL_NOT_PROVEN, "it is not proven to be a camera: 'camrescue recover %s --board BOARD' first",
                       camera_name(camera));
                return;
        }
        if (!camera->has_uid && camera->board->chip == CHIP_ALIF) {
                /* Nothing that it shows now will prove in its bootloader that it is the camera meant. */
                refuse(ret, REFUSAL_NOT_PROVEN, "its bootloader was not seen yet, and its serial there is another one: unplug it, plug it in "
                       "again, and ask once more");
                return;
        }
        if (!find_firmware(registry, camera, request, &wanted)) {
                no_firmware(camera, request, ret);
                return;
        }
        filesystem = partition_of(camera, camera->board->filesystem_erase);
        if (request->erase_filesystem && (!filesystem || filesystem->role == PARTITION_FORBIDDEN)) {
                refuse(ret, REFUSAL_USERS_WORK, "the file system of an %s lies in a chip that is never written here: format it from "
                       "the camera's own script", camera->board->name);
                return;
        }
        if (!may_be_written(camera, request, &wanted, ret))
                return;
        snprintf(ret->version, sizeof(ret->version), "%s", wanted.version);
        if (!request->romfs && !request->erase_filesystem && runs_already(camera, &wanted) &&
            (camera->state == CAMERA_RUNNING || camera->state == CAMERA_ABSENT)) {
                answer(ret, REQUEST_CURRENT, "has %s already", wanted.version[0] ? wanted.version : "it");
                return;
        }
        if (request->all && !firmware_is_known(camera) && !request->replace_unknown) {
                answer(ret, REQUEST_SKIP, "what it runs is not known here: --replace-unknown updates it all the same");
                return;
        }
        if (request->all && !camera->attached) {
                answer(ret, REQUEST_SKIP, "not attached");
                return;
        }
        if (may_supersede(camera, ret))
                begin(registry, camera, request, &wanted, ret);
}

/* camera->board is what the user says it is; taken back if this comes to nothing. */
static void recover(struct registry *registry, struct camera *camera, const struct request *request, bool rom,
                    struct request_result *ret)
{
        struct wanted wanted = {};

        if (!registry_handles(camera, ret))
                return;
        if (rom) {
                /* Row 2: for this attachment.  The images are chosen when the flash has been read. */
                bool named = request->firmware && request->firmware[0];
                bool own = named && find_firmware(registry, camera, request, &wanted) && wanted.n_images == 1 &&
                           strcmp(wanted.images[0].partition, "BOOTLOADER") == 0;

                if (!own && !store_bootloader(registry->context.store, camera->board)) {
                        refuse(ret, REFUSAL_NO_FIRMWARE, "no bootloader for an %s in the store: camrescue firmware import FILE|DIR|ZIP",
                               camera->board->name);
                        return;
                }
                if (named && !own && camera->provisional) {
                        refuse(ret, REFUSAL_NOT_PROVEN, "only its bootloader can be restored now: name the firmware when that is back, "
                               "'camrescue update'");
                        return;
                }
        }
        if (!rom || (request->firmware && request->firmware[0])) {
                if (!find_firmware(registry, camera, request, &wanted)) {
                        no_firmware(camera, request, ret);
                        return;
                }
                if (!may_be_written(camera, request, &wanted, ret))
                        return;
        }
        if (!may_supersede(camera, ret))
                return;
        camera->word = (struct user_word){
                .given = rom,
                .replace = request->replace_unknown,
                .board = camera->board,
                .said_at = request->said_at ?: registry->last_attachment,
        };
        begin(registry, camera, request, &wanted, ret);
}

static void request_recover(struct registry *registry, struct camera *camera, const struct request *request,
                            struct request_result *ret)
{
        const struct board *board = camera->board, *before = board;
        bool rom = camera->attached && camera->mode == CAMERA_MODE_ROM_DFU;
        const struct user_word word = camera->word;

        if (request->board) {
                board = board_by_any_name(registry->context.boards, request->board);
                if (!board) {
                        refuse(ret, REFUSAL_BOARD, "\"%s\" names no board, or several: M4, M7, H7, \"H7 Plus\", ...",
                               request->board);
                        return;
                }
                if (camera->board && board != camera->board && !(rom && camera->provisional)) {
                        refuse(ret, REFUSAL_BOARD, "it is an %s, not an %s", camera->board->name, board->name);
                        return;
                }
        }
        if (rom && camera->provisional && !request->board) {
                refuse(ret, REFUSAL_NOT_PROVEN, "in ROM DFU mode every STM32 looks alike: say which board it is, "
                       "'camrescue recover %s --board M7'", camera_name(camera));
                return;
        }
        if (!board) {
                (void)registry_handles(camera, ret);
                return;
        }
        if (rom && !board->rom_restore) {
                refuse(ret, REFUSAL_NOT_HANDLED, "an %s cannot be restored through its ROM: use the chip maker's programmer",
                       board->name);
                return;
        }
        if (camera->attached && camera->mode == CAMERA_MODE_RUNTIME) {
                refuse(ret, REFUSAL_NOTHING_TO_DO, "it is running: to replace its firmware use 'camrescue update %s'",
                       camera_name(camera));
                return;
        }
        camera_set_board(camera, board);
        recover(registry, camera, request, rom, ret);
        if (request->dry_run || ret->action == REQUEST_REFUSE) {
                /* What was said before still holds, and may be carried out this moment. */
                camera_set_board(camera, before);
                camera->word = word;
        }
}

static void request_restore(struct registry *registry, struct camera *camera, const struct request *request,
                            struct request_result *ret)
{
        static const char *const partitions[] = { "FIRMWARE", "HP", "HE" };
        struct wanted wanted = { .version = "saved", .reason = "what was saved before it was overwritten" };

        if (!registry_handles(camera, ret))
                return;
        for (size_t i = 0; i < ELEMENTSOF(partitions); i++) {
                const struct saved_record *saved = store_saved(registry->context.store, camera->record.key, partitions[i]);

                if (saved)
                        add_image(&wanted, partitions[i], &saved->digest, saved->size);
        }
        if (wanted.n_images == 0) {
                refuse(ret, REFUSAL_NOTHING_TO_DO, "nothing was saved from it");
                return;
        }
        if (may_supersede(camera, ret))
                begin(registry, camera, request, &wanted, ret);
}

bool registry_was_meant(const struct camera *camera, uint64_t said_at, struct request_result *ret)
{
        if (!camera->provisional || said_at == 0 || camera->attachment <= said_at)
                return true;
        refuse(ret, REFUSAL_NOT_PROVEN, "what is at %s now was plugged in after that was said, and may be another device: look, and say it again",
               camera->sighting.port);
        return false;
}

void registry_request(struct registry *registry, struct camera *camera, const struct request *request,
                      struct request_result *ret)
{
        *ret = (struct request_result){ .action = REQUEST_REFUSE, .refusal = REFUSAL_FAILED };
        if (!registry_was_meant(camera, request->said_at, ret))
                return;
        switch (request->wish) {
        case WISH_UPDATE:
                request_update(registry, camera, request, ret);
                break;
        case WISH_RECOVER:
                request_recover(registry, camera, request, ret);
                break;
        case WISH_RESTORE:
                request_restore(registry, camera, request, ret);
                break;
        case WISH_UNATTENDED:
        case WISH_RESUME:
        case _WISH_MAX:
                refuse(ret, REFUSAL_FAILED, "not a person's wish");
                break;
        }
}

/* What was wanted stands in its record; whether its images are still there does not. */
static bool find_images_again(struct registry *registry, const struct camera *camera, struct wanted *ret)
{
        const struct update_record *record = &camera->update->record;

        *ret = (struct wanted){};
        for (size_t i = 0; i < record->n_images; i++) {
                const struct update_image_record *image = &record->images[i];
                bool kept = store_by_digest(registry->context.store, &image->digest, camera->board->id);
                const struct saved_record *saved;

                for (size_t n = 0; !kept && (saved = store_nth_saved(registry->context.store, n)); n++)
                        kept = digest_equal(&saved->digest, &image->digest) && strcmp(saved->camera, camera->record.key) == 0;
                if (!kept)
                        return false;
                /* A bootloader goes with ROM DFU, and is chosen there. */
                if (strcmp(image->partition, "BOOTLOADER") != 0)
                        add_image(ret, image->partition, &image->digest, image->size);
        }
        snprintf(ret->version, sizeof(ret->version), "%s", record->version);
        snprintf(ret->reason, sizeof(ret->reason), "as in %s", record->id);
        return true;
}

void registry_retry(struct registry *registry, struct camera *camera, struct request_result *ret)
{
        const struct update *last = camera->update;
        struct request request = { .wish = WISH_UPDATE };
        char bootloader[7 + DIGEST_HEX_SIZE] = "sha256:";
        struct wanted wanted;
        int wish;

        *ret = (struct request_result){ .action = REQUEST_REFUSE, .refusal = REFUSAL_FAILED };
        if (!last) {
                refuse(ret, REFUSAL_NOTHING_TO_DO, "there was no update of it");
                return;
        }
        if (update_is_open(last) || last->result == UPDATE_DONE) {
                refuse(ret, update_is_open(last) ? REFUSAL_UPDATE_OPEN : REFUSAL_NOTHING_TO_DO, update_is_open(last) ? "update %s is open: it goes on by itself" :
                       "update %s was done: to write again, use 'camrescue update'", last->record.id);
                return;
        }
        if (!registry_handles(camera, ret))
                return;
        if (!find_images_again(registry, camera, &wanted)) {
                refuse(ret, REFUSAL_NO_FIRMWARE, "an image of update %s is not in the store any more: import it, or use 'camrescue update'",
                       last->record.id);
                return;
        }
        request.stay = last->record.stay;
        if (last->record.bootloader_only) {
                digest_to_hex(&last->record.images[0].digest, bootloader + 7);
                request.firmware = bootloader;
        }
        wish = wish_from_string(last->record.wish);
        if (wish != WISH_UPDATE && wish != WISH_RESTORE)
                /* What nobody asked for is asked for now, and what a word began in ROM DFU takes a new word there. */
                request.wish = WISH_RECOVER;
        else
                request.wish = (enum wish)wish;
        if (request.wish == WISH_RECOVER &&
            (wanted.n_images == 0 || (camera->attached && (camera->mode == CAMERA_MODE_ROM_DFU || camera->state == CAMERA_RUNNING)))) {
                request_recover(registry, camera, &request, ret);
                return;
        }
        request.romfs = last->record.word_romfs;
        request.erase_filesystem = last->record.word_filesystem;
        request.replace_unknown = last->record.word_replace;
        if (may_be_written(camera, &request, &wanted, ret))
                begin(registry, camera, &request, &wanted, ret);
}

int registry_cancel(struct registry *registry, struct update *update)
{
        struct camera *camera = update->camera;

        if (!update_is_open(update))
                return -EALREADY;
        if (camera && camera->update == update && camera->session && session_step(camera->session) != SESSION_ENDED) {
                update->cancelling = true;      /* at the next safe boundary */
                session_stop(camera->session, /* release= */ false);
                return 0;
        }
        if (camera && camera->update == update) {
                camera_end_update(camera, UPDATE_CANCELLED, "cancelled", "cancelled");
                if (!camera->record.suspect)
                        camera_event(camera, EVENT_FINISHED);
                camera_send_back(camera);
                registry_camera_changed(registry, camera);
                return 0;
        }
        update_end(update, UPDATE_CANCELLED, "cancelled", "cancelled", loop_wall_clock(registry->context.loop), loop_now(registry->context.loop));
        registry_update_changed(registry, update);
        return 0;
}
