/* SPDX-License-Identifier: MIT */

/* See journal-rows.h.  Invariant: what one record wrote reads back as the same record, or not at all. */

#include "core/journal-rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/log.h"

#define ENDED_UPDATES_MAX 100
#define HISTORY_MAX 200

#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)

#define DIGEST_COLUMN(name) #name " BLOB NOT NULL CHECK (length(" #name ") = 32), "
#define FLAG_COLUMN(name) #name " INTEGER NOT NULL CHECK (" #name " IN (0, 1)), "

/* Never edited once released: a change is a new entry. */
static const char *const migrations[] = {
        "CREATE TABLE cameras ("
        "  key TEXT PRIMARY KEY, board TEXT NOT NULL, port TEXT NOT NULL, runtime_serial TEXT NOT NULL, rom_serial TEXT NOT NULL,"
        "  label TEXT NOT NULL, firmware_version TEXT NOT NULL,"
        DIGEST_COLUMN(firmware) DIGEST_COLUMN(bootloader)
        "  bootloader_device INTEGER NOT NULL CHECK (bootloader_device BETWEEN 0 AND 65535),"
        "  layout INTEGER NOT NULL CHECK (layout BETWEEN 0 AND 255),"
        "  automatic INTEGER NOT NULL CHECK (automatic BETWEEN -1 AND 1),"
        FLAG_COLUMN(suspect)
        "  first_seen INTEGER NOT NULL, last_seen INTEGER NOT NULL"
        ") STRICT, WITHOUT ROWID;"

        "CREATE TABLE updates ("
        "  id TEXT PRIMARY KEY, number INTEGER NOT NULL, camera TEXT NOT NULL, wish TEXT NOT NULL, version TEXT NOT NULL,"
        "  reason TEXT NOT NULL,"
        FLAG_COLUMN(word_romfs) FLAG_COLUMN(word_filesystem) FLAG_COLUMN(word_replace)
        "  state TEXT NOT NULL, outcome TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL,"
        "  started INTEGER NOT NULL, ended INTEGER NOT NULL"
        ") STRICT, WITHOUT ROWID;"

        "CREATE TABLE update_images ("
        "  update_id TEXT NOT NULL, position INTEGER NOT NULL, partition TEXT NOT NULL,"
        DIGEST_COLUMN(digest)
        "  size INTEGER NOT NULL, PRIMARY KEY (update_id, position)"
        ") STRICT, WITHOUT ROWID;"

        "CREATE TABLE wear ("
        "  update_id TEXT NOT NULL, partition TEXT NOT NULL, unit INTEGER NOT NULL, erases INTEGER NOT NULL,"
        "  PRIMARY KEY (update_id, partition, unit)"
        ") STRICT, WITHOUT ROWID;"

        "CREATE TABLE firmware ("
        DIGEST_COLUMN(digest)
        "  board TEXT NOT NULL, partition TEXT NOT NULL, version TEXT NOT NULL, file TEXT NOT NULL,"
        FLAG_COLUMN(stable) FLAG_COLUMN(pinned)
        "  size INTEGER NOT NULL, added INTEGER NOT NULL, PRIMARY KEY (digest, board, partition, version)"
        ") STRICT, WITHOUT ROWID;"

        "CREATE TABLE saved ("
        "  camera TEXT NOT NULL, partition TEXT NOT NULL,"
        DIGEST_COLUMN(digest)
        "  size INTEGER NOT NULL, saved INTEGER NOT NULL, PRIMARY KEY (camera, partition, digest)"
        ") STRICT, WITHOUT ROWID;"

        "CREATE TABLE history ("
        "  number INTEGER PRIMARY KEY, camera TEXT NOT NULL, wall INTEGER NOT NULL, event TEXT NOT NULL, text TEXT NOT NULL"
        ") STRICT;"
        "CREATE INDEX history_of_camera ON history (camera, number);"

        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;",

        /* Which units are proven good; failures in a row; and attempts are counted on when a camera has run in between. */
        "ALTER TABLE updates ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;"
        "ALTER TABLE updates ADD COLUMN begun INTEGER NOT NULL DEFAULT 0 CHECK (begun IN (0, 1));"
        "UPDATE updates SET begun = attempts > 0;"
        "ALTER TABLE wear RENAME TO units;"
        "ALTER TABLE units ADD COLUMN proven INTEGER NOT NULL DEFAULT 0 CHECK (proven IN (0, 1));",

        /* How an update is to end is what was asked for, too. */
        "ALTER TABLE updates ADD COLUMN stay INTEGER NOT NULL DEFAULT 0 CHECK (stay IN (0, 1));"
        "ALTER TABLE updates ADD COLUMN bootloader_only INTEGER NOT NULL DEFAULT 0 CHECK (bootloader_only IN (0, 1));",
};

