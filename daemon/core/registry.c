/* SPDX-License-Identifier: MIT */
/*
 * The registry: see registry.h.  Sightings are matched to cameras here
 * (identity.h says how), people's wishes are in request.c.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/caller.h"
#include "core/registry-internal.h"

#define IDENTITYLESS_DEADLINE (60 * SEC)        /* a camera that left a port may come back there without identity (identity.md section 2) */
#define SERIAL_BOOT_DEADLINE  (10 * SEC)        /* serial bootloader -> runtime */
#define EXPECT_DEADLINE       (600 * SEC)       /* a restored camera is awaited on its port */
#define ENDED_UPDATES_MAX     50

/* What an open update will write is kept, whatever people remove. */
static bool is_blob_in_use(void *userdata, const struct digest *digest)
{
        struct registry *registry = userdata;
        const struct update *update;

        TAILQ_FOREACH(update, &registry->updates, link)
                for (size_t i = 0; update_is_open(update) && i < update->record.n_images; i++)
                        if (digest_equal(&update->record.images[i].digest, digest))
                                return true;
        return false;
}

static bool is_camera_in_use(void *userdata, const char *key)
{
        struct registry *registry = userdata;
        const struct camera *camera = registry_camera_by_key(registry, key);

        return camera && update_is_open(camera->update);
}

static void on_evicted(void *userdata, const char *key)
{
        struct registry *registry = userdata;
        struct camera *camera = registry_camera_by_key(registry, key);

        if (camera)
                registry_camera_changed(registry, camera);
}

/* The database was begun anew: what is in memory is all there is. */
static void on_journal_reset(void *userdata)
{
        struct registry *registry = userdata;
        struct camera *camera;
        struct update *update;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (camera->stored)
                        camera_store(camera);
        TAILQ_FOREACH(update, &registry->updates, link)
                update_store_all(update);
}

/* Whoever was not called because what is wanted could not be written down. */
static void on_journal_writable(void *userdata)
{
        struct registry *registry = userdata;
        struct camera *camera;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (update_is_open(camera->update))
                        caller_consider(camera);
}

int registry_new(const struct session_context *context, const struct registry_settings *settings, struct registry **ret)
{
        struct registry *registry = calloc(1, sizeof(*registry));

        if (!registry)
                return -ENOMEM;
        registry->context = *context;
        registry->context.hurry_until = &registry->hurry_until;
        registry->settings = *settings;
        registry->last_attachment = 1;
        registry->next_update = journal_last_update_number(context->journal) + 1;
        TAILQ_INIT(&registry->cameras);
        TAILQ_INIT(&registry->updates);
        registry_inhibitors_init(registry);
        registry->watch = (struct journal_watch){ .on_reset = on_journal_reset, .on_writable = on_journal_writable, .userdata = registry };
        if (caller_new(registry, &registry->caller) < 0) {
                free(registry);
                return -ENOMEM;
        }
        journal_watch(context->journal, &registry->watch);
        store_set_blob_in_use(context->store, is_blob_in_use, registry);
        store_set_camera_in_use(context->store, is_camera_in_use, registry);
        store_on_evicted(context->store, on_evicted, registry);
        *ret = registry;
        return 0;
}

struct registry *registry_free(struct registry *registry)
{
        struct camera *camera;
        struct update *update;

        if (!registry)
                return NULL;
        registry->n_observers = 0;
        registry->caller = caller_free(registry->caller);
        registry_inhibitors_deinit(registry);
        journal_unwatch(&registry->watch);
        store_set_blob_in_use(registry->context.store, NULL, NULL);
        store_set_camera_in_use(registry->context.store, NULL, NULL);
        store_on_evicted(registry->context.store, NULL, NULL);
        while ((camera = TAILQ_FIRST(&registry->cameras))) {
                TAILQ_REMOVE(&registry->cameras, camera, link);
                camera_free(camera);
        }
        while ((update = TAILQ_FIRST(&registry->updates))) {
                TAILQ_REMOVE(&registry->updates, update, link);
                update_free(update);
        }
        free(registry);
        return NULL;
}

