/* SPDX-License-Identifier: MIT */

/*
 * The store in virtual time, on real files: what is added comes back or is
 * dropped with a line, never wrong; and the choice of firmware as a table.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/store.h"
#include "unit/loop-virtual.h"

#define QUOTA 10000

static struct board_list boards;

struct world {
        char directory[64];
        struct loop *loop;
        struct journal *journal;
        struct store *store;
        unsigned answers;
        int answer;
        struct blob *blob;
};

static char log_lines[8192];

static void on_line(int level, const struct log_subject *subject, const char *line, void *userdata)
{
        size_t length = strlen(log_lines);

        (void)snprintf(log_lines + length, sizeof(log_lines) - length, "%s\n", line);
}

static void world_start(struct world *world)
{
        const char *directory = world->directory[0] ? world->directory : NULL;

        assert_int_equal(loop_new(&world->loop), 0);
        assert_int_equal(journal_open(world->loop, directory, &world->journal), 0);
        assert_int_equal(store_new(world->loop, world->journal, directory, QUOTA, &world->store), 0);
}

static void world_stop(struct world *world)
{
        world->store = store_free(world->store);
        world->journal = journal_close(world->journal);
        world->loop = loop_free(world->loop);
}

static void world_restart(struct world *world)
{
        world_stop(world);
        world_start(world);
}

static int world_make(void **state)
{
        struct world *world = calloc(1, sizeof(*world));

        assert_non_null(world);
        strcpy(world->directory, "/tmp/test-store-XXXXXX");
        assert_non_null(mkdtemp(world->directory));
        log_lines[0] = 0;
        world_start(world);
        *state = world;
        return 0;
}

static int world_make_in_memory(void **state)
{
        struct world *world = calloc(1, sizeof(*world));

        assert_non_null(world);
        world_start(world);
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

        if (world->loop)
                world_stop(world);
        if (world->directory[0])
                (void)nftw(world->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        free(world);
        return 0;
}

/* --- verbs --- */

static void on_answer(void *userdata, int error)
{
        struct world *world = userdata;

        world->answers++;
        world->answer = error;
}

static bool has_answer(void *userdata)
{
        return ((struct world *)userdata)->answers > 0;
}

/* An image of size bytes whose content depends on n. */
static const uint8_t *image(unsigned n, size_t size)
{
        static uint8_t bytes[4 * 1024 * 1024];

        assert_true(size <= sizeof(bytes));
        for (size_t i = 0; i < size; i++)
                bytes[i] = (uint8_t)(i * 7 + n + i / 256);
        return bytes;
}

static struct digest digest_n(unsigned n, size_t size)
{
        struct digest digest;

        digest_of(image(n, size), size, &digest);
        return digest;
}

static struct firmware_record record_of(const char *board, const char *partition, const char *version, bool stable, bool pinned)
{
        struct firmware_record record = { .file = "firmware.bin", .stable = stable, .pinned = pinned };

        (void)snprintf(record.board, sizeof(record.board), "%s", board);
        (void)snprintf(record.partition, sizeof(record.partition), "%s", partition);
        (void)snprintf(record.version, sizeof(record.version), "%s", version);
        return record;
}

static int answer_of(struct world *world, int r)
{
        if (r < 0)
                return r;
        assert_true(loop_run_until(world->loop, has_answer, world, 60 * SEC));
        assert_int_equal(world->answers, 1);
        return world->answer;
}

static int add(struct world *world, const char *board, const char *version, unsigned n, size_t size)
{
        struct firmware_record record = record_of(board, "FIRMWARE", version, true, false);

        world->answers = 0;
        return answer_of(world, store_add_firmware(world->store, &record, image(n, size), size, on_answer, world));
}

static int save(struct world *world, const char *camera, unsigned n, size_t size)
{
        world->answers = 0;
        return answer_of(world, store_save(world->store, camera, "FIRMWARE", image(n, size), size, on_answer, world));
}

static const char *blob_path(struct world *world, const char *shelf, unsigned n, size_t size, const char *suffix)
{
        static char path[PATH_MAX];
        struct digest digest = digest_n(n, size);
        char hex[DIGEST_HEX_SIZE];

        digest_to_hex(&digest, hex);
        (void)snprintf(path, sizeof(path), "%s/%s/%s.bin%s", world->directory, shelf, hex, suffix);
        return path;
}

static bool exists(const char *path)
{
        return access(path, F_OK) == 0;
}

static unsigned files_in(struct world *world, const char *shelf)
{
        char path[PATH_MAX];
        struct dirent *entry;
        unsigned n = 0;
        DIR *dir;

        (void)snprintf(path, sizeof(path), "%s/%s", world->directory, shelf);
        dir = opendir(path);
        assert_non_null(dir);
        while ((entry = readdir(dir)))
                n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
        (void)closedir(dir);
        return n;
}

static void damage(const char *path)
{
        int fd = open(path, O_WRONLY);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "\xde\xad", 2, 100), 2);
        (void)close(fd);
}

static int get(struct world *world, unsigned n, size_t size)
{
        struct digest digest = digest_n(n, size);
        struct blob *blob = NULL;
        int r;

        r = store_blob(world->store, &digest, &blob);
        if (r < 0)
                return r;
        assert_int_equal(blob->size, size);
        assert_memory_equal(blob->data, image(n, size), size);
        assert_null(blob_unref(blob));
        return 0;
}

static void on_fetched(void *userdata, struct blob *blob, int error)
{
        struct world *world = userdata;

        world->answers++;
        world->answer = error;
        assert_true((blob != NULL) == (error == 0));
        if (world->blob)
                (void)blob_unref(world->blob);
        world->blob = blob;
}

static int fetch(struct world *world, unsigned n, size_t size)
{
        struct digest digest = digest_n(n, size);
        int r;

        world->answers = 0;
        r = answer_of(world, store_fetch(world->store, &digest, on_fetched, world));
        if (r == 0) {
                assert_int_equal(world->blob->size, size);
                assert_memory_equal(world->blob->data, image(n, size), size);
                world->blob = blob_unref(world->blob);
        }
        return r;
}

static void open_update_with(struct world *world, unsigned n, size_t size, const char *how)
{
        struct update_record record = { .id = "u1", .camera = "CAMERA", .n_images = 1,
                                        .images = { { .partition = "FIRMWARE", .digest = digest_n(n, size), .size = (uint32_t)size } } };

        (void)snprintf(record.state, sizeof(record.state), "%s", how);
        assert_int_equal(journal_put_update(world->journal, &record), 0);
}

/* --- firmware --- */

static void added_image_comes_back(void **state)
{
        struct world *world = *state;
        const struct firmware_record *record;
        struct digest digest = digest_n(1, 5000);

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        for (unsigned turn = 0; turn < 2; turn++) {
                assert_int_equal(store_count(world->store), 1);
                record = store_by_digest(world->store, &digest, "OPENMV3");
                assert_non_null(record);
                assert_ptr_equal(record, store_nth(world->store, 0));
                assert_null(store_nth(world->store, 1));
                assert_null(store_by_digest(world->store, &digest, "OPENMV4"));
                assert_ptr_equal(store_by_digest(world->store, &digest, NULL), record);
                assert_string_equal(record->version, "5.0.0");
                assert_int_equal(record->size, 5000);
                assert_true(record->added >= LOOP_VIRTUAL_WALL_START);
                assert_int_equal(get(world, 1, 5000), 0);
                world_restart(world);
        }
}

