/* SPDX-License-Identifier: MIT */
#pragma once

/*
 * One SQLite file as a module sees it: opened, recognised, migrated, read and
 * written by constant statements.  The only header of the program behind which
 * SQLite stands.  It knows no record, no loop and no thread: whoever has a
 * struct database uses it from one thread at a time.
 *
 * Faults are negative errnos; -EUCLEAN means that the file is damaged, -EINVAL
 * that a value broke a constraint of its table.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/cleanup.h"

struct database;

/* migrations[n] makes version n + 1 from version n; PRAGMA user_version tells how far a file is. */
struct database_schema {
        uint32_t application_id;
        const char *const *migrations;
        size_t n_migrations;
        const char *first;              /* run once in a file that is begun, before it stands under its name; NULL: nothing */
};

enum database_birth {
        DATABASE_LOADED,                /* it was there */
        DATABASE_BEGUN,                 /* there was none, or it was set aside */
};

/* path NULL: in memory.  A damaged file is set aside as <path>.damaged-<time>, one of another program or of a newer version, untouched,
 * as <path>.foreign-<time>; each with its -wal and -shm, and an empty one is begun.  check: read all of it (PRAGMA quick_check). */
int database_open(const char *path, const struct database_schema *schema, bool check, struct database **ret);
/* What can be read of a file on a medium that takes no writes: a copy of it, that ends with the handle. */
int database_open_copy(const char *path, const struct database_schema *schema, struct database **ret);
/* Brings the log home and closes; NULL is fine; returns NULL. */
struct database *database_close(struct database *database);
static inline void database_closep(struct database **database)
{
        (void)database_close(*database);
}
/* Closes without another write to the file, and sets it aside. */
int database_set_aside(struct database *database, const char *path);

enum database_birth database_birth(const struct database *database);
bool database_is_copy(const struct database *database);

/* durable: the commit returns when it is on the disk; else when the kernel has it. */
int database_begin(struct database *database, bool durable);
int database_commit(struct database *database);
void database_rollback(struct database *database);

/* values: one letter per parameter: s const char *, i int64_t, d const struct digest *.  sql: a constant; prepared once. */
int database_run(struct database *database, const char *sql, const char *values, ...);

struct row;
/* Fails (sticky, see database_query) when the text has no room in size bytes. */
void row_text(struct row *row, int column, char *text, size_t size);
/* Fails outside min..max. */
int64_t row_int(struct row *row, int column, int64_t min, int64_t max);
void row_digest(struct row *row, int column, struct digest *digest);
/* Did all the reads of this row so far fit? */
bool row_is_sound(const struct row *row);
/* Valid until fn returns. */
const char *row_text_ref(struct row *row, int column);

/* fn per row; its negative return ends the query and is returned. */
int database_query(struct database *database, const char *sql, int (*fn)(void *userdata, struct row *row), void *userdata,
                   const char *values, ...);
/* Gives back what is held for speed: prepared statements, cached pages. */
void database_trim(struct database *database);
