/* SPDX-License-Identifier: MIT */
/*
 * A progress bar, and lines redrawn in place.  Each frame is one write, so that
 * a slow terminal never shows half of one.
 */

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/progress.h"

void progress_bar(char *buffer, size_t size, double fraction, unsigned width, bool utf8)
{
        const char *full = utf8 ? "\u2588" : "#", *rest = utf8 ? "\u2591" : "-";
        unsigned filled;
        size_t used = 0;

        if (!(fraction > 0))            /* also what is not a number */
                fraction = 0;
        if (fraction > 1)
                fraction = 1;
        /* Never looks full before it is. */
        filled = (unsigned)(fraction * width);
        for (unsigned i = 0; i < width; i++) {
                const char *piece = i < filled ? full : rest;
                size_t n = strlen(piece);

                if (used + n + 1 > size)
                        break;
                memcpy(buffer + used, piece, n);
                used += n;
        }
        if (size > 0)
                buffer[used] = '\0';
}

void live_begin(struct live *live, FILE *to, struct terminal *terminal)
{
        *live = (struct live){ .to = to, .terminal = terminal, .begun = true };
        (void)fputs("\033[?25l", to);
}

void live_draw(struct live *live, const char *const *lines, size_t n)
{
        _cleanup_free_ char *frame = NULL;
        size_t size = 0, room = live->terminal->rows > 1 ? live->terminal->rows - 1 : 1;
        size_t shown = n <= room ? n : room - 1;
        FILE *f = open_memstream(&frame, &size);

        if (!f)
                return;
        if (live->drawn > 0)
                (void)fprintf(f, "\033[%zuA", live->drawn);
        for (size_t i = 0; i < shown; i++)
                (void)fprintf(f, "\r%s\033[K\n", lines[i]);
        if (shown < n)
                (void)fprintf(f, "\r... and %zu more\033[K\n", n - shown);
        (void)fputs("\033[J", f);
        live->drawn = shown + (shown < n);
        if (fclose(f) != 0)
                return;
        (void)fwrite(frame, 1, size, live->to);
        (void)fflush(live->to);
}

void live_resized(struct live *live)
{
        (void)fputs("\033[H\033[J", live->to);
        live->drawn = 0;
}

void live_end(struct live *live)
{
        if (!live->begun)
                return;
        (void)fputs("\033[?25h", live->to);
        (void)fflush(live->to);
        live->begun = false;
}
