/* SPDX-License-Identifier: MIT */

/*
 * How long an update takes, on a camera as slow as a real one, against what
 * nobody can be faster than: erasing, programming, and one DNLOAD and two GETSTATUS for
 * each block, by the model's own tables.  Beside it dfu-util on the same model, and camrescue
 * where there is something to be kept, to be found or to be left alone.
 *
 * The clock is the machine's: from the end of the UPLOAD that holds the
 * bootloader to the end of the last UPLOAD that verifies.  Without verifying: to the last block's GETSTATUS.  For dfu-util,
 * which neither holds nor verifies: from the end of its first DFU request to the last block's GETSTATUS.
 */

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "bench/bench.h"

#define BOARD SIM_OPENMV3
#define VERIFIED_MAX 1.15
#define WRITTEN_MAX 1.03
#define SMOKE_FLASH_SPEED 20.0
#define SMOKE_WRITTEN_MAX 2.0           /* of a machine that does other things */
#define UPDATE_DEADLINE 120.0
#define BOOT_DEADLINE 30.0

#define NEW_VERSION "5.1.0"
#define NEW_SEED 7u
#define OLD_VERSION "5.0.0"
#define OLD_SEED 1u

static bool smoke_run;
static double floor_seconds, block_seconds;
static unsigned n_blocks;

static void adjust(struct sim_config *config)
{
        if (smoke_run)
                config->flash_speed = SMOKE_FLASH_SPEED;
}

/* --- one camera --- */

static struct machine_answer update(const char *name, struct bench_conversation *ret)
{
        struct machine_answer answer = bench_tell(MACHINE_COUNTERS, name, 0);
        int status;
        long from;

        status = bench_client((const char *const[]){ "update", "--no-wait", "--replace-unknown", "--firmware", NEW_VERSION,
                                                     answer.port, NULL });
        if (status != 7)
                bench_die("camrescue update --no-wait: exit status %d", status);
        (void)bench_tell(MACHINE_RESET_COUNTERS, name, 0);
        from = bench_trace_end();
        (void)bench_tell(MACHINE_PLUG, name, 0);
        if (!bench_until(name, UPDATE_DEADLINE, bench_is_running))
                bench_die("%s does not run after its update", name);
        status = bench_client((const char *const[]){ "watch", "--json", "--until", "update=done", "--timeout", "30", answer.port, NULL });
        if (status != 0)
                bench_die("the update of %s is not done: exit status %d", name, status);
        *ret = bench_listen(name, from);
        answer = bench_tell(MACHINE_COUNTERS, name, 0);
        bench_unplug(name);
        return answer;
}

/* --- the table --- */

static void say_head(void)
{
        bench_say("%-34s %7s %7s %7s %7s %7s %8s %8s %7s", "", "look s", "save s", "commit", "write", "verify", "written", "verified",
                  "blocks");
}

/* saved: how many of the blocks read before writing were read to be saved. */
static void say(const char *what, const struct bench_conversation *c, unsigned saved)
{
        double looked = c->looked - c->begin, save = saved * block_seconds, end = MAX(c->verified, c->written);

        if (c->blocks == 0) {
                bench_say("%-34s %7.2f %7s %7s %7s %7s %8s %8s %7u", what, looked, "", "", "", "", "", "", 0u);
                return;
        }
        bench_say("%-34s %7.2f %7.2f %7.2f %7.2f %7.2f %8.2f %8.2f %7u", what, looked - save, save,
                  c->first_block - block_seconds - c->looked, c->written - c->first_block + block_seconds,
                  c->verifies ? c->verified - c->written : 0, c->written - c->begin, end - c->begin, c->blocks);
}

static void find_floor(const char *name, size_t size)
{
        n_blocks = (unsigned)((size + BENCH_BLOCK - 1) / BENCH_BLOCK);
        block_seconds = bench_reading(name, BENCH_BLOCK);
        floor_seconds = bench_writing(name, 0, size);
        bench_say("%zu bytes for %s: the floor is %.2f s (%.2f s erasing and programming, %u blocks)", size, sim_board_name(BOARD),
                  floor_seconds, (double)bench_tell(MACHINE_TIMES, name, (int)size).times.flash / 1e6, n_blocks);
}

/* --- dfu-util, as people use it; no daemon yet --- */

static bool by_dfu_util(const char *name, const char *image, struct bench_conversation *ret, double *ret_upload)
{
        char path[256];
        double begin;
        long from = bench_trace_end();
        int status;

        (void)bench_tell(MACHINE_PLUG, name, 0);
        status = bench_wait(bench_spawn((const char *const[]){ "dfu-util", "-a", "FIRMWARE", "-D", image, NULL }, NULL, "dfu-util.log"));
        if (status != 0) {
                bench_unplug(name);
                return false;
        }
        *ret = bench_listen(name, from);
        begin = bench_seconds();
        (void)bench_wait(bench_spawn((const char *const[]){ "dfu-util", "-a", "FIRMWARE", "-U", bench_path("back.bin", path), NULL },
                                     NULL, "dfu-util.log"));
        *ret_upload = bench_seconds() - begin;
        bench_unplug(name);
        return true;
}

