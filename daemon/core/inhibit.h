/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Hands off (rule 14).  An inhibitor is somebody's word that he works on one
 * camera, or on all of them, himself.  While one holds, no session is opened
 * and nothing is held or asked; a session that goes on comes to its next safe
 * boundary and lets go, and the device stays as it is.  What left meanwhile
 * tells nothing.  When the last one is lifted, what waits is as if just seen.
 *
 * The daemon inhibits itself in the same way when the host is going to sleep or
 * is shut down, and when it is told to stop.
 */

#include <stdbool.h>

struct camera;
struct inhibitor;
struct registry;

enum inhibit_mode {
        INHIBIT_HOLD,                   /* a bootloader that is held stays held */
        INHIBIT_RELEASE,                /* for good: one whose firmware is whole is told to leave first (rules 12 and 15) */
};

#define INHIBITOR_WHO_MAX 64            /* with the zero; longer is cut off */
#define INHIBITOR_WHY_MAX 160

/*
 * camera NULL: all, also those to come.  A camera that has no identity yet ("P:...") stands for its port: it keeps the inhibitor
 * over its modes.  on_quiet is called once, from the loop, when nothing that is inhibited is open any more (not even being closed), so that
 * another program can claim it; it may lift.  It may be NULL.  -ENOMEM.
 */
int registry_inhibit(struct registry *registry, struct camera *camera, const char *who, const char *why, enum inhibit_mode mode,
                     void (*on_quiet)(void *userdata), void *userdata, struct inhibitor **ret);
/* Ends it; what waited goes on.  NULL is fine; returns NULL.  Before registry_free(). */
struct inhibitor *inhibitor_lift(struct inhibitor *inhibitor);

/* Something that camera_is_busy() tells of has ended: asks again whether it is quiet.  (Of usb devices it is told by itself.) */
void registry_look_quiet(struct registry *registry);

struct inhibitor *registry_first_inhibitor(struct registry *registry);
struct inhibitor *registry_next_inhibitor(struct inhibitor *inhibitor);
const char *inhibitor_who(const struct inhibitor *inhibitor);
const char *inhibitor_why(const struct inhibitor *inhibitor);
/* Key of the camera meant; "": all. */
const char *inhibitor_key(const struct inhibitor *inhibitor);

/* The one to name, the oldest; NULL: none holds for this camera. */
const struct inhibitor *camera_inhibitor(const struct camera *camera);
/* May it be opened, held, talked to?  Asked before each beginning of that. */
bool camera_is_inhibited(const struct camera *camera);

/* --- for registry.c --- */
void registry_inhibitors_init(struct registry *registry);
void registry_inhibitors_deinit(struct registry *registry);
/* A camera is known by another key from now on. */
void registry_inhibitors_rename(struct registry *registry, const char *old_key, const char *new_key);
