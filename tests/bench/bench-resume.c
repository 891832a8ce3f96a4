/* SPDX-License-Identifier: MIT */

/*
 * What an accident costs: the cable is pulled at 60 % of a firmware's write, on a camera as slow as a real one, and plugged
 * in again.  In bytes programmed before and after it, and in the time from the replug to the end of the last UPLOAD that
 * verifies.  Beside it dfu-util, which begins again at the first byte, and does not read back.
 *
 * A replug's time begins when the bootloader is configured: what comes before is the kernel's.  It is held against what is left to
 * write (from the beginning of the erase unit in which the cable was pulled: nobody can write half of one), by the model's own
 * tables, and one reading of the whole image.
 *
 * The cable is pulled between two blocks; while one is being programmed, which leaves a word in the flash that is neither old
 * nor new; and, at 49 %, in the middle of an erase.  That leaves noise, and whose flash it is cannot be told without
 * reading all of it once more: this one is shown, and only what it programs is judged.
 */

#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "bench/bench.h"

#define BOARD SIM_OPENMV3
#define NEW_VERSION "5.1.0"
#define NEW_SEED 7u
#define PULLED_AT 60u                   /* percent of the image */
#define GRACE 1.0                       /* seconds: everything but writing and reading */
#define SMOKE_FLASH_SPEED 20.0
#define SMOKE_FACTOR 2.0                /* of a machine that does other things */
#define ACCIDENT_DEADLINE 60.0
#define UPDATE_DEADLINE 120.0

enum { REQUEST_DNLOAD = 1, REQUEST_GETSTATUS = 3 };

enum accident {
        BETWEEN_BLOCKS,                 /* a block was sent, and is not programmed */
        WHILE_PROGRAMMING,              /* half of a block's bytes are in */
        WHILE_ERASING,
};

/* The second half of it. */
struct outcome {
        double written, verified;       /* since the bootloader was configured */
        uint64_t programmed, erases;    /* in both halves */
        unsigned blocks;
};

static bool smoke_run;
static size_t image_size;
static unsigned first_blocks;           /* before the cable is pulled */
static struct machine_answer unit;      /* in which the cable is pulled */

static void adjust(struct sim_config *config)
{
        if (smoke_run)
                config->flash_speed = SMOKE_FLASH_SPEED;
}

/* --- the accident --- */

static void order_fault(const char *name, const struct sim_fault *fault)
{
        struct machine_order order = { .verb = MACHINE_FAULT, .fault = *fault };

        (void)snprintf(order.name, sizeof(order.name), "%s", name);
        (void)machine_ask(&order);
}

static bool has_downloads(const struct machine_answer *answer)
{
        return answer->counters.download >= answer->wanted;
}

static void until_downloads(const char *name, uint64_t n)
{
        if (!bench_until_wanted(name, ACCIDENT_DEADLINE, has_downloads, n))
                bench_die("%s is not written to", name);
}

static bool is_out(const struct machine_answer *answer)
{
        return !answer->is_plugged;
}

/* After it was plugged in. */
static void have_accident(const char *name, enum accident accident)
{
        unsigned unit_block = unit.unit.offset / BENCH_BLOCK;

        switch (accident) {
        case BETWEEN_BLOCKS:            /* ordered before */
                break;
        case WHILE_PROGRAMMING:
                until_downloads(name, first_blocks);
                order_fault(name, &(struct sim_fault){ .kind = SIM_FAULT_UNPLUG_FLASH, .request_type = 0xa1,
                                                       .request = REQUEST_GETSTATUS, .length = BENCH_BLOCK / 2 });
                break;
        case WHILE_ERASING:
                until_downloads(name, unit_block + 1);
                bench_sleep(bench_writing(name, unit.unit.offset, unit.unit.offset + BENCH_BLOCK) / 2);
                (void)bench_tell(MACHINE_UNPLUG, name, 0);
                break;
        }
        if (!bench_until(name, ACCIDENT_DEADLINE, is_out))
                bench_die("%s has no accident", name);
        (void)bench_tell(MACHINE_CLEAR_FAULTS, name, 0);
}

