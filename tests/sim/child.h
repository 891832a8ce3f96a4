/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The first thing that a process forked by camsim does: it has none of camsim's
 * ways with signals, and ends with it.
 */

#include <sys/types.h>

/* death_signal: what it gets when camsim, which was parent, ends; at once if it has. */
void child_begin(pid_t parent, int death_signal);