int registry_observe(struct registry *registry, const struct registry_observer *observer, void *userdata)
{
        if (registry->n_observers == REGISTRY_OBSERVERS_MAX)
                return -ENOSPC;
        registry->observers[registry->n_observers].observer = observer;
        registry->observers[registry->n_observers++].userdata = userdata;
        return 0;
}

void registry_unobserve(struct registry *registry, const struct registry_observer *observer)
{
        for (size_t i = 0; i < registry->n_observers; i++)
                if (registry->observers[i].observer == observer) {
                        registry->observers[i] = registry->observers[--registry->n_observers];
                        return;
                }
}

const struct session_context *registry_context(const struct registry *registry)
{
        return &registry->context;
}

const struct registry_settings *registry_settings(const struct registry *registry)
{
        return &registry->settings;
}

struct caller *registry_caller(const struct registry *registry)
{
        return registry->caller;
}

bool registry_automatic(const struct registry *registry)
{
        return registry->settings.automatic;
}

/* --- lists --- */

struct camera *registry_first_camera(struct registry *registry)
{
        return TAILQ_FIRST(&registry->cameras);
}

struct camera *registry_next_camera(struct camera *camera)
{
        return TAILQ_NEXT(camera, link);
}

struct update *registry_first_update(struct registry *registry)
{
        return TAILQ_FIRST(&registry->updates);
}

struct update *registry_next_update(struct update *update)
{
        return TAILQ_NEXT(update, link);
}

struct camera *registry_camera_by_key(struct registry *registry, const char *key)
{
        struct camera *camera;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (strcmp(camera->record.key, key) == 0)
                        return camera;
        return NULL;
}

struct update *registry_update_by_id(struct registry *registry, const char *id)
{
        struct update *update;

        TAILQ_FOREACH(update, &registry->updates, link)
                if (strcmp(update->record.id, id) == 0)
                        return update;
        return NULL;
}

size_t registry_attached(const struct registry *registry)
{
        const struct camera *camera;
        size_t n = 0;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                n += camera->attached;
        return n;
}

uint64_t registry_last_attachment(const struct registry *registry)
{
        return registry->last_attachment;
}

size_t registry_working(const struct registry *registry)
{
        const struct camera *camera;
        size_t n = 0;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                n += camera_state_has_session(camera->state);
        return n;
}

size_t registry_writing(const struct registry *registry, uint64_t less_than, uint64_t *ret_next)
{
        uint64_t now = loop_now(registry->context.loop), next = UINT64_MAX;
        const struct camera *camera;
        size_t n = 0;

        TAILQ_FOREACH(camera, &registry->cameras, link) {
                if (camera->state != CAMERA_UPDATING || camera->writing_since + less_than <= now)
                        continue;
                next = MIN(next, camera->writing_since + less_than);
                n++;
        }
        *ret_next = next;
        return n;
}

/* --- news --- */

#define TELL(registry, member, what)                                                                    \
        do {                                                                                            \
                for (size_t _i_ = 0; _i_ < (registry)->n_observers; _i_++)                              \
                        if ((registry)->observers[_i_].observer->member)                                \
                                (registry)->observers[_i_].observer->member((registry)->observers[_i_].userdata, (what)); \
        } while (0)

void registry_camera_changed(struct registry *registry, struct camera *camera)
{
        TELL(registry, on_camera_changed, camera);
}

void registry_update_changed(struct registry *registry, struct update *update)
{
        TELL(registry, on_update_changed, update);
}

void registry_inhibitors_changed(struct registry *registry)
{
        for (size_t i = 0; i < registry->n_observers; i++)
                if (registry->observers[i].observer->on_inhibitors_changed)
                        registry->observers[i].observer->on_inhibitors_changed(registry->observers[i].userdata);
}

static int add_camera(struct registry *registry, const char *key, struct camera **ret)
{
        int r = camera_new(registry, key, ret);

        if (r >= 0)
                TAILQ_INSERT_TAIL(&registry->cameras, *ret, link);
        return r;
}

