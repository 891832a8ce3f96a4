/* SPDX-License-Identifier: MIT */

/*
 * See journal.h: records as rows, puts as batches.
 *
 * Puts wait in `pending`.  One batch at a time flies: it belongs to a helper
 * thread, with the database, from loop_work() until batch_land().  What is put
 * meanwhile gathers in the next one.  A batch is one transaction; if it fails,
 * all of it goes back in front of what is pending, so that the order of puts
 * is the order of rows.
 *
 * Invariant: the database is touched by the loop's thread only while `running`
 * is 0, and by a helper only while it is not.
 */

#include "core/journal.h"

#include <assert.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/database.h"

/* Nobody waits for these puts: they are gathered, so that a burst of events is one commit. */
#define COMMIT_DELAY  (50 * MSEC)
/* A disk that refuses is not asked with every event. */
#define RETRY_DELAY   (1 * SEC)
#define IDLE_DELAY    (5 * SEC)
#define CLOSE_TIMEOUT 10                /* seconds */

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
        "  size INTEGER NOT NULL, added INTEGER NOT NULL, PRIMARY KEY (digest, board, partition)"
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
};

static const struct database_schema schema = {
        .application_id = 0x43615231,   /* "CaR1" */
        .migrations = migrations,
        .n_migrations = ELEMENTSOF(migrations),
};

/* --- one put, waiting --- */

enum op_kind {
        OP_PUT_CAMERA,
        OP_DELETE_CAMERA,
        OP_RENAME_CAMERA,
        OP_PUT_UPDATE,
        OP_PUT_WEAR,
        OP_PUT_FIRMWARE,
        OP_DELETE_FIRMWARE,
        OP_PUT_SAVED,
        OP_DELETE_SAVED,
        OP_PUT_HISTORY,
        _OP_KIND_MAX
};

struct wear {
        char update[sizeof(((struct update_record *)NULL)->id)];
        char partition[16];
        unsigned unit, erases;
};

struct rename {
        char old[CAMERA_KEY_MAX], new[CAMERA_KEY_MAX];
};

struct history {
        char camera[CAMERA_KEY_MAX];
        uint64_t wall;
        char event[32];
        char text[256];
};

struct op {
        TAILQ_ENTRY(op) link;           /* in journal->pending or batch->ops */
        enum op_kind kind;
        size_t size;                    /* allocated, with what stands behind it: */
        union {
                void *record;
                struct camera_record *camera;
                struct rename *rename;  /* DELETE_CAMERA: only old */
                struct update_record *update;
                struct wear *wear;
                struct firmware_record *firmware;
                struct saved_record *saved;
                struct history *history;
        };
};
TAILQ_HEAD(op_queue, op);

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

static uint64_t update_number(const char *id)
{
        return id[0] == 'u' ? strtoull(id + 1, NULL, 10) : 0;
}

static bool update_is_open(const struct update_record *record)
{
        return strcmp(record->state, "open") == 0;
}

static int prune_updates(struct database *database)
{
        int r;

        r = database_run(database,
                         "DELETE FROM updates WHERE id IN (SELECT id FROM updates WHERE state <> 'open'"
                         " ORDER BY ended DESC, number DESC LIMIT -1 OFFSET " STRINGIFY(ENDED_UPDATES_MAX) ")", "");
        if (r >= 0)
                r = database_run(database, "DELETE FROM update_images WHERE update_id NOT IN (SELECT id FROM updates)", "");
        return r;
}

static int put_update(struct database *database, const struct op *op)
{
        const struct update_record *record = op->update;
        int64_t number = (int64_t)update_number(record->id);
        int r;

        r = database_run(database, "INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                         "sissssiiisssiii", record->id, number, record->camera, record->wish, record->version, record->reason,
                         (int64_t)record->word_romfs, (int64_t)record->word_filesystem, (int64_t)record->word_replace,
                         record->state, record->outcome, record->message, (int64_t)record->attempts,
                         (int64_t)record->started, (int64_t)record->ended);
        if (r >= 0)
                r = database_run(database, "DELETE FROM update_images WHERE update_id = ?", "s", record->id);
        for (size_t i = 0; i < record->n_images && r >= 0; i++)
                r = database_run(database, "INSERT INTO update_images VALUES (?, ?, ?, ?, ?)", "sisdi", record->id, (int64_t)i,
                                 record->images[i].partition, &record->images[i].digest, (int64_t)record->images[i].size);
        /* Apart from the updates, which are forgotten one day: a number is never given twice. */
        if (r >= 0)
                r = database_run(database, "INSERT INTO counters VALUES ('update', ?)"
                                 " ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)", "i", number);
        if (r >= 0 && !update_is_open(record)) {
                r = database_run(database, "DELETE FROM wear WHERE update_id = ?", "s", record->id);
                if (r >= 0)
                        r = prune_updates(database);
        }
        return r;
}