static void in_memory_it_comes_back_too(void **state)
{
        struct world *world = *state;
        struct digest digest = digest_n(1, 5000);

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(add(world, "OPENMV4", "5.0.0", 1, 5000), 0);
        assert_int_equal(save(world, "CAMERA", 1, 5000), 0);
        assert_int_equal(get(world, 1, 5000), 0);
        assert_int_equal(fetch(world, 1, 5000), 0);
        assert_int_equal(get(world, 2, 5000), -ENOENT);
        assert_int_equal(fetch(world, 2, 5000), -ENOENT);
        assert_int_equal(store_remove_firmware(world->store, &digest), 0);
        assert_int_equal(get(world, 1, 5000), 0);
        /* The saved one gives way: then nothing names it. */
        assert_int_equal(save(world, "CAMERA", 2, 9000), 0);
        assert_int_equal(get(world, 1, 5000), -ENOENT);
}

static void image_without_bytes_is_refused(void **state)
{
        struct world *world = *state;

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 0), -EINVAL);
}

static void equal_images_are_one_blob(void **state)
{
        struct world *world = *state;
        struct digest digest = digest_n(1, 5000);
        uint32_t bits = 0;

        assert_int_equal(add(world, "OPENMV4", "5.0.0", 1, 5000), 0);
        assert_int_equal(add(world, "OPENMV4P", "5.0.0", 1, 5000), 0);
        assert_int_equal(add(world, "OPENMV4", "5.0.1", 1, 5000), 0);
        assert_int_equal(store_count(world->store), 3);
        assert_int_equal(add(world, "OPENMV4", "5.0.1", 1, 5000), 0);
        assert_int_equal(store_count(world->store), 3);
        assert_string_equal(store_by_digest(world->store, &digest, "OPENMV4P")->version, "5.0.0");
        assert_null(store_by_digest(world->store, &digest, "OPENMV3"));
        assert_int_equal(files_in(world, "firmware"), 1);

        for (size_t i = 0; i < boards.n; i++)
                if (strcmp(boards.boards[i].id, "OPENMV4") == 0 || strcmp(boards.boards[i].id, "OPENMV4P") == 0)
                        bits |= UINT32_C(1) << i;
        assert_int_equal(store_boards_of_digest(world->store, &boards, &digest), bits);
        digest.bytes[0] ^= 1;
        assert_int_equal(store_boards_of_digest(world->store, &boards, &digest), 0);
}

static void holders_share_one_mapping(void **state)
{
        struct world *world = *state;
        struct digest digest = digest_n(1, 5000);
        struct blob *a, *b;

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(store_blob(world->store, &digest, &a), 0);
        assert_int_equal(store_blob(world->store, &digest, &b), 0);
        assert_ptr_equal(a, b);
        assert_ptr_equal(blob_ref(a), a);
        (void)blob_unref(a);
        (void)blob_unref(a);
        /* Held, it outlives its record and its file. */
        assert_int_equal(store_remove_firmware(world->store, &digest), 0);
        loop_advance(world->loop, 1 * SEC);
        assert_false(exists(blob_path(world, "firmware", 1, 5000, "")));
        assert_memory_equal(b->data, image(1, 5000), 5000);
        (void)blob_unref(b);
}

static void record_follows_the_blob(void **state)
{
        struct world *world = *state;
        struct firmware_record record = record_of("OPENMV3", "FIRMWARE", "5.0.0", true, false);

        world->answers = 0;
        loop_set_work_delay(world->loop, 10 * SEC);
        assert_int_equal(store_add_firmware(world->store, &record, image(1, 5000), 5000, on_answer, world), 0);
        loop_advance(world->loop, 15 * SEC);
        /* It is on the disk, but that is not known yet. */
        assert_true(exists(blob_path(world, "firmware", 1, 5000, "")));
        assert_int_equal(store_count(world->store), 0);
        assert_int_equal(world->answers, 0);
        loop_advance(world->loop, 15 * SEC);
        assert_int_equal(store_count(world->store), 1);
        assert_int_equal(world->answers, 1);
}

static void cancelled_addition_is_not_answered(void **state)
{
        struct world *world = *state;
        struct firmware_record record = record_of("OPENMV3", "FIRMWARE", "5.0.0", true, false);
        struct digest digest = digest_n(1, 5000);

        assert_int_equal(store_add_firmware(world->store, &record, image(1, 5000), 5000, on_answer, world), 0);
        store_cancel(world->store, world);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(world->answers, 0);
        assert_int_equal(store_count(world->store), 1);

        assert_int_equal(store_fetch(world->store, &digest, on_fetched, world), 0);
        store_cancel(world->store, world);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(world->answers, 0);
}

static void end_while_adding_leaves_nothing_behind(void **state)
{
        struct world *world = *state;
        struct firmware_record record = record_of("OPENMV3", "FIRMWARE", "5.0.0", true, false);
        struct digest digest = digest_n(1, 5000);

        loop_set_work_delay(world->loop, 1 * SEC);
        assert_int_equal(store_add_firmware(world->store, &record, image(1, 5000), 5000, on_answer, world), 0);
        assert_int_equal(store_add_firmware(world->store, &record, image(2, 5000), 5000, on_answer, world), 0);
        assert_int_equal(store_fetch(world->store, &digest, on_fetched, world), 0);
        loop_advance(world->loop, 1500 * MSEC);
        world->answers = 0;
        world_restart(world);
        assert_int_equal(world->answers, 0);
        assert_int_equal(store_count(world->store), 0);
        assert_int_equal(files_in(world, "firmware"), 0);
}

static void damaged_blob_is_not_used(void **state)
{
        struct world *world = *state;

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        damage(blob_path(world, "firmware", 1, 5000, ""));
        assert_int_equal(get(world, 1, 5000), -EBADMSG);
        assert_non_null(strstr(log_lines, "damaged on the disk"));
        assert_int_equal(store_count(world->store), 0);
        assert_true(exists(blob_path(world, "firmware", 1, 5000, ".damaged")));
        assert_int_equal(get(world, 1, 5000), -ENOENT);
        world_restart(world);
        assert_int_equal(store_count(world->store), 0);

        /* Added again, it is whole again. */
        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(get(world, 1, 5000), 0);
}

/* One image may be somebody's firmware, and what was saved from a camera. */
static void damage_leaves_the_other_shelf(void **state)
{
        for (unsigned turn = 0; turn < 2; turn++) {
                struct world *world = *state;
                unsigned n = 1 + turn;

                assert_int_equal(add(world, "OPENMV3", "5.0.0", n, 5000), 0);
                assert_int_equal(save(world, "CAMERA", n, 5000), 0);
                assert_true(exists(blob_path(world, "saved", n, 5000, "")));
                damage(blob_path(world, "firmware", n, 5000, ""));
                assert_int_equal(turn == 0 ? get(world, n, 5000) : fetch(world, n, 5000), 0);
                assert_int_equal(store_count(world->store), 0);
                assert_non_null(store_saved(world->store, "CAMERA", "FIRMWARE"));
                damage(blob_path(world, "saved", n, 5000, ""));
                world_restart(world);
                assert_int_equal(get(world, n, 5000), -EBADMSG);
                assert_true(exists(blob_path(world, "saved", n, 5000, ".damaged")));
                assert_null(store_saved(world->store, "CAMERA", "FIRMWARE"));
        }
}

