/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * What a bench hands to the table of all gates that "make bench" prints at its end (tests/bench/table).
 */

#include <stdbool.h>

/* A line in the file that $BENCH_ROWS names; nothing without it.  key: a row of tests/bench/table.  gate: what was asked; floor: what the
 * floor daemon, or whatever it is held against, has ("": nothing); have: what camrescue has, as printf.  Fails nothing: a row that is
 * missed may have a reason there. */
__attribute__((format(printf, 5, 6))) void bench_row(const char *key, bool met, const char *gate, const char *floor, const char *have, ...);
/* printf into a buffer that stays until the fourth call after this one. */
__attribute__((format(printf, 1, 2))) const char *bench_text(const char *format, ...);
