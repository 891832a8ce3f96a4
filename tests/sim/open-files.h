/* SPDX-License-Identifier: MIT */
#pragma once

/* Which programs have opened what. */

#include <stdint.h>

/* How many descriptors of other processes are path's, as far as /proc shows them to whoever asks.  (The same path may be another file in another
 * namespace.) */
unsigned open_files(const char *path);

/* What inotify has to tell, each event by a call: the watch that it is about, and what has happened (IN_OPEN, ...). */
typedef void (*opening_fn)(void *userdata, int watch, uint32_t mask);
void hear_openings(int inotify, opening_fn on_opening, void *userdata);
