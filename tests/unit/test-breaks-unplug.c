/* SPDX-License-Identifier: MIT */
/*
 * The cable is pulled, the daemon killed, or both, at each transfer of a whole
 * recovery and at each moment of it; and a sample of two such accidents.  Every
 * camera runs in the end, with the right bytes.
 *
 * BREAKS_SEED=N repeats a sample (the seed is printed), BREAKS_PAIRS=N makes it larger.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "unit/breaks.h"

#define PAIRS 60

static void every_transfer(const struct stock *stock)
{
        unsigned stride = stock_stride(stock), number = 1;

        for (unsigned kind = 0; kind < _ACCIDENT_KIND_MAX; kind++) {
                struct tally tally = {};

                for (unsigned moment = 0; moment < _MOMENT_MAX; moment++)
                        for (unsigned k = (moment + 4 * kind) % stride; k < stock->n_transfers; k += stride) {
                                struct scene scene;

                                if (moment == MOMENT_FLASH && !stock->flash_at[k])
                                        continue;
                                scene_begin(&scene, stock, number++, "%s %s transfer %u", accident_names[kind], moment_names[moment], k);
                                if (scene_suffer(&scene, kind, moment, k))
                                        tally.n[scene_carry_through(&scene)]++;
                                scene_end(&scene);
                        }
                tally_print(&tally, stock->row, accident_names[kind], "");
        }
}

static unsigned seed(void)
{
        static unsigned seed;
        const char *given = getenv("BREAKS_SEED");

        if (seed == 0) {
                seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL) % 1000000 + 1;
                printf("# BREAKS_SEED=%u\n", seed);
        }
        return seed;
}

static void pairs(const struct stock *stock)
{
        const char *given = getenv("BREAKS_PAIRS");
        unsigned n = given ? (unsigned)strtoul(given, NULL, 10) : PAIRS;
        struct tally tally = {};

        for (unsigned i = 0; i < n; i++) {
                struct scene lot = { .number = (seed() + i) * 1000 }, scene;
                unsigned kind[2], moment[2], k[2];

                for (size_t j = 0; j < 2; j++) {
                        kind[j] = scene_draw(&lot, _ACCIDENT_KIND_MAX);
                        moment[j] = scene_draw(&lot, _MOMENT_MAX);
                        k[j] = scene_draw(&lot, stock->n_transfers);
                }
                scene_begin(&scene, stock, seed() + i, "%s %s transfer %u, then %s %s transfer %u", accident_names[kind[0]],
                            moment_names[moment[0]], k[0], accident_names[kind[1]], moment_names[moment[1]], k[1]);
                if (scene_suffer(&scene, kind[0], moment[0], k[0]) && scene_suffer(&scene, kind[1], moment[1], k[1]))
                        tally.n[scene_carry_through(&scene)]++;
                scene_end(&scene);
        }
        tally_print(&tally, stock->row, "two of these", "");
}

static void row(void **state)
{
        struct stock stock;

        stock_init(&stock, *state);
        printf("# breaks: %s: %u transfers\n", stock.row->name, stock.n_transfers);
        every_transfer(&stock);
        pairs(&stock);
        stock_deinit(&stock);
}

int main(int argc, char *argv[])
{
        struct CMUnitTest tests[BREAKS_ROWS];

        for (size_t i = 0; i < BREAKS_ROWS; i++)
                tests[i] = (struct CMUnitTest){ breaks_rows[i].name, row, NULL, NULL, (void *)&breaks_rows[i] };
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
