/* SPDX-License-Identifier: MIT */
/* See rate.h. */

#include <stdio.h>

#include "client/rate.h"

uint64_t rate_seconds(uint64_t usec)
{
        uint64_t seconds = usec / 1000000 + (usec % 1000000 != 0);
        uint64_t grain = seconds > 600 ? 60 : seconds > 120 ? 30 : seconds > 20 ? 5 : 1;

        return (seconds + grain - 1) / grain * grain;
}

const char *rate_speed_text(uint64_t speed, char text[static RATE_TEXT_SIZE])
{
        text[0] = '\0';
        if (speed >= 1024 * 1024)
                (void)snprintf(text, RATE_TEXT_SIZE, "%u.%u MiB/s", (unsigned)(speed >> 20) % 100000, (unsigned)((speed & 0xfffff) * 10 >> 20));
        else if (speed > 0)
                (void)snprintf(text, RATE_TEXT_SIZE, "%u KiB/s", (unsigned)(speed + 512) >> 10);
        return text;
}

const char *rate_left_text(uint64_t seconds, char text[static RATE_TEXT_SIZE])
{
        text[0] = '\0';
        if (seconds > 120)
                (void)snprintf(text, RATE_TEXT_SIZE, "%llu min", (unsigned long long)(seconds + 59) / 60);
        else if (seconds > 0)
                (void)snprintf(text, RATE_TEXT_SIZE, "%llu s", (unsigned long long)seconds);
        return text;
}
