/* SPDX-License-Identifier: MIT */

/*
 * See journal.h: puts become batches.  (What a put does to the database stands in
 * journal-rows.c.)
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
#include "core/journal-rows.h"

/* Nobody waits for these puts: they are gathered, so that a burst of events is one commit. */
#define COMMIT_DELAY    (50 * MSEC)
/* A disk that refuses is not asked with every event, but as long as something waits for it; each time after twice the time. */
#define RETRY_DELAY     (1 * SEC)
#define RETRY_DELAY_MAX (30 * SEC)
#define IDLE_DELAY      (5 * SEC)
#define CLOSE_TIMEOUT   10              /* seconds */

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

/* Somebody wants to know a camera's history. */
struct reading {
        struct journal *journal;
        char camera[CAMERA_KEY_MAX];
        size_t max;
        journal_history_fn fn;          /* NULL: nobody is interested any more */
        void *userdata;
        struct history_line *lines;     /* the helper's, until it is done */
        size_t n;
        int result;
        bool lost;                      /* as journal->lost, when it had read */
        LIST_ENTRY(reading) link;       /* in journal->readings */
};

struct journal {
        struct loop *loop;
        struct lane *lane;
        char *path;                     /* NULL: in memory */
        struct database *database;      /* NULL: closed; see the invariant above */
        enum journal_birth birth;
        bool whole;
        bool writable;
        bool awaited;                   /* somebody waits until it is writable */
        uint64_t retry_delay;
        bool lacking;                   /* a record was dropped for want of memory, and not all were put again since */
        bool lack_said;
        bool putting_all;
        bool unsynced;                  /* something was committed that may not be on the disk yet */
        bool has_past;                  /* something was loaded, or committed since; as the database: see the invariant */
        bool lost;                      /* that is gone, and an empty database stands in its place; likewise */
        bool closing;
        unsigned reading;               /* depth: a reader may read something else for each record */
        uint64_t last_number;
        struct op_queue pending;
        size_t pending_size;
        struct sync_queue syncs;        /* for the next batch */
        struct sync_queue answering;    /* being called now */
        LIST_HEAD(, journal_watch) watches;
        LIST_HEAD(, reading) readings;
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

bool journal_is_whole(const struct journal *journal)
{
        return journal->whole;
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

/* Opens again what was closed, or is a copy.  Whoever does this and is no batch sees to it that one follows: it tells what was lost. */
static int journal_reopen(struct journal *journal)
{
        struct database *database = NULL;
        int r;

        r = database_open(journal->path, &journal_schema, /* check= */ false, &database);
        if (r < 0)
                return r;
        /* Not what was loaded or written: somebody removed or damaged it meanwhile. */
        if (database_birth(database) == DATABASE_BEGUN && journal->has_past)
                journal->lost = true;
        journal->database = database_close(journal->database);
        journal->database = database;
        return 0;
}

/* --- a batch on its helper thread --- */

static int database_ready(struct journal *journal)
{
        if (journal->birth == JOURNAL_UNREAD)
                return -EROFS;
        if (journal->database && !database_is_copy(journal->database))
                return 0;
        return journal_reopen(journal);
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

        r = database_ready(journal);
        if (r < 0)
                return r;
        if (!journal->lost) {
                r = batch_apply(batch, journal->database);
                if (r >= 0)
                        journal->has_past = true;
                if (r != -EUCLEAN || !journal->path)
                        return r;

                r = database_set_aside(journal->database, journal->path);
                journal->database = NULL;
                if (r < 0)
                        return r;
                journal->lost = true;
                r = journal_reopen(journal);
                if (r < 0)
                        return r;
        }
        batch->reset = true;
        journal->lost = false;
        return 0;
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
                if (sync->fn)
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
                timer_set(&journal->commit, journal->writable ? COMMIT_DELAY : journal->retry_delay);
}

/* Nothing is under way any more: if nothing comes for a while, the database is closed.  Said at the end of whatever has cleared
 * the timer, also if there was nothing to do. */
static void journal_settle(struct journal *journal)
{
        if (!journal->closing && journal->path && !journal->flying && !timer_is_set(&journal->commit))
                timer_set(&journal->idle, IDLE_DELAY);
}

static void journal_set_writable(struct journal *journal, int r)
{
        if (r < 0 && journal->writable)
                log_error("journal: cannot write %s: %s; no new update is begun until this is mended",
                          journal->path ? journal->path : "the state database", strerror(-r));
        else if (r >= 0 && !journal->writable)
                log_notice("journal: %s can be written again", journal->path ? journal->path : "the state database");
        journal->writable = r >= 0;
        if (journal->writable)
                journal->awaited = false;
}

/* Whoever could not do what was wanted looks again. */
static void journal_tell_writable(struct journal *journal)
{
        struct journal_watch *watch, *next;

        for (watch = LIST_FIRST(&journal->watches); watch; watch = next) {
                next = LIST_NEXT(watch, link);
                if (watch->on_writable)
                        watch->on_writable(watch->userdata);
        }
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

/* It was said of the database that was lost. */
static void pending_drop_whole(struct journal *journal)
{
        struct op *op, *next;

        for (op = TAILQ_FIRST(&journal->pending); op; op = next) {
                next = TAILQ_NEXT(op, link);
                if (op->kind != OP_PUT_WHOLE)
                        continue;
                TAILQ_REMOVE(&journal->pending, op, link);
                journal->pending_size -= op->size;
                free(op);
        }
}

/* What is in memory anyway is bounded there. */
static void put_all_again(struct journal *journal)
{
        struct journal_watch *watch, *next;

        journal->putting_all = true;
        for (watch = LIST_FIRST(&journal->watches); watch; watch = next) {
                next = LIST_NEXT(watch, link);
                watch->on_reset(watch->userdata);
        }
        journal->putting_all = false;
}

/* False: there is no memory for it now either. */
static bool make_up(struct journal *journal)
{
        if (!journal->lacking || !journal->writable)
                return true;
        journal->lacking = false;
        put_all_again(journal);
        if (!journal->lacking)
                journal->lack_said = false;
        return !journal->lacking;
}

static void journal_reset(struct journal *journal)
{
        journal->birth = JOURNAL_BEGUN;
        journal->whole = false;
        pending_drop_whole(journal);
        journal->lacking = false;
        put_all_again(journal);
        /* Until these are on the disk, nothing is remembered. */
        if (!TAILQ_EMPTY(&journal->pending))
                (void)journal_sync(journal, NULL, NULL);
}

/* Also for a disk that refuses; but what cannot be read stays so until the next start. */
static bool something_waits(const struct journal *journal)
{
        return (!TAILQ_EMPTY(&journal->pending) || journal->awaited || journal->lacking) && journal->birth != JOURNAL_UNREAD;
}

/* A sync while it is not writable asks the disk, and nobody's memory. */
static bool has_work(const struct journal *journal)
{
        return !TAILQ_EMPTY(&journal->pending) || journal->awaited || journal->lacking ||
               (!TAILQ_EMPTY(&journal->syncs) && (journal->unsynced || !journal->writable));
}

static void batch_land(struct batch *batch)
{
        struct journal *journal = batch->journal;
        bool was_writable = journal->writable;
        int r = batch->result;

        if (batch->landed)
                return;
        batch->landed = true;
        journal->flying = NULL;

        journal_set_writable(journal, r);
        if (batch->reset || r < 0)
                ops_return(journal, batch);
        /* What is not there yet is to be put first. */
        if (batch->reset || (r >= 0 && journal->lacking)) {
                TAILQ_CONCAT(&batch->syncs, &journal->syncs, link);
                TAILQ_CONCAT(&journal->syncs, &batch->syncs, link);
        }
        if (batch->reset)
                journal_reset(journal);
        else if (r >= 0) {
                journal->unsynced = batch->durable ? false : journal->unsynced || !TAILQ_EMPTY(&batch->ops);
                ops_free(&batch->ops);
        }
        syncs_answer(journal, &batch->syncs, r);
        if (r >= 0 && !was_writable)
                journal_tell_writable(journal);

        if (!TAILQ_EMPTY(&journal->syncs) || something_waits(journal))
                journal_schedule(journal);
        else
                journal_settle(journal);
        journal->retry_delay = r >= 0 ? RETRY_DELAY : MIN(2 * journal->retry_delay, RETRY_DELAY_MAX);
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
        if (!make_up(journal))
                syncs_answer(journal, &journal->syncs, -ENOMEM);
        if (!has_work(journal)) {
                syncs_answer(journal, &journal->syncs, 0);
                journal_settle(journal);
                return;
        }

        batch = calloc(1, sizeof(*batch));
        if (!batch) {
                syncs_answer(journal, &journal->syncs, r);
                journal_schedule(journal);
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

static int journal_lacks(struct journal *journal, const char *why)
{
        if (!journal->lack_said)
                log_error("journal: %s; records are being lost", why);
        journal->lacking = journal->lack_said = true;
        journal_schedule(journal);
        return -ENOMEM;
}

/* extra: bytes behind the record. */
static int op_new_sized(struct journal *journal, enum op_kind kind, size_t extra, struct op **ret)
{
        size_t size = sizeof(struct op) + op_types[kind].size + extra;
        struct op *op = calloc(1, size);

        if (!op)
                return journal_lacks(journal, "out of memory");
        op->kind = kind;
        op->size = size;
        op->record = op + 1;
        *ret = op;
        return 0;
}

static int op_new(struct journal *journal, enum op_kind kind, struct op **ret)
{
        return op_new_sized(journal, kind, 0, ret);
}

/* Owns op. */
static int journal_put(struct journal *journal, struct op *op)
{
        op->wall = loop_wall_clock(journal->loop);
        pending_supersede(journal, op);
        if (!journal->putting_all && !pending_make_room(journal, op->size)) {
                free(op);
                return journal_lacks(journal, "too much waits for a disk that takes nothing");
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
        int r = op_new(journal, OP_PUT_CAMERA, &op);

        if (r < 0)
                return r;
        *op->camera = *record;
        return journal_put(journal, op);
}

int journal_delete_camera(struct journal *journal, const char *key)
{
        struct op *op;
        int r = op_new(journal, OP_DELETE_CAMERA, &op);

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
        r = op_new(journal, OP_RENAME_CAMERA, &op);
        if (r < 0)
                return r;
        text_copy(op->rename->old, sizeof(op->rename->old), old_key);
        text_copy(op->rename->new, sizeof(op->rename->new), new_key);
        return journal_put(journal, op);
}

int journal_put_update(struct journal *journal, const struct update_record *record)
{
        struct op *op;
        int r = op_new(journal, OP_PUT_UPDATE, &op);

        assert(record->n_images <= UPDATE_IMAGES_MAX);
        if (r < 0)
                return r;
        *op->update = *record;
        journal->last_number = MAX(journal->last_number, update_number(record->id));
        return journal_put(journal, op);
}

int journal_put_units(struct journal *journal, const char *update, const char *partition, unsigned first, size_t n,
                      const struct unit_record *units)
{
        struct op *op;
        int r = op_new_sized(journal, OP_PUT_UNITS, n * sizeof(*units), &op);

        if (r < 0)
                return r;
        text_copy(op->units->update, sizeof(op->units->update), update);
        text_copy(op->units->partition, sizeof(op->units->partition), partition);
        op->units->first = first;
        op->units->n = n;
        memcpy(op->units->units, units, n * sizeof(*units));
        return journal_put(journal, op);
}

int journal_put_firmware(struct journal *journal, const struct firmware_record *record)
{
        struct op *op;
        int r = op_new(journal, OP_PUT_FIRMWARE, &op);

        if (r < 0)
                return r;
        *op->firmware = *record;
        return journal_put(journal, op);
}

int journal_delete_firmware(struct journal *journal, const struct digest *digest, const char *board, const char *partition)
{
        struct op *op;
        int r = op_new(journal, OP_DELETE_FIRMWARE, &op);

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
        int r = op_new(journal, OP_PUT_SAVED, &op);

        if (r < 0)
                return r;
        *op->saved = *record;
        return journal_put(journal, op);
}

int journal_delete_saved(struct journal *journal, const char *camera, const struct digest *digest)
{
        struct op *op;
        int r = op_new(journal, OP_DELETE_SAVED, &op);

        if (r < 0)
                return r;
        text_copy(op->saved->camera, sizeof(op->saved->camera), camera);
        op->saved->digest = *digest;
        return journal_put(journal, op);
}

int journal_put_history(struct journal *journal, const char *camera, uint64_t wall, const char *event, const char *text)
{
        struct op *op;
        int r = op_new(journal, OP_PUT_HISTORY, &op);

        if (r < 0)
                return r;
        text_copy(op->history->camera, sizeof(op->history->camera), camera);
        op->history->line.wall = wall;
        text_copy(op->history->line.event, sizeof(op->history->line.event), event);
        text_copy(op->history->line.text, sizeof(op->history->line.text), text);
        return journal_put(journal, op);
}

int journal_put_whole(struct journal *journal)
{
        struct op *op;
        int r = op_new(journal, OP_PUT_WHOLE, &op);

        return r < 0 ? r : journal_put(journal, op);
}

uint64_t journal_last_update_number(const struct journal *journal)
{
        return journal->last_number;
}

void journal_await(struct journal *journal)
{
        if (journal->writable || journal->birth == JOURNAL_UNREAD)
                return;
        journal->awaited = true;
        journal_schedule(journal);
}

/* A batch, whether there is something to write or not. */
static void journal_ask_disk(struct journal *journal)
{
        journal->unsynced = true;
        (void)journal_sync(journal, NULL, NULL);
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

/* Damage that the check at opening did not see.  The database goes only when nobody stands in the middle of it. */
static int journal_read_end(struct journal *journal, int result)
{
        int r;

        if (--journal->reading > 0 || result != -EUCLEAN || !journal->path)
                return result;
        if (database_is_copy(journal->database)) {
                journal->birth = JOURNAL_UNREAD;
                log_error("journal: %s is damaged and cannot be set aside; nothing is written", journal->path);
                return 0;
        }
        r = database_set_aside(journal->database, journal->path);
        journal->database = NULL;
        if (r >= 0)
                r = database_open(journal->path, &journal_schema, /* check= */ false, &journal->database);
        journal_set_writable(journal, r);
        journal_reset(journal);
        return 0;
}

/* Positive: there is something to read, and journal_read_end() is to be called. */
static int journal_read_begin(struct journal *journal)
{
        int r;

        (void)journal_wait(journal, /* until= */ NULL);
        if (!journal->database && journal->birth != JOURNAL_UNREAD && journal->path) {
                r = journal_reopen(journal);
                /* One that could not even be begun holds nothing. */
                if (r < 0)
                        return journal->birth == JOURNAL_BEGUN && r != -ENOMEM ? 0 : r;
                if (journal->lost)
                        journal_ask_disk(journal);
                journal_settle(journal);
        }
        if (!journal->database)
                return 0;
        journal->reading++;
        return 1;
}

int journal_each_camera(struct journal *journal, int (*fn)(void *userdata, const struct camera_record *), void *userdata)
{
        int r = journal_read_begin(journal);

        if (r <= 0)
                return r;
        return journal_read_end(journal, rows_each_camera(journal->database, fn, userdata));
}

int journal_each_update(struct journal *journal, int (*fn)(void *userdata, const struct update_record *), void *userdata)
{
        int r = journal_read_begin(journal);

        if (r <= 0)
                return r;
        return journal_read_end(journal, rows_each_update(journal->database, loop_wall_clock(journal->loop), fn, userdata));
}

int journal_each_unit(struct journal *journal, const char *update,
                      int (*fn)(void *userdata, const char *partition, unsigned unit, const struct unit_record *record), void *userdata)
{
        int r = journal_read_begin(journal);

        if (r <= 0)
                return r;
        return journal_read_end(journal, rows_each_unit(journal->database, update, fn, userdata));
}

int journal_each_firmware(struct journal *journal, int (*fn)(void *userdata, const struct firmware_record *), void *userdata)
{
        int r = journal_read_begin(journal);

        if (r <= 0)
                return r;
        return journal_read_end(journal, rows_each_firmware(journal->database, fn, userdata));
}

int journal_each_saved(struct journal *journal, int (*fn)(void *userdata, const struct saved_record *), void *userdata)
{
        int r = journal_read_begin(journal);

        if (r <= 0)
                return r;
        return journal_read_end(journal, rows_each_saved(journal->database, fn, userdata));
}

int journal_each_history(struct journal *journal, const char *camera, size_t max,
                         int (*fn)(void *userdata, uint64_t wall, const char *event, const char *text), void *userdata)
{
        int r = journal_read_begin(journal);

        if (r <= 0)
                return r;
        return journal_read_end(journal, rows_each_history(journal->database, camera, max, fn, userdata));
}

/* --- reading while the daemon runs --- */

static int reading_take(struct reading *reading, const struct history_line *line)
{
        struct history_line *grown;

        if (reading->n == reading->max)
                return 0;
        grown = reallocarray(reading->lines, reading->n + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        reading->lines = grown;
        reading->lines[reading->n++] = *line;
        return 0;
}

static int reading_on_line(void *userdata, uint64_t wall, const char *event, const char *text)
{
        struct history_line line = { .wall = wall };

        text_copy(line.event, sizeof(line.event), event);
        text_copy(line.text, sizeof(line.text), text);
        return reading_take(userdata, &line);
}

static void reading_run(void *data)
{
        struct reading *reading = data;
        struct journal *journal = reading->journal;

        if (!journal->database && journal->birth != JOURNAL_UNREAD && journal->path)
                reading->result = journal_reopen(journal);
        reading->lost = journal->lost;
        if (journal->database && reading->result >= 0)
                reading->result = rows_each_history(journal->database, reading->camera, reading->max, reading_on_line, reading);
        if (journal->database)
                database_trim(journal->database);
        journal_rest(journal);
}

static int reading_take_ops(struct reading *reading, const char *camera, const struct op_queue *ops)
{
        const struct op *op;
        int r = 0;

        TAILQ_FOREACH_REVERSE(op, ops, op_queue, link)
                if (op->kind == OP_PUT_HISTORY && strcmp(op->history->camera, camera) == 0 && r >= 0)
                        r = reading_take(reading, &op->history->line);
        return r;
}

/* Newest first: what waits, what flies (its batch began after the reading, or it would have landed), what was read. */
static void reading_answer(struct reading *reading)
{
        struct journal *journal = reading->journal;
        struct reading all = { .max = reading->max };
        int r = reading_take_ops(&all, reading->camera, &journal->pending);

        if (r >= 0 && journal->flying)
                r = reading_take_ops(&all, reading->camera, &journal->flying->ops);
        for (size_t i = 0; i < reading->n && r >= 0; i++)
                r = reading_take(&all, &reading->lines[i]);
        reading->fn(reading->userdata, r < 0 ? r : MIN(reading->result, 0), all.lines, all.n);
        free(all.lines);
}

static void reading_done(void *data)
{
        struct reading *reading = data;
        struct journal *journal = reading->journal;

        LIST_REMOVE(reading, link);
        if (reading->fn && !journal->closing)
                reading_answer(reading);
        if (reading->lost && !journal->closing)
                journal_ask_disk(journal);
        journal_settle(journal);
        free(reading->lines);
        free(reading);
        journal_unref(journal);
}

int journal_read_history(struct journal *journal, const char *camera, size_t max, journal_history_fn fn, void *userdata)
{
        struct reading *reading = calloc(1, sizeof(*reading));
        int r;

        if (!reading)
                return -ENOMEM;
        *reading = (struct reading){ .journal = journal, .max = max, .fn = fn, .userdata = userdata };
        text_copy(reading->camera, sizeof(reading->camera), camera);
        timer_clear(&journal->idle);
        r = journal_work(journal, reading_run, reading_done, reading);
        if (r < 0) {
                journal_settle(journal);
                free(reading);
                return r;
        }
        LIST_INSERT_HEAD(&journal->readings, reading, link);
        return 0;
}

void journal_read_cancel(struct journal *journal, void *userdata)
{
        struct reading *reading;

        LIST_FOREACH(reading, &journal->readings, link)
                if (reading->userdata == userdata)
                        reading->fn = NULL;
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
                return database_open(NULL, &journal_schema, /* check= */ false, &journal->database);
        }

        r = directory_make(directory);
        if (r >= 0)
                r = database_open(journal->path, &journal_schema, /* check= */ true, &journal->database);
        if (r >= 0) {
                journal->birth = database_birth(journal->database) == DATABASE_LOADED ? JOURNAL_LOADED : JOURNAL_BEGUN;
                journal->has_past = journal->birth == JOURNAL_LOADED;
                journal_set_writable(journal, directory_writable(directory));
                return 0;
        }
        if (r == -ENOMEM)
                return r;
        journal_set_writable(journal, r);

        r = database_open_copy(journal->path, &journal_schema, &journal->database);
        if (r == -ENOMEM)
                return r;
        /* None there and none to be made: the next commit tries again. */
        journal->birth = r >= 0 ? JOURNAL_LOADED : r == -ENOENT || r == -ENOTDIR ? JOURNAL_BEGUN : JOURNAL_UNREAD;
        journal->has_past = journal->birth == JOURNAL_LOADED;
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
        journal->retry_delay = RETRY_DELAY;
        TAILQ_INIT(&journal->pending);
        TAILQ_INIT(&journal->syncs);
        TAILQ_INIT(&journal->answering);
        LIST_INIT(&journal->watches);
        LIST_INIT(&journal->readings);
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
                journal->reading++;
                r = rows_last_update_number(journal->database, &journal->last_number);
                if (r >= 0)
                        r = rows_are_whole(journal->database, &journal->whole);
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
