/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Progress for people: a bar, and lines that are redrawn in place.  Knows
 * nothing of cameras or of the bus.
 */

#include <stdio.h>

#include "client/text.h"

/* A bar of width columns (not counting a terminator); fraction is clamped to 0..1.  buffer: 3 * width + 3 bytes. */
void progress_bar(char *buffer, size_t size, double fraction, unsigned width, bool utf8);

struct live {
        FILE *to;
        struct terminal *terminal;
        size_t drawn;                   /* lines on the screen now */
        bool begun;
};

void live_begin(struct live *live, FILE *to, struct terminal *terminal);
/* Replaces what was drawn.  Lines are clean text, may hold style sequences made by us, and must not be wider than the
 * terminal; what does not fit its height is left out and counted in a last line. */
void live_draw(struct live *live, const char *const *lines, size_t n);
/* The terminal has changed its size: what was drawn may have been wrapped, so begin on an empty screen. */
void live_resized(struct live *live);
/* Leaves the lines where they are, shows the cursor. */
void live_end(struct live *live);
