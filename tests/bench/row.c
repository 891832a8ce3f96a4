/* SPDX-License-Identifier: MIT */

#include "bench/row.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"

void bench_row(const char *key, bool met, const char *gate, const char *floor, const char *have, ...)
{
        const char *path = getenv("BENCH_ROWS");
        _cleanup_fclose_ FILE *f = path ? fopen(path, "ae") : NULL;
        va_list ap;

        if (!f)
                return;
        (void)fprintf(f, "%s|%s|%s|%s|", key, met ? "met" : "missed", gate, floor);
        va_start(ap, have);
        (void)vfprintf(f, have, ap);
        va_end(ap);
        (void)fputc('\n', f);
}

const char *bench_text(const char *format, ...)
{
        static char text[4][128];
        static unsigned turn;
        char *buffer = text[turn++ % 4];
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(buffer, sizeof(text[0]), format, ap);
        va_end(ap);
        return buffer;
}