static void plug_for_accident(const char *name, enum accident accident)
{
        (void)bench_tell(MACHINE_RESET_COUNTERS, name, 0);
        if (accident == BETWEEN_BLOCKS)
                order_fault(name, &(struct sim_fault){ .kind = SIM_FAULT_UNPLUG_DATA, .request_type = 0x21, .request = REQUEST_DNLOAD,
                                                       .skip = first_blocks, .count = 1 });
        (void)bench_tell(MACHINE_PLUG, name, 0);
}

static struct outcome look_back(const char *name, double configured, long from)
{
        struct bench_conversation c = bench_listen(name, from);
        struct machine_answer answer = bench_tell(MACHINE_COUNTERS, name, 0);

        return (struct outcome){
                .written = c.written - configured,
                .verified = c.verifies ? c.verified - configured : 0,
                .programmed = answer.counters.programmed_bytes,
                .erases = answer.counters.erases,
                .blocks = c.blocks,
        };
}

static struct outcome by_camrescue(const char *name, unsigned seed, enum accident accident)
{
        struct machine_answer answer;
        struct outcome outcome;
        int status;
        long from;

        bench_camera(name, BOARD, seed, /* firmware= */ false, adjust);
        bench_prepare(name, NEW_VERSION, NEW_SEED, 0);
        answer = bench_tell(MACHINE_COUNTERS, name, 0);
        status = bench_client((const char *const[]){ "update", "--no-wait", "--firmware", NEW_VERSION, answer.port, NULL });
        if (status != 7)
                bench_die("camrescue update --no-wait: exit status %d", status);
        plug_for_accident(name, accident);
        have_accident(name, accident);
        if (bench_client((const char *const[]){ "watch", "--json", "--until", "state=waiting", "--timeout", "30", answer.port, NULL }) != 0)
                bench_die("%s is not waited for", name);

        from = bench_trace_end();
        answer = bench_tell(MACHINE_PLUG, name, 0);
        if (!bench_until(name, UPDATE_DEADLINE, bench_is_running))
                bench_die("%s does not run after its update", name);
        if (bench_client((const char *const[]){ "watch", "--json", "--until", "update=done", "--timeout", "30", answer.port, NULL }) != 0)
                bench_die("the update of %s is not done", name);
        outcome = look_back(name, (double)answer.counters.configured_at_us / 1e6, from);
        bench_unplug(name);
        return outcome;
}

static pid_t start_dfu_util(const char *image)
{
        return bench_spawn((const char *const[]){ "dfu-util", "-a", "FIRMWARE", "-D", image, NULL }, NULL, "dfu-util.log");
}

/* As people use it; no daemon yet.  false: it is not here. */
static bool by_dfu_util(const char *image, struct outcome *ret)
{
        struct machine_answer answer;
        pid_t pid;
        long from;

        bench_camera("dfu-util", BOARD, /* seed= */ 1, /* firmware= */ false, adjust);
        if (bench_wait(bench_spawn((const char *const[]){ "dfu-util", "--version", NULL }, NULL, "dfu-util.log")) != 0)
                return false;
        plug_for_accident("dfu-util", BETWEEN_BLOCKS);
        pid = start_dfu_util(image);
        have_accident("dfu-util", BETWEEN_BLOCKS);
        (void)bench_wait(pid);

        from = bench_trace_end();
        answer = bench_tell(MACHINE_PLUG, "dfu-util", 0);
        if (bench_wait(start_dfu_util(image)) != 0)
                bench_die("dfu-util failed the second time");
        *ret = look_back("dfu-util", (double)answer.counters.configured_at_us / 1e6, from);
        bench_unplug("dfu-util");
        return true;
}

/* --- the table --- */

