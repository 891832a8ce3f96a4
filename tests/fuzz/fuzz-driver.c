/* SPDX-License-Identifier: MIT */

/*
 * A driver for fuzz targets where no fuzzer is at hand.  With file names: runs
 * those (a crash that a fuzzer has found).  Without: sound inputs, damaged in
 * pseudo-random ways, always the same ones.  Each input has an allocation of its own
 * length, so that a sanitizer or valgrind sees every byte read past its end.
 */

#include "fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define INPUT_MAX 65536
#define ROUNDS 20000

static uint32_t state = 1;

static uint32_t next_random(uint32_t below)
{
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        return state % below;
}

static void run(const uint8_t *data, size_t size)
{
        _cleanup_free_ uint8_t *input = malloc(size ? size : 1);

        if (!input)
                abort();
        memcpy(input, data, size);
        (void)LLVMFuzzerTestOneInput(input, size);
}

static size_t damage(uint8_t *data, size_t size)
{
        static const uint8_t telling[] = { 0, 1, 2, 0x7f, 0x80, 0xff };

        for (uint32_t times = 1 + next_random(4); times > 0 && size > 0; times--) {
                size_t at = next_random((uint32_t)size);

                switch (next_random(5)) {
                case 0:
                        data[at] = (uint8_t)next_random(256);
                        break;
                case 1:
                        data[at] = telling[next_random(sizeof(telling))];
                        break;
                case 2:
                        data[at] ^= (uint8_t)(1U << next_random(8));
                        break;
                case 3:
                        size = at;
                        break;
                case 4:                 /* a piece of it once more */
                        if (2 * size - at <= INPUT_MAX) {
                                memmove(data + size, data + at, size - at);
                                size += size - at;
                        }
                        break;
                }
        }
        return size;
}

static int run_file(const char *path, uint8_t *data)
{
        _cleanup_fclose_ FILE *file = fopen(path, "re");

        if (!file) {
                perror(path);
                return EXIT_FAILURE;
        }
        run(data, fread(data, 1, INPUT_MAX, file));
        return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        _cleanup_free_ uint8_t *data = malloc(INPUT_MAX);
        unsigned n_seeds = 0;

        if (!data)
                return EXIT_FAILURE;
        for (int i = 1; i < argc; i++)
                if (run_file(argv[i], data) != EXIT_SUCCESS)
                        return EXIT_FAILURE;
        if (argc > 1)
                return EXIT_SUCCESS;

        while (fuzz_seed(n_seeds, data, INPUT_MAX) > 0)
                n_seeds++;
        for (unsigned i = 0; i < n_seeds; i++)
                run(data, fuzz_seed(i, data, INPUT_MAX));
        run(data, 0);
        for (unsigned i = 0; n_seeds > 0 && i < ROUNDS; i++)
                run(data, damage(data, fuzz_seed(i % n_seeds, data, INPUT_MAX)));

        (void)printf("1..1\n%s 1 - %u sound inputs, %u damaged ones\n", n_seeds > 0 ? "ok" : "not ok", n_seeds, ROUNDS);
        return n_seeds > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