static void announce_camera(struct registry *registry, struct camera *camera)
{
        TELL(registry, on_camera_added, camera);
}

static void withdraw_camera(struct registry *registry, struct camera *camera)
{
        TELL(registry, on_camera_removed, camera);
}

static void remove_camera(struct registry *registry, struct camera *camera)
{
        struct update *update;
        struct camera *other;

        withdraw_camera(registry, camera);
        TAILQ_FOREACH(update, &registry->updates, link)
                if (update->camera == camera) {
                        update->camera = NULL;
                        registry_update_changed(registry, update);
                }
        TAILQ_FOREACH(other, &registry->cameras, link)
                if (other->hinted_by_port == camera) {
                        other->hinted_by_port = NULL;
                        registry_camera_changed(registry, other);
                }
        if (camera->stored)
                (void)journal_delete_camera(registry->context.journal, camera->record.key);
        TAILQ_REMOVE(&registry->cameras, camera, link);
        camera_free(camera);
}

/* --- updates --- */

static void forget_old_updates(struct registry *registry)
{
        uint64_t now = loop_now(registry->context.loop);
        struct update *update, *next;
        size_t n = 0;

        for (update = TAILQ_FIRST(&registry->updates); update; update = next) {
                next = TAILQ_NEXT(update, link);
                if (update_is_open(update) || ++n <= ENDED_UPDATES_MAX || update_is_recent(update, now))
                        continue;
                if (update->camera && update->camera->update == update)
                        continue;
                TELL(registry, on_update_removed, update);
                TAILQ_REMOVE(&registry->updates, update, link);
                update_free(update);
        }
}

int registry_new_update(struct registry *registry, struct camera *camera, enum wish wish, struct update **ret)
{
        struct update *update;
        int r;

        forget_old_updates(registry);
        r = update_new(registry->context.journal, registry->next_update, camera->record.key, wish,
                       loop_wall_clock(registry->context.loop), &update);
        if (r < 0)
                return r;
        registry->next_update++;
        if (camera->update)
                update_take_over(update, camera->update, wish == WISH_UNATTENDED);
        update->camera = camera;
        camera->update = update;
        TAILQ_INSERT_HEAD(&registry->updates, update, link);
        *ret = update;
        return 0;
}

void registry_announce_update(struct registry *registry, struct update *update)
{
        TELL(registry, on_update_added, update);
        if (update->camera)
                registry_camera_changed(registry, update->camera);
}

/* --- memory --- */

static int load_camera(void *userdata, const struct camera_record *record)
{
        struct registry *registry = userdata;
        struct camera *camera;
        int r;

        r = add_camera(registry, record->key, &camera);
        if (r < 0)
                return r;
        camera->record = *record;
        camera->stored = true;
        camera->board = record->board[0] ? board_by_id(registry->context.boards, record->board) : NULL;
        snprintf(camera->sighting.port, sizeof(camera->sighting.port), "%s", record->port);
        snprintf(camera->sighting.serial, sizeof(camera->sighting.serial), "%.*s", SERIAL_MAX,
                 camera->has_uid ? record->key : record->runtime_serial);
        return 0;
}

/* A later one that was never begun, nor has taken over what was, could not be kept in its time: what stands there is the older one's half-done work. */
static bool has_left_more(const struct update *older, const struct update *later)
{
        return older->record.begun && !update_is_open(later) && !later->record.begun && later->record.attempts == 0;
}

static int load_update(void *userdata, const struct update_record *record)
{
        struct registry *registry = userdata;
        uint64_t wall = loop_wall_clock(registry->context.loop), now = loop_now(registry->context.loop);
        struct update *update;
        int r;

        r = update_new_from_record(registry->context.journal, record, wall, now, &update);
        if (r < 0)
                return r;
        TAILQ_INSERT_TAIL(&registry->updates, update, link);
        update->camera = registry_camera_by_key(registry, record->camera);
        if (update_is_open(update) && !update->camera) {
                update_end(update, UPDATE_FAILED, "camera-forgotten", "its camera is not known any more", wall, now);
                return 0;
        }
        /* Open ones come first, then the newest. */
        if (update->camera && (!update->camera->update || has_left_more(update, update->camera->update)))
                update->camera->update = update;
        else if (update_is_open(update))
                update_end(update, UPDATE_CANCELLED, "superseded", "another update was asked for", wall, now);
        return 0;
}