static void say_head(void)
{
        bench_say("%-34s %10s %7s %7s %9s %10s", "after the replug, seconds:", "programmed", "erased", "blocks", "written", "verified");
}

static void say(const char *what, const struct outcome *outcome)
{
        if (outcome->verified > 0)
                bench_say("%-34s %10llu %7llu %7u %9.2f %10.2f", what, (unsigned long long)outcome->programmed,
                          (unsigned long long)outcome->erases, outcome->blocks, outcome->written, outcome->verified);
        else
                bench_say("%-34s %10llu %7llu %7u %9.2f %10s", what, (unsigned long long)outcome->programmed,
                          (unsigned long long)outcome->erases, outcome->blocks, outcome->written, "never");
}

static void judge_bytes(const char *what, const struct outcome *outcome)
{
        char text[128];

        (void)snprintf(text, sizeof(text), "%s: programmed in all, of the image and one erase unit", what);
        (void)bench_gate(text, (double)outcome->programmed / (double)(image_size + unit.unit.size), 1, "times");
}

static void judge_time(const char *what, const struct outcome *outcome, double time_max)
{
        char text[128];

        (void)snprintf(text, sizeof(text), "%s: from the replug until verified", what);
        (void)bench_gate(text, outcome->verified, time_max, "s");
}

/* --- all of it --- */

static int bench(bool smoke)
{
        struct outcome dfu_util, between, programming, erasing;
        _cleanup_free_ uint8_t *image = NULL;
        double writing, reading, time_max;
        char path[256];

        smoke_run = smoke;
        image_size = sim_image_default_size(BOARD);
        if (sim_image_firmware(BOARD, NEW_VERSION, NEW_SEED, image_size, &image) < 0)
                bench_die("no image");
        bench_write_file("image.bin", image, image_size);
        first_blocks = (unsigned)(image_size * PULLED_AT / 100 / BENCH_BLOCK);

        bench_camera("floor", BOARD, /* seed= */ 5, /* firmware= */ false, adjust);
        unit = bench_tell(MACHINE_UNIT, "floor", (int)(first_blocks * BENCH_BLOCK));
        writing = bench_writing("floor", unit.unit.offset, image_size);
        reading = bench_reading("floor", image_size);
        time_max = (writing + reading) * (smoke ? SMOKE_FACTOR : 1) + GRACE;
        bench_say("%zu bytes for %s, unplugged after %u blocks of %u, in the erase unit of %u bytes at %u", image_size,
                  sim_board_name(BOARD), first_blocks, BENCH_BLOCK, unit.unit.size, unit.unit.offset);
        bench_say("left to write: %zu bytes in %.2f s; reading the image: %.2f s", image_size - unit.unit.offset, writing, reading);

        say_head();
        if (!smoke) {                   /* nothing of it is judged */
                if (by_dfu_util(bench_path("image.bin", path), &dfu_util))
                        say("dfu-util -D, and again", &dfu_util);
                else
                        bench_say("dfu-util: not here");
        }

        bench_start_bus();
        (void)bench_start_daemon("state", NULL);
        bench_import(BOARD, NEW_VERSION, NEW_SEED);
        between = by_camrescue("between", /* seed= */ 2, BETWEEN_BLOCKS);
        say("camrescue, between two blocks", &between);
        programming = by_camrescue("programming", /* seed= */ 3, WHILE_PROGRAMMING);
        say("camrescue, while programming", &programming);
        if (!smoke) {
                erasing = by_camrescue("erasing", /* seed= */ 4, WHILE_ERASING);
                say("camrescue, while erasing (at 49 %)", &erasing);
        }

        judge_bytes("between two blocks", &between);
        judge_time("between two blocks", &between, time_max);
        judge_bytes("while programming", &programming);
        judge_time("while programming", &programming, time_max);
        if (!smoke)
                judge_bytes("while erasing", &erasing);
        return bench_result();
}

int main(int argc, char **argv)
{
        return bench_main(argc, argv, /* trace= */ true, bench);
}
