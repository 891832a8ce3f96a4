/* SPDX-License-Identifier: MIT */

/*
 * How fast this processor counts its time stamps, in kHz.  QEMU's emulated processor hands the same count on to its
 * guest.  Prints nothing where there is no such count.
 */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#ifdef __x86_64__
#include <x86intrin.h>

#define TRIES 1000
#define MEASURED 20000000               /* nanoseconds: 50 of them are one in 400,000 */

static uint64_t now(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* One moment by both clocks: that of the tries in which nobody came in between, as the time that it took shows. */
static void look(uint64_t *ret_count, uint64_t *ret_nanoseconds)
{
        uint64_t least = UINT64_MAX;

        for (unsigned i = 0; i < TRIES; i++) {
                uint64_t before = __rdtsc(), time = now(), took = __rdtsc() - before;

                if (took >= least)
                        continue;
                least = took;
                *ret_count = before + took / 2;
                *ret_nanoseconds = time;
        }
}

int main(void)
{
        uint64_t count[2], time[2];

        look(&count[0], &time[0]);
        do
                look(&count[1], &time[1]);
        while (time[1] - time[0] < MEASURED);
        (void)printf("%" PRIu64 "\n", (count[1] - count[0]) * 1000000 / (time[1] - time[0]));
        return 0;
}
#else
int main(void)
{
        return 0;
}
#endif