const struct database_schema journal_schema = {
        .application_id = 0x43615231,   /* "CaR1" */
        .migrations = migrations,
        .n_migrations = ELEMENTSOF(migrations),
        /* It goes with OP_PUT_WHOLE.  A database of before this mark has none, and is as whole as it was. */
        .first = "INSERT INTO counters VALUES ('begun', 1)",
};

/* --- writing --- */

static int put_camera(struct database *database, const struct op *op)
{
        const struct camera_record *record = op->camera;

        return database_run(database,
                            "INSERT OR REPLACE INTO cameras VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                            "sssssssddiiiiii", record->key, record->board, record->port, record->runtime_serial,
                            record->rom_serial, record->label, record->firmware_version, &record->firmware,
                            &record->bootloader, (int64_t)record->bootloader_device, (int64_t)record->layout,
                            (int64_t)record->automatic, (int64_t)record->suspect, (int64_t)record->first_seen,
                            (int64_t)record->last_seen);
}

static int delete_camera(struct database *database, const struct op *op)
{
        int r;

        r = database_run(database, "DELETE FROM cameras WHERE key = ?", "s", op->rename->old);
        if (r >= 0)
                r = database_run(database, "DELETE FROM history WHERE camera = ?", "s", op->rename->old);
        return r;
}

static int rename_camera(struct database *database, const struct op *op)
{
        const char *old = op->rename->old, *new = op->rename->new;
        int r;

        /* What is already known under the unique id knows better than what was gathered under a provisional key. */
        r = database_run(database, "UPDATE OR IGNORE cameras SET key = ? WHERE key = ?", "ss", new, old);
        if (r >= 0)
                r = database_run(database, "DELETE FROM cameras WHERE key = ?", "s", old);
        if (r >= 0)
                r = database_run(database, "UPDATE updates SET camera = ? WHERE camera = ?", "ss", new, old);
        if (r >= 0)
                r = database_run(database, "UPDATE OR REPLACE saved SET camera = ? WHERE camera = ?", "ss", new, old);
        if (r >= 0)
                r = database_run(database, "UPDATE history SET camera = ? WHERE camera = ?", "ss", new, old);
        return r;
}

uint64_t update_number(const char *id)
{
        return id[0] == 'u' ? strtoull(id + 1, NULL, 10) : 0;
}

static bool update_is_open(const struct update_record *record)
{
        return strcmp(record->state, "open") == 0;
}

/* Its erases are nobody's trouble any more. */
static bool update_ended_well(const struct update_record *record)
{
        return (strcmp(record->state, "done") == 0 && !record->begun) || strcmp(record->state, "not-seen") == 0;
}

/* Nobody else knows that this camera is half written. */
#define IS_WHAT_IS_LEFT_OF_A_CAMERA \
        "(begun = 1 AND camera IN (SELECT key FROM cameras)" \
        " AND number = (SELECT max(number) FROM updates AS others WHERE others.camera = updates.camera))"

/* The newest stay, and whoever was told of an end can read it for a while, however many there were, also after a restart.  (A clock that was
 * set back makes ends of the future: these are not kept for that.)  Newest is by number, whatever the clock said. */
static int prune_updates(struct database *database, uint64_t wall)
{
        int r;

        r = database_run(database,
                         "DELETE FROM updates WHERE id IN (SELECT id FROM updates WHERE state <> 'open'"
                         " ORDER BY number DESC LIMIT -1 OFFSET " STRINGIFY(ENDED_UPDATES_MAX) ") AND ended NOT BETWEEN ? AND ?"
                         " AND NOT " IS_WHAT_IS_LEFT_OF_A_CAMERA, "ii",
                         (int64_t)wall - (int64_t)ENDED_UPDATES_MIN_AGE + 1, (int64_t)wall + (int64_t)ENDED_UPDATES_MIN_AGE);
        if (r >= 0)
                r = database_run(database, "DELETE FROM update_images WHERE update_id NOT IN (SELECT id FROM updates)", "");
        if (r >= 0)
                r = database_run(database, "DELETE FROM units WHERE update_id NOT IN (SELECT id FROM updates)", "");
        return r;
}

