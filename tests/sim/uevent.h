/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Plays udevd's voice: sends what libudev's monitors hear.  Knows no device;
 * the caller has written all files before (and deleted them before "remove").
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uevents;

int uevents_new(struct uevents **ret);
struct uevents *uevents_free(struct uevents *uevents);

/*
 * One event.  properties: NUL-separated "KEY=value", without SEQNUM, which is
 * added here.  A world in which nobody listens is no error.
 */
int uevents_send(struct uevents *uevents, const char *subsystem, const char *devtype, const char *properties, size_t size);

/*
 * Makes every listener of these namespaces that belongs to a descendant of
 * ours lose events: it is stopped for a moment, its receive buffer made tiny, and so
 * much sent that it overflows (its next read says ENOBUFS).  Returns how many
 * listeners there were.
 */
int uevents_overflow(struct uevents *uevents, const char *properties, size_t size);
