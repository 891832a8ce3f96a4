/* SPDX-License-Identifier: MIT */
/*
 * Inhibitors: see inhibit.h.  They name a camera by its key and not by its
 * object: a device without identity is another object each time it comes.
 */

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/inhibit.h"
#include "core/registry-internal.h"

struct inhibitor {
        struct registry *registry;
        char key[CAMERA_KEY_MAX];       /* "": all */
        char who[INHIBITOR_WHO_MAX];
        char why[INHIBITOR_WHY_MAX];
        enum inhibit_mode mode;
        void (*on_quiet)(void *userdata);       /* NULL: told, or nobody wants to know */
        void *userdata;
        TAILQ_ENTRY(inhibitor) link;
};

static bool holds_for(const struct inhibitor *inhibitor, const struct camera *camera)
{
        if (inhibitor->key[0] == '\0' || strcmp(inhibitor->key, camera->record.key) == 0)
                return true;
        return strncmp(inhibitor->key, "P:", 2) == 0 && camera->attached &&
               strcmp(inhibitor->key + 2, camera->sighting.port) == 0;
}

const struct inhibitor *camera_inhibitor(const struct camera *camera)
{
        const struct inhibitor *inhibitor;

        TAILQ_FOREACH(inhibitor, &camera->registry->inhibitors, link)
                if (holds_for(inhibitor, camera))
                        return inhibitor;
        return NULL;
}

bool camera_is_inhibited(const struct camera *camera)
{
        return camera_inhibitor(camera) != NULL;
}

/* --- hands are off --- */

static bool is_quiet(const struct inhibitor *inhibitor)
{
        const struct registry *registry = inhibitor->registry;
        const struct camera *camera;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (holds_for(inhibitor, camera) && camera_is_busy(camera))
                        return false;
        return true;
}

/* The told may lift any of them: look from the beginning after each. */
static void on_look(void *userdata)
{
        struct registry *registry = userdata;
        struct inhibitor *inhibitor;
        struct camera *camera;

        TAILQ_FOREACH(camera, &registry->cameras, link)
                hold_look(camera);
        do {
                TAILQ_FOREACH(inhibitor, &registry->inhibitors, link)
                        if (inhibitor->on_quiet && is_quiet(inhibitor)) {
                                void (*on_quiet)(void *) = inhibitor->on_quiet;

                                inhibitor->on_quiet = NULL;
                                on_quiet(inhibitor->userdata);
                                break;
                        }
        } while (inhibitor);
}

void registry_look_quiet(struct registry *registry)
{
        defer_call(&registry->look);
}

static void on_closed(void *userdata)
{
        registry_look_quiet(userdata);
}

/* --- birth and death --- */

int registry_inhibit(struct registry *registry, struct camera *camera, const char *who, const char *why, enum inhibit_mode mode,
                     void (*on_quiet)(void *userdata), void *userdata, struct inhibitor **ret)
{
        struct inhibitor *inhibitor = calloc(1, sizeof(*inhibitor));
        struct camera *other;

        if (!inhibitor)
                return -ENOMEM;
        inhibitor->registry = registry;
        inhibitor->mode = mode;
        inhibitor->on_quiet = on_quiet;
        inhibitor->userdata = userdata;
        snprintf(inhibitor->key, sizeof(inhibitor->key), "%s", camera ? camera->record.key : "");
        snprintf(inhibitor->who, sizeof(inhibitor->who), "%s", who);
        snprintf(inhibitor->why, sizeof(inhibitor->why), "%s", why);
        log_info("hands off %s: %s (%s)", camera ? camera_name(camera) : "all cameras", inhibitor->who, inhibitor->why);
        TAILQ_INSERT_TAIL(&registry->inhibitors, inhibitor, link);
        TAILQ_FOREACH(other, &registry->cameras, link)
                if (holds_for(inhibitor, other))
                        camera_inhibited(other, mode);
        registry_inhibitors_changed(registry);
        defer_call(&registry->look);
        *ret = inhibitor;
        return 0;
}

struct inhibitor *inhibitor_lift(struct inhibitor *inhibitor)
{
        struct registry *registry;
        struct camera *camera;

        if (!inhibitor)
                return NULL;
        registry = inhibitor->registry;
        log_info("no longer held back by %s (%s)", inhibitor->who, inhibitor->why);
        TAILQ_REMOVE(&registry->inhibitors, inhibitor, link);
        registry_inhibitors_changed(registry);
        TAILQ_FOREACH(camera, &registry->cameras, link)
                if (holds_for(inhibitor, camera)) {
                        if (!camera_is_inhibited(camera))
                                camera_uninhibited(camera);
                        registry_camera_changed(registry, camera);
                }
        free(inhibitor);
        return NULL;
}

void registry_inhibitors_init(struct registry *registry)
{
        TAILQ_INIT(&registry->inhibitors);
        defer_init(&registry->look, registry->context.loop, on_look, registry);
        usb_watch_closed(registry->context.usb, on_closed, registry);
}

void registry_inhibitors_deinit(struct registry *registry)
{
        usb_watch_closed(registry->context.usb, NULL, NULL);
        defer_deinit(&registry->look);
        /* Nothing goes on any more. */
        if (registry->stopping) {
                TAILQ_REMOVE(&registry->inhibitors, registry->stopping, link);
                free(take_ptr(registry->stopping));
        }
        assert(TAILQ_EMPTY(&registry->inhibitors));
}

void registry_inhibitors_rename(struct registry *registry, const char *old_key, const char *new_key)
{
        struct inhibitor *inhibitor;

        TAILQ_FOREACH(inhibitor, &registry->inhibitors, link)
                if (strcmp(inhibitor->key, old_key) == 0)
                        snprintf(inhibitor->key, sizeof(inhibitor->key), "%s", new_key);
}

/* --- looking --- */

struct inhibitor *registry_first_inhibitor(struct registry *registry)
{
        return TAILQ_FIRST(&registry->inhibitors);
}

struct inhibitor *registry_next_inhibitor(struct inhibitor *inhibitor)
{
        return TAILQ_NEXT(inhibitor, link);
}

const char *inhibitor_who(const struct inhibitor *inhibitor)
{
        return inhibitor->who;
}

const char *inhibitor_why(const struct inhibitor *inhibitor)
{
        return inhibitor->why;
}

const char *inhibitor_key(const struct inhibitor *inhibitor)
{
        return inhibitor->key;
}
