/* SPDX-License-Identifier: MIT */

/*
 * The journal in virtual time: what is put comes back, whatever happens to the
 * process, the power or the file in between.
 */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "core/journal.h"
#include "unit/disk.h"
#include "unit/loop-virtual.h"

/* --- a daemon that consists of its journal --- */

struct world {
        char directory[64];
        struct loop *loop;
        struct journal *journal;
        unsigned answers;
        int answer;
};

static char log_lines[8192];

static void on_line(int level, const struct log_subject *subject, const char *line, void *userdata)
{
        size_t length = strlen(log_lines);

        (void)snprintf(log_lines + length, sizeof(log_lines) - length, "%s\n", line);
}

/* What a child calls asserts nothing: it would jump back into the parent's tests. */
static int world_try_start(struct world *world)
{
        int r;

        r = loop_new(&world->loop);
        return r < 0 ? r : journal_open(world->loop, world->directory[0] ? world->directory : NULL, &world->journal);
}

static void world_start(struct world *world)
{
        assert_int_equal(world_try_start(world), 0);
}

static void world_stop(struct world *world)
{
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
        strcpy(world->directory, "/tmp/test-journal-XXXXXX");
        assert_non_null(mkdtemp(world->directory));
        log_lines[0] = 0;
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

        disk_set_full(false);
        if (world->journal)
                world_stop(world);
        (void)chmod(world->directory, 0700);
        if (world->directory[0])
                (void)nftw(world->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
        free(world);
        return 0;
}

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

/* Everything put so far is on disk, or the error. */
static int world_sync(struct world *world)
{
        int r;

        world->answers = 0;
        r = journal_sync(world->journal, on_answer, world);
        if (r >= 0 && !loop_run_until(world->loop, has_answer, world, 10 * SEC))
                r = -ETIMEDOUT;
        return r < 0 ? r : world->answer;
}

static const char *world_path(struct world *world, const char *name)
{
        static char path[PATH_MAX];

        (void)snprintf(path, sizeof(path), "%s/%s", world->directory, name);
        return path;
}

static bool is_companion(const char *name)
{
        const char *dash = strrchr(name, '-');

        return dash && (strcmp(dash, "-wal") == 0 || strcmp(dash, "-shm") == 0);
}

/* Number of files in the directory whose name begins so, without what only accompanies a database; the last one's name is kept in found. */
static char found[PATH_MAX];
static unsigned world_files(struct world *world, const char *prefix)
{
        DIR *dir = opendir(world->directory);
        struct dirent *entry;
        unsigned n = 0;

        assert_non_null(dir);
        while ((entry = readdir(dir)))
                if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && is_companion(entry->d_name) == is_companion(prefix)) {
                        n++;
                        (void)snprintf(found, sizeof(found), "%s/%s", world->directory, entry->d_name);
                }
        (void)closedir(dir);
        return n;
}

