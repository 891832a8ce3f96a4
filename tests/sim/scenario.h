/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * The language of camsim: one command a line, each answered exactly once, with
 * some lines of text or an error.  Knows the world and nothing of sockets,
 * terminals or processes.
 */

#include <stdbool.h>

#include "sim/world.h"

struct scenario;

/* text: what the command says, "" or lines that end in a newline.  error: NULL if it went well. */
typedef void (*scenario_done_fn)(void *userdata, const char *text, const char *error);

int scenario_new(struct loop *loop, struct world *world, struct scenario **ret);
struct scenario *scenario_free(struct scenario *scenario);

/* Runs one line.  done is called once, perhaps from inside.  directory: what file names are relative to. */
void scenario_run(struct scenario *scenario, const char *line, const char *directory, scenario_done_fn done, void *userdata);
/* Whoever asked is gone: done is not called any more with this userdata. */
void scenario_forget(struct scenario *scenario, void *userdata);
/* Something in the world changed: waits are looked at in the next round. */
void scenario_on_change(struct scenario *scenario);

/* Splits a line into words as a shell does: blanks, '...', "...", \, and # at a word's beginning.  Returns the number of words, or
 * -EINVAL for an open quote, -E2BIG.  line is overwritten. */
int scenario_split(char *line, char **words, int max);

/* For --help. */
void scenario_help(FILE *f);