static int put_update(struct database *database, const struct op *op)
{
        const struct update_record *record = op->update;
        int64_t number = (int64_t)update_number(record->id);
        int r;

        r = database_run(database,
                         "INSERT OR REPLACE INTO updates (id, number, camera, wish, version, reason, word_romfs, word_filesystem,"
                         " word_replace, state, outcome, message, attempts, started, ended, failures, begun, stay, bootloader_only)"
                         " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                         "sissssiiisssiiiiiii", record->id, number, record->camera, record->wish, record->version, record->reason,
                         (int64_t)record->word_romfs, (int64_t)record->word_filesystem, (int64_t)record->word_replace,
                         record->state, record->outcome, record->message, (int64_t)record->attempts,
                         (int64_t)record->started, (int64_t)record->ended, (int64_t)record->failures, (int64_t)record->begun,
                         (int64_t)record->stay, (int64_t)record->bootloader_only);
        if (r >= 0)
                r = database_run(database, "DELETE FROM update_images WHERE update_id = ?", "s", record->id);
        for (size_t i = 0; i < record->n_images && r >= 0; i++)
                r = database_run(database, "INSERT INTO update_images VALUES (?, ?, ?, ?, ?)", "sisdi", record->id, (int64_t)i,
                                 record->images[i].partition, &record->images[i].digest, (int64_t)record->images[i].size);
        /* Apart from the updates, which are forgotten one day: a number is never given twice. */
        if (r >= 0)
                r = database_run(database, "INSERT INTO counters VALUES ('update', ?)"
                                 " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)", "i", number);
        if (r >= 0 && update_ended_well(record))
                r = database_run(database, "DELETE FROM units WHERE update_id = ?", "s", record->id);
        if (r >= 0 && !update_is_open(record))
                r = prune_updates(database, op->wall);
        return r;
}

static int put_units(struct database *database, const struct op *op)
{
        const struct journal_units *units = op->units;
        int r = 0;

        for (size_t i = 0; i < units->n && r >= 0; i++)
                r = database_run(database, "INSERT OR REPLACE INTO units (update_id, partition, unit, erases, proven) VALUES (?, ?, ?, ?, ?)",
                                 "ssiii", units->update, units->partition, (int64_t)units->first + (int64_t)i,
                                 (int64_t)units->units[i].erases, (int64_t)units->units[i].proven);
        return r;
}

static int put_firmware(struct database *database, const struct op *op)
{
        const struct firmware_record *record = op->firmware;

        return database_run(database, "INSERT OR REPLACE INTO firmware VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", "dssssiiii",
                            &record->digest, record->board, record->partition, record->version, record->file,
                            (int64_t)record->stable, (int64_t)record->pinned, (int64_t)record->size, (int64_t)record->added);
}

static int delete_firmware(struct database *database, const struct op *op)
{
        return database_run(database, "DELETE FROM firmware WHERE digest = ? AND board = ? AND partition = ?", "dss",
                            &op->firmware->digest, op->firmware->board, op->firmware->partition);
}

static int put_saved(struct database *database, const struct op *op)
{
        const struct saved_record *record = op->saved;

        return database_run(database, "INSERT OR REPLACE INTO saved VALUES (?, ?, ?, ?, ?)", "ssdii", record->camera,
                            record->partition, &record->digest, (int64_t)record->size, (int64_t)record->saved);
}

static int delete_saved(struct database *database, const struct op *op)
{
        return database_run(database, "DELETE FROM saved WHERE camera = ? AND digest = ?", "sd", op->saved->camera,
                            &op->saved->digest);
}

static int put_history(struct database *database, const struct op *op)
{
        int r;

        r = database_run(database, "INSERT INTO history (camera, wall, event, text) VALUES (?, ?, ?, ?)", "siss",
                         op->history->camera, (int64_t)op->history->line.wall, op->history->line.event, op->history->line.text);
        if (r >= 0)
                r = database_run(database,
                                 "DELETE FROM history WHERE camera = ?1 AND number <= (SELECT number FROM history"
                                 " WHERE camera = ?1 ORDER BY number DESC LIMIT 1 OFFSET " STRINGIFY(HISTORY_MAX) ")",
                                 "s", op->history->camera);
        return r;
}

static int put_whole(struct database *database, const struct op *op)
{
        return database_run(database, "DELETE FROM counters WHERE name = 'begun'", "");
}