static bool database_is_held(struct world *world)
{
        char link[64], target[PATH_MAX], real[PATH_MAX];

        assert_non_null(realpath(world_path(world, "state.db"), real));
        for (int fd = 0; fd < 256; fd++) {
                ssize_t n;

                (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
                n = readlink(link, target, sizeof(target) - 1);
                if (n > 0 && (target[n] = 0, strcmp(target, real) == 0))
                        return true;
        }
        return false;
}

/* --- records --- */

static struct digest digest_n(unsigned n)
{
        struct digest digest;

        digest_of(&n, sizeof(n), &digest);
        return digest;
}

static struct camera_record camera_n(unsigned n)
{
        struct camera_record record = {
                .board = "OPENMV3", .port = "3-1.2", .runtime_serial = "335D344F3663330D", .rom_serial = "344F3663330D",
                .label = "the one at the window, ÄÖ", .firmware_version = "5.0.0", .firmware = digest_n(n),
                .bootloader = digest_n(n + 1000), .bootloader_device = 0x0103, .layout = 0xff, .automatic = -1, .suspect = true,
                .first_seen = 1704067200000000, .last_seen = UINT64_C(1704067200000000) + n,
        };

        (void)snprintf(record.key, sizeof(record.key), "34303639330D5113001F%04X", n);
        return record;
}

static struct update_record update_n(unsigned n, const char *state)
{
        struct update_record record = {
                .camera = "34303639330D5113001F0001", .wish = "unattended", .version = "5.0.0", .reason = "version it last ran",
                .word_romfs = true, .word_filesystem = false, .word_replace = true, .stay = n % 2, .bootloader_only = n % 3 == 0,
                .outcome = "", .message = "",
                .attempts = n, .failures = n + 1, .begun = n % 2, .started = 1704067200000000 + (uint64_t)n, .ended = 1704067201000000 + (uint64_t)n, .n_images = 2,
                .images = { { .partition = "HP", .digest = digest_n(n), .size = 3145728 },
                            { .partition = "HE", .digest = digest_n(n + 1), .size = UINT32_MAX } },
        };

        (void)snprintf(record.id, sizeof(record.id), "u%u", n);
        (void)snprintf(record.state, sizeof(record.state), "%s", state);
        return record;
}

static struct firmware_record firmware_n(unsigned n)
{
        return (struct firmware_record){ .digest = digest_n(n), .board = "OPENMV_AE3", .partition = "HP", .version = "5.0.0",
                                         .file = "firmware_M55_HP.bin", .stable = true, .pinned = n % 2, .size = 1 + n,
                                         .added = 1704067200000000 + (uint64_t)n };
}

static struct saved_record saved_n(unsigned n)
{
        return (struct saved_record){ .camera = "34303639330D5113001F0001", .partition = "FIRMWARE", .digest = digest_n(n),
                                      .size = 1703936, .saved = 1704067200000000 + (uint64_t)n };
}

#define MANY 2048

struct memories {
        size_t n_cameras, n_updates, n_units, n_firmware, n_saved, n_history;
        struct camera_record cameras[MANY];
        struct update_record updates[MANY];
        struct { char partition[16]; unsigned unit; struct unit_record record; } units[MANY];
        struct firmware_record firmware[MANY];
        struct saved_record saved[MANY];
        struct { uint64_t wall; char event[32], text[256]; } history[MANY];
};

static int on_camera(void *userdata, const struct camera_record *record)
{
        struct memories *memory = userdata;

        memory->cameras[memory->n_cameras++] = *record;
        return 0;
}

static int on_update(void *userdata, const struct update_record *record)
{
        struct memories *memory = userdata;

        memory->updates[memory->n_updates++] = *record;
        return 0;
}

static int on_unit(void *userdata, const char *partition, unsigned unit, const struct unit_record *record)
{
        struct memories *memory = userdata;

        strcpy(memory->units[memory->n_units].partition, partition);
        memory->units[memory->n_units].unit = unit;
        memory->units[memory->n_units++].record = *record;
        return 0;
}

static int on_firmware(void *userdata, const struct firmware_record *record)
{
        struct memories *memory = userdata;

        memory->firmware[memory->n_firmware++] = *record;
        return 0;
}

static int on_saved(void *userdata, const struct saved_record *record)
{
        struct memories *memory = userdata;

        memory->saved[memory->n_saved++] = *record;
        return 0;
}

static int on_history(void *userdata, uint64_t wall, const char *event, const char *text)
{
        struct memories *memory = userdata;

        memory->history[memory->n_history].wall = wall;
        strcpy(memory->history[memory->n_history].event, event);
        strcpy(memory->history[memory->n_history++].text, text);
        return 0;
}

/* What the journal remembers; erase units of update u1, history of camera 1. */
static const struct memories *recall(struct world *world)
{
        static struct memories memory;

        memset(&memory, 0, sizeof(memory));
        assert_int_equal(journal_each_camera(world->journal, on_camera, &memory), 0);
        assert_int_equal(journal_each_update(world->journal, on_update, &memory), 0);
        assert_int_equal(journal_each_unit(world->journal, "u1", on_unit, &memory), 0);
        assert_int_equal(journal_each_firmware(world->journal, on_firmware, &memory), 0);
        assert_int_equal(journal_each_saved(world->journal, on_saved, &memory), 0);
        assert_int_equal(journal_each_history(world->journal, camera_n(1).key, MANY, on_history, &memory), 0);
        return &memory;
}

/* Every member, as text: structs have holes, and a text shows what differs. */
_printf_(2, 3) static const char *describe(unsigned which, const char *format, ...)
{
        static char texts[2][2048];
        va_list arguments;

        va_start(arguments, format);
        (void)vsnprintf(texts[which], sizeof(texts[which]), format, arguments);
        va_end(arguments);
        return texts[which];
}

static const char *hex_of(const struct digest *digest)
{
        static char hex[4][DIGEST_HEX_SIZE];
        static unsigned next;

        next = (next + 1) % ELEMENTSOF(hex);
        digest_to_hex(digest, hex[next]);
        return hex[next];
}

static const char *describe_camera(unsigned which, struct camera_record r)
{
        return describe(which, "%s|%s|%s|%s|%s|%s|%s|%s|%s|%x|%u|%d|%d|%" PRIu64 "|%" PRIu64, r.key, r.board, r.port,
                        r.runtime_serial, r.rom_serial, r.label, r.firmware_version, hex_of(&r.firmware), hex_of(&r.bootloader),
                        r.bootloader_device, r.layout, r.automatic, r.suspect, r.first_seen, r.last_seen);
}

static const char *describe_update(unsigned which, struct update_record r)
{
        return describe(which, "%s|%s|%s|%s|%s|%d|%d|%d|%d|%d|%s|%s|%s|%u|%u|%d|%" PRIu64 "|%" PRIu64 "|%zu|%s|%s|%u|%s|%s|%u", r.id, r.camera,
                        r.wish, r.version, r.reason, r.word_romfs, r.word_filesystem, r.word_replace, r.stay, r.bootloader_only, r.state, r.outcome,
                        r.message, r.attempts, r.failures, r.begun, r.started, r.ended, r.n_images, r.images[0].partition,
                        hex_of(&r.images[0].digest), r.images[0].size, r.images[1].partition, hex_of(&r.images[1].digest),
                        r.images[1].size);
}

static const char *describe_firmware(unsigned which, struct firmware_record r)
{
        return describe(which, "%s|%s|%s|%s|%s|%d|%d|%u|%" PRIu64, hex_of(&r.digest), r.board, r.partition, r.version, r.file,
                        r.stable, r.pinned, r.size, r.added);
}

static const char *describe_saved(unsigned which, struct saved_record r)
{
        return describe(which, "%s|%s|%s|%u|%" PRIu64, r.camera, r.partition, hex_of(&r.digest), r.size, r.saved);
}

#define assert_same(what, a, b) assert_string_equal(describe_##what(0, (a)), describe_##what(1, (b)))

static int put_unit(struct journal *journal, const char *partition, unsigned unit, unsigned erases)
{
        return journal_put_units(journal, "u1", partition, unit, 1, &(struct unit_record){ .erases = erases, .proven = erases >= 20 });
}

static int try_put_one_of_each(struct journal *journal)
{
        struct camera_record camera = camera_n(1);
        struct update_record update = update_n(1, "open");
        struct firmware_record firmware = firmware_n(1);
        struct saved_record saved = saved_n(1);

        return journal_put_camera(journal, &camera) | journal_put_update(journal, &update) |
               put_unit(journal, "FIRMWARE", 7, 20) | journal_put_firmware(journal, &firmware) |
               journal_put_saved(journal, &saved) |
               journal_put_history(journal, camera.key, 42, "silent-boot", "nothing followed");
}

static void put_one_of_each(struct journal *journal)
{
        assert_int_equal(try_put_one_of_each(journal), 0);
}

static void assert_one_of_each(const struct memories *memory)
{
        assert_int_equal(memory->n_cameras, 1);
        assert_same(camera, memory->cameras[0], camera_n(1));
        assert_int_equal(memory->n_updates, 1);
        assert_same(update, memory->updates[0], update_n(1, "open"));
        assert_int_equal(memory->n_units, 1);
        assert_string_equal(memory->units[0].partition, "FIRMWARE");
        assert_int_equal(memory->units[0].unit, 7);
        assert_int_equal(memory->units[0].record.erases, 20);
        assert_true(memory->units[0].record.proven);
        assert_int_equal(memory->n_firmware, 1);
        assert_same(firmware, memory->firmware[0], firmware_n(1));
        assert_int_equal(memory->n_saved, 1);
        assert_same(saved, memory->saved[0], saved_n(1));
        assert_int_equal(memory->n_history, 1);
        assert_int_equal(memory->history[0].wall, 42);
        assert_string_equal(memory->history[0].event, "silent-boot");
        assert_string_equal(memory->history[0].text, "nothing followed");
}

/* --- what is put comes back --- */

static void round_trip(void **state)
{
        struct world *world = *state;

        world_start(world);
        assert_int_equal(journal_birth(world->journal), JOURNAL_BEGUN);
        assert_true(journal_writable(world->journal));
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        assert_one_of_each(recall(world));

        world_restart(world);
        assert_int_equal(journal_birth(world->journal), JOURNAL_LOADED);
        assert_one_of_each(recall(world));
}

static void round_trip_in_memory(void **state)
{
        struct world *world = *state;

        assert_int_equal(rmdir(world->directory), 0);
        world->directory[0] = 0;
        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        loop_advance(world->loop, 60 * SEC);
        assert_one_of_each(recall(world));
}

static void directory_is_made_for_us_alone(void **state)
{
        struct world *world = *state;
        struct stat st;

        strcat(world->directory, "/a");
        strcat(world->directory, "/b");
        world_start(world);
        assert_int_equal(stat(world->directory, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
        world_stop(world);
        *strrchr(world->directory, '/') = 0;
        *strrchr(world->directory, '/') = 0;
}

static void unsynced_puts_are_written_soon(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        loop_advance(world->loop, 1 * SEC);
        assert_one_of_each(recall(world));
}

static void puts_are_written_at_the_end(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        world_restart(world);
        assert_one_of_each(recall(world));
}

static void end_answers_who_still_waits(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(journal_sync(world->journal, on_answer, world), 0);
        world_stop(world);
        assert_int_equal(world->answers, 1);
        assert_int_equal(world->answer, 0);
}

static void the_last_put_wins(void **state)
{
        struct world *world = *state;
        struct camera_record record = camera_n(1);

        world_start(world);
        for (unsigned n = 0; n < 10; n++) {
                record.layout = (uint8_t)n;
                assert_int_equal(journal_put_camera(world->journal, &record), 0);
                assert_int_equal(put_unit(world->journal, "HP", 3, n), 0);
                if (n == 4)
                        assert_int_equal(world_sync(world), 0);
        }
        world_restart(world);
        assert_int_equal(recall(world)->n_cameras, 1);
        assert_int_equal(recall(world)->cameras[0].layout, 9);
        assert_int_equal(recall(world)->n_units, 1);
        assert_int_equal(recall(world)->units[0].record.erases, 9);
}

static void a_put_is_not_moved_past_a_rename(void **state)
{
        struct world *world = *state;
        struct camera_record record = camera_n(1);

        world_start(world);
        strcpy(record.key, "P:3-1.2");
        record.layout = 1;
        assert_int_equal(journal_put_camera(world->journal, &record), 0);
        assert_int_equal(journal_rename_camera(world->journal, "P:3-1.2", camera_n(2).key), 0);
        record.layout = 2;
        assert_int_equal(journal_put_camera(world->journal, &record), 0);
        assert_int_equal(world_sync(world), 0);

        assert_int_equal(recall(world)->n_cameras, 2);
        assert_string_equal(recall(world)->cameras[0].key, camera_n(2).key);
        assert_int_equal(recall(world)->cameras[0].layout, 1);
        assert_int_equal(recall(world)->cameras[1].layout, 2);
}

static void rename_takes_everything_along(void **state)
{
        struct world *world = *state;
        struct camera_record camera = camera_n(1);
        struct update_record update = update_n(1, "open");
        struct saved_record saved = saved_n(1);
        const char *old = "M:344F3663330D";

        world_start(world);
        strcpy(camera.key, old);
        strcpy(update.camera, old);
        strcpy(saved.camera, old);
        assert_int_equal(journal_put_camera(world->journal, &camera), 0);
        assert_int_equal(journal_put_update(world->journal, &update), 0);
        assert_int_equal(journal_put_saved(world->journal, &saved), 0);
        assert_int_equal(journal_put_history(world->journal, old, 1, "seen", ""), 0);
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(journal_rename_camera(world->journal, old, camera_n(1).key), 0);
        assert_int_equal(world_sync(world), 0);

        assert_same(camera, recall(world)->cameras[0], camera_n(1));
        assert_int_equal(recall(world)->n_cameras, 1);
        assert_string_equal(recall(world)->updates[0].camera, camera_n(1).key);
        assert_string_equal(recall(world)->saved[0].camera, camera_n(1).key);
        assert_int_equal(recall(world)->n_history, 1);
}

static void rename_does_not_overwrite_what_is_known(void **state)
{
        struct world *world = *state;
        struct camera_record known = camera_n(1), provisional = camera_n(1);

        world_start(world);
        strcpy(provisional.key, "P:3-1.2");
        strcpy(provisional.label, "");
        assert_int_equal(journal_put_camera(world->journal, &known), 0);
        assert_int_equal(journal_put_camera(world->journal, &provisional), 0);
        assert_int_equal(journal_rename_camera(world->journal, "P:3-1.2", known.key), 0);
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(recall(world)->n_cameras, 1);
        assert_same(camera, recall(world)->cameras[0], camera_n(1));
}

static void deleted_records_are_gone(void **state)
{
        struct world *world = *state;
        struct digest digest = digest_n(1);

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(journal_delete_camera(world->journal, camera_n(1).key), 0);
        assert_int_equal(journal_delete_firmware(world->journal, &digest, "OPENMV_AE3", "HE"), 0);
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(recall(world)->n_cameras, 0);
        assert_int_equal(recall(world)->n_history, 0);
        assert_int_equal(recall(world)->n_firmware, 1);
        assert_int_equal(journal_delete_firmware(world->journal, &digest, "OPENMV_AE3", "HP"), 0);
        assert_int_equal(journal_delete_saved(world->journal, saved_n(1).camera, &digest), 0);
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(recall(world)->n_firmware, 0);
        assert_int_equal(recall(world)->n_saved, 0);
}

static void put_update(struct world *world, unsigned n, const char *how)
{
        struct update_record record = update_n(n, how);

        assert_int_equal(journal_put_update(world->journal, &record), 0);
}

/* Long after the end of all that update_n() gives. */
static void hours_later(struct world *world)
{
        loop_set_wall_clock(world->loop, LOOP_VIRTUAL_WALL_START + 7200 * SEC);
}

static void open_updates_first_then_the_newest_hundred(void **state)
{
        struct world *world = *state;

        world_start(world);
        hours_later(world);
        put_update(world, 1, "open");
        for (unsigned n = 2; n <= 151; n++)
                put_update(world, n, "done");
        put_update(world, 152, "open");
        assert_int_equal(world_sync(world), 0);

        assert_int_equal(recall(world)->n_updates, 102);
        assert_same(update, recall(world)->updates[0], update_n(152, "open"));
        assert_same(update, recall(world)->updates[1], update_n(1, "open"));
        assert_same(update, recall(world)->updates[2], update_n(151, "done"));
        assert_same(update, recall(world)->updates[101], update_n(52, "done"));
}

/* Its clock was set back between. */
static void newest_update_is_that_of_the_highest_number(void **state)
{
        struct world *world = *state;

        world_start(world);
        hours_later(world);
        for (unsigned n = 1; n <= 101; n++) {
                struct update_record record = update_n(n, "failed");

                record.ended -= n * 3600 * SEC;
                assert_int_equal(journal_put_update(world->journal, &record), 0);
        }
        world_restart(world);
        assert_int_equal(recall(world)->n_updates, 100);
        assert_string_equal(recall(world)->updates[0].id, "u101");
        assert_string_equal(recall(world)->updates[99].id, "u2");
}

/* It was open for long, while a hundred others ended; a camera that was not is one of many. */
static void what_is_left_of_a_camera_stays(void **state)
{
        struct world *world = *state;
        struct camera_record left = camera_n(1), whole = camera_n(2);

        world_start(world);
        hours_later(world);
        assert_int_equal(journal_put_camera(world->journal, &left), 0);
        assert_int_equal(journal_put_camera(world->journal, &whole), 0);
        for (unsigned n = 1; n <= 104; n++) {
                struct update_record record = update_n(n, "failed");

                (void)snprintf(record.camera, sizeof(record.camera), "%s", camera_n(n).key);
                record.begun = n != 2;
                assert_int_equal(journal_put_update(world->journal, &record), 0);
        }
        world_restart(world);
        hours_later(world);
        assert_int_equal(recall(world)->n_updates, 101);
        assert_string_equal(recall(world)->updates[99].id, "u5");
        assert_string_equal(recall(world)->updates[100].id, "u1");

        /* Until that camera is forgotten. */
        assert_int_equal(journal_delete_camera(world->journal, left.key), 0);
        put_update(world, 105, "done");
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(recall(world)->n_updates, 100);
}

/* As the API promises: a restart between does not matter, nor how many others ended since. */
static void what_ended_just_now_can_be_read(void **state)
{
        struct world *world = *state;

        world_start(world);
        for (unsigned n = 1; n <= 300; n++)
                put_update(world, n, "done");
        world_restart(world);
        loop_set_wall_clock(world->loop, update_n(1, "done").ended + 599 * SEC);
        assert_int_equal(recall(world)->n_updates, 300);
        assert_same(update, recall(world)->updates[299], update_n(1, "done"));
        put_update(world, 301, "done");
        world_restart(world);
        loop_set_wall_clock(world->loop, update_n(1, "done").ended + 599 * SEC);
        assert_int_equal(recall(world)->n_updates, 301);

        /* Of these the first 51 are ten minutes old: who starts now reads none of them, and the next that ends takes them away. */
        loop_set_wall_clock(world->loop, update_n(51, "done").ended + 600 * SEC);
        assert_int_equal(recall(world)->n_updates, 250);
        put_update(world, 302, "done");
        assert_int_equal(world_sync(world), 0);
        loop_set_wall_clock(world->loop, LOOP_VIRTUAL_WALL_START);
        assert_int_equal(recall(world)->n_updates, 251);
        assert_same(update, recall(world)->updates[250], update_n(52, "done"));

        /* A clock that was set back: what ended in its future is no news. */
        loop_set_wall_clock(world->loop, LOOP_VIRTUAL_WALL_START - 3600 * SEC);
        assert_int_equal(recall(world)->n_updates, 100);
        put_update(world, 303, "done");
        assert_int_equal(world_sync(world), 0);
        loop_set_wall_clock(world->loop, LOOP_VIRTUAL_WALL_START);
        assert_int_equal(recall(world)->n_updates, 100);
}

/* The next update of that camera goes on counting them, also after a restart. */
static void units_of_what_was_given_up_stay(void **state)
{
        struct world *world = *state;
        struct update_record record = update_n(1, "done");

        world_start(world);
        put_one_of_each(world->journal);
        put_update(world, 1, "failed");
        world_restart(world);
        assert_int_equal(recall(world)->n_units, 1);
        /* Done, and half of what was begun before it is still there. */
        record.begun = true;
        assert_int_equal(journal_put_update(world->journal, &record), 0);
        world_restart(world);
        assert_int_equal(recall(world)->n_units, 1);
        record.begun = false;
        assert_int_equal(journal_put_update(world->journal, &record), 0);
        world_restart(world);
        assert_int_equal(recall(world)->n_units, 0);
}

static void units_are_forgotten_with_their_update(void **state)
{
        struct world *world = *state;

        world_start(world);
        hours_later(world);
        put_one_of_each(world->journal);
        put_update(world, 1, "failed");
        for (unsigned n = 2; n < 110; n++)
                put_update(world, n, "failed");
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(recall(world)->n_updates, 100);
        assert_int_equal(recall(world)->n_units, 0);
}

static void units_are_put_by_the_partition(void **state)
{
        static struct unit_record units[1000];
        struct world *world = *state;

        for (unsigned n = 0; n < ELEMENTSOF(units); n++)
                units[n] = (struct unit_record){ .erases = n % 21, .proven = n % 3 == 0 };
        world_start(world);
        assert_int_equal(journal_put_units(world->journal, "u1", "ROMFS0", 0, ELEMENTSOF(units), units), 0);
        assert_int_equal(put_unit(world->journal, "ROMFS0", 5, 20), 0);
        world_restart(world);
        assert_int_equal(recall(world)->n_units, ELEMENTSOF(units));
        for (unsigned n = 0; n < ELEMENTSOF(units); n++) {
                assert_int_equal(recall(world)->units[n].unit, n);
                assert_int_equal(recall(world)->units[n].record.erases, n == 5 ? 20 : n % 21);
                assert_int_equal(recall(world)->units[n].record.proven, n == 5 || n % 3 == 0);
        }
}

static void history_is_bounded_and_newest_first(void **state)
{
        struct world *world = *state;

        world_start(world);
        for (unsigned n = 0; n < 300; n++)
                assert_int_equal(journal_put_history(world->journal, camera_n(1).key, n, "seen", ""), 0);
        assert_int_equal(journal_put_history(world->journal, camera_n(2).key, 1, "seen", ""), 0);
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(recall(world)->n_history, 200);
        assert_int_equal(recall(world)->history[0].wall, 299);
        assert_int_equal(recall(world)->history[199].wall, 100);
}

struct told {
        unsigned answers;
        int error;
        size_t n;
        struct history_line lines[MANY];
};

static void on_lines(void *userdata, int error, const struct history_line *lines, size_t n)
{
        struct told *told = userdata;

        told->answers++;
        told->error = error;
        told->n = n;
        if (n > 0)
                memcpy(told->lines, lines, n * sizeof(*lines));
}

/* Also what is not in the database yet: what waits, and what flies at this moment. */
static void history_is_read_without_waiting_for_the_disk(void **state)
{
        static struct told told;
        struct world *world = *state;

        memset(&told, 0, sizeof(told));
        world_start(world);
        for (unsigned n = 0; n < 10; n++)
                assert_int_equal(journal_put_history(world->journal, camera_n(1).key, n, "seen", "kept"), 0);
        world_restart(world);
        assert_int_equal(journal_put_history(world->journal, camera_n(1).key, 10, "seen", "waits"), 0);
        assert_int_equal(journal_put_history(world->journal, camera_n(2).key, 11, "seen", "another's"), 0);
        assert_int_equal(journal_read_history(world->journal, camera_n(1).key, 200, on_lines, &told), 0);
        loop_advance(world->loop, 0);
        assert_int_equal(told.answers, 1);
        assert_int_equal(told.error, 0);
        assert_int_equal(told.n, 11);
        assert_string_equal(told.lines[0].text, "waits");
        for (unsigned n = 0; n < 11; n++)
                assert_int_equal(told.lines[n].wall, 10 - n);

        /* A disk that needs a second: asked for while a batch flies, and once more after a put that comes too late for it. */
        loop_set_work_delay(world->loop, 1 * SEC);
        loop_advance(world->loop, 100 * MSEC);
        assert_int_equal(journal_put_history(world->journal, camera_n(1).key, 11, "seen", "later"), 0);
        assert_int_equal(journal_read_history(world->journal, camera_n(1).key, 3, on_lines, &told), 0);
        loop_advance(world->loop, 10 * SEC);
        loop_set_work_delay(world->loop, 0);
        assert_int_equal(told.answers, 2);
        assert_int_equal(told.n, 3);
        for (unsigned n = 0; n < 3; n++)
                assert_int_equal(told.lines[n].wall, 11 - n);
}

static void history_that_nobody_wants_any_more(void **state)
{
        static struct told told;
        struct world *world = *state;

        memset(&told, 0, sizeof(told));
        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(journal_read_history(world->journal, camera_n(1).key, 200, on_lines, &told), 0);
        journal_read_cancel(world->journal, &told);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(told.answers, 0);

        /* And with the journal's own end in between. */
        assert_int_equal(journal_read_history(world->journal, camera_n(1).key, 200, on_lines, &told), 0);
        world_restart(world);
        loop_advance(world->loop, 1 * SEC);
        assert_int_equal(told.answers, 0);
}

/* --- syncs --- */

static void sync_of_nothing_is_answered(void **state)
{
        struct world *world = *state;
        unsigned syncs;

        world_start(world);
        syncs = disk_syncs();
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(disk_syncs(), syncs);
}

static void progress_costs_no_fsync(void **state)
{
        struct world *world = *state;
        unsigned syncs;

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        syncs = disk_syncs();
        for (unsigned n = 0; n < 20; n++) {
                assert_int_equal(put_unit(world->journal, "HP", n, 1), 0);
                loop_advance(world->loop, 200 * MSEC);
                assert_int_equal(recall(world)->n_units, n + 2);
        }
        assert_int_equal(disk_syncs(), syncs);

        /* But who asks afterwards is not answered before they are on the disk. */
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(disk_syncs(), syncs + 1);
}

static void several_syncs_share_one_commit(void **state)
{
        struct world *world = *state;
        unsigned syncs;

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        syncs = disk_syncs();
        world->answers = 0;
        for (unsigned n = 0; n < 50; n++) {
                assert_int_equal(put_unit(world->journal, "HP", n, 1), 0);
                assert_int_equal(journal_sync(world->journal, on_answer, world), 0);
        }
        loop_advance(world->loop, 100 * MSEC);
        assert_int_equal(world->answers, 50);
        assert_int_equal(disk_syncs(), syncs + 1);
}

static void cancelled_sync_is_not_answered(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(journal_sync(world->journal, on_answer, world), 0);
        journal_sync_cancel(world->journal, world);
        loop_advance(world->loop, 1 * SEC);

        /* And in flight. */
        loop_set_work_delay(world->loop, 1 * SEC);
        put_one_of_each(world->journal);
        assert_int_equal(journal_sync(world->journal, on_answer, world), 0);
        loop_advance(world->loop, 100 * MSEC);
        journal_sync_cancel(world->journal, world);
        loop_advance(world->loop, 5 * SEC);
        assert_int_equal(world->answers, 0);
        loop_set_work_delay(world->loop, 0);
}

static void idle_journal_holds_no_file(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        assert_true(database_is_held(world));
        loop_advance(world->loop, 10 * SEC);
        assert_false(database_is_held(world));
        assert_int_equal(loop_next_due(world->loop), 0);
        assert_int_equal(world_files(world, "state.db"), 1);
        assert_int_equal(world_files(world, "state.db-wal"), 0);

        put_update(world, 2, "open");
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(recall(world)->n_updates, 2);
        /* Asked once more, with nothing to write, while it is still held. */
        assert_true(database_is_held(world));
        assert_int_equal(world_sync(world), 0);
        assert_true(database_is_held(world));
        loop_advance(world->loop, 10 * SEC);
        assert_false(database_is_held(world));
        assert_int_equal(loop_next_due(world->loop), 0);
}

/* --- a disk that refuses --- */

static void full_disk_is_told_and_mended(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);

        disk_set_full(true);
        put_update(world, 2, "open");
        assert_int_equal(world_sync(world), -ENOSPC);
        assert_false(journal_writable(world->journal));
        assert_non_null(strstr(log_lines, "cannot write"));
        put_update(world, 3, "open");
        assert_int_equal(world_sync(world), -ENOSPC);
        assert_int_equal(recall(world)->n_updates, 1);

        disk_set_full(false);
        assert_int_equal(world_sync(world), 0);
        assert_true(journal_writable(world->journal));
        assert_int_equal(recall(world)->n_updates, 3);
}

static void full_disk_is_asked_again(void **state)
{
        struct world *world = *state;
        uint64_t due;

        world_start(world);
        disk_set_full(true);
        put_update(world, 1, "open");
        loop_advance(world->loop, 10 * SEC);
        assert_false(journal_writable(world->journal));
        disk_set_full(false);
        loop_advance(world->loop, 10 * SEC);
        assert_true(journal_writable(world->journal));
        assert_int_equal(recall(world)->n_updates, 1);

        /* For as long as it takes, but not the more often. */
        disk_set_full(true);
        put_update(world, 2, "open");
        for (unsigned minute = 0; minute < 60; minute++) {
                put_update(world, 3, "open");
                loop_advance(world->loop, 60 * SEC);
                assert_false(journal_writable(world->journal));
        }
        due = loop_next_due(world->loop);
        assert_in_range(due, loop_now(world->loop) + 1, loop_now(world->loop) + 30 * SEC);
        loop_advance(world->loop, due - loop_now(world->loop));
        assert_int_equal(loop_next_due(world->loop), due + 30 * SEC);
        disk_set_full(false);
        loop_advance(world->loop, 30 * SEC);
        assert_true(journal_writable(world->journal));
        assert_int_equal(recall(world)->n_updates, 3);
        loop_advance(world->loop, 10 * SEC);
        assert_int_equal(loop_next_due(world->loop), 0);
}

static void on_writable(void *userdata)
{
        *(unsigned *)userdata += 1;
}

/* Nothing is to be written: it is asked if somebody waits for it. */
static void full_disk_is_asked_for_who_waits(void **state)
{
        struct world *world = *state;
        unsigned told = 0;
        struct journal_watch watch = { .on_writable = on_writable, .userdata = &told };

        world_start(world);
        journal_watch(world->journal, &watch);
        for (unsigned turn = 1; turn <= 2; turn++) {
                put_update(world, turn, "open");
                loop_advance(world->loop, 1 * SEC);
                disk_set_full(true);
                assert_int_equal(world_sync(world), -ENOSPC);
                assert_false(journal_writable(world->journal));
                loop_advance(world->loop, 10 * SEC);
                assert_int_equal(loop_next_due(world->loop), 0);

                if (turn == 1)
                        journal_await(world->journal);
                loop_advance(world->loop, 60 * SEC);
                disk_set_full(false);
                if (turn == 2)
                        assert_int_equal(journal_sync(world->journal, NULL, NULL), 0);
                loop_advance(world->loop, turn == 1 ? 30 * SEC : 0);
                assert_true(journal_writable(world->journal));
                assert_int_equal(told, turn);
                loop_advance(world->loop, 10 * SEC);
                assert_int_equal(loop_next_due(world->loop), 0);
        }
        journal_unwatch(&watch);
}

/* The real thing, by the kernel: no file may grow. */
static void file_size_limit(void **state)
{
        struct rlimit limit;
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        (void)signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 4096, limit.rlim_max }), 0);
        put_update(world, 2, "open");
        int refused = world_sync(world);

        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        assert_true(refused < 0);
        assert_false(journal_writable(world->journal));
        assert_int_equal(world_sync(world), 0);
        world_restart(world);
        assert_int_equal(recall(world)->n_updates, 2);
}

