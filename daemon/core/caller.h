/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Calls running cameras: a camera for which a person's update waits, or whose bootloader a person wants held (hold.h), is asked,
 * over its serial port, who it is, and told to restart into its bootloader (runtime-protocol.md).
 * From there it goes on as after a replug.
 *
 * Nobody else's camera is ever called: not one without such a wish, not for
 * an unattended recovery.  A hub enumerates one port at a time, about 0.3 s each,
 * and a bootloader that is not configured within a second is gone: so one camera per
 * hub restarts at a time.  Who does not answer stands in nobody's way.
 */

#include <stdbool.h>

#include "core/diagnosis.h"

struct caller;
struct call;
struct camera;
struct registry;

int caller_new(struct registry *registry, struct caller **ret);
/* Ends all calls: cameras stay as they are. */
struct caller *caller_free(struct caller *caller);

/* May this camera be called, if a person wanted it in its bootloader?  (It may have been in vain before.) */
bool caller_may_call(const struct camera *camera);
/* If it runs, may be called and is wanted there by a person: EVENT_CALL. */
void caller_consider(struct camera *camera);
/* EFFECT_CALL: its turn comes. */
void caller_begin(struct caller *caller, struct camera *camera);
/* Its state is none of a call's any more.  Nothing if it is not being called. */
void caller_drop(struct camera *camera);
/* Something came or went on another port of its hub a moment ago, and since is not long: what happened to this camera then may not have
 * been told.  The loss of one port is noticed when the hub is through with the others (timing.md section 6; seen on a real kernel with fifteen
 * ports).  since: loop_now(). */
bool caller_hub_is_busy(const struct camera *camera, uint64_t since);
/* It was told to restart, is still there, and its hub is at work for others.  Is it too early to say that it stayed? */
bool caller_is_patient(const struct camera *camera);
/* The serial port of the device at that port has appeared, or may be opened now. */
void caller_port_appeared(struct caller *caller, const char *port);
/* camera's bootloader came to that port.  True: a device there was told to restart a moment ago, and so it stays there because of us.  (If
 * another camera was meant, that one is not called again: what runs on this port is not it.) */
bool caller_bootloader_came(struct caller *caller, const struct camera *camera, const char *port);