static void damage_after_the_first_check_is_seen(void **state)
{
        struct world *world = *state;

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(get(world, 1, 5000), 0);
        damage(blob_path(world, "firmware", 1, 5000, ""));
        assert_int_equal(get(world, 1, 5000), -EBADMSG);
}

static void adding_mends_a_damaged_blob(void **state)
{
        struct world *world = *state;

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        damage(blob_path(world, "firmware", 1, 5000, ""));
        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(get(world, 1, 5000), 0);
        assert_int_equal(files_in(world, "firmware"), 1);
}

static void fetched_blob_is_checked_elsewhere(void **state)
{
        struct world *world = *state;
        struct digest digest = digest_n(1, 5000);

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(fetch(world, 1, 5000), 0);
        assert_int_equal(fetch(world, 2, 5000), -ENOENT);

        /* Many who want the same are one work. */
        loop_set_work_delay(world->loop, 1 * SEC);
        world->answers = 0;
        for (unsigned n = 0; n < 10; n++)
                assert_int_equal(store_fetch(world->store, &digest, on_fetched, world), 0);
        assert_int_equal(loop_pending_work(world->loop), 1);
        loop_advance(world->loop, 2 * SEC);
        assert_int_equal(world->answers, 10);
        assert_int_equal(world->answer, 0);
        assert_int_equal(world->blob->refs, 1);
        world->blob = blob_unref(world->blob);
        loop_set_work_delay(world->loop, 0);

        damage(blob_path(world, "firmware", 1, 5000, ""));
        assert_int_equal(fetch(world, 1, 5000), -EBADMSG);
        assert_int_equal(store_count(world->store), 0);
}

static void missing_blob_is_dropped(void **state)
{
        struct world *world = *state;

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(add(world, "OPENMV3", "5.0.1", 2, 5000), 0);
        assert_int_equal(add(world, "OPENMV3", "5.0.2", 3, 5000), 0);
        assert_int_equal(save(world, "CAMERA", 4, 5000), 0);
        world_stop(world);
        assert_int_equal(unlink(blob_path(world, "firmware", 1, 5000, "")), 0);
        assert_int_equal(truncate(blob_path(world, "firmware", 2, 5000, ""), 4999), 0);
        assert_int_equal(unlink(blob_path(world, "saved", 4, 5000, "")), 0);
        world_start(world);
        assert_int_equal(store_count(world->store), 1);
        assert_string_equal(store_nth(world->store, 0)->version, "5.0.2");
        assert_null(store_saved(world->store, "CAMERA", NULL));
        assert_non_null(strstr(log_lines, "is missing"));
        assert_non_null(strstr(log_lines, "has the wrong size"));

        /* For good: the next start has nothing to say. */
        world_stop(world);
        log_lines[0] = 0;
        world_start(world);
        assert_string_equal(log_lines, "");
}

static void removed_image_is_gone(void **state)
{
        struct world *world = *state;
        struct digest digest = digest_n(1, 5000);

        assert_int_equal(add(world, "OPENMV4", "5.0.0", 1, 5000), 0);
        assert_int_equal(add(world, "OPENMV4P", "5.0.0", 1, 5000), 0);
        assert_int_equal(store_remove_firmware(world->store, &digest), 0);
        assert_int_equal(store_remove_firmware(world->store, &digest), -ENOENT);
        assert_int_equal(store_count(world->store), 0);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(files_in(world, "firmware"), 0);
        world_restart(world);
        assert_int_equal(store_count(world->store), 0);
}

static bool is_in_use(void *userdata, const struct digest *digest)
{
        return digest_equal(userdata, digest);
}

static void open_update_keeps_its_image(void **state)
{
        struct world *world = *state;
        struct digest digest = digest_n(1, 5000);

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        open_update_with(world, 1, 5000, "open");
        store_set_blob_in_use(world->store, is_in_use, &digest);
        assert_int_equal(store_remove_firmware(world->store, &digest), 0);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(store_count(world->store), 0);
        assert_int_equal(get(world, 1, 5000), 0);

        world_restart(world);
        assert_int_equal(get(world, 1, 5000), 0);
        open_update_with(world, 1, 5000, "done");
        world_restart(world);
        assert_int_equal(get(world, 1, 5000), -ENOENT);
        assert_int_equal(files_in(world, "firmware"), 0);
}

static void image_added_again_while_it_is_removed_stays(void **state)
{
        struct world *world = *state;
        struct firmware_record record = record_of("OPENMV3", "FIRMWARE", "5.0.0", true, false);
        struct digest digest = digest_n(1, 5000);

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        loop_set_work_delay(world->loop, 1 * SEC);
        world->answers = 0;
        /* Once before the digest is known, once while it is being written. */
        for (unsigned ms = 0; ms <= 1500; ms += 1500) {
                assert_int_equal(store_add_firmware(world->store, &record, image(1, 5000), 5000, on_answer, world), 0);
                loop_advance(world->loop, ms * MSEC);
                assert_int_equal(store_remove_firmware(world->store, &digest), 0);
                loop_advance(world->loop, 10 * SEC);
                assert_int_equal(store_count(world->store), 1);
                assert_int_equal(get(world, 1, 5000), 0);
        }
        assert_int_equal(world->answers, 2);
        assert_int_equal(world->answer, 0);
}

static void write_stranger(struct world *world, const char *shelf, const char *name)
{
        char path[PATH_MAX];
        int fd;

        (void)snprintf(path, sizeof(path), "%s/%s/%s", world->directory, shelf, name);
        fd = open(path, O_WRONLY | O_CREAT, 0600);
        assert_true(fd >= 0);
        (void)close(fd);
}

