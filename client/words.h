/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The words for what a camera may be, as the daemon says them.  The client
 * links nothing of the daemon's core for them: a test compares the two.
 */

#include <stdbool.h>

/* Each ends with NULL. */
extern const char *const words_states[], *const words_modes[], *const words_diagnoses[];
extern const char *const words_updates[];       /* results, and "ended" for all but "open" */

bool words_have(const char *const *words, const char *word);
