/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * A disk of our own under SQLite: a VFS that counts every write, sync,
 * truncation and removal, and can lose power, run full, or be slow at any of
 * them.  Under it lie ordinary files.
 */

#include <stdbool.h>

/* Becomes SQLite's default disk; once per process, before the first database. */
void disk_install(void);

/* Numbers of what was done so far. */
unsigned disk_operations(void);
unsigned disk_syncs(void);

/* From now on what was written is only kept until it is synced, and at operation number (1: the next) the process dies as if power
 * had failed: all that was not synced is gone.  torn: if that operation is a sync, some sectors of what it
 * should have written have arrived, chosen by seed. */
void disk_cut_power_at(unsigned operation, bool torn, unsigned seed);

/* Every write fails as on a full disk, or no more. */
void disk_set_full(bool full);

/* Called in every sync, on the thread that syncs; NULL: not. */
void disk_on_sync(void (*fn)(void *userdata), void *userdata);
