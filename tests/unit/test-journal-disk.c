/* SPDX-License-Identifier: MIT */

/*
 * The journal on the real loop and a disk whose fsync ends when the test says
 * so: nothing on the loop waits for it.
 */

#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/log.h"
#include "core/journal.h"
#include "unit/disk.h"

#define DEADLINE (20 * SEC)

struct world {
        char directory[64];
        struct loop *loop;
        struct journal *journal;
        struct timer tick, deadline;
        unsigned ticks;
        uint64_t last_tick, longest;    /* between two ticks */
        unsigned answers;
        bool is_late;
        void (*on_tick)(struct world *);
};

/* --- the disk's side: every sync stops at a gate --- */

static struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        bool closed;
        unsigned waiting;               /* syncs that stand before it */
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static void on_sync(void *userdata)
{
        (void)pthread_mutex_lock(&gate.lock);
        gate.waiting++;
        while (gate.closed)
                (void)pthread_cond_wait(&gate.changed, &gate.lock);
        gate.waiting--;
        (void)pthread_mutex_unlock(&gate.lock);
}

static void gate_set(bool closed)
{
        (void)pthread_mutex_lock(&gate.lock);
        gate.closed = closed;
        (void)pthread_cond_broadcast(&gate.changed);
        (void)pthread_mutex_unlock(&gate.lock);
}

static unsigned gate_waiting(void)
{
        unsigned waiting;

        (void)pthread_mutex_lock(&gate.lock);
        waiting = gate.waiting;
        (void)pthread_mutex_unlock(&gate.lock);
        return waiting;
}

/* --- the loop's side --- */

static void on_tick(void *userdata)
{
        struct world *world = userdata;
        uint64_t now = loop_now(world->loop);

        if (world->last_tick && now - world->last_tick > world->longest)
                world->longest = now - world->last_tick;
        world->last_tick = now;
        world->ticks++;
        timer_set(&world->tick, 1 * MSEC);
        world->on_tick(world);
}

static void on_deadline(void *userdata)
{
        struct world *world = userdata;

        world->is_late = true;
        gate_set(false);
        loop_exit(world->loop, 1);
}

/* Ticks until on_tick() ends the loop. */
static void world_run(struct world *world, void (*tick)(struct world *))
{
        world->on_tick = tick;
        timer_set(&world->tick, 0);
        timer_set(&world->deadline, DEADLINE);
        assert_int_equal(loop_run(world->loop), 0);
        assert_false(world->is_late);
        timer_clear(&world->tick);
        timer_clear(&world->deadline);
}

static int world_make(void **state)
{
        struct world *world = calloc(1, sizeof(*world));

        assert_non_null(world);
        strcpy(world->directory, "/tmp/test-journal-disk-XXXXXX");
        assert_non_null(mkdtemp(world->directory));
        assert_int_equal(loop_new(&world->loop), 0);
        timer_init(&world->tick, world->loop, on_tick, world);
        timer_init(&world->deadline, world->loop, on_deadline, world);
        assert_int_equal(journal_open(world->loop, world->directory, &world->journal), 0);
        *state = world;
        return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
        return remove(path);
}