static void leftovers_are_swept(void **state)
{
        struct world *world = *state;
        static const char orphan[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef.bin";

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        world_stop(world);
        write_stranger(world, "firmware", ".new-abcdef");
        write_stranger(world, "firmware", orphan);
        write_stranger(world, "saved", orphan);
        write_stranger(world, "saved", "README");
        world_start(world);
        assert_int_equal(files_in(world, "firmware"), 1);
        assert_int_equal(files_in(world, "saved"), 1);
        assert_int_equal(get(world, 1, 5000), 0);
}

/* One on each shelf; path: the journal's. */
static void stop_with_two_images(struct world *world, char path[static PATH_MAX])
{
        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(save(world, "CAMERA", 2, 5000), 0);
        world_stop(world);
        (void)snprintf(path, PATH_MAX, "%s/state.db", world->directory);
}

static void images_of_a_lost_journal_are_kept(void **state)
{
        struct world *world = *state;
        char path[PATH_MAX];

        stop_with_two_images(world, path);
        assert_int_equal(truncate(path, 1000), 0);
        world_start(world);
        assert_int_equal(store_count(world->store), 0);
        assert_true(exists(blob_path(world, "firmware", 1, 5000, ".lost")));
        assert_true(exists(blob_path(world, "saved", 2, 5000, ".lost")));
        assert_non_null(strstr(log_lines, "*.lost"));
        world_restart(world);
        assert_true(exists(blob_path(world, "saved", 2, 5000, ".lost")));
}

/* A daemon begins an empty journal, and is killed before anything was put into it: the next one finds it, whole and empty. */
static void images_of_a_journal_that_was_never_filled_are_kept(void **state)
{
        struct world *world = *state;
        char path[PATH_MAX];

        stop_with_two_images(world, path);
        assert_int_equal(unlink(path), 0);
        for (unsigned start = 0; start < 2; start++) {
                assert_int_equal(loop_new(&world->loop), 0);
                assert_int_equal(journal_open(world->loop, world->directory, &world->journal), 0);
                assert_int_equal(journal_birth(world->journal), start == 0 ? JOURNAL_BEGUN : JOURNAL_LOADED);
                assert_false(journal_is_whole(world->journal));
                world_stop(world);
        }

        world_start(world);
        assert_int_equal(store_count(world->store), 0);
        assert_true(exists(blob_path(world, "firmware", 1, 5000, ".lost")));
        assert_true(exists(blob_path(world, "saved", 2, 5000, ".lost")));

        /* From then on nothing is missed. */
        world_restart(world);
        assert_true(journal_is_whole(world->journal));
}

static void index_survives_a_journal_damaged_while_running(void **state)
{
        struct world *world = *state;
        uint8_t garbage[4096];
        char path[PATH_MAX];
        int fd;

        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
        assert_int_equal(save(world, "CAMERA", 2, 5000), 0);
        loop_advance(world->loop, 60 * SEC);
        (void)snprintf(path, sizeof(path), "%s/state.db", world->directory);
        fd = open(path, O_WRONLY);
        memset(garbage, 0xa5, sizeof(garbage));
        for (off_t at = 4096; at < lseek(fd, 0, SEEK_END); at += 4096)
                assert_int_equal(pwrite(fd, garbage, sizeof(garbage), at), sizeof(garbage));
        (void)close(fd);
        assert_int_equal(add(world, "OPENMV3", "5.0.1", 3, 5000), 0);
        loop_advance(world->loop, 60 * SEC);
        assert_non_null(strstr(log_lines, "set aside"));
        world_restart(world);
        assert_int_equal(store_count(world->store), 2);
        assert_non_null(store_saved(world->store, "CAMERA", "FIRMWARE"));
        assert_int_equal(get(world, 1, 5000), 0);
        assert_int_equal(get(world, 2, 5000), 0);
        assert_int_equal(get(world, 3, 5000), 0);
}

static void full_disk_leaves_nothing_half(void **state)
{
        struct world *world = *state;
        struct rlimit limit;
        int r;

        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, limit.rlim_max }), 0);
        r = add(world, "OPENMV3", "5.0.0", 1, 5000);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(r, -EFBIG);
        assert_int_equal(store_count(world->store), 0);
        assert_int_equal(files_in(world, "firmware"), 0);
        assert_int_equal(add(world, "OPENMV3", "5.0.0", 1, 5000), 0);
}

static void pin_is_one_version_per_board(void **state)
{
        struct world *world = *state;
        struct firmware_record records[] = {
                record_of("OPENMV_AE3", "HP", "5.0.0", true, true),
                record_of("OPENMV_AE3", "HE", "5.0.0", true, true),
                record_of("OPENMV3", "FIRMWARE", "4.8.1", true, true),
                record_of("OPENMV_AE3", "HP", "5.0.1", true, true),
        };

        for (unsigned n = 0; n < ELEMENTSOF(records); n++) {
                world->answers = 0;
                assert_int_equal(answer_of(world, store_add_firmware(world->store, &records[n], image(n, 100), 100, on_answer,
                                                                     world)), 0);
        }
        for (unsigned turn = 0; turn < 2; turn++) {
                for (size_t n = 0; n < store_count(world->store); n++) {
                        const struct firmware_record *record = store_nth(world->store, n);

                        assert_int_equal(record->pinned, strcmp(record->version, "5.0.0") != 0);
                }
                world_restart(world);
        }
}

/* --- saved images --- */

static void saved_image_comes_back(void **state)
{
        struct world *world = *state;

        assert_int_equal(save(world, "CAMERA", 1, 1000), 0);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(save(world, "CAMERA", 2, 1000), 0);
        for (unsigned turn = 0; turn < 2; turn++) {
                const struct saved_record *record = store_saved(world->store, "CAMERA", "FIRMWARE");
                struct digest digest = digest_n(2, 1000);

                assert_non_null(record);
                assert_true(digest_equal(&record->digest, &digest));
                assert_int_equal(record->size, 1000);
                assert_ptr_equal(store_nth_saved(world->store, 1), record);
                assert_null(store_nth_saved(world->store, 2));
                assert_null(store_saved(world->store, "CAMERA", "HP"));
                assert_null(store_saved(world->store, "ANOTHER", "FIRMWARE"));
                assert_int_equal(get(world, 1, 1000), 0);
                assert_int_equal(get(world, 2, 1000), 0);
                world_restart(world);
        }
}

/* Also across a restart, and for what gives way. */
static void newest_saved_image_is_the_last_whatever_the_clock_says(void **state)
{
        struct world *world = *state;

        assert_int_equal(save(world, "CAMERA", 1, 3000), 0);
        assert_int_equal(save(world, "CAMERA", 2, 3000), 0);
        for (unsigned turn = 0; turn < 2; turn++) {
                unsigned n = 3 + 2 * turn;
                struct digest digest = digest_n(n + 1, 3000);

                loop_set_wall_clock(world->loop, LOOP_VIRTUAL_WALL_START - (turn + 1) * 3600 * SEC);
                assert_int_equal(save(world, "CAMERA", n, 3000), 0);
                assert_int_equal(save(world, "CAMERA", n + 1, 3000), 0);
                assert_true(digest_equal(&store_saved(world->store, "CAMERA", "FIRMWARE")->digest, &digest));
                assert_int_equal(get(world, n - 2, 3000), -ENOENT);
                world_restart(world);
                assert_true(digest_equal(&store_saved(world->store, "CAMERA", "FIRMWARE")->digest, &digest));
                assert_int_equal(get(world, n, 3000), 0);
        }
}

static void oldest_saved_image_gives_way(void **state)
{
        struct world *world = *state;

        for (unsigned n = 1; n <= 4; n++) {
                assert_int_equal(save(world, "CAMERA", n, 3000), 0);
                loop_advance(world->loop, 1 * SEC);
        }
        assert_int_equal(get(world, 1, 3000), -ENOENT);
        for (unsigned n = 2; n <= 4; n++)
                assert_int_equal(get(world, n, 3000), 0);
        assert_int_equal(files_in(world, "saved"), 3);

        /* Saved again, it is the newest. */
        assert_int_equal(save(world, "CAMERA", 2, 3000), 0);
        assert_int_equal(save(world, "CAMERA", 5, 3000), 0);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(get(world, 2, 3000), 0);
        assert_int_equal(get(world, 3, 3000), -ENOENT);
        world_restart(world);
        assert_int_equal(get(world, 2, 3000), 0);
}

static void equal_saved_images_count_once(void **state)
{
        struct world *world = *state;
        char camera[16];

        for (unsigned n = 0; n < 50; n++) {
                (void)snprintf(camera, sizeof(camera), "CAMERA%u", n);
                assert_int_equal(save(world, camera, 1, 6000), 0);
        }
        assert_int_equal(files_in(world, "saved"), 1);
        assert_non_null(store_saved(world->store, "CAMERA0", NULL));
        assert_non_null(store_saved(world->store, "CAMERA49", NULL));

        /* The blob goes with its last record. */
        assert_int_equal(save(world, "CAMERA", 2, 6000), 0);
        loop_advance(world->loop, 1 * SEC);
        assert_null(store_saved(world->store, "CAMERA49", NULL));
        assert_int_equal(files_in(world, "saved"), 1);
}

