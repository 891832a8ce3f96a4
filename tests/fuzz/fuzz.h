/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a fuzz target is.  Linked with fuzz-driver.c it is a smoke test of a few
 * seconds that runs everywhere and repeats itself exactly; its LLVMFuzzerTestOneInput()
 * is also what libFuzzer and AFL++ look for.
 */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* What must hold of whatever was understood. */
#define CHECK(condition)                                                        \
        do {                                                                    \
                if (!(condition)) {                                             \
                        fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
                        abort();                                                \
                }                                                               \
        } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Writes the n-th sound input to data (at most size bytes) and returns its length; 0 when there is none. */
size_t fuzz_seed(unsigned n, uint8_t *data, size_t size);