static bool same_camera(const struct op *a, const struct op *b)
{
        return strcmp(a->camera->key, b->camera->key) == 0;
}

static bool same_update(const struct op *a, const struct op *b)
{
        return strcmp(a->update->id, b->update->id) == 0;
}

static bool same_units(const struct op *a, const struct op *b)
{
        return a->units->first == b->units->first && a->units->n == b->units->n &&
               strcmp(a->units->update, b->units->update) == 0 && strcmp(a->units->partition, b->units->partition) == 0;
}

static bool same_firmware(const struct op *a, const struct op *b)
{
        return digest_equal(&a->firmware->digest, &b->firmware->digest) && strcmp(a->firmware->board, b->firmware->board) == 0 &&
               strcmp(a->firmware->partition, b->firmware->partition) == 0;
}

static bool same_saved(const struct op *a, const struct op *b)
{
        return digest_equal(&a->saved->digest, &b->saved->digest) && strcmp(a->saved->camera, b->saved->camera) == 0 &&
               strcmp(a->saved->partition, b->saved->partition) == 0;
}

const struct op_type op_types[_OP_KIND_MAX] = {
        [OP_PUT_CAMERA]      = { "camera", put_camera, same_camera, false, sizeof(struct camera_record) },
        [OP_DELETE_CAMERA]   = { "removal of a camera", delete_camera, NULL, true, sizeof(struct journal_rename) },
        [OP_RENAME_CAMERA]   = { "renaming of a camera", rename_camera, NULL, true, sizeof(struct journal_rename) },
        [OP_PUT_UPDATE]      = { "update", put_update, same_update, false, sizeof(struct update_record) },
        [OP_PUT_UNITS]       = { "erase units", put_units, same_units, false, sizeof(struct journal_units) },
        [OP_PUT_FIRMWARE]    = { "firmware", put_firmware, same_firmware, false, sizeof(struct firmware_record) },
        [OP_DELETE_FIRMWARE] = { "removal of firmware", delete_firmware, NULL, true, sizeof(struct firmware_record) },
        [OP_PUT_SAVED]       = { "saved image", put_saved, same_saved, false, sizeof(struct saved_record) },
        [OP_DELETE_SAVED]    = { "removal of a saved image", delete_saved, NULL, true, sizeof(struct saved_record) },
        [OP_PUT_HISTORY]     = { "history", put_history, NULL, false, sizeof(struct journal_history) },
        [OP_PUT_WHOLE]       = { "that nothing is missed", put_whole, NULL, false, 0 },
};

/* --- reading --- */

/* A row that does not fit its record was not written by us. */
static bool row_is_usable(const struct row *row, const char *what)
{
        if (!row_is_sound(row))
                log_warning("journal: a record (%s) makes no sense, ignoring it", what);
        return row_is_sound(row);
}

struct camera_reading {
        int (*fn)(void *userdata, const struct camera_record *record);
        void *userdata;
};

static int on_camera(void *userdata, struct row *row)
{
        struct camera_reading *reading = userdata;
        struct camera_record record = {};

        row_text(row, 0, record.key, sizeof(record.key));
        row_text(row, 1, record.board, sizeof(record.board));
        row_text(row, 2, record.port, sizeof(record.port));
        row_text(row, 3, record.runtime_serial, sizeof(record.runtime_serial));
        row_text(row, 4, record.rom_serial, sizeof(record.rom_serial));
        row_text(row, 5, record.label, sizeof(record.label));
        row_text(row, 6, record.firmware_version, sizeof(record.firmware_version));
        row_digest(row, 7, &record.firmware);
        row_digest(row, 8, &record.bootloader);
        record.bootloader_device = (uint16_t)row_int(row, 9, 0, UINT16_MAX);
        record.layout = (uint8_t)row_int(row, 10, 0, UINT8_MAX);
        record.automatic = (int)row_int(row, 11, -1, 1);
        record.suspect = row_int(row, 12, 0, 1);
        record.first_seen = (uint64_t)row_int(row, 13, INT64_MIN, INT64_MAX);
        record.last_seen = (uint64_t)row_int(row, 14, INT64_MIN, INT64_MAX);
        return row_is_usable(row, "camera") ? reading->fn(reading->userdata, &record) : 0;
}

int rows_each_camera(struct database *database, int (*fn)(void *userdata, const struct camera_record *), void *userdata)
{
        struct camera_reading reading = { fn, userdata };

        return database_query(database, "SELECT * FROM cameras ORDER BY key", on_camera, &reading, "");
}