static void image_larger_than_the_quota_is_refused(void **state)
{
        struct world *world = *state;

        assert_int_equal(save(world, "CAMERA", 1, 3000), 0);
        assert_int_equal(save(world, "CAMERA", 2, QUOTA + 1), -EDQUOT);
        assert_int_equal(get(world, 1, 3000), 0);
        assert_int_equal(save(world, "CAMERA", 2, QUOTA), 0);
        assert_int_equal(get(world, 1, 3000), -ENOENT);
}

static bool is_busy(void *userdata, const char *camera)
{
        return strcmp(camera, userdata) == 0;
}

static void only_image_of_an_open_update_stays(void **state)
{
        struct world *world = *state;
        char busy[] = "BUSY";

        assert_int_equal(save(world, "BUSY", 1, 3000), 0);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(save(world, "IDLE", 2, 3000), 0);
        loop_advance(world->loop, 1 * SEC);
        store_set_camera_in_use(world->store, is_busy, busy);
        assert_int_equal(save(world, "IDLE", 3, 6000), 0);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(get(world, 1, 3000), 0);
        assert_int_equal(get(world, 2, 3000), -ENOENT);

        /* Of what may not be given up there is too much. */
        assert_int_equal(save(world, "IDLE", 4, 8000), -EDQUOT);
        /* Of two, the older goes. */
        assert_int_equal(save(world, "BUSY", 4, 7000), 0);
        assert_int_equal(get(world, 1, 3000), -ENOENT);
        assert_int_equal(get(world, 3, 6000), -ENOENT);
        assert_int_equal(get(world, 4, 7000), 0);
}

static void images_on_their_way_are_counted(void **state)
{
        struct world *world = *state;

        loop_set_work_delay(world->loop, 1 * SEC);
        world->answers = 0;
        assert_int_equal(store_save(world->store, "A", "FIRMWARE", image(1, 6000), 6000, on_answer, world), 0);
        assert_int_equal(store_save(world->store, "B", "FIRMWARE", image(2, 6000), 6000, on_answer, world), -EDQUOT);
        loop_advance(world->loop, 10 * SEC);
        assert_int_equal(world->answers, 1);
        assert_int_equal(get(world, 1, 6000), 0);
}

static void saved_image_follows_its_camera(void **state)
{
        struct world *world = *state;

        assert_int_equal(save(world, "P:3-1.2", 1, 1000), 0);
        assert_int_equal(journal_rename_camera(world->journal, "P:3-1.2", "CAMERA"), 0);
        store_rename_camera(world->store, "P:3-1.2", "CAMERA");
        for (unsigned turn = 0; turn < 2; turn++) {
                assert_null(store_saved(world->store, "P:3-1.2", NULL));
                assert_non_null(store_saved(world->store, "CAMERA", NULL));
                world_restart(world);
        }
}

static void save_other_partition(struct world *world, unsigned n, size_t size)
{
        world->answers = 0;
        assert_int_equal(answer_of(world, store_save(world->store, "CAMERA", "HE", image(n, size), size, on_answer, world)), 0);
}

static void same_bytes_in_two_partitions_are_two_images(void **state)
{
        struct world *world = *state;

        assert_int_equal(save(world, "CAMERA", 1, 6000), 0);
        loop_advance(world->loop, 1 * SEC);
        save_other_partition(world, 1, 6000);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(store_saved(world->store, "CAMERA", "HE")->size, 6000);
        assert_int_equal(store_saved(world->store, "CAMERA", "FIRMWARE")->size, 6000);
        world_restart(world);
        assert_non_null(store_saved(world->store, "CAMERA", "HE"));
        assert_non_null(store_saved(world->store, "CAMERA", "FIRMWARE"));
}

/* --- versions --- */

static void versions_are_ordered(void **state)
{
        static const char *const ascending[] = {
                "0.0.1", "3.9.4", "4.6.20", "4.8.1", "4.8.2", "4.10.0", "5.0.0-1", "5.0.0-2", "5.0.0-10", "5.0.0-alpha",
                "5.0.0-alpha.1", "5.0.0-beta", "5.0.0-dev", "5.0.0-rc1", "5.0.0-rc1.1", "5.0.0", "5.0.1-dev", "5.0.1", "5.1",
                "6", "10.0.0", "4294967295.0.0",
        };
        static const char *const senseless[] = {
                "", "custom:1a2b3c4d5e6f", "5.", "5..0", ".5", "5.0.0.0", "5.0.0-", "x5", "5.0.0 ", "4294967296.0.0",
                "99999999999999999999.0.0", "5.0.0/1",
        };

        for (size_t a = 0; a < ELEMENTSOF(ascending); a++) {
                for (size_t b = 0; b < ELEMENTSOF(ascending); b++) {
                        int r = version_compare(ascending[a], ascending[b]);

                        if ((r < 0) != (a < b) || (r > 0) != (a > b))
                                fail_msg("%s against %s: %d", ascending[a], ascending[b], r);
                }
                for (size_t b = 0; b < ELEMENTSOF(senseless); b++)
                        if (version_compare(ascending[a], senseless[b]) <= 0 || version_compare(senseless[b], ascending[a]) >= 0)
                                fail_msg("%s against \"%s\"", ascending[a], senseless[b]);
        }
        for (size_t a = 0; a < ELEMENTSOF(senseless); a++)
                for (size_t b = 0; b < ELEMENTSOF(senseless); b++)
                        assert_int_equal(version_compare(senseless[a], senseless[b]) == 0, a == b);
}

static void versions_written_otherwise_are_equal(void **state)
{
        assert_int_equal(version_compare("5.0", "5.0.0"), 0);
        assert_int_equal(version_compare("v4.8.1", "4.8.1"), 0);
        assert_int_equal(version_compare("5.0.0+g1a2b3c", "5.0.0+g4d5e6f"), 0);
        assert_int_equal(version_compare("5.0.0-rc.01", "5.0.0-rc.1"), 0);
        assert_int_equal(version_compare("05.0.0", "5.0.0"), 0);
}

/* --- the choice --- */

/* board, partition, version, size, stable, pinned */
struct stock {
        const char *board, *partition, *version;
        uint32_t size;
        bool stable, pinned;
};

struct choice_case {
        const char *fact;
        struct stock stock[8];
        const char *board;
        int layout;                     /* -1: not known */
        const char *named, *last_ran;
        bool unattended, with_romfs;
        enum choice_reason reason;      /* CHOICE_NONE: nothing is chosen */
        const char *images;             /* "HP 5.0.0 HE 5.0.0"; with CHOICE_NONE: a piece of the text */
};

#define STABLE true, false
#define DEVELOPMENT false, false
#define PINNED true, true
#define OWN_PINNED false, true