static void what_waits_is_bounded(void **state)
{
        struct world *world = *state;
        int r = 0;

        world_start(world);
        disk_set_full(true);
        /* History gives way ... */
        for (unsigned n = 0; n < 10000; n++)
                assert_int_equal(journal_put_history(world->journal, "x", n, "seen", ""), 0);
        /* ... what is wanted does not. */
        for (unsigned n = 1; n < 10000 && r == 0; n++) {
                struct update_record record = update_n(n, "open");

                r = journal_put_update(world->journal, &record);
        }
        assert_int_equal(r, -ENOMEM);
        assert_non_null(strstr(log_lines, "being lost"));
        disk_set_full(false);
        assert_int_equal(world_sync(world), 0);
        assert_true(recall(world)->n_updates > 100);
}

static void no_thread_is_a_failed_commit(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        loop_fail_work(world->loop, -EAGAIN, 1);
        assert_int_equal(world_sync(world), -EAGAIN);
        assert_int_equal(world_sync(world), 0);
        assert_one_of_each(recall(world));
}

/* In a child that is not root; its exit status is the number of the check that failed. */
static int as_nobody(struct world *world, int (*fn)(struct world *))
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                if (getuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
                        _exit(99);
                _exit(fn(world));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static int read_what_cannot_be_written(struct world *world)
{
        struct memories memory = {};

        if (world_try_start(world) < 0)
                return 1;
        if (journal_writable(world->journal) || journal_birth(world->journal) != JOURNAL_LOADED)
                return 2;
        if (journal_each_camera(world->journal, on_camera, &memory) < 0 || memory.n_cameras != 1)
                return 3;
        if (journal_put_history(world->journal, "x", 1, "seen", "") < 0)
                return 4;
        if (world_sync(world) >= 0)
                return 5;
        world_stop(world);
        return 0;
}

static int begin_where_nothing_can_be(struct world *world)
{
        if (world_try_start(world) < 0)
                return 1;
        if (journal_writable(world->journal) || journal_birth(world->journal) != JOURNAL_BEGUN)
                return 2;
        if (journal_each_camera(world->journal, on_camera, NULL) < 0)
                return 3;
        world_stop(world);
        return 0;
}

static int fail_to_read(struct world *world)
{
        if (world_try_start(world) < 0)
                return 1;
        if (journal_writable(world->journal) || journal_birth(world->journal) != JOURNAL_UNREAD)
                return 2;
        world_stop(world);
        return 0;
}

static void child_leaves_records(struct world *world)
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                if (world_try_start(world) < 0 || try_put_one_of_each(world->journal) < 0 || world_sync(world) < 0)
                        _exit(1);
                /* As killed: the log is left behind. */
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(world_files(world, "state.db-wal"), 1);
}