static int on_update_image(void *userdata, struct row *row)
{
        struct update_record *record = userdata;
        struct update_image_record image = {};

        row_text(row, 0, image.partition, sizeof(image.partition));
        row_digest(row, 1, &image.digest);
        image.size = (uint32_t)row_int(row, 2, 0, UINT32_MAX);
        /* An update without one of its images would be another update. */
        if (!row_is_sound(row) || record->n_images == UPDATE_IMAGES_MAX)
                return -EBADMSG;
        record->images[record->n_images++] = image;
        return 0;
}

struct update_reading {
        struct database *database;
        int (*fn)(void *userdata, const struct update_record *record);
        void *userdata;
};

static int on_update(void *userdata, struct row *row)
{
        struct update_reading *reading = userdata;
        struct update_record record = {};
        int r;

        row_text(row, 0, record.id, sizeof(record.id));
        row_text(row, 1, record.camera, sizeof(record.camera));
        row_text(row, 2, record.wish, sizeof(record.wish));
        row_text(row, 3, record.version, sizeof(record.version));
        row_text(row, 4, record.reason, sizeof(record.reason));
        record.word_romfs = row_int(row, 5, 0, 1);
        record.word_filesystem = row_int(row, 6, 0, 1);
        record.word_replace = row_int(row, 7, 0, 1);
        row_text(row, 8, record.state, sizeof(record.state));
        row_text(row, 9, record.outcome, sizeof(record.outcome));
        row_text(row, 10, record.message, sizeof(record.message));
        record.attempts = (unsigned)row_int(row, 11, 0, UINT32_MAX);
        record.started = (uint64_t)row_int(row, 12, INT64_MIN, INT64_MAX);
        record.ended = (uint64_t)row_int(row, 13, INT64_MIN, INT64_MAX);
        record.failures = (unsigned)row_int(row, 14, 0, UINT32_MAX);
        record.begun = row_int(row, 15, 0, 1);
        record.stay = row_int(row, 16, 0, 1);
        record.bootloader_only = row_int(row, 17, 0, 1);
        if (!row_is_usable(row, "update"))
                return 0;

        r = database_query(reading->database,
                           "SELECT partition, digest, size FROM update_images WHERE update_id = ? ORDER BY position",
                           on_update_image, &record, "s", record.id);
        if (r == -EBADMSG) {
                log_warning("journal: an image of update %s makes no sense, ignoring the update", record.id);
                return 0;
        }
        return r < 0 ? r : reading->fn(reading->userdata, &record);
}

int rows_each_update(struct database *database, uint64_t wall, int (*fn)(void *userdata, const struct update_record *), void *userdata)
{
        struct update_reading reading = { .database = database, .fn = fn, .userdata = userdata };

        return database_query(database,
                              "SELECT id, camera, wish, version, reason, word_romfs, word_filesystem, word_replace, state, outcome,"
                              " message, attempts, started, ended, failures, begun, stay, bootloader_only FROM (SELECT *, row_number() OVER (PARTITION BY state = 'open'"
                              " ORDER BY number DESC) AS place, " IS_WHAT_IS_LEFT_OF_A_CAMERA " AS is_left FROM updates)"
                              " WHERE state = 'open' OR place <= " STRINGIFY(ENDED_UPDATES_MAX) " OR ended BETWEEN ? AND ? OR is_left"
                              " ORDER BY state <> 'open', number DESC",
                              on_update, &reading, "ii", (int64_t)wall - (int64_t)ENDED_UPDATES_MIN_AGE + 1, (int64_t)wall + (int64_t)ENDED_UPDATES_MIN_AGE);
}

struct unit_reading {
        int (*fn)(void *userdata, const char *partition, unsigned unit, const struct unit_record *record);
        void *userdata;
};

static int on_unit(void *userdata, struct row *row)
{
        struct unit_reading *reading = userdata;
        struct unit_record record = {};
        char partition[sizeof(((struct journal_units *)NULL)->partition)];
        unsigned unit;

        row_text(row, 0, partition, sizeof(partition));
        unit = (unsigned)row_int(row, 1, 0, UINT32_MAX);
        record.erases = (unsigned)row_int(row, 2, 0, UINT32_MAX);
        record.proven = row_int(row, 3, 0, 1);
        return row_is_usable(row, "erase unit") ? reading->fn(reading->userdata, partition, unit, &record) : 0;
}