static int world_remove(void **state)
{
        struct world *world = *state;

        gate_set(false);
        world->journal = journal_close(world->journal);
        timer_deinit(&world->tick);
        timer_deinit(&world->deadline);
        world->loop = loop_free(world->loop);
        (void)nftw(world->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        free(world);
        return 0;
}

static void on_answer(void *userdata, int error)
{
        struct world *world = userdata;

        assert_int_equal(error, 0);
        world->answers++;
}

static void put_and_sync(struct world *world, unsigned unit)
{
        assert_int_equal(journal_put_units(world->journal, "u1", "FIRMWARE", unit, 1, &(struct unit_record){ .erases = 1 }), 0);
        assert_int_equal(journal_sync(world->journal, on_answer, world), 0);
}

/* --- the facts --- */

static void until_a_sync_waits(struct world *world)
{
        if (gate_waiting() > 0)
                loop_exit(world->loop, 0);
}

static void for_two_hundred_ticks(struct world *world)
{
        if (world->ticks >= 200)
                loop_exit(world->loop, 0);
        else
                put_and_sync(world, world->ticks);
}

static void until_all_are_answered(struct world *world)
{
        if (world->answers >= 200)
                loop_exit(world->loop, 0);
}

static void slow_fsync_does_not_block_the_loop(void **state)
{
        struct world *world = *state;
        unsigned syncs;

        gate_set(true);
        put_and_sync(world, 0);
        world_run(world, until_a_sync_waits);

        /* One commit is held up; the loop goes on, takes puts, and answers nobody early. */
        world->ticks = 0;
        world->last_tick = 0;
        world->longest = 0;
        world_run(world, for_two_hundred_ticks);
        assert_int_equal(world->answers, 0);
        assert_int_equal(gate_waiting(), 1);
        syncs = disk_syncs();

        gate_set(false);
        world_run(world, until_all_are_answered);
        assert_int_equal(world->answers, 200);
        /* Two hundred batches became one (two syncs if the log begins with it). */
        assert_in_range(disk_syncs() - syncs, 1, 3);
}

static bool was_answered_in_end;

static void on_end(void *userdata, int error)
{
        was_answered_in_end = error == 0;
}

static void *open_gate_when_somebody_waits(void *userdata)
{
        (void)pthread_mutex_lock(&gate.lock);
        while (gate.waiting == 0) {
                (void)pthread_mutex_unlock(&gate.lock);
                (void)sched_yield();
                (void)pthread_mutex_lock(&gate.lock);
        }
        gate.closed = false;
        (void)pthread_cond_broadcast(&gate.changed);
        (void)pthread_mutex_unlock(&gate.lock);
        return NULL;
}

static int on_unit(void *userdata, const char *partition, unsigned unit, const struct unit_record *record)
{
        *(unsigned *)userdata += 1;
        return 0;
}

static void end_waits_for_a_slow_disk(void **state)
{
        struct world *world = *state;
        unsigned n = 0;
        pthread_t thread;

        gate_set(true);
        put_and_sync(world, 0);
        world_run(world, until_a_sync_waits);
        assert_int_equal(journal_put_units(world->journal, "u1", "FIRMWARE", 1, 1, &(struct unit_record){ .erases = 1 }), 0);
        assert_int_equal(journal_sync(world->journal, on_end, NULL), 0);

        assert_int_equal(pthread_create(&thread, NULL, open_gate_when_somebody_waits, NULL), 0);
        world->journal = journal_close(world->journal);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(world->answers, 1);
        assert_true(was_answered_in_end);

        world->loop = (timer_deinit(&world->tick), timer_deinit(&world->deadline), loop_free(world->loop));
        assert_int_equal(loop_new(&world->loop), 0);
        assert_int_equal(journal_open(world->loop, world->directory, &world->journal), 0);
        assert_int_equal(journal_each_unit(world->journal, "u1", on_unit, &n), 0);
        assert_int_equal(n, 2);
}

static void until_idle_is_one_thread(struct world *world)
{
        if (world->answers == 1 && loop_pending_work(world->loop) == 0)
                loop_exit(world->loop, 0);
}

static void no_work_is_left_after_a_commit(void **state)
{
        struct world *world = *state;

        put_and_sync(world, 0);
        world_run(world, until_idle_is_one_thread);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                { "/journal/slow-fsync-does-not-block-the-loop", slow_fsync_does_not_block_the_loop, world_make, world_remove, NULL },
                { "/journal/end-waits-for-a-slow-disk", end_waits_for_a_slow_disk, world_make, world_remove, NULL },
                { "/journal/no-work-is-left-after-a-commit", no_work_is_left_after_a_commit, world_make, world_remove, NULL },
        };

        log_init(LOG_TARGET_STDERR, LOG_ERR);
        disk_install();
        disk_on_sync(on_sync, NULL);
        return cmocka_run_group_tests_name("journal-disk", tests, NULL, NULL);
}