static void read_only_directory_is_read(void **state)
{
        struct world *world = *state;

        child_leaves_records(world);
        assert_int_equal(chmod(world_path(world, "state.db"), 0444), 0);
        assert_int_equal(chmod(world_path(world, "state.db-wal"), 0444), 0);
        assert_int_equal(unlink(world_path(world, "state.db-shm")), 0);
        assert_int_equal(chmod(world->directory, 0555), 0);
        assert_int_equal(as_nobody(world, read_what_cannot_be_written), 0);
        assert_int_equal(chmod(world->directory, 0700), 0);
        assert_int_equal(chmod(world_path(world, "state.db"), 0600), 0);
        assert_int_equal(chmod(world_path(world, "state.db-wal"), 0600), 0);
        world_start(world);
        assert_one_of_each(recall(world));
}

static void read_only_empty_directory_starts(void **state)
{
        struct world *world = *state;

        assert_int_equal(chmod(world->directory, 0555), 0);
        assert_int_equal(as_nobody(world, begin_where_nothing_can_be), 0);
}

static void unreadable_database_is_left_alone(void **state)
{
        struct world *world = *state;

        child_leaves_records(world);
        /* Writable directory, unreadable file. */
        assert_int_equal(chmod(world->directory, 0777), 0);
        assert_int_equal(chmod(world_path(world, "state.db"), 0), 0);
        if (getuid() != 0)
                skip();
        assert_int_equal(as_nobody(world, fail_to_read), 0);
        assert_int_equal(world_files(world, "state.db."), 0);
        world_start(world);
        assert_one_of_each(recall(world));
}