/* --- all of it --- */

static int bench(bool smoke)
{
        size_t size = sim_image_default_size(BOARD);
        _cleanup_free_ uint8_t *image = NULL;
        struct bench_conversation dfu_util = { 0 }, blank, again, half, old, unknown;
        double upload = 0;
        bool have_dfu_util;
        struct machine_answer after, repeated;
        char path[256];
        pid_t daemon;
        int status;

        smoke_run = smoke;
        if (sim_image_firmware(BOARD, NEW_VERSION, NEW_SEED, size, &image) < 0)
                bench_die("no image");
        bench_write_file("image.bin", image, size);
        bench_camera("dfu-util", BOARD, /* seed= */ 1, /* firmware= */ false, adjust);
        bench_camera("blank", BOARD, /* seed= */ 2, /* firmware= */ false, adjust);
        find_floor("blank", size);
        have_dfu_util = by_dfu_util("dfu-util", bench_path("image.bin", path), &dfu_util, &upload);

        bench_start_bus();
        daemon = bench_start_daemon("state", NULL);
        bench_import(BOARD, OLD_VERSION, OLD_SEED);
        bench_import(BOARD, NEW_VERSION, NEW_SEED);

        say_head();
        if (have_dfu_util)
                say("dfu-util -D", &dfu_util, 0);
        else
                bench_say("dfu-util: not here, or it failed");
        bench_prepare("blank", NEW_VERSION, NEW_SEED, 0);
        after = update("blank", &blank);
        say("camrescue, blank flash", &blank, 0);

        if (!smoke) {
                bench_camera("half", BOARD, /* seed= */ 3, /* firmware= */ false, adjust);
                bench_prepare("half", NEW_VERSION, NEW_SEED, size / 2);
                (void)update("half", &half);
                say("half of it is there", &half, 0);
                bench_camera("old", BOARD, /* seed= */ 4, /* firmware= */ false, adjust);
                bench_prepare("old", OLD_VERSION, OLD_SEED, size);
                (void)update("old", &old);
                say("another known image is there", &old, 0);
                bench_camera("unknown", BOARD, /* seed= */ 5, /* firmware= */ false, adjust);
                bench_prepare("unknown", "4.9.9", /* seed= */ 99, size);
                (void)update("unknown", &unknown);
                say("an unknown image is saved first", &unknown, unknown.looks > 0 ? unknown.looks - 1 : 0);
        }

        /* The same again: asked of this daemon there is nothing to do; one that knows nothing of the camera looks, and writes nothing. */
        status = bench_client((const char *const[]){ "update", "--no-wait", bench_tell(MACHINE_COUNTERS, "blank", 0).port, NULL });
        (void)bench_end(daemon);
        (void)bench_start_daemon("state-2", NULL);
        bench_import(BOARD, NEW_VERSION, NEW_SEED);
        (void)bench_tell(MACHINE_PLUG, "blank", 0);
        (void)bench_tell(MACHINE_RESET_COUNTERS, "blank", 0);
        if (!bench_until("blank", BOOT_DEADLINE, bench_is_running))
                bench_die("it does not run");
        bench_sleep(0.5);
        bench_unplug("blank");
        repeated = update("blank", &again);
        say("the same image again", &again, 0);

        bench_say("%-34s %6.3f x the floor written, %6.3f x verified", "camrescue, blank flash",
                  (blank.written - blank.begin) / floor_seconds, (blank.verified - blank.begin) / floor_seconds);
        if (have_dfu_util)
                bench_say("%-34s %6.3f x the floor written, %6.3f x with dfu-util -U after it (%.2f s)", "dfu-util",
                          (dfu_util.written - dfu_util.begin) / floor_seconds,
                          (dfu_util.written - dfu_util.begin + upload) / floor_seconds, upload);

        if (smoke)
                (void)bench_gate("written without verifying, of the floor", (blank.written - blank.begin) / floor_seconds,
                                 SMOKE_WRITTEN_MAX, "times");
        else {
                (void)bench_gate("verified, of the floor", (blank.verified - blank.begin) / floor_seconds, VERIFIED_MAX, "times");
                (void)bench_gate("without verifying, of the floor", (blank.written - blank.begin) / floor_seconds, WRITTEN_MAX, "times");
        }
        (void)bench_check("one DNLOAD for each block", blank.blocks == n_blocks && after.counters.download == n_blocks + 1);
        (void)bench_check("two GETSTATUS for each block", blank.statuses == 2 * n_blocks);
        (void)bench_check("every block is read back once", blank.verifies == n_blocks);
        (void)bench_check("nothing is programmed twice", after.counters.programmed_bytes == (size + 3) / 4 * 4);
        (void)bench_check("the same again: nothing to do", status == 0);
        (void)bench_check("the same again, without memory of it: nothing erased, nothing programmed",
                          repeated.counters.erases == 0 && repeated.counters.programmed_bytes == 0 && repeated.counters.upload > n_blocks);
        return bench_result();
}

int main(int argc, char **argv)
{
        return bench_main(argc, argv, /* trace= */ true, bench);
}