static int put_wear(struct database *database, const struct op *op)
{
        return database_run(database, "INSERT OR REPLACE INTO wear VALUES (?, ?, ?, ?)", "ssii", op->wear->update,
                            op->wear->partition, (int64_t)op->wear->unit, (int64_t)op->wear->erases);
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
                         op->history->camera, (int64_t)op->history->wall, op->history->event, op->history->text);
        if (r >= 0)
                r = database_run(database,
                                 "DELETE FROM history WHERE camera = ?1 AND number <= (SELECT number FROM history"
                                 " WHERE camera = ?1 ORDER BY number DESC LIMIT 1 OFFSET " STRINGIFY(HISTORY_MAX) ")",
                                 "s", op->history->camera);
        return r;
}

static bool same_camera(const struct op *a, const struct op *b)
{
        return strcmp(a->camera->key, b->camera->key) == 0;
}

static bool same_update(const struct op *a, const struct op *b)
{
        return strcmp(a->update->id, b->update->id) == 0;
}

static bool same_wear(const struct op *a, const struct op *b)
{
        return a->wear->unit == b->wear->unit && strcmp(a->wear->update, b->wear->update) == 0 &&
               strcmp(a->wear->partition, b->wear->partition) == 0;
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

/* same: a put replaces the row that the other writes, so of two that wait only the later need be kept.
 * barrier: it touches rows of other keys, so nothing is moved past it. */
static const struct op_type {
        const char *name;
        int (*apply)(struct database *, const struct op *);
        bool (*same)(const struct op *, const struct op *);
        bool barrier;
        size_t size;
} op_types[_OP_KIND_MAX] = {
        [OP_PUT_CAMERA]      = { "camera", put_camera, same_camera, false, sizeof(struct camera_record) },
        [OP_DELETE_CAMERA]   = { "removal of a camera", delete_camera, NULL, true, sizeof(struct rename) },
        [OP_RENAME_CAMERA]   = { "renaming of a camera", rename_camera, NULL, true, sizeof(struct rename) },
        [OP_PUT_UPDATE]      = { "update", put_update, same_update, false, sizeof(struct update_record) },
        [OP_PUT_WEAR]        = { "wear", put_wear, same_wear, false, sizeof(struct wear) },
        [OP_PUT_FIRMWARE]    = { "firmware", put_firmware, same_firmware, false, sizeof(struct firmware_record) },
        [OP_DELETE_FIRMWARE] = { "removal of firmware", delete_firmware, NULL, true, sizeof(struct firmware_record) },
        [OP_PUT_SAVED]       = { "saved image", put_saved, same_saved, false, sizeof(struct saved_record) },
        [OP_DELETE_SAVED]    = { "removal of a saved image", delete_saved, NULL, true, sizeof(struct saved_record) },
        [OP_PUT_HISTORY]     = { "history", put_history, NULL, false, sizeof(struct history) },
};

/* --- the journal --- */

struct sync {
        journal_sync_fn fn;
        void *userdata;
        TAILQ_ENTRY(sync) link;         /* in journal->syncs, batch->syncs or journal->answering */
};
TAILQ_HEAD(sync_queue, sync);

struct batch {
        struct journal *journal;
        struct op_queue ops;
        struct sync_queue syncs;        /* the loop's, even while it flies */
        bool durable;
        bool landed;
        int result;                     /* the helper's, until it has landed */
        bool reset;                     /* an empty database was begun instead */
};

struct journal {
        struct loop *loop;
        struct lane *lane;
        char *path;                     /* NULL: in memory */
        struct database *database;      /* NULL: closed; see the invariant above */
        enum journal_birth birth;
        bool writable;
        bool full;                      /* the bound of pending was hit, and said so */
        bool unsynced;                  /* something was committed that may not be on the disk yet */
        bool closing;
        uint64_t last_number;
        struct op_queue pending;
        size_t pending_size;
        struct sync_queue syncs;        /* for the next batch */
        struct sync_queue answering;    /* being called now */
        LIST_HEAD(, journal_watch) watches;
        struct batch *flying;
        struct timer commit, idle;
        unsigned refs;                  /* the owner's, and one per work not yet done */

        pthread_mutex_t lock;
        pthread_cond_t rested;
        unsigned running;               /* works that may touch the database; under lock */
};

static void journal_free(struct journal *journal)
{
        assert(journal->running == 0);
        (void)database_close(journal->database);
        (void)pthread_cond_destroy(&journal->rested);
        (void)pthread_mutex_destroy(&journal->lock);
        free(journal->path);
        free(journal);
}
DEFINE_FREEP(journal)

static void journal_unref(struct journal *journal)
{
        if (--journal->refs == 0)
                journal_free(journal);
}

/* Called by the loop's thread: from here on the database is the helper's. */
static int journal_work(struct journal *journal, work_fn run, work_fn done, void *data)
{
        int r;

        (void)pthread_mutex_lock(&journal->lock);
        journal->running++;
        (void)pthread_mutex_unlock(&journal->lock);
        journal->refs++;

        r = loop_work(journal->loop, journal->lane, run, done, data);
        if (r < 0) {
                (void)pthread_mutex_lock(&journal->lock);
                journal->running--;
                (void)pthread_mutex_unlock(&journal->lock);
                journal->refs--;
        }
        return r;
}

/* The helper's last act with the journal. */
static void journal_rest(struct journal *journal)
{
        (void)pthread_mutex_lock(&journal->lock);
        journal->running--;
        (void)pthread_cond_broadcast(&journal->rested);
        (void)pthread_mutex_unlock(&journal->lock);
}

/* until: CLOCK_MONOTONIC; NULL: for ever. */
static bool journal_wait(struct journal *journal, const struct timespec *until)
{
        bool rested;

        (void)pthread_mutex_lock(&journal->lock);
        while (journal->running > 0)
                if (!until)
                        (void)pthread_cond_wait(&journal->rested, &journal->lock);
                else if (pthread_cond_timedwait(&journal->rested, &journal->lock, until) == ETIMEDOUT)
                        break;
        rested = journal->running == 0;
        (void)pthread_mutex_unlock(&journal->lock);
        return rested;
}

bool journal_writable(const struct journal *journal)
{
        return journal->writable;
}

enum journal_birth journal_birth(const struct journal *journal)
{
        return journal->birth;
}

void journal_watch(struct journal *journal, struct journal_watch *watch)
{
        LIST_INSERT_HEAD(&journal->watches, watch, link);
}

void journal_unwatch(struct journal_watch *watch)
{
        if (watch->link.le_prev)
                LIST_REMOVE(watch, link);
        watch->link.le_prev = NULL;
}

/* --- a batch on its helper thread --- */

static int database_ready(struct batch *batch)
{
        struct journal *journal = batch->journal;
        struct database *database = NULL;
        int r;

        if (journal->birth == JOURNAL_UNREAD)
                return -EROFS;
        if (journal->database && !database_is_copy(journal->database))
                return 0;

        r = database_open(journal->path, &schema, /* check= */ false, &database);
        if (r < 0)
                return r;
        /* Not what was loaded: somebody removed or damaged it meanwhile. */
        batch->reset = database_birth(database) == DATABASE_BEGUN && journal->birth == JOURNAL_LOADED;
        journal->database = database_close(journal->database);
        journal->database = database;
        return 0;
}

static int batch_apply(struct batch *batch, struct database *database)
{
        struct op *op;
        int r;

        r = database_begin(database, batch->durable);
        if (r < 0)
                return r;
        TAILQ_FOREACH(op, &batch->ops, link) {
                r = op_types[op->kind].apply(database, op);
                /* One record that its table refuses must not keep all the others from the disk. */
                if (r == -EINVAL) {
                        log_error("journal: a record (%s) breaks a rule of its table and is left out", op_types[op->kind].name);
                        r = 0;
                }
                if (r < 0)
                        break;
        }
        /* An fsync comes with a commit only, and a commit with a change. */
        if (r >= 0 && TAILQ_EMPTY(&batch->ops))
                r = database_run(database,
                                 "INSERT INTO counters VALUES ('sync', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", "");
        if (r >= 0)
                r = database_commit(database);
        if (r < 0)
                database_rollback(database);
        return r;
}

static int batch_write(struct batch *batch)
{
        struct journal *journal = batch->journal;
        int r;

        r = database_ready(batch);
        if (r < 0 || batch->reset)
                return r;
        r = batch_apply(batch, journal->database);
        if (r != -EUCLEAN || !journal->path)
                return r;

        r = database_set_aside(journal->database, journal->path);
        journal->database = NULL;
        if (r >= 0)
                r = database_open(journal->path, &schema, /* check= */ false, &journal->database);
        batch->reset = r >= 0;
        return r;
}

static void batch_run(void *data)
{
        struct batch *batch = data;

        batch->result = batch_write(batch);
        if (batch->journal->database)
                database_trim(batch->journal->database);
        journal_rest(batch->journal);
}

/* --- the loop's side of a batch --- */

static void ops_free(struct op_queue *ops)
{
        struct op *op;

        while ((op = TAILQ_FIRST(ops))) {
                TAILQ_REMOVE(ops, op, link);
                free(op);
        }
}

static void ops_return(struct journal *journal, struct batch *batch)
{
        struct op *op;

        TAILQ_FOREACH(op, &batch->ops, link)
                journal->pending_size += op->size;
        TAILQ_CONCAT(&batch->ops, &journal->pending, link);
        TAILQ_CONCAT(&journal->pending, &batch->ops, link);
}

/* A callback may put, sync and cancel. */
static void syncs_answer(struct journal *journal, struct sync_queue *syncs, int error)
{
        struct sync *sync;

        TAILQ_CONCAT(&journal->answering, syncs, link);
        while ((sync = TAILQ_FIRST(&journal->answering))) {
                TAILQ_REMOVE(&journal->answering, sync, link);
                sync->fn(sync->userdata, error);
                free(sync);
        }
}

static void journal_schedule(struct journal *journal)
{
        if (journal->closing || journal->flying)
                return;
        timer_clear(&journal->idle);
        if (!TAILQ_EMPTY(&journal->syncs))
                timer_set(&journal->commit, 0);
        else if (!timer_is_set(&journal->commit))
                timer_set(&journal->commit, journal->writable ? COMMIT_DELAY : RETRY_DELAY);
}

static void journal_set_writable(struct journal *journal, int r)
{
        if (r < 0 && journal->writable)
                log_error("journal: cannot write %s: %s; no new update is begun until this is mended",
                          journal->path ? journal->path : "the state database", strerror(-r));
        else if (r >= 0 && !journal->writable)
                log_notice("journal: %s can be written again", journal->path ? journal->path : "the state database");
        journal->writable = r >= 0;
}

static void journal_reset(struct journal *journal)
{
        struct journal_watch *watch, *next;

        journal->birth = JOURNAL_BEGUN;
        for (watch = LIST_FIRST(&journal->watches); watch; watch = next) {
                next = LIST_NEXT(watch, link);
                watch->on_reset(watch->userdata);
        }
}

static void batch_land(struct batch *batch)
{
        struct journal *journal = batch->journal;
        int r = batch->result;

        if (batch->landed)
                return;
        batch->landed = true;
        journal->flying = NULL;

        journal_set_writable(journal, r);
        if (batch->reset || r < 0)
                ops_return(journal, batch);
        if (batch->reset) {
                TAILQ_CONCAT(&batch->syncs, &journal->syncs, link);
                TAILQ_CONCAT(&journal->syncs, &batch->syncs, link);
                journal_reset(journal);
        } else if (r >= 0) {
                journal->full = false;
                journal->unsynced = batch->durable ? false : journal->unsynced || !TAILQ_EMPTY(&batch->ops);
                ops_free(&batch->ops);
        }
        syncs_answer(journal, &batch->syncs, r);

        /* What was refused waits for the next put or sync. */
        if (!TAILQ_EMPTY(&journal->syncs) || (r >= 0 && !TAILQ_EMPTY(&journal->pending)))
                journal_schedule(journal);
        else if (!journal->closing && journal->path && !timer_is_set(&journal->commit))
                timer_set(&journal->idle, IDLE_DELAY);
}

static void batch_done(void *data)
{
        struct batch *batch = data;
        struct journal *journal = batch->journal;

        batch_land(batch);
        free(batch);
        journal_unref(journal);
}

/* Afterwards: a batch flies, or there was nothing to do, or it failed and has landed. */
static void batch_start(struct journal *journal)
{
        struct batch *batch;
        int r = -ENOMEM;

        assert(!journal->flying);
        if (TAILQ_EMPTY(&journal->pending) && !(journal->unsynced && !TAILQ_EMPTY(&journal->syncs))) {
                syncs_answer(journal, &journal->syncs, 0);
                return;
        }

        batch = calloc(1, sizeof(*batch));
        if (!batch) {
                syncs_answer(journal, &journal->syncs, r);
                return;
        }
        batch->journal = journal;
        TAILQ_INIT(&batch->ops);
        TAILQ_INIT(&batch->syncs);
        TAILQ_CONCAT(&batch->ops, &journal->pending, link);
        TAILQ_CONCAT(&batch->syncs, &journal->syncs, link);
        batch->durable = journal->closing || !TAILQ_EMPTY(&batch->syncs);
        journal->pending_size = 0;
        journal->flying = batch;

        r = journal_work(journal, batch_run, batch_done, batch);
        if (r < 0) {
                batch->result = r;
                batch_land(batch);
                free(batch);
        }
}

static void on_commit(void *userdata)
{
        struct journal *journal = userdata;

        if (!journal->flying)
                batch_start(journal);
}

static void close_run(void *data)
{
        struct journal *journal = data;

        /* A copy of what cannot be opened again is kept. */
        if (journal->database && !database_is_copy(journal->database) && journal->path) {
                journal->database = database_close(journal->database);
                (void)malloc_trim(0);
        }
        journal_rest(journal);
}

static void close_done(void *data)
{
        journal_unref(data);
}

static void on_idle(void *userdata)
{
        struct journal *journal = userdata;

        /* Failure: a thread too many.  It stays open, then. */
        if (!journal->flying && journal->database)
                (void)journal_work(journal, close_run, close_done, journal);
}

/* --- putting --- */

/* Of two puts of one row only the later is worth keeping: it takes its place at the end, as if the first had never been. */
static void pending_supersede(struct journal *journal, const struct op *op)
{
        const struct op_type *type = &op_types[op->kind];
        struct op *other;

        if (!type->same)
                return;
        TAILQ_FOREACH_REVERSE(other, &journal->pending, op_queue, link) {
                if (op_types[other->kind].barrier)
                        return;
                if (other->kind == op->kind && type->same(other, op)) {
                        TAILQ_REMOVE(&journal->pending, other, link);
                        journal->pending_size -= other->size;
                        free(other);
                        return;
                }
        }
}

/* A disk that takes nothing must not eat the memory: history goes first, the oldest before the newer. */
static bool pending_make_room(struct journal *journal, size_t size)
{
        struct op *op, *next;

        for (op = TAILQ_FIRST(&journal->pending); op && journal->pending_size + size > JOURNAL_PENDING_MAX; op = next) {
                next = TAILQ_NEXT(op, link);
                if (op->kind != OP_PUT_HISTORY)
                        continue;
                TAILQ_REMOVE(&journal->pending, op, link);
                journal->pending_size -= op->size;
                free(op);
        }
        return journal->pending_size + size <= JOURNAL_PENDING_MAX;
}

static int op_new(enum op_kind kind, struct op **ret)
{
        size_t size = sizeof(struct op) + op_types[kind].size;
        struct op *op = calloc(1, size);

        if (!op)
                return -ENOMEM;
        op->kind = kind;
        op->size = size;
        op->record = op + 1;
        *ret = op;
        return 0;
}

/* Owns op. */
static int journal_put(struct journal *journal, struct op *op)
{
        pending_supersede(journal, op);
        if (!pending_make_room(journal, op->size)) {
                if (!journal->full)
                        log_error("journal: too much waits for a disk that takes nothing; records are being lost");
                journal->full = true;
                free(op);
                return -ENOMEM;
        }
        TAILQ_INSERT_TAIL(&journal->pending, op, link);
        journal->pending_size += op->size;
        journal_schedule(journal);
        return 0;
}

static void text_copy(char *to, size_t size, const char *from)
{
        (void)snprintf(to, size, "%s", from ? from : "");
}

int journal_put_camera(struct journal *journal, const struct camera_record *record)
{
        struct op *op;
        int r = op_new(OP_PUT_CAMERA, &op);

        if (r < 0)
                return r;
        *op->camera = *record;
        return journal_put(journal, op);
}

int journal_delete_camera(struct journal *journal, const char *key)
{
        struct op *op;
        int r = op_new(OP_DELETE_CAMERA, &op);

        if (r < 0)
                return r;
        text_copy(op->rename->old, sizeof(op->rename->old), key);
        return journal_put(journal, op);
}

int journal_rename_camera(struct journal *journal, const char *old_key, const char *new_key)
{
        struct op *op;
        int r;

        if (strcmp(old_key, new_key) == 0)
                return 0;
        r = op_new(OP_RENAME_CAMERA, &op);
        if (r < 0)
                return r;
        text_copy(op->rename->old, sizeof(op->rename->old), old_key);
        text_copy(op->rename->new, sizeof(op->rename->new), new_key);
        return journal_put(journal, op);
}

int journal_put_update(struct journal *journal, const struct update_record *record)
{
        struct op *op;
        int r = op_new(OP_PUT_UPDATE, &op);

        assert(record->n_images <= UPDATE_IMAGES_MAX);
        if (r < 0)
                return r;
        *op->update = *record;
        journal->last_number = MAX(journal->last_number, update_number(record->id));
        return journal_put(journal, op);
}

int journal_put_wear(struct journal *journal, const char *update, const char *partition, unsigned unit, unsigned erases)
{
        struct op *op;
        int r = op_new(OP_PUT_WEAR, &op);

        if (r < 0)
                return r;
        text_copy(op->wear->update, sizeof(op->wear->update), update);
        text_copy(op->wear->partition, sizeof(op->wear->partition), partition);
        op->wear->unit = unit;
        op->wear->erases = erases;
        return journal_put(journal, op);
}

int journal_put_firmware(struct journal *journal, const struct firmware_record *record)
{
        struct op *op;
        int r = op_new(OP_PUT_FIRMWARE, &op);

        if (r < 0)
                return r;
        *op->firmware = *record;
        return journal_put(journal, op);
}

int journal_delete_firmware(struct journal *journal, const struct digest *digest, const char *board, const char *partition)
{
        struct op *op;
        int r = op_new(OP_DELETE_FIRMWARE, &op);

        if (r < 0)
                return r;
        op->firmware->digest = *digest;
        text_copy(op->firmware->board, sizeof(op->firmware->board), board);
        text_copy(op->firmware->partition, sizeof(op->firmware->partition), partition);
        return journal_put(journal, op);
}

int journal_put_saved(struct journal *journal, const struct saved_record *record)
{
        struct op *op;
        int r = op_new(OP_PUT_SAVED, &op);

        if (r < 0)
                return r;
        *op->saved = *record;
        return journal_put(journal, op);
}

int journal_delete_saved(struct journal *journal, const char *camera, const struct digest *digest)
{
        struct op *op;
        int r = op_new(OP_DELETE_SAVED, &op);

        if (r < 0)
                return r;
        text_copy(op->saved->camera, sizeof(op->saved->camera), camera);
        op->saved->digest = *digest;
        return journal_put(journal, op);
}

int journal_put_history(struct journal *journal, const char *camera, uint64_t wall, const char *event, const char *text)
{
        struct op *op;
        int r = op_new(OP_PUT_HISTORY, &op);

        if (r < 0)
                return r;
        text_copy(op->history->camera, sizeof(op->history->camera), camera);
        op->history->wall = wall;
        text_copy(op->history->event, sizeof(op->history->event), event);
        text_copy(op->history->text, sizeof(op->history->text), text);
        return journal_put(journal, op);
}

uint64_t journal_last_update_number(const struct journal *journal)
{
        return journal->last_number;
}

int journal_sync(struct journal *journal, journal_sync_fn on_durable, void *userdata)
{
        struct sync *sync = calloc(1, sizeof(*sync));

        if (!sync)
                return -ENOMEM;
        sync->fn = on_durable;
        sync->userdata = userdata;
        if (journal->flying && journal->flying->durable && TAILQ_EMPTY(&journal->pending)) {
                TAILQ_INSERT_TAIL(&journal->flying->syncs, sync, link);
                return 0;
        }
        TAILQ_INSERT_TAIL(&journal->syncs, sync, link);
        journal_schedule(journal);
        return 0;
}

static void syncs_cancel(struct sync_queue *syncs, void *userdata)
{
        struct sync *sync, *next;

        for (sync = TAILQ_FIRST(syncs); sync; sync = next) {
                next = TAILQ_NEXT(sync, link);
                if (sync->userdata != userdata)
                        continue;
                TAILQ_REMOVE(syncs, sync, link);
                free(sync);
        }
}

void journal_sync_cancel(struct journal *journal, void *userdata)
{
        syncs_cancel(&journal->syncs, userdata);
        syncs_cancel(&journal->answering, userdata);
        if (journal->flying)
                syncs_cancel(&journal->flying->syncs, userdata);
}

/* --- reading --- */

/* Damage that the check at opening did not see. */
static int journal_read_end(struct journal *journal, int result)
{
        int r;

        if (result != -EUCLEAN || !journal->path)
                return result;
        if (database_is_copy(journal->database)) {
                journal->birth = JOURNAL_UNREAD;
                log_error("journal: %s is damaged and cannot be set aside; nothing is written", journal->path);
                return 0;
        }
        r = database_set_aside(journal->database, journal->path);
        journal->database = NULL;
        if (r >= 0)
                r = database_open(journal->path, &schema, /* check= */ false, &journal->database);
        journal_set_writable(journal, r);
        journal_reset(journal);
        return 0;
}

static int journal_read(struct journal *journal)
{
        int r;

        (void)journal_wait(journal, /* until= */ NULL);
        if (journal->database || journal->birth == JOURNAL_UNREAD || !journal->path)
                return 0;
        r = database_open(journal->path, &schema, /* check= */ false, &journal->database);
        if (r >= 0 && !timer_is_set(&journal->commit) && !journal->flying)
                timer_set(&journal->idle, IDLE_DELAY);
        /* One that could not even be begun holds nothing. */
        return journal->birth == JOURNAL_BEGUN && r != -ENOMEM ? 0 : r;
}

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

int journal_each_camera(struct journal *journal, int (*fn)(void *userdata, const struct camera_record *), void *userdata)
{
        struct camera_reading reading = { fn, userdata };
        int r = journal_read(journal);

        if (r < 0 || !journal->database)
                return r;
        r = database_query(journal->database, "SELECT * FROM cameras ORDER BY key", on_camera, &reading, "");
        return journal_read_end(journal, r);
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

int journal_each_update(struct journal *journal, int (*fn)(void *userdata, const struct update_record *), void *userdata)
{
        struct update_reading reading = { .fn = fn, .userdata = userdata };
        int r = journal_read(journal);

        if (r < 0 || !journal->database)
                return r;
        reading.database = journal->database;
        r = database_query(journal->database,
                              "SELECT id, camera, wish, version, reason, word_romfs, word_filesystem, word_replace, state, outcome,"
                              " message, attempts, started, ended FROM (SELECT *, row_number() OVER (PARTITION BY state = 'open'"
                              " ORDER BY ended DESC, number DESC) AS place FROM updates)"
                              " WHERE state = 'open' OR place <= " STRINGIFY(ENDED_UPDATES_MAX)
                              " ORDER BY state <> 'open', ended DESC, number DESC",
                              on_update, &reading, "");
        return journal_read_end(journal, r);
}

struct wear_reading {
        int (*fn)(void *userdata, const char *partition, unsigned unit, unsigned erases);
        void *userdata;
};

static int on_wear(void *userdata, struct row *row)
{
        struct wear_reading *reading = userdata;
        struct wear wear = {};

        row_text(row, 0, wear.partition, sizeof(wear.partition));
        wear.unit = (unsigned)row_int(row, 1, 0, UINT32_MAX);
        wear.erases = (unsigned)row_int(row, 2, 0, UINT32_MAX);
        return row_is_usable(row, "wear") ? reading->fn(reading->userdata, wear.partition, wear.unit, wear.erases) : 0;
}

int journal_each_wear(struct journal *journal, const char *update,
                      int (*fn)(void *userdata, const char *partition, unsigned unit, unsigned erases), void *userdata)
{
        struct wear_reading reading = { fn, userdata };
        int r = journal_read(journal);

        if (r < 0 || !journal->database)
                return r;
        r = database_query(journal->database,
                              "SELECT partition, unit, erases FROM wear WHERE update_id = ? ORDER BY partition, unit",
                              on_wear, &reading, "s", update);
        return journal_read_end(journal, r);
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

int journal_each_firmware(struct journal *journal, int (*fn)(void *userdata, const struct firmware_record *), void *userdata)
{
        struct firmware_reading reading = { fn, userdata };
        int r = journal_read(journal);

        if (r < 0 || !journal->database)
                return r;
        r = database_query(journal->database, "SELECT * FROM firmware ORDER BY added, digest, board, partition", on_firmware,
                              &reading, "");
        return journal_read_end(journal, r);
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

int journal_each_saved(struct journal *journal, int (*fn)(void *userdata, const struct saved_record *), void *userdata)
{
        struct saved_reading reading = { fn, userdata };
        int r = journal_read(journal);

        if (r < 0 || !journal->database)
                return r;
        r = database_query(journal->database, "SELECT * FROM saved ORDER BY saved, camera, partition, digest", on_saved,
                              &reading, "");
        return journal_read_end(journal, r);
}

struct history_reading {
        int (*fn)(void *userdata, uint64_t wall, const char *event, const char *text);
        void *userdata;
};

static int on_history(void *userdata, struct row *row)
{
        struct history_reading *reading = userdata;
        struct history history = {};

        history.wall = (uint64_t)row_int(row, 0, INT64_MIN, INT64_MAX);
        row_text(row, 1, history.event, sizeof(history.event));
        row_text(row, 2, history.text, sizeof(history.text));
        return row_is_usable(row, "history") ? reading->fn(reading->userdata, history.wall, history.event, history.text) : 0;
}

int journal_each_history(struct journal *journal, const char *camera, size_t max,
                         int (*fn)(void *userdata, uint64_t wall, const char *event, const char *text), void *userdata)
{
        struct history_reading reading = { fn, userdata };
        int r = journal_read(journal);

        if (r < 0 || !journal->database)
                return r;
        r = database_query(journal->database,
                              "SELECT wall, event, text FROM history WHERE camera = ? ORDER BY number DESC LIMIT ?", on_history,
                              &reading, "si", camera, (int64_t)MIN(max, (size_t)HISTORY_MAX));
        return journal_read_end(journal, r);
}

static int on_last_number(void *userdata, struct row *row)
{
        *(uint64_t *)userdata = (uint64_t)row_int(row, 0, 0, INT64_MAX);
        return 0;
}

/* --- birth and death --- */

/* Parents as everybody makes them, the last for us alone. */
static int directory_make(const char *directory)
{
        _cleanup_free_ char *path = strdup(directory);

        if (!path)
                return -ENOMEM;
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                *slash = 0;
                if (mkdir(path, 0755) < 0 && errno != EEXIST)
                        return -errno;
                *slash = '/';
        }
        return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

/* A guess without a write, which would cost an fsync at every start; the first commit knows. */
static int directory_writable(const char *directory)
{
        struct statvfs fs;

        if (access(directory, W_OK | X_OK) < 0 || statvfs(directory, &fs) < 0)
                return -errno;
        return fs.f_bavail == 0 ? -ENOSPC : 0;
}

static int journal_load(struct journal *journal, const char *directory)
{
        int r;

        if (!directory) {
                journal->birth = JOURNAL_BEGUN;
                return database_open(NULL, &schema, /* check= */ false, &journal->database);
        }

        r = directory_make(directory);
        if (r >= 0)
                r = database_open(journal->path, &schema, /* check= */ true, &journal->database);
        if (r >= 0) {
                journal->birth = database_birth(journal->database) == DATABASE_LOADED ? JOURNAL_LOADED : JOURNAL_BEGUN;
                journal_set_writable(journal, directory_writable(directory));
                return 0;
        }
        if (r == -ENOMEM)
                return r;
        journal_set_writable(journal, r);

        r = database_open_copy(journal->path, &schema, &journal->database);
        if (r == -ENOMEM)
                return r;
        /* None there and none to be made: the next commit tries again. */
        journal->birth = r >= 0 ? JOURNAL_LOADED : r == -ENOENT || r == -ENOTDIR ? JOURNAL_BEGUN : JOURNAL_UNREAD;
        if (journal->birth == JOURNAL_UNREAD)
                log_error("journal: %s cannot be read: %s; the cameras and updates of before are unknown, and nothing is written",
                          journal->path, strerror(-r));
        return 0;
}

int journal_open(struct loop *loop, const char *directory, struct journal **ret)
{
        _cleanup_(journal_freep) struct journal *journal = NULL;
        pthread_condattr_t clock;
        int r;

        journal = calloc(1, sizeof(*journal));
        if (!journal)
                return -ENOMEM;
        journal->loop = loop;
        journal->refs = 1;
        journal->writable = true;
        TAILQ_INIT(&journal->pending);
        TAILQ_INIT(&journal->syncs);
        TAILQ_INIT(&journal->answering);
        LIST_INIT(&journal->watches);
        (void)pthread_mutex_init(&journal->lock, NULL);
        (void)pthread_condattr_init(&clock);
        (void)pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&journal->rested, &clock);
        (void)pthread_condattr_destroy(&clock);

        if (directory && asprintf(&journal->path, "%s/state.db", directory) < 0) {
                journal->path = NULL;
                return -ENOMEM;
        }
        r = journal_load(journal, directory);
        if (r < 0)
                return r;
        if (journal->database) {
                r = database_query(journal->database, "SELECT value FROM counters WHERE name = 'update'", on_last_number,
                                   &journal->last_number, "");
                r = journal_read_end(journal, r);
                if (r < 0)
                        return r;
        }
        r = lane_new(loop, &journal->lane);
        if (r < 0)
                return r;
        timer_init(&journal->commit, loop, on_commit, journal);
        timer_init(&journal->idle, loop, on_idle, journal);
        if (journal->path)
                timer_set(&journal->idle, IDLE_DELAY);
        *ret = take_ptr(journal);
        return 0;
}

struct journal *journal_close(struct journal *journal)
{
        struct timespec until;
        bool rested;

        if (!journal)
                return NULL;
        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += CLOSE_TIMEOUT;
        journal->closing = true;
        timer_deinit(&journal->commit);
        timer_deinit(&journal->idle);

        /* The batch that flies, then what was put since; done() of both comes later, from the loop, and finds them landed. */
        rested = journal_wait(journal, &until);
        for (unsigned turn = 0; turn < 2 && rested; turn++) {
                if (journal->flying)
                        batch_land(journal->flying);
                batch_start(journal);
                rested = journal_wait(journal, &until);
        }
        if (rested && journal->flying)
                batch_land(journal->flying);
        if (rested && journal->database && journal_work(journal, close_run, close_done, journal) >= 0)
                rested = journal_wait(journal, &until);

        if (!rested)
                log_error("journal: the disk of %s has not answered for %u s; what it was not told is lost",
                          journal->path, (unsigned)CLOSE_TIMEOUT);
        syncs_answer(journal, &journal->syncs, -EIO);
        if (!TAILQ_EMPTY(&journal->pending))
                log_error("journal: the last records could not be written");
        ops_free(&journal->pending);
        assert(LIST_EMPTY(&journal->watches));
        if (rested) {
                journal->lane = lane_free(journal->lane);
                journal_unref(journal);
        }
        return NULL;
}