/* --- a power cut at every write, sync, truncation and removal --- */

#define STEPS 6

/* Step n: camera n, update n (and the end of update n - 1) in one batch, then said to be durable. */
static void live_and_confirm(struct world *world, int confirm)
{
        if (world_try_start(world) < 0)
                _exit(1);
        for (unsigned n = 1; n <= STEPS; n++) {
                struct camera_record camera = camera_n(n);
                struct update_record update = update_n(n, "open"), before = update_n(n - 1, "done");
                uint8_t byte = (uint8_t)n;

                if (journal_put_camera(world->journal, &camera) < 0 ||
                    put_unit(world->journal, "HP", n, n) < 0 ||
                    journal_put_update(world->journal, &update) < 0 ||
                    (n > 2 && journal_put_update(world->journal, &before) < 0))
                        _exit(1);
                if (n == 3) {
                        /* Not waited for. */
                        loop_advance(world->loop, 1 * SEC);
                        continue;
                }
                if (world_sync(world) < 0)
                        _exit(1);
                if (write(confirm, &byte, 1) != 1)
                        _exit(2);
                /* Closed and opened again on the way. */
                if (n == 4)
                        loop_advance(world->loop, 10 * SEC);
        }
        world_stop(world);
        _exit(0);
}

/* Returns false when the child came through. */
static bool live_until(struct world *world, unsigned operation, bool torn)
{
        unsigned confirmed = 0;
        uint8_t byte;
        int pipes[2], status;
        pid_t pid;

        assert_int_equal(pipe(pipes), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                (void)close(pipes[0]);
                disk_cut_power_at(operation, torn, operation);
                live_and_confirm(world, pipes[1]);
        }
        (void)close(pipes[1]);
        while (read(pipes[0], &byte, 1) == 1)
                confirmed = byte;
        (void)close(pipes[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (!WIFSIGNALED(status))
                assert_int_equal(status, 0);

        world_start(world);
        assert_int_equal(world_files(world, "state.db.damaged"), 0);
        assert_int_equal(world_files(world, "state.db.foreign"), 0);

        const struct memories *memory = recall(world);

        /* Whole steps, and none less than was confirmed. */
        if (memory->n_cameras < confirmed)
                fail_msg("power cut at operation %u%s: %u steps confirmed, %zu there", operation, torn ? " (torn)" : "",
                         confirmed, memory->n_cameras);
        assert_int_equal(memory->n_updates, memory->n_cameras);
        assert_int_equal(memory->n_units, memory->n_cameras);
        assert_int_equal(journal_last_update_number(world->journal), memory->n_cameras);
        for (unsigned n = 0; n < memory->n_cameras; n++) {
                assert_same(camera, memory->cameras[n], camera_n(n + 1));
                assert_int_equal(memory->units[n].record.erases, n + 1);
        }
        assert_true(journal_writable(world->journal));
        put_update(world, 1000, "open");
        assert_int_equal(world_sync(world), 0);
        world_stop(world);
        return WIFSIGNALED(status);
}

static void cut_power_everywhere(struct world *world, bool torn)
{
        char directory[sizeof(world->directory)];
        unsigned operation = 1;
        bool died;

        strcpy(directory, world->directory);
        do {
                assert_true(snprintf(world->directory, sizeof(world->directory), "%s/%u", directory, operation) > 0);
                died = live_until(world, operation, torn);
                (void)nftw(world->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
                operation++;
        } while (died);
        strcpy(world->directory, directory);
        /* It did meet the disk: making the database alone takes as much. */
        assert_true(operation > 40);
}

static void power_cut_loses_nothing_confirmed(void **state)
{
        cut_power_everywhere(*state, /* torn= */ false);
}

static void torn_sync_loses_nothing_confirmed(void **state)
{
        cut_power_everywhere(*state, /* torn= */ true);
}

/* --- files that are not as we left them --- */

static void overwrite(struct world *world, const char *name, off_t offset, const void *data, size_t size)
{
        int fd = open(world_path(world, name), O_WRONLY);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, data, size, offset), size);
        (void)close(fd);
}

static off_t size_of(struct world *world, const char *name)
{
        struct stat st;

        assert_int_equal(stat(world_path(world, name), &st), 0);
        return st.st_size;
}

static void damaged_database_is_set_aside(void **state)
{
        struct world *world = *state;
        uint8_t garbage[4096];

        world_start(world);
        put_one_of_each(world->journal);
        world_stop(world);
        memset(garbage, 0xa5, sizeof(garbage));
        overwrite(world, "state.db", 4096, garbage, sizeof(garbage));

        world_start(world);
        assert_int_equal(world_files(world, "state.db.damaged-"), 1);
        assert_non_null(strstr(log_lines, "set aside"));
        assert_int_equal(journal_birth(world->journal), JOURNAL_BEGUN);
        assert_int_equal(recall(world)->n_cameras, 0);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        world_restart(world);
        assert_one_of_each(recall(world));

        /* A second time in the same second. */
        world_stop(world);
        overwrite(world, "state.db", 4096, garbage, sizeof(garbage));
        world_start(world);
        assert_int_equal(world_files(world, "state.db.damaged-"), 2);
}

/* Wherever the file is hit: the daemon starts, and what is put from then on is kept. */
static void damage_anywhere_is_survived(void **state)
{
        struct world *world = *state;
        static const uint8_t garbage[24] = { 0xff, 0x00, 0xa5, 0x5a, 0x80, 0x7f, 0x01, 0xfe };
        _cleanup_free_ uint8_t *whole = NULL;
        unsigned set_aside = 0, turns = 0;
        off_t size;
        int fd;

        world_start(world);
        for (unsigned n = 1; n <= 40; n++) {
                struct camera_record camera = camera_n(n);

                assert_int_equal(journal_put_camera(world->journal, &camera), 0);
                put_update(world, n, n % 2 ? "open" : "done");
                assert_int_equal(journal_put_history(world->journal, camera_n(1).key, n, "seen", "once more"), 0);
        }
        world_stop(world);
        size = size_of(world, "state.db");
        whole = malloc((size_t)size);
        fd = open(world_path(world, "state.db"), O_RDONLY);
        assert_int_equal(read(fd, whole, (size_t)size), size);
        (void)close(fd);

        for (off_t at = 0; at < size; at += at % 4096 < 128 ? 16 : 488, turns++) {
                (void)nftw(world->directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
                assert_int_equal(mkdir(world->directory, 0700), 0);
                fd = open(world_path(world, "state.db"), O_WRONLY | O_CREAT, 0600);
                assert_int_equal(write(fd, whole, (size_t)size), size);
                (void)close(fd);
                overwrite(world, "state.db", at, garbage, (size_t)MIN((off_t)sizeof(garbage), size - at));
                log_lines[0] = 0;

                world_start(world);
                (void)recall(world);
                set_aside += world_files(world, "state.db.") > 0;
                struct camera_record camera = camera_n(77);

                assert_int_equal(journal_put_camera(world->journal, &camera), 0);
                put_update(world, 77, "open");
                assert_int_equal(world_sync(world), 0);
                world_restart(world);
                bool there = false;

                for (size_t i = 0; i < recall(world)->n_cameras; i++)
                        there = there || strcmp(recall(world)->cameras[i].key, camera.key) == 0;
                assert_true(there);
                world_stop(world);
        }
        /* The first 16 bytes of any page are its structure. */
        assert_true(set_aside >= (unsigned)(size / 4096));
        assert_true(turns > set_aside);
}

static void put_again(void *userdata)
{
        struct world *world = userdata;

        put_one_of_each(world->journal);
}

/* Whoever was told that it did not fit, and has it in memory, puts it again; until then nothing is said to be on the disk. */
static void what_did_not_fit_is_put_again(void **state)
{
        struct world *world = *state;
        struct journal_watch watch = { .on_reset = put_again, .userdata = world };
        const struct memories *memory;
        struct update_record first;
        unsigned there = 0;
        int r = 0;

        world_start(world);
        journal_watch(world->journal, &watch);
        disk_set_full(true);
        for (unsigned n = 2; n < 10000 && r == 0; n++) {
                struct update_record record = update_n(n, "open");

                r = journal_put_update(world->journal, &record);
        }
        assert_int_equal(r, -ENOMEM);
        first = update_n(1, "open");
        assert_int_equal(journal_put_update(world->journal, &first), -ENOMEM);
        disk_set_full(false);
        r = world_sync(world);
        journal_unwatch(&watch);
        assert_int_equal(r, 0);
        memory = recall(world);
        for (size_t i = 0; i < memory->n_updates; i++)
                there += strcmp(memory->updates[i].id, first.id) == 0;
        assert_int_equal(there, 1);
        assert_int_equal(memory->n_saved, 1);
        loop_advance(world->loop, 60 * SEC);
        assert_int_equal(loop_next_due(world->loop), 0);
}

static void damage_while_running_is_survived(void **state)
{
        struct world *world = *state;
        struct journal_watch watch = { .on_reset = put_again, .userdata = world };
        _cleanup_free_ uint8_t *garbage = NULL;
        off_t size;

        world_start(world);
        journal_watch(world->journal, &watch);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        loop_advance(world->loop, 10 * SEC);

        size = size_of(world, "state.db");
        garbage = malloc((size_t)size);
        memset(garbage, 0xa5, (size_t)size);
        overwrite(world, "state.db", 4096, garbage, (size_t)size - 4096);
        put_update(world, 2, "open");
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(world_files(world, "state.db.damaged-"), 1);
        assert_true(journal_writable(world->journal));

        journal_unwatch(&watch);
        world_restart(world);
        assert_int_equal(recall(world)->n_cameras, 1);
        assert_int_equal(recall(world)->n_updates, 2);
        assert_int_equal(recall(world)->n_saved, 1);
}

/* One of each is remembered, the database is closed, and somebody removes it. */
static void lose_database(struct world *world, struct journal_watch *watch)
{
        world_start(world);
        put_one_of_each(world->journal);
        world_restart(world);
        journal_watch(world->journal, watch);
        loop_advance(world->loop, 10 * SEC);
        assert_int_equal(unlink(world_path(world, "state.db")), 0);
}

/* With what is put now, everything that was put again is there. */
static void put_and_recall_all(struct world *world, unsigned n)
{
        put_update(world, n, "open");
        assert_int_equal(world_sync(world), 0);
        assert_int_equal(recall(world)->n_cameras, 1);
        assert_int_equal(recall(world)->n_updates, 2);
}

static void removal_while_running_is_survived(void **state)
{
        struct world *world = *state;
        struct journal_watch watch = { .on_reset = put_again, .userdata = world };

        lose_database(world, &watch);
        put_update(world, 2, "open");
        assert_int_equal(world_sync(world), 0);
        journal_unwatch(&watch);
        world_restart(world);
        assert_int_equal(recall(world)->n_cameras, 1);
        assert_int_equal(recall(world)->n_updates, 2);
}

/* Who asks for a camera's history comes before the next put. */
static void removal_seen_by_a_reader_is_survived(void **state)
{
        struct world *world = *state;
        struct journal_watch watch = { .on_reset = put_again, .userdata = world };
        static struct told told;

        memset(&told, 0, sizeof(told));
        lose_database(world, &watch);
        assert_int_equal(journal_read_history(world->journal, camera_n(1).key, 10, on_lines, &told), 0);
        loop_advance(world->loop, 10 * SEC);
        assert_int_equal(told.answers, 1);
        journal_unwatch(&watch);
        world_restart(world);
        assert_one_of_each(recall(world));
}

/* The put is before the reader's end: what was put before it is not on the disk, and who waits for that waits on. */
static void sync_waits_for_what_a_reader_saw_lost(void **state)
{
        struct world *world = *state;
        struct journal_watch watch = { .on_reset = put_again, .userdata = world };
        static struct told told;

        memset(&told, 0, sizeof(told));
        lose_database(world, &watch);
        assert_int_equal(journal_read_history(world->journal, camera_n(1).key, 10, on_lines, &told), 0);
        put_and_recall_all(world, 2);
        journal_unwatch(&watch);
}

/* Power fails as soon as it was seen, before a put that nobody waits for would be written. */
static void what_is_put_again_is_on_the_disk_at_once(void **state)
{
        struct world *world = *state;
        struct journal_watch watch = { .on_reset = put_again, .userdata = world };
        int status;
        pid_t pid;

        world_start(world);
        put_one_of_each(world->journal);
        world_stop(world);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                struct update_record update = update_n(2, "open");

                disk_cut_power_at(UINT_MAX, /* torn= */ false, 0);
                if (world_try_start(world) < 0)
                        _exit(1);
                journal_watch(world->journal, &watch);
                loop_advance(world->loop, 10 * SEC);
                if (unlink(world_path(world, "state.db")) < 0 ||
                    journal_put_update(world->journal, &update) < 0)
                        _exit(1);
                loop_advance(world->loop, 50 * MSEC);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        world_start(world);
        assert_int_equal(recall(world)->n_cameras, 1);
        assert_int_equal(recall(world)->n_updates, 2);
}

/* What the first run of the daemon wrote is not less worth than what it finds. */
static void removal_in_the_first_run_is_survived(void **state)
{
        struct world *world = *state;
        struct journal_watch watch = { .on_reset = put_again, .userdata = world };

        world_start(world);
        journal_watch(world->journal, &watch);
        put_one_of_each(world->journal);
        for (unsigned n = 2; n <= 3; n++) {
                loop_advance(world->loop, 10 * SEC);
                assert_int_equal(unlink(world_path(world, "state.db")), 0);
                put_and_recall_all(world, n);
        }
        journal_unwatch(&watch);
}

static void torn_tail_is_cut(void **state)
{
        struct world *world = *state;
        off_t size;

        child_leaves_records(world);
        size = size_of(world, "state.db-wal");
        overwrite(world, "state.db-wal", size, "\x01\x02\x03", 3);
        world_start(world);
        assert_int_equal(world_files(world, "state.db.damaged-"), 0);
        assert_one_of_each(recall(world));
        world_stop(world);

        /* A batch is there whole or not at all: of this one's pages the first is there, and the next one's beginning. */
        assert_int_equal(unlink(world_path(world, "state.db")), 0);
        child_leaves_records(world);
        assert_int_equal(truncate(world_path(world, "state.db-wal"), 32 + 4120 + 100), 0);
        world_start(world);
        assert_int_equal(world_files(world, "state.db.damaged-"), 0);
        assert_int_equal(recall(world)->n_cameras, 0);
        assert_int_equal(recall(world)->n_history, 0);
}

static void log_of_a_lost_database_is_not_replayed(void **state)
{
        struct world *world = *state;

        child_leaves_records(world);
        assert_int_equal(unlink(world_path(world, "state.db")), 0);
        world_start(world);
        assert_int_equal(recall(world)->n_cameras, 0);
        put_one_of_each(world->journal);
        world_restart(world);
        assert_one_of_each(recall(world));
}

static void empty_file_is_no_database(void **state)
{
        struct world *world = *state;
        int fd = open(world_path(world, "state.db"), O_WRONLY | O_CREAT, 0600);

        (void)close(fd);
        world_start(world);
        assert_int_equal(world_files(world, "state.db."), 0);
        put_one_of_each(world->journal);
        world_restart(world);
        assert_one_of_each(recall(world));
}

static void database_with(struct world *world, const char *sql)
{
        sqlite3 *sqlite;

        assert_int_equal(sqlite3_open(world_path(world, "state.db"), &sqlite), SQLITE_OK);
        assert_int_equal(sqlite3_exec(sqlite, sql, NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_close(sqlite), SQLITE_OK);
}

static struct digest file_digest(const char *path)
{
        static uint8_t bytes[1 << 20];
        struct digest digest;
        int fd = open(path, O_RDONLY);
        ssize_t n = read(fd, bytes, sizeof(bytes));

        assert_true(n > 0);
        (void)close(fd);
        digest_of(bytes, (size_t)n, &digest);
        return digest;
}

static void update_numbers_are_never_given_twice(void **state)
{
        struct world *world = *state;
        struct update_record record = update_n(500, "done");

        world_start(world);
        hours_later(world);
        assert_int_equal(journal_last_update_number(world->journal), 0);
        for (unsigned n = 1; n <= 100; n++)
                put_update(world, n, "done");
        assert_int_equal(journal_put_update(world->journal, &record), 0);
        assert_int_equal(journal_last_update_number(world->journal), 500);
        world_stop(world);
        /* Whatever becomes of it. */
        database_with(world, "DELETE FROM updates WHERE id = 'u500'");
        world_start(world);
        assert_int_equal(recall(world)->n_updates, 99);
        assert_int_equal(journal_last_update_number(world->journal), 500);
}

static void set_aside_untouched(struct world *world)
{
        struct digest before = file_digest(world_path(world, "state.db")), after;

        world_start(world);
        assert_int_equal(world_files(world, "state.db.foreign-"), 1);
        after = file_digest(found);
        assert_true(digest_equal(&before, &after));
        assert_true(journal_writable(world->journal));
        assert_int_equal(recall(world)->n_cameras, 0);
        put_one_of_each(world->journal);
        world_restart(world);
        assert_one_of_each(recall(world));
}

static void foreign_database_is_set_aside(void **state)
{
        struct world *world = *state;

        database_with(world, "CREATE TABLE cameras (a); INSERT INTO cameras VALUES (1); PRAGMA user_version=1;");
        set_aside_untouched(world);
}

/* As the first release left it. */
static const char first_version[] =
        "CREATE TABLE cameras (key TEXT PRIMARY KEY, board TEXT NOT NULL, port TEXT NOT NULL, runtime_serial TEXT NOT NULL,"
        " rom_serial TEXT NOT NULL, label TEXT NOT NULL, firmware_version TEXT NOT NULL, firmware BLOB NOT NULL CHECK"
        " (length(firmware) = 32), bootloader BLOB NOT NULL CHECK (length(bootloader) = 32), bootloader_device INTEGER NOT NULL"
        " CHECK (bootloader_device BETWEEN 0 AND 65535), layout INTEGER NOT NULL CHECK (layout BETWEEN 0 AND 255), automatic"
        " INTEGER NOT NULL CHECK (automatic BETWEEN -1 AND 1), suspect INTEGER NOT NULL CHECK (suspect IN (0, 1)), first_seen"
        " INTEGER NOT NULL, last_seen INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE updates (id TEXT PRIMARY KEY, number INTEGER NOT NULL, camera TEXT NOT NULL, wish TEXT NOT NULL, version"
        " TEXT NOT NULL, reason TEXT NOT NULL, word_romfs INTEGER NOT NULL CHECK (word_romfs IN (0, 1)), word_filesystem INTEGER"
        " NOT NULL CHECK (word_filesystem IN (0, 1)), word_replace INTEGER NOT NULL CHECK (word_replace IN (0, 1)), state TEXT"
        " NOT NULL, outcome TEXT NOT NULL, message TEXT NOT NULL, attempts INTEGER NOT NULL, started INTEGER NOT NULL, ended"
        " INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE update_images (update_id TEXT NOT NULL, position INTEGER NOT NULL, partition TEXT NOT NULL, digest BLOB NOT"
        " NULL CHECK (length(digest) = 32), size INTEGER NOT NULL, PRIMARY KEY (update_id, position)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE wear (update_id TEXT NOT NULL, partition TEXT NOT NULL, unit INTEGER NOT NULL, erases INTEGER NOT NULL,"
        " PRIMARY KEY (update_id, partition, unit)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE firmware (digest BLOB NOT NULL CHECK (length(digest) = 32), board TEXT NOT NULL, partition TEXT NOT NULL,"
        " version TEXT NOT NULL, file TEXT NOT NULL, stable INTEGER NOT NULL CHECK (stable IN (0, 1)), pinned INTEGER NOT NULL CHECK"
        " (pinned IN (0, 1)), size INTEGER NOT NULL, added INTEGER NOT NULL, PRIMARY KEY (digest, board, partition, version))"
        " STRICT, WITHOUT ROWID;"
        "CREATE TABLE saved (camera TEXT NOT NULL, partition TEXT NOT NULL, digest BLOB NOT NULL CHECK (length(digest) = 32), size"
        " INTEGER NOT NULL, saved INTEGER NOT NULL, PRIMARY KEY (camera, partition, digest)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE history (number INTEGER PRIMARY KEY, camera TEXT NOT NULL, wall INTEGER NOT NULL, event TEXT NOT NULL, text"
        " TEXT NOT NULL) STRICT;"
        "CREATE INDEX history_of_camera ON history (camera, number);"
        "CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "INSERT INTO cameras VALUES ('34303639330D5113001F0001', 'OPENMV3', '3-1.2', 'a', 'b', '', '5.0.0', zeroblob(32), zeroblob(32),"
        " 258, 1, -1, 1, 10, 20);"
        "INSERT INTO updates VALUES ('u1', 1, '34303639330D5113001F0001', 'update', '5.0.0', 'named', 0, 0, 1, 'open', '', '', 4, 30, 0),"
        " ('u2', 2, '34303639330D5113001F0001', 'update', '5.0.0', 'named', 0, 0, 1, 'done', 'done', 'fine', 0, 30, 40);"
        "INSERT INTO update_images VALUES ('u1', 0, 'FIRMWARE', zeroblob(32), 1333696);"
        "INSERT INTO wear VALUES ('u1', 'FIRMWARE', 7, 20);"
        "INSERT INTO counters VALUES ('update', 2);"
        "PRAGMA journal_mode=WAL; PRAGMA application_id=0x43615231; PRAGMA user_version=1;";

static void first_version_is_migrated(void **state)
{
        struct world *world = *state;

        database_with(world, first_version);
        for (unsigned turn = 0; turn < 2; turn++) {
                const struct memories *memory;

                world_start(world);
                assert_int_equal(journal_birth(world->journal), JOURNAL_LOADED);
                /* It was never said of it that it is not. */
                assert_true(journal_is_whole(world->journal));
                assert_int_equal(world_files(world, "state.db."), 0);
                memory = recall(world);
                assert_int_equal(memory->n_cameras, 1);
                assert_true(memory->cameras[0].suspect);
                assert_int_equal(memory->n_updates, 2);
                assert_string_equal(memory->updates[0].id, "u1");
                assert_int_equal(memory->updates[0].attempts, 4);
                assert_true(memory->updates[0].begun);
                assert_int_equal(memory->updates[0].failures, 0);
                assert_false(memory->updates[0].stay);
                assert_false(memory->updates[0].bootloader_only);
                assert_int_equal(memory->updates[0].n_images, 1);
                assert_false(memory->updates[1].begun);
                assert_int_equal(memory->n_units, 1);
                assert_int_equal(memory->units[0].record.erases, 20);
                assert_false(memory->units[0].record.proven);
                assert_int_equal(journal_last_update_number(world->journal), 2);
                world_stop(world);
        }
}

static void newer_database_is_set_aside(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        world_stop(world);
        database_with(world, "PRAGMA user_version=1000");
        set_aside_untouched(world);
}

static void database_without_our_tables_is_set_aside(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        world_stop(world);
        database_with(world, "DROP TABLE counters");
        world_start(world);
        assert_int_equal(world_files(world, "state.db.damaged-"), 1);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        assert_one_of_each(recall(world));
}

static int read_units_of_it(void *userdata, const struct update_record *record)
{
        struct world *world = userdata;

        return journal_each_unit(world->journal, record->id, on_unit, NULL);
}

static void damage_seen_by_a_reader_within_a_reader_is_survived(void **state)
{
        struct world *world = *state;

        world_start(world);
        put_one_of_each(world->journal);
        world_stop(world);
        database_with(world, "DROP TABLE units");
        world_start(world);
        assert_int_equal(journal_each_update(world->journal, read_units_of_it, world), 0);
        assert_int_equal(world_files(world, "state.db.damaged-"), 1);
        put_one_of_each(world->journal);
        assert_int_equal(world_sync(world), 0);
        assert_one_of_each(recall(world));
}

static void senseless_record_is_left_out(void **state)
{
        struct world *world = *state;
        struct camera_record camera = camera_n(2);

        world_start(world);
        put_one_of_each(world->journal);
        assert_int_equal(journal_put_camera(world->journal, &camera), 0);
        world_stop(world);
        database_with(world, "UPDATE cameras SET port = hex(zeroblob(1000)) WHERE key LIKE '%0002'");
        world_start(world);
        assert_one_of_each(recall(world));
        assert_non_null(strstr(log_lines, "makes no sense"));
}

#define CASE(name, test) { name, test, world_make, world_remove, NULL }

int main(void)
{
        const struct CMUnitTest tests[] = {
                CASE("/journal/round-trip", round_trip),
                CASE("/journal/round-trip-in-memory", round_trip_in_memory),
                CASE("/journal/directory-is-made-for-us-alone", directory_is_made_for_us_alone),
                CASE("/journal/unsynced-puts-are-written-soon", unsynced_puts_are_written_soon),
                CASE("/journal/puts-are-written-at-the-end", puts_are_written_at_the_end),
                CASE("/journal/end-answers-who-still-waits", end_answers_who_still_waits),
                CASE("/journal/last-put-wins", the_last_put_wins),
                CASE("/journal/put-is-not-moved-past-a-rename", a_put_is_not_moved_past_a_rename),
                CASE("/journal/rename-takes-everything-along", rename_takes_everything_along),
                CASE("/journal/rename-does-not-overwrite-what-is-known", rename_does_not_overwrite_what_is_known),
                CASE("/journal/deleted-records-are-gone", deleted_records_are_gone),
                CASE("/journal/open-updates-first-then-newest-hundred", open_updates_first_then_the_newest_hundred),
                CASE("/journal/newest-update-is-that-of-the-highest-number", newest_update_is_that_of_the_highest_number),
                CASE("/journal/what-is-left-of-a-camera-stays", what_is_left_of_a_camera_stays),
                CASE("/journal/ended-just-now-can-be-read", what_ended_just_now_can_be_read),
                CASE("/journal/update-numbers-are-never-given-twice", update_numbers_are_never_given_twice),
                CASE("/journal/units-of-what-was-given-up-stay", units_of_what_was_given_up_stay),
                CASE("/journal/units-are-forgotten-with-their-update", units_are_forgotten_with_their_update),
                CASE("/journal/units-are-put-by-the-partition", units_are_put_by_the_partition),
                CASE("/journal/history-is-read-without-waiting-for-the-disk", history_is_read_without_waiting_for_the_disk),
                CASE("/journal/history-that-nobody-wants-any-more", history_that_nobody_wants_any_more),
                CASE("/journal/first-version-is-migrated", first_version_is_migrated),
                CASE("/journal/history-is-bounded-and-newest-first", history_is_bounded_and_newest_first),
                CASE("/journal/sync-of-nothing-is-answered", sync_of_nothing_is_answered),
                CASE("/journal/progress-costs-no-fsync", progress_costs_no_fsync),
                CASE("/journal/several-syncs-share-one-commit", several_syncs_share_one_commit),
                CASE("/journal/cancelled-sync-is-not-answered", cancelled_sync_is_not_answered),
                CASE("/journal/idle-journal-holds-no-file", idle_journal_holds_no_file),
                CASE("/journal/full-disk-is-told-and-mended", full_disk_is_told_and_mended),
                CASE("/journal/full-disk-is-asked-again", full_disk_is_asked_again),
                CASE("/journal/full-disk-is-asked-for-who-waits", full_disk_is_asked_for_who_waits),
                CASE("/journal/file-size-limit", file_size_limit),
                CASE("/journal/what-waits-is-bounded", what_waits_is_bounded),
                CASE("/journal/no-thread-is-a-failed-commit", no_thread_is_a_failed_commit),
                CASE("/journal/read-only-directory-is-read", read_only_directory_is_read),
                CASE("/journal/read-only-empty-directory-starts", read_only_empty_directory_starts),
                CASE("/journal/unreadable-database-is-left-alone", unreadable_database_is_left_alone),
                CASE("/journal/power-cut-loses-nothing-confirmed", power_cut_loses_nothing_confirmed),
                CASE("/journal/torn-sync-loses-nothing-confirmed", torn_sync_loses_nothing_confirmed),
                CASE("/journal/damaged-database-is-set-aside", damaged_database_is_set_aside),
                CASE("/journal/damage-anywhere-is-survived", damage_anywhere_is_survived),
                CASE("/journal/damage-while-running-is-survived", damage_while_running_is_survived),
                CASE("/journal/removal-while-running-is-survived", removal_while_running_is_survived),
                CASE("/journal/removal-seen-by-a-reader-is-survived", removal_seen_by_a_reader_is_survived),
                CASE("/journal/sync-waits-for-what-a-reader-saw-lost", sync_waits_for_what_a_reader_saw_lost),
                CASE("/journal/what-did-not-fit-is-put-again", what_did_not_fit_is_put_again),
                CASE("/journal/what-is-put-again-is-on-the-disk-at-once", what_is_put_again_is_on_the_disk_at_once),
                CASE("/journal/removal-in-the-first-run-is-survived", removal_in_the_first_run_is_survived),
                CASE("/journal/torn-tail", torn_tail_is_cut),
                CASE("/journal/log-of-a-lost-database-is-not-replayed", log_of_a_lost_database_is_not_replayed),
                CASE("/journal/empty-file-is-no-database", empty_file_is_no_database),
                CASE("/journal/foreign-database-is-set-aside", foreign_database_is_set_aside),
                CASE("/journal/newer-database-is-set-aside", newer_database_is_set_aside),
                CASE("/journal/database-without-our-tables-is-set-aside", database_without_our_tables_is_set_aside),
                CASE("/journal/damage-seen-by-a-reader-within-a-reader", damage_seen_by_a_reader_within_a_reader_is_survived),
                CASE("/journal/senseless-record-is-left-out", senseless_record_is_left_out),
        };

        log_init(LOG_TARGET_STDERR, LOG_WARNING);
        log_set_sink(on_line, NULL);
        disk_install();
        return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
