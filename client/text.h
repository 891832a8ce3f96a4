/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Text on a terminal: its size and abilities, and strings from outside made
 * fit for it.  Serials, versions and file names come from devices and users:
 * nothing of them may move the cursor or turn the text round.
 */

#include <stdbool.h>
#include <stddef.h>

#define TEXT_UNLIMITED 0u

struct terminal {
        bool is_terminal;
        bool utf8;
        bool colour;                    /* a terminal, NO_COLOR unset, TERM not "dumb" */
        bool moves;                     /* understands cursor movement: a terminal, and TERM is not "dumb" */
        unsigned columns;               /* TEXT_UNLIMITED: not a terminal */
        unsigned rows;
};

/* Sets the locale's character type, looks at fd and the environment. */
void terminal_probe(struct terminal *terminal, int fd);
/* Asks for the size again (after SIGWINCH). */
void terminal_resize(struct terminal *terminal, int fd);

/* A copy without control characters, invalid UTF-8 and direction overrides ('?' instead; white space becomes a space);
 * utf8 false: ASCII only.  NULL: no memory. */
char *text_clean(const char *string, bool utf8);
/* A file's name as the daemon takes it: clean, and of a long one the end. */
char *text_file_name(const char *name);
/* Valid UTF-8, for JSON and D-Bus; otherwise unchanged. */
char *text_valid(const char *string);
/* Columns that a clean string takes. */
size_t text_width(const char *clean);
/* Bytes of the longest prefix that takes at most width columns. */
size_t text_prefix(const char *clean, size_t width);
/* A copy of at most width columns; what was cut off is shown by an ellipsis. */
char *text_cut(const char *clean, size_t width, bool utf8);
/* Bytes of the first line when clean is broken at spaces to width columns (a longer word is broken inside); *ret_next: where the next one begins. */
size_t text_line(const char *clean, size_t width, size_t *ret_next);

/* Compares as people do: numbers within are numbers ("3-2" before "3-10"). */
int text_compare_natural(const char *a, const char *b);

enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_GOOD, STYLE_BUSY, STYLE_WARN, STYLE_BAD, _STYLE_MAX };
/* Escape sequences, "" where colours are off. */
const char *style_on(const struct terminal *terminal, enum style style);
const char *style_off(const struct terminal *terminal, enum style style);