static const struct choice_case choice_cases[] = {
        { "an empty store has nothing", {}, "OPENMV3", 0, "", "", true, false, CHOICE_NONE, "no firmware" },
        { "another board's firmware is nothing",
          { { "OPENMV4", "FIRMWARE", "5.0.0", 1000, STABLE } },
          "OPENMV3", 0, "", "", true, false, CHOICE_NONE, "no firmware" },
        { "the newest, by version and not by age",
          { { "OPENMV3", "FIRMWARE", "4.10.0", 1000, STABLE }, { "OPENMV3", "FIRMWARE", "4.8.1", 1001, STABLE } },
          "OPENMV3", 0, "", "", true, false, CHOICE_NEWEST, "FIRMWARE 4.10.0" },
        { "the newest stable one",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, STABLE }, { "OPENMV3", "FIRMWARE", "5.0.0-dev", 1001, DEVELOPMENT } },
          "OPENMV3", 0, "", "", true, false, CHOICE_NEWEST, "FIRMWARE 4.8.1" },
        { "development alone is not chosen",
          { { "OPENMV3", "FIRMWARE", "5.0.0-dev", 1001, DEVELOPMENT } },
          "OPENMV3", 0, "", "", true, false, CHOICE_NONE, "no firmware" },
        { "what it last ran before the newest",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, STABLE }, { "OPENMV3", "FIRMWARE", "5.0.0", 1001, STABLE } },
          "OPENMV3", 0, "", "4.8.1", true, false, CHOICE_LAST_RAN, "FIRMWARE 4.8.1" },
        { "what it last ran, even development",
          { { "OPENMV3", "FIRMWARE", "5.0.0-dev", 1000, DEVELOPMENT }, { "OPENMV3", "FIRMWARE", "5.0.0", 1001, STABLE } },
          "OPENMV3", 0, "", "5.0.0-dev", true, false, CHOICE_LAST_RAN, "FIRMWARE 5.0.0-dev" },
        { "what it last ran, even somebody's own",
          { { "OPENMV3", "FIRMWARE", "custom:1a2b", 1000, DEVELOPMENT }, { "OPENMV3", "FIRMWARE", "5.0.0", 1001, STABLE } },
          "OPENMV3", 0, "", "custom:1a2b", true, false, CHOICE_LAST_RAN, "FIRMWARE custom:1a2b" },
        { "the pin before what it last ran",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, STABLE }, { "OPENMV3", "FIRMWARE", "5.0.0", 1001, PINNED },
            { "OPENMV3", "FIRMWARE", "5.0.1", 1002, STABLE } },
          "OPENMV3", 0, "", "4.8.1", true, false, CHOICE_PINNED, "FIRMWARE 5.0.0" },
        { "another board's pin is no pin",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, STABLE }, { "OPENMV4", "FIRMWARE", "5.0.0", 1001, PINNED } },
          "OPENMV3", 0, "", "", true, false, CHOICE_NEWEST, "FIRMWARE 4.8.1" },
        { "a pinned bootloader pins no firmware",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, STABLE }, { "OPENMV3", "BOOTLOADER", "5.0.0", 1001, PINNED } },
          "OPENMV3", 0, "", "", true, false, CHOICE_NEWEST, "FIRMWARE 4.8.1" },
        { "the name before the pin",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, STABLE }, { "OPENMV3", "FIRMWARE", "5.0.0", 1001, PINNED } },
          "OPENMV3", 0, "4.8.1", "5.0.0", false, false, CHOICE_NAMED, "FIRMWARE 4.8.1" },
        { "a name that is not there is not replaced by another",
          { { "OPENMV3", "FIRMWARE", "5.0.0", 1001, PINNED } },
          "OPENMV3", 0, "4.8.1", "5.0.0", false, false, CHOICE_NONE, "no FIRMWARE image of 4.8.1" },
        { "a name is not a prefix",
          { { "OPENMV3", "FIRMWARE", "5.0.0", 1001, STABLE } },
          "OPENMV3", 0, "5.0", "", false, false, CHOICE_NONE, "no FIRMWARE image of 5.0" },

        { "unattended, the newest is not taken when it is older",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, STABLE } },
          "OPENMV3", 0, "", "5.0.0", true, false, CHOICE_NONE, "older" },
        { "unattended, a pin is not taken when it is older",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, PINNED }, { "OPENMV3", "FIRMWARE", "5.0.0", 1001, STABLE } },
          "OPENMV3", 0, "", "5.0.0", true, false, CHOICE_LAST_RAN, "FIRMWARE 5.0.0" },
        { "unattended, a name is not taken when it is older",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, STABLE } },
          "OPENMV3", 0, "4.8.1", "5.0.0", true, false, CHOICE_NONE, "older" },
        { "unattended, a release after its own pre-release",
          { { "OPENMV3", "FIRMWARE", "5.0.0", 1000, STABLE } },
          "OPENMV3", 0, "", "5.0.0-dev", true, false, CHOICE_NEWEST, "FIRMWARE 5.0.0" },
        { "unattended, a release before a pre-release of the next",
          { { "OPENMV3", "FIRMWARE", "5.0.0", 1000, STABLE } },
          "OPENMV3", 0, "", "5.0.1-dev", true, false, CHOICE_NONE, "older" },
        { "unattended, somebody's own firmware has no rank",
          { { "OPENMV3", "FIRMWARE", "custom:ffff", 1000, OWN_PINNED } },
          "OPENMV3", 0, "", "custom:1a2b", true, false, CHOICE_NONE, "custom:1a2b" },
        { "attended, older is the user's business",
          { { "OPENMV3", "FIRMWARE", "4.8.1", 1000, PINNED } },
          "OPENMV3", 0, "", "5.0.0", false, false, CHOICE_PINNED, "FIRMWARE 4.8.1" },

        /* The size trap: 868520 bytes are too much for the M4's present bootloader, and fit an older one. */
        { "one that is too large for its bootloader is passed over",
          { { "OPENMV2", "FIRMWARE", "4.6.20", 868520, STABLE }, { "OPENMV2", "FIRMWARE", "4.5.9", 800000, STABLE } },
          "OPENMV2", 0, "", "", true, false, CHOICE_NEWEST, "FIRMWARE 4.5.9" },
        { "the same fits the larger partition of an older bootloader",
          { { "OPENMV2", "FIRMWARE", "4.6.20", 868520, STABLE }, { "OPENMV2", "FIRMWARE", "4.5.9", 800000, STABLE } },
          "OPENMV2", 1, "", "", true, false, CHOICE_NEWEST, "FIRMWARE 4.6.20" },
        { "an unknown layout is the newest",
          { { "OPENMV2", "FIRMWARE", "4.6.20", 868520, STABLE } },
          "OPENMV2", -1, "", "", true, false, CHOICE_NONE, "does not fit FIRMWARE (868520 of 851968 bytes)" },
        { "exactly full fits",
          { { "OPENMV2", "FIRMWARE", "4.8.1", 851968, STABLE } },
          "OPENMV2", 0, "", "", true, false, CHOICE_NEWEST, "FIRMWARE 4.8.1" },
        { "one byte more does not",
          { { "OPENMV2", "FIRMWARE", "4.8.1", 851969, STABLE } },
          "OPENMV2", 0, "4.8.1", "", false, false, CHOICE_NONE, "does not fit" },
        { "a pin that does not fit gives way",
          { { "OPENMV2", "FIRMWARE", "4.8.1", 868520, PINNED }, { "OPENMV2", "FIRMWARE", "4.5.9", 800000, STABLE } },
          "OPENMV2", 0, "", "", true, false, CHOICE_NEWEST, "FIRMWARE 4.5.9" },
        { "what it last ran gives way when it does not fit, but not to an older one",
          { { "OPENMV2", "FIRMWARE", "4.8.1", 868520, STABLE }, { "OPENMV2", "FIRMWARE", "4.5.9", 800000, STABLE } },
          "OPENMV2", 0, "", "4.8.1", true, false, CHOICE_NONE, "" },

        { "both cores get one version",
          { { "OPENMV_AE3", "HP", "5.0.0", 1000, STABLE }, { "OPENMV_AE3", "HE", "5.0.0", 1001, STABLE } },
          "OPENMV_AE3", 0, "", "", true, false, CHOICE_NEWEST, "HP 5.0.0 HE 5.0.0" },
        { "half a version is none",
          { { "OPENMV_AE3", "HP", "5.0.0", 1000, STABLE }, { "OPENMV_AE3", "HE", "5.0.0", 1001, STABLE },
            { "OPENMV_AE3", "HP", "5.0.1", 1002, STABLE } },
          "OPENMV_AE3", 0, "", "", true, false, CHOICE_NEWEST, "HP 5.0.0 HE 5.0.0" },
        { "versions are not mixed",
          { { "OPENMV_AE3", "HP", "5.0.0", 1000, STABLE }, { "OPENMV_AE3", "HE", "5.0.1", 1001, STABLE } },
          "OPENMV_AE3", 0, "", "", true, false, CHOICE_NONE, "image of 5.0." },
        { "half named is none",
          { { "OPENMV_AE3", "HE", "5.0.0", 1000, STABLE } },
          "OPENMV_AE3", 0, "5.0.0", "", false, false, CHOICE_NONE, "no HP image of 5.0.0" },
        { "half a pin pins the version",
          { { "OPENMV_AE3", "HP", "5.0.0", 1000, PINNED }, { "OPENMV_AE3", "HE", "5.0.0", 1001, STABLE },
            { "OPENMV_AE3", "HP", "5.0.1", 1002, STABLE }, { "OPENMV_AE3", "HE", "5.0.1", 1003, STABLE } },
          "OPENMV_AE3", 0, "", "", true, false, CHOICE_PINNED, "HP 5.0.0 HE 5.0.0" },
        { "a set with one image that is no release is none",
          { { "OPENMV_AE3", "HP", "5.0.0", 1000, STABLE }, { "OPENMV_AE3", "HE", "5.0.0", 1001, DEVELOPMENT } },
          "OPENMV_AE3", 0, "", "", true, false, CHOICE_NONE, "" },

        { "ROMFS is left alone without his word",
          { { "OPENMV3", "FIRMWARE", "5.0.0", 1000, STABLE }, { "OPENMV3", "ROMFS0", "5.0.0", 1001, STABLE } },
          "OPENMV3", 0, "", "", false, false, CHOICE_NEWEST, "FIRMWARE 5.0.0" },
        { "ROMFS comes along at his word",
          { { "OPENMV3", "FIRMWARE", "5.0.0", 1000, STABLE }, { "OPENMV3", "ROMFS0", "5.0.0", 1001, STABLE } },
          "OPENMV3", 0, "", "", false, true, CHOICE_NEWEST, "FIRMWARE 5.0.0 ROMFS0 5.0.0" },
        { "ROMFS asked for and not there is no set",
          { { "OPENMV3", "FIRMWARE", "5.0.0", 1000, STABLE } },
          "OPENMV3", 0, "5.0.0", "", false, true, CHOICE_NONE, "no ROMFS0 image of 5.0.0" },
        { "ROMFS asked for and no place for it is no set",
          { { "OPENMV2", "FIRMWARE", "5.0.0", 1000, STABLE }, { "OPENMV2", "ROMFS0", "5.0.0", 1001, STABLE } },
          "OPENMV2", 1, "5.0.0", "", false, true, CHOICE_NONE, "no ROMFS partition" },
        { "all four images of an AE3",
          { { "OPENMV_AE3", "ROMFS0", "5.0.0", 1003, STABLE }, { "OPENMV_AE3", "HE", "5.0.0", 1001, STABLE },
            { "OPENMV_AE3", "ROMFS1", "5.0.0", 1002, STABLE }, { "OPENMV_AE3", "HP", "5.0.0", 1000, STABLE } },
          "OPENMV_AE3", 0, "", "", false, true, CHOICE_NEWEST, "HP 5.0.0 HE 5.0.0 ROMFS1 5.0.0 ROMFS0 5.0.0" },

        { "a bootloader is never part of a set",
          { { "OPENMV3", "BOOTLOADER", "5.0.0", 1000, STABLE } },
          "OPENMV3", 0, "5.0.0", "", false, false, CHOICE_NONE, "no FIRMWARE image" },
        { "a board that is only recognised gets nothing",
          { { "OPENMV_RT1060", "FIRMWARE", "5.0.0", 1000, STABLE } },
          "OPENMV_RT1060", -1, "5.0.0", "", false, false, CHOICE_NONE, "" },
};