int rows_each_unit(struct database *database, const char *update,
                   int (*fn)(void *userdata, const char *partition, unsigned unit, const struct unit_record *record), void *userdata)
{
        struct unit_reading reading = { fn, userdata };

        return database_query(database,
                              "SELECT partition, unit, erases, proven FROM units WHERE update_id = ? ORDER BY partition, unit",
                              on_unit, &reading, "s", update);
}

struct firmware_reading {
        int (*fn)(void *userdata, const struct firmware_record *record);
        void *userdata;
};

static int on_firmware(void *userdata, struct row *row)
{
        struct firmware_reading *reading = userdata;
        struct firmware_record record = {};

        row_digest(row, 0, &record.digest);
        row_text(row, 1, record.board, sizeof(record.board));
        row_text(row, 2, record.partition, sizeof(record.partition));
        row_text(row, 3, record.version, sizeof(record.version));
        row_text(row, 4, record.file, sizeof(record.file));
        record.stable = row_int(row, 5, 0, 1);
        record.pinned = row_int(row, 6, 0, 1);
        record.size = (uint32_t)row_int(row, 7, 0, UINT32_MAX);
        record.added = (uint64_t)row_int(row, 8, INT64_MIN, INT64_MAX);
        return row_is_usable(row, "firmware") ? reading->fn(reading->userdata, &record) : 0;
}

int rows_each_firmware(struct database *database, int (*fn)(void *userdata, const struct firmware_record *), void *userdata)
{
        struct firmware_reading reading = { fn, userdata };

        return database_query(database, "SELECT * FROM firmware ORDER BY added, digest, board, partition", on_firmware,
                              &reading, "");
}

struct saved_reading {
        int (*fn)(void *userdata, const struct saved_record *record);
        void *userdata;
};

static int on_saved(void *userdata, struct row *row)
{
        struct saved_reading *reading = userdata;
        struct saved_record record = {};

        row_text(row, 0, record.camera, sizeof(record.camera));
        row_text(row, 1, record.partition, sizeof(record.partition));
        row_digest(row, 2, &record.digest);
        record.size = (uint32_t)row_int(row, 3, 0, UINT32_MAX);
        record.saved = (uint64_t)row_int(row, 4, INT64_MIN, INT64_MAX);
        return row_is_usable(row, "saved image") ? reading->fn(reading->userdata, &record) : 0;
}

int rows_each_saved(struct database *database, int (*fn)(void *userdata, const struct saved_record *), void *userdata)
{
        struct saved_reading reading = { fn, userdata };

        return database_query(database, "SELECT * FROM saved ORDER BY saved, camera, partition, digest", on_saved,
                              &reading, "");
}

struct history_reading {
        int (*fn)(void *userdata, uint64_t wall, const char *event, const char *text);
        void *userdata;
};

static int on_history(void *userdata, struct row *row)
{
        struct history_reading *reading = userdata;
        struct history_line history = {};

        history.wall = (uint64_t)row_int(row, 0, INT64_MIN, INT64_MAX);
        row_text(row, 1, history.event, sizeof(history.event));
        row_text(row, 2, history.text, sizeof(history.text));
        return row_is_usable(row, "history") ? reading->fn(reading->userdata, history.wall, history.event, history.text) : 0;
}

int rows_each_history(struct database *database, const char *camera, size_t max,
                      int (*fn)(void *userdata, uint64_t wall, const char *event, const char *text), void *userdata)
{
        struct history_reading reading = { fn, userdata };

        return database_query(database,
                              "SELECT wall, event, text FROM history WHERE camera = ? ORDER BY number DESC LIMIT ?", on_history,
                              &reading, "si", camera, (int64_t)MIN(max, (size_t)HISTORY_MAX));
}

static int on_last_number(void *userdata, struct row *row)
{
        *(uint64_t *)userdata = (uint64_t)row_int(row, 0, 0, INT64_MAX);
        return 0;
}

int rows_last_update_number(struct database *database, uint64_t *ret)
{
        return database_query(database, "SELECT value FROM counters WHERE name = 'update'", on_last_number, ret, "");
}

static int on_begun(void *userdata, struct row *row)
{
        *(bool *)userdata = !row_int(row, 0, 0, 1);
        return 0;
}

int rows_are_whole(struct database *database, bool *ret)
{
        return database_query(database, "SELECT EXISTS (SELECT 1 FROM counters WHERE name = 'begun')", on_begun, ret, "");
}