int registry_load(struct registry *registry)
{
        struct camera *camera, *next;
        int r;

        r = journal_each_camera(registry->context.journal, load_camera, registry);
        if (r < 0)
                return r;
        r = journal_each_update(registry->context.journal, load_update, registry);
        if (r < 0)
                return r;
        for (camera = TAILQ_FIRST(&registry->cameras); camera; camera = next) {
                next = TAILQ_NEXT(camera, link);
                if (camera->provisional) {
                        /* Row 2: a word that was given to the last daemon is nobody's any more. */
                        if (update_is_open(camera->update))
                                update_end(camera->update, UPDATE_REFUSED, verdict_reason_to_string(REASON_STALE_WORD),
                                           "the daemon was restarted before the end: what was said of this device held for "
                                           "that time only. Say it again", loop_wall_clock(registry->context.loop), loop_now(registry->context.loop));
                        remove_camera(registry, camera);
                        continue;
                }
                r = camera_load(camera);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- sightings --- */

static struct camera *camera_at(struct registry *registry, const char *port)
{
        struct camera *camera;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (camera->attached && strcmp(camera->sighting.port, port) == 0)
                        return camera;
        return NULL;
}

static bool left_a_moment_ago(const struct registry *registry, const struct camera *camera)
{
        return !camera->attached && camera->gone_at &&
               loop_now(registry->context.loop) - camera->gone_at < IDENTITYLESS_DEADLINE;
}

/* What was known by another name is known by its unique id from now on. */
static void give_uid(struct registry *registry, struct camera *camera, const struct identity_result *result,
                     const struct sighting *sighting)
{
        log_info("%s: %s is %s", sighting->port, camera->record.key, sighting->serial);
        withdraw_camera(registry, camera);
        if (camera->stored)
                (void)journal_rename_camera(registry->context.journal, camera->record.key, result->key);
        store_rename_camera(registry->context.store, camera->record.key, result->key);
        registry_inhibitors_rename(registry, camera->record.key, result->key);
        snprintf(camera->record.key, sizeof(camera->record.key), "%s", result->key);
        if (camera->update)
                snprintf(camera->update->record.camera, sizeof(camera->update->record.camera), "%s", result->key);
        camera->provisional = false;
        camera->uid = result->uid;
        camera->has_uid = true;
        announce_camera(registry, camera);
}

static bool may_be_given_uid(const struct registry *registry, const struct camera *camera)
{
        return !camera->has_uid && !camera->provisional && left_a_moment_ago(registry, camera) &&
               !update_is_open(camera->update);
}

static_assert(sizeof(((struct known_identity *)NULL)->key) == sizeof(((struct camera_record *)NULL)->key) &&
              sizeof(((struct known_identity *)NULL)->port) == sizeof(((struct camera_record *)NULL)->port) &&
              sizeof(((struct known_identity *)NULL)->runtime_serial) == sizeof(((struct camera_record *)NULL)->runtime_serial),
              "a camera's identity is copied as it is");

/* The camera that this sighting is: an existing one, or a new one.  Never the wrong one: in doubt a provisional one. */
static int match_camera(struct registry *registry, const struct sighting *sighting, struct identity_result *result,
                        struct camera **ret)
{
        _cleanup_free_ struct known_identity *known = NULL;
        _cleanup_free_ struct camera **cameras = NULL;
        struct camera *camera;
        size_t n = 0;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                n++;
        known = calloc(n ?: 1, sizeof(*known));
        cameras = calloc(n ?: 1, sizeof(struct camera *));
        if (!known || !cameras)
                return -ENOMEM;
        n = 0;
        TAILQ_FOREACH(camera, &registry->cameras, link) {
                struct known_identity *k = &known[n];

                /* Of a hundred for each that comes: copied as they are, and not as text. */
                memcpy(k->key, camera->record.key, sizeof(k->key));
                memcpy(k->port, camera->record.port, sizeof(k->port));
                memcpy(k->runtime_serial, camera->record.runtime_serial, sizeof(k->runtime_serial));
                k->uid = camera->uid;
                k->has_uid = camera->has_uid;
                k->board = camera->board;
                k->present = camera->attached;
                k->left_for_identityless = left_a_moment_ago(registry, camera);
                cameras[n++] = camera;
        }

        *result = identity_resolve(sighting, registry->context.boards, known, n);
        camera = NULL;
        switch (result->match) {
        case IDENTITY_KNOWN:
                camera = cameras[result->index];
                if (camera->attached) {
                        log_warning("%s: serial %s is already attached at %s: two devices with one serial, neither is trusted",
                                    sighting->port, sighting->serial, camera->sighting.port);
                        result->match = IDENTITY_COLLISION;
                        camera = NULL;
                } else if (result->upgrade)
                        give_uid(registry, camera, result, sighting);
                break;
        case IDENTITY_PORT_HINT:
                /* A running camera that cannot show its identity in this mode is the one that just left this port, for what is
                 * shown and for "did it come up"; a write needs more and is decided elsewhere. */
                if (result->mode == CAMERA_MODE_RUNTIME && !cameras[result->index]->attached)
                        camera = cameras[result->index];
                /* And a bootloader that follows a runtime whose serial has nothing to do with it (AE3) gives that camera its
                 * unique id; what is written later is decided by that id alone.  A waiting update is not taken along. */
                if (result->mode == CAMERA_MODE_BOOTLOADER && result->learnt_uid &&
                    may_be_given_uid(registry, cameras[result->index])) {
                        camera = cameras[result->index];
                        give_uid(registry, camera, result, sighting);
                }
                break;
        case IDENTITY_NEW:
        case IDENTITY_UNPROVEN:
        case IDENTITY_COLLISION:
                break;
        }
        if (!camera) {
                char key[CAMERA_KEY_MAX];
                int r;

                if (result->match == IDENTITY_NEW || (result->match == IDENTITY_PORT_HINT && result->learnt_uid))
                        snprintf(key, sizeof(key), "%s", result->key);
                else
                        snprintf(key, sizeof(key), "P:%.*s", (int)sizeof(key) - 3, sighting->port);
                camera = registry_camera_by_key(registry, key);
                if (!camera) {
                        r = add_camera(registry, key, &camera);
                        if (r < 0)
                                return r;
                        camera->board = result->board;
                        snprintf(camera->record.port, sizeof(camera->record.port), "%s", sighting->port);
                        camera->sighting = *sighting;
                        announce_camera(registry, camera);
                }
                camera->hinted_by_port = result->match == IDENTITY_PORT_HINT && cameras[result->index] != camera ? cameras[result->index] : NULL;
        }
        camera_set_board(camera, result->board || result->mode == CAMERA_MODE_UNREADABLE ? result->board : camera->board);
        *ret = camera;
        return 0;
}

/* Row 3: an unproven ROM device is opened only while a known camera with that chip is missing.  F4 and F7 chips show a
 * derived serial: one that fits no known camera speaks against every one of them.  So only the shared serial is left. */
static const struct board *missing_board(const struct registry *registry, const struct sighting *sighting)
{
        const struct camera *camera;
        const struct board *board = NULL;

        if (!serial_is_shared(sighting->serial))
                return NULL;
        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (camera_is_missing(camera) && camera->board && camera->board->chip == CHIP_H7 && !camera_is_inhibited(camera))
                        board = camera->board;
        return board;
}

/* A port where an unknown camera's bootloader was restored, and now somebody with an identity is there. */
static void forget_restored(struct registry *registry, const char *port, const struct camera *here)
{
        char key[CAMERA_KEY_MAX];
        struct camera *restored;

        snprintf(key, sizeof(key), "P:%.*s", (int)sizeof(key) - 3, port);
        restored = registry_camera_by_key(registry, key);
        if (restored && restored != here && !restored->attached && !update_is_open(restored->update))
                remove_camera(registry, restored);
}

void registry_expect_bootloader(struct registry *registry, const char *port, const struct board *board)
{
        struct expectation *place = &registry->expected[0];

        for (size_t i = 0; i < ELEMENTSOF(registry->expected); i++) {
                struct expectation *e = &registry->expected[i];

                if (e->board && strcmp(e->port, port) == 0) {
                        place = e;
                        break;
                }
                if (e->since < place->since)
                        place = e;
        }
        *place = (struct expectation){ .board = board, .since = loop_now(registry->context.loop) };
        snprintf(place->port, sizeof(place->port), "%s", port);
}

/* Once: what comes next to that port is it, or is not. */
static bool is_expected(struct registry *registry, const char *port, const struct board *board)
{
        for (size_t i = 0; i < ELEMENTSOF(registry->expected); i++) {
                struct expectation e = registry->expected[i];

                if (!e.board || strcmp(e.port, port) != 0)
                        continue;
                registry->expected[i] = (struct expectation){};
                return e.board == board && loop_now(registry->context.loop) - e.since < EXPECT_DEADLINE;
        }
        return false;
}

/* A serial bootloader has no identity, but it becomes a running camera on its port, and nothing else can come between. */
static void serial_bootloader_left(struct registry *registry, const char *port)
{
        size_t i = registry->next_serial_bootloader++ % SERIAL_BOOTLOADERS_MAX;

        snprintf(registry->serial_bootloaders[i].port, sizeof(registry->serial_bootloaders[i].port), "%s", port);
        registry->serial_bootloaders[i].left_at = loop_now(registry->context.loop);
}

static bool came_from_serial_bootloader(struct registry *registry, const char *port)
{
        bool came = false;

        for (size_t i = 0; i < SERIAL_BOOTLOADERS_MAX; i++) {
                if (strcmp(registry->serial_bootloaders[i].port, port) != 0)
                        continue;
                came = loop_now(registry->context.loop) - registry->serial_bootloaders[i].left_at < SERIAL_BOOT_DEADLINE;
                registry->serial_bootloaders[i].port[0] = '\0';
        }
        return came;
}

/* What does not answer is not that camera, after all; or may be it, now that it is away. */
static void tell_hinted(struct registry *registry, const struct camera *hinted)
{
        struct camera *camera;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (camera->mode == CAMERA_MODE_UNREADABLE && camera->hinted_by_port == hinted)
                        registry_camera_changed(registry, camera);
}

/* --- what does not answer --- */

static void unreadable_gone(struct registry *registry, struct camera *camera, const char *why)
{
        log_about(LOG_INFO, (&(struct log_subject){ .camera = camera->record.key, .port = camera->sighting.port }),
                  "what did not answer at %s: %s", camera->sighting.port, why);
        camera_gone(camera, /* excused= */ true);
        remove_camera(registry, camera);
}

void registry_unreadable_over(struct registry *registry, struct camera *camera)
{
        unreadable_gone(registry, camera, "nothing was heard of it for long");
}

void registry_answers(struct registry *registry, const char *port)
{
        struct camera *camera = camera_at(registry, port);

        if (camera && camera->mode == CAMERA_MODE_UNREADABLE)
                unreadable_gone(registry, camera, "something answers there now");
}

void registry_below_gone(struct registry *registry, const char *port)
{
        struct camera *camera, *next;
        size_t n = strlen(port);

        for (camera = TAILQ_FIRST(&registry->cameras); camera; camera = next) {
                next = TAILQ_NEXT(camera, link);
                if (camera->mode == CAMERA_MODE_UNREADABLE && strncmp(camera->sighting.port, port, n) == 0 &&
                    (camera->sighting.port[n] == '.' || camera->sighting.port[n] == '-'))
                        unreadable_gone(registry, camera, "its hub is gone");
        }
}

void registry_unreadable(struct registry *registry, const char *port, const char *why, unsigned times, uint64_t age)
{
        struct sighting sighting = { .unreadable = true, .seen_at = loop_now(registry->context.loop) };
        struct identity_result result;
        struct camera *camera;
        size_t n = 0;
        int r;

        if (age >= UNREADABLE_STAYS)
                return;
        snprintf(sighting.port, sizeof(sighting.port), "%s", port);
        camera = camera_at(registry, port);
        if (camera && camera->mode == CAMERA_MODE_UNREADABLE) {
                result.match = camera->match;
        } else {
                if (camera)
                        registry_gone(registry, port);          /* its leaving is still on its way to us */
                TAILQ_FOREACH(camera, &registry->cameras, link)
                        n += camera->mode == CAMERA_MODE_UNREADABLE;
                if (n >= UNREADABLE_MAX) {
                        log_notice("a device at %s does not answer, like %zu others: not shown", port, n);
                        return;
                }
                r = match_camera(registry, &sighting, &result, &camera);
                if (r < 0) {
                        log_error("%s: cannot take note of a device that does not answer: %s", port, strerror(-r));
                        return;
                }
                camera->attachment = ++registry->last_attachment;
        }
        log_about(LOG_NOTICE, (&(struct log_subject){ .camera = camera->record.key, .port = port }),
                  "a device at %s does not answer, and the kernel has given it up%s%s", port, why[0] ? ": " : "", why);
        camera_unreadable(camera, &sighting, result.match, times, age);
}

void registry_seen(struct registry *registry, const struct sighting *sighting)
{
        struct identity_result result;
        struct camera *camera;
        int r;

        registry_answers(registry, sighting->port);
        camera = camera_at(registry, sighting->port);
        if (camera) {
                if (camera->sighting.vendor == sighting->vendor && camera->sighting.product == sighting->product &&
                    strcmp(camera->sighting.node, sighting->node) == 0 &&
                    strcmp(camera->sighting.serial, sighting->serial) == 0) {
                        /* Told twice: something about its node has changed, its permissions perhaps. */
                        if (camera->state == CAMERA_BLOCKED)
                                camera_event(camera, EVENT_DEADLINE);
                        return;
                }
                registry_gone(registry, sighting->port);
        }

        r = match_camera(registry, sighting, &result, &camera);
        if (r < 0) {
                log_error("%s: cannot take note of %04x:%04x: %s", sighting->port, sighting->vendor, sighting->product,
                          strerror(-r));
                return;
        }
        forget_restored(registry, sighting->port, camera);
        if (result.mode == CAMERA_MODE_ROM_DFU && result.match != IDENTITY_KNOWN) {
                const struct board *board = missing_board(registry, sighting);

                camera->may_peek = board != NULL;
                camera->board = board;
        }
        if (result.mode == CAMERA_MODE_BOOTLOADER && is_expected(registry, sighting->port, camera->board))
                camera->expected = true;
        log_about(LOG_INFO, (&(struct log_subject){ .camera = camera->record.key, .port = sighting->port }),
                  "%s: %s %04x:%04x serial %s", camera->board ? camera->board->name : "a device",
                  camera_mode_to_string(result.mode), sighting->vendor, sighting->product,
                  sighting->serial[0] ? sighting->serial : "none");
        camera->attachment = ++registry->last_attachment;
        camera_seen(camera, sighting, result.mode, result.match);
        if (came_from_serial_bootloader(registry, sighting->port) && result.mode == CAMERA_MODE_RUNTIME)
                camera_has_old_bootloader(camera);
        caller_consider(camera);
        tell_hinted(registry, camera);
}

void registry_serial_port(struct registry *registry, const char *port)
{
        caller_port_appeared(registry->caller, port);
}

void registry_gone(struct registry *registry, const char *port)
{
        struct camera *camera = camera_at(registry, port);

        /* What does not answer was never enumerated: it was another one before it that left. */
        if (!camera || camera->mode == CAMERA_MODE_UNREADABLE)
                return;
        if (camera->mode == CAMERA_MODE_VCP_BOOTLOADER)
                serial_bootloader_left(registry, port);
        camera_gone(camera, /* excused= */ false);
        /* One whose bootloader was restored stays until something comes to its port: a person is told when nothing does. */
        if (camera->provisional && !update_is_open(camera->update) && !(camera->restored && camera->state == CAMERA_WAITING))
                remove_camera(registry, camera);
        else
                tell_hinted(registry, camera);
}

/* --- the rest --- */

int registry_forget(struct registry *registry, struct camera *camera, bool saved_too)
{
        struct store *store = registry->context.store;

        if (camera->attached && camera->mode != CAMERA_MODE_UNREADABLE)
                return -EBUSY;
        if (update_is_open(camera->update))
                return -EALREADY;
        if (store_saved(store, camera->record.key, NULL)) {
                if (!saved_too)
                        return -ENOTEMPTY;
                store_forget_saved(store, camera->record.key);
        }
        log_about(LOG_NOTICE, (&(struct log_subject){ .camera = camera->record.key }), "forgotten, because somebody asked for it");
        remove_camera(registry, camera);
        return 0;
}

/* Who was left as it is only because that was said, is not any more. */
static void take_up_again(struct camera *camera)
{
        if (camera_automatic(camera) && camera->state == CAMERA_ASKING && camera->looked &&
            camera->reason == REASON_AUTOMATIC_OFF)
                camera_event(camera, EVENT_REQUESTED);
}

void registry_set_automatic(struct registry *registry, struct camera *camera, int automatic)
{
        camera->record.automatic = automatic < 0 ? -1 : automatic != 0;
        camera_store(camera);
        registry_camera_changed(registry, camera);
        take_up_again(camera);
}

void registry_reconfigure(struct registry *registry, bool automatic)
{
        struct camera *camera;

        registry->settings.automatic = automatic;
        TAILQ_FOREACH(camera, &registry->cameras, link) {
                registry_camera_changed(registry, camera);
                take_up_again(camera);
        }
}

bool registry_is_idle(struct registry *registry)
{
        const struct camera *camera;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (camera->mode != CAMERA_MODE_UNREADABLE &&
                    (camera->attached || camera->provisional || camera->session || timer_is_set(&camera->deadline) || camera->hold.wished))
                        return false;
        return true;
}

/* "3-1.2": what is plugged in there, whoever it is. */
static bool is_port_path(const char *text)
{
        size_t bus = strspn(text, "0123456789");

        return bus > 0 && text[bus] == '-' && text[bus + 1] && strspn(text + bus + 1, "0123456789.") == strlen(text + bus + 1);
}

static bool is_label(const char *label)
{
        size_t n = strlen(label);

        if (n >= sizeof(((struct camera_record *)NULL)->label) || label[0] == '-' || is_port_path(label))
                return false;
        if (n > 0 && (label[0] == ' ' || label[n - 1] == ' '))
                return false;
        return !text_has_controls(label);
}

int registry_set_label(struct registry *registry, struct camera *camera, const char *label)
{
        struct camera *other;

        if (!is_label(label))
                return -EINVAL;
        if (camera->provisional)
                return -ENXIO;
        TAILQ_FOREACH(other, &registry->cameras, link)
                if (*label && other != camera && strcasecmp(other->record.label, label) == 0)
                        return -EEXIST;
        snprintf(camera->record.label, sizeof(camera->record.label), "%s", label);
        camera_store(camera);
        registry_camera_changed(registry, camera);
        return 0;
}

void registry_firmware_added(struct registry *registry)
{
        struct camera *camera;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                camera_firmware_added(camera);
}

bool registry_stop(struct registry *registry)
{
        if (!registry->stopping)
                (void)registry_inhibit(registry, NULL, "camrescued", "it is being stopped", INHIBIT_RELEASE, NULL, NULL,
                                       &registry->stopping);
        return usb_is_idle(registry->context.usb);
}