static void stock_up(struct world *world, const struct stock *stock, size_t n)
{
        for (size_t i = 0; i < n && stock[i].board; i++) {
                struct firmware_record record =
                        record_of(stock[i].board, stock[i].partition, stock[i].version, stock[i].stable, stock[i].pinned);

                record.added = i + 1;
                world->answers = 0;
                assert_int_equal(answer_of(world, store_add_firmware(world->store, &record, image((unsigned)i, stock[i].size),
                                                                     stock[i].size, on_answer, world)), 0);
        }
}

static const char *images_of(const struct choice *choice)
{
        static char text[256];

        text[0] = 0;
        for (size_t i = 0; i < choice->n_images; i++)
                (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s %s", i ? " " : "",
                               choice->images[i]->partition, choice->images[i]->version);
        return text;
}

static void row_7_is_kept(void **state)
{
        for (size_t i = 0; i < ELEMENTSOF(choice_cases); i++) {
                const struct choice_case *c = &choice_cases[i];
                const struct board *board = board_by_id(&boards, c->board);
                struct world world = {};
                struct choice choice;
                int r;

                assert_non_null(board);
                assert_true(c->layout < (int)board->n_layouts);
                world_start(&world);
                stock_up(&world, c->stock, ELEMENTSOF(c->stock));
                r = store_choose(world.store, board, c->layout < 0 ? NULL : &board->layouts[c->layout], c->named, c->last_ran,
                                 c->unattended, c->with_romfs, &choice);
                if (choice.reason != c->reason || r != (c->reason == CHOICE_NONE ? -ENOENT : 0))
                        fail_msg("%s: %s (%s), %s", c->fact, choice_reason_to_string(choice.reason), choice.text, strerror(-r));
                if (c->reason == CHOICE_NONE && (choice.n_images != 0 || !strstr(choice.text, c->images)))
                        fail_msg("%s: \"%s\"", c->fact, choice.text);
                if (c->reason != CHOICE_NONE && strcmp(images_of(&choice), c->images) != 0)
                        fail_msg("%s: %s", c->fact, images_of(&choice));
                if (c->reason != CHOICE_NONE && strcmp(choice.version, choice.images[0]->version) != 0)
                        fail_msg("%s: version %s", c->fact, choice.version);
                assert_true(choice.text[0] != 0);
                world_stop(&world);
        }
}

static const char *id_of(unsigned n, size_t size)
{
        static char id[8 + DIGEST_HEX_SIZE];
        struct digest digest = digest_n(n, size);

        strcpy(id, "sha256:");
        digest_to_hex(&digest, id + 7);
        return id;
}

