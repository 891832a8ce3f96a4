/* SPDX-License-Identifier: MIT */
/*
 * The daemon is killed between any two statements of its database: on the way
 * of a whole recovery, while it starts, and when it makes its first one.  (What
 * a torn page or a lost sector does is SQLite's own business, and
 * test-journal's.)
 */

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "unit/breaks.h"
#include "unit/loop-virtual.h"

#define ROWS 6                          /* the toys: a statement knows no size */

/* Counts statements that write, or begin or end what is written; before the n-th of them the disk is as the next daemon will find it. */
static struct {
        struct lab *lab;                /* NULL: nothing is counted */
        unsigned n, cut_before;         /* counted from 1; 0: never */
        bool cut;
} hook;

int __real_sqlite3_step(sqlite3_stmt *statement);
int __wrap_sqlite3_step(sqlite3_stmt *statement);
int __real_sqlite3_exec(sqlite3 *sqlite, const char *sql, int (*fn)(void *, int, char **, char **), void *userdata, char **error);
int __wrap_sqlite3_exec(sqlite3 *sqlite, const char *sql, int (*fn)(void *, int, char **, char **), void *userdata, char **error);

static void on_statement(void)
{
        if (!hook.lab || ++hook.n != hook.cut_before)
                return;
        lab_take_image(hook.lab);
        hook.cut = true;
}

int __wrap_sqlite3_step(sqlite3_stmt *statement)
{
        if (!sqlite3_stmt_busy(statement) && strncmp(sqlite3_sql(statement), "SELECT", 6) != 0)
                on_statement();
        return __real_sqlite3_step(statement);
}

int __wrap_sqlite3_exec(sqlite3 *sqlite, const char *sql, int (*fn)(void *, int, char **, char **), void *userdata, char **error)
{
        on_statement();
        return __real_sqlite3_exec(sqlite, sql, fn, userdata, error);
}

static void arm(struct lab *lab, unsigned cut_before)
{
        hook.lab = lab;
        hook.n = 0;
        hook.cut_before = cut_before;
        hook.cut = false;
}

static unsigned disarm(void)
{
        hook.lab = NULL;
        hook.cut = false;
        return hook.n;
}

static void on_the_way(const struct stock *stock)
{
        struct tally tally = {};
        unsigned n = 0;
        char text[64];

        /* Once without, for their number. */
        for (unsigned i = 0; i <= n; i++) {
                struct scene scene;

                scene_begin(&scene, stock, i, "killed before statement %u", i);
                arm(scene.lab, i);
                scene.struck = &hook.cut;
                scene_plug(&scene);
                if (!scene_play(&scene, stock->row->hands + 1) && hook.cut) {
                        (void)disarm();
                        /* That all was verified was being written down when it was told to leave: it is looked at once more. */
                        scene.tolerated_hands = scene.watcher.n_farewells > 0;
                        scene_kill(&scene);
                }
                if (i == 0)
                        n = disarm();
                (void)disarm();
                tally.n[scene_carry_through(&scene)] += i > 0;
                scene_end(&scene);
        }
        snprintf(text, sizeof(text), ", of %u statements", n);
        tally_print(&tally, stock->row, "daemon killed between statements", text);
}

/* It died in the middle, and its successor dies while it starts. */
static void at_the_start(const struct stock *stock)
{
        struct tally tally = {};
        unsigned n = 1;
        char text[64];

        for (unsigned i = 1; i <= n; i++) {
                struct scene scene;

                scene_begin(&scene, stock, i, "killed, and again before statement %u of the start", i);
                assert_true(scene_suffer(&scene, ACCIDENT_KILL, MOMENT_STATUS, stock->n_transfers / 2));
                lab_run(scene.lab, 50 * MSEC);
                lab_kill(scene.lab);
                lab_run(scene.lab, SEC);
                arm(scene.lab, i);
                lab_start(scene.lab);
                n = MAX(disarm(), i);
                scene_kill(&scene);
                tally.n[scene_carry_through(&scene)]++;
                scene_end(&scene);
        }
        snprintf(text, sizeof(text), ", of %u statements", n);
        tally_print(&tally, stock->row, "daemon killed while it starts", text);
}

static void row(void **state)
{
        struct stock stock;

        stock_init(&stock, *state);
        on_the_way(&stock);
        at_the_start(&stock);
        stock_deinit(&stock);
}

/* The first start of all: what it leaves is a database or none. */
static void first_run(void **state)
{
        unsigned n = 1;

        (void)state;
        for (unsigned i = 1; i <= n; i++) {
                struct lab *lab = lab_new_on_disk(NULL);
                struct lab_camera *camera;
                struct lab_image *image;
                char path[96];

                lab_kill(lab);
                snprintf(path, sizeof(path), "%s/%u", lab->directory, lab->generation);
                lab_remove(path);
                arm(lab, i);
                lab_start(lab);
                n = MAX(disarm(), i);
                lab_kill(lab);
                lab_start(lab);
                if (lab_logged(lab, "set aside"))
                        lab_fail(lab, "killed before statement %u of the first start: what it left is taken for damaged", i);
                image = lab_firmware(lab, SIM_OPENMV3, "FIRMWARE", BREAKS_NEW, 1, 20000);
                lab_import(lab, image);
                camera = lab_camera_new(lab, SIM_OPENMV3, 1);
                lab_install(camera, image);
                lab_plug_until_running(camera, "3-1.2");
                lab_run(lab, SEC);
                lab_kill(lab);
                lab_start(lab);
                assert_non_null(registry_camera_by_key(lab->registry, camera->key));
                assert_int_equal(store_count(lab->store), 1);
                lab_free(lab);
        }
        printf("# breaks: first start: daemon killed between statements: %u; a database, or none, after %u\n", n, n);
}

int main(int argc, char *argv[])
{
        struct CMUnitTest tests[ROWS + 1];

        for (size_t i = 0; i < ROWS; i++)
                tests[i] = (struct CMUnitTest){ breaks_rows[i].name, row, NULL, NULL, (void *)&breaks_rows[i] };
        tests[ROWS] = (struct CMUnitTest){ "first start", first_run, NULL, NULL, NULL };
        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
