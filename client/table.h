/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * Tables for people.  The last column holds sentences: on a wide terminal it is
 * wrapped beside the others, on a narrow one it stands under its row; in a
 * file every row is one line.  A column in which no row has anything is left out.
 */

#include <stdio.h>

#include "base/cleanup.h"
#include "client/text.h"

struct table;

/* headings: NULL-terminated; the last one is the column of sentences. */
struct table *table_new(const char *const *headings);
struct table *table_free(struct table *table);
DEFINE_FREEP(table)

/* Begins a row, then one cell after the other.  "" is shown as "-".  -ENOMEM. */
int table_row(struct table *table);
int table_cell(struct table *table, enum style style, const char *text);
/* Writes it all; columns 0: lines as long as they are. */
int table_print(struct table *table, FILE *to, const struct terminal *terminal);