static void one_image_can_be_named_by_its_id(void **state)
{
        struct world *world = *state;
        const struct board *ae3 = board_by_id(&boards, "OPENMV_AE3"), *m7 = board_by_id(&boards, "OPENMV3");
        static const struct stock stock[] = {
                { "OPENMV_AE3", "HP", "5.0.0", 1000, DEVELOPMENT }, { "OPENMV_AE3", "HE", "5.0.0", 1001, DEVELOPMENT },
                { "OPENMV_AE3", "HP", "5.0.0", 1002, DEVELOPMENT }, { "OPENMV_AE3", "ROMFS0", "5.0.0", 1003, DEVELOPMENT },
                { "OPENMV_AE3", "BOOT", "5.0.0", 1004, STABLE },
        };
        struct choice choice;

        stock_up(world, stock, ELEMENTSOF(stock));
        /* By version the later of two builds; by id the very one. */
        assert_int_equal(store_choose(world->store, ae3, NULL, "5.0.0", "", false, false, &choice), 0);
        assert_int_equal(choice.images[0]->size, 1002);
        assert_int_equal(store_choose(world->store, ae3, NULL, id_of(0, 1000), "", false, false, &choice), 0);
        assert_int_equal(choice.reason, CHOICE_NAMED);
        assert_string_equal(images_of(&choice), "HP 5.0.0 HE 5.0.0");
        assert_int_equal(choice.images[0]->size, 1000);

        assert_int_equal(store_choose(world->store, ae3, NULL, id_of(3, 1003), "", false, true, &choice), 0);
        assert_string_equal(images_of(&choice), "ROMFS0 5.0.0");
        assert_int_equal(store_choose(world->store, ae3, NULL, id_of(3, 1003), "", false, false, &choice), -ENOENT);
        assert_int_equal(store_choose(world->store, ae3, NULL, id_of(4, 1004), "", false, false, &choice), -ENOENT);
        assert_int_equal(store_choose(world->store, m7, NULL, id_of(0, 1000), "", false, false, &choice), -ENOENT);
        assert_int_equal(store_choose(world->store, ae3, NULL, "sha256:00", "", false, false, &choice), -ENOENT);
}

static void bootloader_is_the_newest_stable_one(void **state)
{
        struct world *world = *state;
        const struct board *m7 = board_by_id(&boards, "OPENMV3");
        static const struct stock stock[] = {
                { "OPENMV3", "FIRMWARE", "9.0.0", 1000, STABLE }, { "OPENMV3", "BOOTLOADER", "1.0.2", 1001, STABLE },
                { "OPENMV3", "BOOTLOADER", "1.0.3", 1002, STABLE }, { "OPENMV3", "BOOTLOADER", "1.0.4", 1003, DEVELOPMENT },
                { "OPENMV4", "BOOTLOADER", "1.0.5", 1004, STABLE }, { "OPENMV3", "BOOTLOADER", "1.0.1", 1005, STABLE },
                { "OPENMV3", "BOOTLOADER", "1.0.6", 3000000, STABLE },
        };

        assert_null(store_bootloader(world->store, m7));
        stock_up(world, stock, ELEMENTSOF(stock));
        assert_non_null(store_bootloader(world->store, m7));
        assert_string_equal(store_bootloader(world->store, m7)->version, "1.0.3");
}

static void reasons_have_names(void **state)
{
        for (int reason = 0; reason < _CHOICE_REASON_MAX; reason++) {
                assert_non_null(choice_reason_to_string(reason));
                assert_int_equal(choice_reason_from_string(choice_reason_to_string(reason)), reason);
        }
}

#define CASE(name, test) { name, test, world_make, world_remove, NULL }
#define IN_MEMORY(name, test) { name, test, world_make_in_memory, world_remove, NULL }
#define PURE(name, test) { name, test, NULL, NULL, NULL }

int main(void)
{
        const struct CMUnitTest tests[] = {
                CASE("/store/added-image-comes-back", added_image_comes_back),
                IN_MEMORY("/store/in-memory-it-comes-back-too", in_memory_it_comes_back_too),
                CASE("/store/image-without-bytes-is-refused", image_without_bytes_is_refused),
                CASE("/store/equal-images-are-one-blob", equal_images_are_one_blob),
                CASE("/store/holders-share-one-mapping", holders_share_one_mapping),
                CASE("/store/record-follows-the-blob", record_follows_the_blob),
                CASE("/store/cancelled-addition-is-not-answered", cancelled_addition_is_not_answered),
                CASE("/store/end-while-adding-leaves-nothing-behind", end_while_adding_leaves_nothing_behind),
                CASE("/store/damaged-blob-is-not-used", damaged_blob_is_not_used),
                CASE("/store/damage-after-the-first-check-is-seen", damage_after_the_first_check_is_seen),
                CASE("/store/damage-leaves-the-other-shelf", damage_leaves_the_other_shelf),
                CASE("/store/adding-mends-a-damaged-blob", adding_mends_a_damaged_blob),
                CASE("/store/fetched-blob-is-checked-elsewhere", fetched_blob_is_checked_elsewhere),
                CASE("/store/missing-blob-is-dropped", missing_blob_is_dropped),
                CASE("/store/removed-image-is-gone", removed_image_is_gone),
                CASE("/store/open-update-keeps-its-image", open_update_keeps_its_image),
                CASE("/store/image-added-again-while-it-is-removed-stays", image_added_again_while_it_is_removed_stays),
                CASE("/store/leftovers-are-swept", leftovers_are_swept),
                CASE("/store/images-of-a-lost-journal-are-kept", images_of_a_lost_journal_are_kept),
                CASE("/store/images-of-a-journal-never-filled-are-kept", images_of_a_journal_that_was_never_filled_are_kept),
                CASE("/store/index-survives-a-journal-damaged-while-running", index_survives_a_journal_damaged_while_running),
                CASE("/store/full-disk-leaves-nothing-half", full_disk_leaves_nothing_half),
                CASE("/store/pin-is-one-version-per-board", pin_is_one_version_per_board),
                CASE("/store/saved-image-comes-back", saved_image_comes_back),
                CASE("/store/newest-saved-image-whatever-the-clock-says", newest_saved_image_is_the_last_whatever_the_clock_says),
                CASE("/store/oldest-saved-image-gives-way", oldest_saved_image_gives_way),
                CASE("/store/equal-saved-images-count-once", equal_saved_images_count_once),
                CASE("/store/image-larger-than-the-quota-is-refused", image_larger_than_the_quota_is_refused),
                CASE("/store/only-image-of-an-open-update-stays", only_image_of_an_open_update_stays),
                CASE("/store/images-on-their-way-are-counted", images_on_their_way_are_counted),
                CASE("/store/saved-image-follows-its-camera", saved_image_follows_its_camera),
                CASE("/store/same-bytes-in-two-partitions-are-two-images", same_bytes_in_two_partitions_are_two_images),
                PURE("/version/order", versions_are_ordered),
                PURE("/version/written-otherwise", versions_written_otherwise_are_equal),
                PURE("/choice/row-7", row_7_is_kept),
                IN_MEMORY("/choice/one-image-can-be-named-by-its-id", one_image_can_be_named_by_its_id),
                IN_MEMORY("/choice/bootloader-is-the-newest-stable-one", bootloader_is_the_newest_stable_one),
                PURE("/choice/reasons-have-names", reasons_have_names),
        };
        const char *directory = getenv("CAMRESCUE_BOARDS");

        log_init(LOG_TARGET_STDERR, LOG_WARNING);
        if (board_list_load(&boards, directory ? directory : "boards") < 0) {
                (void)fprintf(stderr, "no boards in %s\n", directory ? directory : "boards");
                return 1;
        }
        log_set_sink(on_line, NULL);
        return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
